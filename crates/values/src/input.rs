//! Reads a column of text as a type, with PostgreSQL's rules and messages: what INSERT and COPY are given, what
//! files hold, and the texts that statements cast to times and intervals.
//!
//! It decides which reader a type has and words their faults. Invariants: a null stays one; the first
//! bad value by row is told; the readers give a `Fault` without text, so that good values cost nothing.

mod datetimes;
mod intervals;
mod numbers;

use crate::zones::Zone;
use crate::{arrays, bytea, composites};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanArray, LargeStringBuilder, ListArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Fields, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
pub use datetimes::{DAYS, MOMENTS, TIMES};
use highwater_jsonb::{self as jsonb, Malformed};
use std::sync::Arc;
use thiserror::Error as ThisError;

/// A value that is not of its type.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub struct BadValue {
    /// Which value, from 0.
    pub row: usize,
    /// The class of the error.
    pub sqlstate: &'static str,
    /// PostgreSQL's message.
    pub message: String,
    /// PostgreSQL's DETAIL.
    pub detail: Option<String>,
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is not written as the type is.
    Syntax,
    /// The integer or float is too large for the type, or the float too small.
    Range,
    /// The number has more digits than the decimal type.
    Overflow,
    /// A part of a date or a time, such as the month, is out of its range.
    Part,
    /// The date, timestamp or interval is out of the type's range.
    Moment,
    /// The offset from UTC is out of range.
    Zone,
    /// It is no bytea.
    Bytes(bytea::Malformed),
    /// PostgreSQL reads it but this database does not; what to do instead.
    Unsupported(&'static str),
}

type Read<T> = Result<T, (usize, Fault)>;

/// Reads text as values of type `to`; nulls stay.
///
/// # Errors
/// The first value that cannot be read; 0A000 when no value of the type can.
pub fn parse_text_column(values: &StringArray, to: &DataType) -> Result<ArrayRef, BadValue> {
    match to {
        DataType::List(field) => return lists(values, field),
        DataType::LargeUtf8 => return documents(values),
        DataType::Struct(fields) => return records(values, fields),
        _ => {}
    }
    read(values, to).map_err(|(row, fault)| {
        let value = if row < values.len() { values.value(row) } else { "" };
        let (sqlstate, message) = fault.words(value, to);
        BadValue { row, sqlstate, message, detail: fault.detail(to) }
    })
}

/// An interval from its text, of which microseconds can be written; none when it is none.
#[must_use]
pub fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    intervals::interval(text).ok()
}

fn read(values: &StringArray, to: &DataType) -> Read<ArrayRef> {
    Ok(match to {
        DataType::Utf8 => Arc::new(values.clone()),
        DataType::Boolean => Arc::new(booleans(values)?),
        DataType::Int16 => Arc::new(each::<Int16Type>(values, numbers::integer)?),
        DataType::Int32 => Arc::new(each::<Int32Type>(values, numbers::integer)?),
        DataType::Int64 => Arc::new(each::<Int64Type>(values, numbers::integer)?),
        DataType::Float32 => Arc::new(each::<Float32Type>(values, numbers::float)?),
        DataType::Float64 => Arc::new(each::<Float64Type>(values, numbers::float)?),
        DataType::Decimal128(precision, scale) => Arc::new(decimals(values, *precision, *scale)?),
        DataType::Binary => binaries(values)?,
        DataType::Date32 => Arc::new(each::<Date32Type>(values, datetimes::date)?),
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(each::<Time64MicrosecondType>(values, datetimes::time)?),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Arc::new(each::<TimestampMicrosecondType>(values, datetimes::timestamp)?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
            let instants = match Zone::of(zone) {
                Some(zone) => each::<TimestampMicrosecondType>(values, |text| datetimes::instant_in(&zone, text))?,
                None => each::<TimestampMicrosecondType>(values, datetimes::instant)?,
            };
            Arc::new(instants.with_timezone(Arc::clone(zone)))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Arc::new(each::<IntervalMonthDayNanoType>(values, intervals::interval)?)
        }
        _ => return Err((0, NO_READER)),
    })
}

/// Arrays from their texts; what is wrong with an element is told of it alone.
fn lists(values: &StringArray, field: &FieldRef) -> Result<ArrayRef, BadValue> {
    let (offsets, elements) = arrays::elements(values).map_err(|(row, malformed)| {
        let (sqlstate, message, detail) = malformed.words(values.value(row));
        BadValue { row, sqlstate, message, detail }
    })?;
    let elements = parse_text_column(&elements, field.data_type()).map_err(|bad| {
        let row = offsets.windows(2).position(|ends| ends[1] as usize > bad.row).unwrap_or(0);
        BadValue { row, ..bad }
    })?;
    Ok(Arc::new(ListArray::new(Arc::clone(field), offsets, elements, values.nulls().cloned())))
}

/// Composite values from their texts; what is wrong with a field is told of it alone.
fn records(values: &StringArray, fields: &Fields) -> Result<ArrayRef, BadValue> {
    let texts = composites::fields(values, fields.len()).map_err(|(row, malformed)| {
        let (sqlstate, message, detail) = malformed.words(values.value(row));
        BadValue { row, sqlstate, message, detail: Some(detail) }
    })?;
    let columns = texts.iter().zip(fields).map(|(texts, field)| parse_text_column(texts, field.data_type()));
    let columns = columns.collect::<Result<Vec<ArrayRef>, BadValue>>()?;
    Ok(Arc::new(StructArray::new(fields.clone(), columns, values.nulls().cloned())))
}

/// Texts as jsonb.
fn documents(values: &StringArray) -> Result<ArrayRef, BadValue> {
    let mut builder = LargeStringBuilder::with_capacity(values.len(), values.value_data().len());
    let mut document = String::new();
    for (row, value) in values.iter().enumerate() {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        document.clear();
        jsonb::normal_into(value, &mut document).map_err(|bad| {
            let Malformed { sqlstate, message, detail } = bad;
            BadValue { row, sqlstate, message: message.to_owned(), detail }
        })?;
        builder.append_value(&document);
    }
    Ok(Arc::new(builder.finish()))
}

const NO_READER: Fault = Fault::Unsupported("no values of this type can");

fn each<T: ArrowPrimitiveType>(
    values: &StringArray,
    reader: impl Fn(&str) -> Result<T::Native, Fault>,
) -> Read<PrimitiveArray<T>> {
    let mut natives = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        natives.push(match values.is_null(row) {
            true => T::default_value(),
            false => reader(values.value(row)).map_err(|fault| (row, fault))?,
        });
    }
    Ok(PrimitiveArray::new(natives.into(), values.nulls().cloned()))
}

fn booleans(values: &StringArray) -> Read<BooleanArray> {
    let reader =
        |(row, value): (usize, Option<&str>)| value.map(numbers::boolean).transpose().map_err(|fault| (row, fault));
    values.iter().enumerate().map(reader).collect()
}

fn decimals(values: &StringArray, precision: u8, scale: i8) -> Read<PrimitiveArray<Decimal128Type>> {
    let limit = 10_i128.checked_pow(precision.into()).ok_or((0, NO_READER))?;
    each::<Decimal128Type>(values, |text| numbers::decimal(text, limit, scale))?
        .with_precision_and_scale(precision, scale)
        .map_err(|_| (0, NO_READER))
}

fn binaries(values: &StringArray) -> Read<ArrayRef> {
    let mut builder = BinaryBuilder::with_capacity(values.len(), values.value_data().len() / 2);
    let mut bytes = Vec::new();
    for (row, value) in values.iter().enumerate() {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        bytes.clear();
        bytea::read(value, &mut bytes).map_err(|malformed| (row, Fault::Bytes(malformed)))?;
        builder.append_value(&bytes);
    }
    Ok(Arc::new(builder.finish()))
}

impl Fault {
    /// The SQLSTATE and PostgreSQL's message.
    fn words(self, value: &str, to: &DataType) -> (&'static str, String) {
        let name = name(to);
        match self {
            Self::Syntax => {
                let sqlstate = if to.is_temporal() { "22007" } else { "22P02" };
                (sqlstate, format!("invalid input syntax for type {name}: \"{value}\""))
            }
            Self::Range if to.is_floating() => {
                ("22003", format!("\"{}\" is out of range for type {name}", numbers::trim(value)))
            }
            Self::Range => ("22003", format!("value \"{value}\" is out of range for type {name}")),
            Self::Overflow => ("22003", "numeric field overflow".to_owned()),
            Self::Part if matches!(to, DataType::Interval(_)) => {
                ("22015", format!("interval field value out of range: \"{value}\""))
            }
            Self::Part => ("22008", format!("date/time field value out of range: \"{value}\"")),
            Self::Moment if *to == DataType::Date32 => ("22008", format!("date out of range: \"{value}\"")),
            Self::Moment if matches!(to, DataType::Interval(_)) => ("22008", "interval out of range".to_owned()),
            Self::Moment => ("22008", format!("timestamp out of range: \"{value}\"")),
            Self::Zone => ("22009", format!("time zone displacement out of range: \"{value}\"")),
            Self::Bytes(malformed) => (malformed.sqlstate(), malformed.to_string()),
            NO_READER => ("0A000", format!("values of type {to} cannot be read from text")),
            Self::Unsupported(advice) => ("0A000", format!("cannot read \"{value}\" as {name}: {advice}")),
        }
    }

    fn detail(self, to: &DataType) -> Option<String> {
        let (Self::Overflow, DataType::Decimal128(precision, scale)) = (self, to) else { return None };
        let digits = i16::from(*precision) - i16::from(*scale);
        let limit = if digits == 0 { "1".to_owned() } else { format!("10^{digits}") };
        let field = format!("A field with precision {precision}, scale {scale}");
        Some(format!("{field} must round to an absolute value less than {limit}."))
    }
}

/// How PostgreSQL calls a type in messages.
fn name(of: &DataType) -> &'static str {
    match of {
        DataType::Boolean => "boolean",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal128(..) => "numeric",
        DataType::Binary => "bytea",
        DataType::Date32 => "date",
        DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Interval(_) => "interval",
        _ => "text",
    }
}

#[cfg(test)]
mod tests;
