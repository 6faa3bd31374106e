//! What became of each key among the changes of one checkpoint's part.
//!
//! Rows that came and went in it cancel out, in whatever order they did; what is left of a key is the row
//! that it had and the one that it has. Invariant: at most one of each, or the key is none.

use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Fields};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use highwater_engine::Batch;
use std::sync::Arc;

/// The keys that changed, in their order.
pub(super) struct Net {
    rows: RecordBatch,
    /// The places of the row before and the row after.
    changes: Vec<(Option<u32>, Option<u32>)>,
}

fn text(error: ArrowError) -> String {
    error.to_string()
}

/// Some columns in a form that compares.
fn compared(columns: &[ArrayRef]) -> Result<Rows, String> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    RowConverter::new(fields).and_then(|converter| converter.convert_columns(columns)).map_err(text)
}

/// The changes of at least one batch by the columns of the key.
///
/// # Errors
/// That two rows have one key.
pub(super) fn net(batches: &[Batch], keys: &[usize]) -> Result<Net, String> {
    let schema = batches[0].rows.schema();
    let rows = concat_batches(&schema, batches.iter().map(|batch| &batch.rows)).map_err(text)?;
    let weights: Vec<i64> = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.weight(row))).collect();
    let key_columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
    let (by_key, by_row) = (compared(&key_columns)?, compared(rows.columns())?);
    let key_of = |row: &u32| by_key.row(*row as usize);
    let row_of = |row: &u32| by_row.row(*row as usize);
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| key_of(a).cmp(&key_of(b)).then_with(|| row_of(a).cmp(&row_of(b))));
    let mut changes = Vec::new();
    for of_key in order.chunk_by(|a, b| key_of(a) == key_of(b)) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for same in of_key.chunk_by(|a, b| row_of(a) == row_of(b)) {
            let weight: i64 = same.iter().map(|row| weights[*row as usize]).sum();
            let side = if weight < 0 { &mut before } else { &mut after };
            side.extend(std::iter::repeat_n(same[0], weight.unsigned_abs() as usize));
        }
        match (before.as_slice(), after.as_slice()) {
            ([], []) => {}
            ([] | [_], [] | [_]) => changes.push((before.first().copied(), after.first().copied())),
            _ => return Err("two rows have the same primary key: name other columns in 'primary_key'".to_owned()),
        }
    }
    Ok(Net { rows, changes })
}

impl Net {
    /// `{"key": ..., "value": ...}`; the value of a key without a row is null.
    ///
    /// # Errors
    /// Arrow's, which are broken invariants here.
    pub(super) fn upserts(&self, keys: &[usize]) -> Result<RecordBatch, String> {
        let rows = self.taken(|(before, after)| after.or(before))?;
        let key = structs(&rows.project(keys).map_err(text)?, None)?;
        let value = structs(&rows, Some(self.valid(|(_, after)| after.is_some())))?;
        RecordBatch::try_from_iter([("key", key), ("value", value)]).map_err(text)
    }

    /// `{"before": ..., "after": ..., "op": ...}`, as Debezium writes changes without their schemas.
    ///
    /// # Errors
    /// Arrow's, which are broken invariants here.
    pub(super) fn changes(&self) -> Result<RecordBatch, String> {
        let before = self.taken(|(before, after)| before.or(after))?;
        let before = structs(&before, Some(self.valid(|(before, _)| before.is_some())))?;
        let after = self.taken(|(before, after)| after.or(before))?;
        let after = structs(&after, Some(self.valid(|(_, after)| after.is_some())))?;
        let ops = self.changes.iter().map(|change| match change {
            (None, _) => "c",
            (_, None) => "d",
            _ => "u",
        });
        let ops: ArrayRef = Arc::new(StringArray::from_iter_values(ops));
        RecordBatch::try_from_iter([("before", before), ("after", after), ("op", ops)]).map_err(text)
    }

    /// One row of each change.
    fn taken(&self, which: impl Fn((Option<u32>, Option<u32>)) -> Option<u32>) -> Result<RecordBatch, String> {
        let indices: UInt32Array = self.changes.iter().map(|change| which(*change)).collect();
        take_record_batch(&self.rows, &indices).map_err(text)
    }

    fn valid(&self, is_there: impl Fn((Option<u32>, Option<u32>)) -> bool) -> NullBuffer {
        NullBuffer::from(self.changes.iter().map(|change| is_there(*change)).collect::<Vec<bool>>())
    }
}

/// Rows as one column.
fn structs(rows: &RecordBatch, valid: Option<NullBuffer>) -> Result<ArrayRef, String> {
    let fields: Vec<Field> =
        rows.schema_ref().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let structs = StructArray::try_new(Fields::from(fields), rows.columns().to_vec(), valid).map_err(text)?;
    Ok(Arc::new(structs))
}
