//! Intervals, and arrays and composite values of which equal ones may differ, as keys in queries that run once: what
//! [`crate::exact`] has given one form is put where DataFusion can take it for a key, in joins and in grouping sets.
//!
//! A join's key that is no column is computed beside the columns, and is to have a name that none of them has. What
//! grouping sets group by is computed below them, under such a name too, and named as before above them. Views are
//! lowered without this: a dataflow gives all of its keys one form.

use crate::exact::is_formed;
use crate::floats;
use crate::sets::with_keys;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinConstraint, Result};
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, Projection};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// How the names begin that are given here.
const LENGTH: &str = "__length_";

/// See above.
#[derive(Debug)]
pub(crate) struct Lengths;

impl OptimizerRule for Lengths {
    fn name(&self) -> &'static str {
        "lengths"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) => Ok(joined(join)?.update_data(LogicalPlan::Join)),
            LogicalPlan::Aggregate(grouped) => in_sets(grouped),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn joined(mut join: Join) -> Result<Transformed<Join>> {
    let mut is_changed = false;
    for (at, (left, right)) in join.on.iter_mut().enumerate() {
        is_changed |= name_key(left, join.left.schema(), format!("{LENGTH}left_{at}"))?;
        is_changed |= name_key(right, join.right.schema(), format!("{LENGTH}right_{at}"))?;
    }
    if is_changed {
        // The keys of USING are columns.
        join.join_constraint = JoinConstraint::On;
    }
    Ok(Transformed::new_transformed(join, is_changed))
}

/// Gives a key that has several forms or has been given one form that form and a name, also where joins have been put
/// in another order since it got one.
fn name_key(key: &mut Expr, schema: &DFSchema, name: String) -> Result<bool> {
    if matches!(key, Expr::Alias(alias) if !alias.name.starts_with(LENGTH)) {
        return Ok(false);
    }
    let plain = key.clone().unalias();
    if floats::keyed(&plain).is_none() && !is_formed(&plain, schema) {
        return Ok(false);
    }
    let named = floats::key(plain, schema)?.alias(name);
    let is_changed = *key != named;
    *key = named;
    Ok(is_changed)
}

/// A GROUP BY of grouping sets, with what is computed below and named above.
fn in_sets(grouped: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = grouped.group_expr.as_slice() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(grouped)));
    };
    let below = grouped.input.schema();
    let is_open = |key: &Expr| match key {
        Expr::Column(column) if column.name.starts_with(LENGTH) => false,
        key => is_formed(key, below),
    };
    let open: Vec<Expr> = sets.distinct_expr().into_iter().filter(|&key| is_open(key)).cloned().collect();
    if open.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(grouped)));
    }
    let mut columns: Vec<Expr> = below.columns().into_iter().map(Expr::Column).collect();
    for (at, key) in open.iter().enumerate() {
        columns.push(floats::key(key.clone().unalias(), below)?.alias(format!("{LENGTH}{at}")));
    }
    let key = |key: &Expr| match open.iter().position(|open| open == key) {
        Some(at) => Expr::Column(Column::from_name(format!("{LENGTH}{at}"))),
        None => key.clone(),
    };
    let sets = with_keys(sets, key);
    let input = LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(&grouped.input))?);
    let made = Aggregate::try_new(Arc::new(input), vec![Expr::GroupingSet(sets)], grouped.aggr_expr.clone())?;
    let shown = made.schema.columns().into_iter().zip(grouped.schema.columns());
    let shown = shown.map(|(made, column)| {
        if made == column {
            Expr::Column(made)
        } else {
            Expr::Column(made).alias_qualified(column.relation, column.name)
        }
    });
    let shown = Projection::try_new(shown.collect(), Arc::new(LogicalPlan::Aggregate(made)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(shown)))
}
