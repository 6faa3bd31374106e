//! The keys that a condition lists, without a plan: `key IN (1, 2)` and `key = ANY (array)`, of a key of one column.

use crate::keyed_values::{elements, together};
use crate::parameters::Parameters;
use crate::point::{column, is_same, is_told_apart, uncast};
use crate::values::exact_value;
use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType as SqlType, Expr, Ident, Value,
};

/// The values of a key that a condition lists, each once and none of them null; none at all when it is another
/// condition.
pub(crate) fn listed(
    condition: Option<&Expr>,
    schema: &SchemaRef,
    key: &[usize],
    names: &[&Ident],
    parameters: &Parameters,
) -> Option<ArrayRef> {
    let [at] = key else { return None };
    let data_type = schema.field(*at).data_type();
    if !is_told_apart(data_type) {
        return None;
    }
    let is_key = |expr: &Expr| column(expr, schema, names) == Some(*at);
    let values: Vec<ScalarValue> = match without_parentheses(condition?) {
        Expr::InList { expr, list, negated: false } if is_key(expr) => {
            let value = |expr: &Expr| one(expr, data_type, parameters);
            list.iter().map(value).collect::<Option<_>>()?
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } if is_key(left) => {
            let values = elements(array(right, data_type, parameters)?)?;
            let is_exact = values.iter().all(|value| value.data_type() == *data_type);
            is_exact.then_some(values)?
        }
        _ => return None,
    };
    let keys = values.into_iter().filter(|value| !value.is_null()).map(|value| vec![value]).collect();
    let keys: Vec<ScalarValue> = together(keys)?.into_iter().flatten().collect();
    if keys.is_empty() { Some(new_empty_array(data_type)) } else { ScalarValue::iter_to_array(keys).ok() }
}

/// One value of a list.
fn one(expr: &Expr, data_type: &DataType, parameters: &Parameters) -> Option<ScalarValue> {
    let array = exact_value(uncast(expr, data_type), data_type, parameters)?;
    ScalarValue::try_from_array(&array, 0).ok()
}

/// The array that an expression is, if it is a parameter, below a cast to an array of the type or not.
fn array<'a>(expr: &Expr, data_type: &DataType, parameters: &'a Parameters) -> Option<&'a ScalarValue> {
    match expr {
        Expr::Nested(inner) => array(inner, data_type, parameters),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => parameters.named(name),
            _ => None,
        },
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type: into, .. } => match into {
            SqlType::Array(ArrayElemTypeDef::SquareBracket(of, _)) if is_same(of, data_type) => {
                array(inner, data_type, parameters)
            }
            _ => None,
        },
        _ => None,
    }
}

fn without_parentheses(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_parentheses(inner),
        _ => expr,
    }
}
