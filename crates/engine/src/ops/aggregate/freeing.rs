//! Groups that are final are forgotten, and the values that DISTINCT keeps of them.
//!
//! What they gave stays with whoever reads it: nothing is given for a group that goes. After each epoch
//! some pages are looked at, as `sweep` says, once all of the state is there. Invariant: a group that is
//! forgotten is final, so that no row of it comes, or goes, any more.

use super::{Aggregate, Which};
use crate::batch::Batch;
use crate::error::Result;
use crate::keys::KeyCodec;
use crate::ops::extremes::{GroupKey, group_key};
use crate::ops::sweep::Sweep;
use crate::ops::watermark::{Bound, NEVER};
use crate::plan::Final;
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use highwater_state::{Slot, Table};
use std::collections::BTreeSet;
use std::ops::Range;

/// What an aggregation needs to forget groups.
pub(crate) struct Freeing {
    /// Which of the keys is the time.
    time: usize,
    bound: Bound,
    /// The groups go, and not only the values that are kept beside them.
    groups: bool,
    /// Of the two tables of groups, then of the values of each DISTINCT.
    sweeps: Vec<Sweep>,
    /// Which of them is at work.
    at: usize,
}

/// What is swept.
#[derive(Clone, Copy)]
enum Part {
    Groups(Which),
    Values(usize),
}

impl Freeing {
    /// `groups` says whether nobody but the operators that read their changes needs them.
    pub(crate) fn new(last: &Final, groups: bool) -> Self {
        let bound = Bound::new(last.passing.clone());
        Self { time: last.time, bound, groups, sweeps: Vec::new(), at: 0 }
    }

    /// Takes a mark of one of the watermarks.
    pub(super) fn take(&mut self, watermark: usize, batch: &Batch) {
        self.bound.take(watermark, batch);
    }
}

impl Part {
    const fn of(at: usize) -> Self {
        match at {
            0 => Self::Groups(Which::Narrow),
            1 => Self::Groups(Which::Wide),
            values => Self::Values(values - 2),
        }
    }
}

impl Aggregate {
    /// The same, which forgets what is final.
    pub(crate) fn freeing(mut self, mut freeing: Freeing) -> Self {
        freeing.sweeps = (0..2 + self.distincts.len()).map(|_| Sweep::new()).collect();
        self.freeing = Some(freeing);
        self
    }

    /// A step of forgetting, after the epoch's changes are given; true when there was none left to do.
    pub(super) fn free(&mut self) -> Result<bool> {
        let Some(mut freeing) = self.freeing.take() else { return Ok(true) };
        let over = self.free_by(&mut freeing);
        self.freeing = Some(freeing);
        over
    }

    fn free_by(&mut self, freeing: &mut Freeing) -> Result<bool> {
        let bound = freeing.bound.after();
        if bound == NEVER || !self.is_loaded() {
            return Ok(true);
        }
        while let Some(sweep) = freeing.sweeps.get_mut(freeing.at) {
            let part = Part::of(freeing.at);
            let table = self.swept(part, freeing.groups);
            let Some(pages) = table.and_then(|table| sweep.next(table.len(), table.page_count())) else {
                freeing.at += 1;
                continue;
            };
            match part {
                Part::Groups(which) => self.free_groups(which, pages, freeing.time, bound)?,
                Part::Values(distinct) => self.free_values(distinct, pages, freeing.time, bound)?,
            }
            return Ok(false);
        }
        freeing.at = 0;
        Ok(true)
    }

    /// The table of a part, if there is one that is swept.
    fn swept(&mut self, part: Part, groups: bool) -> Option<&Table> {
        match part {
            Part::Groups(_) if !groups => None,
            Part::Groups(Which::Narrow) => self.narrow.as_ref(),
            Part::Groups(Which::Wide) => Some(&self.wide),
            Part::Values(distinct) => Some(&*self.distincts[distinct].table()),
        }
    }

    /// Forgets the groups on some pages that are final.
    fn free_groups(&mut self, which: Which, pages: Range<usize>, time: usize, bound: i64) -> Result<()> {
        let mut slots = Vec::new();
        for page in pages {
            self.table(which).live_slots(page, &mut slots)?;
            let times = self.times_of(which, time, &slots)?;
            keep_final(&mut slots, &times, bound);
            if slots.is_empty() {
                continue;
            }
            if !self.sets.is_empty() {
                let keys = self.keys_of(which, &slots);
                let gone: BTreeSet<Vec<u8>> = keys.with(|groups| Ok(groups.collect()))?;
                for set in &mut self.sets {
                    set.forget(&gone)?;
                }
            }
            self.table(which).delete(&slots)?;
        }
        Ok(())
    }

    /// Forgets the values on some pages whose groups are final.
    fn free_values(&mut self, distinct: usize, pages: Range<usize>, time: usize, bound: i64) -> Result<()> {
        let Self { codec, distincts, .. } = self;
        let table = distincts[distinct].table();
        let mut slots = Vec::new();
        for page in pages {
            table.live_slots(page, &mut slots)?;
            let groups: Vec<GroupKey<'_>> = slots.iter().map(|slot| group_key(table.key_bytes(*slot))).collect();
            let wide = groups.iter().filter_map(|group| match group {
                GroupKey::Narrow(_) => None,
                GroupKey::Wide(key) => Some(*key),
            });
            let mut wide = times_of_bytes(codec, time, wide)?.into_iter();
            let time_of = |group: &GroupKey<'_>| match group {
                GroupKey::Narrow(key) => Some(*key as i64),
                GroupKey::Wide(_) => wide.next().flatten(),
            };
            let times: Vec<Option<i64>> = groups.iter().map(time_of).collect();
            keep_final(&mut slots, &times, bound);
            if !slots.is_empty() {
                table.delete(&slots)?;
            }
        }
        Ok(())
    }

    /// The times of some groups, whose pages are in memory; `time` says which of the keys it is.
    pub(super) fn times_of(&mut self, which: Which, time: usize, slots: &[Slot]) -> Result<Vec<Option<i64>>> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        if which == Which::Narrow {
            let table = self.table(which);
            return Ok(slots.iter().map(|slot| Some(table.key_u64(*slot) as i64)).collect());
        }
        times_of_bytes(&self.codec, time, slots.iter().map(|slot| self.wide.key_bytes(*slot)))
    }
}

/// The times among keys in bytes form.
fn times_of_bytes<'a>(codec: &KeyCodec, time: usize, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Option<i64>>> {
    let columns = codec.columns_of_bytes(keys)?;
    Ok(columns[time].as_primitive::<TimestampMicrosecondType>().iter().collect())
}

/// Keeps those of some slots whose times are final.
fn keep_final(slots: &mut Vec<Slot>, times: &[Option<i64>], bound: i64) {
    let mut times = times.iter();
    slots.retain(|_| times.next().is_some_and(|time| time.is_some_and(|time| time <= bound)));
}

#[cfg(test)]
mod tests;
