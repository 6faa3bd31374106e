//! What the simulation knows of a run: what the store holds, what was seen, and the first invariant
//! that was broken.
//!
//! Invariant: every change of the store passes through [`World::wrote`], [`World::deleted`] or
//! [`World::rot`], where the invariants are checked.

use crate::executor::SimHost;
use crate::invariants::{self, Objects, Verdict};
use crate::model::Counters;
use crate::trace::Trace;
use bytes::Bytes;
use highwater_checkpoint::{Digest, Host, Manifest, Names, Object, Pointer};
use highwater_core::{CheckpointId, Epoch, Generation, WallMicros};
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that began.
    pub processes: u64,
    /// Processes that crashed.
    pub crashes: u64,
    /// Processes that learned that they were fenced.
    pub fenced: u64,
    /// Checkpoints that were confirmed.
    pub published: u64,
    /// Checkpoints that failed.
    pub failed: u64,
    /// Checkpoints that were refused because their files had waited too long.
    pub stale: u64,
    /// Restores.
    pub restored: u64,
    /// Checkpoints that restores passed over.
    pub fallbacks: u64,
    /// Calls that went wrong.
    pub faults: u64,
    /// Objects that rotted.
    pub rotten: u64,
    /// Objects that collection deleted.
    pub deleted: u64,
}

/// One run's world. Shared by all its processes.
#[derive(Debug)]
pub struct World {
    /// The machine.
    pub host: SimHost,
    /// The names of the one pipeline.
    pub names: Names,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    objects: Objects,
    modified: BTreeMap<Path, WallMicros>,
    written: BTreeMap<Path, Digest>,
    rotten: BTreeMap<Path, Option<Bytes>>,
    pointer: Option<Pointer>,
    expected: BTreeMap<Epoch, Counters>,
    epochs: u64,
    listed: BTreeMap<CheckpointId, Digest>,
    fenced: BTreeSet<Generation>,
    confirmed: Option<CheckpointId>,
    violation: Option<String>,
    counts: Counts,
    trace: Trace,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(host: SimHost, names: Names) -> Self {
        Self { host, names, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // One thread: poisoned only when the run has panicked already.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the trace.
    pub fn tell(&self, what: impl AsRef<str>) {
        let at = self.host.clock().monotonic();
        self.seen().trace.add(at, what.as_ref());
    }

    /// Counts something.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.seen().counts);
    }

    /// Whether everything held so far.
    ///
    /// # Errors
    /// The first invariant that did not.
    pub fn verdict(&self) -> Verdict {
        self.seen().violation.clone().map_or(Ok(()), Err)
    }

    /// Keeps the first broken invariant.
    pub fn judge(&self, name: &str, verdict: Verdict) {
        if let Err(reason) = verdict {
            self.tell(format!("BROKEN {name}: {reason}"));
            self.seen().violation.get_or_insert(format!("{name}: {reason}"));
        }
    }

    /// The end of a run: counts, trace lines and their digest.
    #[must_use]
    pub fn end(&self) -> (Counts, Vec<String>, Digest) {
        let seen = self.seen();
        (seen.counts, seen.trace.lines().to_vec(), seen.trace.digest())
    }

    /// The pointer as the store holds it; none before the first claim.
    #[must_use]
    pub fn pointer(&self) -> Option<Pointer> {
        self.seen().pointer.clone()
    }

    /// A new epoch, and what the counters are at it.
    pub fn expect(&self, counters: &Counters) -> Epoch {
        let mut seen = self.seen();
        seen.epochs += 1;
        let epoch = Epoch(seen.epochs);
        seen.expected.insert(epoch, counters.clone());
        epoch
    }

    /// Compares a restored state with the model.
    pub fn restored(&self, epoch: Epoch, counters: &Counters) {
        let verdict = invariants::a_restored_state_equals_the_model(self.seen().expected.get(&epoch), counters);
        self.judge("a restored state equals the model", verdict);
    }

    /// A process was told that its checkpoint is published.
    pub fn confirmed(&self, checkpoint: CheckpointId, manifest: Digest) {
        let verdict = {
            let mut seen = self.seen();
            seen.confirmed = seen.confirmed.max(Some(checkpoint));
            seen.counts.published += 1;
            let listed = seen.pointer.as_ref().and_then(|p| p.newest()).is_some_and(|e| e.checkpoint >= checkpoint);
            let written = seen.written.get(&self.names.checkpoint(checkpoint)) == Some(&manifest);
            if listed && written { Ok(()) } else { Err(format!("checkpoint {checkpoint} is not listed")) }
        };
        self.judge("what is confirmed is published", verdict);
    }

    /// A process was told that it is fenced.
    pub fn fenced(&self, generation: Generation) {
        let mut seen = self.seen();
        seen.fenced.insert(generation);
        seen.counts.fenced += 1;
    }

    /// When the store received an object.
    #[must_use]
    pub fn modified(&self, path: &Path) -> Option<WallMicros> {
        self.seen().modified.get(path).copied()
    }

    /// The store wrote an object.
    pub fn wrote(&self, path: &Path, bytes: &Bytes) {
        self.tell(format!("  store wrote {} ({} bytes)", short(path), bytes.len()));
        let now = self.host.clock().wall();
        let mut verdicts = Vec::new();
        {
            let mut seen = self.seen();
            let reused = invariants::names_are_never_reused(&self.names, &seen.written, &seen.objects, path, bytes);
            verdicts.push(("names are never reused", reused));
            seen.objects.insert(path.clone(), bytes.clone());
            seen.modified.insert(path.clone(), now);
            match seen.rotten.get(path) {
                // A dead attempt at the place of what was lost does not bring it back.
                Some(original) if original.as_ref() != Some(bytes) => {}
                _ => {
                    seen.written.insert(path.clone(), Digest::of(bytes));
                    seen.rotten.remove(path);
                }
            }
            if self.names.parse(path) == Object::Current {
                verdicts.extend(seen.pointer_moved(&self.names, bytes));
            }
        }
        for (name, verdict) in verdicts {
            self.judge(name, verdict);
        }
    }

    /// The store deleted an object.
    pub fn deleted(&self, path: &Path) {
        let verdict = {
            let mut seen = self.seen();
            if seen.objects.remove(path).is_none() {
                return;
            }
            seen.counts.deleted += 1;
            let pointer = seen.pointer.as_ref();
            pointer.map_or(Ok(()), |p| invariants::nothing_referenced_is_deleted(&self.names, &seen.objects, p, path))
        };
        self.tell(format!("  store deleted {}", short(path)));
        self.judge("nothing referenced is deleted", verdict);
    }

    /// An object that is to rot: its name, its bytes now, and what remains of them (none: lost).
    /// One of a listed checkpoint, so that it is noticed.
    #[must_use]
    pub fn choose_rot(&self) -> Option<(Path, Option<Bytes>)> {
        let seen = self.seen();
        let pointer = seen.pointer.as_ref()?;
        let at = self.host.below(pointer.checkpoints.len().max(1) as u64) as usize;
        let manifest_path = self.names.checkpoint(pointer.checkpoints.get(at)?.checkpoint);
        let text = seen.objects.get(&manifest_path)?;
        let manifest = Manifest::from_text(manifest_path.as_ref(), text).ok()?;
        let mut paths: Vec<Path> = manifest.all_files().map(|file| self.names.file(file.id)).collect();
        paths.push(manifest_path);
        let path = paths.swap_remove(self.host.below(paths.len() as u64) as usize);
        let bytes = seen.objects.get(&path)?;
        let left = match self.host.below(3) {
            0 => None,
            1 => Some(bytes.slice(..bytes.len() / 2)),
            _ => {
                let mut flipped = bytes.to_vec();
                let at = self.host.below(flipped.len().max(1) as u64) as usize;
                *flipped.get_mut(at)? ^= 1 << self.host.below(8);
                Some(Bytes::from(flipped))
            }
        };
        Some((path, left))
    }

    /// An object has rotted.
    pub fn rot(&self, path: &Path, left: Option<&Bytes>) {
        self.tell(format!("  {} rots: {:?} bytes are left", short(path), left.map(Bytes::len)));
        let mut seen = self.seen();
        seen.counts.rotten += 1;
        let before = match left {
            Some(left) => seen.objects.insert(path.clone(), left.clone()),
            None => seen.objects.remove(path),
        };
        seen.rotten.entry(path.clone()).or_insert(before);
    }

    /// What rotted and is to be brought back, as an operator does from another disk.
    #[must_use]
    pub fn healing(&self) -> Vec<(Path, Bytes)> {
        let rotten = self.seen().rotten.clone();
        rotten.into_iter().filter_map(|(path, before)| Some((path, before?))).collect()
    }

    /// The listed checkpoints of which something has rotted.
    #[must_use]
    pub fn damaged(&self, pointer: &Pointer) -> BTreeSet<CheckpointId> {
        let seen = self.seen();
        let is_damaged = |checkpoint: &CheckpointId| {
            let path = self.names.checkpoint(*checkpoint);
            let Some(text) = seen.objects.get(&path).filter(|_| !seen.rotten.contains_key(&path)) else { return true };
            let manifest = Manifest::from_text(path.as_ref(), text);
            manifest.is_ok_and(|m| m.all_files().any(|file| seen.rotten.contains_key(&self.names.file(file.id))))
        };
        pointer.checkpoints.iter().map(|e| e.checkpoint).filter(is_damaged).collect()
    }
}

impl Seen {
    /// The pointer was written: by far the most that can go wrong.
    fn pointer_moved(&mut self, names: &Names, bytes: &Bytes) -> Vec<(&'static str, Verdict)> {
        let after = match Pointer::from_text("current", bytes) {
            Ok(after) => after,
            Err(error) => return vec![("the pointer is whole", Err(error.to_string()))],
        };
        let rotten = self.rotten.keys().cloned().collect();
        let mut verdicts = vec![(
            "nothing published is incomplete",
            invariants::nothing_published_is_incomplete(names, &self.objects, &after, &rotten),
        )];
        verdicts
            .push(("a number means one checkpoint", invariants::a_number_means_one_checkpoint(&self.listed, &after)));
        self.listed.extend(after.checkpoints.iter().map(|e| (e.checkpoint, e.manifest)));
        if let Some(before) = &self.pointer {
            verdicts.push(("the pointer moves forward", invariants::the_pointer_moves_forward(before, &after)));
            verdicts.push((
                "a fenced process publishes nothing",
                invariants::a_fenced_process_publishes_nothing(&self.fenced, before, &after),
            ));
        }
        if let Some(confirmed) = self.confirmed {
            verdicts.push((
                "a confirmed checkpoint is not lost",
                invariants::a_confirmed_checkpoint_is_not_lost(confirmed, &after),
            ));
        }
        self.pointer = Some(after);
        verdicts
    }
}

/// The last part of a name, which tells it apart well enough.
fn short(path: &Path) -> String {
    let name = path.filename().unwrap_or_default();
    name.get(..8).filter(|_| name.ends_with(".sst")).unwrap_or(name).trim_start_matches('0').to_owned()
}
