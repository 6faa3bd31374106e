//! The hash index of one key group: from a key's hash to its slot.
//!
//! Open addressing with linear probing over words of `tag (32 bits) | slot number + 1 (32 bits)`;
//! 0 is empty. The tag is hash bits 24 to 55 and its low bits are the home position, so growth
//! and deletion (by shifting back, there are no tombstones) never look at a key, and a key is
//! compared almost only when it is the right one. The index does not know keys or pages.
//!
//! Invariants: the table is never full; between an entry and its home there is no empty position.

use crate::prefetch::prefetch;
use crate::table::Slot;

const SMALLEST: usize = 8;

/// One key group's index.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<u64>,
    len: u32,
    /// Grows before it holds more than this.
    limit: u32,
    /// Fill in thousandths at which it doubles.
    fill: u32,
}

#[inline]
const fn tag(hash: u64) -> u64 {
    hash >> 24 & 0xFFFF_FFFF
}

/// So many empty positions, written at once. Memory that the system gives as zero (`vec![0; n]`)
/// would be read first, as a probe looks before it writes: each page then faults twice, the second
/// time with an interrupt to all other cores, which took a third of the time of a restore.
fn empty(positions: usize) -> Vec<u64> {
    let mut entries = std::hint::black_box(Vec::with_capacity(positions));
    entries.resize(positions, 0);
    entries
}

impl Index {
    /// An empty index. Groups double at fills spread over 0.62 to 0.80, so that a uniformly
    /// growing table does not rebuild all its indexes within one batch.
    pub(crate) fn new(group: usize) -> Self {
        let spread = u32::from((group as u8).reverse_bits());
        let mut index = Self { entries: empty(SMALLEST), len: 0, limit: 0, fill: 620 + spread * 180 / 255 };
        index.set_limit();
        index
    }

    fn set_limit(&mut self) {
        self.limit = (self.entries.len() as u64 * u64::from(self.fill) / 1000) as u32;
    }

    #[inline]
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * 8
    }

    /// Brings the home position of a hash near.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(&self.entries, tag(hash) as usize & self.mask());
    }

    /// The first slot whose tag fits; nearly always the key's own.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<Slot> {
        self.find(hash, |_| true)
    }

    /// The slot whose tag fits and for which `is_key` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_key: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let (tag, mask) = (tag(hash), self.mask());
        let mut at = tag as usize & mask;
        loop {
            let entry = self.entries[at];
            let slot = Slot::from_entry(entry)?;
            if entry >> 32 == tag && is_key(slot) {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a key that is not in the index.
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot) {
        if self.len >= self.limit {
            self.rebuild(self.entries.len() * 2);
        }
        self.place(tag(hash) << 32 | slot.to_entry());
        self.len += 1;
    }

    /// Makes room for `keys` in all.
    pub(crate) fn reserve(&mut self, keys: usize) {
        let mut capacity = self.entries.len();
        while (capacity as u64 * u64::from(self.fill) / 1000) < keys as u64 {
            capacity *= 2;
        }
        if capacity > self.entries.len() {
            self.rebuild(capacity);
        }
    }

    #[cold]
    #[inline(never)]
    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.entries, empty(capacity));
        self.set_limit();
        for entry in old {
            if entry != 0 {
                self.place(entry);
            }
        }
    }

    #[inline]
    fn place(&mut self, entry: u64) {
        let mask = self.mask();
        let mut at = (entry >> 32) as usize & mask;
        while self.entries[at] != 0 {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    /// Removes a key by its hash and slot; false if it was not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) -> bool {
        let (wanted, mask) = (tag(hash) << 32 | slot.to_entry(), self.mask());
        let mut hole = tag(hash) as usize & mask;
        while self.entries[hole] != wanted {
            if self.entries[hole] == 0 {
                return false;
            }
            hole = (hole + 1) & mask;
        }
        // Shift back every follower that may stand nearer to its home.
        let mut next = (hole + 1) & mask;
        while self.entries[next] != 0 {
            let home = (self.entries[next] >> 32) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole] = 0;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn agrees_with_a_map_through_inserts_and_removals() {
        let mut rng = Rng::seeded(3);
        for group in [0, 17, 255] {
            let mut index = Index::new(group);
            let mut twin = BTreeMap::new();
            let mut next = 0u32;
            for _ in 0..20_000 {
                // Few distinct homes, so that runs are long and wrap around.
                let hash = rng.below(1 << 9) << 24 | rng.below(4) << 54;
                let known: Vec<Slot> = twin.iter().filter(|(_, h)| **h == hash).map(|(s, _)| *s).collect();
                if let (false, Some(&slot)) = (rng.one_in(3), known.first()) {
                    assert!(index.remove(hash, slot));
                    assert!(!index.remove(hash, slot));
                    twin.remove(&slot);
                } else if twin.len() < 600 {
                    let slot = Slot::new(next as usize >> 12, next as usize & 4095);
                    next += 1;
                    index.insert(hash, slot);
                    twin.insert(slot, hash);
                }
            }
            for (&slot, &hash) in &twin {
                assert_eq!(index.find(hash, |s| s == slot), Some(slot));
            }
            assert_eq!(index.len as usize, twin.len());
            assert_eq!(index.entries.iter().filter(|e| **e != 0).count(), twin.len());
        }
    }

    #[test]
    fn reserving_avoids_growth() {
        let mut index = Index::new(9);
        index.reserve(1000);
        let capacity = index.entries.len();
        for i in 0..1000u64 {
            index.insert(crate::hash_u64(i), Slot::new(0, i as usize));
        }
        assert_eq!(index.entries.len(), capacity);
    }
}
