//! The objects of the catalog as the running database holds them: parsed, opened and bound.
//!
//! Invariant: objects stand in the order of their creation, so what one reads stands before it.

use crate::catalog::Entry;
use crate::dml::Target;
use crate::error::Result;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use highwater_engine::plan::Watermark;
use highwater_engine::source::Source;
use highwater_sql::lower::{FedTable, source_name};
use highwater_sql::naming::{self, Naming};
use highwater_sql::session::{self, Relations};
use highwater_sql::statement::{CreateIndex, CreateSink, CreateSubscription, CreateTable, CreateView, Name, Query};
use highwater_sql::{Position, Session, named, references};
use highwater_tables::Journal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) entry: Entry,
    pub(crate) body: Body,
    /// Its columns; an index's, sink's or subscription's are those of what it takes.
    pub(crate) schema: SchemaRef,
    /// Of a source or table.
    pub(crate) watermark: Option<Watermark>,
}

/// What an object is made of.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Table(Target),
    /// A table that a connector fills, kept by its pipeline.
    Fed(Arc<Fed>),
    Source(Arc<dyn Source>),
    View(CreateView),
    Materialized(CreateView),
    Index(CreateIndex),
    Sink(CreateSink),
    Subscription(Subscribed),
}

/// A subscription, and what it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) statement: CreateSubscription,
    pub(crate) journal: Arc<Journal>,
}

impl Body {
    /// Whether it takes a query's rows elsewhere, or keeps them for look-ups, so that nothing reads it.
    pub(crate) const fn is_output(&self) -> bool {
        matches!(self, Self::Index(_) | Self::Sink(_) | Self::Subscription(_))
    }
}

/// A table that a connector fills.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) statement: CreateTable,
    pub(crate) table: FedTable,
}

impl Object {
    pub(crate) fn query(&self) -> Option<&Query> {
        match &self.body {
            Body::Source(_) | Body::Table(_) | Body::Fed(_) => None,
            Body::View(view) | Body::Materialized(view) => Some(&view.query),
            Body::Index(index) => Some(&index.query),
            Body::Sink(sink) => Some(&sink.query),
            Body::Subscription(subscribed) => Some(&subscribed.statement.query),
        }
    }

    /// How its columns are called.
    pub(crate) fn naming(&self) -> Naming<'_> {
        match &self.body {
            Body::View(view) | Body::Materialized(view) => Naming::Listed(&view.columns),
            // The table's columns have names of their own.
            Body::Sink(CreateSink { into: Some(_), .. }) => Naming::ByPlace,
            Body::Source(_)
            | Body::Table(_)
            | Body::Fed(_)
            | Body::Index(_)
            | Body::Sink(_)
            | Body::Subscription(_) => Naming::Listed(&[]),
        }
    }

    /// Where its statement says EMIT ON WINDOW CLOSE, if it does.
    pub(crate) const fn closes(&self) -> Option<Position> {
        match &self.body {
            Body::Materialized(view) => view.closes,
            Body::Sink(sink) => sink.closes,
            Body::Source(_)
            | Body::Table(_)
            | Body::Fed(_)
            | Body::View(_)
            | Body::Index(_)
            | Body::Subscription(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// The name under which the engine knows it.
    pub(crate) fn kept(&self) -> &str {
        self.entry.kept()
    }

    /// Whether a pipeline keeps it.
    fn is_of(&self, pipeline: &str) -> bool {
        self.entry.pipeline.as_deref() == Some(pipeline)
    }

    /// The names that its query reads directly.
    pub(crate) fn reads(&self) -> BTreeSet<String> {
        self.query().map(references).unwrap_or_default()
    }

    /// The table that takes its rows.
    pub(crate) fn writes(&self) -> Option<&Name> {
        match &self.body {
            Body::Sink(sink) => sink.into.as_ref(),
            _ => None,
        }
    }
}

/// How a query's names are to be understood.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'a> {
    /// Sources and materialized views as streams: for names and types.
    Stream,
    /// Sources and the materialized views of this pipeline as streams, those of others as their
    /// queries: for plans to maintain.
    Pipeline(&'a str),
    /// Sources and materialized views as these tables: for queries.
    Tables(&'a BTreeMap<String, Arc<dyn TableSource>>),
}

/// What an object, which is the first, has read of a source or table.
pub(crate) type HasRead<'a> = dyn Fn(&Object, &Object) -> Result<Arc<dyn TableSource>> + 'a;

/// All objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    all: Vec<Object>,
    targets: Targets,
}

/// The tables by name, for statements that write rows: these do not wait while something is defined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets(Arc<RwLock<BTreeMap<String, Target>>>);

impl Targets {
    pub(crate) fn get(&self, name: &str) -> Option<Target> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Target>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Objects {
    pub(crate) fn get(&self, name: &str) -> Option<&Object> {
        self.all.iter().find(|object| object.name() == name)
    }

    /// An object by its number.
    pub(crate) fn get_numbered(&self, id: u64) -> Option<&Object> {
        self.all.iter().find(|object| object.entry.id == id)
    }

    /// The names of all pipelines.
    pub(crate) fn pipelines(&self) -> BTreeSet<String> {
        self.all.iter().filter_map(|object| object.entry.pipeline.clone()).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.all.iter()
    }

    /// The tables among them, now and later.
    pub(crate) fn targets(&self) -> Targets {
        self.targets.clone()
    }

    /// Adds an object in its place by the order of creation, or puts it in the place of the one with its number.
    pub(crate) fn add(&mut self, object: Object) {
        if let Body::Table(target) = &object.body {
            self.targets.change(|targets| {
                targets.insert(object.name().to_owned(), target.clone());
            });
        }
        let at = self.all.partition_point(|other| other.entry.id < object.entry.id);
        if self.all.get(at).is_some_and(|same| same.entry.id == object.entry.id) {
            self.all[at] = object;
        } else {
            self.all.insert(at, object);
        }
    }

    /// Puts an object in the place of the one with the same number. What writes rows sees a table as it
    /// was until [`Objects::publish`].
    pub(crate) fn replace(&mut self, new: Object) {
        if let Some(place) = self.all.iter_mut().find(|object| object.entry.id == new.entry.id) {
            *place = new;
        }
    }

    /// Lets what writes rows see the tables as they are now.
    pub(crate) fn publish(&self) {
        let table = |object: &Object| match &object.body {
            Body::Table(target) => Some((object.name().to_owned(), target.clone())),
            _ => None,
        };
        self.targets.change(|targets| *targets = self.all.iter().filter_map(table).collect());
    }

    pub(crate) fn remove(&mut self, names: &[String]) {
        self.targets.change(|targets| targets.retain(|name, _| !names.contains(name)));
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

    /// The objects of a pipeline that one of them does not need, by the names that the engine knows them by.
    pub(crate) fn beside(&self, object: &str, pipeline: &str) -> Vec<String> {
        let Some(object) = self.get(object) else { return Vec::new() };
        let needs: BTreeSet<&str> = self.closed(&object.reads(), |_| true).into_iter().map(Object::name).collect();
        let others = self.of_pipeline(pipeline).filter(|o| o.name() != object.name() && !needs.contains(o.name()));
        others.map(|other| other.kept().to_owned()).collect()
    }

    /// What people call a pipeline: the name of its first object.
    pub(crate) fn title<'a>(&'a self, pipeline: &'a str) -> &'a str {
        self.of_pipeline(pipeline).next().map_or(pipeline, Object::name)
    }

    /// The name under which the engine knows the object of a name.
    pub(crate) fn kept_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.get(name).map_or(name, Object::kept)
    }

    /// What people call an object that is kept under a name.
    pub(crate) fn shown<'a>(&'a self, kept: &'a str) -> &'a str {
        self.all.iter().find(|object| object.kept() == kept).map_or(kept, Object::name)
    }

    /// The sources and materialized views that names come down to, through plain views.
    pub(crate) fn leaves(&self, names: &BTreeSet<String>) -> Vec<&Object> {
        let closed = self.closed(names, |_| false);
        let is_leaf =
            |o: &&Object| matches!(o.body, Body::Source(_) | Body::Table(_) | Body::Fed(_) | Body::Materialized(_));
        closed.into_iter().filter(is_leaf).collect()
    }

    /// The sources and tables that names come down to, through all views, those that connectors fill too.
    pub(crate) fn sources(&self, names: &BTreeSet<String>) -> Vec<&Object> {
        let closed = self.closed(names, |_| true);
        closed.into_iter().filter(|o| matches!(o.body, Body::Source(_) | Body::Table(_) | Body::Fed(_))).collect()
    }

    /// The tables that names come down to, through all views and through sinks into such tables.
    pub(crate) fn tables_behind(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let mut wanted = names.clone();
        loop {
            let tables = self.sources(&wanted).into_iter().filter(|object| matches!(object.body, Body::Table(_)));
            let tables: BTreeSet<String> = tables.map(|object| object.name().to_owned()).collect();
            let known = wanted.len();
            let feeds = |object: &&Object| object.writes().is_some_and(|into| tables.contains(&into.value));
            for sink in self.all.iter().filter(feeds) {
                wanted.extend(sink.reads());
            }
            if wanted.len() == known {
                return tables;
            }
        }
    }

    /// The objects that names stand for and what these read, in the order of creation: through plain
    /// views, and through those materialized views for which it is said.
    fn closed(&self, names: &BTreeSet<String>, goes_through: impl Fn(&Object) -> bool) -> Vec<&Object> {
        let mut wanted = names.clone();
        let mut found: Vec<&Object> = Vec::new();
        for object in self.all.iter().rev().filter(|o| !o.body.is_output()) {
            if !wanted.contains(object.name()) {
                continue;
            }
            found.push(object);
            if matches!(object.body, Body::View(_)) || goes_through(object) {
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
        let is_inlined = |object: &Object| match (&object.body, reading) {
            (Body::View(_), _) => true,
            (Body::Materialized(_), Reading::Pipeline(pipeline)) => !object.is_of(pipeline),
            _ => false,
        };
        let mut relations = Relations::default();
        for object in self.closed(names, is_inlined) {
            let name = object.name();
            if is_inlined(object) {
                let plan = self.bound(session, object, &relations)?;
                relations.view(name, plan);
                continue;
            }
            match reading {
                Reading::Stream | Reading::Pipeline(_) => {
                    relations.stream_as(name, object.kept(), Arc::clone(&object.schema));
                }
                Reading::Tables(tables) => {
                    if let Some(table) = tables.get(name) {
                        relations.insert(name, Arc::clone(table));
                    }
                }
            }
        }
        Ok(relations)
    }

    /// An object's query from scratch, over what it has read of sources itself and over the queries
    /// of the views that it reads, each from scratch. A view of another pipeline reads as a part of
    /// what reads it.
    pub(crate) fn scratch(&self, session: &Session, object: &Object, rows: &HasRead<'_>) -> Result<LogicalPlan> {
        let is_shared = |read: &Object| match (&read.body, &object.entry.pipeline) {
            (Body::Materialized(_), Some(pipeline)) => read.is_of(pipeline),
            _ => false,
        };
        let mut relations = Relations::default();
        for read in self.closed(&object.reads(), |read| !is_shared(read)) {
            let name = read.name();
            match &read.body {
                Body::Materialized(_) if is_shared(read) => relations.view(name, self.scratch(session, read, rows)?),
                Body::Materialized(_) | Body::View(_) => {
                    let plan = self.bound(session, read, &relations)?;
                    relations.view(name, plan);
                }
                Body::Source(_) | Body::Table(_) | Body::Fed(_) => relations.insert(name, rows(object, read)?),
                Body::Index(_) | Body::Sink(_) | Body::Subscription(_) => {}
            }
        }
        self.bound(session, object, &relations)
    }

    /// The relations as an object sees them: tables without the columns that they got after it was
    /// made.
    pub(crate) fn seen_by(&self, reader: &Entry, mut relations: Relations) -> Result<Relations> {
        for table in self.all.iter().filter(|object| !object.entry.added.is_empty()) {
            let later = table.entry.added.iter().filter(|first| **first > reader.id).count();
            if later > 0 {
                relations.narrow(table.name(), table.schema.fields().len() - later)?;
            }
        }
        Ok(relations)
    }

    /// An object's query with the names of its columns.
    fn bound(&self, session: &Session, object: &Object, relations: &Relations) -> Result<LogicalPlan> {
        let query = object.query().expect("only what has a query is bound");
        let plan = session.bind(query, &self.seen_by(&object.entry, relations.clone())?)?;
        let plan = naming::rename(plan, object.naming(), query)?;
        Ok(if object.closes().is_some() { session::on_close(plan) } else { plan })
    }

    /// The pipeline that a new query joins: that of the view that it names first, or none.
    pub(crate) fn pipeline_of(&self, query: &Query) -> Option<String> {
        named(query).into_iter().find_map(|name| {
            let leaves = self.leaves(&BTreeSet::from([name]));
            leaves.into_iter().find_map(|leaf| leaf.entry.pipeline.clone())
        })
    }

    /// The name of the node by which an object reads a source.
    pub(crate) fn node_of(&self, object: &Object, source: &Object) -> String {
        let pipeline = object.entry.pipeline.as_deref().unwrap_or_default();
        if source.is_of(pipeline) {
            return source.kept().to_owned();
        }
        let is_first = self.of_pipeline(pipeline).next().is_none_or(|first| first.kept() == object.kept());
        source_name(object.kept(), is_first, source.kept())
    }
}
