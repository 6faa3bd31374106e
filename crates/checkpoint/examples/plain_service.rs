//! A service without SQL that keeps its counters in RocksDB and its progress in an object store.
//!
//! It counts a stream of events, takes a checkpoint every so often, which hard-links or ships only
//! the SST files that the store lacks, and is killed twice by an abort in mid-stream. Each time it
//! restores the newest checkpoint, goes on at that checkpoint's offset, and in the end its counters
//! are compared with counting all events anew.
//!
//! ```text
//! cargo run --release -p highwater-checkpoint --example plain_service [ROOT]
//! ```
//! ROOT is a folder (by default a temporary one), `s3://bucket/prefix`, or any other root.

use highwater_checkpoint::{
    Compression, FetchOptions, FileId, LocalFile, Manifest, PublishOptions, Publisher, Resolved, Store, Trigger,
    UploadOptions, Uploader, collect, resolve,
};
use highwater_core::{Clock, Epoch, SystemClock, splitmix64};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const PIPELINE: &str = "plain-service";
const EVENTS: u64 = 2_000_000;
const KEYS: u64 = 200_000;
/// A batch of events; each checkpoint comes after so many batches.
const BATCH: u64 = 10_000;
const BATCHES_PER_CHECKPOINT: u64 = 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, command, root, folder, abort_at] if command == "serve" => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(serve(root, Path::new(folder), abort_at.parse()?))?;
            Ok(ExitCode::SUCCESS)
        }
        [program, rest @ ..] => supervise(program, rest.first()),
        [] => Err("a program has a name".into()),
    }
}

/// Runs the service until it ends well; the first two runs abort.
fn supervise(program: &str, root: Option<&String>) -> Outcome<ExitCode> {
    let scratch = tempfile::tempdir()?;
    let local = scratch.path().join("root").display().to_string();
    let root = root.unwrap_or(&local);
    for (run, abort_at) in [610_000, 1_430_000, u64::MAX].into_iter().enumerate() {
        let folder = scratch.path().join(format!("run-{run}"));
        let status = Command::new(program).arg("serve").arg(root).arg(folder).arg(abort_at.to_string()).status()?;
        println!("run {run} ended: {status}");
        if status.success() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::FAILURE)
}

async fn serve(root: &str, folder: &Path, abort_at: u64) -> Outcome<()> {
    let store = Store::open(root)?;
    let mut service = Service::start(&store, folder).await?;
    while service.offset < EVENTS {
        for _ in 0..BATCHES_PER_CHECKPOINT {
            service.count_batch()?;
            if service.offset >= abort_at {
                println!("aborting at event {}", service.offset);
                std::process::abort();
            }
        }
        service.checkpoint().await?;
        collect(&store, PIPELINE, Duration::from_secs(3600)).await?;
    }
    let wrong = service.compare()?;
    println!("{KEYS} counters compared with counting anew: {wrong} differ");
    if wrong == 0 { Ok(()) } else { Err("the counters are wrong".into()) }
}

/// The key that an event counts.
fn key_of(event: u64) -> [u8; 8] {
    (splitmix64(event) % KEYS).to_be_bytes()
}

struct Service {
    db: DB,
    folder: PathBuf,
    offset: u64,
    publisher: Publisher,
    uploader: Uploader,
    /// The files of the last checkpoint by their RocksDB names, which RocksDB never reuses.
    shipped: BTreeMap<String, LocalFile>,
    sequence: u64,
}

impl Service {
    async fn start(store: &Store, folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder.join("ship"))?;
        let mut publisher = Publisher::claim(store, PIPELINE, PublishOptions::default()).await?;
        let uploader = Uploader::new(store, PIPELINE, UploadOptions::default())?;
        let mut shipped = BTreeMap::new();
        let (mut offset, mut sequence) = (0, 0);
        if let Some(resolved) = resolve(store, PIPELINE, &folder.join("cache"), FetchOptions::default()).await? {
            publisher.restored(&resolved);
            uploader.restored(&resolved);
            offset = resolved.manifest.sources["events"]["0"].as_u64().ok_or("an offset is a number")?;
            sequence = resolved.manifest.files.iter().map(|f| f.sequence).max().unwrap_or(0);
            shipped = place(&resolved, &folder.join("db"))?;
            println!(
                "restored checkpoint {} at event {offset}: {} files, {} bytes linked, {} downloaded",
                resolved.manifest.checkpoint,
                resolved.files.len(),
                resolved.linked_bytes,
                resolved.downloaded_bytes
            );
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        let db = DB::open(&options, folder.join("db"))?;
        Ok(Self { db, folder: folder.to_path_buf(), offset, publisher, uploader, shipped, sequence })
    }

    fn count_batch(&mut self) -> Outcome<()> {
        let mut counts: BTreeMap<[u8; 8], u64> = BTreeMap::new();
        for event in self.offset..self.offset + BATCH {
            *counts.entry(key_of(event)).or_default() += 1;
        }
        let mut batch = WriteBatch::default();
        for (key, count) in counts {
            batch.put(key, (self.counter(key)? + count).to_be_bytes());
        }
        // No write-ahead log: what is not in a checkpoint is counted again.
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options)?;
        self.offset += BATCH;
        Ok(())
    }

    fn counter(&self, key: [u8; 8]) -> Outcome<u64> {
        let value = self.db.get(key)?;
        Ok(value.map_or(Ok(0), |bytes| bytes.as_slice().try_into().map(u64::from_be_bytes))?)
    }

    /// RocksDB flushes and hard-links its live files; those that are new are shipped.
    async fn checkpoint(&mut self) -> Outcome<()> {
        let snapshot = self.folder.join("snapshot");
        self.db.flush()?;
        Checkpoint::new(&self.db)?.create_checkpoint(&snapshot)?;
        let mut live = BTreeMap::new();
        for entry in fs::read_dir(&snapshot)? {
            let name = entry?.file_name().into_string().map_err(|_| "RocksDB's names are text")?;
            // Only SST files never change; the others are small and go along each time.
            let known = self.shipped.remove(&name).filter(|_| name.ends_with(".sst"));
            let file = match known {
                Some(file) => file,
                None => self.keep(&snapshot, &name)?,
            };
            live.insert(name, file);
        }
        fs::remove_dir_all(&snapshot)?;
        let dropped = std::mem::replace(&mut self.shipped, live);

        let files: Vec<LocalFile> = self.shipped.values().cloned().collect();
        let uploaded = self.uploader.upload(&files, self.publisher.next_checkpoint()).await?;
        let ids = uploaded.files.iter().map(|file| file.id.to_string().into());
        let sources = BTreeMap::from([
            ("events".to_owned(), BTreeMap::from([("0".to_owned(), self.offset.into())])),
            ("rocksdb".to_owned(), self.shipped.keys().cloned().zip(ids).collect()),
        ]);
        let manifest = Manifest {
            epoch: Epoch(self.offset / BATCH),
            wall: SystemClock::default().wall(),
            sources,
            files: uploaded.files,
            ..Manifest::draft(PIPELINE, Trigger::Interval)
        };
        let published = self.publisher.publish(manifest).await?;
        self.uploader.published(&published.manifest);
        println!(
            "checkpoint {} at event {}: {} of {} files are new, {} bytes linked, {} sent, {} referenced",
            published.manifest.checkpoint,
            self.offset,
            uploaded.shipped,
            files.len(),
            uploaded.linked_bytes,
            uploaded.uploaded_bytes,
            uploaded.referenced_bytes
        );
        for file in dropped.values() {
            fs::remove_file(&file.path)?;
        }
        Ok(())
    }

    /// Keeps a file of the snapshot under a name of its own until no checkpoint needs it.
    fn keep(&mut self, snapshot: &Path, name: &str) -> Outcome<LocalFile> {
        self.sequence += 1;
        let path = self.folder.join("ship").join(format!("{}-{name}", self.sequence));
        fs::rename(snapshot.join(name), &path)?;
        Ok(local_file(path, self.sequence))
    }

    /// How many counters differ from counting all events anew.
    fn compare(&self) -> Outcome<usize> {
        let mut expected = vec![0u64; KEYS as usize];
        for event in 0..EVENTS {
            expected[(splitmix64(event) % KEYS) as usize] += 1;
        }
        let mut wrong = 0;
        for (key, count) in (0u64..).zip(expected) {
            wrong += usize::from(self.counter(key.to_be_bytes())? != count);
        }
        Ok(wrong)
    }
}

/// Gives restored files their RocksDB names: SST files by hard link, the others, which RocksDB may
/// change, by copy.
fn place(resolved: &Resolved, db: &Path) -> Outcome<BTreeMap<String, LocalFile>> {
    fs::create_dir_all(db)?;
    let mut placed = BTreeMap::new();
    for (name, id) in &resolved.manifest.sources["rocksdb"] {
        let id = id.as_str().and_then(FileId::parse).ok_or("a file id is text")?;
        let file = resolved.files.iter().find(|file| file.meta.id == id).ok_or("a listed file was restored")?;
        if name.ends_with(".sst") {
            fs::hard_link(&file.path, db.join(name))?;
        } else {
            fs::copy(&file.path, db.join(name))?;
        }
        placed.insert(name.clone(), local_file(file.path.clone(), file.meta.sequence));
    }
    Ok(placed)
}

fn local_file(path: PathBuf, sequence: u64) -> LocalFile {
    LocalFile {
        path,
        worker: 0,
        sequence,
        first_key: Vec::new(),
        last_key: Vec::new(),
        digest: None,
        compression: Compression::None,
    }
}
