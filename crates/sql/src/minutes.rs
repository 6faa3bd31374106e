//! Times that are written without seconds, `timestamp '2024-03-31 10:00'`: Arrow reads none, so they are
//! given some. It is done once it is known that texts stand for times: to those that a statement has at once,
//! to others by a function below the cast.

use crate::scalars;
use crate::types::is_text;
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast as cast_expr, lit};
use std::borrow::Cow;

/// A cast to a time.
pub(crate) fn with_seconds(cast: Cast, schema: &DFSchema) -> Transformed<Expr> {
    let Cast { expr, field } = cast;
    let of = expr.get_type(schema).unwrap_or(DataType::Null);
    if !is_text(&of) {
        return Transformed::no(Expr::Cast(Cast { expr, field }));
    }
    let with_seconds = match *expr {
        Expr::Literal(value, metadata) => match value.try_as_str().flatten().and_then(completed) {
            Some(text) => lit(text),
            None => return Transformed::no(Expr::Cast(Cast { expr: Box::new(Expr::Literal(value, metadata)), field })),
        },
        text if of == DataType::Utf8 => scalars::with_seconds(text),
        text => scalars::with_seconds(cast_expr(text, DataType::Utf8)),
    };
    Transformed::yes(Expr::Cast(Cast { expr: Box::new(with_seconds), field }))
}

/// Texts of times, all with seconds.
pub(crate) fn all_completed(texts: &StringArray) -> StringArray {
    if texts.iter().flatten().all(|text| completed(text).is_none()) {
        return texts.clone();
    }
    let with_seconds = |text| completed(text).map_or(Cow::Borrowed(text), Cow::Owned);
    texts.iter().map(|text| text.map(with_seconds)).collect()
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
