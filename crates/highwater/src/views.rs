//! The rows of materialized views, for queries: all of a pipeline's views as of one epoch.
//!
//! A view whose pipeline does not run is read as its newest checkpoint holds it, and the client is
//! told that it is stale. A row that is named by the view's key is looked up without reading others.

use crate::connection::Connection;
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::TableSource;
use highwater_engine::core::{Clock as _, Epoch, SystemClock};
use highwater_engine::{Pipeline, Saved};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What names in a query stand for.
pub(crate) type Tables = BTreeMap<String, Arc<dyn TableSource>>;

/// Views as they were read: their rows, the epochs of their pipelines, and the least position in the
/// log of tables that these show.
#[derive(Default)]
pub(crate) struct Scanned {
    pub(crate) tables: Tables,
    pub(crate) epochs: Vec<(String, Epoch)>,
    pub(crate) horizon: Option<u64>,
    /// Which views are stale, and why.
    pub(crate) notices: Vec<String>,
}

impl Database {
    /// The rows of materialized views, those of one pipeline as of one epoch. Blocks.
    pub(crate) fn scanned(&self, connection: &Connection, leaves: &[Object]) -> Result<Scanned> {
        let mut of_pipeline: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in leaves {
            if let Some(pipeline) = &object.entry.pipeline {
                of_pipeline.entry(pipeline).or_default().push(object);
            }
        }
        let wanted: BTreeSet<String> = of_pipeline.keys().map(|pipeline| (*pipeline).to_owned()).collect();
        self.wait_for_pipelines(connection, &wanted)?;
        let mut scanned = Scanned::default();
        for (pipeline, objects) in of_pipeline {
            let names: Vec<String> = objects.iter().map(|o| o.kept().to_owned()).collect();
            let running = self.running(&self.state(), pipeline);
            let views = match running.and_then(|running| Ok(running.scan(&names)?)) {
                Ok(scan) => {
                    scanned.epochs.push((pipeline.to_owned(), scan.epoch));
                    // A pipeline that reads no table shows none at any position.
                    if !self.tables_of(&self.state(), pipeline).is_empty() {
                        scanned.horizon = scanned.horizon.into_iter().chain([scan.horizon]).min();
                    }
                    scan.views
                }
                Err(Error::Engine(reason @ highwater_engine::Error::NotRunning { .. })) => {
                    let saved = self.saved(pipeline, &names, reason)?;
                    scanned.epochs.push((pipeline.to_owned(), saved.epoch));
                    scanned.notices.push(saved.notice);
                    saved.views
                }
                Err(error) => return Err(error),
            };
            for (object, rows) in objects.into_iter().zip(views) {
                let rows = shaped(&object.schema, rows)?;
                let table = MemTable::try_new(Arc::clone(&object.schema), vec![rows])?;
                scanned.tables.insert(object.name().to_owned(), provider_as_source(Arc::new(table)));
            }
        }
        Ok(scanned)
    }

    /// Views of a pipeline that does not run, and what to tell of them. When there is nothing to
    /// read, `reason` is the error.
    fn saved(&self, pipeline: &str, names: &[String], reason: highwater_engine::Error) -> Result<Stale> {
        let plan = self.pipeline_plan(&self.state(), pipeline)?;
        let saved = self.engine.saved(pipeline, &plan, names);
        let Ok(Saved { checkpoint, epoch, wall, views }) = saved else { return Err(reason.into()) };
        let age = u64::try_from(SystemClock::default().wall().0 - wall.0).unwrap_or_default() / 1_000_000;
        let state = self.state();
        let names: Vec<&str> = names.iter().map(|kept| state.objects.shown(kept)).collect();
        let names = names.join(", ");
        drop(state);
        let notice = format!("{names}: stale, as of checkpoint {} of {age} s ago: {reason}", checkpoint.0);
        tracing::warn!(pipeline, checkpoint = checkpoint.0, %reason, "a query reads views as a checkpoint holds them");
        Ok(Stale { epoch, notice, views })
    }

    pub(crate) fn running(&self, state: &State, pipeline: &str) -> Result<Pipeline> {
        state.running.get(pipeline).cloned().ok_or_else(|| {
            Error::Engine(highwater_engine::Error::NotRunning {
                pipeline: pipeline.to_owned(),
                reason: state.broken.why_not_running(pipeline).unwrap_or("it is shut down").to_owned(),
            })
        })
    }

    /// A materialized view that runs and can be looked up by some of its columns.
    pub(crate) fn keyed_view(&self, name: &str) -> Option<KeyedView> {
        let (name, schema, pipeline) = {
            let state = self.state();
            let object = state.objects.get(name).filter(|object| matches!(object.body, Body::Materialized(_)))?;
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
