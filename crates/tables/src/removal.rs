//! What was trimmed from the log and is still on disk. It goes in ranges that do not overlap, and seldom where
//! little is written: RocksDB keeps each deleted range until its memtable is full, goes through all of them
//! for whoever reads, and through each one once more for every later one that overlaps with it.

use crate::error::{Error, Result};
use crate::layout::log_key;
use crate::log::Trim;
use crate::store::{Core, RowsFamily as _, floor_key};
use rocksdb::{WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What was trimmed goes when so many bytes were written since.
pub(crate) const MANY_BYTES: usize = 64 << 20;
/// Or after so long.
const SELDOM: Duration = Duration::from_secs(60);

/// Entries that nobody reads any more.
pub(crate) struct Removal {
    tables: BTreeMap<u32, Upto>,
    index: Upto,
    /// Bytes that were written since something went.
    written: usize,
    last: Instant,
}

/// Positions of a log.
#[derive(Clone, Copy, Default)]
struct Upto {
    /// What is gone from disk, since this process began.
    gone: u64,
    /// What was trimmed.
    trimmed: u64,
}

impl Upto {
    const fn is_behind(self) -> bool {
        self.gone < self.trimmed
    }
}

impl Removal {
    pub(crate) fn new() -> Self {
        Self { tables: BTreeMap::new(), index: Upto::default(), written: 0, last: Instant::now() }
    }

    pub(crate) fn add(&mut self, trim: &Trim) {
        for (table, upto) in &trim.tables {
            self.tables.entry(*table).or_default().trimmed = *upto;
        }
        self.index.trimmed = self.index.trimmed.max(trim.index);
    }

    pub(crate) const fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// A table was dropped: nothing is noted of it any more.
    pub(crate) fn forget(&mut self, table: u32) {
        self.tables.remove(&table);
    }

    pub(crate) fn is_due(&self) -> bool {
        let waits = self.index.is_behind() || self.tables.values().any(|upto| upto.is_behind());
        waits && (self.written >= MANY_BYTES || self.last.elapsed() >= SELDOM)
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the store cannot be written; then all of it is still to go.
    pub(crate) fn remove(&mut self, core: &Core) -> Result<()> {
        let db = &core.db;
        let mut batch = WriteBatch::default();
        for (table, upto) in self.tables.iter().filter(|(_, upto)| upto.is_behind()) {
            let (from, end) = (log_key(*table, upto.gone + 1), log_key(*table, upto.trimmed + 1));
            batch.delete_range_cf(db.log_entries(), from, end);
            batch.put(floor_key(*table), upto.trimmed.to_be_bytes());
        }
        if self.index.is_behind() {
            let (from, end) = (self.index.gone + 1, self.index.trimmed + 1);
            batch.delete_range_cf(db.commits(), from.to_be_bytes(), end.to_be_bytes());
        }
        // Before files go: where the log begins must not be forgotten when the power fails.
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(Error::store("trim the log"))?;
        for (table, upto) in self.tables.iter().filter(|(_, upto)| upto.is_behind()) {
            let (from, end) = (log_key(*table, 0), log_key(*table, upto.trimmed));
            db.delete_file_in_range_cf(db.log_entries(), from, end).map_err(Error::store("trim the log"))?;
        }
        for upto in self.tables.values_mut().chain([&mut self.index]) {
            upto.gone = upto.trimmed;
        }
        (self.written, self.last) = (0, Instant::now());
        Ok(())
    }
}
