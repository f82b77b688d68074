//! The value of a key: one enum over the data types, and what each type must offer to the keyspace.
//! A new type is a new variant here, and the compiler lists the rest.

mod hash;
mod ints;
mod list;
mod members;
mod ordered;
mod packed;
mod remains;
mod set;
mod sorted_set;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use larder_base::hash::KeyHasher;

use crate::record::RecordRef;
use crate::table::Table;

pub use hash::{Hash, HashBuilder};
pub use list::{End, List};
pub(crate) use remains::Remains;
pub use set::{Set, SetBuilder};
pub(crate) use sorted_set::score_of;
pub use sorted_set::{Ranked, SortedSet, SortedSetBuilder, Updated};
pub use text::Text;

/// A packed collection never grows beyond this many bytes, whatever the thresholds allow.
const PACKED_BYTES_MAX: usize = 64 << 20;

/// When collections leave their small forms (the `*-max-*` options of the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `hash-max-listpack-entries`
    pub hash_entries: usize,
    /// `hash-max-listpack-value`, bytes
    pub hash_value: usize,
    /// `set-max-intset-entries`
    pub set_intset: usize,
    /// `set-max-listpack-entries`
    pub set_entries: usize,
    /// `set-max-listpack-value`, bytes
    pub set_value: usize,
    /// `zset-max-listpack-entries`
    pub zset_entries: usize,
    /// `zset-max-listpack-value`, bytes
    pub zset_value: usize,
    /// `list-max-listpack-size`: elements if positive; -1 to -5 for 4 to 64 KiB
    pub list_size: i32,
    /// Places the members of big collections. Must be keyed by a secret of the process, as members
    /// come from clients; the default is for tests.
    pub hasher: KeyHasher,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            hash_entries: 512,
            hash_value: 64,
            set_intset: 512,
            set_entries: 128,
            set_value: 64,
            zset_entries: 128,
            zset_value: 64,
            list_size: -2,
            hasher: KeyHasher::new(0, 0),
        }
    }
}

/// The type of a key, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text or integer.
    String,
    /// List.
    List,
    /// Set.
    Set,
    /// Hash.
    Hash,
    /// Sorted set.
    SortedSet,
}

impl Kind {
    /// The name that TYPE answers and SCAN TYPE takes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
            Kind::SortedSet => "zset",
        }
    }
}

/// A value with a life of its own: each type is one pointer, and a record keeps no more of it.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text too long to lie inside its record; shared so that a reader may keep it while it changes.
    Text(Arc<Vec<u8>>),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A hash.
    Hash(Hash),
    /// A sorted set.
    SortedSet(SortedSet),
}

/// A value that somebody else owns, to read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// Text.
    Text(&'a Arc<Vec<u8>>),
    /// A list.
    List(&'a List),
    /// A set.
    Set(&'a Set),
    /// A hash.
    Hash(&'a Hash),
    /// A sorted set.
    SortedSet(&'a SortedSet),
}

/// A value that somebody else owns, to change in place.
#[derive(Debug)]
pub enum ValueMut<'a> {
    /// Text.
    Text(&'a mut Arc<Vec<u8>>),
    /// A list.
    List(&'a mut List),
    /// A set.
    Set(&'a mut Set),
    /// A hash.
    Hash(&'a mut Hash),
    /// A sorted set.
    SortedSet(&'a mut SortedSet),
}

/// What the keyspace needs of a data type, to hand it out typed.
pub trait Typed: Sized {
    /// The type's name among keys.
    const KIND: Kind;
    /// An empty one.
    fn fresh() -> Self;
    /// Wrapped.
    fn wrap(self) -> Value;
    /// The value, if it is of this type.
    fn of(value: ValueRef<'_>) -> Option<&Self>;
    /// The value to change, if it is of this type.
    fn of_mut(value: ValueMut<'_>) -> Option<&mut Self>;
    /// Whether nothing is in it: then its key must go.
    fn is_empty(&self) -> bool;
}

impl Value {
    /// To read.
    #[inline]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Text(text) => ValueRef::Text(text),
            Value::List(list) => ValueRef::List(list),
            Value::Set(set) => ValueRef::Set(set),
            Value::Hash(hash) => ValueRef::Hash(hash),
            Value::SortedSet(sorted) => ValueRef::SortedSet(sorted),
        }
    }

    /// To change in place.
    #[inline]
    pub fn as_mut(&mut self) -> ValueMut<'_> {
        match self {
            Value::Text(text) => ValueMut::Text(text),
            Value::List(list) => ValueMut::List(list),
            Value::Set(set) => ValueMut::Set(set),
            Value::Hash(hash) => ValueMut::Hash(hash),
            Value::SortedSet(sorted) => ValueMut::SortedSet(sorted),
        }
    }
}

impl ValueRef<'_> {
    /// Where its contents begin, to fetch them ahead.
    #[inline]
    pub(crate) fn address(self) -> *const u8 {
        match self {
            ValueRef::Text(text) => Arc::as_ptr(text).cast(),
            ValueRef::List(list) => list.address(),
            ValueRef::Set(set) => set.address(),
            ValueRef::Hash(hash) => hash.address(),
            ValueRef::SortedSet(sorted) => sorted.address(),
        }
    }

    /// The type of the key that holds this.
    pub fn kind(self) -> Kind {
        match self {
            ValueRef::Text(_) => Kind::String,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::SortedSet(_) => Kind::SortedSet,
        }
    }

    /// How OBJECT ENCODING calls the form that it has now.
    pub fn encoding_name(self) -> &'static str {
        match self {
            ValueRef::Text(_) => "raw",
            ValueRef::List(list) => list.encoding_name(),
            ValueRef::Set(set) => set.encoding_name(),
            ValueRef::Hash(hash) => hash.encoding_name(),
            ValueRef::SortedSet(sorted) => sorted.encoding_name(),
        }
    }

    /// Whether it is an empty collection.
    pub fn is_empty(self) -> bool {
        match self {
            ValueRef::Text(_) => false,
            ValueRef::List(list) => list.is_empty(),
            ValueRef::Set(set) => set.is_empty(),
            ValueRef::Hash(hash) => hash.is_empty(),
            ValueRef::SortedSet(sorted) => sorted.is_empty(),
        }
    }

    /// Bytes held on the heap, beyond the word that the value itself is.
    pub fn memory_usage(self) -> usize {
        match self {
            ValueRef::Text(text) => text.capacity() + 40,
            ValueRef::List(list) => list.memory_usage(),
            ValueRef::Set(set) => set.memory_usage(),
            ValueRef::Hash(hash) => hash.memory_usage(),
            ValueRef::SortedSet(sorted) => sorted.memory_usage(),
        }
    }

    /// About how many allocations freeing it takes: more than a few dozen are freed off the hot path.
    pub fn free_cost(self) -> usize {
        match self {
            ValueRef::Text(text) => text.len() >> 20,
            ValueRef::List(list) => list.deep_len(),
            ValueRef::Set(set) => set.deep_len(),
            ValueRef::Hash(hash) => hash.deep_len(),
            ValueRef::SortedSet(sorted) => sorted.deep_len(),
        }
    }

    /// A copy that lives on its own; text is shared until it changes.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Text(text) => Value::Text(Arc::clone(text)),
            ValueRef::List(list) => Value::List(list.clone()),
            ValueRef::Set(set) => Value::Set(set.clone()),
            ValueRef::Hash(hash) => Value::Hash(hash.clone()),
            ValueRef::SortedSet(sorted) => Value::SortedSet(sorted.clone()),
        }
    }
}

// ---- for snapshots: see `crate::snapshot` ----

impl ValueRef<'_> {
    /// Whether a snapshot saves it piece by piece: copying it would hold others up. Texts and lists are
    /// shared by reference, whatever their size.
    pub(crate) fn is_saved_by_pieces(self) -> bool {
        const COPY_MAX: usize = 256;
        match self {
            ValueRef::Text(_) | ValueRef::List(_) => false,
            ValueRef::Set(_) | ValueRef::Hash(_) | ValueRef::SortedSet(_) => {
                self.free_cost() > COPY_MAX
            }
        }
    }
}

impl ValueMut<'_> {
    /// Takes this moment as the cut of a snapshot; returns the number of members.
    pub(crate) fn begin_saving(&mut self, lane: usize, id: u64) -> usize {
        self.members_mut().map_or(0, |members| members.begin_saving(lane, id))
    }

    /// The name under which a snapshot saves it.
    pub(crate) fn saving_id(&mut self, lane: usize) -> Option<u64> {
        self.members_mut()?.saving_id(lane)
    }

    /// Whether somebody changes members that a snapshot still has to save.
    pub(crate) fn was_disturbed(&mut self, lane: usize) -> bool {
        self.members_mut().is_some_and(|members| members.was_disturbed(lane))
    }

    /// Shows about `budget` members as of the cut; true when all were shown.
    pub(crate) fn save_step(
        &mut self,
        lane: usize,
        budget: usize,
        visit: impl FnMut(RecordRef<'_>),
    ) -> bool {
        self.members_mut().is_none_or(|members| members.save_step(lane, budget, visit))
    }

    /// Takes what is big of it out, to be freed piece by piece. It can only be dropped after that.
    pub(crate) fn take_apart(&mut self) -> (Option<Table>, Option<Remains>) {
        let table = self.members_mut().map(|members| std::mem::take(&mut members.table));
        let remains = match self {
            ValueMut::Text(_) | ValueMut::Set(_) => None,
            ValueMut::List(list) => list.take_chunks().map(Remains::Chunks),
            ValueMut::Hash(hash) => hash.take_tree().map(Remains::Tree),
            ValueMut::SortedSet(sorted) => sorted.take_tree().map(Remains::Tree),
        };
        (table, remains)
    }

    fn members_mut(&mut self) -> Option<&mut members::Members> {
        match self {
            ValueMut::Text(_) | ValueMut::List(_) => None,
            ValueMut::Set(set) => set.members_mut(),
            ValueMut::Hash(hash) => hash.members_mut(),
            ValueMut::SortedSet(sorted) => sorted.members_mut(),
        }
    }
}

/// What every collection offers alike.
macro_rules! collection {
    ($type:ident) => {
        impl Typed for $type {
            const KIND: Kind = Kind::$type;
            fn fresh() -> $type {
                $type::new()
            }
            fn wrap(self) -> Value {
                Value::$type(self)
            }
            fn of(value: ValueRef<'_>) -> Option<&$type> {
                if let ValueRef::$type(own) = value { Some(own) } else { None }
            }
            fn of_mut(value: ValueMut<'_>) -> Option<&mut $type> {
                if let ValueMut::$type(own) = value { Some(own) } else { None }
            }
            fn is_empty(&self) -> bool {
                self.is_empty()
            }
        }

        impl Default for $type {
            fn default() -> $type {
                $type::new()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("len", &self.len())
                    .field("encoding", &self.encoding_name())
                    .finish()
            }
        }
    };
}

collection!(List);
collection!(Set);
collection!(Hash);
collection!(SortedSet);
