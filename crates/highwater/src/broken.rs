//! Objects of the catalog that could not be made when it was opened, as a file is gone or a checkpoint
//! is damaged: everything else works, and they can be dropped. They keep their names and what they read.
//!
//! A source whose columns are known stands among the objects all the same, as an [`crate::away`] one, so
//! that what reads it is whole; only its pipelines do not run. Invariant: a pipeline with a broken object,
//! or that reads a broken source, is not started, as its state would be lost with a smaller plan.

use crate::catalog::Entry;
use crate::connection::invalid;
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use crate::retry::is_source;
use highwater_sql::references;
use highwater_sql::statement::Statement;
use std::collections::{BTreeMap, BTreeSet};

/// What is broken, and why.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    objects: BTreeMap<String, Fault>,
    /// Pipelines whose objects are all whole and that did not start.
    pipelines: BTreeMap<String, Stopped>,
}

#[derive(Debug)]
struct Fault {
    entry: Entry,
    reason: String,
    /// The reason is that another object is broken.
    is_of_another: bool,
}

#[derive(Debug)]
struct Stopped {
    reason: String,
    /// It may go away by itself.
    passes: bool,
}

impl Broken {
    /// An object could not be made. What reads a broken one tells why that one is.
    pub(crate) fn object(&mut self, entry: Entry, reason: &Error) {
        let behind = self.behind(&entry);
        let is_of_another = behind.is_some();
        let reason = behind.unwrap_or_else(|| reason.to_string());
        if self.why(&entry.name) != Some(reason.as_str()) {
            tracing::error!(name = entry.name, reason, "this object cannot be used; DROP removes it");
        }
        self.objects.insert(entry.name.clone(), Fault { entry, reason, is_of_another });
    }

    fn behind(&self, entry: &Entry) -> Option<String> {
        let found = reads(entry).into_iter().find_map(|name| self.objects.get_key_value(&name));
        let (name, fault) = found?;
        Some(if fault.is_of_another { fault.reason.clone() } else { cannot_be_used(name, &fault.reason) })
    }

    /// A pipeline could not be started.
    pub(crate) fn pipeline(&mut self, pipeline: &str, reason: &Error) {
        self.stopped_by(pipeline, reason.to_string(), may_pass(reason));
    }

    /// A pipeline is not started; whether the reason may go away by itself is told.
    pub(crate) fn stopped_by(&mut self, pipeline: &str, reason: String, passes: bool) {
        if self.pipelines.get(pipeline).is_none_or(|known| known.reason != reason) {
            tracing::error!(pipeline, reason, "this pipeline did not start");
        }
        self.pipelines.insert(pipeline.to_owned(), Stopped { reason, passes });
    }

    /// A pipeline runs after all.
    pub(crate) fn started(&mut self, pipeline: &str) {
        self.pipelines.remove(pipeline);
    }

    /// Forgets why a pipeline of whole objects did not start, and gives true, unless that may pass by itself.
    pub(crate) fn let_go(&mut self, pipeline: &str) -> bool {
        let stays = self.of_pipeline(pipeline).is_none() && !self.may_pass(pipeline);
        if stays {
            self.pipelines.remove(pipeline);
        }
        stays
    }

    /// An object was made after all.
    pub(crate) fn mended(&mut self, name: &str) {
        self.objects.remove(name);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.pipelines.is_empty()
    }

    /// Why an object cannot be used.
    pub(crate) fn why(&self, name: &str) -> Option<&str> {
        self.objects.get(name).map(|fault| fault.reason.as_str())
    }

    /// An object as the catalog has it.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.objects.get(name).map(|fault| &fault.entry)
    }

    /// The sources among the objects, and the tables that connectors fill.
    pub(crate) fn sources(&self) -> Vec<Entry> {
        self.objects.values().map(|fault| &fault.entry).filter(|entry| is_source(entry)).cloned().collect()
    }

    /// All other objects, in the order of creation.
    pub(crate) fn others(&self) -> Vec<Entry> {
        let others = self.objects.values().map(|fault| &fault.entry).filter(|entry| !is_source(entry));
        let mut others: Vec<Entry> = others.cloned().collect();
        others.sort_by_key(|entry| entry.id);
        others
    }

    /// The texts or names of objects were changed.
    pub(crate) fn replace(&mut self, changed: &[Entry]) {
        let now = |Fault { entry, reason, is_of_another }| {
            let new: Option<Entry> = changed.iter().find(|new| new.id == entry.id).cloned();
            let entry = new.unwrap_or(entry);
            (entry.name.clone(), Fault { entry, reason, is_of_another })
        };
        self.objects = std::mem::take(&mut self.objects).into_values().map(now).collect();
    }

    /// Objects and pipelines were dropped.
    pub(crate) fn forget(&mut self, names: &[String], pipelines: &BTreeSet<String>) {
        self.objects.retain(|name, _| !names.contains(name));
        self.pipelines.retain(|name, _| !pipelines.contains(name));
    }

    /// Why a pipeline does not run.
    pub(crate) fn why_not_running(&self, pipeline: &str) -> Option<&str> {
        let object = self.of_pipeline(pipeline).map(|fault| fault.reason.as_str());
        object.or_else(|| self.pipelines.get(pipeline).map(|stopped| stopped.reason.as_str()))
    }

    /// Whether the objects of a pipeline are whole, and trying to start it may help.
    pub(crate) fn may_pass(&self, pipeline: &str) -> bool {
        self.of_pipeline(pipeline).is_none() && self.pipelines.get(pipeline).is_none_or(|stopped| stopped.passes)
    }

    fn of_pipeline(&self, pipeline: &str) -> Option<&Fault> {
        self.objects.values().find(|fault| fault.entry.pipeline.as_deref() == Some(pipeline))
    }

    /// All pipelines that do not run, and why.
    pub(crate) fn stopped(&self) -> BTreeMap<String, String> {
        let stopped = self.pipelines.iter().map(|(name, stopped)| (name.clone(), stopped.reason.clone()));
        let mut stopped: BTreeMap<String, String> = stopped.collect();
        for fault in self.objects.values() {
            if let Some(pipeline) = &fault.entry.pipeline {
                stopped.entry(pipeline.clone()).or_insert_with(|| fault.reason.clone());
            }
        }
        stopped
    }

    /// All that is broken, in words.
    pub(crate) fn all(&self) -> Vec<String> {
        let objects = self.objects.iter().map(|(name, fault)| format!("{name}: {}", fault.reason));
        objects.chain(self.pipelines.iter().map(|(name, stopped)| format!("{name}: {}", stopped.reason))).collect()
    }
}

/// Whether what kept a pipeline from starting may go away by itself, or by what a person does to the disk or the
/// root, not to the database.
fn may_pass(reason: &Error) -> bool {
    use highwater_engine::Error as Failed;
    use highwater_engine::checkpoint::Error as Refused;
    let Error::Engine(reason) = reason else { return false };
    match reason {
        Failed::Connector { .. }
        | Failed::Io { .. }
        | Failed::Timeout(_)
        | Failed::Away(_)
        | Failed::Checkpoint(Refused::Denied { .. } | Refused::Local { .. } | Refused::Missing { .. }) => true,
        Failed::Checkpoint(error) if error.is_transient() => true,
        other => other.is_no_space(),
    }
}

fn cannot_be_used(name: &str, reason: &str) -> String {
    format!("{name:?} cannot be used: {reason}")
}

/// What an object that could not be made reads or writes into.
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

impl State {
    /// What reads an object or writes into it, directly or not, whole or broken, in the order of creation.
    pub(crate) fn dependents(&self, names: &[String]) -> Vec<String> {
        let mut found = names.to_vec();
        for entry in self.catalog.entries() {
            let names = match self.objects.get(&entry.name) {
                Some(object) => {
                    let mut names = object.reads();
                    names.extend(object.writes().map(|table| table.value.clone()));
                    names
                }
                None => reads(entry),
            };
            if names.iter().any(|name| found.contains(name)) && !found.contains(&entry.name) {
                found.push(entry.name.clone());
            }
        }
        found.split_off(names.len())
    }

    /// Why a pipeline whose objects are whole cannot run: a source that it reads is broken.
    pub(crate) fn lacks(&self, pipeline: &str) -> Option<String> {
        let own_and_read = |object: &Object| object.reads().into_iter().chain([object.name().to_owned()]);
        let names: BTreeSet<String> = self.objects.of_pipeline(pipeline).flat_map(own_and_read).collect();
        let sources = self.objects.sources(&names);
        sources.iter().find_map(|source| Some(cannot_be_used(source.name(), self.broken.why(source.name())?)))
    }

    /// Why a pipeline cannot be started.
    pub(crate) fn why_not_started(&self, pipeline: &str) -> Option<String> {
        let known = self.broken.why_not_running(pipeline).map(str::to_owned);
        known.or_else(|| self.lacks(pipeline))
    }

    /// Refuses to read sources that are broken.
    pub(crate) fn check_sources(&self, leaves: &[Object]) -> Result<()> {
        let sources = leaves.iter().filter(|leaf| matches!(leaf.body, Body::Source(_)));
        for source in sources {
            if let Some(reason) = self.broken.why(source.name()) {
                return Err(invalid("55000", cannot_be_used(source.name(), reason), None));
            }
        }
        Ok(())
    }
}

impl Database {
    /// Objects and pipelines that could not be brought back when the database was opened, with the
    /// reasons; the others work. Some come back by [`Database::retry_broken`].
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.all()
    }

    /// An error that says that a relation does not exist tells of one that does why it cannot be used.
    pub(crate) fn told_of_broken(&self, error: Error) -> Error {
        let Error::Sql(highwater_sql::Error::Unknown { kind: highwater_sql::Kind::Relation, name, position }) = &error
        else {
            return error;
        };
        let message = self.state().broken.why(name).map(|reason| cannot_be_used(name, reason));
        match message {
            Some(message) => {
                Error::Sql(highwater_sql::Error::Invalid { sqlstate: "55000", message, position: *position })
            }
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Kind;
    use highwater_engine::checkpoint::Error as Refused;
    use highwater_engine::checkpoint::error::Outcome;
    use std::io;

    fn entry(id: u64, name: &str, kind: Kind, sql: &str) -> Entry {
        let pipeline = (kind != Kind::Source).then(|| "p".to_owned());
        Entry {
            id,
            name: name.to_owned(),
            kept: None,
            incarnation: 0,
            kind,
            sql: sql.to_owned(),
            rewritten: false,
            added: Vec::new(),
            pipeline,
            planning: 0,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn what_reads_a_broken_object_tells_why_that_one_is() {
        let mut broken = Broken::default();
        let source = "CREATE SOURCE s (a int) WITH (connector = 'file', path = 'x') FORMAT PLAIN ENCODE JSON";
        let gone = invalid("58030", "it is gone", None);
        broken.object(entry(1, "s", Kind::Source, source), &gone);
        let unknown = || invalid("42P01", "unknown", None);
        let view = |name: &str, of: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT a FROM {of}");
        broken.object(entry(3, "v", Kind::MaterializedView, &view("v", "s")), &unknown());
        broken.object(entry(2, "w", Kind::MaterializedView, &view("w", "v")), &unknown());
        broken.object(entry(4, "x", Kind::MaterializedView, &view("x", "t")), &unknown());
        assert_eq!(broken.why("s"), Some("it is gone"));
        assert_eq!(broken.why("v"), Some("\"s\" cannot be used: it is gone"));
        assert_eq!(broken.why("w"), broken.why("v"));
        assert_eq!(broken.why("x"), Some("unknown"));
        let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!(names(broken.sources()), ["s"]);
        assert_eq!(names(broken.others()), ["w", "v", "x"]);
        broken.replace(&[entry(1, "s2", Kind::Source, source)]);
        assert_eq!((broken.why("s"), broken.why("s2")), (None, Some("it is gone")));
    }

    /// What a root or disk tells that is full, may not be written or does not answer.
    fn refusals() -> [Refused; 4] {
        let object = || "a/current".to_owned();
        let action = "replace";
        [
            Refused::NoSpace { action, object: object(), source: "full".into() },
            Refused::Denied { action, object: object(), source: "read-only".into() },
            Refused::Unavailable { action, object: object(), outcome: Outcome::SurelyNotDone, source: "away".into() },
            Refused::Local { action, path: object().into(), source: io::ErrorKind::ReadOnlyFilesystem.into() },
        ]
    }

    #[test]
    fn a_pipeline_is_tried_again_when_its_objects_are_whole_and_the_reason_may_go() {
        let mut broken = Broken::default();
        assert!(broken.may_pass("p") && broken.why_not_running("p").is_none());
        broken.pipeline("p", &highwater_engine::Error::connector("s", "it is gone").into());
        assert!(broken.may_pass("p"));
        for refused in refusals() {
            broken.pipeline("p", &highwater_engine::Error::Checkpoint(refused).into());
            assert!(broken.may_pass("p"), "{:?}", broken.why_not_running("p"));
        }
        let damaged = Refused::Corrupt { object: "a/current".to_owned(), reason: "it is short".to_owned() };
        broken.pipeline("p", &highwater_engine::Error::Checkpoint(damaged).into());
        assert!(!broken.may_pass("p"));
        broken.pipeline("p", &highwater_engine::Error::Plan("it was planned in another way".to_owned()).into());
        assert!(!broken.may_pass("p"));
        let foreign = highwater_tables::Error::Foreign { position: 9, newest: 3 };
        broken.pipeline("p", &highwater_engine::Error::from(foreign).into());
        assert!(!broken.may_pass("p"));
        assert!(broken.let_go("p") && !broken.let_go("p"));
        broken.started("p");
        let view = "CREATE MATERIALIZED VIEW v AS SELECT a FROM t";
        broken.object(entry(1, "v", Kind::MaterializedView, view), &invalid("42P01", "unknown", None));
        assert!(!broken.may_pass("p") && broken.may_pass("q"));
        assert_eq!(broken.stopped()["p"], "unknown");
        broken.mended("v");
        assert!(broken.is_empty());
    }
}
