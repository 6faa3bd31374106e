//! What dropped objects leave behind: checkpoints of pipelines, rows of tables, journals.
//!
//! The catalog forgets an object and notes what it leaves in one write; then that is removed, and the
//! note goes. What could not be removed, as the process died or a store did not answer, is tried again
//! every now and then, and when the database is opened. A store is asked without the state, for which
//! all others wait. Invariants: what belongs to an object of the catalog is never removed, and nothing
//! new is kept under a name as long as the note has it.

use crate::catalog::{Entry, Kind};
use crate::connection::Connection;
use crate::database::{Database, State};
use highwater_engine::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a removal is waited for, by who makes a definition and by who tries it again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same of one that was cancelled.
const MOMENT: Duration = Duration::from_secs(1);
/// How often who waits for their turn looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaving {
    /// Pipelines that keep nothing any more.
    #[serde(default)]
    pub(crate) pipelines: BTreeSet<String>,
    /// Tables, by their objects' numbers.
    #[serde(default)]
    pub(crate) tables: BTreeSet<u32>,
    /// Journals of subscriptions, by their objects' numbers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) journals: BTreeSet<u32>,
}

impl Leaving {
    pub(crate) fn is_empty(&self) -> bool {
        self.pipelines.is_empty() && self.tables.is_empty() && self.journals.is_empty()
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.pipelines.extend(more.pipelines);
        self.tables.extend(more.tables);
        self.journals.extend(more.journals);
    }

    /// Takes out what was removed.
    pub(crate) fn subtract(&mut self, removed: &Self) {
        self.pipelines.retain(|pipeline| !removed.pipelines.contains(pipeline));
        self.tables.retain(|table| !removed.tables.contains(table));
        self.journals.retain(|journal| !removed.journals.contains(journal));
    }
}

impl Database {
    /// What goes with some objects, broken ones among them, and the pipelines that go on without
    /// them.
    pub(crate) fn left_by(&self, state: &State, names: &[String]) -> (Leaving, BTreeSet<String>) {
        let entry = |name: &String| state.catalog.entry(name);
        let touched: BTreeSet<String> = names.iter().filter_map(|name| entry(name)?.pipeline.clone()).collect();
        let others = state.catalog.entries().iter().filter(|entry| !names.contains(&entry.name));
        let kept: BTreeSet<&String> = others.filter_map(|entry| entry.pipeline.as_ref()).collect();
        let (smaller, pipelines) = touched.into_iter().partition(|pipeline| kept.contains(pipeline));
        // A table of a pipeline is not among those that clients write.
        let is_written = |entry: &&Entry| entry.kind == Kind::Subscription || entry.pipeline.is_none();
        let numbers = |kind: Kind| -> BTreeSet<u32> {
            let of_kind = names.iter().filter_map(entry).filter(|entry| entry.kind == kind).filter(is_written);
            of_kind.filter_map(|entry| u32::try_from(entry.id).ok()).collect()
        };
        (Leaving { pipelines, tables: numbers(Kind::Table), journals: numbers(Kind::Subscription) }, smaller)
    }

    /// Ends the pipelines of dropped objects, and removes their tables and journals as far as that is possible now.
    pub(crate) fn end_left(&self, state: &mut State) {
        for pipeline in state.catalog.leaving().pipelines.clone() {
            if let Some(running) = state.running.remove(&pipeline)
                && let Err(error) = running.stop(false)
            {
                tracing::warn!(pipeline, %error, "a pipeline that is dropped did not end as it should");
            }
            self.tables.set_readers(&pipeline, &[]);
            // The next of its name is another one.
            state.ran.remove(&pipeline);
        }
        let mut removed = Leaving::default();
        let being_copied = &state.being_copied;
        let tables = state.catalog.leaving().tables.iter().copied();
        for table in tables.filter(|table| !being_copied.contains(table)) {
            match self.tables.drop_table(table) {
                Ok(()) => drop(removed.tables.insert(table)),
                Err(error) => tracing::warn!(table, %error, "its rows are removed at the next start"),
            }
        }
        for journal in state.catalog.leaving().journals.iter().copied() {
            match self.tables.drop_journal(journal) {
                Ok(()) => drop(removed.journals.insert(journal)),
                Err(error) => tracing::warn!(journal, %error, "its changes are removed at the next start"),
            }
        }
        note(state, &removed);
    }

    /// Removes what the pipelines have left that were dropped since the last call, and gives what could not be, in
    /// words. Waits for a root that does not answer for a bounded time, and as long as the connection wants it.
    pub(crate) fn remove_new(&self, connection: &Connection) -> Vec<String> {
        let new = std::mem::take(&mut self.state().unremoved);
        if new.is_empty() {
            return Vec::new();
        }
        let was_cancelled = connection.check_cancelled().is_err();
        let deadline = Instant::now() + if was_cancelled { MOMENT } else { PATIENCE };
        let is_wanted = || was_cancelled || connection.check_cancelled().is_ok();
        let is_patient = || is_wanted() && Instant::now() < deadline;
        let turn = self.turn_to_remove(is_patient);
        let mut due = Vec::new();
        let mut is_away = turn.is_none();
        for pipeline in new {
            if is_away {
                due.push(format!("the checkpoints of {pipeline:?} are removed later"));
                continue;
            }
            match self.remove(&pipeline, is_patient) {
                Ok(true) => {}
                Ok(false) => {
                    due.push(format!("the checkpoints of {pipeline:?} are removed later: the root takes long"));
                    is_away = true;
                }
                Err(error) => {
                    tracing::warn!(pipeline, %error, "its checkpoints are still to be removed");
                    due.push(format!("the checkpoints of {pipeline:?} are removed later: {error}"));
                    is_away = does_not_answer(&error);
                }
            }
        }
        due
    }

    /// One removes at a time; none when `is_patient` no longer is before it is one's turn.
    fn turn_to_remove(&self, is_patient: impl Fn() -> bool) -> Option<MutexGuard<'_, ()>> {
        loop {
            match self.removing.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if is_patient() => std::thread::sleep(LOOK_AGAIN),
                Err(TryLockError::WouldBlock) => return None,
            }
        }
    }

    /// Tries once more to remove what dropped pipelines have left. A removal that takes long is given up for now, as
    /// others wait for their turn: what it has removed stays removed, and the next try goes on from there.
    pub(crate) fn remove_left(&self) {
        let due = self.state().catalog.leaving().pipelines.clone();
        for pipeline in due {
            let _turn = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = Instant::now() + PATIENCE;
            match self.remove(&pipeline, || Instant::now() < deadline) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::debug!(pipeline, "its checkpoints are still to be removed: the root takes long");
                    return;
                }
                Err(error) => {
                    tracing::debug!(pipeline, %error, "its checkpoints are still to be removed");
                    if does_not_answer(&error) {
                        return;
                    }
                }
            }
        }
    }

    /// Removes what a dropped pipeline has left, unless that is done, it is just being begun, or all ends. Only in
    /// one's turn: its name is free when it is done, and nobody must be at it any more. Without the state, as a store
    /// may take its time; false when `is_patient` no longer is before that answers.
    fn remove(&self, pipeline: &str, is_patient: impl FnMut() -> bool) -> Result<bool, Error> {
        let is_due = {
            let state = self.state();
            let is_of = |entry: &Entry| entry.pipeline.as_deref() == Some(pipeline);
            state.catalog.leaving().pipelines.contains(pipeline)
                && !state.restoring.holds(pipeline)
                && !state.restoring.is_closed()
                && !state.catalog.entries().iter().any(is_of)
        };
        if is_due {
            if !self.engine.delete(pipeline, is_patient)? {
                return Ok(false);
            }
            // It may have been begun once more while it was dropped.
            self.tables.set_readers(pipeline, &[]);
            let removed = Leaving { pipelines: BTreeSet::from([pipeline.to_owned()]), ..Leaving::default() };
            note(&mut self.state(), &removed);
        }
        Ok(true)
    }
}

/// Whether the root does not answer, which is the same one for all pipelines.
const fn does_not_answer(error: &Error) -> bool {
    matches!(error, Error::Checkpoint(error) if error.is_transient())
}

/// Notes that something is removed.
fn note(state: &mut State, removed: &Leaving) {
    if !removed.is_empty()
        && let Err(error) = state.catalog.left(removed)
    {
        tracing::warn!(%error, "the catalog still names what was removed");
    }
}
