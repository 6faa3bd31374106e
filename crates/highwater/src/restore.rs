//! Bringing back what the catalog holds when a database is opened: objects first, then pipelines.
//!
//! Pipelines wait in a queue, from which a few are restored at the same time; their state then loads
//! on the workers within the budget of memory. First come those that a statement waits for, then
//! those that feed sinks, then the others in the order of their creation. Reading and writing tables
//! waits for no pipeline; a definition waits for all, a query for those of its views.
//! A pipeline that is new is begun here too, so that nobody waits for the root but who made it.
//! Invariant: a pipeline is in the queue, begun, being made, running or broken, and in one of these only; but one
//! that is broken and tried again ([`crate::retry`]) stays so until it runs.

use crate::catalog::Entry;
use crate::connection::{Connection, invalid};
use crate::database::{Database, STACK_BYTES, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use highwater_engine::Pipeline;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Restores at the same time: they mostly wait for the checkpoint root.
const AT_ONCE: usize = 8;
/// How often who waits for a pipeline looks whether it was cancelled.
const LOOK_UP: Duration = Duration::from_millis(20);
/// How long a definition waits for the root to begin a new pipeline.
const NEW_PATIENCE: Duration = Duration::from_secs(60);

/// Pipelines that are yet to run.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    queue: VecDeque<String>,
    begun: BTreeSet<String>,
    /// New ones that definitions begin.
    making: BTreeSet<String>,
    /// The database is going down.
    closed: bool,
}

impl Restoring {
    /// Whether a pipeline is yet to run.
    pub(crate) fn holds(&self, pipeline: &str) -> bool {
        let is_begun = self.begun.contains(pipeline) || self.is_making(pipeline);
        is_begun || self.queue.iter().any(|waiting| waiting == pipeline)
    }

    /// Whether a definition is just beginning a pipeline.
    pub(crate) fn is_making(&self, pipeline: &str) -> bool {
        self.making.contains(pipeline)
    }

    /// Those that are yet to be restored, the next one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.begun.iter().chain(&self.queue)
    }

    /// Whether nothing is begun any more.
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Queues one more pipeline.
    pub(crate) fn add(&mut self, pipeline: &str) {
        self.queue.push_back(pipeline.to_owned());
    }

    /// Whether none is yet to be restored.
    fn is_over(&self) -> bool {
        self.queue.is_empty() && self.begun.is_empty()
    }

    /// Whether none is yet to run.
    fn is_idle(&self) -> bool {
        self.is_over() && self.making.is_empty()
    }

    fn begin(&mut self) -> Option<String> {
        let next = self.queue.pop_front()?;
        self.begun.insert(next.clone());
        Some(next)
    }

    /// Lets a pipeline go first.
    fn hurry(&mut self, pipeline: &str) {
        if let Some(at) = self.queue.iter().position(|waiting| waiting == pipeline)
            && let Some(found) = self.queue.remove(at)
        {
            self.queue.push_front(found);
        }
    }
}

impl Database {
    /// Makes the objects of the catalog again, and queues their pipelines.
    pub(crate) fn restore_objects(&self) {
        let mut state = self.state();
        self.restore_functions(&state);
        for entry in state.catalog.entries().to_vec() {
            match self.object(&state, entry.clone()) {
                Ok(object) => state.objects.add(object),
                Err(reason) => {
                    // What reads a source whose columns are known is whole.
                    if let Ok(source) = self.source_of(entry.clone(), Some(&reason)) {
                        state.objects.add(source);
                    }
                    state.broken.object(entry, &reason);
                }
            }
        }
        for pipeline in state.objects.pipelines() {
            let lacks = if state.broken.why_not_running(&pipeline).is_none() { state.lacks(&pipeline) } else { None };
            if let Some(reason) = lacks {
                state.broken.stopped_by(&pipeline, reason, true);
            }
        }
        let has_sink = |pipeline: &String| state.objects.of_pipeline(pipeline).any(|o| o.body.is_output());
        let is_whole = |pipeline: &String| state.broken.why_not_running(pipeline).is_none();
        let mut seen = BTreeSet::new();
        let in_order = state.objects.iter().filter_map(|object| object.entry.pipeline.clone());
        let pipelines: Vec<String> = in_order.filter(|p| is_whole(p) && seen.insert(p.clone())).collect();
        let (first, others): (Vec<String>, Vec<String>) = pipelines.into_iter().partition(has_sink);
        for pipeline in first.iter().chain(&others) {
            self.tables.set_readers(pipeline, &self.tables_of(&state, pipeline));
        }
        state.restoring.queue = first.into_iter().chain(others).collect();
        self.end_left(&mut state);
    }

    /// Starts the pipelines that the catalog holds and that do not run yet, and returns when all do,
    /// or are [`Database::broken`]. For a database made by [`Database::open_catalog`]; other threads
    /// may use it meanwhile.
    pub fn restore_pipelines(&self) {
        let waiting = self.state().restoring.queue.len();
        let restore = || {
            while let Some(next) = self.begin_next() {
                self.restore_pipeline(&next);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(waiting) {
                // Plans are as deep here as where they were made.
                let thread = std::thread::Builder::new().name("hw-restore".to_owned()).stack_size(STACK_BYTES);
                if thread.spawn_scoped(scope, restore).is_err() {
                    restore();
                }
            }
        });
        self.keep_for_the_broken();
        self.remove_left();
    }

    fn begin_next(&self) -> Option<String> {
        self.state().restoring.begin()
    }

    fn restore_pipeline(&self, pipeline: &str) {
        let (entries, spec) = {
            let mut state = self.state();
            let entries = entries_of(&state, pipeline);
            // Since it was queued it was dropped, or a definition has begun it.
            if entries.is_empty() || state.running.contains_key(pipeline) {
                state.restoring.begun.remove(pipeline);
                drop(state);
                self.restored.notify_all();
                return;
            }
            (entries, self.pipeline_spec(&state, pipeline))
        };
        let started = spec.and_then(|spec| {
            self.check_offsets(pipeline, &spec.plan, || true)?;
            Ok(self.engine.create(spec)?)
        });
        let mut state = self.state();
        let now = entries_of(&state, pipeline);
        match started {
            Ok(running) if entries == now => {
                let running = running.titled(state.objects.title(pipeline));
                state.running.insert(pipeline.to_owned(), running);
                state.ran.insert(pipeline.to_owned());
                state.broken.started(pipeline);
            }
            Ok(running) => give_up(&mut state, &running),
            // It was given up, and goes on at the next start; or what it has left is removed when all are restored.
            Err(_) if self.engine.is_ending() || now.is_empty() => {}
            Err(reason) => state.broken.pipeline(pipeline, &reason),
        }
        state.restoring.begun.remove(pipeline);
        drop(state);
        self.restored.notify_all();
    }

    /// What a broken object would go on from must stay in the tables' log.
    fn keep_for_the_broken(&self) {
        let state = self.state();
        let table = |object: &Object| match &object.body {
            Body::Table(target) => Some(target.table.spec().id),
            _ => None,
        };
        let all: Vec<u32> = state.objects.iter().filter_map(table).collect();
        let entries = state.catalog.entries().iter().filter_map(|entry| entry.pipeline.clone());
        let broken: BTreeSet<String> = entries.filter(|p| state.broken.why_not_running(p).is_some()).collect();
        for pipeline in broken {
            self.tables.set_readers(&pipeline, &all);
        }
        self.tables.settle();
    }

    /// Begins no more restores, and waits until those under way are given up, however the root answers.
    pub(crate) fn stop_restoring(&self) {
        // Who waits for the root may have the lock.
        self.engine.begin_no_more();
        {
            let mut state = self.state();
            state.restoring.closed = true;
            state.restoring.queue.clear();
        }
        // Nobody cancels a stop.
        let _ = self.wait_while(&Connection::new(), |state| !state.restoring.is_idle());
    }

    /// Begins a pipeline that is new, of which it is known that it may go on from what the root has: without the
    /// state, as the root may take its time.
    pub(crate) fn begin_new<'a>(
        &'a self,
        connection: &Connection,
        mut state: MutexGuard<'a, State>,
        pipeline: &str,
    ) -> (MutexGuard<'a, State>, Result<()>) {
        let spec = match state.why_not_started(pipeline) {
            None => self.pipeline_spec(&state, pipeline),
            Some(reason) => Err(highwater_engine::Error::NotRunning { pipeline: pipeline.to_owned(), reason }.into()),
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => return (state, Err(error)),
        };
        let before = entries_of(&state, pipeline);
        self.tables.set_readers(pipeline, &self.tables_of(&state, pipeline));
        state.restoring.making.insert(pipeline.to_owned());
        drop(state);
        let (canceller, deadline) = (connection.canceller(), Instant::now() + NEW_PATIENCE);
        let begun = self.engine.create_while(spec, move || !canceller.is_over() && Instant::now() < deadline);
        let mut state = self.state();
        state.restoring.making.remove(pipeline);
        self.restored.notify_all();
        let done = match begun {
            Ok(Some(running)) if entries_of(&state, pipeline) == before => {
                let running = running.titled(state.objects.title(pipeline));
                state.running.insert(pipeline.to_owned(), running);
                state.ran.insert(pipeline.to_owned());
                Ok(())
            }
            Ok(Some(running)) => {
                give_up(&mut state, &running);
                Err(invalid("55000", "another session has changed it while it was made", None))
            }
            Ok(None) => connection.check_cancelled().and_then(|()| Err(self.does_not_begin(pipeline))),
            Err(error) => Err(error.into()),
        };
        (state, done)
    }

    fn does_not_begin(&self, pipeline: &str) -> Error {
        let root = self.engine.store().root().url();
        let message = format!(
            "pipeline {pipeline:?} could not be begun in {NEW_PATIENCE:?}, as checkpoint root {root} does not answer: \
             try again when it does"
        );
        invalid("58030", message, None)
    }

    /// Waits until pipelines run, or are broken; they go first.
    pub(crate) fn wait_for_pipelines(&self, connection: &Connection, pipelines: &BTreeSet<String>) -> Result<()> {
        let mut state = self.state();
        if state.restoring.is_idle() {
            return Ok(());
        }
        for pipeline in pipelines {
            state.restoring.hurry(pipeline);
        }
        drop(state);
        self.wait_while(connection, |state| pipelines.iter().any(|pipeline| state.restoring.holds(pipeline)))
    }

    /// Waits until no pipeline is yet to be restored.
    pub(crate) fn wait_for_all_pipelines(&self, connection: &Connection) -> Result<()> {
        self.wait_while(connection, |state| !state.restoring.is_over())
    }

    /// Waits until no other definition begins a new pipeline: one comes after the other.
    pub(crate) fn wait_for_new_pipelines(&self, connection: &Connection) -> Result<()> {
        self.wait_while(connection, |state| !state.restoring.making.is_empty())
    }

    fn wait_while(&self, connection: &Connection, goes_on: impl Fn(&State) -> bool) -> Result<()> {
        let mut state = self.state();
        while goes_on(&state) {
            connection.check_cancelled()?;
            state = self.restored.wait_timeout(state, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Pipelines that are yet to be restored, the next one first.
    #[must_use]
    pub fn restoring(&self) -> Vec<String> {
        let state = self.state();
        state.restoring.all().map(|pipeline| state.objects.title(pipeline).to_owned()).collect()
    }
}

/// The objects of a pipeline as the catalog has them.
fn entries_of(state: &State, pipeline: &str) -> Vec<Entry> {
    state.objects.of_pipeline(pipeline).map(|object| object.entry.clone()).collect()
}

/// Ends a pipeline of which a definition has changed or dropped objects while it was begun: the next try
/// begins it as it is now.
fn give_up(state: &mut State, begun: &Pipeline) {
    let pipeline = begun.name();
    if state.objects.of_pipeline(pipeline).next().is_some() {
        state.broken.stopped_by(pipeline, "it was changed while it was begun".to_owned(), true);
    }
    if let Err(error) = begun.stop(false) {
        tracing::warn!(pipeline, %error, "a pipeline that was changed while it was begun did not end as it should");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_goes_first() {
        let names = |restoring: &Restoring| restoring.all().cloned().collect::<Vec<_>>().join(" ");
        let queue = ["a", "b", "c"].map(str::to_owned).into();
        let mut restoring = Restoring { queue, ..Restoring::default() };
        restoring.hurry("c");
        restoring.hurry("unknown");
        assert_eq!(names(&restoring), "c a b");
        assert_eq!(restoring.begin().as_deref(), Some("c"));
        restoring.hurry("c");
        assert!(restoring.holds("c") && restoring.holds("a") && !restoring.holds("d"));
        restoring.begun.remove("c");
        assert!(!restoring.holds("c") && !restoring.is_over());
        assert_eq!(names(&restoring), "a b");
        restoring.add("c");
        assert_eq!(names(&restoring), "a b c");
    }
}
