//! The values of text files as columns: the members of JSON objects, and the texts of CSV.
//!
//! Texts are read as PostgreSQL reads them, and so are numbers, digit by digit: none goes through
//! floating point that is not to be it. A member that is null, or not there, is a null; those of nested objects
//! are the fields of composite values.

use super::documents;
use crate::conform::read_texts;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, LargeStringBuilder, ListArray, RecordBatch, RecordBatchOptions,
    StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef, TimeUnit};
use highwater_jsonb::{self as jsonb, Kind};
use highwater_values::input::{DAYS, TIMES};
use memchr::memchr;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The most characters of a reason.
const LONGEST_REASON: usize = 500;

/// What a member that is not there is taken for.
const NULL: &str = "null";

/// The rows of JSON objects, one a text; none when there are no texts. Members that are not columns are
/// passed over.
///
/// # Errors
/// What is wrong with one of them.
pub(super) fn of_objects<'a>(
    objects: impl Iterator<Item = &'a [u8]>,
    schema: &SchemaRef,
) -> Result<Option<RecordBatch>, String> {
    let mut divided = Divided::new(schema.fields());
    let mut count = 0;
    for object in objects {
        count += 1;
        let text = std::str::from_utf8(object).map_err(|error| error.to_string())?;
        divided.push(text).map_err(|error| clipped(error.to_string()))?;
    }
    if count == 0 {
        return Ok(None);
    }
    let made = schema.fields().iter().zip(&divided.columns).map(|(field, values)| column(field, values));
    let made = made.collect::<Result<Vec<ArrayRef>, String>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), made, &options);
    rows.map(Some).map_err(|error| error.to_string())
}

/// Columns of texts with `columns`' types in their place.
///
/// # Errors
/// What is wrong with one of the texts.
pub(super) fn of_texts(texts: &RecordBatch, columns: SchemaRef) -> Result<RecordBatch, String> {
    let read = |(field, texts): (&FieldRef, &ArrayRef)| parsed(field, texts.as_string::<i32>());
    let made = columns.fields().iter().zip(texts.columns()).map(read).collect::<Result<Vec<ArrayRef>, String>>()?;
    RecordBatch::try_new(columns, made).map_err(|error| error.to_string())
}

/// The members of objects by the columns or fields that they are, as they are written.
struct Divided<'s, 'a> {
    places: HashMap<&'s str, usize>,
    columns: Vec<Vec<&'a str>>,
    /// Those of the last object.
    found: Vec<&'a str>,
}

impl<'s, 'a> Divided<'s, 'a> {
    fn new(fields: &'s Fields) -> Self {
        let places = fields.iter().enumerate().map(|(at, field)| (field.name().as_str(), at)).collect();
        Self { places, columns: vec![Vec::new(); fields.len()], found: vec![NULL; fields.len()] }
    }

    fn push(&mut self, object: &'a str) -> serde_json::Result<()> {
        self.found.fill(NULL);
        let mut rest = serde_json::Deserializer::from_str(object);
        let members = Members { places: &self.places, found: &mut self.found };
        members.deserialize(&mut rest).and_then(|()| rest.end())?;
        self.columns.iter_mut().zip(self.found.iter().copied()).for_each(|(column, value)| column.push(value));
        Ok(())
    }

    /// Takes no object, which has no members.
    fn push_null(&mut self) {
        self.columns.iter_mut().for_each(|column| column.push(NULL));
    }
}

/// Puts the members of an object that are columns into their places, as they are written.
struct Members<'s, 'a> {
    places: &'s HashMap<&'s str, usize>,
    found: &'s mut [&'a str],
}

impl<'a> DeserializeSeed<'a> for Members<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, object: D) -> Result<(), D::Error> {
        object.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object a line")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(place) = members.next_key_seed(Place(self.places))? {
            match place {
                Some(place) => self.found[place] = members.next_value::<&'a RawValue>()?.get(),
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The column that a member is, if it is one.
struct Place<'s>(&'s HashMap<&'s str, usize>);

impl<'a> DeserializeSeed<'a> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name).copied())
    }
}

/// A column from JSON values.
fn column(field: &Field, values: &[&str]) -> Result<ArrayRef, String> {
    match field.data_type() {
        DataType::Boolean => {
            let boolean = |value: &&str| match *value {
                NULL => Ok(None),
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                other => Err(wrong(field, other)),
            };
            Ok(Arc::new(values.iter().map(boolean).collect::<Result<BooleanArray, String>>()?))
        }
        DataType::List(of) => lists(field, of, values),
        DataType::Struct(fields) => records(field, fields, values),
        DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) => moments(field, values),
        _ if documents::is_document(field) => documents_of(field, values),
        _ => scalars(field, values),
    }
}

/// A column of jsonb.
fn documents_of(field: &Field, values: &[&str]) -> Result<ArrayRef, String> {
    let mut made = LargeStringBuilder::with_capacity(values.len(), values.iter().map(|value| value.len()).sum());
    let mut document = String::new();
    for value in values {
        if *value == NULL {
            made.append_null();
            continue;
        }
        document.clear();
        jsonb::normal_into(value, &mut document)
            .map_err(|bad| said(field, bad.detail.unwrap_or_else(|| bad.message.to_owned())))?;
        made.append_value(&document);
    }
    Ok(Arc::new(made.finish()))
}

fn lists(field: &Field, of: &FieldRef, values: &[&str]) -> Result<ArrayRef, String> {
    let (mut lengths, mut valid) = (Vec::with_capacity(values.len()), Vec::with_capacity(values.len()));
    let mut elements: Vec<&str> = Vec::new();
    for value in values {
        let before = elements.len();
        if *value != NULL {
            let found: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| wrong(field, value))?;
            elements.extend(found.into_iter().map(RawValue::get));
        }
        lengths.push(elements.len() - before);
        valid.push(*value != NULL);
    }
    // Elements are told by the name of their column.
    let element = of.as_ref().clone().with_name(field.name());
    let elements = column(&element, &elements)?;
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    let lists = ListArray::try_new(Arc::clone(of), OffsetBuffer::from_lengths(lengths), elements, nulls);
    lists.map(|lists| Arc::new(lists) as ArrayRef).map_err(|error| said(field, error))
}

/// A column of composite values from objects. Members that are not fields are passed over.
fn records(field: &Field, fields: &Fields, values: &[&str]) -> Result<ArrayRef, String> {
    let mut divided = Divided::new(fields);
    for value in values {
        match *value {
            NULL => divided.push_null(),
            object => divided.push(object).map_err(|_| wrong(field, object))?,
        }
    }
    let made = fields.iter().zip(&divided.columns).map(|(of, values)| {
        // Fields are told with the names of what they are in.
        let of = of.as_ref().clone().with_name(format!("{}.{}", field.name(), of.name()));
        column(&of, values)
    });
    let made = made.collect::<Result<Vec<ArrayRef>, String>>()?;
    let nulls = NullBuffer::from(values.iter().map(|value| *value != NULL).collect::<Vec<bool>>());
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    let records = StructArray::try_new(fields.clone(), made, nulls);
    records.map(|records| Arc::new(records) as ArrayRef).map_err(|error| said(field, error))
}

/// A column of what JSON writes as strings or numbers.
fn scalars(field: &Field, values: &[&str]) -> Result<ArrayRef, String> {
    let takes_numbers = field.data_type().is_numeric();
    let mut texts = StringBuilder::with_capacity(values.len(), values.iter().map(|value| value.len()).sum());
    for value in values {
        match Kind::of(value) {
            Kind::Null => texts.append_null(),
            Kind::String => texts.append_value(text_of(value).map_err(|error| said(field, error))?),
            Kind::Number if takes_numbers => texts.append_value(value),
            _ => return Err(wrong(field, value)),
        }
    }
    parsed(field, &texts.finish())
}

/// A column of dates or times, of which some may be numbers.
fn moments(field: &Field, values: &[&str]) -> Result<ArrayRef, String> {
    let of = field.data_type();
    if !values.iter().any(|value| is_number(value)) {
        return scalars(field, values);
    }
    let number = |value: &&str| match is_number(value) {
        true => moment(value, of).map(Some).ok_or_else(|| wrong(field, value)),
        false => Ok(None),
    };
    let numbers = values.iter().map(number).collect::<Result<Int64Array, String>>()?;
    let words: Vec<&str> = values.iter().map(|value| if is_number(value) { NULL } else { *value }).collect();
    let words = scalars(field, &words)?;
    let merged = is_not_null(&numbers).and_then(|are_numbers| zip(&are_numbers, &cast(&numbers, of)?, &words));
    merged.map_err(|error| said(field, error))
}

fn is_number(value: &str) -> bool {
    Kind::of(value) == Kind::Number
}

/// A whole number as a date or a time: days since 1970, microseconds since midnight, or how long after 1970.
fn moment(number: &str, of: &DataType) -> Option<i64> {
    let number: i64 = number.parse().ok()?;
    match of {
        DataType::Date32 => Some(number).filter(|day| DAYS.contains(day)),
        DataType::Time64(TimeUnit::Microsecond) => Some(number).filter(|time| TIMES.contains(time)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(since_1970(number)),
        _ => None,
    }
}

/// Microseconds of what is seconds, milliseconds, microseconds or nanoseconds, by its magnitude, as in
/// RisingWave: right for all of them from March 1973 on, until 5138.
fn since_1970(number: i64) -> i64 {
    match number.unsigned_abs() {
        0..100_000_000_000 => number * 1_000_000,
        100_000_000_000..100_000_000_000_000 => number * 1000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number.div_euclid(1000),
    }
}

/// The text of a JSON string.
fn text_of(value: &str) -> serde_json::Result<Cow<'_, str>> {
    let inner = &value[1..value.len() - 1];
    match memchr(b'\\', inner.as_bytes()) {
        None => Ok(Cow::Borrowed(inner)),
        Some(_) => serde_json::from_str(value).map(Cow::Owned),
    }
}

/// A column from texts.
fn parsed(field: &Field, texts: &StringArray) -> Result<ArrayRef, String> {
    read_texts(texts, field.data_type()).map_err(|reason| said(field, reason))
}

fn wrong(field: &Field, value: &str) -> String {
    said(field, format!("it does not take {value}"))
}

fn said(field: &Field, reason: impl fmt::Display) -> String {
    clipped(format!("column {:?}: {reason}", field.name()))
}

fn clipped(reason: String) -> String {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}...", &reason[..end]),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;
    use arrow::datatypes::Schema;
    use arrow::util::display::array_value_to_string;
    use highwater_values::spelling;

    /// A JSON value as a column's, in PostgreSQL's text.
    fn read(value: &str, of: &DataType) -> Result<String, String> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("c", of.clone(), true)]));
        let object = format!("{{\"c\":{value}}}");
        let rows = of_objects([object.as_bytes()].into_iter(), &schema)?.expect("a row");
        let column = rows.column(0);
        let column = spelling::texts(column).unwrap_or_else(|| Arc::clone(column));
        Ok(if column.is_null(0) { "null".to_owned() } else { array_value_to_string(&column, 0).expect("a text") })
    }

    fn check(of: &DataType, good: &[(&str, &str)], bad: &[&str]) {
        for (value, expected) in good {
            assert_eq!(read(value, of).as_deref(), Ok(*expected), "{value} as {of}");
        }
        for value in bad {
            assert!(read(value, of).is_err(), "{value} as {of}");
        }
    }

    #[test]
    fn numbers_are_read_digit_by_digit() {
        let good = [
            ("99.999", "100.00"),
            ("1.005", "1.01"),
            ("-1.005", "-1.01"),
            ("\"1.234\"", "1.23"),
            ("0.005", "0.01"),
            ("1e2", "100.00"),
            ("999999.994", "999999.99"),
        ];
        check(&DataType::Decimal128(8, 2), &good, &["999999.995", "true", "\"x\"", "[1]", "1e7"]);
        let good = [("7", "7"), ("\"7\"", "7"), ("-9223372036854775808", "-9223372036854775808"), ("null", "null")];
        check(&DataType::Int64, &good, &["1.0", "1.5", "1e3", "9223372036854775808", "true", "{}"]);
        let good = [("\"NaN\"", "NaN"), ("\"-Infinity\"", "-Infinity"), ("1e300", "1e+300"), ("-0.0", "-0")];
        check(&DataType::Float64, &good, &["1e400", "\"\"", "false"]);
        check(&DataType::Float32, &[("0.1", "0.1"), ("\"Infinity\"", "Infinity")], &["1e300", "1e-300"]);
    }

    #[test]
    fn times_are_those_of_postgresql() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let good = [
            ("\"2024-01-01T10:00:00+05:00\"", "2024-01-01 10:00:00"),
            ("\"2024-01-01 10:00:00.1234567\"", "2024-01-01 10:00:00.123457"),
            ("\"12345-01-01T00:00:00\"", "12345-01-01 00:00:00"),
            ("\"0044-03-15T00:00:00 BC\"", "0044-03-15 00:00:00 BC"),
            ("1704103200", "2024-01-01 10:00:00"),
            ("1704103200123", "2024-01-01 10:00:00.123"),
            ("1704103200123456", "2024-01-01 10:00:00.123456"),
            ("1704103200123456789", "2024-01-01 10:00:00.123456"),
            ("-1", "1969-12-31 23:59:59"),
        ];
        check(&timestamp, &good, &["1704103200.5", "\"soon\"", "9223372036854775808", "true"]);
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let good = [
            ("\"2024-01-01T10:00:00+05:00\"", "2024-01-01 05:00:00+00"),
            ("\"12345-01-01T00:00:00Z\"", "12345-01-01 00:00:00+00"),
            ("\"0044-03-15T10:00:00Z BC\"", "0044-03-15 10:00:00+00 BC"),
            ("1704103200123", "2024-01-01 10:00:00.123+00"),
        ];
        check(&instant, &good, &[]);
        let time = DataType::Time64(TimeUnit::Microsecond);
        let good = [("\"24:00\"", "24:00:00"), ("36000000", "00:00:36"), ("86400000000", "24:00:00")];
        check(&time, &good, &["86400000001", "-1"]);
        let good = [("\"300000-01-01\"", "300000-01-01"), ("19723", "2024-01-01"), ("\"20240101\"", "2024-01-01")];
        check(&DataType::Date32, &good, &["-2440589", "2145042906", "1.5"]);
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        check(&interval, &[("\"1 mon -2 days\"", "1 mon -2 days")], &["7"]);
    }

    #[test]
    fn numbers_stand_beside_texts_of_times() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let list = DataType::new_list(timestamp, true);
        let good = [(
            "[1704103200, null, \"2024-01-01T11:00Z\"]",
            r#"{"2024-01-01 10:00:00+00",NULL,"2024-01-01 11:00:00+00"}"#,
        )];
        check(&list, &good, &["[[1]]", "{}", "7"]);
    }

    #[test]
    fn texts_and_documents_are_as_they_are_written() {
        let good = [("\"a\\n\\u00fc\"", "a\nü"), ("\"\"", ""), ("\"null\"", "null")];
        check(&DataType::Utf8, &good, &["7", "true", "{}", "\"\\ud800\"", "\"a\\u0000\""]);
        let good = [(r#"{"b":1.50,"a":[]}"#, r#"{"a": [], "b": 1.50}"#), ("\"x\"", "\"x\""), ("null", "null")];
        check(&DataType::LargeUtf8, &good, &["{\"a\":1e999999}"]);
        check(&DataType::Boolean, &[("true", "true"), ("null", "null")], &["\"true\"", "1"]);
        check(&DataType::Binary, &[("\"00ff\"", "00ff"), (r#""\\x00FF""#, "00ff")], &["\"0\"", "\"xx\"", "0"]);
        check(&DataType::new_list(DataType::Utf8, true), &[("[\"a\"]", "{a}")], &["[\"a\", \"\\u0000\"]"]);
        check(&DataType::new_list(DataType::Int64, true), &[("[1, null]", "{1,NULL}"), ("[]", "{}")], &["[1.5]", "1"]);
    }

    #[test]
    fn objects_are_composite_values() {
        let inner = DataType::Struct(vec![Field::new("n", DataType::Decimal128(8, 2), true)].into());
        let fields = [("m", DataType::Int32), ("t", DataType::Time64(TimeUnit::Microsecond)), ("c", inner)];
        let of = DataType::Struct(fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect());
        let good = [
            (r#"{"c":{"n":1.005},"t":"24:00","m":1,"other":{"m":[2.5]}}"#, r#"(1,24:00:00,"(1.01)")"#),
            (r#"{"m":1,"m":2,"c":{}}"#, r#"(2,,"()")"#),
            ("{}", "(,,)"),
            ("null", "null"),
        ];
        check(&of, &good, &["7", "\"(1,,)\"", "[1]", "true", r#"{"m":1.5}"#, r#"{"t":"x"}"#, r#"{"c":1}"#]);
        let reason = |value| read(value, &of).expect_err("a bad value");
        assert_eq!(reason("7"), "column \"c\": it does not take 7");
        assert_eq!(reason(r#"{"c":{"n":true}}"#), "column \"c.c.n\": it does not take true");
    }

    #[test]
    fn the_last_of_two_members_counts_and_others_are_passed_over() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let texts: [&[u8]; 2] = [b" {\"a\":1,\"b\":[{}],\"\\u0061\":2} \r\n", b"{}"];
        let rows = of_objects(texts.into_iter(), &schema).expect("rows").expect("two");
        assert_eq!(rows.column(0).as_ref(), &Int64Array::from(vec![Some(2), None]) as &dyn Array);
        for bad in ["{} {}", "[1]", "7", "{\"a\":tru}", "{\"b\":01}", "{\"a\":1"] {
            assert!(of_objects([bad.as_bytes()].into_iter(), &schema).is_err(), "{bad}");
        }
        assert!(of_objects(std::iter::empty(), &schema).expect("no rows").is_none());
    }
}
