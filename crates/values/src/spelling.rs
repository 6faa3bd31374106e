//! Values in PostgreSQL's text form, where Arrow's is another one.
//!
//! An array's text is `{1,NULL,"a b"}`: its elements as they are written alone, in quotes where they
//! would be read as something else. [`crate::arrays`] reads it. That of a composite value is `(1,,"a b")`, of whose
//! fields those that are null have no text: [`crate::composites`] reads it.

use crate::zones::Zone;
use arrow::array::{Array, ArrayRef, AsArray as _, ListArray, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use std::fmt::Write as _;
use std::sync::Arc;

const DAY: i64 = 86_400_000_000;

/// A column's values as texts; none when they are written as others write them: whole numbers and
/// texts, and what only arrays spell in their own way.
#[must_use]
pub fn texts(array: &ArrayRef) -> Option<ArrayRef> {
    let texts: StringArray = match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().iter();
            values.map(|v| v.map(|v| float_text(v, &format!("{v:e}"), 15))).collect()
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().iter();
            values.map(|v| v.map(|v| float_text(f64::from(v), &format!("{v:e}"), 6))).collect()
        }
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            (0..values.len()).map(|at| values.is_valid(at).then(|| values.value_as_string(at))).collect()
        }
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().map(|v| v.map(date_text)).collect(),
        DataType::Time64(TimeUnit::Microsecond) => {
            let values = array.as_primitive::<Time64MicrosecondType>().iter();
            values.map(|v| v.map(time_text)).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() != "UTC" => {
            let zone = Zone::in_type(zone)?;
            let values = array.as_primitive::<TimestampMicrosecondType>().iter();
            values.map(|v| v.map(|v| zoned_text(v, &zone))).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            let values = array.as_primitive::<TimestampMicrosecondType>().iter();
            values.map(|v| v.map(|v| timestamp_text(v, zone))).collect()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().iter();
            values.map(|v| v.map(|v| interval_text(v.months, v.days, v.nanoseconds / 1000))).collect()
        }
        DataType::List(_) => array_texts(array.as_list::<i32>()).ok()?,
        DataType::Struct(_) => record_texts(array.as_struct()).ok()?,
        _ => return None,
    };
    Some(Arc::new(texts))
}

/// The values of any type as texts, in the form that they have within arrays.
///
/// # Errors
/// For a type that no column has.
pub fn element_texts(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    if let Some(texts) = texts(array) {
        return Ok(texts.as_string::<i32>().clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().clone(),
        DataType::Boolean => array.as_boolean().iter().map(|v| v.map(|v| if v { "t" } else { "f" })).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(|v| v.map(bytea_text)).collect(),
        _ => cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

/// Arrays as texts.
///
/// # Errors
/// For elements of a type that no column has.
pub fn array_texts(arrays: &ListArray) -> Result<StringArray, ArrowError> {
    let nested = matches!(arrays.value_type(), DataType::List(_));
    let elements = element_texts(arrays.values())?;
    let offsets = arrays.value_offsets();
    let text = |row: usize| {
        let mut text = String::from("{");
        for at in offsets[row] as usize..offsets[row + 1] as usize {
            if at > offsets[row] as usize {
                text.push(',');
            }
            match elements.is_valid(at).then(|| elements.value(at)) {
                None => text.push_str("NULL"),
                Some(element) if nested || !wants_quotes(element) => text.push_str(element),
                Some(element) => push_quoted(element, &mut text),
            }
        }
        text.push('}');
        text
    };
    Ok((0..arrays.len()).map(|row| arrays.is_valid(row).then(|| text(row))).collect())
}

/// Whether an element without quotes would be read as something else.
fn wants_quotes(element: &str) -> bool {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    element.is_empty() || element.eq_ignore_ascii_case("null") || element.contains(special)
}

/// Composite values as texts.
fn record_texts(records: &StructArray) -> Result<StringArray, ArrowError> {
    let fields = records.columns().iter().map(element_texts).collect::<Result<Vec<StringArray>, ArrowError>>()?;
    let text = |row: usize| {
        let mut text = String::from("(");
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            match field.is_valid(row).then(|| field.value(row)) {
                Some(field) if wants_quotes_in_record(field) => push_doubled(field, &mut text),
                Some(field) => text.push_str(field),
                None => {}
            }
        }
        text.push(')');
        text
    };
    Ok((0..records.len()).map(|row| records.is_valid(row).then(|| text(row))).collect())
}

/// Whether a field without quotes would be read as something else.
fn wants_quotes_in_record(field: &str) -> bool {
    let special = |c: char| matches!(c, '(' | ')' | ',' | '"' | '\\' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    field.is_empty() || field.contains(special)
}

/// A field in quotes, with quotes and backslashes in it twice.
fn push_doubled(field: &str, text: &mut String) {
    text.push('"');
    for c in field.chars() {
        if matches!(c, '"' | '\\') {
            text.push(c);
        }
        text.push(c);
    }
    text.push('"');
}

fn push_quoted(element: &str, text: &mut String) {
    text.push('"');
    for c in element.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

fn bytea_text(bytes: &[u8]) -> String {
    let mut text = String::from("\\x");
    for byte in bytes {
        // Strings take all.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An interval in PostgreSQL's own style: a part has a sign of its own, and a plus after a minus.
fn interval_text(months: i32, days: i32, micros: i64) -> String {
    let mut text = String::new();
    let mut negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let plus = if negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            // Strings take all.
            let _ = write!(text, "{plus}{count} {unit}{plural} ");
            negative = count < 0;
        }
    }
    if micros != 0 || text.is_empty() {
        let sign = if micros < 0 {
            "-"
        } else if negative {
            "+"
        } else {
            ""
        };
        let (seconds, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
        let _ = write!(text, "{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if fraction != 0 {
            let _ = write!(text, "{}", format!(".{fraction:06}").trim_end_matches('0'));
        }
    }
    text.trim_end().to_owned()
}

/// Microseconds since midnight.
fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { text } else { format!("{text}.{fraction:06}").trim_end_matches('0').to_owned() }
}

/// Microseconds since 1970, in the Gregorian calendar; years before 1 are told as BC.
fn timestamp_text(micros: i64, zone: &str) -> String {
    let (day, bc) = day_text(micros.div_euclid(DAY));
    format!("{day} {}{zone}{bc}", time_text(micros.rem_euclid(DAY)))
}

/// Microseconds since 1970 as the clocks of a zone show them, and by how much they are ahead of UTC.
fn zoned_text(micros: i64, zone: &Zone) -> String {
    // What is too far off has no offset that anybody knows.
    let local = zone.local(micros).unwrap_or(micros);
    let ahead = (local - micros) / 1_000_000;
    let (sign, ahead) = if ahead < 0 { ('-', -ahead) } else { ('+', ahead) };
    let (hours, minutes, seconds) = (ahead / 3600, ahead / 60 % 60, ahead % 60);
    let offset = match (minutes, seconds) {
        (0, 0) => format!("{sign}{hours:02}"),
        (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
    };
    timestamp_text(local, &offset)
}

/// Days since 1970.
fn date_text(days: i32) -> String {
    let (day, bc) = day_text(i64::from(days));
    day + bc
}

/// Year, month and day of a day since 1970, and what stands after them for years before 1.
#[must_use]
pub fn day_text(day: i64) -> (String, &'static str) {
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
    (format!("{shown:04}-{month:02}-{day:02}"), bc)
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
            assert_eq!(timestamp_text(micros, ""), text);
        }
        for (name, text) in [
            ("Europe/Berlin", "2024-02-29 13:34:56.789+01"),
            ("Asia/Kathmandu", "2024-02-29 18:19:56.789+05:45"),
            ("America/New_York", "2024-02-29 07:34:56.789-05"),
        ] {
            assert_eq!(zoned_text(1_709_210_096_789_000, &Zone::named(name).expect("a zone")), text);
        }
        assert_eq!((time_text(0), time_text(45_296_500_000)), ("00:00:00".into(), "12:34:56.5".into()));
    }

    #[test]
    fn arrays_are_spelled_as_postgresql_does() {
        let texts = ["", "a b", "NULL", "q\"\\", "plain", "a,b"];
        let words = ListArray::from_iter_primitive::<Date32Type, _, _>([Some([Some(0), None]), None]);
        assert_eq!(array_texts(&words).expect("texts"), StringArray::from(vec![Some("{1970-01-01,NULL}"), None]));
        let field = Arc::new(arrow::datatypes::Field::new_list_field(DataType::Utf8, true));
        let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 0, 6].into());
        let words = ListArray::new(field, offsets, Arc::new(StringArray::from(texts.to_vec())), None);
        let spelled = array_texts(&words).expect("texts");
        assert_eq!(spelled.value(0), "{}");
        assert_eq!(spelled.value(1), r#"{"","a b","NULL","q\"\\",plain,"a,b"}"#);
    }

    #[test]
    fn composite_values_are_spelled_as_postgresql_does() {
        use arrow::datatypes::{Field, Fields};
        let texts = ["", "a b", "NULL", "q\"\\", "plain", "(,)"];
        let fields: Fields =
            vec![Field::new("b", DataType::Boolean, true), Field::new("t", DataType::Utf8, true)].into();
        let booleans = arrow::array::BooleanArray::from(vec![Some(true), None, Some(false), None, None, None]);
        let columns: Vec<ArrayRef> = vec![Arc::new(booleans), Arc::new(StringArray::from(texts.to_vec()))];
        let valid = arrow::buffer::NullBuffer::from(vec![true, true, true, true, false, true]);
        let records: ArrayRef = Arc::new(StructArray::new(fields, columns, Some(valid)));
        let expected = [
            Some(r#"(t,"")"#),
            Some(r#"(,"a b")"#),
            Some("(f,NULL)"),
            Some(r#"(,"q""\\")"#),
            None,
            Some(r#"(,"(,)")"#),
        ];
        assert_eq!(record_texts(records.as_struct()).expect("texts"), StringArray::from(expected.to_vec()));
        let field = Arc::new(Field::new_list_field(records.data_type().clone(), true));
        let arrays = ListArray::new(field, arrow::buffer::OffsetBuffer::from_lengths([2, 4]), records, None);
        assert_eq!(array_texts(&arrays).expect("texts").value(0), r#"{"(t,\"\")","(,\"a b\")"}"#);
    }

    #[test]
    fn intervals_are_spelled_as_postgresql_does() {
        let cases = [
            (0, 0, 0, "00:00:00"),
            (14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789"),
            (-14, 3, -1, "-1 years -2 mons +3 days -00:00:00.000001"),
            (1, -1, 90_000_000_000, "1 mon -1 days +25:00:00"),
            (12, 0, 0, "1 year"),
        ];
        for (months, days, micros, text) in cases {
            assert_eq!(interval_text(months, days, micros), text);
        }
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
