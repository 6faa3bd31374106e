//! GROUP BY of which each group is given once, when the watermark has passed its time, and forgotten.
//!
//! The groups are those of an [`Aggregate`] whose changes nobody reads, in memory in the order of their
//! times. With g groups an epoch costs log g for each group that it makes and for each that is given, and
//! looks at no others; only the values that DISTINCT keeps have no order, and all of them are looked at
//! when one of their groups is given. The order takes some 30 bytes a group. After a restart it is made
//! anew, of all groups, a page in a step, when the watermark moves on. Invariants: once it is made, the
//! order holds exactly the groups that have a time; after an epoch there is no group whose time is final,
//! so none is given twice and none that is given changes later.

use super::{Aggregate, Buffers, Keys, Which};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::keys::integers;
use crate::ops::watermark::{Bound, NEVER};
use crate::slices::{CHUNK, until};
use crate::stateful::Logic;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use highwater_state::{Slot, Table};
use std::collections::BTreeSet;
use std::time::Instant;

/// One worker's share of it. Its first input are the rows, the others marks of watermarks.
pub(crate) struct Closing {
    groups: Aggregate,
    /// Which of the keys is the time.
    time: usize,
    bound: Bound,
    /// Groups up to this time were given; none while a restored state does not know it yet.
    given: Option<i64>,
    /// The groups by their times.
    order: BTreeSet<(i64, Which, Slot)>,
    /// It holds all of them.
    ordered: bool,
    /// Until then, the next page that it does not hold.
    next_page: (Which, usize),
    giving: Option<Giving>,
}

/// How far an epoch's end is with the groups that are final.
struct Giving {
    /// They are those up to this time.
    bound: i64,
    /// The groups that were given, where something is kept beside them.
    gone: BTreeSet<Vec<u8>>,
}

impl Closing {
    /// `groups` are told to emit nothing.
    pub(crate) fn new(mut groups: Aggregate, time: usize, bound: Bound) -> Self {
        let is_new = groups.tables().iter().all(|table| table.is_loaded() && table.is_empty());
        let first = if groups.narrow.is_some() { Which::Narrow } else { Which::Wide };
        Self {
            groups,
            time,
            bound,
            given: is_new.then_some(NEVER),
            order: BTreeSet::new(),
            ordered: is_new,
            next_page: (first, 0),
            giving: None,
        }
    }

    /// Enters the groups that a batch of these keys has made.
    fn enter_made(&mut self, key: &ArrayRef) -> Result<()> {
        let Buffers { slots, created, .. } = &self.groups.buffers;
        if created.is_empty() {
            return Ok(());
        }
        let slot = |row: &u32| slots[*row as usize];
        if let Some(values) = integers(key.as_ref()) {
            let time = |row: &u32| values.value(*row as usize) as i64;
            self.order.extend(created.iter().map(|row| (time(row), Which::Narrow, slot(row))));
            return Ok(());
        }
        let bytes = key.as_binary::<i32>();
        let columns = self.groups.codec.columns_of_bytes(created.iter().map(|row| bytes.value(*row as usize)))?;
        let times = columns[self.time].as_primitive::<TimestampMicrosecondType>();
        let made = times.iter().zip(created).filter_map(|(time, row)| Some((time?, Which::Wide, slot(row))));
        self.order.extend(made);
        Ok(())
    }

    /// Frees groups that have no rows left, of each table a chunk; true when they were the last.
    fn drop_empty(&mut self) -> Result<bool> {
        for which in [Which::Narrow, Which::Wide] {
            let slots = self.groups.next_empty(which);
            for (time, slot) in self.groups.times_of(which, self.time, &slots)?.into_iter().zip(&slots) {
                if let Some(time) = time {
                    self.order.remove(&(time, which, *slot));
                }
            }
            if !slots.is_empty() {
                self.groups.table(which).delete(&slots)?;
            }
        }
        Ok(self.groups.emptied.iter().all(Vec::is_empty))
    }

    /// Says what is to be given, if groups may be final.
    fn begin(&mut self) -> Option<Giving> {
        let bound = self.bound.after();
        // What was final before a restart had been given before it.
        let given = *self.given.get_or_insert_with(|| self.bound.before());
        self.given = Some(bound.max(given));
        let is_any = self.order.first().is_some_and(|(least, ..)| *least <= bound) || !self.ordered && bound > given;
        is_any.then(|| Giving { bound, gone: BTreeSet::new() })
    }

    /// Loads what is not loaded, and puts all groups in order, page by page until `deadline`; true when
    /// all are.
    fn put_in_order(&mut self, deadline: Instant) -> Result<bool> {
        let mut is_first = true;
        if !self.groups.load_more(&mut || std::mem::take(&mut is_first) || Instant::now() < deadline)? {
            return Ok(false);
        }
        self.ordered = self.ordered || until(deadline, || self.put_page_in_order())?;
        Ok(self.ordered)
    }

    /// The same for the groups of one page; true when there was none left.
    fn put_page_in_order(&mut self) -> Result<bool> {
        let (which, page) = self.next_page;
        if page == self.groups.table(which).page_count() {
            self.next_page = (Which::Wide, 0);
            return Ok(which == Which::Wide);
        }
        let mut slots = Vec::new();
        self.groups.table(which).live_slots(page, &mut slots)?;
        self.next_page = (which, page + 1);
        let times = self.groups.times_of(which, self.time, &slots)?.into_iter().zip(slots);
        self.order.extend(times.filter_map(|(time, slot)| Some((time?, which, slot))));
        Ok(false)
    }

    /// Gives and forgets a chunk of the groups that are final; true when there was none left.
    fn give(&mut self, giving: &mut Giving, out: &mut Vec<Batch>) -> Result<bool> {
        let mut slots = [Vec::new(), Vec::new()];
        let mut taken = 0;
        while taken < CHUNK
            && let Some((time, which, slot)) = self.order.first().copied()
            && time <= giving.bound
        {
            self.order.pop_first();
            slots[which as usize].push(slot);
            taken += 1;
        }
        for (which, slots) in [Which::Narrow, Which::Wide].into_iter().zip(slots) {
            if !slots.is_empty() {
                self.give_slots(which, &slots, &mut giving.gone, out)?;
            }
        }
        if taken == 0 {
            self.forget_values(&giving.gone)?;
        }
        Ok(taken == 0)
    }

    fn give_slots(
        &mut self,
        which: Which,
        slots: &[Slot],
        gone: &mut BTreeSet<Vec<u8>>,
        out: &mut Vec<Batch>,
    ) -> Result<()> {
        self.groups.table(which).make_slots_resident(slots)?;
        let finished = self.groups.finish_slots(which, slots)?;
        let rows = filter_record_batch(&finished.rows, &BooleanArray::from(finished.exists));
        out.push(Batch::inserts(rows.map_err(|e| Error::data("aggregate", e))?));
        if !(self.groups.sets.is_empty() && self.groups.distincts.is_empty()) {
            let keys: Keys = self.groups.keys_of(which, slots);
            keys.with(|groups| {
                gone.extend(groups);
                Ok(())
            })?;
        }
        Ok(self.groups.table(which).delete(slots)?)
    }

    /// Forgets what is kept beside groups that are gone.
    fn forget_values(&mut self, gone: &BTreeSet<Vec<u8>>) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        for set in &mut self.groups.sets {
            set.forget(gone)?;
        }
        for distinct in &mut self.groups.distincts {
            distinct.forget(gone)?;
        }
        Ok(())
    }
}

impl Logic for Closing {
    fn tables(&mut self) -> Vec<&mut Table> {
        self.groups.tables()
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if input > 0 { Ok(true) } else { self.groups.load_for(input, batch, deadline) }
    }

    fn load_more(&mut self, more: &mut dyn FnMut() -> bool) -> Result<bool> {
        self.groups.load_more(more)
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(1) {
            self.bound.take(watermark, &batch);
            return Ok(());
        }
        let key = ArrayRef::clone(batch.rows.column(0));
        self.groups.apply(0, batch)?;
        self.enter_made(&key)
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        self.groups.settle_sums()?;
        if self.giving.is_none() {
            // Each group in one chunk: those that are gone have no time.
            for slots in &mut self.groups.emptied {
                slots.sort_unstable();
                slots.dedup();
            }
            if !until(deadline, || self.drop_empty())? {
                return Ok(false);
            }
            self.giving = self.begin();
        }
        let Some(mut giving) = self.giving.take() else { return Ok(true) };
        let is_over = self.put_in_order(deadline)? && until(deadline, || self.give(&mut giving, out))?;
        if !is_over {
            self.giving = Some(giving);
        }
        Ok(is_over)
    }
}

#[cfg(test)]
mod tests;
