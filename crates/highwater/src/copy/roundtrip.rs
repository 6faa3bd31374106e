//! Random values written in PostgreSQL's text and CSV forms, cut at random places, are read back equal.
//!
//! The writer is the plain twin of the reader: it escapes and quotes byte by byte, and writes each type
//! as PostgreSQL's COPY TO does.

use super::{CopyFormat, CopyKind, CopyParser};
use arrow::array::*;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, SchemaRef};
use proptest::prelude::*;
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Microseconds of 0001-01-01 and of 9999-12-31, between which Arrow shows times as PostgreSQL does.
const TIMES: std::ops::Range<i64> = -719_162 * DAY..2_932_896 * DAY;

#[derive(Clone, Debug)]
struct Row {
    boolean: Option<bool>,
    integers: Option<(i16, i32, i64)>,
    floats: Option<(f32, f64)>,
    decimal: Option<i128>,
    text: Option<String>,
    bytes: Option<Vec<u8>>,
    time: Option<i64>,
    interval: Option<(i32, i32, i64)>,
}

/// Text with much that is special in one of the formats.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "\\", "\"", "'", ",", "\t", "\n", "\r", "N", ".", "x41", "é", "€", " ", "\\N", "\\.",
    ]);
    let piece = prop_oneof![3 => special.prop_map(str::to_owned), 1 => "[^\0]{0,5}"];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn row() -> impl Strategy<Value = Row> {
    let limit = 10_i128.pow(20);
    let interval = (any::<i32>(), any::<i32>(), -9_223_372_036_854_775_i64..9_223_372_036_854_775);
    let fields = (
        any::<Option<bool>>(),
        any::<Option<(i16, i32, i64)>>(),
        prop::option::of((prop::num::f32::ANY, prop::num::f64::ANY)),
        prop::option::of(1 - limit..limit),
        prop::option::of(text()),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
        prop::option::of(TIMES),
        prop::option::of(interval),
    );
    fields.prop_map(|(boolean, integers, floats, decimal, text, bytes, time, interval)| Row {
        boolean,
        integers,
        floats,
        decimal,
        text,
        bytes,
        time,
        interval,
    })
}

/// The rows as the parser is to give them.
fn batch(rows: &[Row]) -> RecordBatch {
    // All ways to write NaN are read as one.
    let one = |value: f64| if value.is_nan() { f64::NAN } else { value };
    let one_real = |value: f32| if value.is_nan() { f32::NAN } else { value };
    let interval = |(months, days, micros)| IntervalMonthDayNano::new(months, days, micros * 1000);
    let day = |time: i64| i32::try_from(time.div_euclid(DAY)).expect("a day of four digits of years");
    let time = |row: &Row| row.time;
    let decimals: Decimal128Array = rows.iter().map(|row| row.decimal).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.boolean).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.integers.map(|found| found.0)).collect::<Int16Array>()),
        Arc::new(rows.iter().map(|row| row.integers.map(|found| found.1)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.integers.map(|found| found.2)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.floats.map(|found| one_real(found.0))).collect::<Float32Array>()),
        Arc::new(rows.iter().map(|row| row.floats.map(|found| one(found.1))).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(20, 6).expect("a good type")),
        Arc::new(rows.iter().map(|row| row.text.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.bytes.clone()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.time.map(day)).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|row| row.time.map(|time| time.rem_euclid(DAY))).collect::<Time64MicrosecondArray>()),
        Arc::new(rows.iter().map(time).collect::<TimestampMicrosecondArray>()),
        Arc::new(rows.iter().map(time).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.interval.map(interval)).collect::<IntervalMonthDayNanoArray>()),
    ];
    let field = |(at, column): (usize, &ArrayRef)| Field::new(format!("c{at}"), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).expect("columns of one length")
}

/// A value as COPY TO writes it, before it is escaped or quoted.
fn written(column: &ArrayRef, row: usize) -> Option<String> {
    let shown = arrow::util::display::array_value_to_string(column, row).expect("values that Arrow can show");
    column.is_valid(row).then(|| match column.data_type() {
        DataType::Boolean => shown[..1].to_owned(),
        DataType::Float32 | DataType::Float64 => shown.replace("inf", "Infinity"),
        DataType::Binary => format!("\\x{shown}"),
        DataType::Timestamp(..) => shown.replace('T', " ").replace('Z', "+00"),
        DataType::Interval(_) => {
            let value = column.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>().value(row);
            let (years, months, days) = (value.months / 12, value.months % 12, value.days);
            let micros = (value.nanoseconds / 1000).abs();
            let sign = if value.nanoseconds < 0 { "-" } else { "+" };
            let (hours, minutes) = (micros / SECOND / 3600, micros / SECOND / 60 % 60);
            let (seconds, rest) = (micros / SECOND % 60, micros % SECOND);
            format!("{years} years {months} mons {days} days {sign}{hours:02}:{minutes:02}:{seconds:02}.{rest:06}")
        }
        _ => shown,
    })
}

fn escaped(value: Option<String>, format: &CopyFormat) -> String {
    let null = String::from_utf8_lossy(&format.null).into_owned();
    let (quote, escape) = (char::from(format.quote), char::from(format.escape));
    let Some(value) = value else { return null };
    match format.kind {
        CopyKind::Text => value.chars().fold(String::new(), |written, character| match character {
            '\\' => written + "\\\\",
            '\t' => written + "\\t",
            '\n' => written + "\\n",
            '\r' => written + "\\r",
            other => format!("{written}{other}"),
        }),
        CopyKind::Csv => {
            let is_special = |character: char| character == quote || matches!(character, ',' | '\n' | '\r');
            if value != null && value != "\\." && !value.contains(is_special) {
                return value;
            }
            let inside = value.chars().fold(String::new(), |written, character| {
                let escaped = character == quote || character == escape;
                if escaped { format!("{written}{escape}{character}") } else { format!("{written}{character}") }
            });
            format!("{quote}{inside}{quote}")
        }
    }
}

fn write(batch: &RecordBatch, format: &CopyFormat, newline: &str) -> String {
    let delimiter = char::from(format.delimiter).to_string();
    let row = |row| {
        let fields = batch.columns().iter().map(|column| escaped(written(column, row), format));
        fields.collect::<Vec<_>>().join(&delimiter) + newline
    };
    (0..batch.num_rows()).map(row).collect()
}

fn read(format: CopyFormat, schema: SchemaRef, data: &[u8], cuts: &[prop::sample::Index]) -> RecordBatch {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
    places.extend([0, data.len()]);
    places.sort_unstable();
    let mut parser = CopyParser::new(format, Arc::clone(&schema));
    for piece in places.windows(2) {
        parser.push(&data[piece[0]..piece[1]]).unwrap_or_else(|error| panic!("{error}: {}", error.context()));
    }
    let batches = parser.finish().unwrap_or_else(|error| panic!("{error}: {}", error.context()));
    concat_batches(&schema, &batches).expect("batches of one schema")
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec(row(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        newline in prop::sample::select(vec!["\n", "\r\n"]),
        ends in any::<bool>(),
    ) {
        let expected = batch(&rows);
        let other = CopyFormat { quote: b'\'', escape: b'\\', null: b"N".to_vec(), ..CopyFormat::csv() };
        for format in [CopyFormat::text(), CopyFormat::csv(), other] {
            let data = write(&expected, &format, newline);
            let data = if ends { &data } else { data.strip_suffix(newline).unwrap_or(&data) };
            let found = read(format, expected.schema(), data.as_bytes(), &cuts);
            prop_assert_eq!(&found, &expected, "{}", data);
        }
    }
}
