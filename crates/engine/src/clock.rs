//! When the next tick is due: the pure half of a pipeline's clock.
//!
//! Facts in, decision out; the shell that reads clocks and emits ticks is `control`, and whether a
//! barrier is to be sent is the decision of `highwater_checkpoint::lifecycle`. Invariants: never more
//! than `window` epochs unfinished; no tick without a reason, so an idle pipeline costs nothing.

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
    /// A barrier is to be sent.
    pub(crate) barrier: bool,
    /// A published checkpoint, or a read, is to be told to the operators.
    pub(crate) to_tell: bool,
    /// When the next request or time-out of a checkpoint is due.
    pub(crate) look_at: Option<Duration>,
}

/// What the clock does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Tick now.
    Tick {
        /// Whether sources may emit.
        rows: bool,
    },
    /// Look again at this moment, or when something happens.
    Wait(Option<Duration>),
}

/// The one decision of the clock.
pub(crate) fn decide(facts: &Facts) -> Decision {
    if facts.unfinished >= facts.window {
        return Decision::Wait(facts.look_at);
    }
    let supplied = match facts.supply {
        Supply::Ready => true,
        Supply::At(at) => at <= facts.now,
        Supply::Waiting | Supply::Ended => false,
    };
    let rows = supplied && !facts.paused;
    if rows || facts.barrier || facts.to_tell {
        return Decision::Tick { rows };
    }
    let supply = match facts.supply {
        Supply::At(at) if !facts.paused => Some(at),
        _ => None,
    };
    Decision::Wait(supply.into_iter().chain(facts.look_at).min())
}

/// Rows that a source may emit on a worker in one tick: at most, and at least.
pub(crate) const MOST_ROWS: u32 = 32_768;
const LEAST_ROWS: u32 = 512;
/// Epochs that take longer are made smaller, so that barriers and readers wait for little; shorter
/// ones may grow again.
const LONG_EPOCH: Duration = Duration::from_millis(40);
const SHORT_EPOCH: Duration = Duration::from_millis(20);

/// The budget of the next tick, after an epoch of `budget` rows took so long.
pub(crate) fn next_budget(budget: u32, took: Duration) -> u32 {
    if took > LONG_EPOCH {
        (budget - budget / 8).max(LEAST_ROWS)
    } else if took < SHORT_EPOCH {
        (budget + budget / 8).min(MOST_ROWS)
    } else {
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_time_that_epochs_take() {
        let settled =
            |per_row: Duration| (0..200).fold(MOST_ROWS, |budget, _| next_budget(budget, per_row * budget * 4));
        assert_eq!(settled(Duration::from_nanos(20)), MOST_ROWS);
        let slow = settled(Duration::from_micros(4));
        assert!((1250..=2500).contains(&slow), "{slow}");
        assert_eq!(settled(Duration::from_millis(10)), LEAST_ROWS);
    }

    const IDLE: Facts = Facts {
        now: Duration::from_secs(100),
        unfinished: 0,
        window: 4,
        supply: Supply::Waiting,
        paused: false,
        barrier: false,
        to_tell: false,
        look_at: None,
    };

    #[test]
    fn idle_pipelines_do_not_tick() {
        assert_eq!(decide(&IDLE), Decision::Wait(None));
        let (soon, later) = (Duration::from_secs(101), Duration::from_secs(102));
        assert_eq!(decide(&Facts { supply: Supply::At(later), ..IDLE }), Decision::Wait(Some(later)));
        let both = Facts { supply: Supply::At(later), look_at: Some(soon), ..IDLE };
        assert_eq!(decide(&both), Decision::Wait(Some(soon)));
        assert_eq!(decide(&Facts { now: later, ..both }), Decision::Tick { rows: true });
    }

    #[test]
    fn the_window_bounds_what_is_unfinished() {
        let busy = Facts { supply: Supply::Ready, unfinished: 4, barrier: true, ..IDLE };
        assert_eq!(decide(&busy), Decision::Wait(None));
        assert_eq!(decide(&Facts { unfinished: 3, ..busy }), Decision::Tick { rows: true });
    }

    #[test]
    fn a_paused_pipeline_still_checkpoints_and_answers() {
        let paused = Facts { paused: true, supply: Supply::Ready, ..IDLE };
        assert_eq!(decide(&paused), Decision::Wait(None));
        assert_eq!(decide(&Facts { to_tell: true, ..paused }), Decision::Tick { rows: false });
        assert_eq!(decide(&Facts { barrier: true, ..paused }), Decision::Tick { rows: false });
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
