//! A keyed table of one worker: its shape, its rows, insertion and deletion.
//!
//! A table owns a contiguous range of key groups; each has its own index and pages. Batches go
//! through it in two passes ([`lookup`], [`update`]); it is frozen, copied out and settled for
//! checkpoints and readers ([`freeze`], [`read`]); it is filled from stored parts ([`load`]) and
//! kept within memory ([`evict`]); a row's words may name other rows ([`position`]). It does no I/O
//! of its own except through [`PageSource`](crate::store::PageSource), starts no threads and is used
//! by one worker only.
//!
//! Invariants: every live slot is in its group's index once; a slot is in its group's free list
//! if it was taken once and is not live.

mod evict;
mod freeze;
mod load;
mod lookup;
mod position;
mod read;
mod update;

pub use freeze::{FreezeInfo, FreezeOptions, Outcome, Progress};
pub use lookup::ByteKeys;
pub use read::Rows;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::key::{FileNumber, TableId};
use crate::page::{Bitmap, Layout, PAGE_BITS, PAGE_SLOTS, Page, SpareUndo, heap_key};
use crate::record::Scratch;
use crate::restore::Restore;
use crate::store::PageSource;
use freeze::Frozen;
use highwater_core::KeyGroups;
use lookup::Keys;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

/// The most pages of a table on one worker.
const MAX_PAGES: usize = (1 << (32 - PAGE_BITS)) - 1;

/// What a table's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// One 64-bit word.
    U64,
    /// A byte string.
    Bytes,
    /// A byte string that begins with what places it, a hash or the top byte of one, big-endian:
    /// keys of one hash share a key group. See [`crate::hash_placed`].
    Placed,
}

/// The shape and place of a table.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Its name within the pipeline.
    pub id: TableId,
    /// What its keys are.
    pub key: KeyKind,
    /// Words of value in each row; 0 for a set.
    pub words: usize,
    /// How many key groups the pipeline has.
    pub groups: KeyGroups,
    /// The key groups this worker owns.
    pub owned: Range<usize>,
    /// Where evicted pages are read from; without it nothing is evicted.
    pub source: Option<PageSource>,
}

/// Where a key's row is, until that key is deleted. Stays valid when pages grow or are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(NonZeroU32);

impl Slot {
    pub(crate) fn new(page: usize, at: usize) -> Self {
        let raw = (page << PAGE_BITS | at) as u32 + 1;
        Self(NonZeroU32::new(raw).expect("MAX_PAGES keeps slot numbers below 2^32 - 1"))
    }

    /// The slot in the low half of an index entry.
    #[inline]
    pub(crate) const fn from_entry(entry: u64) -> Option<Self> {
        match NonZeroU32::new(entry as u32) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    #[inline]
    pub(crate) const fn to_entry(self) -> u64 {
        self.0.get() as u64
    }

    #[inline]
    pub(crate) const fn page(self) -> usize {
        ((self.0.get() - 1) >> PAGE_BITS) as usize
    }

    #[inline]
    pub(crate) const fn at(self) -> usize {
        (self.0.get() - 1) as usize & (PAGE_SLOTS - 1)
    }
}

#[derive(Debug)]
struct Group {
    index: Index,
    /// Table-wide numbers of its pages, by their number in the group.
    pages: Vec<u32>,
    free: Vec<Slot>,
    loaded: bool,
    /// The oldest file that its pages need, and the size of their base, as of the last settling.
    floor: Option<FileNumber>,
    base_bytes: u64,
}

impl Group {
    fn new(number: usize) -> Self {
        Self {
            index: Index::new(number),
            pages: Vec::new(),
            free: Vec::new(),
            loaded: true,
            floor: None,
            base_bytes: 0,
        }
    }
}

/// A keyed table of one worker.
#[derive(Debug)]
pub struct Table {
    id: TableId,
    layout: Layout,
    key_groups: KeyGroups,
    first_group: usize,
    groups: Vec<Group>,
    pages: Vec<Page>,
    len: u64,
    /// Bytes of pages and indexes.
    memory: u64,
    /// Bytes of the rows that are saved for the read in progress.
    read_undo: u64,
    /// Counts freezes for checkpoints; its parity selects the bitmaps that are written to.
    epoch: u32,
    /// Pages touched in this epoch.
    dirty: Vec<u32>,
    checkpoint: Option<Frozen>,
    reading: Option<Frozen>,
    restore: Option<Arc<Restore>>,
    source: Option<PageSource>,
    evict_hand: usize,
    evicted: usize,
    spare_undo: SpareUndo,
    spare_list: Vec<u32>,
    scratch: Scratch,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(options: TableOptions) -> Self {
        let groups: Vec<Group> = options.owned.clone().map(Group::new).collect();
        Self {
            id: options.id,
            layout: Layout { kind: options.key, stride: options.words + 1 },
            key_groups: options.groups,
            first_group: options.owned.start,
            memory: groups.iter().map(|group| group.index.bytes() as u64).sum(),
            groups,
            pages: Vec::new(),
            len: 0,
            read_undo: 0,
            epoch: 1,
            dirty: Vec::new(),
            checkpoint: None,
            reading: None,
            restore: None,
            source: options.source,
            evict_hand: 0,
            evicted: 0,
            spare_undo: Vec::new(),
            spare_list: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    /// Keys it holds; while it is being loaded, those of the loaded groups.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Words of value in each row.
    #[must_use]
    pub const fn words_per_row(&self) -> usize {
        self.layout.stride - 1
    }

    /// The key groups it owns.
    #[must_use]
    pub fn owned(&self) -> Range<usize> {
        self.first_group..self.first_group + self.groups.len()
    }

    /// Whether the key of this hash would live here.
    #[inline]
    #[must_use]
    pub fn owns(&self, hash: u64) -> bool {
        self.group_of(hash) < self.groups.len()
    }

    /// Bytes of its pages and indexes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// Bytes of the rows that have changed since the read in progress began, as they were.
    #[must_use]
    pub const fn read_undo_bytes(&self) -> u64 {
        self.read_undo
    }

    /// Enters into `memory` that something grew or shrank.
    fn account(&mut self, before: usize, after: usize) {
        self.memory = self.memory + after as u64 - before as u64;
    }

    /// The words of a row.
    ///
    /// # Panics
    /// When the slot's page was evicted since the slot was found, or the slot is not this table's.
    #[inline]
    #[must_use]
    pub fn words(&self, slot: Slot) -> &[u64] {
        let start = slot.at() * self.layout.stride;
        &self.pages[slot.page()].rows[start + 1..start + self.layout.stride]
    }

    /// The key of a row of a [`KeyKind::U64`] table.
    ///
    /// # Panics
    /// As [`Table::words`].
    #[inline]
    #[must_use]
    pub fn key_u64(&self, slot: Slot) -> u64 {
        debug_assert_eq!(self.layout.kind, KeyKind::U64);
        self.pages[slot.page()].rows[slot.at() * self.layout.stride]
    }

    /// The key of a row of a table of byte keys.
    ///
    /// # Panics
    /// As [`Table::words`].
    #[inline]
    #[must_use]
    pub fn key_bytes(&self, slot: Slot) -> &[u8] {
        debug_assert_ne!(self.layout.kind, KeyKind::U64);
        let page = &self.pages[slot.page()];
        heap_key(&page.heap, page.rows[slot.at() * self.layout.stride])
    }

    /// Position in `groups` of a hash's key group; beyond its end if the group is not owned.
    #[inline]
    fn group_of(&self, hash: u64) -> usize {
        self.key_groups.of_hash(hash).wrapping_sub(self.first_group)
    }

    #[inline]
    const fn parity(&self) -> usize {
        (self.epoch & 1) as usize
    }

    /// Puts a key that is not in the table into a slot with zeroed words.
    #[inline(never)]
    fn insert<K: Keys>(&mut self, hash: u64, keys: K, row: usize) -> Result<Slot> {
        let group = self.group_of(hash);
        if !self.groups[group].loaded {
            return Err(Error::Usage("a key group was used before it was loaded"));
        }
        let slot = self.free_slot(group)?;
        let (page, at) = (slot.page(), slot.at());
        if self.pages[page].stamp != self.epoch {
            self.touch_one(page, at);
        }
        let (parity, stride) = (self.parity(), self.layout.stride);
        let page = &mut self.pages[page];
        let heap_before = page.heap.capacity();
        let word = keys.store(row, page)?;
        let heap_after = page.heap.capacity();
        let words = &mut page.rows[at * stride..][..stride];
        words.fill(0);
        words[0] = word;
        page.mark(Bitmap::Live, at);
        page.mark(Bitmap::Fresh(parity), at);
        page.mark(Bitmap::Dirty(parity), at);
        page.len = page.len.max(at + 1);
        let group = &mut self.groups[group];
        if group.free.last() == Some(&slot) {
            group.free.pop();
        }
        let index_before = group.index.bytes();
        group.index.insert(hash, slot);
        let index_after = group.index.bytes();
        self.account(heap_before + index_before, heap_after + index_after);
        self.len += 1;
        Ok(slot)
    }

    /// A slot of a group that is not live and resident: a freed one, or one at the end.
    fn free_slot(&mut self, group: usize) -> Result<Slot> {
        if let Some(&slot) = self.groups[group].free.last() {
            self.ensure_resident(slot.page())?;
            return Ok(slot);
        }
        let stride = self.layout.stride;
        if let Some(&last) = self.groups[group].pages.last() {
            let last = last as usize;
            let len = self.pages[last].len;
            if len < PAGE_SLOTS {
                self.ensure_resident(last)?;
                if len == self.pages[last].capacity(stride) {
                    let before = self.pages[last].bytes();
                    self.pages[last].grow(len + 1, stride);
                    self.account(before, self.pages[last].bytes());
                }
                return Ok(Slot::new(last, len));
            }
        }
        let page = self.add_page(group)?;
        Ok(Slot::new(page, 0))
    }

    fn add_page(&mut self, group: usize) -> Result<usize> {
        let page = self.pages.len();
        if page >= MAX_PAGES {
            return Err(Error::Full { what: "a table's page list", limit: MAX_PAGES as u64 });
        }
        let number = self.groups[group].pages.len();
        self.pages.push(Page::new(self.first_group + group, group, number, self.layout.stride));
        self.groups[group].pages.push(page as u32);
        self.account(0, self.pages[page].bytes());
        Ok(page)
    }

    /// Removes keys. Slots that hold no key are passed over, so a slot may stand twice in `slots`.
    ///
    /// # Errors
    /// When an evicted page cannot be read back.
    pub fn delete(&mut self, slots: &[Slot]) -> Result<()> {
        for &slot in slots {
            let (page, at) = (slot.page(), slot.at());
            self.ensure_resident(page)?;
            if !self.pages[page].is_live(at) {
                continue;
            }
            let hash = self.pages[page].key_hash(at, self.layout);
            self.touch_one(page, at);
            let (parity, stride) = (self.parity(), self.layout.stride);
            let page = &mut self.pages[page];
            page.mark(Bitmap::Dirty(parity), at);
            crate::bits::clear(page.bitmap_mut(Bitmap::Live), at);
            let before = page.heap.capacity();
            if self.layout.kind != KeyKind::U64 {
                page.cold.garbage += page.rows[at * stride] as u32 as usize;
                page.compact(stride);
            }
            let after = page.heap.capacity();
            self.account(before, after);
            let group = self.group_of(hash);
            let group = &mut self.groups[group];
            let removed = group.index.remove(hash, slot);
            debug_assert!(removed, "a live slot is in the index");
            group.free.push(slot);
            self.len -= 1;
        }
        Ok(())
    }
}
