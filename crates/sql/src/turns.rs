//! Joins of queries that run once let other tasks have their turn.
//!
//! DataFusion lets a task pause where rows are read. A join makes any number of rows of those that it has
//! read, and nobody else gets its thread, nor does it hear that nobody wants its rows any more. So what has
//! several inputs pauses after some of the batches that it gives as well. A join that looks for long without
//! giving a batch still does not pause.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;

/// See above.
#[derive(Debug)]
pub(crate) struct Turns;

impl PhysicalOptimizerRule for Turns {
    fn name(&self) -> &'static str {
        "turns"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let done = plan.transform_up(|plan| {
            if plan.children().len() < 2 {
                return Ok(Transformed::no(plan));
            }
            let pausing: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
            Ok(Transformed::yes(pausing))
        })?;
        Ok(done.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
