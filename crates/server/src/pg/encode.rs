//! Rows as the protocol carries them.

use super::errors;
use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow_pg::datatypes::arrow_schema_to_pg_fields;
use arrow_pg::encode_recordbatch;
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use highwater::{Answer, RowStream};
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use std::sync::Arc;

/// The columns of rows.
pub(super) fn fields(schema: &SchemaRef, format: &Format) -> PgWireResult<Arc<Vec<FieldInfo>>> {
    Ok(Arc::new(arrow_schema_to_pg_fields(schema, format, None)?))
}

/// The rows as they come.
pub(super) fn rows(rows: RowStream, fields: Arc<Vec<FieldInfo>>) -> impl Stream<Item = PgWireResult<DataRow>> + Send {
    let batches = stream::unfold(Some(rows), |rows| async move {
        let mut rows = rows?;
        match rows.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(rows))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    batches.flat_map(move |batch| match batch {
        Ok(batch) => stream::iter(encode_recordbatch(Arc::clone(&fields), spelled(batch, &fields))).left_stream(),
        Err(error) => stream::once(std::future::ready(Err(errors::of(&error, 0)))).right_stream(),
    })
}

/// An answer with rows; its tag is completed with their number.
pub(super) fn response(answer: Answer, format: &Format) -> Result<QueryResponse, PgWireError> {
    let Answer { tag, rows: given, .. } = answer;
    let given = given.ok_or_else(|| errors::error("XX000", "an answer without rows was to be sent as rows"))?;
    let fields = fields(given.schema(), format)?;
    let mut response = QueryResponse::new(Arc::clone(&fields), rows(given, fields));
    response.set_command_tag(&verb(&tag));
    Ok(response)
}

/// The tag without the number of rows, which pgwire adds.
pub(super) fn verb(tag: &highwater::Tag) -> String {
    use highwater::Tag;
    match tag {
        Tag::Select => "SELECT".to_owned(),
        Tag::Fetch => "FETCH".to_owned(),
        Tag::Insert(_) => "INSERT 0".to_owned(),
        Tag::Update(_) => "UPDATE".to_owned(),
        Tag::Delete(_) => "DELETE".to_owned(),
        Tag::Copy(_) => "COPY".to_owned(),
        Tag::Plain(text) => text.clone(),
    }
}

/// The batch with what goes out as text in PostgreSQL's spelling, where arrow-pg has another one.
fn spelled(batch: RecordBatch, fields: &[FieldInfo]) -> RecordBatch {
    let is_text = |(array, field): (&ArrayRef, &FieldInfo)| field.format() == FieldFormat::Text && differs(array);
    if !batch.columns().iter().zip(fields).any(is_text) {
        return batch;
    }
    let column = |(array, field)| if is_text((array, field)) { texts_of(array) } else { Arc::clone(array) };
    let columns: Vec<ArrayRef> = batch.columns().iter().zip(fields).map(column).collect();
    let named = batch.schema_ref().fields().iter().zip(columns);
    let named = named.map(|(field, array)| (field.name().clone(), array, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap_or(batch)
}

fn differs(array: &ArrayRef) -> bool {
    use DataType::{Float32, Float64, Time64, Timestamp};
    matches!(array.data_type(), Float32 | Float64 | Time64(TimeUnit::Microsecond) | Timestamp(TimeUnit::Microsecond, _))
}

/// A column's values in PostgreSQL's text form.
fn texts_of(array: &ArrayRef) -> ArrayRef {
    let texts: StringArray = match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().iter();
            values.map(|v| v.map(|v| float_text(v, &format!("{v:e}"), 15))).collect()
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().iter();
            values.map(|v| v.map(|v| float_text(f64::from(v), &format!("{v:e}"), 6))).collect()
        }
        DataType::Time64(_) => {
            let values = array.as_primitive::<Time64MicrosecondType>().iter();
            values.map(|v| v.map(time_text)).collect()
        }
        DataType::Timestamp(_, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            let values = array.as_primitive::<TimestampMicrosecondType>().iter();
            values.map(|v| v.map(|v| timestamp_text(v) + zone)).collect()
        }
        _ => return Arc::clone(array),
    };
    Arc::new(texts)
}

/// Microseconds since midnight.
fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { text } else { format!("{text}.{fraction:06}").trim_end_matches('0').to_owned() }
}

/// Microseconds since 1970, in the Gregorian calendar; years before 1 are told as BC.
fn timestamp_text(micros: i64) -> String {
    const DAY: i64 = 86_400_000_000;
    let (day, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    // Howard Hinnant's civil_from_days: eras of 400 years that begin in March.
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (shown, bc) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    format!("{shown:04}-{month:02}-{day:02} {}{bc}", time_text(time))
}

/// A float as PostgreSQL prints it: the shortest digits that give it back, with an exponent from
/// `digits` digits before the point on or below 1e-4. `shortest` has the form `d.ddde5`.
fn float_text(value: f64, shortest: &str, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..digits).contains(&exponent) {
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
        let all: String = mantissa.chars().filter(|c| *c != '.').collect();
        let text = if exponent < 0 {
            format!("0.{}{all}", "0".repeat((-exponent - 1) as usize))
        } else {
            let whole = exponent as usize + 1;
            let padded = format!("{all:0<whole$}");
            let (before, after) = padded.split_at(whole);
            if after.is_empty() { before.to_owned() } else { format!("{before}.{after}") }
        };
        return format!("{sign}{text}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_postgresql_does() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999999"),
            (1_709_210_096_789_000, "2024-02-29 12:34:56.789"),
            (-62_135_596_800_000_000, "0001-01-01 00:00:00"),
            (-62_135_596_800_000_001, "0001-12-31 23:59:59.999999 BC"),
            (253_402_300_799_000_000, "9999-12-31 23:59:59"),
        ];
        for (micros, text) in cases {
            assert_eq!(timestamp_text(micros), text);
        }
        assert_eq!((time_text(0), time_text(45_296_500_000)), ("00:00:00".into(), "12:34:56.5".into()));
    }

    #[test]
    fn floats_are_spelled_as_postgresql_does() {
        let double = |v: f64| float_text(v, &format!("{v:e}"), 15);
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (10.5, "10.5"),
            (-2.25, "-2.25"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
            (1.0 / 3.0, "0.3333333333333333"),
        ];
        for (value, text) in cases {
            assert_eq!(double(value), text);
        }
        let single = |v: f32| float_text(f64::from(v), &format!("{v:e}"), 6);
        assert_eq!((single(0.1), single(1e6), single(123_456.0)), ("0.1".into(), "1e+06".into(), "123456".into()));
    }
}
