//! Who fails when an epoch does not fit into memory.
//!
//! What an epoch changes stays in memory until a checkpoint behind it has it, and a join may make any
//! number of rows of a few; the indexes of tables always stay. So a pipeline fails alone, in time, where
//! else the system would end the process with all of them: that whose state its open epoch made grow
//! most, or, where the machine itself has none left, the largest. Invariant: while the machine has memory
//! a pipeline whose epochs end does not fail for it, however much they all take.

use super::Pipelines;
use crate::machine;
use crate::shared::Run;
use highwater_core::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// An epoch that is open for longer is a long one.
const LONG_EPOCH: Duration = Duration::from_secs(1);
/// How long what a failed pipeline held takes to be free.
const FREED: Duration = Duration::from_secs(2);

/// Looks at the memory from time to time.
pub(crate) struct MemoryWatch {
    /// What the state of all pipelines should take at most.
    limit: Bytes,
    next: Instant,
}

impl MemoryWatch {
    pub(crate) fn new(limit: Bytes) -> Self {
        Self { limit, next: Instant::now() }
    }

    /// Fails a pipeline when memory is short and it is to blame.
    pub(crate) fn look(&mut self, pipelines: &Pipelines) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let runs: Vec<Arc<Run>> = {
            let all = pipelines.all();
            all.values().filter_map(|inner| Some(Arc::clone(&inner.state().run.as_ref()?.spec.run))).collect()
        };
        let used = Bytes(runs.iter().map(|run| run.state_bytes().0).sum());
        let left = machine::short_memory();
        if used.0 <= self.limit.0.saturating_mul(2) && left.is_none() {
            return;
        }
        let taken = left.map_or_else(
            || format!("all state takes {used} where state_memory is {}", self.limit),
            |left| format!("the machine has {left} of memory left"),
        );
        let much = |bytes: Bytes| (bytes.0 >= self.limit.0 / 4).then_some(bytes);
        let long = runs.iter().filter(|run| run.open_for() >= LONG_EPOCH);
        let grown = long.filter_map(|run| Some((much(run.grown())?, run))).max_by_key(|(grown, _)| *grown);
        let largest =
            || runs.iter().filter_map(|run| Some((much(run.state_bytes())?, run))).max_by_key(|(held, _)| *held);
        let (run, told) = if let Some((grown, run)) = grown {
            (run, format!("one epoch has added {grown} to its state, which stays in memory until it ends, and {taken}"))
        } else if let Some((held, run)) = left.and_then(|_| largest()) {
            (run, format!("its state takes {held} of memory, and {taken}"))
        } else {
            return;
        };
        self.next = now + FREED;
        run.fail_of_memory(format!("{told}: let its query keep fewer rows, or give it more memory"));
    }
}
