//! Checkpoints that are not where they were: a root that has none any more, and sinks that were given more
//! than the newest one knows.
//!
//! A file beside a pipeline's local files names the root to which checkpoints of it were published, and the newest
//! of them. While it does and the root has none, the pipeline is not begun: most likely the root is not mounted, or
//! is another bucket. Where an older checkpoint is restored, as newer ones are damaged or the root is an older copy,
//! or another root is begun with, the rows since are computed anew; what a sink's target had of them by then it may
//! have twice, or keep although it is gone. That is told until the sink is made anew, so manifests keep it among the
//! sink's offsets.
//!
//! Nor is a pipeline begun that has no such file, as a new one, where the root has nothing of all those that have: what
//! it would put there is hidden when the root is back. No object in a root says which one it is: what it has of other
//! pipelines tells as much, and does so of roots of earlier builds, of copies, and of those that databases share.
//!
//! When a pipeline is dropped the file gets another name, until all but the last object of it is removed from the
//! root. While it has that, and the root has nothing of the pipeline, the root may be away, and has it when it is
//! back. Should it be met there all the same, under a pipeline that was made anew, it is not taken for that one's:
//! its operators are of another object.
//!
//! Invariant: the number in the file is never above what was published; it may be behind.

use crate::error::{Error, Result};
use crate::outside::Asker;
use crate::plan::{Node, Operator, Plan};
use crate::run::is_of;
use crate::source::Offset;
use highwater_checkpoint::names::pipeline_at;
use highwater_checkpoint::{Manifest, OperatorMeta, Resolved};
use highwater_core::CheckpointId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file that names the root and the newest checkpoint, a line each.
pub(crate) const FILE: &str = "published-to";
/// The same file of a pipeline that was dropped.
const LEFT: &str = "left-in";
/// Under which name a manifest keeps that a sink was given more.
pub(crate) const AHEAD: &str = "ahead";

/// A root that ends with the process.
const MEMORY: &str = "memory:";

/// What was published.
struct Noted {
    root: String,
    /// None in a file of an earlier build, which has the root alone.
    newest: Option<CheckpointId>,
}

fn noted(folder: &Path, file: &str) -> Option<Noted> {
    let text = std::fs::read_to_string(folder.join(file)).ok()?;
    let mut lines = text.lines().map(str::trim_end);
    let root = lines.next().unwrap_or_default().to_owned();
    let newest = lines.next().and_then(|number| number.parse().ok()).map(CheckpointId);
    Some(Noted { root, newest })
}

/// Whether a pipeline had checkpoints in a root. A failing machine may have left the file without content: then it
/// had some somewhere.
pub(crate) fn had_checkpoints(folder: &Path, root: &str) -> bool {
    names(folder, FILE, root)
}

/// Whether a file of a pipeline's folder names a root that outlasts the process.
fn names(folder: &Path, file: &str, root: &str) -> bool {
    root != MEMORY && noted(folder, file).is_some_and(|noted| noted.root.is_empty() || noted.root == root)
}

/// The root to which checkpoints of a pipeline were published last; none when none are known of, and empty when it is
/// not known which.
pub(crate) fn published_to(folder: &Path) -> Option<String> {
    Some(noted(folder, FILE)?.root)
}

/// The file that tells that a root has something of a pipeline, which may be dropped by now; none when none does.
pub(crate) fn note_of(folder: &Path, root: &str) -> Option<PathBuf> {
    [FILE, LEFT].into_iter().find(|file| names(folder, file, root)).map(|file| folder.join(file))
}

/// The pipelines of which a root has something by such a file, and their folders below `files`.
pub(crate) fn noted_in(files: &Path, root: &str) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = std::fs::read_dir(files).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter_map(move |folder| {
        note_of(&folder, root)?;
        let pipeline = pipeline_at(folder.file_name()?.to_str()?)?;
        Some((pipeline, folder))
    })
}

/// The newest checkpoint of a pipeline that is known to have been published, to whichever root.
pub(crate) fn newest_published(folder: &Path) -> Option<CheckpointId> {
    noted(folder, FILE)?.newest
}

/// Notes that a pipeline is dropped: from now on its file tells only what is to be removed.
pub(crate) fn note_dropped(folder: &Path) -> std::io::Result<()> {
    match std::fs::rename(folder.join(FILE), folder.join(LEFT)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Notes that the root has nothing more of a dropped pipeline. It is synced: a note that is back when the power has
/// failed, though the last object has gone from the root since, would have that taken for one that is away.
pub(crate) fn note_removed(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(folder.join(LEFT)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::File::open(folder)?.sync_all(),
    }
}

/// Whether a pipeline that was dropped had checkpoints in a root.
pub(crate) fn has_left(folder: &Path, root: &str) -> bool {
    names(folder, LEFT, root)
}

/// The error for a root in which checkpoints that are to be removed are not found.
pub(crate) fn still_left(pipeline: &str, folder: &Path, root: &str) -> Error {
    let file = folder.join(LEFT);
    let reason = format!(
        "its checkpoints were in {root}, which has none of it: is that mounted, and the right one? If they are lost, \
         remove {}",
        file.display()
    );
    Error::connector(pipeline, reason)
}

/// Refuses a checkpoint of another object that had the pipeline's name: what its operators keep is not found by
/// those of the plan, and its sources would go on behind the rows that these have not seen.
///
/// # Errors
/// `Connector`: the root may be another one later.
pub(crate) fn check_object(plan: &Plan, manifest: &Manifest) -> Result<()> {
    let pipeline = &manifest.pipeline;
    // The operators of the object that a pipeline is named after.
    let is_own = |name: &str| {
        let what = name.strip_prefix(pipeline.as_str()).and_then(|rest| rest.strip_prefix('/'));
        what.is_some_and(|what| !what.contains('/'))
    };
    let Some(ours) = plan.nodes.iter().find(|node| is_own(&node.name)) else { return Ok(()) };
    let is_other = |operator: &&OperatorMeta| is_own(&operator.name) && operator.incarnation != ours.incarnation;
    let Some(other) = manifest.operators.iter().find(is_other) else { return Ok(()) };
    let reason = format!(
        "checkpoint {} in the root is of another object of that name, number {} where this one is number {}: is it \
         the right root? If nobody needs what is there, drop this one and make it anew",
        manifest.checkpoint, other.incarnation, ours.incarnation
    );
    Err(Error::connector(pipeline, reason))
}

/// The error for a root that has no checkpoints any more; it may get them back.
pub(crate) fn gone(pipeline: &str, folder: &Path, root: &str) -> Error {
    let file = folder.join(FILE);
    let reason = format!(
        "its checkpoints were in {root}, which has none of it: is that mounted, and the right one? If they are lost, \
         drop it, or remove {} to let it begin anew",
        file.display()
    );
    Error::connector(pipeline, reason)
}

/// The error for a root that has nothing of a pipeline nor of those that notes, such as this one, are of.
pub(crate) fn away(pipeline: &str, note: &Path, root: &str) -> Error {
    Error::Away(format!(
        "pipeline {pipeline} is not begun, as checkpoint root {root} has nothing of the pipelines that had checkpoints \
         there: is that mounted, and the right one? If they are lost, remove {} and all such files",
        note.display()
    ))
}

/// Notes that a checkpoint of a pipeline was published to a root, once that is known. It is not synced: without the
/// note the pipeline begins anew, as one without a note does.
pub(crate) fn note_published(folder: &Path, root: &str, newest: CheckpointId) -> std::io::Result<()> {
    if root == MEMORY {
        return Ok(());
    }
    let new = folder.join("published-to.new");
    std::fs::write(&new, format!("{root}\n{newest}\n"))?;
    std::fs::rename(new, folder.join(FILE))
}

/// That a sink was given more than the checkpoint has with which its pipeline went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ahead {
    incarnation: u64,
    /// The newest checkpoint of which it was given rows, where its target tells, and the one that was restored; 0 for
    /// none.
    delivered: Option<u64>,
    restored: u64,
}

/// By sink.
pub(crate) type AheadSinks = BTreeMap<String, Ahead>;

/// The sinks that were given more, now or before.
///
/// # Errors
/// Of a sink that cannot tell what its target has, and `Data` when what the checkpoint has of it is damaged.
pub(crate) fn ahead_sinks(
    plan: &Plan,
    resolved: Option<&Resolved>,
    folder: &Path,
    asker: Asker<'_>,
) -> Result<AheadSinks> {
    let manifest = resolved.map(|resolved| &resolved.manifest);
    let restored = manifest.map_or(CheckpointId(0), |manifest| manifest.checkpoint);
    let is_older = newest_published(folder).is_some_and(|newest| newest > restored);
    // Without a checkpoint: there were some in another root.
    let fell_back =
        is_older || resolved.map_or_else(|| folder.join(FILE).exists(), |resolved| !resolved.fallbacks.is_empty());
    let mut all = AheadSinks::new();
    for node in &plan.nodes {
        let Operator::Sink(sink) = &node.operator else { continue };
        let is_new = manifest.is_some_and(|manifest| manifest.operators.iter().all(|operator| !is_of(node, operator)));
        // An older checkpoint does not know the sinks that were made since.
        if is_new && !is_older {
            continue;
        }
        let delivered = asker.delivered(node, sink)?;
        let is_ahead = delivered.map_or(fell_back, |delivered| delivered > restored);
        let new = Ahead { incarnation: node.incarnation, delivered: delivered.map(|it| it.0), restored: restored.0 };
        let known = known_ahead(node, manifest)?;
        all.extend(known.or(is_ahead.then_some(new)).map(|ahead| (node.name.clone(), ahead)));
    }
    Ok(all)
}

/// What a manifest keeps of it.
fn known_ahead(node: &Node, manifest: Option<&Manifest>) -> Result<Option<Ahead>> {
    let kept = manifest.and_then(|manifest| manifest.sources.get(&node.name)?.get(AHEAD));
    let Some(kept) = kept else { return Ok(None) };
    let ahead: Ahead = serde_json::from_value(kept.clone()).map_err(|error| Error::data(&node.name, error))?;
    Ok(Some(ahead).filter(|ahead| ahead.incarnation == node.incarnation))
}

impl Ahead {
    pub(crate) fn to_offset(&self) -> Result<Offset> {
        serde_json::to_value(self).map_err(|error| Error::data("a sink", error))
    }
}

impl std::fmt::Display for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.delivered {
            Some(delivered) => write!(f, "was given rows of checkpoint {delivered}, and ")?,
            None => f.write_str("was given rows of checkpoints that are damaged or lost, and ")?,
        }
        match self.restored {
            0 => f.write_str("its pipeline began anew"),
            restored => write!(f, "its pipeline went on from checkpoint {restored}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_known_by_what_was_published_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let had = |root: &str| had_checkpoints(folder.path(), root);
        assert!(!had("/a"), "nothing was published");
        assert_eq!(newest_published(folder.path()), None);
        note_published(folder.path(), "/a", CheckpointId(9)).expect("a note");
        note_published(folder.path(), "/a", CheckpointId(10)).expect("a note");
        assert!(had("/a") && !had("/b"));
        assert_eq!(newest_published(folder.path()), Some(CheckpointId(10)));
        let told = gone("p", folder.path(), "/a").to_string();
        assert!(told.contains("were in /a") && told.contains(FILE), "{told}");
        note_published(folder.path(), "/b", CheckpointId(3)).expect("a note");
        assert!(had("/b") && !had("/a"));
        note_published(folder.path(), MEMORY, CheckpointId(4)).expect("no note");
        assert!(had("/b") && !had(MEMORY));
        assert_eq!(newest_published(folder.path()), Some(CheckpointId(3)), "of the root that was published to last");
        let has_left = |root: &str| has_left(folder.path(), root);
        assert!(!has_left("/b"), "it is not dropped");
        for _ in 0..2 {
            note_dropped(folder.path()).expect("a note");
            assert!(has_left("/b") && !has_left("/a") && !had("/b"));
        }
        let told = still_left("p", folder.path(), "/b").to_string();
        assert!(told.contains("were in /b") && told.contains(LEFT), "{told}");
        for _ in 0..2 {
            note_removed(folder.path()).expect("no note");
            assert!(!has_left("/b"));
        }
    }

    #[test]
    fn all_pipelines_of_which_a_root_has_something_are_known() {
        let files = tempfile::tempdir().expect("a folder");
        let folder = |pipeline: &str| {
            let folder = files.path().join(highwater_checkpoint::names::folder_of(pipeline));
            std::fs::create_dir_all(&folder).expect("a folder");
            folder
        };
        let known = |root: &str| {
            let mut known: Vec<_> = noted_in(files.path(), root).collect();
            known.sort();
            known
        };
        note_published(&folder("v"), "/a", CheckpointId(1)).expect("a note");
        note_published(&folder("x #2"), "/a", CheckpointId(1)).expect("a note");
        note_published(&folder("other"), "/b", CheckpointId(1)).expect("a note");
        note_published(&folder("dropped"), "/a", CheckpointId(1)).expect("a note");
        note_dropped(&folder("dropped")).expect("a note");
        folder("new");
        std::fs::write(files.path().join("stray"), "a file").expect("writes");
        let expected = ["dropped", "v", "x #2"].map(|pipeline| (pipeline.to_owned(), folder(pipeline)));
        assert_eq!(known("/a"), expected);
        assert_eq!(known("/b"), [("other".to_owned(), folder("other"))]);
        assert!(known("/c").is_empty() && known(MEMORY).is_empty());
        assert!(noted_in(&files.path().join("absent"), "/a").next().is_none());
        assert_eq!(note_of(&folder("dropped"), "/a"), Some(folder("dropped").join(LEFT)));
        assert_eq!(published_to(&folder("v")).as_deref(), Some("/a"));
        assert_eq!(published_to(&folder("new")).or(published_to(&folder("dropped"))), None);
        let told = away("new", &folder("v").join(FILE), "/a").to_string();
        assert!(told.contains("checkpoint root /a has nothing") && told.contains("v/published-to"), "{told}");
    }

    #[test]
    fn a_note_of_an_earlier_build_and_an_empty_one_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let had = |root: &str| had_checkpoints(folder.path(), root);
        std::fs::write(folder.path().join(FILE), "/a\n").expect("a note");
        assert!(had("/a") && !had("/b"));
        assert_eq!(newest_published(folder.path()), None, "the root alone");
        std::fs::write(folder.path().join(FILE), "").expect("a note");
        assert!(had("/a") && had("/b") && !had(MEMORY), "of some root");
        assert_eq!(newest_published(folder.path()), None);
    }
}
