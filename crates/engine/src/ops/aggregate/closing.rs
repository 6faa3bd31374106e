//! GROUP BY of which each group is given once, when the watermark has passed its time, and forgotten.
//!
//! The groups are those of an [`Aggregate`] whose changes nobody reads. The smallest time among them
//! is known, so that nothing is looked for before a group is final; then all groups are looked at once,
//! a page in a step, and the smallest time that stays is known again. After a restart it is unknown, and
//! groups are looked at when the watermark moves on. Invariant: after an epoch there is no group
//! whose time is final, so none is given twice and none that is given changes later.

use super::{Aggregate, Keys, Which};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::keys::integers;
use crate::ops::watermark::{Bound, NEVER};
use crate::slices::until;
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
    /// No group has a smaller time; none when that is not known.
    least: Option<i64>,
    /// The smallest time of the groups that the open epoch made.
    made: i64,
    giving: Option<Giving>,
}

/// How far an epoch's end is with the groups that are final.
struct Giving {
    /// They are those up to this time.
    bound: i64,
    /// The smallest time that stays, as far as was looked.
    least: i64,
    which: Which,
    /// The next page to look at.
    page: usize,
    /// The groups that were given, where something is kept beside them.
    gone: BTreeSet<Vec<u8>>,
}

/// There is no group.
const NO_GROUP: i64 = i64::MAX;

impl Closing {
    /// `groups` are told to emit nothing.
    pub(crate) fn new(mut groups: Aggregate, time: usize, bound: Bound) -> Self {
        let is_new = groups.tables().iter().all(|table| table.is_loaded() && table.is_empty());
        let (given, least) = (is_new.then_some(NEVER), is_new.then_some(NO_GROUP));
        Self { groups, time, bound, given, least, made: NO_GROUP, giving: None }
    }

    /// The smallest time of the groups that a batch of these keys has made.
    fn least_made(&self, key: &ArrayRef) -> Result<i64> {
        let created = &self.groups.buffers.created;
        if created.is_empty() {
            return Ok(NO_GROUP);
        }
        if let Some(values) = integers(key.as_ref()) {
            return Ok(created.iter().map(|row| values.value(*row as usize) as i64).min().unwrap_or(NO_GROUP));
        }
        let bytes = key.as_binary::<i32>();
        let columns = self.groups.codec.columns_of_bytes(created.iter().map(|row| bytes.value(*row as usize)))?;
        let times = columns[self.time].as_primitive::<TimestampMicrosecondType>();
        Ok(arrow::compute::min(times).unwrap_or(NO_GROUP))
    }

    /// Takes account of what the epoch brought; says what is to be given, if groups may be final.
    fn begin(&mut self) -> Option<Giving> {
        let made = std::mem::replace(&mut self.made, NO_GROUP);
        self.least = self.least.map(|least| least.min(made));
        let bound = self.bound.after();
        // What was final before a restart had been given before it.
        let given = *self.given.get_or_insert_with(|| self.bound.before());
        self.given = Some(bound.max(given));
        let is_any = self.least.is_none_or(|least| least <= bound) && bound > given || made <= bound;
        let which = if self.groups.narrow.is_some() { Which::Narrow } else { Which::Wide };
        is_any.then(|| Giving { bound, least: NO_GROUP, which, page: 0, gone: BTreeSet::new() })
    }

    /// Gives and forgets the groups of a page that are final; true when there was no page left.
    fn give(&mut self, giving: &mut Giving, out: &mut Vec<Batch>) -> Result<bool> {
        let which = giving.which;
        if giving.page == self.groups.table(which).page_count() {
            if which == Which::Wide {
                self.forget_values(&giving.gone)?;
                return Ok(true);
            }
            (giving.which, giving.page) = (Which::Wide, 0);
            return Ok(false);
        }
        let mut slots = Vec::new();
        self.groups.table(which).live_slots(giving.page, &mut slots)?;
        giving.page += 1;
        giving.least = giving.least.min(self.divide(which, giving.bound, &mut slots)?);
        if !slots.is_empty() {
            self.give_slots(which, &slots, &mut giving.gone, out)?;
        }
        Ok(false)
    }

    /// Leaves those of some groups that are final; returns the smallest time of the others.
    fn divide(&mut self, which: Which, bound: i64, slots: &mut Vec<Slot>) -> Result<i64> {
        if slots.is_empty() {
            return Ok(NO_GROUP);
        }
        let times: Vec<Option<i64>> = match which {
            Which::Narrow => {
                let table = self.groups.table(which);
                slots.iter().map(|slot| Some(table.key_u64(*slot) as i64)).collect()
            }
            Which::Wide => {
                let keys = slots.iter().map(|slot| self.groups.wide.key_bytes(*slot));
                let columns = self.groups.codec.columns_of_bytes(keys)?;
                columns[self.time].as_primitive::<TimestampMicrosecondType>().iter().collect()
            }
        };
        let mut time = times.iter();
        slots.retain(|_| time.next().copied().flatten().is_some_and(|time| time <= bound));
        Ok(times.into_iter().flatten().filter(|time| *time > bound).min().unwrap_or(NO_GROUP))
    }

    fn give_slots(
        &mut self,
        which: Which,
        slots: &[Slot],
        gone: &mut BTreeSet<Vec<u8>>,
        out: &mut Vec<Batch>,
    ) -> Result<()> {
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
        self.made = self.made.min(self.least_made(&key)?);
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        if self.giving.is_none() {
            if !self.groups.close(deadline, out)? {
                return Ok(false);
            }
            self.giving = self.begin();
        }
        let Some(mut giving) = self.giving.take() else { return Ok(true) };
        let mut is_first = true;
        let is_loaded = self.groups.load_more(&mut || std::mem::take(&mut is_first) || Instant::now() < deadline)?;
        let is_over = is_loaded && until(deadline, || self.give(&mut giving, out))?;
        if is_over {
            self.least = Some(giving.least);
        } else {
            self.giving = Some(giving);
        }
        Ok(is_over)
    }
}

#[cfg(test)]
mod tests;
