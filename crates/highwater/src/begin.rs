//! Beginning pipelines that definitions make or change, and those that wait: without the state, as what runs of them
//! makes a last checkpoint and the new run asks the root for it, which may not answer.
//!
//! Others meet such a pipeline on its way. Its handle stays among those that run until the new one takes its place;
//! who follows that waits for the new one ([`Database::state_when_begun`]), who reads its views waits for them, and
//! all others go on. Invariants: definitions wait until none is on its way ([`Database::state_to_define`]), so it
//! is begun by one session at a time, and runs with the objects that it has when it runs, or not at all.

use crate::ahead::in_use;
use crate::catalog::Entry;
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::Object;
use crate::pipelines::patience_to_begin;
use highwater_engine::{Pipeline, PipelineSpec, Status};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

/// A pipeline that is to be begun.
struct Beginning {
    spec: PipelineSpec,
    /// What runs of it.
    old: Option<Pipeline>,
    check: Check,
    /// The numbers of the tables that it reads.
    tables: Vec<u32>,
}

/// What is to be looked at of what the root has of a pipeline, before that is claimed there.
enum Check {
    /// It is known to be its own.
    Nothing,
    /// Its positions: it may be of objects, too, that were dropped while it did not run.
    Offsets,
    /// The statements that made it.
    Texts,
}

impl Database {
    /// Begins a pipeline with the plan of all its objects, in the place of what runs of it. Of one that `is_new` it is
    /// known that it may go on from what the root has; another one that cannot be begun is tried again later.
    pub(crate) fn begin<'a>(
        &'a self,
        connection: &Connection,
        mut state: MutexGuard<'a, State>,
        pipeline: &str,
        is_new: bool,
    ) -> (MutexGuard<'a, State>, Result<()>) {
        let beginning = match self.beginning(&mut state, pipeline, is_new) {
            Ok(beginning) => beginning,
            Err(refused) => return (state, Err(refused)),
        };
        let entries = entries_of(&state, pipeline);
        drop(state);
        let began = Instant::now();
        let mut begun = caught(pipeline, || self.begin_now(connection, beginning));
        let mut state = self.state();
        if let Ok(Some(running)) = &begun
            && entries_of(&state, pipeline) != entries
        {
            // It counts as being begun until it has ended, which may take a while.
            drop(state);
            end(running);
            state = self.state();
            note_changed(&mut state, pipeline);
            begun = Err(invalid("55000", "another session has changed it while it was begun", None));
        }
        state.restoring.ends(pipeline);
        self.restored.notify_all();
        let is_silent = matches!(begun, Ok(None));
        let refused = match begun {
            Ok(Some(running)) => {
                state.runs(running);
                return (state, Ok(()));
            }
            Ok(None) => self.does_not_begin(pipeline, began.elapsed()),
            Err(error) => error,
        };
        if !is_new {
            self.put_off(&mut state, pipeline, &refused, is_silent);
        }
        let cancelled = connection.check_cancelled().err().filter(|_| is_silent);
        (state, Err(cancelled.unwrap_or(refused)))
    }

    /// Notes that a pipeline is on its way, and what it is to be begun with.
    fn beginning(&self, state: &mut State, pipeline: &str, is_new: bool) -> Result<Beginning> {
        let ending = state.restoring.is_closed().then(|| "it is shut down".to_owned());
        if let Some(reason) = ending.or_else(|| state.why_not_started(pipeline)) {
            // It is read as its checkpoints hold it, and tried again with all that is broken.
            state.waiting.remove(pipeline);
            return Err(highwater_engine::Error::NotRunning { pipeline: pipeline.to_owned(), reason }.into());
        }
        if state.restoring.holds(pipeline) {
            return Err(in_use(state.objects.title(pipeline)));
        }
        let old = state.running.get(pipeline).cloned();
        let spec = match self.pipeline_spec(state, pipeline) {
            Err(refused) if old.is_none() && is_of_before(state, pipeline) => {
                state.waiting.remove(pipeline);
                state.broken.pipeline(pipeline, &refused);
                return Err(refused);
            }
            spec => spec?,
        };
        let check = if is_new || old.is_some() {
            Check::Nothing
        } else if is_of_before(state, pipeline) || state.ran.contains(pipeline) {
            Check::Offsets
        } else if first_is_not_the_first(state, pipeline) {
            Check::Nothing
        } else {
            Check::Texts
        };
        state.waiting.remove(pipeline);
        state.restoring.begins(pipeline, is_new);
        Ok(Beginning { spec, old, check, tables: self.tables_of(state, pipeline) })
    }

    /// None when the root does not answer as long as anybody waits for it.
    fn begin_now(&self, connection: &Connection, beginning: Beginning) -> Result<Option<Pipeline>> {
        let Beginning { spec, old, check, tables } = beginning;
        let pipeline = spec.name.clone();
        let runs_well = |old: &Pipeline| matches!(old.status(), Status::Starting | Status::Running | Status::Finished);
        let ran_well = old.as_ref().is_some_and(runs_well);
        if let Some(old) = old
            && let Err(error) = old.stop(true)
        {
            tracing::warn!(pipeline, %error, "stopped without a final checkpoint");
        }
        let (canceller, began) = (connection.canceller(), Instant::now());
        // What ran is not left stopped by who cancels a statement.
        let is_wanted = move || ran_well || !canceller.is_over();
        let is_patient = move |is_claimed| is_wanted() && began.elapsed() < patience_to_begin(is_claimed);
        let has_answered = match check {
            Check::Nothing => true,
            Check::Offsets => self.check_offsets(&pipeline, &spec.plan, || is_patient(false))?,
            Check::Texts => self.check_root(&pipeline, &spec.sql, || is_patient(false))?,
        };
        if !has_answered {
            return Ok(None);
        }
        self.tables.set_readers(&pipeline, &tables);
        Ok(self.engine.create_while(spec, is_patient)?)
    }

    /// A pipeline that was there could not be begun.
    fn put_off(&self, state: &mut State, pipeline: &str, refused: &Error, is_silent: bool) {
        state.running.remove(pipeline);
        if self.engine.is_ending() {
            return;
        }
        let is_of_before = is_of_before(state, pipeline);
        if state.ran.contains(pipeline) || (is_of_before && is_silent) {
            // It is read as its checkpoints hold it, and tried again by itself.
            state.broken.stopped_by(pipeline, refused.to_string(), true);
        } else if is_of_before {
            state.broken.pipeline(pipeline, refused);
        } else {
            // Whoever asks for it begins it.
            state.waiting.insert(pipeline.to_owned());
        }
    }

    fn does_not_begin(&self, pipeline: &str, waited: Duration) -> Error {
        let (root, seconds) = (self.engine.store().root().url(), waited.as_secs());
        let message = format!(
            "pipeline {pipeline:?} could not be begun in {seconds} s, as checkpoint root {root} does not answer or has \
             not given its files: try again when it does"
        );
        invalid("58030", message, None)
    }

    /// Begins all pipelines that wait.
    pub(crate) fn settle<'a>(
        &'a self,
        connection: &Connection,
        state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>> {
        let all = state.waiting.clone();
        self.settle_some(connection, state, &all)
    }

    /// Begins those of some pipelines that wait.
    pub(crate) fn settle_some<'a>(
        &'a self,
        connection: &Connection,
        mut state: MutexGuard<'a, State>,
        pipelines: &BTreeSet<String>,
    ) -> Result<MutexGuard<'a, State>> {
        for pipeline in pipelines {
            if state.waiting.contains(pipeline) {
                let begun;
                (state, begun) = self.begin(connection, state, pipeline, false);
                begun?;
            }
        }
        Ok(state)
    }

    /// The state when all pipelines that others see run, or are broken: those that wait are begun.
    pub(crate) fn settled(&self, connection: &Connection) -> Result<MutexGuard<'_, State>> {
        loop {
            let state = self.wait_for_all_pipelines(connection)?;
            if state.waiting.is_empty() {
                return Ok(state);
            }
            drop(self.settle(connection, state)?);
        }
    }

    /// Begins what remains of pipelines of which objects were dropped, unless starts are deferred. Who has dropped
    /// them does not cancel that: they are dropped, whatever becomes of the others.
    pub(crate) fn begin_rest(&self, state: MutexGuard<'_, State>) {
        if state.deferring {
            return;
        }
        if let Err(error) = self.settle(&Connection::new(), state) {
            tracing::warn!(%error, "what remains is tried again when it is asked for");
        }
    }
}

impl State {
    /// A pipeline runs from now on; paused, or not, as somebody may have asked for while it was begun.
    pub(crate) fn runs(&mut self, running: Pipeline) {
        let name = running.name().to_owned();
        let running = running.titled(self.objects.title(&name));
        if let Err(error) = running.pause(self.catalog.is_paused(&name)) {
            tracing::debug!(pipeline = name, %error, "it has ended at once, and is begun so");
        }
        self.running.insert(name.clone(), running);
        self.broken.started(&name);
        self.ran.insert(name);
    }
}

/// The objects of a pipeline as the catalog has them, and the tables and sources that it is planned with.
pub(crate) fn entries_of(state: &State, pipeline: &str) -> Vec<Entry> {
    let own: Vec<&Object> = state.objects.of_pipeline(pipeline).collect();
    let read = own.iter().flat_map(|object| object.reads());
    let written = own.iter().filter_map(|object| Some(object.writes()?.value.clone()));
    let names: BTreeSet<String> = read.chain(written).collect();
    own.into_iter().chain(state.objects.sources(&names)).map(|object| object.entry.clone()).collect()
}

/// Calls what begins a pipeline. A panic is an error: others wait until it is begun, or is not.
pub(crate) fn caught<T>(pipeline: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(invalid("XX000", format!("pipeline {pipeline:?} could not be begun: panicked: {text}"), None))
    })
}

/// Ends a pipeline of which a definition has changed or dropped objects while it was begun.
pub(crate) fn end(begun: &Pipeline) {
    if let Err(error) = begun.stop(false) {
        let pipeline = begun.name();
        tracing::warn!(pipeline, %error, "a pipeline that was changed while it was begun did not end as it should");
    }
}

/// Notes that such a pipeline does not run: the next try begins it as it is then.
pub(crate) fn note_changed(state: &mut State, pipeline: &str) {
    if state.objects.of_pipeline(pipeline).next().is_some() {
        state.broken.stopped_by(pipeline, "it was changed while it was begun".to_owned(), true);
    }
}

/// Whether a pipeline was there when the database was opened, so that what the root has of it is its own.
fn is_of_before(state: &State, pipeline: &str) -> bool {
    state.objects.of_pipeline(pipeline).next().is_some_and(|first| first.entry.id < state.first_new)
}

/// Whether the object that names a pipeline has had others of its name before: then what the root
/// holds may be left of those. What the texts were that have changed since is not known.
fn first_is_not_the_first(state: &State, pipeline: &str) -> bool {
    let mut all = state.objects.of_pipeline(pipeline);
    all.next().is_some_and(|first| first.entry.incarnation > 0 || first.entry.rewritten)
        || all.any(|object| object.entry.rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let refused = caught("v", || -> Result<()> { panic!("no {}", "plan") }).expect_err("it panics");
        assert_eq!(refused.sqlstate(), "XX000");
        assert!(refused.to_string().contains("\"v\" could not be begun: panicked: no plan"), "{refused}");
        let refused = caught("v", || -> Result<()> { panic!("none") }).expect_err("it panics");
        assert!(refused.to_string().ends_with("none"), "{refused}");
        assert_eq!(caught("v", || Ok(7)).expect("it is called"), 7);
    }
}
