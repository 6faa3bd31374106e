//! Reads numbers and booleans as PostgreSQL writes and takes them.
//!
//! Spaces may stand around a value. The common forms are tried first, as they come without spaces.

use super::Fault;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

/// Without the characters that C's `isspace` knows at both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\x0B', '\x0C', '\r'])
}

/// One of PostgreSQL's words for true and false or a beginning that only one of them has.
pub(super) fn boolean(text: &str) -> Result<bool, Fault> {
    let mut buffer = [0; 5];
    let text = trim(text).as_bytes();
    let lower = buffer.get_mut(..text.len()).ok_or(Fault::Syntax)?;
    lower.copy_from_slice(text);
    lower.make_ascii_lowercase();
    match &*lower {
        b"t" | b"tr" | b"tru" | b"true" | b"y" | b"ye" | b"yes" | b"on" | b"1" => Ok(true),
        b"f" | b"fa" | b"fal" | b"fals" | b"false" | b"n" | b"no" | b"of" | b"off" | b"0" => Ok(false),
        _ => Err(Fault::Syntax),
    }
}

/// An integer: decimal, or hexadecimal, octal or binary after `0x`, `0o` or `0b`.
#[inline]
pub(super) fn integer<T: TryFrom<i64>>(text: &str) -> Result<T, Fault> {
    let number = text.parse().or_else(|_| integer_with_prefix(trim(text)))?;
    T::try_from(number).map_err(|_| Fault::Range)
}

/// An underscore may stand before a digit, but not before all digits of a decimal integer.
#[cold]
fn integer_with_prefix(text: &str) -> Result<i64, Fault> {
    let (negative, digits) = sign(text);
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'_', ..] => return Err(Fault::Syntax),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.ends_with('_') || digits.contains("__") {
        return Err(Fault::Syntax);
    }
    let mut value = Some(0_u64);
    for character in digits.chars().filter(|character| *character != '_') {
        let digit = u64::from(character.to_digit(radix).ok_or(Fault::Syntax)?);
        value = value.and_then(|value| value.checked_mul(radix.into())?.checked_add(digit));
    }
    let value = value.ok_or(Fault::Range)?;
    let signed = if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    signed.ok_or(Fault::Range)
}

/// A float, or `NaN`, `Infinity` and their like.
#[inline]
pub(super) fn float<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, Fault> {
    let number: T = text.parse().or_else(|_| trim(text).parse()).map_err(|_| Fault::Syntax)?;
    let value: f64 = number.into();
    if (value == 0.0 || value.is_infinite()) && is_nonzero(text) { Err(Fault::Range) } else { Ok(number) }
}

/// Whether a float was written with a digit other than 0 before its exponent.
fn is_nonzero(text: &str) -> bool {
    text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A decimal number in units of its scale, rounded half away from zero; below `limit`.
pub(super) fn decimal(text: &str, limit: i128, scale: i8) -> Result<i128, Fault> {
    let (negative, number) = sign(trim(text));
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(bad_exponent)?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = whole.bytes().chain(fraction.bytes());
    let count = whole.len() + fraction.len();
    if count == 0 || !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return Err(not_decimal(number));
    }
    // By how many places the digits, read as an integer, are to be moved.
    let shift = i64::from(scale) + i64::from(exponent) - places(fraction.len());
    let kept = usize::try_from(places(count) + shift.min(0)).ok();
    let mut value: i128 = 0;
    for digit in digits.by_ref().take(kept.unwrap_or(0)) {
        value = times_ten(value, limit)? + i128::from(digit - b'0');
    }
    if kept.is_some() && digits.next().is_some_and(|digit| digit >= b'5') {
        value += 1;
    }
    for _ in 0..shift {
        if value == 0 {
            break;
        }
        value = times_ten(value, limit)?;
    }
    if value >= limit { Err(Fault::Overflow) } else { Ok(if negative { -value } else { value }) }
}

/// What reaches the limit, which is 10^38 at most, never falls below it again.
fn times_ten(value: i128, limit: i128) -> Result<i128, Fault> {
    value.checked_mul(10).filter(|value| *value < limit).ok_or(Fault::Overflow)
}

fn places(count: usize) -> i64 {
    i64::try_from(count).expect("no text is longer than memory")
}

fn bad_exponent(error: ParseIntError) -> Fault {
    let is_large = matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
    if is_large { Fault::Overflow } else { Fault::Syntax }
}

fn not_decimal(number: &str) -> Fault {
    let is = |word: &str| number.eq_ignore_ascii_case(word);
    match (is("nan"), is("inf") || is("infinity")) {
        (true, _) => Fault::Unsupported("there is no NaN in a numeric here; double precision has one"),
        (_, true) => Fault::Overflow,
        _ => Fault::Syntax,
    }
}

/// Takes the sign off; whether it is a minus.
pub(super) fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    }
}
