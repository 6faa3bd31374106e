//! What dropped objects leave behind: checkpoints of pipelines, rows of tables, journals.
//!
//! The catalog forgets an object and notes what it leaves in one write; then that is removed, and the
//! note goes. What could not be removed, as the process died or a store did not answer, is removed
//! when the database is opened again. Invariant: what belongs to an object of the catalog is never
//! removed.

use crate::catalog::{Entry, Kind};
use crate::database::{Database, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

    /// Removes what dropped objects have left, as far as that is possible now.
    pub(crate) fn remove_left(&self, state: &mut State) {
        let mut removed = Leaving::default();
        for pipeline in state.catalog.leaving().pipelines.clone() {
            let done = match state.running.remove(&pipeline) {
                Some(running) => running.delete(),
                None => self.engine.delete(&pipeline),
            };
            self.tables.set_readers(&pipeline, &[]);
            // The next of its name is another one.
            state.ran.remove(&pipeline);
            match done {
                Ok(()) => drop(removed.pipelines.insert(pipeline)),
                Err(error) => tracing::warn!(pipeline, %error, "its checkpoints are removed at the next start"),
            }
        }
        for table in state.catalog.leaving().tables.iter().copied() {
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
        if !removed.is_empty()
            && let Err(error) = state.catalog.left(&removed)
        {
            tracing::warn!(%error, "the catalog still names what was removed");
        }
    }
}
