//! The keys and values of the table store, and nothing else makes or reads them
//! (docs/formats/table-store.md).
//!
//! | column family | key | value |
//! |---|---|---|
//! | `default` | `format`, `position` | u32, u64 |
//! | `default` | `fence`, see [`fence_key`] | u64 |
//! | `default` | `run`, first position u64 | the run's id, 16 bytes |
//! | `rows` | `table u32, row key` | the row's other columns |
//! | `log` | `table u32, position u64` | changes, see [`encode_change`] |
//! | `commits` | `position u64` | rows changed, u32 |
//! | `journals` | `journal u32, 0 u8, checkpoint u64` | `first i64, last i64, pieces u32`, see [`Head`] |
//! | `journals` | `journal u32, 1 u8, checkpoint u64, piece u32` | changes, an Arrow IPC stream |
//!
//! Numbers are big-endian, so that keys sort as the numbers do.

use crate::error::{Error, Result};

/// The version of this layout.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const FORMAT_KEY: &[u8] = b"format";
pub(crate) const POSITION_KEY: &[u8] = b"position";
pub(crate) const ROWS: &str = "rows";
pub(crate) const LOG: &str = "log";
pub(crate) const COMMITS: &str = "commits";
pub(crate) const JOURNALS: &str = "journals";
/// Bytes before the row's own key.
pub(crate) const PREFIX: usize = 4;
/// Bytes of a fence's key before whose it is.
const FENCE_PREFIX: usize = 13;

/// What the keys of runs begin with, and what is behind all of them.
pub(crate) const RUNS: [&[u8]; 2] = [b"run", b"ruo"];

/// The key of a run: `run` and the first position of the log that is of it.
pub(crate) fn run_key(first: u64) -> [u8; 11] {
    let mut key = *b"run00000000";
    key[3..].copy_from_slice(&first.to_be_bytes());
    key
}

/// The first position of the run that has this key.
pub(crate) fn run_first(key: &[u8]) -> Result<u64> {
    position_of(key.get(3..).unwrap_or_default())
}

/// Where it is noted up to which checkpoint a part of a sink's rows was written: `fence`, the table and
/// part, big-endian, and whose they are.
pub(crate) fn fence_key(table: u32, part: u32, of: &str) -> Vec<u8> {
    let mut key = b"fence".to_vec();
    key.extend_from_slice(&table.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key.extend_from_slice(of.as_bytes());
    key
}

/// Whether a fence is of this writer, of whichever part.
pub(crate) fn is_fence_of(key: &[u8], of: &str) -> bool {
    key.get(FENCE_PREFIX..) == Some(of.as_bytes())
}

/// The first fence of a table.
pub(crate) fn first_fence(table: u32) -> Vec<u8> {
    let mut key = b"fence".to_vec();
    key.extend_from_slice(&table.to_be_bytes());
    key
}

/// The key of a row, into `out`.
pub(crate) fn row_key(table: u32, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&table.to_be_bytes());
    out.extend_from_slice(key);
}

/// The first key of a table and the first one after it.
pub(crate) fn row_range(table: u32) -> ([u8; 4], [u8; 4]) {
    (table.to_be_bytes(), (table + 1).to_be_bytes())
}

/// The key of a table's changes at a position.
pub(crate) fn log_key(table: u32, position: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&table.to_be_bytes());
    key[4..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The position in a log key.
pub(crate) fn log_position(key: &[u8]) -> Result<u64> {
    let position = key.get(4..12).ok_or_else(|| Error::corrupt("a log key that is too short"))?;
    Ok(u64::from_be_bytes(position.try_into().expect("eight bytes")))
}

pub(crate) fn position_of(value: &[u8]) -> Result<u64> {
    let value = value.try_into().map_err(|_| Error::corrupt("a position that has not eight bytes"))?;
    Ok(u64::from_be_bytes(value))
}

pub(crate) fn count_of(value: &[u8]) -> Result<u32> {
    let value = value.try_into().map_err(|_| Error::corrupt("a count that has not four bytes"))?;
    Ok(u32::from_be_bytes(value))
}

/// The number of a table or journal in a key, behind so many bytes.
pub(crate) fn number_in(key: &[u8], at: usize) -> Result<u32> {
    count_of(key.get(at..at + PREFIX).unwrap_or_default())
}

/// What is known of a journal's entry without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The times of its first and of its last change, in microseconds since 1970-01-01 UTC.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) pieces: u32,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_be_bytes());
        bytes[16..].copy_from_slice(&self.pieces.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; 20] =
            bytes.try_into().map_err(|_| Error::corrupt("an entry of a journal that has not twenty bytes"))?;
        let time = |from: usize| i64::from_be_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
        Ok(Self { first: time(0), last: time(8), pieces: count_of(&bytes[16..])? })
    }
}

/// The key of what is known of a journal's entry.
pub(crate) fn head_key(journal: u32, checkpoint: u64) -> [u8; 13] {
    let mut key = [0; 13];
    key[..4].copy_from_slice(&journal.to_be_bytes());
    key[5..].copy_from_slice(&checkpoint.to_be_bytes());
    key
}

/// The checkpoint in such a key.
pub(crate) fn head_checkpoint(key: &[u8]) -> Result<u64> {
    let checkpoint = key.get(5..).unwrap_or_default();
    position_of(checkpoint)
}

/// The key of a piece of a journal's entry.
pub(crate) fn piece_key(journal: u32, checkpoint: u64, piece: u32) -> [u8; 17] {
    let mut key = [0; 17];
    key[..13].copy_from_slice(&head_key(journal, checkpoint));
    key[4] = 1;
    key[13..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Bytes of a change beside the key and the value.
pub(crate) const CHANGE_OVERHEAD: usize = 9;

/// One change of a row: `weight i8 | key length u32 | key | value length u32 | value`, little-endian.
pub(crate) fn encode_change(weight: i8, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(weight as u8);
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

/// Changes as they stand in the log: weight, key and value of each.
pub(crate) struct Changes<'a>(pub(crate) &'a [u8]);

impl<'a> Changes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.take(4)?;
        self.take(u32::from_le_bytes(length.try_into().ok()?) as usize)
    }

    fn change(&mut self) -> Option<(i8, &'a [u8], &'a [u8])> {
        Some((self.take(1)?[0] as i8, self.bytes()?, self.bytes()?))
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<(i8, &'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let change = self.change().ok_or_else(|| Error::corrupt("a log entry that is cut off"));
        if change.is_err() {
            self.0 = &[];
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_and_a_cut_is_an_error() {
        let mut bytes = Vec::new();
        encode_change(-1, b"k", b"", &mut bytes);
        encode_change(1, b"", b"value", &mut bytes);
        let read: Vec<_> = Changes(&bytes).collect::<Result<_>>().expect("whole");
        assert_eq!(read, [(-1, &b"k"[..], &b""[..]), (1, &b""[..], &b"value"[..])]);
        for cut in 1..bytes.len() {
            let read: Result<Vec<_>> = Changes(&bytes[..cut]).collect();
            assert!(read.is_err() || read.is_ok_and(|read| read.len() == 1), "cut at {cut}");
        }
    }

    #[test]
    fn keys_of_journals_sort_and_read_back() {
        let head = Head { first: -1, last: 1 << 50, pieces: 3 };
        assert_eq!(Head::decode(&head.encode()).expect("whole"), head);
        assert!(Head::decode(&head.encode()[1..]).is_err());
        assert_eq!(head_checkpoint(&head_key(7, 9)).expect("a key"), 9);
        assert!(head_key(1, u64::MAX).as_slice() < piece_key(1, 0, 0).as_slice());
        assert!(piece_key(1, 2, u32::MAX) < piece_key(1, 3, 0));
        assert!(piece_key(1, u64::MAX, u32::MAX).as_slice() < head_key(2, 0).as_slice());
    }

    /// Keys and values as they are persisted.
    #[test]
    fn keys_and_values_are_those_of_format_1() {
        assert_eq!(FORMAT, 1);
        let mut row = Vec::new();
        row_key(2, b"k", &mut row);
        assert_eq!(row, [0, 0, 0, 2, b'k']);
        assert_eq!(log_key(2, 258), [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(head_key(3, 258), [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(piece_key(3, 258, 5), [0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 5]);
        assert_eq!(run_key(258), *b"run\x00\x00\x00\x00\x00\x00\x01\x02");
        assert_eq!(run_first(&run_key(258)).expect("a key"), 258);
        assert_eq!(fence_key(4, 1, "0:s"), b"fence\x00\x00\x00\x04\x00\x00\x00\x010:s");
        let head = Head { first: -1, last: 258, pieces: 7 };
        let expected = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 7];
        assert_eq!(head.encode(), expected);
        let mut change = Vec::new();
        encode_change(-1, b"k", b"vw", &mut change);
        assert_eq!(change, [255, 1, 0, 0, 0, b'k', 2, 0, 0, 0, b'v', b'w']);
    }

    #[test]
    fn fences_are_known_by_whose_they_are() {
        let key = fence_key(3, 1, "0:s");
        assert!(is_fence_of(&key, "0:s") && !is_fence_of(&key, "1:s") && !is_fence_of(&key, ":s"));
        assert!(first_fence(3) < key && key < first_fence(4));
        assert!(!is_fence_of(b"fence", ""));
    }

    #[test]
    fn keys_say_of_which_table_or_journal_they_are() {
        assert_eq!(number_in(&log_key(258, 9), 0).expect("a key"), 258);
        assert_eq!(number_in(&piece_key(259, 9, 1), 0).expect("a key"), 259);
        assert_eq!(number_in(&fence_key(260, 1, "0:s"), b"fence".len()).expect("a key"), 260);
        assert!(number_in(b"fence", b"fence".len()).is_err() && number_in(&[1, 2, 3], 0).is_err());
    }

    #[test]
    fn keys_sort_by_table_and_position() {
        assert!(log_key(1, 300) < log_key(1, 1 << 40) && log_key(1, u64::MAX) < log_key(2, 0));
        assert_eq!(log_position(&log_key(7, 9)).expect("a key"), 9);
        let (first, after) = row_range(255);
        let mut key = Vec::new();
        row_key(255, &[255; 9], &mut key);
        assert!(first.as_slice() < key.as_slice() && key.as_slice() < after.as_slice());
    }
}
