//! Commands on places: members of sorted sets whose score is a 52-bit geohash. Where a search has to look
//! is `cells`' matter.

use std::ops::Bound;

use larder_base::number;
use larder_store::value::SortedSet;

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::sorted_set::{Options, add, ranges};
use crate::support::at_least_one;

mod cells;
mod rows;

use cells::{LAT_MAX, Shape, bits_of, bits_to_the_poles, distance_m, place_of, score_of};

pub use rows::COMMANDS;

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
        pairs.push((score_of((lon, lat)), args.at(at + 2)));
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
            let text = format!("{:.4}", distance_m(place_of(a), place_of(b)) / scale);
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
        let bits = bits_to_the_poles(place_of(score));
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
            Some(score) => coordinates(ctx, place_of(score)),
            None => ctx.reply.null_array(),
        }
    }
    Ok(Outcome::Done)
}

/// Where a search says that its centre is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Member,
    Place,
}

/// What is searched for.
#[derive(Default)]
struct Query<'a> {
    center: Option<(f64, f64)>,
    origin: Option<Origin>,
    shape: Option<Shape>,
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
        self.shape = Some(Shape::Circle(radius * self.scale));
        Ok(())
    }

    /// Searches around a member's place, unless there is nothing to search in.
    fn around(&mut self, sorted: Option<&SortedSet>, member: &[u8]) -> Result<(), Fault> {
        let place = |sorted: &SortedSet| sorted.score(member).map(place_of);
        if let Some(sorted) = sorted {
            let center = place(sorted);
            self.center =
                Some(center.ok_or(Fault::text("ERR could not decode requested zset member"))?);
        }
        Ok(())
    }

    /// Options from a position on; `search` = those of GEOSEARCH, else those of GEORADIUS.
    fn options(
        &mut self,
        sorted: Option<&SortedSet>,
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
                b"FROMMEMBER" if search && left > 1 && self.origin != Some(Origin::Place) => {
                    self.origin = Some(Origin::Member);
                    self.around(sorted, args.at(at + 1))?;
                    at += 1;
                }
                b"FROMLONLAT" if search && left > 2 && self.origin != Some(Origin::Member) => {
                    self.origin = Some(Origin::Place);
                    self.center = Some(lon_lat(args, at + 1)?);
                    at += 2;
                }
                b"BYRADIUS"
                    if search && left > 2 && !matches!(self.shape, Some(Shape::Box(..))) =>
                {
                    self.circle(args, at + 1)?;
                    at += 2;
                }
                b"BYBOX" if search && left > 3 && !matches!(self.shape, Some(Shape::Circle(_))) => {
                    let (width, height) =
                        (length(args, at + 1, "width")?, length(args, at + 2, "height")?);
                    if width < 0.0 || height < 0.0 {
                        return Err(Fault::text("ERR height or width cannot be negative"));
                    }
                    self.scale = unit(args, at + 3)?;
                    self.shape = Some(Shape::Box(width * self.scale, height * self.scale));
                    at += 3;
                }
                _ => return Err(Fault::SYNTAX),
            }
            at += 1;
        }
        Ok(())
    }

    /// What is missing or does not fit together, in the order in which Redis looks for it.
    fn check(&self, name: &str, search: bool) -> Result<(), Fault> {
        let missing = |what| {
            let text = format!("ERR exactly one of {what} can be specified for {name}");
            Err(Fault::new(text))
        };
        if self.store.is_some() && (self.coordinates || self.distances || self.hashes) {
            let name = if search { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Fault::new(format!(
                "ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if search && self.origin.is_none() {
            return missing("FROMMEMBER or FROMLONLAT");
        }
        if search && self.shape.is_none() {
            return missing("BYRADIUS and BYBOX");
        }
        if self.any && self.count == 0 {
            return Err(Fault::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The places within, in the order wanted.
    fn find(&self, sorted: Option<&SortedSet>) -> Vec<Found> {
        let mut found = Vec::new();
        let (Some(sorted), Some(shape), Some(center)) = (sorted, self.shape, self.center) else {
            return found;
        };
        let enough = if self.any { self.count } else { usize::MAX };
        for part in shape.stretches(center) {
            let ranks = sorted.score_range(Bound::Included(part.start), Bound::Excluded(part.end));
            for (member, score) in sorted.range(ranks) {
                if found.len() >= enough {
                    break;
                }
                if let Some(far) = shape.distance_within(center, place_of(score)) {
                    found.push(Found { member: member.to_vec(), score, far: far / self.scale });
                }
            }
        }
        // Places equally far away stay in the order of the search, in both directions.
        match self.descending {
            Some(true) => found.sort_by(|a, b| b.far.total_cmp(&a.far)),
            Some(false) => found.sort_by(|a, b| a.far.total_cmp(&b.far)),
            None if self.count > 0 && !self.any => found.sort_by(|a, b| a.far.total_cmp(&b.far)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }

    fn answer(self, ctx: &mut Context<'_>, found: &[Found], event: &'static str) -> Outcome {
        if let Some((target, by_distance)) = self.store {
            let mut result = SortedSet::new();
            for place in found {
                let score = if by_distance { place.far } else { place.score };
                result.insert(&place.member, score, &ctx.settings.thresholds);
            }
            ranges::store(ctx, target, result, event);
            return Outcome::Done;
        }
        let extra =
            [self.coordinates, self.distances, self.hashes].iter().filter(|on| **on).count();
        ctx.reply.array(found.len());
        for place in found {
            if extra > 0 {
                ctx.reply.array(extra + 1);
            }
            ctx.reply.bulk(&place.member);
            if self.distances {
                ctx.reply.bulk(format!("{:.4}", place.far).as_bytes());
            }
            if self.hashes {
                ctx.reply.integer(i64::try_from(bits_of(place.score)).unwrap_or(i64::MAX));
            }
            if self.coordinates {
                coordinates(ctx, place_of(place.score));
            }
        }
        Outcome::Done
    }
}

/// One place found; `far` in the unit asked for.
struct Found {
    member: Vec<u8>,
    score: f64,
    far: f64,
}

fn by_point(ctx: &mut Context<'_>, args: Args<'_>, store: bool) -> Result<Outcome, Fault> {
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    let mut query = Query { center: Some(lon_lat(args, 2)?), ..Query::default() };
    query.circle(args, 4)?;
    query.options(sorted, args, 6, false, store)?;
    query.check("georadius", false)?;
    let found = query.find(sorted);
    Ok(query.answer(ctx, &found, "georadiusstore"))
}

fn by_member(ctx: &mut Context<'_>, args: Args<'_>, store: bool) -> Result<Outcome, Fault> {
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    let mut query = Query::default();
    // Without a key Redis does not look at the radius.
    if sorted.is_some() {
        query.around(sorted, args.at(2))?;
        query.circle(args, 3)?;
    }
    query.options(sorted, args, 5, false, store)?;
    query.check("georadiusbymember", false)?;
    let found = query.find(sorted);
    Ok(query.answer(ctx, &found, "georadiusstore"))
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
    let name = String::from_utf8_lossy(args.at(0));
    let source = if store { 2 } else { 1 };
    let sorted = ctx.keys.read::<SortedSet>(args.at(source))?;
    let mut query = Query { store: store.then_some((args.at(1), false)), ..Query::default() };
    query.options(sorted, args, source + 1, true, store)?;
    query.check(&name, true)?;
    let found = query.find(sorted);
    Ok(query.answer(ctx, &found, "geosearchstore"))
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
