//! The 80-bit extended float of x86-64 in software, as far as `INCRBYFLOAT` needs it.
//!
//! Redis computes these commands in C's `long double` and prints 17 places after the point; with a
//! plain double, 5.1 + 0.1 would come out as another text. Only reading, adding and printing exist.

use super::hex::{self, Magnitude};
use crate::limits::LONG_DOUBLE_TEXT_BYTES_MAX;

/// Mantissa bits of the format.
const BITS: u32 = 64;
/// Exponent of the unit of the least number, `2^-16445`.
const EXPONENT_MIN: i64 = -16_445;
/// Largest exponent of the unit of a finite number: the largest is `(2^64 - 1) * 2^16320`.
const EXPONENT_MAX: i64 = 16_320;
/// Decimal exponents outside this range are zero or infinite whatever the digits are.
const DECIMAL_EXPONENT_BOUND: i64 = 5_100;

/// An extended-precision number: 64 bits of mantissa, 15 of exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// `mantissa * 2^exponent`. Unless zero, the mantissa's top bit is set or the exponent is
    /// [`EXPONENT_MIN`].
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
    NotANumber,
}

impl LongDouble {
    /// Positive zero.
    pub const ZERO: Self =
        Self { negative: false, class: Class::Finite { mantissa: 0, exponent: EXPONENT_MIN } };

    /// The number equal to `value`: every 64-bit integer is exact here.
    #[must_use]
    pub fn from_i64(value: i64) -> Self {
        let magnitude = normalized(u128::from(value.unsigned_abs()), 0, false);
        Self::rounded(value < 0, magnitude)
    }

    /// Reads a number as Redis does for `INCRBYFLOAT`: what C's `strtold` takes in full, correctly
    /// rounded, except the empty text, one of 5,120 bytes or more, one that begins with a space, a
    /// NaN, and a value that over- or underflows. `inf` and `infinity` are read.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > LONG_DOUBLE_TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, class: Class::Infinite });
        }
        let magnitude = match hex::parse(text) {
            Some((_, magnitude)) => magnitude,
            None => parse_decimal(unsigned)?,
        };
        let value = Self::rounded(negative, magnitude);
        let out_of_range = value.is_infinite() || (value.is_zero() && magnitude.mantissa != 0);
        (!out_of_range).then_some(value)
    }

    /// The sum, rounded to nearest, ties to even, as the processor does.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "an operator would hide the rounding")]
    pub fn add(self, other: Self) -> Self {
        let finite = |value: Self| match value.class {
            Class::Finite { mantissa, exponent } => Some((mantissa, exponent)),
            Class::Infinite | Class::NotANumber => None,
        };
        match (finite(self), finite(other)) {
            (Some(a), Some(b)) => self.add_finite(a, other, b),
            _ if self.is_nan() || other.is_nan() => Self::NAN,
            (None, None) if self.negative != other.negative => Self::NAN,
            (None, _) => self,
            _ => other,
        }
    }

    /// Whether this is no number: the sum of opposite infinities.
    #[must_use]
    pub fn is_nan(self) -> bool {
        self.class == Class::NotANumber
    }

    /// Whether this is an infinity of either sign.
    #[must_use]
    pub fn is_infinite(self) -> bool {
        self.class == Class::Infinite
    }

    /// The text of C's `%.17Lf` without trailing zeros, and without the point if nothing follows it;
    /// negative zero, which small negative numbers round to, is `0`.
    #[must_use]
    pub fn to_text(self) -> Vec<u8> {
        let (mantissa, exponent) = match self.class {
            Class::Finite { mantissa, exponent } => (mantissa, exponent),
            Class::Infinite => return if self.negative { b"-inf".into() } else { b"inf".into() },
            Class::NotANumber => return b"nan".into(),
        };
        let scaled = scale_to_places(mantissa, exponent);
        let digits = scaled.to_decimal();
        let mut text = Vec::with_capacity(digits.len() + 4);
        let (whole, fraction) = split_places(&digits);
        let fraction_len = fraction.iter().rposition(|&b| b != b'0').map_or(0, |at| at + 1);
        if self.negative && digits.iter().any(|&b| b != b'0') {
            text.push(b'-');
        }
        text.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
        if let Some(fraction) = fraction.get(..fraction_len).filter(|f| !f.is_empty()) {
            text.push(b'.');
            text.extend_from_slice(fraction);
        }
        text
    }

    const NAN: Self = Self { negative: false, class: Class::NotANumber };

    fn is_zero(self) -> bool {
        matches!(self.class, Class::Finite { mantissa: 0, .. })
    }

    fn rounded(negative: bool, magnitude: Magnitude) -> Self {
        let (mantissa, exponent) = magnitude.round(BITS, EXPONENT_MIN);
        // Rounding up may carry into a 65th bit, which is then the only one.
        let (mantissa, exponent) = match u64::try_from(mantissa) {
            Ok(mantissa) => (mantissa, exponent),
            Err(_) => (1 << 63, exponent + 1),
        };
        let class = if exponent > EXPONENT_MAX {
            Class::Infinite
        } else {
            Class::Finite { mantissa, exponent }
        };
        Self { negative, class }
    }

    fn add_finite(self, a: (u64, i64), other: Self, b: (u64, i64)) -> Self {
        // Of a zero and another number, the other: its exponent says nothing about its size.
        match (a.0, b.0) {
            (0, 0) => return Self { negative: self.negative && other.negative, ..Self::ZERO },
            (0, _) => return other,
            (_, 0) => return self,
            _ => {}
        }
        let ((high, high_negative), (low, low_negative)) = if a.1 >= b.1 {
            ((a, self.negative), (b, other.negative))
        } else {
            ((b, other.negative), (a, self.negative))
        };
        // 62 bits below the mantissa: what the shift drops beyond them is far from the rounding
        // point, and one bit remembers that there was something.
        let shift = u32::try_from(high.1 - low.1).unwrap_or(u32::MAX);
        let high_wide = u128::from(high.0) << 62;
        let low_wide = u128::from(low.0) << 62;
        let shifted = low_wide.checked_shr(shift).unwrap_or(0);
        let lost = shift >= 128 || (shifted << shift) != low_wide;
        let low_wide = shifted | u128::from(lost);
        let exponent = high.1 - 62;
        let (negative, sum) = if high_negative == low_negative {
            (high_negative, high_wide + low_wide)
        } else if high_wide >= low_wide {
            (high_negative, high_wide - low_wide)
        } else {
            (low_negative, low_wide - high_wide)
        };
        if sum == 0 {
            return Self::ZERO;
        }
        Self::rounded(negative, normalized(sum, exponent, false))
    }
}

/// A magnitude with its top bit where [`Magnitude`] wants it.
fn normalized(mantissa: u128, exponent: i64, sticky: bool) -> Magnitude {
    if mantissa == 0 {
        return Magnitude::ZERO;
    }
    let shift = mantissa.leading_zeros();
    Magnitude { mantissa: mantissa << shift, exponent: exponent - i64::from(shift), sticky }
}

/// Reads `digits [. digits] [e [sign] digits]`, all of the text, with at least one digit.
fn parse_decimal(text: &[u8]) -> Option<Magnitude> {
    let (mantissa, exponent) = match text.iter().position(|b| b.eq_ignore_ascii_case(&b'e')) {
        Some(at) => (text.get(..at)?, hex::parse_signed(text.get(at + 1..)?)?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|&b| b == b'.');
    let places = point.map_or(0, |at| mantissa.len() - at - 1);
    let mut number = Big::default();
    let mut digits = 0usize;
    for (at, &byte) in mantissa.iter().enumerate() {
        if Some(at) == point {
            continue;
        }
        let digit = char::from(byte).to_digit(10)?;
        number.multiply_add(10, digit);
        digits += 1;
    }
    if digits == 0 {
        return None;
    }
    let exponent = exponent.saturating_sub(i64::try_from(places).ok()?);
    Some(decimal_magnitude(number, exponent, i64::try_from(digits).ok()?))
}

/// `number * 10^exponent` to 128 bits, where `number` has at most `digits` decimal digits.
fn decimal_magnitude(mut number: Big, exponent: i64, digits: i64) -> Magnitude {
    if number.is_zero() {
        return Magnitude::ZERO;
    }
    // Far outside of the range the powers would only cost time.
    if exponent > DECIMAL_EXPONENT_BOUND {
        return Magnitude { mantissa: 1 << 127, exponent: 1 << 20, sticky: false };
    }
    if exponent + digits < -DECIMAL_EXPONENT_BOUND {
        return Magnitude { mantissa: 1 << 127, exponent: -(1 << 20), sticky: false };
    }
    if exponent >= 0 {
        for _ in 0..exponent {
            number.multiply_add(10, 0);
        }
        return number.magnitude();
    }
    let mut divisor = Big::default();
    divisor.multiply_add(1, 1);
    for _ in exponent..0 {
        divisor.multiply_add(10, 0);
    }
    number.quotient(divisor)
}

/// Digits behind the point in [`LongDouble::to_text`].
const PLACES: usize = 17;

/// `mantissa * 2^exponent * 10^PLACES` as an integer, rounded half to even.
fn scale_to_places(mantissa: u64, exponent: i64) -> Big {
    let scaled = u128::from(mantissa) * 10u128.pow(17);
    let mut number = Big::from_u128(scaled);
    match usize::try_from(exponent) {
        Ok(up) => number.shift_left(up),
        Err(_) => {
            let down = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
            // 64 bits of mantissa and 57 of the power of ten: the whole fits in 121 bits.
            let kept = scaled.checked_shr(down).unwrap_or(0);
            let half = 1u128.checked_shl(down - 1).unwrap_or(0);
            let dropped = scaled & half.wrapping_sub(1).wrapping_add(half);
            let up = half != 0 && (dropped > half || (dropped == half && kept & 1 == 1));
            number = Big::from_u128(kept + u128::from(up));
        }
    }
    number
}

/// Splits decimal digits before the last [`PLACES`], putting in the zeros that are missing.
fn split_places(digits: &[u8]) -> (&[u8], Vec<u8>) {
    match digits.len().checked_sub(PLACES) {
        Some(at) => {
            let (whole, fraction) = digits.split_at(at);
            (whole, fraction.to_vec())
        }
        None => {
            let mut fraction = vec![b'0'; PLACES - digits.len()];
            fraction.extend_from_slice(digits);
            (&[], fraction)
        }
    }
}

/// A natural number of any size: little-endian limbs of 32 bits, the last one not zero.
#[derive(Clone, Debug, Default)]
struct Big {
    limbs: Vec<u32>,
}

impl Big {
    fn from_u128(value: u128) -> Self {
        let mut number = Self::default();
        for shift in [96, 64, 32, 0] {
            number.shift_left(32);
            number.multiply_add(
                1,
                low_half(u64::try_from(value >> shift & 0xffff_ffff).unwrap_or(0)),
            );
        }
        number
    }

    fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    fn bits(&self) -> usize {
        let top = self.limbs.last().map_or(32, |limb| limb.leading_zeros() as usize);
        (self.limbs.len() + usize::from(self.is_zero())) * 32 - top
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            let wide = u64::from(*limb) * u64::from(factor) + carry;
            *limb = low_half(wide);
            carry = wide >> 32;
        }
        if carry != 0 {
            self.limbs.push(low_half(carry));
        }
    }

    fn shift_left(&mut self, by: usize) {
        if self.is_zero() {
            return;
        }
        let factor = 1u32 << (by % 32);
        self.multiply_add(factor, 0);
        self.limbs.splice(0..0, std::iter::repeat_n(0, by / 32));
    }

    /// Subtracts `other` if that is not greater, and tells whether it did.
    fn subtract_if_fits(&mut self, other: &Self) -> bool {
        let order = self.limbs.len().cmp(&other.limbs.len());
        if order.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev())).is_lt() {
            return false;
        }
        let mut borrow = false;
        let subtrahends = other.limbs.iter().copied().chain(std::iter::repeat(0));
        for (limb, subtrahend) in self.limbs.iter_mut().zip(subtrahends) {
            let (difference, under) = limb.overflowing_sub(subtrahend);
            let (difference, under_again) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = under || under_again;
        }
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        true
    }

    /// Divides to as many bits as rounding needs, the rest in `sticky`.
    fn quotient(mut self, mut divisor: Self) -> Magnitude {
        // Align so that the first quotient bit has a known weight, then divide bit by bit.
        let shift = as_exponent(self.bits()) - as_exponent(divisor.bits());
        match usize::try_from(shift) {
            Ok(up) => divisor.shift_left(up),
            Err(_) => self.shift_left(usize::try_from(shift.unsigned_abs()).unwrap_or(0)),
        }
        let mut quotient = 0u128;
        const QUOTIENT_BITS: i64 = 68;
        for _ in 0..QUOTIENT_BITS {
            quotient = (quotient << 1) | u128::from(self.subtract_if_fits(&divisor));
            self.shift_left(1);
        }
        normalized(quotient, shift - (QUOTIENT_BITS - 1), !self.is_zero())
    }

    /// The top 128 bits, the rest in `sticky`.
    fn magnitude(&self) -> Magnitude {
        let mut top = 0u128;
        let mut used = 0usize;
        for &limb in self.limbs.iter().rev().take(4) {
            top = (top << 32) | u128::from(limb);
            used += 1;
        }
        let below = self.limbs.len() - used;
        let sticky = self.limbs.iter().take(below).any(|&limb| limb != 0);
        normalized(top, as_exponent(below * 32), sticky)
    }

    /// The decimal digits, at least one.
    fn to_decimal(&self) -> Vec<u8> {
        const CHUNK: u64 = 1_000_000_000;
        let mut limbs = self.limbs.clone();
        let mut chunks = Vec::with_capacity(limbs.len() * 32 / 29 + 1);
        while !limbs.is_empty() {
            let mut remainder = 0u64;
            for limb in limbs.iter_mut().rev() {
                let wide = (remainder << 32) | u64::from(*limb);
                *limb = low_half(wide / CHUNK);
                remainder = wide % CHUNK;
            }
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
            chunks.push(remainder);
        }
        let mut digits = Vec::with_capacity(chunks.len() * 9 + 1);
        for (at, &chunk) in chunks.iter().rev().enumerate() {
            let text = super::decimal(chunk);
            let text = text.as_bytes();
            if at > 0 {
                digits.extend(std::iter::repeat_n(b'0', 9usize.saturating_sub(text.len())));
            }
            digits.extend_from_slice(text);
        }
        if digits.is_empty() {
            digits.push(b'0');
        }
        digits
    }
}

fn low_half(wide: u64) -> u32 {
    u32::try_from(wide & 0xffff_ffff).unwrap_or(0)
}

fn as_exponent(bits: usize) -> i64 {
    i64::try_from(bits).unwrap_or(i64::MAX)
}
