//! Freezing a table for a checkpoint, copying it out between batches, and settling the outcome.
//!
//! Freezing only marks pages. Until a marked page is copied, the first write to a slot saves the
//! old row (see [`super::update`]). One checkpoint may be in flight; its dirty and fresh bits stay
//! in the bitmaps of the frozen parity until it is settled: dropped when it was stored, or merged
//! into the current ones when it failed, so that nothing is forgotten.

use super::Table;
use crate::bits;
use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind, Record, RecordKey, TableId};
use crate::page::{Bitmap, Cold, Link, PAGE_SLOTS, Page, Purpose};
use crate::record::{PageView, Scratch, encode_delta, encode_image, encode_keys};
use crate::scope::GroupFact;

/// A page is written as a delta when at most one in this many of its slots changed.
const DELTA_PART: usize = 4;
/// A page gets a new image when its deltas since the last one are larger than this many images.
/// The rolling base renews all pages sooner under even load; this is for pages changed more often.
const MAX_DELTA_IMAGES: u32 = 2;

/// So many undos of reads wait to be used again.
const SPARE_UNDO: usize = 64;

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

/// How far copying out has come; the counts are those of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages not copied yet; 0 when done.
    pub pages_left: usize,
    /// Bytes that the changes of pages written before take, or would take where a base was
    /// written instead.
    pub delta_bytes: u64,
    /// Bytes of records written as bases.
    pub base_bytes: u64,
    /// Those of them that are of pages written for the first time.
    pub new_bytes: u64,
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
    /// Some pages, for a reader.
    pub(super) fn for_read(pages: Vec<u32>) -> Self {
        let pages = pages.into_iter().map(|page| FrozenPage { page, dirty: false, base: false }).collect();
        Self { pages, copied: 0, number: FileNumber::from_u64(0), written: Vec::new() }
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
            let base = !state.written || rebase[state.group as usize];
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
        self.checkpoint = Some(Frozen { pages, copied: 0, number: options.number, written });
        Ok(info)
    }

    /// Appends what the choice of key groups to rebase needs to know of each loaded group that
    /// was ever written.
    pub fn base_facts(&self, out: &mut Vec<GroupFact>) {
        for (at, group) in self.groups.iter().enumerate() {
            if let Some(floor) = group.floor {
                let group_number = (self.first_group + at) as u16;
                out.push(GroupFact { table: self.id, group: group_number, floor, base_bytes: group.base_bytes });
            }
        }
    }

    /// Enters into a group what the base facts need to know of its pages.
    pub(super) fn note_group(&mut self, at: usize) {
        let group = &mut self.groups[at];
        (group.floor, group.base_bytes) = (None, 0);
        for &page in &group.pages {
            let cold = &self.pages[page as usize].cold;
            let floor = cold.chain.first().map(|link| link.number);
            group.floor = group.floor.into_iter().chain(floor).min();
            group.base_bytes += u64::from(cold.key_bytes) + u64::from(cold.image_bytes);
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
        let mut progress = Progress::default();
        let mut done = Ok(());
        while let Some(&next) = frozen.pages.get(frozen.copied) {
            if !more() {
                break;
            }
            done = self.copy_page(next, &mut progress, out).map(|written| frozen.written.push(written));
            if done.is_err() {
                break;
            }
            frozen.copied += 1;
            self.release(next.page as usize, Purpose::Checkpoint);
        }
        progress.pages_left = frozen.pages.len() - frozen.copied;
        self.checkpoint = Some(frozen);
        done.map(|()| progress)
    }

    fn copy_page(&mut self, next: FrozenPage, progress: &mut Progress, out: &mut Vec<Record>) -> Result<Written> {
        self.ensure_resident(next.page as usize)?;
        let stride = self.layout.stride;
        self.pages[next.page as usize].exchange(Purpose::Checkpoint, stride);
        let written = self.encode_page(next, progress, out);
        self.pages[next.page as usize].exchange(Purpose::Checkpoint, stride);
        Ok(written)
    }

    fn encode_page(&mut self, next: FrozenPage, progress: &mut Progress, out: &mut Vec<Record>) -> Written {
        let frozen_parity = 1 - self.parity();
        let page = &self.pages[next.page as usize];
        let changes = Changes {
            dirty: page.bitmap(Bitmap::Dirty(frozen_parity)),
            fresh: page.bitmap(Bitmap::Fresh(frozen_parity)),
            id: self.id,
            page: next.page,
            len: page.len,
            cold: &page.cold,
        };
        let view = page.view(self.layout);
        let changed = if next.dirty { bits::count(changes.dirty) } else { 0 };
        progress.changed_slots += changed as u64;
        if next.base {
            let written = changes.put_base(&view, &mut self.scratch, out);
            let bytes = u64::from(written.keys) + u64::from(written.image);
            progress.base_bytes += bytes;
            if !page.written {
                progress.new_bytes += bytes;
            } else if next.dirty {
                progress.delta_bytes += change_estimate(changed, bits::count(view.live), written.image as usize);
            }
            return written;
        }
        let written = changes.put(&view, &mut self.scratch, out);
        progress.delta_bytes += u64::from(written.keys) + u64::from(written.image) + u64::from(written.delta);
        written
    }

    /// A page is no longer needed for `purpose`.
    pub(super) fn release(&mut self, index: usize, purpose: Purpose) {
        let page = &mut self.pages[index];
        page.pending &= !(1 << purpose as u8);
        if let Some(mut undo) = page.cold.undo[purpose as usize].take() {
            if purpose == Purpose::Read {
                self.read_undo -= undo.bytes();
            }
            undo.reset();
            // A read may have been in progress for long, and have those of all pages.
            if purpose == Purpose::Checkpoint || self.spare_undo.len() < SPARE_UNDO {
                self.spare_undo.push(undo);
            }
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
            let mut groups = vec![false; self.groups.len()];
            for written in &frozen.written {
                let link = Link { number: frozen.number, base: written.base, inline: outcome == Outcome::Inline };
                let page = &mut self.pages[written.page as usize];
                note_written(page, written, link);
                groups[page.group as usize] = true;
            }
            for at in (0..groups.len()).filter(|at| groups[*at]) {
                self.note_group(at);
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

/// What is written of one page.
struct Changes<'a> {
    dirty: &'a [u64],
    fresh: &'a [u64],
    id: TableId,
    page: u32,
    len: usize,
    cold: &'a Cold,
}

impl Changes<'_> {
    const fn key(&self, kind: Kind) -> RecordKey {
        RecordKey { table: self.id, group: self.cold.group as u16, page: self.cold.number, kind }
    }

    /// All keys and an image.
    fn put_base(&self, view: &PageView<'_>, scratch: &mut Scratch, out: &mut Vec<Record>) -> Written {
        let mut live = Vec::with_capacity(PAGE_SLOTS);
        bits::positions(view.live.iter().copied(), &mut live);
        let keys = encode_keys(view, &live, scratch);
        let image = encode_image(view, &live, scratch);
        let written =
            Written { page: self.page, base: true, keys: keys.len() as u32, image: image.len() as u32, delta: 0 };
        out.push(Record { key: self.key(Kind::BaseKeys), value: keys });
        out.push(Record { key: self.key(Kind::Image), value: image });
        written
    }

    /// New keys, and a delta or an image, whichever is fit.
    fn put(&self, view: &PageView<'_>, scratch: &mut Scratch, out: &mut Vec<Record>) -> Written {
        let mut written = Written { page: self.page, base: false, keys: 0, image: 0, delta: 0 };
        let mut slots = Vec::with_capacity(PAGE_SLOTS);
        bits::positions(self.fresh.iter().zip(view.live).map(|(fresh, live)| fresh & live), &mut slots);
        if !slots.is_empty() {
            let keys = encode_keys(view, &slots, scratch);
            written.keys = keys.len() as u32;
            out.push(Record { key: self.key(Kind::Keys), value: keys });
        }
        bits::positions(self.dirty.iter().copied(), &mut slots);
        if slots.len() * DELTA_PART <= self.len {
            let delta = encode_delta(view, &slots, scratch);
            written.delta = delta.len() as u32;
            if self.cold.delta_bytes + written.delta <= self.cold.image_bytes * MAX_DELTA_IMAGES {
                out.push(Record { key: self.key(Kind::Delta), value: delta });
                return written;
            }
            written.delta = 0;
        }
        bits::positions(view.live.iter().copied(), &mut slots);
        let image = encode_image(view, &slots, scratch);
        written.image = image.len() as u32;
        out.push(Record { key: self.key(Kind::Image), value: image });
        written
    }
}

/// What the changes of a page would have taken that was written as a base.
const fn change_estimate(changed: usize, live: usize, image: usize) -> u64 {
    if changed * DELTA_PART > live { image as u64 } else { (changed + changed * image / live) as u64 }
}

fn note_written(page: &mut Page, written: &Written, link: Link) {
    page.written = true;
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
