//! Windows of rows that follow each other closely, with aggregates of each: GROUP BY over SESSION, where
//! rows only ever come.
//!
//! Each session is a slot with its times and accumulators, and the rows of a batch are added to theirs a
//! column at a time, as in a GROUP BY; where they lie in time is [`chains`]' work. A row may close the gap
//! between two sessions: their accumulators are combined when the batch is added, and the one that is gone
//! is removed at the epoch's end. When somebody reads the changes, each session that the epoch changed gives
//! what it was and what it is, in chunks; what stands for one window in both is given together. Invariant
//! between epochs: each session has rows.

mod chains;

pub(crate) use chains::{KEY_WORDS, OWN};

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, hash_keys, one_form};
use crate::ops::accumulate::{Carries, Input, Layout, ROWS, Scratch};
use crate::ops::aggregate::{Finished, difference};
use crate::ops::sweep::Sweep;
use crate::ops::watermark::{Bound, NEVER};
use crate::plan::{Final, SessionColumn};
use crate::slices::until;
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use chains::{Chains, FIRST, Key, LAST, Windows, key_of};
use highwater_state::{ByteKeys, Rows, Slot, Table};
use std::sync::Arc;
use std::time::Instant;

/// The parts of it that are decided before any worker runs.
pub(crate) struct Shape {
    /// Of the keys.
    pub(crate) codec: KeyCodec,
    /// Without multisets.
    pub(crate) layout: Layout,
    pub(crate) schema: SchemaRef,
    /// What the columns before the aggregates are.
    pub(crate) columns: Vec<SessionColumn>,
    pub(crate) gap_us: i64,
    /// An operator reads the changes.
    pub(crate) emits: bool,
}

/// One worker's share of the sessions.
pub(crate) struct Sessions {
    shape: Shape,
    chains: Chains,
    /// Of the sums of this epoch.
    carries: Carries,
    hashes: Vec<u64>,
    key_slots: Vec<Slot>,
    created: Vec<u32>,
    scratch: Scratch,
    /// Sessions that are over are forgotten.
    freeing: Option<Freeing>,
}

/// What sessions need to be forgotten.
pub(crate) struct Freeing {
    bound: Bound,
    /// Of the pages of keys, by the number of sessions.
    sweep: Sweep,
}

impl Freeing {
    /// By when their times are final.
    pub(crate) fn new(last: &Final) -> Self {
        Self { bound: Bound::new(last.passing.clone()), sweep: Sweep::new() }
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::data("session", error)
}

impl Sessions {
    /// `keys` has keys of kind `Bytes` and [`KEY_WORDS`] words, `sessions` keys of kind `Placed` and the
    /// layout's words with [`OWN`] more.
    pub(crate) fn new(shape: Shape, keys: Table, sessions: Table) -> Self {
        let windows =
            Windows { gap_us: shape.gap_us, are_known_by_start: shape.columns.contains(&SessionColumn::Start) };
        let mut chains = Chains::new(keys, sessions, shape.layout.words, windows);
        chains.remembers = shape.emits;
        Self {
            shape,
            chains,
            carries: Carries::default(),
            hashes: Vec::new(),
            key_slots: Vec::new(),
            created: Vec::new(),
            scratch: Scratch::default(),
            freeing: None,
        }
    }

    /// The same, which forget those that are over.
    pub(crate) fn freeing(mut self, freeing: Freeing) -> Self {
        self.freeing = Some(freeing);
        self
    }

    /// The session of each row; see [`Chains::place`] for what goes to `joined`.
    fn place(&mut self, keys: &BinaryArray, times: &[i64], joined: &mut Vec<(Slot, Slot)>) -> Result<Vec<Slot>> {
        let Self { chains, hashes, key_slots, created, .. } = self;
        hash_keys(keys, hashes);
        let packed = ByteKeys::new(keys.value_data(), keys.value_offsets())?;
        chains.keys.upsert_bytes(hashes, packed, key_slots, created)?;
        created.clear();
        chains.fetch_newest(key_slots)?;
        let mut sessions = Vec::with_capacity(times.len());
        // By key and time, so that what a batch has of an older session is searched for and joined once.
        let mut others: Vec<(Slot, i64, u32)> = Vec::new();
        for (row, (key, time)) in key_slots.iter().zip(times).enumerate() {
            let newest = chains.place_in_newest(*key, *time)?;
            if newest.is_none() {
                others.push((*key, *time, row as u32));
            }
            sessions.push(newest);
        }
        others.sort_unstable();
        for (slot, time, row) in others {
            let row = row as usize;
            let key = Key { slot, hash: hashes[row], bytes: keys.value(row) };
            sessions[row] = Some(chains.place(key, time, joined)?);
        }
        Ok(sessions.into_iter().flatten().collect())
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        self.carries.settle()?;
        let (changed, before) = self.chains.take_changed()?;
        if changed.is_empty() {
            return self.chains.remove_gone();
        }
        let sessions = &self.chains.sessions;
        let keys = self.shape.key_columns(changed.iter().map(|slot| key_of(sessions.key_bytes(*slot))))?;
        let mut words = Vec::with_capacity(before.len());
        for slot in &changed {
            words.extend_from_slice(sessions.words(*slot));
        }
        let (old, new) = (self.shape.finish(&keys, &before)?, self.shape.finish(&keys, &words)?);
        out.extend(difference(&old, &new, &self.shape.schema)?);
        Ok(false)
    }
}

/// Forgetting.
impl Sessions {
    /// A step of it, after the epoch's changes are given; true when there was none left to do.
    fn free(&mut self) -> Result<bool> {
        let Self { freeing: Some(freeing), chains, .. } = self else { return Ok(true) };
        let bound = freeing.bound.after();
        if bound == NEVER || !chains.keys.is_loaded() || !chains.sessions.is_loaded() {
            return Ok(true);
        }
        let Some(pages) = freeing.sweep.next(chains.sessions.len(), chains.keys.page_count()) else {
            return Ok(true);
        };
        for page in pages {
            chains.forget(page, bound)?;
        }
        Ok(false)
    }
}

/// Reading some windows between epochs.
impl Sessions {
    /// The sessions of this worker with some keys and times, which are arrays in the order of the columns.
    fn find(&mut self, columns: &[ArrayRef]) -> Result<Vec<Slot>> {
        let rows = columns.first().map_or(0, Array::len);
        let bytes = self.shape.codec.wide(&self.shape.keys_among(columns), rows)?;
        hash_keys(bytes.as_ref(), &mut self.hashes);
        let chains = &mut self.chains;
        let owned: Vec<usize> = (0..rows).filter(|row| chains.keys.owns(self.hashes[*row])).collect();
        let hashes: Vec<u64> = owned.iter().map(|row| self.hashes[*row]).collect();
        let bytes = bytes.as_binary::<i32>();
        let keys = BinaryArray::from_iter_values(owned.iter().map(|row| bytes.value(*row)));
        chains.keys.load_for(&hashes, &mut || true)?;
        chains.sessions.load_for(&hashes, &mut || true)?;
        let mut found = Vec::new();
        chains.keys.find_bytes(&hashes, ByteKeys::new(keys.value_data(), keys.value_offsets())?, &mut found)?;
        let mut sessions = Vec::new();
        for (key, row) in found.into_iter().zip(owned) {
            let (Some(key), Some((first, last))) = (key, self.shape.times_of(columns, row)) else { continue };
            let Some(time) = first.or(last) else { continue };
            let session = self.chains.at(key, time)?.filter(|session| {
                let is =
                    |word: usize, time: Option<i64>| time.is_none_or(|time| self.chains.word(*session, word) == time);
                is(FIRST, first) && is(LAST, last)
            });
            sessions.extend(session);
        }
        Ok(sessions)
    }

    /// The output rows of some sessions, which all are there.
    fn rows_of(&self, sessions: &[Slot]) -> Result<RecordBatch> {
        let table = &self.chains.sessions;
        let keys = self.shape.key_columns(sessions.iter().map(|slot| key_of(table.key_bytes(*slot))))?;
        let words: Vec<u64> = sessions.iter().flat_map(|slot| table.words(*slot)).copied().collect();
        Ok(self.shape.finish(&keys, &words)?.rows)
    }
}

impl Shape {
    /// The columns of the keys, in their order.
    fn keys_among(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        let place = |key: usize| self.columns.iter().position(|column| *column == SessionColumn::Key(key));
        (0..self.columns.len()).map_while(place).map(|at| one_form(&columns[at])).collect()
    }

    /// The times of the first and the last row that are asked for in a row of columns; none when one of them
    /// is no time of a session.
    fn times_of(&self, columns: &[ArrayRef], row: usize) -> Option<(Option<i64>, Option<i64>)> {
        let (mut first, mut last) = (None, None);
        for (column, values) in self.columns.iter().zip(columns) {
            let time = || {
                let times = values.as_primitive_opt::<TimestampMicrosecondType>()?;
                times.is_valid(row).then(|| times.value(row))
            };
            match column {
                SessionColumn::Key(_) => {}
                SessionColumn::Start => first = Some(time()?),
                SessionColumn::End => last = Some(time()?.checked_sub(self.gap_us)?),
            }
        }
        Some((first, last))
    }

    fn key_columns<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.codec.columns_of_bytes(keys)
    }

    /// Rows of the output from the columns of keys and sessions' words, and which of them are there.
    fn finish(&self, keys: &[ArrayRef], words: &[u64]) -> Result<Finished> {
        let accumulated = self.layout.words;
        let sessions = || words.chunks_exact(accumulated + OWN);
        let exists: Vec<bool> = sessions().map(|session| session[ROWS] != 0).collect();
        let times = |word: usize| sessions().map(move |session| session[accumulated + word] as i64);
        let mut sums = Vec::with_capacity(exists.len() * accumulated);
        sessions().for_each(|session| sums.extend_from_slice(&session[..accumulated]));
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (at, column) in self.columns.iter().enumerate() {
            let data_type = self.schema.field(at).data_type();
            columns.push(match column {
                SessionColumn::Key(key) => Arc::clone(&keys[*key]),
                SessionColumn::Start => timestamps(times(FIRST).collect(), data_type),
                SessionColumn::End => {
                    let ends: Option<Vec<i64>> = times(LAST).map(|last| last.checked_add(self.gap_us)).collect();
                    timestamps(ends.ok_or_else(|| Error::data("window_end", "timestamp out of range"))?, data_type)
                }
            });
        }
        for aggregate in 0..self.layout.places.len() {
            columns.push(self.layout.finish(aggregate, &sums)?);
        }
        let rows = record_batch(&self.schema, columns, exists.len()).map_err(broken)?;
        Ok(Finished { rows, exists })
    }
}

fn timestamps(values: Vec<i64>, data_type: &DataType) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_data_type(data_type.clone()))
}

impl Logic for Sessions {
    fn tables(&mut self) -> Vec<&mut Table> {
        vec![&mut self.chains.keys, &mut self.chains.sessions]
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        let Self { chains: Chains { keys, sessions, .. }, hashes, .. } = self;
        if input > 0 || keys.is_loaded() && sessions.is_loaded() {
            return Ok(true);
        }
        hash_keys(batch.rows.column(0).as_ref(), hashes);
        // A session lies in its key's key group.
        for table in [keys, sessions] {
            if !table.load_for(hashes, &mut || Instant::now() < deadline)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(1) {
            if let Some(freeing) = &mut self.freeing {
                freeing.bound.take(watermark, &batch);
            }
            return Ok(());
        }
        let columns = &batch.rows.columns()[1..];
        let Some((times, arguments)) = columns.split_last() else {
            return Err(Error::data("session", "rows without a time"));
        };
        if times.null_count() > 0 {
            return Err(Error::data("session", "a row without a time"));
        }
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let keys = batch.rows.column(0).as_binary::<i32>();
        let mut joined = Vec::new();
        let slots = self.place(keys, times.values(), &mut joined)?;
        let weights = batch.weights.as_ref().map(|weights| &weights.values()[..]);
        let input = Input { columns: arguments, weights, own: &[], rows: batch.len() };
        let Self { shape, chains, carries, scratch, .. } = self;
        shape.layout.update(&mut chains.sessions, &slots, &input, scratch, carries)?;
        for (from, into) in joined {
            shape.layout.combine(&mut chains.sessions, from, into, carries)?;
        }
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || Ok(self.step(out)? && self.free()?))
    }

    fn watch(&mut self, watched: bool) {
        self.chains.remembers = self.shape.emits || watched;
    }

    fn lookup(&mut self, keys: &[ArrayRef], out: &mut Vec<Batch>) -> Result<()> {
        let sessions = self.find(keys)?;
        if !sessions.is_empty() {
            out.push(Batch::inserts(self.rows_of(&sessions)?));
        }
        Ok(())
    }

    fn begin_read(&mut self, group: Option<u16>) -> Result<()> {
        Ok(self.chains.sessions.freeze_for_read(group)?)
    }

    fn read_on(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        let mut rows = Rows::default();
        let left = self.chains.sessions.copy_rows(&mut || Instant::now() < deadline, &mut rows)?.pages_left;
        if !rows.is_empty() {
            let keys = self.shape.key_columns((0..rows.len()).map(|row| key_of(rows.key_bytes(row))))?;
            let Finished { rows, exists } = self.shape.finish(&keys, &rows.words)?;
            debug_assert!(exists.into_iter().all(|exists| exists), "a session without rows was read");
            out.push(Batch::inserts(rows));
        }
        Ok(left == 0)
    }

    fn hashes(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let keys = self.shape.keys_among(rows.columns());
        let mut hashes = Vec::new();
        hash_keys(self.shape.codec.wide(&keys, rows.num_rows())?.as_ref(), &mut hashes);
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests;
