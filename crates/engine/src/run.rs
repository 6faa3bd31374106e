//! One run of a pipeline: what all its workers share, and how it is restored.
//!
//! A run begins with a claim of the pipeline's root and the newest checkpoint that verifies, and
//! lasts until it is stopped or fails. Invariants: nothing of an earlier run is left in the page
//! store or the local folder but what the checkpoint needs; a pipeline with checkpoints never starts
//! empty.

use crate::background::Background;
use crate::build::changes::LOG_SPLIT;
use crate::cancel::Cancel;
use crate::changes::Wake;
use crate::checkpointing::{
    CheckpointSettings, Checkpointing, CheckpointingSetup, History, Identity, LocalPaths, NodeIdentity,
};
use crate::control::{Control, ControlSetup, Request};
use crate::error::{Error, Result};
use crate::fill::{Fill, fills};
use crate::lost::{self, AheadSinks, ahead_sinks};
use crate::ops::outbox::OutboxSetup;
use crate::ops::source::{Place, SourceSetup};
use crate::outside::{Asker, Outside};
use crate::plan::{Final, Node, NodeId, Operator, Plan};
use crate::positions::{Positions, change_sources, check_positions};
use crate::reads::Reads;
use crate::shared::{Failure, Run};
use crate::sink::Sink;
use crate::snapshot::{OutboxPart, Shipping};
use crate::source::{Offset, Source};
use crate::tables::{self, Tables};
use highwater_checkpoint::{
    FetchOptions, FileMeta, InlinePart, Manifest, OperatorMeta, PublishOptions, Publisher, Resolved, Retention, Store,
    UploadOptions, Uploader, inspect, resolve,
};
use highwater_core::{CheckpointId, Clock, KeyGroups, OperatorId, Rng, StoreId};
use highwater_state::{FileNumber, PageSource, PageStore, Part, Restore, decode_inline};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// What a pipeline is, as its creator says it.
#[derive(Clone, Debug)]
pub struct PipelineSpec {
    /// Its name, which is also its folder in the root.
    pub name: String,
    /// The statements that made it, kept in its manifests.
    pub sql: Vec<String>,
    /// Its operators.
    pub plan: Plan,
    /// Fixed when it is created.
    pub key_groups: KeyGroups,
    /// When it is checkpointed.
    pub settings: CheckpointSettings,
    /// On how many workers it runs.
    pub parallelism: Parallelism,
    /// Whether it is begun without taking rows, until it is told to.
    pub paused: bool,
}

/// On how many workers a pipeline runs. It may change from one start to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parallelism {
    /// On one when all its sources say that they give few rows, else on all.
    #[default]
    Auto,
    /// On one: an epoch costs the least, and no more than one core's work can be done.
    One,
    /// On all.
    All,
}

/// Rows a second that one worker takes beside many other pipelines.
const FEW_ROWS: f64 = 20_000.0;
/// How often a pipeline is claimed where what the root was known by has gone meanwhile.
const CLAIM_TRIES: usize = 3;

impl PipelineSpec {
    fn workers(&self, all: usize) -> usize {
        let narrow = match self.parallelism {
            Parallelism::Auto => rows_per_second(&self.plan).is_some_and(|rows| rows <= FEW_ROWS),
            Parallelism::One => true,
            Parallelism::All => false,
        };
        if narrow { 1 } else { all }
    }
}

/// What all sources of a plan give at most; none when one does not say.
fn rows_per_second(plan: &Plan) -> Option<f64> {
    let inputs = plan.nodes.iter().filter(|node| node.inputs.is_empty());
    inputs
        .map(|node| match &node.operator {
            Operator::Source(source) => source.rows_per_second(),
            _ => None,
        })
        .sum()
}

/// What a run needs of the process.
#[derive(Clone)]
pub(crate) struct Facilities {
    pub(crate) background: Background,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) pages: Arc<PageStore>,
    /// What asks sources and sinks.
    pub(crate) outside: Outside,
    /// Under which each pipeline has a folder for its files.
    pub(crate) files: PathBuf,
    /// For what lasts no longer than the process.
    pub(crate) scratch: PathBuf,
    pub(crate) workers: usize,
}

impl Facilities {
    /// Where a pipeline's files are on this machine, whatever characters its name has.
    pub(crate) fn folder(&self, pipeline: &str) -> PathBuf {
        self.files.join(highwater_checkpoint::names::folder_of(pipeline))
    }

    /// What asks the sources and sinks of a pipeline.
    const fn asker<'a>(&'a self, pipeline: &'a str, cancel: &'a Cancel) -> Asker<'a> {
        Asker { outside: &self.outside, pipeline, cancel }
    }
}

/// Tells, once a worker, that a run has ended there by itself.
#[derive(Clone)]
pub(crate) struct Ended(pub(crate) Sender<Event>, pub(crate) u64);

/// What happens to runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker's dataflow of this run ended cleanly.
    Ended { run: u64 },
    /// The run failed.
    Failed { run: u64, failure: Failure },
    /// Of none: the engine has ended.
    Over,
}

impl Ended {
    pub(crate) fn worker_ended(&self) {
        // Nobody listens when the process is going down.
        let _ = self.0.send(Event::Ended { run: self.1 });
    }
}

/// What a restored checkpoint gives to a run.
pub(crate) struct Restored {
    pub(crate) restore: Arc<Restore>,
    pub(crate) manifest: Manifest,
    outboxes: Vec<OutboxPart>,
}

/// What the workers of a run share.
pub(crate) struct RunSpec {
    pub(crate) id: u64,
    pub(crate) run: Arc<Run>,
    pub(crate) plan: Plan,
    pub(crate) key_groups: KeyGroups,
    /// By node.
    pub(crate) operator_ids: Vec<OperatorId>,
    pub(crate) shipping: Arc<Shipping>,
    pub(crate) reads: Reads,
    pub(crate) ended: Ended,
    background: Background,
    clock: Arc<dyn Clock>,
    workers: usize,
    page_source: PageSource,
    splits: Vec<Vec<String>>,
    restored: Option<Restored>,
    fills: Vec<Fill>,
    /// The sinks that were given more than what was restored.
    pub(crate) ahead: AheadSinks,
    undelivered: Arc<AtomicUsize>,
    control: Mutex<Option<ControlParts>>,
}

/// What only worker 0 takes.
struct ControlParts {
    store: Store,
    publisher: Publisher,
    identity: Identity,
    history: History,
    files: Vec<FileMeta>,
    inline: Vec<InlinePart>,
    paths: LocalPaths,
    next: CheckpointId,
    requests: Receiver<Request>,
    settings: CheckpointSettings,
    paused: bool,
    finished: Box<dyn Fn(bool) + Send>,
}

/// What a new run is given by its pipeline.
pub(crate) struct RunSetup {
    pub(crate) id: u64,
    pub(crate) run: Arc<Run>,
    pub(crate) reads: Reads,
    pub(crate) history: History,
    pub(crate) requests: Receiver<Request>,
    pub(crate) events: Sender<Event>,
    pub(crate) finished: Box<dyn Fn(bool) + Send>,
    /// Ends the wait for the root.
    pub(crate) cancel: Cancel,
    /// Becomes true when the root has answered, and its files are waited for.
    pub(crate) claimed: Arc<AtomicBool>,
}

/// Claims the root, restores the newest checkpoint that verifies, and describes the run.
///
/// # Errors
/// When it is cancelled, the root cannot be claimed, checkpoints exist and none verifies, the plan does not fit
/// the state of the checkpoint, it goes on from another log, or has given more to targets, than is there, or a source
/// or sink does not answer.
pub(crate) fn prepare(spec: &PipelineSpec, facilities: &Facilities, setup: RunSetup) -> Result<RunSpec> {
    let Facilities { background, store, pages, .. } = facilities;
    let folder = facilities.folder(&spec.name);
    std::fs::create_dir_all(&folder)
        .map_err(|source| Error::Io { what: format!("create {}", folder.display()), source })?;
    let mut publisher = claim(spec, facilities, &folder, &setup)?;
    let resolving = resolve(store, &spec.name, &folder, FetchOptions::default());
    let resolved = setup.cancel.wait(background, &spec.name, resolving)?;
    keep_only(&folder, resolved.as_ref());
    let uploader = Uploader::new(store, &spec.name, UploadOptions::default())?;
    if let Some(resolved) = &resolved {
        check_positions(&spec.plan, &resolved.manifest)?;
        publisher.restored(resolved);
        uploader.restored(resolved);
        setup.run.goes_on_after(resolved.manifest.epoch);
        tell_of(resolved, &spec.name, &setup.run, &spec.plan);
    }
    let store_id = resolved.as_ref().map_or_else(|| StoreId(Rng::from_os().next_u64()), |r| r.manifest.store);
    let key_groups = resolved.as_ref().map_or(spec.key_groups, |r| r.manifest.key_groups);
    let shipping = Arc::new(shipping(facilities, uploader, store_id, folder.clone()));
    let (operator_ids, nodes, next_operator) = numbered(spec, resolved.as_ref().map(|r| &r.manifest))?;
    let workers = spec.workers(facilities.workers);
    let identity = Identity {
        pipeline: spec.name.clone(),
        sql: spec.sql.clone(),
        key_groups,
        workers: workers as u32,
        nodes,
        next_operator,
    };
    let control = ControlParts {
        next: first_free(resolved.as_ref().map(|r| &r.manifest), &publisher),
        store: store.clone(),
        publisher,
        identity,
        history: setup.history,
        files: resolved.as_ref().map(|r| r.manifest.files.clone()).unwrap_or_default(),
        inline: resolved.as_ref().map(|r| r.manifest.inline.clone()).unwrap_or_default(),
        paths: resolved.as_ref().map(paths_of).unwrap_or_default(),
        requests: setup.requests,
        settings: spec.settings.clone(),
        paused: spec.paused,
        finished: setup.finished,
    };
    let ahead = ahead_sinks(&spec.plan, resolved.as_ref(), &folder, facilities.asker(&spec.name, &setup.cancel))?;
    let fills = fills(&spec.plan, resolved.as_ref().map(|resolved| &resolved.manifest), key_groups)?;
    setup.run.is_filled.store(fills.iter().all(|fill| fill.at_once), Relaxed);
    let restored = resolved.map(|resolved| restore(resolved, pages, &folder)).transpose()?;
    Ok(RunSpec {
        id: setup.id,
        run: setup.run,
        splits: splits_of(&spec.plan, facilities.asker(&spec.name, &setup.cancel))?,
        plan: spec.plan.clone(),
        key_groups,
        operator_ids,
        shipping,
        reads: setup.reads,
        ended: Ended(setup.events, setup.id),
        background: background.clone(),
        clock: Arc::clone(&facilities.clock),
        workers,
        page_source: PageSource::new(Arc::clone(pages), store_id),
        restored,
        fills,
        ahead,
        undelivered: Arc::default(),
        control: Mutex::new(Some(control)),
    })
}

fn shipping(facilities: &Facilities, uploader: Uploader, store: StoreId, folder: PathBuf) -> Shipping {
    Shipping {
        background: facilities.background.clone(),
        pages: Arc::clone(&facilities.pages),
        uploader,
        store,
        folder,
        compression: highwater_state::Compression::None,
        over: Cancel::default(),
    }
}

/// Refuses a root that has none of the checkpoints which the pipeline had there. One that had none there is refused
/// where the root has nothing of it nor of all others that had: what stands in the place of a root that is not mounted
/// is hidden when that is back. Whether a root that does not tell is the right one is left to the claim. Gives the
/// pipeline whose place must still be seen where a new one is made.
fn check_mounted(pipeline: &str, facilities: &Facilities, folder: &Path, cancel: &Cancel) -> Result<Option<String>> {
    let Facilities { background, store, files, .. } = facilities;
    let root = store.root().url();
    let own = || Ok(Some(pipeline.to_owned()));
    if lost::had_checkpoints(folder, root) {
        let has_any = cancel.wait(background, pipeline, inspect::has_any(store, pipeline));
        return if matches!(has_any, Ok(false)) { Err(lost::gone(pipeline, folder, root)) } else { own() };
    }
    let has_place = |asked: &str| cancel.wait(background, pipeline, inspect::has_place(store, asked));
    let mut missed = Vec::new();
    for (other, folder) in lost::noted_in(files, root) {
        match has_place(&other) {
            Ok(true) => return Ok(Some(other)),
            Ok(false) => missed.push(folder),
            Err(_) => return Ok(None),
        }
    }
    // What a dropped one had may just have been removed, and its note before that.
    match missed.iter().find_map(|folder| lost::note_of(folder, root)) {
        Some(note) if matches!(has_place(pipeline), Ok(false)) => Err(lost::away(pipeline, &note, root)),
        Some(_) => own(),
        None => Ok(None),
    }
}

/// Claims a pipeline in a root that is seen to be the right one.
fn claim_mounted(spec: &PipelineSpec, facilities: &Facilities, folder: &Path, cancel: &Cancel) -> Result<Publisher> {
    let retention = Retention { keep: spec.settings.retain };
    let options = PublishOptions { retention, ..PublishOptions::default() };
    let claim = || {
        let beside = check_mounted(&spec.name, facilities, folder, cancel)?;
        let claiming = Publisher::claim_beside(&facilities.store, &spec.name, options, beside.as_deref());
        cancel.wait(&facilities.background, &spec.name, claiming)
    };
    for _ in 1..CLAIM_TRIES {
        match claim() {
            // What was seen has gone since: the root, or what a dropped pipeline had there.
            Err(Error::Checkpoint(highwater_checkpoint::Error::Missing { .. })) => {}
            claimed => return claimed,
        }
    }
    claim()
}

/// The pipeline's place in the root. The checkpoints to come have numbers above those that the targets of its
/// sinks know, and above all that it was known to have published: where the root was lost, or is an older one, a
/// target would take what is delivered then for what it has.
fn claim(spec: &PipelineSpec, facilities: &Facilities, folder: &Path, setup: &RunSetup) -> Result<Publisher> {
    let cancel = &setup.cancel;
    let mut publisher = claim_mounted(spec, facilities, folder, cancel)?;
    // Not later: where the target of a sink does not answer, that is not told of the root.
    setup.claimed.store(true, Relaxed);
    let known = publisher.pointer().checkpoints.last().map(|entry| entry.checkpoint);
    if let Some(published) = lost::newest_published(folder) {
        if known.is_none_or(|known| known < published) {
            tracing::error!(
                pipeline = spec.name,
                published = published.0,
                known = known.map_or(0, |known| known.0),
                "a checkpoint was published that the root does not know: the root was lost, or is another or an older \
                 one; what was read after the newest known one is computed anew"
            );
        }
        publisher.go_beyond(published);
    }
    for node in &spec.plan.nodes {
        let Operator::Sink(sink) = &node.operator else { continue };
        let delivered = facilities.asker(&spec.name, cancel).delivered(node, sink)?;
        let Some(delivered) = delivered.filter(|delivered| known.is_none_or(|known| known < *delivered)) else {
            continue;
        };
        tracing::error!(
            pipeline = spec.name,
            sink = node.name,
            delivered = delivered.0,
            known = known.map_or(0, |known| known.0),
            "this sink was given a checkpoint that the root does not know: the root was lost or is an older one; rows \
             that the sink was given after the newest known one are given to it again"
        );
        publisher.go_beyond(delivered);
    }
    Ok(publisher)
}

fn tell_of(resolved: &Resolved, pipeline: &str, run: &Run, plan: &Plan) {
    let fallbacks = resolved.fallbacks.len() as u64;
    let sinks = plan.nodes.iter().filter(|node| matches!(node.operator, Operator::Sink(_)));
    for sink in sinks.filter(|_| fallbacks > 0) {
        tracing::error!(
            pipeline,
            sink = sink.name,
            checkpoint = resolved.manifest.checkpoint.0,
            "an older checkpoint is restored: rows that this sink was given after it are given to it again"
        );
    }
    run.counters.fallbacks.fetch_add(fallbacks, Relaxed);
    tracing::info!(
        pipeline,
        checkpoint = resolved.manifest.checkpoint.0,
        epoch = resolved.manifest.epoch.0,
        files = resolved.files.len(),
        fallbacks,
        downloaded = resolved.downloaded_bytes,
        linked = resolved.linked_bytes,
        reused = resolved.reused_bytes,
        "restoring"
    );
}

/// Removes what another run left in the local folder and the checkpoint does not need.
fn keep_only(folder: &Path, resolved: Option<&Resolved>) {
    let needed: BTreeSet<&Path> =
        resolved.iter().flat_map(|r| r.files.iter().map(|file| file.path.as_path())).collect();
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !needed.contains(entry.path().as_path()) && entry.file_name() != lost::FILE {
            // A file that stays costs space only.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn paths_of(resolved: &Resolved) -> LocalPaths {
    let state: BTreeSet<_> = resolved.manifest.files.iter().map(|file| file.id).collect();
    let (state, outboxes): (Vec<_>, Vec<_>) = resolved.files.iter().partition(|file| state.contains(&file.meta.id));
    LocalPaths {
        state: state.into_iter().map(|file| (file.meta.sequence, file.path.clone())).collect(),
        outboxes: outboxes.into_iter().map(|file| file.path.clone()).collect(),
    }
}

/// A number above that of every file of the manifest, above its own, and above those that targets may know of
/// checkpoints that are damaged or lost: what a checkpoint that fails leaves is delivered under its number.
fn first_free(manifest: Option<&Manifest>, publisher: &Publisher) -> CheckpointId {
    let files = manifest.into_iter().flat_map(|m| m.files.iter().map(|file| file.sequence));
    let parts = manifest.into_iter().flat_map(|m| m.inline.iter().map(|part| part.sequence));
    let numbers = files.chain(parts).map(|number| FileNumber::from_u64(number).checkpoint());
    let used = numbers.chain(manifest.map(|m| m.checkpoint));
    used.map(CheckpointId::next).fold(publisher.next_checkpoint(), CheckpointId::max)
}

/// Takes a checkpoint's files into the page store and reads what it has beside them.
pub(crate) fn restore(resolved: Resolved, pages: &Arc<PageStore>, folder: &Path) -> Result<Restored> {
    let manifest = resolved.manifest;
    let state: BTreeSet<_> = manifest.files.iter().map(|file| file.id).collect();
    let paths: Vec<PathBuf> =
        resolved.files.iter().filter(|file| state.contains(&file.meta.id)).map(|file| file.path.clone()).collect();
    let all = FileNumber::from_u64(0)..=FileNumber::from_u64(u64::MAX);
    pages.drop_files(manifest.store, all)?;
    pages.ingest(&paths)?;
    let mut parts: Vec<Part> =
        manifest.files.iter().map(|file| Part::File(FileNumber::from_u64(file.sequence))).collect();
    for part in &manifest.inline {
        parts.push(decode_inline(&part.data.0)?);
    }
    let source = PageSource::new(Arc::clone(pages), manifest.store);
    let outboxes = manifest.outboxes.iter().map(|meta| OutboxPart::from_meta(meta, manifest.checkpoint, folder));
    let outboxes = outboxes.collect();
    Ok(Restored { restore: Arc::new(Restore::new(source, parts)?), manifest, outboxes })
}

/// Numbers for the nodes: those of the manifest for nodes it knows, new ones for the others.
pub(crate) type Numbered = (Vec<OperatorId>, Vec<NodeIdentity>, u32);

pub(crate) fn number_nodes(plan: &Plan, manifest: Option<&Manifest>) -> Result<Numbered> {
    let known = manifest.map(|m| m.operators.as_slice()).unwrap_or_default();
    // Never a number twice: records of an operator that is gone may be in files that are needed.
    let told = manifest.map_or(0, |m| m.next_operator);
    let mut next = known.iter().map(|operator| operator.id.0 + 1).max().unwrap_or(0).max(told);
    let (mut ids, mut nodes) = (Vec::new(), Vec::new());
    for (index, node) in plan.nodes.iter().enumerate() {
        let kind = tables::shape_of(plan, NodeId(index))?;
        let id = match known.iter().find(|operator| is_of(node, operator)) {
            Some(operator) if tables::goes_on(&node.operator, &operator.kind, &kind) => operator.id,
            Some(operator) => {
                return Err(Error::Plan(format!(
                    "the state of {} in the checkpoint is of {}, the plan wants {kind}: drop and create it anew",
                    node.name, operator.kind
                )));
            }
            None => {
                next += 1;
                OperatorId(next - 1)
            }
        };
        ids.push(id);
        nodes.push(NodeIdentity { id, name: node.name.clone(), incarnation: node.incarnation, kind });
    }
    Ok((ids, nodes, next))
}

/// The same, when the statements say so too.
fn numbered(spec: &PipelineSpec, manifest: Option<&Manifest>) -> Result<Numbered> {
    let numbered = number_nodes(&spec.plan, manifest)?;
    if let Some(manifest) = manifest.filter(|manifest| !spec.sql.is_empty() && manifest.sql == spec.sql) {
        check_names(&numbered.1, &manifest.operators)?;
    }
    Ok(numbered)
}

/// What keeps nothing.
const STATELESS: [&str; 4] = ["map", "hop", "unnest", "union"];

/// Refuses nodes of the statements of the checkpoint that have other names than there: their state would
/// not be found, and begin anew.
fn check_names(nodes: &[NodeIdentity], kept: &[OperatorMeta]) -> Result<()> {
    let stateful = |kind: &str| !STATELESS.contains(&kind);
    let gone = kept.iter().find(|old| stateful(&old.kind) && nodes.iter().all(|node| node.name != old.name));
    let new = nodes.iter().find(|node| stateful(&node.kind) && kept.iter().all(|old| old.name != node.name));
    let (Some(gone), Some(new)) = (gone, new) else { return Ok(()) };
    Err(Error::Plan(format!(
        "the statements of the checkpoint are planned in another way: it has state of {}, and {} would begin without \
         any: drop and create it anew, or run the version before",
        gone.name, new.name
    )))
}

/// The name of a node whose state a pipeline would lose if it went on with another plan, or that would begin
/// without any; none when all that keeps something is in both plans.
///
/// # Errors
/// `Plan` when a part of a plan is of a kind that has no text.
pub fn kept_otherwise<'a>(before: &'a Plan, after: &'a Plan) -> Result<Option<&'a str>> {
    let is_same = |one: &Node, other: &Node| one.name == other.name && one.incarnation == other.incarnation;
    for old in keeping(before) {
        let node = &before.nodes[old.0];
        let Some(new) = keeping(after).find(|new| is_same(&after.nodes[new.0], node)) else {
            return Ok(Some(&node.name));
        };
        let (kept, shape) = (tables::shape_of(before, old)?, tables::shape_of(after, new)?);
        if !tables::goes_on(&after.nodes[new.0].operator, &kept, &shape) {
            return Ok(Some(&node.name));
        }
    }
    let is_known = |new: &NodeId| keeping(before).any(|old| is_same(&before.nodes[old.0], &after.nodes[new.0]));
    let mut new = keeping(after).filter(|new| !is_known(new));
    Ok(new.next().map(|new| after.nodes[new.0].name.as_str()))
}

/// The nodes that keep something.
fn keeping(plan: &Plan) -> impl Iterator<Item = NodeId> {
    (0..plan.nodes.len()).map(NodeId).filter(move |node| !plan.nodes[node.0].operator.is_stateless())
}

/// Whether an operator of a manifest is this node: of the same name and object.
pub(crate) fn is_of(node: &Node, operator: &OperatorMeta) -> bool {
    operator.name == node.name && operator.incarnation == node.incarnation
}

fn splits_of(plan: &Plan, asker: Asker<'_>) -> Result<Vec<Vec<String>>> {
    let splits = |node: &Node| match &node.operator {
        Operator::Source(source) => asker.splits(node, source),
        _ => Ok(Vec::new()),
    };
    plan.nodes.iter().map(splits).collect()
}

impl RunSpec {
    /// What a node's tables on one worker are made of.
    pub(crate) fn tables(&self, place: Place) -> Tables<'_> {
        Tables {
            plan: &self.plan,
            operator_ids: &self.operator_ids,
            key_groups: self.key_groups,
            source: &self.page_source,
            restored: self.restored.as_ref().map(|restored| (&restored.manifest, &restored.restore)),
            place,
        }
    }

    /// Whether a node has no state in the checkpoint that is restored.
    pub(crate) fn is_new(&self, node: NodeId) -> bool {
        self.tables(Place { worker: 0, workers: 1 }).is_new(node)
    }

    /// The fills of a node, with the numbers that they have among all that tells of a supply.
    pub(crate) fn fills_of(&self, node: NodeId) -> impl Iterator<Item = (usize, &Fill)> {
        self.fills().filter(move |(_, fill)| fill.from == node)
    }

    /// What of [`Plan::frees`] holds in this run. What gets rows by a fill that is not over forgets nothing: they may
    /// be of groups that are final.
    pub(crate) fn frees(&self, node: NodeId) -> Option<(&Final, bool)> {
        self.plan.frees(node).filter(|_| !self.fills.iter().any(|fill| fill.reaches(&self.plan, node)))
    }

    /// All fills, with their numbers, which follow on those of the nodes.
    pub(crate) fn fills(&self) -> impl Iterator<Item = (usize, &Fill)> {
        self.fills.iter().enumerate().map(|(at, fill)| (self.plan.nodes.len() + at, fill))
    }

    pub(crate) fn source(&self, node: NodeId, source: &Arc<dyn Source>, place: Place, wake: Wake) -> SourceSetup {
        let name = self.plan.nodes[node.0].name.clone();
        let offsets: Option<&BTreeMap<String, Offset>> =
            self.restored.as_ref().filter(|_| !self.is_new(node)).and_then(|r| r.manifest.sources.get(&name));
        SourceSetup {
            source: Arc::clone(source),
            background: self.background.clone(),
            wake,
            run: Arc::clone(&self.run),
            place,
            splits: self.splits[node.0].clone(),
            offsets: offsets.cloned().unwrap_or_default(),
            name,
        }
    }

    /// Where a change source is to go on.
    pub(crate) fn log_offset(&self, node: NodeId) -> Option<Offset> {
        let restored = self.restored.as_ref().filter(|_| !self.is_new(node))?;
        restored.manifest.sources.get(&self.plan.nodes[node.0].name)?.get(LOG_SPLIT).cloned()
    }

    /// Deliveries of outboxes that are published and not made.
    pub(crate) fn undelivered(&self) -> usize {
        self.undelivered.load(Relaxed)
    }

    pub(crate) fn outbox(&self, node: NodeId, sink: &Arc<dyn Sink>, place: Place) -> OutboxSetup {
        let plan = &self.plan.nodes[node.0];
        let held =
            self.restored.as_ref().filter(|_| !self.is_new(node)).map(|r| r.outboxes.as_slice()).unwrap_or_default();
        let mine = held.iter().filter(|o| *o.sink == *plan.name && o.part as usize % place.workers == place.worker);
        OutboxSetup {
            name: plan.name.as_str().into(),
            sink: Arc::clone(sink),
            schema: Arc::clone(&plan.schema),
            part: place.worker as u32,
            background: self.background.clone(),
            clock: Arc::clone(&self.clock),
            run: Arc::clone(&self.run),
            undelivered: Arc::clone(&self.undelivered),
            restored: mine.cloned().collect(),
        }
    }

    /// The control, on worker 0, whose clock `wake` wakes.
    pub(crate) fn start_control(&self, wake: &Wake) -> Control {
        self.run.set_clock(Arc::clone(wake));
        let parts = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let parts = parts.expect("worker 0 builds a run once");
        let workers = parts.identity.workers as usize;
        let unchanged = self.restored.as_ref().is_some_and(|restored| {
            let nodes = 0..self.plan.nodes.len();
            nodes.len() == restored.manifest.operators.len()
                && nodes.map(NodeId).all(|node| !self.is_new(node))
                && restored.manifest.sql == parts.identity.sql
        });
        let checkpointing = Checkpointing::new(CheckpointingSetup {
            background: self.background.clone(),
            clock: Arc::clone(&self.clock),
            store: parts.store,
            publisher: parts.publisher,
            shipping: Arc::clone(&self.shipping),
            identity: parts.identity,
            wake: Arc::clone(wake),
            history: parts.history,
            files: parts.files,
            inline: parts.inline,
            paths: parts.paths,
            next: parts.next,
            restored: self.restored.as_ref().map(|restored| restored.manifest.checkpoint),
            positions: Positions::new(&self.plan, self.restored.as_ref().map(|restored| &restored.manifest)),
            ahead: self.ahead.clone(),
        });
        let is_source = |node: &&Node| matches!(node.operator, Operator::Source(_) | Operator::Changes(_));
        let sources = self.plan.nodes.iter().filter(is_source).count();
        let nodes = self.plan.nodes.iter().enumerate();
        let changes = nodes.filter(|(_, node)| matches!(node.operator, Operator::Changes(_))).map(|(at, _)| at);
        Control::new(ControlSetup {
            run: Arc::clone(&self.run),
            clock: Arc::clone(&self.clock),
            requests: parts.requests,
            checkpointing,
            settings: parts.settings,
            // Multiples of the golden ratio leave no gap much larger than the others.
            phase: (self.id as f64 * 0.618_033_988_749_895).fract(),
            sources,
            fills: self.fills().filter(|(_, fill)| !fill.at_once).map(|(number, _)| number).collect(),
            changes: changes.collect(),
            workers,
            wall: self.restored.as_ref().map_or_else(Default::default, |restored| restored.manifest.wall),
            undelivered: Arc::clone(&self.undelivered),
            log: change_sources(&self.plan).next().map(|(_, source)| source.log()),
            is_new: !unchanged,
            paused: parts.paused,
            finished: parts.finished,
        })
    }

    /// How many workers it runs on.
    pub(crate) const fn workers(&self) -> usize {
        self.workers
    }
}
