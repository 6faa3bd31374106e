//! A consistent snapshot of a table for a reader, copied out in slices like a checkpoint.
//!
//! A read and a checkpoint may be in progress together; each has its own undo.

use super::freeze::Frozen;
use super::{KeyKind, Progress, Slot, Table};
use crate::bits;
use crate::error::{Error, Result};
use crate::page::{Bitmap, Purpose, heap_key};
use crate::record::PageView;

/// Rows of a snapshot: keys in the form of the table's kind, and their words row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Keys of a [`KeyKind::U64`] table.
    pub keys: Vec<u64>,
    /// Keys of a table of byte keys, one after the other.
    pub key_data: Vec<u8>,
    /// Where each byte key ends in `key_data`.
    pub key_ends: Vec<usize>,
    /// The words of all rows, row by row.
    pub words: Vec<u64>,
}

impl Rows {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.key_ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The byte key of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn key_bytes(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.key_ends[row - 1] };
        &self.key_data[start..self.key_ends[row]]
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.key_data.clear();
        self.key_ends.clear();
        self.words.clear();
    }

    fn extend(&mut self, view: &PageView<'_>, slots: &[u16]) {
        let stride = view.layout.stride;
        for &slot in slots {
            let row = &view.rows[usize::from(slot) * stride..][..stride];
            match view.layout.kind {
                KeyKind::U64 => self.keys.push(row[0]),
                KeyKind::Bytes | KeyKind::Placed => {
                    self.key_data.extend_from_slice(heap_key(view.heap, row[0]));
                    self.key_ends.push(self.key_data.len());
                }
            }
            self.words.extend_from_slice(&row[1..]);
        }
    }
}

impl Table {
    /// Marks the pages of a key group, or all, as the content of a read, which sees the table as it is now.
    /// There is nothing to read of a key group that lives elsewhere.
    ///
    /// # Errors
    /// When another read is in progress or not all key groups are loaded.
    pub fn freeze_for_read(&mut self, group: Option<u16>) -> Result<()> {
        if self.reading.is_some() {
            return Err(Error::Usage("a table has one read in progress"));
        }
        if !self.is_loaded() {
            return Err(Error::Usage("a table is read after all its key groups are loaded"));
        }
        let pages: Vec<u32> = match group {
            None => (0..self.pages.len() as u32).collect(),
            Some(group) => {
                let group = usize::from(group).checked_sub(self.first_group).and_then(|at| self.groups.get(at));
                group.map(|group| group.pages.clone()).unwrap_or_default()
            }
        };
        for page in &pages {
            let page = &mut self.pages[*page as usize];
            page.pending |= 1 << Purpose::Read as u8;
            page.stamp = 0;
        }
        self.reading = Some(Frozen::for_read(pages));
        Ok(())
    }

    /// Appends rows of the read to `out`, page by page, while `more` says so. When no page is left
    /// the read is over.
    ///
    /// # Errors
    /// When no read is in progress, or an evicted page cannot be read back.
    pub fn copy_rows(&mut self, more: &mut impl FnMut() -> bool, out: &mut Rows) -> Result<Progress> {
        let Some(mut frozen) = self.reading.take() else {
            return Err(Error::Usage("no read is in progress"));
        };
        let mut slots = Vec::new();
        let mut done = Ok(());
        while let Some(next) = frozen.pages.get(frozen.copied) {
            if !more() {
                break;
            }
            let index = next.page as usize;
            done = self.ensure_resident(index);
            if done.is_err() {
                break;
            }
            let page = &mut self.pages[index];
            page.exchange(Purpose::Read, self.layout.stride);
            let view = page.view(self.layout);
            bits::positions(view.live.iter().copied(), &mut slots);
            out.extend(&view, &slots);
            page.exchange(Purpose::Read, self.layout.stride);
            self.release(index, Purpose::Read);
            frozen.copied += 1;
        }
        let pages_left = frozen.pages.len() - frozen.copied;
        if pages_left > 0 {
            self.reading = Some(frozen);
        }
        done.map(|()| Progress { pages_left, ..Progress::default() })
    }

    /// How many pages its loaded key groups have.
    #[must_use]
    pub const fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Replaces `slots` by those of a page that hold a key, whose page is in memory then: for who must
    /// look at every row as it is now.
    ///
    /// # Errors
    /// When the page was evicted and cannot be read back.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn live_slots(&mut self, page: usize, slots: &mut Vec<Slot>) -> Result<()> {
        let mut live = Vec::new();
        bits::positions(self.pages[page].bitmap(Bitmap::Live).iter().copied(), &mut live);
        slots.clear();
        if !live.is_empty() {
            self.ensure_resident(page)?;
            slots.extend(live.iter().map(|at| Slot::new(page, usize::from(*at))));
        }
        Ok(())
    }

    /// Gives up a read; nothing happens if none is in progress.
    pub fn end_read(&mut self) {
        if let Some(frozen) = self.reading.take() {
            for next in &frozen.pages[frozen.copied..] {
                self.release(next.page as usize, Purpose::Read);
            }
        }
    }
}
