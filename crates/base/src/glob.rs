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

    #[test]
    fn simple_cases() {
        assert!(matches(b"h?llo*", b"hello"));
        assert!(matches(b"h[a-f]llo", b"hello"));
        assert!(!matches(b"h[^e]llo", b"hello"));
        assert!(matches_nocase(b"HE*O", b"hello"));
        assert!(!matches(b"*", b""));
        assert!(is_literal(b"abc]"));
        assert!(!is_literal(b"a\\bc"));
    }
}
