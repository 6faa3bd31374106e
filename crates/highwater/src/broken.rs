//! Objects of the catalog that could not be made when it was opened, as a file is gone or a checkpoint
//! is damaged: everything else works, and they can be dropped.
//!
//! Invariant: a pipeline with a broken object is not started, as its state would be lost with a
//! smaller plan.

use crate::catalog::Entry;
use crate::database::{Database, State};
use crate::error::{Error, Result};
use highwater_sql::references;
use highwater_sql::statement::Statement;
use std::collections::{BTreeMap, BTreeSet};

/// What is broken, and why.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    objects: BTreeMap<String, (Entry, String)>,
    /// Pipelines whose objects are all right and that did not start.
    pipelines: BTreeMap<String, String>,
}

impl Broken {
    pub(crate) fn object(&mut self, entry: Entry, reason: &Error) {
        tracing::error!(name = entry.name, %reason, "this object cannot be used; DROP removes it");
        self.objects.insert(entry.name.clone(), (entry, reason.to_string()));
    }

    pub(crate) fn pipeline(&mut self, pipeline: &str, reason: &Error) {
        tracing::error!(pipeline, %reason, "this pipeline did not start");
        self.pipelines.insert(pipeline.to_owned(), reason.to_string());
    }

    /// Why an object cannot be used.
    pub(crate) fn why(&self, name: &str) -> Option<&str> {
        self.objects.get(name).map(|(_, reason)| reason.as_str())
    }

    /// An object as the catalog has it.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.objects.get(name).map(|(entry, _)| entry)
    }

    /// The texts of objects were changed.
    pub(crate) fn replace(&mut self, changed: &[Entry]) {
        for (entry, _) in self.objects.values_mut() {
            if let Some(new) = changed.iter().find(|new| new.id == entry.id) {
                entry.clone_from(new);
            }
        }
    }

    /// Objects and pipelines were dropped.
    pub(crate) fn forget(&mut self, names: &[String], pipelines: &BTreeSet<String>) {
        self.objects.retain(|name, _| !names.contains(name));
        self.pipelines.retain(|name, _| !pipelines.contains(name));
    }

    /// Why a pipeline does not run.
    pub(crate) fn why_not_running(&self, pipeline: &str) -> Option<&str> {
        let of_it = |(entry, _): &&(Entry, String)| entry.pipeline.as_deref() == Some(pipeline);
        let object = self.objects.values().find(of_it).map(|(_, reason)| reason.as_str());
        object.or_else(|| self.pipelines.get(pipeline).map(String::as_str))
    }

    /// All pipelines that do not run, and why.
    pub(crate) fn stopped(&self) -> BTreeMap<String, String> {
        let mut stopped = self.pipelines.clone();
        let of_objects = self.objects.values().filter_map(|(entry, reason)| Some((entry.pipeline.clone()?, reason)));
        for (pipeline, reason) in of_objects {
            stopped.entry(pipeline).or_insert_with(|| reason.clone());
        }
        stopped
    }

    /// All that is broken, in words.
    pub(crate) fn all(&self) -> Vec<String> {
        let objects = self.objects.iter().map(|(name, (_, reason))| format!("{name}: {reason}"));
        objects.chain(self.pipelines.iter().map(|(name, reason)| format!("{name}: {reason}"))).collect()
    }

    /// What reads a broken object, directly or not.
    pub(crate) fn readers(&self, name: &str) -> Vec<String> {
        let mut found = BTreeSet::from([name.to_owned()]);
        loop {
            let more: Vec<String> = self
                .objects
                .values()
                .filter(|(entry, _)| {
                    !found.contains(&entry.name) && reads(entry).iter().any(|read| found.contains(read))
                })
                .map(|(entry, _)| entry.name.clone())
                .collect();
            if more.is_empty() {
                found.remove(name);
                return found.into_iter().collect();
            }
            found.extend(more);
        }
    }
}

fn reads(entry: &Entry) -> BTreeSet<String> {
    match highwater_sql::parse(&entry.sql) {
        Ok(Statement::CreateView(view) | Statement::CreateMaterializedView(view)) => references(&view.query),
        Ok(Statement::CreateSink(sink)) => {
            let mut names = references(&sink.query);
            names.extend(sink.into.map(|table| table.value));
            names
        }
        Ok(Statement::CreateIndex(index)) => references(&index.query),
        Ok(Statement::CreateSubscription(subscription)) => references(&subscription.query),
        _ => BTreeSet::new(),
    }
}

impl Database {
    /// Objects and pipelines that could not be brought back when the database was opened, with the
    /// reasons; the others work.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.all()
    }

    /// Drops a broken object and, with CASCADE, what reads it; their pipelines go as a whole.
    pub(crate) fn drop_broken(&self, state: &mut State, name: &str, cascade: bool) -> Result<Vec<String>> {
        let mut names = state.broken.readers(name);
        names.extend(state.objects.readers(name));
        if !names.is_empty() && !cascade {
            return Err(Error::InUse { name: name.to_owned(), needed_by: names });
        }
        let also = names.clone();
        names.push(name.to_owned());
        self.forget(state, &names)?;
        Ok(also)
    }
}
