//! SELECT and EXPLAIN, recomputation from scratch, and FLUSH.

use crate::answer::{Answer, RowStream, Tag};
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::fed;
use crate::narrowed::key_scans;
use crate::objects::{Body, Object, Reading};
use crate::outcome::{Outcome, Rows};
use crate::parameters::Parameters;
use crate::prepare::check_parameters;
use crate::provider::TableRows;
use crate::replay::{self, Until};
use crate::set_config::{self, Changes};
use crate::turns;
use crate::views::{Scanned, shaped};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::provider_as_source;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt as _;
use highwater_engine::checkpoint::inspect;
use highwater_engine::core::{CheckpointId, Epoch, WallMicros};
use highwater_engine::source::{Extent, Offset, Source};
use highwater_engine::{Pipeline, Trigger};
use highwater_sql::session::{Relations, plain};
use highwater_sql::statement::{Name, Query, ROW_TARGET};
use highwater_sql::zones::Zone;
use highwater_sql::{Session, explain, references, unknowing_physical_rules};
use highwater_tables::{Overlay, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// The column of EXPLAIN.
pub(crate) const QUERY_PLAN: &str = "QUERY PLAN";
/// Batches of a query that may wait for whoever reads them.
const BATCHES_AHEAD: usize = 1;

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

/// What a statement that changes rows of a table gives to its query.
pub(crate) struct Special<'a> {
    pub(crate) table: &'a str,
    /// The table's rows: they are [`ROW_TARGET`], and what the query reads where it names the table itself.
    pub(crate) rows: TableRows,
    /// Other relations, by names that no object has.
    pub(crate) beside: Vec<(&'static str, Arc<dyn TableSource>)>,
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
        } else if let Some(narrowed) = self.narrowed(connection, query, parameters).await? {
            self.run_plan(&narrowed.plan).await?
        } else {
            let planned = self.planned(connection, query, parameters, None).await?;
            let run = self.run_plan(&planned.plan).await.map_err(|error| error.of(query))?;
            Answer { notices: planned.notices, ..run }
        };
        Ok(answer.titled(&query.ast))
    }

    pub(crate) async fn explain_query(&self, connection: &mut Connection, query: &Query) -> Result<Answer> {
        if let Some(by) = self.index_for(query, &Parameters::none()).filter(|by| by.is_for(connection)) {
            let rows = Rows::text(QUERY_PLAN, by.explained());
            return Ok(Answer::collected(Tag::Plain("EXPLAIN".to_owned()), rows));
        }
        let none = Parameters::none();
        let narrowed = self.narrowed(connection, query, &none).await?;
        let (plan, epochs, by_key) = match narrowed {
            Some(narrowed) => (narrowed.plan, Vec::new(), Some(narrowed.told)),
            None => {
                let planned = self.planned(connection, query, &none, None).await?;
                (planned.plan, planned.epochs, None)
            }
        };
        let session = Arc::clone(&self.session);
        let plan = self.aside(move || Ok(session.state().optimize(&plan)?)).await?;
        let mut lines: Vec<String> = plan.display_indent().to_string().lines().map(str::to_owned).collect();
        lines.extend(by_key);
        lines.extend(key_scans(&plan));
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
        let narrowed = self.narrowed(connection, query, &none).await?;
        let (plan, notices) = match narrowed {
            Some(narrowed) => (narrowed.plan, Vec::new()),
            None => {
                let planned = self.planned(connection, query, &none, None).await?;
                (planned.plan, planned.notices)
            }
        };
        let analyze = LogicalPlanBuilder::from(plan).explain(false, true).and_then(LogicalPlanBuilder::build)?;
        let told = self.run_plan(&analyze).await?.collect_within(self.config.query_memory.0).await?;
        let plans = told.batches.iter().filter_map(|batch| batch.column(1).as_string_opt::<i32>());
        let lines = plans.flat_map(|plans| plans.iter().flatten().flat_map(str::lines)).map(str::to_owned).collect();
        Ok(Answer { notices, ..answer(lines) })
    }

    /// EXPLAIN of a CREATE: the plan of the pipeline with what it would make.
    pub(crate) fn explain_new(&self, name: &Name, make: impl FnOnce(&State) -> Result<Object>) -> Result<Outcome> {
        let state = self.state();
        if state.objects.get(&name.value).is_some() {
            let Name { value: name, at } = name.clone();
            return Err(highwater_sql::Error::Duplicate { name, position: Some(at) }.into());
        }
        let object = make(&state)?;
        let lines = explain(&self.plan_with(&state, &object)?);
        Ok(Outcome::rows("EXPLAIN", Rows::text(QUERY_PLAN, lines)))
    }

    pub(crate) async fn planned_with(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
        special: Option<Special<'_>>,
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

    /// A query's plan over the rows that its views and tables hold now, and what is given to it.
    async fn planned(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
        special: Option<Special<'_>>,
    ) -> Result<Planned> {
        check_parameters(query, parameters)?;
        let names = references(query);
        let leaves = {
            let state = self.state();
            let leaves: Vec<Object> = state.objects.leaves(&names).into_iter().cloned().collect();
            state.check_sources(&leaves)?;
            let pipelines: BTreeSet<String> = leaves.iter().filter_map(|leaf| leaf.entry.pipeline.clone()).collect();
            if !state.waiting.is_disjoint(&pipelines) {
                drop(tokio::task::block_in_place(|| self.settle_some(connection, state, &pipelines))?);
            }
            leaves
        };
        let is_view = |object: &Object| object.entry.pipeline.is_some();
        let mut scanned = if leaves.iter().any(is_view) {
            let given = special.as_ref().map(|special| (special.table, special.rows.snapshot()));
            tokio::task::block_in_place(|| self.scanned(connection, &leaves, given))?
        } else {
            Scanned::default()
        };
        // One for all tables that the views leave as they are now.
        let mut snapshot = special.as_ref().map(|special| Arc::clone(special.rows.snapshot()));
        for object in &leaves {
            let table: Arc<dyn TableProvider> = match (&object.body, &special) {
                (Body::Table(_), Some(special)) if special.table == object.name() => Arc::new(special.rows.plain()),
                (Body::Table(target), _) => match (&scanned.beside, &mut snapshot) {
                    (Some(beside), _) => Arc::new(beside.rows(target)),
                    (None, snapshot) => {
                        let snapshot = match snapshot {
                            Some(snapshot) => snapshot,
                            none => none.insert(connection.snapshot(&self.tables)?),
                        };
                        // With the transaction's own writes.
                        let over = connection.overlay(&target.table);
                        Arc::new(TableRows::new(&target.table, snapshot, over, false))
                    }
                },
                (Body::Source(source), _) => replay::table(source, &until(object, source.as_ref())?)?,
                _ => continue,
            };
            scanned.tables.insert(object.name().to_owned(), provider_as_source(table));
        }
        let mut relations = self.state().objects.relations(&self.session, &names, Reading::Tables(&scanned.tables))?;
        if let Some(Special { rows, beside, .. }) = special {
            relations.insert(ROW_TARGET, provider_as_source(Arc::new(rows)));
            for (name, source) in beside {
                relations.insert(name, source);
            }
        }
        let Scanned { epochs, notices, coming, .. } = scanned;
        let mut plan = self.bound(connection, query, parameters, relations).await?;
        if let Some(rows) = coming {
            plan = self.aside(move || rows.ready_for(&plan).map(|()| plan)).await?;
        }
        Ok(Planned { plan, epochs, notices })
    }

    /// A query's plan over relations, in the session's zone.
    pub(crate) async fn bound(
        &self,
        connection: &Connection,
        query: &Query,
        parameters: &Parameters,
        relations: Relations,
    ) -> Result<LogicalPlan> {
        let (session, query, zone) = (Arc::clone(&self.session), query.clone(), connection.zone());
        let parameters = parameters.clone();
        let plan = self.aside(move || {
            let plan = plain(session.bind_with(&query, &relations, &parameters.types())?)?;
            let plan = session.runnable(parameters.put_into(plan)?)?;
            in_zone(&session, plan, zone.as_ref())
        });
        plan.await
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
        let planned = self.aside(move || Ok(Handle::current().block_on(physical(state, &plan))?));
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
        let (memory_pool, disk_manager) = (self.query_memory.of_query(), Arc::clone(&self.spill));
        let own = RuntimeEnv { memory_pool, disk_manager, ..shared.as_ref().clone() };
        Arc::new(TaskContext::from(state).with_runtime(Arc::new(own)))
    }

    /// A plan's rows; now() is what `wall` says, if anything.
    fn rows_of_plan(&self, plan: &LogicalPlan, wall: Option<WallMicros>) -> Result<Rows> {
        self.runtime.block_on(async { self.run_plan_at(plan, wall).await?.collect_within(u64::MAX).await })
    }

    /// Reads a materialized view, and computes it from scratch over the rows that it has seen; whether
    /// both are the same tells [`same_rows`](crate::same_rows). The view's pipeline takes no rows while
    /// the view is read. All rows are held in memory.
    ///
    /// # Errors
    /// Those of the view's pipeline and sources; `Sql` with 42P01 when there is no such view, with 0A000
    /// for one that depends on when rows came: temporal joins, `EMIT ON WINDOW CLOSE`, `proctime()` of a
    /// source.
    pub fn recompute(&self, view: &str) -> Result<Compared> {
        let (pipeline, object) = {
            let state = self.settled(&Connection::new())?;
            let object = self.materialized(&state, view)?;
            let pipeline = object.entry.pipeline.clone().unwrap_or_default();
            (self.running(&state, &pipeline)?, object)
        };
        pipeline.pause(true)?;
        let seen = self.seen(&pipeline, object.kept());
        let resumed = self.resume_unless_paused(&pipeline);
        let Seen { checkpoint, epoch, horizon, wall, offsets, rows, snapshot } = seen?;
        resumed?;
        let batches = shaped(&object.schema, rows)?;
        let view = Rows { schema: Arc::clone(&object.schema), batches };
        let recomputed = self.recompute_object(&object, Some(&offsets), &snapshot, Some((horizon, wall)))?;
        Ok(Compared { checkpoint, epoch, view, recomputed })
    }

    /// A materialized view's rows from scratch: its query, and those of the views that it reads, over
    /// the sources' rows up to `offsets`, or up to their ends. All rows are held in memory.
    ///
    /// # Errors
    /// Those of [`Database::recompute`]; nothing is asked of the view's pipeline.
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
}

/// A plan as it is computed. DataFusion goes by columns that it knows to be equal, or to have one value, when it
/// distributes and sorts rows, and its last check refuses a plan in which that is not known any more: one
/// stream needs no distribution, and where nothing is known of a column's values rows are sorted. A sort by what
/// has one value in each stream is no sort to it, which it takes for a fault of its own: in one stream there is none.
async fn physical(
    mut state: SessionState,
    plan: &LogicalPlan,
) -> std::result::Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let is_refused =
        |error: &DataFusionError| matches!(error.find_root(), DataFusionError::Plan(_) | DataFusionError::Internal(_));
    match state.create_physical_plan(plan).await {
        Err(error) if is_refused(&error) => {}
        planned => return planned,
    }
    state.config_mut().options_mut().execution.target_partitions = 1;
    match state.create_physical_plan(plan).await {
        Err(error) if is_refused(&error) => {}
        planned => return planned,
    }
    let rules = unknowing_physical_rules();
    let state = SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(rules).build();
    state.create_physical_plan(plan).await
}

/// A plan that can be run, in a session's zone.
fn in_zone(session: &Session, plan: LogicalPlan, zone: Option<&Zone>) -> Result<LogicalPlan> {
    Ok(match zone {
        Some(zone) => session.zoned(plan, zone)?.plan,
        None => plan,
    })
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
