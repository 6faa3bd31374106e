//! The database: opened over a data folder, it executes statements.
//!
//! One lock guards the catalog, the objects and the pipelines' handles; queries hold it only while
//! they are planned, and nobody holds it while a pipeline is begun ([`crate::begin`]). Invariants: what the catalog holds can be re-created from its texts alone; an
//! object is in the catalog before its pipeline runs, and out of it again when that fails.

use crate::broken::Broken;
use crate::catalog::{Catalog, TABLES};
use crate::config::Config;
use crate::connection::{Connection, invalid};
use crate::error::{Error, Result};
use crate::lookups::Lookups;
use crate::objects::{Body, Object, Objects, Targets};
use crate::outcome::{Outcome, Rows};
use crate::query_memory::{self, QueryMemory};
use crate::restore::Restoring;
use crate::sessions::Sessions;
use crate::settings::ON_ERROR;
use crate::show;
use crate::sleep;
use crate::system::{System, is_about_session};
use crate::threads::QueryThreads;
use datafusion::execution::disk_manager::DiskManager;
use highwater_connectors::Connectors;
use highwater_engine::core::{Bytes, CheckpointId};
use highwater_engine::{CheckpointOutcome, CheckpointReport, Engine, EngineConfig, Pipeline, Status, Trigger};
use highwater_sql::statement::{Name, ObjectKind, Property};
use highwater_sql::{ScalarFunction, Session, split};
use highwater_tables::{StoreOptions, Table, TableStore, Usage as TablesUsage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::sync::{self, Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The stack of a thread that takes statements: of their syntax trees long chains of operators are deep.
pub const STACK_BYTES: usize = 128 << 20;

/// A running database; `Send` and `Sync`. Its calls block, so a task of an asynchronous program
/// makes them on a thread for blocking work.
pub struct Database {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) session: Arc<Session>,
    pub(crate) connectors: Connectors,
    pub(crate) runtime: Arc<QueryThreads>,
    pub(crate) query_memory: QueryMemory,
    /// Where queries put what does not fit into their memory.
    pub(crate) spill: Arc<DiskManager>,
    pub(crate) system: System,
    /// What [`Database::execute`] runs for.
    own: Mutex<Connection>,
    state: Mutex<State>,
    pub(crate) targets: Targets,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) lookups: Arc<Lookups>,
    /// A pipeline was restored, or could not be.
    pub(crate) restored: Condvar,
    /// Held by who removes what a dropped pipeline has left; the state may be taken meanwhile.
    pub(crate) removing: Mutex<()>,
    /// It closes when all that reads it has gone.
    pub(crate) tables: TableStore,
    /// Held as long as the data folder is ours.
    _lock: FolderLock,
}

/// DataFusion's catalogs hold each other, so what is in them is not shown.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("data_dir", &self.config.data_dir).finish_non_exhaustive()
    }
}

/// What statements change.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) objects: Objects,
    pub(crate) running: BTreeMap<String, Pipeline>,
    /// Pipelines whose plan has changed since they were begun, and that nobody begins yet.
    pub(crate) waiting: BTreeSet<String>,
    /// Pipelines wait for [`Database::start_waiting`].
    pub(crate) deferring: bool,
    pub(crate) restoring: Restoring,
    pub(crate) broken: Broken,
    /// The numbers of views and indexes whose CREATE waits until they are filled.
    pub(crate) being_made: BTreeSet<u64>,
    /// The numbers of tables that rows are copied into, and that the catalog does not know yet.
    pub(crate) being_copied: BTreeSet<u32>,
    /// Tables of which the catalog's file may name the copy with that number in their place.
    pub(crate) unplaced: Vec<(Arc<Table>, u32)>,
    /// Pipelines that have run in this process: what the root has of them is ours.
    pub(crate) ran: BTreeSet<String>,
    /// Pipelines that were dropped, and whose checkpoints nobody has tried to remove yet.
    pub(crate) unremoved: BTreeSet<String>,
    /// Objects with smaller numbers were there when the database was opened.
    pub(crate) first_new: u64,
}

impl Database {
    /// Opens a database, or makes a new one. All its pipelines go on from their newest checkpoints;
    /// those that cannot are told by [`Database::broken`] and in the log.
    ///
    /// # Errors
    /// `Folder` when another process has it or the catalog's file is missing, `Catalog` when that is
    /// damaged, `Config` when one of the program's connectors or functions cannot be used.
    pub fn open(config: Config) -> Result<Self> {
        let database = Self::open_catalog(config)?;
        database.restore_pipelines();
        Ok(database)
    }

    /// Opens a database without its pipelines, which [`Database::restore_pipelines`] then starts:
    /// statements may be executed meanwhile, and wait only for the pipelines that they need.
    ///
    /// # Errors
    /// Those of [`Database::open`].
    pub fn open_catalog(config: Config) -> Result<Self> {
        let connectors = Connectors::new(&config.sources, &config.sinks).map_err(|e| Error::Config(e.to_string()))?;
        let threads = config.query_threads.unwrap_or(0);
        let session = Arc::new(session(threads, &config.functions)?);
        let lock = lock(&config)?;
        let catalog = Catalog::open(&config.data_dir)?;
        let mut engine = EngineConfig::new(&config.data_dir);
        engine.block_cache = config.block_cache;
        if let Some(root) = &config.checkpoint_root {
            engine.checkpoint_root.clone_from(root);
        }
        // A quarter of the machine's memory: without a setting state has half of it.
        let query_memory = QueryMemory::new(config.query_memory, Bytes(engine.state_memory.0 / 2));
        let spill = query_memory::spill(&config.data_dir)?;
        if let Some(memory) = config.state_memory {
            engine.state_memory = memory;
        }
        if let Some(reserve) = config.memory_reserve {
            engine.memory_reserve = reserve;
        }
        if let Some(workers) = config.workers {
            engine.workers = workers;
        }
        let runtime = QueryThreads::start(threads);
        let folder = |error: std::io::Error| Error::folder(&config.data_dir, &error);
        let mut state = State {
            first_new: catalog.next_id(),
            catalog,
            objects: Objects::default(),
            running: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deferring: false,
            restoring: Restoring::default(),
            broken: Broken::default(),
            being_made: BTreeSet::new(),
            being_copied: BTreeSet::new(),
            unplaced: Vec::new(),
            ran: BTreeSet::new(),
            unremoved: BTreeSet::new(),
        };
        let engine = Engine::start(engine)?;
        let (cache, buffers) = engine.page_store().shared();
        let (path, mark) = (config.data_dir.join(TABLES), config.data_dir.join("tables.position"));
        let tables = TableStore::open(&StoreOptions { path, mark, cache, buffers })?;
        if let Some(greatest) = tables.greatest_id()? {
            state.catalog.number_from(greatest);
        }
        let database = Self {
            engine,
            tables,
            own: Mutex::default(),
            system: System::new()?,
            session,
            connectors,
            runtime: Arc::new(runtime.map_err(folder)?),
            query_memory,
            spill,
            targets: state.objects.targets(),
            sessions: Arc::default(),
            lookups: Arc::default(),
            state: Mutex::new(state),
            restored: Condvar::new(),
            removing: Mutex::default(),
            config,
            _lock: lock,
        };
        database.restore_objects();
        Ok(database)
    }

    /// What there is, for one at a time. Definitions hold it for long: whoever waits in a task lets
    /// the other tasks of its thread go on.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => return state,
            Err(sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(sync::TryLockError::WouldBlock) => {}
        }
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match tokio::runtime::Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(lock)
            }
            _ => lock(),
        }
    }

    /// Executes one statement for the database's own connection. Blocks; not to be called from an
    /// asynchronous task.
    ///
    /// # Errors
    /// See [`Error`]; nothing is changed then, except by FLUSH and CHECKPOINT.
    pub fn execute(&self, sql: &str) -> Result<Outcome> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        self.execute_for(&mut own, sql)
    }

    /// Executes a query.
    ///
    /// # Errors
    /// Those of [`Database::execute`]; a statement that gives no rows gives none here.
    pub fn query(&self, sql: &str) -> Result<Rows> {
        let outcome = self.execute(sql)?;
        Ok(outcome.rows.unwrap_or_else(|| Rows::none("result")))
    }

    /// Executes a script. Pipelines are started with all that the script creates in them, at the
    /// first statement that needs them or at the end.
    ///
    /// # Errors
    /// `Script` with the statement that failed; those before it have been executed.
    pub fn script(&self, script: &str) -> Result<Vec<Outcome>> {
        let pieces = split(script)?;
        self.defer_starts();
        let executed = pieces.iter().enumerate().map(|(i, piece)| {
            self.execute(&piece.text).map_err(|source| Error::Script {
                number: i + 1,
                line: piece.start.line,
                source: Box::new(source),
            })
        });
        let outcomes = executed.collect::<Result<Vec<_>>>();
        self.start_waiting()?;
        outcomes
    }

    /// From now on pipelines are started at the first statement that needs them, or by
    /// [`Database::start_waiting`]: so that a script's views start with all that stands over them.
    pub fn defer_starts(&self) {
        self.state().deferring = true;
    }

    /// Starts the pipelines that wait, and from now on each at once.
    ///
    /// # Errors
    /// The first pipeline that cannot start; it and those after it go on waiting.
    pub fn start_waiting(&self) -> Result<()> {
        let mut state = self.state();
        state.deferring = false;
        self.settle(&Connection::new(), state).map(drop)
    }

    /// What the tables' store holds.
    #[must_use]
    pub fn tables_usage(&self) -> TablesUsage {
        self.tables.usage()
    }

    /// All running pipelines.
    #[must_use]
    pub fn pipelines(&self) -> Vec<Pipeline> {
        self.state().running.values().cloned().collect()
    }

    /// The engine, for the store of checkpoints and its own inspection.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops all pipelines, each with a final checkpoint.
    ///
    /// # Errors
    /// The first of a pipeline that could not stop cleanly; all are stopped all the same.
    pub fn shutdown(&self) -> Result<()> {
        self.begin_no_more();
        // First, so that one that a definition just stops has its final checkpoint waited for beside all others.
        let stopped = self.engine.stop_pipelines();
        self.wait_until_given_up();
        let mut state = self.state();
        state.running.clear();
        let ended = self.engine.shutdown();
        self.tables.close();
        Ok(stopped.and(ended)?)
    }

    /// Makes a checkpoint of all pipelines, or of that of a view, and waits until they are published.
    ///
    /// # Errors
    /// Those of all pipelines that could not, after all others have: `Sql` with 53100 or 58030 when a checkpoint
    /// failed, with 55000 when pipelines do not run.
    pub(crate) fn checkpoint(&self, connection: &Connection, view: Option<&Name>) -> Result<Outcome> {
        let pipelines = {
            let state = self.settled(connection)?;
            match view {
                Some(name) => vec![self.pipeline_named(&state, name)?],
                None => state.running.values().cloned().collect(),
            }
        };
        let (mut outcome, mut failed, mut sqlstate) = (Outcome::done("CHECKPOINT"), Vec::new(), "55000");
        for mut pipeline in pipelines {
            let made = self.checkpoint_of(connection, &mut pipeline);
            connection.check_cancelled()?;
            match made {
                Ok(Some(CheckpointReport { id, outcome: CheckpointOutcome::Failed(reason), .. })) => {
                    let error = failed_checkpoint(id, pipeline.title(), &reason);
                    sqlstate = error.sqlstate();
                    failed.push(error.to_string());
                }
                Ok(Some(CheckpointReport { id, .. })) => {
                    outcome = outcome.noticed(format!("checkpoint {id} of {} is published", pipeline.title()));
                }
                Ok(None) => {}
                Err(error) => failed.push(self.advised(&pipeline, error.to_string())),
            }
        }
        if view.is_none() {
            failed.extend(self.stopped().into_values());
        }
        if failed.is_empty() { Ok(outcome) } else { Err(invalid(sqlstate, failed.join("; "), None)) }
    }

    /// A checkpoint of a pipeline, or of the one that takes its place meanwhile; none when it was dropped, or the
    /// statement cancelled.
    fn checkpoint_of(&self, connection: &Connection, pipeline: &mut Pipeline) -> Result<Option<CheckpointReport>> {
        loop {
            let error = match pipeline.checkpoint_while(Trigger::Manual, || connection.check_cancelled().is_ok()) {
                Ok(report) => return Ok(report),
                Err(error) => error,
            };
            match self.successor(connection, pipeline)? {
                Some(newer) if !newer.is(pipeline) => *pipeline = newer,
                Some(_) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }

    /// The running pipeline that keeps a view or feeds a sink.
    pub(crate) fn pipeline_named(&self, state: &State, name: &Name) -> Result<Pipeline> {
        let object = show::find(state, name)?;
        if let Some(pipeline) = &object.entry.pipeline {
            return self.running(state, pipeline);
        }
        let message = format!("{:?} is a {} and has no pipeline", name.value, object.entry.kind);
        Err(invalid("42809", message, Some(name)))
    }

    pub(crate) fn alter(
        &self,
        connection: &Connection,
        kind: ObjectKind,
        name: &Name,
        options: &[Property],
    ) -> Result<Outcome> {
        crate::settings::check(options)?;
        let state = self.state_to_define(connection)?;
        let waits = show::find(&state, name)?.entry.pipeline.iter().cloned().collect();
        drop(self.settle_some(connection, state, &waits)?);
        let mut state = self.state_to_define(connection)?;
        check_settings(show::find(&state, name)?, kind, name, options)?;
        let pipeline = self.pipeline_named(&state, name)?;
        let owner = pipeline.name().to_owned();
        let title = state.objects.title(&owner).to_owned();
        let before = self.view_settings(&state, &owner)?;
        let changed = options.iter().map(|p| (p.key.clone(), p.value.clone()));
        let (own, shared): (Vec<_>, Vec<_>) = changed.partition(|(key, _)| key == ON_ERROR);
        for (name, changed) in [(&name.value, &own), (&title, &shared)].into_iter().filter(|(_, c)| !c.is_empty()) {
            state.catalog.set(name, changed)?;
            state.objects.set(name, changed);
        }
        let settings = self.view_settings(&state, &owner)?;
        if own.is_empty() && settings.parallelism == before.parallelism {
            match pipeline.set_checkpoints(settings.checkpoints) {
                // It begins anew with them.
                Err(highwater_engine::Error::NotRunning { .. })
                    if matches!(pipeline.status(), Status::Failed { .. }) => {}
                done => done?,
            }
        } else {
            // One that fails goes on from its newest checkpoint, at once.
            self.begin(connection, state, &owner, false).1?;
        }
        let outcome = Outcome::done(format!("ALTER {kind}"));
        if title == name.value || shared.is_empty() {
            return Ok(outcome);
        }
        Ok(outcome.noticed(format!("{name} shares the checkpoints of {title}, which are changed")))
    }
}

/// Refuses settings that an object does not have.
fn check_settings(object: &Object, kind: ObjectKind, name: &Name, options: &[Property]) -> Result<()> {
    if kind == ObjectKind::Sink {
        crate::pipelines::check_kind(&object.entry, kind, name)?;
    }
    let is_of_view = matches!(object.body, Body::Materialized(_));
    let is_known = |option: &&Property| match option.key.as_str() {
        ON_ERROR => is_of_view || kind == ObjectKind::Sink,
        _ => kind != ObjectKind::Sink,
    };
    let Some(option) = options.iter().find(|option| !is_known(option)) else { return Ok(()) };
    let what = if kind == ObjectKind::Sink { "materialized views" } else { "materialized views and sinks" };
    Err(highwater_sql::Error::option(&option.key, format!("is a setting of {what}"), Some(option.at)).into())
}

/// A session that knows the program's functions.
fn session(threads: usize, functions: &[Arc<dyn ScalarFunction>]) -> Result<Session> {
    let mut session = Session::new(threads);
    session.add_built_in(sleep::udf());
    for function in functions {
        let name = function.name();
        if is_about_session(name) {
            return Err(Error::Config(format!("{name} tells about the session: give the function another name")));
        }
        session.add_function(function).map_err(|error| Error::Config(error.to_string()))?;
    }
    Ok(session)
}

/// Held as long as the data folder is ours.
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing it is not enough while a child that another thread starts has a copy of it.
        let _ = self.0.unlock();
    }
}

/// Makes the data folder ours.
fn lock(config: &Config) -> Result<FolderLock> {
    let path = &config.data_dir;
    let refused = |error: std::io::Error| Error::folder(path, &error);
    std::fs::create_dir_all(path).map_err(refused)?;
    let file = File::create(path.join("lock")).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => {
            let what = "another process has this database open: stop it, or use another folder".to_owned();
            Err(Error::Folder { path: path.clone(), what, is_full: false })
        }
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// Why a statement has failed with a checkpoint.
pub(crate) fn failed_checkpoint(id: CheckpointId, pipeline: &str, reason: &str) -> Error {
    let is_full = reason.to_ascii_lowercase().contains("no space left");
    let sqlstate = if is_full { "53100" } else { "58030" };
    invalid(sqlstate, format!("checkpoint {id} of {pipeline} failed: {reason}"), None)
}
