//! The generator of the differential test: events from templates, the same for the same seed. It knows
//! nothing of servers and replies.

use larder_base::rng::Rng;

use super::coverage::Coverage;
use super::event::{Event, Kind, Words, name};
use super::templates::{self, PREAMBLE};

const HOSTILE: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "-0",
    "nan",
    "inf",
    "-inf",
    "+inf",
    "",
    "4294967296",
    "4294967297",
    "0x10",
    " 1",
    "1 ",
    "+1",
    "01",
    "1.0",
    "1e3",
    "-1",
    "0",
    "$-1\r\n",
];

/// Commands whose number of words is never changed: they take more of them than the oracle's, or would
/// draw at random, or leave an order open.
const FIXED: &[&str] =
    &["ZRANK", "ZREVRANK", "SPOP", "SORT", "SORT_RO", "HELLO", "CLIENT|LIST", "CLIENT|KILL"];

/// A part of a template.
enum Node {
    Word(Vec<u8>),
    Atom(u8),
    /// `#` and an atom.
    Hashed(u8),
    Maybe(Vec<Vec<Node>>),
    OneOf(Vec<Vec<Node>>),
    Repeated(Vec<Node>),
}

/// Commands one after the other.
struct Template {
    commands: Vec<Vec<Node>>,
}

struct Group {
    weight: u64,
    kind: Kind,
    crowd: bool,
    templates: Vec<Template>,
}

/// Makes events.
pub struct Generator {
    rng: Rng,
    groups: Vec<Group>,
}

impl Generator {
    /// The sequence of a seed over all commands.
    pub fn of_all(seed: u64) -> Self {
        Generator::new(seed, templates::GROUPS)
    }

    /// The sequence of a seed over these templates.
    pub fn new(seed: u64, groups: &[templates::Group]) -> Self {
        let groups = groups.iter().map(|group| Group {
            weight: group.weight,
            kind: group.kind,
            crowd: group.crowd,
            templates: group.templates.iter().map(|text| template(text)).collect(),
        });
        Generator { rng: Rng::new(seed), groups: groups.collect() }
    }

    /// Tells the table which options there are.
    pub fn announce(&self, coverage: &mut Coverage) {
        let commands = self.groups.iter().flat_map(|g| &g.templates).flat_map(|t| &t.commands);
        for nodes in commands {
            let words: Words = nodes
                .iter()
                .take(2)
                .filter_map(|node| match node {
                    Node::Word(word) => Some(word.clone()),
                    _ => None,
                })
                .collect();
            let name = name(&words);
            if let Some(rest) = nodes.get(1..) {
                options(rest, &mut |word| {
                    if !name.ends_with(word) {
                        coverage.expect(&name, word);
                    }
                });
            }
        }
    }

    /// The events of an epoch.
    pub fn events(&mut self, lanes: usize, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count + 16);
        for text in PREAMBLE {
            let words = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            events.push(Event { lane: 0, words, kind: Kind::Plain });
        }
        let mut lane = 0;
        while events.len() < count {
            if lanes > 1 && self.rng.below(4) == 0 {
                lane = self.rng.below_usize(lanes);
            }
            if self.rng.below(60) == 0 {
                self.transaction(lane, &mut events);
            } else {
                self.step(lane, lanes > 1, false, &mut events);
            }
        }
        events
    }

    fn transaction(&mut self, lane: usize, events: &mut Vec<Event>) {
        let one = |word: &[u8]| Event { lane, words: vec![word.to_vec()], kind: Kind::Plain };
        events.push(one(b"MULTI"));
        for _ in 0..1 + self.rng.below(8) {
            self.step(lane, false, true, events);
        }
        match self.rng.below(10) {
            0 => events.push(one(b"DISCARD")),
            _ => events.push(one(b"EXEC")),
        }
    }

    fn step(&mut self, lane: usize, crowd: bool, queued: bool, events: &mut Vec<Event>) {
        let groups = std::mem::take(&mut self.groups);
        let fit =
            |group: &&Group| (crowd || !group.crowd) && (!queued || group.kind == Kind::Plain);
        let total = groups.iter().filter(fit).map(|group| group.weight).sum();
        let mut at = self.rng.below(total);
        for group in groups.iter().filter(fit) {
            if at < group.weight {
                let template = &group.templates[self.rng.below_usize(group.templates.len())];
                self.fill(group.kind, template, lane, events);
                break;
            }
            at -= group.weight;
        }
        self.groups = groups;
    }

    fn fill(&mut self, kind: Kind, template: &Template, lane: usize, events: &mut Vec<Event>) {
        let alone = template.commands.len() == 1;
        for nodes in &template.commands {
            let mut words = Words::new();
            self.expand(nodes, &mut words);
            let kind = match (kind, &words[0][..]) {
                (_, b"@pause") => Kind::Pause,
                (Kind::Pause, _) => Kind::Plain,
                (kind, _) => kind,
            };
            // Wrong arity, now and then.
            let fixed = !alone || kind != Kind::Plain || FIXED.contains(&&name(&words)[..]);
            if words.len() > 1 && !fixed && self.rng.below(50) == 0 {
                let at = 1 + self.rng.below_usize(words.len() - 1);
                if self.rng.below(2) == 0 {
                    words.remove(at);
                } else {
                    words.insert(at, words[at].clone());
                }
            }
            events.push(Event { lane, words, kind });
        }
    }

    fn expand(&mut self, nodes: &[Node], out: &mut Words) {
        for node in nodes {
            match node {
                Node::Word(word) => out.push(word.clone()),
                Node::Atom(kind) => {
                    let hostile =
                        !b"rkshltzqgGXLCjJQuaTMB".contains(kind) && self.rng.below(60) == 0;
                    let value = match hostile {
                        true => HOSTILE[self.rng.below_usize(HOSTILE.len())].as_bytes().to_vec(),
                        false => self.atom(*kind),
                    };
                    out.push(value);
                }
                Node::Hashed(kind) => out.push([b"#".to_vec(), self.atom(*kind)].concat()),
                Node::Maybe(choices) => {
                    if self.rng.below(2) == 0 {
                        let choice = self.rng.below_usize(choices.len());
                        self.expand(&choices[choice], out);
                    }
                }
                Node::OneOf(choices) => {
                    let choice = self.rng.below_usize(choices.len());
                    self.expand(&choices[choice], out);
                }
                Node::Repeated(nodes) => {
                    for _ in 0..1 + self.rng.below(4) {
                        self.expand(nodes, out);
                    }
                }
            }
        }
    }

    fn number(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low).unwrap_or(0) + 1;
        low + i64::try_from(self.rng.below(span)).unwrap_or(0)
    }

    fn atom(&mut self, kind: u8) -> Vec<u8> {
        match kind {
            b's' | b'h' | b'l' | b't' | b'z' | b'k' | b'q' | b'g' | b'G' | b'X' | b'L' | b'C'
            | b'j' | b'J' | b'Q' => self.key(kind),
            b'u' => format!("ch{}", self.rng.below(4)).into_bytes(),
            b'a' => {
                [&b"ch*"[..], b"ch1", b"*2", b"c[h]?", b"none*"][self.rng.below_usize(5)].to_vec()
            }
            b'v' => match self.rng.below(8) {
                0 => vec![b'v'; self.rng.below_usize(100)],
                1 => b"\x00\xff\r\n\"".to_vec(),
                2 => self.number(-1000, 1000).to_string().into_bytes(),
                3 => vec![0xf0; self.rng.below_usize(40)],
                _ => format!("value{}", self.rng.below(1000)).into_bytes(),
            },
            b'e' => match self.rng.below(20) {
                0 => vec![b'm'; 60 + self.rng.below_usize(10)],
                1 => self.number(0, 300).to_string().into_bytes(),
                2 => format!("m{}", self.rng.below(2000)).into_bytes(),
                _ => format!("m{}", self.rng.below(12)).into_bytes(),
            },
            b'E' => format!("e{}", self.rng.below(1_000_000)).into_bytes(),
            b'w' => {
                const WIDTHS: &[&str] =
                    &["u8", "i8", "u1", "i64", "u63", "i5", "u16", "u64", "i65", "x", "i0", "u0"];
                WIDTHS[self.rng.below_usize(WIDTHS.len())].as_bytes().to_vec()
            }
            b'p' => [&b"*"[..], b"s*", b"?1", b"[lh]?", b"m*", b"*[^1]", b"\\"]
                [self.rng.below_usize(7)]
            .to_vec(),
            b'y' => match self.rng.below(6) {
                0 => b"-".to_vec(),
                1 => b"+".to_vec(),
                2 => format!("(m{}", self.rng.below(12)).into_bytes(),
                _ => format!("[m{}", self.rng.below(12)).into_bytes(),
            },
            other => self.numeric(other),
        }
    }

    /// Names of keys; one in eight is meant for another type.
    fn key(&mut self, kind: u8) -> Vec<u8> {
        const TYPES: &[u8] = b"sshltz";
        let (letter, number) = match kind {
            b'G' => (b'g', self.rng.below(6)),
            b'X' => (b'x', self.rng.below(6)),
            b'J' => (b'j', self.rng.below(6)),
            b'Q' => (b'q', self.rng.below(6)),
            b'q' | b'g' | b'L' | b'j' if self.rng.below(12) == 0 => (b'w', self.rng.below(2)),
            b'L' => (b'x', self.rng.below(6)),
            b'C' => (b'c', self.rng.below(6)),
            b'q' | b'g' | b'j' => (kind, self.rng.below(6)),
            _ if kind == b'k' || self.rng.below(8) == 0 => {
                (TYPES[self.rng.below_usize(TYPES.len())], self.rng.below(6))
            }
            _ => (kind, self.rng.below(6)),
        };
        format!("{}{number}", char::from(letter)).into_bytes()
    }

    fn numeric(&mut self, kind: u8) -> Vec<u8> {
        let number = match kind {
            // `B`: never the least integer, at which Redis's check of a bit field overflows.
            b'i' | b'B' => match self.rng.below(6) {
                0 => self.rng.next_u64().cast_signed(),
                _ => self.number(-200, 70_000),
            },
            b'n' => self.number(0, 12),
            b'x' => self.number(-12, 12),
            b'r' => self.number(-9, 9),
            b'o' => self.number(0, 700),
            b'd' => self.number(0, 9_000),
            b'S' => self.number(7_200, 99_999),
            b'P' => self.number(7_200_000, 99_999_999),
            // Any length of time, but none that ends while the test runs: each server removes what is due in its time.
            b'D' => match self.rng.below(6) {
                0 => self.rng.next_u64().cast_signed(),
                1 | 2 => self.number(-200, 0),
                _ => self.number(7_200_000, 99_999_999),
            },
            b'T' => self.number(4_000_000_000, 4_000_009_999),
            b'M' => self.number(4_000_000_000_000, 4_000_009_999_999),
            // What deletes at once when it is past.
            b'U' | b'V' if self.rng.below(5) == 0 => 1_000_000,
            b'U' => return self.numeric(b'T'),
            b'V' => return self.numeric(b'M'),
            _ => return self.float(kind),
        };
        number.to_string().into_bytes()
    }

    fn float(&mut self, kind: u8) -> Vec<u8> {
        match (kind, self.rng.below(12)) {
            (b'c', _) => format!("{}.{}", self.number(-86, 86), self.rng.below(10_000)),
            (b'f', 0..3) => format!("{}", self.rng.unit_f64() * 1e6),
            (b'f', 3..6) => format!("{}e{}", self.number(-99, 99), self.number(-20, 20)),
            (b'f', _) => format!("{}.{}", self.number(-99, 99), self.rng.below(100)),
            (b'm', 0) => "inf".to_owned(),
            (b'm', 1) | (b'b', 0) => "-inf".to_owned(),
            (b'm', 2) => format!("{}", self.rng.unit_f64()),
            (b'b', 1) => "+inf".to_owned(),
            (b'b', 2..5) => format!("({}", self.number(-9, 9)),
            _ => self.number(-9, 9).to_string(),
        }
        .into_bytes()
    }
}

fn options(nodes: &[Node], tell: &mut impl FnMut(&str)) {
    for node in nodes {
        match node {
            Node::Word(word) => {
                let plain = word.len() > 1 && word.iter().all(u8::is_ascii_uppercase);
                if let (true, Ok(word)) = (plain, std::str::from_utf8(word)) {
                    tell(word);
                }
            }
            Node::Atom(_) | Node::Hashed(_) => {}
            Node::Maybe(choices) | Node::OneOf(choices) => {
                choices.iter().for_each(|choice| options(choice, tell));
            }
            Node::Repeated(nodes) => options(nodes, tell),
        }
    }
}

fn template(text: &str) -> Template {
    let commands = text.split(" ; ");
    Template {
        commands: commands.map(|text| parted(text, b' ').into_iter().map(node).collect()).collect(),
    }
}

fn node(word: &str) -> Node {
    let inner = || &word[1..word.len() - 1];
    let words = |text: &str| parted(text, b'_').into_iter().map(node).collect::<Vec<_>>();
    let choices = || parted(inner(), b'|').into_iter().map(words).collect();
    match (word.as_bytes(), closes_at_end(word)) {
        ([b'[', ..], true) => Node::Maybe(choices()),
        ([b'<', ..], true) => Node::OneOf(choices()),
        ([b'(', ..], true) => Node::Repeated(words(inner())),
        ([b'$', kind], _) => Node::Atom(*kind),
        ([b'#', b'$', kind], _) => Node::Hashed(*kind),
        (word, _) => Node::Word(word.to_vec()),
    }
}

fn opens(byte: u8) -> bool {
    matches!(byte, b'[' | b'<' | b'(')
}

fn closes(byte: u8, before: u8) -> bool {
    // The arrow of a hash pattern closes nothing.
    matches!(byte, b']' | b')') || (byte == b'>' && before != b'-')
}

fn closes_at_end(word: &str) -> bool {
    let mut depth = 0;
    let bytes = word.as_bytes();
    for at in 0..bytes.len() {
        if opens(bytes[at]) {
            depth += 1;
        } else if at > 0 && closes(bytes[at], bytes[at - 1]) {
            depth -= 1;
            if depth == 0 {
                return at + 1 == bytes.len();
            }
        }
    }
    false
}

/// Parts at a sign outside of all brackets.
fn parted(text: &str, sign: u8) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    let bytes = text.as_bytes();
    for at in 0..bytes.len() {
        if opens(bytes[at]) {
            depth += 1;
        } else if at > 0 && closes(bytes[at], bytes[at - 1]) {
            depth -= 1;
        } else if bytes[at] == sign && depth == 0 {
            parts.push(&text[from..at]);
            from = at + 1;
        }
    }
    parts.push(&text[from..]);
    parts
}
