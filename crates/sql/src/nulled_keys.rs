//! What is known of the rows under grouping sets is not known of the groups.
//!
//! Grouping sets make nulls of the keys that a set leaves out. DataFusion takes it that a key which has one value in
//! all rows, is equal to another one or comes in an order has or does so in the groups too, and leaves sorts of the
//! groups out. So nothing is known of the rows that they group.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, Partitioning, PlanProperties,
};
use std::fmt;
use std::sync::Arc;

/// See above.
#[derive(Debug)]
pub(crate) struct NulledKeys;

impl PhysicalOptimizerRule for NulledKeys {
    fn name(&self) -> &'static str {
        "nulled_keys"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(hidden)?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn hidden(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let is_first = |of: &&AggregateExec| !matches!(of.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
    let aggregate = plan.downcast_ref::<AggregateExec>().filter(is_first);
    let Some(aggregate) = aggregate.filter(|of| of.group_expr().has_grouping_set()) else {
        return Ok(Transformed::no(plan));
    };
    let input: Arc<dyn ExecutionPlan> = Arc::new(Unknown::of(Arc::clone(aggregate.input())));
    replace_children_if_necessary(plan, vec![input]).map(Transformed::yes)
}

/// The rows of its input, of which nothing is known.
#[derive(Debug)]
pub(crate) struct Unknown {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Unknown {
    pub(crate) fn of(input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Unknown {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unknown")
    }
}

impl ExecutionPlan for Unknown {
    fn name(&self) -> &'static str {
        "Unknown"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self::of(input))),
            _ => internal_err!("rows come from one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
