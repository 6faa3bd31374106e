//! What flows between operators: Arrow rows, each with a weight.
//!
//! A weight of +1 inserts a row and -1 deletes it (a Z-set); an update is both. Weights are absent
//! when all are +1, which is what an append-only stream pays for generality: nothing.
//! Invariant: `weights`, when present, has one non-null entry a row.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, filter_record_batch, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use std::ops::Range;
use std::sync::Arc;

/// Rows and their weights.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows.
    pub rows: RecordBatch,
    /// One weight a row; absent when all are +1.
    pub weights: Option<Int64Array>,
}

impl Batch {
    /// Rows that are all inserted.
    #[must_use]
    pub const fn inserts(rows: RecordBatch) -> Self {
        Self { rows, weights: None }
    }

    /// Rows with weights.
    ///
    /// # Panics
    /// When the lengths differ or a weight is null: both are broken invariants.
    #[must_use]
    pub fn weighted(rows: RecordBatch, weights: Int64Array) -> Self {
        assert_eq!(rows.num_rows(), weights.len(), "one weight a row");
        assert_eq!(weights.null_count(), 0, "weights are never null");
        Self { rows, weights: Some(weights) }
    }

    /// How many rows, whatever their weight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weight of one row.
    #[inline]
    #[must_use]
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// The rows for which `keep` is true (null counts as false).
    ///
    /// # Errors
    /// Those of Arrow's filter kernel.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, ArrowError> {
        let rows = filter_record_batch(&self.rows, keep)?;
        let weights = self.weights.as_ref().map(|w| filter(w, keep)).transpose()?;
        Ok(Self { rows, weights: weights.map(as_weights) })
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Errors
    /// Those of Arrow's take kernel.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let rows = rows_at(&self.rows, indices)?;
        let weights = self.weights.as_ref().map(|w| take(w, indices, None)).transpose()?;
        Ok(Self { rows, weights: weights.map(as_weights) })
    }

    /// Some of the rows, which are not copied.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let weights = self.weights.as_ref().map(|weights| weights.slice(rows.start, rows.len()));
        Self { rows: self.rows.slice(rows.start, rows.len()), weights }
    }

    /// The rows several times, one copy after the other.
    ///
    /// # Errors
    /// Those of Arrow's take kernel.
    pub fn repeated(&self, times: usize) -> Result<Self, ArrowError> {
        let rows = || 0..self.len() as u32;
        self.take(&(0..times).flat_map(|_| rows()).collect::<Vec<u32>>().into())
    }

    /// The same weights over other rows (a projection).
    #[must_use]
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        assert_eq!(rows.num_rows(), self.len(), "a projection keeps the rows");
        Self { rows, weights: self.weights.clone() }
    }
}

/// The rows at `indices`, in that order; of rows without columns, as many.
///
/// # Errors
/// Those of Arrow's take kernel.
pub(crate) fn rows_at(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    if rows.num_columns() > 0 {
        return take_record_batch(rows, indices);
    }
    record_batch(rows.schema_ref(), Vec::new(), indices.len())
}

/// Columns as so many rows, also where there are no columns that tell how many.
///
/// # Errors
/// When the columns are not those of the schema, or of another length.
pub(crate) fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn as_weights(array: ArrayRef) -> Int64Array {
    Int64Array::from(array.to_data())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;

    #[test]
    fn rows_without_columns_are_counted() {
        let rows = record_batch(&Arc::new(Schema::empty()), Vec::new(), 3).expect("rows");
        let batch = Batch::weighted(rows, Int64Array::from(vec![1, -1, 2]));
        let taken = batch.take(&UInt32Array::from(vec![2, 0])).expect("taken");
        assert_eq!((taken.len(), taken.weight(0), taken.weight(1)), (2, 2, 1));
        let kept = batch.filter(&BooleanArray::from(vec![true, false, true])).expect("filtered");
        assert_eq!((kept.len(), kept.weight(1)), (2, 2));
    }
}
