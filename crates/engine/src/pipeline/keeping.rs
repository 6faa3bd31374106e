//! How pipelines are kept running, and how they end.
//!
//! The supervisor takes up what happens to runs, one event after the other, and never waits for the
//! checkpoint root: a restart has a thread of its own. Invariants: a pipeline is restarted by one thread at a
//! time; until its new run is there it counts as failed, with the reason; once it is stopped for good no run
//! of it begins.

use super::{Inner, LOOK_UP, Pipeline, Pipelines, Status, give_up};
use crate::control::Request;
use crate::error::{Error, Result};
use crate::run::{Event, PipelineSpec};
use crate::shared::{Cause, Failure, caught};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a clean stop waits for final checkpoints.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// How long an ending engine waits for its background work.
const LET_GO_PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause before a failed pipeline is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A run that lasted this long was healthy: the next failure begins with a short pause.
const HEALTHY: Duration = Duration::from_secs(60);
/// Restarts at the same time: they mostly wait for the checkpoint root.
const RESTARTS: usize = 32;
/// How often who waits without being woken looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5)).min(LONGEST_PAUSE)
}

impl Inner {
    /// Has no run begun any more, and waits until none is being begun; false when one still is at the deadline.
    fn begin_no_more(&self, deadline: Option<Instant>) -> bool {
        self.cancel.cancel();
        loop {
            match self.gone.try_lock() {
                Ok(mut gone) => *gone = true,
                Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = true,
                Err(TryLockError::WouldBlock) if deadline.is_some_and(|at| Instant::now() >= at) => return false,
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
            }
            return true;
        }
    }

    /// A restart has failed: there will be another one.
    fn put_off(&self, error: &Error) {
        let mut state = self.state();
        let pause = pause_after(state.failures);
        tracing::error!(pipeline = self.name, %error, retry_in = ?pause, "the restart failed");
        state.failures += 1;
        state.restart_at = Some(Instant::now() + pause);
        state.cause = Cause::Other;
        state.status = Status::Failed { reason: error.to_string(), restarts: state.failures - 1 };
        drop(state);
        self.changed.notify_all();
    }
}

impl Pipelines {
    fn with_run(&self, run: u64) -> Option<Arc<Inner>> {
        let is_its = |inner: &&Arc<Inner>| inner.state().run.as_ref().is_some_and(|current| current.spec.id == run);
        self.all().values().find(is_its).cloned()
    }

    /// Takes up what happened to a run; false when nothing happens any more.
    pub(crate) fn happened(&self, event: Event) -> bool {
        match event {
            Event::Ended { run } => {
                if let Some(inner) = self.with_run(run) {
                    let mut state = inner.state();
                    state.alive -= 1;
                    drop(state);
                    inner.changed.notify_all();
                }
            }
            Event::Failed { run, failure } => {
                if let Some(inner) = self.with_run(run) {
                    self.failed(&inner, run, failure);
                }
            }
            Event::Over => return false,
        }
        true
    }

    fn failed(&self, inner: &Inner, run: u64, failure: Failure) {
        let Failure { reason, retry, cause } = failure;
        tracing::error!(pipeline = inner.name, reason, "the pipeline failed");
        self.workers.drop_run(run);
        inner.reads.close(&reason);
        let mut state = inner.state();
        state.run = None;
        state.alive = 0;
        if state.began.elapsed() >= HEALTHY {
            state.failures = 0;
        }
        // Others are to have the memory for a while.
        let pause = if cause == Cause::Memory { LONGEST_PAUSE } else { pause_after(state.failures) };
        state.cause = cause;
        state.failures += 1;
        if retry {
            state.restart_at = Some(Instant::now() + pause);
            state.status = Status::Failed { reason, restarts: state.failures - 1 };
        } else {
            state.status = Status::Lost { reason };
        }
        drop(state);
        inner.changed.notify_all();
    }

    fn restarts(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts that are under way.
    fn restarting(&self) -> usize {
        let mut restarts = self.restarts();
        for over in restarts.extract_if(.., |restart| restart.is_finished()) {
            // A panic was caught and told.
            let _ = over.join();
        }
        restarts.len()
    }

    /// Restarts the failed pipelines whose pause is over, as far as not many others are being restarted.
    pub(crate) fn restart_due(self: &Arc<Self>) {
        let room = RESTARTS.saturating_sub(self.restarting());
        if room == 0 || self.ending.is_cancelled() {
            return;
        }
        let now = Instant::now();
        let is_due = |inner: &&Arc<Inner>| inner.state().restart_at.is_some_and(|at| at <= now);
        let mut due: Vec<Arc<Inner>> = self.all().values().filter(is_due).cloned().collect();
        due.sort_by_key(|inner| inner.state().restart_at);
        for inner in due.into_iter().take(room) {
            inner.state().restart_at = None;
            let (pipelines, restarted) = (Arc::clone(self), Arc::clone(&inner));
            let thread = std::thread::Builder::new().name("hw-restart".into());
            match thread.spawn(move || pipelines.restart(&restarted)) {
                Ok(restart) => self.restarts().push(restart),
                Err(source) => inner.put_off(&Error::Io { what: "start a thread".into(), source }),
            }
        }
    }

    fn restart(&self, inner: &Arc<Inner>) {
        let gone = inner.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if *gone || inner.cancel.is_cancelled() {
            return;
        }
        inner.restarts.fetch_add(1, Relaxed);
        tracing::info!(pipeline = inner.name, "restarting from the last checkpoint");
        if let Err(error) = caught(&inner.name, || self.begin(inner))
            && !inner.cancel.is_cancelled()
        {
            inner.put_off(&error);
        }
    }

    /// Creates a pipeline as long as `patience` lasts, which is told whether the root has answered; none when it is
    /// over before its dataflow runs.
    pub(crate) fn create_while(
        self: &Arc<Self>,
        spec: PipelineSpec,
        mut patience: impl FnMut(bool) -> bool + Send + 'static,
    ) -> Result<Option<Pipeline>> {
        let inner = Arc::new(Inner::new(spec));
        let (cancel, claimed) = (inner.cancel.clone(), Arc::clone(&inner.claimed));
        let watch = self.facilities.background.handle().spawn(async move {
            while patience(claimed.load(Relaxed)) {
                tokio::time::sleep(LOOK_UP).await;
            }
            cancel.cancel();
        });
        let created = self.create_as(&inner);
        watch.abort();
        // Once it has ended it cancels nothing any more: that it was aborted is no error.
        let _ = self.wait_for(watch);
        if !inner.cancel.is_cancelled() || self.ending.is_cancelled() {
            return created.map(Some);
        }
        if created.is_ok() {
            self.stop(&inner, false, Instant::now())?;
        }
        Ok(None)
    }

    /// Stops a pipeline; what is waited for counts from `since`. A run that is being begun is given up.
    pub(super) fn stop(&self, inner: &Arc<Inner>, checkpoint: bool, since: Instant) -> Result<()> {
        inner.begin_no_more(None);
        self.end(inner, checkpoint, since)
    }

    fn end(&self, inner: &Arc<Inner>, checkpoint: bool, since: Instant) -> Result<()> {
        inner.state().restart_at = None;
        let ended = match inner.ask(Request::Stop { checkpoint }) {
            Ok(()) => inner.wait_for_end(checkpoint, since),
            Err(_) if checkpoint => inner.check_saved(),
            Err(_) => Ok(()),
        };
        let run = {
            let mut state = inner.state();
            // Who asks meanwhile is not told that it does not run as it is running.
            state.status = Status::Stopped;
            state.run.take()
        };
        if let Some(run) = run {
            self.workers.drop_run(run.spec.id);
        }
        inner.state().restart_at = None;
        inner.reads.close("it was stopped");
        inner.set(Status::Stopped);
        self.all().remove(&inner.name);
        ended
    }

    /// From now on no run is begun, those that are being begun are given up, and nothing is removed from the root.
    pub(crate) fn begin_no_more(&self) {
        self.ending.cancel();
        for inner in self.all().values() {
            inner.cancel.cancel();
        }
    }

    /// Stops all pipelines, all at the same time and by one deadline.
    pub(crate) fn stop_all(&self) -> Result<()> {
        self.begin_no_more();
        let since = Instant::now();
        let all: Vec<Arc<Inner>> = self.all().values().cloned().collect();
        for inner in &all {
            // Those that have failed have nothing to save.
            let _ = inner.ask(Request::Stop { checkpoint: true });
        }
        let mut first = Ok(());
        for inner in &all {
            let is_settled = inner.begin_no_more(Some(since + STOP_PATIENCE));
            let mut stopped = self.end(inner, true, since);
            if !is_settled && stopped.is_ok() {
                stopped = Err(Error::Timeout(format!("{} was being begun for {STOP_PATIENCE:?}", inner.name)));
            }
            if let Err(error) = &stopped {
                tracing::warn!(pipeline = inner.name, %error, "stopped without a final checkpoint");
            }
            first = first.and(stopped);
        }
        first
    }

    /// Has the supervisor end.
    pub(crate) fn supervise_no_more(&self) {
        // It may have ended.
        let _ = self.events.send(Event::Over);
    }

    /// Waits for restarts and background work that still have their hands on the folder of the page store, so
    /// that another engine can open it and the process can end; at last also for who else has these pipelines.
    /// To be called once the supervisor has ended; waits for a bounded time.
    pub(crate) fn let_go(self: &Arc<Self>, is_last: bool) {
        // Nobody will publish it, and it takes as long as bytes move.
        for last in self.last_runs().values() {
            give_up(Some(&last.shipping));
        }
        let deadline = Instant::now() + LET_GO_PATIENCE;
        let is_held = || {
            if self.restarting() > 0 {
                return true;
            }
            for inner in self.all().values() {
                inner.state().run = None;
            }
            Arc::strong_count(&self.facilities.pages) > 1 || (is_last && Arc::strong_count(self) > 1)
        };
        while is_held() {
            if Instant::now() >= deadline {
                tracing::warn!("work in the background did not end in {LET_GO_PATIENCE:?}");
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// No more restarts; what runs is dropped with the workers.
    pub(crate) fn abandon(&self) {
        self.begin_no_more();
        for inner in self.all().values() {
            inner.reads.close("the engine has ended");
        }
    }
}
