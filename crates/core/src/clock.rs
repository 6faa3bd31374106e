//! Time as a thing that is passed in, so that a simulation can own it.
//!
//! Wall time is for people and for event time; durations come from the monotonic reading.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMicros(pub i64);

/// Where a part of the program gets its time from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Time of day; may jump.
    fn wall(&self) -> WallMicros;
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> WallMicros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMicros(since.as_micros() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves when told to; both readings move together.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
}

impl ManualClock {
    /// Moves time on.
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> WallMicros {
        WallMicros(self.micros.load(Ordering::SeqCst) as i64)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }
}
