//! A table as DataFusion reads it: a snapshot with a transaction's writes over it, row by row in the
//! order of the keys, or the rows of given keys.

use crate::error::Error;
use crate::keyed_values::keys_of;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use highwater_sql::statement::{ROW_KEY, ROW_VALUE};
use highwater_tables::{Overlay, Piece, Snapshot, Table};
use std::sync::Arc;

/// Rows read at a time.
const PIECE_ROWS: usize = 8192;

/// One table as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct TableRows {
    table: Arc<Table>,
    snapshot: Arc<Snapshot>,
    over: Arc<Overlay>,
    schema: SchemaRef,
    /// It gives each row's key and stored form too.
    hidden: bool,
}

impl TableRows {
    pub(crate) const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn new(table: &Arc<Table>, snapshot: &Arc<Snapshot>, over: Arc<Overlay>, hidden: bool) -> Self {
        let mut fields: Vec<Arc<Field>> = table.spec().schema.fields().iter().cloned().collect();
        if hidden {
            fields.extend([ROW_KEY, ROW_VALUE].map(|name| Arc::new(Field::new(name, DataType::Binary, false))));
        }
        let schema = Arc::new(Schema::new(fields));
        Self { table: Arc::clone(table), snapshot: Arc::clone(snapshot), over, schema, hidden }
    }

    /// The same rows without their keys and stored forms.
    pub(crate) fn plain(&self) -> Self {
        Self::new(&self.table, &self.snapshot, Arc::clone(&self.over), false)
    }

    fn batch(&self, piece: &Piece, projection: &[usize]) -> Result<RecordBatch, DataFusionError> {
        let options = RecordBatchOptions::new().with_row_count(Some(piece.keys.len()));
        let schema = Arc::new(self.schema.project(projection)?);
        if projection.is_empty() {
            return Ok(RecordBatch::try_new_with_options(schema, Vec::new(), &options)?);
        }
        let rows = piece.rows(&self.table).map_err(external)?;
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        if self.hidden {
            let binary = |values: &[Vec<u8>]| Arc::new(BinaryArray::from_iter_values(values)) as ArrayRef;
            columns.extend([binary(&piece.keys), binary(&piece.values)]);
        }
        let columns = projection.iter().map(|at| Arc::clone(&columns[*at])).collect();
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The keys that filters allow, when they name all columns of the primary key.
    fn keys_of(&self, filters: &[Expr]) -> Option<Vec<Vec<u8>>> {
        let spec = self.table.spec();
        let keys = keys_of(filters, &spec.schema, &spec.key)?;
        if keys.is_empty() {
            return Some(Vec::new());
        }
        let column = |at: usize| ScalarValue::iter_to_array(keys.iter().map(|key| key[at].clone())).ok();
        let arrays: Vec<ArrayRef> = (0..spec.key.len()).map(column).collect::<Option<_>>()?;
        let keys = self.table.keys(&arrays).ok()?;
        let mut keys: Vec<Vec<u8>> = keys.iter().flatten().map(<[u8]>::to_vec).collect();
        keys.sort_unstable();
        keys.dedup();
        Some(keys)
    }

    /// What EXPLAIN tells of a scan with these filters, when it reads rows by their keys alone.
    pub(crate) fn explained(&self, name: &str, filters: &[Expr]) -> Option<String> {
        self.keys_of(filters)?;
        let spec = self.table.spec();
        let key: Vec<&str> = spec.key.iter().map(|at| spec.schema.field(*at).name().as_str()).collect();
        Some(format!("-- KeyScan: {name} by {}", key.join(", ")))
    }

    fn get(&self, keys: &[Vec<u8>]) -> Result<Piece, DataFusionError> {
        let wanted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let values = self.snapshot.get(&self.table, &wanted, &self.over).map_err(external)?;
        let mut piece = Piece { is_last: true, ..Piece::default() };
        for (key, value) in keys.iter().zip(values) {
            if let Some(value) = value {
                piece.keys.push(key.clone());
                piece.values.push(value);
            }
        }
        Ok(piece)
    }
}

fn external(error: highwater_tables::Error) -> DataFusionError {
    DataFusionError::External(Box::new(Error::from(error)))
}

#[async_trait]
impl TableProvider for TableRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let keys = self.keys_of(filters);
        let part = Part { rows: self.clone(), projection, schema: Arc::clone(&schema), keys, limit };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?))
    }
}

/// What one scan reads.
#[derive(Debug)]
struct Part {
    rows: TableRows,
    projection: Vec<usize>,
    schema: SchemaRef,
    keys: Option<Vec<Vec<u8>>>,
    limit: Option<usize>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (rows, projection) = (self.rows.clone(), self.projection.clone());
        if let Some(keys) = &self.keys {
            let found = rows.get(keys).and_then(|piece| rows.batch(&piece, &projection));
            let stream = futures::stream::once(std::future::ready(found));
            return Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream));
        }
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let (sender, mut left) = (builder.tx(), self.limit.unwrap_or(usize::MAX));
        builder.spawn_blocking(move || {
            let mut after: Option<Vec<u8>> = None;
            while left > 0 {
                let wanted = PIECE_ROWS.min(left);
                let piece = rows.snapshot.scan(&rows.table, after.as_deref(), wanted, &rows.over).map_err(external)?;
                left = left.saturating_sub(piece.keys.len());
                let batch = rows.batch(&piece, &projection)?;
                let last = piece.keys.last().cloned();
                // Whoever reads may have enough.
                if (batch.num_rows() > 0 && sender.blocking_send(Ok(batch)).is_err()) || piece.is_last {
                    break;
                }
                after = last.or(after);
            }
            Ok(())
        });
        builder.build()
    }
}
