//! Arrays in SQL: PostgreSQL's functions and operators over them, and casts from and to their text.
//!
//! DataFusion has functions of the same names with other nulls, types and places; these take their
//! names. Arrays are Arrow lists of one dimension that begin at 1. `function` knows types, `compute`
//! values, `order` which is less, `text` the text form, and here stands how they come into a session.

mod compute;
mod function;
mod order;

pub use highwater_values::arrays as text;
pub(crate) use order::{nulls_apart, ordered, orders, outermost};

use crate::numbers;
use crate::types::{array_of, is_text};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, not_impl_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, LogicalPlan, Operator, ScalarUDF, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use function::{ArrayFunction, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `generate_series` is as a function that gives an array; `respell` writes it so.
pub(crate) const SERIES: &str = "generate_series_array";

/// The functions of this module by their names in SQL.
const NAMED: [(&str, Kind); 19] = [
    ("array_length", Kind::Length),
    ("array_upper", Kind::Length),
    ("array_lower", Kind::Lower),
    ("array_dims", Kind::Dimensions),
    ("array_ndims", Kind::DimensionCount),
    ("cardinality", Kind::Cardinality),
    ("array_append", Kind::Append),
    ("array_prepend", Kind::Prepend),
    ("array_cat", Kind::Joined),
    ("array_position", Kind::Position),
    ("array_positions", Kind::Positions),
    ("array_remove", Kind::Remove),
    ("array_replace", Kind::Replace),
    ("array_to_string", Kind::ToText),
    ("string_to_array", Kind::FromText),
    (SERIES, Kind::Series),
    ("array_contains_all", Kind::Contains),
    ("array_overlaps", Kind::Overlaps),
    ("array_element_at", Kind::Element),
];

/// The name of `value operator ANY (array)` as a function, or of ALL; none when there is no such
/// operator.
pub(crate) fn comparison(operator: &BinaryOperator, all: bool) -> Option<String> {
    let operator = COMPARISONS.iter().find(|(written, ..)| written == operator)?.1;
    Some(format!("{}_{operator}", if all { "all" } else { "any" }))
}

/// Operators that compare a value with the elements of an array.
const COMPARISONS: [(BinaryOperator, &str, Operator); 6] = [
    (BinaryOperator::Eq, "eq", Operator::Eq),
    (BinaryOperator::NotEq, "ne", Operator::NotEq),
    (BinaryOperator::Lt, "lt", Operator::Lt),
    (BinaryOperator::LtEq, "le", Operator::LtEq),
    (BinaryOperator::Gt, "gt", Operator::Gt),
    (BinaryOperator::GtEq, "ge", Operator::GtEq),
];

/// Makes the functions and casts known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (name, kind) in NAMED {
        state.register_udf(Arc::new(ArrayFunction::udf(name, kind)))?;
    }
    for (written, _, operator) in COMPARISONS {
        for all in [false, true] {
            let name = comparison(&written, all).expect("one of the comparisons");
            state.register_udf(Arc::new(ArrayFunction::udf(&name, Kind::Compared { operator, all })))?;
        }
    }
    state.register_function_rewrite(Arc::new(Casts))
}

/// The types of parameters that stand for the array in `value operator ANY ($1)`, by their names.
#[must_use]
pub fn parameters(plan: &LogicalPlan) -> BTreeMap<String, DataType> {
    let mut found = BTreeMap::new();
    let walked = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some((name, element)) = compared_with_parameter(expr, &schema) {
                    found.insert(name, array_of(element));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    // A walk that looks at expressions only does not fail.
    walked.map_or_else(|_| BTreeMap::new(), |_| found)
}

/// The parameter that a value is compared with the elements of, and the value's type.
fn compared_with_parameter(expr: &Expr, schema: &DFSchema) -> Option<(String, DataType)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let [value, Expr::Placeholder(parameter)] = function.args.as_slice() else { return None };
    let is_open = parameter.field.is_none() && ArrayFunction::compares(&function.func);
    let element = is_open.then(|| value.get_type(schema).ok())??;
    (!element.is_null()).then(|| (parameter.id.clone(), element))
}

/// Whether a function takes elements beside an array, or two arrays.
pub(crate) fn has_elements(function: &ScalarUDF) -> bool {
    ArrayFunction::has_elements(function)
}

/// Whether a function takes arrays and elements that have no order, as jsonb has none.
pub(crate) fn takes_jsonb(function: &ScalarUDF) -> bool {
    ArrayFunction::takes_unordered(function)
}

fn call(name: &str, kind: Kind, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ArrayFunction::udf(name, kind)), args))
}

/// A text that stands where an array of a type is wanted.
pub(crate) fn parsed(text: Expr, array: DataType) -> Expr {
    call("array_in", Kind::Parsed(array), vec![text])
}

fn is_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// A text that is written out is of the type of the array on the other side.
fn read_as(expr: Expr, other: &DataType) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Utf8(_), _) if is_array(other) => parsed(expr, other.clone()),
        _ => expr,
    }
}

/// Whether a slice has no step of its own; what is not written out is a bigint of the planner's.
const fn is_one(stride: &Expr) -> bool {
    matches!(stride, Expr::Literal(ScalarValue::Int64(Some(1)) | ScalarValue::Int32(Some(1)), _))
}

/// Binds operators, subscripts and literals of arrays.
#[derive(Debug)]
pub(crate) struct Arrays;

impl ExprPlanner for Arrays {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{ArrowAt, AtArrow, PGOverlap, StringConcat};
        let is_own = matches!(expr.op, StringConcat | AtArrow | ArrowAt | PGOverlap);
        if !is_own && !COMPARISONS.iter().any(|(operator, ..)| *operator == expr.op) {
            return Ok(PlannerResult::Original(expr));
        }
        // What has no type yet is left to others.
        let (Ok(left_type), Ok(right_type)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        if !is_array(&left_type) && !is_array(&right_type) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = (read_as(left, &right_type), read_as(right, &left_type));
        let is_whole = |expr: &Expr| -> Result<bool> {
            let data_type = expr.get_type(schema)?;
            Ok(is_array(&data_type) || data_type.is_null())
        };
        let planned = match op {
            StringConcat => match (is_whole(&left)?, is_whole(&right)?) {
                (true, true) => call("array_cat", Kind::Joined, vec![left, right]),
                (true, false) => call("array_append", Kind::Append, vec![left, right]),
                _ => call("array_prepend", Kind::Prepend, vec![left, right]),
            },
            AtArrow => call("array_contains_all", Kind::Contains, vec![left, right]),
            ArrowAt => call("array_contains_all", Kind::Contains, vec![right, left]),
            PGOverlap => call("array_overlaps", Kind::Overlaps, vec![left, right]),
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if !is_array(&expr.expr.get_type(schema)?) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawFieldAccessExpr { expr, field_access } = expr;
        Ok(match field_access {
            GetFieldAccess::ListIndex { key } => {
                PlannerResult::Planned(call("array_element_at", Kind::Element, vec![expr, *key]))
            }
            GetFieldAccess::ListRange { start, stop, stride } if is_one(&stride) => {
                PlannerResult::Planned(call("array_slice", Kind::Slice, vec![expr, *start, *stop]))
            }
            GetFieldAccess::ListRange { .. } => return not_impl_err!("a slice with a step"),
            field_access => PlannerResult::Original(RawFieldAccessExpr { expr, field_access }),
        })
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        for expr in &exprs {
            if expr.get_type(schema)?.is_nested() {
                return not_impl_err!("an array of more than one dimension");
            }
        }
        if let Some(to) = numbers::together(exprs.iter(), schema) {
            let exprs = exprs.into_iter().map(|expr| numbers::brought(expr, &to, schema)).collect();
            return Ok(PlannerResult::Original(exprs));
        }
        Ok(PlannerResult::Original(exprs))
    }
}

/// Casts between arrays and texts, which are PostgreSQL's forms and not Arrow's.
#[derive(Debug)]
pub(crate) struct Casts;

impl FunctionRewrite for Casts {
    fn name(&self) -> &'static str {
        "array_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr: inner, field }) if is_array(field.data_type()) || is_text(field.data_type()) => {
                let Ok(from) = inner.get_type(schema) else {
                    return Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field })));
                };
                let to = field.data_type();
                if is_text(&from) && is_array(to) {
                    return Ok(Transformed::yes(parsed(cast(*inner, DataType::Utf8), to.clone())));
                }
                if is_array(&from) && is_text(to) {
                    return Ok(Transformed::yes(call("array_out", Kind::Printed, vec![*inner])));
                }
                Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}
