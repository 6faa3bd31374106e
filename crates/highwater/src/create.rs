//! CREATE: from a parsed statement to an object in the catalog and, for what is kept current, a
//! pipeline that runs. A statement whose object exists with the same text is a no-op when resuming.

use crate::advice::advised_to_create;
use crate::ahead::Ahead;
use crate::away::AwaySource;
use crate::catalog::{Entry, Kind};
use crate::characters;
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::{Target, default_of};
use crate::error::{Error, Result};
use crate::generated::ComputedSource;
use crate::objects::{Body, Fed, Object, Reading, Subscribed};
use crate::outcome::Outcome;
use crate::settings;
use crate::table_sink::{self, check_into, table_of};
use arrow::array::new_empty_array;
use arrow::datatypes::{Field, Schema, SchemaRef};
use highwater_connectors::{Created, DELETED, ERROR_COLUMNS, Envelope, Format, Included, Metadata, Options, Shape};
use highwater_engine::plan::{self, Operator};
use highwater_engine::source::{Extent, Source};
use highwater_engine::{CheckpointOutcome, CheckpointReport, Trigger};
use highwater_sql::lower::{FedTable, Maintained, tried};
use highwater_sql::naming::{self, Naming};
use highwater_sql::statement::{
    self, CreateIndex, CreateSink, CreateSource, CreateSubscription, CreateTable, CreateView, Encoding, Name, Property,
    Statement,
};
use highwater_sql::{references, same_text, session};
use highwater_tables::{JournalSpec, TableSpec};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

/// Whether a CREATE goes on.
enum Free {
    Yes,
    /// The object exists, and that is all right.
    Exists(Outcome),
}

impl Database {
    pub(crate) fn create_source(&self, source: CreateSource, text: &str) -> Result<Outcome> {
        let (name, skips) = (&source.name, source.if_not_exists);
        let asked = {
            let state = self.state();
            if let Free::Exists(outcome) = self.free(&state, Kind::Source, name, skips, text)? {
                return Ok(outcome);
            }
            entry(&state, Kind::Source, name, text, None)
        };
        // Without the state: what is outside may not answer for long.
        let given = self.given_by(&source, &asked, None)?;
        let mut state = self.state();
        if let Free::Exists(outcome) = self.free(&state, Kind::Source, name, skips, text)? {
            return Ok(outcome);
        }
        // Others may have taken its number meanwhile.
        let entry = entry(&state, Kind::Source, name, text, None);
        let object = self.source_object(&source, entry, given)?;
        state.catalog.add(object.entry.clone())?;
        state.objects.add(object);
        Ok(Outcome::done("CREATE SOURCE"))
    }

    pub(crate) fn create_table(
        &self,
        connection: &Connection,
        table: CreateTable,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        let mut state = self.state_to_define(connection)?;
        if let Free::Exists(outcome) = self.free(&state, Kind::Table, &table.name, table.if_not_exists, text)? {
            return Ok(outcome);
        }
        if table.feed.is_some() {
            return self.create_fed(connection, state, table, text, ahead);
        }
        let entry = entry(&state, Kind::Table, &table.name, text, None);
        let object = self.table_object(table, entry)?;
        state.catalog.add(object.entry.clone())?;
        state.objects.add(object);
        Ok(Outcome::done("CREATE TABLE"))
    }

    pub(crate) fn table_object(&self, statement: CreateTable, entry: Entry) -> Result<Object> {
        let field = |c: &statement::TableColumn| Field::new(&c.column.name.value, c.column.data_type.clone(), true);
        let schema: SchemaRef = Arc::new(Schema::new(statement.columns.iter().map(field).collect::<Vec<_>>()));
        let key = statement.key.iter().map(|name| schema.index_of(&name.value)).collect::<Result<_, _>>()?;
        let generated = statement.columns.iter().enumerate();
        let generated = generated.filter_map(|(at, c)| Some((at, c.column.generated.as_ref()?)));
        let generated: Vec<_> = generated.collect();
        let generated = self.session.generated(&statement.name, &schema, &generated, &statement.text)?;
        // What older rows have in the columns that were added.
        let base = schema.fields().len().saturating_sub(entry.added.len());
        let default = |c: &statement::TableColumn| {
            default_of(&self.session, c.default.as_ref(), &statement.text, &c.column.data_type, 1, None)
        };
        let mut defaults = statement.columns.iter().map(default).collect::<Result<Vec<_>>>()?;
        for (held, column) in defaults.iter_mut().zip(&statement.columns).skip(base) {
            *held = characters::cut_texts(held, column.characters)?;
        }
        let spec = TableSpec {
            id: u32::try_from(entry.id).map_err(|_| crate::connection::invalid("54000", "too many objects", None))?,
            name: entry.name.clone(),
            schema: Arc::clone(&schema),
            key,
            append_only: statement.append_only,
            added: defaults[base..].to_vec(),
        };
        let watermark = watermark(statement.watermark.as_ref(), &schema)?;
        let table = self.tables.table(spec)?;
        let target = Target { table, statement: Arc::new(statement), generated: Arc::new(generated) };
        let all: Vec<usize> = (0..schema.fields().len()).filter(|at| !target.generated.has(*at)).collect();
        let none: Vec<_> = all.iter().map(|at| new_empty_array(schema.field(*at).data_type())).collect();
        // Refuses values that are not of their columns' types.
        target.completed(&self.session, &none, &all, 0, None)?;
        Ok(Object { entry, schema, body: Body::Table(target), watermark })
    }

    /// A table that a connector fills is kept by a pipeline, which it is the first of.
    fn create_fed<'a>(
        &'a self,
        connection: &Connection,
        state: MutexGuard<'a, State>,
        table: CreateTable,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        self.check_name(&table.name)?;
        let (name, skips) = (table.name.clone(), table.if_not_exists);
        let new = |state: &State| entry(state, Kind::Table, &name, text, Some(state.catalog.free_to_keep(&name.value)));
        let asked = new(&state);
        drop(state);
        // As in [`Self::create_source`].
        let mut object = self.fed_object(table, asked, None)?;
        let state = self.state_to_define(connection)?;
        if let Free::Exists(outcome) = self.free(&state, Kind::Table, &name, skips, text)? {
            return Ok(outcome);
        }
        object.entry = new(&state);
        self.plan_with(&state, &object)?;
        let state = self.keep(connection, state, object, ahead)?;
        let done = Outcome::done("CREATE TABLE");
        Ok(self.growth(&state, &name.value)?.into_iter().fold(done, Outcome::noticed))
    }

    fn fed_object(&self, statement: CreateTable, entry: Entry, away: Option<&Error>) -> Result<Object> {
        let Some(feed) = &statement.feed else {
            return Err(invalid("XX000", "it has no connector", Some(&statement.name)));
        };
        let declared: Vec<Field> = statement
            .columns
            .iter()
            .map(|c| Field::new(&c.column.name.value, c.column.data_type.clone(), !c.column.not_null))
            .collect();
        let declared = Arc::new(Schema::new(declared));
        let key: Vec<String> = statement.key.iter().map(|name| name.value.clone()).collect();
        let included = included(&feed.included);
        let format = feed.format.as_ref();
        let (connector, options) = connector(&statement.name, &feed.options, format)?;
        let created = Created {
            connector: &connector,
            name: entry.kept(),
            incarnation: entry.incarnation,
            options: &options,
            columns: Some(&declared),
            format: format.map(|f| encoding(f.encoding)),
            shape: Shape { envelope: envelope(format), key: &key, included: &included },
        };
        let source = self.connected(&created, away)?;
        let columns = declared.fields().len() + included.len();
        let given = source.schema();
        let fields = given.fields()[..columns].iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let table = FedTable {
            key: key.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?,
            schema: Arc::clone(&schema),
            deletes: given.column_with_name(DELETED).is_some(),
            error_columns: if keeps_errors(source.as_ref()) { ERROR_COLUMNS.len() } else { 0 },
            source,
        };
        Ok(Object { entry, schema, body: Body::Fed(Arc::new(Fed { statement, table })), watermark: None })
    }

    /// Plans the query of what a statement defines on a thread of its own, so that who waits can be told that it
    /// takes too long: the definition itself holds what others need. What is wrong is told by the definition.
    pub(crate) async fn try_to_plan(&self, statement: &Statement) {
        let (query, is_kept) = match statement {
            Statement::CreateView(view) => (&view.query, false),
            Statement::CreateMaterializedView(view) | Statement::ExplainView(view) => (&view.query, true),
            Statement::CreateIndex(index) => (&index.query, true),
            Statement::CreateSink(sink) => (&sink.query, true),
            _ => return,
        };
        let relations = self.state().objects.relations(&self.session, &references(query), Reading::Stream);
        let Ok(relations) = relations else { return };
        let (session, query) = (Arc::clone(&self.session), query.clone());
        let planned = self.aside(move || {
            let wanted = Maintained {
                name: "",
                columns: Naming::Listed(&[]),
                query: &query,
                relations: &relations,
                closes: None,
            };
            if is_kept {
                tried(&session, wanted)?;
            } else {
                session.bind(&query, &relations)?;
            }
            Ok(())
        });
        if let Err(error) = planned.await {
            tracing::debug!(%error, "a definition cannot be planned");
        }
    }

    pub(crate) fn create_view(&self, connection: &Connection, view: CreateView, text: &str) -> Result<Outcome> {
        let mut state = self.state_to_define(connection)?;
        if let Free::Exists(outcome) = self.free(&state, Kind::View, &view.name, view.if_not_exists, text)? {
            return Ok(outcome);
        }
        let entry = entry(&state, Kind::View, &view.name, text, None);
        let object = self.view_object(&state, view, entry)?;
        state.catalog.add(object.entry.clone())?;
        state.objects.add(object);
        Ok(Outcome::done("CREATE VIEW"))
    }

    pub(crate) fn create_materialized(
        &self,
        connection: &Connection,
        view: CreateView,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        settings::check(&view.options)?;
        let state = self.state_to_define(connection)?;
        let kind = Kind::MaterializedView;
        if let Free::Exists(outcome) = self.free(&state, kind, &view.name, view.if_not_exists, text)? {
            return Ok(outcome);
        }
        let object = self.materialized_object(&state, view, text)?;
        self.keep_filled(connection, state, object, "CREATE MATERIALIZED VIEW", ahead)
    }

    /// Adds a view or an index and waits until it is filled, unless the connection does not want to wait, or its
    /// pipeline is paused.
    fn keep_filled<'a>(
        &'a self,
        connection: &Connection,
        state: MutexGuard<'a, State>,
        object: Object,
        tag: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        let (name, id) = (object.name().to_owned(), object.entry.id);
        let is_paused = object.entry.pipeline.as_deref().is_some_and(|pipeline| state.catalog.is_paused(pipeline));
        let mut state = self.keep(connection, state, object, ahead)?;
        let waits = !state.deferring && !connection.is_on("background_ddl");
        let grows = self.growth(&state, &name)?;
        if waits && !is_paused {
            state.being_made.insert(id);
            drop(state);
            let filled = self.wait_for_backfill(connection, &name);
            self.state().being_made.remove(&id);
            filled?;
        }
        let paused = is_paused.then(|| format!("{name:?} is filled when its pipeline is resumed, which is paused"));
        Ok(grows.into_iter().chain(paused).fold(Outcome::done(tag), Outcome::noticed))
    }

    /// What keeps rows of a source that never ends, in words, if anything of a view does.
    fn growth(&self, state: &State, view: &str) -> Result<Option<String>> {
        let Some(object) = state.objects.get(view) else { return Ok(None) };
        let (kept, Some(pipeline)) = (object.kept().to_owned(), &object.entry.pipeline) else { return Ok(None) };
        let plan = self.pipeline_plan(state, pipeline)?;
        // By node: an endless source whose rows come there one by one.
        let mut endless: Vec<Option<&str>> = Vec::new();
        for node in &plan.nodes {
            let below = node.inputs.iter().find_map(|input| endless[input.0]);
            let held = match &node.operator {
                Operator::Join(join) if join.temporal => endless[node.inputs[1].0],
                _ => below,
            };
            let inserts = node.inputs.iter().all(|input| plan.nodes[input.0].append_only);
            let keeps = match &node.operator {
                Operator::Join(join) => join.forgets.len() < node.inputs.len(),
                Operator::Regroup(_) if plan.frees(plan::NodeId(endless.len())).is_some() => false,
                Operator::Regroup(_) | Operator::Materialize | Operator::Index(_) => true,
                // It forgets what is not among the first rows, unless that may go again.
                Operator::First(_) => !inserts,
                Operator::Lifetime(lifetime) => lifetime.until.is_none(),
                _ => false,
            };
            let is_ours = node.name.strip_prefix(kept.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if let Some(source) = held.filter(|_| keeps && is_ours) {
                return Ok(Some(format!(
                    "the state of {view:?} grows as long as it runs: {} keeps rows of {:?}, which never ends",
                    node.name,
                    state.objects.shown(source)
                )));
            }
            endless.push(match &node.operator {
                Operator::Source(source) if source.extent() == Extent::Endless => node.name.strip_suffix("/source"),
                Operator::Aggregate(_)
                | Operator::Closing(_)
                | Operator::Sessions(_)
                | Operator::First(_)
                | Operator::Upsert(_) => None,
                Operator::Lifetime(lifetime) if lifetime.until.is_some() => None,
                _ => below,
            });
        }
        Ok(None)
    }

    /// Waits until a new view shows what its tables hold, and the rows that its query has by itself. A view
    /// that cannot, or that nobody waits for any more, is dropped again.
    fn wait_for_backfill(&self, connection: &Connection, view: &str) -> Result<()> {
        let (id, pipeline, reads_tables, others) = {
            let state = self.state();
            let Some(entry) = state.objects.get(view).map(|object| &object.entry) else { return Ok(()) };
            let name = entry.pipeline.as_deref();
            let reads_tables = name.is_some_and(|name| !self.tables_of(&state, name).is_empty());
            let others = name.map(|name| state.objects.beside(view, name)).unwrap_or_default();
            (entry.id, name.and_then(|name| state.running.get(name).cloned()), reads_tables, others)
        };
        let Some(pipeline) = pipeline else { return Ok(()) };
        let position = self.tables.position();
        let position = reads_tables.then_some(position);
        let mut filled = match self.wait_reached(pipeline.clone(), position, || others.clone(), connection) {
            // Its sources may be there later.
            Err(Error::Engine(highwater_engine::Error::NotRunning { .. })) if !reads_tables => Ok(()),
            filled => filled,
        };
        if filled.is_ok() && pipeline.extent() == Some(Extent::Constant) {
            filled = self.wait_drained(pipeline.clone(), connection);
        }
        let Err(refused) = filled else { return Ok(()) };
        let mut state = self.state_when_begun(&Connection::new(), pipeline.name())?;
        let refused = advised_to_create(&state, view, &pipeline, refused);
        let is_it = state.objects.get(view).is_some_and(|object| object.entry.id == id);
        let dropped = [view.to_owned()];
        if is_it && state.dependents(&dropped).is_empty() {
            self.forget(&mut state, &dropped)?;
            self.begin_rest(state);
        }
        Err(refused)
    }

    /// A new materialized view as an object, its place found and its plan tried.
    pub(crate) fn materialized_object(&self, state: &State, view: CreateView, text: &str) -> Result<Object> {
        self.check_name(&view.name)?;
        let shared = state.objects.pipeline_of(&view.query);
        let of_pipeline = view.options.iter().find(|option| option.key != settings::ON_ERROR);
        if let (Some(pipeline), Some(option)) = (&shared, of_pipeline) {
            let title = state.objects.title(pipeline);
            let reason = format!("the view shares the checkpoints of {title}: ALTER that view");
            let error = highwater_sql::Error::option(&option.key, reason, Some(option.at));
            return Err(error.into());
        }
        let pipeline = shared.unwrap_or_else(|| state.catalog.free_to_keep(&view.name.value));
        let entry = entry(state, Kind::MaterializedView, &view.name, text, Some(pipeline));
        self.kept_object(state, entry, Body::Materialized(view))
    }

    /// Adds an index, which is filled as a view is.
    pub(crate) fn create_index(
        &self,
        connection: &Connection,
        index: CreateIndex,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        let state = self.state_to_define(connection)?;
        let (name, skips) = (&index.name, index.if_not_exists);
        if let Free::Exists(outcome) = self.free(&state, Kind::Index, name, skips, text)? {
            return Ok(outcome);
        }
        self.check_name(name)?;
        crate::index::check(&state, &index)?;
        let shared = state.objects.pipeline_of(&index.query);
        let pipeline = shared.unwrap_or_else(|| state.catalog.free_to_keep(&name.value));
        let entry = entry(&state, Kind::Index, &index.name, text, Some(pipeline));
        let object = self.kept_object(&state, entry, Body::Index(index))?;
        self.keep_filled(connection, state, object, "CREATE INDEX", ahead)
    }

    pub(crate) fn create_sink(
        &self,
        connection: &Connection,
        sink: CreateSink,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        let state = self.state_to_define(connection)?;
        if let Free::Exists(outcome) = self.free(&state, Kind::Sink, &sink.name, sink.if_not_exists, text)? {
            return Ok(outcome);
        }
        self.check_name(&sink.name)?;
        check_into(&state, &sink)?;
        let shared = state.objects.pipeline_of(&sink.query);
        let pipeline = shared.unwrap_or_else(|| state.catalog.free_to_keep(&sink.name.value));
        let entry = entry(&state, Kind::Sink, &sink.name, text, Some(pipeline));
        let object = self.kept_object(&state, entry, Body::Sink(sink))?;
        drop(self.keep(connection, state, object, ahead)?);
        Ok(Outcome::done("CREATE SINK"))
    }

    /// Adds a subscription. When it returns, all that changes from then on will be in its journal.
    pub(crate) fn create_subscription(
        &self,
        connection: &Connection,
        subscription: CreateSubscription,
        text: &str,
    ) -> Result<Outcome> {
        let state = self.state_to_define(connection)?;
        let (name, skips) = (&subscription.name, subscription.if_not_exists);
        if let Free::Exists(outcome) = self.free(&state, Kind::Subscription, name, skips, text)? {
            return Ok(outcome);
        }
        self.check_name(name)?;
        let pipeline = crate::subscription::subject(&state, &subscription.from)?;
        let entry = entry(&state, Kind::Subscription, name, text, Some(pipeline.clone()));
        let object = self.subscription_object(&state, subscription, entry)?;
        // Its pipeline is there.
        let state = self.keep(connection, state, object, Ahead::default())?;
        let running = state.running.get(&pipeline).filter(|_| !state.deferring).cloned();
        drop(state);
        let done = Outcome::done("CREATE SUBSCRIPTION");
        // A checkpoint that has the subscription, from which a crash goes on.
        let is_patient = || connection.check_cancelled().is_ok();
        let made = running.map(|running| running.checkpoint_while(Trigger::Manual, is_patient));
        let reason = match made.transpose().map(Option::flatten) {
            Ok(Some(CheckpointReport { outcome: CheckpointOutcome::Failed(reason), .. })) => reason,
            Ok(_) => return Ok(done),
            Err(error) => error.to_string(),
        };
        Ok(done.noticed(format!("it begins with the next checkpoint: {reason}")))
    }

    fn subscription_object(&self, state: &State, statement: CreateSubscription, entry: Entry) -> Result<Object> {
        let retention = crate::subscription::retention(&statement)?;
        let id = u32::try_from(entry.id).map_err(|_| invalid("54000", "too many objects", None))?;
        let journal = self.tables.journal(JournalSpec { id, name: entry.name.clone(), retention })?;
        self.kept_object(state, entry, Body::Subscription(Subscribed { statement, journal }))
    }

    /// Refuses a name under which nothing can be kept.
    fn check_name(&self, name: &Name) -> Result<()> {
        self.engine.store().root().names(&name.value).map(|_| ()).map_err(|error| {
            Error::Sql(highwater_sql::Error::Invalid {
                sqlstate: "42602",
                message: error.to_string(),
                position: Some(name.at),
            })
        })
    }

    /// Adds an object with a pipeline, and begins that unless starts are deferred.
    fn keep<'a>(
        &'a self,
        connection: &Connection,
        mut state: MutexGuard<'a, State>,
        object: Object,
        ahead: Ahead,
    ) -> Result<MutexGuard<'a, State>> {
        let (name, id) = (object.name().to_owned(), object.entry.id);
        let pipeline = object.entry.pipeline.clone().expect("kept objects have a pipeline");
        let is_first = state.objects.of_pipeline(&pipeline).next().is_none();
        let is_at_root = is_first && self.check_new(&state, &object, ahead.at_root(&pipeline)?)?;
        state.catalog.add(object.entry.clone())?;
        state.objects.add(object);
        if state.deferring {
            state.waiting.insert(pipeline);
            return Ok(state);
        }
        let begun;
        (state, begun) = self.begin(connection, state, &pipeline, is_first);
        let Err(refused) = begun else { return Ok(state) };
        if state.objects.get(&name).is_none_or(|object| object.entry.id != id) {
            // Another session has dropped or renamed it meanwhile.
            return Err(refused);
        }
        if state.ran.contains(&pipeline) && may_be_of_an_object(&refused) {
            // Without it the pipeline is begun at once.
            state.broken.started(&pipeline);
        }
        let taken_back = if is_at_root {
            // What it found there was there before it.
            self.withdraw(&mut state, &name, &pipeline)
        } else {
            self.forget(&mut state, &[name])
        };
        if taken_back.is_err() && !state.waiting.contains(&pipeline) {
            // The catalog cannot be written, and still has it: its pipeline is tried again, as that of any other.
            state.broken.stopped_by(&pipeline, refused.to_string(), true);
        }
        taken_back?;
        self.begin_rest(state);
        Err(refused)
    }

    /// Takes back an object that is alone in its pipeline and could not be started; what the root has
    /// stays.
    fn withdraw(&self, state: &mut State, name: &str, pipeline: &str) -> Result<()> {
        state.waiting.remove(pipeline);
        state.catalog.take_back(name)?;
        state.objects.remove(&[name.to_owned()]);
        self.tables.set_readers(pipeline, &[]);
        Ok(())
    }

    /// Whether a name can be given to a new object.
    fn free(&self, state: &State, kind: Kind, name: &Name, if_not_exists: bool, text: &str) -> Result<Free> {
        if let Some(reason) = state.broken.why(&name.value) {
            return Err(highwater_sql::Error::Invalid {
                sqlstate: "55000",
                message: format!("{:?} exists and cannot be used: {reason}", name.value),
                position: Some(name.at),
            }
            .into());
        }
        let Some(taken) = state.objects.get(&name.value) else {
            if name.value.contains(':') {
                // It stands between a view and what it reads in the names of operators.
                return Err(invalid("42602", "a name cannot hold a colon", Some(name)));
            }
            return Ok(Free::Yes);
        };
        let done = |notice: String| Free::Exists(Outcome::done(format!("CREATE {kind}")).noticed(notice));
        if self.config.resume && taken.entry.kind == kind {
            if same_text(&taken.entry.sql, text) {
                return Ok(done(format!("{name} goes on")));
            }
            return Err(highwater_sql::Error::Invalid {
                sqlstate: "42P07",
                message: format!(
                    "{:?} exists with another definition: drop it, or give the new one another name",
                    name.value
                ),
                position: Some(name.at),
            }
            .into());
        }
        if if_not_exists {
            return Ok(done(format!("relation {:?} already exists, skipping", name.value)));
        }
        Err(highwater_sql::Error::Duplicate { name: name.value.clone(), position: Some(name.at) }.into())
    }

    /// An object of the catalog, made from its text once more.
    pub(crate) fn object(&self, state: &State, entry: Entry) -> Result<Object> {
        match highwater_sql::parse(&entry.sql)? {
            Statement::CreateTable(table) if table.feed.is_some() => self.fed_object(table, entry, None),
            Statement::CreateTable(table) => self.table_object(table, entry),
            Statement::CreateSource(_) => self.source_of(entry, None),
            Statement::CreateView(view) => self.view_object(state, view, entry),
            Statement::CreateMaterializedView(view) => self.kept_object(state, entry, Body::Materialized(view)),
            Statement::CreateIndex(index) => self.kept_object(state, entry, Body::Index(index)),
            Statement::CreateSink(sink) => self.kept_object(state, entry, Body::Sink(sink)),
            Statement::CreateSubscription(subscription) => self.subscription_object(state, subscription, entry),
            _ => Err(Error::Sql(highwater_sql::Error::Invalid {
                sqlstate: "XX001",
                message: format!("the catalog's text of {:?} creates nothing", entry.name),
                position: None,
            })),
        }
    }

    /// A source, or a table that a connector fills, made from its text once more; see [`Self::connected`].
    pub(crate) fn source_of(&self, entry: Entry, away: Option<&Error>) -> Result<Object> {
        match highwater_sql::parse(&entry.sql)? {
            Statement::CreateTable(table) if table.feed.is_some() => self.fed_object(table, entry, away),
            Statement::CreateSource(source) => {
                let given = self.given_by(&source, &entry, away)?;
                self.source_object(&source, entry, given)
            }
            _ => Err(invalid("XX001", format!("{:?} has no connector", entry.name), None)),
        }
    }

    /// A connector's source; where it is `away`, that is why it cannot be made, one that has its columns only.
    fn connected(&self, created: &Created<'_>, away: Option<&Error>) -> Result<Arc<dyn Source>> {
        let Some(reason) = away else { return Ok(self.connectors.source(created)?) };
        Ok(Arc::new(AwaySource::new(created, reason)?))
    }

    /// What the connector of a source gives; see [`Self::connected`].
    fn given_by(&self, statement: &CreateSource, entry: &Entry, away: Option<&Error>) -> Result<Arc<dyn Source>> {
        let format = statement.format.as_ref();
        let (connector, options) = connector(&statement.name, &statement.options, format)?;
        let columns = declared(statement);
        let included = included(&statement.included);
        let created = Created {
            connector: &connector,
            name: entry.kept(),
            incarnation: entry.incarnation,
            options: &options,
            columns: columns.as_ref(),
            format: format.map(|f| encoding(f.encoding)),
            shape: Shape { included: &included, ..Shape::default() },
        };
        self.connected(&created, away)
    }

    fn source_object(&self, statement: &CreateSource, entry: Entry, given: Arc<dyn Source>) -> Result<Object> {
        if keeps_errors(given.as_ref()) {
            let at = statement.options.iter().find(|option| option.key == "on_error").map(|option| option.at);
            let error = highwater_sql::Error::Unsupported {
                clause: "on_error = 'dead_letter' of a source".to_owned(),
                hint: "CREATE TABLE ... WITH (connector = ...) keeps rows, and those that could not be read".to_owned(),
                position: at,
            };
            return Err(error.into());
        }
        let source = self.with_generated(statement, &entry.sql, given)?;
        let schema = source.schema();
        let watermark = watermark(statement.watermark.as_ref(), &schema)?;
        Ok(Object { entry, schema, body: Body::Source(source), watermark })
    }

    /// A source with the columns that its statement computes.
    fn with_generated(&self, statement: &CreateSource, text: &str, source: Arc<dyn Source>) -> Result<Arc<dyn Source>> {
        if statement.columns.iter().all(|column| column.generated.is_none()) {
            return Ok(source);
        }
        let given = source.schema();
        let mut fields: Vec<Arc<Field>> = Vec::new();
        if statement.columns.iter().all(|column| column.generated.is_some()) {
            fields.extend(given.fields().iter().cloned());
        }
        let mut generated = Vec::new();
        for column in &statement.columns {
            let name = &column.name;
            if fields.iter().any(|field| *field.name() == name.value) {
                let message = format!("column {:?} is given more than once", name.value);
                return Err(invalid("42701", message, Some(name)));
            }
            match &column.generated {
                Some(expr) => {
                    generated.push((fields.len(), expr));
                    fields.push(Arc::new(Field::new(&name.value, column.data_type.clone(), true)));
                }
                None => fields.push(Arc::clone(&given.fields()[given.index_of(&name.value)?])),
            }
        }
        // Those of INCLUDE.
        let more: Vec<_> = given.fields().iter().filter(|g| fields.iter().all(|f| f.name() != g.name())).collect();
        fields.extend(more.into_iter().cloned());
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let generated = self.session.generated(&statement.name, &schema, &generated, text)?;
        let source = ComputedSource::new(source, schema, generated);
        source.check()?;
        Ok(Arc::new(source))
    }

    fn view_object(&self, state: &State, view: CreateView, entry: Entry) -> Result<Object> {
        let names = references(&view.query);
        let relations = state.objects.relations(&self.session, &names, Reading::Stream)?;
        let relations = state.objects.seen_by(&entry, relations)?;
        let plan = self.session.bind(&view.query, &relations)?;
        let plan = naming::rename(plan, Naming::Listed(&view.columns), &view.query)?;
        let schema = session::view_schema(plan.schema());
        Ok(Object { entry, schema, body: Body::View(view), watermark: None })
    }

    /// An object with a pipeline: its columns come of planning it.
    fn kept_object(&self, state: &State, entry: Entry, body: Body) -> Result<Object> {
        let mut object = Object { entry, body, schema: Arc::new(Schema::empty()), watermark: None };
        let plan = self.plan_with(state, &object)?;
        object.schema = match &object.body {
            Body::Materialized(_) => {
                let view = plan.views.iter().find(|view| view.name == object.kept());
                Arc::clone(&view.expect("the plan has the view that it was made for").schema)
            }
            body => {
                let node = plan.nodes.last().expect("a sink is a node");
                if let Body::Sink(CreateSink { into: Some(into), .. }) = body {
                    table_sink::check(&table_of(state, into)?, into, &node.schema, node.append_only)?;
                }
                Arc::clone(&node.schema)
            }
        };
        Ok(object)
    }
}

fn entry(state: &State, kind: Kind, name: &Name, text: &str, pipeline: Option<String>) -> Entry {
    let kept = state.catalog.free_to_keep(&name.value);
    Entry {
        id: state.catalog.next_id(),
        name: name.value.clone(),
        incarnation: state.catalog.dropped(&kept),
        kept: (kept != name.value).then_some(kept),
        kind,
        sql: text.to_owned(),
        rewritten: false,
        added: Vec::new(),
        pipeline,
        settings: BTreeMap::new(),
    }
}

/// Whether what a pipeline could not be begun for may be one of its objects: not where the root does not answer, or
/// nobody waits for it any more.
const fn may_be_of_an_object(refused: &Error) -> bool {
    use highwater_engine::Error as Failed;
    matches!(refused, Error::Engine(error) if !matches!(error, Failed::NotRunning { .. } | Failed::Timeout(_)))
}

/// A statement's watermark over the columns of what it makes.
fn watermark(watermark: Option<&statement::Watermark>, schema: &Schema) -> Result<Option<plan::Watermark>> {
    let Some(watermark) = watermark else { return Ok(None) };
    Ok(Some(plan::Watermark { time: watermark.place(schema)?, delay_us: watermark.delay_us }))
}

/// The columns that the connector is to give.
fn declared(source: &CreateSource) -> Option<SchemaRef> {
    let given = source.columns.iter().filter(|column| column.generated.is_none());
    let field = |c: &statement::Column| Field::new(&c.name.value, c.data_type.clone(), !c.not_null);
    let fields: Vec<Field> = given.map(field).collect();
    (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)))
}

/// Whether a source gives rows that could not be read.
fn keeps_errors(source: &dyn Source) -> bool {
    source.schema().column_with_name(ERROR_COLUMNS[0]).is_some()
}

/// The connectors' words for INCLUDE.
fn included(included: &[statement::Included]) -> Vec<Included> {
    let of = |included: &statement::Included| Included {
        what: match included.what {
            statement::Metadata::Key => Metadata::Key,
            statement::Metadata::File => Metadata::File,
            statement::Metadata::Offset => Metadata::Offset,
        },
        name: included.name.value.clone(),
    };
    included.iter().map(of).collect()
}

/// The connectors' word for a FORMAT.
pub(crate) fn envelope(format: Option<&statement::Format>) -> Envelope {
    match format.map(|format| format.envelope) {
        None | Some(statement::Envelope::Plain) => Envelope::Plain,
        Some(statement::Envelope::Upsert) => Envelope::Upsert,
        Some(statement::Envelope::Debezium) => Envelope::Debezium,
    }
}

/// The connector's name and its other options, those of ENCODE (...) included.
pub(crate) fn connector(
    name: &Name,
    properties: &[Property],
    format: Option<&statement::Format>,
) -> Result<(String, Options)> {
    let Some(connector) = properties.iter().find(|p| p.key == "connector") else {
        let error = highwater_sql::Error::option("connector", "is missing", Some(name.at));
        return Err(error.into());
    };
    let encoding = format.iter().flat_map(|f| &f.options);
    let others = properties.iter().chain(encoding).filter(|p| p.key != "connector");
    let options = Options::new(others.map(|p| (p.key.clone(), p.value.clone())))?;
    Ok((connector.value.clone(), options))
}

/// The connectors' word for an encoding.
pub(crate) const fn encoding(encoding: Encoding) -> Format {
    match encoding {
        Encoding::Json => Format::Json,
        Encoding::Csv => Format::Csv,
        Encoding::Parquet => Format::Parquet,
    }
}
