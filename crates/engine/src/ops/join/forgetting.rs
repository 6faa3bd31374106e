//! Rows of a join that never pair again are forgotten by watermarks.
//!
//! Nothing is given for it and nothing given before changes by it, so there is no hurry: rows are looked
//! at when there are twice as many as stayed the last time, some pages at the end of each epoch. So a
//! row is looked at a few times, whatever the watermark does, and the state is at most about twice
//! what can still pair. They leave by the way on which deleted rows do. Invariant: a row that is
//! forgotten is final, and so is every row that it could pair with.

use super::Join;
use crate::batch::Batch;
use crate::error::Result;
use crate::ops::grouping::{Grouping, is_loose};
use crate::ops::watermark::{Bound, NEVER};
use crate::plan::Forget;
use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use highwater_state::Slot;

/// Fewer rows are not looked at.
const FEW: u64 = 4096;
/// Pages that are looked at after one epoch.
const PAGES: usize = 8;

/// What a join needs to forget.
pub(crate) struct Forgetting {
    rules: Vec<Rule>,
    /// See [`FEW`].
    few: u64,
    /// By side.
    schemas: [SchemaRef; 2],
    groupings: [Grouping; 2],
}

/// When rows of a side are forgotten.
struct Rule {
    side: usize,
    /// The column that goes by watermarks.
    time: usize,
    bound: Bound,
    watermarks: usize,
    /// The next page to look at, while that is under way.
    page: Option<usize>,
    /// How many rows stayed.
    stayed: u64,
}

impl Forgetting {
    pub(crate) fn new(forgets: &[Forget], schemas: [SchemaRef; 2], groupings: [Grouping; 2]) -> Self {
        let rule = |forget: &Forget| Rule {
            side: forget.side,
            time: forget.time,
            bound: Bound::new(forget.passing.clone()),
            watermarks: forget.passing.len(),
            page: None,
            stayed: 0,
        };
        Self { rules: forgets.iter().map(rule).collect(), few: FEW, schemas, groupings }
    }

    /// Takes a mark; the watermarks of all rules are numbered through.
    pub(super) fn take(&mut self, mut watermark: usize, batch: &Batch) {
        for rule in &mut self.rules {
            if watermark < rule.watermarks {
                rule.bound.take(watermark, batch);
                return;
            }
            watermark -= rule.watermarks;
        }
    }
}

impl Join {
    /// Forgets some of the rows that never pair again, after the epoch's changes are given.
    pub(super) fn forget(&mut self) -> Result<()> {
        if !self.gathered.is_loaded() {
            return Ok(());
        }
        let Some(mut forgetting) = self.forgetting.take() else { return Ok(()) };
        for rule in &mut forgetting.rules {
            let (side, bound) = (rule.side, rule.bound.after());
            let first = match rule.page {
                _ if bound == NEVER => continue,
                Some(page) => page,
                None if self.gathered.rows_of(side).len() > 2 * rule.stayed + forgetting.few => 0,
                None => continue,
            };
            let pages = self.gathered.rows_of(side).page_count();
            let end = pages.min(first + PAGES);
            for page in first..end {
                let gone = self.gone(rule, page, &forgetting.schemas[side], &forgetting.groupings[side])?;
                for part in gone.iter().filter(|part| !is_loose(part)) {
                    self.gathered.apply(side, part)?;
                }
            }
            while !self.gathered.touched()?.is_empty() {}
            while !self.gathered.end_epoch()? {}
            rule.page = (end < pages).then_some(end);
            if rule.page.is_none() {
                rule.stayed = self.gathered.rows_of(side).len();
            }
        }
        self.forgetting = Some(forgetting);
        Ok(())
    }

    /// The rows of a page that are to be forgotten, as deletes by group.
    fn gone(&mut self, rule: &Rule, page: usize, schema: &SchemaRef, grouping: &Grouping) -> Result<Vec<Batch>> {
        let mut slots: Vec<Slot> = Vec::new();
        self.gathered.rows_of(rule.side).live_slots(page, &mut slots)?;
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let bound = rule.bound.after();
        let columns = self.codecs[rule.side].columns_of_bytes(self.rows(rule.side, &slots))?;
        let times = columns[rule.time].as_primitive::<TimestampMicrosecondType>();
        let is_final: Vec<bool> = times.iter().map(|time| time.is_some_and(|time| time <= bound)).collect();
        let mut finals = is_final.into_iter();
        slots.retain(|_| finals.next().unwrap_or_default());
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        self.regrouped(rule.side, &slots, -1, (schema, grouping))
    }
}

#[cfg(test)]
mod tests;
