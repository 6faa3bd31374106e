//! What a transaction wants written, with what it expects to find.
//!
//! Invariant: a write says what it replaces, so the committer can tell whether it still holds without
//! knowing who read what.

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
