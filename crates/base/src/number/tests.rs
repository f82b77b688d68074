//! Tests of the numbers; the expected texts are answers of redis-server 7.0.15.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use super::*;
use crate::rng::Rng;

fn text_of(value: f64) -> String {
    let mut out = Vec::new();
    write_f64(&mut out, value);
    String::from_utf8(out).unwrap()
}

#[test]
fn integers_are_read_strictly() {
    let good: [(&str, i64); 6] = [
        ("0", 0),
        ("-1", -1),
        ("10", 10),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("999999999999999999", 999_999_999_999_999_999),
    ];
    for (text, value) in good {
        assert_eq!(parse_i64(text.as_bytes()), Some(value));
    }
    for text in [
        "",
        "-",
        "-0",
        "+1",
        "01",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "00",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999999",
        "0x10",
        "1\0",
    ] {
        assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(parse_u64(b"18446744073709551616"), None);
    assert_eq!(parse_u64(b"-1"), None);
}

#[test]
fn integers_are_written_and_measured() {
    let mut rng = Rng::new(3);
    let edges = [0, 1, -1, 9, 10, 99, 100, -100, i64::MAX, i64::MIN];
    let drawn = (0..10_000).map(|n| (rng.next_u64() >> (n % 64)) as i64);
    for value in edges.into_iter().chain(drawn) {
        let mut out = Vec::new();
        write_i64(&mut out, value);
        assert_eq!(out, value.to_string().as_bytes());
        assert_eq!(i64_len(value), out.len());
        let mut framed = b"x".to_vec();
        write_framed(&mut framed, b':', value, *b"\r\n");
        assert_eq!(framed, format!("x:{value}\r\n").as_bytes());
        assert_eq!(parse_i64(&out), Some(value));
    }
}

#[test]
fn doubles_are_read_as_strtod_does() {
    let good: [(&str, f64); 14] = [
        (".5", 0.5),
        ("5.", 5.0),
        ("+5", 5.0),
        ("1e+5", 1e5),
        ("0x1p3", 8.0),
        ("0x10", 16.0),
        ("0x.8p1", 1.0),
        ("-0X1.8P-1", -0.75),
        ("inf", f64::INFINITY),
        ("+Inf", f64::INFINITY),
        ("-INFINITY", f64::NEG_INFINITY),
        ("4e-324", 5e-324),
        ("0x1p-1074", 5e-324),
        ("0e999", 0.0),
    ];
    for (text, value) in good {
        assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
    }
    for text in [
        "",
        " 1",
        "1 ",
        "nan",
        "-nan",
        "nan(1)",
        "1e999",
        "-1e999",
        "1e-400",
        "0x",
        "0x1p",
        "1_0",
        "0x1p-1076",
        "0x1p99999",
        "e5",
        ".",
        "1e",
        "infinit",
        "0x.p1",
        "1\0",
        "0x1.0.0",
    ] {
        assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn hexadecimal_doubles_round_to_even() {
    for (text, value) in [
        ("0x1.00000000000008p0", 1.0),
        ("0x1.000000000000080000000000000000000000000001p0", 1.0 + f64::EPSILON),
        ("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON),
        ("0x1.fffffffffffff8p0", 2.0),
        ("0x1.fffffffffffffp1023", f64::MAX),
        ("0x0.0000000000001p-1022", 5e-324),
    ] {
        assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
    }
    assert_eq!(parse_f64(b"0x1.fffffffffffff8p1023"), None);
}

#[test]
fn doubles_are_written_as_seventeen_digits() {
    for (value, text) in [
        (0.1, "0.10000000000000001"),
        (3.0, "3"),
        (2.5, "2.5"),
        (0.0, "0"),
        (-0.0, "-0"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (123456789012345678.0, "1.2345678901234568e+17"),
        (1e20, "1e+20"),
        (1e21, "1e+21"),
        (1e-7, "9.9999999999999995e-08"),
        (1e-5, "1.0000000000000001e-05"),
        (0.0001, "0.0001"),
        (1.5e300, "1.5000000000000001e+300"),
        (5e-324, "4.9406564584124654e-324"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ] {
        assert_eq!(text_of(value), text);
    }
}

#[test]
fn the_short_way_to_the_digits_is_the_long_one() {
    let mut rng = Rng::new(9);
    let powers = (-6..19).flat_map(|n| {
        let power = 10f64.powi(n);
        [power, power.next_down(), power.next_up(), 5.0 * power, power * 0.999_999]
    });
    let drawn = (0..50_000).map(|n| {
        let unit = rng.unit_f64() * 10f64.powi(n % 24 - 5);
        if n % 3 == 0 { (unit * 64.0).round() / 64.0 } else { unit }
    });
    for value in powers.chain(drawn) {
        if let Some(found) = middling_digits(value) {
            assert_eq!(found, formatted_digits(value), "{value:e}");
        }
    }
    assert!(middling_digits(12.345).is_some() && middling_digits(0.00011).is_some());
}

#[test]
fn doubles_survive_their_text() {
    let mut rng = Rng::new(5);
    for _ in 0..20_000 {
        let value = f64::from_bits(rng.next_u64());
        if value.is_finite() {
            assert_eq!(parse_f64(text_of(value).as_bytes()), Some(value));
        }
    }
}

#[test]
fn memory_amounts() {
    for (text, value) in [
        ("0", 0),
        ("100", 100),
        ("1b", 1),
        ("1k", 1000),
        ("1kb", 1024),
        ("1KB", 1024),
        ("2m", 2_000_000),
        ("2mb", 2 << 20),
        ("3g", 3_000_000_000),
        ("3Gb", 3 << 30),
        ("007mb", 7 << 20),
    ] {
        assert_eq!(parse_memory(text.as_bytes()), Some(value), "{text}");
    }
    for text in ["", "kb", "-1", "1tb", "1 kb", "1.5gb", "99999999999gb", "99999999999999999999999"]
    {
        assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
    }
}

fn sum(a: &str, b: &str) -> String {
    let a = LongDouble::parse(a.as_bytes()).unwrap();
    let b = LongDouble::parse(b.as_bytes()).unwrap();
    String::from_utf8(a.add(b).to_text()).unwrap()
}

#[test]
fn long_doubles_add_as_incrbyfloat() {
    assert_eq!(sum("10.50", "0.1"), "10.6");
    assert_eq!(sum("5.0e3", "2.0e2"), "5200");
    assert_eq!(sum("0", "-0.0000000000000000001"), "0");
    assert_eq!(sum("0x1p3", "0"), "8");
    assert_eq!(sum("1e30", "0"), "1000000000000000000024696061952");
    let inf = LongDouble::parse(b"inf").unwrap();
    let minus_inf = LongDouble::parse(b"-inf").unwrap();
    assert!(inf.add(minus_inf).is_nan());
    assert!(inf.add(LongDouble::from_i64(1)).is_infinite());
    let huge = LongDouble::parse(b"1e4932").unwrap();
    assert!(huge.add(huge).is_infinite());
    for text in ["", " 1", "1 ", "nan", "1e4933", "1e-4960", "1e", ".", "0x", "e1", "1.2.3"] {
        assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
    }
}
