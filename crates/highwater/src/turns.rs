//! Joins of queries let other tasks have their turn.
//!
//! DataFusion lets a task pause where rows are read. A join makes any number of rows of those that it has
//! read, or looks for long for one, and nobody else gets its thread, nor does it hear that nobody wants its
//! rows any more. So what has several inputs pauses after some of the batches that it gives. A join that
//! compares each row with each one also pauses for each batch that it reads, and hands the other tasks of its
//! thread to another one while it compares.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt as _;
use futures::stream::poll_fn;
use std::fmt;
use std::sync::Arc;
use std::task::Poll;

/// Joins that compare all rows of their inputs.
const COMPARING: [&str; 2] = ["NestedLoopJoinExec", "PiecewiseMergeJoinExec"];

/// A plan whose joins let others have their turn. It runs on threads of a runtime that has several.
pub(crate) fn given(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if plan.children().len() < 2 {
            return Ok(Transformed::no(plan));
        }
        let plan = if compares(plan.as_ref()) { beside_others(plan)? } else { plan };
        let pausing: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
        Ok(Transformed::yes(pausing))
    })
    .data()
}

fn compares(plan: &dyn ExecutionPlan) -> bool {
    // Of rows with equal keys each is compared with each one.
    let has_filter = plan.downcast_ref::<HashJoinExec>().is_some_and(|join| join.filter().is_some());
    has_filter || COMPARING.contains(&plan.name())
}

fn beside_others(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let pausing = |input: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
        Arc::new(Turn { input: Arc::clone(input), how: How::Pausing })
    };
    let inputs = join.children().into_iter().map(pausing).collect();
    let input = replace_children_if_necessary(join, inputs)?;
    Ok(Arc::new(Turn { input, how: How::Apart }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Lets the task pause behind each batch.
    Pausing,
    /// Hands the other tasks of the thread to another one while a batch is computed.
    Apart,
}

/// Gives what its input gives.
#[derive(Debug)]
struct Turn {
    input: Arc<dyn ExecutionPlan>,
    how: How,
}

impl DisplayAs for Turn {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn: {:?}", self.how)
    }
}

impl ExecutionPlan for Turn {
    fn name(&self) -> &'static str {
        "Turn"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
            (Some(input), None) => Ok(Arc::new(Self { input, how: self.how })),
            _ => internal_err!("a turn has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context)?.fuse();
        let how = self.how;
        let mut is_due = false;
        let batches = poll_fn(move |context| match how {
            How::Apart => tokio::task::block_in_place(|| input.poll_next_unpin(context)),
            How::Pausing if std::mem::take(&mut is_due) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            How::Pausing => {
                let polled = input.poll_next_unpin(context);
                is_due = polled.is_ready();
                polled
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::execute_stream;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use std::time::Duration;
    use tokio::runtime::Builder;

    async fn planned(context: &SessionContext, query: &str) -> Arc<dyn ExecutionPlan> {
        let frame = context.sql(query).await.expect("a query");
        given(frame.create_physical_plan().await.expect("a plan")).expect("a plan")
    }

    #[test]
    fn a_join_that_compares_leaves_others_their_turn_and_ends_when_nobody_waits() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let numbers = "FROM generate_series(1, 2000) AS a(x), generate_series(1, 200000000) AS b(y)";
        let large = format!("SELECT count(*) {numbers} WHERE a.x * b.y < 0 AND a.x + b.y < 0");
        let plan = runtime.block_on(planned(&context, &large));
        let task = context.task_ctx();
        let large = runtime.spawn(async move { execute_stream(plan, task).expect("it runs").next().await });
        // The one thread has other tasks too.
        let other = runtime.spawn(async { tokio::time::sleep(Duration::from_millis(50)).await });
        let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), other).await });
        waited.expect("in time").expect("no panic");
        assert!(!large.is_finished());
        large.abort();
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), large).await });
        assert!(ended.expect("in time").expect_err("it was ended").is_cancelled());
        runtime.shutdown_background();
    }

    #[test]
    fn rows_stay_the_same() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let numbers = "FROM generate_series(1, 300) AS a(x) JOIN generate_series(1, 300) AS b(y) ON";
        let rows = |condition: &str| {
            let query = format!("SELECT a.x, b.y {numbers} {condition}");
            runtime.block_on(async {
                let mut batches = execute_stream(planned(&context, &query).await, context.task_ctx()).expect("it runs");
                let mut rows = 0;
                while let Some(batch) = batches.next().await {
                    rows += batch.expect("rows").num_rows();
                }
                rows
            })
        };
        assert_eq!(rows("a.x < b.y"), 300 * 299 / 2);
        assert_eq!(rows("a.x + b.y = 301 AND a.x * b.y > 300"), 298);
        assert_eq!(rows("a.x = b.y AND a.x + b.y > 300"), 150);
    }
}
