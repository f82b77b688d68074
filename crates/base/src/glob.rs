//! Glob patterns as Redis matches them: `KEYS`, `SCAN MATCH`, `PSUBSCRIBE`, ACL key patterns.
//!
//! `*` any run of bytes, `?` one byte, `[...]` a class with ranges, `[^...]` its opposite, `\` takes
//! the next byte as it is. Bytes only, no character encoding. The matcher remembers only the last
//! star, so no pattern makes it exponential: the cost is at most pattern length times text length.

/// Whether `text` as a whole fits `pattern`.
///
/// As in Redis, no pattern but the empty one fits the empty text: not even `*`. Commands for which a
/// lone `*` means "everything" test for it themselves.
#[inline]
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run::<false>(pattern, text)
}

/// As [`matches`], with ASCII letters equal to their other case. A letter behind a backslash inside
/// a class keeps its case, which is how Redis has it.
#[inline]
#[must_use]
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    run::<true>(pattern, text)
}

/// Whether `pattern` has no special byte, and so fits exactly the text equal to it.
#[must_use]
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

fn run<const NOCASE: bool>(pattern: &[u8], text: &[u8]) -> bool {
    let mut pattern = pattern;
    let mut text = text;
    if text.is_empty() {
        return pattern.is_empty();
    }
    // Where to go on after a mismatch: the pattern behind the last star, and the text of which that
    // star has yet to swallow one more byte.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let Some((&byte, text_rest)) = text.split_first() else {
            // What follows the last star needs a fixed number of bytes, so a later start cannot
            // help once the text has run out.
            return pattern.iter().all(|&b| b == b'*');
        };
        if let Some((b'*', rest)) = pattern.split_first() {
            let behind = skip_stars(rest);
            if behind.is_empty() {
                return true;
            }
            pattern = behind;
            retry = Some((behind, text));
            continue;
        }
        if let Some(rest) = step::<NOCASE>(pattern, byte) {
            pattern = rest;
            text = text_rest;
            continue;
        }
        let Some((behind, from)) = retry else { return false };
        let from = from.get(1..).unwrap_or_default();
        if from.is_empty() {
            return false;
        }
        pattern = behind;
        text = from;
        retry = Some((behind, from));
    }
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|&&b| b == b'*').count();
    pattern.get(stars..).unwrap_or_default()
}

/// Matches one pattern element, never a star, with `byte`: the pattern behind it, or `None`.
#[inline(always)]
fn step<const NOCASE: bool>(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class::<NOCASE>(rest, byte),
        // A backslash at the very end stands for itself.
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            same::<NOCASE>(*literal, byte).then_some(rest)
        }
    }
}

/// Matches the class whose inside begins at `inside`: the pattern behind its `]`, or `None`.
/// A class that never closes ends with the pattern.
fn class<const NOCASE: bool>(inside: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut inside) = match inside {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, inside),
    };
    let mut found = false;
    let rest = loop {
        match inside {
            [] => break inside,
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                inside = rest;
            }
            [b']', rest @ ..] => break rest,
            // The end of a range may be any byte, a closing bracket too.
            [start, b'-', end, rest @ ..] => {
                found |= in_range::<NOCASE>(*start, *end, byte);
                inside = rest;
            }
            [literal, rest @ ..] => {
                found |= same::<NOCASE>(*literal, byte);
                inside = rest;
            }
        }
    };
    (found != negated).then_some(rest)
}

/// Whether `byte` lies between the ends of a range, given in either order. Redis compares as signed
/// bytes, so bytes from 0x80 up sort below ASCII.
fn in_range<const NOCASE: bool>(start: u8, end: u8, byte: u8) -> bool {
    let signed = |b: u8| i8::from_ne_bytes([b]);
    let (low, high) = if signed(start) <= signed(end) { (start, end) } else { (end, start) };
    let fold = |b: u8| signed(if NOCASE { b.to_ascii_lowercase() } else { b });
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[inline(always)]
fn same<const NOCASE: bool>(a: u8, b: u8) -> bool {
    if NOCASE { a.eq_ignore_ascii_case(&b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, by trying every length of every star. `None` when out of steps.
    fn reference(pattern: &[u8], text: &[u8], steps: &mut u32) -> Option<bool> {
        *steps = steps.checked_sub(1)?;
        let Some((&byte, rest)) = text.split_first() else {
            return Some(pattern.iter().all(|&b| b == b'*'));
        };
        if let [b'*', behind @ ..] = pattern {
            return Some(reference(behind, text, steps)? || reference(pattern, rest, steps)?);
        }
        match step::<false>(pattern, byte) {
            Some(behind) => reference(behind, rest, steps),
            None => Some(false),
        }
    }

    #[test]
    fn answers_of_redis() {
        // Each line was put to redis-server 7.0.15 with KEYS.
        for (pattern, text, expected) in [
            ("h?llo*", "hello", true),
            ("h*l*o", "hello", true),
            ("*a*b*c", "xaxbxbxc", true),
            ("*a*b*c", "xaxbxbxcx", false),
            ("a**b", "ab", true),
            ("ab*", "ab", true),
            ("ab**", "ab", true),
            ("ab?", "ab", false),
            ("*?", "a", true),
            ("*", "", false),
            ("", "", true),
            ("", "a", false),
            ("h[a-f]llo", "hello", true),
            ("h[f-a]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[^x]llo", "hello", true),
            ("[]a]", "a]", false),
            ("[]a]", "]", false),
            ("[\\]]", "]", true),
            ("[a-]", "-", false),
            ("[a-]", "b", false),
            ("[a-]", "_", true),
            ("[abc", "b", true),
            ("[abc", "bb", false),
            ("[a-", "-", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[\\", "\\", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("\\a", "a", true),
            ("[*?]", "*", true),
            ("[*?]", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn bytes_in_ranges_are_signed() {
        assert!(matches(b"[\x80-a]", b"\xff"));
        assert!(matches(b"[a-\x80]", b"A"));
        assert!(!matches(b"[a-\x80]", b"b"));
    }

    #[test]
    fn case_is_ignored_as_redis_ignores_it() {
        // Put to redis-server 7.0.15 with COMMAND LIST FILTERBY PATTERN.
        for (pattern, text, expected) in [
            ("OB*T", "object", true),
            ("o[B-C]ject", "object", true),
            ("O[A-b]JECT", "object", true),
            ("o[_-B]ject", "object", false),
            ("O[\\B]JECT", "object", false),
            ("o[\\b]ject", "object", true),
            ("o[^B]ject", "object", false),
            ("G[E]\\T", "get", true),
        ] {
            let found = matches_nocase(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_is_exponential() {
        let pattern = [b"a*".repeat(2_000), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &vec![b'a'; 20_000]));
        assert!(matches(&b"*".repeat(1_000_000), b"a"));
        assert!(!matches(&b"*?".repeat(50_000), &vec![b'a'; 40_000]));
    }

    #[test]
    fn literal_patterns() {
        assert!(is_literal(b"user:1]^-"));
        for pattern in [&b"a*"[..], b"a?", b"a[", b"a\\b"] {
            assert!(!is_literal(pattern));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn equals_the_definition(
            pattern in proptest::collection::vec(
                prop::sample::select(b"ab*?[]^-\\A\x80".to_vec()), 0..10),
            text in proptest::collection::vec(prop::sample::select(b"ab-]A\x80".to_vec()), 0..8),
        ) {
            // On the empty text Redis and the definition part, see `matches`.
            let expected = if text.is_empty() {
                Some(pattern.is_empty())
            } else {
                reference(&pattern, &text, &mut 100_000)
            };
            if let Some(expected) = expected {
                prop_assert_eq!(matches(&pattern, &text), expected);
            }
        }
    }
}
