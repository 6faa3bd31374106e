//! Bringing back without a restart what could not be brought back at the start: sources whose files were
//! away, then what reads them, then the pipelines.
//!
//! Invariant: what another definition has changed meanwhile is not brought back as it was.

use crate::catalog::{Entry, Kind};
use crate::database::{Database, State};
use crate::objects::Object;

impl Database {
    /// Tries once more what was [`Database::broken`] when the database was opened and may be whole by
    /// now: sources that could not be reached, and pipelines that did not start because of such a source
    /// or of a store that did not answer. What comes back goes on from its newest checkpoint. And removes what
    /// dropped objects have left where that could not be removed so far. And has tables written again that may have
    /// got a key while the catalog could not be written. Cheap when there is nothing to do; to be called every now and
    /// then.
    pub fn retry_broken(&self) {
        if self.state().restoring.is_closed() {
            return;
        }
        self.settle_places();
        self.begin_broken();
        self.remove_left();
    }

    fn begin_broken(&self) {
        let away = {
            let state = self.state();
            if state.broken.is_empty() {
                return;
            }
            state.broken.sources()
        };
        // Without the lock: a file system may take its time.
        let found: Vec<Object> = away.into_iter().filter_map(|entry| self.source_of(entry, None).ok()).collect();
        if !found.is_empty() {
            self.put_back(found);
        }
        if self.queue_again() {
            self.restore_pipelines();
        }
    }

    /// Puts sources in their places, and what could not be made without them.
    fn put_back(&self, found: Vec<Object>) {
        let mut state = self.state();
        for object in found {
            // It may have been dropped or renamed meanwhile.
            if state.broken.entry(object.name()) == Some(&object.entry) {
                state.came_back(object);
            }
        }
        for entry in state.broken.others() {
            match self.object(&state, entry.clone()) {
                Ok(object) => state.came_back(object),
                Err(reason) => state.broken.object(entry, &reason),
            }
        }
    }

    /// Queues the pipelines that do not run and may; false when there are none.
    fn queue_again(&self) -> bool {
        let mut state = self.state();
        if state.restoring.is_closed() {
            return false;
        }
        let again: Vec<String> = state.objects.pipelines().into_iter().filter(|name| state.may_start(name)).collect();
        for pipeline in &again {
            self.tables.set_readers(pipeline, &self.tables_of(&state, pipeline));
            state.restoring.add(pipeline);
        }
        !again.is_empty()
    }
}

impl State {
    fn came_back(&mut self, object: Object) {
        tracing::info!(name = object.name(), "this object can be used again");
        self.broken.mended(object.name());
        self.objects.add(object);
    }

    fn may_start(&self, pipeline: &str) -> bool {
        let is_known =
            self.running.contains_key(pipeline) || self.waiting.contains(pipeline) || self.restoring.holds(pipeline);
        !is_known && self.broken.may_pass(pipeline) && self.lacks(pipeline).is_none()
    }
}

/// Whether an object's connector gives rows.
pub(crate) fn is_source(entry: &Entry) -> bool {
    entry.kind == Kind::Source || entry.kind == Kind::Table && entry.pipeline.is_some()
}
