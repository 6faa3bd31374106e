//! Values in the form that JSON and CSV files have, where Arrow has none for all values of a type.
//!
//! Times are those of ISO 8601 and, for years beyond 9999 and before 1, of PostgreSQL; `file` reads all of
//! them back. Invariant: a value is written or the file fails; no text of an error is ever data.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, IntervalUnit, Schema,
    SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use highwater_values::spelling;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Arrow's own encoders.
static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

/// Dates, times and intervals as texts; none for other types.
///
/// # Errors
/// For a type of times that no column has.
pub(super) fn times(values: &dyn Array) -> Result<Option<StringArray>, ArrowError> {
    let texts = match values.data_type() {
        DataType::Date32 => each(values.as_primitive::<Date32Type>(), |day, text| {
            let (day, era) = spelling::day_text(i64::from(day));
            text.push_str(&day);
            text.push_str(era);
        }),
        DataType::Time64(TimeUnit::Microsecond) => each(values.as_primitive::<Time64MicrosecondType>(), push_time),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let zone = if zone.is_some() { "Z" } else { "" };
            each(values.as_primitive::<TimestampMicrosecondType>(), |micros, text| push_timestamp(micros, zone, text))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let texts = spelling::element_texts(&values.slice(0, values.len()))?;
            return Ok(Some(texts));
        }
        other if other.is_temporal() => {
            return Err(ArrowError::NotYetImplemented(format!("there is no text of {other}")));
        }
        _ => return Ok(None),
    };
    Ok(Some(texts))
}

fn each<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, push: impl Fn(T::Native, &mut String)) -> StringArray {
    let mut text = String::new();
    let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 24);
    for value in values {
        let Some(value) = value else {
            texts.append_null();
            continue;
        };
        text.clear();
        push(value, &mut text);
        texts.append_value(&text);
    }
    texts.finish()
}

/// Microseconds since midnight; a fraction has three digits or six.
fn push_time(micros: i64, text: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    // Strings take all.
    let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = match (fraction, fraction % 1000) {
        (0, _) => Ok(()),
        (_, 0) => write!(text, ".{:03}", fraction / 1000),
        _ => write!(text, ".{fraction:06}"),
    };
}

/// Microseconds since 1970.
fn push_timestamp(micros: i64, zone: &str, text: &mut String) {
    let (day, era) = spelling::day_text(micros.div_euclid(DAY));
    text.push_str(&day);
    text.push('T');
    push_time(micros.rem_euclid(DAY), text);
    text.push_str(zone);
    text.push_str(era);
}

/// Rows for Arrow's writer of CSV, which knows fewer times.
///
/// # Errors
/// For a type of times that no column has.
pub(super) fn for_csv(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = Vec::with_capacity(rows.num_columns());
    let mut fields = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let texts = times(column)?.map(|texts| Arc::new(texts) as ArrayRef);
        let column = texts.unwrap_or_else(|| Arc::clone(column));
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns)
}

/// Encodes what JSON has other forms for than Arrow's: times, jsonb, which stands for itself, and NaN and
/// the infinities, which are strings.
#[derive(Debug)]
pub(super) struct Values;

/// An encoder that is a function of the row.
struct Written<F>(F);

impl<F: FnMut(usize, &mut Vec<u8>)> Encoder for Written<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        (self.0)(row, out);
    }
}

fn written<'a>(values: &dyn Array, encode: impl FnMut(usize, &mut Vec<u8>) + 'a) -> Option<NullableEncoder<'a>> {
    Some(NullableEncoder::new(Box::new(Written(encode)), values.nulls().cloned()))
}

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        values: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        match values.data_type() {
            DataType::LargeUtf8 => {
                let documents = values.as_string::<i64>();
                Ok(written(values, move |row, out| out.extend_from_slice(documents.value(row).as_bytes())))
            }
            DataType::Float32 => floats::<Float32Type>(field, values),
            DataType::Float64 => floats::<Float64Type>(field, values),
            _ => Ok(times(values)?.and_then(|texts| written(values, move |row, out| quoted(texts.value(row), out)))),
        }
    }
}

/// Numbers as Arrow has them.
fn floats<'a, T>(field: &'a FieldRef, values: &'a dyn Array) -> Result<Option<NullableEncoder<'a>>, ArrowError>
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    let floats = values.as_primitive::<T>();
    let mut plain = make_encoder(field, values, &PLAIN)?;
    Ok(written(values, move |row, out| {
        let value: f64 = floats.value(row).into();
        match value {
            value if value.is_finite() => plain.encode(row, out),
            value if value.is_nan() => quoted("NaN", out),
            value => quoted(if value > 0.0 { "Infinity" } else { "-Infinity" }, out),
        }
    }))
}

/// A text that has nothing to be escaped.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, IntervalMonthDayNanoArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampSecondArray,
    };
    use arrow::datatypes::IntervalMonthDayNano;

    fn texts(values: &dyn Array) -> Vec<String> {
        let texts = times(values).expect("texts").expect("a type of times");
        texts.iter().map(|text| text.unwrap_or("null").to_owned()).collect()
    }

    #[test]
    fn all_times_have_a_text() {
        let midnights = Time64MicrosecondArray::from(vec![Some(DAY), None, Some(1_500_000), Some(1)]);
        assert_eq!(texts(&midnights), ["24:00:00", "null", "00:00:01.500", "00:00:00.000001"]);
        let dates = Date32Array::from(vec![19_723, 2_145_042_905, -719_163, -2_440_588]);
        assert_eq!(texts(&dates), ["2024-01-01", "5874897-12-31", "0001-12-31 BC", "4714-11-24 BC"]);
        let stamps = TimestampMicrosecondArray::from(vec![1_704_103_200_500_000, 253_402_300_800_000_000, -1]);
        let expected = ["2024-01-01T10:00:00.500", "10000-01-01T00:00:00", "1969-12-31T23:59:59.999999"];
        assert_eq!(texts(&stamps), expected);
        let instants = TimestampMicrosecondArray::from(vec![-62_135_596_800_000_001]).with_timezone("UTC");
        assert_eq!(texts(&instants), ["0001-12-31T23:59:59.999999Z BC"]);
        let intervals = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, -2, 3_000_000_000)]);
        assert_eq!(texts(&intervals), ["1 mon -2 days +00:00:03"]);
        assert!(times(&TimestampSecondArray::from(vec![1])).is_err());
    }

    #[test]
    fn times_of_csv_are_texts() {
        let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(DAY), None]));
        let rows = for_csv(&RecordBatch::try_from_iter([("t", times)]).expect("rows")).expect("rows");
        assert_eq!(rows.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("24:00:00"), None]);
    }
}
