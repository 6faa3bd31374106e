//! A view's rows and then its changes, epoch by epoch, for somebody outside the dataflow.
//!
//! It begins with a read of all rows as of one epoch ([`crate::reads`]); from the next epoch on each
//! worker sends what the epoch changed, in pieces of which the last says so, also when that is nothing:
//! so the reader knows when it has an epoch whole. Nothing waits for a reader: one that falls too far
//! behind is cut off and told.
//! Invariant: of every epoch after the first rows a reader gets all changes, in the order of epochs,
//! or an error.

use crate::batch::Batch;
use crate::error::{Error, Result};
use highwater_core::Epoch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Rows that may wait for a reader, each message counting as one more.
const MOST_WAITING: u64 = 1 << 22;

/// Some of one worker's changes of one epoch.
#[derive(Debug)]
struct Told {
    epoch: Epoch,
    changes: Vec<Batch>,
    /// The worker has no more of this epoch.
    over: bool,
}

/// Where an operator's workers send changes.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    sender: Sender<Told>,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: AtomicU64,
    cut: AtomicBool,
}

/// The changes of a view as they come; see [`crate::Pipeline::subscribe`].
#[derive(Debug)]
pub(crate) struct Changes {
    told: Receiver<Told>,
    waiting: Arc<Waiting>,
    workers: usize,
    /// Epochs of which not every worker has told all, with how many have.
    partial: BTreeMap<Epoch, (usize, Vec<Batch>)>,
}

pub(crate) fn tap(workers: usize) -> (Tap, Changes) {
    let (sender, told) = channel();
    let waiting: Arc<Waiting> = Arc::default();
    let changes = Changes { told, waiting: Arc::clone(&waiting), workers, partial: BTreeMap::new() };
    (Tap { sender, waiting }, changes)
}

fn size_of(batches: &[Batch]) -> u64 {
    1 + batches.iter().map(|batch| batch.len() as u64).sum::<u64>()
}

impl Tap {
    /// Sends some of an epoch's changes, and whether they are the last; false when nobody wants more.
    pub(crate) fn send(&self, epoch: Epoch, changes: &[Batch], over: bool) -> bool {
        if self.waiting.cut.load(Relaxed) {
            return false;
        }
        let size = size_of(changes);
        if self.waiting.rows.fetch_add(size, Relaxed) + size > MOST_WAITING {
            self.waiting.cut.store(true, Relaxed);
            return false;
        }
        self.sender.send(Told { epoch, changes: changes.to_vec(), over }).is_ok()
    }
}

impl Changes {
    /// The next epoch that changed something, and its changes. Nothing when `patience` is over.
    ///
    /// # Errors
    /// `NotRunning` when the run has ended, or this reader was too slow.
    pub(crate) fn next(&mut self, pipeline: &str, patience: Duration) -> Result<Option<(Epoch, Vec<Batch>)>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(whole) = self.whole() {
                return Ok(Some(whole));
            }
            match self.told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Told { epoch, changes, over }) => {
                    self.waiting.rows.fetch_sub(size_of(&changes), Relaxed);
                    let (workers, all) = self.partial.entry(epoch).or_default();
                    *workers += usize::from(over);
                    all.extend(changes);
                }
                Err(_) if self.waiting.cut.load(Relaxed) => {
                    let reason = format!("this reader of its changes is more than {MOST_WAITING} rows behind");
                    return Err(Error::NotRunning { pipeline: pipeline.to_owned(), reason });
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "its run has ended".to_owned();
                    return Err(Error::NotRunning { pipeline: pipeline.to_owned(), reason });
                }
            }
        }
    }

    /// The oldest epoch of which all workers have told all; epochs without changes are passed over.
    fn whole(&mut self) -> Option<(Epoch, Vec<Batch>)> {
        loop {
            let first = self.partial.first_entry().filter(|entry| entry.get().0 == self.workers)?;
            let (epoch, (_, batches)) = first.remove_entry();
            if batches.iter().any(|batch| !batch.is_empty()) {
                return Some((epoch, batches));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    fn rows(count: usize) -> Vec<Batch> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1; count]));
        vec![Batch::inserts(RecordBatch::try_from_iter([("x", column)]).expect("one column"))]
    }

    #[test]
    fn an_epoch_is_given_when_all_workers_have_told_of_it() {
        let (tap, mut changes) = tap(2);
        assert!(tap.send(Epoch(1), &rows(3), true) && tap.send(Epoch(1), &rows(2), false));
        assert!(changes.next("p", Duration::ZERO).expect("runs").is_none(), "one worker has more of epoch 1");
        assert!(tap.send(Epoch(1), &[], true) && tap.send(Epoch(2), &rows(1), true));
        let (epoch, batches) = changes.next("p", Duration::ZERO).expect("runs").expect("whole");
        let lengths: Vec<usize> = batches.iter().map(Batch::len).collect();
        assert_eq!((epoch, lengths), (Epoch(1), vec![3, 2]));
        assert!(changes.next("p", Duration::ZERO).expect("runs").is_none(), "one worker has not told of epoch 2");
        drop(tap);
        assert!(changes.next("p", Duration::ZERO).expect_err("ended").to_string().contains("ended"));
    }

    #[test]
    fn a_slow_reader_is_cut_off_and_told() {
        let (tap, mut changes) = tap(1);
        let many = rows(1 << 20);
        let sent = (0..).take_while(|epoch| tap.send(Epoch(*epoch), &many, true)).count();
        assert_eq!(sent, 3);
        drop(tap);
        for _ in 0..sent {
            assert!(changes.next("p", Duration::ZERO).expect("sent before").is_some());
        }
        assert!(changes.next("p", Duration::ZERO).expect_err("cut off").to_string().contains("behind"));
    }
}
