//! The memory of the tables of all pipelines, against its budget.
//!
//! Each stateful operator enters what its tables hold as it changes. Above the budget, whoever is at
//! work evicts pages of its own that are clean, a bounded number a turn; what has changed since the
//! last checkpoint cannot go, so an operator that finds nothing to evict asks for one. The workers of
//! one core share a budget. Invariant: an operator that has gone holds nothing.

use highwater_core::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most that one turn evicts.
const PORTION: u64 = 4 << 20;

/// What the tables of some workers hold and may hold; cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl Memory {
    pub(crate) fn new(limit: Bytes) -> Self {
        Self { used: Arc::default(), limit: limit.0 }
    }

    /// What should be freed in this turn.
    pub(crate) fn to_free(&self) -> u64 {
        self.used.load(Relaxed).saturating_sub(self.limit).min(PORTION)
    }
}

/// One operator's part of it.
pub(crate) struct Held {
    memory: Memory,
    bytes: u64,
}

impl Held {
    pub(crate) const fn new(memory: Memory) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Enters what the operator holds now; gives by how much that is more, modulo 2^64.
    pub(crate) fn set(&mut self, bytes: u64) -> u64 {
        let more = bytes.wrapping_sub(self.bytes);
        self.bytes = bytes;
        // Differences wrap around, and so does the sum.
        self.memory.used.fetch_add(more, Relaxed);
        more
    }

    pub(crate) fn to_free(&self) -> u64 {
        self.memory.to_free()
    }

    /// What the operator holds.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_operators_count() {
        let memory = Memory::new(Bytes(10));
        let (mut one, mut other) = (Held::new(memory.clone()), Held::new(memory.clone()));
        assert_eq!((one.set(7), other.set(6)), (7, 6));
        assert_eq!(memory.to_free(), 3);
        assert_eq!(one.set(5), 2u64.wrapping_neg());
        assert_eq!(memory.to_free(), 1);
        drop(other);
        assert_eq!(memory.to_free(), 0);
    }
}
