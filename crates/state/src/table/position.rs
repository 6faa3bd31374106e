//! Where a slot is within its key group, as a number that a row's words may hold.
//!
//! A [`Slot`] counts pages in the order in which this table made or loaded them. Within a key group
//! a page keeps its number and a key its slot of the page, in memory and in records, so a position
//! stays valid for as long as its key is there: over freezing, eviction, restoring and another
//! number of workers. Invariant: positions of live slots are above 0, so 0 can stand for none.

use super::{Slot, Table};
use crate::page::{PAGE_BITS, PAGE_SLOTS};

impl Table {
    /// The key group that a slot belongs to.
    #[inline]
    #[must_use]
    pub fn key_group(&self, slot: Slot) -> u16 {
        self.pages[slot.page()].cold.group as u16
    }

    /// A slot's position in its key group, above 0.
    #[inline]
    #[must_use]
    pub fn position(&self, slot: Slot) -> u32 {
        (self.pages[slot.page()].cold.number << PAGE_BITS | slot.at() as u32) + 1
    }

    /// The slot at a position of a key group; none where no key is.
    #[inline]
    #[must_use]
    pub fn slot_at(&self, key_group: u16, position: u32) -> Option<Slot> {
        let within = position.checked_sub(1)?;
        let group = self.groups.get(usize::from(key_group).checked_sub(self.first_group)?)?;
        let index = *group.pages.get((within >> PAGE_BITS) as usize)? as usize;
        let (page, at) = (&self.pages[index], within as usize & (PAGE_SLOTS - 1));
        (at < page.len && page.is_live(at)).then(|| Slot::new(index, at))
    }
}
