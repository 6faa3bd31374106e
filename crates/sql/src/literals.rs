//! Texts that are written out as intervals and numerics, in the spellings that Arrow reads: it takes no
//! `02:03:04` and no `P1Y` behind INTERVAL, and no exponent in a numeric. Texts that are cast to intervals are read
//! where casts are.

use crate::input;
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, Value, ValueWithSpan};

/// Respells a text that is cast, or stands behind a type's name.
pub(crate) fn respell(expr: &mut Expr) {
    match expr {
        Expr::Cast { expr: of, data_type, .. } if is_numeric(data_type) => {
            if let Some(text) = text_of(of)
                && let Some(plain) = without_exponent(text)
            {
                *text = plain;
            }
        }
        Expr::TypedString(typed) if is_numeric(&typed.data_type) => {
            if let Value::SingleQuotedString(text) = &mut typed.value.value
                && let Some(plain) = without_exponent(text)
            {
                *text = plain;
            }
        }
        Expr::Interval(interval) if interval.leading_field.is_none() => {
            let Some(text) = text_of(&mut interval.value) else { return };
            match input::interval(text) {
                Some(value) if parse_interval_month_day_nano(text).is_ok_and(|read| read == value) => {}
                Some(value) => *text = in_words(value),
                None => {
                    let text = std::mem::take(text);
                    *expr = as_cast(text);
                }
            }
        }
        _ => {}
    }
}

/// What is no interval, as the cast that says so.
fn as_cast(text: String) -> Expr {
    let expr = Box::new(Expr::value(Value::SingleQuotedString(text)));
    let data_type = DataType::Interval { fields: None, precision: None };
    Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None }
}

/// An interval in numbers with units.
fn in_words(IntervalMonthDayNano { months, days, nanoseconds }: IntervalMonthDayNano) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let micros = nanoseconds.unsigned_abs() / 1000;
    format!("{months} months {days} days {sign}{}.{:06} seconds", micros / 1_000_000, micros % 1_000_000)
}

fn text_of(expr: &mut Expr) -> Option<&mut String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

const fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_))
}

/// `1.5e3` as `1500`.
pub(crate) fn without_exponent(text: &str) -> Option<String> {
    let (number, exponent) = text.trim().split_once(['e', 'E'])?;
    // No numeric has more digits.
    let exponent = exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 76)?;
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let point = whole.len() as i32 + exponent;
    Some(match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};

    #[test]
    fn spellings_that_arrow_does_not_read_become_those_that_it_does() {
        for (text, spelled) in
            [("1e3", "1000"), ("-1.5E-2", "-0.015"), ("1.25e1", "12.5"), ("0.5e1", "05"), ("12e-2", "0.12")]
        {
            assert_eq!(without_exponent(text).as_deref(), Some(spelled), "{text}");
        }
        assert_eq!(without_exponent("west"), None);
    }

    #[test]
    fn intervals_are_respelled_and_what_is_none_is_a_cast() {
        for (written, spelled) in [
            ("INTERVAL '1 day 02:03:04'", "INTERVAL '0 months 1 days 7384.000000 seconds'"),
            ("INTERVAL '-1 mons +2 days'", "INTERVAL '-1 months 2 days 0.000000 seconds'"),
            ("INTERVAL '-00:00:01.5'", "INTERVAL '0 months 0 days -1.500000 seconds'"),
            ("INTERVAL 'P1Y2M'", "INTERVAL '14 months 0 days 0.000000 seconds'"),
            ("INTERVAL '1 hour 30 minutes'", "INTERVAL '1 hour 30 minutes'"),
            ("INTERVAL '1'", "INTERVAL '0 months 0 days 1.000000 seconds'"),
            ("INTERVAL '5' MINUTE", "INTERVAL '5' MINUTE"),
            ("INTERVAL '1 foo'", "CAST('1 foo' AS INTERVAL)"),
            ("NUMERIC '1.5e3'", "NUMERIC '1500'"),
        ] {
            let query = *template(&format!("SELECT {written}"));
            let SetExpr::Select(select) = *query.body else { panic!("{written} is selected") };
            let Some(SelectItem::UnnamedExpr(mut expr)) = select.projection.into_iter().next() else {
                panic!("{written} has no name")
            };
            respell(&mut expr);
            assert_eq!(expr.to_string(), spelled, "{written}");
        }
    }
}
