//! Groups whose output is computed anew: their rows are kept, and at an epoch's end what each touched
//! group gave is exchanged for what it gives.
//!
//! Some groups are computed at a time, one at the least, between which others have their turn.
//! What a group gave is computed from its rows as they were when the epoch began, so it is not stored.
//! Rows are handed over in the order of their row format, each as often as its count says, so that
//! ties are resolved the same way each time. Invariant: a group without rows gives nothing.

use crate::batch::{Batch, record_batch, rows_at};
use crate::error::{Error, Result};
use crate::keys::KeyCodec;
use crate::ops::departing::Departing;
use crate::ops::gathered::{Gathered, Touched, Want};
use crate::ops::pairs::weights_of;
use crate::plan::Compute;
use crate::slices::{CHUNK, until};
use crate::stateful::Logic;
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use highwater_state::Table;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Rows of touched groups that are computed together; one group may have more.
const TOGETHER: usize = 32 << 10;

/// One worker's share of the groups.
pub(crate) struct Regroup {
    compute: Box<dyn Compute>,
    gathered: Gathered,
    input: SchemaRef,
    rows: KeyCodec,
    output: SchemaRef,
    /// For whole rows of the output.
    results: KeyCodec,
    /// Groups that the ending epoch changed.
    touched: Vec<Touched>,
    /// How many of them are done.
    done: usize,
    departing: Option<Departing>,
}

fn broken(error: ArrowError) -> Error {
    Error::data("groups", error)
}

/// The places of `rows` in order, each as often as its row's count says.
fn repeated(rows: &[u32], counts: &[i64]) -> UInt32Array {
    let places = rows.iter().enumerate();
    let places = places.flat_map(|(at, row)| std::iter::repeat_n(at as u32, counts[*row as usize].max(0) as usize));
    UInt32Array::from(places.collect::<Vec<u32>>())
}

impl Regroup {
    /// `gathered` has one side.
    pub(crate) fn new(
        compute: Box<dyn Compute>,
        gathered: Gathered,
        [input, output]: [SchemaRef; 2],
        [rows, results]: [KeyCodec; 2],
    ) -> Self {
        Self { compute, gathered, input, rows, output, results, touched: Vec::new(), done: 0, departing: None }
    }

    /// How many of the first groups of `touched` are computed together.
    fn together(touched: &[Touched]) -> usize {
        let mut rows = 0;
        for (at, group) in touched.iter().enumerate() {
            if rows >= TOGETHER {
                return at;
            }
            rows += group.sides[0].rows(Want::All);
        }
        touched.len()
    }

    /// The same, whose rows leave when their groups are final.
    pub(crate) fn departing(mut self, departing: Option<Departing>) -> Self {
        self.departing = departing;
        self
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if self.done == self.touched.len() {
            self.touched = self.gathered.touched()?;
            self.done = 0;
            if self.touched.is_empty() {
                return self.gathered.end_epoch();
            }
        }
        let groups = self.done..self.done + Self::together(&self.touched[self.done..]);
        self.done = groups.end;
        self.change(groups, out)?;
        Ok(false)
    }

    /// A step of letting rows leave whose groups are final; true when there was none left to do.
    fn depart(&mut self) -> Result<bool> {
        let Self { departing: Some(departing), gathered, .. } = self else { return Ok(true) };
        departing.step(gathered, &mut |_| {})
    }

    /// The changes that some touched groups give.
    fn change(&mut self, groups: Range<usize>, out: &mut Vec<Batch>) -> Result<()> {
        let groups = &self.touched[groups];
        let wants: Vec<Want> =
            groups.iter().map(|group| if group.sides[0].is_changed { Want::All } else { Want::Nothing }).collect();
        let part = self.gathered.part(0, groups, &wants)?;
        let mut order: Vec<u32> = (0..part.len() as u32).collect();
        let row_of = |at: &u32| self.gathered.row(0, part.slots[*at as usize]);
        order.sort_unstable_by(|a, b| row_of(a).cmp(row_of(b)));
        let columns = self.rows.columns_of_bytes(order.iter().map(row_of))?;
        let rows = record_batch(&self.input, columns, order.len()).map_err(broken)?;
        let old = self.compute(&rows, &repeated(&order, &part.old))?;
        let new = self.compute(&rows, &repeated(&order, &part.new))?;
        self.difference(&old, &new, out)
    }

    /// What groups give for some of `rows`.
    fn compute(&mut self, rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
        if indices.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.output)));
        }
        let given = self.compute.compute(rows_at(rows, indices).map_err(broken)?)?;
        record_batch(&self.output, given.columns().to_vec(), given.num_rows()).map_err(broken)
    }

    /// Deletes of what is only in `old` and inserts of what is only in `new`.
    fn difference(&self, old: &RecordBatch, new: &RecordBatch, out: &mut Vec<Batch>) -> Result<()> {
        let both = concat_batches(&self.output, [old, new]).map_err(broken)?;
        let bytes = self.results.wide(both.columns(), both.num_rows())?;
        let bytes = bytes.as_binary::<i32>();
        let bytes_of = |row: &u32| bytes.value(*row as usize);
        let mut order: Vec<u32> = (0..both.num_rows() as u32).collect();
        order.sort_unstable_by(|a, b| bytes_of(a).cmp(bytes_of(b)));
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for same in order.chunk_by(|a, b| bytes_of(a) == bytes_of(b)) {
            let olds = same.iter().filter(|row| (**row as usize) < old.num_rows()).count();
            let weight = same.len() as i64 - 2 * olds as i64;
            if weight != 0 {
                rows.push(same[0]);
                weights.push(weight);
            }
        }
        for (rows, weights) in rows.chunks(CHUNK).zip(weights.chunks(CHUNK)) {
            let rows = take_record_batch(&both, &UInt32Array::from(rows.to_vec())).map_err(broken)?;
            out.push(Batch { rows, weights: weights_of(weights.to_vec()) });
        }
        Ok(())
    }
}

impl Logic for Regroup {
    fn tables(&mut self) -> Vec<&mut Table> {
        self.gathered.tables()
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if input > 0 { Ok(true) } else { self.gathered.load_batch(batch, deadline) }
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(1) {
            if let Some(departing) = &mut self.departing {
                departing.take(watermark, &batch);
            }
            return Ok(());
        }
        self.gathered.apply(0, &batch)
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || Ok(self.step(out)? && self.depart()?))
    }
}

#[cfg(test)]
mod tests;
