//! The store: one RocksDB with the rows, the log and the journals, its threads, and what it may use.
//!
//! Two threads work for it: the committer, which alone writes rows and log, and one that reads
//! backfills.

use crate::commit::{Committer, Fence, Pending};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalSpec};
use crate::layout::{
    COMMITS, FORMAT, FORMAT_KEY, JOURNALS, LOG, POSITION_KEY, PREFIX, ROWS, count_of, first_fence, is_fence_of,
    log_key, log_position, number_in, position_of, row_range,
};
use crate::log::Log;
use crate::mark::Mark;
use crate::place::Place;
use crate::reader::Backfills;
use crate::runs::Runs;
use crate::small_files;
use crate::snapshot::Snapshot;
use crate::table::{Table, TableSource, TableSpec};
use crate::write::TableWrite;
use highwater_core::Bytes;
use highwater_engine::changes::SharedLog;
use highwater_engine::source::Offset;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, SliceTransform,
    WriteBatch, WriteBufferManager,
};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a store that is dropped waits for who still reads or writes it, such as a delivery that is being
/// written.
const LET_GO_PATIENCE: Duration = Duration::from_secs(2);

/// What a store is and may use.
#[derive(Clone)]
pub struct StoreOptions {
    /// Its folder.
    pub path: PathBuf,
    /// The file beside it that tells its newest durable position.
    pub mark: PathBuf,
    /// The process's block cache.
    pub cache: Cache,
    /// The process's limit on memtables.
    pub buffers: WriteBufferManager,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of files: rows, log and journals.
    pub file_bytes: Bytes,
    /// The newest position of the log.
    pub position: u64,
    /// Commits that readers still need.
    pub commits: usize,
}

/// The open database and its log, shared by everybody who reads.
pub(crate) struct Core {
    pub(crate) db: DB,
    pub(crate) log: Log,
    pub(crate) backfills: Backfills,
    pub(crate) runs: Runs,
    pub(crate) mark: Mark,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl SharedLog for Core {
    fn horizon(&self, after: u64, max_rows: u64) -> u64 {
        self.log.horizon(after, max_rows)
    }

    fn newest(&self) -> u64 {
        self.log.newest()
    }
}

/// A key and a value as an iterator gives them.
pub(crate) type Stored = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

/// The column families of a store.
pub(crate) trait RowsFamily {
    fn rows(&self) -> &ColumnFamily;
    fn log_entries(&self) -> &ColumnFamily;
    fn commits(&self) -> &ColumnFamily;
    fn journals(&self) -> &ColumnFamily;
}

impl RowsFamily for DB {
    fn rows(&self) -> &ColumnFamily {
        self.cf_handle(ROWS).expect("it was opened with this family")
    }

    fn log_entries(&self) -> &ColumnFamily {
        self.cf_handle(LOG).expect("it was opened with this family")
    }

    fn commits(&self) -> &ColumnFamily {
        self.cf_handle(COMMITS).expect("it was opened with this family")
    }

    fn journals(&self) -> &ColumnFamily {
        self.cf_handle(JOURNALS).expect("it was opened with this family")
    }
}

/// While it is there no reader of the log sees anything beyond its position.
#[derive(Debug)]
pub struct Stop {
    position: u64,
    core: Arc<Core>,
}

impl Stop {
    /// The newest position that readers see.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.core.log.go_on(self.position);
    }
}

/// The way to the committer, until the store closes.
type SharedSender = Arc<Mutex<Option<Sender<Pending>>>>;

fn send(sender: &SharedSender, pending: Pending) -> Result<()> {
    let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
    sender.as_ref().and_then(|sender| sender.send(pending).ok()).ok_or(Error::Closed)
}

impl Core {
    /// The newest checkpoint whose rows were written under a fence.
    pub(crate) fn fence(&self, key: &[u8]) -> Result<Option<u64>> {
        let newest = self.db.get(key).map_err(Error::store("read a fence"))?;
        newest.as_deref().map(position_of).transpose()
    }

    /// The newest checkpoint of all fences of a table that are of one writer.
    fn newest_fence(&self, table: u32, of: &str) -> Result<Option<u64>> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(first_fence(table)..first_fence(table + 1));
        let mut newest = None;
        for stored in self.db.iterator_opt(IteratorMode::Start, options) {
            let (key, value) = stored.map_err(Error::store("read the fences"))?;
            if is_fence_of(&key, of) {
                newest = newest.max(Some(position_of(&value)?));
            }
        }
        Ok(newest)
    }
}

/// What sinks write into tables and journals with; cheap to clone. It does not keep the store from closing.
#[derive(Clone, Debug)]
pub struct Writer {
    pub(crate) core: Arc<Core>,
    sender: SharedSender,
}

impl Writer {
    /// All tables as they are now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::new(&self.core)
    }

    /// Whether a delivery was written already.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_delivered(&self, fence: &Fence) -> Result<bool> {
        Ok(self.core.fence(&fence.key)?.is_some_and(|newest| newest >= fence.checkpoint))
    }

    /// The newest checkpoint of which any part was written into a table, of whose rows `of` says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn delivered(&self, table: u32, of: &str) -> Result<Option<u64>> {
        self.core.newest_fence(table, of)
    }

    /// Writes a delivery and its fence at once, unless it was written before, and returns when that is
    /// durable. Blocks.
    ///
    /// # Errors
    /// Those of [`TableStore::commit`].
    pub fn deliver(&self, writes: Vec<TableWrite>, fence: Fence) -> Result<()> {
        let (done, answer) = oneshot::channel();
        send(&self.sender, Pending::Commit { writes, fence: Some(fence), done })?;
        answer.blocking_recv().map_err(|_| Error::Closed)?.map(|_| ())
    }

    /// Writes what a journal has put together, and returns when that is durable. Blocks.
    pub(crate) fn write_entry(&self, batch: WriteBatch) -> Result<()> {
        let (done, answer) = oneshot::channel();
        send(&self.sender, Pending::Entry { batch, done })?;
        answer.blocking_recv().map_err(|_| Error::Closed)?.map(|_| ())
    }

    /// Where the log ends, as checkpoints keep it: all deliveries made so far are in it.
    #[must_use]
    pub fn reached(&self) -> Offset {
        Place::at_end(&self.core).to_offset()
    }

    /// Refuses what [`Writer::reached`] of another log than this one, or of what this one was before it lost
    /// something, has given.
    ///
    /// # Errors
    /// `Foreign`, and `Corrupt` for what is no such place.
    pub fn check_reached(&self, reached: &Offset) -> Result<()> {
        Place::read(reached)?.check(&self.core)
    }
}

/// An open table store; `Send` and `Sync`.
#[derive(Debug)]
pub struct TableStore {
    pub(crate) core: Arc<Core>,
    sender: SharedSender,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// By number.
    journals: Mutex<BTreeMap<u32, Arc<Journal>>>,
}

impl TableStore {
    /// Opens a store, or makes a new one.
    ///
    /// # Errors
    /// When RocksDB cannot open it, it is of another format, or `Corrupt` or `Lost` when some of what was
    /// durable is not there.
    pub fn open(options: &StoreOptions) -> Result<Self> {
        let families = [ROWS, LOG, COMMITS, JOURNALS]
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(options, name == ROWS)));
        let db = DB::open_cf_descriptors(&database_options(options), &options.path, families)
            .map_err(|error| not_opened(&options.path, error))?;
        let is_new = check_format(&db)?;
        let newest = db.get(POSITION_KEY).map_err(Error::store("read the position"))?;
        let newest = newest.as_deref().map(position_of).transpose()?.unwrap_or(0);
        let mark = Mark::open(&options.mark, &options.path, newest)?;
        if is_new {
            db.put(FORMAT_KEY, FORMAT.to_be_bytes()).map_err(Error::store("write the format"))?;
        }
        small_files::merge(&db);
        let index = read_index(&db, newest)?;
        let runs = Runs::begin(&db, newest)?;
        let (asked, requests) = channel();
        let (log, backfills) = (Log::open(newest, index), Backfills::new(asked));
        let core = Arc::new(Core { db, log, backfills, runs, mark });
        let (sender, pending) = channel();
        let committer = Committer::new(Arc::clone(&core), pending);
        let threads = vec![
            spawn("hw-commit", move || committer.run()),
            spawn("hw-backfill", move || Backfills::serve(&requests)),
        ];
        let journals = Mutex::default();
        Ok(Self { core, sender: Arc::new(Mutex::new(Some(sender))), threads: Mutex::new(threads), journals })
    }

    /// A journal, new or known from before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn journal(&self, spec: JournalSpec) -> Result<Arc<Journal>> {
        let id = spec.id;
        let journal = Arc::new(Journal::open(self.writer(), spec)?);
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&journal));
        Ok(journal)
    }

    /// Removes a journal; whoever reads it is told.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn drop_journal(&self, id: u32) -> Result<()> {
        if let Some(journal) = self.journals.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            journal.close();
        }
        crate::journal::remove(&self.core.db, id)
    }

    /// A table, new or known from before.
    ///
    /// # Errors
    /// When the store cannot be read, or a column's type cannot be stored.
    pub fn table(&self, spec: TableSpec) -> Result<Arc<Table>> {
        let db = &self.core.db;
        let newest = last_key(db, db.log_entries(), &log_key(spec.id, 0), &log_key(spec.id + 1, 0))?;
        let newest = newest.as_deref().map(log_position).transpose()?.unwrap_or(0);
        let floor = db.get(floor_key(spec.id)).map_err(Error::store("read a table's log"))?;
        let floor = floor.as_deref().map(position_of).transpose()?.unwrap_or(0);
        let next_row = if spec.key.is_empty() {
            let (first, end) = row_range(spec.id);
            let last = last_key(db, db.rows(), &first, &end)?;
            last.map(|key| position_of(&key[PREFIX..])).transpose()?.map_or(0, |row| row + 1)
        } else {
            0
        };
        self.core.log.add_table(spec.id, spec.schema.fields().len(), newest, floor);
        Ok(Arc::new(Table::new(spec, next_row)?))
    }

    /// Removes a table's rows and log.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn drop_table(&self, id: u32) -> Result<()> {
        self.core.log.remove_table(id);
        let (done, answer) = oneshot::channel();
        send(&self.sender, Pending::Drop { id, done })?;
        answer.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Puts a table in the place of another one, of which it has all rows that `copied` shows. The other one is
    /// written no more, and the new one is read as of no earlier moment: who tries either is told `Altered`. False,
    /// and nothing is changed, when the other one has changed since. Blocks.
    ///
    /// # Errors
    /// When the store cannot be written; nothing is changed then.
    pub fn replace(&self, old: &Table, new: &Table, copied: &Snapshot) -> Result<bool> {
        let (done, answer) = oneshot::channel();
        let (old, copied) = (old.id(), copied.position());
        send(&self.sender, Pending::Replace { old, new: new.id(), copied, done })?;
        let begins = answer.blocking_recv().map_err(|_| Error::Closed)??;
        if let Some(position) = begins {
            new.begin_at(position);
        }
        Ok(begins.is_some())
    }

    /// Lets a table be written again that another one was put in the place of. Blocks.
    ///
    /// # Errors
    /// `Closed` when the store is closing.
    pub fn reopen(&self, table: &Table) -> Result<()> {
        let (done, answer) = oneshot::channel();
        send(&self.sender, Pending::Reopen { id: table.id(), done })?;
        answer.blocking_recv().map_err(|_| Error::Closed)
    }

    /// The greatest number of a table or journal of which anything is there, known or not: a new one must
    /// have a greater number, lest it begin with what another one has left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn greatest_id(&self) -> Result<Option<u32>> {
        let db = &self.core.db;
        let default = db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).expect("every database has this family");
        let last = |family: &ColumnFamily, before: &[u8]| -> Result<Option<u32>> {
            let (first, end) = ([before, &[0; PREFIX]].concat(), [before, &[255; PREFIX]].concat());
            last_key(db, family, &first, &end)?.map(|key| number_in(&key, before.len())).transpose()
        };
        let found = [
            last(db.rows(), b"")?,
            last(db.log_entries(), b"")?,
            last(db.journals(), b"")?,
            last(default, b"fence")?,
            last(default, b"floor")?,
        ];
        Ok(found.into_iter().flatten().max())
    }

    /// A table as views read it.
    #[must_use]
    pub fn source(&self, table: &Arc<Table>) -> TableSource {
        TableSource { core: Arc::clone(&self.core), table: Arc::clone(table) }
    }

    /// All tables as they are now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::new(&self.core)
    }

    /// Commits a transaction: when the answer comes it is durable, and its position is told.
    ///
    /// # Errors
    /// `Closed` when the store is closing. The answer may be any error; nothing was written then.
    pub fn commit(&self, writes: Vec<TableWrite>) -> Result<oneshot::Receiver<Result<u64>>> {
        let (done, answer) = oneshot::channel();
        send(&self.sender, Pending::Commit { writes, fence: None, done })?;
        Ok(answer)
    }

    /// What sinks write with.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer { core: Arc::clone(&self.core), sender: Arc::clone(&self.sender) }
    }

    /// The newest position of the log.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.core.log.newest()
    }

    /// Up to which position some tables are as they were at `position`: the newest one when none of them has changed
    /// since.
    #[must_use]
    pub fn unchanged_until(&self, tables: &[u32], position: u64) -> u64 {
        self.core.log.unchanged_until(tables, position)
    }

    /// Holds back what is committed from now on from the readers of the log, views among them, until the
    /// answer is dropped. Commits go on.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop { position: self.core.log.stop(), core: Arc::clone(&self.core) }
    }

    /// The tables that a reader reads, by their numbers, and no others: what it may come back to is
    /// kept. A store that is opened knows no readers; it keeps all until [`TableStore::settle`].
    pub fn set_readers(&self, reader: &str, tables: &[u32]) {
        self.core.log.set_readers(reader, tables);
    }

    /// All readers were told: from now on the log is trimmed.
    pub fn settle(&self) {
        self.core.log.settle();
    }

    /// Whether an offset says in which run its position was written, as all do but those of the first
    /// version: of these only the position is known.
    #[must_use]
    pub fn is_certain(offset: &Offset) -> bool {
        Place::read(offset).is_ok_and(|place| place.is_certain())
    }

    /// What it holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let db = &self.core.db;
        let size = |family| db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten();
        let sizes = [db.rows(), db.log_entries(), db.commits(), db.journals()].map(size);
        Usage {
            file_bytes: Bytes(sizes.into_iter().flatten().sum()),
            position: self.position(),
            commits: self.core.log.depth(),
        }
    }

    /// Stops its threads after what was committed before; later commits are refused.
    pub fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.core.backfills.close();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that panicked has told so already.
            let _ = thread.join();
        }
    }
}

/// RocksDB is closed by who has it last. That is to be this thread, as nobody waits for another one: when it
/// returns the folder can be opened again, and the process can end.
impl Drop for TableStore {
    fn drop(&mut self) {
        self.close();
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let deadline = Instant::now() + LET_GO_PATIENCE;
        while Arc::strong_count(&self.core) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("the system starts threads")
}

/// Where the newest trimmed entry of a table is noted.
pub(crate) fn floor_key(table: u32) -> [u8; 9] {
    let mut key = *b"floor0000";
    key[5..].copy_from_slice(&table.to_be_bytes());
    key
}

/// Whether nothing was written in the store yet.
fn check_format(db: &DB) -> Result<bool> {
    match db.get(FORMAT_KEY).map_err(Error::store("read the format"))? {
        None => Ok(true),
        Some(format) if count_of(&format)? == FORMAT => Ok(false),
        Some(format) => Err(Error::corrupt(format!("format {} is unknown to this version", count_of(&format)?))),
    }
}

/// Why RocksDB did not open a store: what is damaged, and what to do.
fn not_opened(path: &Path, source: rocksdb::Error) -> Error {
    if source.kind() != ErrorKind::Corruption {
        return Error::Store { what: "open the table store", source };
    }
    let files = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut logs: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .map(|file| file.display().to_string())
        .collect();
    logs.sort_unstable();
    Error::corrupt(format!(
        "{source} (the write-ahead log is {}; the newest lines of {} say more). Put the data folder back from a copy",
        logs.join(", "),
        path.join("LOG").display()
    ))
}

/// The commits that somebody may still read: none is missing up to the newest one.
fn read_index(db: &DB, newest: u64) -> Result<VecDeque<(u64, u32)>> {
    let commit = |row: Stored| {
        let (key, value) = row.map_err(Error::store("read the commits"))?;
        Ok((position_of(&key)?, count_of(&value)?))
    };
    let index: VecDeque<(u64, u32)> =
        db.iterator_cf(db.commits(), IteratorMode::Start).map(commit).collect::<Result<_>>()?;
    let expected = (newest + 1).saturating_sub(index.len() as u64)..;
    match expected.zip(&index).find(|(expected, (position, _))| expected != position) {
        None => Ok(index),
        Some((expected, (found, _))) => Err(Error::corrupt(format!(
            "its log goes to position {newest} and has {found} where {expected} should be: put the data folder back \
             from a copy"
        ))),
    }
}

/// The greatest key from `first` on and before `end`.
fn last_key(db: &DB, family: &ColumnFamily, first: &[u8], end: &[u8]) -> Result<Option<Box<[u8]>>> {
    let mut options = ReadOptions::default();
    options.set_iterate_range(first.to_vec()..end.to_vec());
    // The seek begins at a key of another prefix, by which files would be passed over.
    options.set_total_order_seek(true);
    let mode = IteratorMode::From(end, Direction::Reverse);
    let last = db.iterator_cf_opt(family, options, mode).next().transpose();
    Ok(last.map_err(Error::store("read a table"))?.map(|(key, _)| key))
}

fn database_options(options: &StoreOptions) -> Options {
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_write_buffer_manager(&options.buffers);
    // What a crash leaves is a last record that is cut off; anything else is damage. It recycles no logs.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    database.set_recycle_log_file_num(0);
    // Of logs that are full the sizes are known, so that one that is cut off or lost is seen.
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_max_total_wal_size(256 << 20);
    database.set_max_background_jobs(2);
    database.set_bytes_per_sync(1 << 20);
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(2);
    database
}

fn family_options(options: &StoreOptions, is_rows: bool) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&options.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_block_size(16 << 10);
    blocks.set_format_version(6);
    if is_rows {
        blocks.set_bloom_filter(10.0, false);
    }
    let mut family = Options::default();
    family.set_block_based_table_factory(&blocks);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_write_buffer_size(32 << 20);
    family.set_level_compaction_dynamic_level_bytes(true);
    if is_rows {
        family.set_prefix_extractor(SliceTransform::create_fixed_prefix(PREFIX));
        family.set_memtable_whole_key_filtering(true);
        family.set_memtable_prefix_bloom_ratio(0.05);
    }
    family
}

#[cfg(test)]
mod tests;
