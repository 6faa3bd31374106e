//! Filling a table from stored parts, one key group at a time.
//!
//! A restoring table knows no keys at first. Each group is loaded once, those that rows wait for
//! first; a group must be loaded before it is used. The parts may come from any number of workers:
//! only the records of the groups that this table owns are read.

use super::{Group, MAX_PAGES, Slot, Table, TableOptions};
use crate::bits;
use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind};
use crate::page::{Bitmap, Link, Page};
use crate::record::apply;
use crate::restore::{GroupRecords, Restore, Stored};
use std::sync::Arc;

impl Table {
    /// A table whose key groups are yet to be loaded from `restore`.
    #[must_use]
    pub fn restoring(options: TableOptions, restore: Arc<Restore>) -> Self {
        let mut table = Self::new(options);
        for group in &mut table.groups {
            group.loaded = false;
        }
        // A worker beyond the number of key groups owns none and has nothing to load.
        table.restore = Some(restore).filter(|_| !table.groups.is_empty());
        table
    }

    /// Whether every key group is loaded.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.restore.is_none()
    }

    /// The key groups of `hashes` that are not loaded yet, each once.
    fn unloaded(&self, hashes: &[u64]) -> Vec<u16> {
        if self.is_loaded() {
            return Vec::new();
        }
        let mut wanted = vec![false; self.groups.len()];
        for &hash in hashes {
            if let Some(flag) = wanted.get_mut(self.group_of(hash)) {
                *flag = true;
            }
        }
        let groups = self.groups.iter().zip(wanted).enumerate();
        let missing = groups.filter(|(_, (group, wanted))| *wanted && !group.loaded);
        missing.map(|(at, _)| (self.first_group + at) as u16).collect()
    }

    /// Loads the key groups of `hashes` while `more` says so; true when all of these are loaded.
    ///
    /// # Errors
    /// As [`Table::load_group`].
    pub fn load_for(&mut self, hashes: &[u64], more: &mut impl FnMut() -> bool) -> Result<bool> {
        for group in self.unloaded(hashes) {
            if !more() {
                return Ok(false);
            }
            self.load_group(group)?;
        }
        Ok(true)
    }

    /// Loads key groups in order while `more` says so; true when all are loaded.
    ///
    /// # Errors
    /// As [`Table::load_group`].
    pub fn load_next(&mut self, more: &mut impl FnMut() -> bool) -> Result<bool> {
        let mut at = 0;
        while !self.is_loaded() && more() {
            while self.groups[at].loaded {
                at += 1;
            }
            self.load_group((self.first_group + at) as u16)?;
        }
        Ok(self.is_loaded())
    }

    /// Loads one key group; nothing happens if it is loaded already.
    ///
    /// # Errors
    /// When the group is not owned, or its records cannot be read or are corrupt; the group then
    /// stays unloaded.
    pub fn load_group(&mut self, group: u16) -> Result<()> {
        let at = usize::from(group).wrapping_sub(self.first_group);
        let (Some(state), Some(restore)) = (self.groups.get(at), &self.restore) else {
            return if self.groups.get(at).is_some() {
                Ok(())
            } else {
                Err(Error::Usage("a key group of another worker"))
            };
        };
        if state.loaded {
            return Ok(());
        }
        let mut records = GroupRecords::default();
        restore.collect(self.id, group, &mut records)?;
        let loaded = self.build_group(at, &records).map_err(|error| in_group(error, self.id, group))?;
        self.len += loaded.keys;
        let pages: usize = loaded.pages.iter().map(Page::bytes).sum();
        self.account(self.groups[at].index.bytes(), loaded.group.index.bytes() + pages);
        self.groups[at] = loaded.group;
        for page in loaded.pages {
            self.groups[at].pages.push(self.pages.len() as u32);
            self.pages.push(page);
        }
        self.note_group(at);
        if self.groups.iter().all(|group| group.loaded) {
            self.restore = None;
        }
        Ok(())
    }

    /// Makes a group's pages and index from its records, without changing the table.
    fn build_group(&mut self, at: usize, records: &GroupRecords) -> Result<LoadedGroup> {
        let mut pages: Vec<Page> = Vec::new();
        for stored in records.pages() {
            let number = stored[0].page as usize;
            if number != pages.len() || self.pages.len() + number >= MAX_PAGES {
                return Err(Error::corrupt(format!("page {number} where page {} is expected", pages.len())));
            }
            pages.push(self.build_page(at, number, stored, records)?);
        }
        let mut group = Group::new(self.first_group + at);
        let keys: usize = pages.iter().map(|page| bits::count(page.bitmap(Bitmap::Live))).sum();
        group.index.reserve(keys);
        for (number, page) in pages.iter().enumerate() {
            for slot_at in 0..page.len {
                let slot = Slot::new(self.pages.len() + number, slot_at);
                if !page.is_live(slot_at) {
                    group.free.push(slot);
                    continue;
                }
                let hash = page.key_hash(slot_at, self.layout);
                if self.group_of(hash) != at {
                    return Err(Error::corrupt(format!("a key of another group in slot {slot_at} of page {number}")));
                }
                group.index.insert(hash, slot);
            }
        }
        Ok(LoadedGroup { group, pages, keys: keys as u64 })
    }

    fn build_page(&mut self, at: usize, number: usize, stored: &[Stored], records: &GroupRecords) -> Result<Page> {
        let mut page = Page::new(self.first_group + at, at, number, self.layout.stride);
        page.written = true;
        page.cold.chain = chain(stored);
        for stored in stored {
            let bytes = records.bytes(stored);
            apply(stored.kind, bytes, self.layout, &mut page, &mut self.scratch)?;
            match stored.kind {
                Kind::BaseKeys | Kind::Keys => page.cold.key_bytes += bytes.len() as u32,
                Kind::Image => {
                    page.cold.image_bytes = bytes.len() as u32;
                    page.cold.delta_bytes = 0;
                }
                Kind::Delta => page.cold.delta_bytes += bytes.len() as u32,
            }
        }
        Ok(page)
    }

    /// The oldest file that the table still needs; `None` if it never was written.
    #[must_use]
    pub fn floor(&self) -> Option<FileNumber> {
        let loaded = self.groups.iter().filter_map(|group| group.floor).min();
        let unloaded = self.restore.as_ref().and_then(|restore| restore.oldest());
        loaded.into_iter().chain(unloaded).min()
    }
}

struct LoadedGroup {
    group: Group,
    pages: Vec<Page>,
    keys: u64,
}

fn in_group(error: Error, table: crate::TableId, group: u16) -> Error {
    match error {
        Error::Corrupt { what } => {
            Error::corrupt(format!("operator {} table {} key group {group}: {what}", table.operator, table.table))
        }
        other => other,
    }
}

/// The chain of a page whose records, from its base on, are `stored`.
fn chain(stored: &[Stored]) -> Vec<Link> {
    let mut chain: Vec<Link> = Vec::new();
    for record in stored {
        if chain.last().is_none_or(|link| link.number != record.number) {
            chain.push(Link { number: record.number, base: record.kind == Kind::BaseKeys, inline: record.inline });
        }
    }
    chain
}
