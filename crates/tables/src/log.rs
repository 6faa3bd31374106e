//! The log's recent part in memory, its index, and what its readers still need.
//!
//! Each commit has a position and stands in the log of every table that it changed. Invariants: a
//! table's entries in memory are its newest; what a reader may come back to stays on disk; positions
//! are told to readers only when they are durable.

use crate::error::Result;
use crate::layout::Changes;
use crate::table::Table;
use arrow::array::BinaryArray;
use highwater_engine::Batch;
use highwater_engine::changes::Wake;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes of the log that stay in memory.
const MEMORY: usize = 64 << 20;
/// What an array takes beside its values, about: its buffers, each with what counts its users, and their alignment.
const ARRAY_BYTES: usize = 512;
/// Rows of a decoded piece.
pub(crate) const PIECE_ROWS: usize = 8192;
/// A piece takes no more rows beyond so many bytes: the texts of a batch must stay below 2 GiB.
pub(crate) const PIECE_BYTES: usize = 16 << 20;

/// Rows of one entry with the keys they stand under.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) keys: BinaryArray,
    pub(crate) batch: Batch,
}

/// A table's changes at one position.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Vec<u8>,
    decoded: OnceLock<Vec<Decoded>>,
    /// Held by who decodes them.
    decoding: Mutex<()>,
}

impl Entry {
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, decoded: OnceLock::new(), decoding: Mutex::new(()) }
    }

    /// The same when the rows are at hand.
    pub(crate) fn decoded_as(bytes: Vec<u8>, pieces: Vec<Decoded>) -> Self {
        let this = Self::new(bytes);
        // It was made just now, so nothing is set.
        let _ = this.decoded.set(pieces);
        this
    }

    /// The rows; decoded once for all who read them. An error is not kept: a reader that does not know a new column
    /// yet may come before one that does.
    pub(crate) fn pieces(&self, table: &Table) -> Result<&[Decoded]> {
        if let Some(decoded) = self.decoded.get() {
            return Ok(decoded);
        }
        let _turn = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoded) = self.decoded.get() {
            return Ok(decoded);
        }
        let decoded = decode(&self.bytes, table)?;
        Ok(self.decoded.get_or_init(|| decoded))
    }
}

/// The weight, key and value of a change.
type Weighted<'a> = (i8, &'a [u8], &'a [u8]);

fn decode(bytes: &[u8], table: &Table) -> Result<Vec<Decoded>> {
    let changes: Vec<Weighted<'_>> = Changes(bytes).collect::<Result<_>>()?;
    let piece = |changes: &[Weighted<'_>]| -> Result<Decoded> {
        let keys: Vec<&[u8]> = changes.iter().map(|(_, key, _)| *key).collect();
        let values: Vec<&[u8]> = changes.iter().map(|(_, _, value)| *value).collect();
        let weighted = changes.iter().any(|(weight, _, _)| *weight != 1);
        let weights = weighted.then(|| changes.iter().map(|(weight, _, _)| i64::from(*weight)).collect());
        Ok(Decoded { batch: table.batch(&keys, &values, weights)?, keys: BinaryArray::from_iter_values(keys) })
    };
    let mut pieces = Vec::new();
    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        let (first, after) = rest.split_at(first_piece(rest));
        pieces.push(piece(first)?);
        rest = after;
    }
    Ok(pieces)
}

/// How many of some changes make a piece; one at least, however large it is.
fn first_piece(changes: &[Weighted<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = changes.iter().take(PIECE_ROWS).take_while(|(_, key, value)| {
        let has_room = bytes < PIECE_BYTES;
        bytes += key.len() + value.len();
        has_room
    });
    fitting.count()
}

/// How many trims ago what nobody reads was written that goes: they are a second apart.
const KEPT_TRIMS: usize = 10;

/// What a table needs trimmed: entries up to this position go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trim {
    pub(crate) tables: Vec<(u32, u64)>,
    /// Commits up to this position go from the index.
    pub(crate) index: u64,
}

/// Part of a table's log.
pub(crate) enum Recent {
    /// All of what was asked for.
    Here(Vec<Arc<Entry>>),
    /// Some of it is on disk only.
    OnDisk,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: u64,
    /// Rows of each commit that somebody may still read, oldest first.
    index: VecDeque<(u64, u32)>,
    tables: HashMap<u32, TableLog>,
    /// What is in memory, about.
    bytes: usize,
    next_wake: u64,
    /// Positions beyond which nothing is shown for now, with how many want that.
    stops: BTreeMap<u64, usize>,
    /// The newest positions as of the last trims, oldest first.
    trims: VecDeque<u64>,
    /// All readers are known: what none of them needs may go.
    settled: bool,
    /// Tables that others stand in the places of.
    replaced: HashSet<u32>,
}

/// An entry that is in memory.
struct Kept {
    position: u64,
    /// About what it takes when it is decoded.
    bytes: usize,
    entry: Arc<Entry>,
}

#[derive(Default)]
struct TableLog {
    newest: u64,
    /// The newest entry that was trimmed.
    floor: u64,
    /// All entries beyond this one are in `recent`.
    recent_after: u64,
    /// Entries by position, oldest first.
    recent: VecDeque<Kept>,
    /// How many arrays a decoded piece has.
    arrays: usize,
    /// By name, where the oldest checkpoint of each reader stands; none when that is not known.
    readers: BTreeMap<String, Option<u64>>,
    wakes: Vec<(u64, Wake)>,
}

impl Inner {
    /// Takes the oldest entry of all tables out of memory, but none of the newest commit, which is about to be read.
    fn take_oldest(&mut self) -> Option<Arc<Entry>> {
        let oldest = |log: &&mut TableLog| log.recent.front().map_or(u64::MAX, |kept| kept.position);
        let log = self.tables.values_mut().min_by_key(oldest)?;
        let kept = log.recent.pop_front_if(|kept| kept.position < self.newest)?;
        log.recent_after = kept.position;
        self.bytes -= kept.bytes;
        Some(kept.entry)
    }

    /// The newest position that readers may see.
    fn shown(&self) -> u64 {
        self.stops.keys().next().map_or(self.newest, |stop| self.newest.min(*stop))
    }
}

impl std::fmt::Debug for TableLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableLog").field("newest", &self.newest).field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Log {
    /// The log as it is on disk: its newest position and its commits.
    pub(crate) fn open(newest: u64, index: VecDeque<(u64, u32)>) -> Self {
        Self { inner: Mutex::new(Inner { newest, index, ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table of so many columns, whose newest and newest trimmed entries on disk are at these positions.
    pub(crate) fn add_table(&self, table: u32, columns: usize, newest: u64, floor: u64) {
        // Keys and weights are arrays, too.
        let log = TableLog { newest, floor, recent_after: newest, arrays: columns + 2, ..TableLog::default() };
        self.inner().tables.insert(table, log);
    }

    pub(crate) fn remove_table(&self, table: u32) {
        let mut inner = self.inner();
        let Some(log) = inner.tables.remove(&table) else { return };
        inner.bytes -= log.recent.iter().map(|kept| kept.bytes).sum::<usize>();
    }

    /// Whether a table was not dropped.
    pub(crate) fn has(&self, table: u32) -> bool {
        self.inner().tables.contains_key(&table)
    }

    /// Whether another table stands in the place of a table.
    pub(crate) fn is_replaced(&self, table: u32) -> bool {
        self.inner().replaced.contains(&table)
    }

    /// Another table stands in the place of a table, or does so no more.
    pub(crate) fn set_replaced(&self, table: u32, is_replaced: bool) {
        let mut inner = self.inner();
        if is_replaced {
            inner.replaced.insert(table);
        } else {
            inner.replaced.remove(&table);
        }
    }

    /// Forgets a table's entries up to a position: it is read as of no earlier one.
    pub(crate) fn begin_at(&self, table: u32, position: u64) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let Some(log) = inner.tables.get_mut(&table) else { return };
        log.floor = log.floor.max(position);
        log.recent_after = log.recent_after.max(position);
        let read = log.recent.partition_point(|kept| kept.position <= position);
        let kept = log.recent.split_off(read);
        let gone = std::mem::replace(&mut log.recent, kept);
        inner.bytes -= gone.iter().map(|kept| kept.bytes).sum::<usize>();
        // Others wait for the lock, and there may be many.
        drop(guard);
        drop(gone);
    }

    /// The position of a table's newest entry; none when it was dropped.
    pub(crate) fn newest_of(&self, table: u32) -> Option<u64> {
        self.inner().tables.get(&table).map(|log| log.newest)
    }

    /// Up to which position some tables are as they were at `position`: the newest one when none has changed since.
    pub(crate) fn unchanged_until(&self, tables: &[u32], position: u64) -> u64 {
        let inner = self.inner();
        let has_changed = |table: &u32| inner.tables.get(table).is_none_or(|log| log.newest > position);
        if tables.iter().any(has_changed) { position } else { position.max(inner.newest) }
    }

    pub(crate) fn newest(&self) -> u64 {
        self.inner().newest
    }

    /// How many commits its readers still need.
    pub(crate) fn depth(&self) -> usize {
        self.inner().index.len()
    }

    /// Makes a durable commit known.
    pub(crate) fn publish(&self, position: u64, rows: u32, entries: Vec<(u32, Entry)>) {
        let mut wakes = Vec::new();
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.newest = position;
        inner.index.push_back((position, rows));
        for (table, entry) in entries {
            let Some(log) = inner.tables.get_mut(&table) else { continue };
            log.newest = position;
            let bytes = 2 * entry.bytes.len() + log.arrays * ARRAY_BYTES;
            inner.bytes += bytes;
            log.recent.push_back(Kept { position, bytes, entry: Arc::new(entry) });
            wakes.extend(log.wakes.iter().map(|(_, wake)| Arc::clone(wake)));
        }
        let mut gone = Vec::new();
        while inner.bytes > MEMORY {
            let Some(oldest) = inner.take_oldest() else { break };
            gone.push(oldest);
        }
        drop(guard);
        drop(gone);
        for wake in wakes {
            wake();
        }
    }

    /// Shows its readers nothing beyond the newest position, which it returns, until [`Log::go_on`].
    pub(crate) fn stop(&self) -> u64 {
        let mut inner = self.inner();
        let newest = inner.newest;
        *inner.stops.entry(newest).or_default() += 1;
        newest
    }

    /// Takes one [`Log::stop`] back.
    pub(crate) fn go_on(&self, position: u64) {
        let mut inner = self.inner();
        match inner.stops.get_mut(&position) {
            Some(wanted) if *wanted > 1 => *wanted -= 1,
            _ => {
                inner.stops.remove(&position);
            }
        }
        let wakes: Vec<Wake> =
            inner.tables.values().flat_map(|log| &log.wakes).map(|(_, wake)| Arc::clone(wake)).collect();
        drop(inner);
        for wake in wakes {
            wake();
        }
    }

    /// See [`highwater_engine::changes::SharedLog::horizon`].
    pub(crate) fn horizon(&self, after: u64, max_rows: u64) -> u64 {
        let inner = self.inner();
        let shown = inner.shown();
        if after >= shown {
            return after;
        }
        let from = inner.index.partition_point(|(position, _)| *position <= after);
        let mut rows = 0;
        let mut horizon = after;
        for (position, count) in inner.index.range(from..).take_while(|(position, _)| *position <= shown) {
            rows += u64::from(*count);
            if rows > max_rows && horizon > after {
                return horizon;
            }
            horizon = *position;
        }
        horizon.max(shown)
    }

    /// Whether a table may have changes after `position` that its readers see now.
    pub(crate) fn shows_more(&self, table: u32, position: u64) -> bool {
        let inner = self.inner();
        inner.shown() > position && inner.tables.get(&table).is_some_and(|log| log.newest > position)
    }

    /// Whether everything of a table after `position` is still there.
    pub(crate) fn holds(&self, table: u32, position: u64) -> bool {
        self.inner().tables.get(&table).is_some_and(|log| log.floor <= position)
    }

    /// A table's entries after `from` up to `to`.
    pub(crate) fn recent(&self, table: u32, from: u64, to: u64) -> Recent {
        let inner = self.inner();
        let Some(log) = inner.tables.get(&table) else { return Recent::Here(Vec::new()) };
        if log.newest <= from {
            return Recent::Here(Vec::new());
        }
        if from < log.recent_after {
            return Recent::OnDisk;
        }
        let begin = log.recent.partition_point(|kept| kept.position <= from);
        let end = log.recent.partition_point(|kept| kept.position <= to);
        Recent::Here(log.recent.range(begin..end.max(begin)).map(|kept| Arc::clone(&kept.entry)).collect())
    }

    /// Makes a reader known, of which it is not known what it may come back to.
    pub(crate) fn hold(&self, table: u32, reader: &str) {
        if let Some(log) = self.inner().tables.get_mut(&table) {
            log.readers.entry(reader.to_owned()).or_insert(None);
        }
    }

    /// A reader will not come back to before `position`; none leaves that open.
    pub(crate) fn retain(&self, table: u32, reader: &str, position: Option<u64>) {
        let mut inner = self.inner();
        if let Some(held) = inner.tables.get_mut(&table).and_then(|log| log.readers.get_mut(reader)) {
            *held = position.or(*held);
        }
    }

    /// A reader reads these tables only, from now on.
    pub(crate) fn set_readers(&self, reader: &str, tables: &[u32]) {
        for (table, log) in &mut self.inner().tables {
            if tables.contains(table) {
                log.readers.entry(reader.to_owned()).or_insert(None);
            } else {
                log.readers.remove(reader);
            }
        }
    }

    /// From now on what no reader needs is trimmed.
    pub(crate) fn settle(&self) {
        self.inner().settled = true;
    }

    /// Calls `wake` whenever the table changes, until [`Log::unwatch`].
    pub(crate) fn watch(&self, table: u32, wake: Wake) -> u64 {
        let mut inner = self.inner();
        inner.next_wake += 1;
        let id = inner.next_wake;
        if let Some(log) = inner.tables.get_mut(&table) {
            log.wakes.push((id, wake));
        }
        id
    }

    pub(crate) fn unwatch(&self, table: u32, id: u64) {
        if let Some(log) = self.inner().tables.get_mut(&table) {
            log.wakes.retain(|(other, _)| *other != id);
        }
    }

    /// What no reader needs any more; it is forgotten here and is to be removed from disk.
    pub(crate) fn trim(&self) -> Option<Trim> {
        let mut guard = self.inner();
        if !guard.settled {
            return None;
        }
        let inner = &mut *guard;
        let mut trim = Trim { tables: Vec::new(), index: inner.newest };
        inner.trims.push_back(inner.newest);
        if inner.trims.len() > KEPT_TRIMS {
            inner.trims.pop_front();
        }
        // A table that no view reads may be read beside views that are behind.
        let spared = inner.trims.front().copied().unwrap_or(0);
        let mut gone = Vec::new();
        for (table, log) in &mut inner.tables {
            let held = log.readers.values().map(|held| held.unwrap_or(log.floor)).min().unwrap_or(spared);
            let upto = held.min(log.newest);
            if upto > log.floor {
                log.floor = upto;
                trim.tables.push((*table, upto));
                let read = log.recent.partition_point(|kept| kept.position <= upto);
                let kept = log.recent.split_off(read);
                let read = std::mem::replace(&mut log.recent, kept);
                log.recent_after = log.recent_after.max(upto);
                inner.bytes -= read.iter().map(|kept| kept.bytes).sum::<usize>();
                gone.push(read);
            }
            if log.newest > log.floor {
                trim.index = trim.index.min(log.floor);
            }
        }
        let before = inner.index.len();
        while inner.index.front().is_some_and(|(position, _)| *position <= trim.index) {
            inner.index.pop_front();
        }
        let has_trimmed = !trim.tables.is_empty() || inner.index.len() < before;
        // Others wait for the lock, and there may be many.
        drop(guard);
        drop(gone);
        has_trimmed.then_some(trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let log = Log::open(0, VecDeque::new());
        log.add_table(1, 1, 0, 0);
        log.add_table(2, 1, 0, 0);
        log.settle();
        log
    }

    fn commit(log: &Log, position: u64, rows: u32, table: u32) {
        log.publish(position, rows, vec![(table, Entry::new(vec![0; 10]))]);
    }

    fn found(log: &Log, table: u32, from: u64, to: u64) -> Option<usize> {
        match log.recent(table, from, to) {
            Recent::Here(entries) => Some(entries.len()),
            Recent::OnDisk => None,
        }
    }

    #[test]
    fn a_horizon_takes_whole_commits_and_at_least_one() {
        let log = log();
        for (position, rows) in [(1, 10), (2, 10), (3, 1000), (4, 1)] {
            commit(&log, position, rows, 1);
        }
        let horizons: Vec<u64> = (0..5).map(|after| log.horizon(after, 20)).collect();
        assert_eq!(horizons, [2, 2, 3, 4, 4]);
    }

    #[test]
    fn tables_that_do_not_change_are_as_they_were() {
        let log = log();
        commit(&log, 1, 1, 1);
        commit(&log, 2, 1, 2);
        commit(&log, 3, 1, 2);
        assert_eq!((log.unchanged_until(&[1], 1), log.unchanged_until(&[1], 0)), (3, 0));
        assert_eq!((log.unchanged_until(&[1, 2], 1), log.unchanged_until(&[1, 2], 3)), (1, 3));
        assert_eq!((log.unchanged_until(&[9], 1), log.unchanged_until(&[1], 4)), (1, 4), "it was dropped, and ahead");
    }

    #[test]
    fn a_stop_hides_what_comes_after_it() {
        let log = log();
        commit(&log, 1, 1, 1);
        let (first, again) = (log.stop(), log.stop());
        assert_eq!((first, again), (1, 1));
        for position in 2..=3 {
            commit(&log, position, 1, 1);
        }
        assert_eq!((log.horizon(0, 10), log.horizon(1, 10), log.newest()), (1, 1, 3));
        assert!(log.shows_more(1, 0) && !log.shows_more(1, 1));
        // A later one waits for the earlier ones.
        let later = log.stop();
        log.go_on(first);
        assert_eq!(log.horizon(1, 10), 1);
        log.go_on(again);
        commit(&log, 4, 1, 1);
        assert_eq!((later, log.horizon(1, 10)), (3, 3));
        log.go_on(later);
        assert_eq!(log.horizon(1, 10), 4);
    }

    #[test]
    fn what_nobody_reads_stays_for_some_trims() {
        let log = log();
        commit(&log, 1, 1, 1);
        assert!(log.trim().is_some() && !log.holds(1, 0));
        for _ in 1..KEPT_TRIMS {
            commit(&log, log.newest() + 1, 1, 1);
            log.trim();
        }
        assert!(log.holds(1, 1), "as long as it may be read beside a view");
        log.trim();
        assert!(!log.holds(1, 1));
    }

    #[test]
    fn only_what_no_reader_needs_is_trimmed() {
        let log = log();
        log.hold(1, "a");
        log.hold(1, "b");
        for position in 1..=6 {
            commit(&log, position, 1, 1 + position as u32 % 2);
        }
        let trim = log.trim().expect("nobody reads the second table");
        assert_eq!((trim.tables, trim.index), (vec![(2, 5)], 0));
        log.retain(1, "a", Some(4));
        assert_eq!(log.trim(), None, "b may come back to anything");
        log.retain(1, "b", Some(2));
        assert_eq!(log.trim(), Some(Trim { tables: vec![(1, 2)], index: 2 }));
        assert!(log.holds(1, 2) && !log.holds(1, 1));
        assert_eq!(found(&log, 1, 2, 6), Some(2));
        log.set_readers("b", &[]);
        assert_eq!(log.trim(), Some(Trim { tables: vec![(1, 4)], index: 4 }));
        assert_eq!((found(&log, 1, 4, 6), found(&log, 1, 6, 9)), (Some(1), Some(0)));
    }

    #[test]
    fn memory_holds_what_readers_have_not_seen_and_no_more_than_there_is() {
        let log = log();
        log.hold(1, "a");
        for position in 1..=8 {
            commit(&log, position, 1, 1 + position as u32 % 2);
        }
        let one = log.inner().bytes / 8;
        log.retain(1, "a", Some(4));
        log.trim();
        assert_eq!(log.inner().bytes, 2 * one, "those of the first table after position 4");
        assert_eq!(found(&log, 1, 4, 8), Some(2));
        log.remove_table(1);
        assert_eq!(log.inner().bytes, 0);

        log.hold(2, "a");
        let most = MEMORY / one + 10;
        for position in 9..9 + most as u64 {
            commit(&log, position, 1, 2);
        }
        let bytes = log.inner().bytes;
        assert!(bytes <= MEMORY && bytes + one > MEMORY, "{bytes}");
        assert_eq!(found(&log, 2, 9, log.newest()), None, "the oldest are on disk only");
        assert_eq!(found(&log, 2, log.newest() - 1, log.newest()), Some(1));
    }
}
