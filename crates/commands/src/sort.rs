//! SORT and SORT_RO: elements of a list, set or sorted set in order, perhaps by the values of other
//! keys. Those keys have names made from the elements, so both run over the whole keyspace.

use std::cmp::Ordering;

use larder_base::number;
use larder_store::{Deadline, End, EventClass, Hash, Kind, List, Set, SortedSet, Text, Typed};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::table::{Begin, Command, Find, Flags, Group, KeySpec};

const CATEGORIES: &[&str] = &["@set", "@sortedset", "@list", "@dangerous"];
const COMPLEXITY: &str = "O(N+M*log(M)) where N is the number of elements and M that of the answer";

/// The sorting commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "sort",
        arity: -2,
        flags: Flags::WRITE
            .or(Flags::DENYOOM)
            .or(Flags::MOVABLE_KEYS)
            .or(Flags::WHOLE_KEYSPACE)
            .or(Flags::APART),
        categories: CATEGORIES,
        keys: &[
            KeySpec::one(1, "RO access"),
            KeySpec::unknown("RO access"),
            KeySpec {
                flags: "OW update",
                begin: Begin::LastOption("STORE", &[("BY", 1), ("GET", 1), ("LIMIT", 2)]),
                find: Find::Unknown,
            },
        ],
        complexity: COMPLEXITY,
        summary: "Answers or stores the elements of a list, set or sorted set in order.",
        usage: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] \
                [ALPHA] [STORE destination]",
        ..Command::data(Group::Generic, sort)
    },
    Command {
        name: "sort_ro",
        arity: -2,
        flags: Flags::READONLY.or(Flags::MOVABLE_KEYS).or(Flags::WHOLE_KEYSPACE).or(Flags::APART),
        categories: CATEGORIES,
        keys: &[KeySpec::one(1, "RO access"), KeySpec::unknown("RO access")],
        since: "7.0.0",
        complexity: COMPLEXITY,
        summary: "Answers the elements of a list, set or sorted set in order.",
        usage: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] \
                [ALPHA]",
        ..Command::data(Group::Generic, sort)
    },
];

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    by: Option<&'a [u8]>,
    limit: Option<(i64, i64)>,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl Options<'_> {
    fn parse(args: Args<'_>) -> Result<Options<'_>, Fault> {
        let mut options = Options::default();
        let read_only = args.is(0, "SORT_RO");
        let mut at = 2;
        while at < args.len() {
            let left = args.len() - at - 1;
            if args.is(at, "ASC") {
                options.descending = false;
            } else if args.is(at, "DESC") {
                options.descending = true;
            } else if args.is(at, "ALPHA") {
                options.alpha = true;
            } else if args.is(at, "LIMIT") && left >= 2 {
                options.limit = Some((args.i64(at + 1)?, args.i64(at + 2)?));
                at += 2;
            } else if args.is(at, "STORE") && left >= 1 && !read_only {
                at += 1;
                options.store = Some(args.at(at));
            } else if args.is(at, "BY") && left >= 1 {
                at += 1;
                options.by = Some(args.at(at));
            } else if args.is(at, "GET") && left >= 1 {
                at += 1;
                options.get.push(args.at(at));
            } else {
                return Err(Fault::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    /// A pattern without a star names no key that depends on the element: nothing to sort by.
    fn unsorted(&self) -> bool {
        self.by.is_some_and(|by| !by.contains(&b'*'))
    }

    /// The part of `len` elements that LIMIT leaves.
    fn part(&self, len: usize) -> std::ops::Range<usize> {
        let (offset, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(len);
        let end = match usize::try_from(count) {
            Ok(count) => start.saturating_add(count).min(len),
            Err(_) => len,
        };
        start..end
    }
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

/// The elements in the order of the collection.
fn elements(
    ctx: &mut Context<'_>,
    key: &[u8],
    backwards: bool,
) -> Result<(Vec<Vec<u8>>, Option<Kind>), Fault> {
    let kind = ctx.keys.read_kind(key);
    let mut all: Vec<Vec<u8>> = match kind {
        None => Vec::new(),
        Some(Kind::List) => ctx
            .keys
            .peek::<List>(key)?
            .map_or_else(Vec::new, |list| list.iter().map(Text::to_vec).collect()),
        Some(Kind::Set) => ctx
            .keys
            .peek::<Set>(key)?
            .map_or_else(Vec::new, |set| set.iter().map(Text::to_vec).collect()),
        Some(Kind::SortedSet) => ctx
            .keys
            .peek::<SortedSet>(key)?
            .map_or_else(Vec::new, |set| set.iter().map(|(member, _)| member.to_vec()).collect()),
        Some(_) => return Err(Fault::WRONG_TYPE),
    };
    if backwards && kind != Some(Kind::Set) {
        all.reverse();
    }
    Ok((all, kind))
}

/// The value that a pattern leads to: a string key, or after `->` a field of a hash.
fn look_up(ctx: &mut Context<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, after) = (pattern.get(..star)?, pattern.get(star + 1..)?);
    let arrow = after.windows(2).position(|pair| pair == b"->");
    let (after, field) = match arrow.map(|at| (after.get(..at), after.get(at + 2..))) {
        Some((Some(name), Some(field))) if !field.is_empty() => (name, Some(field)),
        _ => (after, None),
    };
    let key = [before, element, after].concat();
    let now = ctx.keys.gone_by();
    match field {
        Some(field) => {
            let hash = ctx.keys.read::<Hash>(&key).ok()??;
            hash.get(field, now).map(Text::to_vec)
        }
        None => ctx.keys.read_string(&key).ok()?.map(Text::to_vec),
    }
}

fn weigh(ctx: &mut Context<'_>, options: &Options<'_>, element: &[u8]) -> Result<Weight, Fault> {
    let text = match options.by {
        Some(pattern) => look_up(ctx, pattern, element),
        None => Some(element.to_vec()),
    };
    if options.alpha {
        return Ok(Weight::Text(text));
    }
    // As C's strtod, which Redis asks here: a zero byte ends the text, blanks are skipped, and no text is
    // zero.
    let text = text.unwrap_or_default();
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(Weight::Number(0.0));
    }
    number::parse_f64(text.trim_ascii_start())
        .map(Weight::Number)
        .ok_or(Fault::text("ERR One or more scores can't be converted into double"))
}

fn compare(a: &(Weight, Vec<u8>), b: &(Weight, Vec<u8>)) -> Ordering {
    match (&a.0, &b.0) {
        // Equal scores fall back on the elements, so that the order is always the same.
        (Weight::Number(x), Weight::Number(y)) => {
            x.partial_cmp(y).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(&b.1))
        }
        (Weight::Text(x), Weight::Text(y)) => x.cmp(y),
        _ => Ordering::Equal,
    }
}

fn sort(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let mut options = Options::parse(args)?;
    let backwards = options.unsorted() && options.descending;
    let (mut all, kind) = elements(ctx, args.at(1), backwards)?;
    // A set has no order of its own, and what is stored should not depend on chance.
    if options.unsorted() && kind == Some(Kind::Set) && options.store.is_some() {
        (options.by, options.alpha) = (None, true);
    }
    if !options.unsorted() {
        let mut weighed = Vec::with_capacity(all.len());
        for element in all {
            weighed.push((weigh(ctx, &options, &element)?, element));
        }
        if options.descending {
            weighed.sort_by(|a, b| compare(b, a));
        } else {
            weighed.sort_by(compare);
        }
        all = weighed.into_iter().map(|(_, element)| element).collect();
    }
    let chosen = all.get(options.part(all.len())).unwrap_or_default();
    let mut rows: Vec<Option<Vec<u8>>> = Vec::new();
    for element in chosen {
        if options.get.is_empty() {
            rows.push(Some(element.clone()));
        }
        for pattern in &options.get {
            rows.push(look_up(ctx, pattern, element));
        }
    }
    match options.store {
        Some(target) => store(ctx, target, &rows),
        None => {
            ctx.reply.array(rows.len());
            for row in &rows {
                match row {
                    Some(text) => ctx.reply.bulk(text),
                    None => ctx.reply.null(),
                }
            }
        }
    }
    Ok(Outcome::Done)
}

/// Stores the rows as a list; without rows the target goes.
fn store(ctx: &mut Context<'_>, target: &[u8], rows: &[Option<Vec<u8>>]) {
    if rows.is_empty() {
        if ctx.keys.remove(target) {
            ctx.keys.signal(target, EventClass::Generic, "del");
        }
    } else {
        let mut list = List::fresh();
        for row in rows {
            let element = row.as_deref().unwrap_or_default();
            list.push(element, End::Back, &ctx.settings.thresholds);
        }
        ctx.keys.put(target, list.wrap(), Deadline::None);
        ctx.keys.signal(target, EventClass::List, "sortstore");
    }
    ctx.reply.count(rows.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use larder_store::DbIndex;

    #[test]
    fn sorting() {
        let mut bench = Bench::new();
        let mut view = bench.keyspace.view_all(&bench.settings, DbIndex(0), bench.now);
        let list = view.write_or_create::<List>(b"l").unwrap();
        for element in ["3", "1", "2"] {
            list.push(element.as_bytes(), End::Back, &bench.settings.thresholds);
        }
        drop(view);
        bench.script(&[
            ("MSET w1 30 w2 20 w3 10 n1 one n2 two", "+OK"),
            ("SORT l", "*3 $1 1 $1 2 $1 3"),
            ("SORT l DESC LIMIT 0 2", "*2 $1 3 $1 2"),
            ("SORT l LIMIT 5 2", "*0"),
            ("SORT l BY w*", "*3 $1 3 $1 2 $1 1"),
            ("SORT l BY w* GET # GET n*", "*6 $1 3 $-1 $1 2 $3 two $1 1 $3 one"),
            ("SORT l BY nosort", "*3 $1 3 $1 1 $1 2"),
            ("SORT l BY n*", "-ERR One or more scores can't be converted into double"),
            ("SORT l BY n* ALPHA", "*3 $1 3 $1 1 $1 2"),
            ("SORT l STORE d", ":3"),
            ("TYPE d", "+list"),
            ("SORT none STORE d", ":0"),
            ("EXISTS d", ":0"),
            ("SORT_RO l STORE d", "-ERR syntax error"),
            ("SORT w1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
