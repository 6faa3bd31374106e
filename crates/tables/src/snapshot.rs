//! The store as it was at one position, for as long as somebody reads it.

use crate::error::{Error, Result};
use crate::layout::{POSITION_KEY, position_of};
use crate::store::Core;
use rocksdb::ReadOptions;
use std::sync::Arc;

type Inside<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell!(
    struct Held {
        owner: Arc<Core>,
        #[covariant]
        dependent: Inside,
    }
);

/// A consistent view of all tables; cheap to make and to keep for a while.
pub struct Snapshot {
    held: Held,
    position: u64,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(core: &Arc<Core>) -> Result<Self> {
        let held = Held::new(Arc::clone(core), |core| core.db.snapshot());
        let options = snapshot_options(held.borrow_dependent());
        let position = core.db.get_opt(POSITION_KEY, &options).map_err(Error::store("read the position"))?;
        let position = position.as_deref().map(position_of).transpose()?.unwrap_or(0);
        Ok(Self { held, position })
    }

    /// The position in the log that it shows.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.held.borrow_owner()
    }

    pub(crate) fn options(&self) -> ReadOptions {
        snapshot_options(self.held.borrow_dependent())
    }
}

fn snapshot_options(snapshot: &Inside<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_snapshot(snapshot);
    options
}
