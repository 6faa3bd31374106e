//! Bringing back what the catalog holds when a database is opened: objects first, then pipelines.
//!
//! Pipelines wait in a queue, from which a few are restored at the same time; their state then loads
//! on the workers within the budget of memory. First come those that a statement waits for, then
//! those that feed sinks, then the others in the order of their creation. Reading and writing tables
//! waits for no pipeline; a definition waits for all but those that are broken and tried again, a query for those
//! of its views.
//! Invariant: a pipeline is in the queue, begun, being made, running or broken, and in one of these only; but one
//! that is broken and tried again ([`crate::retry`]) stays so until it runs, and one that runs and is begun anew
//! ([`crate::begin`]) is among those that run until another run takes its place.

use crate::begin::{caught, end, entries_of, note_changed};
use crate::catalog::Entry;
use crate::connection::Connection;
use crate::database::{Database, STACK_BYTES, State};
use crate::error::Result;
use crate::objects::{Body, Object};
use crate::pipelines::{ROOT_PATIENCE, for_a_while};
use crate::retry::is_source;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Restores at the same time: they mostly wait for the checkpoint root.
const AT_ONCE: usize = 8;
/// Sources that are made at the same time: they wait for what is outside.
const ASKED_AT_ONCE: usize = 32;
/// How often who waits for a pipeline looks whether it was cancelled.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Pipelines that are yet to run.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    queue: VecDeque<String>,
    begun: BTreeSet<String>,
    /// New ones that definitions begin: of these nobody else needs anything.
    making: BTreeSet<String>,
    /// Others that are begun with what they have by now.
    anew: BTreeSet<String>,
    /// The database is going down.
    closed: bool,
}

impl Restoring {
    /// Whether a pipeline is yet to run.
    pub(crate) fn holds(&self, pipeline: &str) -> bool {
        let is_begun = self.begun.contains(pipeline) || self.is_being_begun(pipeline);
        is_begun || self.queue.iter().any(|waiting| waiting == pipeline)
    }

    /// Whether a definition is just beginning a pipeline that is new.
    pub(crate) fn is_making(&self, pipeline: &str) -> bool {
        self.making.contains(pipeline)
    }

    /// Whether a session is just beginning a pipeline that was there.
    pub(crate) fn is_begun_anew(&self, pipeline: &str) -> bool {
        self.anew.contains(pipeline)
    }

    /// Whether a session is just beginning a pipeline.
    pub(crate) fn is_being_begun(&self, pipeline: &str) -> bool {
        self.is_making(pipeline) || self.is_begun_anew(pipeline)
    }

    /// A session begins a pipeline.
    pub(crate) fn begins(&mut self, pipeline: &str, is_new: bool) {
        let begun = if is_new { &mut self.making } else { &mut self.anew };
        begun.insert(pipeline.to_owned());
    }

    /// A session has begun a pipeline, or could not.
    pub(crate) fn ends(&mut self, pipeline: &str) {
        self.making.remove(pipeline);
        self.anew.remove(pipeline);
    }

    /// Those that are yet to run and that others need, the next one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.begun.iter().chain(&self.anew).chain(&self.queue)
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
        self.is_over() && !self.is_changing()
    }

    /// Whether a session is just beginning a pipeline.
    fn is_changing(&self) -> bool {
        !(self.making.is_empty() && self.anew.is_empty())
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
        let entries = state.catalog.entries().to_vec();
        let mut sources = self.made_sources(&entries);
        for entry in entries {
            let made = sources.remove(&entry.id);
            match made.unwrap_or_else(|| self.object(&state, entry.clone())) {
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

    /// The sources among some entries, by number. Many are made at the same time, as each may wait for what is outside
    /// and does not answer, and clients are served when all were tried.
    fn made_sources(&self, entries: &[Entry]) -> BTreeMap<u64, Result<Object>> {
        let sources: Vec<&Entry> = entries.iter().filter(|entry| is_source(entry)).collect();
        let (queue, made) = (Mutex::new(sources.iter()), Mutex::new(BTreeMap::new()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let make = || {
            while let Some(entry) = next() {
                let object = self.source_of((*entry).clone(), None);
                made.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.id, object);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..ASKED_AT_ONCE.min(sources.len()) {
                let thread = std::thread::Builder::new().name("hw-restore".to_owned()).stack_size(STACK_BYTES);
                if thread.spawn_scoped(scope, make).is_err() {
                    make();
                }
            }
        });
        made.into_inner().unwrap_or_else(PoisonError::into_inner)
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
            (entries, caught(pipeline, || self.pipeline_spec(&state, pipeline)))
        };
        let started = caught(pipeline, || {
            let spec = spec?;
            if !self.check_offsets(pipeline, &spec.plan, for_a_while())? {
                return Err(self.silent(pipeline).into());
            }
            // Once the root has answered its files are waited for as long as it takes.
            let began = Instant::now();
            let is_patient = move |is_claimed: bool| is_claimed || began.elapsed() < ROOT_PATIENCE;
            let running = self.engine.create_while(spec, is_patient)?;
            Ok(running.ok_or_else(|| self.silent(pipeline))?)
        });
        let mut state = self.state();
        let now = entries_of(&state, pipeline);
        match started {
            Ok(running) if entries == now => state.runs(running),
            Ok(running) => {
                // It counts as begun until it has ended, which may take a while.
                drop(state);
                end(&running);
                state = self.state();
                note_changed(&mut state, pipeline);
            }
            // It was given up, and goes on at the next start.
            Err(_) if self.engine.is_ending() => {}
            // What is gone or otherwise by now may have been why.
            Err(_) if entries != now => note_changed(&mut state, pipeline),
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

    /// Begins no more restores; those under way are given up.
    pub(crate) fn begin_no_more(&self) {
        // Who waits for the root may have the lock.
        self.engine.begin_no_more();
        let mut state = self.state();
        state.restoring.closed = true;
        state.restoring.queue.clear();
    }

    /// Waits until what was being begun is given up.
    pub(crate) fn wait_until_given_up(&self) {
        // Nobody cancels a stop.
        drop(self.wait_while(&Connection::new(), |state| !state.restoring.is_idle()));
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
        let are_awaited = |state: &State| pipelines.iter().any(|pipeline| state.restoring.holds(pipeline));
        self.wait_while(connection, are_awaited).map(drop)
    }

    /// The state when no pipeline that others need is yet to run, but for those that are broken and tried again: the
    /// root may not answer for long.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn wait_for_all_pipelines(&self, connection: &Connection) -> Result<MutexGuard<'_, State>> {
        let is_whole = |state: &State, pipeline: &String| state.broken.why_not_running(pipeline).is_none();
        let are_awaited = |state: &State| state.restoring.all().any(|pipeline| is_whole(state, pipeline));
        self.wait_while(connection, are_awaited)
    }

    /// The state when a pipeline is not just begun anew: who follows a run that ends goes on with the next one.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn state_when_begun(&self, connection: &Connection, pipeline: &str) -> Result<MutexGuard<'_, State>> {
        self.wait_while(connection, |state| state.restoring.is_begun_anew(pipeline))
    }

    /// The state for a definition: when nobody else begins a pipeline. That is planned with what there was, so
    /// nothing of it may change meanwhile, and a new object is taken back when it cannot be begun, so nothing may come
    /// to read that.
    ///
    /// # Errors
    /// `Sql` with 57014 when it is cancelled.
    pub(crate) fn state_to_define(&self, connection: &Connection) -> Result<MutexGuard<'_, State>> {
        self.wait_while(connection, |state| state.restoring.is_changing())
    }

    fn wait_while(&self, connection: &Connection, goes_on: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        while goes_on(&state) {
            connection.check_cancelled()?;
            state = self.restored.wait_timeout(state, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    /// Pipelines that are yet to be restored, the next one first, and those that a definition just begins anew.
    #[must_use]
    pub fn restoring(&self) -> Vec<String> {
        let state = self.state();
        state.restoring.all().map(|pipeline| state.objects.title(pipeline).to_owned()).collect()
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

    #[test]
    fn what_a_session_begins_anew_is_needed_by_others_and_what_is_new_is_not() {
        let mut restoring = Restoring::default();
        restoring.begins("new", true);
        restoring.begins("anew", false);
        assert!(restoring.is_making("new") && !restoring.is_begun_anew("new"));
        assert!(restoring.is_begun_anew("anew") && !restoring.is_making("anew"));
        assert!(restoring.holds("new") && restoring.holds("anew"));
        assert_eq!(restoring.all().collect::<Vec<_>>(), ["anew"]);
        restoring.ends("anew");
        assert!(restoring.is_over() && restoring.is_changing() && !restoring.is_idle());
        restoring.ends("new");
        assert!(restoring.is_idle());
    }
}
