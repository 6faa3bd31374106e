//! Claims a pipeline and makes checkpoints official: one put-if-absent of the manifest, one
//! compare-and-set of the pointer, under the generation of the claim.
//!
//! Invariants:
//! - a listed checkpoint is complete: each of its files is referenced by the listed checkpoint that
//!   it continues, or was uploaded so recently that collection leaves it alone;
//! - a process whose claim was taken publishes nothing and gets [`Error::Fenced`];
//! - a number that was listed is never listed for another manifest. (A process that is long fenced
//!   may still write a manifest under a number that was used and removed: nobody lists it.)

use crate::digest::Digest;
use crate::encoding::to_hex;
use crate::error::{Error, Outcome, Result};
use crate::host::now;
use crate::manifest::{FORMAT, FileMeta, Manifest};
use crate::names::{FileId, Names, Object};
use crate::pointer::{self, Entry, Pointer};
use crate::resolve::{Resolved, find_pointer};
use crate::retention::{Retention, expired};
use crate::store::{Created, Replaced, Store, Versioned};
use crate::upload::is_stale;
use bytes::Bytes;
use highwater_core::{CheckpointId, Generation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often a compare-and-set that others keep winning is tried.
const ROUNDS: usize = 32;

/// How to publish.
#[derive(Clone, Copy, Debug)]
pub struct PublishOptions {
    /// Which checkpoints stay listed.
    pub retention: Retention,
    /// For so long an uploaded file is trusted to be there although no checkpoint lists it. At most
    /// half of the age guard of collection.
    pub trust: Duration,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { retention: Retention::default(), trust: crate::collect::AGE_GUARD / 2 }
    }
}

/// The claim of one process on one pipeline.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    names: Names,
    options: PublishOptions,
    object: Versioned,
    pointer: Pointer,
    next: CheckpointId,
    parent: Parent,
    /// Attempts whose outcome is unknown: the store may yet carry them out.
    pending: BTreeMap<CheckpointId, BTreeSet<FileId>>,
    suspects: Vec<CheckpointId>,
    repaired: Option<String>,
}

/// The checkpoint that the next one continues.
#[derive(Clone, Debug, Default)]
struct Parent {
    checkpoint: Option<CheckpointId>,
    files: BTreeSet<FileId>,
}

/// A checkpoint that is official.
#[derive(Clone, Debug)]
pub struct Published {
    /// As it was written, with its final number.
    pub manifest: Arc<Manifest>,
    /// The digest of its text.
    pub digest: Digest,
    /// Bytes of its text.
    pub bytes: u64,
    /// Checkpoints that left the list with it; [`crate::collect()`] removes them.
    pub expired: Vec<CheckpointId>,
}

impl Published {
    /// The permission to deliver the outboxes that the checkpoint holds.
    #[must_use]
    pub fn permit(&self) -> CommitPermit {
        CommitPermit::of(&self.manifest)
    }
}

/// The permission to deliver what a checkpoint holds for its sinks: only a published manifest
/// yields it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPermit {
    checkpoint: CheckpointId,
    generation: Generation,
}

impl CommitPermit {
    pub(crate) const fn of(manifest: &Manifest) -> Self {
        Self { checkpoint: manifest.checkpoint, generation: manifest.generation }
    }

    /// The checkpoint: the fence that the sink moves.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// The claim under which it was published.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }
}

impl Publisher {
    /// Takes the pipeline over: every earlier claim can publish no more. Restore only after this.
    ///
    /// # Errors
    /// [`Error::NothingVerifies`] when the pointer is lost and no manifest is complete; errors of
    /// the store.
    pub async fn claim(store: &Store, pipeline: &str, options: PublishOptions) -> Result<Self> {
        Self::claim_beside(store, pipeline, options, None).await
    }

    /// The same; where the pipeline has nothing in a local root yet, only beside a pipeline that is known to be claimed
    /// there, which may be itself. A root that is not mounted is not taken for one that is empty.
    ///
    /// # Errors
    /// As [`Publisher::claim`], and [`Error::Missing`] when that one is not there.
    pub async fn claim_beside(
        store: &Store,
        pipeline: &str,
        options: PublishOptions,
        beside: Option<&str>,
    ) -> Result<Self> {
        let names = store.root().names(pipeline)?;
        let beside = beside.map(|beside| store.root().names(beside)).transpose()?;
        let owner = FileId::random(store.host()).to_string();
        for _ in 0..ROUNDS {
            let found = find_pointer(store, &names).await?;
            if found.pointer.is_none() {
                store.make_place(&names, beside.as_ref()).await?;
            }
            let before = found.pointer.unwrap_or_else(|| unclaimed(pipeline));
            let (pointer, done) = match found.object {
                // An attempt whose reply was lost, and somebody has changed the list since.
                Some(object) if before.owner == owner => (before, Replaced::Done(object)),
                object => {
                    let pointer = before.claimed(owner.clone());
                    let text = Bytes::from(pointer.to_text());
                    let done = store.replace(&names.current(), object.as_ref(), text).await?;
                    (pointer, done)
                }
            };
            if let Replaced::Done(object) = done {
                let next = next_number(store, &names, &pointer).await?;
                return Ok(Self {
                    store: store.clone(),
                    names,
                    options,
                    object,
                    pointer,
                    next,
                    parent: Parent::default(),
                    pending: BTreeMap::new(),
                    suspects: Vec::new(),
                    repaired: found.damage,
                });
            }
        }
        Err(contended("claim", &names))
    }

    /// The claim's number.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.pointer.generation
    }

    /// The number that the next checkpoint will most likely get; it may get a higher one.
    #[must_use]
    pub const fn next_checkpoint(&self) -> CheckpointId {
        self.next
    }

    /// From now on, checkpoints have numbers above this one, which somebody outside knows of.
    pub fn go_beyond(&mut self, number: CheckpointId) {
        self.next = self.next.max(number.next());
    }

    /// Why the claim had to make the pointer again, when it was lost or damaged; worth a warning.
    #[must_use]
    pub fn repaired(&self) -> Option<&str> {
        self.repaired.as_deref()
    }

    /// The pointer as it was last seen.
    #[must_use]
    pub const fn pointer(&self) -> &Pointer {
        &self.pointer
    }

    /// Learns which checkpoint the process went on from. What was passed over is marked with the
    /// next publishing.
    pub fn restored(&mut self, resolved: &Resolved) {
        self.parent = Parent::of(&resolved.manifest);
        self.suspects = resolved.fallbacks.iter().filter_map(|f| f.checkpoint).collect();
    }

    /// From now on, so many checkpoints stay listed.
    pub const fn set_retention(&mut self, retention: Retention) {
        self.options.retention = retention;
    }

    /// Publishes a checkpoint. Sets `format`, `checkpoint`, `generation` and `parent` of the
    /// manifest; its files must be in the store. A file that an earlier checkpoint held and a later
    /// one did not must not come back: it may be gone. ([`crate::Uploader`] sees to that.)
    ///
    /// # Errors
    /// [`Error::Fenced`]: stop. [`Error::Stale`]: upload again, see [`crate::Uploader::forget`].
    /// [`Error::Missing`]: a local root has no claim, as it is not mounted; nothing is put into its place.
    /// Errors of the store: nothing is lost, the next checkpoint may succeed; when the outcome is
    /// unknown it may become official later, which does no harm.
    pub async fn publish(&mut self, mut manifest: Manifest) -> Result<Published> {
        manifest.format = FORMAT;
        manifest.generation = self.pointer.generation;
        manifest.parent = self.parent.checkpoint;
        if manifest.pipeline != self.names.pipeline() {
            return Err(Error::config(format!("a manifest of {} cannot be published here", manifest.pipeline)));
        }
        manifest.checkpoint = self.next;
        self.check_trust(&manifest)?;
        let (manifest, digest, bytes) = self.write_manifest(manifest).await?;
        let files: BTreeSet<FileId> = manifest.all_files().map(|file| file.id).collect();
        let entry = Entry {
            checkpoint: manifest.checkpoint,
            generation: manifest.generation,
            wall: manifest.wall,
            manifest: digest,
            suspect: false,
            pin: None,
        };
        self.pending.insert(manifest.checkpoint, files.clone());
        let expired = self.list(entry, &manifest).await?;
        self.parent = Parent { checkpoint: Some(manifest.checkpoint), files };
        self.pending.clear();
        self.suspects.clear();
        Ok(Published { manifest: Arc::new(manifest), digest, bytes, expired })
    }

    /// Writes the manifest under the first number that is free.
    async fn write_manifest(&mut self, mut manifest: Manifest) -> Result<(Manifest, Digest, u64)> {
        for _ in 0..ROUNDS {
            let number = self.next;
            renumber(&mut manifest, number);
            let (text, digest) = manifest.to_text()?;
            let bytes = text.len() as u64;
            // Used up even when the write fails: it may yet arrive.
            self.next = number.next();
            if self.store.create(&self.names.checkpoint(number), Bytes::from(text)).await? == Created::Done {
                return Ok((manifest, digest, bytes));
            }
            tracing::warn!(
                pipeline = self.names.pipeline(),
                checkpoint = number.0,
                "an earlier attempt left a manifest with this number; the next number is taken"
            );
        }
        Err(contended("write a manifest of", &self.names))
    }

    /// Puts the entry on the pointer's list; gives what left it.
    async fn list(&mut self, entry: Entry, manifest: &Manifest) -> Result<Vec<CheckpointId>> {
        for _ in 0..ROUNDS {
            self.check_trust(manifest)?;
            let longer = self.pointer.clone().suspecting(&self.suspects).with(entry.clone());
            let expired = expired(&longer.checkpoints, self.options.retention);
            let pointer = longer.without(&expired);
            let text = Bytes::from(pointer.to_text());
            match self.store.replace(&self.names.current(), Some(&self.object), text).await? {
                Replaced::Done(object) => {
                    (self.object, self.pointer) = (object, pointer);
                    return Ok(expired);
                }
                Replaced::Lost(found) => self.look_again(found)?,
            }
            if self.pointer.entry(entry.checkpoint).is_some_and(|e| e.manifest == entry.manifest) {
                return Ok(Vec::new());
            }
        }
        Err(contended("publish", &self.names))
    }

    /// Takes in a pointer that somebody else changed: this is where a lost claim shows.
    fn look_again(&mut self, found: Option<Versioned>) -> Result<()> {
        let path = self.names.current();
        let found = found.ok_or_else(|| Error::Missing { object: path.to_string() })?;
        let pointer = Pointer::from_text(path.as_ref(), &found.bytes)?;
        if pointer.owner != self.pointer.owner {
            return Err(Error::Fenced {
                pipeline: self.names.pipeline().to_owned(),
                ours: self.pointer.generation,
                theirs: pointer.generation,
            });
        }
        (self.object, self.pointer) = (found, pointer);
        // An attempt whose outcome was unknown has been carried out: the next one continues it.
        let late = self.pointer.checkpoints.iter().rev().map(|e| e.checkpoint).find(|c| self.pending.contains_key(c));
        if let Some(late) = late {
            let files = self.pending.remove(&late).unwrap_or_default();
            self.parent = Parent { checkpoint: Some(late), files };
        }
        Ok(())
    }

    /// Refuses files that collection may have removed. Those of the parent are safe while it is
    /// listed and may be gone when it is not, however young; others are safe while they are young.
    fn check_trust(&self, manifest: &Manifest) -> Result<()> {
        let is_listed = self.parent.checkpoint.is_some_and(|parent| self.pointer.entry(parent).is_some());
        let now = now(self.store.host());
        let is_doubtful = |file: &&FileMeta| match self.parent.files.contains(&file.id) {
            true => !is_listed,
            false => is_stale(file, now, self.options.trust),
        };
        match manifest.all_files().find(is_doubtful) {
            None => Ok(()),
            Some(file) => Err(Error::Stale {
                pipeline: manifest.pipeline.clone(),
                checkpoint: manifest.checkpoint,
                reason: format!("nobody can be sure that file {} is still there", file.id),
            }),
        }
    }
}

impl Parent {
    fn of(manifest: &Manifest) -> Self {
        Self { checkpoint: Some(manifest.checkpoint), files: manifest.all_files().map(|file| file.id).collect() }
    }
}

/// Gives a manifest its number, and the files that were made for it.
fn renumber(manifest: &mut Manifest, number: CheckpointId) {
    let before = std::mem::replace(&mut manifest.checkpoint, number);
    for file in manifest.files.iter_mut().filter(|file| file.created_for == before) {
        file.created_for = number;
    }
}

/// The pointer of a pipeline that nobody has claimed yet.
fn unclaimed(pipeline: &str) -> Pointer {
    Pointer {
        format: pointer::FORMAT,
        pipeline: pipeline.to_owned(),
        generation: Generation(0),
        owner: to_hex(&[]),
        checkpoints: Vec::new(),
    }
}

/// The first number after all that were ever used, by dead attempts too.
async fn next_number(store: &Store, names: &Names, pointer: &Pointer) -> Result<CheckpointId> {
    let listed = store.list(names, &names.checkpoints()).await?;
    let used = listed.iter().filter_map(|l| if let Object::Checkpoint(id) = l.object { Some(id) } else { None });
    let last = used.chain(pointer.newest().map(|e| e.checkpoint)).max();
    Ok(last.map_or(CheckpointId(1), CheckpointId::next))
}

fn contended(action: &'static str, names: &Names) -> Error {
    Error::Unavailable {
        action,
        object: names.current().to_string(),
        outcome: Outcome::SurelyNotDone,
        source: "other processes changed it each time".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Trigger;

    #[tokio::test]
    async fn a_root_that_is_away_while_one_publishes_has_nothing_put_into_its_place() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (place, away) = (folder.path().join("root"), folder.path().join("away"));
        let store = Store::open(place.to_str().expect("text"))?;
        let mut publisher = Publisher::claim(&store, "p", PublishOptions::default()).await?;
        let first = publisher.publish(Manifest::draft("p", Trigger::Manual)).await?;
        for leaves_a_folder in [true, false] {
            std::fs::rename(&place, &away).expect("it is unmounted");
            if leaves_a_folder {
                std::fs::create_dir(&place).expect("an empty folder is left");
            }
            let missed = publisher.publish(Manifest::draft("p", Trigger::Manual)).await;
            assert!(matches!(missed, Err(Error::Missing { .. })), "{missed:?}");
            assert_eq!(place.exists(), leaves_a_folder);
            if leaves_a_folder {
                // Also after a kill: what is there would be gone on from, or taken for damage.
                std::fs::remove_dir(&place).expect("it is empty, and hidden");
            }
            std::fs::rename(&away, &place).expect("it is mounted again");
        }
        let second = publisher.publish(Manifest::draft("p", Trigger::Manual)).await?;
        assert!(second.manifest.checkpoint > first.manifest.checkpoint);
        assert_eq!(second.manifest.parent, Some(first.manifest.checkpoint));
        Ok(())
    }
    #[tokio::test]
    async fn a_root_that_went_away_before_a_claim_gets_no_place_for_it() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (place, away) = (folder.path().join("root"), folder.path().join("away"));
        let store = Store::open(place.to_str().expect("text"))?;
        let options = PublishOptions::default();
        drop(Publisher::claim(&store, "p", options).await?);
        for leaves_a_folder in [true, false] {
            std::fs::rename(&place, &away).expect("it is unmounted");
            if leaves_a_folder {
                std::fs::create_dir(&place).expect("an empty folder is left");
            }
            for (claimed, beside) in [("q", "p"), ("p", "p")] {
                let missed = Publisher::claim_beside(&store, claimed, options, Some(beside)).await;
                assert!(matches!(missed, Err(Error::Missing { .. })), "{missed:?}");
            }
            assert_eq!(place.exists(), leaves_a_folder);
            if leaves_a_folder {
                std::fs::remove_dir(&place).expect("it is empty, and hidden");
            }
            std::fs::rename(&away, &place).expect("it is mounted again");
        }
        let claimed = Publisher::claim_beside(&store, "q", options, Some("p")).await?;
        assert_eq!(claimed.generation(), Generation(1));
        let again = Publisher::claim_beside(&store, "p", options, Some("p")).await?;
        assert_eq!(again.generation(), Generation(2));
        Ok(())
    }
}
