//! Names of stored state: file numbers, table ids and the RocksDB key of a record. The only
//! module that makes or reads such keys.
//!
//! A key is `store u64 | file u64 | operator u32 | table u8 | key group u16 | page u32 | kind u8`,
//! big-endian. The file number stands before the operator, so that every file is a key range of
//! its own: nothing ever overlaps, and a file that falls out of scope is dropped whole.

use crate::error::{Error, Result};
use highwater_core::{CheckpointId, OperatorId, StoreId, WorkerIndex};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Length of an encoded key.
pub(crate) const KEY_LENGTH: usize = 28;

/// The number of one worker's part of one checkpoint; grows with the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileNumber(u64);

impl FileNumber {
    /// The part that `worker` writes for `checkpoint`.
    ///
    /// # Panics
    /// When the worker's index needs more than 16 bits or the checkpoint's more than 48.
    #[must_use]
    pub const fn new(checkpoint: CheckpointId, worker: WorkerIndex) -> Self {
        assert!(worker.0 < 1 << 16 && checkpoint.0 < 1 << 48, "worker or checkpoint number out of range");
        Self(checkpoint.0 << 16 | worker.0 as u64)
    }

    /// The checkpoint it belongs to.
    #[must_use]
    pub const fn checkpoint(self) -> CheckpointId {
        CheckpointId(self.0 >> 16)
    }

    /// The worker that wrote it.
    #[must_use]
    pub const fn worker(self) -> WorkerIndex {
        WorkerIndex((self.0 & 0xFFFF) as u32)
    }

    /// As one number, of the same order.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// What [`FileNumber::to_u64`] gave.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.checkpoint(), self.worker())
    }
}

/// A table of an operator; stable for the life of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId {
    /// The operator that owns it.
    pub operator: OperatorId,
    /// Which of the operator's tables.
    pub table: u8,
}

/// What a record holds. The order is the order in which a page's records of one file apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The keys of all live slots: everything older of the page is superseded.
    BaseKeys = 1,
    /// The keys of slots taken since the last record.
    Keys = 2,
    /// The words of all live slots: older images and deltas of the page are superseded.
    Image = 3,
    /// The words of changed slots.
    Delta = 4,
}

impl Kind {
    fn from_u8(tag: u8) -> Result<Self> {
        match tag {
            1 => Ok(Self::BaseKeys),
            2 => Ok(Self::Keys),
            3 => Ok(Self::Image),
            4 => Ok(Self::Delta),
            _ => Err(Error::corrupt(format!("record kind {tag} is unknown"))),
        }
    }
}

/// Which page a record is about, and what it holds. The order is that of encoded keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The table.
    pub table: TableId,
    /// The key group.
    pub group: u16,
    /// The page's number within its group.
    pub page: u32,
    /// What the record holds.
    pub kind: Kind,
}

/// One record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it belongs.
    pub key: RecordKey,
    /// Its content, see docs/formats/state-records.md.
    pub value: Vec<u8>,
}

/// The prefix of everything in one file.
pub(crate) fn file_prefix(store: StoreId, number: FileNumber) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&store.0.to_be_bytes());
    out[8..].copy_from_slice(&number.0.to_be_bytes());
    out
}

/// The prefix of one key group's records in one file.
pub(crate) fn group_prefix(store: StoreId, number: FileNumber, table: TableId, group: u16) -> [u8; 23] {
    let mut out = [0; 23];
    out[..16].copy_from_slice(&file_prefix(store, number));
    out[16..20].copy_from_slice(&table.operator.0.to_be_bytes());
    out[20] = table.table;
    out[21..].copy_from_slice(&group.to_be_bytes());
    out
}

impl RecordKey {
    /// The RocksDB key in a file.
    pub(crate) fn encode(&self, store: StoreId, number: FileNumber) -> [u8; KEY_LENGTH] {
        let mut out = [0; KEY_LENGTH];
        out[..23].copy_from_slice(&group_prefix(store, number, self.table, self.group));
        out[23..27].copy_from_slice(&self.page.to_be_bytes());
        out[27] = self.kind as u8;
        out
    }

    /// Reads what [`RecordKey::encode`] wrote.
    pub(crate) fn decode(key: &[u8]) -> Result<(StoreId, FileNumber, Self)> {
        let key: &[u8; KEY_LENGTH] =
            key.try_into().map_err(|_| Error::corrupt(format!("a record key of {} bytes", key.len())))?;
        let u64_at = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().expect("eight bytes"));
        let u32_at = |at: usize| u32::from_be_bytes(key[at..at + 4].try_into().expect("four bytes"));
        let record = Self {
            table: TableId { operator: OperatorId(u32_at(16)), table: key[20] },
            group: u16::from_be_bytes([key[21], key[22]]),
            page: u32_at(23),
            kind: Kind::from_u8(key[27])?,
        };
        Ok((StoreId(u64_at(0)), FileNumber(u64_at(8)), record))
    }

    pub(crate) fn from_parts(table: TableId, group: u16, page: u32, kind: u8) -> Result<Self> {
        Ok(Self { table, group, page, kind: Kind::from_u8(kind)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_sort_as_records_do_and_read_back() {
        let mut keys = Vec::new();
        for operator in [0u32, 1, 70_000] {
            for (table, group, page) in [(0u8, 0u16, 0u32), (0, 255, 1), (3, 2, 1 << 20)] {
                for kind in [Kind::BaseKeys, Kind::Keys, Kind::Image, Kind::Delta] {
                    let table = TableId { operator: OperatorId(operator), table };
                    keys.push(RecordKey { table, group, page, kind });
                }
            }
        }
        keys.sort();
        let number = FileNumber::new(CheckpointId(7), WorkerIndex(3));
        let encoded: Vec<_> = keys.iter().map(|k| k.encode(StoreId(9), number)).collect();
        assert!(encoded.windows(2).all(|w| w[0] < w[1]));
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(RecordKey::decode(bytes).expect("a valid key"), (StoreId(9), number, *key));
            assert!(bytes.starts_with(&group_prefix(StoreId(9), number, key.table, key.group)));
        }
        assert!(RecordKey::decode(&encoded[0][1..]).is_err());
        assert_eq!(
            (number.checkpoint(), number.worker(), number.to_string()),
            (CheckpointId(7), WorkerIndex(3), "7.3".into())
        );
    }
}
