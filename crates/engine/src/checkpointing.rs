//! The checkpoints of one pipeline, as worker 0 carries them through: from the receipts of all
//! workers to a published manifest, what follows from that, and the history people see.
//!
//! Receipts say what is durable; publishing makes it official. Invariants: a manifest lists every
//! file that any worker still needs; a failed checkpoint leaves everything as it was, also when its publication
//! panics; numbers rise, and that of a checkpoint is above those of all that its outboxes hold; collection and
//! removal of local files never hold up a checkpoint. When what comes next is decided elsewhere
//! (`control` and the life cycle in `highwater-checkpoint`); here it is done.

use crate::background::Background;
use crate::changes::Wake;
use crate::error::{Error, Result};
use crate::kept_rows::{KeptRows, RowsFile};
use crate::lost::{AHEAD, AheadSinks, note_published};
use crate::merged::Merged;
use crate::positions::Positions;
use crate::shared::caught;
use crate::snapshot::{OutboxPart, Receipt, Shipping};
use highwater_checkpoint::fetch::cached;
use highwater_checkpoint::lifecycle::Attempt;
use highwater_checkpoint::{
    CheckpointStats, Collected, FileMeta, InlinePart, Manifest, MergedOutbox, OperatorMeta, OutboxData, OutboxMeta,
    Published, Publisher, Store, Trigger,
};
use highwater_core::{Bytes, CheckpointId, Clock, Epoch, KeyGroups, OperatorId, WallMicros};
use highwater_state::FileNumber;
use highwater_state::scope::in_scope;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many checkpoints the history holds.
const HISTORY: usize = 256;

/// When and how a pipeline is checkpointed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Between two barriers; none turns checkpoints by interval off.
    pub interval: Option<Duration>,
    /// How many published checkpoints stay.
    pub retain: usize,
    /// The least time between the end of one and the beginning of the next, unless somebody asks.
    pub min_pause: Duration,
    /// One of which nothing goes to the store for so long, before all workers' parts are there, is given up.
    pub timeout: Duration,
    /// So many failures in a row restart the pipeline from its last checkpoint; by default none do,
    /// as the stream can go on and nothing is lost.
    pub tolerable_failures: u32,
}

impl Default for CheckpointSettings {
    /// Every 10 seconds, three stay.
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(10)),
            retain: 3,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            tolerable_failures: u32::MAX,
        }
    }
}

/// How a checkpoint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// It is official.
    Published,
    /// It is not, for this reason; its changes belong to the next one.
    Failed(String),
}

/// What one checkpoint was and cost.
#[derive(Clone, Debug)]
pub struct CheckpointReport {
    /// Its number.
    pub id: CheckpointId,
    /// The epoch after which the barrier stood.
    pub epoch: Epoch,
    /// Who asked for it.
    pub trigger: Trigger,
    /// When the barrier was asked for.
    pub wall: WallMicros,
    /// How it ended.
    pub outcome: CheckpointOutcome,
    /// The longest time that a worker's stream stood still for it, in microseconds.
    pub freeze_us: u64,
    /// From the barrier's tick until it was published.
    pub duration: Duration,
    /// Keys changed since the one before.
    pub changed_keys: u64,
    /// Encoded changes, those of new keys included.
    pub delta_bytes: Bytes,
    /// Encoded bases, written so that old files fall out of need.
    pub base_bytes: Bytes,
    /// What one full image of the state takes, as far as it was written before this checkpoint.
    pub image_bytes: Bytes,
    /// Given to the store: sent, copied or linked.
    pub uploaded_bytes: Bytes,
    /// All files that the checkpoint needs.
    pub full_bytes: Bytes,
    /// How many files these are.
    pub files: usize,
}

/// A checkpoint that begins.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) attempt: Attempt,
    pub(crate) at: Duration,
    pub(crate) wall: WallMicros,
    pub(crate) epoch: Epoch,
    pub(crate) trigger: Trigger,
    pub(crate) replies: Vec<Sender<CheckpointReport>>,
}

/// What is the same in all manifests of a run.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pipeline: String,
    pub(crate) sql: Vec<String>,
    pub(crate) key_groups: KeyGroups,
    pub(crate) workers: u32,
    /// Every node, so that a later run knows which ones are new.
    pub(crate) nodes: Vec<NodeIdentity>,
    /// The first number that no node ever had.
    pub(crate) next_operator: u32,
}

/// What a node is known by in manifests.
#[derive(Clone)]
pub(crate) struct NodeIdentity {
    pub(crate) id: OperatorId,
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) kind: String,
}

/// The history of a pipeline, shared with its handle and kept over its runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<CheckpointReport>>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, VecDeque<CheckpointReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, report: CheckpointReport) {
        let mut reports = self.lock();
        if reports.len() == HISTORY {
            reports.pop_front();
        }
        reports.push_back(report);
    }

    /// Oldest first.
    pub(crate) fn reports(&self) -> Vec<CheckpointReport> {
        self.lock().iter().cloned().collect()
    }
}

/// How a publication ended.
struct Ending {
    published: Result<Published>,
    /// Files that had to be shipped anew, and where they are here.
    reshipped: Vec<(FileMeta, PathBuf)>,
}

type Publication = Arc<Mutex<Option<Ending>>>;

/// The checkpoints of one run.
pub(crate) struct Checkpointing {
    background: Background,
    clock: Arc<dyn Clock>,
    store: Store,
    publisher: Arc<Mutex<Publisher>>,
    shipping: Arc<Shipping>,
    identity: Identity,
    wake: Wake,
    history: History,
    /// In scope of the last receipts, by file number.
    files: BTreeMap<u64, FileMeta>,
    inline: BTreeMap<u64, InlinePart>,
    paths: LocalPaths,
    /// The number with which this run's begin.
    first: CheckpointId,
    next: CheckpointId,
    restored: Option<CheckpointId>,
    /// How many checkpoints stay, when that was changed.
    retain: Option<usize>,
    running: Option<Running>,
    failures: u32,
    is_collecting: Arc<AtomicBool>,
    positions: Positions,
    ahead: AheadSinks,
}

/// Where the local copies of files are.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalPaths {
    /// By file number.
    pub(crate) state: BTreeMap<u64, PathBuf>,
    pub(crate) outboxes: BTreeSet<PathBuf>,
}

struct Running {
    started: Started,
    report: CheckpointReport,
    /// All workers have handed in.
    received: bool,
    given_up: bool,
    /// What is to be published, once it is known.
    ready: Option<Manifest>,
    /// Where the files of that are here.
    paths: LocalPaths,
    publication: Option<Publication>,
}

/// What the checkpoints of a run are made of.
pub(crate) struct CheckpointingSetup {
    pub(crate) background: Background,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) shipping: Arc<Shipping>,
    pub(crate) identity: Identity,
    pub(crate) wake: Wake,
    pub(crate) history: History,
    pub(crate) files: Vec<FileMeta>,
    pub(crate) inline: Vec<InlinePart>,
    pub(crate) paths: LocalPaths,
    /// The first number that no file of the pipeline can have.
    pub(crate) next: CheckpointId,
    pub(crate) restored: Option<CheckpointId>,
    pub(crate) positions: Positions,
    /// The sinks that were given more than what was restored.
    pub(crate) ahead: AheadSinks,
}

impl Checkpointing {
    pub(crate) fn new(setup: CheckpointingSetup) -> Self {
        Self {
            background: setup.background,
            clock: setup.clock,
            store: setup.store,
            publisher: Arc::new(Mutex::new(setup.publisher)),
            shipping: setup.shipping,
            identity: setup.identity,
            wake: setup.wake,
            history: setup.history,
            files: setup.files.into_iter().map(|file| (file.sequence, file)).collect(),
            inline: setup.inline.into_iter().map(|part| (part.sequence, part)).collect(),
            paths: setup.paths,
            first: setup.next,
            next: setup.next,
            restored: setup.restored,
            retain: None,
            running: None,
            failures: 0,
            is_collecting: Arc::default(),
            positions: setup.positions,
            ahead: setup.ahead,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The attempt in flight.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        self.running.as_ref().map(|running| running.started.attempt)
    }

    /// Grows as long as something goes to the store.
    pub(crate) fn moved(&self) -> u64 {
        self.shipping.uploader.moved()
    }

    /// The checkpoint that the run went on from.
    pub(crate) const fn restored(&self) -> Option<CheckpointId> {
        self.restored
    }

    /// Takes up changed settings.
    pub(crate) const fn set(&mut self, settings: &CheckpointSettings) {
        self.retain = Some(settings.retain);
    }

    /// Begins a checkpoint and gives its number.
    pub(crate) fn start(&mut self, started: Started) -> CheckpointId {
        let id = self.next;
        self.next = id.next();
        let report = CheckpointReport {
            id,
            epoch: started.epoch,
            trigger: started.trigger,
            wall: started.wall,
            outcome: CheckpointOutcome::Published,
            freeze_us: 0,
            duration: Duration::ZERO,
            changed_keys: 0,
            delta_bytes: Bytes(0),
            base_bytes: Bytes(0),
            image_bytes: Bytes(0),
            uploaded_bytes: Bytes(0),
            full_bytes: Bytes(0),
            files: 0,
        };
        self.running = Some(Running {
            started,
            report,
            received: false,
            given_up: false,
            ready: None,
            paths: LocalPaths::default(),
            publication: None,
        });
        id
    }

    /// Takes the receipts of all workers.
    ///
    /// # Errors
    /// Of a worker that could not make its part durable, and of a sink that cannot tell what its target has.
    pub(crate) fn receive(&mut self, receipts: Vec<Receipt>) -> Result<()> {
        let running = self.running.as_mut().expect("receipts are of the checkpoint in flight");
        running.received = true;
        sum_up(&mut running.report, &receipts);
        if let Some(reason) = receipts.iter().find_map(|receipt| receipt.failed.clone()) {
            return Err(Error::connector("checkpoint", reason));
        }
        let (mut manifest, paths) = self.manifest(receipts);
        // All outboxes are frozen: what is in none of them was delivered before.
        manifest.sinks = self.positions.reached()?;
        for (sink, ahead) in &self.ahead {
            manifest.sources.entry(sink.clone()).or_default().insert(AHEAD.to_owned(), ahead.to_offset()?);
        }
        let running = self.running.as_mut().expect("still in flight");
        running.report.files = manifest.files.len();
        running.report.full_bytes =
            Bytes(manifest.files.iter().map(|f| f.length).sum::<u64>() + manifest.stats.inline_bytes);
        (running.ready, running.paths) = (Some(manifest), paths);
        Ok(())
    }

    /// Publishes what was received, in the background.
    pub(crate) fn publish(&mut self) {
        let publication = Publication::default();
        let Some(running) = &mut self.running else { return };
        let Some(manifest) = running.ready.take() else { return };
        running.publication = Some(Arc::clone(&publication));
        let (background, publisher) = (self.background.clone(), Arc::clone(&self.publisher));
        let (shipping, wake) = (Arc::clone(&self.shipping), Arc::clone(&self.wake));
        let (retain, positions) = (self.retain.take(), self.positions.clone());
        let (superseded, paths) = (self.paths.clone(), running.paths.clone());
        let root = self.store.root().url().to_owned();
        self.background.publish(move || {
            let files = manifest.files.clone();
            // Nothing but its ending ends a publication, so there is one whatever happens.
            let pipeline = manifest.pipeline.clone();
            let (published, listed) = caught(&pipeline, || {
                let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
                let published = background.wait_for(publish(&mut publisher, manifest, retain))?;
                // In the order of publications, and before sinks are given what it holds.
                note(&shipping.folder, &root, &published.manifest);
                let listed: Vec<CheckpointId> = publisher.pointer().checkpoints.iter().map(|e| e.checkpoint).collect();
                Ok((published, listed))
            })
            .map_or_else(|error| (Err(error), Vec::new()), |(published, listed)| (Ok(published), listed));
            if let Err(error) = &published {
                tracing::warn!(pipeline, %error, "a checkpoint was not published");
            }
            let official = published.as_ref().ok().map(|p| Arc::clone(&p.manifest));
            let reshipped = match &published {
                Err(Error::Checkpoint(highwater_checkpoint::Error::Stale { .. })) => {
                    caught(&pipeline, || Ok(shipping.reship(&files, &paths.state)))
                }
                _ => Ok(Vec::new()),
            };
            let reshipped = reshipped.unwrap_or_else(|error| {
                tracing::error!(pipeline, %error, "files could not be shipped anew");
                Vec::new()
            });
            *publication.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ending { published, reshipped });
            wake();
            // What follows holds up nobody.
            if let Some(manifest) = official {
                shipping.uploader.published(&manifest);
                positions.published(&manifest.pipeline, &manifest, &listed);
                remove_superseded(&shipping, &superseded, &paths);
            }
        });
    }

    /// Removes from the store what no listed checkpoint needs, on a thread apart: where a root was away for long that
    /// is much. While it goes on the next one is left to the checkpoint after.
    pub(crate) fn collect(&self) {
        if self.is_collecting.swap(true, Relaxed) {
            return;
        }
        let (background, store, pipeline) =
            (self.background.clone(), self.store.clone(), self.identity.pipeline.clone());
        let is_collecting = Arc::clone(&self.is_collecting);
        let begun = self.background.collect(move || {
            let guard = highwater_checkpoint::collect::AGE_GUARD;
            let collecting = highwater_checkpoint::collect(&store, &pipeline, guard);
            match caught(&pipeline, || background.wait_for(collecting).map_err(Error::from)) {
                Ok(Collected { blocked: Some(reason), .. }) => {
                    tracing::warn!(pipeline, reason, "no file is removed from the root while this is so");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(pipeline, %error, "collection failed; it is tried again after the next checkpoint");
                }
            }
            is_collecting.store(false, Relaxed);
        });
        if let Err(error) = begun {
            self.is_collecting.store(false, Relaxed);
            tracing::warn!(pipeline = self.identity.pipeline, %error, "there is no thread for a collection");
        }
    }

    /// How the publication ended, once it has. After an error it is still to be given up.
    pub(crate) fn publication(&mut self) -> Option<Result<CheckpointId>> {
        let publication = self.running.as_ref()?.publication.as_ref()?;
        let Ending { published, reshipped } = publication.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        for (file, path) in reshipped {
            self.paths.state.insert(file.sequence, path);
            self.files.insert(file.sequence, file);
        }
        Some(published.map(|published| {
            let id = published.manifest.checkpoint;
            self.next = self.next.max(id.next());
            self.failures = 0;
            let mut running = self.running.take().expect("in flight");
            running.report.id = id;
            self.paths = std::mem::take(&mut running.paths);
            self.end(running, CheckpointOutcome::Published);
            id
        }))
    }

    /// The attempt in flight has failed. Its workers may still be busy with it; then it is in flight
    /// until they have handed in. Tells how many have failed in a row.
    pub(crate) fn give_up(&mut self, reason: String) -> u32 {
        self.failures += 1;
        if let Some(running) = self.running.take() {
            let rest = Running {
                started: Started { replies: Vec::new(), ..running.started.clone() },
                report: running.report.clone(),
                received: running.received,
                given_up: true,
                ready: None,
                paths: LocalPaths::default(),
                publication: None,
            };
            self.end(running, CheckpointOutcome::Failed(reason));
            self.running = Some(rest).filter(|rest| !rest.received);
        }
        self.failures
    }

    /// After receipts: what was given up before they came is over now.
    pub(crate) fn forget_if_given_up(&mut self) {
        self.running = self.running.take().filter(|running| !running.given_up);
    }

    fn end(&self, running: Running, outcome: CheckpointOutcome) {
        let Running { started, mut report, .. } = running;
        report.duration = self.clock.monotonic().saturating_sub(started.at);
        report.outcome = outcome;
        for reply in started.replies {
            // Whoever asked may have given up waiting.
            let _ = reply.send(report.clone());
        }
        self.history.push(report);
    }

    /// All that is in scope, and where it is on this machine. What is kept here for the next
    /// manifest is changed too: nothing of it is lost if this one is not published.
    fn manifest(&mut self, receipts: Vec<Receipt>) -> (Manifest, LocalPaths) {
        let floors: BTreeMap<u32, FileNumber> =
            receipts.iter().filter_map(|receipt| Some((receipt.worker, receipt.floor?))).collect();
        let floor = floors.values().min().copied();
        let mut manifest = self.empty_manifest();
        let mut paths = LocalPaths { state: self.paths.state.clone(), outboxes: BTreeSet::new() };
        for receipt in receipts {
            self.files.extend(receipt.files.into_iter().map(|file| (file.sequence, file)));
            self.inline.extend(receipt.inline.into_iter().map(|part| (part.sequence, part)));
            paths.state.extend(receipt.paths);
            merge_operators(&mut manifest.operators, receipt.operators);
            for (source, offsets) in receipt.offsets {
                manifest.sources.entry(source).or_default().extend(offsets);
            }
            paths.outboxes.extend(receipt.outbox_paths);
            manifest.outboxes.extend(receipt.outboxes);
        }
        let first = self.first;
        // What a worker wrote in this run is of its own key groups, and it lets go of that by its own floor.
        let needed = |number: u64| {
            let number = FileNumber::from_u64(number);
            let own = floors.get(&number.worker().0).filter(|_| number.checkpoint() >= first);
            own.copied().or(floor).is_none_or(|floor| in_scope(number, floor))
        };
        self.files.retain(|number, _| needed(*number));
        self.inline.retain(|number, _| needed(*number));
        paths.state.retain(|number, _| needed(*number));
        manifest.files = self.files.values().cloned().collect();
        manifest.inline = self.inline.values().cloned().collect();
        let report = &self.running.as_ref().expect("in flight").report;
        manifest.stats = CheckpointStats {
            freeze_us_max: report.freeze_us,
            duration_ms: self.clock.monotonic().saturating_sub(self.started_at()).as_millis() as u64,
            changed_keys: report.changed_keys,
            delta_bytes: report.delta_bytes.0,
            uploaded_bytes: report.uploaded_bytes.0,
            referenced_bytes: manifest
                .files
                .iter()
                .map(|f| f.stored)
                .sum::<u64>()
                .saturating_sub(report.uploaded_bytes.0),
            inline_bytes: manifest.inline.iter().map(|part| part.data.0.len() as u64).sum(),
        };
        (manifest, paths)
    }

    fn started_at(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |running| running.started.at)
    }

    fn empty_manifest(&self) -> Manifest {
        let running = self.running.as_ref().expect("in flight");
        let node = |node: &NodeIdentity| OperatorMeta {
            id: node.id,
            name: node.name.clone(),
            incarnation: node.incarnation,
            kind: node.kind.clone(),
            version: 1,
            keys: 0,
            bytes: 0,
        };
        Manifest {
            format: highwater_checkpoint::manifest::FORMAT,
            pipeline: self.identity.pipeline.clone(),
            store: self.shipping.store,
            checkpoint: running.report.id,
            epoch: running.report.epoch,
            generation: highwater_core::Generation(0),
            wall: running.started.wall,
            parent: None,
            sql: self.identity.sql.clone(),
            key_groups: self.identity.key_groups,
            workers: self.identity.workers,
            requested_by: running.started.trigger,
            sources: BTreeMap::new(),
            operators: self.identity.nodes.iter().map(node).collect(),
            next_operator: self.identity.next_operator,
            files: Vec::new(),
            inline: Vec::new(),
            outboxes: Vec::new(),
            sinks: BTreeMap::new(),
            stats: CheckpointStats::default(),
        }
    }
}

/// Publishes a manifest under a number above those of all that its outboxes hold: the next number of the
/// publisher may be below that of a checkpoint that failed before it came to be published.
async fn publish(
    publisher: &mut Publisher,
    manifest: Manifest,
    retain: Option<usize>,
) -> highwater_checkpoint::Result<Published> {
    if let Some(keep) = retain {
        publisher.set_retention(highwater_checkpoint::Retention { keep });
    }
    if let Some(newest) = manifest.outboxes.iter().filter_map(|outbox| outbox.checkpoint).max() {
        publisher.go_beyond(newest);
    }
    publisher.publish(manifest).await
}

fn sum_up(report: &mut CheckpointReport, receipts: &[Receipt]) {
    let sum = |of: fn(&Receipt) -> u64| receipts.iter().map(of).sum::<u64>();
    report.freeze_us = receipts.iter().map(|r| r.freeze_us).max().unwrap_or(0);
    report.changed_keys = sum(|r| r.changed);
    report.delta_bytes = Bytes(sum(|r| r.delta_bytes));
    report.base_bytes = Bytes(sum(|r| r.base_bytes));
    report.image_bytes = Bytes(sum(|r| r.image_bytes));
    report.uploaded_bytes = Bytes(sum(|r| r.uploaded_bytes));
}

fn merge_operators(operators: &mut [OperatorMeta], told: Vec<(OperatorId, String, u64, u64)>) {
    for (id, _, keys, bytes) in told {
        if let Some(operator) = operators.iter_mut().find(|operator| operator.id == id) {
            operator.keys += keys;
            operator.bytes += bytes;
        }
    }
}

impl OutboxPart {
    /// What the manifest of checkpoint `of` holds; its file, if it has one, has its copy in `folder`.
    pub(crate) fn from_meta(meta: &OutboxMeta, of: CheckpointId, folder: &Path) -> Self {
        let in_file = |file: &FileMeta| {
            let copy = RowsFile { path: cached(folder, file.id), digest: file.digest };
            KeptRows::in_file(copy, file.length as usize)
        };
        let (rows, merged) = match &meta.data {
            OutboxData::Inline(bytes) => (KeptRows::in_memory(bytes.0.clone()), None),
            OutboxData::File(file) => (in_file(file), None),
            OutboxData::Merged(several) => {
                let MergedOutbox { file, waiting, delivered } = &**several;
                (in_file(file), Some(Merged { waiting: *waiting, delivered: *delivered }))
            }
        };
        let checkpoint = Some(meta.checkpoint.unwrap_or(of));
        Self { sink: meta.sink.as_str().into(), checkpoint, part: meta.worker, rows, waits: false, merged }
    }
}

/// Notes on this machine what was published.
fn note(folder: &Path, root: &str, published: &Manifest) {
    let pipeline = &published.pipeline;
    if let Err(error) = note_published(folder, root, published.checkpoint) {
        tracing::warn!(pipeline, %error, "the newest checkpoint was not noted beside the local files");
    }
}

/// Removes local copies that the published checkpoint no longer needs. What cannot be removed now
/// is removed at the next start, which keeps only what it restores.
fn remove_superseded(shipping: &Shipping, before: &LocalPaths, now: &LocalPaths) {
    let gone = before.state.iter().filter(|(number, _)| !now.state.contains_key(*number));
    for (number, path) in gone {
        let number = FileNumber::from_u64(*number);
        if let Err(error) = shipping.pages.drop_files(shipping.store, number..=number) {
            tracing::warn!(%number, %error, "a file out of scope could not be dropped");
        }
        remove(path);
    }
    for path in before.outboxes.difference(&now.outboxes) {
        remove(path);
    }
}

/// Removes a file of this machine that nobody needs, if it is there.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file out of scope could not be removed");
    }
}

#[cfg(test)]
mod tests;
