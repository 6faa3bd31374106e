//! What a coordinator does next: the life of a pipeline's checkpoints as a pure state machine.
//!
//! ```text
//! requested → barrier → frozen → written → uploaded → receipts complete → published → delivered
//!     → superseded → collected                               (or failed, with a reason)
//! ```
//! Facts go in with the time, decisions come out; nothing is done here. Invariants: one attempt at a
//! time; an attempt that was given up is never published; no barrier is sent while a worker is still
//! busy with the attempt before; facts of any other attempt change nothing.

use crate::manifest::Trigger;
use highwater_core::CheckpointId;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The bounds of checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many workers send receipts.
    pub workers: u32,
    /// An attempt whose receipts are not complete is given up when nothing of it has moved for so long.
    pub timeout: Duration,
    /// At least so long after one attempt the next begins, unless a person asks.
    pub min_pause: Duration,
    /// With more failures in a row than this the pipeline fails.
    pub tolerable_failures: u32,
}

/// The number of an attempt within one run of the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u64);

/// How far the one attempt, or a worker in it, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The barrier is asked for.
    Requested,
    /// The barrier stands.
    Barrier,
    /// State is frozen.
    Frozen,
    /// State is in local files.
    Written,
    /// The files are in the store: the receipt.
    Uploaded,
    /// All receipts are there and the manifest is being published.
    Publishing,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A checkpoint is wanted; whether anything changed since the last one.
    Request(Trigger, bool),
    /// The tick with the barrier went out.
    Barrier(Attempt),
    /// Bytes of it have gone to the store: it takes its time, and does not hang.
    Moved(Attempt),
    /// A worker came so far: frozen, written or uploaded.
    Worker(Attempt, u32, Stage),
    /// The pointer lists it.
    Published(Attempt, CheckpointId),
    /// It cannot succeed any more, and why; all workers are done with it.
    Failed(Attempt, String),
    /// Another process holds the pipeline.
    Fenced(Attempt),
    /// What older checkpoints than this alone needed is removed.
    Collected(CheckpointId),
    /// Nothing but the time.
    Time,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send the barrier with the next tick.
    SendBarrier(Attempt, Trigger),
    /// Publish what the receipts say.
    Publish(Attempt),
    /// Let the sinks deliver.
    Deliver(CheckpointId),
    /// Remove what only checkpoints older than this need, in the background.
    Collect(CheckpointId),
    /// Tell the workers that the attempt is void: what was frozen is dirty again.
    GiveUp(Attempt, String),
    /// Answer a request: there will be no checkpoint, and why.
    Skip(Trigger, &'static str),
    /// Send [`Fact::Time`] then.
    WakeAt(Duration),
    /// Fail the pipeline.
    FailPipeline(String),
    /// Stop at once: another process goes on.
    Stop,
}

#[derive(Clone, Debug)]
struct Flight {
    attempt: Attempt,
    trigger: Trigger,
    started: Duration,
    /// When it began, or was last seen to move.
    moved: Duration,
    barrier: bool,
    workers: Vec<Stage>,
    publishing: bool,
}

/// The checkpoints of one run of one pipeline.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    limits: Limits,
    attempts: u64,
    flight: Option<Flight>,
    waiting: Option<Trigger>,
    /// An attempt that was given up and that not all workers are done with.
    late: Option<Flight>,
    ended: Option<Duration>,
    failures: u32,
    /// Published checkpoints that are not collected.
    points: BTreeSet<CheckpointId>,
    stopped: bool,
}

impl Lifecycle {
    /// A run that has not taken a checkpoint; `restored` is the one it went on from.
    #[must_use]
    pub fn new(limits: Limits, restored: Option<CheckpointId>) -> Self {
        let points = restored.into_iter().collect();
        Self {
            limits,
            attempts: 0,
            flight: None,
            waiting: None,
            late: None,
            ended: None,
            failures: 0,
            points,
            stopped: false,
        }
    }

    /// Takes up other bounds for what begins from now on.
    pub const fn set(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The attempt under way and how far all of it has come.
    #[must_use]
    pub fn under_way(&self) -> Option<(Attempt, Trigger, Stage)> {
        self.flight.as_ref().map(|flight| (flight.attempt, flight.trigger, flight.stage()))
    }

    /// Takes in one fact.
    pub fn step(&mut self, now: Duration, fact: Fact) -> Vec<Decision> {
        if self.stopped {
            return Vec::new();
        }
        match fact {
            Fact::Request(trigger, changed) => self.request(now, trigger, changed),
            Fact::Barrier(attempt) => self.in_flight(attempt, |flight| flight.barrier = true),
            Fact::Moved(attempt) => self.in_flight(attempt, |flight| flight.moved = now),
            Fact::Worker(attempt, worker, stage) => self.worker(now, attempt, worker, stage),
            Fact::Published(attempt, checkpoint) => self.published(now, attempt, checkpoint),
            Fact::Failed(attempt, reason) if self.is_flying(attempt) => self.fail(now, reason),
            Fact::Failed(attempt, _) if self.late.as_ref().is_some_and(|late| late.attempt == attempt) => {
                self.late = None;
                self.start_waiting(now)
            }
            Fact::Fenced(attempt) if self.is_flying(attempt) => {
                self.stopped = true;
                self.flight = None;
                vec![Decision::Stop]
            }
            Fact::Failed(..) | Fact::Fenced(_) => Vec::new(),
            Fact::Collected(checkpoint) => {
                self.points.retain(|point| *point >= checkpoint);
                Vec::new()
            }
            Fact::Time => self.time(now),
        }
    }

    fn request(&mut self, now: Duration, trigger: Trigger, changed: bool) -> Vec<Decision> {
        if !changed && trigger != Trigger::Creation && self.flight.is_none() {
            return vec![Decision::Skip(trigger, "nothing changed since the last checkpoint")];
        }
        if self.flight.is_some() {
            if trigger == Trigger::Interval {
                return vec![Decision::Skip(trigger, "one is under way")];
            }
            self.waiting = Some(stronger(self.waiting, trigger));
            return Vec::new();
        }
        self.waiting = Some(stronger(self.waiting, trigger));
        self.start_waiting(now)
    }

    /// Begins the waiting request, or says when it may begin.
    fn start_waiting(&mut self, now: Duration) -> Vec<Decision> {
        let Some(trigger) = self.waiting.filter(|_| self.late.is_none()) else { return Vec::new() };
        let earliest = self.ended.map_or(Duration::ZERO, |ended| ended + self.limits.min_pause);
        if trigger == Trigger::Interval && now < earliest {
            return vec![Decision::WakeAt(earliest)];
        }
        self.waiting = None;
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        let workers = vec![Stage::Barrier; self.limits.workers as usize];
        let (started, moved) = (now, now);
        self.flight = Some(Flight { attempt, trigger, started, moved, barrier: false, workers, publishing: false });
        vec![Decision::SendBarrier(attempt, trigger), Decision::WakeAt(now + self.limits.timeout)]
    }

    fn is_flying(&self, attempt: Attempt) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.attempt == attempt)
    }

    fn in_flight(&mut self, attempt: Attempt, change: impl FnOnce(&mut Flight)) -> Vec<Decision> {
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.attempt == attempt) {
            change(flight);
        }
        Vec::new()
    }

    fn worker(&mut self, now: Duration, attempt: Attempt, worker: u32, stage: Stage) -> Vec<Decision> {
        if let Some(late) = self.late.as_mut().filter(|late| late.attempt == attempt) {
            late.reached(worker, stage);
            if late.is_received() {
                self.late = None;
                return self.start_waiting(now);
            }
            return Vec::new();
        }
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.attempt == attempt) else {
            return Vec::new();
        };
        flight.reached(worker, stage);
        if flight.publishing || !flight.is_received() {
            return Vec::new();
        }
        flight.publishing = true;
        vec![Decision::Publish(attempt)]
    }

    fn published(&mut self, now: Duration, attempt: Attempt, checkpoint: CheckpointId) -> Vec<Decision> {
        if !self.is_flying(attempt) {
            return Vec::new();
        }
        self.flight = None;
        self.ended = Some(now);
        self.failures = 0;
        let superseded = self.points.range(..checkpoint).next().is_some();
        self.points.insert(checkpoint);
        let mut decisions = vec![Decision::Deliver(checkpoint)];
        if superseded {
            decisions.push(Decision::Collect(checkpoint));
        }
        decisions.extend(self.start_waiting(now));
        decisions
    }

    fn fail(&mut self, now: Duration, reason: String) -> Vec<Decision> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        self.ended = Some(now);
        self.failures += 1;
        let mut decisions = vec![Decision::GiveUp(flight.attempt, reason.clone())];
        if self.failures > self.limits.tolerable_failures {
            self.stopped = true;
            decisions.push(Decision::FailPipeline(format!(
                "{} checkpoints in a row failed; the last: {reason}",
                self.failures
            )));
            return decisions;
        }
        // Nobody asks a second time for these.
        if matches!(flight.trigger, Trigger::Final | Trigger::Manual | Trigger::Creation) {
            decisions.push(Decision::Skip(flight.trigger, "it failed"));
        }
        decisions.extend(self.start_waiting(now));
        decisions
    }

    fn time(&mut self, now: Duration) -> Vec<Decision> {
        match &self.flight {
            // Publishing has its own bounds, and its outcome must be learned.
            Some(flight) if flight.publishing => Vec::new(),
            Some(flight) if now >= flight.moved + self.limits.timeout => {
                let what = if flight.moved > flight.started { "nothing has moved for" } else { "no end after" };
                let reason = format!("{what} {:?}; it was {}", self.limits.timeout, flight.stage());
                // Once sent, its barrier may be anywhere: the workers have to be done with it first.
                self.late = Some(flight.clone()).filter(|flight| flight.barrier);
                self.fail(now, reason)
            }
            Some(flight) if now >= flight.started + self.limits.timeout => {
                vec![Decision::WakeAt(flight.moved + self.limits.timeout)]
            }
            Some(_) => Vec::new(),
            None => self.start_waiting(now),
        }
    }
}

impl Flight {
    fn reached(&mut self, worker: u32, stage: Stage) {
        let reached = self.workers.get_mut(worker as usize).expect("a worker below the number of workers");
        *reached = (*reached).max(stage.min(Stage::Uploaded));
    }

    fn is_received(&self) -> bool {
        self.workers.iter().all(|stage| *stage == Stage::Uploaded)
    }

    fn stage(&self) -> Stage {
        if self.publishing {
            return Stage::Publishing;
        }
        let slowest = self.workers.iter().copied().min().unwrap_or(Stage::Barrier);
        if slowest == Stage::Barrier && !self.barrier { Stage::Requested } else { slowest }
    }
}

/// Of two requests the one that must not be put off.
fn stronger(waiting: Option<Trigger>, new: Trigger) -> Trigger {
    let rank = |trigger| match trigger {
        Trigger::Interval => 0,
        Trigger::Manual => 1,
        Trigger::Creation => 2,
        Trigger::Final => 3,
    };
    waiting.filter(|waiting| rank(*waiting) > rank(new)).unwrap_or(new)
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Barrier => "at the barrier",
            Self::Frozen => "frozen",
            Self::Written => "written",
            Self::Uploaded => "uploaded",
            Self::Publishing => "publishing",
        })
    }
}

#[cfg(test)]
mod tests;
