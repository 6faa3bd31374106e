//! The changes of groups that somebody reads: an epoch's batches are applied at its end, and one
//! change a group goes out.
//!
//! In steps, each of a batch or a chunk of groups: the batches' groups are found, what these gave is
//! computed, the batches are applied, and what the groups give is compared. Invariant: a later kind of
//! step is not begun before the earlier ones are over, so a group is seen as it was when the epoch
//! began, and as it is at its end.

use super::{Aggregate, Which};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::slices::last_chunk;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, make_comparator};
use arrow::buffer::BooleanBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use highwater_state::Slot;
use std::collections::VecDeque;

/// What is known of an epoch's changes so far.
#[derive(Default)]
pub(super) struct Changing {
    /// Batches whose groups were found and that are not applied yet.
    found: VecDeque<(Which, Vec<Slot>, Batch)>,
    /// By table, groups that they touch and of which it is not known what they gave.
    touched: [Vec<Slot>; 2],
    /// Chunks of touched groups, and what they gave.
    before: VecDeque<(Which, Vec<Slot>, Finished)>,
}

impl Changing {
    fn next_touched(&mut self) -> Option<(Which, Vec<Slot>)> {
        let mut tables = [Which::Narrow, Which::Wide].into_iter();
        let which = tables.find(|which| !self.touched[*which as usize].is_empty())?;
        Some((which, last_chunk(&mut self.touched[which as usize])))
    }
}

impl Aggregate {
    /// A step of the epoch's changes; true when there was none left to do.
    pub(super) fn change(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if let Some(batch) = self.pending.pop_front() {
            self.find_touched(batch)?;
        } else if let Some((which, slots)) = self.changing.next_touched() {
            let old = self.finish_slots(which, &slots)?;
            self.changing.before.push_back((which, slots, old));
        } else if let Some((which, slots, batch)) = self.changing.found.pop_front() {
            // What the one group of an aggregation without keys gives now is its first row.
            self.announce_empty = false;
            self.update(which, &slots, &batch)?;
        } else {
            return self.compare(out);
        }
        Ok(false)
    }

    /// Compares what a chunk of groups gave and gives, when all batches are applied; true when there was
    /// none left.
    fn compare(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        self.settle_sums()?;
        let Some((which, slots, old)) = self.changing.before.pop_front() else { return Ok(true) };
        let new = self.finish_slots(which, &slots)?;
        out.extend(difference(&old, &new, &self.schema)?);
        Ok(false)
    }

    /// Finds the groups of a batch, which is applied later.
    fn find_touched(&mut self, batch: Batch) -> Result<()> {
        let mut slots = Vec::new();
        let which = self.find(batch.rows.column(0), &mut slots)?;
        let Changing { found, touched, .. } = &mut self.changing;
        touched[which as usize].extend_from_slice(&slots);
        found.push_back((which, slots, batch));
        if self.pending.is_empty() {
            for slots in touched {
                slots.sort_unstable();
                slots.dedup();
            }
        }
        Ok(())
    }
}

/// Output rows of groups, some of which do not exist (yet, or any more).
pub(crate) struct Finished {
    pub(crate) rows: RecordBatch,
    pub(crate) exists: Vec<bool>,
}

/// The changes from `old` to `new` of the same groups: deletes, then inserts, of what differs.
pub(crate) fn difference(old: &Finished, new: &Finished, schema: &SchemaRef) -> Result<Option<Batch>> {
    let broken = |e| Error::data("aggregate", e);
    let same = same_rows(&old.rows, &new.rows)?;
    let pick = |exists: &[bool], other: &[bool]| -> UInt32Array {
        let rows = 0..exists.len();
        rows.filter(|&row| exists[row] && !(other[row] && same[row])).map(|row| row as u32).collect()
    };
    let deletes = pick(&old.exists, &new.exists);
    let inserts = pick(&new.exists, &old.exists);
    if deletes.is_empty() && inserts.is_empty() {
        return Ok(None);
    }
    let weights: Vec<i64> =
        std::iter::repeat_n(-1, deletes.len()).chain(std::iter::repeat_n(1, inserts.len())).collect();
    let deleted = arrow::compute::take_record_batch(&old.rows, &deletes).map_err(broken)?;
    let inserted = arrow::compute::take_record_batch(&new.rows, &inserts).map_err(broken)?;
    let rows = arrow::compute::concat_batches(schema, [&deleted, &inserted]).map_err(broken)?;
    let weights = (!deletes.is_empty()).then(|| Int64Array::from(weights));
    Ok(Some(Batch { rows, weights }))
}

/// Whether rows of two batches are the same, nulls being the same as nulls.
fn same_rows(a: &RecordBatch, b: &RecordBatch) -> Result<Vec<bool>> {
    let mut same = vec![true; a.num_rows()];
    for (a, b) in a.columns().iter().zip(b.columns()) {
        let equal = not_distinct(a, b).map_err(|e| Error::data("aggregate", e))?;
        for (same, equal) in same.iter_mut().zip(equal.iter()) {
            *same &= equal;
        }
    }
    Ok(same)
}

/// In which rows two columns have the same, arrays too, of which Arrow's kernels know nothing.
fn not_distinct(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanBuffer, ArrowError> {
    if !a.data_type().is_nested() {
        return Ok(arrow::compute::kernels::cmp::not_distinct(a, b)?.values().clone());
    }
    let order = make_comparator(a, b, SortOptions::default())?;
    Ok(BooleanBuffer::collect_bool(a.len(), |row| order(row, row).is_eq()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn arrays_are_the_same_with_their_nulls() {
        let arrays = |rows: Vec<Option<Vec<Option<i32>>>>| {
            let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(rows);
            let numbers = Int32Array::from(vec![1; lists.len()]);
            let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(numbers)), ("a", Arc::new(lists))];
            RecordBatch::try_from_iter(columns).expect("rows")
        };
        let before = arrays(vec![Some(vec![Some(1)]), Some(vec![None]), None, Some(vec![]), None]);
        let after = arrays(vec![Some(vec![Some(2)]), Some(vec![None]), None, None, Some(vec![None])]);
        assert_eq!(same_rows(&before, &after).expect("compared"), [false, true, true, false, false]);
    }
}
