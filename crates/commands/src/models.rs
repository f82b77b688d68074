//! Property tests: the types that are strings underneath (texts, bits, bit fields, HyperLogLogs) and keys
//! with deadlines, driven by commands and compared with plain models. Collections have theirs in the
//! store.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use crate::testing::Bench;

/// A command of byte arguments and the reply as it comes.
fn run(bench: &mut Bench, args: &[&[u8]]) -> String {
    String::from_utf8_lossy(&bench.raw(args)).replace("\r\n", " ").trim_end().to_owned()
}

fn text(n: i64) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What GETRANGE means by its bounds.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let len = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let place = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end { b"" } else { &bytes[start as usize..=end as usize] }
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

fn set_bit(bytes: &mut Vec<u8>, at: usize, on: bool) {
    if bytes.len() <= at / 8 {
        bytes.resize(at / 8 + 1, 0);
    }
    let mask = 0x80 >> (at % 8);
    if on { bytes[at / 8] |= mask } else { bytes[at / 8] &= !mask }
}

/// The signed or unsigned number of so many bits at a position.
fn field(bytes: &[u8], at: usize, width: usize, signed: bool) -> i128 {
    let raw = (at..at + width).fold(0i128, |sum, at| sum << 1 | i128::from(bit(bytes, at)));
    if signed && bit(bytes, at) { raw - (1 << width) } else { raw }
}

proptest! {
    /// A value is a row of bytes, whether it is held as a number, within its record or apart.
    #[test]
    fn strings_behave_as_bytes(
        steps in prop::collection::vec((0u8..12, -40i64..2000, any::<i16>(), prop::collection::vec(any::<u8>(), 0..30)), 1..120),
    ) {
        let mut bench = Bench::new();
        let mut model: Option<Vec<u8>> = None;
        for (what, n, m, bytes) in steps {
            let old = model.clone().unwrap_or_default();
            match what {
                0 => {
                    run(&mut bench, &[b"SET", b"k", &bytes]);
                    model = Some(bytes);
                }
                1 => {
                    run(&mut bench, &[b"SET", b"k", &text(n)]);
                    model = Some(text(n));
                }
                2 | 3 => {
                    let new = [old.as_slice(), &bytes].concat();
                    prop_assert_eq!(run(&mut bench, &[b"APPEND", b"k", &bytes]), format!(":{}", new.len()));
                    // Appending nothing to nothing still makes a key.
                    model = Some(new);
                }
                4 | 5 => {
                    let at = n.unsigned_abs() as usize;
                    let mut new = old.clone();
                    if !bytes.is_empty() {
                        new.resize(new.len().max(at + bytes.len()), 0);
                        new[at..at + bytes.len()].copy_from_slice(&bytes);
                        model = Some(new.clone());
                    }
                    let reply = run(&mut bench, &[b"SETRANGE", b"k", &text(at as i64), &bytes]);
                    prop_assert_eq!(reply, format!(":{}", new.len()));
                }
                6 | 7 => {
                    let reply = run(&mut bench, &[b"INCRBY", b"k", &text(n)]);
                    let number = if model.is_none() { Some(0) } else {
                        std::str::from_utf8(&old).ok().and_then(|old| old.parse::<i64>().ok())
                            .filter(|number| text(*number) == old)
                    };
                    match number {
                        Some(number) => {
                            prop_assert_eq!(reply, format!(":{}", number + n));
                            model = Some(text(number + n));
                        }
                        None => prop_assert_eq!(reply, "-ERR value is not an integer or out of range"),
                    }
                }
                8 => {
                    run(&mut bench, &[b"DEL", b"k"]);
                    model = None;
                }
                _ => {
                    let (start, end) = (n, i64::from(m) / 16);
                    let reply = bench.raw(&[b"GETRANGE", b"k", &text(start), &text(end)]);
                    prop_assert_eq!(reply, bulk(part(&old, start, end)));
                }
            }
            let reply = bench.raw(&[b"GET", b"k"]);
            prop_assert_eq!(reply, model.as_deref().map_or(b"$-1\r\n".to_vec(), bulk));
            prop_assert_eq!(run(&mut bench, &[b"STRLEN", b"k"]), format!(":{}", model.as_ref().map_or(0, Vec::len)));
        }
    }

    #[test]
    fn bits_behave_as_bits(
        steps in prop::collection::vec((0u8..4, 0usize..900, 0usize..900, any::<bool>()), 1..60),
    ) {
        let mut bench = Bench::new();
        let mut model: Vec<u8> = Vec::new();
        for (what, a, b, on) in steps {
            let value: &[u8] = if on { b"1" } else { b"0" };
            let (from, to) = (a.min(b), a.max(b));
            match what {
                0 | 1 => {
                    let reply = run(&mut bench, &[b"SETBIT", b"k", &text(a as i64), value]);
                    prop_assert_eq!(reply, format!(":{}", u8::from(bit(&model, a))));
                    set_bit(&mut model, a, on);
                }
                2 => {
                    let last = (to + 1).min(model.len() * 8);
                    let count = (from..last).filter(|at| bit(&model, *at)).count();
                    let reply = run(&mut bench, &[b"BITCOUNT", b"k", &text(from as i64), &text(to as i64), b"BIT"]);
                    prop_assert_eq!(reply, format!(":{count}"));
                }
                _ => {
                    let last = (to + 1).min(model.len() * 8);
                    let found = (from..last).find(|at| bit(&model, *at) == on);
                    let reply = run(&mut bench, &[b"BITPOS", b"k", value, &text(from as i64), &text(to as i64), b"BIT"]);
                    let none = if model.is_empty() && !on { 0 } else { -1 };
                    prop_assert_eq!(reply, format!(":{}", found.map_or(none, |at| at as i64)));
                }
            }
        }
        prop_assert_eq!(bench.raw(&[b"GETRANGE", b"k", b"0", b"-1"]), bulk(&model));
    }

    /// Numbers of any width at any place, with each way to overflow.
    #[test]
    fn bit_fields_behave_as_numbers(
        steps in prop::collection::vec((0u8..3, 1usize..=64, 0usize..300, any::<i64>(), 0usize..3), 1..60),
        signed in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut model: Vec<u8> = Vec::new();
        for (what, width, at, number, overflow) in steps {
            let width = if signed { width } else { width.min(63) };
            let kind = format!("{}{width}", if signed { 'i' } else { 'u' }).into_bytes();
            let (low, high) = if signed { (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1) } else { (0, (1i128 << width) - 1) };
            let old = field(&model, at, width, signed);
            let words: [&[u8]; 3] = [b"WRAP", b"SAT", b"FAIL"];
            // What is set is within the width's range or beyond; a sum wraps, stops or is refused.
            let new = match what {
                0 => None,
                1 => Some(i128::from(number >> (number & 63))),
                _ => Some(old + i128::from(number >> (number & 63))),
            };
            let mut args: Vec<&[u8]> = vec![b"BITFIELD", b"k", b"OVERFLOW", words[overflow]];
            let place = text(at as i64);
            let shown = text(number >> (number & 63));
            match what {
                0 => args.extend([b"GET".as_slice(), &kind, &place]),
                1 => args.extend([b"SET".as_slice(), &kind, &place, &shown]),
                _ => args.extend([b"INCRBY".as_slice(), &kind, &place, &shown]),
            }
            let reply = run(&mut bench, &args);
            let wrapped = |value: i128| {
                let bits = value & ((1 << width) - 1);
                if signed && bits >> (width - 1) & 1 == 1 { bits - (1 << width) } else { bits }
            };
            let kept = match new {
                None => None,
                Some(new) if (low..=high).contains(&new) => Some(new),
                // An unsigned SET takes the bits of a negative number.
                Some(new) => match overflow {
                    0 => Some(wrapped(new)),
                    1 if what == 1 && !signed && new < 0 => Some(high),
                    1 => Some(new.clamp(low, high)),
                    _ => None,
                },
            };
            match (what, kept) {
                (0, _) => prop_assert_eq!(reply, format!("*1 :{old}")),
                (_, None) => prop_assert_eq!(reply, "*1 $-1"),
                (1, Some(_)) => prop_assert_eq!(reply, format!("*1 :{old}")),
                (_, Some(kept)) => prop_assert_eq!(reply, format!("*1 :{kept}")),
            }
            if what > 0 {
                // The string grows even if the number is refused.
                for place in at..at + width {
                    let on = kept.map_or(bit(&model, place), |kept| kept >> (width - 1 - (place - at)) & 1 == 1);
                    set_bit(&mut model, place, on);
                }
            }
            let expected = bulk(&model);
            prop_assert_eq!(bench.raw(&[b"GETRANGE", b"k", b"0", b"-1"]), expected);
        }
    }

    /// A sparse and a dense HyperLogLog with the same elements, and the union of two halves, agree; and
    /// the estimate is near the truth.
    #[test]
    fn hyperloglogs_count(elements in prop::collection::vec(0u32..100_000, 1..400), sparse_max in 0usize..3000) {
        let mut bench = Bench::new();
        bench.settings.hll_sparse_max = sparse_max;
        run(&mut bench, &[b"PFADD", b"dense"]);
        run(&mut bench, &[b"PFDEBUG", b"TODENSE", b"dense"]);
        let mut model = HashSet::new();
        for (at, element) in elements.iter().enumerate() {
            let name = text(i64::from(*element));
            let half: &[u8] = if at % 2 == 0 { b"even" } else { b"odd" };
            for key in [b"any".as_slice(), b"dense", half] {
                run(&mut bench, &[b"PFADD", key, &name]);
            }
            model.insert(element);
        }
        run(&mut bench, &[b"PFMERGE", b"both", b"even", b"odd"]);
        let count = run(&mut bench, &[b"PFCOUNT", b"any"]);
        for keys in [[b"dense".as_slice(), b"dense"], [b"both", b"both"], [b"even", b"odd"]] {
            prop_assert_eq!(&run(&mut bench, &[b"PFCOUNT", keys[0], keys[1]]), &count);
        }
        for key in [b"any".as_slice(), b"both"] {
            let registers = bench.raw(&[b"PFDEBUG", b"GETREG", b"dense"]);
            prop_assert_eq!(bench.raw(&[b"PFDEBUG", b"GETREG", key]), registers);
        }
        let count: f64 = count.trim_start_matches(':').parse().unwrap();
        let error = (count - model.len() as f64).abs();
        prop_assert!(error <= 2.0 + model.len() as f64 * 0.05, "{} for {}", count, model.len());
    }

    /// Keys that come, go, move and expire, against a map with deadlines and a clock moved by hand.
    #[test]
    fn keys_behave_as_a_map_with_deadlines(
        steps in prop::collection::vec((0u8..12, 0u8..6, 0u8..6, 1i64..40), 1..200),
    ) {
        let mut bench = Bench::new();
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
        for (step, (what, a, b, ms)) in steps.into_iter().enumerate() {
            bench.now.0 += i64::from(what % 3) * 5;
            let now = bench.now.0;
            model.retain(|_, (_, when)| when.is_none_or(|when| when > now));
            let (from, to) = (vec![b'k', b'0' + a], vec![b'k', b'0' + b]);
            let value = text(step as i64);
            match what {
                0 | 1 => {
                    run(&mut bench, &[b"SET", &from, &value]);
                    model.insert(from.clone(), (value, None));
                }
                2 => {
                    run(&mut bench, &[b"SET", &from, &value, b"PX", &text(ms)]);
                    model.insert(from.clone(), (value, Some(now + ms)));
                }
                3 => {
                    let kept = model.get(&from).and_then(|(_, when)| *when);
                    run(&mut bench, &[b"SET", &from, &value, b"KEEPTTL"]);
                    model.insert(from.clone(), (value, kept));
                }
                4 | 5 => {
                    let reply = run(&mut bench, &[b"PEXPIRE", &from, &text(ms)]);
                    prop_assert_eq!(reply, format!(":{}", u8::from(model.contains_key(&from))));
                    if let Some(entry) = model.get_mut(&from) { entry.1 = Some(now + ms); }
                }
                6 => {
                    let had = model.get(&from).is_some_and(|(_, when)| when.is_some());
                    prop_assert_eq!(run(&mut bench, &[b"PERSIST", &from]), format!(":{}", u8::from(had)));
                    if let Some(entry) = model.get_mut(&from) { entry.1 = None; }
                }
                7 => {
                    let reply = run(&mut bench, &[b"RENAME", &from, &to]);
                    match model.remove(&from) {
                        Some(entry) => {
                            prop_assert_eq!(reply, "+OK");
                            model.insert(to.clone(), entry);
                        }
                        None => prop_assert_eq!(reply, "-ERR no such key"),
                    }
                }
                8 if from != to => {
                    let done = model.contains_key(&from) && !model.contains_key(&to);
                    prop_assert_eq!(run(&mut bench, &[b"COPY", &from, &to]), format!(":{}", u8::from(done)));
                    if done { model.insert(to.clone(), model[&from].clone()); }
                }
                9 => {
                    let gone = model.remove(&from).is_some();
                    prop_assert_eq!(run(&mut bench, &[b"DEL", &from]), format!(":{}", u8::from(gone)));
                }
                10 => {
                    let entry = model.get(&from).cloned();
                    let reply = bench.raw(&[b"GETEX", &from, b"PX", &text(ms)]);
                    prop_assert_eq!(reply, entry.map_or(b"$-1\r\n".to_vec(), |(value, _)| bulk(&value)));
                    if let Some(entry) = model.get_mut(&from) { entry.1 = Some(now + ms); }
                }
                _ => {}
            }
            for key in [from, to] {
                let entry = model.get(&key);
                let ttl = entry.map_or(-2, |(_, when)| when.map_or(-1, |when| when - now));
                prop_assert_eq!(run(&mut bench, &[b"PTTL", &key]), format!(":{ttl}"));
                let value = bench.raw(&[b"GET", &key]);
                prop_assert_eq!(value, entry.map_or(b"$-1\r\n".to_vec(), |(value, _)| bulk(value)));
            }
        }
    }
}
