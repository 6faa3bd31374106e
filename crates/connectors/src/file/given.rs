//! The columns that the source gives of a file's rows: those of the file, the included ones, what is
//! deleted, and those of rows that could not be read. See [`crate::shape`].

use crate::shape::{DELETED, ERROR_COLUMNS, ERRORS_KEPT, Envelope, Metadata, Shape};
use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use highwater_core::{Clock as _, SystemClock};
use highwater_engine::source::Offset;
use highwater_engine::{Error, Result};
use std::sync::Arc;

/// The most bytes of a record that could not be read that are kept.
const MOST_KEPT: usize = 4096;

/// What the source gives.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// All columns.
    pub(super) schema: SchemaRef,
    /// How many of them the file holds.
    values: usize,
    included: Vec<Metadata>,
    /// Whether a column says what is deleted.
    deletes: bool,
    /// Whether there are columns for rows that could not be read.
    keeps_errors: bool,
}

/// A record that could not be read.
pub(super) struct Unread {
    slot: i64,
    offset: String,
    text: String,
    reason: String,
}

impl Unread {
    /// `number` counts the split's bad records from 0.
    pub(super) fn new(number: u64, offset: &Offset, record: &[u8], reason: &str) -> Self {
        let record = record.trim_ascii_end();
        Self {
            slot: (number % ERRORS_KEPT) as i64,
            offset: offset.to_string(),
            // No text has zero bytes.
            text: String::from_utf8_lossy(&record[..record.len().min(MOST_KEPT)]).replace('\0', "\u{FFFD}"),
            reason: reason.to_owned(),
        }
    }
}

impl Given {
    /// `values` are the columns that files hold.
    ///
    /// # Errors
    /// `Plan` when two columns have one name.
    pub(super) fn new(values: &SchemaRef, shape: &Shape<'_>, keeps_errors: bool) -> Result<Self> {
        let deletes = shape.envelope != Envelope::Plain;
        let mut fields: Vec<Field> = values.fields().iter().map(|field| field.as_ref().clone()).collect();
        if deletes || keeps_errors {
            // What is deleted or could not be read has no values.
            fields = fields.into_iter().map(|field| field.with_nullable(true)).collect();
        }
        fields.extend(shape.included.iter().map(|included| Field::new(&included.name, DataType::Utf8, true)));
        if deletes {
            fields.push(Field::new(DELETED, DataType::Boolean, true));
        }
        if keeps_errors {
            let types = [
                DataType::Int64,
                DataType::Utf8,
                DataType::Utf8,
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                DataType::Utf8,
                DataType::Utf8,
            ];
            fields.extend(ERROR_COLUMNS.into_iter().zip(types).map(|(name, of)| Field::new(name, of, true)));
        }
        for (at, field) in fields.iter().enumerate() {
            if fields[..at].iter().any(|other| other.name() == field.name()) {
                return Err(Error::Plan(format!("two columns of the source are named '{}'", field.name())));
            }
        }
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            values: values.fields().len(),
            included: shape.included.iter().map(|included| included.what).collect(),
            deletes,
            keeps_errors,
        })
    }

    /// Whether it is what the file holds and no more.
    pub(super) const fn is_bare(&self) -> bool {
        self.included.is_empty() && !self.deletes && !self.keeps_errors
    }

    /// Rows of which there is no more.
    pub(super) fn bare(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())
    }

    /// Rows of a file, which begin at `starts`. Behind the file's columns are the keys' texts and what is
    /// deleted, where these are given.
    pub(super) fn rows(&self, rows: &RecordBatch, file: &str, starts: &[u64]) -> Result<RecordBatch, ArrowError> {
        let mut columns = rows.columns()[..self.values].to_vec();
        for what in &self.included {
            columns.push(match what {
                Metadata::Key => Arc::clone(rows.column(self.values)),
                Metadata::File => Arc::new(StringArray::from_iter_values(starts.iter().map(|_| file))),
                Metadata::Offset => Arc::new(StringArray::from_iter_values(starts.iter().map(ToString::to_string))),
            });
        }
        if self.deletes {
            columns.extend(rows.columns().last().cloned());
        }
        let rest = &self.schema.fields()[columns.len()..];
        let none: Vec<ArrayRef> = rest.iter().map(|field| new_null_array(field.data_type(), rows.num_rows())).collect();
        columns.extend(none);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    /// Records of a file that could not be read.
    pub(super) fn unread(&self, file: &str, unread: Vec<Unread>) -> Result<RecordBatch, ArrowError> {
        let text = |of: fn(&Unread) -> &str| Arc::new(StringArray::from_iter_values(unread.iter().map(of))) as ArrayRef;
        let now = SystemClock::default().wall().0;
        let at = TimestampMicrosecondArray::from_iter_values(unread.iter().map(|_| now));
        let errors: [ArrayRef; 6] = [
            Arc::new(Int64Array::from_iter_values(unread.iter().map(|one| one.slot))),
            Arc::new(StringArray::from_iter_values(unread.iter().map(|_| file))),
            text(|one| &one.offset),
            Arc::new(at.with_timezone("UTC")),
            text(|one| &one.text),
            text(|one| &one.reason),
        ];
        let values = &self.schema.fields()[..self.schema.fields().len() - errors.len()];
        let mut columns: Vec<ArrayRef> =
            values.iter().map(|field| new_null_array(field.data_type(), unread.len())).collect();
        columns.extend(errors);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// Rows and records that could not be read, in the order in which they stand in the file.
pub(super) fn merged(rows: &RecordBatch, unread: &RecordBatch, is_bad: &[bool]) -> Result<RecordBatch, ArrowError> {
    let (mut row, mut bad) = (0, rows.num_rows() as u32);
    let order = is_bad.iter().map(|is_bad| {
        let next = if *is_bad { &mut bad } else { &mut row };
        *next += 1;
        *next - 1
    });
    let order: UInt32Array = order.collect::<Vec<u32>>().into();
    take_record_batch(&concat_batches(rows.schema_ref(), [rows, unread])?, &order)
}
