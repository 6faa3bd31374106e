//! What must hold after each step: pure functions over what the store holds and what was observed.
//! Each is named after what it says; the error is a sentence for the one who reads the trace.

use crate::model::Counters;
use bytes::Bytes;
use highwater_checkpoint::{Digest, Manifest, Names, Object, Pointer};
use highwater_core::{CheckpointId, Generation};
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};

/// What the store holds.
pub type Objects = BTreeMap<Path, Bytes>;

/// An invariant's verdict.
pub type Verdict = Result<(), String>;

/// The manifest of a listed checkpoint and all its files are in the store as they were written, but
/// for those that rotted.
///
/// # Errors
/// What is missing.
pub fn nothing_published_is_incomplete(
    names: &Names,
    objects: &Objects,
    pointer: &Pointer,
    rotten: &BTreeSet<Path>,
) -> Verdict {
    for entry in &pointer.checkpoints {
        let path = names.checkpoint(entry.checkpoint);
        if rotten.contains(&path) {
            continue;
        }
        let text = objects.get(&path).ok_or_else(|| format!("{path} is listed and missing"))?;
        if Digest::of(text) != entry.manifest {
            return Err(format!("{path} is not the manifest that is listed"));
        }
        let manifest = Manifest::from_text(path.as_ref(), text).map_err(|e| e.to_string())?;
        for file in manifest.all_files() {
            let path = names.file(file.id);
            if rotten.contains(&path) {
                continue;
            }
            let bytes = objects.get(&path).ok_or_else(|| format!("{path} of {} is missing", entry.checkpoint))?;
            if bytes.len() as u64 != file.stored || Digest::of(bytes) != file.stored_digest {
                return Err(format!("{path} of {} is not what was written", entry.checkpoint));
            }
        }
    }
    Ok(())
}

/// What is deleted is neither listed nor referenced by a listed checkpoint.
///
/// # Errors
/// Who needs it.
pub fn nothing_referenced_is_deleted(names: &Names, objects: &Objects, pointer: &Pointer, deleted: &Path) -> Verdict {
    let object = names.parse(deleted);
    for entry in &pointer.checkpoints {
        if object == Object::Checkpoint(entry.checkpoint) {
            return Err(format!("{deleted} is listed and was deleted"));
        }
        let path = names.checkpoint(entry.checkpoint);
        // A dead attempt may stand in the place of a manifest that was lost.
        let text = objects.get(&path).filter(|text| Digest::of(text) == entry.manifest);
        let manifest = text.and_then(|text| Manifest::from_text(path.as_ref(), text).ok());
        if manifest.is_some_and(|m| m.all_files().any(|file| object == Object::File(file.id))) {
            return Err(format!("{deleted} is needed by checkpoint {} and was deleted", entry.checkpoint));
        }
    }
    Ok(())
}

/// A file's name is never written with other bytes, and an object that is there is never changed,
/// but for the pointer. (A process that is long fenced may write a manifest whose number was used
/// and removed: see [`a_number_means_one_checkpoint`].)
///
/// # Errors
/// Which name.
pub fn names_are_never_reused(
    names: &Names,
    written: &BTreeMap<Path, Digest>,
    objects: &Objects,
    path: &Path,
    bytes: &[u8],
) -> Verdict {
    let is_fixed = match names.parse(path) {
        Object::Current => false,
        Object::File(_) => true,
        _ => objects.contains_key(path),
    };
    let same = written.get(path).is_none_or(|before| *before == Digest::of(bytes));
    if same || !is_fixed { Ok(()) } else { Err(format!("{path} was written twice")) }
}

/// A number that was ever listed is never listed for another manifest.
///
/// # Errors
/// Which number.
pub fn a_number_means_one_checkpoint(listed: &BTreeMap<CheckpointId, Digest>, after: &Pointer) -> Verdict {
    let reused = after.checkpoints.iter().find(|e| listed.get(&e.checkpoint).is_some_and(|d| *d != e.manifest));
    reused.map_or(Ok(()), |e| Err(format!("checkpoint {} was listed for two manifests", e.checkpoint)))
}

/// The list changes only in ways that the protocol knows: a claim changes the owner, raises the
/// generation and lists nothing new; the owner adds at most one checkpoint, under its own
/// generation, which is newer than all; the newest never leaves.
///
/// # Errors
/// What changed.
pub fn the_pointer_moves_forward(before: &Pointer, after: &Pointer) -> Verdict {
    let known: BTreeSet<_> = before.checkpoints.iter().map(|e| (e.checkpoint, e.manifest)).collect();
    let added: Vec<_> = after.checkpoints.iter().filter(|e| !known.contains(&(e.checkpoint, e.manifest))).collect();
    if after.owner != before.owner {
        if after.generation <= before.generation {
            return Err(format!("a claim took generation {} after {}", after.generation, before.generation));
        }
        return if added.is_empty() { Ok(()) } else { Err("a claim listed a checkpoint".to_owned()) };
    }
    if after.generation != before.generation {
        return Err("the generation changed without a claim".to_owned());
    }
    if after.newest().map(|e| e.checkpoint) < before.newest().map(|e| e.checkpoint) {
        return Err("the newest checkpoint left the list".to_owned());
    }
    match added.as_slice() {
        [] => Ok(()),
        [one]
            if one.generation == after.generation && before.newest().is_none_or(|n| n.checkpoint < one.checkpoint) =>
        {
            Ok(())
        }
        _ => Err(format!("{} checkpoints were listed at once or out of order", added.len())),
    }
}

/// No checkpoint is listed under a generation after its process was told that it is fenced.
///
/// # Errors
/// Which generation.
pub fn a_fenced_process_publishes_nothing(fenced: &BTreeSet<Generation>, before: &Pointer, after: &Pointer) -> Verdict {
    let added =
        after.checkpoints.iter().find(|e| fenced.contains(&e.generation) && before.entry(e.checkpoint).is_none());
    match added {
        None => Ok(()),
        Some(e) => {
            Err(format!("checkpoint {} was listed by generation {}, which is fenced", e.checkpoint, e.generation))
        }
    }
}

/// What was restored comes first among the checkpoints that could be: those listed when the restore
/// began and still when it ended, and whole; or it was listed meanwhile.
///
/// # Errors
/// What should have been restored.
pub fn restore_finds_the_newest_good_point(
    began: &Pointer,
    ended: &Pointer,
    damaged: &BTreeSet<CheckpointId>,
    restored: Option<CheckpointId>,
) -> Verdict {
    // The newest first, those that were gone on from last: said here anew, not asked of the code.
    let mut order: Vec<_> = began.checkpoints.iter().collect();
    order.sort_by_key(|e| (e.suspect, std::cmp::Reverse(e.checkpoint)));
    let best = order
        .iter()
        .position(|e| ended.entry(e.checkpoint).is_some() && !damaged.contains(&e.checkpoint))
        .map(|at| (at, order[at].checkpoint));
    let found = restored.and_then(|r| order.iter().position(|e| e.checkpoint == r));
    match (best, restored) {
        (None, _) => Ok(()),
        (Some((_, best)), None) => Err(format!("nothing was restored although checkpoint {best} is good")),
        (Some((at, best)), Some(restored)) => match found {
            Some(found) if found > at => Err(format!("{restored} was restored although {best} is good")),
            None if began.entry(restored).is_none() && restored < best => {
                Err(format!("{restored} was restored, which was not listed"))
            }
            _ => Ok(()),
        },
    }
}

/// The restored counters are those that the service had at that checkpoint.
///
/// # Errors
/// How they differ.
pub fn a_restored_state_equals_the_model(expected: Option<&Counters>, restored: &Counters) -> Verdict {
    match expected {
        None => Err("a checkpoint was restored that nobody took".to_owned()),
        Some(expected) if expected == restored => Ok(()),
        Some(expected) => {
            Err(format!("{} counters were restored, {} or others expected", restored.len(), expected.len()))
        }
    }
}

/// A checkpoint whose publishing was confirmed is the newest or older than it.
///
/// # Errors
/// Which one was lost.
pub fn a_confirmed_checkpoint_is_not_lost(confirmed: CheckpointId, pointer: &Pointer) -> Verdict {
    if pointer.newest().is_some_and(|newest| newest.checkpoint >= confirmed) {
        return Ok(());
    }
    Err(format!("checkpoint {confirmed} was confirmed and is lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_checkpoint::Entry;
    use highwater_core::WallMicros;

    fn pointer(owner: &str, generation: u64, list: &[(u64, u64)]) -> Pointer {
        let entry = |(checkpoint, generation): &(u64, u64)| Entry {
            checkpoint: CheckpointId(*checkpoint),
            generation: Generation(*generation),
            wall: WallMicros(0),
            manifest: Digest::of(&checkpoint.to_le_bytes()),
            suspect: false,
            pin: None,
        };
        Pointer {
            format: 1,
            pipeline: "p".into(),
            generation: Generation(generation),
            owner: owner.into(),
            checkpoints: list.iter().map(entry).collect(),
        }
    }

    #[test]
    fn each_wrong_move_of_the_pointer_is_found() {
        let before = pointer("a", 2, &[(1, 1), (2, 2)]);
        for good in [pointer("a", 2, &[(2, 2), (3, 2)]), pointer("b", 3, &[(1, 1), (2, 2)]), pointer("a", 2, &[(2, 2)])]
        {
            assert_eq!(the_pointer_moves_forward(&before, &good), Ok(()));
        }
        for bad in [
            pointer("b", 2, &[(1, 1), (2, 2)]),
            pointer("b", 3, &[(2, 2), (3, 3)]),
            pointer("a", 3, &[(2, 2)]),
            pointer("a", 2, &[(1, 1)]),
            pointer("a", 2, &[(2, 2), (3, 1)]),
            pointer("a", 2, &[(2, 2), (3, 2), (4, 2)]),
        ] {
            assert!(the_pointer_moves_forward(&before, &bad).is_err(), "{bad:?}");
        }
        let fenced = BTreeSet::from([Generation(2)]);
        assert!(a_fenced_process_publishes_nothing(&fenced, &before, &pointer("a", 2, &[(3, 2)])).is_err());
        assert!(a_confirmed_checkpoint_is_not_lost(CheckpointId(3), &before).is_err());
    }

    #[test]
    fn a_restore_that_is_too_old_or_empty_is_found() {
        let list = pointer("a", 2, &[(1, 1), (2, 2), (3, 2)]);
        let verdict = |damaged: &[u64], restored: Option<u64>| {
            let damaged = damaged.iter().map(|c| CheckpointId(*c)).collect();
            restore_finds_the_newest_good_point(&list, &list, &damaged, restored.map(CheckpointId))
        };
        assert!(verdict(&[], Some(3)).is_ok() && verdict(&[3], Some(2)).is_ok() && verdict(&[1, 2, 3], None).is_ok());
        assert!(verdict(&[], Some(2)).is_err() && verdict(&[3], Some(1)).is_err() && verdict(&[], None).is_err());
        assert!(a_restored_state_equals_the_model(None, &Counters::new()).is_err());
    }
}
