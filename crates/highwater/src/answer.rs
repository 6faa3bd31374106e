//! What a statement gives back while it runs: rows as a stream, and the tag that ends it.

use crate::error::Result;
use crate::outcome::{Outcome, Rows};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::sql::sqlparser::ast::Query;
use futures::TryStreamExt as _;
use highwater_sql::titled;
use highwater_sql::types::plain_columns;
use highwater_sql::zones::Zone;
use std::sync::Arc;

/// PostgreSQL's command tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `SELECT n`, where n is the number of rows given.
    Select,
    /// `FETCH n`, likewise.
    Fetch,
    /// `INSERT 0 n`.
    Insert(u64),
    /// `UPDATE n`.
    Update(u64),
    /// `DELETE n`.
    Delete(u64),
    /// `COPY n`.
    Copy(u64),
    /// Any other, as it is.
    Plain(String),
}

impl Tag {
    /// Its text, after so many rows were given.
    #[must_use]
    pub fn text(&self, rows: usize) -> String {
        match self {
            Self::Select => format!("SELECT {rows}"),
            Self::Fetch => format!("FETCH {rows}"),
            Self::Insert(count) => format!("INSERT 0 {count}"),
            Self::Update(count) => format!("UPDATE {count}"),
            Self::Delete(count) => format!("DELETE {count}"),
            Self::Copy(count) => format!("COPY {count}"),
            Self::Plain(text) => text.clone(),
        }
    }
}

/// What a statement gives back.
pub struct Answer {
    /// What it did.
    pub tag: Tag,
    /// Present for statements that give rows, even if there are none.
    pub rows: Option<RowStream>,
    /// For the person who asked, such as "already exists, skipping".
    pub notices: Vec<String>,
    /// What may not be as the person meant it.
    pub warnings: Vec<Warning>,
}

/// A notice with a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Five characters.
    pub sqlstate: &'static str,
    /// What is told.
    pub message: &'static str,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("tag", &self.tag).field("notices", &self.notices).field("warnings", &self.warnings);
        shown.finish_non_exhaustive()
    }
}

/// Rows that come in batches.
pub struct RowStream {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    /// The stream's own columns have other names or types, or instants in another zone.
    renamed: bool,
}

impl std::fmt::Debug for RowStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl RowStream {
    pub(crate) fn new(stream: SendableRecordBatchStream) -> Self {
        Self { schema: stream.schema(), stream, renamed: false }
    }

    /// The same rows with types that PostgreSQL has.
    pub(crate) fn plain(self) -> Self {
        let schema = plain_columns(&self.schema);
        if Arc::ptr_eq(&schema, &self.schema) { self } else { self.renamed(schema) }
    }

    pub(crate) fn of(rows: Rows) -> Self {
        let schema = Arc::clone(&rows.schema);
        let stream = MemoryStream::try_new(rows.batches, rows.schema, None);
        let stream = Box::pin(stream.expect("without a projection nothing is checked"));
        Self { schema, stream, renamed: false }
    }

    /// The same rows with other names of the columns.
    pub(crate) fn renamed(self, schema: SchemaRef) -> Self {
        Self { renamed: true, schema, ..self }
    }

    /// The columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// `Query` when computing them fails.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.stream.try_next().await? else { return Ok(None) };
        if !self.renamed {
            return Ok(Some(batch));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let column = |(array, field): (&ArrayRef, &Arc<Field>)| {
            if array.data_type() == field.data_type() {
                return Ok(Arc::clone(array));
            }
            cast(array, field.data_type())
        };
        let columns = batch.columns().iter().zip(self.schema.fields()).map(column).collect::<Result<_, _>>()?;
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    /// The same rows with their instants in a zone.
    fn zoned(self, zone: &Zone) -> Self {
        let field = |field: &Arc<Field>| {
            let data_type = zone.of_type(field.data_type());
            if data_type == *field.data_type() {
                return Arc::clone(field);
            }
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        };
        let fields: Vec<_> = self.schema.fields().iter().map(field).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        self.renamed(schema)
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`RowStream::next`].
    pub async fn collect(self) -> Result<Rows> {
        self.collect_within(u64::MAX).await
    }

    /// All rows, if they take no more than so many bytes.
    ///
    /// # Errors
    /// As [`RowStream::next`], and `Query` when they take more.
    pub(crate) async fn collect_within(mut self, most_bytes: u64) -> Result<Rows> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = self.next().await? {
            bytes += batch.get_array_memory_size() as u64;
            if bytes > most_bytes {
                let message = format!("the rows take more than {most_bytes} bytes of memory (query_memory)");
                return Err(DataFusionError::ResourcesExhausted(message).into());
            }
            batches.push(batch);
        }
        Ok(Rows { schema: self.schema, batches })
    }
}

impl Answer {
    pub(crate) const fn done(tag: Tag) -> Self {
        Self { tag, rows: None, notices: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) const fn streamed(rows: RowStream) -> Self {
        Self { tag: Tag::Select, rows: Some(rows), notices: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn collected(tag: Tag, rows: Rows) -> Self {
        Self { rows: Some(RowStream::of(rows)), ..Self::done(tag) }
    }

    pub(crate) fn warned(mut self, sqlstate: &'static str, message: &'static str) -> Self {
        self.warnings.push(Warning { sqlstate, message });
        self
    }

    /// The same with instants in the zone of whoever asked.
    pub(crate) fn zoned(mut self, zone: &Zone) -> Self {
        self.rows = self.rows.map(|rows| rows.zoned(zone));
        self
    }

    /// The same with the names that PostgreSQL gives to a query's columns.
    pub(crate) fn titled(mut self, query: &Query) -> Self {
        self.rows = self.rows.map(|rows| {
            let schema = titled(rows.schema(), query);
            rows.renamed(schema)
        });
        self
    }

    /// Its rows, or none of one column, if they take no more than so many bytes.
    ///
    /// # Errors
    /// As [`RowStream::collect_within`].
    pub(crate) async fn collect_within(self, most_bytes: u64) -> Result<Rows> {
        match self.rows {
            Some(rows) => rows.collect_within(most_bytes).await,
            None => Ok(Rows::none("result")),
        }
    }

    /// The same with all rows at hand.
    ///
    /// # Errors
    /// As [`RowStream::next`].
    pub async fn into_outcome(self) -> Result<Outcome> {
        let rows = match self.rows {
            Some(rows) => Some(rows.collect().await?),
            None => None,
        };
        let tag = self.tag.text(rows.as_ref().map_or(0, Rows::count));
        let warnings = self.warnings.iter().map(|warning| warning.message.to_owned());
        Ok(Outcome { tag, rows, notices: warnings.chain(self.notices).collect() })
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        let rows = outcome.rows.map(RowStream::of);
        Self { rows, notices: outcome.notices, ..Self::done(Tag::Plain(outcome.tag)) }
    }
}
