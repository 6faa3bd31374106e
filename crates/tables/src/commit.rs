//! The committer: the one thread that writes. It takes what transactions have handed in, checks
//! each against what is stored and what those before it in the group write, and makes the group
//! durable with one synchronous write under one position of the log. Entries of journals and deliveries
//! that change no row have positions too: what a store lacks is known by its newest one.
//!
//! Invariants: a transaction is written whole or not at all; nobody is answered before it is durable;
//! of two transactions that replace the same row one is refused.

use crate::error::{Error, Result, TooMuch};
use crate::layout::{
    CHANGE_OVERHEAD, POSITION_KEY, PREFIX, encode_change, fence_key, first_fence, log_key, row_key, row_range,
};
use crate::log::{Decoded, Entry, PIECE_ROWS};
use crate::removal::Removal;
use crate::store::{Core, RowsFamily as _, floor_key};
use crate::table::Table;
use crate::write::{Change, Insert, InsertPart, TableWrite, Write};
use arrow::array::Array as _;
use highwater_engine::Batch;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A group takes no more transactions beyond so many bytes.
const GROUP_BYTES: usize = 8 << 20;
/// Bytes of a row in a group beside its key and value, about.
const ROW_OVERHEAD: usize = 16;
/// Rows from which an insert is checked as a whole and kept in memory as Arrow arrays.
const MANY: usize = 512;
/// What one transaction may take in the log of each table. RocksDB takes no value of 4 GiB, and a batch into which one
/// is put goes on without it.
const MOST_ENTRY: usize = 4_000_000_000;
/// How often the log is trimmed.
const TRIM: Duration = Duration::from_secs(1);

/// What somebody wants of the committer.
pub(crate) enum Pending {
    Commit {
        writes: Vec<TableWrite>,
        fence: Option<Fence>,
        done: oneshot::Sender<Result<u64>>,
    },
    /// What a journal writes.
    Entry {
        batch: WriteBatch,
        done: oneshot::Sender<Result<u64>>,
    },
    Drop {
        id: u32,
        done: oneshot::Sender<Result<()>>,
    },
    /// A table takes the place of another one, whose rows as of the position `copied` it has. Answered with the
    /// position as of which it stands there; none when the other one has changed since.
    Replace {
        old: u32,
        new: u32,
        copied: u64,
        done: oneshot::Sender<Result<Option<u64>>>,
    },
    /// A table that was replaced is written again.
    Reopen {
        id: u32,
        done: oneshot::Sender<()>,
    },
}

/// The name of a delivery, which is written once.
#[derive(Clone, Debug)]
pub struct Fence {
    pub(crate) key: Vec<u8>,
    pub(crate) checkpoint: u64,
}

impl Fence {
    /// A checkpoint's part of the rows that `of`, a name that nobody else has, brings into a table.
    #[must_use]
    pub fn new(table: u32, part: u32, of: &str, checkpoint: u64) -> Self {
        Self { key: fence_key(table, part, of), checkpoint }
    }
}

pub(crate) struct Committer {
    core: Arc<Core>,
    pending: Receiver<Pending>,
    position: u64,
    trimmed: Instant,
    removal: Removal,
    /// Tables that were dropped: whoever still holds one writes nowhere.
    dropped: HashSet<u32>,
    /// Tables that others stand in the places of, likewise.
    replaced: HashSet<u32>,
}

/// A group of transactions on their way to the disk.
#[derive(Default)]
struct Group {
    batch: WriteBatch,
    /// Encoded changes by table, and pieces that are at hand as arrays.
    logs: BTreeMap<u32, TableChanges>,
    rows: u32,
    bytes: usize,
    /// What the group has written so far, by full key.
    written: HashMap<Vec<u8>, Option<Vec<u8>>>,
    fences: HashMap<Vec<u8>, u64>,
    /// Its batch began as that of a journal.
    has_entry: bool,
    waiting: Vec<oneshot::Sender<Result<u64>>>,
}

#[derive(Default)]
struct TableChanges {
    bytes: Vec<u8>,
    decoded: Vec<Decoded>,
    /// Some of the changes are not in `decoded`.
    partial: bool,
}

impl Committer {
    pub(crate) fn new(core: Arc<Core>, pending: Receiver<Pending>) -> Self {
        let position = core.log.newest();
        let (dropped, replaced) = (HashSet::new(), HashSet::new());
        Self { core, pending, position, trimmed: Instant::now(), removal: Removal::new(), dropped, replaced }
    }

    /// Works until nobody can hand anything in any more.
    pub(crate) fn run(mut self) {
        loop {
            match self.pending.recv_timeout(TRIM) {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.trimmed.elapsed() >= TRIM {
                self.trimmed = Instant::now();
                if let Some(trim) = self.core.log.trim() {
                    self.removal.add(&trim);
                }
                if self.removal.is_due()
                    && let Err(error) = self.removal.remove(&self.core)
                {
                    tracing::warn!(%error, "the log of tables could not be trimmed; it is tried again");
                }
            }
        }
    }

    /// Makes a group of `first` and of what came meanwhile, and commits it.
    fn take(&mut self, first: Pending) {
        let mut group = Group::with_room_for(&first);
        let mut next = Some(first);
        while let Some(pending) = next.take() {
            match pending {
                Pending::Commit { writes, fence, done } => {
                    self.join(&mut group, &writes, fence, done);
                }
                Pending::Entry { batch, done } => {
                    // What came before it is committed before, what comes after it may join it.
                    self.commit(std::mem::take(&mut group));
                    group = Group::of_entry(batch, done);
                }
                Pending::Drop { id, done } => {
                    // What came before it is committed before.
                    self.commit(std::mem::take(&mut group));
                    // Whoever asked may have gone.
                    self.dropped.insert(id);
                    self.removal.forget(id);
                    let _ = done.send(self.drop_table(id));
                }
                Pending::Replace { old, new, copied, done } => {
                    // What came before it is committed before, and may be of the old one.
                    self.commit(std::mem::take(&mut group));
                    let _ = done.send(self.replace(old, new, copied));
                }
                Pending::Reopen { id, done } => {
                    self.replaced.remove(&id);
                    self.core.log.set_replaced(id, false);
                    let _ = done.send(());
                }
            }
            if group.bytes < GROUP_BYTES {
                next = self.pending.try_recv().ok();
            }
        }
        self.commit(group);
    }

    /// Adds a transaction to the group, or refuses it. A delivery that was written before is done when
    /// the group is.
    fn join(&self, group: &mut Group, writes: &[TableWrite], fence: Option<Fence>, done: oneshot::Sender<Result<u64>>) {
        let is_new = fence.as_ref().map_or(Ok(true), |fence| self.is_new(group, fence));
        let checked = is_new.and_then(|is_new| match is_new {
            true => {
                check_size(writes, MOST_ENTRY)?;
                writes.iter().try_for_each(|write| self.check(group, write)).map(|()| true)
            }
            false => Ok(false),
        });
        match checked {
            Err(error) => {
                // Whoever asked may have gone.
                let _ = done.send(Err(error));
            }
            Ok(is_new) => {
                for write in writes.iter().filter(|_| is_new) {
                    group.add(&self.core, write);
                }
                if let Some(fence) = fence.filter(|_| is_new) {
                    group.batch.put(&fence.key, fence.checkpoint.to_be_bytes());
                    group.fences.insert(fence.key, fence.checkpoint);
                }
                group.waiting.push(done);
            }
        }
    }

    /// Whether a delivery was not written yet.
    fn is_new(&self, group: &Group, fence: &Fence) -> Result<bool> {
        let newest = match group.fences.get(&fence.key) {
            Some(newest) => Some(*newest),
            None => self.core.fence(&fence.key)?,
        };
        Ok(newest.is_none_or(|newest| newest < fence.checkpoint))
    }

    fn check(&self, group: &Group, write: &TableWrite) -> Result<()> {
        let table = &write.table;
        if self.replaced.contains(&table.id()) {
            return Err(Error::Altered);
        }
        if self.dropped.contains(&table.id()) {
            return Err(Error::Gone { table: table.spec().name.clone() });
        }
        match &write.write {
            Write::Insert(insert) if !table.has_key() || insert.is_empty() => Ok(()),
            Write::Insert(insert) => self.check_insert(group, table, insert),
            Write::Changes(changes) => self.check_changes(group, table, changes),
        }
    }

    fn check_insert(&self, group: &Group, table: &Table, insert: &Insert) -> Result<()> {
        if insert.len() >= MANY
            && group.written.is_empty()
            && let Some((first, last)) = insert.rising()
            && self.is_free(table, first, last)?
        {
            return Ok(());
        }
        let mut rows: Vec<(&[u8], &[u8])> = Vec::with_capacity(insert.len());
        for part in &insert.parts {
            rows.extend((0..part.keys.len()).map(|row| (part.keys.value(row), part.values.value(row))));
        }
        if !rows.is_sorted_by_key(|(key, _)| *key) {
            rows.sort_unstable_by_key(|(key, _)| *key);
        }
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(table.duplicate(pair[1].0, pair[1].1));
        }
        if insert.len() >= MANY && group.written.is_empty() && self.is_free(table, rows[0].0, rows[rows.len() - 1].0)? {
            return Ok(());
        }
        for chunk in rows.chunks(PIECE_ROWS) {
            let keys: Vec<Vec<u8>> = chunk.iter().map(|(key, _)| full_key(table, key)).collect();
            for ((key, value), found) in chunk.iter().zip(self.current(group, &keys)?) {
                if found.is_some() {
                    return Err(table.duplicate(key, value));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is stored from the key `first` to the key `last`.
    fn is_free(&self, table: &Table, first: &[u8], last: &[u8]) -> Result<bool> {
        let (first, last) = (full_key(table, first), full_key(table, last));
        let (_, end) = row_range(table.id());
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end.to_vec());
        let db = &self.core.db;
        let mode = IteratorMode::From(&first, Direction::Forward);
        match db.iterator_cf_opt(db.rows(), options, mode).next() {
            None => Ok(true),
            Some(Ok((key, _))) => Ok(*key > *last),
            Some(Err(error)) => Err(Error::store("look for keys")(error)),
        }
    }

    fn check_changes(&self, group: &Group, table: &Table, changes: &[Change]) -> Result<()> {
        for chunk in changes.chunks(PIECE_ROWS) {
            let keys: Vec<Vec<u8>> = chunk.iter().map(|change| full_key(table, &change.key)).collect();
            for (change, found) in chunk.iter().zip(self.current(group, &keys)?) {
                if found == change.old {
                    continue;
                }
                return Err(match (&change.old, &change.new, found) {
                    (None, Some(new), Some(_)) => table.duplicate(&change.key, new),
                    _ => table.conflict(),
                });
            }
        }
        Ok(())
    }

    /// What stands under full keys, the group's own writes included.
    fn current(&self, group: &Group, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let db = &self.core.db;
        let family = db.rows();
        let stored = db.batched_multi_get_cf(family, keys, false);
        let mut found = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(stored) {
            let value = value.map_err(Error::store("look for keys"))?;
            found.push(match group.written.get(key) {
                Some(written) => written.clone(),
                None => value.map(|value| value.to_vec()),
            });
        }
        Ok(found)
    }

    fn commit(&mut self, mut group: Group) {
        if group.waiting.is_empty() {
            return;
        }
        if group.changes_something() {
            let (position, rows, bytes) = (self.position + 1, group.rows, group.bytes);
            let db = &self.core.db;
            for (table, changes) in &group.logs {
                group.batch.put_cf(db.log_entries(), log_key(*table, position), &changes.bytes);
            }
            group.batch.put_cf(db.commits(), position.to_be_bytes(), rows.to_be_bytes());
            group.batch.put(POSITION_KEY, position.to_be_bytes());
            let mut options = WriteOptions::default();
            options.set_sync(true);
            if let Err(error) = db.write_opt(group.batch, &options) {
                tracing::error!(%error, "a write to tables failed");
                for done in group.waiting {
                    // Whoever asked may have gone.
                    let _ = done.send(Err(Error::Store { what: "write to tables", source: error.clone() }));
                }
                return;
            }
            self.position = position;
            self.removal.wrote(bytes);
            // Before anybody hears of it.
            self.core.mark.set(position);
            let entries = group.logs.into_iter().map(|(table, changes)| (table, changes.into_entry())).collect();
            self.core.log.publish(position, rows, entries);
        }
        for done in group.waiting {
            // Whoever asked may have gone.
            let _ = done.send(Ok(self.position));
        }
    }

    /// Puts a table in the place of another one, see [`Pending::Replace`]. The copy of its rows is no change of it:
    /// its log begins behind that, on disk too, so that nobody reads it as of a moment when it had some of them.
    fn replace(&mut self, old: u32, new: u32, copied: u64) -> Result<Option<u64>> {
        if self.core.log.newest_of(old).is_none_or(|newest| newest > copied) {
            return Ok(None);
        }
        let db = &self.core.db;
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(db.log_entries(), log_key(new, 0), log_key(new, self.position + 1));
        batch.put(floor_key(new), self.position.to_be_bytes());
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(Error::store("put a table in another one's place"))?;
        // What was trimmed of its log before would be noted as where that begins.
        self.removal.forget(new);
        self.core.log.begin_at(new, self.position);
        self.core.log.set_replaced(old, true);
        self.replaced.insert(old);
        Ok(Some(self.position))
    }

    fn drop_table(&self, id: u32) -> Result<()> {
        let db = &self.core.db;
        let (first, end) = row_range(id);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(db.rows(), first, end);
        batch.delete_range_cf(db.log_entries(), log_key(id, 0), log_key(id + 1, 0));
        batch.delete(floor_key(id));
        batch.delete_range(first_fence(id), first_fence(id + 1));
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(Error::store("drop a table"))?;
        // Whole files go at once, the rest with the next compaction.
        db.delete_file_in_range_cf(db.rows(), first, end).map_err(Error::store("drop a table"))
    }
}

impl Group {
    /// A group that begins with this. What is large is put together in memory that need not grow.
    fn with_room_for(first: &Pending) -> Self {
        let Pending::Commit { writes, .. } = first else { return Self::default() };
        let bytes: usize = writes.iter().map(|write| write.write.bytes()).sum();
        if bytes < GROUP_BYTES {
            return Self::default();
        }
        let rows: usize = writes.iter().map(|write| write.write.len()).sum();
        // Each row stands there twice: as a row, and in the log.
        Self { batch: WriteBatch::with_capacity_bytes(2 * (bytes + rows * ROW_OVERHEAD)), ..Self::default() }
    }

    /// A group that begins with what a journal writes.
    fn of_entry(batch: WriteBatch, done: oneshot::Sender<Result<u64>>) -> Self {
        Self { bytes: batch.size_in_bytes(), batch, has_entry: true, waiting: vec![done], ..Self::default() }
    }

    fn changes_something(&self) -> bool {
        self.rows > 0 || self.has_entry || !self.fences.is_empty()
    }

    fn add(&mut self, core: &Core, write: &TableWrite) {
        let table = &write.table;
        self.rows = self.rows.saturating_add(write.write.len() as u32);
        self.bytes += write.write.bytes();
        match &write.write {
            Write::Insert(insert) => self.add_insert(core, table, insert),
            Write::Changes(changes) => self.add_changes(core, table, changes),
        }
    }

    fn add_insert(&mut self, core: &Core, table: &Table, insert: &Insert) {
        let is_small = insert.len() < MANY;
        let changes = self.logs.entry(table.id()).or_default();
        changes.partial |= is_small;
        changes.bytes.reserve(insert.bytes() + insert.len() * CHANGE_OVERHEAD);
        let mut full = Vec::new();
        for InsertPart { keys, values, rows } in &insert.parts {
            for row in 0..keys.len() {
                let (key, value) = (keys.value(row), values.value(row));
                row_key(table.id(), key, &mut full);
                self.batch.put_cf(core.db.rows(), &full, value);
                encode_change(1, key, value, &mut changes.bytes);
                if table.has_key() && is_small {
                    self.written.insert(full.clone(), Some(value.to_vec()));
                }
            }
            for from in (0..keys.len()).step_by(PIECE_ROWS).filter(|_| !is_small) {
                let length = PIECE_ROWS.min(keys.len() - from);
                let batch = Batch::inserts(rows.slice(from, length));
                changes.decoded.push(Decoded { keys: keys.slice(from, length), batch });
            }
        }
        if table.has_key() && !is_small {
            // Others of this group would have to be checked against all these rows.
            self.bytes = self.bytes.max(GROUP_BYTES);
        }
    }

    fn add_changes(&mut self, core: &Core, table: &Table, written: &[Change]) {
        let family = core.db.rows();
        let changes = self.logs.entry(table.id()).or_default();
        changes.partial = true;
        for change in written {
            let full = full_key(table, &change.key);
            if let Some(old) = &change.old {
                encode_change(-1, &change.key, old, &mut changes.bytes);
            }
            match &change.new {
                Some(new) => {
                    encode_change(1, &change.key, new, &mut changes.bytes);
                    self.batch.put_cf(family, &full, new);
                }
                None => self.batch.delete_cf(family, &full),
            }
            self.written.insert(full, change.new.clone());
        }
    }
}

impl TableChanges {
    fn into_entry(self) -> Entry {
        if self.partial { Entry::new(self.bytes) } else { Entry::decoded_as(self.bytes, self.decoded) }
    }
}

/// Refuses a transaction that is larger than a table's log can have it.
pub(crate) fn check_size(writes: &[TableWrite], most: usize) -> Result<()> {
    writes.iter().try_for_each(|write| {
        let bytes = write.write.entry_bytes();
        if bytes > most {
            return Err(TooMuch::Bytes { table: write.table.spec().name.clone(), bytes, most }.into());
        }
        Ok(())
    })
}

fn full_key(table: &Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(PREFIX + key.len());
    row_key(table.id(), key, &mut full);
    full
}
