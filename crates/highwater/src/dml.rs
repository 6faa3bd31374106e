//! INSERT, UPDATE, DELETE and COPY: from a statement to changes of a table, and COMMIT.
//!
//! A statement outside of a transaction is one of its own. When it loses against another one that
//! changed the same rows meanwhile it is computed again, one such statement of a table at a time, as
//! PostgreSQL's wait for the row; in a transaction that is for the client.

use crate::answer::{Answer, Tag};
use crate::characters;
use crate::composite;
use crate::connection::{Connection, Transaction, invalid};
use crate::database::Database;
use crate::error::{Error, Result, cast_message, is_out_of_range};
use crate::objects::Body;
use crate::parameters::Parameters;
use crate::returning::Returning;
use crate::upsert::Upsert;
use crate::values::{as_taken, type_texts, values};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::CastOptions;
use arrow::compute::cast_with_options;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use highwater_engine::core::{Clock as _, SystemClock};
use highwater_engine::source::stamped;
use highwater_sql::input::parse_text_column;
use highwater_sql::rounding::rounded;
use highwater_sql::statement::{CreateTable, Delete, Insert, Name, Query, Update, constants};
use highwater_sql::types::{JSONB, catalog_name, is_kept, pg_name};
use highwater_sql::zoned::has_instants;
use highwater_sql::zones::Zone;
use highwater_sql::{Generated, Relations, Session, is_default, rows_of};
use highwater_tables::{Change, Overlay, Table, TableWrite, Write};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;

/// How often a statement that waits for its turn looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A table and the statement that made it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) table: Arc<Table>,
    pub(crate) statement: Arc<CreateTable>,
    /// The columns that are computed from the others.
    pub(crate) generated: Arc<Generated>,
}

impl Target {
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.table.spec().schema
    }

    pub(crate) fn columns(&self) -> Vec<String> {
        self.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Rows of all columns: those given, and defaults, in a session's zone, and computed values for the others.
    pub(crate) fn completed(
        &self,
        session: &Session,
        given: &[ArrayRef],
        places: &[usize],
        count: usize,
        zone: Option<&Zone>,
    ) -> Result<RecordBatch> {
        if let Some(at) = places.iter().find(|at| self.generated.has(**at)) {
            let message =
                format!("cannot insert a non-DEFAULT value into column {:?}", self.schema().field(*at).name());
            return Err(invalid("428C9", message, None));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema().fields().len());
        for (at, field) in self.schema().fields().iter().enumerate() {
            columns.push(match places.iter().position(|place| *place == at) {
                Some(from) => Arc::clone(&given[from]),
                None => {
                    let default = self.statement.columns[at].default.as_ref();
                    default_of(session, default, &self.statement.text, field.data_type(), count, zone)?
                }
            });
        }
        self.computed(RecordBatch::try_new(Arc::clone(self.schema()), columns)?)
    }

    /// The rows as the columns' types have them, with the values of generated columns; they come now.
    pub(crate) fn computed(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let rows = characters::cut(&self.statement.columns, rows)?;
        if self.generated.is_empty() {
            return Ok(rows);
        }
        let mut columns = rows.columns().to_vec();
        for (at, values) in self.generated.compute(&rows)? {
            columns[at] = assign(&values, self.schema().field(at).data_type())?;
        }
        let rows = RecordBatch::try_new(Arc::clone(self.schema()), columns)?;
        Ok(stamped(rows, self.generated.arrivals(), SystemClock::default().wall())?)
    }

    /// Refuses assignments to columns that do not exist or are computed.
    pub(crate) fn check_assigned<'a>(&self, columns: impl Iterator<Item = &'a Name>) -> Result<()> {
        for column in columns {
            if self.places(std::slice::from_ref(column), 1)?.into_iter().any(|at| self.generated.has(at)) {
                let message = format!("column {:?} can only be updated to DEFAULT", column.value);
                return Err(invalid("428C9", message, Some(column)));
            }
        }
        Ok(())
    }

    /// Gives assigned DEFAULTs what they stand for, as [`default_expr`] does, and leaves out those of generated
    /// columns, which are given nothing else.
    pub(crate) fn put_defaults(
        &self,
        assignments: &mut Vec<(Name, ast::Expr)>,
        elsewhere: Option<&Session>,
    ) -> Result<()> {
        if !assignments.iter().any(|(_, expr)| is_default(expr)) {
            return Ok(());
        }
        for (column, mut expr) in std::mem::take(assignments) {
            if is_default(&expr) {
                let at = self.places(std::slice::from_ref(&column), 1)?[0];
                if self.generated.has(at) {
                    continue;
                }
                expr = default_expr(self, at, elsewhere)?;
            }
            assignments.push((column, expr));
        }
        Ok(())
    }

    /// Gives fractions that are written out for whole numbers what the columns hold then.
    pub(crate) fn round_written(&self, assignments: &mut [(Name, ast::Expr)]) {
        for (column, expr) in assignments {
            let assigned = self.schema().field_with_name(&column.value);
            if let Some(rounded) = assigned.ok().and_then(|field| as_taken(expr, field.data_type())) {
                *expr = rounded;
            }
        }
    }

    /// The places of columns that a statement names; all when it names none.
    pub(crate) fn places(&self, names: &[Name], given: usize) -> Result<Vec<usize>> {
        if names.is_empty() {
            return Ok((0..given.min(self.schema().fields().len())).collect());
        }
        let place = |name: &Name| {
            let message = || format!("column {:?} of relation {:?} does not exist", name.value, self.table.spec().name);
            self.schema().index_of(&name.value).map_err(|_| invalid("42703", message(), Some(name)))
        };
        names.iter().map(place).collect()
    }

    /// Refuses nulls where the table takes none.
    pub(crate) fn check_nulls(&self, rows: &RecordBatch) -> Result<()> {
        for (column, field) in self.statement.columns.iter().zip(rows.columns()) {
            if column.column.not_null && field.null_count() > 0 {
                let (column, table) = (&column.column.name.value, &self.table.spec().name);
                let message =
                    format!("null value in column {column:?} of relation {table:?} violates not-null constraint");
                return Err(invalid("23502", message, None));
            }
        }
        Ok(())
    }

    pub(crate) fn refuse_append_only(&self, verb: &str) -> Result<()> {
        if !self.table.spec().append_only {
            return Ok(());
        }
        let message = format!("{verb} of {:?}, which is APPEND ONLY", self.table.spec().name);
        Err(invalid("0A000", message, None))
    }
}

/// What a statement does to one table.
pub(crate) struct Effect {
    pub(crate) write: Write,
    /// The rows that RETURNING sees, and how many were concerned.
    pub(crate) rows: Vec<RecordBatch>,
    pub(crate) count: u64,
}

impl Effect {
    /// Changes of rows that keep their keys.
    fn of(changes: Vec<Change>, rows: Vec<RecordBatch>) -> Self {
        Self { count: changes.len() as u64, write: Write::Changes(changes), rows }
    }
}

impl Database {
    /// A table by name.
    pub(crate) fn target(&self, name: &Name) -> Result<Target> {
        if let Some(target) = self.targets.get(&name.value) {
            return Ok(target);
        }
        let state = self.state();
        let object = crate::show::find(&state, name)?;
        match &object.body {
            Body::Table(target) => Ok(target.clone()),
            Body::Fed(_) => {
                let message = format!("{:?} is filled by its connector and cannot be written", name.value);
                Err(invalid("42809", message, Some(name)))
            }
            _ => Err(invalid("42809", format!("{:?} is a {}, not a TABLE", name.value, object.entry.kind), Some(name))),
        }
    }

    pub(crate) async fn run_insert(
        &self,
        connection: &mut Connection,
        insert: &Insert,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let target = self.target(&insert.table)?;
        let rows = self.rows_to_insert(connection, &target, insert, parameters).await?;
        if let Some(conflict) = &insert.on_conflict {
            let upsert = Upsert { target: &target, insert, conflict, rows: &rows, parameters };
            return self.upsert(connection, upsert).await;
        }
        let mut effect = Effect { write: Write::Changes(Vec::new()), count: rows.num_rows() as u64, rows: vec![rows] };
        effect.write = Write::Insert(target.table.insert(effect.rows[0].clone())?);
        let tag = Tag::Insert(effect.count);
        let answer = self.answered(tag, insert.into(), parameters, &effect).await?;
        self.write(connection, &target, &mut effect).await?;
        Ok(answer)
    }

    async fn rows_to_insert(
        &self,
        connection: &mut Connection,
        target: &Target,
        insert: &Insert,
        parameters: &Parameters,
    ) -> Result<RecordBatch> {
        let (given, places) = match &insert.source {
            None => (Vec::new(), Vec::new()),
            Some(query) => {
                // Texts of instants are read by what the plan knows of the session's zone.
                let zone = connection.zone_for(target.schema());
                let short = match &zone {
                    Some(_) => None,
                    None => values(target, &insert.columns, query, parameters)?,
                };
                match short {
                    Some(given) => given,
                    None => {
                        let session = zone.is_some().then_some(&*self.session);
                        let (query, places) = with_defaults(target, insert, query, session)?;
                        self.queried(connection, target, insert, (&query, places), parameters).await?
                    }
                }
            }
        };
        let count = given.first().map_or(1, |array| array.len());
        let rows = target.completed(&self.session, &given, &places, count, connection.zone().as_ref())?;
        target.check_nulls(&rows)?;
        Ok(rows)
    }

    /// The columns that a query gives, cast to those of the table.
    async fn queried(
        &self,
        connection: &mut Connection,
        target: &Target,
        insert: &Insert,
        (query, places): (&Query, Option<Vec<usize>>),
        parameters: &Parameters,
    ) -> Result<(Vec<ArrayRef>, Vec<usize>)> {
        let rows = self.answer_query(connection, query, parameters).await?;
        let rows = rows.collect_within(self.config.query_memory.0).await?;
        let given = rows.schema.fields().len();
        let places = places.map_or_else(|| target.places(&insert.columns, given), Ok)?;
        let limit = target.schema().fields().len();
        if given > places.len() || given > limit {
            return Err(invalid("42601", "INSERT has more expressions than target columns", Some(&insert.table)));
        }
        if given < places.len() {
            return Err(invalid("42601", "INSERT has more target columns than expressions", Some(&insert.table)));
        }
        let whole = arrow::compute::concat_batches(&rows.schema, &rows.batches)?;
        let arrays = places.iter().zip(whole.columns());
        let zone = connection.zone();
        let arrays = arrays.map(|(at, array)| assign_in(zone.as_ref(), array, target.schema().field(*at).data_type()));
        Ok((arrays.collect::<Result<_>>()?, places))
    }

    pub(crate) async fn update(
        &self,
        connection: &mut Connection,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let target = self.target(&update.table)?;
        target.refuse_append_only("UPDATE")?;
        let mut update = update.clone();
        target.put_defaults(&mut update.assignments, connection.zone().map(|_| &*self.session))?;
        target.check_assigned(update.assignments.iter().map(|(column, _)| column))?;
        target.round_written(&mut update.assignments);
        let update = &update;
        let query = update.query(&target.columns());
        let mut turn = None;
        loop {
            let (mut effect, paired) = match self.point_update(connection, &target, update, parameters)? {
                Some((changes, rows)) => (Effect::of(changes, rows), Vec::new()),
                None => {
                    let found = self.rows_to_change(connection, (&update.table, &target), &query, parameters).await?;
                    (self.updated(connection, &target, &found.rows)?, found.paired)
                }
            };
            let tag = Tag::Update(effect.count);
            let returning = Returning::from(update).beside(&paired);
            let answer = self.answered(tag, returning, parameters, &effect).await?;
            match self.write(connection, &target, &mut effect).await {
                Err(error) if connection.transaction.is_none() && error.is_conflict() => {
                    turn = Some(next_try(connection, &target.table, turn).await?);
                }
                done => return done.map(|()| answer),
            }
        }
    }

    pub(crate) async fn delete(
        &self,
        connection: &mut Connection,
        delete: &Delete,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let target = self.target(&delete.table)?;
        target.refuse_append_only("DELETE")?;
        let query = delete.query(&target.columns());
        let mut turn = None;
        loop {
            let (mut effect, paired) = match self.point_delete(connection, &target, delete, parameters)? {
                Some((changes, rows)) => (Effect::of(changes, rows), Vec::new()),
                None => {
                    let found = self.rows_to_change(connection, (&delete.table, &target), &query, parameters).await?;
                    (deleted(&target, &found.rows)?, found.paired)
                }
            };
            let tag = Tag::Delete(effect.count);
            let returning = Returning::from(delete).beside(&paired);
            let answer = self.answered(tag, returning, parameters, &effect).await?;
            match self.write(connection, &target, &mut effect).await {
                Err(error) if connection.transaction.is_none() && error.is_conflict() => {
                    turn = Some(next_try(connection, &target.table, turn).await?);
                }
                done => return done.map(|()| answer),
            }
        }
    }

    /// What happens to rows that were found with their new values. In a transaction keys that they move to are
    /// looked up here; outside of one the store does it when it writes.
    pub(crate) fn updated(
        &self,
        connection: &mut Connection,
        target: &Target,
        found: &[RecordBatch],
    ) -> Result<Effect> {
        let effect = replaced(target, found, connection.zone().as_ref())?;
        if connection.transaction.is_some()
            && let Write::Changes(changes) = &effect.write
        {
            let snapshot = connection.snapshot(&self.tables)?;
            refuse_existing(&target.table, &snapshot, &connection.overlay(&target.table), changes)?;
        }
        Ok(effect)
    }

    /// Commits what a statement does, or adds it to the transaction.
    pub(crate) async fn write(&self, connection: &mut Connection, target: &Target, effect: &mut Effect) -> Result<()> {
        let write = std::mem::replace(&mut effect.write, Write::Changes(Vec::new()));
        if write.is_empty() {
            return Ok(());
        }
        if connection.transaction.is_some() {
            return self.add_to_transaction(connection, target, write);
        }
        self.commit_writes(connection, vec![TableWrite { table: Arc::clone(&target.table), write }]).await
    }

    /// Hands writes to the store; when it returns, they are durable.
    pub(crate) async fn commit_writes(&self, connection: &mut Connection, writes: Vec<TableWrite>) -> Result<()> {
        let canceller = connection.canceller();
        canceller.set_committing(true);
        let done = match self.tables.commit(writes) {
            Ok(done) => done.await.map_err(|_| highwater_tables::Error::Closed),
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(Ok(_))) {
            // What is written stays so, whatever ends the statement before its rows are told.
            canceller.set_committing(false);
        }
        connection.position = done??;
        Ok(())
    }

    pub(crate) fn add_to_transaction(&self, connection: &mut Connection, target: &Target, write: Write) -> Result<()> {
        let snapshot = connection.snapshot(&self.tables)?;
        let over = connection.overlay(&target.table);
        let changes = match write {
            Write::Changes(changes) => changes,
            Write::Insert(insert) => {
                let changes = insert.into_changes();
                if target.table.has_key() {
                    refuse_existing(&target.table, &snapshot, &over, &changes)?;
                }
                changes
            }
        };
        let transaction = connection.transaction.as_mut().expect("asked for one in a transaction");
        transaction.add(&target.table, changes)
    }

    /// Commits a transaction; when it returns, it is durable.
    pub(crate) async fn commit(&self, connection: &mut Connection, transaction: Transaction) -> Result<()> {
        let has_upserted = transaction.has_upserted;
        let writes = transaction.into_writes();
        if writes.is_empty() {
            return Ok(());
        }
        self.commit_writes(connection, writes).await.map_err(|error| match error {
            // ON CONFLICT would take the other way by now.
            Error::Tables(highwater_tables::Error::Duplicate { table, .. }) if has_upserted => {
                highwater_tables::Error::Conflict { table }.into()
            }
            error => error,
        })
    }
}

/// What a statement that lost against another one holds when it tries again. The others of the table
/// that lost wait for it, so it loses only against statements that have not lost yet.
pub(crate) async fn next_try<'a>(
    connection: &Connection,
    table: &'a Table,
    turn: Option<MutexGuard<'a, ()>>,
) -> Result<MutexGuard<'a, ()>> {
    connection.check_cancelled()?;
    if let Some(turn) = turn {
        return Ok(turn);
    }
    let mut waiting = pin!(table.turn().lock());
    loop {
        match tokio::time::timeout(LOOK, waiting.as_mut()).await {
            Ok(turn) => return Ok(turn),
            Err(_) => connection.check_cancelled()?,
        }
    }
}

/// The values of a DEFAULT for so many rows, as they stand in a column of a type. What clocks show is what
/// they show in `zone`, or in UTC; instants are the same everywhere.
pub(crate) fn default_of(
    session: &Session,
    default: Option<&ast::Expr>,
    text: &str,
    data_type: &DataType,
    count: usize,
    zone: Option<&Zone>,
) -> Result<ArrayRef> {
    let Some(default) = default else { return Ok(new_null_array(data_type, count)) };
    let rounded = as_taken(default, data_type);
    let default = rounded.as_ref().unwrap_or(default);
    let zone = zone.filter(|zone| zone.of_type(data_type) == *data_type);
    match without_columns(session, default, text, count, zone)? {
        Some(values) => assign(&values, data_type),
        None => Ok(new_null_array(data_type, count)),
    }
}

/// The values of an expression without columns, for so many rows, in a session's zone; none when it is a query.
pub(crate) fn without_columns(
    session: &Session,
    expr: &ast::Expr,
    text: &str,
    count: usize,
    zone: Option<&Zone>,
) -> Result<Option<ArrayRef>> {
    let plan = session.bind(&constants([expr], text), &Relations::default())?;
    let plan = match zone {
        Some(zone) => session.zoned(plan, zone)?.plan,
        None => plan,
    };
    let LogicalPlan::Projection(projection) = &plan else { return Ok(None) };
    let expr = session.evaluated(projection.expr[0].clone())?;
    Ok(Some(match expr.clone().unalias_nested().data {
        Expr::Literal(value, _) => value.to_array_of_size(count)?,
        // What is not the same each time, or fails.
        _ => session.computed(&expr, count)?,
    }))
}

/// The query with the expressions that DEFAULT stands for, and without generated columns that are
/// given nothing else; and the places of its columns, where they are known. Where `elsewhere` is given,
/// it is to compute the instants among them: the query is not in UTC, and they are.
fn with_defaults(
    target: &Target,
    insert: &Insert,
    query: &Query,
    elsewhere: Option<&Session>,
) -> Result<(Query, Option<Vec<usize>>)> {
    let Some(rows) = rows_of(query) else { return Ok((with_whole_items(target, insert, query)?, None)) };
    let mut places = target.places(&insert.columns, rows.first().map_or(0, |row| row.len()))?;
    let is_left_out = |column: usize, at: usize| {
        target.generated.has(at) && rows.iter().all(|row| row.get(column).is_some_and(is_default))
    };
    let kept: Vec<bool> = places.iter().enumerate().map(|(column, at)| !is_left_out(column, *at)).collect();
    let mut query = query.clone();
    if let ast::SetExpr::Values(values) = query.ast.body.as_mut() {
        for row in &mut values.rows {
            for (expr, at) in row.content.iter_mut().zip(&places).filter(|(expr, _)| is_default(expr)) {
                *expr = default_expr(target, *at, elsewhere)?;
            }
            for (expr, at) in row.content.iter_mut().zip(&places) {
                if let Some(rounded) = as_taken(expr, target.schema().field(*at).data_type()) {
                    *expr = rounded;
                }
            }
            // What is beyond the table's columns is refused later.
            let mut column = 0;
            row.content.retain(|_| {
                column += 1;
                kept.get(column - 1).is_none_or(|kept| *kept)
            });
        }
        let mut column = 0;
        places.retain(|_| {
            column += 1;
            kept[column - 1]
        });
        for (column, at) in places.iter().enumerate() {
            type_texts(values, column, target.schema().field(*at).data_type());
        }
        return Ok((query, Some(places)));
    }
    Ok((query, None))
}

/// A query whose items that are written out with a fraction, for columns of whole numbers, are rounded.
fn with_whole_items(target: &Target, insert: &Insert, query: &Query) -> Result<Query> {
    let mut query = query.clone();
    let ast::SetExpr::Select(select) = query.ast.body.as_mut() else { return Ok(query) };
    let places = target.places(&insert.columns, select.projection.len())?;
    for (item, at) in select.projection.iter_mut().zip(places) {
        let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) = item else {
            // The places of those behind it are not known here.
            break;
        };
        if let Some(rounded) = as_taken(expr, target.schema().field(at).data_type()) {
            *expr = rounded;
        }
    }
    Ok(query)
}

/// The expression that DEFAULT stands for. Where `elsewhere` is given, instants are computed by it.
fn default_expr(target: &Target, at: usize, elsewhere: Option<&Session>) -> Result<ast::Expr> {
    let default = match elsewhere {
        Some(session) => default_text(session, target, at)?,
        None => target.statement.columns[at].default.clone(),
    };
    Ok(default.unwrap_or_else(|| ast::Expr::Value(ast::Value::Null.into())))
}

/// The expression of a DEFAULT; that of instants is their text with the offset of UTC.
fn default_text(session: &Session, target: &Target, at: usize) -> Result<Option<ast::Expr>> {
    let (default, data_type) = (target.statement.columns[at].default.as_ref(), target.schema().field(at).data_type());
    if !has_instants(data_type) {
        return Ok(default.cloned());
    }
    let value = default_of(session, default, &target.statement.text, data_type, 1, None)?;
    let text = highwater_sql::spelling::texts(&value).filter(|text| text.is_valid(0));
    Ok(text.map(|text| {
        let text = text.as_string::<i32>().value(0).to_owned();
        ast::Expr::Value(ast::Value::SingleQuotedString(text).into())
    }))
}

/// Values of one type as another one's, as an assignment does it: texts are read in the forms that PostgreSQL's
/// clients write.
pub(crate) fn assign(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    if let Some(texts) = array.as_string_opt::<i32>().filter(|_| is_kept(to)) {
        return parse_text_column(texts, to).map_err(|bad| invalid(bad.sqlstate, bad.message, None));
    }
    if let Some(assigned) = composite::assigned(array, to, assign)? {
        return Ok(assigned);
    }
    if let (Some(from), Some(of)) = (Family::of(array.data_type()), Family::of(to))
        && from != of
    {
        let (from, to) = (catalog_name(array.data_type()), catalog_name(to));
        let message = format!("column is of type {to} but expression is of type {from}");
        return Err(invalid("42804", message, None));
    }
    if let (DataType::List(_), DataType::Utf8) = (array.data_type(), to) {
        return Ok(highwater_sql::spelling::texts(array).unwrap_or_else(|| Arc::clone(array)));
    }
    if has_jsonb(to) != has_jsonb(array.data_type()) {
        return assign_jsonb(array, to);
    }
    if matches!(to, DataType::Utf8) && array.data_type() == &DataType::Boolean {
        let text = array.as_boolean().iter().map(|v| v.map(|v| if v { "true" } else { "false" }));
        return Ok(Arc::new(text.collect::<arrow::array::StringArray>()));
    }
    if matches!(array.data_type(), DataType::Decimal128(..)) && to.is_floating() {
        // By its digits: Arrow divides, which may give a neighbour of the nearest number.
        let texts = cast_with_options(array, &DataType::Utf8, &CastOptions::default())?;
        return parse_text_column(texts.as_string::<i32>(), to).map_err(|bad| invalid(bad.sqlstate, bad.message, None));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    rounded(array, to).and_then(|rounded| cast_with_options(&rounded, to, &options)).map_err(|error| {
        let message = error.to_string();
        let sqlstate = if is_out_of_range(&message) { "22003" } else { "22P02" };
        invalid(sqlstate, cast_message(message.trim_start_matches("Cast error: ")), None)
    })
}

/// Types of which no value is assigned to a column of another family, whatever Arrow makes of it.
#[derive(PartialEq, Eq)]
enum Family {
    Boolean,
    Number,
    Time,
}

impl Family {
    const fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Interval(_) => {
                Some(Self::Time)
            }
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..) => Some(Self::Number),
            _ => None,
        }
    }
}

/// The same in a session's zone, by which a time without an offset is an instant.
fn assign_in(zone: Option<&Zone>, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let Some(zone) = zone else { return assign(array, to) };
    if let (DataType::Struct(_), DataType::Struct(_)) = (array.data_type(), to)
        && let Some(assigned) = composite::assigned(array, to, |array, to| assign_in(Some(zone), array, to))?
    {
        return Ok(assigned);
    }
    let (from_local, to_local) = (zone.of_type(array.data_type()), zone.of_type(to));
    match (*array.data_type() != from_local, *to != to_local) {
        (false, true) if array.data_type() != &DataType::Null => {
            let local = match array.as_string_opt::<i32>() {
                Some(texts) => {
                    let read = parse_text_column(texts, &to_local);
                    read.map_err(|bad| invalid(bad.sqlstate, bad.message, None))?
                }
                None => assign(array, &to_local)?,
            };
            assign(&local, to)
        }
        (true, false) => {
            let (from, to, zone) = (pg_name(array.data_type()), pg_name(to), zone.name());
            let hint = "SET TIME ZONE 'UTC', or name the zone with AT TIME ZONE";
            Err(invalid("0A000", format!("an assignment of {from} to {to} in the time zone {zone}: {hint}"), None))
        }
        _ => assign(array, to),
    }
}

/// Whether a type is jsonb or an array of it.
fn has_jsonb(of: &DataType) -> bool {
    match of {
        DataType::List(of) => of.data_type() == &JSONB,
        other => *other == JSONB,
    }
}

/// A jsonb is written as text; there is no other assignment of it but that of texts.
fn assign_jsonb(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Null => Ok(new_null_array(to, array.len())),
        _ if *to == DataType::Utf8 => Ok(arrow::compute::cast(array, to)?),
        from => {
            let (from, to) = (pg_name(from), pg_name(to));
            Err(invalid("42804", format!("a column of type {to} is given an expression of type {from}"), None))
        }
    }
}

/// Refuses changes that put a row where there is one that they do not replace.
fn refuse_existing(
    table: &Arc<Table>,
    snapshot: &highwater_tables::Snapshot,
    over: &Overlay,
    changes: &[Change],
) -> Result<()> {
    let new: Vec<&Change> = changes.iter().filter(|change| change.old.is_none()).collect();
    if new.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = new.iter().map(|change| change.key.as_slice()).collect();
    let found = snapshot.get(table, &keys, over)?;
    match new.into_iter().zip(found).find(|(_, found)| found.is_some()) {
        Some((change, _)) => Err(table.duplicate_of(change).into()),
        None => Ok(()),
    }
}

pub(crate) fn bytes(batch: &RecordBatch, at: usize) -> Result<&arrow::array::BinaryArray> {
    batch.column(at).as_binary_opt::<i32>().ok_or_else(|| invalid("XX000", "a row came without its key", None))
}

pub(crate) fn deleted(target: &Target, found: &[RecordBatch]) -> Result<Effect> {
    let mut changes = Vec::new();
    let mut rows = Vec::new();
    for batch in found {
        let (keys, values) = (bytes(batch, 0)?, bytes(batch, 1)?);
        let change = |at: usize| Change { key: keys.value(at).into(), old: Some(values.value(at).into()), new: None };
        changes.extend((0..batch.num_rows()).map(change));
        rows.push(RecordBatch::try_new(Arc::clone(target.schema()), batch.columns()[2..].to_vec())?);
    }
    Ok(Effect { count: changes.len() as u64, write: Write::Changes(changes), rows })
}

/// Rows under keys that they had, and under those that they move to; one may take the place of another that moves.
fn replaced(target: &Target, found: &[RecordBatch], zone: Option<&Zone>) -> Result<Effect> {
    let mut rows = Vec::new();
    let mut changes: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
    let mut inserted = Vec::new();
    for batch in found {
        let fields = target.schema().fields().iter().zip(&batch.columns()[2..]);
        let columns = fields.map(|(field, array)| assign_in(zone, array, field.data_type())).collect::<Result<_>>()?;
        let new = target.computed(RecordBatch::try_new(Arc::clone(target.schema()), columns)?)?;
        target.check_nulls(&new)?;
        let (keys, values) = (bytes(batch, 0)?, bytes(batch, 1)?);
        let (new_keys, new_values) = target.table.encode(&new)?;
        for at in 0..batch.num_rows() {
            let key: Vec<u8> = keys.value(at).into();
            let old = Some(values.value(at).to_vec());
            let new_key = new_keys.as_ref().map_or(key.as_slice(), |keys| keys.value(at));
            let value = Some(new_values.value(at).to_vec());
            if new_key == key.as_slice() {
                changes.insert(key.clone(), Change { key, old, new: value });
            } else {
                inserted.push((new_key.to_vec(), value));
                changes.insert(key.clone(), Change { key, old, new: None });
            }
        }
        rows.push(new);
    }
    for (key, value) in inserted {
        match changes.entry(key) {
            Entry::Vacant(place) => {
                let key = place.key().clone();
                place.insert(Change { key, old: None, new: value });
            }
            Entry::Occupied(mut place) if place.get().new.is_none() => place.get_mut().new = value,
            Entry::Occupied(place) => return Err(target.table.duplicate_of(place.get()).into()),
        }
    }
    let count = rows.iter().map(|batch| batch.num_rows() as u64).sum();
    Ok(Effect { count, write: Write::Changes(changes.into_values().collect()), rows })
}

impl Error {
    /// Whether the transaction may succeed when it is done again.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Tables(highwater_tables::Error::Conflict { .. }))
    }
}
