//! What a statement gives back.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// What came of a statement.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// PostgreSQL's command tag, such as `CREATE SOURCE` or `SELECT 3`.
    pub tag: String,
    /// Present for statements that give rows, even if there are none.
    pub rows: Option<Rows>,
    /// For the person who asked, such as "already exists, skipping".
    pub notices: Vec<String>,
}

/// Rows with their columns.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Rows from columns of equal length.
    pub(crate) fn of(columns: Vec<(&str, ArrayRef)>) -> Self {
        let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
            .expect("the columns have one length and the types of their fields");
        Self { schema, batches: vec![batch] }
    }

    /// One column of text.
    pub(crate) fn text(name: &str, lines: Vec<String>) -> Self {
        Self::of(vec![(name, Arc::new(StringArray::from(lines)))])
    }

    /// No rows of one column of text.
    pub(crate) fn none(name: &str) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]));
        Self { schema, batches: Vec::new() }
    }
}

impl Outcome {
    pub(crate) fn done(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), rows: None, notices: Vec::new() }
    }

    pub(crate) fn rows(verb: &str, rows: Rows) -> Self {
        let tag = if verb == "SELECT" { format!("SELECT {}", rows.count()) } else { verb.to_owned() };
        Self { tag, rows: Some(rows), notices: Vec::new() }
    }

    pub(crate) fn noticed(mut self, notice: impl Into<String>) -> Self {
        self.notices.push(notice.into());
        self
    }
}
