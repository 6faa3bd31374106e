//! What a definition does before its turn: checkpoints of the pipelines that it begins anew.
//!
//! Who reads a pipeline's views waits while it stops with its last checkpoint and begins anew, and so do other
//! definitions. With a checkpoint from just before, the last one is small. Nobody waits for the one before but who
//! gives the statement, which is refused where it cannot be made: a pipeline that runs is not stopped for a root
//! that does not answer. What is dropped is dropped all the same. A pipeline that is new has nothing to save: of it
//! the root is asked before, and the definition is told what that has.

use crate::connection::{Connection, invalid};
use crate::database::{Database, State, failed_checkpoint};
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use crate::pipelines::AtRoot;
use crate::settings::{ON_ERROR, PARALLELISM};
use highwater_engine::{CheckpointOutcome, Trigger};
use highwater_sql::statement::Statement;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long who makes or changes something waits for such checkpoints, and who drops something.
const PATIENCE: Duration = Duration::from_secs(60);
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// What a definition has learned before its turn.
#[derive(Default)]
pub(crate) struct Ahead {
    /// What the root has of the pipeline that it makes.
    new: Option<(String, AtRoot)>,
}

impl Ahead {
    /// What the root has of a new pipeline.
    ///
    /// # Errors
    /// `Sql` with 55006 when something else was asked, as another definition came between.
    pub(crate) fn at_root(self, pipeline: &str) -> Result<AtRoot> {
        match self.new {
            Some((asked, at_root)) if asked == pipeline => Ok(at_root),
            _ => Err(in_use(pipeline)),
        }
    }
}

/// The error of a definition that another one is in the way of.
pub(crate) fn in_use(pipeline: &str) -> Error {
    invalid("55006", format!("pipeline {pipeline:?} is just being made or changed by another session: try again"), None)
}

impl Database {
    /// Makes checkpoints of the pipelines that a definition begins anew, as far as that can be told before.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled; with 58030, 53100 or 55000 when one cannot be made.
    pub(crate) fn checkpoint_ahead(&self, connection: &Connection, statement: &Statement) -> Result<()> {
        let is_drop = matches!(statement, Statement::Drop { .. });
        let patience = if is_drop { DROP_PATIENCE } else { PATIENCE };
        let deadline = Instant::now() + patience;
        let pipelines: Vec<_> = {
            let state = self.state();
            let names = if state.deferring { BTreeSet::new() } else { self.begun_anew_by(&state, statement) };
            names.iter().filter_map(|name| state.running.get(name).cloned()).collect()
        };
        for pipeline in pipelines {
            let is_patient = || connection.check_cancelled().is_ok() && Instant::now() < deadline;
            let refused = match pipeline.checkpoint_while(Trigger::Manual, is_patient) {
                Ok(Some(report)) => match report.outcome {
                    CheckpointOutcome::Failed(reason) => failed_checkpoint(report.id, pipeline.title(), &reason),
                    _ => continue,
                },
                Ok(None) => {
                    connection.check_cancelled()?;
                    let message =
                        format!("{} has not made its checkpoint in {patience:?}: try again", pipeline.title());
                    invalid("55000", message, None)
                }
                // It has failed or stopped, and has nothing to save.
                Err(_) => continue,
            };
            if !is_drop {
                return Err(refused);
            }
            tracing::warn!(pipeline = pipeline.name(), error = %refused, "it is begun anew without some of its objects");
        }
        Ok(())
    }

    /// Asks the root for what the pipeline of a new object would find there, as far as that can be told before: who
    /// gives the statement waits alone for a store that does not answer.
    ///
    /// # Errors
    /// Those of the store; `Sql` with 57014 when it is cancelled, with 58030 when the root does not answer.
    pub(crate) fn ask_ahead(&self, connection: &Connection, statement: &Statement) -> Result<Ahead> {
        let pipeline = new_pipeline(&self.state(), statement);
        // What no folder can be called is refused in its turn.
        let Some(pipeline) = pipeline.filter(|pipeline| self.engine.store().root().names(pipeline).is_ok()) else {
            return Ok(Ahead::default());
        };
        let deadline = Instant::now() + PATIENCE;
        let is_patient = || connection.check_cancelled().is_ok() && Instant::now() < deadline;
        if let Some(at_root) = self.at_root(&pipeline, is_patient)? {
            return Ok(Ahead { new: Some((pipeline, at_root)) });
        }
        connection.check_cancelled()?;
        let root = self.engine.store().root().url();
        let message = format!(
            "checkpoint root {root} has not told in {PATIENCE:?} what it has of {pipeline:?}: try again when it does"
        );
        Err(invalid("58030", message, None))
    }

    fn begun_anew_by(&self, state: &State, statement: &Statement) -> BTreeSet<String> {
        let of_new = |name: &str, query| {
            let is_new = state.objects.get(name).is_none();
            state.objects.pipeline_of(query).filter(|_| is_new).into_iter().collect()
        };
        match statement {
            Statement::CreateMaterializedView(view) => of_new(&view.name.value, &view.query),
            Statement::CreateIndex(index) => of_new(&index.name.value, &index.query),
            Statement::CreateSink(sink) => of_new(&sink.name.value, &sink.query),
            Statement::CreateSubscription(made) => {
                crate::subscription::subject(state, &made.from).into_iter().collect()
            }
            Statement::Drop { names, cascade, .. } => {
                let mut dropped: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
                if *cascade {
                    dropped.extend(state.dependents(&dropped));
                }
                self.left_by(state, &dropped).1
            }
            Statement::AddColumn(added) => {
                let table = state.objects.get(&added.table.value);
                table.map_or_else(BTreeSet::new, |table| self.at(state, table))
            }
            Statement::AlterView { name, options, .. }
                if options.iter().any(|option| [ON_ERROR, PARALLELISM].contains(&option.key.as_str())) =>
            {
                state.objects.get(&name.value).and_then(|object| object.entry.pipeline.clone()).into_iter().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The pipelines that read or write a table.
    pub(crate) fn at(&self, state: &State, table: &Object) -> BTreeSet<String> {
        let Body::Table(target) = &table.body else { return BTreeSet::new() };
        let id = target.table.spec().id;
        let writes = |object: &Object| object.writes().is_some_and(|into| into.value == table.name());
        let mut concerned = state.objects.pipelines();
        concerned.retain(|pipeline| {
            self.tables_of(state, pipeline).contains(&id) || state.objects.of_pipeline(pipeline).any(writes)
        });
        concerned
    }
}

/// The pipeline that a definition makes, if it makes one.
fn new_pipeline(state: &State, statement: &Statement) -> Option<String> {
    let (name, query) = match statement {
        Statement::CreateMaterializedView(view) => (&view.name, Some(&view.query)),
        Statement::CreateIndex(index) => (&index.name, Some(&index.query)),
        Statement::CreateSink(sink) => (&sink.name, Some(&sink.query)),
        Statement::CreateTable(table) if table.feed.is_some() => (&table.name, None),
        _ => return None,
    };
    let joins = query.is_some_and(|query| state.objects.pipeline_of(query).is_some());
    let is_new = !joins && state.catalog.entry(&name.value).is_none();
    is_new.then(|| state.catalog.free_to_keep(&name.value))
}
