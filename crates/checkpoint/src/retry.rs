//! How often and how long a call to the store is tried. Pure: waiting itself is the host's.

use std::time::Duration;

/// Bounds of one operation: so many attempts, each of which may stand still for so long, with growing pauses between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; at least one is made.
    pub attempts: u32,
    /// The pause after the first failure; doubles each time.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// After so long without an answer, and without a byte that moved, an attempt counts as failed, with an unknown
    /// outcome.
    pub deadline: Duration,
}

impl Default for Retry {
    /// Five attempts that may stand still for 30 s, pauses from 50 ms to 5 s.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// The pause after failure number `failures` (from 1): exponential, with the upper half random,
    /// so that many clients do not return at once.
    #[must_use]
    pub fn pause(&self, failures: u32, random: u64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1u32 << failures.saturating_sub(1).min(20));
        let most = doubled.min(self.longest_pause).as_nanos() as u64;
        let half = most / 2;
        Duration::from_nanos(half + if half == 0 { 0 } else { random % (most - half + 1) })
    }

    /// So long may attempt number `attempt` (from 1) stand still when nobody sees whether its bytes move: longer each
    /// time, as it may only be slow.
    #[must_use]
    pub fn unseen(&self, attempt: u32) -> Duration {
        self.deadline.saturating_mul(attempt.max(1))
    }

    /// The longest that an operation of one call which moves nothing can take, pauses included.
    #[must_use]
    pub fn worst(&self) -> Duration {
        (self.deadline + self.longest_pause) * self.attempts.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds() {
        let retry = Retry::default();
        assert_eq!(retry.pause(1, 0), Duration::from_millis(25));
        assert_eq!(retry.pause(2, 0), Duration::from_millis(50));
        for failures in 1..40 {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let pause = retry.pause(failures, random);
                assert!(pause >= Duration::from_millis(25) && pause <= retry.longest_pause);
            }
        }
    }
}
