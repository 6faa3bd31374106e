//! `to_char`, `to_date`, `to_timestamp` and `to_number` with PostgreSQL's patterns, in the places of DataFusion's
//! functions of these names, whose patterns are others.
//!
//! `pattern` and `numbers` know the patterns, `times` and `numbers` write values by them, `reading` reads dates
//! and times, and `numbers` reads numbers. A pattern that is written out is looked at when the query is planned:
//! what is not done in it is refused there.

mod numbers;
mod pattern;
mod reading;
mod times;

use crate::error::DataError;
use crate::types::{is_text, numeric, pg_name};
use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use numbers::Pattern;
use pattern::{Part, parts};
use std::sync::Arc;

const DAY: i64 = 86_400_000_000;
/// Seconds from 1970 to 2000, from which PostgreSQL counts.
const TO_2000: f64 = 946_684_800.0;
/// Digits that floating point surely has.
const DIGITS: usize = 15;
const DIGITS_OF_REAL: usize = 6;

/// Makes the functions known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for kind in [Kind::Char, Kind::Date, Kind::Timestamp, Kind::Number] {
        let function = Formatted { kind, signature: Signature::user_defined(Volatility::Immutable) };
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    Ok(())
}

pub(super) fn data_error(sqlstate: &'static str, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message }))
}

/// A part of a pattern that is not done.
pub(super) fn unsupported(part: &str, pattern: &str) -> DataFusionError {
    data_error("0A000", format!("{part} in the pattern \"{pattern}\" is not supported"))
}

/// Refuses a pattern by which no date or time is read.
///
/// # Errors
/// That of the first text which is read by it.
pub(crate) fn check_read(pattern: &str) -> Result<()> {
    reading::check(&parts(pattern)?, pattern)
}

/// What a function makes: `to_char` texts, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Char,
    Date,
    Timestamp,
    Number,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Formatted {
    kind: Kind,
    signature: Signature,
}

const STAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type in which a value is written; none when it is not.
fn writable(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Null | DataType::Date32 | DataType::Timestamp(_, None) => Some(STAMP),
        DataType::Timestamp(_, Some(_)) => Some(instant()),
        DataType::Float32 => Some(DataType::Float32),
        DataType::Float16 | DataType::Float64 => Some(DataType::Float64),
        DataType::Decimal128(..) => Some(of.clone()),
        DataType::UInt64 => Some(DataType::Decimal128(20, 0)),
        of if of.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

const fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(..))
}

/// A pattern taken apart.
enum Parts {
    Times(Vec<Part>),
    Numbers(Pattern),
}

impl Parts {
    fn of(pattern: &str, of_times: bool) -> Result<Self> {
        if of_times { parts(pattern).map(Self::Times) } else { Pattern::of(pattern).map(Self::Numbers) }
    }
}

/// Patterns by row; the last one is kept taken apart.
struct Patterns<'a> {
    texts: &'a StringArray,
    of_times: bool,
    last: Option<(&'a str, Parts)>,
}

impl<'a> Patterns<'a> {
    const fn new(texts: &'a StringArray, of_times: bool) -> Self {
        Self { texts, of_times, last: None }
    }

    /// That of a row which has one.
    fn at(&mut self, row: usize) -> Result<(&'a str, &Parts)> {
        let text = self.texts.value(row);
        let kept = self.last.take().filter(|(known, _)| *known == text);
        let kept = match kept {
            Some(kept) => kept,
            None => (text, Parts::of(text, self.of_times)?),
        };
        Ok((text, &self.last.insert(kept).1))
    }
}

/// The digits of a value, rounded to so many behind the point.
fn digits(values: &ArrayRef, row: usize, after: usize) -> String {
    match values.data_type() {
        DataType::Float32 => {
            let value = values.as_primitive::<Float32Type>().value(row);
            rounded(f64::from(value), after, DIGITS_OF_REAL)
        }
        DataType::Float64 => rounded(values.as_primitive::<Float64Type>().value(row), after, DIGITS),
        DataType::Decimal128(_, scale) => {
            let value = values.as_primitive::<Decimal128Type>().value(row);
            decimal(value, usize::try_from(*scale).unwrap_or(0), after)
        }
        _ => values.as_primitive::<Int64Type>().value(row).to_string(),
    }
}

/// Floating point with no more digits than it has.
fn rounded(value: f64, after: usize, digits: usize) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let before = format!("{:.0}", value.abs()).len();
    format!("{value:.after$}", after = after.min(digits.saturating_sub(before)))
}

/// A numeric by its digits without point; halves go away from zero.
fn decimal(value: i128, scale: usize, after: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let mut magnitude = value.unsigned_abs();
    let kept = scale.min(after);
    if kept < scale {
        let unit = 10_u128.pow((scale - kept) as u32);
        magnitude = magnitude / unit + u128::from(magnitude % unit >= unit / 2);
    }
    let all = format!("{magnitude:0>width$}", width = kept + 1);
    let (whole, fraction) = all.split_at(all.len() - kept);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn to_char(values: &ArrayRef, patterns: &StringArray) -> Result<ArrayRef> {
    let mut by_row = Patterns::new(patterns, is_time(values.data_type()));
    let zone = if matches!(values.data_type(), DataType::Timestamp(_, Some(_))) { "UTC" } else { "" };
    let mut texts = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        if values.is_null(row) || patterns.is_null(row) {
            texts.push(None);
            continue;
        }
        let (pattern, parts) = by_row.at(row)?;
        let text = match parts {
            // PostgreSQL gives null for an empty pattern.
            _ if pattern.is_empty() => None,
            Parts::Times(parts) => {
                let micros = values.as_primitive::<TimestampMicrosecondType>().value(row);
                let text = times::written(parts, micros, zone);
                Some(text.ok_or_else(|| data_error("22008", "timestamp out of range".to_owned()))?)
            }
            Parts::Numbers(pattern) => Some(pattern.written(&digits(values, row, pattern.after))),
        };
        texts.push(text);
    }
    Ok(Arc::new(StringArray::from(texts)))
}

/// Microseconds since 1970 of texts.
fn read(texts: &StringArray, patterns: &StringArray) -> Result<Vec<Option<i64>>> {
    let mut by_row = Patterns::new(patterns, true);
    let read = |row: usize| -> Result<Option<i64>> {
        if texts.is_null(row) || patterns.is_null(row) {
            return Ok(None);
        }
        match by_row.at(row)? {
            (pattern, Parts::Times(parts)) => reading::read(texts.value(row), parts, pattern).map(Some),
            (_, Parts::Numbers(_)) => plan_err!("dates are not read by patterns of numbers"),
        }
    };
    (0..texts.len()).map(read).collect()
}

/// The digits of numbers in texts, so many of them behind the point.
fn numbers(texts: &StringArray, patterns: &StringArray, scale: i8) -> Result<Vec<Option<i128>>> {
    let mut by_row = Patterns::new(patterns, false);
    let read = |row: usize| -> Result<Option<i128>> {
        if texts.is_null(row) || patterns.is_null(row) {
            return Ok(None);
        }
        match by_row.at(row)? {
            // PostgreSQL gives null for an empty pattern.
            ("", _) => Ok(None),
            (_, Parts::Numbers(pattern)) => {
                let invalid = || data_error("22P02", "invalid input syntax for type numeric: \" \"".to_owned());
                let digits = pattern.read(texts.value(row)).ok_or_else(invalid)?;
                let number = unscaled(&digits, usize::try_from(scale).unwrap_or(0));
                number.map(Some).ok_or_else(|| data_error("22003", "numeric field overflow".to_owned()))
            }
            (_, Parts::Times(_)) => plan_err!("numbers are not read by patterns of times"),
        }
    };
    (0..texts.len()).map(read).collect()
}

/// A number without its point, so many digits of it behind that; none when it has too many.
fn unscaled(digits: &str, scale: usize) -> Option<i128> {
    let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (kept, rest) = fraction.split_at(fraction.len().min(scale));
    let is_up = rest.bytes().next().is_some_and(|digit| digit >= b'5');
    let magnitude: u128 = format!("0{whole}{kept:0<scale$}").parse().ok()?;
    let magnitude = i128::try_from(magnitude.checked_add(u128::from(is_up))?).ok()?;
    (magnitude < 10_i128.pow(38)).then_some(if is_negative { -magnitude } else { magnitude })
}

/// The instant of seconds since 1970.
fn from_epoch(seconds: f64) -> Result<i64> {
    if seconds.is_nan() {
        return Err(data_error("22008", "timestamp cannot be NaN".to_owned()));
    }
    let micros = ((seconds - TO_2000) * 1e6).round_ties_even() + TO_2000 * 1e6;
    // From 4713 BC up to the end of 294276.
    if (-210_866_803_200_000_000.0..9_224_318_016_000_000_000.0).contains(&micros) && micros < i64::MAX as f64 {
        return Ok(micros as i64);
    }
    Err(data_error("22008", format!("timestamp out of range: \"{seconds}\"")))
}

impl Formatted {
    fn computed(&self, args: &[ArrayRef], gives: &DataType) -> Result<ArrayRef> {
        match (self.kind, args) {
            (Kind::Char, [values, patterns]) => to_char(values, patterns.as_string::<i32>()),
            (Kind::Number, [texts, patterns]) => {
                let DataType::Decimal128(precision, scale) = *gives else { return plan_err!("{gives} is no numeric") };
                let numbers = numbers(texts.as_string::<i32>(), patterns.as_string::<i32>(), scale)?;
                Ok(Arc::new(Decimal128Array::from(numbers).with_precision_and_scale(precision, scale)?))
            }
            (Kind::Timestamp, [seconds]) => {
                let seconds = seconds.as_primitive::<Float64Type>();
                let instants: TimestampMicrosecondArray = seconds.try_unary(from_epoch)?;
                Ok(Arc::new(instants.with_timezone("UTC")))
            }
            (Kind::Timestamp, [texts, patterns]) => {
                let instants = read(texts.as_string::<i32>(), patterns.as_string::<i32>())?;
                Ok(Arc::new(TimestampMicrosecondArray::from(instants).with_timezone("UTC")))
            }
            (Kind::Date, [texts, patterns]) => {
                let micros = read(texts.as_string::<i32>(), patterns.as_string::<i32>())?;
                let day = |micros: i64| i32::try_from(micros.div_euclid(DAY)).ok();
                let days: Date32Array = micros.into_iter().map(|micros| micros.and_then(day)).collect();
                Ok(Arc::new(days))
            }
            _ => plan_err!("{} is given {} values", self.name(), args.len()),
        }
    }
}

impl ScalarUDFImpl for Formatted {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Char => "to_char",
            Kind::Date => "to_date",
            Kind::Timestamp => "to_timestamp",
            Kind::Number => "to_number",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let takes_text = |of: &DataType| is_text(of) || of.is_null();
        let taken = match (self.kind, given) {
            (Kind::Char, [value, pattern]) if takes_text(pattern) => writable(value).map(|of| vec![of, DataType::Utf8]),
            (Kind::Date | Kind::Timestamp | Kind::Number, [text, pattern])
                if takes_text(text) && takes_text(pattern) =>
            {
                Some(vec![DataType::Utf8, DataType::Utf8])
            }
            (Kind::Timestamp, [seconds]) if seconds.is_numeric() || seconds.is_null() => Some(vec![DataType::Float64]),
            _ => None,
        };
        taken.map_or_else(
            || {
                let given: Vec<String> = given.iter().map(pg_name).collect();
                plan_err!("function {}({}) does not exist", self.name(), given.join(", "))
            },
            Ok,
        )
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Char => DataType::Utf8,
            Kind::Date => DataType::Date32,
            Kind::Timestamp => instant(),
            Kind::Number => numeric(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let pattern =
            args.scalar_arguments.get(1).copied().flatten().and_then(|pattern| pattern.try_as_str().flatten());
        let mut gives = self.return_type(&[])?;
        if let (Some(pattern), Some(value)) = (pattern, args.arg_fields.first()) {
            let of_times = match self.kind {
                Kind::Char => writable(value.data_type()).is_none_or(|of| is_time(&of)),
                Kind::Date | Kind::Timestamp => true,
                Kind::Number => false,
            };
            if let (Kind::Number, Parts::Numbers(numbers)) = (self.kind, Parts::of(pattern, of_times)?) {
                // It has the digits that the pattern has.
                gives = DataType::Decimal128(38, i8::try_from(numbers.after).unwrap_or(38).min(38));
            }
        }
        Ok(Arc::new(Field::new(self.name(), gives, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = self.computed(&arrays, args.return_field.data_type())?;
        if is_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_rounded_as_their_types_are() {
        assert_eq!(decimal(12_345, 2, 1), "123.5");
        assert_eq!(decimal(-5, 1, 0), "-1");
        assert_eq!(decimal(5, 2, 2), "0.05");
        assert_eq!(rounded(0.125, 2, 15), "0.12");
        assert_eq!(rounded(1e15, 3, 15), "1000000000000000");
    }

    #[test]
    fn numbers_have_the_digits_of_their_type() {
        for (digits, scale, number) in [
            ("-12454.8", 1, -124_548),
            (".5", 2, 50),
            ("1.25", 1, 13),
            ("-0.05", 1, -1),
            ("007", 0, 7),
            ("12", 2, 1200),
        ] {
            assert_eq!(unscaled(digits, scale), Some(number), "{digits}");
        }
        assert_eq!(unscaled(&"9".repeat(39), 0), None);
        assert_eq!(unscaled(&"9".repeat(30), 10), None);
    }

    #[test]
    fn seconds_are_instants_where_there_are_such() {
        assert_eq!(from_epoch(1.5).expect("a time"), 1_500_000);
        assert_eq!(from_epoch(1_709_647_629.25).expect("a time"), 1_709_647_629_250_000);
        for seconds in [f64::NAN, f64::INFINITY, 1e18, -1e18] {
            assert!(from_epoch(seconds).is_err(), "{seconds}");
        }
    }
}
