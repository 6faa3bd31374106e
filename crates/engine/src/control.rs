//! A pipeline's control on worker 0: it emits ticks and carries checkpoints through.
//!
//! It is the shell around `clock`'s decision: it gathers the facts (requests from outside, supplies
//! of sources, complete epochs, receipts, the result of a publication), and does what is decided.
//! Invariants: one checkpoint is in flight; a checkpoint is published only with the receipts of all
//! workers; what is published is told to the operators with the next tick.

use crate::checkpointing::{CheckpointReport, CheckpointSettings, Checkpointing, Published, Started};
use crate::clock::{Decision, Facts, Supply, decide};
use crate::error::Error;
use crate::shared::Run;
use crate::snapshot::Receipt;
use crate::tick::Tick;
use highwater_checkpoint::Trigger;
use highwater_core::{CheckpointId, Clock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// Epochs that may be unfinished.
const WINDOW: u64 = 4;
/// Rows that each source may emit on each worker a tick.
const TICK_ROWS: u32 = 32_768;
/// How long a clean stop waits for deliveries; they are in the final checkpoint anyway.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a pipeline's handle asks of its control.
#[derive(Debug)]
pub(crate) enum Request {
    /// A checkpoint now; the answer comes when it is published or has failed.
    Checkpoint(Trigger, Sender<CheckpointReport>),
    /// A snapshot for a read.
    Read(u64),
    Settings(CheckpointSettings),
    /// Take no more rows.
    Pause(bool),
    /// Take no more rows, make a final checkpoint if asked, end.
    Stop {
        checkpoint: bool,
    },
}

/// A source's supply on one worker, told to worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Supplied {
    pub(crate) worker: usize,
    pub(crate) source: usize,
    pub(crate) supply: SupplyTold,
    /// Whether rows were given since it was told last.
    pub(crate) gave_rows: bool,
}

/// A supply in a form that travels: waits are relative, as clocks differ between machines.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) enum SupplyTold {
    Ready,
    After(Duration),
    Waiting,
    Ended,
}

/// What the control wants done after it has looked.
pub(crate) enum Next {
    /// Send these ticks, the open epoch being this one afterwards.
    Tick(Tick),
    /// Come back after this time, or when woken.
    Wait(Option<Duration>),
    /// The pipeline has stopped: let go of the clock.
    End,
}

/// The control of one run.
pub(crate) struct Control {
    run: Arc<Run>,
    clock: Arc<dyn Clock>,
    requests: Receiver<Request>,
    checkpointing: Checkpointing,
    settings: CheckpointSettings,
    /// By worker and source.
    supplies: BTreeMap<(usize, usize), Supply>,
    /// How many supplies there will be; before that, sources are not known to have ended.
    expected: usize,
    next_epoch: u64,
    complete: u64,
    /// The monotonic time of the ticks that are not complete, oldest first.
    ticked: VecDeque<Duration>,
    checkpoint_at: Option<Duration>,
    /// After a failed checkpoint none is begun by itself before this.
    not_before: Duration,
    asked: Vec<(Trigger, Option<Sender<CheckpointReport>>)>,
    changed: bool,
    reads: Vec<u64>,
    to_publish: Option<CheckpointId>,
    undelivered: Arc<AtomicUsize>,
    paused: bool,
    stopping: Option<Stopping>,
    finished: Box<dyn Fn(bool) + Send>,
    told_finished: bool,
}

struct Stopping {
    since: Duration,
    /// The final checkpoint is still to be made.
    checkpoint: bool,
}

/// What a control is made of.
pub(crate) struct ControlSetup {
    pub(crate) run: Arc<Run>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) requests: Receiver<Request>,
    pub(crate) checkpointing: Checkpointing,
    pub(crate) settings: CheckpointSettings,
    pub(crate) sources: usize,
    pub(crate) workers: usize,
    pub(crate) undelivered: Arc<AtomicUsize>,
    /// Nothing was restored: a checkpoint of offsets is made at once.
    pub(crate) is_new: bool,
    /// Told whether all input has ended, is checkpointed and delivered.
    pub(crate) finished: Box<dyn Fn(bool) + Send>,
}

impl Control {
    pub(crate) fn new(setup: ControlSetup) -> Self {
        let asked = if setup.is_new { vec![(Trigger::Creation, None)] } else { Vec::new() };
        let now = setup.clock.monotonic();
        Self {
            run: setup.run,
            clock: setup.clock,
            requests: setup.requests,
            checkpointing: setup.checkpointing,
            checkpoint_at: setup.settings.interval.map(|interval| now + interval),
            settings: setup.settings,
            supplies: BTreeMap::new(),
            expected: setup.sources * setup.workers,
            next_epoch: 0,
            complete: 0,
            ticked: VecDeque::new(),
            not_before: Duration::ZERO,
            asked,
            changed: false,
            reads: Vec::new(),
            to_publish: None,
            undelivered: setup.undelivered,
            paused: false,
            stopping: None,
            finished: setup.finished,
            told_finished: false,
        }
    }

    /// A source told its supply.
    pub(crate) fn supplied(&mut self, told: &Supplied) {
        let now = self.clock.monotonic();
        let supply = match told.supply {
            SupplyTold::Ready => Supply::Ready,
            SupplyTold::After(wait) => Supply::At(now + wait),
            SupplyTold::Waiting => Supply::Waiting,
            SupplyTold::Ended => Supply::Ended,
        };
        self.changed |= told.gave_rows;
        self.supplies.insert((told.worker, told.source), supply);
    }

    /// All epochs before this one are complete on all workers.
    pub(crate) fn completed_before(&mut self, epoch: u64) {
        let now = self.clock.monotonic();
        while self.complete < epoch.min(self.next_epoch) {
            self.complete += 1;
            if let Some(ticked) = self.ticked.pop_front() {
                self.run.counters.epoch_time.record(now.saturating_sub(ticked));
                self.run.counters.epochs.fetch_add(1, Relaxed);
            }
        }
    }

    /// All workers' receipts of a checkpoint.
    pub(crate) fn receipts(&mut self, receipts: Vec<Receipt>) {
        let (keys, bytes) = receipts.iter().flat_map(|r| &r.operators).fold((0, 0), |(k, b), o| (k + o.2, b + o.3));
        self.run.counters.keys.store(keys, Relaxed);
        self.run.counters.state_bytes.store(bytes, Relaxed);
        if let Some(failed) = self.checkpointing.receive(receipts) {
            self.checkpoint_failed(failed);
        }
    }

    /// Looks at everything and says what is next. Call it until it wants to wait.
    pub(crate) fn look(&mut self) -> Next {
        self.take_requests();
        self.take_publication();
        let now = self.clock.monotonic();
        if self.may_end(now) {
            return Next::End;
        }
        self.ask_for_last_checkpoint();
        loop {
            match decide(&self.facts(now)) {
                Decision::Tick { rows, checkpoint } => return Next::Tick(self.tick(now, rows, checkpoint)),
                Decision::SkipCheckpoint => {
                    self.run.counters.skipped.fetch_add(1, Relaxed);
                    self.checkpoint_at = self.settings.interval.map(|interval| now + interval);
                }
                Decision::Wait(until) => {
                    let patience = self.stopping.as_ref().map(|_| Duration::from_millis(20));
                    let wait = until.map(|at| at.saturating_sub(now));
                    return Next::Wait(wait.into_iter().chain(patience).min());
                }
            }
        }
    }

    fn facts(&self, now: Duration) -> Facts {
        Facts {
            now,
            unfinished: self.next_epoch - self.complete,
            window: WINDOW,
            supply: self.supply(),
            paused: self.paused || self.stopping.is_some() || self.creating(),
            checkpoint_at: self.checkpoint_at,
            checkpoint_asked: !self.asked.is_empty(),
            checkpoint_running: self.checkpointing.is_running(),
            changed: self.changed,
            to_tell: self.to_publish.is_some() || !self.reads.is_empty(),
        }
    }

    /// The checkpoint of the very start holds offsets before any row.
    fn creating(&self) -> bool {
        self.asked.iter().any(|(trigger, _)| *trigger == Trigger::Creation)
    }

    fn supply(&self) -> Supply {
        let unknown = if self.supplies.len() < self.expected { Supply::Ready } else { Supply::Ended };
        self.supplies.values().fold(unknown, |all, one| all.and(*one))
    }

    fn tick(&mut self, now: Duration, rows: bool, checkpoint: bool) -> Tick {
        let published = self.to_publish.take();
        let checkpoint = checkpoint.then(|| self.start_checkpoint(now));
        let tick = Tick {
            epoch: self.next_epoch,
            wall: self.clock.wall(),
            max_rows: if rows { TICK_ROWS } else { 0 },
            checkpoint,
            published,
            reads: std::mem::take(&mut self.reads),
        };
        self.next_epoch += 1;
        self.ticked.push_back(now);
        tick
    }

    fn start_checkpoint(&mut self, now: Duration) -> CheckpointId {
        let asked = std::mem::take(&mut self.asked);
        let trigger = asked.first().map_or(Trigger::Interval, |(trigger, _)| *trigger);
        let replies = asked.into_iter().filter_map(|(_, reply)| reply).collect();
        self.changed = false;
        self.checkpoint_at = self.settings.interval.map(|interval| now + interval);
        let started = Started { at: now, wall: self.clock.wall(), epoch: self.next_epoch, trigger, replies };
        self.checkpointing.start(started)
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Checkpoint(trigger, reply) => self.asked.push((trigger, Some(reply))),
                Request::Read(read) => self.reads.push(read),
                Request::Pause(paused) => self.paused = paused,
                Request::Settings(settings) => {
                    let now = self.clock.monotonic();
                    self.checkpoint_at = settings.interval.map(|interval| now + interval);
                    self.checkpointing.set(&settings);
                    self.settings = settings;
                }
                Request::Stop { checkpoint } => {
                    self.stopping.get_or_insert(Stopping { since: self.clock.monotonic(), checkpoint });
                }
            }
        }
    }

    fn take_publication(&mut self) {
        match self.checkpointing.publication() {
            None => {}
            Some(Published::Done(id)) => {
                self.to_publish = Some(id);
                self.run.counters.published.fetch_add(1, Relaxed);
            }
            Some(Published::Failed(error)) => self.checkpoint_failed(error),
        }
    }

    /// Nothing is lost: the changes belong to the next checkpoint.
    fn checkpoint_failed(&mut self, error: Error) {
        self.changed = true;
        self.run.counters.failed.fetch_add(1, Relaxed);
        let pause = self.settings.min_pause.max(Duration::from_millis(200));
        self.not_before = self.clock.monotonic() + pause;
        if let Some(at) = &mut self.checkpoint_at {
            *at = (*at).min(self.not_before);
        }
        if let Error::Checkpoint(highwater_checkpoint::Error::Fenced { .. }) = error {
            self.run.fail("checkpoint", &error.to_string());
        } else if self.checkpointing.failures_in_a_row() > self.settings.tolerable_failures {
            self.run.fail("checkpoint", &format!("too many failures in a row, the last: {error}"));
        }
    }

    /// When all input has ended, what it brought is checkpointed and delivered without being asked.
    fn ask_for_last_checkpoint(&mut self) {
        let ended = self.supply() == Supply::Ended && self.next_epoch == self.complete;
        let quiet = ended && !self.checkpointing.is_running() && self.asked.is_empty() && self.to_publish.is_none();
        let over = quiet && !self.changed && self.undelivered.load(Relaxed) == 0;
        if over != self.told_finished {
            self.told_finished = over;
            (self.finished)(over);
        }
        if quiet && self.changed && self.stopping.is_none() {
            self.checkpoint_at = Some(self.not_before);
        }
        if let Some(stopping) = &mut self.stopping
            && stopping.checkpoint
            && !self.checkpointing.is_running()
        {
            stopping.checkpoint = false;
            if self.changed {
                self.asked.push((Trigger::Final, None));
            }
        }
    }

    fn may_end(&self, now: Duration) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let busy = stopping.checkpoint
            || !self.asked.is_empty()
            || self.checkpointing.is_running()
            || self.to_publish.is_some()
            || self.next_epoch != self.complete;
        let delivering = self.undelivered.load(Relaxed) > 0 && now.saturating_sub(stopping.since) < STOP_PATIENCE;
        !busy && !delivering
    }
}
