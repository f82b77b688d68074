//! Patterns against their plain recursive definition, written apart from the real matcher and given
//! up after a number of steps.
#![no_main]

use larder_base::glob;
use libfuzzer_sys::fuzz_target;

/// Whether `byte` fits the element at the beginning of `pattern`, and the element's length.
fn element(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    let lower = |b: u8| if nocase { b.to_ascii_lowercase() } else { b };
    match pattern[0] {
        b'?' => (true, 1),
        b'\\' if pattern.len() >= 2 => (lower(pattern[1]) == lower(byte), 2),
        b'[' => {
            let mut at = 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let mut found = false;
            while at < pattern.len() {
                if pattern[at] == b'\\' && at + 1 < pattern.len() {
                    found |= pattern[at + 1] == byte;
                    at += 2;
                } else if pattern[at] == b']' {
                    at += 1;
                    break;
                } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
                    let mut ends = [pattern[at] as i8, pattern[at + 2] as i8];
                    ends.sort_unstable();
                    let [low, high] = ends.map(|b| lower(b as u8) as i8);
                    let byte = lower(byte) as i8;
                    found |= low <= byte && byte <= high;
                    at += 3;
                } else {
                    found |= lower(pattern[at]) == lower(byte);
                    at += 1;
                }
            }
            (found != negated, at)
        }
        literal => (lower(literal) == lower(byte), 1),
    }
}

fn reference(pattern: &[u8], text: &[u8], nocase: bool, steps: &mut u32) -> Option<bool> {
    *steps = steps.checked_sub(1)?;
    if text.is_empty() {
        return Some(pattern.iter().all(|&b| b == b'*'));
    }
    if pattern.is_empty() {
        return Some(false);
    }
    if pattern[0] == b'*' {
        return Some(
            reference(&pattern[1..], text, nocase, steps)?
                || reference(pattern, &text[1..], nocase, steps)?,
        );
    }
    let (fits, len) = element(pattern, text[0], nocase);
    if fits { reference(&pattern[len..], &text[1..], nocase, steps) } else { Some(false) }
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (pattern, text) = input;
    for nocase in [false, true] {
        let found = match nocase {
            true => glob::matches_nocase(pattern, text),
            false => glob::matches(pattern, text),
        };
        if text.is_empty() {
            assert_eq!(found, pattern.is_empty());
        } else if let Some(expected) = reference(pattern, text, nocase, &mut 20_000) {
            assert_eq!(found, expected);
        }
    }
    if glob::is_literal(pattern) {
        assert_eq!(glob::matches(pattern, text), pattern == text);
    }
});
