//! Numbered things, each its own type so that two of them cannot be exchanged by mistake.
//!
//! Invariants: ids only grow; [`KeyGroups`] is never empty and its ranges over workers are
//! contiguous, disjoint and complete.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// One closed logical tick of a pipeline; also its Timely timestamp.
    Epoch(u64)
);
counter!(
    /// The number of a checkpoint within its pipeline; grows by one, never reused.
    CheckpointId(u64)
);
counter!(
    /// Which claim of a pipeline's root this process holds; a lower one cannot publish.
    Generation(u64)
);
counter!(
    /// The number of a stateful operator within its pipeline, stable for the life of its state.
    OperatorId(u32)
);
counter!(
    /// A hash range of keys: the unit that moves on rescaling.
    KeyGroup(u16)
);
counter!(
    /// A Timely worker's index over all processes.
    WorkerIndex(u32)
);
counter!(
    /// The random prefix that keeps one pipeline's keys apart from another's in a shared RocksDB.
    StoreId(u64)
);

/// A size or a budget in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {}", UNITS[unit]) }
    }
}

/// How many key groups a pipeline has; fixed when it is created. A power of two from 1 to 256,
/// because a key's group is the top bits of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroups(u16);

impl KeyGroups {
    /// The default of 256.
    pub const DEFAULT: Self = Self(256);

    /// `None` unless `count` is a power of two from 1 to 256.
    #[must_use]
    pub const fn new(count: u16) -> Option<Self> {
        if count.is_power_of_two() && count <= 256 { Some(Self(count)) } else { None }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0 as usize
    }

    /// The group of a 64-bit key hash: its top bits.
    #[inline]
    #[must_use]
    pub const fn of_hash(self, hash: u64) -> usize {
        // For one group the shift would be 64; the double shift keeps it defined.
        ((hash >> 1) >> (63 - self.0.trailing_zeros())) as usize
    }

    /// The worker among `workers` that owns a group: contiguous ranges, as even as can be.
    #[inline]
    #[must_use]
    pub const fn worker_of(self, group: usize, workers: usize) -> usize {
        (group * workers) / self.0 as usize
    }

    /// The groups that one worker owns: the inverse of [`KeyGroups::worker_of`].
    #[must_use]
    pub const fn owned_by(self, worker: usize, workers: usize) -> Range<usize> {
        let n = self.0 as usize;
        (worker * n).div_ceil(workers)..((worker + 1) * n).div_ceil(workers)
    }
}

impl Default for KeyGroups {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_one_owner_and_ranges_match() {
        for count in [1u16, 2, 16, 256] {
            let groups = KeyGroups::new(count).expect("a power of two");
            for workers in [1usize, 2, 3, 7, 64, 300] {
                let mut next = 0;
                for worker in 0..workers {
                    let owned = groups.owned_by(worker, workers);
                    assert_eq!(owned.start, next);
                    next = owned.end;
                    for group in owned {
                        assert_eq!(groups.worker_of(group, workers), worker);
                    }
                }
                assert_eq!(next, groups.count());
            }
        }
    }

    #[test]
    fn the_group_is_the_top_of_the_hash() {
        assert_eq!(KeyGroups::DEFAULT.of_hash(0xAB00_0000_0000_0000), 0xAB);
        assert_eq!(KeyGroups::new(1).expect("one").of_hash(u64::MAX), 0);
        assert_eq!(KeyGroups::new(2).expect("two").of_hash(u64::MAX), 1);
        assert!(KeyGroups::new(3).is_none() && KeyGroups::new(512).is_none());
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(Bytes(3 << 20).to_string(), "3.0 MiB");
    }
}
