//! Conditions that tie a subquery to the query around it, pulled up to its top.
//!
//! Invariant: the rows of what is lifted, of which its ties are true for a row around it, are those of the
//! subquery for that row. What a tie compares becomes a column of its own, by a name that nothing else has,
//! and goes along: windows, groups and DISTINCT are then made for each of its values. That is the same only
//! where at most one value of each column is true for a row around, so it takes equations.

use super::Planned;
use super::around::{around, lateral};
use super::refused::refused;
use crate::floats::is_float;
use crate::lateral::has_subquery;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, Operator, Projection,
    SubqueryAlias, Unnest, Window, binary_expr, cast, lit,
};
use std::sync::Arc;

/// Names of columns that are compared with the row around.
#[derive(Debug, Default)]
pub(super) struct Names(usize);

impl Names {
    pub(super) fn next(&mut self) -> String {
        self.0 += 1;
        format!("__bound_{}", self.0)
    }
}

/// A subquery without what ties it.
pub(super) struct Lifted {
    plan: LogicalPlan,
    ties: Vec<Tie>,
}

struct Tie {
    /// A condition over columns of the plan and of the query around it.
    condition: Expr,
    /// The columns of the plan in it.
    columns: Vec<Column>,
    /// Whether it is true of one value of the column at most.
    is_equal: bool,
    /// What around the subquery the column equals.
    equals: Option<Expr>,
}

impl Lifted {
    /// Its rows, of which the ties are true.
    pub(super) fn tied(self) -> Planned<LogicalPlan> {
        let Self { plan, ties } = self;
        match conjunction(ties.into_iter().map(|tie| tie.condition)) {
            Some(condition) => Filter::try_new(condition, Arc::new(plan)).map(LogicalPlan::Filter),
            None => Ok(plan),
        }
    }

    /// Whether rows of one value of the ties' columns are all that are true for a row around.
    pub(super) fn is_equal(&self) -> bool {
        self.ties.iter().all(|tie| tie.is_equal)
    }

    /// The ties' columns.
    fn bound(&self) -> Vec<Expr> {
        self.ties.iter().flat_map(|tie| tie.columns.iter().cloned()).map(Expr::Column).collect()
    }
}

/// A subquery with its ties apart. Of a set it does not matter how often a row is there.
pub(super) fn lifted(plan: &LogicalPlan, is_set: bool, names: &mut Names) -> Planned<Lifted> {
    if around(plan)?.is_empty() {
        return Ok(Lifted { plan: plan.clone(), ties: Vec::new() });
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            let input = lifted(&filter.input, is_set, names)?;
            filtered(input, split_conjunction_owned(filter.predicate.clone()), names)
        }
        LogicalPlan::Projection(projection) => shown(projection, is_set, names),
        LogicalPlan::SubqueryAlias(alias) => named(alias, is_set, names),
        LogicalPlan::Join(join) => joined(join, is_set, names),
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate, is_set, names),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let input = lifted(input, is_set, names)?;
            equal(&input, is_set, "DISTINCT")?;
            let Lifted { plan, ties } = input;
            Ok(Lifted { plan: LogicalPlan::Distinct(Distinct::All(Arc::new(plan))), ties })
        }
        LogicalPlan::Window(window) => numbered(window, names),
        LogicalPlan::Unnest(unnest) => {
            if matches!(unnest.input.as_ref(), LogicalPlan::Projection(lists) if lists.expr.iter().any(Expr::contains_outer))
            {
                let hint = "put it into FROM right after the table of its column, and filter in WHERE";
                return refused("unnest() of a column of the query around a subquery", hint);
            }
            let Lifted { plan, ties } = lifted(&unnest.input, is_set, names)?;
            let unnest = Unnest::try_new(Arc::new(plan), unnest.exec_columns.clone(), unnest.options.clone())?;
            Ok(Lifted { plan: LogicalPlan::Unnest(unnest), ties })
        }
        // A relation has no order.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => lifted(&sort.input, is_set, names),
        LogicalPlan::Union(_) => refused("UNION in a correlated subquery", JOIN),
        LogicalPlan::Limit(_) => {
            refused("LIMIT or OFFSET in a correlated subquery", "number the rows with row_number(), or take min or max")
        }
        LogicalPlan::Distinct(Distinct::On(_)) => refused("DISTINCT ON in a correlated subquery", JOIN),
        _ => refused("this correlated subquery", JOIN),
    }
}

/// What to write instead.
const JOIN: &str = "write it as a join";

/// Refuses what is made of all rows of a value where rows of several may be true.
fn equal(input: &Lifted, is_set: bool, clause: &str) -> Planned<()> {
    if is_set || input.is_equal() {
        return Ok(());
    }
    refused(format!("{clause} in a correlated subquery that is tied by more than equalities"), JOIN)
}

/// A plan's rows of which conditions are true.
fn filtered(input: Lifted, parts: Vec<Expr>, names: &mut Names) -> Planned<Lifted> {
    let Lifted { mut plan, mut ties } = input;
    let (tied, own): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(Expr::contains_outer);
    if let Some(own) = conjunction(own) {
        plan = LogicalPlan::Filter(Filter::try_new(own, Arc::new(plan))?);
    }
    if tied.is_empty() {
        return Ok(Lifted { plan, ties });
    }
    let schema = Arc::clone(plan.schema());
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let known = ties.len();
    for part in tied {
        if has_subquery(&part) {
            let hint = "write it as a join, or the inner one in a condition of its own";
            return refused("a subquery in a condition that ties another one to the query around it", hint);
        }
        ties.push(tie(part, &schema, &mut columns, names)?);
    }
    let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
    Ok(Lifted { plan: alike(plan, &ties, known)?, ties })
}

/// A plan's rows of which those columns are equal that equal the same: so a join of two tied sides goes by them.
fn alike(plan: LogicalPlan, ties: &[Tie], known: usize) -> Planned<LogicalPlan> {
    let mut equations = Vec::new();
    for (at, tie) in ties.iter().enumerate().skip(known) {
        let is_same = |other: &&Tie| tie.equals.is_some() && other.equals == tie.equals;
        let Some(other) = ties[..at].iter().find(is_same) else { continue };
        for (left, right) in other.columns.iter().zip(&tie.columns) {
            let (left, right) = (Expr::Column(left.clone()), Expr::Column(right.clone()));
            if left.get_type(plan.schema())? == right.get_type(plan.schema())? {
                equations.push(left.eq(right));
            }
        }
    }
    match conjunction(equations) {
        Some(condition) => Filter::try_new(condition, Arc::new(plan)).map(LogicalPlan::Filter),
        None => Ok(plan),
    }
}

/// A condition over columns of its own, which are put to the others.
fn tie(part: Expr, schema: &DFSchema, columns: &mut Vec<Expr>, names: &mut Names) -> Planned<Tie> {
    let mut bound = |expr: Expr| {
        let column = Column::from_name(names.next());
        columns.push(expr.alias(column.name.as_str()));
        column
    };
    if !part.any_column_refs() {
        // It is true of all rows or of none.
        let column = bound(lit(true));
        let condition = Expr::Column(column.clone()).eq(part);
        return Ok(Tie { condition, columns: vec![column], is_equal: true, equals: None });
    }
    if let Some((inner, op, outer)) = equation(&part) {
        let column = bound(compared_as(inner, outer, schema));
        let condition = binary_expr(Expr::Column(column.clone()), op, outer.clone());
        let equals = (op == Operator::Eq).then(|| outer.clone());
        return Ok(Tie { condition, columns: vec![column], is_equal: true, equals });
    }
    let mut held = Vec::new();
    let condition = part.transform_up(|e| match e {
        Expr::Column(column) => {
            let column = bound(Expr::Column(column));
            held.push(column.clone());
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Tie { condition: condition.data, columns: held, is_equal: false, equals: None })
}

/// The sides of an equation of which one is of the subquery and the other of the query around it.
pub(crate) fn equation(part: &Expr) -> Option<(&Expr, Operator, &Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
    if !matches!(op, Operator::Eq | Operator::IsNotDistinctFrom) {
        return None;
    }
    let is_outer = |side: &Expr| side.contains_outer() && !side.any_column_refs();
    let is_inner = |side: &Expr| side.any_column_refs() && !side.contains_outer();
    match (left.as_ref(), right.as_ref()) {
        (inner, outer) | (outer, inner) if is_inner(inner) && is_outer(outer) => Some((inner, *op, outer)),
        _ => None,
    }
}

/// Whether different values of the one side are never equal to one of the other. Floating point has fewer
/// digits than what it is compared with.
pub(super) fn is_exact(inner: &Expr, outer: &Expr, schema: &DFSchema) -> bool {
    // A parameter need not have a type yet.
    let (Ok(inner), Ok(outer)) = (inner.get_type(schema), outer.get_type(schema)) else { return true };
    !is_float(&outer) || is_float(&inner) || !inner.is_numeric()
}

/// The side of the subquery, such that what is equal to the other side is equal.
fn compared_as(inner: &Expr, outer: &Expr, schema: &DFSchema) -> Expr {
    if is_exact(inner, outer, schema) { inner.clone() } else { cast(inner.clone(), DataType::Float64) }
}

fn shown(projection: &Projection, is_set: bool, names: &mut Names) -> Planned<Lifted> {
    if projection.expr.iter().any(Expr::contains_outer) {
        let hint = "select it in the query around the subquery, or write a join";
        return refused("a column of the query around it in SELECT of a correlated subquery", hint);
    }
    let input = lifted(&projection.input, is_set, names)?;
    let exprs = projection.expr.iter().cloned().chain(input.bound()).collect();
    let Lifted { plan, ties } = input;
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    Ok(Lifted { plan, ties })
}

fn named(alias: &SubqueryAlias, is_set: bool, names: &mut Names) -> Planned<Lifted> {
    let Lifted { plan, ties } = lifted(&alias.input, is_set, names)?;
    let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.alias.clone())?);
    let named = |column: Column| Column::new(Some(alias.alias.clone()), column.name);
    let ties = ties.into_iter().map(|tie| -> Planned<Tie> {
        let condition = tie.condition.transform_up(|e| match e {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(named(column)))),
            other => Ok(Transformed::no(other)),
        })?;
        let columns = tie.columns.into_iter().map(named).collect();
        Ok(Tie { condition: condition.data, columns, ..tie })
    });
    let ties = ties.collect::<Planned<_>>()?;
    Ok(Lifted { plan, ties })
}

fn joined(join: &Join, is_set: bool, names: &mut Names) -> Planned<Lifted> {
    // A lateral side reads the other one, and nothing else.
    let is_lateral = lateral(&join.right).is_some();
    let is_outer = |(left, right): &&(Expr, Expr)| left.contains_outer() || right.contains_outer();
    let (tied, on): (Vec<_>, Vec<_>) = join.on.iter().partition(is_outer);
    let tied = tied.into_iter().map(|(left, right)| left.clone().eq(right.clone()));
    let parts = tied.chain(join.filter.clone().map(split_conjunction_owned).unwrap_or_default());
    let (tied, own): (Vec<Expr>, Vec<Expr>) = parts.partition(Expr::contains_outer);
    let is_tied_left = !around(&join.left)?.is_empty();
    let is_tied_right = !is_lateral && !around(&join.right)?.is_empty();
    let can_be = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left => tied.is_empty() && !is_tied_right,
        JoinType::Right => tied.is_empty() && !is_tied_left,
        _ => false,
    };
    if !can_be {
        return refused(format!("{} in a correlated subquery", called(join.join_type)), JOIN);
    }
    let Lifted { plan: left, mut ties } = lifted(&join.left, is_set, names)?;
    let right = if is_lateral {
        Lifted { plan: join.right.as_ref().clone(), ties: Vec::new() }
    } else {
        lifted(&join.right, is_set, names)?
    };
    let known = ties.len();
    ties.extend(right.ties);
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right.plan),
        on.into_iter().cloned().collect(),
        conjunction(own),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let plan = alike(LogicalPlan::Join(joined), &ties, known)?;
    filtered(Lifted { plan, ties }, tied, names)
}

const fn called(join: JoinType) -> &'static str {
    match join {
        JoinType::LeftSemi => "INTERSECT",
        JoinType::LeftAnti => "EXCEPT",
        _ => "a tied side of an outer join",
    }
}

fn grouped(aggregate: &Aggregate, is_set: bool, names: &mut Names) -> Planned<Lifted> {
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    if group_expr.is_empty() {
        return refused("an aggregate without GROUP BY within a correlated subquery", JOIN);
    }
    if matches!(group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return refused("GROUPING SETS in a correlated subquery", JOIN);
    }
    if group_expr.iter().chain(aggr_expr).any(Expr::contains_outer) {
        return refused("a column of the query around it in GROUP BY or an aggregate of a correlated subquery", JOIN);
    }
    let is_set = is_set && aggr_expr.is_empty();
    let input = lifted(input, is_set, names)?;
    equal(&input, is_set, "GROUP BY")?;
    let groups = group_expr.iter().cloned().chain(input.bound()).collect();
    let Lifted { plan, ties } = input;
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), groups, aggr_expr.clone())?);
    Ok(Lifted { plan, ties })
}

fn numbered(window: &Window, names: &mut Names) -> Planned<Lifted> {
    let input = lifted(&window.input, false, names)?;
    equal(&input, false, "OVER")?;
    let bound = input.bound();
    let Lifted { plan, ties } = input;
    let mut shown: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let mut calls = Vec::with_capacity(window.window_expr.len());
    for expr in &window.window_expr {
        let Expr::WindowFunction(call) = expr else { return refused("this OVER in a correlated subquery", JOIN) };
        if expr.contains_outer() {
            return refused("a column of the query around it in OVER of a correlated subquery", JOIN);
        }
        let mut call = call.clone();
        call.params.partition_by.extend(bound.iter().cloned());
        let call = Expr::WindowFunction(call);
        // It is known by what it is.
        let column = Column::from_name(call.schema_name().to_string());
        shown.push(Expr::Column(column).alias(expr.schema_name().to_string()));
        calls.push(call);
    }
    let plan = LogicalPlan::Window(Window::try_new(calls, Arc::new(plan))?);
    let plan = LogicalPlan::Projection(Projection::try_new(shown, Arc::new(plan))?);
    Ok(Lifted { plan, ties })
}
