//! Inline requests: one line of words, as a person types them into `nc`.
//!
//! Splits a line whose end has been found; how lines are found and bounded is the request parser's
//! part.

use crate::request::ArgRange;

/// A quote was left open, or its end was not followed by a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unbalanced;

/// Splits `line` into words, appending their bytes, unescaped, to `text` and their places there to
/// `args`. In double quotes `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH` and `\` before any other byte are
/// understood, in single quotes only `\'`.
pub(crate) fn split(
    line: &[u8],
    text: &mut Vec<u8>,
    args: &mut Vec<ArgRange>,
) -> Result<(), Unbalanced> {
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&b| is_space(b)).count();
        rest = rest.get(blanks..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let start = text.len();
        rest = word(rest, text)?;
        args.push(ArgRange { start, end: text.len() });
    }
}

/// Takes one word off the beginning of `rest`.
fn word<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], Unbalanced> {
    loop {
        match rest {
            [] => return Ok(rest),
            [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] => return Ok(tail),
            // A quote may open in the middle of a word, but its end is the end of the word.
            [b'"', tail @ ..] => return double_quoted(tail, text),
            [b'\'', tail @ ..] => return single_quoted(tail, text),
            [byte, tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                text.push(hex_digit(*high) << 4 | hex_digit(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [b'"', tail @ ..] => return end_of_quote(tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn single_quoted<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'\\', b'\'', tail @ ..] => {
                text.push(b'\'');
                tail
            }
            [b'\'', tail @ ..] => return end_of_quote(tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn end_of_quote(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

/// What C calls a space: unlike Rust's ASCII whitespace, the vertical tab is one.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut text, mut args) = (Vec::new(), Vec::new());
        split(line, &mut text, &mut args)?;
        Ok(args.iter().map(|arg| arg.of(&text).to_vec()).collect())
    }

    #[test]
    fn words_quotes_and_escapes() {
        let table: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b"  \t ", &[]),
            (b"set  a b ", &[b"set", b"a", b"b"]),
            (br#"set "a b" 'c d'"#, &[b"set", b"a b", b"c d"]),
            (br#""\x41\xzz\n\\\"" '\'\n'"#, &[b"Axzz\n\\\"", b"'\\n"]),
            (br#"a"b c""#, &[b"ab c"]),
            (b"\"\" ''", &[b"", b""]),
            (b"a\x0bb \x0b c", &[b"a\x0bb", b"c"]),
            (b"\x00\xff a", &[b"\x00\xff", b"a"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unbalanced_quotes() {
        for line in [&br#""a"#[..], br#"'a"#, br#""a"b"#, br#"'a'b"#, br#""a\""#, br#"x ""y"#] {
            assert_eq!(words(line), Err(Unbalanced), "{}", line.escape_ascii());
        }
    }
}
