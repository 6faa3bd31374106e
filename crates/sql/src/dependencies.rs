//! What DataFusion takes for keys of rows and is none: DISTINCT, sort keys and joins that it would leave out for it.
//!
//! The keys of a GROUP BY decide its other columns, and stand in one row each. DataFusion goes by that in what reads
//! the groups, but goes on with it above UNNEST, which repeats rows, and takes keys of one side of a join for keys
//! of a GROUP BY over the join, whatever other keys that has. Where such a node is below, its rules keep what they
//! would leave out. Elsewhere they are DataFusion's, so that the operators of views, and their names, are too.

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Dependency, FunctionalDependence, Result};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan, Projection};
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// A name that no column below has: of keys that it does not find there DataFusion leaves out none.
const APART: &str = "__distinct";

/// Whether what is known of a plan's columns may be wrong.
fn are_doubtful(plan: &LogicalPlan) -> bool {
    !plan.schema().functional_dependencies().is_empty() && has_doubtful(plan)
}

/// Whether a plan has a node of which DataFusion knows keys that may be none.
fn has_doubtful(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        found = found || is_doubtful(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

fn is_doubtful(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Unnest(unnest) => !unnest.schema.functional_dependencies().is_empty(),
        LogicalPlan::Aggregate(grouped) => {
            let is_partial = |known: &FunctionalDependence| known.source_indices.len() < grouped.group_expr.len();
            let is_repeated = |known: &FunctionalDependence| known.mode == Dependency::Multi;
            grouped.schema.functional_dependencies().iter().any(is_partial)
                && grouped.input.schema().functional_dependencies().iter().any(is_repeated)
        }
        _ => false,
    }
}

/// DISTINCT as GROUP BY, which is left out where all rows differ.
#[derive(Debug, Default)]
pub(crate) struct DistinctRows(ReplaceDistinctWithAggregate);

impl OptimizerRule for DistinctRows {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Distinct(Distinct::All(input)) if are_doubtful(&input) => {
                grouped_by_all(input).map(Transformed::yes)
            }
            plan => self.0.rewrite(plan, config),
        }
    }
}

/// The different rows of a plan that has columns, by a GROUP BY that keeps all of them as keys.
fn grouped_by_all(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let mut keys: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut shown = keys.clone();
    if let (Some(key), Some(column)) = (keys.first_mut(), shown.first_mut()) {
        let (relation, name) = key.qualified_name();
        *key = std::mem::take(key).alias(APART);
        *column = Expr::Column(Column::new_unqualified(APART)).alias_qualified(relation, name);
    }
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(input, keys, Vec::new())?);
    Ok(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(grouped))?))
}

/// Leaves out sort keys that those before them decide, and what stands twice.
#[derive(Debug, Default)]
pub(crate) struct SortKeys(EliminateDuplicatedExpr);

impl OptimizerRule for SortKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(sort) if are_doubtful(&sort.input) => Ok(Transformed::no(LogicalPlan::Sort(sort))),
            plan => self.0.rewrite(plan, config),
        }
    }
}

/// Leaves out joins that give each row of one side once and none of the other's columns.
#[derive(Debug, Default)]
pub(crate) struct NeededJoins(EliminateJoin);

impl OptimizerRule for NeededJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if has_doubtful(&plan) { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}
