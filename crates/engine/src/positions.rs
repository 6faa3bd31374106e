//! Which positions of a log the checkpoints of a pipeline may come back to.
//!
//! A change source's log must keep what follows the oldest checkpoint that may be restored. The
//! offsets of checkpoints that this run neither published nor restored are not known here, so
//! nothing is told until these have left the list.

use crate::build::changes::LOG_SPLIT;
use crate::changes::ChangeSource;
use crate::plan::{Operator, Plan};
use crate::source::Offset;
use highwater_checkpoint::Manifest;
use highwater_core::CheckpointId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the change sources of a plan would go on from a checkpoint.
pub fn log_offsets<'a>(
    plan: &'a Plan,
    manifest: &'a Manifest,
) -> impl Iterator<Item = (&'a Arc<dyn ChangeSource>, &'a Offset)> {
    plan.nodes.iter().filter_map(move |node| {
        let Operator::Changes(source) = &node.operator else { return None };
        Some((source, manifest.sources.get(&node.name)?.get(LOG_SPLIT)?))
    })
}

/// The change sources of a run and their offsets in its checkpoints.
#[derive(Clone, Default)]
pub(crate) struct Positions {
    sources: Arc<Vec<(String, Arc<dyn ChangeSource>)>>,
    known: Arc<Mutex<BTreeMap<CheckpointId, Vec<Option<Offset>>>>>,
}

impl Positions {
    /// The sources by their nodes' names, and what was restored.
    pub(crate) fn new(sources: Vec<(String, Arc<dyn ChangeSource>)>, restored: Option<&Manifest>) -> Self {
        let this = Self { sources: Arc::new(sources), known: Arc::default() };
        if let Some(manifest) = restored {
            this.note(manifest);
        }
        this
    }

    fn note(&self, manifest: &Manifest) {
        let offset = |name: &String| manifest.sources.get(name).and_then(|splits| splits.get(LOG_SPLIT)).cloned();
        let offsets = self.sources.iter().map(|(name, _)| offset(name)).collect();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(manifest.checkpoint, offsets);
    }

    /// A checkpoint of `pipeline` was published; these are the ones that may be restored now.
    pub(crate) fn published(&self, pipeline: &str, manifest: &Manifest, listed: &[CheckpointId]) {
        if self.sources.is_empty() {
            return;
        }
        self.note(manifest);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|checkpoint, _| listed.contains(checkpoint));
        if listed.iter().any(|checkpoint| !known.contains_key(checkpoint)) {
            return;
        }
        for (at, (_, source)) in self.sources.iter().enumerate() {
            // A checkpoint without an offset was made before the source was read: it begins anew.
            let offsets: Vec<Offset> = known.values().filter_map(|offsets| offsets[at].clone()).collect();
            source.retained(pipeline, &offsets);
        }
    }
}
