//! Pass one of a batch: from keys to slots.
//!
//! A batch is taken in chunks whose cache misses overlap: first every index entry is asked for,
//! then every row it points to (and, for byte keys, the key in the heap), and only then are keys
//! compared. Hashes are the caller's, made by [`crate::hash`]; they are never checked.

use super::{Slot, Table};
use crate::error::{Error, Result};
use crate::page::{Page, heap_key};
use crate::prefetch::prefetch;

/// Rows whose cache misses overlap.
pub(super) const CHUNK: usize = 256;

/// A column of byte keys as Arrow has it: key `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct ByteKeys<'a> {
    data: &'a [u8],
    offsets: &'a [i32],
}

impl<'a> ByteKeys<'a> {
    /// A column of `offsets.len() - 1` keys.
    ///
    /// # Errors
    /// When the offsets do not ascend within `data`.
    pub fn new(data: &'a [u8], offsets: &'a [i32]) -> Result<Self> {
        let ascending = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let within = offsets.first().is_some_and(|&first| first >= 0)
            && offsets.last().is_some_and(|&last| last as usize <= data.len());
        if ascending && within {
            Ok(Self { data, offsets })
        } else {
            Err(Error::Usage("the offsets of byte keys do not ascend within their data"))
        }
    }

    /// How many keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One key.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> &'a [u8] {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// The hashes of all keys; `out` is replaced.
    pub fn hash_into(&self, out: &mut Vec<u64>) {
        out.clear();
        out.extend((0..self.len()).map(|row| crate::hash_bytes(self.get(row))));
    }
}

/// A batch of keys of either kind.
pub(super) trait Keys: Copy {
    /// Whether keys stand in page heaps.
    const IN_HEAP: bool;
    fn count(self) -> usize;
    /// Whether a slot's key word stands for the key of `row`.
    fn matches(self, row: usize, word: u64, page: &Page) -> bool;
    /// Makes the key word of `row` in a page.
    fn store(self, row: usize, page: &mut Page) -> Result<u64>;
}

impl Keys for &[u64] {
    const IN_HEAP: bool = false;

    fn count(self) -> usize {
        self.len()
    }

    #[inline]
    fn matches(self, row: usize, word: u64, _: &Page) -> bool {
        self[row] == word
    }

    fn store(self, row: usize, _: &mut Page) -> Result<u64> {
        Ok(self[row])
    }
}

impl Keys for ByteKeys<'_> {
    const IN_HEAP: bool = true;

    fn count(self) -> usize {
        self.len()
    }

    #[inline]
    fn matches(self, row: usize, word: u64, page: &Page) -> bool {
        heap_key(&page.heap, word) == self.get(row)
    }

    fn store(self, row: usize, page: &mut Page) -> Result<u64> {
        page.push_key(self.get(row))
    }
}

impl Table {
    /// Finds or inserts every key; `slots` is replaced by a slot a row. A new key's words are 0
    /// and its row number is appended to `created` (once, where a key stands in several rows).
    ///
    /// # Errors
    /// When a key group is not owned or not loaded, the table is full, or an evicted page cannot
    /// be read; keys of earlier rows may have been inserted by then.
    pub fn upsert_u64(
        &mut self,
        hashes: &[u64],
        keys: &[u64],
        slots: &mut Vec<Slot>,
        created: &mut Vec<u32>,
    ) -> Result<()> {
        self.upsert(hashes, keys, slots, created)
    }

    /// [`Table::upsert_u64`] for byte keys.
    ///
    /// # Errors
    /// As [`Table::upsert_u64`].
    pub fn upsert_bytes(
        &mut self,
        hashes: &[u64],
        keys: ByteKeys<'_>,
        slots: &mut Vec<Slot>,
        created: &mut Vec<u32>,
    ) -> Result<()> {
        self.upsert(hashes, keys, slots, created)
    }

    /// Finds every key; `slots` is replaced by a slot a row, or `None` where the table lacks it.
    ///
    /// # Errors
    /// As [`Table::upsert_u64`].
    pub fn find_u64(&mut self, hashes: &[u64], keys: &[u64], slots: &mut Vec<Option<Slot>>) -> Result<()> {
        self.find(hashes, keys, slots)
    }

    /// [`Table::find_u64`] for byte keys.
    ///
    /// # Errors
    /// As [`Table::upsert_u64`].
    pub fn find_bytes(&mut self, hashes: &[u64], keys: ByteKeys<'_>, slots: &mut Vec<Option<Slot>>) -> Result<()> {
        self.find(hashes, keys, slots)
    }

    fn upsert<K: Keys>(
        &mut self,
        hashes: &[u64],
        keys: K,
        slots: &mut Vec<Slot>,
        created: &mut Vec<u32>,
    ) -> Result<()> {
        check_lengths(hashes, keys)?;
        slots.clear();
        slots.reserve(hashes.len());
        for (chunk, hashes) in hashes.chunks(CHUNK).enumerate() {
            let candidates = self.approach::<K>(hashes)?;
            for (at, (&hash, candidate)) in hashes.iter().zip(candidates).enumerate() {
                let row = chunk * CHUNK + at;
                let slot = match candidate {
                    Some(slot) if self.is_key(slot, keys, row) => slot,
                    _ => self.find_or_insert(hash, keys, row, created)?,
                };
                slots.push(slot);
            }
        }
        Ok(())
    }

    fn find<K: Keys>(&mut self, hashes: &[u64], keys: K, slots: &mut Vec<Option<Slot>>) -> Result<()> {
        check_lengths(hashes, keys)?;
        slots.clear();
        slots.reserve(hashes.len());
        for (chunk, hashes) in hashes.chunks(CHUNK).enumerate() {
            let candidates = self.approach::<K>(hashes)?;
            for (at, (&hash, candidate)) in hashes.iter().zip(candidates).enumerate() {
                let row = chunk * CHUNK + at;
                slots.push(match candidate {
                    Some(slot) if self.is_key(slot, keys, row) => Some(slot),
                    Some(_) => self.find_slowly(hash, keys, row)?,
                    None if self.groups[self.group_of(hash)].loaded => None,
                    None => return Err(Error::Usage("a key group was used before it was loaded")),
                });
            }
        }
        Ok(())
    }

    /// The first slot with a fitting tag for every row of a chunk, its row on the way into the
    /// cache, and its page in memory.
    #[inline]
    fn approach<K: Keys>(&mut self, hashes: &[u64]) -> Result<[Option<Slot>; CHUNK]> {
        for &hash in hashes {
            let Some(group) = self.groups.get(self.group_of(hash)) else {
                return Err(Error::Usage("a key belongs to a key group of another worker"));
            };
            group.index.prefetch(hash);
        }
        let mut candidates = [None; CHUNK];
        let mut missing = false;
        let stride = self.layout.stride;
        for (&hash, candidate) in hashes.iter().zip(&mut candidates) {
            *candidate = self.groups[self.group_of(hash)].index.candidate(hash);
            if let Some(slot) = *candidate {
                let page = &self.pages[slot.page()];
                let start = slot.at() * stride;
                prefetch(&page.rows, start);
                prefetch(&page.rows, start + stride - 1);
                missing |= page.is_evicted();
            }
        }
        if missing {
            self.make_resident(candidates.iter().flatten().map(|slot| slot.page()))?;
        }
        if K::IN_HEAP {
            for slot in candidates.iter().flatten() {
                let page = &self.pages[slot.page()];
                prefetch(&page.heap, (page.rows[slot.at() * stride] >> 32) as usize);
            }
        }
        Ok(candidates)
    }

    #[inline]
    fn is_key<K: Keys>(&self, slot: Slot, keys: K, row: usize) -> bool {
        let page = &self.pages[slot.page()];
        keys.matches(row, page.rows[slot.at() * self.layout.stride], page)
    }

    #[cold]
    fn find_slowly<K: Keys>(&mut self, hash: u64, keys: K, row: usize) -> Result<Option<Slot>> {
        let group = self.group_of(hash);
        if self.evicted > 0 {
            let mut pages = Vec::new();
            self.groups[group].index.find(hash, |slot| {
                pages.push(slot.page());
                false
            });
            self.make_resident(pages.into_iter())?;
        }
        Ok(self.groups[group].index.find(hash, |slot| self.is_key(slot, keys, row)))
    }

    /// The way of a key whose first candidate was not it: most likely it is new.
    fn find_or_insert<K: Keys>(&mut self, hash: u64, keys: K, row: usize, created: &mut Vec<u32>) -> Result<Slot> {
        // An earlier row of the chunk may have inserted it after the candidates were looked up.
        let known = if self.evicted == 0 {
            self.groups[self.group_of(hash)].index.find(hash, |slot| self.is_key(slot, keys, row))
        } else {
            self.find_slowly(hash, keys, row)?
        };
        if let Some(slot) = known {
            return Ok(slot);
        }
        let slot = self.insert(hash, keys, row)?;
        created.push(row as u32);
        Ok(slot)
    }
}

fn check_lengths<K: Keys>(hashes: &[u64], keys: K) -> Result<()> {
    if hashes.len() == keys.count() { Ok(()) } else { Err(Error::Usage("a batch has as many hashes as keys")) }
}
