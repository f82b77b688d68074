//! Hexadecimal floating numbers (`0x1.8p3`), which C's `strtod` reads and so Redis does.
//!
//! Only the text and the one rounding; who wants which precision decides by calling for it.

/// A positive binary number: `mantissa * 2^exponent`, plus something below one unit of the mantissa
/// when `sticky`. The mantissa has its top bit set, or is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Magnitude {
    pub(super) mantissa: u128,
    pub(super) exponent: i64,
    pub(super) sticky: bool,
}

/// Exponents beyond this are held at it: far outside of every format here.
const EXPONENT_BOUND: i64 = 1 << 20;

impl Magnitude {
    pub(super) const ZERO: Self = Self { mantissa: 0, exponent: 0, sticky: false };

    /// Rounds, half to even, to `bits` of mantissa (at most 64), fewer where the result would need a
    /// unit below `2^exponent_min`. The result is `mantissa * 2^exponent` with
    /// `mantissa <= 2^bits`.
    pub(super) fn round(self, bits: u32, exponent_min: i64) -> (u128, i64) {
        let excess = i64::from(128 - bits);
        let drop = excess.max(exponent_min.saturating_sub(self.exponent));
        if self.mantissa == 0 || drop > 128 {
            return (0, exponent_min);
        }
        let exponent = self.exponent + drop;
        let drop = u32::try_from(drop).unwrap_or(128);
        let kept = self.mantissa.checked_shr(drop).unwrap_or(0);
        // `drop` is at least 64 here, so the half is a proper bit of the dropped part.
        let half = 1u128 << (drop - 1);
        let dropped = self.mantissa & (half | (half - 1));
        let up = match dropped.cmp(&half) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => self.sticky || kept & 1 == 1,
        };
        (kept + u128::from(up), exponent)
    }

    /// The nearest double; `None` when that would be infinite, or zero for a number that is not.
    pub(super) fn to_f64(self) -> Option<f64> {
        if self.mantissa == 0 {
            return Some(0.0);
        }
        let (mantissa, exponent) = self.round(53, -1074);
        if mantissa == 0 {
            return None;
        }
        // Both factors of each product are exact, and so is the product unless it overflows: the
        // power is split because it may lie below the least normal number.
        let half = exponent / 2;
        let power = |n: i64| 2f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
        let value = mantissa as f64 * power(half) * power(exponent - half);
        value.is_finite().then_some(value)
    }
}

/// Reads `[sign] 0x digits [. digits] [p [sign] digits]`, all of the text, and gives sign and
/// magnitude. `None` if it is no such number.
pub(super) fn parse(text: &[u8]) -> Option<(bool, Magnitude)> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let [b'0', b'x' | b'X', text @ ..] = text else { return None };
    let mut magnitude = Magnitude::ZERO;
    let mut digits = 0usize;
    let mut in_fraction = false;
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        if let Some(digit) = char::from(*byte).to_digit(16) {
            push_digit(&mut magnitude, u128::from(digit), in_fraction);
            digits += 1;
        } else if *byte == b'.' && !in_fraction {
            in_fraction = true;
        } else {
            break;
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    magnitude.exponent += parse_exponent(rest)?;
    if magnitude.mantissa == 0 {
        return Some((negative, Magnitude::ZERO));
    }
    let shift = magnitude.mantissa.leading_zeros();
    magnitude.mantissa <<= shift;
    magnitude.exponent -= i64::from(shift);
    Some((negative, magnitude))
}

fn push_digit(magnitude: &mut Magnitude, digit: u128, in_fraction: bool) {
    if magnitude.mantissa >> 124 == 0 {
        magnitude.mantissa = (magnitude.mantissa << 4) | digit;
        magnitude.exponent -= if in_fraction { 4 } else { 0 };
    } else {
        magnitude.sticky |= digit != 0;
        magnitude.exponent += if in_fraction { 0 } else { 4 };
    }
}

/// The binary exponent behind the digits: nothing, or `p` and a decimal number.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let digits = match text {
        [] => return Some(0),
        [b'p' | b'P', rest @ ..] => rest,
        _ => return None,
    };
    parse_signed(digits)
}

/// A decimal exponent with optional sign, held within [`EXPONENT_BOUND`].
pub(super) fn parse_signed(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &b in digits {
        let digit = char::from(b).to_digit(10)?;
        value = (value * 10 + i64::from(digit)).min(EXPONENT_BOUND);
    }
    Some(if negative { -value } else { value })
}
