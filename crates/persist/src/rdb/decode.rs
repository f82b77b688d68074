//! Values from their written forms, fully checked: no duplicates, no contradictions, nothing left over.
//! An empty collection comes out as such; the caller says what becomes of it. It knows no key.

use std::io::BufRead;
use std::sync::Arc;

use larder_base::{Millis, number};
use larder_store::{
    End, Hash, HashBuilder, List, SetBuilder, SortedSetBuilder, Text, Thresholds, Typed, Value,
};

use super::input::{Input, Raw};
use super::{Error, Reason, Version, code, packed};

/// Before every deadline: whatever was written is there, expired or not.
const ALWAYS: Millis = Millis(i64::MIN);

/// What is wrong with a value, at the place that the caller knows.
type Wrong = &'static str;

const MEMBER_TWICE: Wrong = "a member twice in a set";
const SCORED_TWICE: Wrong = "a member twice in a sorted set";
const FIELD_TWICE: Wrong = "a field twice in a hash";

/// Reads a value of a type.
pub(super) fn value<R: BufRead>(
    input: &mut Input<R>,
    kind: u8,
    version: Version,
    limits: &Thresholds,
) -> Result<Value, Error> {
    match kind {
        code::STRING => Ok(Value::Text(Arc::new(input.text()?.into_bytes()))),
        code::LIST => plain_list(input, limits),
        code::SET => plain_set(input, limits),
        code::ZSET | code::ZSET_2 => plain_sorted_set(input, kind == code::ZSET_2, limits),
        code::HASH => plain_hash(input, limits),
        code::LIST_QUICKLIST | code::LIST_QUICKLIST_2 => {
            quicklist(input, kind == code::LIST_QUICKLIST_2, limits)
        }
        code::HASH_DEADLINES_22 | code::REDIS_HASH_DEADLINES => {
            hash_with_deadlines(input, kind, version, limits)
        }
        code::HASH_LISTPACK_DEADLINES_23 if matches!(version, Version::Valkey(_)) => {
            Err(input.error(Reason::Unsupported("Valkey's type 23 (path hash)")))
        }
        code::REDIS_HASH_LISTPACK_DEADLINES => {
            // The earliest deadline comes first; ours are indexed anew.
            input.array::<8>()?;
            packed_value(input, kind, limits)
        }
        code::HASH_ZIPMAP
        | code::LIST_ZIPLIST
        | code::SET_INTSET
        | code::ZSET_ZIPLIST
        | code::HASH_ZIPLIST
        | code::HASH_LISTPACK
        | code::ZSET_LISTPACK
        | code::SET_LISTPACK
        | code::HASH_LISTPACK_DEADLINES_23 => packed_value(input, kind, limits),
        other => Err(input.error(refusal(other))),
    }
}

/// Whether a byte is a type of value, ours or not.
pub(super) fn refusal(kind: u8) -> Reason {
    match kind {
        code::MODULE_PRE_GA | code::MODULE_2 => Reason::Unsupported("a value of a module"),
        code::STREAM | code::STREAM_2 | code::STREAM_3 | code::REDIS_STREAM_4 => {
            Reason::Unsupported("the type stream")
        }
        other => Reason::Unknown(other),
    }
}

fn plain_list<R: BufRead>(input: &mut Input<R>, limits: &Thresholds) -> Result<Value, Error> {
    let (mut list, mut element) = (List::new(), Vec::new());
    for _ in 0..input.length()? {
        input.text_into(&mut element)?;
        list.push(&element, End::Back, limits);
    }
    Ok(list.wrap())
}

fn plain_set<R: BufRead>(input: &mut Input<R>, limits: &Thresholds) -> Result<Value, Error> {
    let begin = input.offset();
    let (mut set, mut member) = (SetBuilder::default(), Vec::new());
    for _ in 0..input.length()? {
        let offset = input.offset();
        input.text_into(&mut member)?;
        if !set.add(Text::Bytes(&member), limits) {
            return Err(invalid(offset, MEMBER_TWICE));
        }
    }
    Ok(set.finish().ok_or(invalid(begin, MEMBER_TWICE))?.wrap())
}

fn plain_sorted_set<R: BufRead>(
    input: &mut Input<R>,
    binary: bool,
    limits: &Thresholds,
) -> Result<Value, Error> {
    let begin = input.offset();
    let (mut sorted, mut member) = (SortedSetBuilder::new(), Vec::new());
    // The small form has no -0: it is set once the set has the form that it is to have.
    let mut negative_zeros = Vec::new();
    for _ in 0..input.length()? {
        let offset = input.offset();
        input.text_into(&mut member)?;
        let score = if binary { f64::from_le_bytes(input.array()?) } else { written_score(input)? };
        if score.is_nan() {
            return Err(invalid(offset, "a score that is no number"));
        }
        let is_negative_zero = score == 0.0 && score.is_sign_negative();
        let score = if is_negative_zero { 1.0 } else { score };
        if !sorted.add(Text::Bytes(&member), score, limits) {
            return Err(invalid(offset, SCORED_TWICE));
        }
        if is_negative_zero {
            negative_zeros.push(member.clone());
        }
    }
    let mut sorted = sorted.finish(limits).ok_or(invalid(begin, SCORED_TWICE))?;
    for member in negative_zeros {
        sorted.insert(&member, -0.0, limits);
    }
    Ok(sorted.wrap())
}

/// A score in decimal, with its length before it.
fn written_score<R: BufRead>(input: &mut Input<R>) -> Result<f64, Error> {
    let offset = input.offset();
    match input.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            let text = input.bytes(u64::from(len))?;
            number::parse_f64(&text).ok_or(invalid(offset, "a score that is no number"))
        }
    }
}

fn plain_hash<R: BufRead>(input: &mut Input<R>, limits: &Thresholds) -> Result<Value, Error> {
    let begin = input.offset();
    let (mut hash, mut field, mut value) = (HashBuilder::default(), Vec::new(), Vec::new());
    for _ in 0..input.length()? {
        let offset = input.offset();
        input.text_into(&mut field)?;
        input.text_into(&mut value)?;
        if !hash.add(Text::Bytes(&field), Text::Bytes(&value), limits) {
            return Err(invalid(offset, FIELD_TWICE));
        }
    }
    Ok(hash.finish().ok_or(invalid(begin, FIELD_TWICE))?.wrap())
}

fn hash_with_deadlines<R: BufRead>(
    input: &mut Input<R>,
    kind: u8,
    version: Version,
    limits: &Thresholds,
) -> Result<Value, Error> {
    let valkey = matches!(version, Version::Valkey(_));
    // Redis from 7.4 on counts from the earliest deadline; its candidates did not.
    let earliest = if !valkey && kind == code::REDIS_HASH_DEADLINES {
        Some(u64::from_le_bytes(input.array()?))
    } else {
        None
    };
    let mut hash = Hash::new();
    for _ in 0..input.length()? {
        let offset = input.offset();
        let deadline = if valkey { None } else { counted_deadline(input, earliest)? };
        let (field, value) = (input.text()?.into_bytes(), input.text()?.into_bytes());
        let deadline = if valkey { absolute_deadline(input)? } else { deadline };
        if !set_field(&mut hash, &field, &value, deadline, limits) {
            return Err(invalid(offset, FIELD_TWICE));
        }
    }
    Ok(hash.wrap())
}

/// As Redis writes it: 0 for none, else 1 more than the distance from the earliest one.
fn counted_deadline<R: BufRead>(
    input: &mut Input<R>,
    earliest: Option<u64>,
) -> Result<Option<Millis>, Error> {
    let offset = input.offset();
    let written = input.length()?;
    let when = match (written, earliest) {
        (0, _) => return Ok(None),
        (written, None) => Some(written),
        (written, Some(earliest)) => earliest.checked_add(written - 1),
    };
    let when = when.and_then(|when| i64::try_from(when).ok());
    when.map(|when| Some(Millis(when))).ok_or(invalid(offset, "a deadline out of range"))
}

/// As Valkey writes it: -1 for none (0 is a moment).
fn absolute_deadline<R: BufRead>(input: &mut Input<R>) -> Result<Option<Millis>, Error> {
    let offset = input.offset();
    match i64::from_le_bytes(input.array()?) {
        -1 => Ok(None),
        when @ 0.. => Ok(Some(Millis(when))),
        _ => Err(invalid(offset, "a deadline out of range")),
    }
}

/// A list of packed nodes: ziplists, or listpacks and single texts too big for one.
fn quicklist<R: BufRead>(
    input: &mut Input<R>,
    second: bool,
    limits: &Thresholds,
) -> Result<Value, Error> {
    let mut list = List::new();
    for _ in 0..input.length()? {
        let offset = input.offset();
        let container = if second { input.length()? } else { 2 };
        let node = input.text()?.into_bytes();
        let elements = match (container, second) {
            // Only a large element has a node to itself.
            (1, _) if node.is_empty() => Err("a node of a list without bytes"),
            (1, _) => Ok(vec![Text::Bytes(&node)]),
            (2, true) => packed::listpack(&node),
            (2, false) => packed::ziplist(&node),
            _ => Err("an unknown container in a list"),
        };
        for element in elements.map_err(|wrong| invalid(offset, wrong))? {
            element.with_bytes(|element| list.push(element, End::Back, limits));
        }
    }
    Ok(list.wrap())
}

/// A collection that is one text in the file.
fn packed_value<R: BufRead>(
    input: &mut Input<R>,
    kind: u8,
    limits: &Thresholds,
) -> Result<Value, Error> {
    let offset = input.offset();
    let bytes = match input.text()? {
        Raw::Bytes(bytes) => bytes,
        Raw::Integer(_) => return Err(invalid(offset, "a number where a packed value belongs")),
    };
    unpack(&bytes, kind, limits).map_err(|wrong| invalid(offset, wrong))
}

fn unpack(bytes: &[u8], kind: u8, limits: &Thresholds) -> Result<Value, Wrong> {
    if kind == code::SET_INTSET {
        let integers = packed::intset(bytes)?;
        return set_of(integers.into_iter().map(Text::Int), limits);
    }
    let elements = match kind {
        code::HASH_ZIPMAP => packed::zipmap(bytes),
        code::LIST_ZIPLIST | code::ZSET_ZIPLIST | code::HASH_ZIPLIST => packed::ziplist(bytes),
        _ => packed::listpack(bytes),
    }?;
    match kind {
        code::LIST_ZIPLIST => {
            let mut list = List::new();
            for element in elements {
                element.with_bytes(|element| list.push(element, End::Back, limits));
            }
            Ok(list.wrap())
        }
        code::SET_LISTPACK => set_of(elements.into_iter(), limits),
        code::ZSET_ZIPLIST | code::ZSET_LISTPACK => sorted_set_of(&elements, limits),
        code::HASH_LISTPACK_DEADLINES_23 | code::REDIS_HASH_LISTPACK_DEADLINES => {
            hash_of_triples(&elements, limits)
        }
        _ => hash_of_pairs(&elements, limits),
    }
}

fn set_of<'a>(
    members: impl Iterator<Item = Text<'a>>,
    limits: &Thresholds,
) -> Result<Value, Wrong> {
    let mut set = SetBuilder::default();
    for member in members {
        if !set.add(member, limits) {
            return Err(MEMBER_TWICE);
        }
    }
    Ok(set.finish().ok_or(MEMBER_TWICE)?.wrap())
}

fn sorted_set_of(elements: &[Text<'_>], limits: &Thresholds) -> Result<Value, Wrong> {
    let (pairs, []) = elements.as_chunks::<2>() else { return Err("a member without a score") };
    let mut sorted = SortedSetBuilder::new();
    for [member, score] in pairs {
        let score = match score {
            Text::Int(value) => Some(*value as f64),
            Text::Bytes(text) => number::parse_f64(text),
        };
        let score = score.filter(|score| !score.is_nan()).ok_or("a score that is no number")?;
        if !sorted.add(*member, score, limits) {
            return Err(SCORED_TWICE);
        }
    }
    Ok(sorted.finish(limits).ok_or(SCORED_TWICE)?.wrap())
}

fn hash_of_pairs(elements: &[Text<'_>], limits: &Thresholds) -> Result<Value, Wrong> {
    let (pairs, []) = elements.as_chunks::<2>() else { return Err("a field without a value") };
    let mut hash = HashBuilder::default();
    for [field, value] in pairs {
        if !hash.add(*field, *value, limits) {
            return Err(FIELD_TWICE);
        }
    }
    Ok(hash.finish().ok_or(FIELD_TWICE)?.wrap())
}

fn hash_of_triples(elements: &[Text<'_>], limits: &Thresholds) -> Result<Value, Wrong> {
    let (triples, []) = elements.as_chunks::<3>() else { return Err("a field without a deadline") };
    let mut hash = Hash::new();
    for [field, value, deadline] in triples {
        let deadline = match deadline.to_i64() {
            Some(0) => None,
            Some(when @ 1..) => Some(Millis(when)),
            _ => return Err("a deadline out of range"),
        };
        set_text_field(&mut hash, *field, *value, deadline, limits)?;
    }
    Ok(hash.wrap())
}

fn set_text_field(
    hash: &mut Hash,
    field: Text<'_>,
    value: Text<'_>,
    deadline: Option<Millis>,
    limits: &Thresholds,
) -> Result<(), Wrong> {
    let fresh = field.with_bytes(|field| {
        value.with_bytes(|value| set_field(hash, field, value, deadline, limits))
    });
    if fresh { Ok(()) } else { Err(FIELD_TWICE) }
}

/// False if the field is there already.
fn set_field(
    hash: &mut Hash,
    field: &[u8],
    value: &[u8],
    deadline: Option<Millis>,
    limits: &Thresholds,
) -> bool {
    let fresh = hash.set(field, value, ALWAYS, limits);
    if deadline.is_some() {
        hash.set_deadline(field, deadline, ALWAYS, limits);
    }
    fresh
}

fn invalid(offset: u64, wrong: Wrong) -> Error {
    Error { offset, reason: Reason::Invalid(wrong) }
}
