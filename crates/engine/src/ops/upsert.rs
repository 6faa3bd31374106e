//! The last row of each key: what a stream of rows by key, and of keys that are deleted, comes to.
//!
//! A table of keys has for each the position of its row; a table of rows has the rows themselves, their
//! keys being `place (1) | row` as in [`crate::ops::gathered`], so that a row lies in its key's key
//! group. Of an epoch's rows of a key the last one counts, in the order in which they came; at the
//! epoch's end it takes the place of the row that was there, and what differs goes on. Invariant
//! between epochs: every key has exactly one row, and every row a key.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, hash_keys, one_form};
use crate::ops::grouping::row_codec;
use crate::plan;
use crate::slices::{last_chunk, until};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::HashMap;
use datafusion_common::hash_map::Entry;
use highwater_state::{ByteKeys, Rows, Slot, Table, hash_placed};
use std::sync::Arc;
use std::time::Instant;

/// Makes batches of keys and rows; the row is null where its key is deleted.
pub(crate) struct Keying {
    /// The places of the key's columns.
    keys: Vec<usize>,
    /// How many columns a row has; one more in the input says what is deleted.
    columns: usize,
    key_codec: KeyCodec,
    row_codec: KeyCodec,
}

/// One worker's share of the keys.
pub(crate) struct Upsert {
    schema: SchemaRef,
    /// The places of the key's columns.
    key_columns: Vec<usize>,
    key_codec: KeyCodec,
    row_codec: KeyCodec,
    keys: Table,
    rows: Table,
    /// An operator reads the changes.
    emits: bool,
    /// Somebody outside reads them.
    watched: bool,
    /// The open epoch's rows.
    pending: Vec<Batch>,
    /// The epoch is being closed; the places of the rows that are still to be put.
    closes: bool,
    last: Vec<(u32, u32)>,
    hashes: Vec<u64>,
    key_slots: Vec<Slot>,
    row_slots: Vec<Slot>,
    created: Vec<u32>,
}

fn broken(error: ArrowError) -> Error {
    Error::data("rows by key", error)
}

/// A codec for the key's columns.
///
/// # Errors
/// `Plan` when a type cannot be a key.
fn key_codec(upsert: &plan::Upsert, schema: &SchemaRef) -> Result<KeyCodec> {
    KeyCodec::new(upsert.keys.iter().map(|key| schema.field(*key).data_type().clone()).collect())
}

impl Keying {
    /// `schema` is that of the rows.
    ///
    /// # Errors
    /// `Plan` when a column cannot be kept.
    pub(crate) fn new(upsert: &plan::Upsert, schema: &SchemaRef) -> Result<Self> {
        Ok(Self {
            keys: upsert.keys.clone(),
            columns: schema.fields().len(),
            key_codec: key_codec(upsert, schema)?,
            row_codec: row_codec(schema)?,
        })
    }

    /// A batch of keys and rows.
    ///
    /// # Errors
    /// Arrow's, which are broken invariants here.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<Batch> {
        if batch.weights.is_some() {
            return Err(Error::data("rows by key", "its input takes rows back: it is no source's"));
        }
        let (columns, deleted) = batch.rows.columns().split_at(self.columns);
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let mut rows = self.row_codec.wide(columns, batch.len())?;
        if let Some(deleted) = deleted.first() {
            rows = nullif(rows.as_ref(), deleted.as_boolean()).map_err(broken)?;
        }
        self.key_codec.key_wide_with(&keys, &[rows], batch)
    }
}

/// Where the last row of each key stands among batches, in the order in which the keys came first.
fn last_of(batches: &[Batch]) -> Vec<(u32, u32)> {
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut last = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let keys = batch.rows.column(0).as_binary::<i32>();
        for at in 0..batch.len() {
            let here = (number as u32, at as u32);
            match places.entry(keys.value(at)) {
                Entry::Occupied(place) => last[*place.get()] = here,
                Entry::Vacant(place) => {
                    place.insert(last.len());
                    last.push(here);
                }
            }
        }
    }
    last
}

/// The key of a row at hand, and the row, none where it is deleted.
fn keyed_row(batches: &[Batch], (number, at): (u32, u32)) -> (&[u8], Option<&[u8]>) {
    let [keys, rows] = [0, 1].map(|column| batches[number as usize].rows.column(column).as_binary::<i32>());
    let at = at as usize;
    (keys.value(at), rows.is_valid(at).then(|| rows.value(at)))
}

/// Keys as [`ByteKeys`] wants them.
#[derive(Default)]
struct Packed {
    data: Vec<u8>,
    ends: Vec<i32>,
    hashes: Vec<u64>,
}

impl Packed {
    fn new() -> Self {
        Self { ends: vec![0], ..Self::default() }
    }

    /// A key of the table of keys.
    fn push_key(&mut self, key: &[u8], hash: u64) -> Result<()> {
        self.data.extend_from_slice(key);
        self.end(hash)
    }

    /// A row, as the table of rows has it as its key; `hash` is its key's.
    fn push_row(&mut self, row: &[u8], hash: u64) -> Result<()> {
        let start = self.data.len();
        self.data.push((hash >> 56) as u8);
        self.data.extend_from_slice(row);
        self.end(hash_placed(&self.data[start..]))
    }

    fn end(&mut self, hash: u64) -> Result<()> {
        let end = i32::try_from(self.data.len()).map_err(|_| Error::data("rows by key", "an epoch of over 2 GiB"))?;
        self.ends.push(end);
        self.hashes.push(hash);
        Ok(())
    }

    fn keys(&self) -> Result<ByteKeys<'_>> {
        Ok(ByteKeys::new(&self.data, &self.ends)?)
    }
}

impl Upsert {
    /// `keys` has keys of kind `Bytes` and one word, `rows` keys of kind `Placed` and none; `schema` is
    /// that of the rows.
    ///
    /// # Errors
    /// `Plan` when a column cannot be kept.
    pub(crate) fn new(
        upsert: &plan::Upsert,
        schema: &SchemaRef,
        [keys, rows]: [Table; 2],
        emits: bool,
    ) -> Result<Self> {
        Ok(Self {
            schema: Arc::clone(schema),
            key_columns: upsert.keys.clone(),
            key_codec: key_codec(upsert, schema)?,
            row_codec: row_codec(schema)?,
            keys,
            rows,
            emits,
            watched: false,
            pending: Vec::new(),
            closes: false,
            last: Vec::new(),
            hashes: Vec::new(),
            key_slots: Vec::new(),
            row_slots: Vec::new(),
            created: Vec::new(),
        })
    }

    /// Loads the key groups of `hashes` until `deadline`, if there is one; true when all are there.
    fn load(&mut self, hashes: &[u64], deadline: Option<Instant>) -> Result<bool> {
        let mut more = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        Ok(self.keys.load_for(hashes, &mut more)? && self.rows.load_for(hashes, &mut more)?)
    }

    /// Where the row of a key is, if it has one.
    fn row_of(&self, key: Slot) -> Result<Option<Slot>> {
        let position = self.keys.words(key)[0] as u32;
        let row = self.rows.slot_at(self.keys.key_group(key), position);
        if row.is_none() && position != 0 {
            return Err(Error::data("rows by key", "a key's row is not there: restore an older checkpoint"));
        }
        Ok(row)
    }

    /// The rows of keys, brought into memory.
    fn rows_of(&mut self, keys: &[Slot]) -> Result<Vec<Option<Slot>>> {
        let rows: Vec<Option<Slot>> = keys.iter().map(|key| self.row_of(*key)).collect::<Result<_>>()?;
        let there: Vec<Slot> = rows.iter().flatten().copied().collect();
        self.rows.make_slots_resident(&there)?;
        Ok(rows)
    }

    fn row(&self, slot: Slot) -> &[u8] {
        &self.rows.key_bytes(slot)[1..]
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>, count: usize) -> Result<RecordBatch> {
        let columns = self.row_codec.columns_of_bytes(rows)?;
        record_batch(&self.schema, columns, count).map_err(broken)
    }

    /// Old rows taken back, and then the new ones.
    fn change(&self, old: &[Slot], new: &[&[u8]]) -> Result<Batch> {
        let rows = old.iter().map(|slot| self.row(*slot)).chain(new.iter().copied());
        let rows = self.decode(rows, old.len() + new.len())?;
        let weights = std::iter::repeat_n(-1, old.len()).chain(std::iter::repeat_n(1, new.len()));
        Ok(Batch::weighted(rows, Int64Array::from_iter_values(weights)))
    }

    /// Puts the rows of `keys` in the place of those they had; `hashes` are the keys'.
    fn put(&mut self, keys: &[Slot], rows: &[&[u8]], hashes: &[u64]) -> Result<()> {
        let mut packed = Packed::new();
        for (row, hash) in rows.iter().zip(hashes) {
            packed.push_row(row, *hash)?;
        }
        self.rows.upsert_bytes(&packed.hashes, packed.keys()?, &mut self.row_slots, &mut self.created)?;
        if self.created.len() != rows.len() {
            return Err(Error::data("rows by key", "two keys have one row: restore an older checkpoint"));
        }
        self.created.clear();
        let (table, slots) = (&self.rows, &self.row_slots);
        self.keys.update(keys, |at, words| words[0] = u64::from(table.position(slots[at])));
        Ok(())
    }
}

impl Upsert {
    /// Puts rows in the place of those that their keys had, and gives what differs.
    fn exchange(&mut self, last: &[(&[u8], Option<&[u8]>)], out: &mut Vec<Batch>) -> Result<()> {
        if last.is_empty() {
            return Ok(());
        }
        let mut packed = Packed::new();
        for (key, _) in last {
            packed.push_key(key, highwater_state::hash_bytes(key))?;
        }
        let mut key_slots = std::mem::take(&mut self.key_slots);
        self.keys.upsert_bytes(&packed.hashes, packed.keys()?, &mut key_slots, &mut self.created)?;
        self.created.clear();
        let old = self.rows_of(&key_slots)?;
        let (mut gone_rows, mut gone_keys) = (Vec::new(), Vec::new());
        let (mut keys, mut rows, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (_, new)) in last.iter().enumerate() {
            let same = old[at].map(|slot| self.row(slot)) == *new;
            gone_rows.extend(old[at].filter(|_| !same));
            match new {
                Some(row) if !same => {
                    keys.push(key_slots[at]);
                    rows.push(*row);
                    hashes.push(packed.hashes[at]);
                }
                Some(_) => {}
                None => gone_keys.push(key_slots[at]),
            }
        }
        self.key_slots = key_slots;
        if (self.emits || self.watched) && !(gone_rows.is_empty() && rows.is_empty()) {
            out.push(self.change(&gone_rows, &rows)?);
        }
        self.put(&keys, &rows, &hashes)?;
        self.rows.delete(&gone_rows)?;
        Ok(self.keys.delete(&gone_keys)?)
    }
}

impl Logic for Upsert {
    fn tables(&mut self) -> Vec<&mut Table> {
        vec![&mut self.keys, &mut self.rows]
    }

    fn load_for(&mut self, _: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if self.keys.is_loaded() && self.rows.is_loaded() {
            return Ok(true);
        }
        let mut hashes = std::mem::take(&mut self.hashes);
        hash_keys(batch.rows.column(0).as_ref(), &mut hashes);
        let loaded = self.load(&hashes, Some(deadline));
        self.hashes = hashes;
        loaded
    }

    fn apply(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.pending.push(batch);
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        if !self.closes {
            self.last = last_of(&self.pending);
            self.closes = true;
        }
        let pending = std::mem::take(&mut self.pending);
        let over = until(deadline, || {
            let places = last_chunk(&mut self.last);
            self.exchange(&places.iter().map(|place| keyed_row(&pending, *place)).collect::<Vec<_>>(), out)?;
            Ok(self.last.is_empty())
        })?;
        if !over {
            self.pending = pending;
        }
        self.closes = !over;
        Ok(over)
    }

    fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    fn lookup(&mut self, keys: &[ArrayRef], out: &mut Vec<Batch>) -> Result<()> {
        let keys: Vec<ArrayRef> = keys.iter().map(one_form).collect();
        let bytes = self.key_codec.wide(&keys, keys.first().map_or(0, Array::len))?;
        let bytes = bytes.as_binary::<i32>();
        let mut packed = Packed::new();
        for key in bytes.iter().flatten() {
            let hash = highwater_state::hash_bytes(key);
            if self.keys.owns(hash) {
                packed.push_key(key, hash)?;
            }
        }
        self.load(&packed.hashes, None)?;
        let mut found = Vec::new();
        self.keys.find_bytes(&packed.hashes, packed.keys()?, &mut found)?;
        let found: Vec<Slot> = found.into_iter().flatten().collect();
        let rows: Vec<Slot> = self.rows_of(&found)?.into_iter().flatten().collect();
        if !rows.is_empty() {
            out.push(Batch::inserts(self.decode(rows.iter().map(|row| self.row(*row)), rows.len())?));
        }
        Ok(())
    }

    fn begin_read(&mut self, group: Option<u16>) -> Result<()> {
        Ok(self.rows.freeze_for_read(group)?)
    }

    fn read_on(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        let mut rows = Rows::default();
        let left = self.rows.copy_rows(&mut || Instant::now() < deadline, &mut rows)?.pages_left;
        if !rows.is_empty() {
            let bytes = (0..rows.len()).map(|row| &rows.key_bytes(row)[1..]);
            out.push(Batch::inserts(self.decode(bytes, rows.len())?));
        }
        Ok(left == 0)
    }

    fn hashes(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let keys: Vec<ArrayRef> = self.key_columns.iter().map(|key| one_form(rows.column(*key))).collect();
        let mut hashes = Vec::new();
        hash_keys(self.key_codec.wide(&keys, rows.num_rows())?.as_ref(), &mut hashes);
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests;
