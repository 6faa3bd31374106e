//! The service whose state is checkpointed: counters by key, written as deltas and bases the way an
//! incremental state store does. No I/O.

use std::collections::{BTreeMap, BTreeSet};

/// The counters.
pub type Counters = BTreeMap<u32, u64>;

/// Counters and which of them changed since they were last written.
#[derive(Clone, Debug, Default)]
pub struct Model {
    counters: Counters,
    dirty: BTreeSet<u32>,
}

impl Model {
    /// A model with the counters that parts hold; a later part supersedes an earlier one.
    ///
    /// # Errors
    /// When a part is not what [`Model::base`] or [`Model::delta`] wrote.
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut counters = Counters::new();
        for part in parts {
            if part.len() % 12 != 0 {
                return Err(format!("a part has {} bytes", part.len()));
            }
            for record in part.chunks_exact(12) {
                let (key, value) = record.split_at(4);
                let key = u32::from_le_bytes(key.try_into().expect("4 of 12 bytes"));
                counters.insert(key, u64::from_le_bytes(value.try_into().expect("8 of 12 bytes")));
            }
        }
        Ok(Self { counters, dirty: BTreeSet::new() })
    }

    /// Counts one key.
    pub fn count(&mut self, key: u32, by: u64) {
        *self.counters.entry(key).or_default() += by;
        self.dirty.insert(key);
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All of it; nothing is dirty after.
    pub fn base(&mut self) -> Vec<u8> {
        self.dirty.clear();
        self.counters.iter().flat_map(record).collect()
    }

    /// What changed; nothing is dirty after.
    pub fn delta(&mut self) -> Vec<u8> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().flat_map(|key| record((key, &self.counters[key]))).collect()
    }
}

fn record((key, value): (&u32, &u64)) -> impl Iterator<Item = u8> {
    key.to_le_bytes().into_iter().chain(value.to_le_bytes())
}
