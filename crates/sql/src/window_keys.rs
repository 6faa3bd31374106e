//! Windows whose keys have an order that DataFusion knows when it makes them, and not when it begins them.
//!
//! A window counts the keys of its partitions whose order is known, and asks for the order of these alone when it
//! begins. Where keys have one value, because there is one row, DataFusion may find an order of all of them
//! and none of the few: the query failed when it ran. Such a plan is refused, so that it is made in another way.

use crate::nulled_keys::Unknown;
use datafusion::common::config::ConfigOptions;
use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use std::sync::Arc;

/// See above.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WindowKeys {
    /// Refuses plans with windows that cannot begin.
    Known,
    /// Has all windows know nothing of their rows, so that these are sorted for them.
    Unknown,
}

impl PhysicalOptimizerRule for WindowKeys {
    fn name(&self) -> &'static str {
        "window_keys"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match self {
            Self::Known => {
                plan.apply(|node| begins(node.as_ref()))?;
                Ok(plan)
            }
            Self::Unknown => Ok(plan.transform_up(unknowing)?.data),
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn begins(node: &dyn ExecutionPlan) -> Result<TreeNodeRecursion> {
    let keys = if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        window.partition_by_sort_keys()
    } else if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        window.partition_by_sort_keys()
    } else {
        return Ok(TreeNodeRecursion::Continue);
    };
    match keys {
        Ok(_) => Ok(TreeNodeRecursion::Continue),
        Err(DataFusionError::Execution(why)) => plan_err!("{why}"),
        Err(other) => Err(other),
    }
}

fn unknowing(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let input = if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        window.input()
    } else if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        window.input()
    } else {
        return Ok(Transformed::no(plan));
    };
    let input: Arc<dyn ExecutionPlan> = Arc::new(Unknown::of(Arc::clone(input)));
    replace_children_if_necessary(plan, vec![input]).map(Transformed::yes)
}
