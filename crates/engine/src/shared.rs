//! What the workers of a pipeline share with each other and with its handle.
//!
//! Invariant: a pipeline fails once per run, with one reason, which is kept; from then on its
//! operators do nothing until the run is dropped.

use crate::changes::Wake;
use crate::error::{Error, Result};
use crate::metrics::Counters;
use crate::ops::by_rows::LeftOut;
use highwater_core::{Bytes, Epoch};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Called once, from any worker, with how a run failed.
pub(crate) type OnFailure = Box<dyn Fn(Failure) + Send + Sync>;

/// How a run failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Whether it may be tried again.
    pub(crate) retry: bool,
    pub(crate) cause: Cause,
}

/// What made a run fail, as far as its owners do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An expression of this operator cannot be computed for a row.
    Row(String),
    /// Its open epoch takes too much memory.
    Memory,
    Other,
}

/// One run of a pipeline: from its dataflow's creation until it is dropped.
pub(crate) struct Run {
    pub(crate) pipeline: String,
    pub(crate) counters: Arc<Counters>,
    /// What the dataflow's own epochs, which begin at 0, are counted from: epochs of a pipeline grow
    /// over its runs.
    base_epoch: AtomicU64,
    /// When the oldest row of an epoch came to be, where its source knows.
    births: Mutex<BTreeMap<u64, Instant>>,
    /// Operators that are new have what there was before them.
    pub(crate) is_filled: AtomicBool,
    /// Memory is short and only a checkpoint can make pages clean.
    pub(crate) wants_checkpoint: AtomicBool,
    wake_clock: Mutex<Option<Wake>>,
    /// When an epoch began or ended last; none while none is open.
    open_since: Mutex<Option<Instant>>,
    /// Bytes of state when an epoch ended last.
    settled_bytes: AtomicU64,
    failed: AtomicBool,
    reason: Mutex<Option<String>>,
    on_failure: OnFailure,
    /// By sink and worker.
    failing: Mutex<BTreeMap<(String, u32), FailingDelivery>>,
}

/// Deliveries of a sink that have failed several times in a row, and are tried again, or of which one does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingDelivery {
    /// The sink's node.
    pub sink: String,
    /// Whether one does not end, and has not failed.
    pub hangs: bool,
    /// Why the newest try failed, or for how long it has not ended.
    pub reason: String,
    /// Published parts that wait.
    pub waiting: usize,
    /// How many bytes their rows are.
    pub bytes: Bytes,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

impl Run {
    pub(crate) fn new(pipeline: String, counters: Arc<Counters>, on_failure: OnFailure) -> Self {
        // What an earlier run held is gone.
        counters.keys.store(0, Ordering::Relaxed);
        counters.state_bytes.store(0, Ordering::Relaxed);
        Self {
            pipeline,
            counters,
            base_epoch: AtomicU64::new(0),
            births: Mutex::default(),
            is_filled: AtomicBool::new(false),
            wants_checkpoint: AtomicBool::new(false),
            wake_clock: Mutex::default(),
            open_since: Mutex::default(),
            settled_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            reason: Mutex::new(None),
            on_failure,
            failing: Mutex::default(),
        }
    }

    /// How the deliveries of a sink on a worker fail or hang; none when they no longer do.
    pub(crate) fn set_failing(&self, sink: &str, part: u32, failing: Option<FailingDelivery>) {
        let mut all = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match failing {
            Some(failing) => drop(all.insert((sink.to_owned(), part), failing)),
            None => drop(all.remove(&(sink.to_owned(), part))),
        }
    }

    /// All deliveries that fail or hang.
    pub(crate) fn failing(&self) -> Vec<FailingDelivery> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Published parts that wait for deliveries that fail or hang.
    pub(crate) fn stuck(&self) -> usize {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).values().map(|failing| failing.waiting).sum()
    }

    /// Rows of an operator were left out. Logged ever more seldom.
    pub(crate) fn left_out(&self, operator: &str, left_out: LeftOut) {
        let LeftOut { came, reason } = left_out;
        let before = self.counters.failed_rows.fetch_add(came, Ordering::Relaxed);
        if before.checked_ilog2() != (before + came).checked_ilog2() {
            tracing::warn!(pipeline = self.pipeline, operator, reason, rows = before + came, "rows were left out");
        }
        let told = format!("{operator}: {reason}");
        *self.counters.last_failed_row.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// The run goes on after this epoch.
    pub(crate) fn goes_on_after(&self, epoch: Epoch) {
        self.base_epoch.store(epoch.0 + 1, Ordering::Relaxed);
    }

    /// A Timely time of this run as people see it.
    pub(crate) fn epoch(&self, time: u64) -> Epoch {
        Epoch(self.base_epoch.load(Ordering::Relaxed) + time)
    }

    /// Rows of an epoch came to be at this time, the oldest of them.
    pub(crate) fn born(&self, time: u64, oldest: Option<Instant>) {
        if let Some(oldest) = oldest {
            let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
            births.entry(time).and_modify(|born| *born = oldest.min(*born)).or_insert(oldest);
        }
    }

    /// Epochs before this one are visible: their rows' latency is known.
    pub(crate) fn visible_before(&self, time: u64) {
        let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = births.first_entry().filter(|entry| *entry.key() < time) {
            self.counters.latency.record(entry.remove().elapsed());
        }
    }

    /// An epoch has begun.
    pub(crate) fn epoch_began(&self) {
        self.open_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    /// Epochs have ended; whether later ones are open.
    pub(crate) fn epochs_ended(&self, are_open: bool) {
        *self.open_since.lock().unwrap_or_else(PoisonError::into_inner) = are_open.then(Instant::now);
        self.settled_bytes.store(self.state_bytes().0, Ordering::Relaxed);
    }

    /// For how long no epoch has ended though one is open.
    pub(crate) fn open_for(&self) -> Duration {
        let open = *self.open_since.lock().unwrap_or_else(PoisonError::into_inner);
        open.map_or(Duration::ZERO, |open| open.elapsed())
    }

    /// Bytes of its state in memory.
    pub(crate) fn state_bytes(&self) -> Bytes {
        Bytes(self.counters.state_bytes.load(Ordering::Relaxed))
    }

    /// What has left memory meanwhile counts no more.
    pub(crate) fn settle_less(&self) {
        self.settled_bytes.fetch_min(self.state_bytes().0, Ordering::Relaxed);
    }

    /// So much more, modulo 2^64, is no growth but what is restored.
    pub(crate) fn settle_more(&self, bytes: u64) {
        self.settled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// By how much its state has grown since an epoch ended last.
    pub(crate) fn grown(&self) -> Bytes {
        let settled = self.settled_bytes.load(Ordering::Relaxed);
        Bytes(self.state_bytes().0.saturating_sub(settled))
    }

    /// For how long no epoch has ended though one is open, from `since` on.
    pub(crate) fn stalled_for(&self, since: Instant) -> Duration {
        let open = *self.open_since.lock().unwrap_or_else(PoisonError::into_inner);
        open.map_or(Duration::ZERO, |open| open.max(since).elapsed())
    }

    /// From now on, the clock can be woken.
    pub(crate) fn set_clock(&self, wake: Wake) {
        *self.wake_clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Lets the clock look again, from any thread: after a request, or when something is over.
    pub(crate) fn wake_clock(&self) {
        if let Some(wake) = self.wake_clock.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            wake();
        }
    }

    /// Asks the clock for a checkpoint that makes pages clean.
    pub(crate) fn want_checkpoint(&self) {
        self.wants_checkpoint.store(true, Ordering::Relaxed);
        self.wake_clock();
    }

    /// Whether it failed; operators look before they do anything.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Keeps the first reason and tells it.
    pub(crate) fn fail(&self, operator: &str, reason: &str) {
        self.end(format!("{operator}: {reason}"), true, Cause::Other);
    }

    /// Fails it as its open epoch takes too much memory.
    pub(crate) fn fail_of_memory(&self, reason: String) {
        self.end(reason, true, Cause::Memory);
    }

    /// The same, when trying again would do harm.
    pub(crate) fn fail_for_good(&self, operator: &str, reason: &str) {
        self.end(format!("{operator}: {reason}"), false, Cause::Other);
    }

    fn end(&self, reason: String, retry: bool, cause: Cause) {
        let mut kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_some() {
            return;
        }
        *kept = Some(reason.clone());
        self.failed.store(true, Ordering::Release);
        drop(kept);
        (self.on_failure)(Failure { reason, retry, cause });
    }

    /// Runs one step of an operator. An error or a panic fails this run alone.
    /// Gives `None` when the run has failed, now or before.
    pub(crate) fn step<T>(&self, operator: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.has_failed() {
            return None;
        }
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                let cause = match error {
                    Error::Expression { .. } => Cause::Row(operator.to_owned()),
                    _ => Cause::Other,
                };
                self.end(format!("{operator}: {error}"), true, cause);
                None
            }
            Err(panic) => {
                self.fail(operator, &format!("panicked: {}", message_of(panic.as_ref())));
                None
            }
        }
    }
}

/// Calls a connector where nothing else would catch its panic.
pub(crate) fn caught<T>(object: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |panic: Box<dyn std::any::Any + Send>| {
        Err(Error::connector(object, format!("panicked: {}", message_of(panic.as_ref()))))
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(panicked)
}

/// The text of a panic.
pub(crate) fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_kept_and_told_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let on_failure: OnFailure =
            Box::new(move |failure: Failure| telling.lock().expect("one thread").push(failure.reason));
        let run = Run::new("p".into(), Arc::default(), on_failure);
        assert_eq!(run.step("map", || Ok(1)), Some(1));
        assert_eq!(run.step("map", || -> Result<()> { panic!("boom {}", 7) }), None);
        assert_eq!(run.step("map", || -> Result<()> { Err(Error::Plan("later".into())) }), None);
        assert!(run.has_failed());
        assert_eq!(*told.lock().expect("one thread"), ["map: panicked: boom 7"]);
    }
}
