//! Examples of every rule of the types' values, as PostgreSQL answers them but for what the readers say
//! that they do not read.

use super::parse_text_column;
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;
use std::sync::Arc;

const MICROS: TimeUnit = TimeUnit::Microsecond;

/// A value as Arrow shows it, or SQLSTATE and message.
fn value(text: &str, to: &DataType) -> String {
    match parse_text_column(&StringArray::from(vec![text]), to) {
        Ok(array) => array_value_to_string(&array, 0).expect("all values read can be shown"),
        Err(bad) => {
            assert_eq!(bad.row, 0);
            format!("{} {bad}", bad.sqlstate)
        }
    }
}

fn check(to: &DataType, examples: &[(&str, &str)]) {
    examples.iter().for_each(|(text, expected)| assert_eq!(value(text, to), *expected, "{text:?} as {to}"));
}

fn check_all(to: &DataType, texts: &[&str], expected: &str) {
    texts.iter().for_each(|text| assert_eq!(value(text, to), expected, "{text:?} as {to}"));
}

fn check_syntax(to: &DataType, sqlstate: &str, name: &str, texts: &[&str]) {
    let expected = |text: &str| format!("{sqlstate} invalid input syntax for type {name}: \"{text}\"");
    texts.iter().for_each(|text| assert_eq!(value(text, to), expected(text)));
}

#[test]
fn nulls_of_all_types() {
    let zone = Some("UTC".into());
    for to in [
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Time64(MICROS),
        DataType::Timestamp(MICROS, None),
        DataType::Timestamp(MICROS, zone),
        DataType::Interval(IntervalUnit::MonthDayNano),
    ] {
        let nulls = StringArray::from(vec![None::<&str>, None]);
        let array = parse_text_column(&nulls, &to).expect("a null is of any type");
        assert_eq!((array.data_type(), array.null_count()), (&to, 2));
    }
}

#[test]
fn booleans() {
    check_all(&DataType::Boolean, &["t", "TRUE", "tru", "y", "Yes", "on", "1", " true\n"], "true");
    check_all(&DataType::Boolean, &["f", "False", "fal", "n", "NO", "of", "off", "0"], "false");
    check_syntax(&DataType::Boolean, "22P02", "boolean", &["", "o", "truee", "2", "yess", "offfff", "é"]);
}

#[test]
fn integers() {
    check(&DataType::Int16, &[("32767", "32767"), ("-32768", "-32768"), (" +7\t", "7"), ("-0", "0"), ("007", "7")]);
    check(&DataType::Int64, &[("-9223372036854775808", "-9223372036854775808"), ("0x7F", "127"), ("-0b11", "-3")]);
    check(&DataType::Int64, &[("1_000", "1000"), ("0o_17", "15"), ("-0x8000000000000000", "-9223372036854775808")]);
    let range = |value: &str, name: &str| format!("22003 value \"{value}\" is out of range for type {name}");
    check(&DataType::Int16, &[("32768", &range("32768", "smallint"))]);
    check(&DataType::Int32, &[("99999999999", &range("99999999999", "integer"))]);
    check(&DataType::Int64, &[("9223372036854775808", &range("9223372036854775808", "bigint"))]);
    check(&DataType::Int64, &[("-0x8000000000000001", &range("-0x8000000000000001", "bigint"))]);
    check_syntax(&DataType::Int16, "22P02", "smallint", &["", " ", "-", "1.0", "1e3"]);
    check_syntax(&DataType::Int32, "22P02", "integer", &["x", "1x", "1 2", "--1", "_1", "1_", "1__0", "0x", "0xg"]);
    check_syntax(&DataType::Int64, "22P02", "bigint", &["0b2", "1\u{a0}", "１"]);
}

#[test]
fn floats() {
    check(
        &DataType::Float64,
        &[
            ("1.5", "1.5"),
            (" -.5e-3 ", "-0.0005"),
            ("5.", "5.0"),
            ("1e400x", "22P02 invalid input syntax for type double precision: \"1e400x\""),
        ],
    );
    check(
        &DataType::Float64,
        &[("NaN", "NaN"), ("Infinity", "inf"), ("-INFINITY", "-inf"), ("inf", "inf"), ("-0", "-0.0")],
    );
    check(&DataType::Float32, &[("0.1", "0.1"), ("3.4028235e38", "3.4028235e38"), ("0e999", "0.0")]);
    check_syntax(&DataType::Float32, "22P02", "real", &["", ".", "e5", "1e", "infinit", "1_0"]);
    for (text, to, name) in [
        ("1e400", DataType::Float64, "double precision"),
        ("-1e-400 ", DataType::Float64, "double precision"),
        ("1e39", DataType::Float32, "real"),
    ] {
        check(&to, &[(text, &format!("22003 \"{}\" is out of range for type {name}", text.trim()))]);
    }
}

#[test]
fn decimals() {
    let money = DataType::Decimal128(5, 2);
    check(
        &money,
        &[("1.5", "1.50"), ("-1.005", "-1.01"), ("1.004999", "1.00"), (" +999.994 ", "999.99"), ("1.5e1", "15.00")],
    );
    check(
        &money,
        &[("0.005", "0.01"), ("0.0049", "0.00"), ("1e-99", "0.00"), ("0e99", "0.00"), (".5", "0.50"), ("5.", "5.00")],
    );
    check_all(
        &money,
        &["999.995", "1000", "1e3", "1e2000000000", "inf", "-12345678901234567890123456789012345678901234567890"],
        "22003 numeric field overflow",
    );
    check_syntax(&money, "22P02", "numeric", &["", ".", "-", "1e", "x", "1.2.3", "1 2"]);
    let widest = "170141183460469231731687303715884105728";
    check(&DataType::Decimal128(38, 0), &[(&widest[1..], &widest[1..]), (widest, "22003 numeric field overflow")]);
    check(
        &DataType::Decimal128(38, 0),
        &[("17014118346046923173168730371588410572.9", "17014118346046923173168730371588410573")],
    );
    let thousands = parse_text_column(&StringArray::from(vec!["1499", "-1500", "499"]), &DataType::Decimal128(3, -3));
    let thousands = thousands.expect("a scale may be negative");
    assert_eq!(thousands.as_primitive::<Decimal128Type>().values(), &[1, -2, 0]);
    let overflow = parse_text_column(&StringArray::from(vec!["1000"]), &money).expect_err("too large");
    let detail = "A field with precision 5, scale 2 must round to an absolute value less than 10^3.";
    assert_eq!(overflow.detail.as_deref(), Some(detail));
    let below_one =
        parse_text_column(&StringArray::from(vec!["1"]), &DataType::Decimal128(2, 2)).expect_err("too large");
    assert!(below_one.detail.is_some_and(|detail| detail.ends_with("less than 1.")));
}

#[test]
fn bytes() {
    check(&DataType::Binary, &[("\\x00fF", "00ff"), ("\\x", ""), ("\\x 01 02\n03", "010203")]);
    check(&DataType::Binary, &[("abc", "616263"), ("a\\\\\\001\\377", "615c01ff"), ("é", "c3a9"), ("", "")]);
    check_all(&DataType::Binary, &["\\", "\\400", "\\1", "a\\x"], "22P02 invalid input syntax for type bytea");
    check(&DataType::Binary, &[("\\x0", "22023 invalid hexadecimal data: odd number of digits")]);
    check(
        &DataType::Binary,
        &[("\\x0é", "22023 invalid hexadecimal digit: \"é\""), ("\\x0 1", "22023 invalid hexadecimal digit: \" \"")],
    );
}

#[test]
fn dates() {
    let date = DataType::Date32;
    check_all(
        &date,
        &["2024-01-08", "2024-1-8", "20240108", "2024/01/08", " 2024-01-08 AD", "2024-01-08 23:59:59+02"],
        "2024-01-08",
    );
    check(
        &date,
        &[
            ("epoch", "1970-01-01"),
            ("2000-02-29", "2000-02-29"),
            ("0001-01-01 BC", "0000-01-01"),
            ("0005-02-29 bc", "-0004-02-29"),
        ],
    );
    check_syntax(
        &date,
        "22007",
        "date",
        &[
            "",
            "x",
            "2024",
            "2024-01",
            "2024-01-",
            "99-01-08",
            "2024-01/08",
            "2024-01-08x",
            "1/8/1999",
            "2024-01-08 BC AD",
        ],
    );
    for text in ["2024-13-01", "2024-00-10", "2024-04-31", "1900-02-29", "0000-01-01", "99999999999-01-01"] {
        check(&date, &[(text, &format!("22008 date/time field value out of range: \"{text}\""))]);
    }
    let days = |text: &str| {
        parse_text_column(&StringArray::from(vec![text]), &date).map(|days| days.as_primitive::<Date32Type>().value(0))
    };
    assert_eq!(days("5874897-12-31"), Ok(2_145_042_905));
    assert_eq!(days("4714-11-24 BC"), Ok(-2_440_588));
    check(
        &date,
        &[
            ("5874898-01-01", "22008 date out of range: \"5874898-01-01\""),
            ("4714-11-23 BC", "22008 date out of range: \"4714-11-23 BC\""),
        ],
    );
    check(&date, &[("infinity", "0A000 cannot read \"infinity\" as date: there are no infinite dates and times here")]);
    check(
        &date,
        &[("Today", "0A000 cannot read \"Today\" as date: it depends on the clock; write the date and time out")],
    );
}

#[test]
fn times() {
    let time = DataType::Time64(MICROS);
    check(&time, &[("04:05", "04:05:00"), ("4:5:6", "04:05:06"), ("040506.5", "04:05:06.500"), ("0405", "04:05:00")]);
    check(
        &time,
        &[("04:05:06.789", "04:05:06.789"), ("04:05:06.1234567", "04:05:06.123457"), ("04:05:59.9999999", "04:06:00")],
    );
    check(
        &time,
        &[("12:00 AM", "00:00:00"), ("12:30 pm", "12:30:00"), ("1:00PM", "13:00:00"), ("04:05:06+02", "04:05:06")],
    );
    check_syntax(&time, "22007", "time", &["", "x", "04", "04:05:06:07", "-04:05", "04:05x", "04:05+"]);
    for text in ["24:00:01", "25:00", "23:60:00", "23:59:61", "13:00 PM"] {
        check(&time, &[(text, &format!("22008 date/time field value out of range: \"{text}\""))]);
    }
    // Arrow does not show the end of a day.
    for text in ["24:00:00", "23:59:60", "23:59:59.9999999"] {
        let read = parse_text_column(&StringArray::from(vec![text]), &time).expect(text);
        assert_eq!(read.as_primitive::<Time64MicrosecondType>().value(0), 86_400_000_000, "{text}");
    }
}

#[test]
fn timestamps() {
    let local = DataType::Timestamp(MICROS, None);
    check_all(
        &local,
        &["2024-06-15 12:34:56", "2024-06-15T12:34:56Z", "20240615t123456", "2024-06-15 12:34:56+02"],
        "2024-06-15T12:34:56",
    );
    check(
        &local,
        &[
            ("2024-06-15", "2024-06-15T00:00:00"),
            ("2024-12-31 24:00", "2025-01-01T00:00:00"),
            ("2024-12-31 23:59:60", "2025-01-01T00:00:00"),
        ],
    );
    check(
        &local,
        &[
            ("2024-06-15 12:00:00.0000015", "2024-06-15T12:00:00.000002"),
            ("0044-03-15 12:00 BC", "-0043-03-15T12:00:00"),
        ],
    );
    check_syntax(&local, "22007", "timestamp", &["", "12:00", "2024-06-15 12", "2024-06-15T", "2024-06-15 12:00 x"]);
    check(&local, &[("294277-01-09", "22008 timestamp out of range: \"294277-01-09\"")]);
    check(&local, &[("4714-11-23 BC", "22008 timestamp out of range: \"4714-11-23 BC\"")]);
}

#[test]
fn timestamps_with_a_zone() {
    let instant = DataType::Timestamp(MICROS, Some("UTC".into()));
    let noon = "2024-06-15T12:00:00Z";
    check_all(
        &instant,
        &["2024-06-15 12:00", "2024-06-15 12:00Z", "2024-06-15 12:00 utc", "2024-06-15 12:00+00"],
        noon,
    );
    check_all(
        &instant,
        &[
            "2024-06-15 14:00+02",
            "2024-06-15 14:00 +02:00",
            "2024-06-15T13:30+0130",
            "2024-06-15 00:00:10-11:59:50",
            "2024-06-15 13:00+1",
        ],
        noon,
    );
    check(
        &instant,
        &[("2024-06-15+02", "2024-06-14T22:00:00Z"), ("0044-03-15 12:00:00+00 BC", "-0043-03-15T12:00:00Z")],
    );
    let name = "timestamp with time zone";
    check_syntax(&instant, "22007", name, &["2024-06-15 12:00+", "2024-06-15 12:00 x", "2024-06-15 12:00+2:"]);
    check(&instant, &[("2024-06-15 12:00+16", "22009 time zone displacement out of range: \"2024-06-15 12:00+16\"")]);
    check(
        &instant,
        &[
            ("2024-06-15 14:00 Europe/Berlin", noon),
            ("2024-06-15 14:00:00 europe/berlin", noon),
            ("0044-03-15 12:00 Etc/GMT+1 BC", "-0043-03-15T13:00:00Z"),
        ],
    );
    for text in ["2024-06-15 12:00 Europe/Nowhere", "2024-06-15 12:00 EST"] {
        let advice = "write the time zone as an offset, such as +02";
        check(&instant, &[(text, &format!("0A000 cannot read \"{text}\" as {name}: {advice}"))]);
    }
    let array = parse_text_column(&StringArray::from(vec!["1970-01-01 00:00:01"]), &instant).expect("a good value");
    assert_eq!((array.data_type(), array.as_primitive::<TimestampMicrosecondType>().value(0)), (&instant, 1_000_000));
}

/// Months, days and microseconds, or SQLSTATE and message.
fn interval(text: &str) -> String {
    let to = DataType::Interval(IntervalUnit::MonthDayNano);
    match parse_text_column(&StringArray::from(vec![text]), &to) {
        Ok(array) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(0);
            assert_eq!(value.nanoseconds % 1000, 0);
            format!("{} {} {}", value.months, value.days, value.nanoseconds / 1000)
        }
        Err(bad) => format!("{} {bad}", bad.sqlstate),
    }
}

#[test]
fn intervals() {
    for (text, expected) in [
        ("1 year 2 mons -3 days +04:05:06.789", "14 -3 14706789000"),
        ("-1 days -00:00:01.5", "0 -1 -1500000"),
        ("00:00:00", "0 0 0"),
        ("1y2mon3d4h5m6s", "14 3 14706000000"),
        ("@ 1 hour 2 weeks Ago", "0 -14 -3600000000"),
        ("3 YEARS 1 decade 1 century 1 millennium", "13356 0 0"),
        ("1 msec 2 microseconds", "0 0 1002"),
        ("1.5", "0 0 1500000"),
        ("1 2:03", "0 1 7380000000"),
        ("-1-2", "-14 0 0"),
        ("1-2 3 4:05:06", "14 3 14706000000"),
        ("P1Y2M3W4DT5H6M7.5S", "14 25 18367500000"),
        ("PT-1.5M", "0 0 -90000000"),
        ("1.55 years", "19 0 0"),
        ("1.9 mons", "1 27 0"),
        ("1.25 weeks", "0 8 64800000000"),
        ("-0.5 days", "0 0 -43200000000"),
        ("1.1234567 sec", "0 0 1123457"),
    ] {
        assert_eq!(interval(text), expected, "{text}");
    }
}

#[test]
fn bad_intervals() {
    let syntax = [
        "",
        "x",
        "ago",
        "1 x",
        "1 day 2 days",
        "1 hour 1:00",
        "1:2:3:4",
        "1 2",
        "1 day ago 1 hour",
        "P",
        "P1",
        "P1H",
        "1:xx",
        "1-2-3",
        "2024-02-29",
    ];
    for text in syntax {
        assert_eq!(interval(text), format!("22007 invalid input syntax for type interval: \"{text}\""));
    }
    for text in ["04:60:00", "1-12", "2147483648 days", "99999999999999999999 us"] {
        assert_eq!(interval(text), format!("22015 interval field value out of range: \"{text}\""));
    }
    assert_eq!(interval("178956971 years"), "22008 interval out of range");
    assert_eq!(interval("3000000 hours"), "22008 interval out of range", "PostgreSQL has room for it");
    assert!(interval("infinity").starts_with("0A000 "));
}

#[test]
fn arrays() {
    let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let given = StringArray::from(vec![Some("{1,NULL}"), None, Some(" {} "), Some("{-2}")]);
    let array = parse_text_column(&given, &numbers).expect("arrays");
    assert_eq!(array.data_type(), &numbers);
    let spelled = crate::spelling::texts(&array).expect("arrays are spelled");
    let expected = StringArray::from(vec![Some("{1,NULL}"), None, Some("{}"), Some("{-2}")]);
    assert_eq!(spelled.as_string::<i32>(), &expected);
    let bad = |texts: Vec<Option<&str>>| {
        let bad = parse_text_column(&StringArray::from(texts), &numbers).expect_err("no array of numbers");
        format!("{} {} {bad}", bad.row, bad.sqlstate)
    };
    let element = "2 22P02 invalid input syntax for type integer: \"x\"";
    assert_eq!(bad(vec![Some("{1}"), None, Some("{2,x}")]), element);
    assert_eq!(bad(vec![Some("{}"), Some("{1")]), "1 22P02 malformed array literal: \"{1\"");
    assert_eq!(
        bad(vec![Some("{{1}}")]),
        "0 0A000 cannot read \"{{1}}\" as an array: an array has one dimension, which begins at 1"
    );
}
