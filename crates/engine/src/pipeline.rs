//! Pipelines as their owners see them, and how they are kept running.
//!
//! A [`Pipeline`] is a handle: it asks the control of the current run and waits for answers. A
//! failed run is dropped on all workers and begun again from its last checkpoint after a pause that
//! doubles from one second to thirty. Invariant: at most one run of a pipeline exists.

mod keeping;
mod memory;
mod metrics;
mod reading;

pub(crate) use memory::{INTERVAL as MEMORY_INTERVAL, MemoryWatch, reserve as memory_reserve};
pub use metrics::Metrics;
pub(crate) use reading::finish;
pub use reading::{BegunScan, OpenScan, Scan, Subscription, ViewReader};

use crate::cancel::Cancel;
use crate::checkpointing::{CheckpointReport, CheckpointSettings, History};
use crate::control::{Reaching, Request};
use crate::error::{Error, Result};
use crate::fill::Fill;
use crate::lost;
use crate::metrics::Counters;
use crate::plan::{Operator, Plan};
use crate::reads::Reads;
use crate::run::{Event, Facilities, PipelineSpec, RunSetup, RunSpec, prepare};
use crate::runtime::Workers;
use crate::saved::Saved;
use crate::shared::{Cause, FailingDelivery, Run, caught};
use crate::snapshot::Shipping;
use crate::source::Extent;
use highwater_checkpoint::{Store, Trigger};
use highwater_core::StoreId;
use highwater_state::FileNumber;
use keeping::STOP_PATIENCE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often who waits is asked for their patience.
const LOOK_UP: Duration = Duration::from_millis(20);
/// How long a stop waits for open epochs of which none ends.
const EPOCH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a stop without a checkpoint waits for the end of open epochs, and for what is published to be delivered.
const DROP_PATIENCE: Duration = Duration::from_secs(1);
const DELIVERY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a new run waits for what the run before still does in the background.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(30);
/// How long who asks a run that ends waits to be told why.
const ENDING: Duration = Duration::from_secs(1);

/// What a pipeline is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its dataflow is being made.
    Starting,
    /// It runs.
    Running,
    /// All input has ended, and everything is checkpointed and delivered. It can be read.
    Finished,
    /// It failed and will be restarted from its last checkpoint.
    Failed {
        /// Why.
        reason: String,
        /// How often it was restarted since it was last healthy.
        restarts: u32,
    },
    /// Another process has taken it over, and it is not restarted here.
    Lost {
        /// How that was learned.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// A pipeline; cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
    owner: Weak<Pipelines>,
    /// What people call it, where that is not its name.
    title: Option<Arc<str>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

struct Inner {
    name: String,
    spec: Mutex<PipelineSpec>,
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<Counters>,
    history: History,
    reads: Reads,
    restarts: AtomicU64,
    /// Held while a run is begun; true once it is stopped for good.
    gone: Mutex<bool>,
    /// Of the run that is being begun.
    cancel: Cancel,
    /// Whether a run has ever claimed it in the root.
    claimed: Arc<AtomicBool>,
}

struct State {
    status: Status,
    run: Option<CurrentRun>,
    /// Workers on which the run has not ended.
    alive: usize,
    began: Instant,
    restart_at: Option<Instant>,
    failures: u32,
    /// What made the last run fail.
    cause: Cause,
    /// It was stopped, and its final checkpoint not made in time.
    is_unsaved: bool,
}

struct CurrentRun {
    spec: Arc<RunSpec>,
    requests: Sender<Request>,
}

impl Inner {
    fn new(spec: PipelineSpec) -> Self {
        Self {
            name: spec.name.clone(),
            spec: Mutex::new(spec),
            state: Mutex::new(State {
                status: Status::Starting,
                run: None,
                alive: 0,
                began: Instant::now(),
                restart_at: None,
                failures: 0,
                cause: Cause::Other,
                is_unsaved: false,
            }),
            changed: Condvar::new(),
            counters: Arc::default(),
            history: History::default(),
            reads: Reads::default(),
            restarts: AtomicU64::new(0),
            gone: Mutex::new(false),
            cancel: Cancel::default(),
            claimed: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, status: Status) {
        self.state().status = status;
        self.changed.notify_all();
    }

    fn not_running(&self, reason: impl Into<String>) -> Error {
        Error::NotRunning { pipeline: self.name.clone(), reason: reason.into() }
    }

    /// Why there is no run.
    fn why_not(&self) -> String {
        match &self.state().status {
            Status::Failed { reason, .. } | Status::Lost { reason } => reason.clone(),
            other => format!("it is {other:?}").to_lowercase(),
        }
    }

    /// Asks the control of the current run.
    fn ask(&self, request: Request) -> Result<()> {
        let state = self.state();
        let Some(run) = &state.run else {
            return Err(self.not_running(match &state.status {
                Status::Failed { reason, .. } | Status::Lost { reason } => reason.clone(),
                other => format!("it is {other:?}").to_lowercase(),
            }));
        };
        if run.requests.send(request).is_ok() {
            run.spec.run.wake_clock();
            return Ok(());
        }
        drop(state);
        // Nobody hears requests any more: why is told as soon as the run has ended.
        self.wait_until(Some(ENDING), |state| state.alive == 0);
        let state = self.state();
        Err(self.not_running(match &state.status {
            Status::Failed { reason, .. } | Status::Lost { reason } => reason.as_str(),
            _ => "it is ending",
        }))
    }

    fn wait_until(&self, patience: Option<Duration>, over: impl Fn(&State) -> bool) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        while !over(&state) {
            let slice = deadline.map_or(Duration::from_secs(1), |at| at.saturating_duration_since(Instant::now()));
            if slice.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until a run ends that was asked to, at `since`: for its final checkpoint, but not for ever for an epoch
    /// that does not end; without one only for a moment, and for deliveries.
    fn wait_for_end(&self, checkpoint: bool, since: Instant) -> Result<()> {
        let over = |state: &State| state.run.is_none() || state.alive == 0;
        let spec = self.state().run.as_ref().map(|run| Arc::clone(&run.spec));
        let Some(spec) = spec else { return self.check_saved() };
        let is_delivering = || spec.undelivered() > spec.run.stuck() && since.elapsed() < DELIVERY_PATIENCE;
        while !self.wait_until(Some(LOOK_UP), over) {
            if !checkpoint && !is_delivering() && since.elapsed() >= DROP_PATIENCE {
                break;
            }
            if spec.run.stalled_for(since) >= EPOCH_PATIENCE {
                let pipeline = &self.name;
                tracing::warn!(pipeline, "stopped in a long epoch: it goes on from its newest checkpoint");
                break;
            }
            if since.elapsed() >= STOP_PATIENCE {
                self.state().is_unsaved = true;
                break;
            }
        }
        self.check_saved()
    }

    /// Whether a final checkpoint was given up, also when others have stopped it before.
    fn check_saved(&self) -> Result<()> {
        if self.state().is_unsaved {
            return Err(Error::Timeout(format!("{} did not end in {STOP_PATIENCE:?}", self.name)));
        }
        Ok(())
    }
}

impl Pipeline {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What this handle calls it for people; its name unless it was told otherwise.
    #[must_use]
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.inner.name)
    }

    /// The same with another title; handles that are there keep theirs.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        Self { title: Some(title.into()), ..self }
    }

    /// How far the source goes that goes farthest; none when it reads none. Tables do not count.
    #[must_use]
    pub fn extent(&self) -> Option<Extent> {
        let spec = self.inner.spec.lock().unwrap_or_else(PoisonError::into_inner);
        let extents = spec.plan.nodes.iter().filter_map(|node| match &node.operator {
            Operator::Source(source) => Some(source.extent()),
            _ => None,
        });
        extents.max()
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.state().status.clone()
    }

    /// Waits until all backfills are over and every view shows the log of changes up to `position`;
    /// false when `patience`, which is asked every so often, says that it is over. At once true of a
    /// pipeline that reads no such log.
    ///
    /// # Errors
    /// `NotRunning` when it fails or stops meanwhile.
    pub fn wait_reached(&self, position: u64, patience: impl FnMut() -> bool) -> Result<bool> {
        self.wait_reached_beside(position, &[], patience)
    }

    /// The same, but for the backfills of some objects, given by the names that its operators know them by; not
    /// of the first one, whose backfill is the pipeline's.
    ///
    /// # Errors
    /// As [`Pipeline::wait_reached`].
    pub fn wait_reached_beside(
        &self,
        position: u64,
        objects: &[String],
        patience: impl FnMut() -> bool,
    ) -> Result<bool> {
        self.reach(Some(position), objects, patience)
    }

    /// Waits until what is new to the pipeline has been given what there was before it, but for some objects, as
    /// [`Pipeline::wait_reached_beside`]; false when `patience` is over.
    ///
    /// # Errors
    /// `NotRunning` when it fails or stops meanwhile.
    pub fn wait_filled(&self, objects: &[String], patience: impl FnMut() -> bool) -> Result<bool> {
        if self.is_filled() { Ok(true) } else { self.reach(None, objects, patience) }
    }

    /// Whether all that is new to the pipeline has been given what there was before it.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.inner.state().run.as_ref().is_some_and(|run| run.spec.run.is_filled.load(Relaxed))
    }

    fn reach(&self, position: Option<u64>, objects: &[String], patience: impl FnMut() -> bool) -> Result<bool> {
        let (reply, answer) = channel();
        let beside = self.read_by(objects);
        self.inner.ask(Request::Reach(Reaching { position, beside, reply }))?;
        Ok(self.wait_for(&answer, patience)?.is_some())
    }

    /// The nodes by which objects other than the first read what they are made of, such as `w:t/source`, and the
    /// fills that are for them alone.
    fn read_by(&self, objects: &[String]) -> BTreeSet<usize> {
        if objects.is_empty() {
            return BTreeSet::new();
        }
        let is_of = |name: &str, starts: &[char]| {
            let rest =
                |object: &String| name.strip_prefix(object.as_str()).is_some_and(|rest| rest.starts_with(starts));
            objects.iter().any(rest)
        };
        let is_for = |fill: &Fill| fill.operators.iter().all(|(name, _)| is_of(name, &['/', ':']));
        let fills: Vec<usize> = {
            let state = self.inner.state();
            let fills = state.run.iter().flat_map(|run| run.spec.fills());
            fills.filter(|(_, fill)| is_for(fill)).map(|(number, _)| number).collect()
        };
        let spec = self.inner.spec.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = spec.plan.nodes.iter().enumerate().filter(|(_, node)| is_of(&node.name, &[':']));
        nodes.map(|(at, _)| at).chain(fills).collect()
    }

    /// Whether the other handle is of the same pipeline, and not of one of its name before or after it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Waits until an epoch that begins from now on is complete in every view; false when `patience`,
    /// which is asked every so often, says that it is over.
    ///
    /// # Errors
    /// `NotRunning` when it fails or stops meanwhile.
    pub fn wait_epoch(&self, patience: impl FnMut() -> bool) -> Result<bool> {
        let (reply, answer) = channel();
        self.inner.ask(Request::Epoch(reply))?;
        Ok(self.wait_for(&answer, patience)?.is_some())
    }

    /// Waits until every source has ended and every view shows all its rows; tables do not count. False
    /// when `patience`, which is asked every so often, says that it is over.
    ///
    /// # Errors
    /// `NotRunning` when it fails or stops meanwhile.
    pub fn wait_drained(&self, patience: impl FnMut() -> bool) -> Result<bool> {
        let (reply, answer) = channel();
        self.inner.ask(Request::Drained(reply))?;
        Ok(self.wait_for(&answer, patience)?.is_some())
    }

    fn wait_for<T>(&self, answer: &Receiver<T>, mut patience: impl FnMut() -> bool) -> Result<Option<T>> {
        loop {
            match answer.recv_timeout(LOOK_UP) {
                Ok(told) => return Ok(Some(told)),
                Err(RecvTimeoutError::Timeout) if patience() => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    // Its run has ended; the reason is told in a moment.
                    self.inner.wait_until(Some(Duration::from_secs(5)), |state| state.run.is_none());
                    return Err(self.inner.not_running(self.inner.why_not()));
                }
            }
        }
    }

    /// Whether sinks are still to get what is published, those left out whose deliveries fail or hang. What a
    /// checkpoint has published counts once an epoch has begun and ended since.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        let state = self.inner.state();
        state.run.as_ref().is_some_and(|run| run.spec.undelivered() > run.spec.run.stuck())
    }

    /// The sinks that were given more than the checkpoint had from which the pipeline went on, now or in an earlier
    /// run, by their nodes, and what happened: rows may be in their targets twice, and some that are gone may have
    /// stayed.
    #[must_use]
    pub fn sinks_ahead(&self) -> Vec<(String, String)> {
        let state = self.inner.state();
        let ahead = state.run.iter().flat_map(|run| &run.spec.ahead);
        ahead.map(|(sink, ahead)| (sink.clone(), ahead.to_string())).collect()
    }

    /// Deliveries that have failed several times in a row, or of which one has not ended for 30 seconds.
    #[must_use]
    pub fn failing_deliveries(&self) -> Vec<FailingDelivery> {
        self.inner.state().run.as_ref().map_or_else(Vec::new, |run| run.spec.run.failing())
    }

    /// The operator whose expression could not be computed for a row, when that is why it has failed.
    #[must_use]
    pub fn failed_at_row(&self) -> Option<String> {
        let state = self.inner.state();
        match (&state.status, &state.cause) {
            (Status::Failed { .. }, Cause::Row(operator)) => Some(operator.clone()),
            _ => None,
        }
    }

    /// Whether it has failed as an epoch of it took too much memory.
    #[must_use]
    pub fn failed_of_memory(&self) -> bool {
        let state = self.inner.state();
        matches!(state.status, Status::Failed { .. }) && state.cause == Cause::Memory
    }

    /// Why the newest row was left out that was, of those since this process began the pipeline.
    #[must_use]
    pub fn last_failed_row(&self) -> Option<String> {
        self.inner.counters.last_failed_row.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a checkpoint and waits until it is published or has failed.
    ///
    /// # Errors
    /// `NotRunning` when the pipeline has failed or stopped.
    pub fn checkpoint(&self, trigger: Trigger) -> Result<CheckpointReport> {
        let (reply, answer) = channel();
        self.inner.ask(Request::Checkpoint(trigger, reply))?;
        answer.recv().map_err(|_| self.inner.not_running("it failed or stopped before the checkpoint was made"))
    }

    /// The same; none when `patience`, which is asked every so often, says that it is over.
    ///
    /// # Errors
    /// As [`Pipeline::checkpoint`].
    pub fn checkpoint_while(
        &self,
        trigger: Trigger,
        patience: impl FnMut() -> bool,
    ) -> Result<Option<CheckpointReport>> {
        let (reply, answer) = channel();
        self.inner.ask(Request::Checkpoint(trigger, reply))?;
        self.wait_for(&answer, patience)
    }

    /// Changes when it is checkpointed, from now on.
    ///
    /// # Errors
    /// `NotRunning` when it has failed or stopped.
    pub fn set_checkpoints(&self, settings: CheckpointSettings) -> Result<()> {
        self.inner.spec.lock().unwrap_or_else(PoisonError::into_inner).settings = settings.clone();
        self.inner.ask(Request::Settings(settings))
    }

    /// Takes no more rows, or goes on; from now on, also when it is restarted after a failure.
    ///
    /// # Errors
    /// `NotRunning` when it has failed or stopped; one that has failed is restarted so.
    pub fn pause(&self, paused: bool) -> Result<()> {
        self.inner.spec.lock().unwrap_or_else(PoisonError::into_inner).paused = paused;
        self.inner.ask(Request::Pause(paused))
    }

    /// Its checkpoints of this process, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<CheckpointReport> {
        self.inner.history.reports()
    }

    /// Waits until all input has ended and is checkpointed and delivered; false after `timeout`.
    ///
    /// # Errors
    /// `NotRunning` when it is stopped meanwhile.
    pub fn wait_finished(&self, timeout: Option<Duration>) -> Result<bool> {
        let over = |state: &State| matches!(state.status, Status::Finished | Status::Stopped | Status::Lost { .. });
        let finished = self.inner.wait_until(timeout, over);
        if matches!(self.status(), Status::Stopped | Status::Lost { .. }) {
            return Err(self.inner.not_running(self.inner.why_not()));
        }
        Ok(finished)
    }

    /// Stops it, after a final checkpoint if asked for. A stop never depends on that checkpoint, nor on an epoch
    /// that takes long.
    ///
    /// # Errors
    /// `Timeout` when the final checkpoint was not made in time; the pipeline is stopped all the
    /// same, and goes on from the checkpoint before.
    pub fn stop(&self, final_checkpoint: bool) -> Result<()> {
        let Some(owner) = self.owner.upgrade() else { return Ok(()) };
        owner.stop(&self.inner, final_checkpoint, Instant::now())
    }

    /// Stops it and removes all it has, here and in the root.
    ///
    /// # Errors
    /// When an object cannot be removed, or the root that had its checkpoints has none; call it again.
    pub fn delete(&self) -> Result<()> {
        let Some(owner) = self.owner.upgrade() else { return Ok(()) };
        owner.stop(&self.inner, false, Instant::now())?;
        owner.delete(&self.inner.name, || true).map(|_| ())
    }
}

/// What is left of a run.
struct LastRun {
    /// What it ships with, as long as it does.
    shipping: Weak<Shipping>,
    /// Whose pages it has in the page store.
    pages: StoreId,
}

/// Gives up what a run that is over still uploads.
fn give_up(last: Option<&Weak<Shipping>>) {
    if let Some(shipping) = last.and_then(Weak::upgrade) {
        shipping.over.cancel();
    }
}

/// All pipelines of an engine.
pub(crate) struct Pipelines {
    facilities: Facilities,
    workers: Workers,
    events: Sender<Event>,
    all: Mutex<BTreeMap<String, Arc<Inner>>>,
    /// The last run of each pipeline, by name.
    last_runs: Mutex<BTreeMap<String, LastRun>>,
    next_run: AtomicU64,
    /// Cancelled when the engine ends.
    ending: Cancel,
    /// Threads that begin failed pipelines anew.
    restarts: Mutex<Vec<JoinHandle<()>>>,
}

impl Pipelines {
    pub(crate) fn new(facilities: Facilities, workers: Workers, events: Sender<Event>) -> Self {
        Self {
            facilities,
            workers,
            events,
            all: Mutex::default(),
            last_runs: Mutex::default(),
            next_run: AtomicU64::new(0),
            ending: Cancel::default(),
            restarts: Mutex::default(),
        }
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.facilities.store
    }

    pub(crate) fn page_store(&self) -> &highwater_state::PageStore {
        &self.facilities.pages
    }

    pub(crate) const fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(crate) fn wait_for<F: Future>(&self, future: F) -> F::Output {
        self.facilities.background.wait_for(future)
    }

    /// Waits for what the root tells of a pipeline, until the engine ends; none when `patience` is over.
    pub(crate) fn wait_for_root<T>(
        &self,
        pipeline: &str,
        answer: impl Future<Output = highwater_checkpoint::Result<T>>,
        patience: impl FnMut() -> bool,
    ) -> Result<Option<T>> {
        self.ending.wait_while(&self.facilities.background, pipeline, answer, patience)
    }

    pub(crate) fn published_to(&self, pipeline: &str) -> Option<String> {
        lost::published_to(&self.facilities.folder(pipeline))
    }

    pub(crate) const fn ending(&self) -> &Cancel {
        &self.ending
    }

    pub(crate) fn saved(
        &self,
        pipeline: &str,
        plan: &Plan,
        views: &[String],
        patience: impl FnMut() -> bool,
    ) -> Result<Option<Saved>> {
        let view = |name: &String| plan.views.iter().find(|view| view.name == *name);
        let found = views.iter().map(|n| view(n).ok_or_else(|| Error::Plan(format!("{pipeline} has no view {n}"))));
        let found = found.collect::<Result<Vec<_>>>()?;
        crate::saved::read((pipeline, plan, found.as_slice()), &self.facilities, &self.ending, patience)
    }

    /// The runs that have not failed.
    fn runs(&self) -> Vec<Arc<Run>> {
        let all = self.all();
        let runs = all.values().filter_map(|inner| Some(Arc::clone(&inner.state().run.as_ref()?.spec.run)));
        runs.filter(|run| !run.has_failed()).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Inner>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create(self: &Arc<Self>, spec: PipelineSpec) -> Result<Pipeline> {
        self.create_as(&Arc::new(Inner::new(spec)))
    }

    fn create_as(self: &Arc<Self>, inner: &Arc<Inner>) -> Result<Pipeline> {
        // Who stops all waits for it.
        let begun = inner.gone.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut all = self.all();
            self.ending.check(&inner.name)?;
            if all.contains_key(&inner.name) {
                return Err(Error::Plan(format!("a pipeline named {} exists", inner.name)));
            }
            all.insert(inner.name.clone(), Arc::clone(inner));
        }
        // Its place is free again whatever happens.
        if let Err(error) = caught(&inner.name, || self.begin(inner)) {
            self.all().remove(&inner.name);
            return Err(error);
        }
        drop(begun);
        Ok(Pipeline { inner: Arc::clone(inner), owner: Arc::downgrade(self), title: None })
    }

    /// Begins a run from the newest checkpoint.
    fn begin(&self, inner: &Arc<Inner>) -> Result<()> {
        let id = self.next_run.fetch_add(1, Relaxed);
        let events = self.events.clone();
        let on_failure = Box::new(move |failure| {
            // Nobody listens when the process is going down.
            let _ = events.send(Event::Failed { run: id, failure });
        });
        let run = Arc::new(Run::new(inner.name.clone(), Arc::clone(&inner.counters), on_failure));
        let (requests, asked) = channel();
        let told = Arc::downgrade(inner);
        let finished = Box::new(move |finished: bool| {
            if let Some(inner) = told.upgrade() {
                inner.set(if finished { Status::Finished } else { Status::Running });
            }
        });
        let setup = RunSetup {
            id,
            run,
            reads: inner.reads.clone(),
            history: inner.history.clone(),
            requests: asked,
            events: self.events.clone(),
            finished,
            cancel: inner.cancel.clone(),
            claimed: Arc::clone(&inner.claimed),
        };
        let spec = inner.spec.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (paused, settings) = (spec.paused, spec.settings.clone());
        self.wait_for_last_run(&inner.name, &inner.cancel)?;
        let spec = Arc::new(prepare(&spec, &self.facilities, setup)?);
        // Also of a run that does not begin, as its pages are there.
        let this = LastRun { shipping: Arc::downgrade(&spec.shipping), pages: spec.shipping.store };
        let before = self.last_runs().insert(inner.name.clone(), this);
        if let Some(before) = before.filter(|before| before.pages != spec.shipping.store) {
            self.drop_pages(&inner.name, before.pages);
        }
        inner.cancel.check(&inner.name)?;
        inner.reads.reopen();
        {
            let mut state = inner.state();
            state.run = Some(CurrentRun { spec: Arc::clone(&spec), requests });
            state.alive = spec.workers();
            state.began = Instant::now();
            state.restart_at = None;
            state.status = Status::Running;
        }
        inner.changed.notify_all();
        self.workers.create(&spec);
        // Meanwhile there was no run that could be told. One that has ended by now is begun again so.
        let (is_paused, are_set) = {
            let now = inner.spec.lock().unwrap_or_else(PoisonError::into_inner);
            (now.paused, now.settings.clone())
        };
        if is_paused != paused {
            let _ = inner.ask(Request::Pause(is_paused));
        }
        if are_set != settings {
            let _ = inner.ask(Request::Settings(are_set));
        }
        Ok(())
    }

    /// A run that has ended may still write and upload in the background, under numbers that the
    /// next run will use again. What it uploads is given up: nobody will publish it.
    fn wait_for_last_run(&self, name: &str, cancel: &Cancel) -> Result<()> {
        let deadline = Instant::now() + HANDOVER_PATIENCE;
        let last = self.last_runs().get(name).map(|last| Weak::clone(&last.shipping));
        give_up(last.as_ref());
        while last.as_ref().is_some_and(|last| last.strong_count() > 0) {
            if Instant::now() >= deadline {
                return Err(Error::Timeout(format!("the last run of {name} still writes its checkpoint")));
            }
            cancel.check(name)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn last_runs(&self) -> MutexGuard<'_, BTreeMap<String, LastRun>> {
        self.last_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what a run that is over has in the page store, which nobody reads any more.
    fn drop_pages(&self, name: &str, pages: StoreId) {
        let all = FileNumber::from_u64(0)..=FileNumber::from_u64(u64::MAX);
        if let Err(error) = self.facilities.pages.drop_files(pages, all) {
            tracing::warn!(pipeline = name, %error, "files of the page store could not be dropped");
        }
    }

    /// Whether all that a pipeline had is removed; not when `patience`, which is asked every so often, is over before
    /// the root has answered.
    pub(crate) fn delete(&self, name: &str, patience: impl FnMut() -> bool) -> Result<bool> {
        // It must not write what is removed once more.
        self.wait_for_last_run(name, &self.ending)?;
        let last = self.last_runs().remove(name);
        if let Some(last) = last {
            self.drop_pages(name, last.pages);
        }
        let io = |source| Error::Io { what: format!("remove {name}"), source };
        let folder = self.facilities.folder(name);
        lost::note_dropped(&folder).map_err(io)?;
        let store = &self.facilities.store;
        // The root has it, which is all that the note is for. A removal that is given up at its end is found done.
        let found = || {
            if let Err(error) = lost::note_removed(&folder) {
                tracing::warn!(pipeline = name, %error, "the note of what the root has of it could not be removed");
            }
        };
        let deleting = highwater_checkpoint::inspect::delete(store, name, found);
        let Some(was_there) = self.wait_for_root(name, deleting, patience)? else { return Ok(false) };
        if !was_there && lost::has_left(&folder, store.root().url()) {
            return Err(lost::still_left(name, &folder, store.root().url()));
        }
        lost::note_removed(&folder).map_err(io)?;
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io)?;
        }
        Ok(true)
    }
}
