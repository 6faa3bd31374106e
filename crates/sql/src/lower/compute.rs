//! Groups computed anew by DataFusion: one node of a query over a leaf that gives the rows at hand.
//!
//! Each worker plans the node once, for one partition, and runs it on its own thread: the leaf has
//! its rows in memory, so nothing is waited for. Rows of a group come in one order, and sorts keep that of ties
//! ([`stable`]), so sums of floating point and the like are the same each time, whichever other groups are computed
//! with them.

use super::identity;
use super::keys;
use super::stable::stable;
use crate::error::Result;
use crate::session::{Session, Stream, view_schema};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, TableSource};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, collect};
use highwater_engine::Error as EngineError;
use highwater_engine::plan::{Compute, Key, Recompute};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// The leaf's name in plans.
const ROWS: &str = "rows";

/// A node to compute, as lowering finds it.
pub(super) struct Template<'a> {
    /// It stands over [`over_rows`] of the input.
    pub(super) node: LogicalPlan,
    /// The groups' keys, over the input.
    pub(super) keys: &'a [Expr],
    pub(super) input: &'a DFSchemaRef,
    /// For the operator's name.
    pub(super) what: String,
}

/// A leaf that stands for a node's rows: a scan whose columns have the names that the input's have.
pub(super) fn over_rows(input: &DFSchema) -> Result<LogicalPlan> {
    let schema = numbered(input);
    let named = input.iter().enumerate().map(|(i, (relation, field))| {
        let column = Expr::Column(Column::new(Some(ROWS), schema.field(i).name()));
        column.alias_qualified(relation.cloned(), field.name())
    });
    let named: Vec<Expr> = named.collect();
    let source: Arc<dyn TableSource> = Arc::new(Stream::new(ROWS, Arc::clone(&schema)));
    // A builder would take r1.a and a cast of it, which is called `r1.a`, for one.
    LogicalPlanBuilder::scan(ROWS, source, None)
        .and_then(LogicalPlanBuilder::build)
        .and_then(|scan| Projection::try_new(named, Arc::new(scan)))
        .map(LogicalPlan::Projection)
        .map_err(|e| crate::Error::Plan(Box::new(e)))
}

/// The input's types under names that are unique.
fn numbered(input: &DFSchema) -> SchemaRef {
    let field = |(i, field): (usize, &Arc<Field>)| Field::new(format!("c{i}"), field.data_type().clone(), true);
    Arc::new(Schema::new(input.fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// One node of a query and how it is computed.
pub(super) struct Computed {
    state: SessionState,
    node: LogicalPlan,
    input: SchemaRef,
    output: SchemaRef,
}

/// DataFusion's state is too much to show.
impl std::fmt::Debug for Computed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Computed").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Computed {
    pub(super) fn new(session: &Session, template: &Template<'_>) -> Self {
        let state = session.state();
        let mut config = state.config().clone().with_target_partitions(1).with_round_robin_repartition(false);
        config.options_mut().optimizer.enable_dynamic_filter_pushdown = false;
        Self {
            state: SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build(),
            node: template.node.clone(),
            input: numbered(template.input),
            output: view_schema(template.node.schema()),
        }
    }

    pub(super) const fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// What it gives for no rows at all.
    pub(super) fn of_no_rows(&self) -> highwater_engine::Result<RecordBatch> {
        let none = RecordBatch::new_empty(Arc::clone(&self.input));
        // Whoever makes a plan may be a task of a runtime, whose budget is not for this.
        let computed = thread::scope(|scope| scope.spawn(|| self.start()?.compute(none)).join());
        computed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Refuses what cannot be planned, aggregates that cannot be computed so, and functions that their frames do not
    /// go with.
    ///
    /// # Errors
    /// `Unsupported`, in DataFusion's words.
    pub(super) fn check(&self) -> Result<()> {
        let planned = self.running().and_then(|running| check_functions(running.plan.as_ref()));
        planned.map_err(|e| crate::Error::not_computed(&e))
    }

    fn running(&self) -> Result<Running, DataFusionError> {
        let slot = Arc::new(Slot { schema: Arc::clone(&self.input), rows: Mutex::default() });
        let node = self.over(&slot)?;
        let plan = stable(finished(self.state.create_physical_plan(&node))?)?;
        Ok(Running { slot, plan, task: self.state.task_ctx(), output: Arc::clone(&self.output) })
    }

    /// The node over a scan of the slot.
    fn over(&self, slot: &Arc<Slot>) -> Result<LogicalPlan, DataFusionError> {
        let part: Arc<dyn PartitionStream> = Arc::<Slot>::clone(slot);
        let table = StreamingTable::try_new(Arc::clone(&self.input), vec![part])?;
        let source = provider_as_source(Arc::new(table));
        let filled = self.node.clone().transform_up(|node| match node {
            LogicalPlan::TableScan(scan) => {
                Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source: Arc::clone(&source), ..scan })))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(filled.data)
    }
}

impl Recompute for Computed {
    fn describe(&self) -> String {
        self.node.display_indent().to_string()
    }

    fn identity(&self) -> highwater_engine::Result<String> {
        identity::plan(&self.node, ROWS)
    }

    fn unique(&self, input: &[Key]) -> Vec<Key> {
        keys::of_computed(&self.node, input)
    }

    fn start(&self) -> highwater_engine::Result<Box<dyn Compute>> {
        let running = self.running().map_err(|e| EngineError::Plan(e.to_string()))?;
        Ok(Box::new(running))
    }
}

/// One worker's plan.
struct Running {
    slot: Arc<Slot>,
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    output: SchemaRef,
}

impl Compute for Running {
    fn compute(&mut self, rows: RecordBatch) -> highwater_engine::Result<RecordBatch> {
        self.run(rows).map_err(|e| EngineError::data("a group", e))
    }
}

impl Running {
    fn run(&self, rows: RecordBatch) -> Result<RecordBatch, DataFusionError> {
        self.slot.put(rows)?;
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        let schema = plan.schema();
        let batches = finished(collect(plan, Arc::clone(&self.task)))?;
        let whole = concat_batches(&schema, &batches)?;
        let columns = whole.columns().iter().zip(self.output.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(whole.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}

/// Makes the functions of all windows and aggregates once, which else only rows would do.
fn check_functions(plan: &dyn ExecutionPlan) -> Result<(), DataFusionError> {
    let windows = if let Some(bounded) = plan.downcast_ref::<BoundedWindowAggExec>() {
        bounded.window_expr()
    } else if let Some(whole) = plan.downcast_ref::<WindowAggExec>() {
        whole.window_expr()
    } else {
        &[]
    };
    windows.iter().try_for_each(|window| window.create_window_fn().map(|_| ()))?;
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let by_groups = !aggregate.group_expr().is_true_no_grouping();
        aggregate.aggr_expr().iter().try_for_each(|function| {
            if by_groups && function.groups_accumulator_supported() {
                function.create_groups_accumulator().map(|_| ())
            } else {
                function.create_accumulator().map(|_| ())
            }
        })?;
    }
    plan.children().into_iter().try_for_each(|child| check_functions(child.as_ref()))
}

/// Where the leaf's rows lie.
#[derive(Debug)]
struct Slot {
    schema: SchemaRef,
    rows: Mutex<Option<RecordBatch>>,
}

impl Slot {
    fn put(&self, rows: RecordBatch) -> Result<(), DataFusionError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), rows.columns().to_vec(), &options)?;
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows);
        Ok(())
    }
}

impl PartitionStream for Slot {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = rows.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&self.schema)));
        let stream = MemoryStream::try_new(vec![rows], Arc::clone(&self.schema), None);
        Box::pin(stream.expect("a stream of all columns needs none to be found"))
    }
}

/// A future's output, computed on this thread.
pub(super) fn finished<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Lets a thread go on that waits for its future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
