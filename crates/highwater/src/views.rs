//! The rows of materialized views, for queries: all of a pipeline's views as of one epoch, and those of
//! several pipelines over tables as of one position in the tables' log. Of a large view that is read alone the
//! rows come as the query takes them.
//!
//! A view whose pipeline does not run is read as its newest checkpoint holds it, and the client is
//! told that it is stale. Who asks for that waits alone for a root that does not answer: after all other views are
//! read, and for a bounded time. A row that is named by the view's key is looked up without reading others.

use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use crate::provider::TableRows;
use crate::view_rows::ViewRows;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::TableSource;
use highwater_engine::core::{Clock as _, Epoch, SystemClock};
use highwater_engine::{BegunScan, OpenScan, Pipeline, Saved};
use highwater_tables::{Overlay, Snapshot, Stop};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a query waits for a pipeline that is behind the others.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one waits to be told what the checkpoint root has of a pipeline that does not run, and then for the
/// files of its checkpoint, which may be large.
const ROOT_PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const FILES_PATIENCE: Duration = Duration::from_secs(600);

/// What names in a query stand for.
pub(crate) type Tables = BTreeMap<String, Arc<dyn TableSource>>;

/// Tables as the views beside them show them.
pub(crate) struct Beside {
    snapshot: Arc<Snapshot>,
    /// By the tables' numbers: what was otherwise where the views stand.
    over: BTreeMap<u32, Arc<Overlay>>,
}

impl Beside {
    pub(crate) fn rows(&self, target: &Target) -> TableRows {
        let over = self.over.get(&target.table.spec().id).cloned().unwrap_or_default();
        TableRows::new(&target.table, &self.snapshot, over, false)
    }
}

/// Views as they were read: their rows and the epochs of their pipelines, and the tables beside them where the views
/// say as of when these are read.
#[derive(Default)]
pub(crate) struct Scanned {
    pub(crate) tables: Tables,
    pub(crate) epochs: Vec<(String, Epoch)>,
    pub(crate) beside: Option<Beside>,
    /// The view whose rows are yet to come.
    pub(crate) coming: Option<ViewRows>,
    /// Which views are stale, and why.
    pub(crate) notices: Vec<String>,
}

impl Scanned {
    /// Takes the rows of views of a pipeline as of an epoch; `memory` is what is left for others.
    fn add(
        &mut self,
        (pipeline, epoch): (&str, Epoch),
        objects: &[&Object],
        views: Vec<Vec<RecordBatch>>,
        memory: &mut u64,
    ) -> Result<()> {
        let batches = views.iter().flatten();
        *memory = memory.saturating_sub(batches.map(|batch| batch.get_array_memory_size() as u64).sum());
        self.epochs.push((pipeline.to_owned(), epoch));
        for (object, rows) in objects.iter().zip(views) {
            let rows = shaped(&object.schema, rows)?;
            let table = MemTable::try_new(Arc::clone(&object.schema), vec![rows])?;
            self.tables.insert(object.name().to_owned(), provider_as_source(Arc::new(table)));
        }
        Ok(())
    }

    /// Takes the rows of a scan, those of a large view that is read alone as they are wanted; false when the scan
    /// has to be begun anew.
    fn take(
        &mut self,
        pipeline: &str,
        objects: &[&Object],
        scan: BegunScan,
        (is_alone, memory): (bool, &mut u64),
    ) -> Result<bool> {
        if !is_alone {
            let Some(scan) = scan.finish(*memory)? else { return Ok(false) };
            self.add((pipeline, scan.epoch), objects, scan.views, memory)?;
            return Ok(true);
        }
        let Some(OpenScan { epoch, views }) = scan.open(*memory)? else { return Ok(false) };
        for (object, rows) in objects.iter().zip(views) {
            if rows.is_small(*memory) {
                let rows = rows.rest(u64::MAX)?;
                self.add((pipeline, epoch), &[*object], vec![rows], memory)?;
                continue;
            }
            let rows = ViewRows::new(&object.schema, rows, *memory);
            self.epochs.push((pipeline.to_owned(), epoch));
            self.tables.insert(object.name().to_owned(), provider_as_source(Arc::new(rows.clone())));
            self.coming = Some(rows);
        }
        Ok(true)
    }
}

impl Database {
    /// The rows of materialized views, those of one pipeline as of one epoch, those of several as of
    /// one position in the log of tables. `given` are the name of a table whose rows are known, and the snapshot that
    /// all tables are read of then. Blocks.
    pub(crate) fn scanned(
        &self,
        connection: &Connection,
        leaves: &[Object],
        given: Option<(&str, &Arc<Snapshot>)>,
    ) -> Result<Scanned> {
        let mut of_pipeline: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in leaves {
            if let Some(pipeline) = &object.entry.pipeline {
                of_pipeline.entry(pipeline).or_default().push(object);
            }
        }
        let wanted: BTreeSet<String> = of_pipeline.keys().map(|pipeline| (*pipeline).to_owned()).collect();
        loop {
            self.wait_for_pipelines(connection, &wanted)?;
            let beside = |horizon: u64| self.beside(connection, leaves, given, horizon);
            // What is read beside others is joined with them, and each may be begun anew until all are there.
            let is_alone = leaves.len() == 1 && given.is_none();
            if let Some(scanned) = self.scanned_once(connection, &of_pipeline, is_alone, beside)? {
                return Ok(scanned);
            }
            connection.check_cancelled()?;
        }
    }

    /// The tables among some objects as views show them that stand at a position of the log; none in a transaction,
    /// which sees its own writes.
    fn beside(
        &self,
        connection: &Connection,
        leaves: &[Object],
        given: Option<(&str, &Arc<Snapshot>)>,
        horizon: u64,
    ) -> Result<Option<Beside>> {
        let table = |leaf: &Object| match &leaf.body {
            Body::Table(target) if given.is_none_or(|(name, _)| name != leaf.name()) => Some(target.clone()),
            _ => None,
        };
        let tables: Vec<_> = leaves.iter().filter_map(table).collect();
        if tables.is_empty() || connection.transaction.is_some() {
            return Ok(None);
        }
        let snapshot = match given {
            Some((_, snapshot)) => Arc::clone(snapshot),
            None => Arc::new(self.tables.snapshot()?),
        };
        let mut over = BTreeMap::new();
        for target in tables {
            // The log is kept from where the slowest view stands; beside a view that stood still for long it may be
            // gone.
            let gone = || invalid("55000", "a view is too far behind to be read beside a table: read it alone", None);
            let rows = snapshot.as_of(&target.table, horizon)?.ok_or_else(gone)?;
            over.insert(target.table.spec().id, Arc::new(rows));
        }
        Ok(Some(Beside { snapshot, over }))
    }

    /// Nothing when a pipeline began anew meanwhile. `is_alone` where one view is all that is read; `beside` reads
    /// tables as of a position.
    fn scanned_once(
        &self,
        connection: &Connection,
        of_pipeline: &BTreeMap<&str, Vec<&Object>>,
        is_alone: bool,
        beside: impl Fn(u64) -> Result<Option<Beside>>,
    ) -> Result<Option<Scanned>> {
        let (mut scanned, mut least) = (Scanned::default(), None::<u64>);
        let stop = self.stop_for(connection, of_pipeline, &mut scanned.notices)?;
        let position = stop.as_ref().map(Stop::position);
        let mut begun = Vec::new();
        for (pipeline, objects) in of_pipeline {
            let names: Vec<String> = objects.iter().map(|o| o.kept().to_owned()).collect();
            // A pipeline that reads no table shows none at any position.
            let tables = self.tables_of(&self.state(), pipeline);
            let at = position.filter(|_| !tables.is_empty());
            begun.push(match self.begin_scan(connection, pipeline, &names, at) {
                Ok(scan) => {
                    if !is_alone {
                        scan.hasten();
                    }
                    if at.is_some_and(|position| position != scan.horizon()) {
                        let names: Vec<&str> = objects.iter().map(|object| object.name()).collect();
                        scanned.notices.push(format!("{}: as of another moment than other views", names.join(", ")));
                    }
                    // While its tables do not change it stands still, and shows what it would show now.
                    let horizon = || self.tables.unchanged_until(&tables, scan.horizon());
                    let horizon = (!tables.is_empty()).then(horizon);
                    least = least.into_iter().chain(horizon).min();
                    Ok(scan)
                }
                // It was stopped for another run.
                Err(_) if self.state().restoring.is_begun_anew(pipeline) => return Ok(None),
                Err(Error::Engine(reason @ highwater_engine::Error::NotRunning { .. })) => Err(reason),
                Err(error) => return Err(error),
            });
        }
        // Before rows are waited for, large or stale: behind what views have seen the log is kept for seconds only.
        if let Some(horizon) = least {
            scanned.beside = beside(horizon)?;
        }
        // What the scans show is settled: the tables' changes may go on to the views.
        drop(stop);
        let mut memory = self.config.query_memory.0;
        let mut stopped = Vec::new();
        for ((pipeline, objects), begun) in of_pipeline.iter().zip(begun) {
            match begun {
                Ok(scan) => {
                    if !scanned.take(pipeline, objects, scan, (is_alone, &mut memory))? {
                        return Ok(None);
                    }
                }
                Err(reason) => stopped.push((pipeline, objects, reason)),
            }
        }
        for (pipeline, objects, reason) in stopped {
            let names: Vec<String> = objects.iter().map(|o| o.kept().to_owned()).collect();
            let Stale { epoch, notice, views } = self.saved(connection, pipeline, &names, reason)?;
            scanned.notices.push(notice);
            scanned.add((*pipeline, epoch), objects, views, &mut memory)?;
        }
        Ok(Some(scanned))
    }

    fn begin_scan(
        &self,
        connection: &Connection,
        pipeline: &str,
        views: &[String],
        at: Option<u64>,
    ) -> Result<BegunScan> {
        let running = self.running(&self.state(), pipeline)?;
        let is_wanted = || connection.check_cancelled().is_ok();
        let begun = match running.begin_scan(views, at.map(|position| (position, PATIENCE)), &is_wanted) {
            // Better another moment than none.
            Err(highwater_engine::Error::Timeout(_)) if at.is_some() => running.begin_scan(views, None, &is_wanted),
            begun => begun,
        };
        if begun.is_err() {
            connection.check_cancelled()?;
        }
        Ok(begun?)
    }

    /// Where several pipelines read tables, holds the tables' changes back from them, so that all are
    /// seen at one position; before that waits until none is far behind. None, with a notice, when one
    /// stays behind.
    fn stop_for(
        &self,
        connection: &Connection,
        of_pipeline: &BTreeMap<&str, Vec<&Object>>,
        notices: &mut Vec<String>,
    ) -> Result<Option<Stop>> {
        let running: Vec<Pipeline> = {
            let state = self.state();
            let reading = of_pipeline.keys().filter(|pipeline| !self.tables_of(&state, pipeline).is_empty());
            reading.filter_map(|pipeline| state.running.get(*pipeline).cloned()).collect()
        };
        if running.len() < 2 {
            return Ok(None);
        }
        let (position, deadline) = (self.tables.position(), Instant::now() + PATIENCE);
        let mut patience = || Instant::now() < deadline && connection.check_cancelled().is_ok();
        for pipeline in &running {
            // One that fails is read from its checkpoint, with a notice of its own.
            if let Ok(false) = pipeline.wait_reached(position, &mut patience) {
                connection.check_cancelled()?;
                notices.push(format!("views are shown as of different moments: {} is behind", pipeline.title()));
                return Ok(None);
            }
        }
        Ok(Some(self.tables.stop()))
    }

    /// Views of a pipeline that does not run, and what to tell of them. When there is nothing to
    /// read, `reason` is the error.
    fn saved(
        &self,
        connection: &Connection,
        pipeline: &str,
        names: &[String],
        reason: highwater_engine::Error,
    ) -> Result<Stale> {
        let began = Instant::now();
        let within = |limit: Duration| connection.check_cancelled().is_ok() && began.elapsed() < limit;
        let plan = self.pipeline_plan(&self.state(), pipeline)?;
        let saved = match self.is_foreign(pipeline, &plan, || within(ROOT_PATIENCE)) {
            Some(true) => return Err(reason.into()),
            Some(false) => self.engine.saved(pipeline, &plan, names, || within(FILES_PATIENCE)),
            None => Ok(None),
        };
        let Saved { checkpoint, epoch, wall, views } = match saved {
            Ok(Some(saved)) => saved,
            Ok(None) => {
                connection.check_cancelled()?;
                return Err(self.unanswered(pipeline, began.elapsed(), &reason));
            }
            Err(_) => return Err(reason.into()),
        };
        let age = u64::try_from(SystemClock::default().wall().0 - wall.0).unwrap_or_default() / 1_000_000;
        let state = self.state();
        let names: Vec<&str> = names.iter().map(|kept| state.objects.shown(kept)).collect();
        let (names, running) = (names.join(", "), state.running.get(pipeline).cloned());
        drop(state);
        let reason = match running {
            Some(running) => self.advised(&running, reason.to_string()),
            None => reason.to_string(),
        };
        let notice = format!("{names}: stale, as of checkpoint {} of {age} s ago: {reason}", checkpoint.0);
        tracing::warn!(pipeline, checkpoint = checkpoint.0, reason, "a query reads views as a checkpoint holds them");
        Ok(Stale { epoch, notice, views })
    }

    /// The error of a read that has waited for the root for so long.
    fn unanswered(&self, pipeline: &str, waited: Duration, reason: &highwater_engine::Error) -> Error {
        let title = self.state().objects.title(pipeline).to_owned();
        let (root, seconds) = (self.engine.store().root().url(), waited.as_secs());
        let message = format!(
            "{reason}; what its newest checkpoint holds would be read, but checkpoint root {root} has not given that \
             of {title:?} in {seconds} s: try again when it answers"
        );
        invalid("58030", message, None)
    }

    pub(crate) fn running(&self, state: &State, pipeline: &str) -> Result<Pipeline> {
        state.running.get(pipeline).cloned().ok_or_else(|| {
            let otherwise = if state.restoring.holds(pipeline) { "it is yet to be begun" } else { "it is shut down" };
            Error::Engine(highwater_engine::Error::NotRunning {
                pipeline: pipeline.to_owned(),
                reason: state.broken.why_not_running(pipeline).unwrap_or(otherwise).to_owned(),
            })
        })
    }

    /// A materialized view that runs and can be looked up by some of its columns.
    pub(crate) fn keyed_view(&self, name: &str) -> Option<KeyedView> {
        let (name, schema, pipeline) = {
            let state = self.state();
            let is_kept = |object: &&Object| matches!(object.body, Body::Materialized(_) | Body::Fed(_));
            let object = state.objects.get(name).filter(is_kept)?;
            let pipeline = object.entry.pipeline.as_ref().filter(|pipeline| !state.waiting.contains(*pipeline))?;
            (object.kept().to_owned(), Arc::clone(&object.schema), state.running.get(pipeline)?.clone())
        };
        let key = pipeline.lookup_columns(&name).ok().flatten().filter(|key| !key.is_empty())?;
        Some(KeyedView { name, schema, key, pipeline })
    }
}

/// Views as a checkpoint holds them.
struct Stale {
    epoch: Epoch,
    notice: String,
    views: Vec<Vec<RecordBatch>>,
}

/// A view that can be looked up.
pub(crate) struct KeyedView {
    /// As the engine knows it.
    name: String,
    pub(crate) schema: SchemaRef,
    /// The columns that name a row, in the order of [`KeyedView::lookup`].
    pub(crate) key: Vec<usize>,
    pipeline: Pipeline,
}

impl KeyedView {
    /// What tells it from all others.
    pub(crate) fn name(&self) -> (String, String) {
        (self.pipeline.name().to_owned(), self.name.clone())
    }

    /// The rows of keys: one array a column of the key, one entry a key. Blocks.
    pub(crate) fn lookup(&self, keys: Vec<ArrayRef>) -> Result<Vec<RecordBatch>> {
        shaped(&self.schema, self.pipeline.lookup(&self.name, keys)?)
    }
}

/// Batches with a view's names and types.
pub(crate) fn shaped(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let shape = |batch: RecordBatch| -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(c, f)| cast(c, f.data_type())).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    };
    batches.into_iter().map(shape).collect()
}
