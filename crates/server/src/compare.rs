//! Whether two results hold the same rows, in any order, and which ones they do not share.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// How many differing rows are shown of each side.
const SHOWN: usize = 10;

/// The rows that only one side has.
#[derive(Debug)]
pub(crate) struct Difference {
    /// How many rows only the first has.
    pub(crate) only_first: usize,
    /// Some of them.
    pub(crate) first: RecordBatch,
    /// How many rows only the second has.
    pub(crate) only_second: usize,
    /// Some of them.
    pub(crate) second: RecordBatch,
}

/// Compares two results as multisets of rows; `None` when they are equal.
///
/// # Errors
/// Batches whose columns are not those of `schema`.
pub(crate) fn difference(
    schema: &SchemaRef,
    first: &[RecordBatch],
    second: &[RecordBatch],
) -> Result<Option<Difference>, ArrowError> {
    let (first, second) = (concat_batches(schema, first)?, concat_batches(schema, second)?);
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let left = converter.convert_columns(first.columns())?;
    let right = converter.convert_columns(second.columns())?;
    let (only_left, only_right) = apart(&left, &right);
    if only_left.is_empty() && only_right.is_empty() {
        return Ok(None);
    }
    let some = |batch: &RecordBatch, rows: &[u32]| {
        let rows: Vec<u32> = rows.iter().copied().take(SHOWN).collect();
        arrow::compute::take_record_batch(batch, &rows.into())
    };
    Ok(Some(Difference {
        only_first: only_left.len(),
        first: some(&first, &only_left)?,
        only_second: only_right.len(),
        second: some(&second, &only_right)?,
    }))
}

/// The rows, by number, that are in one side only; by merging both in their order.
fn apart(left: &Rows, right: &Rows) -> (Vec<u32>, Vec<u32>) {
    let (a, b) = (in_order(left), in_order(right));
    let (mut i, mut j) = (0, 0);
    let (mut only_left, mut only_right) = (Vec::new(), Vec::new());
    while i < a.len() && j < b.len() {
        match left.row(a[i] as usize).as_ref().cmp(right.row(b[j] as usize).as_ref()) {
            std::cmp::Ordering::Equal => (i, j) = (i + 1, j + 1),
            std::cmp::Ordering::Less => {
                only_left.push(a[i]);
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                only_right.push(b[j]);
                j += 1;
            }
        }
    }
    only_left.extend_from_slice(&a[i..]);
    only_right.extend_from_slice(&b[j..]);
    (only_left, only_right)
}

fn in_order(rows: &Rows) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(*a as usize).as_ref().cmp(rows.row(*b as usize).as_ref()));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn batch(values: &[i64]) -> RecordBatch {
        let array: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("n", array)]).expect("a batch")
    }

    #[test]
    fn order_does_not_matter_and_numbers_of_equal_rows_do() {
        let one = batch(&[1, 2, 2, 3]);
        let schema = one.schema();
        let same = [batch(&[2, 3]), batch(&[2, 1])];
        assert!(difference(&schema, std::slice::from_ref(&one), &same).expect("compared").is_none());
        let found = difference(&schema, &[one], &[batch(&[1, 2, 3, 4])]).expect("compared").expect("differs");
        assert_eq!((found.only_first, found.only_second), (1, 1));
        assert_eq!((found.first, found.second), (batch(&[2]), batch(&[4])));
    }
}
