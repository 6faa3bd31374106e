//! Removes what no listed checkpoint needs: mark and sweep over one listing.
//!
//! What is safe to remove rests on three facts, which [`crate::publish`] keeps:
//! 1. A checkpoint is restored only when the pointer lists it, and leaves the list before anything
//!    of it is removed. So restore never picks a manifest whose data are going.
//! 2. Numbers only grow: a manifest that is not listed although a later number is will never be. It
//!    was expired, or its publishing failed and was overtaken. What it alone references goes at
//!    once, and the manifest after its data: it is the record of them, so a sweep that is cut off
//!    finds them again.
//! 3. Whatever is published later references files of the checkpoint that it continues, if that is
//!    listed at that moment, or files that no overtaken manifest references and that were uploaded at
//!    most half an age guard before. So an unknown file is removed when
//!    it is older than the whole guard by the store's own time, which leaves the other half for the
//!    difference of clocks and for a publishing under way.
//!
//! The pointer is read after the listing: what was published in between is marked. A listed manifest
//! that cannot be read blocks the sweep of files, because nobody knows what it needs.

use crate::error::{Error, Result};
use crate::host::now;
use crate::manifest::Manifest;
use crate::names::{FileId, Names, Object};
use crate::pointer::Pointer;
use crate::resolve::{load_manifest, read_manifest};
use crate::store::{Listed, Store, Verify};
use crate::upload::check_arrived;
use futures::{StreamExt, TryStreamExt};
use highwater_core::{CheckpointId, WallMicros};
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The default age at which an unknown file is taken for garbage. Half of it is the longest that a checkpoint can take
/// from its first file to its publishing, on the slowest store.
pub const AGE_GUARD: Duration = Duration::from_secs(6 * 3600);

/// So many objects are looked up or deleted at once.
const PARALLEL: usize = 8;

/// What the sweep rests on.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// The checkpoints that the pointer lists.
    pub listed: &'a BTreeSet<CheckpointId>,
    /// The files that they reference; none when one of them cannot be read.
    pub referenced: Option<&'a BTreeSet<FileId>>,
    /// The files that overtaken manifests reference.
    pub overtaken: &'a BTreeSet<FileId>,
    /// The time, read before the listing was made.
    pub now: WallMicros,
    /// The age of garbage.
    pub age_guard: Duration,
}

/// What to do with a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to delete, first.
    pub data: Vec<Listed>,
    /// Manifests to delete, when all data are gone.
    pub manifests: Vec<Listed>,
    /// Files that listed checkpoints reference.
    pub kept: Vec<Listed>,
    /// Files that are too young to be judged.
    pub young: Vec<Listed>,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files that stay.
    pub kept_files: usize,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Files that were removed.
    pub removed_files: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Manifests that were removed.
    pub removed_manifests: usize,
    /// Unknown files that are too young to be judged.
    pub young_files: usize,
    /// Why no file was removed: a listed checkpoint that cannot be read.
    pub blocked: Option<String>,
}

/// Decides what a sweep removes. Pure.
#[must_use]
pub fn plan(listing: &[Listed], marks: Marks<'_>) -> Plan {
    let mut plan = Plan::default();
    for object in listing {
        let age = marks.now.0.saturating_sub(object.modified.0);
        let is_old = age > 0 && age as u128 > marks.age_guard.as_micros();
        match object.object {
            Object::File(id) => match marks.referenced {
                Some(referenced) if !referenced.contains(&id) => {
                    let to = if is_old || marks.overtaken.contains(&id) { &mut plan.data } else { &mut plan.young };
                    to.push(object.clone());
                }
                _ => plan.kept.push(object.clone()),
            },
            Object::Checkpoint(id) if !marks.listed.contains(&id) => {
                // While files are blocked the manifest stays as their record.
                let known = marks.referenced.is_some();
                if known && (is_overtaken(id, marks.listed) || is_old) {
                    plan.manifests.push(object.clone());
                }
            }
            Object::Temporary if is_old => plan.data.push(object.clone()),
            Object::Temporary | Object::Checkpoint(_) | Object::Current | Object::Foreign => {}
        }
    }
    plan
}

/// Whether a manifest that is not listed can never be.
fn is_overtaken(id: CheckpointId, listed: &BTreeSet<CheckpointId>) -> bool {
    !listed.contains(&id) && listed.last().is_some_and(|newest| id < *newest)
}

/// Sweeps one pipeline again and again; remembers what manifests reference, as they never change.
#[derive(Debug)]
pub struct Collector {
    store: Store,
    names: Names,
    age_guard: Duration,
    references: BTreeMap<CheckpointId, BTreeSet<FileId>>,
}

/// One sweep of one pipeline.
///
/// # Errors
/// As [`Collector::collect`].
pub async fn collect(store: &Store, pipeline: &str, age_guard: Duration) -> Result<Collected> {
    Collector::new(store, pipeline, age_guard)?.collect().await
}

impl Collector {
    /// A collector with an age guard; see [`AGE_GUARD`].
    ///
    /// # Errors
    /// [`Error::Config`] when the pipeline's name cannot be one.
    pub fn new(store: &Store, pipeline: &str, age_guard: Duration) -> Result<Self> {
        let names = store.root().names(pipeline)?;
        Ok(Self { store: store.clone(), names, age_guard, references: BTreeMap::new() })
    }

    /// Removes what no listed checkpoint needs. May run at any time, beside anything.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the pointer is damaged: nothing is removed. Errors of the store.
    pub async fn collect(&mut self) -> Result<Collected> {
        let now = now(self.store.host());
        let listing = self.store.list(&self.names, self.names.base()).await?;
        let path = self.names.current();
        let Some(found) = self.store.find(&path).await? else { return Ok(Collected::default()) };
        let pointer = Pointer::from_text(path.as_ref(), &found.bytes)?;
        let listed: BTreeSet<CheckpointId> = pointer.checkpoints.iter().map(|e| e.checkpoint).collect();
        let (referenced, blocked) = match self.mark_listed(&pointer).await {
            Ok(referenced) => (Some(referenced), None),
            Err(error) if error.is_damage() => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let overtaken = if blocked.is_none() { self.mark_overtaken(&listing, &listed).await? } else { BTreeSet::new() };
        let marks = Marks {
            listed: &listed,
            referenced: referenced.as_ref(),
            overtaken: &overtaken,
            now,
            age_guard: self.age_guard,
        };
        let plan = plan(&listing, marks);
        delete_all(&self.store, &plan.data).await?;
        delete_all(&self.store, &plan.manifests).await?;
        self.references.retain(|id, _| listed.contains(id));
        Ok(Collected { blocked, ..summary(&plan) })
    }

    async fn mark_listed(&mut self, pointer: &Pointer) -> Result<BTreeSet<FileId>> {
        let mut referenced = BTreeSet::new();
        for entry in &pointer.checkpoints {
            if !self.references.contains_key(&entry.checkpoint) {
                let manifest = load_manifest(&self.store, &self.names, entry).await?;
                self.references.insert(entry.checkpoint, manifest.all_files().map(|f| f.id).collect());
            }
            referenced.extend(&self.references[&entry.checkpoint]);
        }
        Ok(referenced)
    }

    async fn mark_overtaken(&self, listing: &[Listed], listed: &BTreeSet<CheckpointId>) -> Result<BTreeSet<FileId>> {
        let mut overtaken = BTreeSet::new();
        for object in listing {
            let Object::Checkpoint(id) = object.object else { continue };
            if !is_overtaken(id, listed) {
                continue;
            }
            let Some(found) = self.store.find(&object.path).await? else { continue };
            match read_manifest(&self.names, id, &found.bytes) {
                Ok(manifest) => overtaken.extend(manifest.all_files().map(|f| f.id)),
                // Its files wait for the age guard.
                Err(error) => tracing::warn!(%error, "an overtaken manifest cannot be read"),
            }
        }
        Ok(overtaken)
    }
}

/// Deletes objects, several at once.
pub(crate) async fn delete_all(store: &Store, objects: &[Listed]) -> Result<()> {
    let paths: Vec<&Path> = objects.iter().map(|object| &object.path).collect();
    let deletes: Vec<_> = paths.into_iter().map(|path| store.delete(path)).collect();
    futures::stream::iter(deletes).buffered(PARALLEL).try_collect().await
}

fn summary(plan: &Plan) -> Collected {
    let bytes = |objects: &[Listed]| objects.iter().map(|object| object.size).sum();
    Collected {
        kept_files: plan.kept.len(),
        kept_bytes: bytes(&plan.kept),
        removed_files: plan.data.len(),
        removed_bytes: bytes(&plan.data),
        removed_manifests: plan.manifests.len(),
        young_files: plan.young.len(),
        blocked: None,
    }
}

/// Whether all files of a manifest are in the store with their lengths.
pub(crate) async fn is_complete(store: &Store, names: &Names, manifest: &Manifest) -> Result<bool> {
    let checks: Vec<_> = manifest
        .all_files()
        .map(|file| async move {
            let stored = crate::compress::Measured { length: file.stored, digest: file.stored_digest };
            check_arrived(store, &names.file(file.id), stored, Verify::Length).await
        })
        .collect();
    let done: Result<()> = futures::stream::iter(checks).buffered(PARALLEL).try_collect().await;
    match done {
        Ok(()) => Ok(true),
        Err(Error::Missing { .. } | Error::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
