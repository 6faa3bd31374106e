//! Rows kept by group, with counts: the state of operators that need the rows of a group again.
//!
//! A table of groups has, for each side (a join has two), the first row of the group's chain and how
//! many rows there are. A table of rows a side has each distinct row once, its key being
//! `place (1) | row`, where the place is the top byte of its group's hash, so that a row lies in its
//! group's key group; its words are its count, its neighbours in the chain, and, where the operator
//! wants it, one more for the operator. Neighbours are positions within the key group, so chains are
//! frozen, evicted, restored and dealt anew like everything else.
//!
//! What the open epoch changed is remembered by row, so that a row's count as of the epoch's begin is
//! its count less its change; nothing is removed before [`Gathered::end_epoch`]. At an epoch's end first
//! what it changed is looked at and then what is gone is removed, both by some thousand changes a call.
//! Invariants between epochs: a row is in the chain of its group, and its count is above 0; a group has
//! rows on some side.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::keys::hash_keys;
use crate::slices::last_chunk;
use arrow::array::{Array, AsArray, BinaryArray};
use highwater_state::{ByteKeys, Slot, Table, hash_bytes, hash_placed};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The most sides there are.
pub(crate) const SIDES: usize = 2;
/// Words of a group for each side.
pub(crate) const GROUP_WORDS: usize = 2;
/// Words of a row, less the operator's.
pub(crate) const ROW_WORDS: usize = 2;

/// Changes of which the groups are given together; one group may have more.
const TOGETHER: usize = 16 << 10;

/// How long a read loads at a time what it needs.
const LOAD: Duration = Duration::from_secs(1);

/// Of a group's words for a side: the position of the chain's first row, and the sum of counts.
const HEAD: usize = 0;
const TOTAL: usize = 1;
/// Of a row's words: its count, its neighbours, and what is the operator's.
const COUNT: usize = 0;
const LINKS: usize = 1;
const EXTRA: usize = 2;

/// Rows by group, on one side or two.
pub(crate) struct Gathered {
    groups: Table,
    sides: Vec<Side>,
    /// The open epoch ends: its changes are sorted, and once a row.
    ends: bool,
    /// How many changes of each side belong to touched groups that were given.
    given: [usize; SIDES],
    hashes: Vec<u64>,
    placed: Placed,
    group_slots: Vec<Slot>,
    row_slots: Vec<Slot>,
    created: Vec<u32>,
    slots: Vec<Slot>,
}

struct Side {
    rows: Table,
    /// What the open epoch changed; once it ends sorted, once a row, and less and less.
    changes: Vec<Change>,
    /// Rows that the operator took away.
    forgotten: Vec<Change>,
    /// What was changed goes with the end of the epoch.
    leaves: bool,
}

/// What the epoch did to one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    group: Slot,
    row: Slot,
    count: i64,
}

/// A group that the epoch changed.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    group: Slot,
    pub(crate) sides: [TouchedSide; SIDES],
}

impl Touched {
    /// Where the group is, as long as it has rows.
    pub(crate) const fn slot(&self) -> Slot {
        self.group
    }
}

/// One side of it: how many rows it had and has.
#[derive(Clone, Debug, Default)]
pub(crate) struct TouchedSide {
    changes: Range<usize>,
    pub(crate) old: i64,
    pub(crate) new: i64,
    /// Some row's count is another than before.
    pub(crate) is_changed: bool,
    /// There are rows that were not there before.
    pub(crate) has_new: bool,
}

impl TouchedSide {
    /// The most rows that a part has of it.
    pub(crate) const fn rows(&self, want: Want) -> usize {
        let changed = self.changes.end - self.changes.start;
        match want {
            Want::Nothing => 0,
            Want::Changed => changed,
            Want::All => changed + self.new as usize,
        }
    }
}

/// Which rows of a group are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// None.
    Nothing,
    /// Those that the epoch changed.
    Changed,
    /// All that are there or were.
    All,
}

/// Rows of some groups, group after group; what was added and removed in one epoch counts 0 twice.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) slots: Vec<Slot>,
    /// How often each row was there when the epoch began.
    pub(crate) old: Vec<i64>,
    /// And how often it is there now.
    pub(crate) new: Vec<i64>,
    ends: Vec<usize>,
}

impl Part {
    /// How many rows.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// The rows of a group, by its place among the groups that were asked for.
    pub(crate) fn of(&self, group: usize) -> Range<usize> {
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[group]
    }

    /// How many groups.
    pub(crate) const fn groups(&self) -> usize {
        self.ends.len()
    }

    /// Whether a row's count is another than before.
    #[inline]
    pub(crate) fn is_changed(&self, row: usize) -> bool {
        self.old[row] != self.new[row]
    }

    fn push(&mut self, slot: Slot, new: i64, change: i64) {
        self.slots.push(slot);
        self.old.push(new - change);
        self.new.push(new);
    }
}

/// Row keys of one batch as [`ByteKeys`] wants them, and their hashes.
#[derive(Default)]
struct Placed {
    data: Vec<u8>,
    offsets: Vec<i32>,
    hashes: Vec<u64>,
}

impl Placed {
    fn fill(&mut self, rows: &BinaryArray, group_hashes: &[u64]) -> Result<()> {
        let Self { data, offsets, hashes } = self;
        data.clear();
        hashes.clear();
        offsets.clear();
        offsets.push(0);
        for (row, hash) in group_hashes.iter().enumerate() {
            let start = data.len();
            data.push((hash >> 56) as u8);
            data.extend_from_slice(rows.value(row));
            hashes.push(hash_placed(&data[start..]));
            let end = i32::try_from(data.len()).map_err(|_| Error::data("rows by group", "a batch of over 2 GiB"))?;
            offsets.push(end);
        }
        Ok(())
    }
}

const fn links(before: u32, after: u32) -> u64 {
    (before as u64) << 32 | after as u64
}

/// A row's neighbours: the one before it, the one after it.
const fn neighbours(words: &[u64]) -> (u32, u32) {
    ((words[LINKS] >> 32) as u32, words[LINKS] as u32)
}

/// The slot that a chain names; none at its end.
fn named(rows: &Table, key_group: u16, position: u32) -> Result<Option<Slot>> {
    let slot = rows.slot_at(key_group, position);
    if slot.is_none() && position != 0 {
        return Err(Error::data("rows by group", "a chain is broken: restore an older checkpoint"));
    }
    Ok(slot)
}

impl Gathered {
    /// `groups` has keys of kind `Bytes` and [`GROUP_WORDS`] words a side; each of `rows` has keys of
    /// kind `Placed` and [`ROW_WORDS`] words, or one more.
    pub(crate) fn new(groups: Table, rows: Vec<Table>) -> Self {
        assert!(rows.len() <= SIDES && groups.words_per_row() == rows.len() * GROUP_WORDS, "two words a side");
        Self {
            groups,
            sides: rows.into_iter().map(Side::new).collect(),
            ends: false,
            given: [0; SIDES],
            hashes: Vec::new(),
            placed: Placed::default(),
            group_slots: Vec::new(),
            row_slots: Vec::new(),
            created: Vec::new(),
            slots: Vec::new(),
        }
    }

    pub(crate) fn tables(&mut self) -> Vec<&mut Table> {
        std::iter::once(&mut self.groups).chain(self.sides.iter_mut().map(|side| &mut side.rows)).collect()
    }

    /// The table of a side's rows.
    pub(crate) fn rows_of(&mut self, side: usize) -> &mut Table {
        &mut self.sides[side].rows
    }

    /// Loads what a batch of group keys and rows needs until `deadline`; true when it is there.
    pub(crate) fn load_batch(&mut self, batch: &Batch, deadline: Instant) -> Result<bool> {
        if self.is_loaded() {
            return Ok(true);
        }
        self.load_for(batch.rows.column(0).as_ref(), deadline)
    }

    /// Loads the key groups of some group keys, of all tables, until `deadline`; true when all are
    /// there.
    pub(crate) fn load_for(&mut self, keys: &dyn Array, deadline: Instant) -> Result<bool> {
        let Self { groups, sides, hashes, .. } = self;
        hash_keys(keys, hashes);
        for table in std::iter::once(groups).chain(sides.iter_mut().map(|side| &mut side.rows)) {
            if !table.load_for(hashes, &mut || Instant::now() < deadline)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing is left to load.
    pub(crate) fn is_loaded(&self) -> bool {
        self.groups.is_loaded() && self.sides.iter().all(|side| side.rows.is_loaded())
    }

    /// Adds and removes the rows of a batch of group keys and rows.
    pub(crate) fn apply(&mut self, side: usize, batch: &Batch) -> Result<()> {
        self.place(side, batch)?;
        self.add_counts(side, batch);
        self.remember(side, batch);
        Ok(())
    }

    /// Makes rows that are there changes of the open epoch, as if they had come in it: their counts are
    /// the weights of a batch of group keys and rows.
    pub(crate) fn renew(&mut self, side: usize, batch: &Batch) -> Result<()> {
        self.place(side, batch)?;
        self.remember(side, batch);
        Ok(())
    }

    /// Finds the groups and rows of a batch, and makes those that are not there.
    fn place(&mut self, side: usize, batch: &Batch) -> Result<()> {
        let keys = batch.rows.column(0).as_binary::<i32>();
        hash_keys(keys, &mut self.hashes);
        let group_keys = ByteKeys::new(keys.value_data(), keys.value_offsets())?;
        self.groups.upsert_bytes(&self.hashes, group_keys, &mut self.group_slots, &mut self.created)?;
        self.created.clear();
        self.placed.fill(batch.rows.column(1).as_binary::<i32>(), &self.hashes)?;
        let Placed { data, offsets, hashes } = &self.placed;
        let row_keys = ByteKeys::new(data, offsets)?;
        self.sides[side].rows.upsert_bytes(hashes, row_keys, &mut self.row_slots, &mut self.created)?;
        self.link_created(side)
    }

    fn add_counts(&mut self, side: usize, batch: &Batch) {
        let rows = &mut self.sides[side].rows;
        let add = |words: &mut [u64], at: usize, row: usize| {
            words[at] = words[at].wrapping_add(batch.weight(row) as u64);
        };
        rows.update(&self.row_slots, |row, words| add(words, COUNT, row));
        let total = side * GROUP_WORDS + TOTAL;
        self.groups.update(&self.group_slots, |row, words| add(words, total, row));
    }

    fn remember(&mut self, side: usize, batch: &Batch) {
        let slots = self.group_slots.iter().zip(&self.row_slots).enumerate();
        let changes = slots.map(|(row, (&group, &slot))| Change { group, row: slot, count: batch.weight(row) });
        self.sides[side].changes.extend(changes);
    }

    /// Puts the rows of a batch that are new at the front of their groups' chains.
    fn link_created(&mut self, side: usize) -> Result<()> {
        let Self { groups, sides, group_slots, row_slots, created, slots, .. } = self;
        let (rows, head) = (&mut sides[side].rows, side * GROUP_WORDS + HEAD);
        slots.clear();
        for &at in created.iter() {
            let group = group_slots[at as usize];
            slots.extend(named(rows, groups.key_group(group), groups.words(group)[head] as u32)?);
        }
        rows.make_slots_resident(slots)?;
        for &at in created.iter() {
            let (group, row) = (group_slots[at as usize], row_slots[at as usize]);
            let (first, position) = (groups.words(group)[head] as u32, rows.position(row));
            if let Some(first) = named(rows, groups.key_group(group), first)? {
                rows.update(&[first], |_, words| words[LINKS] = links(position, neighbours(words).1));
            }
            rows.update(&[row], |_, words| words[LINKS] = links(0, first));
            groups.update(&[group], |_, words| words[head] = u64::from(position));
        }
        Ok(())
    }
}

/// Reads between epochs.
impl Gathered {
    /// The rows of some groups, of those of them that are here and this worker's.
    pub(crate) fn find(&mut self, side: usize, keys: &BinaryArray) -> Result<Vec<Slot>> {
        let owned = keys.iter().flatten().filter(|key| self.groups.owns(hash_bytes(key)));
        let owned = BinaryArray::from_iter_values(owned.collect::<Vec<_>>());
        while !self.load_for(&owned, Instant::now() + LOAD)? {}
        let mut found = Vec::new();
        let packed = ByteKeys::new(owned.value_data(), owned.value_offsets())?;
        self.groups.find_bytes(&self.hashes, packed, &mut found)?;
        let groups: Vec<(u32, Slot)> = found.into_iter().flatten().map(|group| (0, group)).collect();
        Ok(self.follow(side, &groups)?.into_iter().map(|(_, row)| row).collect())
    }
}

/// The end of an epoch: what it changed, the rows of the groups that it changed, and what is gone.
impl Gathered {
    /// The next groups that the epoch changed; none when all were given. Asked when all batches of the
    /// epoch are applied.
    ///
    /// # Errors
    /// `Data` when more of a row was removed than was there.
    pub(crate) fn touched(&mut self) -> Result<Vec<Touched>> {
        if !self.ends {
            self.consolidate()?;
            self.ends = true;
        }
        let mut touched = Vec::new();
        let mut at = self.given;
        let enough = at.iter().sum::<usize>() + TOGETHER;
        while at.iter().sum::<usize>() < enough
            && let Some(group) = self.next_group(at)
        {
            let sides = std::array::from_fn(|side| self.touched_side(side, group, &mut at[side]));
            touched.push(Touched { group, sides });
        }
        self.given = at;
        Ok(touched)
    }

    /// Makes the changes one a row, by group and row.
    fn consolidate(&mut self) -> Result<()> {
        self.slots.clear();
        for side in &mut self.sides {
            side.consolidate()?;
            self.slots.extend(side.changes.iter().map(|change| change.group));
        }
        Ok(self.groups.make_slots_resident(&self.slots)?)
    }

    fn next_group(&self, at: [usize; SIDES]) -> Option<Slot> {
        let next = self.sides.iter().zip(at).filter_map(|(side, at)| side.changes.get(at));
        next.map(|change| change.group).min()
    }

    /// What a side has of a group; its changes, if any, begin at `at`, which moves behind them.
    fn touched_side(&self, side: usize, group: Slot, at: &mut usize) -> TouchedSide {
        let Some(Side { rows, changes, .. }) = self.sides.get(side) else { return TouchedSide::default() };
        let new = self.groups.words(group)[side * GROUP_WORDS + TOTAL] as i64;
        let mut touched = TouchedSide { changes: *at..*at, old: new, new, is_changed: false, has_new: false };
        while let Some(change) = changes.get(*at).filter(|change| change.group == group) {
            touched.old -= change.count;
            touched.is_changed |= change.count != 0;
            touched.has_new |= change.count > 0 && count_of(rows, change.row) == change.count;
            *at += 1;
        }
        touched.changes.end = *at;
        touched
    }

    /// Rows of groups that the epoch changed, as many as `wants` says of each.
    pub(crate) fn part(&mut self, side: usize, groups: &[Touched], wants: &[Want]) -> Result<Part> {
        let walked = self.walk(side, groups, wants)?;
        let Side { rows, changes, .. } = &self.sides[side];
        let mut part = Part::default();
        let mut walked = walked.as_slice();
        for (at, (group, want)) in groups.iter().zip(wants).enumerate() {
            let changes = &changes[group.sides[side].changes.clone()];
            match want {
                Want::Nothing => {}
                Want::Changed => {
                    for change in changes {
                        part.push(change.row, count_of(rows, change.row), change.count);
                    }
                }
                Want::All => {
                    let (here, rest) = walked.split_at(walked.partition_point(|(of, _)| *of <= at as u32));
                    walked = rest;
                    // Both ascend, and what was changed is in the chain.
                    let mut changes = changes.iter().peekable();
                    for (_, slot) in here {
                        let change = changes.next_if(|change| change.row == *slot).map_or(0, |change| change.count);
                        part.push(*slot, count_of(rows, *slot), change);
                    }
                }
            }
            part.ends.push(part.len());
        }
        Ok(part)
    }

    /// The rows of the groups of which all are wanted, with the groups' places, in ascending order.
    fn walk(&mut self, side: usize, groups: &[Touched], wants: &[Want]) -> Result<Vec<(u32, Slot)>> {
        let wanted = groups.iter().enumerate().filter(|(at, _)| wants[*at] == Want::All);
        self.follow(side, &wanted.map(|(at, touched)| (at as u32, touched.group)).collect::<Vec<_>>())
    }

    /// All rows of groups, with the groups' numbers, in ascending order.
    fn follow(&mut self, side: usize, groups: &[(u32, Slot)]) -> Result<Vec<(u32, Slot)>> {
        let rows = &mut self.sides[side].rows;
        // All chains are followed at once, so that what a step needs of the store is read together.
        let mut step: Vec<(u32, Slot)> = Vec::new();
        for (at, group) in groups {
            let first = self.groups.words(*group)[side * GROUP_WORDS + HEAD] as u32;
            let first = named(rows, self.groups.key_group(*group), first)?;
            step.extend(first.map(|slot| (*at, slot)));
        }
        let mut found = Vec::new();
        while !step.is_empty() {
            self.slots.clear();
            self.slots.extend(step.iter().map(|(_, slot)| *slot));
            rows.make_slots_resident(&self.slots)?;
            found.extend_from_slice(&step);
            let mut left = 0;
            for at in 0..step.len() {
                let (of, slot) = step[at];
                let after = neighbours(rows.words(slot)).1;
                if let Some(after) = named(rows, rows.key_group(slot), after)? {
                    step[left] = (of, after);
                    left += 1;
                }
            }
            step.truncate(left);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// A row of a part, in row format.
    pub(crate) fn row(&self, side: usize, slot: Slot) -> &[u8] {
        &self.sides[side].rows.key_bytes(slot)[1..]
    }

    /// How often a row is there now.
    pub(crate) fn count(&self, side: usize, slot: Slot) -> i64 {
        count_of(&self.sides[side].rows, slot)
    }

    /// The operator's word of a row of a part.
    pub(crate) fn extra(&self, side: usize, slot: Slot) -> i64 {
        self.sides[side].rows.words(slot)[EXTRA] as i64
    }

    /// Adds to the operator's word of rows of a part.
    pub(crate) fn add_extra(&mut self, side: usize, slots: &[Slot], more: &[i64]) {
        let add = |row: usize, words: &mut [u64]| words[EXTRA] = words[EXTRA].wrapping_add(more[row] as u64);
        self.sides[side].rows.update(slots, add);
    }

    /// Takes rows of a group that the epoch changed away, as if they had been deleted.
    pub(crate) fn forget(&mut self, side: usize, group: &Touched, gone: &[Slot]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let Self { groups, sides, .. } = self;
        let Side { rows, forgotten, .. } = &mut sides[side];
        rows.make_slots_resident(gone)?;
        let sum: i64 = gone.iter().map(|row| count_of(rows, *row)).sum();
        rows.update(gone, |_, words| words[COUNT] = 0);
        let total = side * GROUP_WORDS + TOTAL;
        groups.update(&[group.group], |_, words| words[total] = words[total].wrapping_sub(sum as u64));
        forgotten.extend(gone.iter().map(|row| Change { group: group.group, row: *row, count: 0 }));
        Ok(())
    }

    /// Lets all rows of a side that the epoch changed go with its end, as if they had been deleted right
    /// after it. Called when all touched groups were looked at, and again until the end is over.
    pub(crate) fn leave(&mut self, side: usize) {
        self.sides[side].leaves = true;
    }

    /// Removes rows that are gone, and groups that have no rows any more: those of a chunk of changes on
    /// each side. True when it was the last, which ends the epoch. Called when all touched groups were
    /// looked at.
    pub(crate) fn end_epoch(&mut self) -> Result<bool> {
        for side in &mut self.sides {
            side.take_forgotten();
        }
        for side in 0..self.sides.len() {
            self.drop_rows(side)?;
        }
        if self.sides.iter().any(|side| !side.changes.is_empty()) {
            return Ok(false);
        }
        self.sides.iter_mut().for_each(|side| side.leaves = false);
        self.ends = false;
        self.given = [0; SIDES];
        Ok(true)
    }

    /// Forgets a chunk of a side's changes; takes their rows without a count out of their chains and
    /// removes them, and their groups with the last row.
    fn drop_rows(&mut self, side: usize) -> Result<()> {
        let Self { groups, sides, slots, .. } = self;
        let (Side { rows, changes, leaves, .. }, head) = (&mut sides[side], side * GROUP_WORDS + HEAD);
        let mut gone = last_chunk(changes);
        if *leaves {
            take_away(groups, rows, &gone, side * GROUP_WORDS + TOTAL);
        }
        gone.retain(|change| count_of(rows, change.row) == 0);
        slots.clear();
        for change in &gone {
            let (before, after) = neighbours(rows.words(change.row));
            let key_group = rows.key_group(change.row);
            slots.extend(named(rows, key_group, before)?);
            slots.extend(named(rows, key_group, after)?);
        }
        rows.make_slots_resident(slots)?;
        for change in &gone {
            let (before, after) = neighbours(rows.words(change.row));
            let key_group = rows.key_group(change.row);
            match named(rows, key_group, before)? {
                Some(row) => rows.update(&[row], |_, words| words[LINKS] = links(neighbours(words).0, after)),
                None => groups.update(&[change.group], |_, words| words[head] = u64::from(after)),
            }
            if let Some(row) = named(rows, key_group, after)? {
                rows.update(&[row], |_, words| words[LINKS] = links(before, neighbours(words).1));
            }
        }
        slots.clear();
        slots.extend(gone.iter().map(|change| change.row));
        rows.delete(slots)?;
        let is_empty = |group: &Slot| groups.words(*group).chunks_exact(GROUP_WORDS).all(|side| side[HEAD] == 0);
        slots.clear();
        slots.extend(gone.iter().map(|change| change.group).filter(is_empty));
        Ok(groups.delete(slots)?)
    }
}

impl Side {
    const fn new(rows: Table) -> Self {
        Self { rows, changes: Vec::new(), forgotten: Vec::new(), leaves: false }
    }

    /// What was forgotten goes with what was changed; some of it was both.
    fn take_forgotten(&mut self) {
        if self.forgotten.is_empty() {
            return;
        }
        self.changes.append(&mut self.forgotten);
        self.changes.sort_unstable_by_key(|change| change.row);
        self.changes.dedup_by_key(|change| change.row);
    }

    /// One change a row, by group and row.
    fn consolidate(&mut self) -> Result<()> {
        self.changes.sort_unstable();
        self.changes.dedup_by(|next, kept| {
            let same = (next.group, next.row) == (kept.group, kept.row);
            kept.count += if same { next.count } else { 0 };
            same
        });
        let slots: Vec<Slot> = self.changes.iter().map(|change| change.row).collect();
        self.rows.make_slots_resident(&slots)?;
        if slots.iter().any(|slot| count_of(&self.rows, *slot) < 0) {
            return Err(Error::data("rows by group", "a row was deleted that is not there: its input is inconsistent"));
        }
        Ok(())
    }
}

/// Lets rows count nothing, and takes what they counted from the totals of their groups.
fn take_away(groups: &mut Table, rows: &mut Table, gone: &[Change], total: usize) {
    let (in_groups, in_rows): (Vec<Slot>, Vec<Slot>) = gone.iter().map(|change| (change.group, change.row)).unzip();
    let counts: Vec<i64> = in_rows.iter().map(|row| count_of(rows, *row)).collect();
    rows.update(&in_rows, |_, words| words[COUNT] = 0);
    groups.update(&in_groups, |at, words| words[total] = words[total].wrapping_sub(counts[at] as u64));
}

fn count_of(rows: &Table, row: Slot) -> i64 {
    rows.words(row)[COUNT] as i64
}

#[cfg(test)]
pub(crate) mod tests;
