//! The values that a condition leaves to columns: what `a = 1`, `a IN (1, 2)`, `a = ANY (array)` and their like, with
//! AND and OR between them, say of a key.
//!
//! Invariant: a row for which the condition is true has one of the values given here in each column named here. It
//! may be false for a row that has them: whoever reads by them looks at the condition all the same.

use arrow::array::Array as _;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// More keys than this are a scan.
const MOST_KEYS: usize = 1024;
/// The function that `value = ANY (array)` is.
const ANY_EQUAL: &str = "any_eq";

/// By the columns' names; a column that is not there may have any value.
type Allowed<'a> = BTreeMap<&'a str, Vec<ScalarValue>>;

/// The keys of some columns of a schema that conditions, all of which hold, leave: none when they do not say it of
/// each of these columns, or leave too many. Each comes once, but for values that are equal in other forms, as the
/// zeros of floating point are.
pub(crate) fn keys_of(filters: &[Expr], schema: &Schema, columns: &[usize]) -> Option<Vec<Vec<ScalarValue>>> {
    if columns.is_empty() {
        return None;
    }
    let mut wanted = Allowed::new();
    for filter in filters {
        narrow(&mut wanted, allowed(filter));
    }
    let of_column = |at: &usize| {
        let field = schema.field(*at);
        of_type(wanted.get(field.name().as_str())?, field.data_type())
    };
    let values: Vec<Vec<ScalarValue>> = columns.iter().map(of_column).collect::<Option<_>>()?;
    let count = values.iter().try_fold(1_usize, |count, values| count.checked_mul(values.len()))?;
    (count <= MOST_KEYS).then(|| product(&values))
}

/// Keys of several readers in order, each once; none when they are too many.
pub(crate) fn together(mut keys: Vec<Vec<ScalarValue>>) -> Option<Vec<Vec<ScalarValue>>> {
    keys.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    keys.dedup();
    (keys.len() <= MOST_KEYS).then_some(keys)
}

/// Each value of the first column with each one of the others.
fn product(columns: &[Vec<ScalarValue>]) -> Vec<Vec<ScalarValue>> {
    columns.iter().fold(vec![Vec::new()], |keys, values| {
        let mut longer = Vec::with_capacity(keys.len() * values.len());
        for key in &keys {
            for value in values {
                let mut key = key.clone();
                key.push(value.clone());
                longer.push(key);
            }
        }
        longer
    })
}

/// Values as those of a column that is equal to one of them, in order, each once; none when that cannot be told.
/// A column of whole numbers may stand below a cast to longer ones, where a value may be one that it cannot have.
fn of_type(values: &[ScalarValue], data_type: &DataType) -> Option<Vec<ScalarValue>> {
    // Such values need not have an order.
    if data_type.is_nested() {
        return None;
    }
    let mut typed = Vec::with_capacity(values.len());
    for value in values {
        let own = value.data_type();
        if own == *data_type {
            typed.push(value.clone());
        } else if is_longer(&own, data_type) {
            typed.extend(value.cast_to(data_type).ok());
        } else {
            return None;
        }
    }
    typed.retain(|value| !value.is_null());
    typed.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    typed.dedup();
    Some(typed)
}

fn is_longer(whole: &DataType, than: &DataType) -> bool {
    let bits = |of: &DataType| of.is_signed_integer().then(|| of.primitive_width()).flatten();
    matches!((bits(whole), bits(than)), (Some(whole), Some(than)) if whole > than)
}

/// The values that one condition leaves.
fn allowed(condition: &Expr) -> Allowed<'_> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let mut both = allowed(left);
            narrow(&mut both, allowed(right));
            both
        }
        // As a list with a null in it becomes.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) if is_never(right) => allowed(left),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (left, mut right) = (allowed(left), allowed(right));
            let either = left.into_iter().filter_map(|(column, mut values)| {
                values.append(right.get_mut(column)?);
                Some((column, values))
            });
            either.collect()
        }
        other => values_of(other).into_iter().collect(),
    }
}

const fn is_never(condition: &Expr) -> bool {
    matches!(condition, Expr::Literal(ScalarValue::Boolean(None | Some(false)), _))
}

/// Of two that hold takes, for each column, the one that leaves fewer values.
fn narrow<'a>(wanted: &mut Allowed<'a>, more: Allowed<'a>) {
    for (column, values) in more {
        match wanted.entry(column) {
            Entry::Vacant(free) => {
                free.insert(values);
            }
            Entry::Occupied(mut known) => {
                if values.len() < known.get().len() {
                    known.insert(values);
                }
            }
        }
    }
}

/// The column and the values that a condition without AND and OR leaves to it, without nulls.
fn values_of(condition: &Expr) -> Option<(&str, Vec<ScalarValue>)> {
    match condition {
        Expr::Column(flag) => Some((flag.name(), vec![ScalarValue::from(true)])),
        Expr::Not(of) => match of.as_ref() {
            Expr::Column(flag) => Some((flag.name(), vec![ScalarValue::from(false)])),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(value, _), column) | (column, Expr::Literal(value, _)) => {
                Some((named(column)?, Some(value.clone()).into_iter().filter(|value| !value.is_null()).collect()))
            }
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => {
            let value = |expr: &Expr| match expr {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            let values: Vec<ScalarValue> = list.iter().map(value).collect::<Option<_>>()?;
            Some((named(expr)?, values.into_iter().filter(|value| !value.is_null()).collect()))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == ANY_EQUAL => match args.as_slice() {
            [column, Expr::Literal(array @ ScalarValue::List(_), _)] => Some((named(column)?, elements(array)?)),
            _ => None,
        },
        _ => None,
    }
}

/// The name of a column that an expression is, below a cast or not.
fn named(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(column.name()),
        Expr::Cast(cast) if cast.field.data_type().is_signed_integer() => match cast.expr.as_ref() {
            Expr::Column(column) => Some(column.name()),
            _ => None,
        },
        _ => None,
    }
}

/// The elements of an array, without nulls.
pub(crate) fn elements(array: &ScalarValue) -> Option<Vec<ScalarValue>> {
    let ScalarValue::List(array) = array else { return None };
    if array.len() != 1 || array.is_null(0) {
        return None;
    }
    let elements = array.value(0);
    let values = (0..elements.len()).map(|at| ScalarValue::try_from_array(&elements, at).ok());
    let values: Vec<ScalarValue> = values.collect::<Option<_>>()?;
    Some(values.into_iter().filter(|value| !value.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use datafusion::logical_expr::{cast, col, lit};

    fn schema() -> Schema {
        let field = |name: &str, of: DataType| Field::new(name, of, true);
        Schema::new(vec![field("a", DataType::Int32), field("b", DataType::Utf8), field("c", DataType::Boolean)])
    }

    /// The keys of (a), of (a, b) and of (c).
    fn counts(filter: Expr) -> [Option<usize>; 3] {
        let filters = [filter];
        [&[0][..], &[0, 1], &[2]].map(|key| keys_of(&filters, &schema(), key).map(|keys| keys.len()))
    }

    #[test]
    fn conditions_leave_the_values_for_which_they_may_be_true() {
        let a = |value: i32| col("a").eq(lit(value));
        let b = |value: &str| col("b").eq(lit(value));
        assert_eq!(counts(a(1)), [Some(1), None, None]);
        assert_eq!(counts(lit(1_i32).eq(col("a")).and(b("x"))), [Some(1), Some(1), None]);
        assert_eq!(counts(a(1).or(a(2)).or(a(1))), [Some(2), None, None]);
        assert_eq!(counts(a(1).or(b("x"))), [None, None, None]);
        assert_eq!(counts(a(1).and(b("x")).or(b("y").and(a(2)))), [Some(2), Some(4), None]);
        let list = col("a").in_list(vec![lit(1_i32), lit(2_i32), lit(ScalarValue::Int32(None))], false);
        assert_eq!(counts(list.clone().and(b("x"))), [Some(2), Some(2), None]);
        assert_eq!(counts(list.and(a(1))), [Some(1), None, None]);
        assert_eq!(counts(col("a").in_list(vec![lit(1_i32)], true)), [None, None, None]);
        assert_eq!(counts(col("a").gt(lit(1_i32))), [None, None, None]);
        assert_eq!(counts(col("a").eq(lit(ScalarValue::Int32(None)))), [Some(0), None, None]);
        assert_eq!(counts(col("c")), [None, None, Some(1)]);
        assert_eq!(counts(Expr::Not(Box::new(col("c"))).and(a(1))), [Some(1), None, Some(1)]);
    }

    #[test]
    fn values_of_other_types_are_taken_where_they_are_equal_to_one() {
        let long = cast(col("a"), DataType::Int64);
        assert_eq!(counts(long.clone().eq(lit(1_i64))), [Some(1), None, None]);
        assert_eq!(counts(long.eq(lit(5_000_000_000_i64))), [Some(0), None, None]);
        assert_eq!(counts(cast(col("a"), DataType::Int16).eq(lit(1_i16))), [None, None, None]);
        assert_eq!(counts(cast(col("b"), DataType::Int64).eq(lit(1_i64)).and(col("a").eq(lit(1_i32))))[1], None);
        assert_eq!(counts(cast(col("a"), DataType::Utf8).eq(lit("1"))), [None, None, None]);
        assert_eq!(counts(col("a").eq(lit(1.0_f64))), [None, None, None]);
    }

    #[test]
    fn too_many_keys_are_none() {
        let list = |name: &str, count: i32| col(name).in_list((0..count).map(lit).collect(), false);
        assert_eq!(counts(list("a", 1024))[0], Some(1024));
        assert_eq!(counts(list("a", 1025))[0], None);
    }
}
