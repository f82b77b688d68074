//! Numbers as Redis reads and writes them: which texts count as a number, and which text a number
//! becomes. Clients compare these texts byte for byte.
//!
//! No locale and no allocation on the integer paths. The command that reads the number owns the
//! words of the error.

mod hex;
mod long_double;

pub use long_double::LongDouble;

use crate::limits::INTEGER_TEXT_BYTES_MAX;

/// Reads a signed integer, strictly: optional `-`, no leading zero, no `+`, no spaces, not `-0`.
/// `None` for anything else and for values outside `i64`.
#[inline]
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let magnitude = match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => magnitude(digits)?,
        _ => return None,
    };
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads an unsigned integer under the rules of [`parse_i64`], over the whole range of `u64`.
#[inline]
#[must_use]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => magnitude(text),
        _ => None,
    }
}

/// The value of decimal digits, or `None` for another byte or overflow.
#[inline(always)]
fn magnitude(digits: &[u8]) -> Option<u64> {
    let digit = |b: u8| Some(u64::from(b.wrapping_sub(b'0'))).filter(|&d| d <= 9);
    // Nineteen digits cannot overflow, so the common case needs no check.
    if digits.len() <= 19 {
        let mut value = 0u64;
        for &b in digits {
            value = value.wrapping_mul(10).wrapping_add(digit(b)?);
        }
        return Some(value);
    }
    if digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &b| value.checked_mul(10)?.checked_add(digit(b)?))
}

/// Reads a double as Redis does: what C's `strtod` takes in full (decimal, hexadecimal with or
/// without exponent, `inf` and `infinity` in any case, a sign of either kind), except a text that
/// begins with a space, a NaN, and a value too great for a double or too small to differ from 0.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // Short integers are most of what clients send, and are exact.
    if text.len() <= 15
        && let Some(n) = parse_i64(text)
    {
        return Some(n as f64);
    }
    if let Some((negative, magnitude)) = hex::parse(text) {
        let value = magnitude.to_f64()?;
        return Some(if negative { -value } else { value });
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() {
        return None;
    }
    if value.is_infinite() {
        // Overflow of a written number is an error; the word for infinity is not.
        return text.iter().all(|b| !b.is_ascii_digit()).then_some(value);
    }
    if value == 0.0 && mantissa_is_nonzero(text) {
        return None;
    }
    Some(value)
}

/// Whether a decimal number's text has a digit other than 0 before its exponent.
fn mantissa_is_nonzero(text: &[u8]) -> bool {
    text.iter().take_while(|b| !b.eq_ignore_ascii_case(&b'e')).any(|b| matches!(b, b'1'..=b'9'))
}

/// Writes a double as Redis 7.0 replies it: the text of C's `%.17g`, so `3`, `0.10000000000000001`,
/// `1e+20`, `inf`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
        return;
    }
    if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() { b"-nan" } else { b"nan" });
        return;
    }
    if let Some(n) = exact_i64(value) {
        return write_i64(out, n);
    }
    if value < 0.0 || value.is_sign_negative() {
        out.push(b'-');
    }
    let (digits, exponent) =
        middling_digits(value.abs()).unwrap_or_else(|| formatted_digits(value.abs()));
    general_format(out, digits, exponent);
}

/// The 17 first digits of `value`, rounded half to even, and the decimal exponent of
/// the first one; for fractions that 128 bits are enough for, which is nearly all there are.
fn middling_digits(value: f64) -> Option<(u64, i32)> {
    const ABOVE: u64 = 100_000_000_000_000_000;
    if !(1e-4..1e17).contains(&value) {
        return None;
    }
    let bits = value.to_bits();
    let mantissa = u128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    // The unit of the mantissa is 2^-shift: at most 2^-66 for 0.0001, and below 1 for a fraction.
    let shift = 1075u32.checked_sub(u32::try_from(bits >> 52).ok()?)?;
    if !(1..=66).contains(&shift) {
        return None;
    }
    let half = 1u128 << (shift - 1);
    // The logarithm may be off by one next to a power of ten, and rounding may add a digit: the
    // count of digits tells.
    #[expect(clippy::cast_possible_truncation, reason = "between -5 and 17")]
    let mut exponent = value.log10().floor() as i32;
    for _ in 0..3 {
        let places = u32::try_from(16 - exponent).ok()?;
        // 53 bits times at most 10^21, 70 bits.
        let scaled = mantissa.checked_mul(10u128.checked_pow(places)?)?;
        let kept = scaled >> shift;
        let dropped = scaled & (half | (half - 1));
        let up = dropped > half || (dropped == half && kept & 1 == 1);
        let digits = u64::try_from(kept).ok()?.checked_add(u64::from(up))?;
        match digits {
            ABOVE.. => exponent += 1,
            0..10_000_000_000_000_000 => exponent -= 1,
            _ => return Some((digits, exponent)),
        }
    }
    None
}

/// As [`middling_digits`] for every finite value, by way of the standard library's formatting.
#[cold]
fn formatted_digits(value: f64) -> (u64, i32) {
    let text = format!("{value:.16e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let digits = digits.fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
    (digits, exponent.parse().unwrap_or(0))
}

/// The integer equal to `value`, where `%.17g` would print it without point or exponent. Negative
/// zero is not one: it keeps its sign.
#[inline]
fn exact_i64(value: f64) -> Option<i64> {
    const EXACT_BELOW: f64 = 1e17;
    let negative_zero = value == 0.0 && value.is_sign_negative();
    if value.is_nan() || value.abs() >= EXACT_BELOW || negative_zero {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 1e17, and compared again below")]
    let n = value as i64;
    (n as f64 == value).then_some(n)
}

/// Writes digits as `%.17g` does: trailing zeros go, and the exponent is written only when it is
/// below -4 or above 16.
fn general_format(out: &mut Vec<u8>, digits: u64, exponent: i32) {
    let text = decimal(digits);
    let digits = text.as_bytes();
    let significant = digits.iter().rposition(|&b| b != b'0').map_or(1, |at| at + 1);
    let (digits, _) = digits.split_at_checked(significant).unwrap_or((digits, &[]));
    match exponent {
        0..=16 => {
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            out.extend_from_slice(digits.get(..whole).unwrap_or(digits));
            for _ in digits.len()..whole {
                out.push(b'0');
            }
            if let Some(fraction) = digits.get(whole..).filter(|f| !f.is_empty()) {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        }
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            for _ in exponent..-1 {
                out.push(b'0');
            }
            out.extend_from_slice(digits);
        }
        _ => {
            let (first, fraction) = digits.split_at_checked(1).unwrap_or((digits, &[]));
            out.extend_from_slice(first);
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            if exponent.abs() < 10 {
                out.push(b'0');
            }
            write_i64(out, i64::from(exponent.abs()));
        }
    }
}

/// Two decimal digits for every number below 100.
static DIGIT_PAIRS: [[u8; 2]; 100] = digit_pairs();

const fn digit_pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let mut tens = 0u8;
    while tens < 10 {
        let mut ones = 0u8;
        while ones < 10 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
            {
                pairs[tens as usize * 10 + ones as usize] = [b'0' + tens, b'0' + ones];
            }
            ones += 1;
        }
        tens += 1;
    }
    pairs
}

/// A decimal text of at most 20 bytes, right-aligned in its buffer. Made by [`decimal`] and
/// [`decimal_i64`].
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    buffer: [u8; INTEGER_TEXT_BYTES_MAX],
    start: usize,
}

impl Decimal {
    /// The text.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

/// The decimal text of `value`, on the stack.
#[inline]
#[must_use]
pub fn decimal(value: u64) -> Decimal {
    let mut buffer = [0u8; INTEGER_TEXT_BYTES_MAX];
    let start = fill_decimal(&mut buffer, value);
    Decimal { buffer, start }
}

/// The decimal text of `value`, on the stack.
#[inline]
#[must_use]
pub fn decimal_i64(value: i64) -> Decimal {
    let mut text = decimal(value.unsigned_abs());
    if value < 0 {
        // At most 19 digits stand behind the sign of an i64.
        text.start = text.start.saturating_sub(1);
        if let Some(sign) = text.buffer.get_mut(text.start) {
            *sign = b'-';
        }
    }
    text
}

/// Writes the digits of `value` at the end of `buffer`, and tells where they begin.
#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "a u64 has at most 20 digits and a remainder by 100 is below 100"
)]
fn fill_decimal(buffer: &mut [u8; INTEGER_TEXT_BYTES_MAX], mut value: u64) -> usize {
    let pair = |n: u64| DIGIT_PAIRS[usize::try_from(n % 100).unwrap_or(0)];
    let mut start = buffer.len();
    while value >= 100 {
        start -= 2;
        [buffer[start], buffer[start + 1]] = pair(value);
        value /= 100;
    }
    let [tens, ones] = pair(value);
    start -= 1;
    buffer[start] = ones;
    if value >= 10 {
        start -= 1;
        buffer[start] = tens;
    }
    start
}

/// Appends the decimal text of `value`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(decimal_i64(value).as_bytes());
}

/// Appends the decimal text of `value`.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(decimal(value).as_bytes());
}

/// Appends `before`, the decimal text of `value` and `after`, in one copy.
#[inline]
pub fn write_framed(out: &mut Vec<u8>, before: u8, value: i64, after: [u8; 2]) {
    let Decimal { buffer, start } = decimal_i64(value);
    let mut framed = [0u8; 1 + INTEGER_TEXT_BYTES_MAX + 2];
    let [_, digits @ .., a, b] = &mut framed;
    *digits = buffer;
    [*a, *b] = after;
    // The digits begin at `start + 1` here, and `before` stands one ahead of them.
    if let Some(first) = framed.get_mut(start) {
        *first = before;
    }
    out.extend_from_slice(framed.get(start..).unwrap_or_default());
}

/// How many bytes the decimal text of `value` has, its sign included.
#[inline]
#[must_use]
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
    digits + usize::from(value < 0)
}

/// Reads an amount of memory as `redis.conf` writes it: digits and an optional unit, `b`, `k`, `m`,
/// `g` (powers of 1000) or `kb`, `mb`, `gb` (powers of 1024), in any case. `None` for anything else
/// and on overflow of `u64`.
#[must_use]
pub fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if number.is_empty() {
        return None;
    }
    let zeros = number.iter().take_while(|&&b| b == b'0').count();
    magnitude(number.get(zeros..)?)?.checked_mul(scale)
}

#[cfg(test)]
#[path = "number/tests.rs"]
mod tests;
