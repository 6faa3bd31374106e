//! A view's own table for plans that do not end in a GROUP BY: whole rows with their counts.
//!
//! The key is the row in row format and the value how often it stands in the view, so equal rows
//! share a slot and changes consolidate by themselves. Within an epoch a count may pass below zero,
//! as a delete can overtake its insert on the way; at its end none is.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, hash_keys};
use crate::slices::{last_chunk, until};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use highwater_state::{ByteKeys, Rows, Slot, Table};
use std::collections::VecDeque;
use std::time::Instant;

/// One worker's share of a view's rows. Its input is keyed: the key column holds the whole row.
pub(crate) struct Materialize {
    codec: KeyCodec,
    schema: SchemaRef,
    table: Table,
    /// An operator reads the changes.
    emits: bool,
    /// Somebody outside reads them.
    watched: bool,
    passing: VecDeque<Batch>,
    /// Rows whose count was not above zero at some moment of this epoch.
    suspects: Vec<Slot>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    created: Vec<u32>,
}

impl Materialize {
    /// `schema` is the view's, and the key's columns are the view's columns.
    pub(crate) const fn new(codec: KeyCodec, schema: SchemaRef, table: Table, emits: bool) -> Self {
        Self {
            codec,
            schema,
            table,
            emits,
            watched: false,
            passing: VecDeque::new(),
            suspects: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
        }
    }

    fn decode<'a>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<RecordBatch> {
        let count = keys.len();
        let columns = self.codec.columns_of_bytes(keys)?;
        record_batch(&self.schema, columns, count).map_err(|e| Error::data("view", e))
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if !self.suspects.is_empty() {
            self.drop_empty()?;
        } else if let Some(batch) = self.passing.pop_front() {
            let bytes = batch.rows.column(0).as_binary::<i32>();
            let rows = self.decode((0..bytes.len()).map(|row| bytes.value(row)))?;
            out.push(Batch { rows, weights: batch.weights });
        }
        Ok(self.suspects.is_empty() && self.passing.is_empty())
    }

    /// Frees those of a chunk of suspects that are not in the view any more.
    fn drop_empty(&mut self) -> Result<()> {
        let mut suspects = last_chunk(&mut self.suspects);
        suspects.sort_unstable();
        suspects.dedup();
        let table = &self.table;
        if suspects.iter().any(|slot| (table.words(*slot)[0] as i64) < 0) {
            return Err(Error::data("view", "a row was deleted that is not there: its input is inconsistent"));
        }
        // A row that stands in two chunks is gone in the second, which counts 0 as well.
        suspects.retain(|slot| table.words(*slot)[0] == 0);
        Ok(self.table.delete(&suspects)?)
    }

    /// Rows as often as their counts say.
    fn repeat(&self, rows: &Rows) -> Result<Option<Batch>> {
        let mut indices = Vec::with_capacity(rows.len());
        for (row, count) in rows.words.iter().enumerate() {
            indices.extend(std::iter::repeat_n(row as u32, (*count as i64).max(0) as usize));
        }
        if indices.is_empty() {
            return Ok(None);
        }
        let distinct = self.decode((0..rows.len()).map(|row| rows.key_bytes(row)))?;
        if indices.len() == distinct.num_rows() {
            return Ok(Some(Batch::inserts(distinct)));
        }
        let all = Batch::inserts(distinct).take(&UInt32Array::from(indices)).map_err(|e| Error::data("view", e))?;
        Ok(Some(all))
    }
}

impl Logic for Materialize {
    fn tables(&mut self) -> Vec<&mut Table> {
        vec![&mut self.table]
    }

    fn load_for(&mut self, _: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if self.table.is_loaded() {
            return Ok(true);
        }
        hash_keys(batch.rows.column(0).as_ref(), &mut self.hashes);
        Ok(self.table.load_for(&self.hashes, &mut || Instant::now() < deadline)?)
    }

    fn apply(&mut self, _: usize, batch: Batch) -> Result<()> {
        let key = batch.rows.column(0);
        hash_keys(key.as_ref(), &mut self.hashes);
        let bytes = key.as_binary::<i32>();
        let keys = ByteKeys::new(bytes.value_data(), bytes.value_offsets())?;
        self.table.upsert_bytes(&self.hashes, keys, &mut self.slots, &mut self.created)?;
        self.created.clear();
        let weights = batch.weights.as_ref().map(|w| &w.values()[..]);
        self.table.update(&self.slots, |row, words| {
            words[0] = words[0].wrapping_add(weights.map_or(1, |w| w[row]) as u64);
        });
        if weights.is_some() {
            let table = &self.table;
            let suspects = self.slots.iter().copied().filter(|slot| table.words(*slot)[0] as i64 <= 0);
            self.suspects.extend(suspects);
        }
        if self.emits || self.watched {
            self.passing.push_back(batch);
        }
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || self.step(out))
    }

    fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    fn lookup(&mut self, _: &[ArrayRef], _: &mut Vec<Batch>) -> Result<()> {
        Err(Error::Plan("rows without a key cannot be looked up".to_owned()))
    }

    fn begin_read(&mut self, group: Option<u16>) -> Result<()> {
        Ok(self.table.freeze_for_read(group)?)
    }

    fn read_on(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        let mut rows = Rows::default();
        let left = self.table.copy_rows(&mut || Instant::now() < deadline, &mut rows)?.pages_left;
        out.extend(self.repeat(&rows)?);
        Ok(left == 0)
    }

    fn hashes(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let mut hashes = Vec::new();
        hash_keys(self.codec.wide(rows.columns(), rows.num_rows())?.as_ref(), &mut hashes);
        Ok(hashes)
    }
}
