//! What a view tells about its work: what happened to keys, and counts. It knows no value.

use larder_base::time::Millis;

use crate::keyspace::DbIndex;

/// The key holds another type than the command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// What becomes of a key's deadline when its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The key keeps the one it has.
    Keep,
    /// The key has none afterwards.
    None,
    /// The key expires then.
    At(Millis),
}

/// Classes of keyspace notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventClass {
    /// `g`: commands on keys of any type.
    Generic,
    /// `$`
    String,
    /// `l`
    List,
    /// `s`
    Set,
    /// `h`
    Hash,
    /// `z`
    SortedSet,
    /// `x`: a key expired.
    Expired,
    /// `e`: a key was evicted.
    Evicted,
    /// `m`: a read missed.
    KeyMiss,
    /// `n`: a key was created.
    New,
    /// `t`
    Stream,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its value or deadline changed: watchers and caches must hear.
    Modified,
    /// A notification of this name.
    Event(EventClass, &'static str),
    /// It may serve clients that wait for it now.
    Ready,
}

/// One report of a view.
#[derive(Clone, Debug)]
pub struct Change {
    /// The database.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// What happened.
    pub what: What,
}

/// Counts that a view gathers for the server's statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Reads that found a live key.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Keys deleted because they were due.
    pub expired: u64,
    /// Keys deleted to make room.
    pub evicted: u64,
    /// Members of collections deleted because they were due.
    pub expired_members: u64,
    /// Modifications of keys.
    pub dirty: u64,
}

/// Members of a collection that expired and that no command has told of.
#[derive(Clone, Debug)]
pub struct GoneMembers {
    /// The database.
    pub db: DbIndex,
    /// The collection.
    pub key: Box<[u8]>,
    /// Their names.
    pub members: Vec<Box<[u8]>>,
}
