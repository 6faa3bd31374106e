//! Which pages of a table are looked at after an epoch, for rows that no input can reach any more.
//!
//! Nothing waits for such rows to go, so there is no order of them to be kept: pages are looked at when
//! there are twice as many rows as stayed the last time, some at the end of each epoch, and more where an
//! epoch made many. So a row is looked at a few times, whatever the watermark does, and the state is at
//! most some times what stays. Invariant: a sweep that has begun looks at each page that there was then.

use std::ops::Range;

/// Fewer rows are not looked at.
const FEW: u64 = 4096;
/// Pages that are looked at after an epoch which made no rows; and the most that are in one go.
const PAGES: usize = 8;

/// What is known of the sweeps of one table.
pub(crate) struct Sweep {
    /// See [`FEW`].
    few: u64,
    /// The next page to look at, while a sweep is under way.
    page: Option<usize>,
    /// How many rows stayed in the last one.
    stayed: u64,
    /// How many rows there were after the epoch before.
    rows: u64,
    /// How many pages are left to look at after this epoch; none before it is asked.
    left: Option<usize>,
}

impl Sweep {
    pub(crate) const fn new() -> Self {
        Self { few: FEW, page: None, stayed: 0, rows: 0, left: None }
    }

    /// However few rows there are, they are looked at.
    #[cfg(test)]
    pub(crate) const fn of_few(mut self) -> Self {
        self.few = 0;
        self
    }

    /// The next pages to look at after the open epoch, of a table with so many rows on so many pages; none
    /// when those were enough. Rows that can go are deleted before it is asked again.
    pub(crate) fn next(&mut self, rows: u64, pages: usize) -> Option<Range<usize>> {
        // Of all pages twice the share that this epoch's rows are of all rows.
        let made = (pages as u64).saturating_mul(2).saturating_mul(rows.saturating_sub(self.rows)) / rows.max(1);
        let left = *self.left.get_or_insert(PAGES.saturating_add(usize::try_from(made).unwrap_or(usize::MAX)));
        if self.page.is_some_and(|page| page >= pages) {
            self.page = None;
            self.stayed = rows;
        }
        let is_time = rows > self.stayed.saturating_mul(2).saturating_add(self.few);
        let Some(first) = self.page.or(is_time.then_some(0)).filter(|_| left > 0) else {
            self.left = None;
            self.rows = rows;
            return None;
        };
        let now = left.min(PAGES);
        let end = pages.min(first + now);
        self.left = Some(left - now);
        self.page = Some(end);
        Some(first..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::{KeyGroups, OperatorId};
    use highwater_state::{KeyKind, Slot, Table, TableId, TableOptions, hash_u64};

    fn table() -> Table {
        let groups = KeyGroups::new(4).expect("a power of two");
        let id = TableId { operator: OperatorId(1), table: 0 };
        let owned = groups.owned_by(0, 1);
        Table::new(TableOptions { id, key: KeyKind::U64, words: 1, groups, owned, source: None })
    }

    fn add(table: &mut Table, keys: Range<u64>) {
        let keys: Vec<u64> = keys.collect();
        let hashes: Vec<u64> = keys.iter().map(|key| hash_u64(*key)).collect();
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        table.upsert_u64(&hashes, &keys, &mut slots, &mut created).expect("adds");
    }

    /// After an epoch, deletes the keys below a number on the pages that are looked at; gives how many these were.
    fn sweep(sweep: &mut Sweep, table: &mut Table, below: u64) -> usize {
        let mut looked = 0;
        while let Some(pages) = sweep.next(table.len(), table.page_count()) {
            assert!(pages.len() <= PAGES, "in one go");
            looked += pages.len();
            for page in pages {
                let mut slots: Vec<Slot> = Vec::new();
                table.live_slots(page, &mut slots).expect("in memory");
                slots.retain(|slot| table.key_u64(*slot) < below);
                table.delete(&slots).expect("deletes");
            }
        }
        looked
    }

    #[test]
    fn what_can_go_goes_in_time_and_few_rows_are_not_looked_at() {
        let (mut sweeps, mut table) = (Sweep::new(), table());
        add(&mut table, 0..FEW);
        assert_eq!(sweep(&mut sweeps, &mut table, u64::MAX), 0, "they are few");
        let (mut end, mut looked) = (FEW, 0);
        for epoch in 0..200_u64 {
            let more = if epoch % 10 == 0 { 20 * FEW } else { 100 };
            add(&mut table, end..end + more);
            end += more;
            looked += sweep(&mut sweeps, &mut table, end.saturating_sub(2 * FEW));
            assert!(table.len() <= 50 * FEW, "epoch {epoch}: {} rows", table.len());
        }
        assert!(looked as u64 <= 8 * end / FEW + 200 * PAGES as u64, "{looked} pages of {end} rows");
    }

    #[test]
    fn rows_that_stay_are_not_looked_at_again_and_again() {
        let (mut sweeps, mut table) = (Sweep::new(), table());
        add(&mut table, 0..10 * FEW);
        let first: usize = (0..100).map(|_| sweep(&mut sweeps, &mut table, 0)).sum();
        assert_eq!(first, table.page_count(), "each page once");
        assert_eq!((0..100).map(|_| sweep(&mut sweeps, &mut table, 0)).sum::<usize>(), 0);
    }
}
