//! One page: up to 4,096 slots of a key group, their keys and words, and what happened to them.
//!
//! A slot is a row `[key word, words...]`; rows stand side by side, so touching a row touches one
//! or two cache lines. The key word is the key itself, or `offset << 32 | length` into the page's
//! heap of byte keys, which only grows until it is compacted.
//!
//! Invariants. A bit in `live` means that the slot holds a key. The dirty and fresh bitmaps of a
//! parity are meaningful only when the page was touched in an epoch of that parity that is the
//! current one or the one being written; they are zeroed at the first touch of an epoch. `stamp`
//! equals the table's epoch only if the page was touched in it and nothing is pending, which is
//! the one comparison a row pays. An evicted page has no rows and no heap but keeps its bitmaps.

use crate::bits;
use crate::error::{Error, Result};
use crate::hash::{hash_bytes, hash_placed, hash_u64};
use crate::key::FileNumber;
use crate::record::PageView;
use crate::table::KeyKind;

/// Bits of a slot's offset within its page.
pub(crate) const PAGE_BITS: u32 = 12;
/// Slots of a full page.
pub(crate) const PAGE_SLOTS: usize = 1 << PAGE_BITS;
/// Slots of a group's first page when it is made; later pages start larger.
const SMALLEST_PAGE: usize = 8;
const LATER_PAGE: usize = 1024;
/// A heap below this is not worth compacting.
const SMALLEST_GARBAGE: usize = 4096;

/// Why a page waits to be copied; each has its own undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For a checkpoint.
    Checkpoint = 0,
    /// For a reader.
    Read = 1,
}

/// Which bitmap.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bitmap {
    /// Slots that hold a key.
    Live,
    /// Slots changed in an epoch of this parity.
    Dirty(usize),
    /// Slots that took a key in an epoch of this parity.
    Fresh(usize),
}

const BITMAPS: usize = 5;

impl Bitmap {
    #[inline]
    const fn section(self) -> usize {
        match self {
            Self::Live => 0,
            Self::Dirty(parity) => 1 + parity,
            Self::Fresh(parity) => 3 + parity,
        }
    }
}

/// Old rows of a pending page: entries of `offset | live << 32` and the row.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    saved: Vec<u64>,
    entries: Vec<u64>,
}

impl Undo {
    pub(crate) fn reset(&mut self) {
        self.saved.clear();
        self.entries.clear();
    }

    /// What its rows take in memory.
    pub(crate) const fn bytes(&self) -> u64 {
        self.entries.len() as u64 * 8
    }
}

/// What one part of the store holds of a page, newest last in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: FileNumber,
    /// The file has all the page's keys: the chain starts here.
    pub(crate) base: bool,
    /// The record was put inline into a manifest, not into a file.
    pub(crate) inline: bool,
}

/// What is rarely needed of a page.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    pub(crate) group: u32,
    pub(crate) number: u32,
    /// Bytes of the heap that no live slot owns.
    pub(crate) garbage: usize,
    pub(crate) undo: [Option<Box<Undo>>; 2],
    /// Where the page's durable records are, from its base on; empty if it was never written.
    pub(crate) chain: Vec<Link>,
    /// Encoded size of the newest image and of the deltas since.
    pub(crate) image_bytes: u32,
    pub(crate) delta_bytes: u32,
    /// Encoded size of all keys when they were last written as a base.
    pub(crate) key_bytes: u32,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<u64>,
    bitmaps: Vec<u64>,
    pub(crate) heap: Vec<u8>,
    pub(crate) stamp: u32,
    /// The epoch whose parity's bitmaps are valid.
    pub(crate) touched: u32,
    words_per_bitmap: u32,
    /// One above the highest slot ever taken.
    pub(crate) len: usize,
    /// Position of its key group in the table.
    pub(crate) group: u32,
    /// It has durable records.
    pub(crate) written: bool,
    /// One bit a [`Purpose`].
    pub(crate) pending: u8,
    /// Part of a checkpoint whose outcome is unknown.
    pub(crate) unsettled: bool,
    /// Used since the eviction hand last passed.
    pub(crate) referenced: bool,
    pub(crate) cold: Box<Cold>,
}

impl Page {
    /// An empty page: the `number`th of key group `group`, which is the `at`th of the table.
    pub(crate) fn new(group: usize, at: usize, number: usize, stride: usize) -> Self {
        let capacity = if number == 0 { SMALLEST_PAGE } else { LATER_PAGE };
        let words = bits::words_for(capacity);
        Self {
            rows: vec![0; capacity * stride],
            bitmaps: vec![0; words * BITMAPS],
            heap: Vec::new(),
            stamp: 0,
            touched: 0,
            words_per_bitmap: words as u32,
            len: 0,
            group: at as u32,
            written: false,
            pending: 0,
            unsettled: false,
            referenced: true,
            cold: Box::new(Cold { group: group as u32, number: number as u32, ..Cold::default() }),
        }
    }

    /// Slots there is room for; 0 when evicted.
    #[inline]
    pub(crate) fn capacity(&self, stride: usize) -> usize {
        self.rows.len() / stride
    }

    #[inline]
    pub(crate) fn is_evicted(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes room for at least `slots`, by doubling.
    pub(crate) fn grow(&mut self, slots: usize, stride: usize) {
        let mut capacity = self.capacity(stride).max(SMALLEST_PAGE);
        while capacity < slots {
            capacity *= 2;
        }
        debug_assert!(capacity <= PAGE_SLOTS);
        let mut rows = vec![0; capacity * stride];
        rows[..self.rows.len()].copy_from_slice(&self.rows);
        self.rows = rows;
        let (old, new) = (self.words_per_bitmap as usize, bits::words_for(capacity));
        if new > old {
            let mut bitmaps = vec![0; new * BITMAPS];
            for section in 0..BITMAPS {
                bitmaps[section * new..section * new + old]
                    .copy_from_slice(&self.bitmaps[section * old..(section + 1) * old]);
            }
            self.bitmaps = bitmaps;
            self.words_per_bitmap = new as u32;
        }
    }

    /// Drops rows and heap; the bitmaps stay.
    pub(crate) fn evict(&mut self) {
        self.rows = Vec::new();
        self.heap = Vec::new();
        self.cold.garbage = 0;
    }

    /// Bytes held in memory, undo apart.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.rows.capacity() * 8
            + self.bitmaps.capacity() * 8
            + self.heap.capacity()
            + size_of::<Self>()
            + size_of::<Cold>()
    }

    #[inline]
    pub(crate) fn bitmap(&self, which: Bitmap) -> &[u64] {
        let words = self.words_per_bitmap as usize;
        &self.bitmaps[which.section() * words..][..words]
    }

    #[inline]
    pub(crate) fn bitmap_mut(&mut self, which: Bitmap) -> &mut [u64] {
        let words = self.words_per_bitmap as usize;
        &mut self.bitmaps[which.section() * words..][..words]
    }

    /// Sets a bit with one bounds check.
    #[inline]
    pub(crate) fn mark(&mut self, which: Bitmap, at: usize) {
        self.bitmaps[which.section() * self.words_per_bitmap as usize + at / 64] |= 1 << (at % 64);
    }

    #[inline]
    pub(crate) fn is_live(&self, at: usize) -> bool {
        bits::get(self.bitmap(Bitmap::Live), at)
    }

    /// Saves a slot's row for `purpose` unless that is done; gives what that takes in memory.
    pub(crate) fn save(&mut self, purpose: Purpose, at: usize, stride: usize, spare: &mut SpareUndo) -> u64 {
        let live = self.is_live(at);
        let undo = self.cold.undo[purpose as usize].get_or_insert_with(|| spare.pop().unwrap_or_default());
        if undo.saved.len() * 64 <= at {
            undo.saved.resize(bits::words_for(self.rows.len() / stride), 0);
        }
        if bits::get(&undo.saved, at) {
            return 0;
        }
        let before = undo.bytes();
        bits::set(&mut undo.saved, at);
        undo.entries.push(at as u64 | u64::from(live) << 32);
        undo.entries.extend_from_slice(&self.rows[at * stride..][..stride]);
        undo.bytes() - before
    }

    /// Exchanges the rows saved for `purpose` with those of the page: once to see the page as it
    /// was frozen, once more to go on with it.
    pub(crate) fn exchange(&mut self, purpose: Purpose, stride: usize) {
        let Some(mut undo) = self.cold.undo[purpose as usize].take() else { return };
        for entry in undo.entries.chunks_exact_mut(1 + stride) {
            let at = entry[0] as u32 as usize;
            let live = self.is_live(at);
            bits::assign(self.bitmap_mut(Bitmap::Live), at, entry[0] >> 32 != 0);
            entry[0] = at as u64 | u64::from(live) << 32;
            self.rows[at * stride..][..stride].swap_with_slice(&mut entry[1..]);
        }
        self.cold.undo[purpose as usize] = Some(undo);
    }

    /// The page for encoding.
    pub(crate) fn view(&self, layout: Layout) -> PageView<'_> {
        PageView { rows: &self.rows, heap: &self.heap, live: self.bitmap(Bitmap::Live), layout }
    }

    /// The hash of the key in a slot.
    pub(crate) fn key_hash(&self, at: usize, layout: Layout) -> u64 {
        let word = self.rows[at * layout.stride];
        match layout.kind {
            KeyKind::U64 => hash_u64(word),
            KeyKind::Bytes => hash_bytes(heap_key(&self.heap, word)),
            KeyKind::Placed => hash_placed(heap_key(&self.heap, word)),
        }
    }

    /// Appends a byte key to the heap and gives its key word.
    pub(crate) fn push_key(&mut self, key: &[u8]) -> Result<u64> {
        let offset = self.heap.len();
        if offset + key.len() > u32::MAX as usize {
            return Err(Error::Full { what: "the key heap of a page", limit: u64::from(u32::MAX) });
        }
        self.heap.extend_from_slice(key);
        Ok(key_word(offset, key.len()))
    }

    /// Rewrites the heap without garbage if more than half of it is garbage and nobody needs it.
    pub(crate) fn compact(&mut self, stride: usize) {
        if self.pending != 0 || self.cold.garbage < SMALLEST_GARBAGE || self.cold.garbage * 2 < self.heap.len() {
            return;
        }
        let mut heap = Vec::with_capacity(self.heap.len() - self.cold.garbage);
        for at in 0..self.len {
            let word = self.rows[at * stride];
            let live = self.is_live(at);
            self.rows[at * stride] = if live { key_word(heap.len(), word as u32 as usize) } else { 0 };
            if live {
                heap.extend_from_slice(heap_key(&self.heap, word));
            }
        }
        self.heap = heap;
        self.cold.garbage = 0;
    }
}

/// Undos that wait to be used again, boxed as pages hold them.
pub(crate) type SpareUndo = Vec<Box<Undo>>;

/// The shape of a table's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) kind: KeyKind,
    /// Words of a row, the key word included.
    pub(crate) stride: usize,
}

#[inline]
const fn key_word(offset: usize, length: usize) -> u64 {
    (offset as u64) << 32 | length as u64
}

/// The byte key that a key word stands for.
#[inline]
pub(crate) fn heap_key(heap: &[u8], word: u64) -> &[u8] {
    &heap[(word >> 32) as usize..][..word as u32 as usize]
}
