//! Plans of pipelines, and their starts and stops as objects come and go.
//!
//! A pipeline is named after its first object: a view or sink over sources. What reads its views
//! joins it: the pipeline stops with a checkpoint and goes on with the larger plan, in which nodes
//! of the same name find their state. What reads views of several pipelines joins that of the one
//! it names first, and keeps the queries of the others once more as a part of its own: the catalog
//! says which pipeline an object is of, so its plan is the same after a restart.

use crate::catalog::{Entry, Kind};
use crate::connection::{Connection, invalid};
use crate::create::{connector, encoding, envelope};
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Object, Reading, Subscribed};
use crate::outcome::Outcome;
use crate::settings::{self, ON_ERROR, ViewSettings};
use crate::table_sink::{TableSink, table_of};
use crate::views::FILES_PATIENCE;
use highwater_connectors::{Created, Shape};
use highwater_engine::checkpoint::{self, Manifest, inspect};
use highwater_engine::plan::{OnError, Plan};
use highwater_engine::sink::Sink;
use highwater_engine::{PipelineSpec, check_positions, log_offsets};
use highwater_sql::lower::{Builder, Maintained, Planning};
use highwater_sql::statement::{CreateSink, Name, ObjectKind, Property, Statement};
use highwater_sql::{references, same_text};
use highwater_tables::{JournalSink, TableStore};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Database {
    /// The plan of an object's pipeline with the object in it, whether it is there already or not.
    pub(crate) fn plan_with(&self, state: &State, object: &Object) -> Result<Plan> {
        let pipeline = object.entry.pipeline.as_deref().expect("kept objects have a pipeline");
        let known = state.objects.of_pipeline(pipeline).filter(|o| o.entry.id != object.entry.id);
        self.plan(state, known.chain([object]))
    }

    fn plan<'a>(&self, state: &State, objects: impl Iterator<Item = &'a Object>) -> Result<Plan> {
        let mut builder = Builder::new(&self.session);
        for object in state.objects.iter() {
            builder.incarnation(object.kept(), object.entry.incarnation);
            match &object.body {
                Body::Source(source) => builder.source(object.kept(), Arc::clone(source)),
                Body::Fed(fed) => builder.fed(object.kept(), fed.table.clone()),
                Body::Table(target) => builder.table(object.kept(), Arc::new(self.tables.source(&target.table))),
                _ => {}
            }
            if let Some(watermark) = &object.watermark {
                builder.watermark(object.kept(), watermark.clone());
            }
        }
        for object in objects {
            // A new one is not among all yet.
            builder.incarnation(object.kept(), object.entry.incarnation);
            builder.planning(object.kept(), Planning(object.entry.planning));
            if let Body::Fed(fed) = &object.body {
                builder.fed(object.kept(), fed.table.clone());
                builder.fed_table(object.kept())?;
            }
            let Some(query) = object.query() else { continue };
            builder.on_error(object.kept(), policy(state, object)?);
            let pipeline = object.entry.pipeline.as_deref().expect("kept objects have a pipeline");
            let reading = Reading::Pipeline(pipeline);
            let relations = state.objects.relations(&self.session, &references(query), reading)?;
            let relations = state.objects.seen_by(&object.entry, relations)?;
            let closes = object.closes();
            let kept =
                Maintained { name: object.kept(), columns: object.naming(), query, relations: &relations, closes };
            match &object.body {
                Body::Materialized(_) => {
                    builder.view(kept)?;
                }
                Body::Index(index) => builder.index(kept, &index.columns)?,
                Body::Sink(CreateSink { into: Some(into), .. }) => {
                    let target = table_of(state, into)?;
                    let of = (object.kept(), object.entry.incarnation);
                    let skips = policy(state, object)? == OnError::Skip;
                    let sink = TableSink::new(self.tables.writer(), (*self.session).clone(), target, of, skips);
                    builder.sink(kept, |_, _| Ok(Arc::new(sink)))?;
                }
                Body::Sink(sink) => self.add_sink(&mut builder, kept, sink, object.entry.incarnation)?,
                Body::Subscription(Subscribed { statement, journal }) => {
                    let key = builder.key_of(state.objects.kept_of(&statement.from.value));
                    let sink: Arc<dyn Sink> = Arc::new(JournalSink::new(Arc::clone(journal), key));
                    builder.sink(kept, |_, _| Ok(sink))?;
                }
                Body::Table(_) | Body::Fed(_) | Body::Source(_) | Body::View(_) => {}
            }
        }
        Ok(builder.finish())
    }

    fn add_sink(
        &self,
        builder: &mut Builder<'_>,
        kept: Maintained<'_>,
        sink: &CreateSink,
        incarnation: u64,
    ) -> Result<()> {
        let format = sink.format.as_ref();
        let of_connector = sink.options.iter().filter(|option| option.key != ON_ERROR);
        let of_connector: Vec<Property> = of_connector.cloned().collect();
        let (connector, options) = connector(&sink.name, &of_connector, format)?;
        let created = Created {
            connector: &connector,
            name: kept.name,
            incarnation,
            options: &options,
            columns: None,
            format: format.map(|f| encoding(f.encoding)),
            shape: Shape { envelope: envelope(format), ..Shape::default() },
        };
        builder.sink(kept, |_, _| self.connectors.sink(&created))?;
        Ok(())
    }

    /// The plan of all of a pipeline's objects.
    pub(crate) fn pipeline_plan(&self, state: &State, pipeline: &str) -> Result<Plan> {
        self.plan(state, state.objects.of_pipeline(pipeline))
    }

    /// A pipeline as the engine is to run it, with all its objects.
    pub(crate) fn pipeline_spec(&self, state: &State, pipeline: &str) -> Result<PipelineSpec> {
        let settings = self.view_settings(state, pipeline)?;
        Ok(PipelineSpec {
            name: pipeline.to_owned(),
            sql: state.objects.of_pipeline(pipeline).map(|object| object.entry.sql.clone()).collect(),
            plan: self.pipeline_plan(state, pipeline)?,
            key_groups: self.config.key_groups,
            settings: settings.checkpoints,
            parallelism: settings.parallelism,
            paused: state.catalog.is_paused(pipeline),
        })
    }

    /// The numbers of the tables that a pipeline reads.
    pub(crate) fn tables_of(&self, state: &State, pipeline: &str) -> Vec<u32> {
        let reads: BTreeSet<String> = state.objects.of_pipeline(pipeline).flat_map(Object::reads).collect();
        let table = |object: &Object| match &object.body {
            Body::Table(target) => Some(target.table.spec().id),
            _ => None,
        };
        state.objects.sources(&reads).into_iter().filter_map(table).collect()
    }

    /// What the root has of a pipeline; none when `patience`, which is asked every so often, is over before it tells.
    pub(crate) fn at_root(&self, pipeline: &str, patience: impl FnMut() -> bool) -> Result<Option<AtRoot>> {
        let newest = inspect::newest(self.engine.store(), pipeline);
        match self.engine.wait_for_root(pipeline, newest, patience) {
            Ok(None) => Ok(None),
            Ok(Some(Some(manifest))) => Ok(Some(AtRoot::Checkpoint(Box::new(manifest)))),
            Ok(Some(None)) => Ok(Some(AtRoot::Nothing)),
            Err(highwater_engine::Error::Checkpoint(checkpoint::Error::NothingVerifies { .. })) => {
                Ok(Some(AtRoot::Damage))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at what the root has of a pipeline that the catalog knows, before that is claimed there: it
    /// has checkpoints, unless it died at once or the root is not the one it had. False when `patience` is over before
    /// the root tells.
    ///
    /// # Errors
    /// When the newest goes on from another log of tables than the one that is here, or has given its sinks what is
    /// not in them.
    pub(crate) fn check_offsets(&self, pipeline: &str, plan: &Plan, patience: impl FnMut() -> bool) -> Result<bool> {
        match self.at_root(pipeline, patience) {
            Ok(None) => return Ok(false),
            Ok(Some(AtRoot::Nothing)) => self.tell_of_none(pipeline),
            Ok(Some(AtRoot::Checkpoint(manifest))) => check_positions(plan, &manifest)?,
            // The restore judges what is damaged, and tells why the root cannot be read.
            Ok(Some(AtRoot::Damage)) | Err(_) => {}
        }
        Ok(true)
    }

    /// Tells that the root has no checkpoint of a pipeline that the catalog knows. One whose making was cut off by a
    /// kill has lost nothing.
    fn tell_of_none(&self, pipeline: &str) {
        let root = self.engine.store().root().url();
        match self.engine.published_to(pipeline) {
            // It is not begun before the root has them again.
            Some(before) if before.is_empty() || before == root => {}
            Some(before) => tracing::error!(
                pipeline, %root, %before,
                "the root has no checkpoint of this pipeline, which had some in another: it starts from nothing"
            ),
            None => tracing::warn!(
                pipeline, %root,
                "the root has no checkpoint of this pipeline, and none is known to have been published: there is \
                 nothing that it goes on from"
            ),
        }
    }

    /// The root has not told, or not given, what it has of a pipeline.
    pub(crate) fn silent(&self, pipeline: &str) -> highwater_engine::Error {
        let root = self.engine.store().root().url();
        highwater_engine::Error::Timeout(format!("checkpoint root {root} does not give what it has of {pipeline}"))
    }

    /// Whether the newest checkpoint of a pipeline is of another log of tables than the one that is here; none when
    /// `patience` is over before the root tells. What its sinks were given does not matter to who reads its views.
    pub(crate) fn is_foreign(&self, pipeline: &str, plan: &Plan, patience: impl FnMut() -> bool) -> Option<bool> {
        let manifest = match self.at_root(pipeline, patience) {
            Ok(Some(AtRoot::Checkpoint(manifest))) => manifest,
            Ok(None) => return None,
            _ => return Some(false),
        };
        Some(log_offsets(plan, &manifest).any(|(source, offset)| source.check(offset).is_err()))
    }

    /// Refuses to make an object the first of a pipeline of which the root has one of another database:
    /// before anything is changed, as what a new object leaves is removed when it cannot be made. Whether
    /// the root has anything of it, as was learned before.
    pub(crate) fn check_new(&self, state: &State, object: &Object, at_root: AtRoot) -> Result<bool> {
        let pipeline = object.entry.pipeline.as_deref().expect("kept objects have a pipeline");
        let manifest = match at_root {
            AtRoot::Nothing => return Ok(false),
            AtRoot::Damage => return Ok(true),
            AtRoot::Checkpoint(manifest) => manifest,
        };
        let is_first = object.entry.incarnation == 0;
        // Of a script's statements the later ones may be known as well.
        if is_first && !state.deferring {
            self.check_texts(pipeline, &manifest, std::slice::from_ref(&object.entry.sql))?;
        }
        let plan = self.plan_with(state, object)?;
        let is_certain = !is_first || log_offsets(&plan, &manifest).all(|(_, offset)| TableStore::is_certain(offset));
        // What another database's tables were given this one's are not given once more.
        let has_given = is_first && manifest.sql.iter().any(|sql| writes_here(sql));
        let positions = check_positions(&plan, &manifest);
        if !has_given && is_certain && positions.is_ok() {
            return Ok(true);
        }
        let reason = positions.err().map_or_else(String::new, |error| format!(" ({error})"));
        let root = self.engine.store().root().url();
        Err(invalid(
            "55000",
            format!(
                "checkpoint root {root} holds a pipeline {pipeline:?} over tables of another database, or of what this \
                 one was{reason}: use another name or root, or remove its folder there if nobody uses it"
            ),
            None,
        ))
    }

    /// Refuses to go on from checkpoints that other statements made. False when `patience` is over before the root
    /// tells.
    pub(crate) fn check_root(&self, pipeline: &str, sql: &[String], patience: impl FnMut() -> bool) -> Result<bool> {
        match self.at_root(pipeline, patience)? {
            Some(AtRoot::Checkpoint(manifest)) => self.check_texts(pipeline, &manifest, sql).map(|()| true),
            // What is damaged is for the restore to judge, which knows older ones.
            Some(AtRoot::Nothing | AtRoot::Damage) => Ok(true),
            None => Ok(false),
        }
    }

    fn check_texts(&self, pipeline: &str, manifest: &Manifest, sql: &[String]) -> Result<()> {
        let known = |made: &String| sql.iter().any(|ours| same_text(ours, made));
        if manifest.sql.iter().all(known) {
            return Ok(());
        }
        let root = self.engine.store().root().url();
        Err(Error::Sql(highwater_sql::Error::Invalid {
            sqlstate: "55000",
            message: format!(
                "checkpoint root {root} holds a pipeline {pipeline:?} that other statements made: \
                 use another name or root, or prune it"
            ),
            position: None,
        }))
    }

    /// A pipeline's settings: the defaults, then those of its first object.
    pub(crate) fn view_settings(&self, state: &State, pipeline: &str) -> Result<ViewSettings> {
        let first = state.objects.of_pipeline(pipeline).next();
        let with = match first.map(|first| &first.body) {
            Some(Body::Materialized(view)) => view.options.as_slice(),
            _ => &[],
        };
        let altered = first.map(|first| first.entry.settings.clone()).unwrap_or_default();
        Ok(settings::settings(&self.config.checkpoints, with, &altered)?)
    }

    pub(crate) fn drop_objects(
        &self,
        connection: &Connection,
        kind: ObjectKind,
        named: &[Name],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Outcome> {
        let mut done = Outcome::done(format!("DROP {kind}"));
        let mut state = self.state_to_define(connection)?;
        let mut dropped: Vec<String> = Vec::new();
        for name in named {
            match state.catalog.entry(&name.value) {
                Some(entry) => check_kind(entry, kind, name)?,
                None if if_exists => {
                    done = done.noticed(format!("relation {:?} does not exist, skipping", name.value));
                    continue;
                }
                None => return Err(crate::show::unknown(name)),
            }
            if !dropped.contains(&name.value) {
                dropped.push(name.value.clone());
            }
        }
        let Some(first) = dropped.first().cloned() else { return Ok(done) };
        let mut names = state.dependents(&dropped);
        // An index goes with what it is over.
        let is_index = |name: &&String| state.catalog.entry(name).is_some_and(|entry| entry.kind == Kind::Index);
        let also: Vec<String> = names.iter().filter(|name| !is_index(name)).cloned().collect();
        if !also.is_empty() && !cascade {
            let needs = |name: &&String| !state.dependents(std::slice::from_ref(*name)).is_empty();
            let name = dropped.iter().find(needs).cloned().unwrap_or(first);
            return Err(Error::InUse { name, needed_by: also });
        }
        names.extend(dropped);
        self.forget(&mut state, &names)?;
        self.begin_rest(state);
        Ok(also.into_iter().fold(done, |done, name| done.noticed(format!("drop cascades to {name}"))))
    }

    /// Removes objects: first the objects from the catalog, then the pipelines that keep nothing else, but what the
    /// root has of these, which [`Database::remove_new`] removes; what remains of other pipelines waits, and
    /// [`Database::begin_rest`] begins it without them.
    pub(crate) fn forget(&self, state: &mut State, names: &[String]) -> Result<()> {
        let (leaving, smaller) = self.left_by(state, names);
        for pipeline in &leaving.pipelines {
            state.waiting.remove(pipeline);
        }
        let gone = leaving.pipelines.clone();
        state.catalog.remove(names, leaving)?;
        state.objects.remove(names);
        state.broken.forget(names, &gone);
        state.unremoved.extend(gone);
        self.end_left(state);
        for pipeline in smaller {
            // One that is about to be begun is begun as it is then; of one that did not start, and would not by
            // itself, what is dropped may have been why.
            let is_held = state.restoring.holds(&pipeline);
            if !is_held && (state.broken.why_not_running(&pipeline).is_none() || state.broken.let_go(&pipeline)) {
                state.waiting.insert(pipeline);
            }
        }
        Ok(())
    }
}

/// The newest that the root has of a pipeline; of damaged ones the one before.
pub(crate) enum AtRoot {
    Nothing,
    /// Nothing that can be read.
    Damage,
    Checkpoint(Box<Manifest>),
}

/// How long the root is waited for to begin a pipeline. Where all others wait for that, it is tried again later
/// without that.
pub(crate) const ROOT_PATIENCE: Duration = Duration::from_secs(60);

/// How long it is waited for that a pipeline is begun: when the root has answered, for the files of its checkpoint,
/// all of which are read.
pub(crate) const fn patience_to_begin(is_claimed: bool) -> Duration {
    if is_claimed { FILES_PATIENCE } else { ROOT_PATIENCE }
}

/// The patience of who asks the root for a pipeline, from now on.
pub(crate) fn for_a_while() -> impl FnMut() -> bool {
    let deadline = Instant::now() + ROOT_PATIENCE;
    move || Instant::now() < deadline
}

/// Refuses an object of another kind than the statement names.
pub(crate) fn check_kind(entry: &Entry, kind: ObjectKind, name: &Name) -> Result<()> {
    if entry.kind.to_string() == kind.to_string() {
        return Ok(());
    }
    let message = format!("{:?} is a {}, not a {kind}", name.value, entry.kind);
    Err(invalid("42809", message, Some(name)))
}

/// What an object does with rows that cannot be computed or taken. An index and a subscription do as the
/// view that they are of, so that they have its rows.
pub(crate) fn policy(state: &State, object: &Object) -> Result<OnError> {
    let of = |name: &Name| state.objects.get(&name.value).map_or(Ok(OnError::Fail), |of| policy(state, of));
    let altered = &object.entry.settings;
    match &object.body {
        Body::Materialized(view) => Ok(settings::on_error(&view.options, altered)?),
        Body::Sink(sink) => Ok(settings::on_error(&sink.options, altered)?),
        Body::Index(index) => of(&index.on),
        Body::Subscription(subscribed) => of(&subscribed.statement.from),
        Body::Table(_) | Body::Fed(_) | Body::Source(_) | Body::View(_) => Ok(OnError::Fail),
    }
}

/// Whether the statement of an object that a pipeline keeps writes into the tables' store.
fn writes_here(sql: &str) -> bool {
    matches!(
        highwater_sql::parse(sql),
        Ok(Statement::CreateSink(CreateSink { into: Some(_), .. }) | Statement::CreateSubscription(_))
    )
}
