//! Temporal joins: each left row is paired once, with the right side as it is after the row's epoch, and
//! nothing that changes on the right later changes what was given for it.
//!
//! Such a join is an ordinary one whose left rows leave with the end of their epoch: it begins each epoch
//! without left rows, so no change of the right alone gives anything, and the right side is all of its
//! state. While a backfill of the right is not over, left rows are kept; in the first epoch in which all
//! backfills are, they are paired, a page of them in a round, each as if it had come in that epoch. Held
//! rows are state like any other, and after a restart there may be some. Invariant: between epochs there
//! are left rows only while some are held.

use super::Join;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::ops::grouping::Grouping;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use highwater_state::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The side whose rows are paired once.
const LEFT: usize = 0;

/// What a join has besides where its left rows are paired once.
pub(crate) struct Temporal {
    /// Of left rows.
    schema: SchemaRef,
    grouping: Grouping,
    /// A backfill of the right goes on after the open epoch.
    is_filling: bool,
    /// There may be left rows of earlier epochs.
    holds: bool,
    stage: Stage,
}

/// Which left rows the end of an epoch looks at.
#[derive(Clone, Copy)]
enum Stage {
    /// Those of the epoch.
    Own,
    /// Those that are held from this page on.
    Held(usize),
    /// Those of the page before this one, which are paired now.
    Round(usize),
}

impl Temporal {
    /// `holds` says whether the state may have left rows.
    pub(crate) const fn new(schema: SchemaRef, grouping: Grouping, holds: bool) -> Self {
        Self { schema, grouping, is_filling: false, holds, stage: Stage::Own }
    }

    /// Takes notice that a backfill of the right goes on after the open epoch.
    pub(super) const fn goes_on(&mut self) {
        self.is_filling = true;
    }
}

/// What says that a backfill goes on after an epoch.
pub(crate) fn filling() -> Result<Batch> {
    let goes_on: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let rows = RecordBatch::try_from_iter([("filling", goes_on)]);
    Ok(Batch::inserts(rows.map_err(|e| Error::data("join", e))?))
}

impl Join {
    /// A step of an epoch's end that pairs nothing, where it is the turn of such a one: left rows are kept,
    /// or those that are held are taken up. Says whether it was the last.
    pub(super) fn wait(&mut self) -> Result<Option<bool>> {
        let Some(temporal) = &self.temporal else { return Ok(None) };
        let (stage, keeps) = (temporal.stage, temporal.is_filling || temporal.holds);
        match stage {
            Stage::Own if keeps => self.keep().map(Some),
            Stage::Held(page) => self.take_up(page).map(Some),
            Stage::Own | Stage::Round(_) => Ok(None),
        }
    }

    /// Keeps the epoch's left rows as they are; true when no held ones are to be paired.
    fn keep(&mut self) -> Result<bool> {
        if !self.gathered.touched()?.is_empty() || !self.gathered.end_epoch()? {
            return Ok(false);
        }
        let Some(temporal) = &mut self.temporal else { return Ok(true) };
        let waits = std::mem::take(&mut temporal.is_filling);
        temporal.holds = true;
        temporal.stage = if waits { Stage::Own } else { Stage::Held(0) };
        Ok(waits)
    }

    /// Makes the rows of a page changes, to be paired; true when there is no such page.
    fn take_up(&mut self, page: usize) -> Result<bool> {
        let mut is_first = true;
        if !self.gathered.rows_of(LEFT).load_next(&mut || std::mem::take(&mut is_first))? {
            return Ok(false);
        }
        let is_over = page >= self.gathered.rows_of(LEFT).page_count();
        let held = if is_over { Vec::new() } else { self.held(page)? };
        for part in &held {
            while !self.gathered.load_for(part.rows.column(0).as_ref(), Instant::now() + Duration::from_secs(1))? {}
            self.gathered.renew(LEFT, part)?;
        }
        let Some(temporal) = &mut self.temporal else { return Ok(true) };
        temporal.holds = !is_over;
        temporal.stage = match (is_over, held.is_empty()) {
            (true, _) => Stage::Own,
            (false, true) => Stage::Held(page + 1),
            (false, false) => Stage::Round(page + 1),
        };
        Ok(is_over)
    }

    /// The left rows of a page by group; their counts are their weights.
    fn held(&mut self, page: usize) -> Result<Vec<Batch>> {
        let mut slots: Vec<Slot> = Vec::new();
        self.gathered.rows_of(LEFT).live_slots(page, &mut slots)?;
        match &self.temporal {
            Some(Temporal { schema, grouping, .. }) if !slots.is_empty() => {
                self.regrouped(LEFT, &slots, 1, (schema, grouping))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Lets the left rows go that were paired; true when no held ones are left.
    pub(super) fn let_go(&mut self) -> Result<bool> {
        self.gathered.leave(LEFT);
        if !self.gathered.end_epoch()? {
            return Ok(false);
        }
        let Some(temporal) = &mut self.temporal else { return Ok(true) };
        if let Stage::Round(next) = temporal.stage {
            temporal.stage = Stage::Held(next);
            return Ok(false);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
