//! Joins by `IS NOT DISTINCT FROM` beside conditions by `=`. DataFusion says of a join as a whole whether a null of
//! its keys is equal to a null. Its rules put a key by `=` to such a join, and make one of joins of both kinds: then
//! nulls would match that do not, or would be lost that do.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::{JoinType, LogicalPlan, Projection};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Keys are taken from a join's conditions, unless it has keys whose nulls are equal: `=` stays a condition there.
#[derive(Debug, Default)]
pub(crate) struct KeysOfOneKind(ExtractEquijoinPredicate);

impl OptimizerRule for KeysOfOneKind {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Join(join) if !join.on.is_empty() && join.null_equality == NullEquality::NullEqualsNull => {
                Ok(Transformed::no(plan))
            }
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Inner joins are put in another order only with those of their kind.
#[derive(Debug, Default)]
pub(crate) struct JoinsOfOneKind(EliminateCrossJoin);

impl OptimizerRule for JoinsOfOneKind {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(apart)?.transform_data(|plan| self.0.rewrite(plan, config))
    }
}

/// A node with a projection, which changes nothing, between it and joins of another kind. The rule takes what a node
/// says of nulls for all joins that it finds right below.
fn apart(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let own = match &node {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => join.null_equality,
        LogicalPlan::Filter(_) => NullEquality::NullEqualsNothing,
        _ => return Ok(Transformed::no(node)),
    };
    node.map_children(|child| {
        if !has_others(&child, own) {
            return Ok(Transformed::no(child));
        }
        let schema = Arc::clone(child.schema());
        let between = Projection::new_from_schema(Arc::new(child), schema);
        Ok(Transformed::yes(LogicalPlan::Projection(between)))
    })
}

/// Whether there is one of another kind among the inner joins at the top of a plan.
fn has_others(plan: &LogicalPlan, own: NullEquality) -> bool {
    match plan {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            !join.on.is_empty() && join.null_equality != own
                || has_others(&join.left, own)
                || has_others(&join.right, own)
        }
        _ => false,
    }
}
