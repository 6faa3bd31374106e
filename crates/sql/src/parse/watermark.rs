//! WATERMARK FOR: of a column, and that column less an interval.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::input;
use crate::statement::{Column, Name, Watermark};
use arrow::datatypes::{Field, Schema};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Interval, Value};
use datafusion::sql::sqlparser::parser::Parser;

const DAY_US: i64 = 86_400_000_000;

/// Reads the clause into `watermark` if it comes next.
pub(super) fn accept(c: &mut Cursor<'_>, watermark: &mut Option<Watermark>) -> Result<bool> {
    let at = c.position();
    if !c.accept(&["WATERMARK", "FOR"]) {
        return Ok(false);
    }
    if watermark.is_some() {
        return Err(Error::unsupported("a second WATERMARK", "give one", Some(at)));
    }
    let column = c.ident("a column's name")?;
    c.expect(&["AS"])?;
    let place = c.position();
    let expr = c.sqlparser(Parser::parse_expr)?;
    let Some(delay_us) = delay(&expr, &column) else {
        let hint = format!("write {column} - INTERVAL '5' SECOND, with an interval that has no months");
        return Err(Error::unsupported(format!("WATERMARK AS {expr}"), hint, Some(place)));
    };
    *watermark = Some(Watermark { column, delay_us, at });
    Ok(true)
}

/// Refuses a watermark of what is not a column, or not a time.
pub(super) fn check<'a>(watermark: &Watermark, columns: impl IntoIterator<Item = &'a Column>) -> Result<()> {
    let field = |column: &Column| Field::new(&column.name.value, column.data_type.clone(), true);
    let columns = Schema::new(columns.into_iter().map(field).collect::<Vec<_>>());
    watermark.place(&columns).map(|_| ())
}

/// How far an expression is behind a column; none when it is something else.
fn delay(expr: &Expr, column: &Name) -> Option<i64> {
    match expr {
        Expr::Nested(inner) => delay(inner, column),
        Expr::Identifier(ident) if is(ident, column) => Some(0),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Identifier(ident), Expr::Interval(interval)) if is(ident, column) => micros(interval),
            _ => None,
        },
        _ => None,
    }
}

fn is(ident: &Ident, column: &Name) -> bool {
    match ident.quote_style {
        Some(_) => ident.value == column.value,
        None => ident.value.to_lowercase() == column.value,
    }
}

/// An interval of fixed length that is not negative, in whole microseconds.
fn micros(interval: &Interval) -> Option<i64> {
    let Interval {
        value,
        leading_field,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    } = interval
    else {
        return None;
    };
    let Expr::Value(value) = value.as_ref() else { return None };
    let (Value::SingleQuotedString(number) | Value::Number(number, _)) = &value.value else { return None };
    let text = match leading_field {
        Some(unit) => format!("{number} {unit}"),
        None => number.clone(),
    };
    let parsed = input::interval(&text).filter(|parsed| parsed.months == 0)?;
    let days = i64::from(parsed.days).checked_mul(DAY_US)?;
    days.checked_add(parsed.nanoseconds / 1000).filter(|delay| *delay >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<i64>> {
        let mut watermark = None;
        accept(&mut Cursor::new(text)?, &mut watermark)?;
        Ok(watermark.map(|watermark| watermark.delay_us))
    }

    #[test]
    fn the_delay_is_an_interval_of_fixed_length() {
        let cases = [
            ("WATERMARK FOR ts AS ts", 0),
            ("WATERMARK FOR ts AS ts - INTERVAL '5' SECOND", 5_000_000),
            ("WATERMARK FOR Ts AS (TS - INTERVAL '1.5 seconds')", 1_500_000),
            ("WATERMARK FOR ts AS ts - INTERVAL '2' MINUTE", 120_000_000),
            ("WATERMARK FOR ts AS ts - INTERVAL '1 day 1 hour'", DAY_US + 3_600_000_000),
            ("WATERMARK FOR \"Ts\" AS \"Ts\" - INTERVAL '1' SECOND", 1_000_000),
        ];
        for (text, delay) in cases {
            assert_eq!(read(text).expect(text), Some(delay), "{text}");
        }
        assert_eq!(read("a int").expect("nothing"), None);
    }

    #[test]
    fn anything_else_is_refused_where_it_stands() {
        for expression in [
            "b - INTERVAL '5' SECOND",
            "ts + INTERVAL '5' SECOND",
            "ts - INTERVAL '1' MONTH",
            "ts - INTERVAL '-1' SECOND",
            "ts - b",
            "now()",
        ] {
            let error = read(&format!("WATERMARK FOR ts AS {expression}")).expect_err(expression);
            assert_eq!((error.sqlstate(), error.position().map(|at| at.offset)), ("0A000", Some(21)), "{expression}");
        }
    }
}
