//! Which checkpoint to restore, and what a lost pointer must have listed. Pure; reading is
//! [`crate::resolve()`]'s.

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::pointer::{Entry, FORMAT, Pointer};
use highwater_core::Generation;

/// The checkpoints of a pointer in the order in which they are to be tried: the newest first, but
/// those that did not verify before, and were gone on from, last.
#[must_use]
pub fn candidates(pointer: &Pointer) -> Vec<&Entry> {
    let (suspects, healthy): (Vec<_>, Vec<_>) = pointer.checkpoints.iter().rev().partition(|e| e.suspect);
    healthy.into_iter().chain(suspects).collect()
}

/// A pointer made again from the complete manifests that the store holds, for when the pointer
/// itself is lost or damaged.
///
/// Generations never fall from one published checkpoint to the next. What has a lower generation
/// than an earlier-numbered one was written by a process that had lost its claim, and is left out.
#[must_use]
pub fn rebuilt(pipeline: &str, mut manifests: Vec<(Manifest, Digest)>) -> Pointer {
    manifests.sort_by_key(|(manifest, _)| manifest.checkpoint);
    let mut generation = Generation(0);
    let mut checkpoints = Vec::new();
    for (manifest, digest) in manifests {
        if manifest.generation < generation {
            continue;
        }
        generation = manifest.generation;
        checkpoints.push(Entry {
            checkpoint: manifest.checkpoint,
            generation,
            wall: manifest.wall,
            manifest: digest,
            suspect: false,
            pin: None,
        });
    }
    Pointer { format: FORMAT, pipeline: pipeline.to_owned(), generation, owner: String::new(), checkpoints }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;
    use highwater_core::CheckpointId;

    fn manifest(checkpoint: u64, generation: u64) -> (Manifest, Digest) {
        let (checkpoint, generation) = (CheckpointId(checkpoint), Generation(generation));
        let manifest = Manifest { checkpoint, generation, parent: None, ..sample() };
        let (_, digest) = manifest.to_text().expect("well formed");
        (manifest, digest)
    }

    fn ids(pointer: &Pointer) -> Vec<u64> {
        pointer.checkpoints.iter().map(|e| e.checkpoint.0).collect()
    }

    #[test]
    fn what_a_zombie_wrote_is_left_out() {
        let found = [(1, 1), (2, 1), (3, 2), (4, 1), (5, 2), (6, 1)].map(|(c, g)| manifest(c, g));
        let pointer = rebuilt("q5", found.to_vec());
        assert_eq!((ids(&pointer), pointer.generation), (vec![1, 2, 3, 5], Generation(2)));
        assert!(rebuilt("q5", Vec::new()).checkpoints.is_empty());
    }

    #[test]
    fn suspects_are_tried_last() {
        let mut pointer = rebuilt("q5", (1..=4).map(|c| manifest(c, 1)).collect());
        pointer = pointer.suspecting(&[CheckpointId(3), CheckpointId(2)]);
        let order: Vec<u64> = candidates(&pointer).iter().map(|e| e.checkpoint.0).collect();
        assert_eq!(order, [4, 1, 3, 2]);
    }
}
