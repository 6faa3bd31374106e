//! What a transaction wants written, with what it expects to find.
//!
//! Invariant: a write says what it replaces, so the committer can tell whether it still holds without
//! knowing who read what.

use crate::layout::CHANGE_OVERHEAD;
use crate::table::Table;
use arrow::array::{Array, BinaryArray, RecordBatch};
use std::sync::Arc;

/// A transaction's writes to one table.
#[derive(Clone, Debug)]
pub struct TableWrite {
    /// The table.
    pub table: Arc<Table>,
    /// What is written, each key at most once.
    pub write: Write,
}

/// Rows written together.
#[derive(Clone, Debug)]
pub enum Write {
    /// New rows.
    Insert(Insert),
    /// Rows replaced, deleted or inserted one by one.
    Changes(Vec<Change>),
}

/// New rows and their encoded form; made by [`Table::insert`].
#[derive(Clone, Debug, Default)]
pub struct Insert {
    pub(crate) parts: Vec<InsertPart>,
}

/// One batch of new rows.
#[derive(Clone, Debug)]
pub(crate) struct InsertPart {
    pub(crate) keys: BinaryArray,
    pub(crate) values: BinaryArray,
    pub(crate) rows: RecordBatch,
}

impl Insert {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.keys.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.keys.value_data().len() + part.values.value_data().len()).sum()
    }

    /// The first key and the last one, if each is greater than the one before it.
    pub(crate) fn rising(&self) -> Option<(&[u8], &[u8])> {
        let mut keys = self.parts.iter().flat_map(|part| (0..part.keys.len()).map(move |row| part.keys.value(row)));
        let first = keys.next()?;
        let mut last = first;
        for key in keys {
            if key <= last {
                return None;
            }
            last = key;
        }
        Some((first, last))
    }

    /// Adds more rows of the same table.
    pub fn append(&mut self, mut more: Self) {
        self.parts.append(&mut more.parts);
    }

    /// The same rows, one by one.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        let rows = self.parts.iter().flat_map(|part| part.keys.iter().flatten().zip(part.values.iter().flatten()));
        rows.map(|(key, value)| Change { key: key.into(), old: None, new: Some(value.into()) }).collect()
    }
}

/// One row before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: Vec<u8>,
    /// What the transaction found there; none when it found no row.
    pub old: Option<Vec<u8>>,
    /// What is to stand there; none to delete it.
    pub new: Option<Vec<u8>>,
}

impl Write {
    /// How many rows it concerns.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Insert(insert) => insert.len(),
            Self::Changes(changes) => changes.len(),
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it takes in the log, at most: the row before and the row after stand there with its key.
    pub(crate) fn entry_bytes(&self) -> usize {
        match self {
            Self::Insert(insert) => insert.bytes() + insert.len() * CHANGE_OVERHEAD,
            Self::Changes(changes) => {
                let keys: usize = changes.iter().map(|change| change.key.len()).sum();
                self.bytes() + keys + 2 * changes.len() * CHANGE_OVERHEAD
            }
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Insert(insert) => insert.bytes(),
            Self::Changes(changes) => {
                let size = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
                changes.iter().map(|c| c.key.len() + size(&c.old) + size(&c.new)).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::encode_change;
    use arrow::datatypes::Schema;

    fn insert(keys: &[&str]) -> Insert {
        let keys = BinaryArray::from_iter_values(keys);
        let rows = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Insert { parts: vec![InsertPart { values: keys.clone(), keys, rows }] }
    }

    fn rising(parts: &[&[&str]]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut all = Insert::default();
        parts.iter().for_each(|keys| all.append(insert(keys)));
        all.rising().map(|(first, last)| (first.to_vec(), last.to_vec()))
    }

    #[test]
    fn what_changes_take_in_the_log_is_known() {
        let change = |old: Option<&str>, new: Option<&str>| {
            let [old, new] = [old, new].map(|row| row.map(|row| row.as_bytes().to_vec()));
            Change { key: b"key".to_vec(), old, new }
        };
        let changes = vec![change(Some("before"), Some("after")), change(Some("gone"), Some(""))];
        let mut log = Vec::new();
        for (weight, row) in [(-1, "before"), (1, "after"), (-1, "gone"), (1, "")] {
            encode_change(weight, b"key", row.as_bytes(), &mut log);
        }
        assert_eq!(Write::Changes(changes).entry_bytes(), log.len());
        assert!(Write::Changes(vec![change(None, Some("new"))]).entry_bytes() > 3 + 3 + CHANGE_OVERHEAD);
        log.clear();
        for row in ["a", "bc"] {
            encode_change(1, row.as_bytes(), row.as_bytes(), &mut log);
        }
        assert_eq!(Write::Insert(insert(&["a", "bc"])).entry_bytes(), log.len());
    }

    #[test]
    fn keys_rise_through_all_parts() {
        assert_eq!(rising(&[]), None);
        assert_eq!(rising(&[&["b"]]), Some((b"b".to_vec(), b"b".to_vec())));
        assert_eq!(rising(&[&["a", "b"], &[], &["c"]]), Some((b"a".to_vec(), b"c".to_vec())));
        assert_eq!(rising(&[&["a", "b"], &["b"]]), None);
        assert_eq!(rising(&[&["b", "a"]]), None);
    }
}
