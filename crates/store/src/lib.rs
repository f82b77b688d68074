//! The data: slots, tables, records, values, expiry, eviction. Pure: this crate knows no socket, no
//! protocol, no file and no clock; time and randomness come in as arguments.

mod adoption;
pub mod eviction;
pub mod expiry;
pub mod keyspace;
pub mod record;
pub mod settings;
pub mod snapshot;
pub mod table;
pub mod trash;
pub mod value;
pub mod view;

pub use keyspace::{DbIndex, Interest, Keyspace};
pub use record::{Payload, Record, RecordMut, RecordRef};
pub use settings::Settings;
pub use trash::Trash;
pub use value::{
    End, Hash, HashBuilder, Kind, List, Set, SetBuilder, SortedSet, SortedSetBuilder, Text,
    Thresholds, Typed, Value, ValueMut, ValueRef,
};
pub use view::{Change, Deadline, Dues, EventClass, View, What, WrongType};
