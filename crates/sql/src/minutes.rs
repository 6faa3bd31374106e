//! Times that are written without seconds, `timestamp '2024-03-31 10:00'`: Arrow reads none, so they are
//! given some. It is done to texts that a statement has, once it is known that they stand for times.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Cast, Expr, lit};

/// A cast of a text that is written out to a time.
pub(crate) fn with_seconds(cast: Cast) -> Transformed<Expr> {
    let completed = match cast.expr.as_ref() {
        Expr::Literal(value, _) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
            value.try_as_str().flatten().and_then(completed)
        }
        _ => None,
    };
    match completed {
        Some(text) => Transformed::yes(Expr::Cast(Cast { expr: Box::new(lit(text)), field: cast.field })),
        None => Transformed::no(Expr::Cast(cast)),
    }
}

/// A time with seconds, if it has none.
fn completed(text: &str) -> Option<String> {
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let is_date = date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let (minutes, zone) = time.split_at_checked(5)?;
    let is_digit_or_colon = |(at, byte): (usize, u8)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() };
    let is_end = !zone.starts_with(|next: char| next == ':' || next == '.' || next.is_ascii_digit());
    let is_one = is_date && minutes.bytes().enumerate().all(is_digit_or_colon) && is_end;
    is_one.then(|| format!("{date} {minutes}:00{zone}"))
}

#[cfg(test)]
mod tests {
    use super::completed;

    #[test]
    fn only_what_ends_with_minutes_is_completed() {
        let of = |text: &str| completed(text).unwrap_or_default();
        assert_eq!(of("2024-03-31 10:00"), "2024-03-31 10:00:00");
        assert_eq!(of(" 2024-03-31T10:00 "), "2024-03-31 10:00:00");
        assert_eq!(of("2024-03-31 10:00+02"), "2024-03-31 10:00:00+02");
        assert_eq!(of("2024-03-31 10:00Z"), "2024-03-31 10:00:00Z");
        for other in ["2024-03-31", "2024-03-31 10:00:01", "2024-03-31 10:001", "2024-03-31 1:00", "now 10:00", ""] {
            assert_eq!(of(other), "", "{other}");
        }
    }
}
