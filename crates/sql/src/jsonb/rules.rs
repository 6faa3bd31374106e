//! Casts between jsonb and other types, and what is refused of a query because PostgreSQL has no such
//! function or operator, or because jsonb has no order here.
//!
//! Three moments: [`check`] refuses at binding, with the classes of errors that PostgreSQL has;
//! [`Casts`] gives the casts that are written their functions, before types are brought together;
//! [`Settled`] looks at the casts that bringing them together made: a text that is written out is
//! read as jsonb, and any other text is no jsonb.

use super::function::{JsonbFunction, Kind};
use super::{call, compute};
use crate::arrays;
use crate::composites;
use crate::error::{Error, Result};
use crate::references::called_at;
use crate::statement::Query;
use crate::types::{array_of, is_jsonb, is_text, pg_name};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, Like, Placeholder, ScalarFunction, Sort, TryCast};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use highwater_jsonb::Jsonpath;

/// Functions of DataFusion that take values of any type as they are.
const OF_ANY: [&str; 14] = [
    "pg_typeof",
    "coalesce",
    "nullif",
    "make_array",
    "count",
    "array_agg",
    "first_value",
    "last_value",
    "nth_value",
    "lag",
    "lead",
    "arrow_typeof",
    "grouping",
    "named_struct",
];

/// Whether a type is jsonb, or an array of it; values that have it as a part go by rules of their own.
fn has_jsonb(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => has_jsonb(of.data_type()),
        other => is_jsonb(other),
    }
}

/// Whether two types have jsonb in the same places.
fn is_alike(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::List(left), DataType::List(right)) => is_alike(left.data_type(), right.data_type()),
        (DataType::Null, _) => true,
        _ => has_jsonb(left) == has_jsonb(right) && is_jsonb(left) == is_jsonb(right),
    }
}

/// What a jsonb can be cast to, but for text.
fn is_cast_to(to: &DataType) -> bool {
    use DataType::{Boolean, Decimal128, Float32, Float64, Int16, Int32, Int64};
    matches!(to, Boolean | Int16 | Int32 | Int64 | Float32 | Float64 | Decimal128(..))
}

/// Gives the casts that are written PostgreSQL's meaning.
#[derive(Debug)]
pub(crate) struct Casts;

impl FunctionRewrite for Casts {
    fn name(&self) -> &'static str {
        "jsonb_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>, DataFusionError> {
        let expr = match expr {
            Expr::ScalarFunction(call) => return Ok(with_lists(call)),
            other => other,
        };
        let Expr::Cast(Cast { expr: inner, field }) = expr else { return Ok(Transformed::no(expr)) };
        let to = field.data_type();
        let function = match inner.get_type(schema) {
            Ok(from) if is_text(&from) && is_jsonb(to) => Some(("jsonb_in", Kind::Parsed)),
            Ok(from) if is_jsonb(&from) && is_text(to) => Some(("jsonb_out", Kind::Printed)),
            Ok(from) if is_jsonb(&from) && is_cast_to(to) => Some(("jsonb_cast", Kind::Cast(to.clone()))),
            _ => None,
        };
        Ok(match function {
            Some((name, kind)) => Transformed::yes(call(name, kind, vec![*inner])),
            None => Transformed::no(Expr::Cast(Cast { expr: inner, field })),
        })
    }
}

/// A call whose arrays of texts are read where they are written out as one text.
fn with_lists(mut call: ScalarFunction) -> Transformed<Expr> {
    let lists = JsonbFunction::of(&call.func).map_or(0..0, JsonbFunction::lists);
    let mut is_changed = false;
    for (at, arg) in call.args.iter_mut().enumerate() {
        if lists.contains(&at) && matches!(arg, Expr::Literal(ScalarValue::Utf8(_), _)) {
            *arg = arrays::parsed(arg.clone(), array_of(DataType::Utf8));
            is_changed = true;
        }
    }
    Transformed::new_transformed(Expr::ScalarFunction(call), is_changed)
}

/// Sees to the casts that bringing types together made.
#[derive(Debug)]
pub(crate) struct Settled;

impl AnalyzerRule for Settled {
    fn name(&self) -> &'static str {
        "jsonb_settled"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan, DataFusionError> {
        if !is_in(&plan)? {
            return Ok(plan);
        }
        let done = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let done = expr.transform_up(|expr| settled(expr, &schema))?;
                Ok(done.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(done.data)
    }
}

/// A cast that nobody wrote, of a text that is written out, as a jsonb.
///
/// # Errors
/// When the text is none, and for a cast of anything else to or from jsonb.
pub(crate) fn settled(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
    let to = field.data_type();
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
    if is_alike(&from, to) {
        return Ok(Transformed::no(expr));
    }
    if let Expr::Literal(value, _) = inner.as_ref()
        && let Some(text) = value.try_as_str().filter(|_| is_jsonb(to))
    {
        let made = text.map(highwater_jsonb::normal).transpose().map_err(compute::malformed)?;
        return Ok(Transformed::yes(Expr::Literal(ScalarValue::LargeUtf8(made), None)));
    }
    plan_err!("types {} and {} cannot be matched: cast one of them", pg_name(&from), pg_name(to))
}

/// Whether there is jsonb in a plan: most have none, and need no closer look.
fn is_in(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let told = |is: bool| if is { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue };
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found = node.schema().fields().iter().any(|field| composites::has_jsonb(field.data_type()));
        if found {
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = brings(expr);
                Ok(told(found))
            })
        })
    })?;
    Ok(found)
}

/// Whether an expression is of jsonb whatever its parts are.
fn brings(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
            composites::has_jsonb(field.data_type())
        }
        Expr::Placeholder(Placeholder { field: Some(field), .. }) => composites::has_jsonb(field.data_type()),
        Expr::Literal(value, _) => composites::has_jsonb(&value.data_type()),
        Expr::ScalarFunction(call) => JsonbFunction::is_own(&call.func),
        _ => false,
    }
}

/// Refuses what is not computed with jsonb.
///
/// # Errors
/// `Invalid` (42883, 42846) as PostgreSQL has it, and `Unsupported` where an order of jsonb is wanted, or a jsonpath
/// says more than keys and places.
pub(crate) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    if !is_in(plan).map_err(|e| Error::Plan(Box::new(e)))? {
        return Ok(());
    }
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        found = sorted(node, &schema);
        if found.is_some() {
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = fault(expr, &schema).or_else(|| path_refused(expr, query));
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    found.map_or(Ok(()), Err)
}

fn unordered(clause: &str) -> Error {
    Error::unsupported(clause, "jsonb has no order: take a part of it, such as (j ->> 'key')", None)
}

/// A node that sorts by jsonb.
fn sorted(node: &LogicalPlan, schema: &DFSchema) -> Option<Error> {
    match node {
        LogicalPlan::Sort(sort) => by_jsonb(&sort.expr, schema),
        LogicalPlan::Distinct(Distinct::On(on)) => by_jsonb(on.sort_expr.as_deref().unwrap_or_default(), schema),
        _ => None,
    }
}

fn by_jsonb(sorts: &[Sort], schema: &DFSchema) -> Option<Error> {
    let is_one = |sort: &Sort| has(&sort.expr, schema);
    sorts.iter().any(is_one).then(|| unordered("ORDER BY of jsonb"))
}

/// Whether an expression's type is known and has jsonb.
fn has(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| has_jsonb(&of))
}

fn fault(expr: &Expr, schema: &DFSchema) -> Option<Error> {
    match expr {
        Expr::ScalarFunction(call) => {
            let lists = JsonbFunction::of(&call.func).map_or(0..0, JsonbFunction::lists);
            if call.args.iter().enumerate().any(|(at, arg)| lists.contains(&at) && is_text_of_rows(arg, schema)) {
                return Some(no_function(call.func.name(), &call.args, schema));
            }
            let takes = JsonbFunction::is_own(&call.func) || arrays::takes_jsonb(&call.func);
            called(call.func.name(), takes, &call.args, schema)
        }
        Expr::AggregateFunction(call) => called(call.func.name(), false, &call.params.args, schema)
            .or_else(|| by_jsonb(&call.params.order_by, schema)),
        Expr::WindowFunction(call) => called(call.fun.name(), false, &call.params.args, schema)
            .or_else(|| by_jsonb(&call.params.order_by, schema)),
        Expr::BinaryExpr(binary) => operated(binary, schema),
        Expr::Between(Between { expr, low, high, .. }) => {
            [expr, low, high].into_iter().any(|part| has(part, schema)).then(|| unordered("BETWEEN of jsonb"))
        }
        Expr::Like(like) | Expr::SimilarTo(like) => {
            let Like { expr, pattern, .. } = like;
            (has(expr, schema) || has(pattern, schema)).then(|| no_operator("LIKE", expr, pattern, schema))
        }
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let (from, to) = (expr.get_type(schema).ok()?, field.data_type());
            let is_known = is_alike(&from, to)
                || is_text(&from) && has_jsonb(to)
                || has_jsonb(&from) && is_text(to)
                || is_jsonb(&from) && is_cast_to(to);
            (!is_known).then(|| Error::Invalid {
                sqlstate: "42846",
                message: format!("cannot cast type {} to {}", pg_name(&from), pg_name(to)),
                position: None,
            })
        }
        _ => None,
    }
}

/// A jsonpath that says more than keys and places, or is not the same for all rows.
fn path_refused(expr: &Expr, query: &Query) -> Option<Error> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let at = JsonbFunction::of(&call.func)?.jsonpath()?;
    let position = || called_at(query, call.func.name());
    match call.args.get(at)? {
        Expr::Literal(path, _) => {
            let text = path.try_as_str()??;
            let refused = || Error::unsupported(format!("the jsonpath {text:?}"), compute::PATHS, position());
            Jsonpath::of(text).is_none().then(refused)
        }
        Expr::Placeholder(_) => None,
        _ => Some(Error::unsupported("a jsonpath that is no constant", "write it out", position())),
    }
}

/// A function with arguments of jsonb that it has no meaning for.
fn called(name: &str, takes: bool, args: &[Expr], schema: &DFSchema) -> Option<Error> {
    if takes || OF_ANY.contains(&name) || !args.iter().any(|arg| has(arg, schema)) {
        return None;
    }
    Some(no_function(name, args, schema))
}

fn no_function(name: &str, args: &[Expr], schema: &DFSchema) -> Error {
    let given: Vec<String> = args.iter().map(|arg| type_name(arg, schema)).collect();
    let message = format!("function {name}({}) does not exist", given.join(", "));
    Error::Invalid { sqlstate: "42883", message, position: None }
}

/// Whether an expression is a text that nobody has written out.
fn is_text_of_rows(expr: &Expr, schema: &DFSchema) -> bool {
    let is_open = matches!(expr, Expr::Literal(..) | Expr::Placeholder(_));
    !is_open && expr.get_type(schema).is_ok_and(|of| is_text(&of))
}

fn type_name(expr: &Expr, schema: &DFSchema) -> String {
    expr.get_type(schema).map_or_else(|_| "unknown".to_owned(), |of| pg_name(&of))
}

fn no_operator(operator: &str, left: &Expr, right: &Expr, schema: &DFSchema) -> Error {
    let (left, right) = (type_name(left, schema), type_name(right, schema));
    let message = format!("operator does not exist: {left} {operator} {right}");
    Error::Invalid { sqlstate: "42883", message, position: None }
}

/// An operator with jsonb that it has no meaning for.
fn operated(binary: &BinaryExpr, schema: &DFSchema) -> Option<Error> {
    let BinaryExpr { left, op, right } = binary;
    if !has(left, schema) && !has(right, schema) {
        return None;
    }
    match op {
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
            Some(unordered(&format!("operator {op} of jsonb")))
        }
        Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
            let is_open =
                |side: &Expr| matches!(side, Expr::Literal(value, _) if is_text(&value.data_type()) || value.is_null());
            let is_parameter = |side: &Expr| matches!(side, Expr::Placeholder(_));
            let is_fit = |side: &Expr| has(side, schema) || is_open(side) || is_parameter(side);
            (!is_fit(left) || !is_fit(right)).then(|| no_operator(&op.to_string(), left, right, schema))
        }
        _ => Some(no_operator(&op.to_string(), left, right, schema)),
    }
}
