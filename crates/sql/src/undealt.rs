//! Rows that are in order stay in one stream up to the result.
//!
//! DataFusion keeps the order that a query ends with up to its sort and no further: what is computed above, such as
//! the results of DISTINCT ON or casts to types that PostgreSQL has, it deals out to several threads, whose rows
//! nobody puts in order again. So nothing that is in order is dealt out there.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use std::sync::Arc;

/// See above.
#[derive(Debug)]
pub(crate) struct Undealt;

impl PhysicalOptimizerRule for Undealt {
    fn name(&self) -> &'static str {
        "undealt"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        undealt(plan)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn undealt(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(input) = plan.downcast_ref::<RepartitionExec>().and_then(in_order) {
        return Ok(input);
    }
    let Some(computed) = plan.downcast_ref::<ProjectionExec>() else { return Ok(plan) };
    let input = undealt(Arc::clone(computed.input()))?;
    replace_children_if_necessary(plan, vec![input])
}

/// What is dealt out, if it is one stream in an order.
fn in_order(dealt: &RepartitionExec) -> Option<Arc<dyn ExecutionPlan>> {
    let input = dealt.input();
    let is_dealt = matches!(dealt.partitioning(), Partitioning::RoundRobinBatch(_));
    let is_one = input.output_partitioning().partition_count() == 1;
    (is_dealt && is_one && input.output_ordering().is_some()).then(|| Arc::clone(input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::sorts::sort::SortExec;

    fn column() -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new("x", 0))
    }

    fn rows() -> Arc<dyn ExecutionPlan> {
        Arc::new(EmptyExec::new(Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, true)]))))
    }

    /// What is computed of rows that are dealt out.
    fn computed(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let dealt = RepartitionExec::try_new(input, Partitioning::RoundRobinBatch(2)).expect("dealt out");
        let dealt = ProjectionExec::try_new(vec![(column(), "x".to_owned())], Arc::new(dealt)).expect("computed");
        let again = ProjectionExec::try_new(vec![(column(), "y".to_owned())], Arc::new(dealt)).expect("computed");
        Arc::new(again)
    }

    #[test]
    fn only_rows_without_an_order_are_dealt_out() {
        let order = LexOrdering::new([PhysicalSortExpr::new_default(column())]).expect("a key");
        let sorted = undealt(computed(Arc::new(SortExec::new(order, rows())))).expect("a plan");
        assert_eq!(sorted.output_partitioning().partition_count(), 1);
        assert!(sorted.output_ordering().is_some());
        let unsorted = undealt(computed(rows())).expect("a plan");
        assert_eq!(unsorted.output_partitioning().partition_count(), 2);
    }
}
