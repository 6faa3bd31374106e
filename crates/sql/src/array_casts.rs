//! Arrays that are written out of constants and cast: `ARRAY['1e2', 3]::numeric[]`.
//!
//! PostgreSQL casts each element as it stands. DataFusion first finds one type for all of them, a double for `1.50`,
//! and Arrow then casts the array in its own forms.
//!
//! Not owned here: arrays with elements that are computed from columns, which are cast as a whole.

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, CastKind, DataType, Expr, UnaryOperator, Value, ValueWithSpan,
};

/// Casts the elements of an array that is cast.
pub(crate) fn to_elements(expr: &mut Expr) {
    let Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: of, data_type, .. } = expr else { return };
    let DataType::Array(ArrayElemTypeDef::SquareBracket(to, _)) = &*data_type else { return };
    let Some(array) = written_out(of) else { return };
    let elements = || array.elem.iter();
    if !elements().all(|of| is_told_apart(of, to)) || elements().all(|of| is_already(of, to)) {
        return;
    }
    for element in &mut array.elem {
        let (kind, of) = (CastKind::Cast, Box::new(element.clone()));
        *element = Expr::Cast { kind, expr: of, data_type: (**to).clone(), array: false, format: None };
    }
}

fn written_out(expr: &mut Expr) -> Option<&mut Array> {
    match expr {
        Expr::Array(array) => Some(array),
        Expr::Nested(inner) => written_out(inner),
        _ => None,
    }
}

/// Whether an element of an array is cast to a type as itself in another way than with the array.
fn is_told_apart(element: &Expr, to: &DataType) -> bool {
    match to {
        DataType::Bytea | DataType::JSONB | DataType::Timestamp(..) => is_of_text(element),
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => is_of_text(element) || is_number(element),
        DataType::CharacterVarying(_) | DataType::Varchar(_) | DataType::Text => is_constant(element),
        to => is_whole(to) && (is_of_text(element) || is_number(element)),
    }
}

const fn is_whole(of: &DataType) -> bool {
    matches!(of, DataType::SmallInt(_) | DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_))
}

/// Whether a cast of an element gives nothing else than that of the array.
fn is_already(element: &Expr, to: &DataType) -> bool {
    let Expr::Value(ValueWithSpan { value, .. }) = element else { return false };
    match value {
        Value::Null => true,
        Value::SingleQuotedString(_) => matches!(to, DataType::Text | DataType::Varchar(None)),
        Value::Number(digits, _) => is_whole(to) && digits.len() < 10 && digits.bytes().all(|c| c.is_ascii_digit()),
        _ => false,
    }
}

/// A text that is written out, or null.
const fn is_of_text(element: &Expr) -> bool {
    matches!(element, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_) | Value::Null, .. }))
}

fn is_number(element: &Expr) -> bool {
    match element {
        Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => true,
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => is_number(expr),
        _ => false,
    }
}

/// Whether an element is written out.
fn is_constant(element: &Expr) -> bool {
    match element {
        Expr::Value(ValueWithSpan { value: Value::Boolean(_), .. }) | Expr::TypedString(_) => true,
        Expr::Cast { expr, data_type, .. } => !matches!(data_type, DataType::Array(_)) && is_constant(expr),
        other => is_of_text(other) || is_number(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};

    #[test]
    fn elements_that_are_written_out_are_cast_one_by_one() {
        for (written, cast) in [
            (
                "ARRAY['1e2', -3, NULL]::NUMERIC[]",
                "ARRAY[CAST('1e2' AS NUMERIC), CAST(-3 AS NUMERIC), CAST(NULL AS NUMERIC)]::NUMERIC[]",
            ),
            ("ARRAY[1.50, true]::TEXT[]", "ARRAY[CAST(1.50 AS TEXT), CAST(true AS TEXT)]::TEXT[]"),
            ("ARRAY['1', '2']::BIGINT[]", "ARRAY[CAST('1' AS BIGINT), CAST('2' AS BIGINT)]::BIGINT[]"),
            ("ARRAY[1, 2]::BIGINT[]", "ARRAY[1, 2]::BIGINT[]"),
            ("ARRAY['a', 'b']::TEXT[]", "ARRAY['a', 'b']::TEXT[]"),
            ("ARRAY[a, '1']::BIGINT[]", "ARRAY[a, '1']::BIGINT[]"),
            ("ARRAY[1]::BYTEA[]", "ARRAY[1]::BYTEA[]"),
            ("ARRAY[]::TEXT[]", "ARRAY[]::TEXT[]"),
            ("ARRAY[ARRAY['1']]::TEXT[]", "ARRAY[ARRAY['1']]::TEXT[]"),
        ] {
            let query = *template(&format!("SELECT {written}"));
            let SetExpr::Select(select) = *query.body else { panic!("{written} is selected") };
            let Some(SelectItem::UnnamedExpr(mut expr)) = select.projection.into_iter().next() else {
                panic!("{written} has no name")
            };
            to_elements(&mut expr);
            assert_eq!(expr.to_string(), cast);
        }
    }
}
