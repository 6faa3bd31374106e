//! One worker's share of a pipeline's checkpoints: what its operators hand in, gathered into one
//! part, made durable in the background, and told in one receipt.
//!
//! Operators hand in at their own pace after the barrier; when the last has, the records become one
//! SST (or, when they are few, bytes inside the manifest), which is ingested locally and uploaded.
//! Invariants: a receipt is sent only for what is durable in the store; a file that could not be
//! uploaded belongs to the next receipt, as long as it is in scope; records that could not be written are dirty
//! again.

use crate::background::Background;
use crate::cancel::Cancel;
use crate::checkpointing::remove;
use crate::error::{Error, Result};
use crate::kept_rows::{KeptRows, RowsFile};
use crate::merged::Merged;
use crate::shared::caught;
use highwater_checkpoint::fetch::cached;
use highwater_checkpoint::{
    Base64, Compression, Digest, FileMeta, InlinePart, LocalFile, MergedOutbox, OutboxData, OutboxMeta, Uploader,
};
use highwater_core::{CheckpointId, OperatorId, StoreId, WorkerIndex};
use highwater_state::scope::in_scope;
use highwater_state::{FileNumber, FileOptions, Outcome, PageStore, Record, encode_inline, write_file};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use timely::scheduling::Activator;

/// The most bytes of records that stand inside the manifest instead of in a file.
const INLINE_BYTES: usize = 32 << 10;

/// What one stateful operator hands in.
#[derive(Debug)]
pub(crate) struct OperatorPart {
    pub(crate) operator: OperatorId,
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
    pub(crate) changed: u64,
    /// Encoded changes, those of new keys included.
    pub(crate) delta_bytes: u64,
    /// Encoded bases of what had been written before.
    pub(crate) base_bytes: u64,
    /// What one full image of its tables takes, as far as it was written before this checkpoint.
    pub(crate) image_bytes: u64,
    /// The oldest file that its tables still need.
    pub(crate) floor: Option<FileNumber>,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    /// Where its fills go on.
    pub(crate) fills: BTreeMap<String, serde_json::Value>,
}

/// What a worker tells of one checkpoint, once its part is durable.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) worker: u32,
    pub(crate) checkpoint: CheckpointId,
    /// The reason for which this worker's part is not durable.
    pub(crate) failed: Option<String>,
    /// Files in the store that no published checkpoint lists yet.
    pub(crate) files: Vec<FileMeta>,
    pub(crate) inline: Vec<InlinePart>,
    /// The local copies of the files, by file number.
    pub(crate) paths: Vec<(u64, PathBuf)>,
    /// The oldest file that this worker still needs.
    pub(crate) floor: Option<FileNumber>,
    /// By source operator, then split.
    pub(crate) offsets: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    /// Parts of outboxes, in the store or inside the manifest.
    pub(crate) outboxes: Vec<OutboxMeta>,
    /// The local copies of those in the store.
    pub(crate) outbox_paths: Vec<PathBuf>,
    /// (operator, name, keys, bytes in memory).
    pub(crate) operators: Vec<(OperatorId, String, u64, u64)>,
    pub(crate) freeze_us: u64,
    pub(crate) changed: u64,
    pub(crate) delta_bytes: u64,
    pub(crate) base_bytes: u64,
    pub(crate) image_bytes: u64,
    pub(crate) uploaded_bytes: u64,
}

/// Rows of a sink that are to be delivered after a checkpoint; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OutboxPart {
    pub(crate) sink: Arc<str>,
    /// The checkpoint they belong to, the newest when several were merged; none for the one being made. It is
    /// published, or was to be: what one holds that failed is in the next one that is published, under its number.
    pub(crate) checkpoint: Option<CheckpointId>,
    pub(crate) part: u32,
    pub(crate) rows: KeptRows,
    /// Whether it has waited for so long that it is in a file, however few its rows are.
    pub(crate) waits: bool,
    /// The deliveries of what was merged.
    pub(crate) merged: Option<Merged>,
}

/// What is shared by all workers of a pipeline to make its parts durable.
pub(crate) struct Shipping {
    pub(crate) background: Background,
    pub(crate) pages: Arc<PageStore>,
    pub(crate) uploader: Uploader,
    pub(crate) store: StoreId,
    /// Where local copies of the pipeline's files are kept.
    pub(crate) folder: PathBuf,
    pub(crate) compression: highwater_state::Compression,
    /// The run is over, and the next one waits for the end of its uploads.
    pub(crate) over: Cancel,
}

/// A worker's checkpoints of one pipeline; cheap to clone, never leaves its thread.
#[derive(Clone)]
pub(crate) struct Snapshots {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    worker: WorkerIndex,
    shipping: Arc<Shipping>,
    /// Operators (stateful ones, sources, sinks) that hand in to each checkpoint.
    operators: usize,
    gathering: Option<Gathering>,
    /// Whether the last shipped checkpoint's records are durable here.
    outcome: Option<(CheckpointId, Outcome)>,
    /// Woken when everything is handed in, and when an outcome is known.
    shipper: Option<Activator>,
    waiting: Vec<Activator>,
    /// Files and parts that no published checkpoint lists yet.
    unlisted: Unlisted,
}

#[derive(Clone, Default)]
struct Unlisted {
    files: Vec<LocalFile>,
    inline: Vec<InlinePart>,
    /// The names that uploads gave the files here besides, by file number.
    copies: BTreeSet<(u64, PathBuf)>,
}

struct Gathering {
    checkpoint: CheckpointId,
    receipt: Receipt,
    records: Vec<Record>,
    outboxes: Vec<OutboxPart>,
    handed_in: usize,
    frozen_for: Duration,
}

/// A worker's part that is durable here, as far as it could be made so, and is to go to the store.
struct KeptPart {
    checkpoint: CheckpointId,
    receipt: Receipt,
    outcome: Outcome,
    unlisted: Unlisted,
    outboxes: Vec<OutboxPart>,
    /// Whether the outboxes have their files; none when the state could not be written, so that nothing is sent.
    kept: Option<Result<()>>,
    started: Instant,
}

impl KeptPart {
    /// Whether anything of it goes to the store before the manifest.
    fn has_files(&self) -> bool {
        let has_outbox = || self.outboxes.iter().any(|part| part.rows.file().is_some());
        self.kept.is_some() && (!self.unlisted.files.is_empty() || has_outbox())
    }
}

/// What came of a background job.
type Shipped = (Receipt, Outcome, Unlisted);

/// A checkpoint on its way to the store.
pub(crate) struct Shipment {
    result: Arc<Mutex<Option<Shipped>>>,
}

impl Snapshots {
    pub(crate) fn new(worker: WorkerIndex, shipping: Arc<Shipping>) -> Self {
        let inner = Inner {
            worker,
            shipping,
            operators: 0,
            gathering: None,
            outcome: None,
            shipper: None,
            waiting: Vec::new(),
            unlisted: Unlisted::default(),
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// One more operator will hand in to each checkpoint.
    pub(crate) fn expect_operator(&self) {
        self.inner.borrow_mut().operators += 1;
    }

    pub(crate) fn wake_shipper(&self, activator: Activator) {
        self.inner.borrow_mut().shipper = Some(activator);
    }

    /// Woken when an outcome is known.
    pub(crate) fn wake_operator(&self, activator: Activator) {
        self.inner.borrow_mut().waiting.push(activator);
    }

    /// An operator's tables are frozen for a checkpoint; it took this long.
    pub(crate) fn frozen(&self, checkpoint: CheckpointId, took: Duration) {
        self.inner.borrow_mut().gather(checkpoint).frozen_for += took;
    }

    /// A stateful operator's records.
    pub(crate) fn deliver(&self, checkpoint: CheckpointId, part: OperatorPart) {
        let mut inner = self.inner.borrow_mut();
        let gathering = inner.gather(checkpoint);
        let receipt = &mut gathering.receipt;
        receipt.changed += part.changed;
        receipt.delta_bytes += part.delta_bytes;
        receipt.base_bytes += part.base_bytes;
        receipt.image_bytes += part.image_bytes;
        receipt.floor = receipt.floor.into_iter().chain(part.floor).min();
        if !part.fills.is_empty() {
            receipt.offsets.insert(part.name.clone(), part.fills);
        }
        receipt.operators.push((part.operator, part.name, part.keys, part.bytes));
        gathering.records.extend(part.records);
        inner.handed_in();
    }

    /// A source's offsets after the barrier's epoch.
    pub(crate) fn offsets(&self, checkpoint: CheckpointId, source: &str, offsets: BTreeMap<String, serde_json::Value>) {
        let mut inner = self.inner.borrow_mut();
        inner.gather(checkpoint).receipt.offsets.insert(source.to_owned(), offsets);
        inner.handed_in();
    }

    /// A sink's outboxes.
    pub(crate) fn outboxes(&self, checkpoint: CheckpointId, outboxes: Vec<OutboxPart>) {
        let mut inner = self.inner.borrow_mut();
        inner.gather(checkpoint).outboxes.extend(outboxes);
        inner.handed_in();
    }

    /// Whether everybody has handed in to a checkpoint.
    pub(crate) fn is_whole(&self, checkpoint: CheckpointId) -> bool {
        let inner = self.inner.borrow();
        inner.gathering.as_ref().is_some_and(|g| g.checkpoint == checkpoint && g.handed_in == inner.operators)
    }

    /// Begins to make a whole checkpoint durable; `done` is called from another thread.
    pub(crate) fn ship(&self, done: impl FnOnce() + Send + 'static) -> Shipment {
        let mut inner = self.inner.borrow_mut();
        let gathering = inner.gathering.take().expect("shipped when whole");
        let (shipping, unlisted) = (Arc::clone(&inner.shipping), inner.unlisted.clone());
        let worker = inner.worker;
        let result = Arc::new(Mutex::new(None));
        let shipment = Shipment { result: Arc::clone(&result) };
        let background = shipping.background.clone();
        background.run(move || {
            let (checkpoint, before) = (gathering.checkpoint, unlisted.clone());
            // Whatever goes wrong, the worker hands in: nothing else ends its part.
            let hand_in = move |shipped: Result<Shipped>| {
                let shipped = shipped.unwrap_or_else(|error| {
                    tracing::error!(%checkpoint, %worker, %error, "a checkpoint's part could not be made");
                    let failed = Some(error.to_string());
                    let receipt = Receipt { worker: worker.0, checkpoint, failed, ..Receipt::default() };
                    (receipt, Outcome::Failed, before)
                });
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(shipped);
                done();
            };
            match caught("a worker's part", || Ok(shipping.keep(worker, gathering, unlisted))) {
                Ok(part) if part.has_files() => {
                    let background = shipping.background.clone();
                    background.ship(move || hand_in(caught("a worker's part", || Ok(shipping.send(worker, part)))));
                }
                Ok(part) => hand_in(caught("a worker's part", || Ok(shipping.send(worker, part)))),
                Err(error) => hand_in(Err(error)),
            }
        });
        shipment
    }

    /// The receipt, when the shipment is over; the operators then learn the outcome.
    pub(crate) fn receipt(&self, shipment: &Shipment) -> Option<Receipt> {
        let shipped = shipment.result.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (receipt, outcome, unlisted) = shipped;
        let mut inner = self.inner.borrow_mut();
        inner.unlisted = unlisted;
        inner.outcome = Some((receipt.checkpoint, outcome));
        for operator in &inner.waiting {
            operator.activate();
        }
        Some(receipt)
    }

    /// What became of the records of a checkpoint, once it is known.
    pub(crate) fn outcome(&self, checkpoint: CheckpointId) -> Option<Outcome> {
        let inner = self.inner.borrow();
        inner.outcome.filter(|(of, _)| *of == checkpoint).map(|(_, outcome)| outcome)
    }

    /// A checkpoint is published: it lists all that was shipped until then.
    pub(crate) fn published(&self) {
        let mut inner = self.inner.borrow_mut();
        let listed = std::mem::take(&mut inner.unlisted).files;
        if !listed.is_empty() {
            inner.shipping.background.run(move || {
                for file in listed {
                    // The file lives on under its own id; what stays is removed at the next start.
                    let _ = std::fs::remove_file(file.path);
                }
            });
        }
    }
}

impl Inner {
    fn gather(&mut self, checkpoint: CheckpointId) -> &mut Gathering {
        let worker = self.worker.0;
        let gathering = self.gathering.get_or_insert_with(|| Gathering {
            checkpoint,
            receipt: Receipt { worker, checkpoint, ..Receipt::default() },
            records: Vec::new(),
            outboxes: Vec::new(),
            handed_in: 0,
            frozen_for: Duration::ZERO,
        });
        assert_eq!(gathering.checkpoint, checkpoint, "one checkpoint is in flight");
        gathering
    }

    fn handed_in(&mut self) {
        let gathering = self.gathering.as_mut().expect("just gathered");
        gathering.handed_in += 1;
        if gathering.handed_in == self.operators
            && let Some(shipper) = &self.shipper
        {
            shipper.activate();
        }
    }
}

impl Shipping {
    /// Writes and ingests; runs on a background thread.
    fn keep(&self, worker: WorkerIndex, gathering: Gathering, mut unlisted: Unlisted) -> KeptPart {
        let Gathering { checkpoint, mut receipt, records, outboxes, frozen_for, .. } = gathering;
        receipt.freeze_us = frozen_for.as_micros() as u64;
        let started = Instant::now();
        self.let_go(&mut unlisted, receipt.floor);
        let kept = self.write_outboxes(checkpoint, &outboxes);
        let (outcome, kept) = match self.write(worker, checkpoint, records, &mut unlisted) {
            Ok(outcome) => (outcome, Some(kept)),
            Err(error) => {
                tracing::error!(%checkpoint, %worker, %error, "a checkpoint's part could not be written");
                receipt.failed = Some(error.to_string());
                (Outcome::Failed, None)
            }
        };
        KeptPart { checkpoint, receipt, outcome, unlisted, outboxes, kept, started }
    }

    /// Uploads, for as long as the store takes.
    fn send(&self, worker: WorkerIndex, part: KeptPart) -> Shipped {
        let KeptPart { checkpoint, mut receipt, outcome, mut unlisted, outboxes, kept, started } = part;
        let Some(kept) = kept else { return (receipt, outcome, unlisted) };
        let uploaded = kept.and_then(|()| self.upload(checkpoint, &mut unlisted, &mut receipt));
        match uploaded.and_then(|()| self.upload_outboxes(checkpoint, outboxes, &mut receipt)) {
            Ok(()) => receipt.inline.clone_from(&unlisted.inline),
            Err(error) => {
                tracing::error!(%checkpoint, %worker, %error, "a checkpoint's part could not be uploaded");
                receipt.failed = Some(error.to_string());
            }
        }
        tracing::debug!(%checkpoint, %worker, took = ?started.elapsed(), "a checkpoint's part is shipped");
        (receipt, outcome, unlisted)
    }

    /// Lets go of what no published checkpoint lists and the worker has written anew since: however many checkpoints
    /// fail, what they leave here is in scope. Manifests leave it out as well (`checkpointing`).
    fn let_go(&self, unlisted: &mut Unlisted, floor: Option<FileNumber>) {
        let Some(floor) = floor else { return };
        let is_over = |number: u64| !in_scope(FileNumber::from_u64(number), floor);
        unlisted.inline.retain(|part| !is_over(part.sequence));
        for file in unlisted.files.extract_if(.., |file| is_over(file.sequence)) {
            let number = FileNumber::from_u64(file.sequence);
            if let Err(error) = self.pages.drop_files(self.store, number..=number) {
                tracing::warn!(%number, %error, "a file out of scope could not be dropped");
            }
            remove(&file.path);
        }
        for (_, copy) in unlisted.copies.extract_if(.., |(number, _)| is_over(*number)) {
            remove(&copy);
        }
    }

    /// Waits for an upload, which takes as long as the store does, but not when nobody has a use for it any more.
    fn wait_for<T>(&self, upload: impl Future<Output = highwater_checkpoint::Result<T>>) -> Result<T> {
        let uploaded = self.background.wait_for(async {
            tokio::select! {
                biased;
                () = self.over.cancelled() => None,
                uploaded = upload => Some(uploaded),
            }
        });
        match uploaded {
            Some(uploaded) => Ok(uploaded?),
            None => Err(Error::Timeout("its run ended before it was uploaded".to_owned())),
        }
    }

    fn upload(&self, checkpoint: CheckpointId, unlisted: &mut Unlisted, receipt: &mut Receipt) -> Result<()> {
        let uploaded = self.wait_for(self.uploader.upload(&unlisted.files, checkpoint))?;
        receipt.uploaded_bytes = uploaded.uploaded_bytes + uploaded.linked_bytes;
        for (local, meta) in unlisted.files.iter().zip(uploaded.files) {
            let kept = cached(&self.folder, meta.id);
            link(&local.path, &kept)?;
            unlisted.copies.insert((meta.sequence, kept.clone()));
            receipt.paths.push((meta.sequence, kept));
            receipt.files.push(meta);
        }
        Ok(())
    }

    fn upload_outboxes(
        &self,
        checkpoint: CheckpointId,
        outboxes: Vec<OutboxPart>,
        receipt: &mut Receipt,
    ) -> Result<()> {
        let kept: Vec<Option<RowsFile>> = outboxes.iter().map(|part| part.rows.file()).collect();
        let files = outboxes.iter().zip(&kept).filter_map(|(part, file)| Some(part.local_file(file.as_ref()?)));
        let files: Vec<LocalFile> = files.collect();
        // A part keeps its path as long as it waits, so it is shipped once.
        let uploaded = self.wait_for(self.uploader.upload(&files, checkpoint))?;
        receipt.uploaded_bytes += uploaded.uploaded_bytes + uploaded.linked_bytes;
        receipt.outbox_paths.extend(files.into_iter().map(|file| file.path));
        let mut metas = uploaded.files.into_iter();
        for (part, file) in outboxes.into_iter().zip(kept) {
            let meta = file.and_then(|_| metas.next());
            let data = match (meta, part.merged) {
                (Some(file), Some(Merged { waiting, delivered })) => {
                    OutboxData::Merged(Box::new(MergedOutbox { file, waiting, delivered }))
                }
                (Some(file), None) => OutboxData::File(Box::new(file)),
                (None, merged) => {
                    assert!(merged.is_none(), "what was merged has a file");
                    OutboxData::Inline(Base64(part.rows.read()?.to_vec()))
                }
            };
            let OutboxPart { sink, checkpoint, part: worker, .. } = part;
            receipt.outboxes.push(OutboxMeta { sink: sink.to_string(), worker, checkpoint, data });
        }
        Ok(())
    }

    /// Ships files anew of which nobody can be sure that the store still has them, from their copies
    /// here; those that cannot be shipped are left out. Gives them with their new copies.
    pub(crate) fn reship(&self, files: &[FileMeta], paths: &BTreeMap<u64, PathBuf>) -> Vec<(FileMeta, PathBuf)> {
        self.uploader.forget();
        let mut shipped = Vec::new();
        for file in files {
            let Some(path) = paths.get(&file.sequence) else { continue };
            let local = LocalFile {
                path: path.clone(),
                worker: file.worker,
                sequence: file.sequence,
                first_key: file.first_key.0.clone(),
                last_key: file.last_key.0.clone(),
                digest: Some(file.digest),
                compression: file.compression,
            };
            let checkpoint = FileNumber::from_u64(file.sequence).checkpoint();
            match self.wait_for(self.uploader.upload(&[local], checkpoint)) {
                Ok(mut uploaded) => {
                    let meta = uploaded.files.remove(0);
                    let kept = cached(&self.folder, meta.id);
                    if link(path, &kept).is_ok() {
                        shipped.push((meta, kept));
                    }
                }
                Err(error) => tracing::warn!(%error, "a file could not be shipped anew"),
            }
        }
        shipped
    }

    /// Gives the parts files that are not to stand in the manifest. It is done before anything that may fail for
    /// long, so that however many checkpoints fail their rows leave memory.
    fn write_outboxes(&self, checkpoint: CheckpointId, outboxes: &[OutboxPart]) -> Result<()> {
        let wants_file = |part: &&OutboxPart| part.waits || part.merged.is_some() || part.rows.len() > INLINE_BYTES;
        let mut new = outboxes.iter().filter(wants_file).filter(|part| part.rows.file().is_none());
        new.try_for_each(|part| self.write_outbox(checkpoint, part))
    }

    /// Writes a part's rows to a file of this machine, and tells those who have them. Two parts have two
    /// files, also when their rows are the same.
    fn write_outbox(&self, checkpoint: CheckpointId, part: &OutboxPart) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let bytes = part.rows.read()?;
        let number = NEXT.fetch_add(1, Relaxed);
        let path = self.folder.join(format!("{:020}-{:05}-{number}.outbox", checkpoint.0, part.part));
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(source) = written {
            // On a full disk the next try needs the room.
            remove(&path);
            return Err(Error::Io { what: format!("write {}", path.display()), source });
        }
        part.rows.set_file(RowsFile { digest: Digest::of(&bytes), path });
        Ok(())
    }

    fn write(
        &self,
        worker: WorkerIndex,
        checkpoint: CheckpointId,
        mut records: Vec<Record>,
        unlisted: &mut Unlisted,
    ) -> Result<Outcome> {
        let number = FileNumber::new(checkpoint, worker);
        if records.iter().map(|record| record.value.len() + 32).sum::<usize>() <= INLINE_BYTES {
            if !records.is_empty() {
                records.sort_unstable_by_key(|record| record.key);
                let bytes = encode_inline(number, &records);
                unlisted.inline.push(InlinePart::new(worker.0, number.to_u64(), bytes));
            }
            return Ok(Outcome::Inline);
        }
        let path = self.folder.join(format!("{:020}-{:05}.sst", checkpoint.0, worker.0));
        let options = FileOptions {
            store: self.store,
            number,
            compression: self.compression,
            pace: &mut |_| std::thread::yield_now(),
        };
        let written = write_file(&path, &mut records, options)?;
        if let Err(error) = self.pages.ingest(std::slice::from_ref(&path)) {
            // Nobody will know it: its records are in the next one, which needs the room.
            remove(&path);
            return Err(error.into());
        }
        unlisted.files.push(LocalFile {
            path,
            worker: worker.0,
            sequence: number.to_u64(),
            first_key: written.first_key.to_vec(),
            last_key: written.last_key.to_vec(),
            digest: Some(Digest::from_bytes(written.digest)),
            compression: Compression::None,
        });
        Ok(Outcome::InStore)
    }
}

impl OutboxPart {
    /// Its file as it is shipped.
    fn local_file(&self, file: &RowsFile) -> LocalFile {
        LocalFile {
            path: file.path.clone(),
            worker: self.part,
            sequence: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
            digest: Some(file.digest),
            compression: Compression::None,
        }
    }
}

/// A second name for a file; that it is there already is fine.
fn link(from: &Path, to: &Path) -> Result<()> {
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::Io { what: format!("link {}", to.display()), source: error })
        }
        _ => Ok(()),
    }
}
