//! Rows that are there from one time on and up to another, as a WHERE that compares with now() says.
//!
//! The time is that of the epoch's tick, which all workers agree on and which never goes back. At an
//! epoch's end rows whose time has come are given, and rows whose time is over are taken back and
//! forgotten: what comes or goes of a row after its time changes nothing.
//!
//! What is durable is a table of rows, whose key is the row in row format and whose words are its count,
//! how many of it were given, and its two times. When the next row is due is known from an ordered set
//! in memory, rebuilt when the table is loaded. Invariants between epochs: of a row as many were given as
//! there are, or none; the set holds exactly the rows of the table to which time will do something.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, hash_keys, keyed};
use crate::ops::grouping::row_codec;
use crate::ops::pairs::weights_of;
use crate::plan;
use crate::slices::{last_chunk, until};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use highwater_core::WallMicros;
use highwater_state::{ByteKeys, Slot, Table};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Words of a row.
pub(crate) const WORDS: usize = 4;
const COUNT: usize = 0;
const GIVEN: usize = 1;
const FROM: usize = 2;
const UNTIL: usize = 3;

/// Makes batches of rows and their times.
pub(crate) struct Timing {
    codec: KeyCodec,
    times: plan::Lifetime,
}

impl Timing {
    /// # Errors
    /// `Plan` when a column cannot be kept.
    pub(crate) fn new(times: plan::Lifetime, input: &SchemaRef) -> Result<Self> {
        Ok(Self { codec: row_codec(input)?, times })
    }

    /// The row in row format, the first microsecond at which it is there, and the first at which it is
    /// no more.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<Batch> {
        let row = self.codec.wide(batch.rows.columns(), batch.len())?;
        let from = time(batch, self.times.from, i64::MIN)?;
        let until = time(batch, self.times.until, i64::MAX)?;
        keyed(row, &[from, until], batch)
    }
}

/// A column of times; `open` for all where there is none.
fn time(batch: &Batch, column: Option<usize>, open: i64) -> Result<ArrayRef> {
    let Some(column) = column else { return Ok(Arc::new(Int64Array::from_value(open, batch.len()))) };
    let times = batch.rows.column(column);
    if times.null_count() > 0 || times.as_primitive_opt::<Int64Type>().is_none() {
        return Err(Error::data("now()", "a row's time is missing"));
    }
    Ok(Arc::clone(times))
}

/// One worker's share of the rows.
pub(crate) struct Lifetime {
    codec: KeyCodec,
    schema: SchemaRef,
    table: Table,
    now: i64,
    /// When time does something to which row.
    due: BTreeSet<(i64, Slot)>,
    /// `due` holds what the table holds.
    ordered: bool,
    /// Until then, the next page that it does not hold.
    next_page: usize,
    /// Rows that came or went in this epoch.
    touched: Vec<Slot>,
    /// An epoch is being closed; what is left of its rows.
    closes: bool,
    closing: Vec<Slot>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    created: Vec<u32>,
}

/// The words of a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    count: i64,
    given: i64,
    from: i64,
    until: i64,
}

impl Row {
    const fn of(words: &[u64]) -> Self {
        Self {
            count: words[COUNT] as i64,
            given: words[GIVEN] as i64,
            from: words[FROM] as i64,
            until: words[UNTIL] as i64,
        }
    }

    /// When time does something to it, as it was left by the last epoch; a row that is new has not been
    /// given.
    const fn due(self) -> i64 {
        if self.given > 0 { self.until } else { self.from }
    }

    /// How many of it are there at a time.
    const fn wanted(self, now: i64) -> i64 {
        if self.from <= now && now < self.until { self.count } else { 0 }
    }
}

impl Lifetime {
    /// `table` has keys of kind `Bytes` and [`WORDS`] words; `schema` is that of the rows.
    ///
    /// # Errors
    /// `Plan` when a column cannot be kept.
    pub(crate) fn new(schema: SchemaRef, table: Table) -> Result<Self> {
        Ok(Self {
            codec: row_codec(&schema)?,
            schema,
            now: i64::MIN,
            due: BTreeSet::new(),
            ordered: table.is_loaded(),
            next_page: 0,
            table,
            touched: Vec::new(),
            closes: false,
            closing: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
        })
    }

    /// Loads what is not loaded, and puts all rows in order of when they are due, page by page until
    /// `deadline`; true when all are.
    fn put_in_order(&mut self, deadline: Instant) -> Result<bool> {
        if self.ordered {
            return Ok(true);
        }
        let mut is_first = true;
        if !self.table.load_next(&mut || std::mem::take(&mut is_first) || Instant::now() < deadline)? {
            return Ok(false);
        }
        self.ordered = until(deadline, || self.put_page_in_order())?;
        Ok(self.ordered)
    }

    /// The same for the rows of one page; true when there was none left.
    fn put_page_in_order(&mut self) -> Result<bool> {
        if self.next_page == self.table.page_count() {
            return Ok(true);
        }
        let mut slots = Vec::new();
        self.table.live_slots(self.next_page, &mut slots)?;
        let dues = slots.into_iter().map(|slot| (Row::of(self.table.words(slot)).due(), slot));
        self.due.extend(dues.filter(|(due, _)| *due < i64::MAX));
        self.next_page += 1;
        Ok(false)
    }

    /// The rows that came or went, and those that are due, each once.
    fn take_touched(&mut self) -> Vec<Slot> {
        let mut slots = std::mem::take(&mut self.touched);
        while let Some((time, slot)) = self.due.first().copied()
            && time <= self.now
        {
            self.due.pop_first();
            slots.push(slot);
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Gives what some rows are now, less what was given of them.
    fn change(&mut self, slots: &[Slot], out: &mut Vec<Batch>) -> Result<()> {
        self.table.make_slots_resident(slots)?;
        let (mut changed, mut weights, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for &slot in slots {
            let row = Row::of(self.table.words(slot));
            let is_over = row.until <= self.now;
            if row.count < 0 && !is_over {
                return Err(Error::data("now()", "a row was deleted that is not there: its input is inconsistent"));
            }
            self.due.remove(&(row.due(), slot));
            let more = row.wanted(self.now) - row.given;
            if more != 0 {
                changed.push(slot);
                weights.push(more);
            }
            if is_over || row.count == 0 {
                gone.push(slot);
                continue;
            }
            let due = if row.from > self.now { row.from } else { row.until };
            self.due.extend((due < i64::MAX).then_some((due, slot)));
        }
        if !changed.is_empty() {
            let table = &self.table;
            let columns = self.codec.columns_of_bytes(changed.iter().map(|slot| table.key_bytes(*slot)))?;
            let rows = record_batch(&self.schema, columns, changed.len()).map_err(|e| Error::data("now()", e))?;
            self.table.update(&changed, |at, words| words[GIVEN] = words[GIVEN].wrapping_add(weights[at] as u64));
            out.push(Batch { rows, weights: weights_of(weights) });
        }
        Ok(self.table.delete(&gone)?)
    }
}

impl Logic for Lifetime {
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
        let keys = batch.rows.column(0).as_binary::<i32>();
        hash_keys(keys, &mut self.hashes);
        let rows = ByteKeys::new(keys.value_data(), keys.value_offsets())?;
        self.table.upsert_bytes(&self.hashes, rows, &mut self.slots, &mut self.created)?;
        self.created.clear();
        let [from, until] = [1, 2].map(|at| batch.rows.column(at).as_primitive::<Int64Type>().values());
        // A row's times are columns of it, so they are the same each time it comes.
        self.table.update(&self.slots, |row, words| {
            words[COUNT] = words[COUNT].wrapping_add(batch.weight(row) as u64);
            words[FROM] = from[row] as u64;
            words[UNTIL] = until[row] as u64;
        });
        self.touched.extend_from_slice(&self.slots);
        Ok(())
    }

    fn at(&mut self, now: WallMicros) {
        self.now = self.now.max(now.0);
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        if !self.closes {
            if !self.put_in_order(deadline)? {
                return Ok(false);
            }
            self.closing = self.take_touched();
            self.closes = true;
        }
        let over = until(deadline, || {
            let slots = last_chunk(&mut self.closing);
            self.change(&slots, out)?;
            Ok(self.closing.is_empty())
        })?;
        self.closes = !over;
        Ok(over)
    }

    fn due(&self) -> Option<WallMicros> {
        self.due.first().filter(|_| self.ordered).map(|(time, _)| WallMicros(*time))
    }
}

#[cfg(test)]
mod tests;
