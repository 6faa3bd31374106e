//! Ticks: the records of a pipeline's clock, and the log in which each worker keeps them.
//!
//! A tick is broadcast at its epoch before any row of that epoch exists, so an operator whose
//! frontier has passed an epoch finds that epoch's tick in its worker's log. Whatever all workers
//! must agree on (a barrier, the time, a published checkpoint) is a field of a tick.

use highwater_core::{CheckpointId, WallMicros};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What everybody must agree on about one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// Its number, which is also its Timely timestamp.
    pub(crate) epoch: u64,
    /// Time of day when it was made.
    pub(crate) wall: WallMicros,
    /// How many rows a source may emit on each worker; 0 asks for none.
    pub(crate) max_rows: u32,
    /// Where change sources are to be at its end.
    pub(crate) horizon: u64,
    /// The barrier after this epoch belongs to this checkpoint.
    pub(crate) checkpoint: Option<CheckpointId>,
    /// The newest checkpoint that is published; its outboxes may be delivered.
    pub(crate) published: Option<CheckpointId>,
    /// Reads that want a snapshot as of this epoch.
    pub(crate) reads: Vec<u64>,
}

/// One worker's ticks of one pipeline that are not yet complete everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct TickLog {
    ticks: Rc<RefCell<BTreeMap<u64, Rc<Tick>>>>,
}

impl TickLog {
    pub(crate) fn record(&self, tick: Tick) -> Rc<Tick> {
        let tick = Rc::new(tick);
        self.ticks.borrow_mut().insert(tick.epoch, Rc::clone(&tick));
        tick
    }

    /// The tick of an epoch; none when the clock skipped that number.
    pub(crate) fn get(&self, epoch: u64) -> Option<Rc<Tick>> {
        self.ticks.borrow().get(&epoch).cloned()
    }

    /// Forgets the ticks before `epoch`, which is complete.
    pub(crate) fn forget_before(&self, epoch: u64) {
        let mut ticks = self.ticks.borrow_mut();
        *ticks = ticks.split_off(&epoch);
    }
}
