//! Watermarks: what each worker has seen of time, the one worker that keeps the watermark, which rows
//! are late by it, and up to where a column's values are final.
//!
//! ```text
//! rows ─▶ seen ─ one row a batch ─▶ keeper ─ marks ─▶ all workers: rows that are not late, closing groups
//! ```
//! The watermark after an epoch is the least of the greatest times of the workers that gave rows in
//! it, less the delay, and never goes back: so splits that are read at different paces do not make
//! each other's rows late, and workers that give nothing hold nothing back. During a backfill it
//! stands still, as a backfill has an order of its own. Times are microseconds; the smallest number
//! stands for none. Invariant: a mark is sent whenever the watermark has changed, and with the first
//! epoch of a run where there is one, so that whoever takes marks knows it without state.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::plan::{Passing, Watermark};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{max, min};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use highwater_state::{ByteKeys, Slot, Table, hash_bytes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// No time is known.
pub(crate) const NEVER: i64 = i64::MIN;
/// Words of the keeper's one row: the watermark, and the greatest time of backfills.
pub(crate) const KEEPER_WORDS: usize = 2;

type Times = arrow::array::PrimitiveArray<TimestampMicrosecondType>;

pub(crate) fn broken(error: ArrowError) -> Error {
    Error::data("watermark", error)
}

/// A column of times.
fn times_of(batch: &Batch, time: usize) -> Result<&Times> {
    let times = batch.rows.column(time).as_primitive_opt::<TimestampMicrosecondType>();
    times.ok_or_else(|| Error::data("watermark", "its column is not a timestamp in microseconds"))
}

/// A column of a message between the operators here.
fn numbers(batch: &Batch, column: usize) -> &[i64] {
    batch.rows.column(column).as_primitive::<Int64Type>().values()
}

/// The watermark before and after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Mark {
    /// As a batch of one row.
    pub(crate) fn to_batch(self) -> Result<Batch> {
        let column = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let rows = RecordBatch::try_from_iter([("before", column(self.before)), ("after", column(self.after))]);
        Ok(Batch::inserts(rows.map_err(broken)?))
    }

    /// From such a batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        Self { before: numbers(batch, 0)[0], after: numbers(batch, 1)[0] }
    }
}

/// What a worker tells the keeper of a batch of its rows: the key of the keeper's row, the worker, the
/// greatest time, whether it is of a backfill. Nothing where no row has a time.
pub(crate) fn seen(batch: &Batch, time: usize, worker: usize, fills: bool) -> Result<Option<Batch>> {
    let Some(greatest) = max(times_of(batch, time)?) else { return Ok(None) };
    let number = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let key: ArrayRef = Arc::new(BinaryArray::from_iter_values([b""]));
    let columns =
        [("key", key), ("worker", number(worker as i64)), ("time", number(greatest)), ("fills", number(fills.into()))];
    Ok(Some(Batch::inserts(RecordBatch::try_from_iter(columns).map_err(broken)?)))
}

/// The rows that are not before a watermark, and how many are. Rows without a time are not late.
pub(crate) fn on_time(batch: Batch, time: usize, watermark: i64) -> Result<(Batch, usize)> {
    let times = times_of(&batch, time)?;
    if min(times).is_none_or(|least| least >= watermark) {
        return Ok((batch, 0));
    }
    let is_kept = |row: usize| times.is_null(row) || times.value(row) >= watermark;
    let kept = BooleanArray::new(BooleanBuffer::collect_bool(times.len(), is_kept), None);
    let late = kept.false_count();
    Ok((batch.filter(&kept).map_err(broken)?, late))
}

/// Marks by epoch, of which the watermark before an epoch is wanted.
#[derive(Debug)]
pub(crate) struct Marks {
    current: i64,
    by_epoch: BTreeMap<u64, Mark>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { current: NEVER, by_epoch: BTreeMap::new() }
    }
}

impl Marks {
    pub(crate) fn take(&mut self, epoch: u64, batch: &Batch) {
        self.by_epoch.insert(epoch, Mark::of(batch));
    }

    /// The watermark before an epoch whose marks are complete; epochs are asked for in order.
    pub(crate) fn before(&mut self, epoch: u64) -> i64 {
        self.pass(Some(epoch));
        self.by_epoch.get(&epoch).map_or(self.current, |mark| mark.before)
    }

    /// Epochs before this one will not be asked for; none when no epoch will.
    pub(crate) fn pass(&mut self, frontier: Option<u64>) {
        while let Some(first) = self.by_epoch.first_entry()
            && frontier.is_none_or(|frontier| *first.key() < frontier)
        {
            self.current = first.remove().after;
        }
    }
}

/// Up to which value a column is final, by all of its watermarks.
#[derive(Debug)]
pub(crate) struct Bound {
    passing: Vec<Passing>,
    marks: Vec<Option<Mark>>,
}

impl Bound {
    pub(crate) fn new(passing: Vec<Passing>) -> Self {
        Self { marks: vec![None; passing.len()], passing }
    }

    /// Takes a mark of one of the watermarks.
    pub(crate) fn take(&mut self, watermark: usize, batch: &Batch) {
        self.marks[watermark] = Some(Mark::of(batch));
    }

    /// The greatest value that is final after the open epoch.
    pub(crate) fn after(&self) -> i64 {
        self.least(|mark| mark.after)
    }

    /// The greatest value that was final before the run's first epoch, whose marks are taken.
    pub(crate) fn before(&self) -> i64 {
        self.least(|mark| mark.before)
    }

    fn least(&self, of: impl Fn(&Mark) -> i64) -> i64 {
        let final_by = |(passing, mark): (&Passing, &Option<Mark>)| match mark.as_ref().map(&of) {
            None | Some(NEVER) => NEVER,
            Some(watermark) => watermark.saturating_sub(passing.after_us),
        };
        self.passing.iter().zip(&self.marks).map(final_by).min().unwrap_or(NEVER)
    }
}

/// The keeper of a watermark: on the worker that owns its row it makes marks, elsewhere nothing.
pub(crate) struct Keeper {
    delay_us: i64,
    table: Table,
    /// The greatest time of each worker in this run.
    greatest: BTreeMap<i64, i64>,
    /// The workers that gave rows in the open epoch, other than of a backfill.
    gave: BTreeSet<i64>,
    /// The greatest time of the open epoch's backfill.
    filled: i64,
    is_first: bool,
}

/// What the keeper's row says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kept {
    watermark: i64,
    filled: i64,
}

impl Keeper {
    /// `table` has keys of kind `Bytes` and [`KEEPER_WORDS`] words.
    pub(crate) const fn new(watermark: &Watermark, table: Table) -> Self {
        Self {
            delay_us: watermark.delay_us,
            table,
            greatest: BTreeMap::new(),
            gave: BTreeSet::new(),
            filled: NEVER,
            is_first: true,
        }
    }

    fn kept(&mut self) -> Result<Kept> {
        let mut found = Vec::new();
        self.table.find_bytes(&[hash_bytes(&[])], ByteKeys::new(&[], &[0, 0])?, &mut found)?;
        Ok(found[0].map_or(Kept { watermark: NEVER, filled: NEVER }, |slot| {
            let words = self.table.words(slot);
            Kept { watermark: words[0] as i64, filled: words[1] as i64 }
        }))
    }

    fn keep(&mut self, kept: Kept) -> Result<()> {
        let (mut slots, mut created): (Vec<Slot>, Vec<u32>) = (Vec::new(), Vec::new());
        self.table.upsert_bytes(&[hash_bytes(&[])], ByteKeys::new(&[], &[0, 0])?, &mut slots, &mut created)?;
        self.table.update(&slots, |_, words| {
            words[0] = kept.watermark as u64;
            words[1] = kept.filled as u64;
        });
        Ok(())
    }
}

impl Logic for Keeper {
    fn tables(&mut self) -> Vec<&mut Table> {
        vec![&mut self.table]
    }

    fn load_for(&mut self, _: usize, _: &Batch, _: Instant) -> Result<bool> {
        // It is one row.
        Ok(self.table.load_next(&mut || true)?)
    }

    fn apply(&mut self, _: usize, batch: Batch) -> Result<()> {
        let rows = numbers(&batch, 1).iter().zip(numbers(&batch, 2)).zip(numbers(&batch, 3));
        for ((worker, time), fills) in rows {
            if *fills == 0 {
                let greatest = self.greatest.entry(*worker).or_insert(NEVER);
                *greatest = (*greatest).max(*time);
                self.gave.insert(*worker);
            } else {
                self.filled = self.filled.max(*time);
            }
        }
        Ok(())
    }

    fn close(&mut self, _: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        let is_first = std::mem::take(&mut self.is_first);
        let is_quiet = self.gave.is_empty() && self.filled == NEVER;
        if is_quiet && !is_first || !self.table.owns(hash_bytes(&[])) {
            return Ok(true);
        }
        self.table.load_next(&mut || true)?;
        let kept = self.kept()?;
        let filled = kept.filled.max(std::mem::replace(&mut self.filled, NEVER));
        let greatest = self.gave.iter().map(|worker| self.greatest[worker]).min();
        self.gave.clear();
        // What a backfill has shown counts once rows come that are not of it.
        let reached = greatest.map_or(NEVER, |greatest| greatest.max(filled).saturating_sub(self.delay_us));
        let now = Kept { watermark: kept.watermark.max(reached), filled };
        if now != kept {
            self.keep(now)?;
        }
        let mark = Mark { before: kept.watermark, after: now.watermark };
        if mark.before != mark.after || is_first && mark.after != NEVER {
            out.push(mark.to_batch()?);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
