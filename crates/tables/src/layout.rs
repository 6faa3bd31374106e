//! The keys and values of the table store, and nothing else makes or reads them
//! (docs/formats/table-store.md).
//!
//! | column family | key | value |
//! |---|---|---|
//! | `default` | `format`, `position` | u32, u64 |
//! | `default` | `fence`, see [`fence_key`] | u64 |
//! | `rows` | `table u32, row key` | the row's other columns |
//! | `log` | `table u32, position u64` | changes, see [`encode_change`] |
//! | `commits` | `position u64` | rows changed, u32 |
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
/// Bytes before the row's own key.
pub(crate) const PREFIX: usize = 4;

/// Where it is noted up to which checkpoint a part of a sink's rows was written: `fence`, the table and
/// part, big-endian, and whose they are.
pub(crate) fn fence_key(table: u32, part: u32, of: &str) -> Vec<u8> {
    let mut key = b"fence".to_vec();
    key.extend_from_slice(&table.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key.extend_from_slice(of.as_bytes());
    key
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
    fn keys_sort_by_table_and_position() {
        assert!(log_key(1, 300) < log_key(1, 1 << 40) && log_key(1, u64::MAX) < log_key(2, 0));
        assert_eq!(log_position(&log_key(7, 9)).expect("a key"), 9);
        let (first, after) = row_range(255);
        let mut key = Vec::new();
        row_key(255, &[255; 9], &mut key);
        assert!(first.as_slice() < key.as_slice() && key.as_slice() < after.as_slice());
    }
}
