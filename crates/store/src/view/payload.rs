//! What a record holds, in the words that clients know: type, text, encoding, size.

use crate::record::{Payload, RecordRef};
use crate::value::{Kind, Text, Typed, ValueRef};

impl RecordRef<'_> {
    /// The type that clients see.
    pub fn kind(self) -> Kind {
        match self.payload() {
            Payload::Text(_) | Payload::Int(_) => Kind::String,
            Payload::Boxed(value) => value.kind(),
        }
    }
}

impl<'a> RecordRef<'a> {
    /// The string value; `None` for collections.
    #[inline]
    pub fn text_value(self) -> Option<Text<'a>> {
        match self.payload() {
            Payload::Text(text) => Some(Text::Bytes(text)),
            Payload::Int(value) => Some(Text::Int(value)),
            Payload::Boxed(ValueRef::Text(text)) => Some(Text::Bytes(text)),
            Payload::Boxed(_) => None,
        }
    }

    /// The collection, if the record holds this type.
    pub fn get<T: Typed>(self) -> Option<&'a T> {
        match self.payload() {
            Payload::Boxed(value) => T::of(value),
            Payload::Text(_) | Payload::Int(_) => None,
        }
    }

    /// How OBJECT ENCODING calls the form of the value.
    pub fn encoding_name(self) -> &'static str {
        const EMBSTR_MAX: usize = 44;
        match self.payload() {
            Payload::Int(_) => "int",
            Payload::Text(text) if text.len() <= EMBSTR_MAX && !self.is_raw() => "embstr",
            Payload::Text(_) => "raw",
            Payload::Boxed(value) => value.encoding_name(),
        }
    }

    /// Bytes that the key and its value hold, without the table's share.
    pub fn memory_usage(self) -> usize {
        let inner = match self.payload() {
            Payload::Boxed(value) => value.memory_usage(),
            Payload::Text(_) | Payload::Int(_) => 0,
        };
        self.shallow_size() + inner
    }
}
