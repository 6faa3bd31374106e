//! A materialized view as DataFusion reads it where a query reads nothing else: as of one epoch, piece by
//! piece as its rows are wanted.
//!
//! The rows can be taken once. So a query that reads them more than once, or joins them, has them collected
//! before it is run, and others are given what was collected as a table in memory. Invariant: whoever reads
//! gets all rows, or an error.

use crate::connection::invalid;
use crate::error::{Error, Result};
use crate::views::shaped;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::MemTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use highwater_engine::ViewReader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;

/// The rows of one view; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ViewRows {
    schema: SchemaRef,
    held: Arc<Mutex<Held>>,
    /// What they may take in memory when they are collected.
    most_bytes: u64,
}

/// What has become of a view's rows.
#[derive(Debug)]
enum Held {
    /// None is taken yet.
    Coming(Box<ViewReader>),
    /// A plan that is to be run once has a part that takes them.
    Planned(Box<ViewReader>),
    Collected(Vec<RecordBatch>),
    Taken,
}

impl ViewRows {
    pub(crate) fn new(schema: &SchemaRef, rows: ViewReader, most_bytes: u64) -> Self {
        let held = Arc::new(Mutex::new(Held::Coming(Box::new(rows))));
        Self { schema: Arc::clone(schema), held, most_bytes }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readies the rows for a plan. Blocks.
    pub(crate) fn ready_for(&self, plan: &LogicalPlan) -> Result<()> {
        if !takes_once(plan)? {
            self.collected()?;
        }
        Ok(())
    }

    /// All rows in memory. Blocks.
    fn collected(&self) -> Result<Vec<RecordBatch>> {
        let mut held = self.held();
        let rows = match std::mem::replace(&mut *held, Held::Taken) {
            Held::Coming(rows) | Held::Planned(rows) => shaped(&self.schema, rows.rest(self.most_bytes)?)?,
            Held::Collected(rows) => rows,
            Held::Taken => return Err(read_twice()),
        };
        *held = Held::Collected(rows.clone());
        Ok(rows)
    }

    /// What a scan gives that was planned first. When what is there was collected meanwhile, that.
    fn taken(&self) -> Result<Pieces> {
        let mut held = self.held();
        match std::mem::replace(&mut *held, Held::Taken) {
            Held::Coming(rows) | Held::Planned(rows) => Ok(Pieces::Coming(rows)),
            Held::Collected(rows) => {
                *held = Held::Collected(rows.clone());
                Ok(Pieces::Collected(rows.into_iter()))
            }
            Held::Taken => Err(read_twice()),
        }
    }
}

/// Rows as they are given.
enum Pieces {
    Coming(Box<ViewReader>),
    Collected(std::vec::IntoIter<RecordBatch>),
}

impl Pieces {
    /// The next rows; none at the end. Blocks.
    fn next(&mut self, schema: &SchemaRef) -> Result<Option<Vec<RecordBatch>>> {
        match self {
            Self::Coming(rows) => rows.piece()?.map(|piece| shaped(schema, piece)).transpose(),
            Self::Collected(rows) => Ok(rows.next().map(|rows| vec![rows])),
        }
    }
}

/// Whether a plan reads one relation, once, and nothing is made of it that has to know how large it is.
fn takes_once(plan: &LogicalPlan) -> Result<bool> {
    let (mut scans, mut is_plain) = (0, true);
    plan.apply_with_subqueries(|part| {
        match part {
            LogicalPlan::TableScan(_) => scans += 1,
            LogicalPlan::Join(_) | LogicalPlan::RecursiveQuery(_) | LogicalPlan::Subquery(_) => is_plain = false,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_plain && scans <= 1)
}

fn read_twice() -> Error {
    invalid("XX000", "the rows of a view are read twice", None)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl TableProvider for ViewRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let is_first = {
            let mut held = self.held();
            let now = std::mem::replace(&mut *held, Held::Taken);
            let is_first = matches!(now, Held::Coming(_));
            *held = match now {
                Held::Coming(rows) => Held::Planned(rows),
                other => other,
            };
            is_first
        };
        if !is_first {
            // It is planned anew, or more than once in one plan: what was planned before finds these rows too.
            let rows = self.collected().map_err(external)?;
            let table = MemTable::try_new(Arc::clone(&self.schema), vec![rows])?;
            return table.scan(session, projection, filters, limit).await;
        }
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let part = Part { rows: self.clone(), projection, schema: Arc::clone(&schema), limit };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?))
    }
}

/// What one scan reads.
#[derive(Debug)]
struct Part {
    rows: ViewRows,
    projection: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, projection) = (Arc::clone(&self.rows.schema), self.projection.clone());
        let mut pieces = match self.rows.taken() {
            Ok(pieces) => pieces,
            Err(error) => {
                let failed: datafusion::common::Result<RecordBatch> = Err(external(error));
                let failed = futures::stream::once(std::future::ready(failed));
                return Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed));
            }
        };
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let (sender, mut left) = (builder.tx(), self.limit.unwrap_or(usize::MAX));
        builder.spawn(async move {
            while left > 0 {
                // A thread waits for rows to come, but none for who takes them: a cursor may stay open for long.
                let schema = Arc::clone(&schema);
                let read = move || {
                    let piece = pieces.next(&schema);
                    (pieces, piece)
                };
                let ended = |error| DataFusionError::ExecutionJoin(Box::new(error));
                let (rest, piece) = spawn_blocking(read).await.map_err(ended)?;
                pieces = rest;
                let Some(piece) = piece.map_err(external)? else { break };
                for batch in piece {
                    let batch = batch.slice(0, batch.num_rows().min(left)).project(&projection)?;
                    left -= batch.num_rows();
                    // Whoever reads may have enough.
                    if batch.num_rows() > 0 && sender.send(Ok(batch)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok::<_, DataFusionError>(())
        });
        builder.build()
    }
}
