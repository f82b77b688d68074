//! The values of options: their types, how they are read from text and shown. They must never know option names.

use std::borrow::Cow;
use std::fmt;

use super::options::Kind;

/// Why a value was refused, as CONFIG SET says it after the dash.
pub type Reason = Cow<'static, str>;

/// A text that Debug never shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself; not for logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// An amount of memory, or a share of `maxmemory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes; 0 = no limit.
    Bytes(u64),
    /// 0 to 100 percent.
    Percent(u8),
}

impl MemoryLimit {
    /// The limit in bytes under this `maxmemory`; `None` = no limit.
    pub fn resolve(self, maxmemory: u64) -> Option<u64> {
        let bytes = match self {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => maxmemory / 100 * u64::from(percent),
        };
        (bytes > 0).then_some(bytes)
    }
}

/// Bounds on the waiting output of one class of clients; 0 = no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Bytes at which the client is closed at once.
    pub hard: u64,
    /// Bytes at which it is closed after `soft_seconds`.
    pub soft: u64,
    /// Seconds above `soft`.
    pub soft_seconds: u64,
}

/// `client-output-buffer-limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimits {
    /// Ordinary clients.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Subscribers.
    pub pubsub: OutputLimit,
}

/// `notify-keyspace-events`: the letters chosen, `A` already spelled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceEvents(u16);

/// Letters in the order in which they are shown; the first ten are what `A` stands for.
const EVENT_LETTERS: &[u8] = b"g$lshzxetdnKEm";
const EVENTS_ALL: u16 = 0b11_1111_1111;

impl KeyspaceEvents {
    /// Whether a class (`g $ l s h z x e t d n m`) or a channel (`K E`) was chosen.
    pub fn has(self, letter: u8) -> bool {
        Self::bit(letter).is_some_and(|bit| self.0 & bit != 0)
    }
    /// Whether nothing can be published: no channel or no class.
    pub fn is_silent(self) -> bool {
        let channels = Self::bit(b'K').unwrap_or(0) | Self::bit(b'E').unwrap_or(0);
        self.0 & channels == 0 || self.0 & !channels == 0
    }
    fn bit(letter: u8) -> Option<u16> {
        let at = EVENT_LETTERS.iter().position(|known| *known == letter)?;
        Some(1 << at)
    }
    fn parse(text: &str) -> Option<KeyspaceEvents> {
        text.bytes().try_fold(KeyspaceEvents(0), |chosen, letter| {
            let bits = if letter == b'A' { EVENTS_ALL } else { Self::bit(letter)? };
            Some(KeyspaceEvents(chosen.0 | bits))
        })
    }
    /// The letters, as CONFIG GET shows them.
    pub fn render(self) -> String {
        let all = self.0 & EVENTS_ALL == EVENTS_ALL;
        let letters = EVENT_LETTERS.iter().enumerate();
        let rest = letters.filter(|(at, _)| self.0 & (1 << at) != 0 && !(all && *at < 10));
        let rest = rest.map(|(_, letter)| char::from(*letter));
        all.then_some('A').into_iter().chain(rest).collect()
    }
}

macro_rules! choice {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$doc])* $variant,)* }
        impl $type {
            /// The words for it, in the order of the error text.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];
            /// The word for this one.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }
        }
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<$type> {
                match value { $(Value::Choice($name) => Some($type::$variant),)* _ => None }
            }
        }
    };
}

choice! {
    /// `maxmemory-policy`.
    EvictionPolicy {
        /// Least recently used of the keys with a time to live.
        VolatileLru = "volatile-lru",
        /// Least often used of the keys with a time to live.
        VolatileLfu = "volatile-lfu",
        /// Any of the keys with a time to live.
        VolatileRandom = "volatile-random",
        /// The next one to expire.
        VolatileTtl = "volatile-ttl",
        /// Least recently used.
        AllKeysLru = "allkeys-lru",
        /// Least often used.
        AllKeysLfu = "allkeys-lfu",
        /// Any key.
        AllKeysRandom = "allkeys-random",
        /// None: writes that need memory are refused.
        NoEviction = "noeviction",
        /// Three queues, first in first out, over all keys.
        AllKeysS3Fifo = "allkeys-s3fifo",
        /// The same over the keys with a time to live.
        VolatileS3Fifo = "volatile-s3fifo",
    }
}
choice! {
    /// `repl-diskless-load`.
    DisklessLoad {
        /// Never: it is received into a file first.
        Disabled = "disabled",
        /// If there is nothing to lose.
        OnEmptyDb = "on-empty-db",
        /// The old data goes when the new data was found to be whole.
        SwapDb = "swapdb",
        /// The old data goes first.
        FlushBeforeLoad = "flush-before-load",
    }
}
choice! {
    /// `loglevel`.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// Much.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Only what matters.
        Warning = "warning",
        /// No line at all.
        Nothing = "nothing",
    }
}
choice! {
    /// `oom-score-adj`.
    OomScoreAdj {
        /// The kernel's score is left alone.
        No = "no",
        /// As `Relative`.
        Yes = "yes",
        /// The score is added to the one that the process had.
        Relative = "relative",
        /// The score is set.
        Absolute = "absolute",
    }
}
choice! {
    /// `supervised`.
    Supervision {
        /// systemd is told, if its socket is in the environment.
        Systemd = "systemd",
        /// The same without a warning.
        Auto = "auto",
        /// Nobody is told anything.
        No = "no",
    }
}
choice! {
    /// `appendfsync`.
    AppendFsync {
        /// Every second.
        EverySec = "everysec",
        /// Before replies leave.
        Always = "always",
        /// When the system wants to.
        No = "no",
    }
}
choice! {
    /// Who may do something dangerous.
    Permission {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from the own host.
        Local = "local",
    }
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Octal(i64),
    Memory(u64),
    Limit(MemoryLimit),
    Text(String),
    Secret(Secret),
    Choice(&'static str),
    Words(Vec<&'static str>),
    Save(Vec<(u64, u64)>),
    Bind(Vec<String>),
    Output(OutputLimits),
    Oom([i64; 3]),
    Events(KeyspaceEvents),
    Percentiles(Vec<f64>),
    ReplicaOf(Option<(String, u16)>),
}

/// From a value to the type of a field.
pub(super) trait FromValue: Sized {
    /// `None` if the field has another type than the option: a mistake in the table, found by a test.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $result:expr;)*) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<$type> {
                match value { $pattern => $result, _ => None }
            }
        })*
    };
}
from_value! {
    bool: Value::Bool(yes) => Some(*yes);
    Vec<&'static str>: Value::Words(words) => Some(words.clone());
    i64: Value::Integer(number) => Some(*number);
    u16: Value::Integer(number) => u16::try_from(*number).ok();
    u32: Value::Integer(number) | Value::Octal(number) => u32::try_from(*number).ok();
    i32: Value::Integer(number) => i32::try_from(*number).ok();
    MemoryLimit: Value::Limit(limit) => Some(*limit);
    String: Value::Text(text) => Some(text.clone());
    Option<String>: Value::Text(text) => Some(Some(text.clone()).filter(|text| !text.is_empty()));
    Secret: Value::Secret(secret) => Some(secret.clone());
    Vec<String>: Value::Bind(addresses) => Some(addresses.clone());
    OutputLimits: Value::Output(limits) => Some(*limits);
    KeyspaceEvents: Value::Events(events) => Some(*events);
    Vec<(u64, u64)>: Value::Save(points) => Some(points.clone());
    Vec<f64>: Value::Percentiles(list) => Some(list.clone());
    [i64; 3]: Value::Oom(scores) => Some(*scores);
    Option<(String, u16)>: Value::ReplicaOf(primary) => Some(primary.clone());
}
impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<u64> {
        match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Memory(bytes) => Some(*bytes),
            _ => None,
        }
    }
}
impl FromValue for usize {
    fn from_value(value: &Value) -> Option<usize> {
        u64::from_value(value).and_then(|number| usize::try_from(number).ok())
    }
}

/// Reads a value of a kind from its words. `base` is the value that options of several lines add to.
pub(super) fn parse(kind: Kind, base: &Value, words: &[&str]) -> Result<Value, Reason> {
    match kind {
        Kind::Words(names) => parse_words(names, words),
        Kind::Save => parse_save(base, words),
        Kind::Bind => parse_bind(words),
        Kind::OutputLimits => parse_output_limits(base, words),
        Kind::OomScores => parse_oom_scores(words),
        Kind::Percentiles => parse_percentiles(words),
        Kind::ReplicaOf => parse_replica_of(words),
        Kind::Bool
        | Kind::Integer(..)
        | Kind::Octal(..)
        | Kind::Memory(..)
        | Kind::MemoryOrPercent
        | Kind::Text
        | Kind::Secret
        | Kind::Title
        | Kind::Choice(_)
        | Kind::KeyspaceEvents => match words {
            [word] => parse_word(kind, word),
            _ => Err("wrong number of arguments".into()),
        },
    }
}

fn parse_word(kind: Kind, word: &str) -> Result<Value, Reason> {
    match kind {
        Kind::Bool if word.eq_ignore_ascii_case("yes") => Ok(Value::Bool(true)),
        Kind::Bool if word.eq_ignore_ascii_case("no") => Ok(Value::Bool(false)),
        Kind::Bool => Err("argument must be 'yes' or 'no'".into()),
        Kind::Integer(low, high) => bounded(integer(word), low, high).map(Value::Integer),
        Kind::Octal(low, high) => {
            bounded(i64::from_str_radix(word, 8).ok(), low, high).map(Value::Octal)
        }
        Kind::Memory(low, high) => {
            let bytes = memory(word).ok_or("argument must be a memory value")?;
            if (low..=high).contains(&bytes) {
                return Ok(Value::Memory(bytes));
            }
            Err(format!("argument must be between {low} and {high} inclusive").into())
        }
        Kind::MemoryOrPercent => memory_or_percent(word).map(Value::Limit),
        Kind::Choice(names) => one_of(names, word).map(Value::Choice),
        Kind::KeyspaceEvents => KeyspaceEvents::parse(word)
            .map(Value::Events)
            .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        Kind::Title if !title_is_valid(word) => {
            Err("template format is invalid or contains unknown variables".into())
        }
        // A password may hold anything: it is never logged, and quoted when it is written.
        Kind::Secret => Ok(Value::Secret(Secret(word.to_owned()))),
        _ => plain(word).map(Value::Text),
    }
}

/// Control characters would let a value write lines of its own into the rewritten file or the log.
fn plain(word: &str) -> Result<String, Reason> {
    if word.chars().any(char::is_control) {
        return Err("argument must not hold control characters".into());
    }
    Ok(word.to_owned())
}

/// A number exactly as Redis takes it: no plus sign, no leading zero, no space.
fn integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let zero_led = digits.starts_with('0') && (digits.len() > 1 || word.len() > 1);
    if zero_led || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    word.parse().ok()
}

fn bounded(number: Option<i64>, low: i64, high: i64) -> Result<i64, Reason> {
    let number = number.ok_or("argument couldn't be parsed into an integer")?;
    if (low..=high).contains(&number) {
        return Ok(number);
    }
    Err(format!("argument must be between {low} and {high} inclusive").into())
}

/// Bytes with a suffix; no digits at all count as 0, as in Redis.
fn memory(word: &str) -> Option<u64> {
    let end = word.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at_checked(end)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let count: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    count.checked_mul(factor)
}

fn memory_or_percent(word: &str) -> Result<MemoryLimit, Reason> {
    const NEITHER: &str = "argument must be a memory or percent value";
    if let Some(share) = word.strip_suffix('%') {
        let share = integer(share).filter(|share| *share >= 0).ok_or(NEITHER)?;
        return match u8::try_from(share) {
            Ok(share) if share <= 100 => Ok(MemoryLimit::Percent(share)),
            _ => Err("percentage argument must be less or equal to 100".into()),
        };
    }
    let limit = i64::MAX.cast_unsigned();
    let bytes = memory(word).ok_or(NEITHER)?;
    if bytes > limit {
        return Err(format!("argument must be between -100 and {limit} inclusive").into());
    }
    Ok(MemoryLimit::Bytes(bytes))
}

fn one_of(names: &'static [&'static str], word: &str) -> Result<&'static str, Reason> {
    names.iter().find(|name| name.eq_ignore_ascii_case(word)).copied().ok_or_else(|| {
        format!("argument(s) must be one of the following: {}", names.join(", ")).into()
    })
}

fn title_is_valid(template: &str) -> bool {
    const KNOWN: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((variable, tail)) = after.split_once('}') else { return false };
        if !KNOWN.contains(&variable) {
            return false;
        }
        rest = tail;
    }
    true
}

fn parse_words(names: &'static [&'static str], words: &[&str]) -> Result<Value, Reason> {
    let chosen: Vec<_> = words.iter().map(|word| one_of(names, word)).collect::<Result<_, _>>()?;
    if chosen.is_empty() {
        return one_of(names, "").map(Value::Choice);
    }
    if chosen.contains(&"save") && chosen.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    // In the order of the table, each once; the first word means none of the others.
    let none = names.first().copied().unwrap_or_default();
    let mut kept: Vec<_> =
        names.iter().copied().filter(|name| *name != none && chosen.contains(name)).collect();
    if kept.is_empty() {
        kept.push(none);
    }
    Ok(Value::Words(kept))
}

fn parse_save(base: &Value, words: &[&str]) -> Result<Value, Reason> {
    const BAD: &str = "Invalid save parameters";
    if words.iter().all(|word| word.is_empty()) {
        return Ok(Value::Save(Vec::new()));
    }
    let mut points = match base {
        Value::Save(points) => points.clone(),
        _ => Vec::new(),
    };
    for pair in words.chunks(2) {
        let [seconds, changes] = pair else { return Err(BAD.into()) };
        let number = |word: &str| integer(word).and_then(|number| u64::try_from(number).ok());
        let seconds = number(seconds).filter(|seconds| *seconds > 0).ok_or(BAD)?;
        points.push((seconds, number(changes).ok_or(BAD)?));
    }
    Ok(Value::Save(points))
}

fn parse_bind(words: &[&str]) -> Result<Value, Reason> {
    if words.len() > 16 {
        return Err("Too many bind addresses specified.".into());
    }
    let named = words.iter().filter(|word| !word.is_empty());
    let addresses = named.map(|word| {
        if word.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') {
            return Err("Failed to bind to specified addresses.".into());
        }
        plain(word)
    });
    addresses.collect::<Result<_, _>>().map(Value::Bind)
}

fn parse_output_limits(base: &Value, words: &[&str]) -> Result<Value, Reason> {
    let mut limits = match base {
        Value::Output(limits) => *limits,
        _ => OutputLimits::default(),
    };
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for group in words.chunks(4) {
        let [class, hard, soft, seconds] = group else { continue };
        let target = match class.to_ascii_lowercase().as_str() {
            "normal" => &mut limits.normal,
            "slave" | "replica" => &mut limits.replica,
            "pubsub" => &mut limits.pubsub,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        const BAD: &str =
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        let seconds = integer(seconds).and_then(|seconds| u64::try_from(seconds).ok());
        *target = OutputLimit {
            hard: memory(hard).ok_or(BAD)?,
            soft: memory(soft).ok_or(BAD)?,
            soft_seconds: seconds.ok_or(BAD)?,
        };
    }
    Ok(Value::Output(limits))
}

fn parse_oom_scores(words: &[&str]) -> Result<Value, Reason> {
    const BAD: &str = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
    let [primary, replica, child] = words else { return Err("wrong number of arguments".into()) };
    let score = |word: &str| {
        integer(word).filter(|score| (-2000..=2000).contains(score)).ok_or(Reason::from(BAD))
    };
    Ok(Value::Oom([score(primary)?, score(replica)?, score(child)?]))
}

fn parse_percentiles(words: &[&str]) -> Result<Value, Reason> {
    if words.iter().all(|word| word.is_empty()) {
        return Ok(Value::Percentiles(Vec::new()));
    }
    let number = |word: &&str| {
        let number: f64 = word
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if (0.0..=100.0).contains(&number) {
            // Adding 0 turns a negative zero into a plain one.
            return Ok(number + 0.0);
        }
        Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into())
    };
    words.iter().map(number).collect::<Result<_, _>>().map(Value::Percentiles)
}

fn parse_replica_of(words: &[&str]) -> Result<Value, Reason> {
    match words {
        [] | [""] => Ok(Value::ReplicaOf(None)),
        [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
            Ok(Value::ReplicaOf(None))
        }
        [host, port] => {
            let port = integer(port).and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port > 0).ok_or("Invalid master port")?;
            Ok(Value::ReplicaOf(Some((plain(host)?, port))))
        }
        _ => Err("wrong number of arguments".into()),
    }
}

impl Value {
    /// As CONFIG GET shows it.
    pub(super) fn show(&self) -> String {
        match self {
            Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Octal(number) => format!("{number:o}"),
            Value::Memory(bytes) => bytes.to_string(),
            Value::Limit(MemoryLimit::Bytes(bytes)) => bytes.to_string(),
            Value::Limit(MemoryLimit::Percent(share)) => format!("{share}%"),
            Value::Text(text) => text.clone(),
            Value::Secret(secret) => secret.reveal().to_owned(),
            Value::Choice(name) => (*name).to_owned(),
            Value::Words(words) => words.join(" "),
            Value::Save(points) => join(points.iter().map(|(s, c)| format!("{s} {c}"))),
            Value::Bind(addresses) => addresses.join(" "),
            Value::Output(limits) => {
                let class = |name: &str, limit: &OutputLimit| {
                    format!("{name} {} {} {}", limit.hard, limit.soft, limit.soft_seconds)
                };
                let classes = [("normal", limits.normal), ("slave", limits.replica)];
                let classes = classes.into_iter().chain([("pubsub", limits.pubsub)]);
                join(classes.map(|(name, limit)| class(name, &limit)))
            }
            Value::Oom(scores) => join(scores.iter().map(i64::to_string)),
            Value::Events(events) => events.render(),
            Value::Percentiles(list) => join(list.iter().map(f64::to_string)),
            Value::ReplicaOf(None) => String::new(),
            Value::ReplicaOf(Some((host, port))) => format!("{host} {port}"),
        }
    }

    /// The lines of a file that set it, without the name. None for a value that no line can express.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Value::Memory(bytes) | Value::Limit(MemoryLimit::Bytes(bytes)) => {
                vec![short_memory(*bytes)]
            }
            Value::Text(text) | Value::Secret(Secret(text)) => vec![super::split::quote(text)],
            Value::Save(points) if !points.is_empty() => {
                points.iter().map(|(seconds, changes)| format!("{seconds} {changes}")).collect()
            }
            Value::Output(limits) => {
                let classes = [("normal", limits.normal), ("replica", limits.replica)];
                let classes = classes.into_iter().chain([("pubsub", limits.pubsub)]);
                let line = |(name, limit): (&str, OutputLimit)| {
                    let (hard, soft) = (short_memory(limit.hard), short_memory(limit.soft));
                    format!("{name} {hard} {soft} {}", limit.soft_seconds)
                };
                classes.map(line).collect()
            }
            Value::Events(events) => vec![super::split::quote(&events.render())],
            Value::ReplicaOf(None) => vec!["no one".to_owned()],
            other => {
                let text = other.show();
                vec![if text.is_empty() { "\"\"".to_owned() } else { text }]
            }
        }
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

fn short_memory(bytes: u64) -> String {
    [(30, "gb"), (20, "mb"), (10, "kb")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}
