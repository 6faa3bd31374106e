//! Which files a checkpoint needs, and which key groups to write anew so that old files fall out
//! of need: the rolling base. Pure decisions over facts.
//!
//! Each checkpoint writes its changes and, besides, full bases of the key groups whose bases are
//! oldest. A file is in scope while some key group's base is not younger than it. With `d` bytes
//! of changes a checkpoint and `B` bytes of a full base, a round of `(0.8 B + d) / d` checkpoints
//! (whole ones) keeps the files in scope within 1.8 B, and every checkpoint writes about the same.

use crate::key::{FileNumber, TableId};
use highwater_core::CheckpointId;

/// The most checkpoints in scope, however little they change.
pub const MAX_CHECKPOINTS: u64 = 256;
/// The longest round: less than the most checkpoints, as groups differ in size.
const LONGEST_ROUND: u64 = 224;
const SHORT_ROUND: u64 = 4;
const SMOOTHING: f64 = 4.0;

/// What is known of one key group of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFact {
    /// Its table.
    pub table: TableId,
    /// The key group.
    pub group: u16,
    /// The oldest file that it still needs.
    pub floor: FileNumber,
    /// What its full base would take.
    pub base_bytes: u64,
}

/// What the checkpoint before wrote, as [`Progress`](crate::Progress) tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenBytes {
    /// What the changes take, or would take where a base was written instead.
    pub delta: u64,
    /// What the bases take.
    pub base: u64,
}

/// In how many checkpoints every key group should get a new base, when a checkpoint changes
/// `delta` bytes and a full base takes `full_base`.
#[must_use]
pub fn round_length(delta: f64, full_base: f64) -> u64 {
    let length = (0.8 * full_base + delta) / delta.max(1.0);
    (length as u64).clamp(1, LONGEST_ROUND)
}

/// The rolling base of one worker's tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct RollingBase {
    /// Bytes of bases that may be written, saved up or owed.
    credit: f64,
    /// Bytes that a checkpoint changes, smoothed over a few.
    delta: f64,
}

impl RollingBase {
    /// The key groups to write as bases with checkpoint `next`, those with the oldest files first,
    /// from what the checkpoint before wrote.
    pub fn choose(&mut self, facts: &mut [GroupFact], last: WrittenBytes, next: CheckpointId) -> Vec<(TableId, u16)> {
        let full: u64 = facts.iter().map(|fact| fact.base_bytes).sum();
        if full == 0 {
            return Vec::new();
        }
        let round = round_length(self.note(last.delta), full as f64);
        self.credit = (self.credit + full as f64 / round as f64).min(full as f64);
        // Short rounds are kept to the checkpoint, as each of their files is a large part of the
        // whole; long ones only by what was paid, so that no checkpoint catches up at once.
        let oldest = if round <= SHORT_ROUND { round } else { MAX_CHECKPOINTS - 1 };
        facts.sort_by_key(|fact| (fact.floor.checkpoint(), fact.group, fact.table));
        let mut chosen = Vec::new();
        for fact in facts {
            let too_old = fact.floor.checkpoint().0 + oldest <= next.0;
            // A group is begun when at least half of it is paid for; the rest is owed.
            if !too_old && self.credit < fact.base_bytes as f64 / 2.0 {
                break;
            }
            self.credit = (self.credit - fact.base_bytes as f64).max(-(fact.base_bytes as f64));
            chosen.push((fact.table, fact.group));
        }
        chosen
    }

    fn note(&mut self, changed: u64) -> f64 {
        if self.delta > 0.0 {
            self.delta += (changed as f64 - self.delta) / SMOOTHING;
        } else {
            self.delta = changed as f64;
        }
        self.delta
    }
}

/// Whether a file is needed by a pipeline of which the oldest file needed by any of its tables on
/// any worker is `floor`. Files of one checkpoint stand or fall together, as their workers' key
/// groups may have been dealt otherwise since; while they have not been, those of a worker are needed
/// by it alone, and `floor` may be its own.
#[must_use]
pub const fn in_scope(file: FileNumber, floor: FileNumber) -> bool {
    file.checkpoint().0 >= floor.checkpoint().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::{OperatorId, WorkerIndex};
    use proptest::prelude::*;

    fn number(checkpoint: u64) -> FileNumber {
        FileNumber::new(CheckpointId(checkpoint), WorkerIndex(0))
    }

    /// Checkpoints of `groups` key groups of `base` bytes, each changing by `delta(checkpoint)`
    /// in all: the bytes written and the bytes in scope, per checkpoint.
    fn simulate(groups: u16, base: u64, checkpoints: u64, delta: impl Fn(u64) -> u64) -> Vec<(u64, u64, usize)> {
        let table = TableId { operator: OperatorId(1), table: 0 };
        let mut facts: Vec<GroupFact> =
            (0..groups).map(|group| GroupFact { table, group, floor: number(0), base_bytes: base }).collect();
        let mut rolling = RollingBase::default();
        let mut files = vec![(number(0), base * u64::from(groups))];
        let mut changed = 0;
        let mut out = Vec::new();
        for checkpoint in 1..=checkpoints {
            let chosen = rolling.choose(&mut facts, WrittenBytes { delta: changed, base: 0 }, CheckpointId(checkpoint));
            let rest = u64::from(groups) - chosen.len() as u64;
            changed = delta(checkpoint);
            let written = changed * rest / u64::from(groups) + base * chosen.len() as u64;
            for fact in &mut facts {
                if chosen.contains(&(fact.table, fact.group)) {
                    fact.floor = number(checkpoint);
                }
            }
            files.push((number(checkpoint), written));
            let floor = facts.iter().map(|fact| fact.floor).min().expect("some groups");
            files.retain(|(file, _)| in_scope(*file, floor));
            out.push((written, files.iter().map(|(_, bytes)| bytes).sum(), files.len()));
        }
        out
    }

    #[test]
    fn a_steady_load_is_flat_and_stays_within_twice_the_state() {
        for percent in [1, 5, 20, 50, 90] {
            let full = 256 * 100_000;
            let history = simulate(256, 100_000, 600, |_| full * percent / 100);
            let steady = &history[300..];
            let live = steady.iter().map(|h| h.1).max().expect("some");
            let (most, least) =
                (steady.iter().map(|h| h.0).max().expect("some"), steady.iter().map(|h| h.0).min().expect("some"));
            assert!(live <= 2 * full, "{percent} %: {live} of {full} live");
            assert!(most <= 2 * least, "{percent} %: {least} to {most}");
            assert!(steady.iter().all(|h| h.2 <= MAX_CHECKPOINTS as usize));
        }
    }

    #[test]
    fn even_an_almost_idle_state_has_bounded_files() {
        let history = simulate(256, 1000, 2000, |_| 1);
        assert!(history.iter().all(|h| h.2 <= MAX_CHECKPOINTS as usize));
        assert!(history.iter().all(|h| h.0 <= 3000), "no checkpoint catches up at once");
    }

    proptest! {
        #[test]
        fn files_stay_bounded_under_any_load(groups in 1u16..257, loads in proptest::collection::vec(0u64..200_000, 1..20)) {
            let history = simulate(groups, 1000, 800, |checkpoint| loads[checkpoint as usize % loads.len()]);
            prop_assert!(history.iter().all(|h| h.2 <= MAX_CHECKPOINTS as usize));
        }
    }
}
