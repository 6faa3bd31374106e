//! The journal of a subscription: what changed in a view, durable, in the order in which it changed.
//!
//! It is the target of a sink ([`JournalSink`]). What a checkpoint delivers is one entry, in pieces;
//! entries are written once, whole, in the order of checkpoints, so that the newest one is the fence. The
//! committer writes them, each under a position of the tables' log.
//! Entries whose newest change is older than the retention go when a newer one is written, but for
//! the newest. Invariants: a reader that goes on from a place gets every change after it once, or is
//! told that some of them are gone; times never go back.

mod net;

use crate::error::{Error, Result};
use crate::layout::{Head, head_checkpoint, head_key, piece_key};
use crate::store::{RowsFamily as _, Writer};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use highwater_core::{CheckpointId, Clock as _, SystemClock, WallMicros};
use highwater_engine::Batch;
use highwater_engine::sink::{DeliveryPermit, Sink, Target};
use highwater_engine::source::Offset;
use rocksdb::{DB, IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Changes of one piece.
const PIECE_ROWS: usize = 32_768;

/// What a journal is, as its creator says it.
#[derive(Clone, Debug)]
pub struct JournalSpec {
    /// Never used twice in a store.
    pub id: u32,
    /// For messages.
    pub name: String,
    /// How long changes are kept at least.
    pub retention: Duration,
}

/// Between two pieces of a journal: before this piece of this checkpoint's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalPlace {
    checkpoint: u64,
    piece: u32,
}

/// What stands after a place.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalRead {
    /// Changes, and the place after them: the columns of the view, then what each change does
    /// (`Insert`, `Delete`, `UpdateDelete`, `UpdateInsert`), its epoch, and its time in microseconds.
    Changes(RecordBatch, JournalPlace),
    /// Nothing yet.
    Nothing,
    /// Some of what stood there was older than the retention.
    Gone,
    /// The journal was dropped.
    Dropped,
}

/// A journal of an open store.
pub struct Journal {
    writer: Writer,
    spec: JournalSpec,
    inner: Mutex<Inner>,
    /// Held by who writes: entries come one after another.
    writing: Mutex<()>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// By checkpoint.
    entries: BTreeMap<u64, Head>,
    /// The newest entry that was removed since it was opened.
    removed: Option<u64>,
    dropped: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Inner {
    fn newest(&self) -> Option<(u64, Head)> {
        self.entries.last_key_value().map(|(checkpoint, head)| (*checkpoint, *head))
    }
}

impl Journal {
    pub(crate) fn open(writer: Writer, spec: JournalSpec) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let mut options = ReadOptions::default();
        options.set_iterate_range(head_key(spec.id, 0).to_vec()..piece_key(spec.id, 0, 0).to_vec());
        let db = &writer.core.db;
        for stored in db.iterator_cf_opt(db.journals(), options, IteratorMode::Start) {
            let (key, value) = stored.map_err(Error::store("read a journal"))?;
            entries.insert(head_checkpoint(&key)?, Head::decode(&value)?);
        }
        let inner = Mutex::new(Inner { entries, ..Inner::default() });
        Ok(Self { writer, spec, inner, writing: Mutex::default(), more: Notify::new() })
    }

    /// What it is.
    #[must_use]
    pub const fn spec(&self) -> &JournalSpec {
        &self.spec
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the oldest change that is kept.
    #[must_use]
    pub fn begin(&self) -> JournalPlace {
        let inner = self.inner();
        let oldest = inner.entries.first_key_value().map(|(checkpoint, _)| *checkpoint);
        let checkpoint = oldest.or(inner.removed.map(|removed| removed + 1)).unwrap_or(0);
        JournalPlace { checkpoint, piece: 0 }
    }

    /// After the newest change.
    #[must_use]
    pub fn end(&self) -> JournalPlace {
        let newest = self.inner().newest();
        newest.map_or_else(|| self.begin(), |(checkpoint, _)| JournalPlace { checkpoint: checkpoint + 1, piece: 0 })
    }

    /// Before the entry that has the first change of this time or later.
    #[must_use]
    pub fn since(&self, time: WallMicros) -> JournalPlace {
        let inner = self.inner();
        let found = inner.entries.iter().find(|(_, head)| head.last >= time.0).map(|(checkpoint, _)| *checkpoint);
        drop(inner);
        found.map_or_else(|| self.end(), |checkpoint| JournalPlace { checkpoint, piece: 0 })
    }

    /// What stands after a place.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&self, place: JournalPlace) -> Result<JournalRead> {
        let (checkpoint, head) = {
            let inner = self.inner();
            if inner.dropped {
                return Ok(JournalRead::Dropped);
            }
            if inner.removed.is_some_and(|removed| place.checkpoint <= removed) {
                return Ok(JournalRead::Gone);
            }
            let next = inner.entries.range(place.checkpoint..).next();
            let Some((checkpoint, head)) = next else { return Ok(JournalRead::Nothing) };
            (*checkpoint, *head)
        };
        let piece = if checkpoint == place.checkpoint { place.piece } else { 0 };
        let db = &self.writer.core.db;
        let stored = db.get_pinned_cf(db.journals(), piece_key(self.spec.id, checkpoint, piece));
        // It may have been removed since the lock was given back.
        let Some(bytes) = stored.map_err(Error::store("read a journal"))? else { return Ok(JournalRead::Gone) };
        let last = piece + 1 >= head.pieces;
        let after = if last { (checkpoint + 1, 0) } else { (checkpoint, piece + 1) };
        let after = JournalPlace { checkpoint: after.0, piece: after.1 };
        Ok(JournalRead::Changes(decode(&bytes)?, after))
    }

    /// Waits until there is more than there is now. To be made before the read that finds nothing.
    pub fn more(&self) -> Notified<'_> {
        self.more.notified()
    }

    /// Keeps what a checkpoint has changed, unless it is kept already.
    fn append(&self, checkpoint: u64, rows: &[Batch], key: Option<&[usize]>, now: WallMicros) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, is_dropped) = {
            let inner = self.inner();
            (inner.newest(), inner.dropped)
        };
        if is_dropped || newest.is_some_and(|(newest, _)| newest >= checkpoint) {
            return Ok(());
        }
        let since = newest.map_or(i64::MIN, |(_, head)| head.last);
        let Some(changes) = net::changes(rows, key, since).map_err(Error::corrupt)? else { return Ok(()) };
        let (first, last) = net::times(&changes);
        let db = &self.writer.core.db;
        let mut batch = WriteBatch::default();
        let mut pieces = 0;
        for from in (0..changes.num_rows()).step_by(PIECE_ROWS) {
            let piece = changes.slice(from, PIECE_ROWS.min(changes.num_rows() - from));
            batch.put_cf(db.journals(), piece_key(self.spec.id, checkpoint, pieces), encode(&piece)?);
            pieces += 1;
        }
        let head = Head { first, last, pieces };
        batch.put_cf(db.journals(), head_key(self.spec.id, checkpoint), head.encode());
        let expired = self.expired(now);
        if let Some(expired) = expired {
            let id = self.spec.id;
            // Deleted ranges that do not overlap: RocksDB goes through each one for every later one that does.
            let oldest = self.inner().entries.first_key_value().map_or(0, |(oldest, _)| *oldest);
            batch.delete_range_cf(db.journals(), head_key(id, oldest), head_key(id, expired + 1));
            batch.delete_range_cf(db.journals(), piece_key(id, oldest, 0), piece_key(id, expired + 1, 0));
        }
        self.writer.write_entry(batch)?;
        let mut inner = self.inner();
        inner.entries.insert(checkpoint, head);
        if let Some(expired) = expired {
            inner.entries = inner.entries.split_off(&(expired + 1));
            inner.removed = Some(expired);
        }
        drop(inner);
        self.more.notify_waiters();
        Ok(())
    }

    /// The newest entry of which every change is older than the retention.
    fn expired(&self, now: WallMicros) -> Option<u64> {
        let kept = i64::try_from(self.spec.retention.as_micros()).unwrap_or(i64::MAX);
        let oldest = now.0.saturating_sub(kept);
        let inner = self.inner();
        inner.entries.iter().take_while(|(_, head)| head.last < oldest).last().map(|(checkpoint, _)| *checkpoint)
    }

    /// Takes no more; whoever waits is woken.
    pub(crate) fn close(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner().dropped = true;
        self.more.notify_waiters();
    }
}

/// Removes what a journal holds.
pub(crate) fn remove(db: &DB, id: u32) -> Result<()> {
    let (first, end) = (head_key(id, 0), head_key(id + 1, 0));
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(db.journals(), first, end);
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(batch, &options).map_err(Error::store("drop a journal"))?;
    db.delete_file_in_range_cf(db.journals(), first, end).map_err(Error::store("drop a journal"))
}

fn encode(changes: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let written = StreamWriter::try_new(&mut bytes, &changes.schema())
        .and_then(|mut writer| writer.write(changes).and_then(|()| writer.finish()));
    written.map_err(Error::corrupt)?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(Error::corrupt)?;
    let batch = reader.next().ok_or_else(|| Error::corrupt("a piece of a journal without changes"))?;
    batch.map_err(Error::corrupt)
}

/// The sink that a subscription is.
#[derive(Debug)]
pub struct JournalSink {
    journal: Arc<Journal>,
    key: Option<Vec<usize>>,
}

impl JournalSink {
    /// A sink of a view's changes. `key` names the columns by which an update is known: a row that
    /// goes and one that comes in one epoch with the same values there. Empty columns are those of a
    /// view of one row.
    #[must_use]
    pub const fn new(journal: Arc<Journal>, key: Option<Vec<usize>>) -> Self {
        Self { journal, key }
    }
}

impl Sink for JournalSink {
    fn check(&self, schema: &SchemaRef, _: bool) -> highwater_engine::Result<()> {
        net::check(schema).map_err(|reason| highwater_engine::Error::Plan(reason.to_string()))
    }

    fn open(&self, _: &SchemaRef) -> highwater_engine::Result<Box<dyn Target>> {
        Ok(Box::new(JournalTarget { journal: Arc::clone(&self.journal), key: self.key.clone() }))
    }

    fn is_log(&self) -> bool {
        true
    }

    fn delivered(&self) -> highwater_engine::Result<Option<CheckpointId>> {
        Ok(self.journal.inner().newest().map(|(checkpoint, _)| CheckpointId(checkpoint)))
    }

    fn reached(&self) -> highwater_engine::Result<Option<Offset>> {
        Ok(Some(self.journal.writer.reached()))
    }

    fn check_reached(&self, reached: &Offset) -> highwater_engine::Result<()> {
        let refused = |error| highwater_engine::Error::data(format!("subscription {}", self.journal.spec.name), error);
        self.journal.writer.check_reached(reached).map_err(refused)
    }
}

struct JournalTarget {
    journal: Arc<Journal>,
    key: Option<Vec<usize>>,
}

impl Target for JournalTarget {
    fn deliver(&mut self, permit: DeliveryPermit, _: u32, rows: &[Batch]) -> highwater_engine::Result<()> {
        let now = SystemClock::default().wall();
        Ok(self.journal.append(permit.checkpoint().0, rows, self.key.as_deref(), now)?)
    }
}

#[cfg(test)]
mod tests;
