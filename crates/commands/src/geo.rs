//! Commands on places: members of sorted sets whose score is a 52-bit geohash. Searches look at every
//! member of the set.

use larder_base::number;
use larder_store::value::SortedSet;

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::sorted_set::{Options, add, ranges};
use crate::support::at_least_one;

mod rows;

pub use rows::COMMANDS;

const LAT_MAX: f64 = 85.05112878;
const RADIUS: f64 = 6372797.560856;
const CELLS: f64 = 67_108_864.0;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
fn interleaved(lon: f64, lat: f64, lat_max: f64) -> u64 {
    let y = ((lat + lat_max) / (2.0 * lat_max) * CELLS) as u64;
    let x = ((lon + 180.0) / 360.0 * CELLS) as u64;
    (0..26).fold(0, |bits, i| bits | (y >> i & 1) << (2 * i) | (x >> i & 1) << (2 * i + 1))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
fn bits_of(score: f64) -> u64 {
    score as u64
}

fn place(score: f64) -> (f64, f64) {
    let bits = bits_of(score);
    let half =
        |shift: u32| (0..26).fold(0u64, |n, i| n | (bits >> (2 * i + shift) & 1) << i) as f64;
    let middle = |cell: f64, max: f64| {
        let low = -max + cell / CELLS * (2.0 * max);
        let high = -max + (cell + 1.0) / CELLS * (2.0 * max);
        ((low + high) / 2.0).clamp(-max, max)
    };
    (middle(half(1), 180.0), middle(half(0), LAT_MAX))
}

fn lat_distance(a: f64, b: f64) -> f64 {
    RADIUS * (b.to_radians() - a.to_radians()).abs()
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    let v = ((b.0.to_radians() - a.0.to_radians()) / 2.0).sin();
    if v == 0.0 {
        return lat_distance(a.1, b.1);
    }
    let (la, lb) = (a.1.to_radians(), b.1.to_radians());
    let u = ((lb - la) / 2.0).sin();
    2.0 * RADIUS * (u * u + la.cos() * lb.cos() * v * v).sqrt().asin()
}

fn unit(args: Args<'_>, at: usize) -> Result<f64, Fault> {
    match args.at(at).to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Fault::text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

fn lon_lat(args: Args<'_>, at: usize) -> Result<(f64, f64), Fault> {
    let (lon, lat) = (args.f64(at)?, args.f64(at + 1)?);
    if lon.abs() > 180.0 || lat.abs() > LAT_MAX {
        return Err(Fault::new(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}")));
    }
    Ok((lon, lat))
}

fn length(args: Args<'_>, at: usize, what: &str) -> Result<f64, Fault> {
    number::parse_f64(args.at(at)).ok_or_else(|| Fault::new(format!("ERR need numeric {what}")))
}

fn coordinates(ctx: &mut Context<'_>, at: (f64, f64)) {
    ctx.reply.array(2);
    for value in [at.0, at.1] {
        let text = format!("{value:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if ctx.reply.is_resp3() {
            ctx.reply.raw(format!(",{text}\r\n").as_bytes());
        } else {
            ctx.reply.bulk(text.as_bytes());
        }
    }
}

/// A copy adds the scores that were computed here: not every node rounds alike.
fn repeat(ctx: &mut Context<'_>, args: Args<'_>, pairs: &[(f64, &[u8])]) {
    let options = args.len() - 3 * pairs.len();
    let scores: Vec<String> = pairs.iter().map(|(score, _)| format!("{score:.0}")).collect();
    let mut words: Vec<&[u8]> = vec![b"ZADD", args.at(1)];
    words.extend(args.span(2, options - 2));
    for (score, (_, member)) in scores.iter().zip(pairs) {
        words.extend([score.as_bytes(), member]);
    }
    ctx.effects.instead_if_changed(&words);
}

fn geoadd(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let mut options = Options::default();
    let mut at = 2;
    loop {
        match args.at(at).to_ascii_uppercase().as_slice() {
            b"NX" => options.only_new = true,
            b"XX" => options.only_old = true,
            b"CH" => options.changed = true,
            _ => break,
        }
        at += 1;
    }
    if args.from(at).is_empty()
        || !args.from(at).len().is_multiple_of(3)
        || (options.only_new && options.only_old)
    {
        return Err(Fault::SYNTAX);
    }
    let mut pairs = Vec::new();
    while at < args.len() {
        let (lon, lat) = lon_lat(args, at)?;
        pairs.push((interleaved(lon, lat, LAT_MAX) as f64, args.at(at + 2)));
        at += 3;
    }
    if ctx.effects.are_wanted() {
        repeat(ctx, args, &pairs);
    }
    add(ctx, args.at(1), &pairs, options)
}

fn geodist(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let scale = match args.len() {
        4 => 1.0,
        5 => unit(args, 4)?,
        _ => return Err(Fault::SYNTAX),
    };
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    let score = |member| sorted.and_then(|sorted| sorted.score(member));
    match (score(args.at(2)), score(args.at(3))) {
        (Some(a), Some(b)) => {
            let text = format!("{:.4}", distance(place(a), place(b)) / scale);
            ctx.reply.bulk(text.as_bytes());
        }
        _ => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn scores(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Vec<Option<f64>>, Fault> {
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    Ok(args.from(2).iter().map(|member| sorted.and_then(|sorted| sorted.score(member))).collect())
}

fn geohash(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let scores = scores(ctx, args)?;
    ctx.reply.array(scores.len());
    for score in scores {
        let Some(score) = score else {
            ctx.reply.null();
            continue;
        };
        let (lon, lat) = place(score);
        let bits = interleaved(lon, lat, 90.0);
        let mut text: Vec<u8> = (1..=10u32)
            .filter_map(|i| usize::try_from(bits >> (52 - i * 5) & 31).ok())
            .filter_map(|letter| LETTERS.get(letter).copied())
            .collect();
        text.push(b'0');
        ctx.reply.bulk(&text);
    }
    Ok(Outcome::Done)
}

fn geopos(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let scores = scores(ctx, args)?;
    ctx.reply.array(scores.len());
    for score in scores {
        match score {
            Some(score) => coordinates(ctx, place(score)),
            None => ctx.reply.null_array(),
        }
    }
    Ok(Outcome::Done)
}

/// What is searched for.
#[derive(Default)]
struct Query<'a> {
    center: Option<(f64, f64)>,
    member: Option<&'a [u8]>,
    radius: Option<f64>,
    sides: Option<(f64, f64)>,
    scale: f64,
    coordinates: bool,
    distances: bool,
    hashes: bool,
    count: usize,
    any: bool,
    descending: Option<bool>,
    store: Option<(&'a [u8], bool)>,
}

impl<'a> Query<'a> {
    fn circle(&mut self, args: Args<'a>, at: usize) -> Result<(), Fault> {
        let radius = length(args, at, "radius")?;
        if radius < 0.0 {
            return Err(Fault::text("ERR radius cannot be negative"));
        }
        self.scale = unit(args, at + 1)?;
        self.radius = Some(radius * self.scale);
        Ok(())
    }

    /// Options from a position on; `search` = those of GEOSEARCH, else those of GEORADIUS.
    fn options(
        &mut self,
        args: Args<'a>,
        mut at: usize,
        search: bool,
        store: bool,
    ) -> Result<(), Fault> {
        while at < args.len() {
            let left = args.len() - at;
            match args.at(at).to_ascii_uppercase().as_slice() {
                b"WITHCOORD" => self.coordinates = true,
                b"WITHDIST" => self.distances = true,
                b"WITHHASH" => self.hashes = true,
                b"ANY" => self.any = true,
                b"ASC" => self.descending = Some(false),
                b"DESC" => self.descending = Some(true),
                b"COUNT" if left > 1 => {
                    args.i64(at + 1)?;
                    self.count = at_least_one(args, at + 1, "ERR COUNT must be > 0")?;
                    at += 1;
                }
                word @ (b"STORE" | b"STOREDIST") if !search && store && left > 1 => {
                    self.store = Some((args.at(at + 1), word == b"STOREDIST"));
                    at += 1;
                }
                b"STOREDIST" if search && store => self.store = Some((args.at(1), true)),
                b"FROMMEMBER" if search && left > 1 && self.center.is_none() => {
                    self.member = args.get(at + 1);
                    at += 1;
                }
                b"FROMLONLAT" if search && left > 2 && self.member.is_none() => {
                    self.center = Some(lon_lat(args, at + 1)?);
                    at += 2;
                }
                b"BYRADIUS" if search && left > 2 && self.sides.is_none() => {
                    self.circle(args, at + 1)?;
                    at += 2;
                }
                b"BYBOX" if search && left > 3 && self.radius.is_none() => {
                    let (width, height) =
                        (length(args, at + 1, "width")?, length(args, at + 2, "height")?);
                    if width < 0.0 || height < 0.0 {
                        return Err(Fault::text("ERR height or width cannot be negative"));
                    }
                    self.scale = unit(args, at + 3)?;
                    self.sides = Some((width * self.scale, height * self.scale));
                    at += 3;
                }
                _ => return Err(Fault::SYNTAX),
            }
            at += 1;
        }
        if self.any && self.count == 0 {
            return Err(Fault::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The distance of a place, if it lies within.
    fn within(&self, center: (f64, f64), at: (f64, f64)) -> Option<f64> {
        let far = distance(center, at);
        match (self.radius, self.sides) {
            (Some(radius), _) => Some(far).filter(|far| *far <= radius),
            (None, Some((width, height))) => Some(far).filter(|_| {
                distance((center.0, at.1), at) <= width / 2.0
                    && lat_distance(center.1, at.1) <= height / 2.0
            }),
            (None, None) => None,
        }
    }

    fn run(self, ctx: &mut Context<'_>, key: &[u8], event: &'static str) -> Result<Outcome, Fault> {
        if self.store.is_some() && (self.coordinates || self.distances || self.hashes) {
            let name = if event == "georadiusstore" {
                "STORE option in GEORADIUS"
            } else {
                "GEOSEARCHSTORE"
            };
            return Err(Fault::new(format!(
                "ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let mut found = Vec::new();
        if let Some(sorted) = ctx.keys.read::<SortedSet>(key)? {
            let center = match self.member {
                Some(member) => sorted.score(member).map(place),
                None => self.center,
            };
            let center = center.ok_or(Fault::text("ERR could not decode requested zset member"))?;
            for (member, score) in sorted.iter() {
                if self.any && found.len() >= self.count {
                    break;
                }
                if let Some(far) = self.within(center, place(score)) {
                    found.push((member.to_vec(), score, far / self.scale));
                }
            }
        }
        if self.descending.is_some() || (self.count > 0 && !self.any) {
            found.sort_by(|a, b| a.2.total_cmp(&b.2));
            if self.descending == Some(true) {
                found.reverse();
            }
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        if let Some((target, by_distance)) = self.store {
            let mut result = SortedSet::new();
            for (member, score, far) in &found {
                let score = if by_distance { *far } else { *score };
                result.insert(member, score, &ctx.settings.thresholds);
            }
            ranges::store(ctx, target, result, event);
            return Ok(Outcome::Done);
        }
        let extra =
            [self.coordinates, self.distances, self.hashes].iter().filter(|on| **on).count();
        ctx.reply.array(found.len());
        for (member, score, far) in &found {
            if extra > 0 {
                ctx.reply.array(extra + 1);
            }
            ctx.reply.bulk(member);
            if self.distances {
                ctx.reply.bulk(format!("{far:.4}").as_bytes());
            }
            if self.hashes {
                ctx.reply.integer(i64::try_from(bits_of(*score)).unwrap_or(i64::MAX));
            }
            if self.coordinates {
                coordinates(ctx, place(*score));
            }
        }
        Ok(Outcome::Done)
    }
}

fn by_point(ctx: &mut Context<'_>, args: Args<'_>, store: bool) -> Result<Outcome, Fault> {
    let mut query = Query { center: Some(lon_lat(args, 2)?), ..Query::default() };
    query.circle(args, 4)?;
    query.options(args, 6, false, store)?;
    query.run(ctx, args.at(1), "georadiusstore")
}

fn by_member(ctx: &mut Context<'_>, args: Args<'_>, store: bool) -> Result<Outcome, Fault> {
    let mut query = Query { member: args.get(2), ..Query::default() };
    query.circle(args, 3)?;
    query.options(args, 5, false, store)?;
    query.run(ctx, args.at(1), "georadiusstore")
}

fn georadius(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    by_point(ctx, args, true)
}

fn georadius_ro(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    by_point(ctx, args, false)
}

fn georadiusbymember(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    by_member(ctx, args, true)
}

fn georadiusbymember_ro(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    by_member(ctx, args, false)
}

fn search(ctx: &mut Context<'_>, args: Args<'_>, store: bool) -> Result<Outcome, Fault> {
    let name = if store { "geosearchstore" } else { "geosearch" };
    let mut query = Query { store: store.then_some((args.at(1), false)), ..Query::default() };
    query.options(args, if store { 3 } else { 2 }, true, store)?;
    if query.member.is_none() && query.center.is_none() {
        return Err(Fault::new(format!(
            "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
        )));
    }
    if query.radius.is_none() && query.sides.is_none() {
        return Err(Fault::new(format!(
            "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
        )));
    }
    query.run(ctx, args.at(if store { 2 } else { 1 }), "geosearchstore")
}

fn geosearch(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    search(ctx, args, false)
}

fn geosearchstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    search(ctx, args, true)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn places_are_found() {
        let mut bench = Bench::new();
        bench.script(&[
            ("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
            ("GEODIST s Palermo Catania", "$11 166274.1516"),
            ("GEOHASH s Palermo", "*1 $11 sqc8b49rny0"),
            ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC", "*2 $7 Catania $7 Palermo"),
            ("GEORADIUS s 15 37 100 km WITHDIST", "*1 *2 $7 Catania $7 56.4413"),
            ("GEOPOS s none", "*1 *-1"),
        ]);
    }
}
