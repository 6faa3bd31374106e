//! ALTER: other names for objects, and more columns for tables.
//!
//! A renamed object keeps the name under which its state, checkpoints and deliveries are found
//! ([`crate::catalog::Entry::kept`]); the texts of what names it are changed with it in one write of the
//! catalog. Invariant: nothing that runs is planned in another way by a new name, or it is refused.

use crate::catalog::Entry;
use crate::characters;
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::{Target, default_of};
use crate::error::Result;
use crate::objects::{Body, Fed, Object, Objects, Reading, Subscribed};
use crate::outcome::Outcome;
use crate::pipelines::check_kind;
use arrow::array::Array as _;
use arrow::datatypes::{Field, SchemaRef};
use highwater_engine::kept_otherwise;
use highwater_engine::plan::Plan;
use highwater_sql::statement::{AddColumn, CreateTable, Name, ObjectKind, RenameColumn, Statement};
use highwater_sql::{
    Session, check_functions, column_renamed, explain, naming, references, renamed, retitled, session, with_column,
};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Database {
    pub(crate) fn rename(&self, connection: &Connection, kind: ObjectKind, name: &Name, to: &Name) -> Result<Outcome> {
        drop(self.settled(connection)?);
        let mut state = self.state_to_define(connection)?;
        let object = crate::show::find(&state, name)?;
        check_kind(&object.entry, kind, name)?;
        check_free(&state, to)?;
        let changed = renamed_entries(&state, name, to)?;
        let mut objects = state.objects.clone();
        for entry in &changed {
            if let Some(old) = state.objects.get_numbered(entry.id) {
                objects.replace(rewritten(old, entry)?);
            }
        }
        check_meaning(&self.session, &objects, &changed)?;
        let pipelines: BTreeSet<String> = changed.iter().filter_map(|entry| entry.pipeline.clone()).collect();
        self.exchange(&mut state, objects, &changed, &pipelines)?;
        for pipeline in pipelines {
            if let Some(running) = state.running.remove(&pipeline) {
                let running = running.titled(state.objects.title(&pipeline));
                state.running.insert(pipeline, running);
            }
        }
        Ok(Outcome::done(format!("ALTER {kind}")))
    }

    /// Changes objects here and in the catalog, if the pipelines are planned as before.
    fn exchange(
        &self,
        state: &mut State,
        objects: Objects,
        changed: &[Entry],
        pipelines: &BTreeSet<String>,
    ) -> Result<()> {
        let before = self.plans(state, pipelines)?;
        let old = std::mem::replace(&mut state.objects, objects);
        let exchanged = self.plans(state, pipelines).and_then(|after| {
            if before != after {
                let message = "what reads it would be kept in another way under that name: drop it first";
                return Err(invalid("0A000", message, None));
            }
            state.catalog.replace(changed)
        });
        match exchanged {
            Ok(()) => {
                state.broken.replace(changed);
                state.objects.publish();
            }
            Err(_) => state.objects = old,
        }
        exchanged
    }

    /// What some pipelines are made of, in words; without those that do not run.
    fn plans(&self, state: &State, pipelines: &BTreeSet<String>) -> Result<Vec<Vec<String>>> {
        let whole = pipelines.iter().filter(|pipeline| state.broken.why_not_running(pipeline).is_none());
        whole.map(|pipeline| Ok(explain(&self.pipeline_plan(state, pipeline)?))).collect()
    }

    pub(crate) fn add_column(&self, connection: &Connection, added: AddColumn) -> Result<Outcome> {
        let done = Outcome::done("ALTER TABLE");
        let mut state = self.state_to_define(connection)?;
        let object = crate::show::find(&state, &added.table)?;
        check_kind(&object.entry, ObjectKind::Table, &added.table)?;
        let Body::Table(target) = &object.body else {
            let clause = "ADD COLUMN of a table with a connector".to_owned();
            let hint = "drop the table and create it with the column".to_owned();
            let position = Some(added.table.at);
            return Err(highwater_sql::Error::Unsupported { clause, hint, position }.into());
        };
        let column = &added.column.column;
        if target.schema().index_of(&column.name.value).is_ok() {
            let (column, table) = (&column.name, &added.table.value);
            let message = format!("column {:?} of relation {table:?} already exists", column.value);
            if added.if_not_exists {
                return Ok(done.noticed(format!("{message}, skipping")));
            }
            return Err(invalid("42701", message, Some(column)));
        }
        let before = object.clone();
        let wider = self.with_column(&state, object, target, &added)?;
        let mut concerned: Vec<String> = self.at(&state, object).into_iter().collect();
        // What writes into the table does so with the new column once it is begun, so all others come before.
        let writes = |other: &Object| other.writes().is_some_and(|into| into.value == added.table.value);
        concerned.sort_by_key(|pipeline| state.objects.of_pipeline(pipeline).any(writes));
        self.widen(&mut state, wider, before, &concerned)?;
        for pipeline in concerned {
            // Nobody writes the new column before those that run know it. The column is there,
            // whatever becomes of them.
            let begun;
            (state, begun) = self.begin(connection, state, &pipeline, false);
            if let Err(error) = begun {
                tracing::warn!(pipeline, %error, "it reads a table that has a new column, and is tried again");
            }
        }
        state.objects.publish();
        Ok(done)
    }

    /// Puts a table with a new column in the place of what it was, here and in the catalog, if all that is kept
    /// over it is kept as before.
    fn widen(&self, state: &mut State, wider: Object, before: Object, concerned: &[String]) -> Result<()> {
        let whole = concerned.iter().filter(|pipeline| state.broken.why_not_running(pipeline).is_none());
        // One that cannot be planned is none that goes on.
        let plans = whole.filter_map(|pipeline| Some((pipeline, self.pipeline_plan(state, pipeline).ok()?)));
        let plans: Vec<(&String, Plan)> = plans.collect();
        let entry = wider.entry.clone();
        state.objects.replace(wider);
        let checked = plans.iter().try_for_each(|(pipeline, plan)| self.check_goes_on(state, pipeline, plan));
        let done = checked.and_then(|()| state.catalog.replace(std::slice::from_ref(&entry)));
        if done.is_err() {
            state.objects.replace(before);
        }
        done
    }

    /// Refuses what would have an object of a pipeline begin anew, or without what it has kept.
    fn check_goes_on(&self, state: &State, pipeline: &str, before: &Plan) -> Result<()> {
        let after = self.pipeline_plan(state, pipeline)?;
        let Some(node) = kept_otherwise(before, &after)? else { return Ok(()) };
        let is_its =
            |object: &&Object| node.strip_prefix(object.kept()).is_some_and(|rest| rest.starts_with(['/', ':']));
        let object = state.objects.of_pipeline(pipeline).find(is_its);
        let name = object.map_or_else(|| state.objects.title(pipeline), Object::name);
        let message = format!("{name:?} would be kept in another way with that column ({node}): drop it first");
        Err(invalid("0A000", message, None))
    }

    /// A table with a new column.
    fn with_column(&self, state: &State, object: &Object, target: &Target, added: &AddColumn) -> Result<Object> {
        let column = &added.column;
        let data_type = &column.column.data_type;
        let held = match &column.default {
            None => arrow::array::new_null_array(data_type, 1),
            Some(default) => {
                let constant = highwater_sql::statement::constants([default], &added.text);
                check_functions(&self.session.bind(&constant, &highwater_sql::Relations::default())?)?;
                default_of(&self.session, Some(default), &added.text, data_type, 1, None)?
            }
        };
        let held = characters::cut_texts(&held, column.characters)?;
        if column.column.not_null && held.null_count() > 0 {
            let message = format!(
                "column {:?} of relation {:?} contains null values",
                column.column.name.value, added.table.value
            );
            return Err(invalid("23502", message, Some(&column.column.name)));
        }
        let field = Field::new(&column.column.name.value, data_type.clone(), true);
        let table = Arc::new(target.table.with_column(field, held)?);
        let mut entry = object.entry.clone();
        entry.sql = with_column(&entry.sql, &added.definition)?;
        entry.rewritten = true;
        entry.added.push(state.catalog.next_id());
        let schema: SchemaRef = Arc::clone(&table.spec().schema);
        let statement = Arc::new(parsed_table(&entry)?);
        let watermark = object.watermark.clone();
        Ok(Object { entry, schema, body: Body::Table(Target { table, statement, ..target.clone() }), watermark })
    }
}

impl Database {
    /// Gives a column of a table that nothing else reads or writes another name. Its rows know columns by their
    /// places.
    pub(crate) fn rename_column(&self, connection: &Connection, renamed: &RenameColumn) -> Result<Outcome> {
        let RenameColumn { table: name, column, to } = renamed;
        let mut state = self.state_to_define(connection)?;
        let object = crate::show::find(&state, name)?;
        check_kind(&object.entry, ObjectKind::Table, name)?;
        let Body::Table(target) = &object.body else {
            let clause = "RENAME COLUMN of a table with a connector".to_owned();
            let hint = "drop the table and create it with the other name".to_owned();
            let position = Some(name.at);
            return Err(highwater_sql::Error::Unsupported { clause, hint, position }.into());
        };
        let at = target.places(std::slice::from_ref(column), 1)?[0];
        if target.schema().index_of(&to.value).is_ok() {
            let message = format!("column {:?} of relation {:?} already exists", to.value, name.value);
            return Err(invalid("42701", message, Some(to)));
        }
        let others = state.dependents(std::slice::from_ref(&name.value));
        if !others.is_empty() {
            let (column, table, others) = (&column.value, &name.value, others.join(", "));
            let message = format!(
                "cannot rename column {column:?} of {table:?} while others read or write the table: \
                 drop them first: {others}"
            );
            return Err(invalid("2BP01", message, Some(name)));
        }
        let mut entry = object.entry.clone();
        let text = column_renamed(&entry.sql, &column.value, &to.value).map_err(highwater_sql::Error::nowhere)?;
        let Some(text) = text else {
            let clause = "RENAME COLUMN of what a generated column or a watermark is made of".to_owned();
            let hint = "create the table anew with the other name".to_owned();
            let position = Some(column.at);
            return Err(highwater_sql::Error::Unsupported { clause, hint, position }.into());
        };
        entry.sql = text;
        entry.rewritten = true;
        let table = Arc::new(target.table.with_column_name(at, &to.value)?);
        let (schema, statement) = (Arc::clone(&table.spec().schema), Arc::new(parsed_table(&entry)?));
        let body = Body::Table(Target { table, statement, ..target.clone() });
        let object = Object { entry, schema, body, watermark: object.watermark.clone() };
        state.catalog.replace(std::slice::from_ref(&object.entry))?;
        state.objects.replace(object);
        state.objects.publish();
        Ok(Outcome::done("ALTER TABLE"))
    }
}

/// Refuses a name that is taken or cannot be one.
fn check_free(state: &State, to: &Name) -> Result<()> {
    if state.objects.get(&to.value).is_some() || state.broken.why(&to.value).is_some() {
        let (name, position) = (to.value.clone(), Some(to.at));
        return Err(highwater_sql::Error::Duplicate { name, position }.into());
    }
    if to.value.contains(':') {
        return Err(invalid("42602", "a name cannot hold a colon", Some(to)));
    }
    Ok(())
}

/// The catalog's entries that a new name changes.
fn renamed_entries(state: &State, name: &Name, to: &Name) -> Result<Vec<Entry>> {
    let mut changed = Vec::new();
    for entry in state.catalog.entries() {
        let is_it = entry.name == name.value;
        let text = if is_it {
            Some(retitled(&entry.sql, &to.value)?)
        } else {
            renamed(&entry.sql, &name.value, &to.value).map_err(highwater_sql::Error::nowhere)?
        };
        let Some(sql) = text else { continue };
        let mut entry = Entry { sql, rewritten: true, ..entry.clone() };
        if is_it {
            let kept = std::mem::replace(&mut entry.name, to.value.clone());
            let kept = entry.kept.take().unwrap_or(kept);
            entry.kept = (kept != entry.name).then_some(kept);
        }
        changed.push(entry);
    }
    Ok(changed)
}

/// An object with another text that means the same.
fn rewritten(old: &Object, entry: &Entry) -> Result<Object> {
    let body = match (&old.body, highwater_sql::parse(&entry.sql)?) {
        (Body::Table(target), Statement::CreateTable(table)) => Body::Table(Target {
            table: Arc::new(target.table.renamed(&entry.name)?),
            statement: Arc::new(table),
            ..target.clone()
        }),
        (Body::Fed(fed), Statement::CreateTable(statement)) => {
            Body::Fed(Arc::new(Fed { statement, table: fed.table.clone() }))
        }
        (Body::Source(source), Statement::CreateSource(_)) => Body::Source(Arc::clone(source)),
        (Body::View(_), Statement::CreateView(view)) => Body::View(view),
        (Body::Materialized(_), Statement::CreateMaterializedView(view)) => Body::Materialized(view),
        (Body::Index(_), Statement::CreateIndex(index)) => Body::Index(index),
        (Body::Sink(_), Statement::CreateSink(sink)) => Body::Sink(sink),
        (Body::Subscription(subscribed), Statement::CreateSubscription(statement)) => {
            Body::Subscription(Subscribed { statement, journal: Arc::clone(&subscribed.journal) })
        }
        _ => return Err(invalid("XX001", format!("the text of {:?} is of another kind", entry.name), None)),
    };
    let watermark = old.watermark.clone();
    Ok(Object { entry: entry.clone(), body, schema: Arc::clone(&old.schema), watermark })
}

/// Refuses new texts that do not give what the old ones gave.
fn check_meaning(session: &Session, objects: &Objects, changed: &[Entry]) -> Result<()> {
    for object in changed.iter().filter_map(|entry| objects.get_numbered(entry.id)) {
        let Some(query) = object.query() else { continue };
        let relations = objects.relations(session, &references(query), Reading::Stream)?;
        let plan = session.bind(query, &objects.seen_by(&object.entry, relations)?);
        let same = plan.and_then(|plan| naming::rename(plan, object.naming(), query)).is_ok_and(|plan| {
            let now = session::view_schema(plan.schema());
            let mut pairs = now.fields().iter().zip(object.schema.fields());
            now.fields().len() == object.schema.fields().len()
                && pairs.all(|(a, b)| (a.name(), a.data_type()) == (b.name(), b.data_type()))
        });
        if !same {
            let message = format!("{:?} cannot be told of the new name: drop it first", object.name());
            return Err(invalid("0A000", message, None));
        }
    }
    Ok(())
}

/// The CREATE TABLE of a table's entry.
pub(crate) fn parsed_table(entry: &Entry) -> Result<CreateTable> {
    match highwater_sql::parse(&entry.sql)? {
        Statement::CreateTable(table) => Ok(table),
        _ => Err(invalid("XX001", format!("the text of {:?} creates no table", entry.name), None)),
    }
}
