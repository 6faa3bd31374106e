//! What is not to be computed because something before it says so, as PostgreSQL has it: arguments of an aggregate
//! for rows that its FILTER leaves out, and in queries that run once the right side of AND and OR where the left
//! side decides.
//!
//! DataFusion computes both for whole batches, and one row that fails ends the query. Arguments become
//! `CASE WHEN filter THEN argument END`, in views too; the FILTER stays, for aggregates that count nulls. A dataflow
//! computes what fails row by row, and needs no more. A query that runs once has its conditions put apart when all
//! other rules are done, so that none can put them together again: those that cannot fail come first, the others
//! look at the rows that are left, and what AND and OR have elsewhere becomes a CASE.
//!
//! Rules bring conditions that must hold together into an order of their own, what is cheap first. So those of a
//! filter guard each other in any order, in a dataflow (`conditions` of the engine) as in a query that runs once
//! (`together`): a row fails only if no condition that can be computed leaves it out.
//!
//! Only what may fail is guarded: plans in which nothing may are as they were.

use crate::exact::compares;
use crate::floats;
use crate::printed;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Projection, SortExpr, lit,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Computes arguments and sort keys of an aggregate for the rows that its FILTER keeps.
pub(crate) fn filtered(filter: Option<&Expr>, args: &mut [Expr], order_by: &mut [SortExpr], schema: &DFSchema) {
    let Some(filter) = filter.filter(|filter| !filter.is_volatile() && !has_subquery(filter)) else { return };
    for value in args.iter_mut().chain(order_by.iter_mut().map(|key| &mut key.expr)) {
        // What reads no column is a constant, and some functions want to see that.
        if value.any_column_refs() && fails_beside(filter, value, schema) {
            *value = kept(filter, std::mem::take(value), schema);
        }
    }
}

/// `CASE WHEN filter THEN value END`, below the casts that types have got.
fn kept(filter: &Expr, value: Expr, schema: &DFSchema) -> Expr {
    match value {
        Expr::Cast(Cast { expr, field }) if is_safe(&expr, field.data_type(), schema) => {
            Expr::Cast(Cast { expr: Box::new(kept(filter, *expr, schema)), field })
        }
        // DataFusion makes AND and OR of a CASE that is a condition, but not of one that looks at a value.
        value if value.get_type(schema).is_ok_and(|of| of == DataType::Boolean) => {
            let branch = (Box::new(lit(true)), Box::new(value));
            Expr::Case(Case::new(Some(Box::new(filter.clone())), vec![branch], None))
        }
        value => when(filter.clone(), value, None),
    }
}

fn when(condition: Expr, then: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case(Case::new(None, vec![(Box::new(condition), Box::new(then))], otherwise.map(Box::new)))
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |part: &Expr| {
        Ok(matches!(part, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
    };
    expr.exists(is_one).unwrap_or(true)
}

/// What conditions have in common, which DataFusion computes once below their filter, is put back into those where it
/// may fail: for a row that another condition leaves out it is not to be computed. Views are lowered without it.
#[derive(Debug)]
pub(crate) struct Uncommon;

/// How the names begin of what expressions have in common.
const COMMON: &str = "__common_expr";

impl OptimizerRule for Uncommon {
    fn name(&self) -> &'static str {
        "uncommon"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Projection(below) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let common = |expr: &'_ Expr| match expr {
            Expr::Alias(alias) if alias.relation.is_none() && alias.name.starts_with(COMMON) => {
                Some((alias.name.clone(), alias.expr.as_ref().clone()))
            }
            _ => None,
        };
        let computed: BTreeMap<String, Expr> = below.expr.iter().filter_map(common).collect();
        let is_computed = |column: &Column| column.relation.is_none().then(|| computed.get(&column.name)).flatten();
        let fails = |column: &&Column| is_computed(column).is_some_and(|expr| may_fail(expr, below.input.schema()));
        if !filter.predicate.column_refs().iter().any(fails) {
            return Ok(Transformed::no(plan));
        }
        let predicate = filter.predicate.clone().transform_up(|part| {
            let whole = if let Expr::Column(column) = &part { is_computed(column).cloned() } else { None };
            Ok(whole.map_or_else(|| Transformed::no(part), Transformed::yes))
        })?;
        let filtered = LogicalPlan::Filter(Filter::try_new(predicate.data, Arc::clone(&below.input))?);
        let schema = Arc::clone(&below.schema);
        let above = Projection::try_new_with_schema(below.expr.clone(), Arc::new(filtered), schema)?;
        Ok(Transformed::yes(LogicalPlan::Projection(above)))
    }
}

/// Whether a row may be one for which an expression cannot be computed.
fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|part| Ok(fails_itself(part, schema))).unwrap_or(true)
}

/// The same of what is not guarded by a filter yet.
fn fails_beside(filter: &Expr, expr: &Expr, schema: &DFSchema) -> bool {
    let mut fails = false;
    let looked = expr.apply(|part| {
        if is_kept(filter, part) {
            return Ok(TreeNodeRecursion::Jump);
        }
        fails |= fails_itself(part, schema);
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails || looked.is_err()
}

fn is_kept(filter: &Expr, expr: &Expr) -> bool {
    let Expr::Case(Case { expr: of, when_then_expr, else_expr: None }) = expr else { return false };
    match (of, when_then_expr.as_slice()) {
        (None, [(condition, _)]) => condition.as_ref() == filter,
        (Some(of), [(condition, _)]) => of.as_ref() == filter && **condition == lit(true),
        _ => false,
    }
}

/// Whether the outermost part of an expression may fail, when all in it has been computed.
fn fails_itself(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Placeholder(_)
        | Expr::Like(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_)
        // Subqueries are computed before.
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_) => false,
        Expr::BinaryExpr(BinaryExpr { op, .. }) => !compares(*op) && !matches!(op, Operator::And | Operator::Or),
        Expr::Cast(cast) => !is_safe(&cast.expr, cast.field.data_type(), schema),
        Expr::ScalarFunction(call) => floats::keyed(expr).is_none() && call.func.name() != printed::NAME,
        _ => true,
    }
}

/// Whether a type has all values of an expression.
fn is_safe(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|from| fits(&from, to))
}

/// Whether a type has all values of another one.
pub(crate) fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int16, Int32, Int64, LargeUtf8, Null, Utf8, Utf8View};
    if from == to {
        return true;
    }
    match (from, to) {
        (Null, _)
        | (_, Utf8 | LargeUtf8 | Utf8View)
        | (Int16, Int32 | Int64 | Float32 | Float64)
        | (Int32, Int64 | Float32 | Float64)
        | (Int64, Float32 | Float64)
        | (Float32 | Decimal128(..), Float64) => true,
        (whole, Decimal128(digits, scale)) => {
            let places = i16::from(*digits) - i16::from(*scale);
            match whole {
                Int16 => places >= 5,
                Int32 => places >= 10,
                Int64 => places >= 19,
                Decimal128(from, of) => scale >= of && places >= i16::from(*from) - i16::from(*of),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Plans queries that run once, with their conditions put apart.
#[derive(Debug)]
pub(crate) struct Guarded;

#[async_trait]
impl QueryPlanner for Guarded {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = guarded(plan.clone())?;
        DefaultPhysicalPlanner::default().create_physical_plan(&guarded, session).await
    }
}

fn guarded(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(guarded_node)?.data)
}

fn guarded_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Filter(filter) => apart(filter),
        LogicalPlan::Join(join) => joined(join),
        node if has_values(&node) => values_of(node),
        other => Ok(Transformed::no(other)),
    }
}

/// Whether AND and OR are values in a node. Grouping sets are of columns and have no name of their own.
fn has_values(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Projection(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => true,
        LogicalPlan::Aggregate(grouped) => !grouped.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))),
        _ => false,
    }
}

/// A join whose condition on pairs of rows begins with what cannot fail.
fn joined(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&[join.left.as_ref(), join.right.as_ref()]);
    let Some(condition) = join.filter.take_if(|condition| may_fail(condition, &schema)) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let (safe, mut others) = sorted(condition, &schema);
    // Rules have put patterns behind what is cheap, such as casts.
    others.sort_by_key(|other| !is_pattern(other));
    let mut whole = conjunction(safe);
    for other in others {
        let other = truth(other, &schema)?;
        whole = Some(match whole {
            Some(before) => true_of(before, Operator::And, other, &schema),
            None => other,
        });
    }
    join.filter = whole;
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

/// A filter as one filter of all conditions that cannot fail, and one above of those that may.
fn apart(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    if !may_fail(&filter.predicate, &schema) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let (safe, others) = sorted(filter.predicate, &schema);
    let others = others.into_iter().map(|other| truth(other, &schema)).collect::<Result<Vec<_>>>()?;
    let mut input = filter.input;
    for condition in [conjunction(safe), conjunction(others)].into_iter().flatten() {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(condition, input)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
}

/// The conditions of a conjunction that cannot fail, and the others, both in their order.
fn sorted(condition: Expr, schema: &DFSchema) -> (Vec<Expr>, Vec<Expr>) {
    split_conjunction_owned(condition).into_iter().partition(|part| !may_fail(part, schema))
}

fn is_pattern(expr: &Expr) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch, .. }))
}

fn junction(expr: &Expr) -> Option<(&Expr, Operator, &Expr)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            Some((left, *op, right))
        }
        _ => None,
    }
}

/// A condition of which it matters only whether it is true.
fn truth(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (truth(*left, schema)?, truth(*right, schema)?);
            Ok(true_of(left, op, right, schema))
        }
        other => Ok(values(other, schema)?.data),
    }
}

/// AND or OR of which it matters only whether it is true: where the left side is null, what the right side is
/// decides as where it is false.
fn true_of(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Expr {
    if !may_fail(&right, schema) {
        return Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    }
    match op {
        Operator::And => when(left, right, Some(lit(false))),
        _ => when(left, lit(true), Some(right)),
    }
}

/// A node whose expressions have a value of AND and OR.
fn values_of(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let counted = expr.transform_up(|part| of_filter(part, &schema))?;
        let done = counted.transform_data(|expr| values(expr, &schema))?;
        Ok(if done.transformed { done.update_data(|expr| name.restore(expr)) } else { done })
    })
}

/// An aggregate whose FILTER matters only where it is true.
fn of_filter(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let Some(filter) = call.params.filter.take_if(|filter| may_fail(filter, schema)) else {
        return Ok(Transformed::no(Expr::AggregateFunction(call)));
    };
    call.params.filter = Some(Box::new(truth(*filter, schema)?));
    Ok(Transformed::yes(Expr::AggregateFunction(call)))
}

fn values(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let Some((left, op, right)) = junction(&expr) else { return Ok(Transformed::no(expr)) };
        // A subquery is planned where it stands, which is to be one place.
        if !may_fail(right, schema) || has_subquery(right) || right.is_volatile() {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(value_of(left, op, right)))
    })
}

/// The value of AND or OR, whose right side is computed where the left side does not decide. Where that is null,
/// the right side decides or nothing does.
fn value_of(left: &Expr, op: Operator, right: &Expr) -> Expr {
    let decides = op == Operator::Or;
    let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
    let open = BinaryExpr::new(Box::new(right.clone()), op, Box::new(unknown));
    let branches =
        vec![(Box::new(lit(decides)), Box::new(lit(decides))), (Box::new(lit(!decides)), Box::new(right.clone()))];
    Expr::Case(Case::new(Some(Box::new(left.clone())), branches, Some(Box::new(Expr::BinaryExpr(open)))))
}

#[cfg(test)]
mod tests;
