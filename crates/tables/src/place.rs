//! A place in the log as checkpoints keep it (docs/formats/table-store.md): where a reader goes on, or where
//! the log ended when all that a sink was given was in it.
//!
//! Invariant: a place is one of a store only if that has come so far, in the run that the place names.

use crate::error::{Error, Result};
use crate::store::Core;
use highwater_engine::source::Offset;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The log was read, or written, up to here.
    pub(crate) position: u64,
    /// The id of the run in which that position was written; the first version did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// While the backfill of a reader lasts: the last key given, in hexadecimal; empty before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

impl Place {
    /// The place of a position of a store's log.
    pub(crate) fn at(core: &Core, position: u64, after: Option<String>) -> Self {
        Self { position, run: Some(core.runs.of(position).to_owned()), after }
    }

    /// Where a store's log ends: all that was written before is at or before it.
    pub(crate) fn at_end(core: &Core) -> Self {
        Self::at(core, core.log.newest(), None)
    }

    pub(crate) fn read(offset: &Offset) -> Result<Self> {
        Self::deserialize(offset).map_err(Error::corrupt)
    }

    pub(crate) fn to_offset(&self) -> Offset {
        serde_json::to_value(self).expect("a number and two texts are JSON")
    }

    /// Whether it is known in which run its position was written.
    pub(crate) const fn is_certain(&self) -> bool {
        self.run.is_some()
    }

    /// Refuses a place in a log that is not this store's.
    pub(crate) fn check(&self, core: &Core) -> Result<()> {
        let (position, newest) = (self.position, core.log.newest());
        let is_of_run = self.run.as_deref().is_none_or(|run| run == core.runs.of(position));
        if is_of_run && position <= newest { Ok(()) } else { Err(Error::Foreign { position, newest }) }
    }
}
