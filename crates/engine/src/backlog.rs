//! The rows that wait at the stateful operators of a pipeline on one worker, by epoch.
//!
//! An operator whose close gives more than others apply as fast lets them catch up first, so that what
//! waits between them stays bounded. Only rows up to its own epoch hold it up. Rows count until they are
//! applied: what an operator then keeps of an epoch until its end does not, such as the batches of a
//! GROUP BY that is read, all of which it holds. So queues are bounded, and an epoch's memory is not.
//! Invariant: among operators that wait for each other one can always go on, for rows of the oldest open
//! epoch wait for nobody.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// As many rows may wait before a close is held up.
const LONG: usize = 1 << 17;

/// Cheap to clone; never leaves its thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    rows: Rc<RefCell<BTreeMap<u64, usize>>>,
}

impl Backlog {
    /// Rows of an epoch begin to wait.
    pub(crate) fn add(&self, epoch: u64, rows: usize) {
        *self.rows.borrow_mut().entry(epoch).or_default() += rows;
    }

    /// Rows of an epoch are applied.
    pub(crate) fn remove(&self, epoch: u64, rows: usize) {
        let mut waiting = self.rows.borrow_mut();
        let Some(of_epoch) = waiting.get_mut(&epoch) else { return };
        *of_epoch -= rows;
        if *of_epoch == 0 {
            waiting.remove(&epoch);
        }
    }

    /// Whether a close of `epoch` is to let others go first.
    pub(crate) fn is_long(&self, epoch: u64) -> bool {
        self.rows.borrow().range(..=epoch).map(|(_, rows)| rows).sum::<usize>() >= LONG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_later_epochs_hold_nobody_up() {
        let backlog = Backlog::default();
        backlog.add(3, LONG);
        backlog.add(1, 1);
        assert!(!backlog.is_long(2) && backlog.is_long(3));
        backlog.remove(1, 1);
        assert!(backlog.is_long(4));
        backlog.remove(3, LONG);
        assert!(!backlog.is_long(4) && backlog.rows.borrow().is_empty());
    }
}
