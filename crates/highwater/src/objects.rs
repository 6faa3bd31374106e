//! The objects of the catalog as the running database holds them: parsed, opened and bound.
//!
//! Invariant: objects stand in the order of their creation, so what one reads stands before it.

use crate::catalog::{Entry, Kind};
use crate::dml::Target;
use crate::error::{Error, Result};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::TableSource;
use highwater_engine::source::Source;
use highwater_sql::session::{self, Relations};
use highwater_sql::statement::{CreateSink, CreateView, Query};
use highwater_sql::{Session, references};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) entry: Entry,
    pub(crate) body: Body,
    /// Its columns; a sink's are those of what it takes.
    pub(crate) schema: SchemaRef,
}

/// What an object is made of.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Table(Target),
    Source(Arc<dyn Source>),
    View(CreateView),
    Materialized(CreateView),
    Sink(CreateSink),
}

impl Object {
    pub(crate) fn query(&self) -> Option<&Query> {
        match &self.body {
            Body::Source(_) | Body::Table(_) => None,
            Body::View(view) | Body::Materialized(view) => Some(&view.query),
            Body::Sink(sink) => Some(&sink.query),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// The names that its query reads directly.
    pub(crate) fn reads(&self) -> BTreeSet<String> {
        self.query().map(references).unwrap_or_default()
    }
}

/// How a query's names are to be understood.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'a> {
    /// Sources and materialized views as streams: for plans to maintain.
    Stream,
    /// Sources and materialized views as these tables: for queries.
    Tables(&'a BTreeMap<String, Arc<dyn TableSource>>),
    /// Sources as these tables, and all views as their queries: for recomputation.
    Scratch(&'a BTreeMap<String, Arc<dyn TableSource>>),
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    all: Vec<Object>,
}

impl Objects {
    pub(crate) fn get(&self, name: &str) -> Option<&Object> {
        self.all.iter().find(|object| object.name() == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.all.iter()
    }

    pub(crate) fn add(&mut self, object: Object) {
        self.all.push(object);
    }

    pub(crate) fn remove(&mut self, names: &[String]) {
        self.all.retain(|object| !names.iter().any(|name| name == object.name()));
    }

    /// Applies what ALTER has set.
    pub(crate) fn set(&mut self, name: &str, settings: &[(String, String)]) {
        for object in self.all.iter_mut().filter(|object| object.name() == name) {
            object.entry.settings.extend(settings.iter().cloned());
        }
    }

    /// The objects of a pipeline; the first one gives it its name.
    pub(crate) fn of_pipeline<'a>(&'a self, pipeline: &'a str) -> impl Iterator<Item = &'a Object> {
        self.all.iter().filter(move |o| o.entry.pipeline.as_deref() == Some(pipeline))
    }

    /// What reads an object, directly or not, in the order of creation.
    pub(crate) fn readers(&self, name: &str) -> Vec<String> {
        let mut found = vec![name.to_owned()];
        for object in &self.all {
            if object.reads().iter().any(|read| found.contains(read)) {
                found.push(object.name().to_owned());
            }
        }
        found.split_off(1)
    }

    /// The sources and materialized views that names come down to, through plain views.
    pub(crate) fn leaves(&self, names: &BTreeSet<String>) -> Vec<&Object> {
        let closed = self.closed(names, false);
        let is_leaf = |o: &&Object| matches!(o.body, Body::Source(_) | Body::Table(_) | Body::Materialized(_));
        closed.into_iter().filter(is_leaf).collect()
    }

    /// The sources and tables that names come down to, through all views.
    pub(crate) fn sources(&self, names: &BTreeSet<String>) -> Vec<&Object> {
        let closed = self.closed(names, true);
        closed.into_iter().filter(|o| matches!(o.body, Body::Source(_) | Body::Table(_))).collect()
    }

    /// The objects that names stand for and what these read, in the order of creation.
    fn closed(&self, names: &BTreeSet<String>, through_materialized: bool) -> Vec<&Object> {
        let mut wanted = names.clone();
        let mut found: Vec<&Object> = Vec::new();
        for object in self.all.iter().rev().filter(|o| !matches!(o.body, Body::Sink(_))) {
            if !wanted.contains(object.name()) {
                continue;
            }
            found.push(object);
            if through_materialized || matches!(object.body, Body::View(_)) {
                wanted.extend(object.reads());
            }
        }
        found.reverse();
        found
    }

    /// What the names in a query stand for.
    pub(crate) fn relations(
        &self,
        session: &Session,
        names: &BTreeSet<String>,
        reading: Reading<'_>,
    ) -> Result<Relations> {
        let mut relations = Relations::default();
        for object in self.closed(names, matches!(reading, Reading::Scratch(_))) {
            let name = object.name();
            match (&object.body, reading) {
                (Body::View(view), _) | (Body::Materialized(view), Reading::Scratch(_)) => {
                    let plan = session.bind(&view.query, &relations)?;
                    relations.view(name, session::rename(plan, &view.columns, &view.query.text)?);
                }
                (_, Reading::Stream) => relations.stream(name, Arc::clone(&object.schema)),
                (_, Reading::Tables(tables) | Reading::Scratch(tables)) => {
                    if let Some(table) = tables.get(name) {
                        relations.insert(name, Arc::clone(table));
                    }
                }
            }
        }
        Ok(relations)
    }

    /// The pipeline that must keep a query: that of the views it reads, or none yet.
    pub(crate) fn pipeline_of(&self, query: &Query) -> Result<Option<String>> {
        let leaves = self.leaves(&references(query));
        let pipelines: BTreeSet<&String> = leaves.iter().filter_map(|leaf| leaf.entry.pipeline.as_ref()).collect();
        if pipelines.len() > 1 {
            return Err(Error::Sql(highwater_sql::Error::Unsupported {
                clause: "a view over views of several pipelines".to_owned(),
                hint: "read one view".to_owned(),
                position: None,
            }));
        }
        Ok(pipelines.first().map(|name| (*name).clone()))
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let mut names: Vec<String> =
            self.all.iter().filter(|o| o.entry.kind == kind).map(|o| o.name().to_owned()).collect();
        names.sort();
        names
    }
}
