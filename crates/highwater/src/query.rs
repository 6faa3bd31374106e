//! SELECT and EXPLAIN, recomputation from scratch, and FLUSH.

use crate::answer::{Answer, RowStream, Tag};
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::fed;
use crate::objects::{Body, Object, Reading};
use crate::outcome::{Outcome, Rows};
use crate::parameters::Parameters;
use crate::provider::TableRows;
use crate::replay::{self, Until};
use crate::set_config::{self, Changes};
use crate::show;
use crate::turns;
use crate::views::{Scanned, shaped};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::provider_as_source;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt as _;
use highwater_engine::checkpoint::inspect;
use highwater_engine::core::{CheckpointId, Epoch, WallMicros};
use highwater_engine::source::{Extent, Offset, Source};
use highwater_engine::{CheckpointOutcome, Pipeline, Status, Trigger};
use highwater_sql::session::plain;
use highwater_sql::statement::{CreateView, Query};
use highwater_sql::zones::Zone;
use highwater_sql::{Session, explain, references};
use highwater_tables::{Overlay, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// The column of EXPLAIN.
pub(crate) const QUERY_PLAN: &str = "QUERY PLAN";
/// How long FLUSH waits for sources that may grow to give nothing more.
const QUIET: Duration = Duration::from_millis(300);
/// How often FLUSH looks whether sinks have delivered.
const LOOK: Duration = Duration::from_millis(5);
/// Batches of a query that may wait for whoever reads them.
const BATCHES_AHEAD: usize = 1;
/// How long FLUSH waits in all.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where a source stands, by the splits' names.
pub type SplitOffsets = BTreeMap<String, Offset>;

/// Where each source of a pipeline stands, by the source's name; `<view>:<source>` for what a view
/// reads that joined the pipeline later.
pub type Offsets = BTreeMap<String, SplitOffsets>;

/// What a paused pipeline shows.
struct Seen {
    checkpoint: CheckpointId,
    epoch: Epoch,
    /// Where it is in the log of tables.
    horizon: u64,
    /// What now() is in it.
    wall: WallMicros,
    offsets: Offsets,
    rows: Vec<RecordBatch>,
    snapshot: Arc<Snapshot>,
}

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

/// A query that can be run.
struct Planned {
    plan: LogicalPlan,
    /// Of the views' pipelines.
    epochs: Vec<(String, Epoch)>,
    /// For the person who asked.
    notices: Vec<String>,
}

impl Database {
    /// A query's rows, which are computed as they are taken.
    pub(crate) async fn answer_query(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Answer> {
        self.check_isolation(connection, query)?;
        let changes = Changes::default();
        let answer = if let Some(rows) = self.point_select(connection, query, parameters)? {
            Answer::collected(Tag::Select, rows)
        } else if let Some(answer) = self.system_query(connection, query, parameters, &changes).await? {
            if set_config::is_in(&query.text) {
                let rows = answer.collect_within(self.config.query_memory.0).await?;
                Answer { notices: changes.apply(connection)?, ..Answer::collected(Tag::Select, rows) }
            } else {
                answer
            }
        } else {
            let planned = self.planned(connection, query, parameters, None).await?;
            Answer { notices: planned.notices, ..self.run_plan(&planned.plan).await? }
        };
        Ok(answer.titled(&query.ast))
    }

    pub(crate) async fn explain_query(&self, connection: &mut Connection, query: &Query) -> Result<Answer> {
        if let Some(by) = self.index_for(query, &Parameters::none()).filter(|by| by.is_for(connection)) {
            let rows = Rows::text(QUERY_PLAN, by.explained());
            return Ok(Answer::collected(Tag::Plain("EXPLAIN".to_owned()), rows));
        }
        let Planned { plan, epochs, .. } = self.planned(connection, query, &Parameters::none(), None).await?;
        let session = Arc::clone(&self.session);
        let plan = self.aside(move || Ok(session.state().optimize(&plan)?)).await?;
        let mut lines: Vec<String> = plan.display_indent().to_string().lines().map(str::to_owned).collect();
        let state = self.state();
        let told =
            |(pipeline, epoch): &(String, Epoch)| format!("-- {} at epoch {epoch}", state.objects.title(pipeline));
        lines.extend(epochs.iter().map(told));
        drop(state);
        Ok(Answer::collected(Tag::Plain("EXPLAIN".to_owned()), Rows::text(QUERY_PLAN, lines)))
    }

    /// Runs a query, and tells what each of its operators did instead of its rows.
    pub(crate) async fn explain_analyze(&self, connection: &mut Connection, query: &Query) -> Result<Answer> {
        self.check_isolation(connection, query)?;
        let answer = |lines| Answer::collected(Tag::Plain("EXPLAIN".to_owned()), Rows::text(QUERY_PLAN, lines));
        let none = Parameters::none();
        let by_index = self.index_for(query, &none).filter(|by| by.is_for(connection)).map(|by| by.explained());
        if let Some(mut lines) = by_index
            && let Some(rows) = self.point_select(connection, query, &none)?
        {
            let found: usize = rows.batches.iter().map(RecordBatch::num_rows).sum();
            lines.push(format!("-- {found} rows"));
            return Ok(answer(lines));
        }
        let Planned { plan, notices, .. } = self.planned(connection, query, &none, None).await?;
        let analyze = LogicalPlanBuilder::from(plan).explain(false, true).and_then(LogicalPlanBuilder::build)?;
        let told = self.run_plan(&analyze).await?.collect_within(self.config.query_memory.0).await?;
        let plans = told.batches.iter().filter_map(|batch| batch.column(1).as_string_opt::<i32>());
        let lines = plans.flat_map(|plans| plans.iter().flatten().flat_map(str::lines)).map(str::to_owned).collect();
        Ok(Answer { notices, ..answer(lines) })
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
        Ok(Outcome::rows("EXPLAIN", Rows::text(QUERY_PLAN, lines)))
    }

    pub(crate) async fn planned_with(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
        special: Option<(&str, TableRows)>,
    ) -> Result<LogicalPlan> {
        self.check_isolation(connection, query)?;
        Ok(self.planned(connection, query, parameters, special).await?.plan)
    }

    /// Refuses what changes from one statement to the next in a transaction that is to see one snapshot:
    /// that is one of the tables which clients write.
    fn check_isolation(&self, connection: &mut Connection, query: &Query) -> Result<()> {
        if !connection.begin_query() {
            return Ok(());
        }
        let state = self.state();
        let leaves = state.objects.leaves(&references(query));
        match leaves.iter().find(|leaf| !matches!(leaf.body, Body::Table(_))) {
            None => Ok(()),
            Some(leaf) => Err(Error::Sql(highwater_sql::Error::Unsupported {
                clause: format!("reading {:?} in a REPEATABLE READ transaction", leaf.name()),
                hint: "its snapshot has tables alone; READ COMMITTED reads the rest as of each statement".to_owned(),
                position: None,
            })),
        }
    }

    /// A query's plan over the rows that its views and tables hold now. `special` stands for one of
    /// the tables.
    async fn planned(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
        special: Option<(&str, TableRows)>,
    ) -> Result<Planned> {
        let names = references(query);
        let leaves = {
            let mut state = self.state();
            let leaves: Vec<Object> = state.objects.leaves(&names).into_iter().cloned().collect();
            state.check_sources(&leaves)?;
            let pipelines: BTreeSet<String> = leaves.iter().filter_map(|leaf| leaf.entry.pipeline.clone()).collect();
            if !state.waiting.is_disjoint(&pipelines) {
                tokio::task::block_in_place(|| self.settle_some(&mut state, &pipelines))?;
            }
            leaves
        };
        let is_view = |object: &Object| object.entry.pipeline.is_some();
        let mut scanned = if leaves.iter().any(is_view) {
            tokio::task::block_in_place(|| self.scanned(connection, &leaves))?
        } else {
            Scanned::default()
        };
        // One for all tables; taken after the scan, so that it has all that the views show.
        let mut snapshot = special.as_ref().map(|(_, rows)| Arc::clone(rows.snapshot()));
        for object in &leaves {
            let table: Arc<dyn TableProvider> = match (&object.body, &special) {
                (Body::Table(_), Some((name, rows))) if *name == object.name() => Arc::new(rows.clone()),
                (Body::Table(target), _) => {
                    let snapshot = match &mut snapshot {
                        Some(snapshot) => snapshot,
                        none => none.insert(connection.snapshot(&self.tables)?),
                    };
                    Arc::new(table_rows(connection, target, snapshot, scanned.horizon)?)
                }
                (Body::Source(source), _) => replay::table(source, &until(object, source.as_ref())?)?,
                _ => continue,
            };
            scanned.tables.insert(object.name().to_owned(), provider_as_source(table));
        }
        let relations = self.state().objects.relations(&self.session, &names, Reading::Tables(&scanned.tables))?;
        let Scanned { epochs, notices, .. } = scanned;
        let (session, query, zone) = (Arc::clone(&self.session), query.clone(), connection.zone());
        let parameters = parameters.clone();
        let plan = self.aside(move || {
            let plan = plain(session.bind_with(&query, &relations, &parameters.types())?)?;
            let plan = session.runnable(parameters.put_into(plan)?)?;
            in_zone(&session, plan, zone.as_ref())
        });
        let plan = plan.await?;
        Ok(Planned { plan, epochs, notices })
    }

    /// A plan that can be run, in a session's zone.
    pub(crate) fn in_zone(&self, plan: LogicalPlan, zone: Option<&Zone>) -> Result<LogicalPlan> {
        in_zone(&self.session, plan, zone)
    }

    /// Does what may take seconds, as long expressions do, on a thread of its own: others have their turn
    /// meanwhile, and who waits for it can be told that it takes too long.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.runtime.spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(ended)) => Err(DataFusionError::ExecutionJoin(Box::new(ended)).into()),
        }
    }

    /// Runs a plan.
    pub(crate) async fn run_plan(&self, plan: &LogicalPlan) -> Result<Answer> {
        self.run_plan_at(plan, None).await
    }

    async fn run_plan_at(&self, plan: &LogicalPlan, wall: Option<WallMicros>) -> Result<Answer> {
        let mut state = self.session.state().clone();
        state.mark_start_execution();
        if let Some(now) = wall.and_then(|wall| timestamp_us_to_datetime(wall.0)) {
            state.execution_props_mut().query_execution_start_time = Some(now.and_utc());
        }
        let task = self.task(&state);
        let plan = plan.clone();
        let planned = self.aside(move || Ok(Handle::current().block_on(state.create_physical_plan(&plan))?));
        Ok(Answer::streamed(RowStream::new(self.computed(planned.await?, task)).plain()))
    }

    /// A plan's rows, computed on the queries' own threads: some operators compute for long without
    /// letting other tasks go on, and whoever reads may serve others. Who reads no more ends it.
    pub(crate) fn computed(&self, plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(plan.schema(), BATCHES_AHEAD);
        let rows = builder.tx();
        builder.spawn_on(
            async move {
                let mut stream = execute_stream(turns::given(plan)?, task)?;
                while let Some(batch) = stream.next().await {
                    let is_last = batch.is_err();
                    if rows.send(batch).await.is_err() || is_last {
                        break;
                    }
                }
                Ok::<_, DataFusionError>(())
            },
            self.runtime.handle(),
        );
        builder.build()
    }

    /// What a query runs in: the memory it may take is its own.
    pub(crate) fn task(&self, state: &SessionState) -> Arc<TaskContext> {
        let shared = state.runtime_env();
        let own = RuntimeEnv { memory_pool: self.query_memory.of_query(), ..shared.as_ref().clone() };
        Arc::new(TaskContext::from(state).with_runtime(Arc::new(own)))
    }

    /// A plan's rows; now() is what `wall` says, if anything.
    fn rows_of_plan(&self, plan: &LogicalPlan, wall: Option<WallMicros>) -> Result<Rows> {
        self.runtime.block_on(async { self.run_plan_at(plan, wall).await?.collect_within(u64::MAX).await })
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
        let seen = self.seen(&pipeline, object.kept());
        let resumed = pipeline.pause(false);
        let Seen { checkpoint, epoch, horizon, wall, offsets, rows, snapshot } = seen?;
        resumed?;
        let batches = shaped(&object.schema, rows)?;
        let view = Rows { schema: Arc::clone(&object.schema), batches };
        let recomputed = self.recompute_object(&object, Some(&offsets), &snapshot, Some((horizon, wall)))?;
        Ok(Compared { checkpoint, epoch, view, recomputed })
    }

    /// A view's rows from scratch: its query, and those of the views that it reads, over the
    /// sources' rows up to `offsets`, or up to their ends.
    ///
    /// # Errors
    /// Those of the sources and of the query; `Unknown` when there is no such view.
    pub fn compute(&self, view: &str, offsets: Option<&Offsets>) -> Result<Rows> {
        let object = self.materialized(&self.state(), view)?;
        self.recompute_object(&object, offsets, &Arc::new(self.tables.snapshot()?), None)
    }

    fn materialized(&self, state: &State, view: &str) -> Result<Object> {
        let found = state.objects.get(view).filter(|o| matches!(o.body, Body::Materialized(_)));
        found.cloned().ok_or_else(|| {
            let kind = highwater_sql::Kind::Relation;
            highwater_sql::Error::Unknown { kind, name: view.to_owned(), position: None }.into()
        })
    }

    /// What a paused pipeline has read, as a checkpoint says it, and what a view then holds.
    fn seen(&self, pipeline: &Pipeline, view: &str) -> Result<Seen> {
        pipeline.checkpoint(Trigger::Manual)?;
        let mut scan = pipeline.scan(&[view.to_owned()])?;
        let shown = inspect::show(self.engine.store(), pipeline.name(), None);
        let manifest = self.engine.wait_for(shown).map_err(highwater_engine::Error::from)?;
        let of_source =
            |(node, offsets): (String, SplitOffsets)| Some((node.strip_suffix("/source")?.to_owned(), offsets));
        let offsets = manifest.sources.into_iter().filter_map(of_source).collect();
        let rows = scan.views.pop().expect("one view was asked for");
        // Taken after the scan, so that it has all that the view shows.
        let snapshot = Arc::new(self.tables.snapshot()?);
        let (epoch, horizon, wall) = (scan.epoch, scan.horizon, scan.wall);
        Ok(Seen { checkpoint: manifest.checkpoint, epoch, horizon, wall, offsets, rows, snapshot })
    }

    fn recompute_object(
        &self,
        object: &Object,
        offsets: Option<&Offsets>,
        snapshot: &Arc<Snapshot>,
        as_of: Option<(u64, WallMicros)>,
    ) -> Result<Rows> {
        let (horizon, wall) = as_of.unzip();
        let state = self.state();
        let until_of = |reader: &Object, read: &Object, source: &dyn Source| match offsets {
            Some(all) => {
                let node = state.objects.node_of(reader, read);
                Ok(Until::Offsets(all.get(&node).cloned().unwrap_or_default()))
            }
            None => until(read, source),
        };
        let rows = |reader: &Object, read: &Object| match &read.body {
            Body::Table(target) => logged(target, snapshot, horizon),
            Body::Source(source) => {
                refuse_arrivals(source.as_ref())?;
                Ok(provider_as_source(replay::table(source, &until_of(reader, read, source.as_ref())?)?))
            }
            Body::Fed(fed) => {
                refuse_arrivals(fed.table.source.as_ref())?;
                let until = until_of(reader, read, fed.table.source.as_ref())?;
                Ok(provider_as_source(fed::from_scratch(&fed.table, &until)?))
            }
            _ => Err(invalid("XX000", format!("{:?} has no rows of its own", read.name()), None)),
        };
        let plan = state.objects.scratch(&self.session, object, &rows)?;
        drop(state);
        let plan = self.session.recomputable(plan)?;
        let rows = self.rows_of_plan(&plan, wall)?;
        let batches = shaped(&object.schema, rows.batches)?;
        Ok(Rows { schema: Arc::clone(&object.schema), batches })
    }

    /// Waits until all that tables and sources have now is in the views: every write, the end of
    /// sources that end, quiet of those that may grow, one epoch of those that never end; and until
    /// what that brings into tables through sinks is in them and in the views over them.
    /// Views that fail hold nobody else up.
    ///
    /// # Errors
    /// `Sql` with 55000 when views fail or could not be started, after all others show what there is; with
    /// 57014 when it is cancelled.
    pub(crate) fn flush(&self, connection: &Connection) -> Result<Outcome> {
        let mut failed = self.flush_views(connection)?;
        let sinks = self.state().objects.iter().filter(|object| object.writes().is_some()).count();
        for _ in 0..sinks {
            let before = self.tables.position();
            failed.extend(self.deliver_into_tables(connection)?);
            if self.tables.position() == before {
                break;
            }
            failed.extend(self.flush_views(connection)?);
        }
        failed.extend(self.stopped());
        if !failed.is_empty() {
            let told: Vec<String> = failed.into_values().collect();
            return Err(invalid("55000", told.join("; "), None));
        }
        let state = self.state();
        let failing = state.running.values().flat_map(|running| show::failing(&state, running));
        Ok(failing.fold(Outcome::done("FLUSH"), Outcome::noticed))
    }

    /// The pipelines that could not be started.
    fn stopped(&self) -> Failed {
        let state = self.state();
        let stopped = state.broken.stopped().into_iter().map(|(pipeline, reason)| {
            let title = state.objects.title(&pipeline).to_owned();
            let told = highwater_engine::Error::NotRunning { pipeline: title, reason }.to_string();
            (pipeline, told)
        });
        stopped.collect()
    }

    /// Waits until the tables have what their sinks have now, but not for those that cannot deliver.
    fn deliver_into_tables(&self, connection: &Connection) -> Result<Failed> {
        let state = self.state();
        let sinks = state.objects.iter().filter(|object| object.writes().is_some());
        let names: BTreeSet<&String> = sinks.filter_map(|sink| sink.entry.pipeline.as_ref()).collect();
        let pipelines: Vec<Pipeline> = names.into_iter().filter_map(|name| state.running.get(name).cloned()).collect();
        drop(state);
        let (deadline, mut failed) = (Instant::now() + PATIENCE, Failed::new());
        for pipeline in pipelines.iter().filter(|pipeline| pipeline.status() != Status::Finished) {
            let done = deliver(pipeline, deadline, connection);
            if done.is_err() && self.successor(pipeline).is_none() {
                // It was dropped.
                connection.check_cancelled()?;
                continue;
            }
            self.unless_failed(pipeline, done, &mut failed)?;
        }
        Ok(failed)
    }

    /// Notes that a pipeline does not run, and gives all other errors.
    fn unless_failed(&self, pipeline: &Pipeline, done: Result<()>, failed: &mut Failed) -> Result<()> {
        match done {
            Err(Error::Engine(error @ highwater_engine::Error::NotRunning { .. })) => {
                // Nobody waits for the views of one that was dropped meanwhile.
                if self.successor(pipeline).is_some() {
                    let told = self.advised(pipeline, error.to_string());
                    failed.insert(pipeline.name().to_owned(), told);
                }
                Ok(())
            }
            done => done,
        }
    }

    /// What goes by the name of a pipeline now: another one, the same whether it runs or not, or none as it
    /// was dropped.
    fn successor(&self, pipeline: &Pipeline) -> Option<Pipeline> {
        let state = self.state();
        let name = pipeline.name();
        match state.running.get(name) {
            Some(now) => Some(now.clone()),
            None => state.objects.of_pipeline(name).next().map(|_| pipeline.clone()),
        }
    }

    fn flush_views(&self, connection: &Connection) -> Result<Failed> {
        let pipelines: Vec<Flushed> = {
            let mut state = self.state();
            self.settle(&mut state)?;
            let running = state.running.iter();
            running.map(|(name, running)| self.to_flush(&state, name, running.clone())).collect()
        };
        let position = self.tables.position();
        let mut failed = Failed::new();
        for mut flushed in pipelines {
            let done = self.flush_as_it_is(&mut flushed, position, connection);
            self.unless_failed(&flushed.pipeline, done, &mut failed)?;
        }
        Ok(failed)
    }

    /// Flushes a pipeline, and the one that takes its place meanwhile.
    fn flush_as_it_is(&self, flushed: &mut Flushed, position: u64, connection: &Connection) -> Result<()> {
        loop {
            let failed = match self.flush_pipeline(flushed, position, connection) {
                Err(error @ Error::Engine(highwater_engine::Error::NotRunning { .. })) => error,
                done => return done,
            };
            match self.successor(&flushed.pipeline) {
                Some(newer) if !newer.is(&flushed.pipeline) => {
                    let name = newer.name().to_owned();
                    *flushed = self.to_flush(&self.state(), &name, newer);
                }
                _ => return Err(failed),
            }
        }
    }

    fn flush_pipeline(&self, flushed: &Flushed, position: u64, connection: &Connection) -> Result<()> {
        let Flushed { pipeline, extent, reads_tables } = flushed;
        if *reads_tables {
            self.wait_reached(pipeline.clone(), position, connection)?;
        }
        match extent {
            // Its tables do not end.
            Some(Extent::Constant | Extent::Bounded) if *reads_tables => wait_for_end(pipeline, connection),
            Some(extent) => flush_one(pipeline, *extent, connection),
            None => Ok(()),
        }
    }

    /// Waits until the views over tables show all writes up to now. Tells of those that do not run:
    /// what was written is written.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn flush_tables(&self, connection: &Connection) -> Result<Vec<String>> {
        self.wait_for_all_pipelines(connection)?;
        let state = self.state();
        let running = state.running.iter().map(|(name, running)| self.to_flush(&state, name, running.clone()));
        let pipelines: Vec<Flushed> = running.filter(|flushed| flushed.reads_tables).collect();
        drop(state);
        let mut notices = Vec::new();
        for Flushed { pipeline, .. } in pipelines {
            match self.wait_reached(pipeline.clone(), connection.position, connection) {
                Err(Error::Engine(_)) if self.successor(&pipeline).is_none() => {}
                Err(Error::Engine(error)) => {
                    let told = self.advised(&pipeline, error.to_string());
                    notices.push(format!("the write is done; a view does not show it yet: {told}"));
                }
                other => other?,
            }
        }
        Ok(notices)
    }

    /// Waits until a pipeline's views show the log of tables up to `position`, also when it is begun
    /// anew with other objects meanwhile.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled, `Engine` when the pipeline fails.
    pub(crate) fn wait_reached(&self, pipeline: Pipeline, position: u64, connection: &Connection) -> Result<()> {
        self.wait_in(pipeline, connection, |pipeline| {
            pipeline.wait_reached(position, || connection.check_cancelled().is_ok())
        })
    }

    /// The same until all sources of a pipeline have ended and its views show all their rows.
    ///
    /// # Errors
    /// As [`Database::wait_reached`].
    pub(crate) fn wait_drained(&self, pipeline: Pipeline, connection: &Connection) -> Result<()> {
        self.wait_in(pipeline, connection, |pipeline| pipeline.wait_drained(|| connection.check_cancelled().is_ok()))
    }

    /// Waits for what a pipeline tells, or the one that takes its place.
    fn wait_in(
        &self,
        mut pipeline: Pipeline,
        connection: &Connection,
        told: impl Fn(&Pipeline) -> highwater_engine::Result<bool>,
    ) -> Result<()> {
        loop {
            let failed = match told(&pipeline) {
                Ok(true) => return Ok(()),
                Ok(false) => return connection.check_cancelled(),
                Err(error) => error,
            };
            // A definition holds the state from the old run's end to the new one's beginning.
            match self.state().running.get(pipeline.name()) {
                Some(newer) if !newer.is(&pipeline) => pipeline = newer.clone(),
                _ => return Err(failed.into()),
            }
        }
    }

    fn to_flush(&self, state: &State, name: &str, pipeline: Pipeline) -> Flushed {
        let reads: std::collections::BTreeSet<String> =
            state.objects.of_pipeline(name).flat_map(Object::reads).collect();
        let is_table = |object: &&Object| matches!(object.body, Body::Table(_));
        let reads_tables = state.objects.sources(&reads).iter().any(is_table);
        let extent = pipeline.extent();
        Flushed { pipeline, extent, reads_tables }
    }
}

/// A plan that can be run, in a session's zone.
fn in_zone(session: &Session, plan: LogicalPlan, zone: Option<&Zone>) -> Result<LogicalPlan> {
    Ok(match zone {
        Some(zone) => session.zoned(plan, zone)?.plan,
        None => plan,
    })
}

/// A table as a statement sees it: with the transaction's writes, or, beside views, as they show it.
fn table_rows(
    connection: &Connection,
    target: &Target,
    snapshot: &Arc<Snapshot>,
    horizon: Option<u64>,
) -> Result<TableRows> {
    let over = match horizon {
        Some(horizon) if connection.transaction.is_none() => {
            // The log is kept from where the slowest view stands; beside a view that stood still
            // for long it may be gone.
            let over = snapshot.as_of(&target.table, horizon)?;
            let gone = || invalid("55000", "a view is too far behind to be read beside a table: read it alone", None);
            Arc::new(over.ok_or_else(gone)?)
        }
        _ => connection.overlay(&target.table),
    };
    Ok(TableRows::new(&target.table, snapshot, over, false))
}

/// A table's rows as of a position of the log, or as they are.
fn logged(target: &Target, snapshot: &Arc<Snapshot>, horizon: Option<u64>) -> Result<Arc<dyn TableSource>> {
    let over = match horizon {
        Some(horizon) => snapshot
            .as_of(&target.table, horizon)?
            .ok_or_else(|| invalid("55000", "the log of tables is too short to recompute", None))?,
        None => Overlay::new(),
    };
    Ok(provider_as_source(Arc::new(TableRows::new(&target.table, snapshot, Arc::new(over), false))))
}

/// By pipelines that do not run, why, in words.
type Failed = BTreeMap<String, String>;

/// Waits until the sinks of a pipeline have what its views show.
fn deliver(pipeline: &Pipeline, deadline: Instant, connection: &Connection) -> Result<()> {
    let report = pipeline.checkpoint(Trigger::Manual)?;
    if let CheckpointOutcome::Failed(reason) = report.outcome {
        let what = format!("the checkpoint of {} failed, so its sinks deliver later: {reason}", pipeline.title());
        return Err(invalid("55000", what, None));
    }
    wait_for_epoch(pipeline, connection)?;
    while pipeline.is_delivering() {
        connection.check_cancelled()?;
        if Instant::now() >= deadline {
            let what = format!("a sink of {} still delivers", pipeline.title());
            return Err(highwater_engine::Error::Timeout(what).into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What FLUSH waits for in a pipeline.
struct Flushed {
    pipeline: Pipeline,
    /// Of the source that goes farthest, if it reads any.
    extent: Option<Extent>,
    reads_tables: bool,
}

fn flush_one(pipeline: &Pipeline, extent: Extent, connection: &Connection) -> Result<()> {
    if extent == Extent::Endless {
        return wait_for_epoch(pipeline, connection);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = (pipeline.metrics().rows_in, Instant::now());
    let mut asked = false;
    while !pipeline.wait_finished(Some(Duration::from_millis(20)))? {
        if let Status::Failed { reason, .. } | Status::Lost { reason } = pipeline.status() {
            let pipeline = pipeline.name().to_owned();
            return Err(highwater_engine::Error::NotRunning { pipeline, reason }.into());
        }
        connection.check_cancelled()?;
        let rows = pipeline.metrics().rows_in;
        if rows != quiet.0 {
            quiet = (rows, Instant::now());
        } else if quiet.1.elapsed() >= QUIET {
            if extent == Extent::Growing {
                return wait_for_epoch(pipeline, connection);
            }
            if !asked {
                // With checkpoints by interval off, nothing else asks for the last one.
                pipeline.checkpoint(Trigger::Manual)?;
                asked = true;
            } else if !pipeline.failing_deliveries().is_empty() {
                // It does not finish before they succeed.
                return wait_for_end(pipeline, connection);
            }
        }
        if Instant::now() >= deadline {
            let what = format!("{} still reads its sources", pipeline.name());
            return Err(highwater_engine::Error::Timeout(what).into());
        }
    }
    Ok(())
}

/// Waits until all sources have ended and the views show all their rows.
fn wait_for_end(pipeline: &Pipeline, connection: &Connection) -> Result<()> {
    if pipeline.wait_drained(|| connection.check_cancelled().is_ok())? { Ok(()) } else { connection.check_cancelled() }
}

/// Waits for the end of an epoch that has not begun yet.
fn wait_for_epoch(pipeline: &Pipeline, connection: &Connection) -> Result<()> {
    if pipeline.wait_epoch(|| connection.check_cancelled().is_ok())? { Ok(()) } else { connection.check_cancelled() }
}

/// Refuses to read a source from scratch whose rows say when they came: nobody kept that.
fn refuse_arrivals(source: &dyn Source) -> Result<()> {
    if source.arrivals().is_empty() {
        return Ok(());
    }
    Err(Error::Sql(highwater_sql::Error::Unsupported {
        clause: "computing a view over a source with proctime() from scratch".to_owned(),
        hint: "what the view holds depends on when its rows came".to_owned(),
        position: None,
    }))
}

/// How far a query reads a source itself.
fn until(object: &Object, source: &dyn Source) -> Result<Until> {
    match source.extent() {
        Extent::Constant | Extent::Bounded => Ok(Until::End),
        Extent::Growing => Ok(Until::Now),
        Extent::Endless => Err(Error::Sql(highwater_sql::Error::Unsupported {
            clause: format!("a query over the endless source {:?}", object.name()),
            hint: "make a materialized view of it, or limit the source".to_owned(),
            position: None,
        })),
    }
}
