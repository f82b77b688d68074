//! The value of a key: one enum over the data types, and what each type must offer to the keyspace.
//! A new type is a new variant here, and the compiler lists the rest.

use std::sync::Arc;

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

/// A value with a life of its own: 16 bytes, most of them one pointer.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text too long to lie inside its record; shared so that a reader may keep it while it changes.
    Text(Arc<Vec<u8>>),
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
    fn of(value: &Value) -> Option<&Self>;
    /// The value to change, if it is of this type.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// Whether nothing is in it: then its key must go.
    fn is_empty(&self) -> bool;
}

impl Value {
    /// The type of the key that holds this.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Text(_) => Kind::String,
        }
    }

    /// How OBJECT ENCODING calls the form that it has now.
    pub fn encoding_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "raw",
        }
    }

    /// Whether it is an empty collection.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Text(_) => false,
        }
    }

    /// Bytes held on the heap, beyond the 16 of the value itself.
    pub fn memory_usage(&self) -> usize {
        match self {
            Value::Text(text) => text.capacity() + 40,
        }
    }

    /// About how many allocations freeing it takes: more than a few dozen are freed off the hot path.
    pub fn free_cost(&self) -> usize {
        match self {
            Value::Text(text) => text.len() >> 20,
        }
    }
}

const _: () = assert!(size_of::<Value>() <= 16);
