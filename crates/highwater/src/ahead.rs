//! What a definition does before its turn: checkpoints of the pipelines that it begins anew.
//!
//! Definitions hold the database's state while a pipeline stops with its last checkpoint, and all others wait
//! for that. With a checkpoint from just before, the last one is small. Nobody waits for the one before but who
//! gives the statement, which goes on without it where it takes too long or fails.

use crate::connection::Connection;
use crate::database::{Database, State};
use crate::error::Result;
use crate::objects::{Body, Object};
use highwater_engine::{CheckpointOutcome, Pipeline, Trigger};
use highwater_sql::statement::Statement;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long who makes or changes something waits for such checkpoints, and who drops something.
const PATIENCE: Duration = Duration::from_secs(60);
const DROP_PATIENCE: Duration = Duration::from_secs(1);

impl Database {
    /// Makes checkpoints of the pipelines that a definition begins anew, as far as that can be told before.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn checkpoint_ahead(&self, connection: &Connection, statement: &Statement) -> Result<()> {
        let pipelines: Vec<Pipeline> = {
            let state = self.state();
            if state.deferring {
                return Ok(());
            }
            let names = self.begun_anew_by(&state, statement);
            names.iter().filter_map(|name| state.running.get(name).cloned()).collect()
        };
        let patience = if matches!(statement, Statement::Drop { .. }) { DROP_PATIENCE } else { PATIENCE };
        let deadline = Instant::now() + patience;
        for pipeline in pipelines {
            let is_patient = || connection.check_cancelled().is_ok() && Instant::now() < deadline;
            let reason = match pipeline.checkpoint_while(Trigger::Manual, is_patient) {
                Ok(Some(report)) => match report.outcome {
                    CheckpointOutcome::Failed(reason) => reason,
                    _ => continue,
                },
                Ok(None) => {
                    connection.check_cancelled()?;
                    format!("it is not made in {patience:?}")
                }
                Err(error) => error.to_string(),
            };
            let pipeline = pipeline.name();
            tracing::warn!(pipeline, reason, "no checkpoint before it is begun anew with other objects");
        }
        Ok(())
    }

    fn begun_anew_by(&self, state: &State, statement: &Statement) -> BTreeSet<String> {
        let pipeline = match statement {
            Statement::CreateMaterializedView(view) => state.objects.pipeline_of(&view.query),
            Statement::CreateIndex(index) => state.objects.pipeline_of(&index.query),
            Statement::CreateSink(sink) => state.objects.pipeline_of(&sink.query),
            Statement::CreateSubscription(made) => crate::subscription::subject(state, &made.from).ok(),
            Statement::Drop { name, cascade, .. } => {
                let mut names = if *cascade { state.dependents(&name.value) } else { Vec::new() };
                names.push(name.value.clone());
                return self.left_by(state, &names).1;
            }
            Statement::AddColumn(added) => {
                return state
                    .objects
                    .get(&added.table.value)
                    .map_or_else(BTreeSet::new, |object| self.at(state, object));
            }
            _ => None,
        };
        pipeline.into_iter().collect()
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
