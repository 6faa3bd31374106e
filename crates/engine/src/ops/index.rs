//! Rows kept by some of their columns, for reads that name these: all rows of a key at once.
//!
//! It gives nothing on and is not read as a whole. Rows of which a key column is null never come here,
//! as nothing is equal to null. Invariant: between epochs the rows of a key are all those of the input.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, one_form};
use crate::ops::gathered::Gathered;
use crate::slices::{CHUNK, until};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use highwater_state::{Slot, Table};
use std::time::Instant;

/// One worker's share of the keys.
pub(crate) struct Index {
    gathered: Gathered,
    schema: SchemaRef,
    keys: KeyCodec,
    rows: KeyCodec,
}

fn broken(error: ArrowError) -> Error {
    Error::data("index", error)
}

impl Index {
    /// `gathered` has one side; `keys` and `rows` are for the columns of a key and for whole rows of
    /// `schema`.
    pub(crate) const fn new(gathered: Gathered, schema: SchemaRef, keys: KeyCodec, rows: KeyCodec) -> Self {
        Self { gathered, schema, keys, rows }
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self) -> Result<bool> {
        // Nobody is to be told what changed, but it is brought in order.
        if self.gathered.touched()?.is_empty() { self.gathered.end_epoch() } else { Ok(false) }
    }

    /// Some rows, each as often as its count says.
    fn repeated(&self, slots: &[Slot]) -> Result<Batch> {
        let columns = self.rows.columns_of_bytes(slots.iter().map(|slot| self.gathered.row(0, *slot)))?;
        let rows = record_batch(&self.schema, columns, slots.len()).map_err(broken)?;
        let mut indices = Vec::with_capacity(slots.len());
        for (row, slot) in slots.iter().enumerate() {
            indices.extend(std::iter::repeat_n(row as u32, self.gathered.count(0, *slot).max(0) as usize));
        }
        let rows = Batch::inserts(rows);
        if indices.len() == slots.len() { Ok(rows) } else { rows.take(&UInt32Array::from(indices)).map_err(broken) }
    }
}

impl Logic for Index {
    fn tables(&mut self) -> Vec<&mut Table> {
        self.gathered.tables()
    }

    fn load_for(&mut self, _: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        self.gathered.load_batch(batch, deadline)
    }

    fn apply(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.gathered.apply(0, &batch)
    }

    fn close(&mut self, deadline: Instant, _: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || self.step())
    }

    fn lookup(&mut self, keys: &[ArrayRef], out: &mut Vec<Batch>) -> Result<()> {
        let keys: Vec<ArrayRef> = keys.iter().map(one_form).collect();
        let bytes = self.keys.wide(&keys, keys.first().map_or(0, Array::len))?;
        let slots = self.gathered.find(0, bytes.as_binary::<i32>())?;
        for slots in slots.chunks(CHUNK) {
            let rows = self.repeated(slots)?;
            if !rows.is_empty() {
                out.push(rows);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
