//! The order of arrays, in which elements that are null are equal to each other and greater than all others, as
//! PostgreSQL has it: `<`, `<=`, `>`, `>=`, `greatest` and `least`, where DataFusion takes them for the least, and sort
//! keys, where Arrow has them stand where whole arrays that are null are wanted.

use crate::bounded;
use arrow::array::{Array, ArrayRef, BooleanArray, Datum, make_comparator, new_null_array};
use arrow::compute::SortOptions;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{ScalarFunction, Sort};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use highwater_engine::one_form;
use std::cmp::Ordering;
use std::sync::Arc;

/// What the function of an operator is called; none for one that does not ask which of two values is less.
const fn name_of(operator: Operator) -> Option<&'static str> {
    match operator {
        Operator::Lt => Some("array_lt"),
        Operator::LtEq => Some("array_le"),
        Operator::Gt => Some("array_gt"),
        Operator::GtEq => Some("array_ge"),
        _ => None,
    }
}

/// Whether an operator asks which of two values is less.
pub(crate) const fn orders(operator: Operator) -> bool {
    name_of(operator).is_some()
}

/// The comparison of two arrays.
///
/// # Errors
/// When the operator is none that [`orders`].
pub(crate) fn ordered(left: Expr, operator: Operator, right: Expr) -> Result<Expr> {
    let Some(name) = name_of(operator) else { return plan_err!("{operator} says nothing of an order") };
    let signature = Signature::any(2, Volatility::Immutable);
    let function = ScalarUDF::from(Ordered { name, operator, signature });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![left, right])))
}

/// Sort keys of which those that are arrays, and whose nulls do not stand where the greatest would, tell the nulls
/// by a key of its own. Doing it twice changes nothing more.
///
/// # Errors
/// When the type of a key is not known.
pub(crate) fn nulls_apart(sorts: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    let mut apart = Vec::with_capacity(sorts.len());
    for sort in sorts {
        if has_nulls_apart(&sort, schema)? {
            apart.push(sort.expr.clone().is_null().sort(!sort.nulls_first, false));
            apart.push(Sort { nulls_first: !sort.asc, ..sort });
        } else {
            apart.push(sort);
        }
    }
    Ok(apart)
}

/// Whether a sort key is an array whose nulls stand elsewhere than the greatest array.
fn has_nulls_apart(sort: &Sort, schema: &DFSchema) -> Result<bool> {
    Ok(sort.nulls_first == sort.asc && matches!(sort.expr.get_type(schema)?, DataType::List(_)))
}

/// The greatest array of each row, or the least; null only where all are. Of equal ones it is the first. They are
/// compared as `<` compares them, which has its arguments in one form: an interval of 40 days is greater than a month.
///
/// # Errors
/// When there is none, or they are not of one type.
pub(crate) fn outermost(name: &str, args: &ScalarFunctionArgs, is_greatest: bool) -> Result<ColumnarValue> {
    bounded::by_columns(name, args, |columns| {
        let Some((first, others)) = columns.split_first() else { return plan_err!("{name} takes arrays") };
        let mut kept = Arc::clone(first);
        for other in others {
            let options = SortOptions { descending: false, nulls_first: false };
            let order = make_comparator(one_form(&kept).as_ref(), one_form(other).as_ref(), options)?;
            let stays = |row: usize| {
                let order = order(row, row);
                kept.is_valid(row) && (other.is_null(row) || if is_greatest { order.is_ge() } else { order.is_le() })
            };
            let stay: BooleanArray = (0..kept.len()).map(|row| Some(stays(row))).collect();
            kept = zip(&stay, &kept, other)?;
        }
        Ok(kept)
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    name: &'static str,
    operator: Operator,
    signature: Signature,
}

impl Ordered {
    fn holds(&self, order: Ordering) -> bool {
        match self.operator {
            Operator::Lt => order.is_lt(),
            Operator::LtEq => order.is_le(),
            Operator::Gt => order.is_gt(),
            _ => order.is_ge(),
        }
    }

    fn compared(&self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        let ((left, is_left_one), (right, is_right_one)) = (left.get(), right.get());
        let order = make_comparator(left, right, SortOptions { descending: false, nulls_first: false })?;
        let holds = |row: usize| {
            let (i, j) = (if is_left_one { 0 } else { row }, if is_right_one { 0 } else { row });
            (left.is_valid(i) && right.is_valid(j)).then(|| self.holds(order(i, j)))
        };
        let rows = if is_left_one { right.len() } else { left.len() };
        Ok(Arc::new((0..rows).map(holds).collect::<BooleanArray>()))
    }
}

impl ScalarUDFImpl for Ordered {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what comes of columns that are null and nothing else.
        if args.args.iter().any(|arg| arg.data_type().is_null()) {
            return Ok(ColumnarValue::Array(new_null_array(&DataType::Boolean, args.number_rows)));
        }
        match args.args.as_slice() {
            [left, right] => apply(left, right, |left, right| self.compared(left, right)),
            _ => plan_err!("{} takes two arrays", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, ListArray, Scalar};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use datafusion::logical_expr::col;

    #[test]
    fn null_elements_are_greater_than_all_others() {
        let arrays: Vec<Option<Vec<Option<i32>>>> = vec![
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(1), Some(2), Some(3)]),
            Some(vec![Some(1), None, Some(2)]),
            Some(vec![None]),
            Some(vec![None]),
            None,
        ];
        let column =
            |rows: &[Option<Vec<Option<i32>>>]| ListArray::from_iter_primitive::<Int32Type, _, _>(rows.to_vec());
        let all = column(&arrays);
        for (at, one) in arrays.iter().enumerate() {
            for (operator, signs) in [
                (Operator::Lt, [Ordering::Less].as_slice()),
                (Operator::LtEq, [Ordering::Less, Ordering::Equal].as_slice()),
                (Operator::Gt, [Ordering::Greater].as_slice()),
                (Operator::GtEq, [Ordering::Greater, Ordering::Equal].as_slice()),
            ] {
                let signature = Signature::any(2, Volatility::Immutable);
                let of = Ordered { name: "ordered", operator, signature };
                let alone = Scalar::new(column(&arrays[at..=at]));
                let found = of.compared(&alone, &all).expect("compared");
                // An element that is null as the greatest number is the order.
                let key = |array: &Vec<Option<i32>>| array.iter().map(|v| v.unwrap_or(i32::MAX)).collect::<Vec<_>>();
                let expected = arrays.iter().map(|other| {
                    let order = key(one.as_ref()?).cmp(&key(other.as_ref()?));
                    Some(signs.contains(&order))
                });
                assert_eq!(found.as_boolean(), &expected.collect::<BooleanArray>(), "{operator} {one:?}");
            }
        }
    }

    #[test]
    fn nulls_have_a_key_of_their_own_where_they_are_not_the_greatest() {
        let list = DataType::new_list(DataType::Int32, true);
        let schema = Schema::new(vec![Field::new("a", list, true), Field::new("x", DataType::Int32, true)]);
        let schema = DFSchema::try_from(schema).expect("a schema");
        for asc in [true, false] {
            let kept = vec![col("a").sort(asc, !asc), col("x").sort(asc, asc)];
            assert_eq!(nulls_apart(kept.clone(), &schema).expect("known types"), kept);
            let nulls = col("a").is_null().sort(!asc, false);
            let apart = vec![nulls, col("a").sort(asc, !asc)];
            assert_eq!(nulls_apart(vec![col("a").sort(asc, asc)], &schema).expect("known types"), apart);
            assert_eq!(nulls_apart(apart.clone(), &schema).expect("known types"), apart);
        }
    }
}
