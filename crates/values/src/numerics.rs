//! Floating point as numeric, as PostgreSQL makes one of the other: a number is written with 15 significant digits,
//! a real with 6, and these are read and rounded to the numeric's scale, halves away from zero.
//!
//! So 1.005 is 1.01 with two digits behind the point, though the double is a little less. There is no NaN and no
//! infinity in a numeric here: they are out of its range.
//!
//! The other way a numeric becomes the number that is nearest to it. Arrow's casts divide, which rounds twice where
//! the numeric has more digits than a double, so that 0.12345678901234567 would not be the double of that name.

use arrow::array::{Array, AsArray, Decimal128Array, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use std::io::Write as _;
use std::str::FromStr;

/// Digits that a double precision number gives back as they were written.
const OF_DOUBLES: usize = 15;
/// The same of a real.
const OF_REALS: usize = 6;
/// Bytes that a float takes at most with so many digits and an exponent.
const LONGEST: usize = 32;
/// Bytes that a numeric's units take at most with an exponent.
const LONGEST_NUMERIC: usize = 48;

/// A column of floats as numerics; nulls stay.
///
/// # Errors
/// For a value that is out of the numeric's range, in Arrow's words, and for a column of other values.
pub fn of_floats(floats: &dyn Array, precision: u8, scale: i8) -> Result<Decimal128Array, ArrowError> {
    let read = |value: f64, digits: usize| {
        let beyond = || {
            let to = DataType::Decimal128(precision, scale);
            ArrowError::CastError(format!("Cannot cast to {to}. Overflowing on {value:?}"))
        };
        units(value, digits, precision, scale).ok_or_else(beyond)
    };
    let numerics: Decimal128Array = match floats.data_type() {
        DataType::Float64 => floats
            .as_primitive::<Float64Type>()
            .try_unary::<_, Decimal128Type, ArrowError>(|value| read(value, OF_DOUBLES))?,
        DataType::Float32 => floats
            .as_primitive::<Float32Type>()
            .try_unary::<_, Decimal128Type, ArrowError>(|value| read(value.into(), OF_REALS))?,
        other => return Err(no_floats(other)),
    };
    numerics.with_precision_and_scale(precision, scale)
}

/// The same with nulls for values that are out of the numeric's range.
///
/// # Errors
/// For a column of other values.
pub fn of_floats_that_fit(floats: &dyn Array, precision: u8, scale: i8) -> Result<Decimal128Array, ArrowError> {
    let numerics: Decimal128Array = match floats.data_type() {
        DataType::Float64 => floats
            .as_primitive::<Float64Type>()
            .unary_opt::<_, Decimal128Type>(|value| units(value, OF_DOUBLES, precision, scale)),
        DataType::Float32 => floats
            .as_primitive::<Float32Type>()
            .unary_opt::<_, Decimal128Type>(|value| units(value.into(), OF_REALS, precision, scale)),
        other => return Err(no_floats(other)),
    };
    numerics.with_precision_and_scale(precision, scale)
}

/// A column of numerics as the doubles that are nearest; nulls stay.
#[must_use]
pub fn as_doubles(numerics: &Decimal128Array) -> Float64Array {
    let scale = numerics.scale();
    match power_of_ten(scale, TENS_IN_DOUBLES) {
        Some(power) => {
            let power = power as f64;
            numerics.unary(|units| match units.unsigned_abs() <= WHOLE_IN_DOUBLES {
                true => units as f64 / power,
                false => nearest(units, scale),
            })
        }
        None => numerics.unary(|units| nearest(units, scale)),
    }
}

/// The same as reals.
#[must_use]
pub fn as_reals(numerics: &Decimal128Array) -> Float32Array {
    let scale = numerics.scale();
    match power_of_ten(scale, TENS_IN_REALS) {
        Some(power) => {
            let power = power as f32;
            numerics.unary(|units| match units.unsigned_abs() <= WHOLE_IN_REALS {
                true => units as f32 / power,
                false => nearest(units, scale),
            })
        }
        None => numerics.unary(|units| nearest(units, scale)),
    }
}

/// Whole numbers up to here are doubles, and so are these powers of ten, so that a division of one by the other is
/// rounded once.
const WHOLE_IN_DOUBLES: u128 = 1 << f64::MANTISSA_DIGITS;
const TENS_IN_DOUBLES: u32 = 22;
/// The same of reals.
const WHOLE_IN_REALS: u128 = 1 << f32::MANTISSA_DIGITS;
const TENS_IN_REALS: u32 = 10;

fn power_of_ten(scale: i8, largest: u32) -> Option<u128> {
    u32::try_from(scale).ok().filter(|scale| *scale <= largest).map(|scale| 10_u128.pow(scale))
}

/// The number that is nearest to a numeric, read of its digits.
fn nearest<T: FromStr + Default>(units: i128, scale: i8) -> T {
    let mut text = [0_u8; LONGEST_NUMERIC];
    let mut rest = text.as_mut_slice();
    let written = write!(rest, "{units}e{}", -i32::from(scale));
    let left = rest.len();
    let text = std::str::from_utf8(&text[..LONGEST_NUMERIC - left]).ok().filter(|_| written.is_ok());
    // Units and an exponent of two digits take 44 bytes at most, and are read.
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The text of the number that a double is taken for where it becomes a numeric of any digits.
#[must_use]
pub fn text_of_double(value: f64) -> String {
    text(value, OF_DOUBLES)
}

/// The same of a real.
#[must_use]
pub fn text_of_real(value: f32) -> String {
    text(value.into(), OF_REALS)
}

fn text(value: f64, digits: usize) -> String {
    let places = digits - 1;
    let written = format!("{value:.places$e}");
    // So few digits are the shortest ones of the double that is nearest to them, so it is written with them.
    written.parse::<f64>().map_or(written, |nearest| nearest.to_string())
}

fn no_floats(of: &DataType) -> ArrowError {
    ArrowError::CastError(format!("{of} is no floating point"))
}

/// A number of so many digits in units of a scale; none where the numeric has no room for it.
fn units(value: f64, digits: usize, precision: u8, scale: i8) -> Option<i128> {
    let is_told = value.fract() == 0.0 && value.abs() < 10_f64.powi(digits as i32);
    let (number, exponent) = if is_told { (value as i128, 0) } else { written(value, digits)? };
    let limit = 10_u128.pow(u32::from(precision.min(Decimal128Type::MAX_PRECISION)));
    moved(number, exponent + i32::from(scale)).filter(|units| units.unsigned_abs() < limit)
}

/// The first digits of a number as a whole one, and the power of ten that it is to be multiplied by; none of what is
/// no number.
fn written(value: f64, digits: usize) -> Option<(i128, i32)> {
    let places = digits - 1;
    let mut text = [0_u8; LONGEST];
    let mut rest = text.as_mut_slice();
    write!(rest, "{value:.places$e}").ok()?;
    let left = rest.len();
    let (mantissa, exponent) = std::str::from_utf8(&text[..LONGEST - left]).ok()?.split_once('e')?;
    let number = mantissa
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0_i128, |number, digit| number * 10 + i128::from(digit - b'0'));
    let number = if mantissa.starts_with('-') { -number } else { number };
    Some((number, exponent.parse::<i32>().ok()? - places as i32))
}

/// A whole number of at most 15 digits with its point moved by so many places, rounded half away from zero; none where
/// it is too large.
fn moved(number: i128, places: i32) -> Option<i128> {
    match 10_i128.checked_pow(places.unsigned_abs()) {
        Some(factor) if places >= 0 => number.checked_mul(factor),
        Some(factor) => Some((number + number.signum() * (factor / 2)) / factor),
        None if places >= 0 => (number == 0).then_some(0),
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Float64Array, Int32Array};

    fn double(value: f64, precision: u8, scale: i8) -> Option<String> {
        shown(&of_floats_that_fit(&Float64Array::from(vec![value]), precision, scale).expect("doubles"))
    }

    fn shown(numerics: &Decimal128Array) -> Option<String> {
        numerics.is_valid(0).then(|| numerics.value_as_string(0))
    }

    #[test]
    fn doubles_are_read_by_fifteen_digits_as_postgresql_has_them() {
        for (value, precision, scale, expected) in [
            (1.005, 10, 2, Some("1.01")),
            (0.285, 10, 2, Some("0.29")),
            (-1.005, 10, 2, Some("-1.01")),
            (2.675, 10, 2, Some("2.68")),
            (1.2345678901234568e+17, 10, 2, None),
            (1e+20, 10, 2, None),
            (9_999_999.995, 10, 2, Some("10000000.00")),
            (99_999_999.994, 10, 2, Some("99999999.99")),
            (99_999_999.995, 10, 2, None),
            (0.300_000_000_000_000_04, 10, 2, Some("0.30")),
            (1e-10, 10, 2, Some("0.00")),
            (-0.0, 10, 2, Some("0.00")),
            (5e-324, 10, 2, Some("0.00")),
            (100_000_000_000_000.5, 10, 2, None),
            (0.333_333_333_333_333_3, 10, 2, Some("0.33")),
            (0.666_666_666_666_666_6, 10, 2, Some("0.67")),
            (1e+22, 10, 2, None),
            (8.5, 10, 2, Some("8.50")),
            (-8.5, 10, 2, Some("-8.50")),
            (0.125, 10, 2, Some("0.13")),
            (0.375, 10, 2, Some("0.38")),
            (4.35, 10, 2, Some("4.35")),
            (-4.35, 10, 2, Some("-4.35")),
            (0.005, 10, 2, Some("0.01")),
            (0.015, 10, 2, Some("0.02")),
            (0.025, 10, 2, Some("0.03")),
            (0.045, 10, 2, Some("0.05")),
            (123_456_789.987_654_33, 10, 2, None),
            (9.995, 10, 2, Some("10.00")),
            (100_000_000.0, 10, 2, None),
            (1.2345678901234568e+17, 38, 10, Some("123456789012346000.0000000000")),
            (1e+20, 38, 10, Some("100000000000000000000.0000000000")),
            (1e+27, 38, 10, Some("1000000000000000000000000000.0000000000")),
            (0.300_000_000_000_000_04, 38, 10, Some("0.3000000000")),
            (1e-10, 38, 10, Some("0.0000000001")),
            (5e-11, 38, 10, Some("0.0000000001")),
            (4.9e-11, 38, 10, Some("0.0000000000")),
            (5e-324, 38, 10, Some("0.0000000000")),
            (100_000_000_000_000.5, 38, 10, Some("100000000000000.0000000000")),
            (100_000_000_000_001.5, 38, 10, Some("100000000000002.0000000000")),
            (0.333_333_333_333_333_3, 38, 10, Some("0.3333333333")),
            (0.666_666_666_666_666_6, 38, 10, Some("0.6666666667")),
            (1e+22, 38, 10, Some("10000000000000000000000.0000000000")),
            (5.795, 20, 6, Some("5.795000")),
            (7.02, 20, 6, Some("7.020000")),
            (-2.230_410_440_553_568, 30, 20, Some("-2.23041044055357000000")),
            (-499_263.778_326_188_6, 10, 2, Some("-499263.78")),
            (941_651.860_134_499_1, 30, 20, Some("941651.86013449900000000000")),
            (7.955, 10, 2, Some("7.96")),
            (24_892_373_188_936.0, 38, 10, Some("24892373188936.0000000000")),
            (2.19, 10, 2, Some("2.19")),
            (9.186_328_929_156_19, 20, 6, Some("9.186329")),
            (-475_444.288_421_466_5, 10, 2, Some("-475444.29")),
            (771_009.587_862_484_9, 10, 2, Some("771009.59")),
            (-428_912.915_815_966_55, 10, 2, Some("-428912.92")),
            (-6.415_441_405_659_839, 38, 10, Some("-6.4154414057")),
            (3.2746211834276835e-07, 38, 10, Some("0.0000003275")),
        ] {
            assert_eq!(double(value, precision, scale).as_deref(), expected, "{value} of {precision}, {scale}");
        }
    }

    #[test]
    fn reals_are_read_by_six_digits_as_postgresql_has_them() {
        for (value, precision, scale, expected) in [
            (1.005_f32, 12, 3, Some("1.005")),
            (0.285_f32, 12, 3, Some("0.285")),
            (2.675_f32, 12, 3, Some("2.675")),
            (0.333_333_34_f32, 12, 3, Some("0.333")),
            (0.666_666_7_f32, 12, 3, Some("0.667")),
            (0.125_f32, 12, 3, Some("0.125")),
            (123_456_790.0_f32, 12, 3, Some("123457000.000")),
            (9.995_f32, 12, 3, Some("9.995")),
            (100_000_000.0_f32, 12, 3, Some("100000000.000")),
            (4_503_599_600_000_000.0_f32, 12, 3, None),
            (0.022_402_79_f32, 30, 20, Some("0.02240280000000000000")),
            (2.8078998e-15_f32, 38, 0, Some("0")),
            (-6.371_762_3_f32, 10, 2, Some("-6.37")),
            (-377_775.78_f32, 20, 6, Some("-377776.000000")),
            (774_547.4_f32, 38, 10, Some("774547.0000000000")),
            (715_659.06_f32, 38, 10, Some("715659.0000000000")),
            (-205.021_13_f32, 38, 10, Some("-205.0210000000")),
            (662_370.75_f32, 38, 10, Some("662371.0000000000")),
        ] {
            let read = of_floats_that_fit(&Float32Array::from(vec![value]), precision, scale).expect("reals");
            assert_eq!(shown(&read).as_deref(), expected, "{value} of {precision}, {scale}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_told_and_nulls_stay() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e8, -1e8, 99_999_999.995, 1e300] {
            let found = of_floats(&Float64Array::from(vec![Some(1.0), None, Some(value)]), 10, 2);
            let message = found.expect_err("out of range").to_string();
            assert!(message.contains("Cannot cast to Decimal128(10, 2). Overflowing on "), "{message}");
            assert_eq!(double(value, 10, 2), None, "{value}");
        }
        assert!(of_floats(&Float32Array::from(vec![f32::NAN]), 38, 10).is_err());
        assert!(of_floats(&Int32Array::from(vec![1]), 10, 2).is_err());
        let found = of_floats(&Float64Array::from(vec![Some(0.285), None]), 10, 2).expect("in range");
        assert_eq!(found.iter().collect::<Vec<_>>(), [Some(29), None]);
    }

    #[test]
    fn numerics_become_the_nearest_numbers() {
        let numerics = |units: Vec<Option<i128>>, scale| {
            Decimal128Array::from(units).with_precision_and_scale(38, scale).expect("fits")
        };
        for (units, scale) in [
            (12_345_678_901_234_567, 17),
            (12_345_678_901_234_568, 17),
            (-9_007_199_254_740_993, 0),
            (9_007_199_254_740_992, 22),
            (1_234_567_890_123_456_789_012_345_678_901_234_567, 30),
            (99_999_999_999_999_999_999_999_999_999_999_999_999, 38),
            (15, 1),
            (-1, 38),
            (16_777_217, 0),
            (16_777_217, 7),
            (123, 20),
            (0, 5),
        ] {
            let made = numerics(vec![Some(units), None], scale);
            let text = made.value_as_string(0);
            let (double, real) = (text.parse::<f64>().expect("a number"), text.parse::<f32>().expect("a number"));
            assert_eq!(as_doubles(&made).iter().collect::<Vec<_>>(), [Some(double), None], "{text}");
            assert_eq!(as_reals(&made).iter().collect::<Vec<_>>(), [Some(real), None], "{text}");
        }
        let hundreds = numerics(vec![Some(7)], -2);
        assert_eq!((as_doubles(&hundreds).value(0), as_reals(&hundreds).value(0)), (700.0, 700.0));
    }

    #[test]
    fn texts_have_the_digits_that_are_read() {
        let doubles = [0.1 + 0.2, 1.005, 123_456_789_012_345_680.0, 1e-7, -0.5, f64::NAN].map(text_of_double);
        assert_eq!(doubles, ["0.3", "1.005", "123456789012346000", "0.0000001", "-0.5", "NaN"]);
        assert_eq!([0.1_f32, 1_234_567.0, 2.5].map(text_of_real), ["0.1", "1234570", "2.5"]);
    }
}
