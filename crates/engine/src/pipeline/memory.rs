//! Who fails when the machine's memory ends.
//!
//! What an epoch changes stays in memory until a checkpoint behind it has it, and a join may make any
//! number of rows of a few; the indexes of tables always stay. So a pipeline fails alone, in time, where
//! else the system would end the process with all of them: that whose state its open epoch made grow
//! most, or, when next to nothing is left, the largest. Invariant: while memory is left none fails.

use super::Pipelines;
use crate::machine;
use crate::shared::Run;
use highwater_core::Bytes;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Between two looks.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// An epoch that is open for longer is a long one.
const LONG_EPOCH: Duration = Duration::from_secs(1);
/// Who holds less is not to blame.
const MUCH: Bytes = Bytes(64 << 20);
/// Next to nothing is left when it is less than this part of the reserve, for so many looks.
const NOTHING: u64 = 4;
const LOOKS: u32 = 10;
/// How long what a failed pipeline held takes to be free, at most.
const FREED: Duration = Duration::from_secs(30);

/// What is to stay free: a sixteenth of the memory that there is, and not more than 2 GiB.
pub(crate) fn reserve() -> Bytes {
    Bytes((machine::memory().0 / 16).min(2 << 30))
}

/// Looks at the memory from time to time.
pub(crate) struct MemoryWatch {
    reserve: Bytes,
    /// Who failed last, and when.
    failed: Option<(Weak<Run>, Instant)>,
    /// How often next to nothing was left, one look after the other.
    desperate: u32,
}

impl MemoryWatch {
    pub(crate) const fn new(reserve: Bytes) -> Self {
        Self { reserve, failed: None, desperate: 0 }
    }

    /// Fails a pipeline when memory is short and it is to blame.
    pub(crate) fn look(&mut self, pipelines: &Pipelines) {
        let runs = pipelines.runs();
        runs.iter().for_each(|run| run.settle_less());
        let Some(left) = machine::memory_left().filter(|left| *left < self.reserve) else {
            self.desperate = 0;
            return;
        };
        if self.failed.as_ref().is_some_and(|(run, at)| run.strong_count() > 0 && at.elapsed() < FREED) {
            return;
        }
        let much = |bytes: Bytes| (bytes >= MUCH).then_some(bytes);
        let long = runs.iter().filter(|run| run.open_for() >= LONG_EPOCH);
        let grown = long.filter_map(|run| Some((much(run.grown())?, run))).max_by_key(|(grown, _)| *grown);
        self.desperate = if left.0 < self.reserve.0 / NOTHING { self.desperate + 1 } else { 0 };
        let (run, told) = if let Some((grown, run)) = grown {
            (run, format!("one epoch has added {grown} to its state, which stays in memory until it ends"))
        } else if self.desperate >= LOOKS {
            let held = runs.iter().filter_map(|run| Some((much(run.state_bytes())?, run)));
            let Some((held, run)) = held.max_by_key(|(held, _)| *held) else { return };
            (run, format!("its state takes {held} of memory, more than that of others"))
        } else {
            return;
        };
        self.failed = Some((Arc::downgrade(run), Instant::now()));
        self.desperate = 0;
        run.fail_of_memory(format!(
            "{told}, and the machine has {left} left: let its query keep fewer rows, or give it more memory"
        ));
    }
}
