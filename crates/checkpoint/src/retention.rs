//! Which checkpoints stay. Pure.
//!
//! Invariants: the newest healthy checkpoint stays, and so does everything newer than it; a pinned
//! one stays.

use crate::pointer::Entry;
use highwater_core::CheckpointId;

/// How many checkpoints stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many healthy ones, pinned ones not counted; at least one stays whatever stands here.
    pub keep: usize,
}

impl Default for Retention {
    /// Three.
    fn default() -> Self {
        Self { keep: 3 }
    }
}

/// The checkpoints of a list, oldest first, that are not to stay. A suspect one counts for nothing
/// and goes when it is older than all that are kept for their number.
#[must_use]
pub fn expired(list: &[Entry], retention: Retention) -> Vec<CheckpointId> {
    let mut healthy = 0;
    let mut expired = Vec::new();
    for entry in list.iter().rev() {
        let wanted = healthy < retention.keep.max(1);
        if entry.pin.is_none() {
            if !wanted {
                expired.push(entry.checkpoint);
            } else if !entry.suspect {
                healthy += 1;
            }
        }
    }
    expired.reverse();
    expired
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use highwater_core::{Generation, WallMicros};

    fn list(points: &str) -> Vec<Entry> {
        let entry = |(n, kind): (usize, char)| Entry {
            checkpoint: CheckpointId(n as u64),
            generation: Generation(1),
            wall: WallMicros(0),
            manifest: Digest::of(b""),
            suspect: kind == 's',
            pin: (kind == 'p').then(|| "kept".to_owned()),
        };
        points.chars().enumerate().map(entry).collect()
    }

    fn gone(points: &str, keep: usize) -> Vec<u64> {
        expired(&list(points), Retention { keep }).iter().map(|c| c.0).collect()
    }

    #[test]
    fn by_count_from_the_newest() {
        assert_eq!(gone("hhhhh", 2), [0, 1, 2]);
        assert_eq!(gone("hh", 3), [0u64; 0]);
        assert_eq!(gone("hhh", 0), [0, 1]);
        assert_eq!(gone("", 1), [0u64; 0]);
    }

    #[test]
    fn pins_stay_and_do_not_count() {
        assert_eq!(gone("hphph", 1), [0, 2]);
        assert_eq!(gone("hhp", 1), [0]);
    }

    #[test]
    fn suspects_do_not_push_healthy_ones_out() {
        assert_eq!(gone("hhss", 2), [0u64; 0]);
        assert_eq!(gone("shsh", 1), [0, 1, 2]);
        assert_eq!(gone("shsh", 2), [0]);
    }
}
