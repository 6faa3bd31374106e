//! Keeping a table within memory: dropping clean pages and reading them back.
//!
//! A page may go when it is unchanged since it was last stored, waits for nobody, and all its
//! records stand in files of the page store. The clock algorithm chooses: a page that was used
//! since the hand last passed gets a second round. A batch's missing pages are read together.

use super::{Slot, Table};
use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind, RecordKey};
use crate::page::Page;
use crate::record::apply;

impl Table {
    /// Drops clean pages until `bytes` are freed or none is left to drop; returns what was freed.
    /// Slots found before stay valid, but their pages must be found again before they are used.
    pub fn evict(&mut self, bytes: u64) -> u64 {
        let mut freed = 0;
        if self.source.is_none() {
            return freed;
        }
        for _ in 0..self.pages.len() * 2 {
            if freed >= bytes {
                break;
            }
            self.evict_hand = (self.evict_hand + 1) % self.pages.len();
            let page = &mut self.pages[self.evict_hand];
            if page.touched == self.epoch || !may_go(page) {
                continue;
            }
            if std::mem::take(&mut page.referenced) {
                continue;
            }
            let before = page.bytes();
            page.evict();
            let after = page.bytes();
            freed += (before - after) as u64;
            self.account(before, after);
            self.evicted += 1;
        }
        freed
    }

    /// Pages that are not in memory.
    #[must_use]
    pub const fn evicted_pages(&self) -> usize {
        self.evicted
    }

    /// Reads back the evicted pages among those of `slots`, with one request: what was found before
    /// can then be used again.
    ///
    /// # Errors
    /// When a page cannot be read back.
    #[inline]
    pub fn make_slots_resident(&mut self, slots: &[Slot]) -> Result<()> {
        if self.evicted == 0 { Ok(()) } else { self.make_resident(slots.iter().map(|slot| slot.page())) }
    }

    /// Reads one page back if it was evicted.
    #[inline]
    pub(super) fn ensure_resident(&mut self, page: usize) -> Result<()> {
        if self.pages[page].is_evicted() { self.make_resident(std::iter::once(page)) } else { Ok(()) }
    }

    /// Reads back those of `pages` that were evicted, with one request.
    #[cold]
    pub(super) fn make_resident(&mut self, pages: impl Iterator<Item = usize>) -> Result<()> {
        let mut missing: Vec<usize> = pages.filter(|&page| self.pages[page].is_evicted()).collect();
        missing.sort_unstable();
        missing.dedup();
        let Some(source) = &self.source else {
            return if missing.is_empty() {
                Ok(())
            } else {
                Err(Error::Usage("a page is missing and there is no source"))
            };
        };
        let mut wanted = Vec::new();
        for &index in &missing {
            let cold = &self.pages[index].cold;
            for link in &cold.chain {
                let kinds: &[Kind] =
                    if link.base { &[Kind::BaseKeys, Kind::Image] } else { &[Kind::Keys, Kind::Image, Kind::Delta] };
                for &kind in kinds {
                    let key = RecordKey { table: self.id, group: cold.group as u16, page: cold.number, kind };
                    wanted.push((index, link.number, key));
                }
            }
        }
        let values = source.get_all(wanted.iter().map(|(_, number, key)| (*number, *key)))?;
        check_found(&wanted, &values)?;
        let mut rebuilt: Option<(usize, Page)> = None;
        for ((index, _, key), value) in wanted.iter().zip(values) {
            if rebuilt.as_ref().is_none_or(|(page, _)| page != index) {
                if let Some((page, content)) = rebuilt.take() {
                    self.put_back(page, content)?;
                }
                let cold = &self.pages[*index].cold;
                rebuilt = Some((*index, Page::new(cold.group as usize, 0, cold.number as usize, self.layout.stride)));
            }
            if let (Some(value), Some((_, page))) = (value, &mut rebuilt) {
                apply(key.kind, &value, self.layout, page, &mut self.scratch)?;
            }
        }
        rebuilt.map_or(Ok(()), |(page, content)| self.put_back(page, content))
    }

    fn put_back(&mut self, index: usize, content: Page) -> Result<()> {
        let page = &mut self.pages[index];
        if content.len > page.len {
            let (in_files, in_memory) = (content.len, page.len);
            return Err(Error::corrupt(format!(
                "an evicted page came back with {in_files} slots instead of {in_memory}"
            )));
        }
        let before = page.bytes();
        page.rows = content.rows;
        page.heap = content.heap;
        page.cold.garbage = content.cold.garbage;
        page.referenced = true;
        // Slots at its end that were dead when the base was written are in no record.
        if page.capacity(self.layout.stride) < page.len {
            page.grow(page.len, self.layout.stride);
        }
        let after = page.bytes();
        self.account(before, after);
        self.evicted -= 1;
        Ok(())
    }
}

/// Refuses pages of which one of their files has nothing: it is gone, and its rows would be left out in silence.
fn check_found(wanted: &[(usize, FileNumber, RecordKey)], values: &[Option<Vec<u8>>]) -> Result<()> {
    let mut rest = values;
    for link in wanted.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let (found, after) = rest.split_at(link.len());
        rest = after;
        if found.iter().all(Option::is_none) {
            let (_, number, key) = link[0];
            return Err(Error::corrupt(format!(
                "file {number} has nothing of page {} of key group {}, which was evicted",
                key.page, key.group
            )));
        }
    }
    Ok(())
}

fn may_go(page: &Page) -> bool {
    !page.is_evicted()
        && page.pending == 0
        && !page.unsettled
        && page.cold.chain.first().is_some_and(|link| link.base)
        && page.cold.chain.iter().all(|link| !link.inline)
}
