//! When the next tick is due: the pure half of a pipeline's clock.
//!
//! Facts in, decision out; the shell that reads clocks and emits ticks is `control`. Invariants:
//! never more than `window` epochs unfinished; no tick without a reason, so an idle pipeline costs
//! nothing; one checkpoint in flight.

use std::time::Duration;

/// What the sources of a pipeline have for the next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// Rows can be had now.
    Ready,
    /// Nothing before this moment of the monotonic clock.
    At(Duration),
    /// Nothing until a source says so.
    Waiting,
    /// Every split of every source has ended.
    Ended,
}

impl Supply {
    /// What two sources have together.
    pub(crate) fn and(self, other: Self) -> Self {
        use Supply::{At, Ended, Ready, Waiting};
        match (self, other) {
            (Ready, _) | (_, Ready) => Ready,
            (At(a), At(b)) => At(a.min(b)),
            (At(a), _) | (_, At(a)) => At(a),
            (Waiting, _) | (_, Waiting) => Waiting,
            (Ended, Ended) => Ended,
        }
    }
}

/// Everything the decision rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The monotonic clock.
    pub(crate) now: Duration,
    /// Epochs ticked and not yet complete on all workers.
    pub(crate) unfinished: u64,
    /// How many may be.
    pub(crate) window: u64,
    pub(crate) supply: Supply,
    /// No more rows are to be taken: the pipeline is paused or stopping.
    pub(crate) paused: bool,
    /// When the next checkpoint by interval is due; none when they are off.
    pub(crate) checkpoint_at: Option<Duration>,
    /// Somebody asked for a checkpoint now.
    pub(crate) checkpoint_asked: bool,
    /// One is under way.
    pub(crate) checkpoint_running: bool,
    /// Rows, deliveries or a newer plan since the last one.
    pub(crate) changed: bool,
    /// A published checkpoint, or a read, is to be told to the operators.
    pub(crate) to_tell: bool,
}

/// What the clock does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Tick now.
    Tick {
        /// Whether sources may emit.
        rows: bool,
        /// Whether a barrier follows.
        checkpoint: bool,
    },
    /// A checkpoint is due and nothing changed since the last one: count it as skipped.
    SkipCheckpoint,
    /// Look again at this moment, or when something happens.
    Wait(Option<Duration>),
}

/// The one decision of the clock.
pub(crate) fn decide(facts: &Facts) -> Decision {
    if facts.unfinished >= facts.window {
        return Decision::Wait(None);
    }
    let interval_due = facts.checkpoint_at.is_some_and(|at| at <= facts.now);
    let idle = !facts.checkpoint_running;
    if idle && interval_due && !facts.checkpoint_asked && !facts.changed {
        return Decision::SkipCheckpoint;
    }
    let checkpoint = idle && (facts.checkpoint_asked || interval_due);
    let supplied = match facts.supply {
        Supply::Ready => true,
        Supply::At(at) => at <= facts.now,
        Supply::Waiting | Supply::Ended => false,
    };
    let rows = supplied && !facts.paused;
    if rows || checkpoint || facts.to_tell {
        return Decision::Tick { rows, checkpoint };
    }
    Decision::Wait(next_look(facts))
}

fn next_look(facts: &Facts) -> Option<Duration> {
    let supply = match facts.supply {
        Supply::At(at) if !facts.paused => Some(at),
        _ => None,
    };
    let checkpoint = facts.checkpoint_at.filter(|_| !facts.checkpoint_running);
    match (supply, checkpoint) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Facts = Facts {
        now: Duration::from_secs(100),
        unfinished: 0,
        window: 4,
        supply: Supply::Waiting,
        paused: false,
        checkpoint_at: None,
        checkpoint_asked: false,
        checkpoint_running: false,
        changed: false,
        to_tell: false,
    };

    #[test]
    fn idle_pipelines_do_not_tick() {
        assert_eq!(decide(&IDLE), Decision::Wait(None));
        let later = Duration::from_secs(101);
        assert_eq!(decide(&Facts { supply: Supply::At(later), ..IDLE }), Decision::Wait(Some(later)));
        assert_eq!(decide(&Facts { checkpoint_at: Some(later), ..IDLE }), Decision::Wait(Some(later)));
    }

    #[test]
    fn the_window_bounds_what_is_unfinished() {
        let busy = Facts { supply: Supply::Ready, unfinished: 4, checkpoint_asked: true, ..IDLE };
        assert_eq!(decide(&busy), Decision::Wait(None));
        let room = Facts { unfinished: 3, ..busy };
        assert_eq!(decide(&room), Decision::Tick { rows: true, checkpoint: true });
    }

    #[test]
    fn a_checkpoint_waits_for_the_one_before_and_for_change() {
        let due = Facts { checkpoint_at: Some(IDLE.now), changed: true, ..IDLE };
        assert_eq!(decide(&due), Decision::Tick { rows: false, checkpoint: true });
        assert_eq!(decide(&Facts { checkpoint_running: true, ..due }), Decision::Wait(None));
        assert_eq!(decide(&Facts { changed: false, ..due }), Decision::SkipCheckpoint);
        let asked = Facts { checkpoint_asked: true, changed: false, ..due };
        assert_eq!(decide(&asked), Decision::Tick { rows: false, checkpoint: true });
    }

    #[test]
    fn a_paused_pipeline_still_checkpoints_and_answers() {
        let paused = Facts { paused: true, supply: Supply::Ready, ..IDLE };
        assert_eq!(decide(&paused), Decision::Wait(None));
        assert_eq!(decide(&Facts { to_tell: true, ..paused }), Decision::Tick { rows: false, checkpoint: false });
    }

    #[test]
    fn supplies_combine_to_the_soonest() {
        use Supply::{At, Ended, Ready, Waiting};
        let (soon, late) = (At(Duration::from_secs(1)), At(Duration::from_secs(2)));
        assert_eq!(soon.and(late), soon);
        assert_eq!(Ended.and(late), late);
        assert_eq!(Ended.and(Waiting), Waiting);
        assert_eq!(Waiting.and(Ready), Ready);
        assert_eq!(Ended.and(Ended), Ended);
    }
}
