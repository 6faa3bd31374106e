//! A table as one pipeline reads it: its rows in pieces, in the order of their keys, and all changes
//! to what was given so far.
//!
//! The position of a reader says up to where the log was read, and while the backfill lasts also the
//! last key given. A piece is read in the background as of some position; it is given when the
//! clock's horizon has come that far, together with the changes to it since. Invariants: a change to
//! a key that was not given yet is left out, as the piece that has the key will show it; a piece is
//! never given as of a position beyond the horizon.

use crate::error::{Error, Result};
use crate::layout::{log_key, log_position};
use crate::log::{Decoded, Entry, Recent};
use crate::place::Place;
use crate::scan::{Overlay, Piece};
use crate::snapshot::Snapshot;
use crate::store::{Core, RowsFamily as _, Stored};
use crate::table::{Table, TableSource};
use arrow::array::BooleanArray;
use highwater_engine::Batch;
use highwater_engine::changes::{ChangeReader, Wake};
use highwater_engine::source::Offset;
use rocksdb::{IteratorMode, ReadOptions};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of one piece of a backfill.
const PIECE_ROWS: usize = 32_768;

/// A piece of a backfill, read in the background.
struct Prepared {
    position: u64,
    piece: Piece,
    /// How much of the table it and all before it are, from 0 to 1.
    share: f64,
}

/// Which keys are wanted.
type Wanted<'a> = &'a dyn Fn(&[u8]) -> bool;

type Slot = Arc<Mutex<Option<Result<Prepared>>>>;

/// What the backfill thread is asked for.
pub(crate) struct Request {
    core: Arc<Core>,
    table: Arc<Table>,
    after: Option<Vec<u8>>,
    slot: Slot,
    wake: Wake,
}

/// The way to the thread that reads backfills, one piece at a time for all views in turn.
pub(crate) struct Backfills {
    asked: Mutex<Option<Sender<Request>>>,
}

impl Backfills {
    pub(crate) const fn new(asked: Sender<Request>) -> Self {
        Self { asked: Mutex::new(Some(asked)) }
    }

    pub(crate) fn close(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn ask(&self, request: Request) {
        if let Some(asked) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // The store is closing; nobody waits for the piece.
            let _ = asked.send(request);
        }
    }

    /// Reads what is asked for until nobody can ask any more.
    pub(crate) fn serve(requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            let prepared = prepare(&request);
            *request.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
            let wake = Arc::clone(&request.wake);
            // The store may close now.
            drop(request);
            wake();
        }
    }
}

fn prepare(request: &Request) -> Result<Prepared> {
    let snapshot = Snapshot::new(&request.core)?;
    let piece = snapshot.scan(&request.table, request.after.as_deref(), PIECE_ROWS, &Overlay::new())?;
    let share = piece.keys.last().filter(|_| !piece.is_last).map_or(1.0, |last| {
        let db = &request.core.db;
        let (first, end) = crate::layout::row_range(request.table.id());
        let key = [&first[..], last].concat();
        let range = |from: &[u8], to: &[u8]| -> f64 {
            let sizes = db.get_approximate_sizes_cf(db.rows(), &[rocksdb::Range::new(from, to)]);
            sizes.first().map_or(0.0, |size| *size as f64)
        };
        let (done, left) = (range(&first, &key), range(&key, &end));
        if done + left > 0.0 { done / (done + left) } else { 0.0 }
    });
    Ok(Prepared { position: snapshot.position(), piece, share })
}

/// A backfill under way.
struct Backfill {
    after: Option<Vec<u8>>,
    slot: Slot,
    share: f64,
}

/// See the module.
pub(crate) struct TableReader {
    core: Arc<Core>,
    table: Arc<Table>,
    wake: Wake,
    watch: u64,
    position: u64,
    backfill: Option<Backfill>,
}

impl TableReader {
    pub(crate) fn open(source: &TableSource, reader: &str, offset: Option<&Offset>, wake: Wake) -> Result<Self> {
        let (core, table) = (Arc::clone(&source.core), Arc::clone(&source.table));
        core.log.hold(table.id(), reader);
        let place = offset.map(Place::read).transpose()?;
        if let Some(place) = &place {
            place.check(&core)?;
        }
        let (position, after) = match place {
            None => (core.log.newest(), Some(None)),
            Some(Place { position, .. }) if !core.log.holds(table.id(), position) => {
                return Err(Error::Trimmed { table: table.spec().name.clone(), position });
            }
            Some(Place { position, after, .. }) => (position, after.map(|hex| from_hex(&hex)).transpose()?.map(Some)),
        };
        let watch = core.log.watch(table.id(), Arc::clone(&wake));
        let mut this = Self { core, table, wake, watch, position, backfill: None };
        if let Some(after) = after {
            let after = after.filter(|key: &Vec<u8>| !key.is_empty());
            this.backfill = Some(Backfill { after, slot: Slot::default(), share: 0.0 });
            this.ask();
        }
        Ok(this)
    }

    /// Asks for the next piece of the backfill.
    fn ask(&self) {
        let Some(backfill) = &self.backfill else { return };
        self.core.backfills.ask(Request {
            core: Arc::clone(&self.core),
            table: Arc::clone(&self.table),
            after: backfill.after.clone(),
            slot: Arc::clone(&backfill.slot),
            wake: Arc::clone(&self.wake),
        });
    }

    /// Takes the piece that is ready, unless it is as of a position beyond the horizon.
    fn take(&self, horizon: u64) -> Result<Option<Prepared>> {
        let Some(backfill) = &self.backfill else { return Ok(None) };
        let mut slot = backfill.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(Ok(prepared)) if prepared.position > horizon => Ok(None),
            _ => slot.take().transpose(),
        }
    }

    /// Gives changes after `from` up to `to` of the keys that `wanted` takes.
    fn give(&self, from: u64, to: u64, wanted: Option<Wanted<'_>>, emit: &mut dyn FnMut(Batch)) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let entries = match self.core.log.recent(self.table.id(), from, to) {
            Recent::Here(entries) => entries,
            Recent::OnDisk => self.on_disk(from, to)?,
        };
        for entry in entries {
            for Decoded { keys, batch } in entry.pieces(&self.table)? {
                let batch = self.table.fitted(batch)?;
                match wanted {
                    None => emit(batch),
                    Some(wanted) => {
                        let keep: BooleanArray = keys.iter().map(|key| Some(key.is_some_and(wanted))).collect();
                        let kept = batch.filter(&keep).map_err(Error::corrupt)?;
                        if !kept.is_empty() {
                            emit(kept);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn on_disk(&self, from: u64, to: u64) -> Result<Vec<Arc<Entry>>> {
        let (table, db) = (self.table.id(), &self.core.db);
        if !self.core.log.holds(table, from) {
            return Err(Error::Trimmed { table: self.table.spec().name.clone(), position: from });
        }
        let mut options = ReadOptions::default();
        options.set_iterate_range(log_key(table, from + 1).to_vec()..log_key(table, to + 1).to_vec());
        let entry = |row: Stored| {
            let (key, value) = row.map_err(Error::store("read the log"))?;
            debug_assert!(log_position(&key).is_ok_and(|position| position > from && position <= to));
            Ok(Arc::new(Entry::new(value.into_vec())))
        };
        db.iterator_cf_opt(db.log_entries(), options, IteratorMode::Start).map(entry).collect()
    }

    /// Gives a piece of the backfill as it is at the horizon.
    fn give_piece(&mut self, prepared: Prepared, horizon: u64, emit: &mut dyn FnMut(Batch)) -> Result<()> {
        let Prepared { position, piece, share } = prepared;
        if !self.core.log.holds(self.table.id(), position) {
            // It waited for so long that its changes are gone.
            self.ask();
            return Ok(());
        }
        let Some(Backfill { after, slot, .. }) = self.backfill.take() else { return Ok(()) };
        if !piece.keys.is_empty() {
            let rows = piece.rows(&self.table)?;
            for from in (0..rows.num_rows()).step_by(crate::log::PIECE_ROWS) {
                let length = crate::log::PIECE_ROWS.min(rows.num_rows() - from);
                emit(Batch::inserts(rows.slice(from, length)));
            }
        }
        let last = if piece.is_last { None } else { piece.keys.last().cloned() };
        let in_piece = |key: &[u8]| {
            after.as_deref().is_none_or(|after| key > after) && last.as_deref().is_none_or(|last| key <= last)
        };
        self.give(position, horizon, Some(&in_piece), emit)?;
        if !piece.is_last {
            self.backfill = Some(Backfill { after: last, slot, share });
            self.ask();
        }
        Ok(())
    }
}

impl ChangeReader for TableReader {
    fn read(&mut self, horizon: u64, _: usize, emit: &mut dyn FnMut(Batch)) -> highwater_engine::Result<()> {
        let prepared = self.take(horizon)?;
        match self.backfill.as_ref().map(|backfill| backfill.after.clone()) {
            None => self.give(self.position, horizon, None, emit)?,
            Some(None) => {}
            Some(Some(after)) => self.give(self.position, horizon, Some(&|key| key <= after.as_slice()), emit)?,
        }
        self.position = self.position.max(horizon);
        if let Some(prepared) = prepared {
            self.give_piece(prepared, self.position, emit)?;
        }
        Ok(())
    }

    fn offset(&self) -> Offset {
        let after = self.backfill.as_ref().map(|backfill| to_hex(backfill.after.as_deref().unwrap_or_default()));
        Place::at(&self.core, self.position, after).to_offset()
    }

    fn has_more(&self) -> bool {
        let is_ready = |backfill: &Backfill| backfill.slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.core.log.shows_more(self.table.id(), self.position) || self.backfill.as_ref().is_some_and(is_ready)
    }

    fn backfill(&self) -> Option<f64> {
        self.backfill.as_ref().map(|backfill| backfill.share)
    }
}

impl Drop for TableReader {
    fn drop(&mut self) {
        self.core.log.unwatch(self.table.id(), self.watch);
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2);
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    pairs.map(|at| byte(at).ok_or_else(|| Error::corrupt("an offset's key"))).collect()
}
