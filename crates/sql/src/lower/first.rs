//! The first rows of groups: what stands below a LIMIT, a top-k or a DISTINCT ON, so that these see few
//! rows, whatever their groups hold. A top-k is by row_number(), rank() or dense_rank(), of which the last
//! two have tied rows: there the order is the query's own, elsewhere all columns complete it.

use super::Builder;
use super::aggregate::key_names;
use super::flow::Flow;
use super::ties;
use crate::error::Result;
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Cast, Expr, Operator as Compare, SortExpr, Window};
use highwater_engine::plan::{First, Operator, Ranking, SortKey};
use std::sync::Arc;

/// The most rows of a group that are kept apart; of more than that the whole group is looked at.
const MOST_ROWS: usize = 10_000;

/// Groups of a query's rows and the order of each.
pub(super) struct Ranked<'a> {
    pub(super) keys: &'a [Expr],
    pub(super) order: &'a [SortExpr],
    pub(super) ranking: Ranking,
    pub(super) input: &'a DFSchemaRef,
}

impl Builder<'_> {
    /// The flow's first rows of each group, `most` of them; the flow itself where they would be none or
    /// too many.
    pub(super) fn first(&mut self, ranked: &Ranked<'_>, most: usize, flow: Flow, owner: &str) -> Result<Flow> {
        let has_ties = ranked.ranking != Ranking::RowNumber;
        // Without an order all rows are tied.
        if most == 0 || most > MOST_ROWS || has_ties && ranked.order.is_empty() {
            return Ok(flow);
        }
        let keys = self.physical(ranked.keys, ranked.input)?;
        let order = if has_ties { ranked.order.to_vec() } else { ties::untied(ranked.order, ranked.input) };
        let exprs: Vec<Expr> = order.iter().map(|sort| sort.expr.clone()).collect();
        let exprs = self.physical(&exprs, ranked.input)?.into_iter().zip(&order);
        let sort_key = |(expr, sort): (_, &SortExpr)| {
            let options = arrow::compute::SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            SortKey { expr, options }
        };
        let order = exprs.map(sort_key).collect();
        let schema = Arc::clone(flow.schema());
        let input = self.settle(flow, owner);
        let operator = Operator::First(First { keys, order, rows: most, ranking: ranked.ranking });
        let what = format!("first({})", key_names(ranked.keys)?);
        let node = self.add(owner, &what, vec![input], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }
}

/// The groups of which a filter over window functions takes rows by their number alone, and the greatest
/// number that it takes.
pub(super) fn top_of<'a>(window: &'a Window, filter: &Expr) -> Option<(Ranked<'a>, usize)> {
    let input = window.input.schema();
    let mut calls = window.window_expr.iter().map(|expr| match ties::unaliased(expr) {
        Expr::WindowFunction(call) if call.params.filter.is_none() => Some(call),
        _ => None,
    });
    let first: &WindowFunction = calls.next()??;
    let ranking = ranking_of(first)?;
    let (keys, order) = (&first.params.partition_by, &first.params.order_by);
    let is_same = |call: &WindowFunction| {
        ranking_of(call) == Some(ranking) && call.params.partition_by == *keys && call.params.order_by == *order
    };
    if !calls.all(|call| call.is_some_and(|call| is_same(call))) {
        return None;
    }
    let most = greatest(filter, &window.schema, input.fields().len())?;
    Some((Ranked { keys, order, ranking, input }, usize::try_from(most).ok()?))
}

/// How a window function numbers rows, if that is what it does.
fn ranking_of(call: &WindowFunction) -> Option<Ranking> {
    match call.fun.name() {
        "row_number" => Some(Ranking::RowNumber),
        "rank" => Some(Ranking::Rank),
        "dense_rank" => Some(Ranking::DenseRank),
        _ => None,
    }
}

/// The greatest value of any of the columns from `from` on for which a condition may be true.
fn greatest(condition: &Expr, schema: &DFSchema, from: usize) -> Option<i64> {
    let is_number = |expr: &Expr| match without_cast(expr) {
        Expr::Column(column) => schema.maybe_index_of_column(column).is_some_and(|at| at >= from),
        _ => false,
    };
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Compare::And, right }) => {
            let both = [greatest(left, schema, from), greatest(right, schema, from)];
            both.into_iter().flatten().min()
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, bound) = if is_number(left) {
                (*op, whole_number(right)?)
            } else if is_number(right) {
                (op.swap()?, whole_number(left)?)
            } else {
                return None;
            };
            match op {
                Compare::LtEq | Compare::Eq => Some(bound),
                Compare::Lt => bound.checked_sub(1),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && is_number(&between.expr) => whole_number(&between.high),
        _ => None,
    }
}

fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, .. }) => without_cast(expr),
        other => other,
    }
}

fn whole_number(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(i64::from(*value)),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value),
        Expr::Literal(ScalarValue::UInt64(Some(value)), _) => i64::try_from(*value).ok(),
        _ => None,
    }
}

/// The groups of which a GROUP BY takes the first row alone, as DISTINCT ON does.
pub(super) fn distinct_on(aggregate: &Aggregate) -> Option<Ranked<'_>> {
    let mut calls = aggregate.aggr_expr.iter().map(|expr| match ties::unaliased(expr) {
        Expr::AggregateFunction(call) if is_first_value(call) => Some(call),
        _ => None,
    });
    let first: &AggregateFunction = calls.next()??;
    let order = &first.params.order_by;
    let is_same = |call: Option<&AggregateFunction>| call.is_some_and(|call| call.params.order_by == *order);
    let keys = aggregate.group_expr.as_slice();
    let is_plain = keys.iter().all(|key| !matches!(key, Expr::GroupingSet(_)));
    (is_plain && !keys.is_empty() && calls.all(is_same)).then(|| Ranked {
        keys,
        order,
        ranking: Ranking::RowNumber,
        input: aggregate.input.schema(),
    })
}

fn is_first_value(call: &AggregateFunction) -> bool {
    let params = &call.params;
    let respects_nulls =
        params.null_treatment.is_none_or(|nulls| nulls == datafusion::logical_expr::expr::NullTreatment::RespectNulls);
    call.func.name() == "first_value" && !params.distinct && params.filter.is_none() && respects_nulls
}
