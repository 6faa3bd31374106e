//! SELECT and EXPLAIN, recomputation from scratch, and FLUSH.

use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::objects::{Body, Object, Reading};
use crate::outcome::{Outcome, Rows};
use crate::replay::{self, SplitOffsets, Until};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::collect;
use highwater_engine::checkpoint::inspect;
use highwater_engine::core::{CheckpointId, Epoch};
use highwater_engine::{Pipeline, Status, Trigger};
use highwater_sql::statement::{CreateView, Query};
use highwater_sql::{explain, references, session};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long FLUSH waits for sources that may grow to give nothing more.
const QUIET: Duration = Duration::from_millis(300);
/// How long FLUSH waits in all.
const PATIENCE: Duration = Duration::from_secs(600);

type Tables = BTreeMap<String, Arc<dyn TableSource>>;

/// Where each source of a pipeline stands, by the source's name.
pub type Offsets = BTreeMap<String, SplitOffsets>;

/// A view's rows, and the same rows computed from scratch.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The checkpoint whose offsets were read up to.
    pub checkpoint: CheckpointId,
    /// The epoch that the view was read at.
    pub epoch: Epoch,
    /// What the view holds.
    pub view: Rows,
    /// What its query gives over the sources' rows up to the same offsets.
    pub recomputed: Rows,
}

impl Database {
    pub(crate) fn select(&self, query: &Query) -> Result<Outcome> {
        let (plan, _) = self.planned(query)?;
        Ok(Outcome::rows("SELECT", self.run(&plan)?))
    }

    pub(crate) fn explain_query(&self, query: &Query) -> Result<Outcome> {
        let (plan, epochs) = self.planned(query)?;
        let plan = self.session.state().optimize(&plan)?;
        let mut lines: Vec<String> = plan.display_indent().to_string().lines().map(str::to_owned).collect();
        lines.extend(epochs.iter().map(|(pipeline, epoch)| format!("-- {pipeline} at epoch {epoch}")));
        Ok(Outcome::rows("EXPLAIN", Rows::text("QUERY PLAN", lines)))
    }

    pub(crate) fn explain_view(&self, view: CreateView, text: &str) -> Result<Outcome> {
        let state = self.state();
        let name = view.name.value.clone();
        if state.objects.get(&name).is_some() {
            let position = Some(view.name.at);
            return Err(highwater_sql::Error::Duplicate { name, position }.into());
        }
        let object = self.materialized_object(&state, view, text)?;
        let lines = explain(&self.plan_with(&state, &object)?);
        Ok(Outcome::rows("EXPLAIN", Rows::text("QUERY PLAN", lines)))
    }

    /// A query's plan over the rows that its views hold now, and the epochs of their pipelines.
    fn planned(&self, query: &Query) -> Result<(LogicalPlan, Vec<(String, Epoch)>)> {
        let names = references(query);
        let leaves = {
            let mut state = self.state();
            self.settle(&mut state)?;
            state.objects.leaves(&names).into_iter().cloned().collect::<Vec<Object>>()
        };
        let (mut tables, epochs) = self.scanned(&leaves)?;
        for object in &leaves {
            if let Body::Source(source, extent) = &object.body {
                let table = replay::table(source, &until(object, *extent)?)?;
                tables.insert(object.name().to_owned(), provider_as_source(table));
            }
        }
        let state = self.state();
        let reading = Reading::Tables(&tables);
        let relations = state.objects.relations(&self.session, &names, reading)?;
        drop(state);
        let plan = self.session.bind(query, &relations)?;
        Ok((self.session.runnable(plan)?, epochs))
    }

    /// The rows of materialized views, those of one pipeline as of one epoch.
    fn scanned(&self, leaves: &[Object]) -> Result<(Tables, Vec<(String, Epoch)>)> {
        let mut of_pipeline: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in leaves {
            if let Some(pipeline) = &object.entry.pipeline {
                of_pipeline.entry(pipeline).or_default().push(object);
            }
        }
        let (mut tables, mut epochs) = (Tables::new(), Vec::new());
        for (pipeline, objects) in of_pipeline {
            let running = self.running(&self.state(), pipeline)?;
            let names: Vec<String> = objects.iter().map(|o| o.name().to_owned()).collect();
            let scan = running.scan(&names)?;
            epochs.push((pipeline.to_owned(), scan.epoch));
            for (object, rows) in objects.into_iter().zip(scan.views) {
                let rows = shaped(&object.schema, rows)?;
                let table = MemTable::try_new(Arc::clone(&object.schema), vec![rows])?;
                tables.insert(object.name().to_owned(), provider_as_source(Arc::new(table)));
            }
        }
        Ok((tables, epochs))
    }

    fn running(&self, state: &State, pipeline: &str) -> Result<Pipeline> {
        state.running.get(pipeline).cloned().ok_or_else(|| {
            Error::Engine(highwater_engine::Error::NotRunning {
                pipeline: pipeline.to_owned(),
                reason: state.broken.why_not_running(pipeline).unwrap_or("it is shut down").to_owned(),
            })
        })
    }

    fn run(&self, plan: &LogicalPlan) -> Result<Rows> {
        let mut state = self.session.state().clone();
        state.mark_start_execution();
        self.runtime.block_on(async {
            let physical = state.create_physical_plan(plan).await?;
            let schema = physical.schema();
            let batches = collect(physical, state.task_ctx()).await?;
            Ok(Rows { schema, batches })
        })
    }

    /// Reads a view, and computes it from scratch over the rows that it has seen. The view's
    /// pipeline takes no rows meanwhile.
    ///
    /// # Errors
    /// Those of the view's pipeline and sources; `Unknown` when there is no such view.
    pub fn recompute(&self, view: &str) -> Result<Compared> {
        let (pipeline, object) = {
            let mut state = self.state();
            self.settle(&mut state)?;
            let object = self.materialized(&state, view)?;
            let pipeline = object.entry.pipeline.clone().unwrap_or_default();
            (self.running(&state, &pipeline)?, object)
        };
        pipeline.pause(true)?;
        let seen = self.seen(&pipeline, view);
        let resumed = pipeline.pause(false);
        let (checkpoint, epoch, offsets, rows) = seen?;
        resumed?;
        let batches = shaped(&object.schema, rows)?;
        let view = Rows { schema: Arc::clone(&object.schema), batches };
        let recomputed = self.recompute_object(&object, Some(&offsets))?;
        Ok(Compared { checkpoint, epoch, view, recomputed })
    }

    /// A view's rows from scratch: its query, and those of the views that it reads, over the
    /// sources' rows up to `offsets`, or up to their ends.
    ///
    /// # Errors
    /// Those of the sources and of the query; `Unknown` when there is no such view.
    pub fn compute(&self, view: &str, offsets: Option<&Offsets>) -> Result<Rows> {
        let object = self.materialized(&self.state(), view)?;
        self.recompute_object(&object, offsets)
    }

    fn materialized(&self, state: &State, view: &str) -> Result<Object> {
        let found = state.objects.get(view).filter(|o| matches!(o.body, Body::Materialized(_)));
        found.cloned().ok_or_else(|| {
            let kind = highwater_sql::Kind::Relation;
            highwater_sql::Error::Unknown { kind, name: view.to_owned(), position: None }.into()
        })
    }

    /// What a paused pipeline has read, as a checkpoint says it, and what a view then holds.
    fn seen(&self, pipeline: &Pipeline, view: &str) -> Result<(CheckpointId, Epoch, Offsets, Vec<RecordBatch>)> {
        pipeline.checkpoint(Trigger::Manual)?;
        let mut scan = pipeline.scan(&[view.to_owned()])?;
        let shown = inspect::show(self.engine.store(), pipeline.name(), None);
        let manifest = self.engine.wait_for(shown).map_err(highwater_engine::Error::from)?;
        let of_source =
            |(node, offsets): (String, SplitOffsets)| Some((node.strip_suffix("/source")?.to_owned(), offsets));
        let offsets = manifest.sources.into_iter().filter_map(of_source).collect();
        let rows = scan.views.pop().expect("one view was asked for");
        Ok((manifest.checkpoint, scan.epoch, offsets, rows))
    }

    fn recompute_object(&self, object: &Object, offsets: Option<&Offsets>) -> Result<Rows> {
        let names = [object.name().to_owned()].into();
        let mut tables = Tables::new();
        let state = self.state();
        for source_object in state.objects.sources(&names) {
            let Body::Source(source, extent) = &source_object.body else { continue };
            let until = match offsets {
                Some(all) => Until::Offsets(all.get(source_object.name()).cloned().unwrap_or_default()),
                None => until(source_object, *extent)?,
            };
            let table = provider_as_source(replay::table(source, &until)?);
            tables.insert(source_object.name().to_owned(), table);
        }
        let Some(query) = object.query() else { return Ok(Rows::none("result")) };
        let relations = state.objects.relations(&self.session, &references(query), Reading::Scratch(&tables))?;
        drop(state);
        let plan = self.session.bind(query, &relations)?;
        let columns = match &object.body {
            Body::Materialized(view) => view.columns.as_slice(),
            _ => &[],
        };
        let plan = self.session.runnable(session::rename(plan, columns, &query.text)?)?;
        let rows = self.run(&plan)?;
        let batches = shaped(&object.schema, rows.batches)?;
        Ok(Rows { schema: Arc::clone(&object.schema), batches })
    }

    /// Waits until all that sources have now is in the views: the end of those that end, quiet of
    /// those that may grow, one epoch of those that never end.
    pub(crate) fn flush(&self) -> Result<Outcome> {
        let pipelines: Vec<(Pipeline, Extent)> = {
            let mut state = self.state();
            self.settle(&mut state)?;
            let extent = |pipeline: &str| {
                let names = state.objects.of_pipeline(pipeline).map(|o| o.name().to_owned());
                let mut names: std::collections::BTreeSet<String> = names.collect();
                let reads = state.objects.of_pipeline(pipeline).flat_map(Object::reads);
                names.extend(reads.collect::<Vec<_>>());
                let sources = state.objects.sources(&names);
                let is = |wanted| sources.iter().any(|o| matches!(o.body, Body::Source(_, e) if e == wanted));
                if is(Extent::Endless) {
                    Extent::Endless
                } else if is(Extent::Growing) {
                    Extent::Growing
                } else {
                    Extent::Bounded
                }
            };
            state.running.iter().map(|(name, running)| (running.clone(), extent(name))).collect()
        };
        for (pipeline, extent) in pipelines {
            flush_one(&pipeline, extent)?;
        }
        Ok(Outcome::done("FLUSH"))
    }
}

fn flush_one(pipeline: &Pipeline, extent: Extent) -> Result<()> {
    if extent == Extent::Endless {
        pipeline.scan(&[])?;
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = (pipeline.metrics().rows_in, Instant::now());
    let mut asked = false;
    while !pipeline.wait_finished(Some(Duration::from_millis(20)))? {
        if let Status::Failed { reason, .. } | Status::Lost { reason } = pipeline.status() {
            let pipeline = pipeline.name().to_owned();
            return Err(highwater_engine::Error::NotRunning { pipeline, reason }.into());
        }
        let rows = pipeline.metrics().rows_in;
        if rows != quiet.0 {
            quiet = (rows, Instant::now());
        } else if quiet.1.elapsed() >= QUIET {
            if extent == Extent::Growing {
                pipeline.scan(&[])?;
                return Ok(());
            }
            if !asked {
                // With checkpoints by interval off, nothing else asks for the last one.
                pipeline.checkpoint(Trigger::Manual)?;
                asked = true;
            }
        }
        if Instant::now() >= deadline {
            let what = format!("{} still reads its sources", pipeline.name());
            return Err(highwater_engine::Error::Timeout(what).into());
        }
    }
    Ok(())
}

/// How far a query reads a source itself.
fn until(object: &Object, extent: Extent) -> Result<Until> {
    match extent {
        Extent::Bounded => Ok(Until::End),
        Extent::Growing => Ok(Until::Now),
        Extent::Endless => Err(Error::Sql(highwater_sql::Error::Unsupported {
            clause: format!("a query over the endless source {:?}", object.name()),
            hint: "make a materialized view of it, or limit the source".to_owned(),
            position: None,
        })),
    }
}

/// Batches with a view's names and types.
fn shaped(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let shape = |batch: RecordBatch| -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(c, f)| cast(c, f.data_type())).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    };
    batches.into_iter().map(shape).collect()
}
