//! A pipeline's control on worker 0: it emits ticks and carries checkpoints through.
//!
//! It is the shell around two pure machines: `clock` says when to tick, the life cycle of
//! `highwater-checkpoint` when a barrier goes out and what follows. It gathers their facts (requests
//! from outside, supplies of sources, complete epochs, receipts, the result of a publication) and
//! does what they decide. Invariant: what is published is told to the operators with the next tick.

use crate::changes::SharedLog;
use crate::checkpointing::{CheckpointReport, CheckpointSettings, Checkpointing, Started};
use crate::clock::{Decision, Facts, MOST_ROWS, Supply, decide, next_budget};
use crate::error::Error;
use crate::shared::Run;
use crate::snapshot::Receipt;
use crate::tick::Tick;
use highwater_checkpoint::Trigger;
use highwater_checkpoint::lifecycle::{Attempt, Decision as Step, Fact, Lifecycle, Limits, Stage};
use highwater_core::{CheckpointId, Clock, WallMicros};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// Epochs that may be unfinished.
const WINDOW: u64 = 4;
/// The least time between two checkpoints that only free memory.
const RELIEF: Duration = Duration::from_secs(1);
/// How long after a failed checkpoint the next one is tried; doubles with each failure in a row.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a clean stop waits for deliveries that do not fail; they are in the final checkpoint anyway.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two ticks for the sake of time alone.
const DUE_PACE: Duration = Duration::from_millis(50);
/// The least time between what time changed and a checkpoint that nothing but the end of all sources
/// asks for.
const DUE_PAUSE: Duration = Duration::from_secs(5);

/// What a pipeline's handle asks of its control.
#[derive(Debug)]
pub(crate) enum Request {
    /// A checkpoint now; the answer comes when it is published or has failed.
    Checkpoint(Trigger, Sender<CheckpointReport>),
    /// A snapshot for a read, as soon as the views show the log up to a position, if one is given.
    Read(u64, Option<u64>),
    /// An answer when every view shows the log up to a position.
    Reach(Reaching),
    /// An answer when an epoch that begins from now on is complete.
    Epoch(Sender<()>),
    /// An answer when every source has ended and every view shows all its rows.
    Drained(Sender<()>),
    Settings(CheckpointSettings),
    /// Take no more rows.
    Pause(bool),
    /// Take no more rows, make a final checkpoint if asked, end.
    Stop {
        checkpoint: bool,
    },
}

/// Somebody waits until all backfills are over and every view shows the log up to a position, or, where there is
/// none, until the fills of new readers are over.
#[derive(Debug)]
pub(crate) struct Reaching {
    pub(crate) position: Option<u64>,
    /// The nodes and fills whose backfills do not matter.
    pub(crate) beside: BTreeSet<usize>,
    pub(crate) reply: Sender<()>,
}

/// A source's supply on one worker, or a fill's, told to worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Supplied {
    pub(crate) worker: usize,
    pub(crate) source: usize,
    pub(crate) supply: SupplyTold,
    /// Whether rows were given since it was told last.
    pub(crate) gave_rows: bool,
    /// How much of its backfill was given, in thousandths.
    pub(crate) backfill: u16,
}

/// All of a backfill, or none to give.
pub(crate) const BACKFILLED: u16 = 1000;

/// A supply in a form that travels: waits are relative, as clocks differ between machines.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) enum SupplyTold {
    Ready,
    After(Duration),
    Waiting,
    Ended,
    /// It is no source: rows come or go at this time of day, if at any, whatever the sources have.
    Due(Option<WallMicros>),
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
    workers: usize,
    /// By worker and source.
    supplies: BTreeMap<(usize, usize), Supply>,
    /// When time alone changes something, by worker and operator; none where nothing is to come, or
    /// where a tick at that time has been sent.
    due: BTreeMap<(usize, usize), Option<WallMicros>>,
    /// No tick is sent for the sake of time alone before this.
    due_at: Duration,
    /// The time of day of the newest tick, or of the restored checkpoint's.
    wall: WallMicros,
    /// Backfills under way, by worker and source, in thousandths.
    backfills: BTreeMap<(usize, usize), u16>,
    /// The numbers of the fills: they are waited for by themselves.
    fills: BTreeSet<usize>,
    /// Those that are not over, by worker.
    unfilled: BTreeSet<(usize, usize)>,
    /// The rows of the backfills that are over are in epochs before this one.
    backfilled_before: u64,
    /// What the change sources read, if there are any.
    log: Option<Arc<dyn SharedLog>>,
    /// Where they are after the newest tick.
    horizon: u64,
    /// Where they are in every view.
    reached: u64,
    /// Who waits for which position.
    reaching: Vec<Reaching>,
    /// Who waits for the end of which epoch.
    marks: Vec<(u64, Sender<()>)>,
    /// Who waits for the end of all sources.
    draining: Vec<Sender<()>>,
    /// The nodes that read changes: they do not end.
    changes: BTreeSet<usize>,
    /// How many supplies there will be; before that, sources are not known to have ended.
    expected: usize,
    next_epoch: u64,
    complete: u64,
    /// The monotonic time of the ticks that are not complete, oldest first, whether they asked for
    /// rows, and their horizons.
    ticked: VecDeque<(Duration, bool, u64)>,
    /// Rows that each source may emit on each worker with the next tick.
    budget: u32,
    lifecycle: Lifecycle,
    /// The barrier to send with the next tick.
    barrier: Option<(Attempt, Trigger)>,
    /// When the life cycle wants to know the time.
    wake_at: Option<Duration>,
    /// How much had gone to the store when it was last asked.
    moved: u64,
    /// When the next checkpoint is asked for.
    checkpoint_at: Option<Duration>,
    /// After a failed checkpoint none is asked for before this.
    not_before: Duration,
    /// Before this none is asked for to free memory.
    relief_at: Duration,
    /// Who waits for the next checkpoint that begins.
    replies: Vec<Sender<CheckpointReport>>,
    /// Rows, deliveries or a newer plan since the last barrier.
    changed: bool,
    reads: Vec<u64>,
    /// Reads that wait for a position.
    later_reads: Vec<(u64, u64)>,
    to_publish: Option<CheckpointId>,
    undelivered: Arc<AtomicUsize>,
    /// Parts delivered, as far as the last barrier or this control knows.
    delivered: u64,
    paused: bool,
    stopping: Option<Stopping>,
    finished: Box<dyn Fn(bool) + Send>,
    told_finished: bool,
}

struct Stopping {
    since: Duration,
    /// The final checkpoint is still to be made.
    checkpoint: bool,
    /// One was asked for.
    final_made: bool,
}

/// What a control is made of.
pub(crate) struct ControlSetup {
    pub(crate) run: Arc<Run>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) requests: Receiver<Request>,
    pub(crate) checkpointing: Checkpointing,
    pub(crate) settings: CheckpointSettings,
    /// Where within the first interval the first checkpoint is due, from 0 to 1.
    pub(crate) phase: f64,
    pub(crate) sources: usize,
    /// The numbers of the fills that take more than an epoch.
    pub(crate) fills: Vec<usize>,
    /// The nodes among the sources that read changes.
    pub(crate) changes: BTreeSet<usize>,
    pub(crate) workers: usize,
    /// The time of day at which the restored checkpoint's epoch began.
    pub(crate) wall: WallMicros,
    pub(crate) undelivered: Arc<AtomicUsize>,
    /// What the change sources read, if there are any.
    pub(crate) log: Option<Arc<dyn SharedLog>>,
    /// Nothing was restored: a checkpoint of offsets is made at once.
    pub(crate) is_new: bool,
    /// It is begun without taking rows.
    pub(crate) paused: bool,
    /// Told whether all input has ended, is checkpointed and delivered.
    pub(crate) finished: Box<dyn Fn(bool) + Send>,
}

impl Control {
    pub(crate) fn new(setup: ControlSetup) -> Self {
        let now = setup.clock.monotonic();
        let limits = limits_of(&setup.settings, setup.workers);
        let delivered = setup.run.counters.delivered.load(Relaxed);
        let mut this = Self {
            run: setup.run,
            clock: setup.clock,
            requests: setup.requests,
            lifecycle: Lifecycle::new(limits, setup.checkpointing.restored()),
            checkpointing: setup.checkpointing,
            // Spread evenly, however many pipelines began at the same time.
            checkpoint_at: setup.settings.interval.map(|interval| now + interval.mul_f64(setup.phase)),
            settings: setup.settings,
            workers: setup.workers,
            supplies: BTreeMap::new(),
            due: BTreeMap::new(),
            due_at: Duration::ZERO,
            wall: setup.wall,
            backfills: BTreeMap::new(),
            unfilled: (0..setup.workers)
                .flat_map(|worker| setup.fills.iter().map(move |fill| (worker, *fill)))
                .collect(),
            backfilled_before: 0,
            log: setup.log,
            horizon: 0,
            reached: 0,
            reaching: Vec::new(),
            marks: Vec::new(),
            draining: Vec::new(),
            changes: setup.changes,
            expected: (setup.sources + setup.fills.len()) * setup.workers,
            fills: setup.fills.into_iter().collect(),
            next_epoch: 0,
            complete: 0,
            ticked: VecDeque::new(),
            budget: MOST_ROWS,
            barrier: None,
            wake_at: None,
            moved: 0,
            not_before: Duration::ZERO,
            relief_at: Duration::ZERO,
            replies: Vec::new(),
            changed: false,
            reads: Vec::new(),
            later_reads: Vec::new(),
            to_publish: None,
            undelivered: setup.undelivered,
            delivered,
            paused: setup.paused,
            stopping: None,
            finished: setup.finished,
            told_finished: false,
        };
        this.run.counters.paused.store(setup.paused, Relaxed);
        if setup.is_new {
            this.step(Fact::Request(Trigger::Creation, true));
        }
        this
    }

    /// A source told its supply.
    pub(crate) fn supplied(&mut self, told: &Supplied) {
        let now = self.clock.monotonic();
        let supply = match told.supply {
            SupplyTold::Ready => Supply::Ready,
            SupplyTold::After(wait) => Supply::At(now + wait),
            SupplyTold::Waiting => Supply::Waiting,
            SupplyTold::Ended => Supply::Ended,
            SupplyTold::Due(due) => {
                self.due.insert((told.worker, told.source), due);
                return;
            }
        };
        self.changed |= told.gave_rows;
        let source = (told.worker, told.source);
        self.supplies.insert(source, supply);
        if told.backfill < BACKFILLED {
            self.backfills.insert(source, told.backfill);
        } else {
            // The offsets are to say that it is over, and its last rows are in an epoch ticked by now.
            if self.backfills.remove(&source).is_some() {
                self.changed = true;
                self.backfilled_before = self.next_epoch;
            }
            self.unfilled.remove(&source);
        }
        let least = self.backfills.values().copied().min().unwrap_or(BACKFILLED);
        self.run.counters.backfill.store(u64::from(least), Relaxed);
        self.answer_reached();
        self.notice_ends();
    }

    /// All epochs before this one are complete on all workers.
    pub(crate) fn completed_before(&mut self, epoch: u64) {
        let (now, before) = (self.clock.monotonic(), self.complete);
        while self.complete < epoch.min(self.next_epoch) {
            self.complete += 1;
            if let Some((ticked, rows, horizon)) = self.ticked.pop_front() {
                self.reached = horizon;
                let took = now.saturating_sub(ticked);
                self.run.counters.epoch_time.record(took);
                if rows {
                    self.budget = next_budget(self.budget, took);
                }
                self.run.counters.epochs.fetch_add(1, Relaxed);
            }
        }
        if self.complete > before {
            self.run.epochs_ended(self.complete < self.next_epoch);
        }
        self.run.visible_before(epoch);
        for (_, reply) in self.marks.extract_if(.., |(mark, _)| *mark < self.complete) {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
        self.run.counters.horizon.store(self.reached, Relaxed);
        self.answer_reached();
    }

    /// When all sources have ended, their last rows are in an epoch that has begun: who waits for them
    /// waits for the next one.
    fn notice_ends(&mut self) {
        let ended = |((_, source), supply): (&(usize, usize), &Supply)| {
            *supply == Supply::Ended || self.changes.contains(source) || self.fills.contains(source)
        };
        if self.supplies.len() >= self.expected && self.supplies.iter().all(ended) {
            self.marks.extend(self.draining.drain(..).map(|reply| (self.next_epoch, reply)));
        }
    }

    /// Tells those whose position every view shows.
    fn answer_reached(&mut self) {
        if self.complete < self.backfilled_before {
            return;
        }
        if self.unfilled.is_empty() {
            self.run.is_filled.store(true, Relaxed);
        }
        let is_known = self.supplies.len() >= self.expected;
        let reached = if self.log.is_some() { self.reached } else { u64::MAX };
        let (backfills, unfilled) = (&self.backfills, &self.unfilled);
        let is_over = |waiting: &mut Reaching| {
            let is_beside = |(_, source): &(usize, usize)| waiting.beside.contains(source);
            let shows = |position| is_known && position <= reached && backfills.keys().all(is_beside);
            unfilled.iter().all(is_beside) && waiting.position.is_none_or(shows)
        };
        for Reaching { reply, .. } in self.reaching.extract_if(.., is_over) {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    /// Somebody waits for a position that no tick has had.
    fn must_reach(&self) -> bool {
        let wanted = self.reaching.iter().filter_map(|waiting| waiting.position);
        let wanted = wanted.chain(self.later_reads.iter().map(|(wanted, _)| *wanted)).max();
        self.log.is_some() && wanted.is_some_and(|wanted| wanted > self.horizon)
    }

    /// All workers' receipts of a checkpoint.
    pub(crate) fn receipts(&mut self, receipts: Vec<Receipt>) {
        let Some(attempt) = self.checkpointing.attempt() else { return };
        match self.checkpointing.receive(receipts) {
            Ok(()) => {
                for worker in 0..self.workers {
                    self.step(Fact::Worker(attempt, worker as u32, Stage::Uploaded));
                }
            }
            Err(error) => self.step(Fact::Failed(attempt, error.to_string())),
        }
        // Unless it is being published, nobody waits for it any more.
        self.checkpointing.forget_if_given_up();
    }

    /// Gives the life cycle a fact and does what it decides.
    fn step(&mut self, fact: Fact) {
        let now = self.clock.monotonic();
        let trigger = self.lifecycle.under_way().map(|(_, trigger, _)| trigger);
        for step in self.lifecycle.step(now, fact) {
            match step {
                Step::SendBarrier(attempt, trigger) => self.barrier = Some((attempt, trigger)),
                Step::Publish(_) => self.checkpointing.publish(),
                Step::Deliver(checkpoint) => self.to_publish = Some(checkpoint),
                Step::Collect(checkpoint) => {
                    self.checkpointing.collect();
                    self.lifecycle.step(now, Fact::Collected(checkpoint));
                }
                Step::GiveUp(_, reason) => self.given_up(now, reason, trigger),
                Step::Skip(Trigger::Interval, _) => {
                    self.run.counters.skipped.fetch_add(1, Relaxed);
                }
                Step::Skip(Trigger::Final, reason) if self.changed => {
                    tracing::warn!(
                        pipeline = self.run.pipeline,
                        reason,
                        "no final checkpoint; the next start goes on from the one before"
                    );
                }
                Step::Skip(trigger, reason) => tracing::debug!(?trigger, reason, "no checkpoint"),
                Step::WakeAt(at) => self.wake_at = Some(at),
                Step::FailPipeline(reason) => self.run.fail("checkpoint", &reason),
                Step::Stop => self.run.fail_for_good("checkpoint", "another process has taken this pipeline over"),
            }
        }
    }

    /// Nothing is lost: the changes belong to the next checkpoint.
    fn given_up(&mut self, now: Duration, reason: String, trigger: Option<Trigger>) {
        let unsent = self.barrier.take();
        if let Some((attempt, trigger)) = unsent {
            // Who asked for it is told, as there may be no next one to tell them.
            let started = self.started(now, self.wall.max(self.clock.wall()), attempt, trigger);
            self.checkpointing.start(started);
        }
        self.changed = true;
        self.run.counters.failed.fetch_add(1, Relaxed);
        let failures = self.checkpointing.give_up(reason);
        if unsent.is_some() {
            // No worker knows of it, so none hands in.
            self.checkpointing.forget_if_given_up();
        }
        let pause = RETRY.saturating_mul(1 << failures.min(8)).min(LONGEST_RETRY);
        self.not_before = now + pause;
        if self.settings.interval.is_some() || trigger == Some(Trigger::Creation) {
            self.checkpoint_at = Some(self.not_before);
        }
    }

    /// Looks at everything and says what is next. Call it until it wants to wait.
    pub(crate) fn look(&mut self) -> Next {
        self.take_requests();
        self.take_publication();
        self.notice_deliveries();
        let now = self.clock.monotonic();
        if self.may_end(now) {
            return Next::End;
        }
        self.ask_for_last_checkpoint(now);
        self.look_at_time(now);
        match decide(&self.facts(now)) {
            Decision::Tick { rows } => Next::Tick(self.tick(now, rows)),
            Decision::Wait(until) => {
                let patience = self.stopping.as_ref().map(|_| Duration::from_millis(20));
                let wait = until.map(|at| at.saturating_sub(now));
                Next::Wait(wait.into_iter().chain(patience).min())
            }
        }
    }

    /// Asks for the checkpoint that is due, and lets the life cycle see the time.
    fn look_at_time(&mut self, now: Duration) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.notice_movement();
            self.step(Fact::Time);
        }
        if let Some(at) = self.checkpoint_at.filter(|at| *at <= now) {
            // From when it was due, so that pipelines stay as far apart as they were.
            let next = self.settings.interval.map(|interval| (at + interval, now + interval));
            self.checkpoint_at = next.map(|(even, late)| if even > now { even } else { late });
            self.step(Fact::Request(Trigger::Interval, self.changed));
        }
    }

    /// A checkpoint that goes to a slow store is not one that hangs.
    fn notice_movement(&mut self) {
        let before = std::mem::replace(&mut self.moved, self.checkpointing.moved());
        if self.moved != before
            && let Some(attempt) = self.checkpointing.attempt()
        {
            self.step(Fact::Moved(attempt));
        }
    }

    fn facts(&self, now: Duration) -> Facts {
        // The checkpoint of the very start holds offsets before any row.
        let creating = self.barrier.is_some_and(|(_, trigger)| trigger == Trigger::Creation);
        Facts {
            now,
            unfinished: self.next_epoch - self.complete,
            window: WINDOW,
            supply: if self.must_reach() { Supply::Ready } else { self.supply().and(self.timer(now)) },
            paused: self.paused || self.stopping.is_some() || creating,
            barrier: self.barrier.is_some(),
            to_tell: self.to_publish.is_some() || !self.reads.is_empty() || self.is_marked() || self.has_due_read(),
            look_at: self.checkpoint_at.into_iter().chain(self.wake_at).chain(self.relief_due()).min(),
        }
    }

    /// Somebody waits for the epoch that has not begun.
    fn is_marked(&self) -> bool {
        self.marks.iter().any(|(mark, _)| *mark == self.next_epoch)
    }

    /// A read waits for a position that is reached, or will not be.
    fn has_due_read(&self) -> bool {
        self.later_reads.iter().any(|(position, _)| self.is_due(*position))
    }

    const fn is_due(&self, position: u64) -> bool {
        position <= self.horizon || self.log.is_none() || self.paused || self.stopping.is_some()
    }

    /// When the next checkpoint that frees memory may be asked for, if one is wanted.
    fn relief_due(&self) -> Option<Duration> {
        let wanted = self.run.wants_checkpoint.load(Relaxed) && !self.is_checkpointing();
        wanted.then_some(self.relief_at)
    }

    fn supply(&self) -> Supply {
        let unknown = if self.supplies.len() < self.expected { Supply::Ready } else { Supply::Ended };
        self.supplies.values().fold(unknown, |all, one| all.and(*one))
    }

    /// When time alone changes something; else as if a source had ended.
    fn timer(&self, now: Duration) -> Supply {
        let Some(due) = self.due.values().flatten().min() else { return Supply::Ended };
        let wait = due.0.saturating_sub(self.clock.wall().0);
        let wait = Duration::from_micros(u64::try_from(wait).unwrap_or_default());
        Supply::At((now + wait).max(self.due_at))
    }

    /// Lets the time of day go on, and never back, and takes note of what is due by then.
    fn next_wall(&mut self, now: Duration) -> WallMicros {
        self.wall = self.wall.max(self.clock.wall());
        for due in self.due.values_mut().filter(|due| due.is_some_and(|due| due <= self.wall)) {
            *due = None;
            self.changed = true;
            self.due_at = now + DUE_PACE;
            // Whose sources have ended is checkpointed at once, but not at every row's end.
            self.not_before = self.not_before.max(now + DUE_PAUSE);
        }
        self.wall
    }

    fn tick(&mut self, now: Duration, rows: bool) -> Tick {
        let published = self.to_publish.take();
        let wall = self.next_wall(now);
        let barrier = self.barrier.take();
        let checkpoint = barrier.map(|(attempt, trigger)| self.start_checkpoint(now, wall, attempt, trigger));
        if rows {
            // Sources that were due say anew what they have; until then they are not asked again.
            for supply in self.supplies.values_mut().filter(|supply| matches!(supply, Supply::At(at) if *at <= now)) {
                *supply = Supply::Waiting;
            }
        }
        if let Some(log) = self.log.as_ref().filter(|_| rows) {
            self.horizon = log.horizon(self.horizon, u64::from(self.budget)).max(self.horizon);
        }
        let mut reads = std::mem::take(&mut self.reads);
        if !self.later_reads.is_empty() {
            let (due, waiting) =
                std::mem::take(&mut self.later_reads).into_iter().partition(|(position, _)| self.is_due(*position));
            self.later_reads = waiting;
            let due: Vec<(u64, u64)> = due;
            reads.extend(due.into_iter().map(|(_, read)| read));
        }
        let tick = Tick {
            horizon: self.horizon,
            epoch: self.next_epoch,
            wall,
            max_rows: if rows { self.budget } else { 0 },
            checkpoint,
            published,
            reads,
        };
        self.next_epoch += 1;
        self.run.epoch_began();
        self.ticked.push_back((now, rows, self.horizon));
        tick
    }

    fn start_checkpoint(
        &mut self,
        now: Duration,
        wall: WallMicros,
        attempt: Attempt,
        trigger: Trigger,
    ) -> CheckpointId {
        self.changed = false;
        self.moved = self.checkpointing.moved();
        let started = self.started(now, wall, attempt, trigger);
        let id = self.checkpointing.start(started);
        self.step(Fact::Barrier(attempt));
        id
    }

    /// A checkpoint after the epoch that begins next, for all who have asked.
    fn started(&mut self, now: Duration, wall: WallMicros, attempt: Attempt, trigger: Trigger) -> Started {
        let replies = std::mem::take(&mut self.replies);
        Started { attempt, at: now, wall, epoch: self.run.epoch(self.next_epoch), trigger, replies }
    }

    fn take_requests(&mut self) {
        let now = self.clock.monotonic();
        if now >= self.relief_at && !self.is_checkpointing() && self.run.wants_checkpoint.swap(false, Relaxed) {
            self.relief_at = now + RELIEF;
            self.step(Fact::Request(Trigger::Interval, self.changed));
        }
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Checkpoint(trigger, reply) => {
                    self.replies.push(reply);
                    // Who asks gets one, whether anything changed or not.
                    self.step(Fact::Request(trigger, true));
                }
                Request::Read(read, None) => self.reads.push(read),
                Request::Read(read, Some(position)) => self.later_reads.push((position, read)),
                Request::Reach(waiting) => {
                    self.reaching.push(waiting);
                    self.answer_reached();
                }
                Request::Epoch(reply) => self.marks.push((self.next_epoch, reply)),
                Request::Drained(reply) => {
                    self.draining.push(reply);
                    self.notice_ends();
                }
                Request::Pause(paused) => {
                    self.paused = paused;
                    self.run.counters.paused.store(paused, Relaxed);
                }
                Request::Settings(settings) => {
                    let now = self.clock.monotonic();
                    self.checkpoint_at = settings.interval.map(|interval| now + interval);
                    self.checkpointing.set(&settings);
                    self.lifecycle.set(limits_of(&settings, self.workers));
                    self.settings = settings;
                }
                Request::Stop { checkpoint } => {
                    self.stopping.get_or_insert(Stopping {
                        since: self.clock.monotonic(),
                        checkpoint,
                        final_made: false,
                    });
                }
            }
        }
    }

    fn take_publication(&mut self) {
        let Some(attempt) = self.checkpointing.attempt() else { return };
        match self.checkpointing.publication() {
            None => {}
            Some(Ok(id)) => {
                self.run.counters.published.fetch_add(1, Relaxed);
                self.step(Fact::Published(attempt, id));
            }
            Some(Err(Error::Checkpoint(highwater_checkpoint::Error::Fenced { .. }))) => {
                self.step(Fact::Fenced(attempt))
            }
            Some(Err(error)) => self.step(Fact::Failed(attempt, error.to_string())),
        }
    }

    /// What was delivered is to leave the next checkpoint, lest it be delivered again to a place from
    /// which somebody has taken it.
    fn notice_deliveries(&mut self) {
        let delivered = self.run.counters.delivered.load(Relaxed);
        if delivered != self.delivered {
            self.delivered = delivered;
            self.changed = true;
            if let Some(stopping) = &mut self.stopping {
                stopping.checkpoint |= stopping.final_made;
            }
        }
    }

    /// When all input has ended, what it brought is checkpointed and delivered without being asked.
    fn ask_for_last_checkpoint(&mut self, now: Duration) {
        let supplied = self.supply() == Supply::Ended;
        let quiet =
            supplied && self.next_epoch == self.complete && !self.is_checkpointing() && self.to_publish.is_none();
        // An epoch that only answers a read brings nothing new.
        let calm = quiet || self.told_finished && supplied;
        let over = calm && !self.changed && self.undelivered.load(Relaxed) == 0;
        if over != self.told_finished {
            self.told_finished = over;
            (self.finished)(over);
        }
        if quiet && self.changed && self.stopping.is_none() {
            // What time changes again and again puts off `not_before`, but not what is set already.
            let at = self.not_before.max(now);
            self.checkpoint_at = Some(self.checkpoint_at.map_or(at, |set| set.min(at)));
        }
        let idle = !self.is_checkpointing() && self.next_epoch == self.complete;
        if let Some(stopping) = &mut self.stopping
            && stopping.checkpoint
            && idle
        {
            (stopping.checkpoint, stopping.final_made) = (false, true);
            self.step(Fact::Request(Trigger::Final, self.changed));
        }
    }

    fn is_checkpointing(&self) -> bool {
        self.barrier.is_some() || self.checkpointing.is_running() || self.lifecycle.under_way().is_some()
    }

    fn may_end(&self, now: Duration) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let busy = stopping.checkpoint
            || self.is_checkpointing()
            || self.to_publish.is_some()
            || self.next_epoch != self.complete;
        let delivering =
            self.undelivered.load(Relaxed) > self.run.stuck() && now.saturating_sub(stopping.since) < STOP_PATIENCE;
        !busy && !delivering
    }
}

fn limits_of(settings: &CheckpointSettings, workers: usize) -> Limits {
    Limits {
        workers: workers as u32,
        timeout: settings.timeout,
        min_pause: settings.min_pause,
        tolerable_failures: settings.tolerable_failures,
    }
}
