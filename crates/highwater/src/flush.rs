//! FLUSH: waiting until what was written is shown, and whom nobody waits for.

use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use crate::outcome::Outcome;
use crate::show;
use highwater_engine::source::Extent;
use highwater_engine::{CheckpointOutcome, CheckpointReport, Pipeline, Status, Trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long FLUSH waits for sources that may grow to give nothing more.
const QUIET: Duration = Duration::from_millis(300);
/// How often FLUSH looks whether sinks have delivered.
const LOOK: Duration = Duration::from_millis(5);
/// How long FLUSH waits in all.
const PATIENCE: Duration = Duration::from_secs(600);

impl State {
    /// Whether all of a pipeline is of objects whose CREATE is not answered yet.
    fn is_being_made(&self, pipeline: &str) -> bool {
        let mut objects = self.objects.of_pipeline(pipeline);
        objects.all(|object| self.being_made.contains(&object.entry.id))
    }

    /// Such objects of a pipeline, by the names that the engine knows them by.
    fn being_made_in(&self, pipeline: &str) -> Vec<String> {
        let objects = self.objects.of_pipeline(pipeline);
        let made = objects.filter(|object| self.being_made.contains(&object.entry.id));
        made.map(|object| object.kept().to_owned()).collect()
    }
}

impl Database {
    /// Waits until all that tables and sources have now is in the views: every write, the end of
    /// sources that end, quiet of those that may grow, one epoch of those that never end; and until
    /// what that brings into tables through sinks is in them and in the views over them.
    /// Views that fail or are paused hold nobody else up, nor do those whose CREATE is not answered yet.
    ///
    /// # Errors
    /// `Sql` with 55000 when views fail, are paused or could not be started, after all others show what there
    /// is; with 57014 when it is cancelled.
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
    pub(crate) fn stopped(&self) -> Failed {
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
        for mut pipeline in pipelines.into_iter().filter(|pipeline| pipeline.status() != Status::Finished) {
            let done = loop {
                let done = deliver(&pipeline, deadline, connection);
                if done.is_ok() {
                    break done;
                }
                match self.successor(connection, &pipeline)? {
                    Some(newer) if !newer.is(&pipeline) => pipeline = newer,
                    _ => break done,
                }
                connection.check_cancelled()?;
            };
            if done.is_err() && self.successor(connection, &pipeline)?.is_none() {
                // It was dropped.
                connection.check_cancelled()?;
                continue;
            }
            self.unless_failed(connection, &pipeline, done, &mut failed)?;
        }
        Ok(failed)
    }

    /// Notes that a pipeline does not run, and gives all other errors.
    fn unless_failed(
        &self,
        connection: &Connection,
        pipeline: &Pipeline,
        done: Result<()>,
        failed: &mut Failed,
    ) -> Result<()> {
        match done {
            Err(Error::Engine(error @ highwater_engine::Error::NotRunning { .. })) => {
                // Nobody waits for the views of one that was dropped meanwhile.
                if self.successor(connection, pipeline)?.is_some() {
                    let told = self.advised(pipeline, error.to_string());
                    failed.insert(pipeline.name().to_owned(), told);
                }
                Ok(())
            }
            done => done,
        }
    }

    /// What goes by the name of a pipeline now: another one, the same whether it runs or not, or none as it
    /// was dropped, also where one of its name is being made. One that is begun anew is waited for.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn successor(&self, connection: &Connection, pipeline: &Pipeline) -> Result<Option<Pipeline>> {
        let name = pipeline.name();
        let state = self.state_when_begun(connection, name)?;
        Ok(match state.running.get(name) {
            Some(now) => Some(now.clone()),
            None if state.restoring.is_making(name) => None,
            None => state.objects.of_pipeline(name).next().map(|_| pipeline.clone()),
        })
    }

    fn flush_views(&self, connection: &Connection) -> Result<Failed> {
        let (pipelines, mut failed) = {
            let state = self.settled(connection)?;
            self.to_flush_now(&state)
        };
        let position = self.tables.position();
        for mut flushed in pipelines {
            let done = self.flush_as_it_is(&mut flushed, position, connection);
            self.unless_failed(connection, &flushed.pipeline, done, &mut failed)?;
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
            match self.successor(connection, &flushed.pipeline)? {
                Some(newer) if !newer.is(&flushed.pipeline) => {
                    let name = newer.name().to_owned();
                    *flushed = self.to_flush(&self.state(), &name, newer);
                }
                _ => return Err(failed),
            }
        }
    }

    /// The pipelines that FLUSH waits for, and those that show nothing newer, however long it waits.
    fn to_flush_now(&self, state: &State) -> (Vec<Flushed>, Failed) {
        let of_others = state.running.iter().filter(|(name, _)| !state.is_being_made(name));
        let (paused, running): (Vec<_>, Vec<_>) = of_others.partition(|(name, _)| state.catalog.is_paused(name));
        let told = |(name, pipeline): (&String, &Pipeline)| {
            let told = format!(
                "pipeline {} is paused, and its views show nothing newer until it is resumed",
                pipeline.title()
            );
            (name.clone(), told)
        };
        let running = running.into_iter().map(|(name, running)| self.to_flush(state, name, running.clone()));
        (running.collect(), paused.into_iter().map(told).collect())
    }

    fn flush_pipeline(&self, flushed: &Flushed, position: u64, connection: &Connection) -> Result<()> {
        let Flushed { pipeline, extent, reads_tables } = flushed;
        if *reads_tables || extent.is_some() {
            self.wait_shown(pipeline.clone(), reads_tables.then_some(position), connection)?;
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
        let (pipelines, paused) = {
            let state = self.wait_for_all_pipelines(connection)?;
            self.to_flush_now(&state)
        };
        let mut notices: Vec<String> = paused.into_values().map(|told| not_shown(&told)).collect();
        for Flushed { pipeline, .. } in pipelines.into_iter().filter(|flushed| flushed.reads_tables) {
            match self.wait_shown(pipeline.clone(), Some(connection.position), connection) {
                Err(Error::Engine(_)) if self.successor(connection, &pipeline)?.is_none() => {}
                Err(Error::Engine(error)) => {
                    notices.push(not_shown(&self.advised(&pipeline, error.to_string())));
                }
                other => other?,
            }
        }
        Ok(notices)
    }

    /// Waits until a pipeline's views, but for some objects, show the log of tables up to `position` or, without
    /// one, are filled; also when it is begun anew with other objects meanwhile.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled, `Engine` when the pipeline fails.
    pub(crate) fn wait_reached(
        &self,
        pipeline: Pipeline,
        position: Option<u64>,
        beside: impl Fn() -> Vec<String>,
        connection: &Connection,
    ) -> Result<()> {
        self.wait_in(pipeline, connection, |pipeline| {
            let patience = || connection.check_cancelled().is_ok();
            match position {
                Some(position) => pipeline.wait_reached_beside(position, &beside(), patience),
                None => pipeline.wait_filled(&beside(), patience),
            }
        })
    }

    /// The same of what there is to others: a view whose CREATE is not answered yet may still be filled.
    fn wait_shown(&self, pipeline: Pipeline, position: Option<u64>, connection: &Connection) -> Result<()> {
        let name = pipeline.name().to_owned();
        self.wait_reached(pipeline, position, || self.state().being_made_in(&name), connection)
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
            let state = self.state_when_begun(connection, pipeline.name())?;
            match state.running.get(pipeline.name()) {
                Some(newer) if !newer.is(&pipeline) => pipeline = newer.clone(),
                _ => return Err(failed.into()),
            }
        }
    }

    fn to_flush(&self, state: &State, name: &str, pipeline: Pipeline) -> Flushed {
        let reads: BTreeSet<String> = state.objects.of_pipeline(name).flat_map(Object::reads).collect();
        let is_table = |object: &&Object| matches!(object.body, Body::Table(_));
        let reads_tables = state.objects.sources(&reads).iter().any(is_table);
        let extent = pipeline.extent();
        Flushed { pipeline, extent, reads_tables }
    }
}

/// By pipelines that do not run, why, in words.
pub(crate) type Failed = BTreeMap<String, String>;

/// Waits until the sinks of a pipeline have what its views show.
fn deliver(pipeline: &Pipeline, deadline: Instant, connection: &Connection) -> Result<()> {
    let report = pipeline.checkpoint_while(Trigger::Manual, || connection.check_cancelled().is_ok())?;
    connection.check_cancelled()?;
    if let Some(CheckpointReport { outcome: CheckpointOutcome::Failed(reason), .. }) = report {
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

/// What is told of a write that a view does not show yet, and why.
pub(crate) fn not_shown(told: &str) -> String {
    format!("the write is done; a view does not show it yet: {told}")
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
                pipeline.checkpoint_while(Trigger::Manual, || connection.check_cancelled().is_ok())?;
                asked = true;
            } else if !pipeline.failing_deliveries().is_empty() || !pipeline.is_filled() {
                // It does not finish before they succeed, and what another session makes is filled.
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
