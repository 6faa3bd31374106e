//! Pass two of a batch: changing the words of slots that pass one found.
//!
//! The fast path of a row is one comparison (the page was touched in this epoch and nothing of it
//! is pending), one dirty bit and the caller's closure. The slow path zeroes a page's bitmaps at
//! its first touch in an epoch, and saves a row's old content while its page is pending.

use super::{Slot, Table};
use crate::page::{Bitmap, Purpose};

impl Table {
    /// Gives the words of every slot to `change` with the slot's position in `slots`, in order;
    /// a slot may stand there many times. The slots count as changed.
    ///
    /// # Panics
    /// When a slot's page was evicted since it was found: update before evicting.
    #[inline]
    pub fn update<F: FnMut(usize, &mut [u64])>(&mut self, slots: &[Slot], mut change: F) {
        let (epoch, parity, stride) = (self.epoch, self.parity(), self.layout.stride);
        for (row, &slot) in slots.iter().enumerate() {
            let (index, at) = (slot.page(), slot.at());
            if self.pages[index].stamp != epoch {
                self.touch_one(index, at);
            }
            let page = &mut self.pages[index];
            page.mark(Bitmap::Dirty(parity), at);
            change(row, &mut page.rows[at * stride..][..stride][1..]);
        }
    }

    /// What a slot needs before it changes, apart from its dirty bit.
    #[cold]
    #[inline(never)]
    pub(super) fn touch_one(&mut self, index: usize, at: usize) {
        self.touch_page(index);
        let page = &mut self.pages[index];
        if page.pending == 0 {
            page.stamp = self.epoch;
            return;
        }
        for purpose in [Purpose::Checkpoint, Purpose::Read] {
            if page.pending & 1 << purpose as u8 != 0 {
                let saved = page.save(purpose, at, self.layout.stride, &mut self.spare_undo);
                if purpose == Purpose::Read {
                    self.read_undo += saved;
                }
            }
        }
    }

    /// Makes a page's bitmaps those of this epoch.
    pub(super) fn touch_page(&mut self, index: usize) {
        let parity = self.parity();
        let page = &mut self.pages[index];
        if page.touched != self.epoch {
            page.bitmap_mut(Bitmap::Dirty(parity)).fill(0);
            page.bitmap_mut(Bitmap::Fresh(parity)).fill(0);
            page.touched = self.epoch;
            page.referenced = true;
            self.dirty.push(index as u32);
        }
    }
}
