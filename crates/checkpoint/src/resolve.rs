//! Finds the newest checkpoint that verifies and brings it here.
//!
//! Invariants: nothing in the store changes; a checkpoint is passed over only when it is damaged,
//! never because the store did not answer; when checkpoints exist and none verifies, that is an
//! error, not an empty start.

use crate::collect::is_complete;
use crate::error::{Error, Result};
use crate::fetch::{FetchOptions, RestoredFile, fetch};
use crate::manifest::Manifest;
use crate::names::{Names, Object};
use crate::pointer::{Entry, Pointer};
use crate::publish::CommitPermit;
use crate::restore::{candidates, rebuilt};
use crate::store::{Store, Versioned};
use highwater_core::CheckpointId;
use std::path::Path;

/// Something that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The checkpoint; none for the pointer itself.
    pub checkpoint: Option<CheckpointId>,
    /// What was wrong with it.
    pub reason: String,
}

impl Fallback {
    /// A checkpoint that is damaged.
    pub(crate) fn of(entry: &Entry, damage: &Error) -> Self {
        Self { checkpoint: Some(entry.checkpoint), reason: damage.to_string() }
    }
}

/// A checkpoint that verified, and its files.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What it is.
    pub manifest: Manifest,
    /// Its files, those of outboxes included, in the order of [`Manifest::all_files`].
    pub files: Vec<RestoredFile>,
    /// What was passed over on the way to it, newest first. More than none is worth a warning.
    pub fallbacks: Vec<Fallback>,
    /// Bytes that came from the store.
    pub downloaded_bytes: u64,
    /// Bytes that were hard-linked.
    pub linked_bytes: u64,
    /// Bytes that were here already.
    pub reused_bytes: u64,
}

impl Resolved {
    /// The permission to deliver the outboxes that the checkpoint holds.
    #[must_use]
    pub fn permit(&self) -> CommitPermit {
        CommitPermit::of(&self.manifest)
    }
}

/// The pointer as it is, or as it must have been.
pub(crate) struct Found {
    /// The object, to replace it.
    pub(crate) object: Option<Versioned>,
    /// What it says; none when the pipeline has never been claimed.
    pub(crate) pointer: Option<Pointer>,
    /// Why it had to be made again.
    pub(crate) damage: Option<String>,
}

/// Restores the newest checkpoint of a pipeline that verifies; none when it has none at all. The
/// files are put into `folder`.
///
/// # Errors
/// [`Error::NothingVerifies`] when there are checkpoints and each is damaged; errors of the store
/// and of this machine.
pub async fn resolve(store: &Store, pipeline: &str, folder: &Path, options: FetchOptions) -> Result<Option<Resolved>> {
    let names = store.root().names(pipeline)?;
    let found = find_pointer(store, &names).await?;
    let mut fallbacks = Vec::new();
    if let Some(reason) = found.damage {
        fallbacks.push(Fallback { checkpoint: None, reason });
    }
    let Some(pointer) = found.pointer else { return Ok(None) };
    for entry in candidates(&pointer) {
        match restore_one(store, &names, entry, folder, options).await {
            Ok((manifest, fetched)) => {
                return Ok(Some(Resolved {
                    manifest,
                    files: fetched.files,
                    fallbacks,
                    downloaded_bytes: fetched.downloaded_bytes,
                    linked_bytes: fetched.linked_bytes,
                    reused_bytes: fetched.reused_bytes,
                }));
            }
            Err(error) if error.is_damage() => {
                tracing::error!(pipeline, checkpoint = entry.checkpoint.0, %error,
                    "a checkpoint does not verify; falling back to the one before");
                fallbacks.push(Fallback::of(entry, &error));
            }
            Err(error) => return Err(error),
        }
    }
    none_verifies(pipeline, fallbacks)
}

/// What there is when no checkpoint was found whole: nothing if there was none, else an error.
pub(crate) fn none_verifies<T>(pipeline: &str, fallbacks: Vec<Fallback>) -> Result<Option<T>> {
    if fallbacks.is_empty() {
        return Ok(None);
    }
    Err(Error::NothingVerifies { pipeline: pipeline.to_owned(), fallbacks })
}

async fn restore_one(
    store: &Store,
    names: &Names,
    entry: &Entry,
    folder: &Path,
    options: FetchOptions,
) -> Result<(Manifest, crate::fetch::Fetched)> {
    let manifest = load_manifest(store, names, entry).await?;
    let fetched = fetch(store, names, manifest.all_files(), folder, options).await?;
    Ok((manifest, fetched))
}

/// Reads the manifest of a listed checkpoint and checks that it is the one that was published.
pub(crate) async fn load_manifest(store: &Store, names: &Names, entry: &Entry) -> Result<Manifest> {
    let path = names.checkpoint(entry.checkpoint);
    let bytes = store.get(&path).await?.bytes;
    let manifest = read_manifest(names, entry.checkpoint, &bytes)?;
    if crate::Digest::of(&bytes) != entry.manifest {
        return Err(Error::corrupt(&path, "it is not the manifest that was published"));
    }
    Ok(manifest)
}

/// Reads a manifest's text and checks that it belongs where it was found.
pub(crate) fn read_manifest(names: &Names, checkpoint: CheckpointId, bytes: &[u8]) -> Result<Manifest> {
    let path = names.checkpoint(checkpoint);
    let manifest = Manifest::from_text(path.as_ref(), bytes)?;
    if manifest.checkpoint != checkpoint || manifest.pipeline != names.pipeline() {
        let other = format!("it belongs to checkpoint {} of {}", manifest.checkpoint, manifest.pipeline);
        return Err(Error::corrupt(&path, other));
    }
    Ok(manifest)
}

/// Reads the pointer; when it is damaged, or missing although there are manifests, makes it again
/// from those that are complete.
pub(crate) async fn find_pointer(store: &Store, names: &Names) -> Result<Found> {
    let path = names.current();
    let object = store.find(&path).await?;
    let damage = match &object {
        Some(found) => match Pointer::from_text(path.as_ref(), &found.bytes) {
            Ok(pointer) if pointer.pipeline == names.pipeline() => {
                return Ok(Found { object, pointer: Some(pointer), damage: None });
            }
            Ok(pointer) => format!("{path} belongs to pipeline {}", pointer.pipeline),
            Err(error @ Error::Corrupt { .. }) => error.to_string(),
            Err(error) => return Err(error),
        },
        None => format!("{path} is missing"),
    };
    let (manifests, seen) = complete_manifests(store, names).await?;
    if object.is_none() && seen == 0 {
        return Ok(Found { object, pointer: None, damage: None });
    }
    tracing::error!(
        pipeline = names.pipeline(),
        damage,
        manifests = manifests.len(),
        "the pointer is damaged; its list is made again from the complete manifests"
    );
    if manifests.is_empty() && seen > 0 {
        let fallback = Fallback { checkpoint: None, reason: format!("{damage}; none of {seen} manifests is complete") };
        return Err(Error::NothingVerifies { pipeline: names.pipeline().to_owned(), fallbacks: vec![fallback] });
    }
    Ok(Found { object, pointer: Some(rebuilt(names.pipeline(), manifests)), damage: Some(damage) })
}

async fn complete_manifests(store: &Store, names: &Names) -> Result<(Vec<(Manifest, crate::Digest)>, usize)> {
    let mut complete = Vec::new();
    let mut seen = 0;
    for listed in store.list(names, &names.checkpoints()).await? {
        let Object::Checkpoint(id) = listed.object else { continue };
        seen += 1;
        let Some(found) = store.find(&listed.path).await? else { continue };
        match read_manifest(names, id, &found.bytes) {
            Ok(manifest) if is_complete(store, names, &manifest).await? => {
                complete.push((manifest, crate::Digest::of(&found.bytes)));
            }
            Ok(_) => tracing::error!(checkpoint = id.0, "a manifest has lost files and is passed over"),
            Err(error) if error.is_damage() => {
                tracing::error!(checkpoint = id.0, %error, "a manifest is damaged and passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((complete, seen))
}
