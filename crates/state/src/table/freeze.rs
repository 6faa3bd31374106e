//! Freezing a table for a checkpoint, copying it out between batches, and settling the outcome.
//!
//! Freezing only marks pages. Until a marked page is copied, the first write to a slot saves the
//! old row (see [`super::update`]). One checkpoint may be in flight; its dirty and fresh bits stay
//! in the bitmaps of the frozen parity until it is settled: dropped when it was stored, or merged
//! into the current ones when it failed, so that nothing is forgotten.

use super::Table;
use crate::bits;
use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind, Record, RecordKey};
use crate::page::{Bitmap, Link, PAGE_SLOTS, Page, Purpose};
use crate::record::{encode_delta, encode_image, encode_keys, estimate};
use crate::scope::GroupFact;

/// A page is written as a delta when at most one in this many of its slots changed.
const DELTA_PART: usize = 4;
/// A page gets a new image when its deltas since the last one are larger than this many images.
/// The rolling base renews all pages sooner under even load; this is for pages changed more often.
const MAX_DELTA_IMAGES: u32 = 2;

/// What a freeze is for.
#[derive(Clone, Copy, Debug)]
pub struct FreezeOptions<'a> {
    /// The number of the file (or inline part) that the records will stand in.
    pub number: FileNumber,
    /// Key groups to write as a full base; groups that are not owned are passed over.
    pub rebase: &'a [u16],
    /// Write every key group as a full base.
    pub all: bool,
}

/// What a freeze marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeInfo {
    /// Pages that will be copied out.
    pub pages: usize,
    /// Those of them that had changed.
    pub dirty_pages: usize,
}

/// How far copying out has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages not copied yet; 0 when done.
    pub pages_left: usize,
    /// Bytes of all records.
    pub written_bytes: u64,
    /// Bytes that the changes of pages written before take, or would take where a base was
    /// written instead.
    pub changed_bytes: u64,
    /// Slots that had changed.
    pub changed_slots: u64,
}

/// What became of a frozen table's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are in a file that the page store has ingested.
    InStore,
    /// They are durable inside a manifest.
    Inline,
    /// They are not durable; the slots are dirty again.
    Failed,
}

/// A table frozen for one purpose.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) pages: Vec<FrozenPage>,
    /// How many of them are copied.
    pub(super) copied: usize,
    number: FileNumber,
    written: Vec<Written>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FrozenPage {
    pub(super) page: u32,
    dirty: bool,
    base: bool,
}

/// Sizes of a page's records, entered into the page when the checkpoint is stored.
#[derive(Clone, Copy, Debug)]
struct Written {
    page: u32,
    base: bool,
    keys: u32,
    image: u32,
    delta: u32,
}

impl Frozen {
    /// All pages, for a reader.
    pub(super) fn for_read(pages: usize) -> Self {
        let pages = (0..pages as u32).map(|page| FrozenPage { page, dirty: false, base: false }).collect();
        Self { pages, copied: 0, number: FileNumber::from_u64(0), written: Vec::new(), progress: Progress::default() }
    }
}

impl Table {
    /// Marks the changed pages, and those of the groups to rebase, as the content of a checkpoint.
    /// Costs some tens of nanoseconds a marked page.
    ///
    /// # Errors
    /// When the checkpoint before is not settled yet.
    pub fn freeze(&mut self, options: &FreezeOptions<'_>) -> Result<FreezeInfo> {
        if self.checkpoint.is_some() {
            return Err(Error::Usage("a table has one checkpoint in flight"));
        }
        let mut rebase = vec![options.all; self.groups.len()];
        for &group in options.rebase {
            if let Some(flag) = rebase.get_mut(usize::from(group).wrapping_sub(self.first_group)) {
                *flag = true;
            }
        }
        let mut pages = Vec::with_capacity(self.dirty.len());
        let dirty = std::mem::replace(&mut self.dirty, std::mem::take(&mut self.spare_list));
        for &page in &dirty {
            let state = &mut self.pages[page as usize];
            state.pending |= 1 << Purpose::Checkpoint as u8;
            state.unsettled = true;
            let base = state.cold.chain.is_empty() || rebase[state.cold.group as usize - self.first_group];
            pages.push(FrozenPage { page, dirty: true, base });
        }
        let dirty_pages = dirty.len();
        self.spare_list = dirty;
        self.spare_list.clear();
        for (group, _) in self.groups.iter().zip(rebase).filter(|(_, rebase)| *rebase) {
            for &page in &group.pages {
                let state = &mut self.pages[page as usize];
                if state.touched != self.epoch {
                    state.pending |= 1 << Purpose::Checkpoint as u8;
                    state.unsettled = true;
                    pages.push(FrozenPage { page, dirty: false, base: true });
                }
            }
        }
        self.epoch += 1;
        let info = FreezeInfo { pages: pages.len(), dirty_pages };
        let written = Vec::with_capacity(pages.len());
        self.checkpoint = Some(Frozen { pages, copied: 0, number: options.number, written, progress: Progress::default() });
        Ok(info)
    }

    /// Appends what the choice of key groups to rebase needs to know of each loaded group that
    /// was ever written.
    pub fn base_facts(&self, out: &mut Vec<GroupFact>) {
        for (at, group) in self.groups.iter().enumerate() {
            let pages = group.pages.iter().map(|&page| &self.pages[page as usize].cold);
            let Some(floor) = pages.clone().filter_map(|cold| cold.chain.first()).map(|link| link.number).min() else { continue };
            let base_bytes = pages.map(|cold| u64::from(cold.key_bytes) + u64::from(cold.image_bytes)).sum();
            out.push(GroupFact { table: self.id, group: (self.first_group + at) as u16, floor, base_bytes });
        }
    }

    /// Whether a checkpoint is in flight.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Whether any slot changed since the last freeze.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Copies frozen pages to `out` while `more` says so; it is asked before each page. Call it
    /// between batches until no page is left.
    ///
    /// # Errors
    /// When nothing is frozen, or an evicted page cannot be read back.
    pub fn copy_out(&mut self, more: &mut impl FnMut() -> bool, out: &mut Vec<Record>) -> Result<Progress> {
        let Some(mut frozen) = self.checkpoint.take() else {
            return Err(Error::Usage("nothing is frozen"));
        };
        let mut done = Ok(());
        while let Some(&next) = frozen.pages.get(frozen.copied) {
            if !more() {
                break;
            }
            done = self.copy_page(next, &mut frozen, out);
            if done.is_err() {
                break;
            }
            frozen.copied += 1;
            self.release(next.page as usize, Purpose::Checkpoint);
        }
        frozen.progress.pages_left = frozen.pages.len() - frozen.copied;
        let progress = frozen.progress;
        self.checkpoint = Some(frozen);
        done.map(|()| progress)
    }

    fn copy_page(&mut self, next: FrozenPage, frozen: &mut Frozen, out: &mut Vec<Record>) -> Result<()> {
        self.ensure_resident(next.page as usize)?;
        let frozen_parity = 1 - self.parity();
        let page = &self.pages[next.page as usize];
        let view = page.frozen(Purpose::Checkpoint, self.layout, &mut self.frozen_scratch);
        let mut slots = Vec::with_capacity(PAGE_SLOTS);
        let key = |kind| RecordKey { table: self.id, group: page.cold.group as u16, page: page.cold.number, kind };
        let mut written = Written { page: next.page, base: next.base, keys: 0, image: 0, delta: 0 };
        let columns = self.layout.stride;
        let changed = if next.dirty { bits::count(page.bitmap(Bitmap::Dirty(frozen_parity))) } else { 0 };
        frozen.progress.changed_slots += changed as u64;
        if next.base {
            bits::positions(view.live.iter().copied(), &mut slots);
            let mut keys = Vec::with_capacity(estimate(slots.len(), 1));
            encode_keys(&view, &slots, &mut self.scratch, &mut keys);
            let mut image = Vec::with_capacity(estimate(slots.len(), columns));
            encode_image(&view, &slots, &mut self.scratch, &mut image);
            written.keys = keys.len() as u32;
            written.image = image.len() as u32;
            frozen.progress.written_bytes += (keys.len() + image.len()) as u64;
            if next.dirty && !page.cold.chain.is_empty() {
                frozen.progress.changed_bytes += change_estimate(changed, slots.len(), image.len());
            }
            out.push(Record { key: key(Kind::BaseKeys), value: keys });
            out.push(Record { key: key(Kind::Image), value: image });
            frozen.written.push(written);
            return Ok(());
        }
        let fresh = page.bitmap(Bitmap::Fresh(frozen_parity)).iter().zip(view.live).map(|(fresh, live)| fresh & live);
        bits::positions(fresh, &mut slots);
        if !slots.is_empty() {
            let mut keys = Vec::with_capacity(estimate(slots.len(), 1));
            encode_keys(&view, &slots, &mut self.scratch, &mut keys);
            written.keys = keys.len() as u32;
            out.push(Record { key: key(Kind::Keys), value: keys });
        }
        bits::positions(page.bitmap(Bitmap::Dirty(frozen_parity)).iter().copied(), &mut slots);
        let mut value = Vec::with_capacity(estimate(slots.len(), columns));
        let mut kind = Kind::Delta;
        if slots.len() * DELTA_PART <= page.cold.len {
            encode_delta(&view, &slots, &mut self.scratch, &mut value);
            written.delta = value.len() as u32;
        }
        if value.is_empty() || page.cold.delta_bytes + written.delta > page.cold.image_bytes * MAX_DELTA_IMAGES {
            written.delta = 0;
            kind = Kind::Image;
            value.clear();
            bits::positions(view.live.iter().copied(), &mut slots);
            encode_image(&view, &slots, &mut self.scratch, &mut value);
            written.image = value.len() as u32;
        }
        let bytes = u64::from(written.keys) + value.len() as u64;
        frozen.progress.written_bytes += bytes;
        frozen.progress.changed_bytes += bytes;
        out.push(Record { key: key(kind), value });
        frozen.written.push(written);
        Ok(())
    }

    /// A page is no longer needed for `purpose`.
    pub(super) fn release(&mut self, index: usize, purpose: Purpose) {
        let page = &mut self.pages[index];
        page.pending &= !(1 << purpose as u8);
        if let Some(mut undo) = page.cold.undo[purpose as usize].take() {
            undo.reset();
            self.spare_undo.push(undo);
        }
        if page.pending == 0 && page.touched == self.epoch {
            page.stamp = self.epoch;
        }
    }

    /// Ends the checkpoint in flight. After a failure its changes are part of the next one.
    ///
    /// # Errors
    /// When nothing is frozen, or success is claimed of a table that is not wholly copied out.
    pub fn settle(&mut self, outcome: Outcome) -> Result<()> {
        let Some(frozen) = self.checkpoint.take() else {
            return Err(Error::Usage("nothing is frozen"));
        };
        if outcome != Outcome::Failed && frozen.copied < frozen.pages.len() {
            self.checkpoint = Some(frozen);
            return Err(Error::Usage("a table is settled as stored before it was copied out"));
        }
        for next in &frozen.pages[frozen.copied..] {
            self.release(next.page as usize, Purpose::Checkpoint);
        }
        for next in &frozen.pages {
            self.pages[next.page as usize].unsettled = false;
            if outcome == Outcome::Failed && next.dirty {
                self.merge_frozen_bits(next.page as usize);
            }
        }
        if outcome != Outcome::Failed {
            for written in &frozen.written {
                let link = Link { number: frozen.number, base: written.base, inline: outcome == Outcome::Inline };
                note_written(&mut self.pages[written.page as usize], written, link);
            }
        }
        self.spare_undo.truncate(self.pages.len());
        Ok(())
    }

    /// Makes what was dirty in the frozen epoch dirty in this one.
    fn merge_frozen_bits(&mut self, index: usize) {
        self.touch_page(index);
        let (now, then) = (self.parity(), 1 - self.parity());
        let page = &mut self.pages[index];
        for (from, to) in [(Bitmap::Dirty(then), Bitmap::Dirty(now)), (Bitmap::Fresh(then), Bitmap::Fresh(now))] {
            for word in 0..page.bitmap(from).len() {
                let old = page.bitmap(from)[word];
                page.bitmap_mut(to)[word] |= old;
            }
        }
        if page.pending == 0 {
            page.stamp = self.epoch;
        }
    }
}

/// What the changes of a page would have taken that was written as a base.
const fn change_estimate(changed: usize, live: usize, image: usize) -> u64 {
    if changed * DELTA_PART > live { image as u64 } else { (changed + changed * image / live) as u64 }
}

fn note_written(page: &mut Page, written: &Written, link: Link) {
    let cold = &mut page.cold;
    if written.base {
        cold.chain.clear();
        cold.key_bytes = written.keys;
    } else {
        cold.key_bytes += written.keys;
    }
    if written.image > 0 {
        cold.image_bytes = written.image;
        cold.delta_bytes = 0;
    } else {
        cold.delta_bytes += written.delta;
    }
    cold.chain.push(link);
}
