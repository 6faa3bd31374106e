//! Reading a snapshot: pieces of a table in the order of its keys, and rows by key. A transaction's
//! own writes can be laid over what is stored.

use crate::error::{Error, Result};
use crate::layout::{Changes, PREFIX, log_key, row_key, row_range};
use crate::log::{PIECE_BYTES, PIECE_ROWS};
use crate::snapshot::Snapshot;
use crate::store::{Core, RowsFamily as _, TableStore};
use crate::table::Table;
use arrow::array::RecordBatch;
use rocksdb::{DBPinnableSlice, Direction, IteratorMode, ReadOptions};
use std::collections::BTreeMap;

/// What a transaction has written and not yet committed: by key, the new value or a deletion.
pub type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows of a table with their keys and values.
#[derive(Debug, Default)]
pub struct Piece {
    /// In ascending order.
    pub keys: Vec<Vec<u8>>,
    /// One a key.
    pub values: Vec<Vec<u8>>,
    /// There is nothing after them.
    pub is_last: bool,
}

impl Piece {
    /// The rows as a batch.
    ///
    /// # Errors
    /// `Corrupt` when they are not rows of `table`.
    pub fn rows(&self, table: &Table) -> Result<RecordBatch> {
        let keys: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
        let values: Vec<&[u8]> = self.values.iter().map(Vec::as_slice).collect();
        table.decode(&keys, &values)
    }
}

impl Snapshot {
    /// Rows that stand after the key `after`, or from the first one on: at most `max_rows` of those that are
    /// stored, fewer where they are large, or more where `over` hides all of these. A piece without rows is the
    /// last one, so that whoever goes on after the last key of a piece gets further.
    ///
    /// # Errors
    /// When the store cannot be read; since the snapshot was made, `Gone` when the table was dropped, and `Altered`
    /// when another one has taken its place, or it that of another one.
    pub fn scan(&self, table: &Table, after: Option<&[u8]>, max_rows: usize, over: &Overlay) -> Result<Piece> {
        let (mut from, mut wanted) = (after.map(<[u8]>::to_vec), max_rows);
        loop {
            let mut piece = self.stored(table, from.as_deref(), wanted)?;
            if over.is_empty() {
                return Ok(piece);
            }
            let last = piece.keys.last().cloned();
            lay_over(&mut piece, from.as_deref(), over);
            if piece.is_last || !piece.keys.is_empty() {
                return Ok(piece);
            }
            from = last.or(from);
            // Many may be hidden, and few are asked for at a time.
            wanted = wanted.max(PIECE_ROWS);
        }
    }

    fn stored(&self, table: &Table, after: Option<&[u8]>, max_rows: usize) -> Result<Piece> {
        check_begun(table, self.position())?;
        let core = self.core();
        let (first, end) = row_range(table.id());
        let mut from = Vec::new();
        row_key(table.id(), after.unwrap_or_default(), &mut from);
        let mut options = self.options();
        options.set_iterate_range(first.to_vec()..end.to_vec());
        options.set_readahead_size(256 << 10);
        let mode = IteratorMode::From(&from, Direction::Forward);
        let mut piece = Piece { is_last: true, ..Piece::default() };
        let mut bytes = 0;
        for row in core.db.iterator_cf_opt(core.db.rows(), options, mode) {
            let (key, value) = row.map_err(Error::store("read a table"))?;
            if after.is_some_and(|after| key[PREFIX..] == *after) {
                continue;
            }
            if piece.keys.len() == max_rows || bytes >= PIECE_BYTES {
                piece.is_last = false;
                break;
            }
            bytes += key.len() + value.len();
            piece.keys.push(key[PREFIX..].to_vec());
            piece.values.push(value.into_vec());
        }
        check_there(core, table)?;
        Ok(piece)
    }

    /// The values of rows by their keys; none where there is no row.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn get(&self, table: &Table, keys: &[&[u8]], over: &Overlay) -> Result<Vec<Option<Vec<u8>>>> {
        check_begun(table, self.position())?;
        let mut values = stored_values(self.core(), table, keys, &self.options())?;
        if !over.is_empty() {
            for (key, value) in keys.iter().zip(&mut values) {
                if let Some(written) = over.get(*key) {
                    value.clone_from(written);
                }
            }
        }
        Ok(values)
    }
}

impl TableStore {
    /// The values of rows by their keys, as all of them are now: what [`Snapshot::get`] gives for a new
    /// snapshot, which need not be made.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn get(&self, table: &Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        stored_values(&self.core, table, keys, &ReadOptions::default())
    }
}

/// The values of keys, all as of one moment.
fn stored_values(core: &Core, table: &Table, keys: &[&[u8]], options: &ReadOptions) -> Result<Vec<Option<Vec<u8>>>> {
    let full = |key: &&[u8]| {
        let mut out = Vec::with_capacity(PREFIX + key.len());
        row_key(table.id(), key, &mut out);
        out
    };
    let full: Vec<Vec<u8>> = keys.iter().map(full).collect();
    let stored = core.db.batched_multi_get_cf_opt(core.db.rows(), &full, false, options);
    let value = |value: std::result::Result<Option<DBPinnableSlice<'_>>, _>| {
        Ok(value.map_err(Error::store("read a row"))?.map(|value| value.to_vec()))
    };
    let values = stored.into_iter().map(value).collect::<Result<Vec<_>>>()?;
    check_there(core, table)?;
    Ok(values)
}

/// Refuses what was read of a table that was dropped meanwhile: files of its rows go at once, whoever has a
/// snapshot. To be asked when it was read, as a table is forgotten before its files go.
fn check_there(core: &Core, table: &Table) -> Result<()> {
    if core.log.has(table.id()) {
        return Ok(());
    }
    if core.log.is_replaced(table.id()) {
        return Err(Error::Altered);
    }
    Err(Error::Gone { table: table.spec().name.clone() })
}

/// Refuses to read a table as of a moment at which another one stood in its place: it had none of its rows then, or
/// some.
fn check_begun(table: &Table, position: u64) -> Result<()> {
    if position < table.begins() { Err(Error::Altered) } else { Ok(()) }
}

impl Snapshot {
    /// What to lay over a table so that it is as it was at an earlier position; none when the log does
    /// not go back that far, as where another table stood in its place then.
    ///
    /// # Errors
    /// When the log cannot be read, and `Altered` when another table stood in its place as the snapshot was made.
    pub fn as_of(&self, table: &Table, position: u64) -> Result<Option<Overlay>> {
        check_begun(table, self.position())?;
        let core = self.core();
        if position >= self.position() {
            return Ok(Some(Overlay::new()));
        }
        let mut options = self.options();
        let first = log_key(table.id(), position + 1).to_vec();
        options.set_iterate_range(first..log_key(table.id(), self.position() + 1).to_vec());
        let entries = core.db.iterator_cf_opt(core.db.log_entries(), options, IteratorMode::Start);
        // Not before: files of what is trimmed go whatever snapshots there are, but not from an iterator.
        if !core.log.holds(table.id(), position) {
            return Ok(None);
        }
        let mut over = Overlay::new();
        for entry in entries {
            let (_, changes) = entry.map_err(Error::store("read the log"))?;
            for change in Changes(&changes) {
                let (weight, key, value) = change?;
                // The first change since tells what was there before.
                over.entry(key.to_vec()).or_insert_with(|| (weight < 0).then(|| value.to_vec()));
            }
        }
        Ok(Some(over))
    }
}

/// Replaces, removes and adds what the transaction has written in the range of the piece.
fn lay_over(piece: &mut Piece, after: Option<&[u8]>, over: &Overlay) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let from = after.map_or(Unbounded, |after| Excluded(after.to_vec()));
    let to = match piece.keys.last() {
        Some(last) if !piece.is_last => Included(last.clone()),
        _ => Unbounded,
    };
    let keys = std::mem::take(&mut piece.keys);
    let stored = keys.into_iter().zip(std::mem::take(&mut piece.values)).map(|(key, value)| (key, Some(value)));
    let mut all: Overlay = stored.collect();
    for (key, value) in over.range((from, to)) {
        all.insert(key.clone(), value.clone());
    }
    for (key, value) in all {
        if let Some(value) = value {
            piece.keys.push(key);
            piece.values.push(value);
        }
    }
}
