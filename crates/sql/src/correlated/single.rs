//! Subqueries that give one row, or with HAVING one at most: aggregates without GROUP BY.
//!
//! As a value each aggregate is right by itself, over no rows too. So what is computed from aggregates, and
//! HAVING, are expressions over values, in the query around: there a constant is a constant.

use super::Planned;
use super::lifted::{Names, lifted};
use super::refused::refused;
use crate::lateral::has_subquery;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Spans};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, FetchType, LogicalPlan, Projection, SkipType, Subquery};
use std::sync::Arc;

/// A subquery of one row.
pub(super) struct Single {
    /// Its columns, over those of the aggregate.
    pub(super) values: Vec<Expr>,
    /// The condition on which there is a row, over those of the aggregate too.
    pub(super) holds: Option<Expr>,
    aggregate: Aggregate,
}

/// A plan as one of one row, if it is.
pub(super) fn single(plan: &LogicalPlan) -> Planned<Option<Single>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let values = aggregate.schema.columns().into_iter().map(Expr::Column).collect();
            Ok(Some(Single { values, holds: None, aggregate: aggregate.clone() }))
        }
        LogicalPlan::Projection(projection) => {
            let Some(one) = single(&projection.input)? else { return Ok(None) };
            let exprs = projection.expr.iter().map(|expr| one.over(expr, projection.input.schema()));
            let Some(values) = exprs.collect::<Planned<Option<Vec<Expr>>>>()? else { return Ok(None) };
            Ok(Some(Single { values, ..one }))
        }
        LogicalPlan::Filter(filter) => {
            let Some(one) = single(&filter.input)? else { return Ok(None) };
            let Some(condition) = one.over(&filter.predicate, filter.input.schema())? else { return Ok(None) };
            let holds = match one.holds {
                Some(holds) => holds.and(condition),
                None => condition,
            };
            Ok(Some(Single { holds: Some(holds), ..one }))
        }
        LogicalPlan::SubqueryAlias(alias) => single(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => single(&sort.input),
        LogicalPlan::Distinct(Distinct::All(input)) => single(input),
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (SkipType::Literal(0), FetchType::Literal(fetch)) if fetch != Some(0) => single(&limit.input),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

impl Single {
    /// An expression over columns of these values, over those of the aggregate; none when there are subqueries
    /// in it, which read them.
    fn over(&self, expr: &Expr, schema: &DFSchema) -> Planned<Option<Expr>> {
        if has_subquery(expr) {
            return Ok(None);
        }
        let over = expr.clone().unalias().transform_up(|e| match e {
            Expr::Column(column) => Ok(Transformed::yes(self.values[schema.index_of_column(&column)?].clone())),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Some(over.data))
    }

    /// The first column as a value in the query around.
    pub(super) fn first(&self, names: &mut Names) -> Planned<Expr> {
        self.asked(&self.values[0], names)
    }

    /// An expression over the aggregate's columns as a value in the query around.
    pub(super) fn asked(&self, expr: &Expr, names: &mut Names) -> Planned<Expr> {
        if expr.any_column_refs() && !expr.contains_outer() {
            return self.subquery(expr.clone(), names);
        }
        let value = expr.clone().transform_up(|e| match e {
            Expr::Column(column) => self.subquery(Expr::Column(column), names).map(Transformed::yes),
            Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(value.data)
    }

    fn subquery(&self, expr: Expr, names: &mut Names) -> Planned<Expr> {
        let aggregates = &self.aggregate.aggr_expr;
        if aggregates.iter().any(Expr::contains_outer) {
            let hint = "aggregate in the query around the subquery, or write a join";
            return refused("a column of the query around it in an aggregate of a correlated subquery", hint);
        }
        let rows = lifted(&self.aggregate.input, false, names)?;
        if !rows.is_equal() {
            let hint = "tie it by = to the query around it, or write a join";
            return refused("an aggregate in a correlated subquery that is tied by more than equalities", hint);
        }
        let aggregate = Aggregate::try_new(Arc::new(rows.tied()?), Vec::new(), aggregates.clone())?;
        let plan = Projection::try_new(vec![expr], Arc::new(LogicalPlan::Aggregate(aggregate)))?;
        let plan = LogicalPlan::Projection(plan);
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() }))
    }
}
