//! The page store: one RocksDB a process that holds the files of all its pipelines.
//!
//! It is disposable. It is created empty when the process starts and files are ingested into it
//! by hard link, so it has no write-ahead log, no memtable and no recovery of its own; what is
//! durable is the files themselves. Every file is a key range of its own ([`crate::key`]), so it
//! lands on the bottom level, nothing is ever compacted, and a file that falls out of scope is
//! dropped whole.
//!
//! It does not know which files are in scope, and moves nothing to an object store.

use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind, RecordKey, TableId, file_prefix, group_prefix};
use highwater_core::{Bytes, StoreId};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, IngestExternalFileOptions, LogLevel, LruCacheOptions, Options,
    ReadOptions, WriteBufferManager,
};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Size of the blocks that records are packed into; most records are larger than one.
const BLOCK_BYTES: usize = 16 * 1024;

/// What the page store of a process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLimits {
    /// Cache of blocks, index blocks included.
    pub block_cache: Bytes,
    /// Memtables of all databases of the process; nothing of the page store goes through them.
    pub write_buffers: Bytes,
    /// Files kept open.
    pub open_files: u32,
    /// Threads of RocksDB.
    pub background_threads: u32,
    /// Bytes a second that RocksDB itself may write.
    pub bytes_per_second: Bytes,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            block_cache: Bytes(64 << 20),
            write_buffers: Bytes(64 << 20),
            open_files: 1024,
            background_threads: 2,
            bytes_per_second: Bytes(64 << 20),
        }
    }
}

/// What the page store uses, against its [`StoreLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreUsage {
    /// The limits.
    pub limits: StoreLimits,
    /// Bytes in the block cache.
    pub block_cache: Bytes,
    /// Bytes of the cache that iterators hold; the only ones that can exceed the limit.
    pub pinned: Bytes,
    /// Bytes of memtables.
    pub write_buffers: Bytes,
    /// Files ingested.
    pub files: u64,
    /// Their size.
    pub file_bytes: Bytes,
}

/// The page store of a process.
pub struct PageStore {
    db: DB,
    cache: Cache,
    buffers: WriteBufferManager,
    limits: StoreLimits,
    incoming: PathBuf,
    next_link: AtomicU64,
}

impl std::fmt::Debug for PageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageStore").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl PageStore {
    /// Creates an empty page store in the folder `path`, which is its own: what was there is lost.
    ///
    /// # Errors
    /// When the folder cannot be emptied or RocksDB cannot be opened there.
    pub fn create(path: &Path, limits: StoreLimits) -> Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(path).map_err(|error| Error::io("empty the page store", path, error))?;
        }
        let incoming = path.join("incoming");
        std::fs::create_dir_all(&incoming).map_err(|error| Error::io("create the page store", path, error))?;
        let mut cache_options = LruCacheOptions::default();
        cache_options.set_capacity(limits.block_cache.0 as usize);
        cache_options.set_num_shard_bits(2);
        let cache = Cache::new_lru_cache_opts(&cache_options);
        let buffers = WriteBufferManager::new_write_buffer_manager(limits.write_buffers.0 as usize, true);
        let options = database_options(&limits, &cache, &buffers);
        let db = DB::open(&options, path.join("db")).map_err(|error| Error::rocks("open the page store", error))?;
        Ok(Self { db, cache, buffers, limits, incoming, next_link: AtomicU64::new(0) })
    }

    /// The cache and the memtables' limit, which other databases of the process share.
    #[must_use]
    pub fn shared(&self) -> (Cache, WriteBufferManager) {
        (self.cache.clone(), self.buffers.clone())
    }

    /// Takes in files by hard link; the files at `paths` stay and are not changed. All or none.
    ///
    /// # Errors
    /// When a file cannot be linked (it must be on the same file system) or RocksDB refuses it.
    pub fn ingest(&self, paths: &[PathBuf]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut links = Vec::with_capacity(paths.len());
        let done = self.link_all(paths, &mut links).and_then(|()| {
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            // Sequence numbers stay out of the files: their bytes must not change.
            options.set_snapshot_consistency(false);
            options.set_allow_blocking_flush(false);
            self.db
                .ingest_external_file_opts(&options, links.clone())
                .map_err(|error| Error::rocks("ingest files", error))
        });
        if done.is_err() {
            for link in &links {
                // RocksDB took away those it had moved.
                let _ = std::fs::remove_file(link);
            }
        }
        done
    }

    fn link_all(&self, paths: &[PathBuf], links: &mut Vec<PathBuf>) -> Result<()> {
        for path in paths {
            let link = self.incoming.join(format!("{}.sst", self.next_link.fetch_add(1, Ordering::Relaxed)));
            std::fs::hard_link(path, &link).map_err(|error| Error::io("link", path, error))?;
            links.push(link);
        }
        Ok(())
    }

    /// Forgets the files of a pipeline whose numbers are in `numbers`.
    ///
    /// # Errors
    /// When RocksDB cannot note it.
    pub fn drop_files(&self, store: StoreId, numbers: RangeInclusive<FileNumber>) -> Result<()> {
        let from = file_prefix(store, *numbers.start());
        let mut to = file_prefix(store, *numbers.end()).to_vec();
        to.extend([0xFF; 13]);
        self.db.delete_file_in_range(&from[..], &to[..]).map_err(|error| Error::rocks("drop files", error))
    }

    /// What it uses, against its limits.
    ///
    /// # Errors
    /// When RocksDB cannot tell.
    pub fn usage(&self) -> Result<StoreUsage> {
        let property = |name: &str| {
            let value = self.db.property_int_value(name).map_err(|error| Error::rocks("read a property", error))?;
            Ok::<u64, Error>(value.unwrap_or(0))
        };
        let files = self.db.live_files().map_err(|error| Error::rocks("list files", error))?.len() as u64;
        Ok(StoreUsage {
            limits: self.limits,
            block_cache: Bytes(self.cache.get_usage() as u64),
            pinned: Bytes(self.cache.get_pinned_usage() as u64),
            write_buffers: Bytes(self.buffers.get_usage() as u64),
            files,
            file_bytes: Bytes(property("rocksdb.total-sst-files-size")?),
        })
    }
}

fn database_options(limits: &StoreLimits, cache: &Cache, buffers: &WriteBufferManager) -> Options {
    let mut options = table_options(Some(cache));
    options.create_if_missing(true);
    options.set_disable_auto_compactions(true);
    options.set_write_buffer_manager(buffers);
    options.set_write_buffer_size(1 << 20);
    options.set_max_open_files(i32::try_from(limits.open_files).unwrap_or(i32::MAX));
    options.set_max_background_jobs(i32::try_from(limits.background_threads).unwrap_or(2));
    options.set_ratelimiter(i64::try_from(limits.bytes_per_second.0).unwrap_or(i64::MAX), 100_000, 10);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Warn);
    options
}

/// The options that writing a file and reading it must agree on.
pub(crate) fn table_options(cache: Option<&Cache>) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(BLOCK_BYTES);
    table.set_format_version(6);
    match cache {
        Some(cache) => {
            table.set_block_cache(cache);
            table.set_cache_index_and_filter_blocks(true);
        }
        None => table.disable_cache(),
    }
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&table);
    options
}

/// The files of one pipeline in a page store.
#[derive(Clone, Debug)]
pub struct PageSource {
    store: Arc<PageStore>,
    id: StoreId,
}

impl PageSource {
    /// The pipeline whose keys begin with `id`.
    #[must_use]
    pub const fn new(store: Arc<PageStore>, id: StoreId) -> Self {
        Self { store, id }
    }

    /// The page store itself.
    #[must_use]
    pub const fn store(&self) -> &Arc<PageStore> {
        &self.store
    }

    /// The values of many records, in order; `None` where there is no such record.
    pub(crate) fn get_all(
        &self,
        records: impl Iterator<Item = (FileNumber, RecordKey)>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let keys = records.map(|(number, key)| key.encode(self.id, number));
        let values = self.store.db.multi_get(keys);
        values.into_iter().map(|value| value.map_err(|error| Error::rocks("read pages", error))).collect()
    }

    /// Visits the records of a key group, file by file.
    pub(crate) fn scan_group(
        &self,
        files: impl Iterator<Item = FileNumber>,
        table: TableId,
        group: u16,
        mut visit: impl FnMut(FileNumber, u32, Kind, &[u8]),
    ) -> Result<()> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut records = None;
        for number in files {
            let records = records.get_or_insert_with(|| self.store.db.raw_iterator_opt(std::mem::take(&mut options)));
            let prefix = group_prefix(self.id, number, table, group);
            records.seek(prefix);
            while let Some((key, value)) = records.item() {
                if !key.starts_with(&prefix) {
                    break;
                }
                let (_, _, key) = RecordKey::decode(key)?;
                visit(number, key.page, key.kind, value);
                records.next();
            }
            records.status().map_err(|error| Error::rocks("read a key group", error))?;
        }
        Ok(())
    }
}
