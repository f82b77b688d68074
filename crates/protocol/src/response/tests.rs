//! Tests of the reply parser.

use super::*;
use crate::reply::{Reply, Version};
use proptest::prelude::*;

fn whole(bytes: &[u8]) -> Value {
    let (value, len) = parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    value
}

#[test]
fn every_kind() {
    let bulk = |text: &str| Value::Bulk(text.into());
    for (bytes, value) in [
        ("+OK\r\n", Value::Simple("OK".into())),
        ("-ERR no\r\n", Value::Error("ERR no".into())),
        (":-12\r\n", Value::Integer(-12)),
        ("$4\r\na\r\nb\r\n", bulk("a\r\nb")),
        ("$-1\r\n", Value::Null),
        ("_\r\n", Value::Null),
        ("*-1\r\n", Value::NullArray),
        ("*0\r\n", Value::Array(vec![])),
        ("*2\r\n:1\r\n*1\r\n$0\r\n\r\n", {
            Value::Array(vec![Value::Integer(1), Value::Array(vec![bulk("")])])
        }),
        ("%1\r\n$1\r\na\r\n:1\r\n", Value::Map(vec![(bulk("a"), Value::Integer(1))])),
        ("~1\r\n$1\r\na\r\n", Value::Set(vec![bulk("a")])),
        (">1\r\n$1\r\na\r\n", Value::Push(vec![bulk("a")])),
        (",1.5\r\n", Value::Double("1.5".into())),
        ("#t\r\n", Value::Boolean(true)),
        ("=7\r\ntxt:abc\r\n", Value::Verbatim(*b"txt", "abc".into())),
        ("(123\r\n", Value::BigNumber("123".into())),
        ("!5\r\nERR x\r\n", Value::BulkError("ERR x".into())),
        ("|1\r\n+a\r\n:1\r\n+OK\r\n", {
            let pair = (Value::Simple("a".into()), Value::Integer(1));
            Value::Attribute(vec![pair], Box::new(Value::Simple("OK".into())))
        }),
    ] {
        assert_eq!(whole(bytes.as_bytes()), value, "{bytes:?}");
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes.as_bytes()[..cut]), Ok(None), "{bytes:?} cut at {cut}");
        }
    }
}

#[test]
fn malformed_replies() {
    for (bytes, error) in [
        (&b"?1\r\n"[..], Error::UnknownKind(b'?')),
        (b":x\r\n", Error::BadLine),
        (b"$-2\r\n", Error::BadLine),
        (b"*-2\r\n", Error::BadLine),
        (b"#x\r\n", Error::BadLine),
        (b"+a\rb\r\n", Error::BadLine),
        (b"$1\r\nabc", Error::BadString),
        (b"=3\r\nabc\r\n", Error::BadString),
    ] {
        assert_eq!(parse(bytes), Err(error), "{}", bytes.escape_ascii());
    }
    let deep = |n: usize| [b"*1\r\n".repeat(n), b":1\r\n".to_vec()].concat();
    assert!(parse(&deep(RESPONSE_DEPTH_MAX)).unwrap().is_some());
    assert_eq!(parse(&deep(RESPONSE_DEPTH_MAX + 1)), Err(Error::TooDeep));
    assert_eq!(parse(&b"*1\r\n".repeat(1_000_000)), Err(Error::TooDeep));
    // Declared lengths of exabytes only ever ask for more bytes.
    assert_eq!(parse(b"*9223372036854775807\r\n"), Ok(None));
    assert_eq!(parse(b"$9223372036854775807\r\nabc"), Ok(None));
}

#[test]
fn what_the_writer_writes_is_read() {
    for version in [Version::Resp2, Version::Resp3] {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        reply.array(9);
        reply.ok();
        reply.error("ERR a\r\nb");
        reply.integer(-5);
        reply.bulk(b"\r\n");
        reply.null();
        reply.null_array();
        reply.double(0.5);
        reply.verbatim(b"text");
        reply.map(1);
        reply.boolean(true);
        reply.big_number(b"1");
        let values = whole(&out);
        assert_eq!(values.as_array().unwrap().len(), 9);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = || proptest::collection::vec(any::<u8>(), 0..20);
    let plain = || "[ -~]{0,12}".prop_map(String::into_bytes);
    let leaf = prop_oneof![
        plain().prop_map(Value::Simple),
        plain().prop_map(Value::Error),
        plain().prop_map(Value::Double),
        plain().prop_map(Value::BigNumber),
        any::<i64>().prop_map(Value::Integer),
        text().prop_map(Value::Bulk),
        text().prop_map(Value::BulkError),
        text().prop_map(|text| Value::Verbatim(*b"txt", text)),
        any::<bool>().prop_map(Value::Boolean),
        Just(Value::Null),
        Just(Value::NullArray),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let values = || proptest::collection::vec(inner.clone(), 0..6);
        let pairs = || proptest::collection::vec((inner.clone(), inner.clone()), 0..3);
        prop_oneof![
            values().prop_map(Value::Array),
            values().prop_map(Value::Set),
            values().prop_map(Value::Push),
            pairs().prop_map(Value::Map),
            (pairs(), inner.clone()).prop_map(|(p, v)| Value::Attribute(p, Box::new(v))),
        ]
    })
}

proptest! {
    #[test]
    fn round_trip_and_every_prefix_waits(value in value(), tail in any::<u8>()) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let len = bytes.len();
        for cut in 0..len {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
        }
        bytes.push(tail);
        prop_assert_eq!(parse(&bytes), Ok(Some((value, len))));
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
