//! DISTINCT inside an aggregate: which values a group has, and when one comes or goes.
//!
//! A table of (group, value) pairs with their counts, with the keys of `extremes`. A row counts for
//! the aggregate only when its value comes to the group or leaves it, so it is given a weight of its
//! own: 1, -1 or 0. Within an epoch a count may pass below zero; a value is there while its count is
//! above. Invariant: the weights of a value add up to whether it is there.

use crate::error::{Error, Result};
use crate::keys::{integers, one_form};
use crate::ops::extremes::{group_length, narrow_group, wide_group};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use highwater_state::{ByteKeys, Slot, Table, hash_placed};
use std::collections::BTreeSet;

/// The distinct values of one argument column.
pub(crate) struct Distinct {
    table: Table,
    column: usize,
    values: RowConverter,
    slots: Vec<Slot>,
    created: Vec<u32>,
    data: Vec<u8>,
    offsets: Vec<i32>,
    /// The batch's rows whose value is not null.
    valid: Vec<u32>,
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::data("DISTINCT", error)
}

impl Distinct {
    /// `table` has keys of kind `Placed` and one word; `column` is the argument's place.
    pub(crate) fn new(table: Table, column: usize, data_type: &DataType) -> Result<Self> {
        let values = RowConverter::new(vec![SortField::new(data_type.clone())]).map_err(broken)?;
        Ok(Self {
            table,
            column,
            values,
            slots: Vec::new(),
            created: Vec::new(),
            data: Vec::new(),
            offsets: Vec::new(),
            valid: Vec::new(),
        })
    }

    pub(crate) const fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.table.is_loaded()
    }

    /// The column whose rows get weights of their own.
    pub(crate) const fn column(&self) -> usize {
        self.column
    }

    /// Counts the values of a batch; gives the weight of each row, 0 where the value is null or was
    /// there already.
    pub(crate) fn apply(&mut self, key: &ArrayRef, columns: &[ArrayRef], weights: Option<&[i64]>) -> Result<Vec<i64>> {
        let column = one_form(&columns[self.column]);
        self.lay_out(key, &column)?;
        let keys = ByteKeys::new(&self.data, &self.offsets)?;
        let hashes: Vec<u64> = (0..self.valid.len()).map(|row| hash_placed(keys.get(row))).collect();
        self.table.upsert_bytes(&hashes, keys, &mut self.slots, &mut self.created)?;
        self.created.clear();
        let mut own = vec![0; column.len()];
        let valid = &self.valid;
        self.table.update(&self.slots, |at, words| {
            let row = valid[at] as usize;
            let before = words[0] as i64;
            let after = before.wrapping_add(weights.map_or(1, |weights| weights[row]));
            words[0] = after as u64;
            own[row] = i64::from(after > 0) - i64::from(before > 0);
        });
        if weights.is_some() {
            self.drop_empty()?;
        }
        Ok(own)
    }

    /// Removes the values of groups that are gone. They have no order, so all values are looked at.
    pub(crate) fn forget(&mut self, groups: &BTreeSet<Vec<u8>>) -> Result<()> {
        let (mut gone, mut slots) = (Vec::new(), Vec::new());
        for page in 0..self.table.page_count() {
            self.table.live_slots(page, &mut slots)?;
            gone.extend(slots.iter().copied().filter(|slot| {
                let key = self.table.key_bytes(*slot);
                groups.contains(&key[..group_length(key)])
            }));
        }
        Ok(self.table.delete(&gone)?)
    }

    /// The keys of the rows whose value is not null.
    fn lay_out(&mut self, key: &ArrayRef, column: &ArrayRef) -> Result<()> {
        let values = self.values.convert_columns(std::slice::from_ref(column)).map_err(broken)?;
        let narrow = integers(key.as_ref());
        self.data.clear();
        self.offsets.clear();
        self.valid.clear();
        self.offsets.push(0);
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            match narrow {
                Some(keys) => self.data.extend_from_slice(&narrow_group(keys.value(row))),
                None => self.data.extend_from_slice(&wide_group(key.as_binary::<i32>().value(row))),
            }
            self.data.extend_from_slice(values.row(row).as_ref());
            let end = i32::try_from(self.data.len()).map_err(|_| Error::data("DISTINCT", "a batch of over 2 GiB"))?;
            self.offsets.push(end);
            self.valid.push(row as u32);
        }
        Ok(())
    }

    /// Frees the values of the batch that are gone.
    fn drop_empty(&mut self) -> Result<()> {
        let table = &self.table;
        let mut gone: Vec<Slot> = self.slots.iter().copied().filter(|slot| table.words(*slot)[0] == 0).collect();
        gone.sort_unstable();
        gone.dedup();
        Ok(self.table.delete(&gone)?)
    }
}
