//! Casts of texts to times and intervals, which are read as INSERT and COPY read them: Arrow knows other forms, cuts
//! digits off, and does not tell what is no time from what is out of range.
//!
//! A text that is written out is read at once, but for an instant, which the session's zone may tell; others are
//! read by a function that is called as PostgreSQL calls it.

use super::{INTERVAL, STAMP, Scalar, call, instant, refused, texts};
use crate::input::{self, BadValue};
use crate::types::is_text;
use crate::zones::Zone;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast as cast_expr};

const TIME: DataType = DataType::Time64(TimeUnit::Microsecond);

/// What a cast of a text to an instant is.
pub(crate) const INSTANT_OF_TEXT: &str = "timestamptz_in";

static DATE_IN: Scalar = Scalar {
    name: "date_in",
    takes: |given| texts(given, 1),
    gives: |_| DataType::Date32,
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>(), &DataType::Date32),
};

static TIME_IN: Scalar = Scalar {
    name: "time_in",
    takes: |given| texts(given, 1),
    gives: |_| TIME,
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>(), &TIME),
};

static TIMESTAMP_IN: Scalar = Scalar {
    name: "timestamp_in",
    takes: |given| texts(given, 1),
    gives: |_| STAMP,
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>(), &STAMP),
};

static INSTANT_IN: Scalar = Scalar {
    name: INSTANT_OF_TEXT,
    takes: |given| texts(given, 1),
    gives: |_| instant(),
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>(), &instant()),
};

static INTERVAL_IN: Scalar = Scalar {
    name: "interval_in",
    takes: |given| texts(given, 1),
    gives: |_| INTERVAL,
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>(), &INTERVAL),
};

/// What reads texts as values of a type, of microseconds; none where the type is no time.
fn reader_of(to: &DataType) -> Option<&'static Scalar> {
    match to {
        DataType::Date32 | DataType::Date64 => Some(&DATE_IN),
        DataType::Time32(_) | DataType::Time64(_) => Some(&TIME_IN),
        DataType::Timestamp(_, None) => Some(&TIMESTAMP_IN),
        DataType::Timestamp(_, Some(_)) => Some(&INSTANT_IN),
        DataType::Interval(_) => Some(&INTERVAL_IN),
        _ => None,
    }
}

/// A cast of a text to a time or an interval as what reads it.
///
/// # Errors
/// When a text that is written out is none.
pub(crate) fn time_of_text(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Cast { expr, field } = cast;
    let of = expr.get_type(schema).unwrap_or(DataType::Null);
    let Some(reader) = reader_of(field.data_type()).filter(|_| is_text(&of)) else {
        return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
    };
    let own = (reader.gives)(&[]);
    let read = match written(&expr) {
        Some(text) if reader.name != INSTANT_OF_TEXT => {
            let read = read(&StringArray::from(vec![text]), &own)?;
            Expr::Literal(ScalarValue::try_from_array(&read, 0)?, None)
        }
        _ if of == DataType::Utf8 => call(reader, vec![*expr]),
        _ => call(reader, vec![cast_expr(*expr, DataType::Utf8)]),
    };
    Ok(Transformed::yes(if own == *field.data_type() { read } else { cast_expr(read, field.data_type().clone()) }))
}

/// An instant from a text that is written out, by the clocks of a zone where the text does not tell which it is; none
/// where it is not written out.
///
/// # Errors
/// When the text is no instant.
pub(crate) fn instant_of_text(text: &Expr, zone: &Zone) -> Result<Option<Expr>> {
    let Some(text) = written(text) else { return Ok(None) };
    let read = read(&StringArray::from(vec![text]), &zone.of_type(&instant()))?;
    let micros = read.as_primitive::<TimestampMicrosecondType>().value(0);
    Ok(Some(Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())), None)))
}

fn written(text: &Expr) -> Option<&str> {
    match text {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Texts as values of a type, as INSERT reads them.
///
/// # Errors
/// The first that is none.
pub(crate) fn read(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    input::parse_text_column(texts, to).map_err(|bad| {
        let BadValue { sqlstate, message, .. } = bad;
        refused(sqlstate, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DataError;
    use datafusion::common::DataFusionError;
    use datafusion::logical_expr::{cast, col, lit};

    fn read_as(text: &str, to: DataType) -> Result<Expr> {
        let Expr::Cast(cast) = cast(lit(text), to) else { panic!("a cast") };
        time_of_text(cast, &DFSchema::empty()).map(|read| read.data)
    }

    fn class_of(text: &str, to: DataType) -> &'static str {
        let error = read_as(text, to).expect_err(text);
        let DataFusionError::External(source) = error.find_root() else { panic!("{error}") };
        source.downcast_ref::<DataError>().expect("of data").sqlstate
    }

    #[test]
    fn texts_that_are_written_out_are_read_at_once() {
        let rounded = read_as("2024-01-01 00:00:00.9999999", STAMP).expect("a time");
        assert_eq!(rounded, read_as("2024-01-01 00:00:01", STAMP).expect("a time"));
        assert_eq!(read_as("1970-01-02", DataType::Date32).expect("a date"), lit(ScalarValue::Date32(Some(1))));
        let end = ScalarValue::Time64Microsecond(Some(86_400_000_000));
        assert_eq!(read_as("24:00:00", TIME).expect("a time"), lit(end));
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let stamp = lit(ScalarValue::TimestampMicrosecond(Some(0), None));
        assert_eq!(read_as("1970-01-01", nanos.clone()).expect("a time"), cast(stamp, nanos));
        assert!(matches!(read_as("1970-01-01", instant()), Ok(Expr::ScalarFunction(_))));
    }

    #[test]
    fn what_is_no_time_is_told_from_what_is_out_of_range() {
        assert_eq!(class_of("abc", DataType::Date32), "22007");
        assert_eq!(class_of("2024-02-30", DataType::Date32), "22008");
        assert_eq!(class_of("25:00", TIME), "22008");
        assert_eq!(class_of("1 foo", INTERVAL), "22007");
    }

    #[test]
    fn other_casts_are_left_as_they_are() {
        let schema = DFSchema::empty();
        for (of, to) in [(lit(1_i64), DataType::Int32), (lit(1_i32), DataType::Date32), (lit("1"), DataType::Int32)] {
            let Expr::Cast(cast) = cast(of, to) else { panic!("a cast") };
            assert!(!time_of_text(cast, &schema).expect("nothing to read").transformed);
        }
        let zone = Zone::of("Europe/Berlin").expect("a zone");
        assert_eq!(instant_of_text(&col("a"), &zone).expect("not written out"), None);
        let midnight = ScalarValue::TimestampMicrosecond(Some(-3_600_000_000), Some("UTC".into()));
        assert_eq!(instant_of_text(&lit("1970-01-01"), &zone).expect("an instant"), Some(lit(midnight)));
    }
}
