//! How fast a generator may go: which event numbers are due by the clock.
//!
//! Only the time of emission depends on this, never what an event holds.

use highwater_core::Clock;
use std::sync::Arc;
use std::time::Duration;

/// How long a paced reader asks to be left alone at most when events are due. Events that fall due
/// meanwhile come together, so a slow generator costs some thirty polls a second at most.
const SLICE: Duration = Duration::from_millis(30);

/// Events fall due at a steady rate from an origin on.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    origin: Duration,
    due_at_origin: u64,
    per_second: f64,
}

impl Pace {
    /// From now on `per_second` events a second are due, besides those below `due_now`.
    pub(crate) fn new(clock: Arc<dyn Clock>, due_now: u64, per_second: f64) -> Self {
        let origin = clock.monotonic();
        Self { clock, origin, due_at_origin: due_now, per_second }
    }

    /// Events with smaller numbers than this are due.
    pub(crate) fn due(&self) -> u64 {
        let elapsed = self.clock.monotonic().saturating_sub(self.origin);
        self.due_at_origin.saturating_add((elapsed.as_secs_f64() * self.per_second) as u64)
    }

    /// How long ago the event `number` fell due.
    pub(crate) fn age(&self, number: u64) -> Duration {
        let ahead = (number + 1).saturating_sub(self.due_at_origin) as f64;
        let at = Duration::try_from_secs_f64(ahead / self.per_second).unwrap_or(Duration::MAX);
        self.clock.monotonic().saturating_sub(self.origin).saturating_sub(at)
    }

    /// How long until the event `number` is due, up to the end of a slice: the slices of all readers
    /// end together, so that hundreds of them wake a worker once and not each by itself.
    pub(crate) fn wait(&self, number: u64) -> Duration {
        let ahead = (number + 1).saturating_sub(self.due_at_origin) as f64;
        let at = Duration::try_from_secs_f64(ahead / self.per_second).unwrap_or(Duration::MAX);
        let now = self.clock.monotonic();
        let due = self.origin.saturating_add(at).max(now + Duration::from_nanos(1));
        let slices = due.as_nanos().div_ceil(SLICE.as_nanos());
        let end = u64::try_from(slices * SLICE.as_nanos()).map_or(Duration::MAX, Duration::from_nanos);
        end.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::ManualClock;

    #[test]
    fn events_fall_due_with_time() {
        let clock = Arc::new(ManualClock::default());
        let pace = Pace::new(clock.clone(), 100, 10.0);
        assert_eq!(pace.due(), 100);
        assert_eq!(pace.wait(100), Duration::from_millis(120));
        assert_eq!(pace.wait(99), SLICE);
        clock.advance(Duration::from_millis(250));
        assert_eq!(pace.due(), 102);
        assert_eq!(pace.wait(102), Duration::from_millis(50));
    }
}
