//! Parts of an outbox that have waited for long become one: which ones do, and how their rows stand in
//! one file.
//!
//! A target knows a delivery by its checkpoint, so a merged part keeps the deliveries of those that it is
//! made of: in their order stand, of each, the checkpoint and how many bytes its rows are (u64, little
//! endian), then the rows.
//!
//! Invariants: what is delivered, under which checkpoint and in which order, is the same before and after
//! a merge. Each merge has sixteen times as many deliveries as what it is made of, or is so large that it
//! stays as it is; so `n` parts become O(log n) of them, and those that are large, and a row is written
//! O(log n) times.

use crate::error::{Error, Result};
use crate::kept_rows::KeptRows;
use crate::snapshot::OutboxPart;
use highwater_core::CheckpointId;
use std::ops::Range;
use std::sync::Arc;

/// So many adjacent parts become one.
const FAN_IN: usize = 16;

/// A part has at most so many bytes of rows after a merge, as all of them are read at once. One of more
/// than half as many stays as it is.
const LARGEST: usize = 16 << 20;

/// What stands before the rows of each delivery.
const HEAD: usize = 16;

/// The deliveries of a part that was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// How many are still to be made.
    pub(crate) waiting: u32,
    /// The newest that was made.
    pub(crate) delivered: Option<CheckpointId>,
}

impl OutboxPart {
    /// How many deliveries are still to be made of it.
    pub(crate) fn waiting(&self) -> u32 {
        self.merged.map_or(1, |merged| merged.waiting)
    }

    /// The deliveries still to be made of it, whose rows are `bytes`; it belongs to `checkpoint`.
    ///
    /// # Errors
    /// `Data` when these are not the rows of a merged part.
    pub(crate) fn deliveries<'a>(&self, checkpoint: CheckpointId, bytes: &'a [u8]) -> Result<Vec<Delivery<'a>>> {
        let Some(merged) = self.merged else { return Ok(vec![Delivery { checkpoint, rows: bytes }]) };
        let mut rest = bytes;
        let mut deliveries = Vec::new();
        while !rest.is_empty() {
            let (delivery, behind) =
                first_of(rest).ok_or_else(|| Error::data(&*self.sink, "rows that wait to be delivered are damaged"))?;
            deliveries.push(delivery);
            rest = behind;
        }
        deliveries.retain(|delivery| Some(delivery.checkpoint) > merged.delivered);
        Ok(deliveries)
    }

    /// What may be merged with it if it is the same: whose part it is, and how often it was merged.
    fn tier(&self) -> Option<(u32, u32)> {
        let is_whole = self.merged.is_none_or(|merged| merged.delivered.is_none());
        let may_grow = self.checkpoint.is_some() && is_whole && self.rows.len() <= LARGEST / 2;
        may_grow.then(|| (self.part, self.waiting().max(1).ilog(FAN_IN as u32)))
    }
}

/// Rows that are delivered at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) rows: &'a [u8],
}

fn first_of(bytes: &[u8]) -> Option<(Delivery<'_>, &[u8])> {
    let (checkpoint, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (rows, rest) = rest.split_at_checked(length)?;
    Some((Delivery { checkpoint: CheckpointId(u64::from_le_bytes(*checkpoint)), rows }, rest))
}

/// Which parts become one, if any do: the oldest that are adjacent and alike, as many of them as are not
/// too large together.
pub(crate) fn to_merge<'a>(parts: impl Iterator<Item = &'a OutboxPart>) -> Option<Range<usize>> {
    let (mut alike, mut tier): (Vec<usize>, _) = (Vec::new(), None);
    for (at, part) in parts.enumerate() {
        let own = part.tier();
        if own != tier {
            alike.clear();
            tier = own;
        }
        alike.push(part.rows.len() + HEAD);
        if tier.is_some() && alike.len() == FAN_IN {
            let mut bytes = 0;
            let fitting = alike.iter().take_while(|length| {
                bytes += **length;
                bytes <= LARGEST + 2 * HEAD
            });
            let start = at + 1 - FAN_IN;
            return Some(start..start + fitting.count());
        }
    }
    None
}

/// One part of all the deliveries of some, which have numbers; it takes the place of them. Reads their
/// files.
///
/// # Errors
/// `Io` and `Data` when the rows cannot be read.
pub(crate) fn merge(parts: &[OutboxPart]) -> Result<OutboxPart> {
    let mut rows = Vec::with_capacity(parts.iter().map(|part| part.rows.len() + HEAD).sum());
    let mut waiting: u32 = 0;
    for part in parts {
        let own = part.rows.read()?;
        if part.merged.is_none() {
            let checkpoint = part.checkpoint.expect("only what has a number is merged");
            rows.extend_from_slice(&checkpoint.0.to_le_bytes());
            rows.extend_from_slice(&(own.len() as u64).to_le_bytes());
        }
        rows.extend_from_slice(&own);
        waiting = waiting.saturating_add(part.waiting());
    }
    let newest = parts.last().expect("there are parts to merge");
    Ok(OutboxPart {
        sink: Arc::clone(&newest.sink),
        checkpoint: newest.checkpoint,
        part: newest.part,
        rows: KeptRows::in_memory(rows),
        waits: true,
        merged: Some(Merged { waiting, delivered: None }),
    })
}

#[cfg(test)]
mod tests;
