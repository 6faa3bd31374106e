//! What people ask of a root: which pipelines and checkpoints there are, what one holds, whether it
//! is whole, and to keep fewer or pin one. Needs no running pipeline.
//!
//! Invariant: only [`prune`] and [`pin`] change anything, and both by compare-and-set of the
//! pointer, so they are safe beside a pipeline that publishes.

use crate::collect::{Collected, collect, delete_all};
use crate::compress::Measured;
use crate::error::{Error, Outcome, Result};
use crate::host::now;
use crate::manifest::{FileMeta, Manifest};
use crate::names::{FileId, Names, Object};
use crate::pointer::{Entry, Pointer};
use crate::resolve::{Fallback, find_pointer, load_manifest, none_verifies};
use crate::restore::candidates;
use crate::retention::{Retention, expired};
use crate::store::{Replaced, Store, Verify};
use crate::upload::check_arrived;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use highwater_core::{CheckpointId, Epoch, Generation, WallMicros};
use object_store::path::Path;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a change of a pointer that others keep changing is tried.
const ROUNDS: usize = 32;

/// A pipeline of a root.
#[derive(Clone, Debug)]
pub struct PipelineSummary {
    /// Its name.
    pub pipeline: String,
    /// The claim that may publish.
    pub generation: Generation,
    /// Its checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointSummary>,
    /// What is wrong with its pointer.
    pub damage: Option<String>,
}

/// A checkpoint of a pipeline.
#[derive(Clone, Debug)]
pub struct CheckpointSummary {
    /// What the pointer says of it.
    pub entry: Entry,
    /// What its manifest says, or why it cannot be read.
    pub content: Result<Content, String>,
}

/// The totals of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The epoch of its barrier.
    pub epoch: Epoch,
    /// Its files.
    pub files: usize,
    /// Their bytes in the store, and inline bytes.
    pub bytes: u64,
    /// Keys of its operators.
    pub keys: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were read and are right.
    pub good_files: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, by object.
    pub damage: Vec<String>,
    /// When it ended.
    pub verified_at: WallMicros,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }
}

/// What [`prune`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What went and what is left.
    pub collected: Collected,
    /// The checkpoints that are not whole, oldest first.
    pub damaged: Vec<Damaged>,
}

/// A checkpoint that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The first thing that is wrong with it.
    pub reason: String,
    /// Whether it stays: it is newer than one that is kept, or none is whole.
    pub is_kept: bool,
}

/// All pipelines of a root and their checkpoints.
///
/// # Errors
/// Errors of the store; damage is part of the answer.
pub async fn list(store: &Store) -> Result<Vec<PipelineSummary>> {
    let mut pipelines = Vec::new();
    for pipeline in store.pipelines().await? {
        let names = store.root().names(&pipeline)?;
        let found = match find_pointer(store, &names).await {
            Ok(found) => found,
            Err(error @ Error::NothingVerifies { .. }) => {
                let (generation, checkpoints) = (Generation(0), Vec::new());
                let damage = Some(error.to_string());
                pipelines.push(PipelineSummary { pipeline, generation, checkpoints, damage });
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(pointer) = found.pointer else { continue };
        let mut checkpoints = Vec::new();
        for entry in pointer.checkpoints {
            let content = match load_manifest(store, &names, &entry).await {
                Ok(manifest) => Ok(content(&manifest)),
                Err(error) if error.is_damage() => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            checkpoints.push(CheckpointSummary { entry, content });
        }
        let (generation, damage) = (pointer.generation, found.damage);
        pipelines.push(PipelineSummary { pipeline, generation, checkpoints, damage });
    }
    Ok(pipelines)
}

fn content(manifest: &Manifest) -> Content {
    let stored: u64 = manifest.all_files().map(|f| f.stored).sum();
    let inline: usize = manifest.inline.iter().map(|p| p.data.0.len()).sum();
    Content {
        epoch: manifest.epoch,
        files: manifest.all_files().count(),
        bytes: stored + inline as u64,
        keys: manifest.operators.iter().map(|o| o.keys).sum(),
    }
}

/// The manifest of a checkpoint, by default of the newest.
///
/// # Errors
/// [`Error::Missing`] when there is no such checkpoint, damage, and errors of the store.
pub async fn show(store: &Store, pipeline: &str, checkpoint: Option<CheckpointId>) -> Result<Manifest> {
    let names = store.root().names(pipeline)?;
    let entry = listed(store, &names, checkpoint).await?;
    load_manifest(store, &names, &entry).await
}

/// Whether the root has checkpoints of a pipeline.
///
/// # Errors
/// Those of the store.
pub async fn has_any(store: &Store, pipeline: &str) -> Result<bool> {
    let found = find_pointer(store, &store.root().names(pipeline)?).await?.pointer;
    Ok(found.is_some_and(|pointer| !pointer.checkpoints.is_empty()))
}

/// Whether a pipeline has a place in the root: its pointer is there, whatever that says. It is until all else of the
/// pipeline is removed.
///
/// # Errors
/// Those of the store.
pub async fn has_place(store: &Store, pipeline: &str) -> Result<bool> {
    let current = store.root().names(pipeline)?.current();
    Ok(store.size(&current).await?.is_some())
}

/// The manifest of the newest checkpoint of which it can be read, which is the first that a restore would try to
/// bring back; none when there are no checkpoints.
///
/// # Errors
/// [`Error::NothingVerifies`] when there are checkpoints and no manifest can be read, and errors of the store.
pub async fn newest(store: &Store, pipeline: &str) -> Result<Option<Manifest>> {
    let names = store.root().names(pipeline)?;
    let Some(pointer) = find_pointer(store, &names).await?.pointer else { return Ok(None) };
    let mut fallbacks = Vec::new();
    for entry in candidates(&pointer) {
        match load_manifest(store, &names, entry).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(error) if error.is_damage() => {
                fallbacks.push(Fallback::of(entry, &error));
            }
            Err(error) => return Err(error),
        }
    }
    none_verifies(pipeline, fallbacks)
}

async fn listed(store: &Store, names: &Names, checkpoint: Option<CheckpointId>) -> Result<Entry> {
    let found = find_pointer(store, names).await?.pointer;
    let entry = found.as_ref().and_then(|pointer| match checkpoint {
        Some(checkpoint) => pointer.entry(checkpoint),
        None => pointer.newest(),
    });
    let what = checkpoint.map_or_else(|| "checkpoints".to_owned(), |c| format!("checkpoint {c}"));
    entry.cloned().ok_or_else(|| Error::Missing { object: format!("{}: {what}", names.base()) })
}

/// Reads every byte of a checkpoint, by default of the newest, and compares lengths and digests.
///
/// # Errors
/// [`Error::Missing`] when there is no such checkpoint, and errors of the store; damage is part of
/// the answer.
pub async fn verify(store: &Store, pipeline: &str, checkpoint: Option<CheckpointId>) -> Result<Report> {
    let names = store.root().names(pipeline)?;
    let entry = listed(store, &names, checkpoint).await?;
    let mut report = Report::default();
    match load_manifest(store, &names, &entry).await {
        Ok(manifest) => {
            let checks: Vec<_> = manifest.all_files().map(|file| verify_file(store, &names, file)).collect();
            let checks: Vec<Result<u64, String>> = futures::stream::iter(checks).buffered(4).try_collect().await?;
            for check in checks {
                match check {
                    Ok(bytes) => {
                        report.good_files += 1;
                        report.bytes += bytes;
                    }
                    Err(damage) => report.damage.push(damage),
                }
            }
        }
        Err(error) if error.is_damage() => report.damage.push(error.to_string()),
        Err(error) => return Err(error),
    }
    report.verified_at = now(store.host());
    Ok(report)
}

async fn verify_file(store: &Store, names: &Names, file: &FileMeta) -> Result<Result<u64, String>> {
    let stored = Measured { length: file.stored, digest: file.stored_digest };
    match check_arrived(store, &names.file(file.id), stored, Verify::Digest).await {
        Ok(()) => Ok(Ok(file.stored)),
        Err(error) if error.is_damage() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Keeps only so many of a pipeline's checkpoints and removes what the others alone needed. One of which
/// something is gone or has another length counts for nothing, so that the newest whole one always stays;
/// nothing is read but manifests.
///
/// # Errors
/// Damage of the pointer, and errors of the store.
pub async fn prune(store: &Store, pipeline: &str, keep: usize, age_guard: Duration) -> Result<Pruned> {
    let damaged = shorten(store, &store.root().names(pipeline)?, Retention { keep }).await?;
    let collected = collect(store, pipeline, age_guard).await?;
    Ok(Pruned { collected, damaged })
}

/// Takes off the list what is not to stay; gives what is not whole of it.
async fn shorten(store: &Store, names: &Names, retention: Retention) -> Result<Vec<Damaged>> {
    let path = names.current();
    for _ in 0..ROUNDS {
        let found = store.get(&path).await?;
        let pointer = Pointer::from_text(path.as_ref(), &found.bytes)?;
        let mut damaged = damaged(store, names, &pointer).await?;
        let lost: Vec<CheckpointId> = damaged.iter().map(|one| one.checkpoint).collect();
        let gone = expired(&pointer.clone().suspecting(&lost).checkpoints, retention);
        for one in &mut damaged {
            one.is_kept = !gone.contains(&one.checkpoint);
        }
        let is_done = if gone.is_empty() {
            // What somebody else took off the list meanwhile is not damaged.
            damaged.is_empty() || store.get(&path).await?.bytes == found.bytes
        } else {
            let text = Bytes::from(pointer.without(&gone).to_text());
            matches!(store.replace(&path, Some(&found), text).await?, Replaced::Done(_))
        };
        if is_done {
            return Ok(damaged);
        }
    }
    Err(contended(&path))
}

/// The listed checkpoints that are not whole, as far as manifests and a listing of the files tell.
async fn damaged(store: &Store, names: &Names, pointer: &Pointer) -> Result<Vec<Damaged>> {
    // Listed after the pointer was read: what it needs was there by then.
    let listing = store.list(names, &names.files()).await?;
    let files = listing.iter().filter_map(|listed| match listed.object {
        Object::File(id) => Some((id, listed.size)),
        _ => None,
    });
    let sizes: BTreeMap<FileId, u64> = files.collect();
    let mut damaged = Vec::new();
    for entry in &pointer.checkpoints {
        let damage = match load_manifest(store, names, entry).await {
            Ok(manifest) => manifest.all_files().find_map(|file| damage_of(names, file, &sizes)),
            Err(error) if error.is_damage() => Some(error),
            Err(error) => return Err(error),
        };
        let checkpoint = entry.checkpoint;
        damaged.extend(damage.map(|damage| Damaged { checkpoint, reason: damage.to_string(), is_kept: true }));
    }
    Ok(damaged)
}

/// What a listing tells to be wrong with a file.
fn damage_of(names: &Names, file: &FileMeta, sizes: &BTreeMap<FileId, u64>) -> Option<Error> {
    let path = names.file(file.id);
    match sizes.get(&file.id) {
        None => Some(Error::Missing { object: path.to_string() }),
        Some(size) if *size != file.stored => {
            Some(Error::corrupt(path, format!("it has {size} bytes instead of {}", file.stored)))
        }
        Some(_) => None,
    }
}

/// Removes everything of a pipeline, and tells whether there was anything of it. First its
/// list is emptied under a new claim, so that nobody publishes or restores what is going away; the pointer
/// goes last, so that a removal which is cut off is not mistaken for a lost pointer. `before_last` is called before
/// that goes, if there was anything: a removal that is cut off later may have left nothing to be found.
///
/// # Errors
/// Errors of the store; what is left is removed by calling it again.
pub async fn delete(store: &Store, pipeline: &str, before_last: impl FnOnce()) -> Result<bool> {
    let names = store.root().names(pipeline)?;
    let owner = FileId::random(store.host()).to_string();
    match edit(store, pipeline, |pointer| {
        let all: Vec<CheckpointId> = pointer.checkpoints.iter().map(|entry| entry.checkpoint).collect();
        Ok(pointer.claimed(owner.clone()).without(&all))
    })
    .await
    {
        // Without a good pointer there is nobody to fence.
        Ok(()) | Err(Error::Missing { .. } | Error::Corrupt { .. }) => {}
        Err(error) => return Err(error),
    }
    let listed = store.list(&names, names.base()).await?;
    // The pointer alone is what a removal leaves that is cut off at its end.
    let was_there = listed.iter().any(|listed| listed.object != Object::Foreign);
    let ours = listed.into_iter().filter(|listed| listed.object != Object::Foreign);
    let (current, rest): (Vec<_>, Vec<_>) = ours.partition(|listed| listed.object == Object::Current);
    delete_all(store, &rest).await?;
    if was_there {
        before_last();
    }
    delete_all(store, &current).await?;
    store.remove_empty(names.base()).await?;
    Ok(was_there)
}

/// Gives a checkpoint a name by which it stays, or takes the name away.
///
/// # Errors
/// [`Error::Missing`] when there is no such checkpoint, damage of the pointer, errors of the store.
pub async fn pin(store: &Store, pipeline: &str, checkpoint: CheckpointId, name: Option<String>) -> Result<()> {
    edit(store, pipeline, |mut pointer| {
        let object = format!("checkpoint {checkpoint} of {pipeline}");
        let entry = pointer.checkpoints.iter_mut().find(|entry| entry.checkpoint == checkpoint);
        entry.ok_or(Error::Missing { object })?.pin.clone_from(&name);
        Ok(pointer)
    })
    .await
}

/// Changes the pointer's list under the claim that holds it.
async fn edit(store: &Store, pipeline: &str, change: impl Fn(Pointer) -> Result<Pointer>) -> Result<()> {
    let names = store.root().names(pipeline)?;
    let path = names.current();
    for _ in 0..ROUNDS {
        let found = store.get(&path).await?;
        let before = Pointer::from_text(path.as_ref(), &found.bytes)?;
        let after = change(before.clone())?;
        if after == before {
            return Ok(());
        }
        if let Replaced::Done(_) = store.replace(&path, Some(&found), Bytes::from(after.to_text())).await? {
            return Ok(());
        }
    }
    Err(contended(&path))
}

fn contended(path: &Path) -> Error {
    Error::Unavailable {
        action: "change",
        object: path.to_string(),
        outcome: Outcome::SurelyNotDone,
        source: "other processes changed it each time".into(),
    }
}
