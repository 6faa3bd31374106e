//! Views as a checkpoint holds them: for a pipeline that does not run.
//!
//! The newest checkpoint that verifies is brought into a folder and a page store of its own and the
//! views' tables are read from there, so that neither a run that begins meanwhile nor the collection
//! of old files is in the way. Nothing in the root is changed.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::ops::source::Place;
use crate::pipeline::finish;
use crate::plan::{NodeId, Operator, Plan, View};
use crate::run::{Facilities, number_nodes, restore};
use crate::stateful;
use crate::tables::{self, Tables};
use arrow::array::RecordBatch;
use highwater_checkpoint::{FetchOptions, Manifest, resolve};
use highwater_core::{Bytes, CheckpointId, Epoch, WallMicros};
use highwater_state::{PageSource, PageStore, StoreLimits};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The rows of views as a checkpoint holds them.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its epoch.
    pub epoch: Epoch,
    /// When it was asked for.
    pub wall: WallMicros,
    /// In the order asked for, in each view's schema.
    pub views: Vec<Vec<RecordBatch>>,
}

/// A folder that is removed when nobody needs it any more.
struct Scratch(PathBuf);

impl Scratch {
    fn new(under: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = under.join(NEXT.fetch_add(1, Relaxed).to_string());
        let files = path.join("files");
        std::fs::create_dir_all(&files)
            .map_err(|source| Error::Io { what: format!("create {}", files.display()), source })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays costs space until the engine starts again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads views of a pipeline from its newest checkpoint that verifies; none when `patience` is over before its files
/// are here.
///
/// # Errors
/// `Plan` when the checkpoint has no such view; those of restoring; `NotRunning` when there is no
/// checkpoint, or it is `ending`.
pub(crate) fn read(
    (pipeline, plan, views): (&str, &Plan, &[&View]),
    facilities: &Facilities,
    ending: &Cancel,
    patience: impl FnMut() -> bool,
) -> Result<Option<Saved>> {
    let scratch = Scratch::new(&facilities.scratch)?;
    let folder = scratch.0.join("files");
    let resolving = resolve(&facilities.store, pipeline, &folder, FetchOptions::default());
    let resolved = ending.wait_while(&facilities.background, pipeline, resolving, patience)?;
    let Some(resolved) = resolved else { return Ok(None) };
    let Some(resolved) = resolved else {
        let reason = "it has no checkpoint".to_owned();
        return Err(Error::NotRunning { pipeline: pipeline.to_owned(), reason });
    };
    let limits = StoreLimits { block_cache: Bytes(8 << 20), write_buffers: Bytes(1 << 20), ..StoreLimits::default() };
    let pages = Arc::new(PageStore::create(&scratch.0.join("pages"), limits)?);
    let restored = restore(resolved, &pages, &folder)?;
    let manifest: &Manifest = &restored.manifest;
    let (operator_ids, _, _) = number_nodes(plan, Some(manifest))?;
    let tables = Tables {
        plan,
        operator_ids: &operator_ids,
        key_groups: manifest.key_groups,
        source: &PageSource::new(Arc::clone(&pages), manifest.store),
        restored: Some((manifest, &restored.restore)),
        place: Place { worker: 0, workers: 1 },
    };
    let rows = views.iter().map(|view| {
        if tables.is_new(view.node) {
            return Err(Error::Plan(format!(
                "checkpoint {} of {pipeline} has no {}",
                manifest.checkpoint.0, view.name
            )));
        }
        finish(view, contents(&tables, view.node)?)
    });
    Ok(Some(Saved {
        views: rows.collect::<Result<_>>()?,
        checkpoint: manifest.checkpoint,
        epoch: manifest.epoch,
        wall: manifest.wall,
    }))
}

fn contents(tables: &Tables<'_>, node: NodeId) -> Result<Vec<crate::batch::Batch>> {
    let mut rows = Vec::new();
    match &tables.plan.nodes[node.0].operator {
        Operator::Aggregate(_) => stateful::contents(&mut tables::aggregate(tables, node)?.1, &mut rows)?,
        Operator::Sessions(_) => stateful::contents(&mut tables::sessions(tables, node)?.1, &mut rows)?,
        Operator::Materialize => stateful::contents(&mut tables::materialize(tables, node)?.1, &mut rows)?,
        Operator::Upsert(_) => stateful::contents(&mut tables::upsert(tables, node)?.1, &mut rows)?,
        other => return Err(Error::Plan(format!("{other:?} keeps no rows"))),
    }
    Ok(rows)
}
