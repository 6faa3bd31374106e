//! Sorts without ties: of rows with equal keys the one that came first stays first.
//!
//! DataFusion's sorts leave ties in an order that goes by all rows that are sorted with them. Groups are computed
//! together with whatever others were touched, so a group whose sums of floating point or lists depend on the order
//! would give now this and now that for the same rows.

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_arrays};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{TryStreamExt as _, stream};
use std::fmt;
use std::sync::Arc;

/// A plan whose sorts keep the order of ties.
pub(super) fn stable(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
        let stable = Stable {
            input: Arc::clone(sort.input()),
            order: sort.expr().clone(),
            fetch: sort.fetch(),
            properties: Arc::clone(sort.properties()),
        };
        Ok(Transformed::yes(Arc::new(stable) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Sorts the rows of its input, which has one partition.
#[derive(Clone, Debug)]
struct Stable {
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    /// So many of the first rows are given.
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for Stable {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stable: {}", self.order)
    }
}

impl ExecutionPlan for Stable {
    fn name(&self) -> &'static str {
        "Stable"
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
            (Some(input), None) => Ok(Arc::new(Self { input, ..self.as_ref().clone() })),
            _ => internal_err!("a sort has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, order, fetch) = (input.schema(), self.order.clone(), self.fetch);
        let sorted = async move {
            let schema = input.schema();
            let batches: Vec<RecordBatch> = input.try_collect().await?;
            sorted(&concat_batches(&schema, &batches)?, &order, fetch)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(sorted))))
    }
}

/// The first rows of a batch in an order, ties as they stand in it.
fn sorted(rows: &RecordBatch, order: &LexOrdering, fetch: Option<usize>) -> Result<RecordBatch> {
    let mut keys: Vec<SortColumn> = order.iter().map(|key| key.evaluate_to_sort_column(rows)).collect::<Result<_>>()?;
    let places = UInt32Array::from_iter_values(0..rows.num_rows() as u32);
    keys.push(SortColumn { values: Arc::new(places), options: None });
    let indices = lexsort_to_indices(&keys, fetch)?;
    let columns = take_arrays(rows.columns(), &indices, None)?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::compute::finished;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{Int64Type, UInt32Type};
    use datafusion::physical_expr::PhysicalSortExpr;
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    fn numbered(keys: &[i64]) -> RecordBatch {
        let places: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..keys.len() as u32));
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        RecordBatch::try_from_iter([("k", keys), ("at", places)]).expect("columns")
    }

    fn places(rows: &RecordBatch) -> Vec<u32> {
        rows.column(1).as_primitive::<UInt32Type>().values().to_vec()
    }

    #[test]
    fn ties_stay_as_they_came() {
        let rows = numbered(&[2, 1, 2, 1, 2]);
        let order = LexOrdering::new([PhysicalSortExpr::new_default(col("k", &rows.schema()).expect("a column"))]);
        let order = order.expect("an order");
        assert_eq!(places(&sorted(&rows, &order, None).expect("sorts")), [1, 3, 0, 2, 4]);
        assert_eq!(places(&sorted(&rows, &order, Some(3)).expect("sorts")), [1, 3, 0]);
        assert_eq!(sorted(&numbered(&[]), &order, None).expect("sorts").num_rows(), 0);
    }

    #[test]
    fn a_plans_sorts_keep_ties_however_many_rows_there_are() {
        let keys: Vec<i64> = (0..20_000).map(|row| row * 7919 % 5).collect();
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        context.register_batch("t", numbered(&keys)).expect("a table");
        let rows = finished(async {
            let frame = context.sql("SELECT k, at FROM t ORDER BY k DESC").await.expect("a query");
            let plan = stable(frame.create_physical_plan().await.expect("a plan")).expect("a plan");
            collect(plan, context.task_ctx()).await.expect("runs")
        });
        let rows = concat_batches(&rows[0].schema(), &rows).expect("one schema");
        let keys = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let found: Vec<(i64, u32)> = keys.into_iter().zip(places(&rows)).collect();
        assert!(found.len() == 20_000 && found.is_sorted_by(|a, b| (-a.0, a.1) < (-b.0, b.1)));
    }
}
