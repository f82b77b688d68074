//! LCS: the longest common subsequence of two strings.

use larder_store::{Kind, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, KeySpec};

/// LCS.
pub const COMMANDS: &[Command] = &[Command {
    name: "lcs",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec::range(1, 1, 1, "RO access")],
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of the strings",
    summary: "Finds the longest text that can be had from both strings by leaving bytes out.",
    usage: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    ..Command::data(Group::String, lcs)
}];

/// A stretch of equal bytes: first and last position in both strings.
struct Match {
    first: (usize, usize),
    last: (usize, usize),
}

impl Match {
    fn len(&self) -> usize {
        self.last.0 - self.first.0 + 1
    }
}

/// Lengths of common subsequences of all pairs of prefixes.
struct Lengths {
    cells: Vec<u32>,
    width: usize,
}

impl Lengths {
    fn get(&self, i: usize, j: usize) -> u32 {
        self.cells.get(i * self.width + j).copied().unwrap_or(0)
    }

    /// `None` if the table would be larger than `bytes_max`.
    fn compute(a: &[u8], b: &[u8], bytes_max: usize) -> Option<Lengths> {
        let width = b.len().checked_add(1)?;
        let count = a.len().checked_add(1)?.checked_mul(width)?;
        count.checked_mul(size_of::<u32>()).filter(|bytes| *bytes <= bytes_max)?;
        let mut cells: Vec<u32> = Vec::new();
        cells.try_reserve_exact(count).ok()?;
        cells.resize(width, 0);
        let mut above = vec![0u32; width];
        for x in a {
            let (mut left, mut corner) = (0u32, 0u32);
            cells.push(0);
            for (y, up) in b.iter().zip(above.iter_mut().skip(1)) {
                left = if x == y { corner + 1 } else { left.max(*up) };
                corner = *up;
                *up = left;
                cells.push(left);
            }
        }
        Some(Lengths { cells, width })
    }

    /// The subsequence itself and its matches, the last first.
    fn trace(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (a.len(), b.len());
        let mut text = Vec::new();
        let mut matches: Vec<Match> = Vec::new();
        let mut open = false;
        while i > 0 && j > 0 {
            match (a.get(i - 1), b.get(j - 1)) {
                (Some(x), Some(y)) if x == y => {
                    i -= 1;
                    j -= 1;
                    text.push(*x);
                    match matches.last_mut().filter(|_| open) {
                        Some(last) => last.first = (i, j),
                        None => matches.push(Match { first: (i, j), last: (i, j) }),
                    }
                    open = true;
                }
                _ => {
                    open = false;
                    if self.get(i - 1, j) > self.get(i, j - 1) {
                        i -= 1;
                    } else {
                        j -= 1;
                    }
                }
            }
        }
        text.reverse();
        (text, matches)
    }
}

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_len: bool,
    min: usize,
}

fn options(args: Args<'_>) -> Result<Options, Fault> {
    let mut options = Options::default();
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "IDX") {
            options.idx = true;
        } else if args.is(at, "LEN") {
            options.len = true;
        } else if args.is(at, "WITHMATCHLEN") {
            options.with_len = true;
        } else if args.is(at, "MINMATCHLEN") && at + 1 < args.len() {
            at += 1;
            options.min = usize::try_from(args.i64(at)?).unwrap_or(0);
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    if options.idx && options.len {
        return Err(Fault::text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

fn text(ctx: &mut Context<'_>, key: &[u8]) -> Option<Vec<u8>> {
    ctx.keys.read_string(key).ok().map(|text| text.map_or_else(Vec::new, Text::to_vec))
}

fn lcs(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    for key in args.span(1, 2) {
        if ctx.keys.record(key).is_some_and(|record| record.kind() != Kind::String) {
            return Err(Fault::text("ERR The specified keys must contain string values"));
        }
    }
    let a = text(ctx, args.at(1)).unwrap_or_default();
    let b = text(ctx, args.at(2)).unwrap_or_default();
    let options = options(args)?;
    let lengths = Lengths::compute(&a, &b, ctx.settings.text_max).ok_or(Fault::text(
        "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
    ))?;
    let total = i64::from(lengths.get(a.len(), b.len()));
    if options.len {
        ctx.reply.integer(total);
        return Ok(Outcome::Done);
    }
    let (text, matches) = lengths.trace(&a, &b);
    if !options.idx {
        ctx.reply.bulk(&text);
        return Ok(Outcome::Done);
    }
    let shown: Vec<&Match> = matches.iter().filter(|found| found.len() >= options.min).collect();
    let reply = &mut ctx.reply;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown.len());
    for found in shown {
        reply.array(if options.with_len { 3 } else { 2 });
        for (first, last) in [(found.first.0, found.last.0), (found.first.1, found.last.1)] {
            reply.array(2);
            reply.count(first);
            reply.count(last);
        }
        if options.with_len {
            reply.count(found.len());
        }
    }
    reply.bulk(b"len");
    reply.integer(total);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn common_subsequences() {
        Bench::new().script(&[
            ("MSET a ohmytext b mynewtext", "+OK"),
            ("LCS a b", "$6 mytext"),
            ("LCS a b LEN", ":6"),
            ("LCS a b IDX", "*4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6"),
            (
                "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
                "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6",
            ),
            ("LCS a none", "$0"),
            (
                "LCS a b IDX LEN",
                "-ERR If you want both the length and indexes, please just use IDX.",
            ),
        ]);
    }
}
