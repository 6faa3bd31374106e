//! Subqueries that DataFusion makes joins of as they are: a WHERE that ties them, over what is not tied, and
//! above it no more than SELECT, GROUP BY and HAVING.
//!
//! The columns that a tie compares leave the subquery by their names, beside those that it shows: so no two of
//! them have one name.

use super::Planned;
use super::around::around;
use super::lifted::{equation, is_exact};
use crate::floats::is_interval;
use crate::lateral::has_subquery;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, Operator};

/// Whether a subquery's rows are right as they are. Of a set it does not matter how often a row is there.
pub(super) fn is_plain(plan: &LogicalPlan, is_set: bool) -> Planned<bool> {
    let mut way = Way { is_equal: true, ..Way::default() };
    Ok(way.is_plain(plan, is_set)? && way.has_names())
}

/// Whether what is made of all rows for each row around is right: it is made for each value of columns that equal
/// what is around.
pub(super) fn is_keyed(plan: &LogicalPlan) -> Planned<bool> {
    let mut way = Way { is_equal: true, ..Way::default() };
    Ok(way.is_plain(plan, true)? && way.is_equal)
}

/// Whether an aggregate without GROUP BY is right as it is: all that is shown is computed from aggregates,
/// by which DataFusion tells what it is without rows.
pub(super) fn is_plain_single(plan: &LogicalPlan) -> Planned<bool> {
    Ok(way_of_single(plan)?.is_some())
}

/// The same of LATERAL. DataFusion joins what is aggregated by `=` of columns alone, and other equations become such in
/// values only.
pub(super) fn is_plain_lateral(plan: &LogicalPlan) -> Planned<bool> {
    Ok(way_of_single(plan)?.is_some_and(|way| !way.is_respelled))
}

/// The way of ties to the top of such an aggregate; none where it is not right as it is.
fn way_of_single(plan: &LogicalPlan) -> Planned<Option<Way>> {
    let none: &[Expr] = &[];
    let (shown, aggregate) = match plan {
        LogicalPlan::Aggregate(aggregate) => (none, aggregate),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Aggregate(aggregate) => (projection.expr.as_slice(), aggregate),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let is_own = |expr: &Expr| !expr.contains_outer() && !has_subquery(expr);
    let is_computed = |expr: &Expr| is_own(expr) && expr.any_column_refs();
    if !group_expr.is_empty() || !aggr_expr.iter().all(is_own) || !shown.iter().all(is_computed) {
        return Ok(None);
    }
    let mut way = Way { is_equal: true, shown: shown.to_vec(), ..Way::default() };
    let is_plain = way.is_plain(input, false)? && way.is_equal && way.has_names();
    Ok(is_plain.then_some(way))
}

/// Whether a subquery with GROUP BY is right as it is, and gives one row at most: its groups are what ties it.
pub(super) fn is_plain_group(plan: &LogicalPlan) -> Planned<bool> {
    let mut rows = plan;
    while let LogicalPlan::Projection(projection) = rows {
        rows = &projection.input;
    }
    if let LogicalPlan::Filter(having) = rows {
        if having.predicate.contains_outer() {
            return Ok(false);
        }
        rows = &having.input;
    }
    let LogicalPlan::Aggregate(aggregate) = rows else { return Ok(false) };
    let mut way = Way { is_equal: true, ..Way::default() };
    if aggregate.aggr_expr.is_empty() || !way.is_plain(plan, false)? || !way.has_names() {
        return Ok(false);
    }
    Ok(aggregate.group_expr.iter().all(|group| matches!(group, Expr::Column(column) if way.tied.contains(column))))
}

/// What is on the way of ties to the top.
#[derive(Default)]
struct Way {
    /// The subquery's columns in ties.
    tied: Vec<Column>,
    /// What is shown at any step.
    shown: Vec<Expr>,
    /// Whether each tie below is an equation that is true of one value at most.
    is_equal: bool,
    /// Whether one of them becomes other equations.
    is_respelled: bool,
}

impl Way {
    fn is_plain(&mut self, plan: &LogicalPlan, is_set: bool) -> Planned<bool> {
        if around(plan)?.is_empty() {
            return Ok(true);
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                if !self.is_plain(&filter.input, is_set)? {
                    return Ok(false);
                }
                for part in split_conjunction(&filter.predicate).into_iter().filter(|part| part.contains_outer()) {
                    // Of `x = x` DataFusion forgets that a null is no match.
                    if has_subquery(part) || !part.any_column_refs() {
                        return Ok(false);
                    }
                    self.is_equal &= is_key(part, filter.input.schema());
                    self.is_respelled |= becomes_others(part, filter.input.schema());
                    self.tied.extend(part.column_refs().into_iter().cloned());
                }
                Ok(true)
            }
            LogicalPlan::Projection(projection) => {
                self.shown.extend(projection.expr.iter().cloned());
                let is_own = !projection.expr.iter().any(Expr::contains_outer);
                Ok(is_own && self.is_plain(&projection.input, is_set)?)
            }
            LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) => {
                let is_grouped = !group_expr.is_empty() && !matches!(group_expr.as_slice(), [Expr::GroupingSet(_)]);
                if !is_grouped || group_expr.iter().chain(aggr_expr).any(Expr::contains_outer) {
                    return Ok(false);
                }
                let is_set = is_set && aggr_expr.is_empty();
                Ok(self.is_plain(input, is_set)? && (is_set || self.is_equal))
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                Ok(self.is_plain(input, is_set)? && (is_set || self.is_equal))
            }
            _ => Ok(false),
        }
    }

    /// Whether the names of columns in ties are no others' too.
    fn has_names(&self) -> bool {
        let is_own = |tied: &Column| {
            let is_other = |other: &Column| other.name == tied.name && other != tied;
            let hides = |expr: &Expr| !matches!(expr, Expr::Column(own) if own == tied) && is_called(expr, tied);
            !self.tied.iter().any(is_other) && !self.shown.iter().any(hides)
        };
        self.tied.iter().all(is_own)
    }
}

/// Whether an expression goes by a column's name: a cast has the name of what is cast.
fn is_called(expr: &Expr, column: &Column) -> bool {
    match expr {
        Expr::Cast(Cast { expr, .. }) => is_called(expr, column),
        expr => expr.qualified_name().1 == column.name,
    }
}

/// Whether a tie is one past which what is aggregated is right: DataFusion groups by the columns in it, so a cast
/// would make several groups of what is equal.
fn is_key(part: &Expr, schema: &DFSchema) -> bool {
    let Some((inner, op, outer)) = equation(part) else { return false };
    let is_known = matches!(inner, Expr::Column(_)) || op == Operator::IsNotDistinctFrom;
    is_known && is_exact(inner, outer, schema)
}

/// Whether an equation becomes one of other columns in a value: one of nulls too, or of intervals.
fn becomes_others(part: &Expr, schema: &DFSchema) -> bool {
    let Some((inner, op, _)) = equation(part) else { return false };
    op == Operator::IsNotDistinctFrom || inner.get_type(schema).is_ok_and(|of| is_interval(&of))
}
