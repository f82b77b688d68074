//! The shape of the command table: one declarative row a command. Arity errors, key extraction, routing,
//! COMMAND, its documentation and the ACL categories derive from the rows. The rows of data commands lie
//! in their families' files, those of control commands in the server.

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;

/// The function behind a data command.
pub type Handler = for<'a, 'b, 'c> fn(&'c mut Context<'a>, Args<'b>) -> Result<Outcome, Fault>;

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// A function over locked keys.
    Data(Handler),
    /// A function of the server, which finds it by the command's name.
    Control,
}

/// Groups, as COMMAND DOCS names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// bitmap
    Bitmap,
    /// connection
    Connection,
    /// generic
    Generic,
    /// geo
    Geo,
    /// hash
    Hash,
    /// hyperloglog
    HyperLogLog,
    /// list
    List,
    /// pubsub
    PubSub,
    /// server
    Server,
    /// set
    Set,
    /// sorted-set
    SortedSet,
    /// string
    String,
    /// transactions
    Transactions,
}

impl Group {
    /// The name in COMMAND DOCS.
    pub fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::HyperLogLog => "hyperloglog",
            Group::List => "list",
            Group::PubSub => "pubsub",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }

    /// The ACL category that every command of the group has.
    pub fn category(self) -> Option<&'static str> {
        Some(match self {
            Group::Bitmap => "@bitmap",
            Group::Connection => "@connection",
            Group::Generic => "@keyspace",
            Group::Geo => "@geo",
            Group::Hash => "@hash",
            Group::HyperLogLog => "@hyperloglog",
            Group::List => "@list",
            Group::PubSub => "@pubsub",
            Group::Server => return None,
            Group::Set => "@set",
            Group::SortedSet => "@sortedset",
            Group::String => "@string",
            Group::Transactions => "@transaction",
        })
    }
}

/// Flags of a command, a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

macro_rules! flags {
    ($($constant:ident = $bit:literal, $name:expr, $doc:literal;)*) => {
        impl Flags {
            $(#[doc = $doc] pub const $constant: Flags = Flags(1 << $bit);)*

            /// The names that COMMAND INFO shows, in its order.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                let all: &'static [(Flags, Option<&'static str>)] = &[$((Flags::$constant, $name),)*];
                all.iter().filter(move |(flag, _)| self.has(*flag)).filter_map(|(_, name)| *name)
            }
        }
    };
}

flags! {
    WRITE = 0, Some("write"), "May change keys.";
    READONLY = 1, Some("readonly"), "Only reads keys.";
    DENYOOM = 2, Some("denyoom"), "Refused when memory is used up.";
    MODULE = 3, Some("module"), "From a module (none here).";
    ADMIN = 4, Some("admin"), "For administrators.";
    PUBSUB = 5, Some("pubsub"), "Part of publish/subscribe.";
    NOSCRIPT = 6, Some("noscript"), "Not within scripts.";
    BLOCKING = 7, Some("blocking"), "May wait.";
    LOADING = 8, Some("loading"), "Allowed while data is loading.";
    STALE = 9, Some("stale"), "Allowed on a replica with stale data.";
    SKIP_MONITOR = 10, Some("skip_monitor"), "Not shown to MONITOR.";
    SKIP_SLOWLOG = 11, Some("skip_slowlog"), "Not in the slow log.";
    ASKING = 12, Some("asking"), "Implies ASKING.";
    FAST = 13, Some("fast"), "Constant or logarithmic time.";
    NO_AUTH = 14, Some("no_auth"), "Allowed before authentication.";
    MAY_REPLICATE = 15, Some("may_replicate"), "May propagate without being a write.";
    NO_MANDATORY_KEYS = 16, Some("no_mandatory_keys"), "Keys may be absent.";
    PROTECTED = 17, Some("protected"), "Needs a switch in the configuration.";
    NO_ASYNC_LOADING = 18, Some("no_async_loading"), "Not while loading in the background.";
    NO_MULTI = 19, Some("no_multi"), "Not within MULTI.";
    MOVABLE_KEYS = 20, Some("movablekeys"), "Key positions depend on the arguments.";
    ALLOW_BUSY = 21, Some("allow_busy"), "Allowed while a script is busy.";
    WHOLE_KEYSPACE = 22, None, "Ours: runs in the exclusive section, over keys it does not declare.";
    APART = 23, None, "Ours: not in the ACL category that its group has.";
}

impl Flags {
    /// Both.
    pub const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `flag` is in the set.
    #[inline]
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        self.or(other)
    }
}

/// Where a key specification begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument (negative: from the end).
    Index(i32),
    /// After this word, searched from this argument on (negative: backwards from the end).
    Keyword(&'static str, i32),
    /// After the last of this word, as the command's options go: told by COMMAND GETKEYS, though not by
    /// COMMAND INFO. The second part are words that take arguments of their own, and how many.
    LastOption(&'static str, &'static [(&'static str, usize)]),
    /// Cannot be told.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the beginning; negative: from the end), every `step`-th, and with
    /// `limit` > 1 only the first part of that (STREAMS).
    Range {
        /// Last key.
        last: i32,
        /// Distance of keys.
        step: i32,
        /// 0 or 1 = all; 2 = the first half ...
        limit: i32,
    },
    /// The number of keys stands `index` after the beginning, the first key `first` after it.
    KeyNum {
        /// Position of the number.
        index: i32,
        /// Position of the first key.
        first: i32,
        /// Distance of keys.
        step: i32,
    },
    /// Cannot be told.
    Unknown,
}

/// One key specification, as COMMAND INFO of Redis 7 shows it.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Words like `RO access`, `RW insert delete`, parted by spaces.
    pub flags: &'static str,
    /// Where it begins.
    pub begin: Begin,
    /// What belongs to it.
    pub find: Find,
}

impl KeySpec {
    /// One key at a position.
    pub const fn one(at: i32, flags: &'static str) -> KeySpec {
        KeySpec::range(at, 0, 1, flags)
    }

    /// Keys from a position to `last` (relative to the first; negative: from the end).
    pub const fn range(at: i32, last: i32, step: i32, flags: &'static str) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(at), find: Find::Range { last, step, limit: 0 } }
    }

    /// A number of keys at a position, followed by the keys.
    pub const fn numkeys(at: i32, flags: &'static str) -> KeySpec {
        let find = Find::KeyNum { index: 0, first: 1, step: 1 };
        KeySpec { flags, begin: Begin::Index(at), find }
    }

    /// One key after a word.
    pub const fn keyword(word: &'static str, from: i32, flags: &'static str) -> KeySpec {
        let find = Find::Range { last: 0, step: 1, limit: 0 };
        KeySpec { flags, begin: Begin::Keyword(word, from), find }
    }

    /// Keys that only the command itself can tell.
    pub const fn unknown(flags: &'static str) -> KeySpec {
        KeySpec { flags, begin: Begin::Unknown, find: Find::Unknown }
    }

    /// Calls `found` with the position of every key of this specification.
    pub fn positions(&self, args: Args<'_>, mut found: impl FnMut(usize)) {
        let count = to_i32(args.len());
        let begin = match self.begin {
            Begin::Index(at) if at >= 0 => at,
            Begin::Index(at) => count.saturating_add(at),
            Begin::Keyword(word, from) => match find_word(args, word, from) {
                Some(at) => at.saturating_add(1),
                None => return,
            },
            Begin::LastOption(word, others) => match last_option(args, word, others) {
                Some(at) => {
                    found(at);
                    return;
                }
                None => return,
            },
            Begin::Unknown => return,
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let end = if last >= 0 {
                    begin.saturating_add(last)
                } else if limit <= 1 {
                    count.saturating_add(last)
                } else {
                    begin.saturating_add((count - begin) / limit).saturating_add(last)
                };
                (begin, end, step)
            }
            Find::KeyNum { index, first, step } => {
                let at = usize::try_from(begin.saturating_add(index)).unwrap_or(usize::MAX);
                let number = args.i64(at).ok().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
                if number < 1 {
                    return;
                }
                let first = begin.saturating_add(first);
                (first, first.saturating_add((number - 1).saturating_mul(step)), step)
            }
            Find::Unknown => return,
        };
        let mut at = first;
        while at <= last.min(count - 1) && at > 0 {
            if let Ok(position) = usize::try_from(at) {
                found(position);
            }
            at = at.saturating_add(step.max(1));
        }
    }
}

/// Where the argument of the last option of this name stands.
fn last_option(args: Args<'_>, word: &str, others: &[(&str, usize)]) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while at < args.len() {
        if args.is(at, word) && at + 1 < args.len() {
            found = Some(at + 1);
        } else if let Some((_, taken)) = others.iter().find(|(other, _)| args.is(at, other)) {
            at += taken;
        }
        at += 1;
    }
    found
}

fn find_word(args: Args<'_>, word: &str, from: i32) -> Option<i32> {
    let count = to_i32(args.len());
    let is = |at: &i32| usize::try_from(*at).is_ok_and(|at| args.is(at, word));
    if from >= 0 { (from..count).find(is) } else { (1..=count.saturating_add(from)).rev().find(is) }
}

fn to_i32(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower case; subcommands carry only their own part ("get" below "config").
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i32,
    /// The group in the documentation.
    pub group: Group,
    /// Flags.
    pub flags: Flags,
    /// ACL categories beyond those that follow from group and flags.
    pub categories: &'static [&'static str],
    /// Where the keys are.
    pub keys: &'static [KeySpec],
    /// First version that had it.
    pub since: &'static str,
    /// In the usual notation.
    pub complexity: &'static str,
    /// One sentence, our own words.
    pub summary: &'static str,
    /// The arguments after the name in the usual notation: `key [NX | XX] [EX seconds]`.
    pub usage: &'static str,
    /// Tips for proxies, as `COMMAND INFO` shows them.
    pub tips: &'static [&'static str],
    /// Subcommands.
    pub subcommands: &'static [Command],
    /// Who runs it.
    pub run: Run,
}

impl Command {
    /// A data command with every other field at its default: to be used with `..`.
    pub const fn data(group: Group, handler: Handler) -> Command {
        Command { run: Run::Data(handler), ..Command::control(group) }
    }

    /// A control command with every other field at its default.
    pub const fn control(group: Group) -> Command {
        Command {
            name: "",
            arity: 1,
            group,
            flags: Flags(0),
            categories: &[],
            keys: &[],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "",
            usage: "",
            tips: &[],
            subcommands: &[],
            run: Run::Control,
        }
    }

    /// The row of HELP, which every command with subcommands has.
    pub const fn help(group: Group, since: &'static str) -> Command {
        Command {
            name: "help",
            arity: 2,
            flags: Flags::LOADING.or(Flags::STALE),
            since,
            summary: "Explains the subcommands.",
            ..Command::control(group)
        }
    }

    /// The subcommand that a request names, and its position.
    #[inline]
    pub fn subcommand(&self, args: Args<'_>) -> Option<(usize, &'static Command)> {
        self.subcommands.iter().enumerate().find(|(_, sub)| args.is(1, sub.name))
    }

    /// Whether this many arguments (with the name) are right.
    #[inline]
    pub fn fits(&self, count: usize) -> bool {
        let count = to_i32(count);
        if self.arity >= 0 { count == self.arity } else { count >= -self.arity }
    }

    /// Calls `found` with the position of every key among the arguments.
    #[inline]
    pub fn key_positions(&self, args: Args<'_>, mut found: impl FnMut(usize)) {
        let keys = self.subcommand(args).map_or(self.keys, |(_, sub)| sub.keys);
        for spec in keys.iter().filter(|spec| !spec.flags.contains("not_key")) {
            spec.positions(args, &mut found);
        }
    }

    /// First key, last key and step, as COMMAND INFO reports them.
    pub fn key_range(&self) -> (i32, i32, i32) {
        let mut range = None::<(i32, i32, i32)>;
        for spec in self.keys {
            if let (Begin::Index(at), Find::Range { last, step, limit: _ }) =
                (spec.begin, spec.find)
            {
                let end = if last >= 0 { at + last } else { last };
                range = Some(match range {
                    None => (at, end, step),
                    Some((first, known, gap))
                        if known >= 0 && (end < 0 || end > known) && at == known + 1 =>
                    {
                        (first, end, gap.max(step))
                    }
                    Some(known) => known,
                });
            }
        }
        range.unwrap_or((0, 0, 0))
    }

    /// Whether key positions depend on more than the first range.
    pub fn has_movable_keys(&self) -> bool {
        let fixed = |spec: &&KeySpec| {
            matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }))
        };
        self.flags.has(Flags::MOVABLE_KEYS) || !self.keys.iter().all(|spec| fixed(&spec))
    }

    /// All ACL categories, those that follow from group and flags included.
    pub fn all_categories(&self) -> Vec<&'static str> {
        let mut all: Vec<&'static str> = self.categories.to_vec();
        let mut add = |when: bool, name: &'static str| {
            if when && !all.contains(&name) {
                all.push(name);
            }
        };
        // A command with subcommands does nothing by itself: they are in the category.
        if let Some(name) = self.group.category() {
            add(self.subcommands.is_empty() && !self.flags.has(Flags::APART), name);
        }
        add(self.flags.has(Flags::WRITE), "@write");
        add(self.flags.has(Flags::READONLY), "@read");
        add(self.flags.has(Flags::ADMIN), "@admin");
        add(self.flags.has(Flags::ADMIN), "@dangerous");
        add(self.flags.has(Flags::PUBSUB), "@pubsub");
        add(self.flags.has(Flags::BLOCKING), "@blocking");
        add(self.flags.has(Flags::FAST), "@fast");
        add(!self.flags.has(Flags::FAST), "@slow");
        all
    }
}
