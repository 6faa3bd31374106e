//! min and max where deletes can take the extreme away: an ordered multiset of each group's values.
//!
//! What is durable is a table of (group, value) pairs with their counts, frozen and restored like
//! any other; the order is a set of the same keys in memory, rebuilt when the table is loaded. A
//! key is `place (8) | group | value`, the place being the group's hash, so a group's values live
//! where the group lives; groups and values are in forms whose byte order is theirs. Invariant: the
//! set holds exactly the keys whose count is not zero.

use crate::error::{Error, Result};
use crate::keys::integers;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use highwater_state::{ByteKeys, Rows, Slot, Table, hash_bytes, hash_placed, hash_u64};
use std::collections::{BTreeMap, BTreeSet};

/// The multisets of one argument column.
pub(crate) struct Extremes {
    table: Table,
    column: usize,
    values: RowConverter,
    order: BTreeSet<Box<[u8]>>,
    /// The order holds what the table holds.
    ordered: bool,
    /// The least and greatest key of each group, as of the read in progress.
    read: BTreeMap<Box<[u8]>, [Box<[u8]>; 2]>,
    copied: Rows,
    reading: bool,
    slots: Vec<Slot>,
    created: Vec<u32>,
}

/// The form of an integer-form group: place, kind, key.
pub(crate) fn narrow_group(key: u64) -> [u8; 17] {
    let mut group = [0; 17];
    group[..8].copy_from_slice(&hash_u64(key).to_be_bytes());
    group[9..].copy_from_slice(&key.to_be_bytes());
    group
}

/// The form of a bytes-form group; its length makes no form the beginning of another.
pub(crate) fn wide_group(key: &[u8]) -> Vec<u8> {
    let mut group = Vec::with_capacity(key.len() + 13);
    group.extend(hash_bytes(key).to_be_bytes());
    group.push(1);
    group.extend((key.len() as u32).to_be_bytes());
    group.extend_from_slice(key);
    group
}

/// How long the group at the front of a key is.
pub(crate) fn group_length(key: &[u8]) -> usize {
    if key[8] == 0 { 17 } else { 13 + u32::from_be_bytes(key[9..13].try_into().expect("four bytes")) as usize }
}

/// The key of a group, in one of its two forms.
pub(crate) enum GroupKey<'a> {
    Narrow(u64),
    Wide(&'a [u8]),
}

/// The key of the group at the front of a key.
pub(crate) fn group_key(key: &[u8]) -> GroupKey<'_> {
    if key[8] == 0 {
        GroupKey::Narrow(u64::from_be_bytes(key[9..17].try_into().expect("eight bytes")))
    } else {
        GroupKey::Wide(&key[13..group_length(key)])
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::data("min/max", error)
}

impl Extremes {
    /// `table` has keys of kind `Placed` and one word; `column` is the argument's place.
    pub(crate) fn new(table: Table, column: usize, data_type: &DataType) -> Result<Self> {
        let values = RowConverter::new(vec![SortField::new(data_type.clone())]).map_err(broken)?;
        let ordered = table.is_loaded();
        Ok(Self {
            table,
            column,
            values,
            order: BTreeSet::new(),
            ordered,
            read: BTreeMap::new(),
            copied: Rows::default(),
            reading: false,
            slots: Vec::new(),
            created: Vec::new(),
        })
    }

    pub(crate) const fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Whether it can be asked.
    pub(crate) const fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Loads all of it while `more` says so; true when it is loaded and in order.
    pub(crate) fn load(&mut self, mut more: &mut dyn FnMut() -> bool) -> Result<bool> {
        if !self.table.load_next(&mut more)? {
            return Ok(false);
        }
        if !self.ordered {
            let mut rows = Rows::default();
            self.table.freeze_for_read(None)?;
            self.table.copy_rows(&mut || true, &mut rows)?;
            self.order = (0..rows.len()).map(|row| rows.key_bytes(row).into()).collect();
            self.ordered = true;
        }
        Ok(true)
    }

    /// Adds and removes the values of a batch; nulls are not values.
    pub(crate) fn apply(&mut self, key: &ArrayRef, columns: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let column = &columns[self.column];
        let values = self.values.convert_columns(std::slice::from_ref(column)).map_err(broken)?;
        let (mut data, mut offsets, mut changes) = (Vec::new(), vec![0_i32], Vec::new());
        let narrow = integers(key.as_ref());
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            match narrow {
                Some(keys) => data.extend_from_slice(&narrow_group(keys.value(row))),
                None => data.extend_from_slice(&wide_group(key.as_binary::<i32>().value(row))),
            }
            data.extend_from_slice(values.row(row).as_ref());
            let end = i32::try_from(data.len()).map_err(|_| Error::data("min/max", "a batch of over 2 GiB"))?;
            offsets.push(end);
            changes.push(weights.map_or(1, |weights| weights[row]));
        }
        let keys = ByteKeys::new(&data, &offsets)?;
        let hashes: Vec<u64> = (0..changes.len()).map(|row| hash_placed(keys.get(row))).collect();
        self.table.upsert_bytes(&hashes, keys, &mut self.slots, &mut self.created)?;
        for row in self.created.drain(..) {
            self.order.insert(keys.get(row as usize).into());
        }
        self.table.update(&self.slots, |row, words| words[0] = words[0].wrapping_add(changes[row] as u64));
        if weights.is_some() {
            self.drop_empty(keys)?;
        }
        Ok(())
    }

    /// Removes the values of groups that are gone, and looks at no others.
    pub(crate) fn forget(&mut self, groups: &BTreeSet<Vec<u8>>) -> Result<()> {
        for group in groups {
            let from = std::ops::Bound::Included(&group[..]);
            let values = self.order.range::<[u8], _>((from, std::ops::Bound::Unbounded));
            let keys: Vec<Box<[u8]>> = values.take_while(|key| key.starts_with(group)).cloned().collect();
            let (mut data, mut offsets) = (Vec::new(), vec![0_i32]);
            for key in &keys {
                data.extend_from_slice(key);
                let end = i32::try_from(data.len()).map_err(|_| Error::data("min/max", "a group of over 2 GiB"))?;
                offsets.push(end);
            }
            let hashes: Vec<u64> = keys.iter().map(|key| hash_placed(key)).collect();
            let mut slots = Vec::new();
            self.table.find_bytes(&hashes, ByteKeys::new(&data, &offsets)?, &mut slots)?;
            let slots: Vec<Slot> = slots.into_iter().flatten().collect();
            self.table.delete(&slots)?;
            for key in &keys {
                self.order.remove(key);
            }
        }
        Ok(())
    }

    /// A count may pass below zero within an epoch; it is kept until it is zero.
    fn drop_empty(&mut self, keys: ByteKeys<'_>) -> Result<()> {
        let mut gone = Vec::new();
        for (row, slot) in self.slots.iter().enumerate() {
            if self.table.words(*slot)[0] == 0 && self.order.remove(keys.get(row)) {
                gone.push(*slot);
            }
        }
        Ok(self.table.delete(&gone)?)
    }

    /// The extremes of groups as they are now; null for a group without values.
    pub(crate) fn finish(&self, groups: &mut dyn Iterator<Item = Vec<u8>>, max: bool) -> Result<ArrayRef> {
        assert!(self.ordered, "loaded before it is asked");
        let find = |group: &[u8]| -> Option<&[u8]> {
            let key = if max {
                let mut end = group.to_vec();
                // The next group's form; no value's row form begins with five times 0xFF.
                end.extend([0xFF; 5]);
                self.order
                    .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(&end[..])))
                    .next_back()
            } else {
                self.order.range::<[u8], _>((std::ops::Bound::Included(group), std::ops::Bound::Unbounded)).next()
            };
            key.map(|key| &**key).filter(|key| key.starts_with(group))
        };
        let found: Vec<Option<Vec<u8>>> =
            groups.map(|group| find(&group).map(|key| key[group.len()..].to_vec())).collect();
        self.decode(found.iter().map(Option::as_deref))
    }

    /// The extremes of groups as of the read in progress.
    pub(crate) fn finish_read(&self, groups: &mut dyn Iterator<Item = Vec<u8>>, max: bool) -> Result<ArrayRef> {
        let find =
            |group: Vec<u8>| self.read.get(&group[..]).map(|pair| pair[usize::from(max)][group.len()..].to_vec());
        let found: Vec<Option<Vec<u8>>> = groups.map(find).collect();
        self.decode(found.iter().map(Option::as_deref))
    }

    fn decode<'a>(&self, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        // The row form of a null, for groups without values.
        let null = arrow::array::new_null_array(&self.data_type()?, 1);
        let null = self.values.convert_columns(&[null]).map_err(broken)?;
        let parser = self.values.parser();
        let rows = values.map(|value| parser.parse(value.unwrap_or_else(|| null.row(0).data())));
        let mut columns = self.values.convert_rows(rows).map_err(broken)?;
        Ok(columns.remove(0))
    }

    fn data_type(&self) -> Result<DataType> {
        let none = self.values.convert_rows(std::iter::empty()).map_err(broken)?;
        Ok(none[0].data_type().clone())
    }

    /// Begins a read of the multisets as they are now: those of a key group's groups, or all.
    pub(crate) fn begin_read(&mut self, group: Option<u16>) -> Result<()> {
        self.copied.clear();
        self.read.clear();
        self.reading = true;
        Ok(self.table.freeze_for_read(group)?)
    }

    /// Copies what the read needs while `more` says so; true when [`Extremes::finish_read`] can be
    /// asked.
    pub(crate) fn read_on(&mut self, more: &mut impl FnMut() -> bool) -> Result<bool> {
        if !self.reading {
            return Ok(true);
        }
        if self.table.copy_rows(more, &mut self.copied)?.pages_left > 0 {
            return Ok(false);
        }
        self.reading = false;
        // Not kept: who reads may take long.
        let copied = std::mem::take(&mut self.copied);
        for row in 0..copied.len() {
            let key = copied.key_bytes(row);
            let group = &key[..group_length(key)];
            match self.read.get_mut(group) {
                Some([least, greatest]) => {
                    if key < &**least {
                        *least = key.into();
                    } else if key > &**greatest {
                        *greatest = key.into();
                    }
                }
                None => {
                    self.read.insert(group.into(), [key.into(), key.into()]);
                }
            }
        }
        Ok(true)
    }

    /// Forgets the read.
    pub(crate) fn end_read(&mut self) {
        self.read.clear();
        self.copied.clear();
    }
}
