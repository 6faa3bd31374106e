//! Indexes: queries that say what some columns are equal to are answered from the rows of one key.
//!
//! An index is an object that a pipeline keeps, as it keeps views: that of the view it is over, or one of
//! its own over a table that clients write. Such a table is read as it is now: what the index does not
//! show yet is taken from the log of changes. Invariant: an index gives what its relation gives.

use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::objects::{Body, Object};
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::point::{Plain, conjunction, folded, picked, plain_select, projected, uncast};
use crate::show::{self, texts};
use crate::values::exact_value;
use crate::views::shaped;
use arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch, Scalar};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::row::{Row, RowConverter, SortField};
use highwater_engine::{Pipeline, one_form};
use highwater_sql::statement::{CreateIndex, Name, Query};
use highwater_sql::types::pg_name;
use highwater_sql::{Error as SqlError, Kind};
use highwater_tables::Overlay;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A table with more changes than this that its index does not show is read as a whole.
const MOST_CHANGES: usize = 10_000;

/// How an index answers a query.
pub(crate) struct ByIndex {
    name: String,
    /// The index's name in its pipeline.
    kept: String,
    /// Which object of that name it is.
    incarnation: u64,
    on: String,
    /// The columns that it has.
    schema: SchemaRef,
    /// What the query wants of them, by their places, under the names that they get.
    columns: Vec<(usize, String)>,
    /// The key that it looks up, by the places of its columns.
    key: Vec<(usize, ArrayRef)>,
    /// What else must be equal.
    rest: Vec<(usize, ArrayRef)>,
    pipeline: Pipeline,
    /// What it is over, if that is a table that clients write.
    table: Option<Target>,
}

impl Database {
    /// The index that answers a query, by as many columns as can be; none when there is no such index, or
    /// the query names a row by the relation's own key.
    pub(crate) fn index_for(&self, query: &Query, parameters: &Parameters) -> Option<ByIndex> {
        let plain = plain_select(&query.ast).filter(Plain::is_all)?;
        let condition = plain.select.selection.as_ref()?;
        let state = self.state();
        let on = state.objects.get(&folded(plain.table))?;
        let indexes: Vec<(&Object, &CreateIndex)> = indexes(&state, on.name()).collect();
        if indexes.is_empty() {
            return None;
        }
        let names = [plain.name];
        let columns = projected(&plain, &on.schema)?;
        let mut equal = Vec::new();
        if !conjunction(condition, &on.schema, &names, &mut equal) {
            return None;
        }
        let value = |(at, expr)| {
            let data_type = on.schema.field(at).data_type();
            let expr = uncast(expr, data_type);
            let value = exact_value(expr, data_type, parameters).filter(|value| value.null_count() == 0);
            value.filter(|_| !data_type.is_nested()).map(|value| (at, value))
        };
        let equal: Vec<(usize, ArrayRef)> = equal.into_iter().map(value).collect::<Option<_>>()?;
        if is_own_key(&state, on, &equal) {
            return None;
        }
        let usable =
            indexes.into_iter().filter_map(|(object, index)| by(&state, on, (object, index), &columns, &equal));
        usable.max_by_key(|by| by.key.len())
    }

    /// What an index gives for a query; none when the long way is to be taken.
    pub(crate) fn indexed(&self, connection: &Connection, by: &ByIndex) -> Result<Option<Rows>> {
        if !by.is_for(connection) {
            return Ok(None);
        }
        let found = match tokio::task::block_in_place(|| self.found_by(by)) {
            Err(error) if error.is_of_look_up() => return Ok(None),
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        let rows = found.iter().map(|rows| with_equal(rows, &by.rest)).collect::<Result<_>>()?;
        Ok(Some(picked(&by.schema, &by.columns, rows)?))
    }

    /// The indexes over a relation.
    pub(crate) fn indexes_over(&self, on: &Object) -> Vec<IndexOver> {
        let state = self.state();
        indexes(&state, on.name()).filter_map(|(object, index)| IndexOver::new(on, object, index)).collect()
    }

    /// The rows of a relation with some keys, of which each comes once, as an index has them; rows of others may be
    /// among them. None when they are to be read in another way. Blocks.
    pub(crate) fn rows_by_index(
        &self,
        on: &Object,
        over: &IndexOver,
        keys: Vec<ArrayRef>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let equal: Vec<(usize, ArrayRef)> = over.key.iter().copied().zip(keys).collect();
        let found = {
            let state = self.state();
            let mut indexes = indexes(&state, on.name());
            let index = indexes.find(|(object, _)| object.entry.id == over.id);
            index.and_then(|index| by(&state, on, index, &[], &equal))
        };
        match found.filter(|by| by.rest.is_empty()) {
            Some(by) => self.found_by(&by),
            None => Ok(None),
        }
    }

    /// The rows of the key, or of several. Blocks.
    fn found_by(&self, by: &ByIndex) -> Result<Option<Vec<RecordBatch>>> {
        let key: Vec<ArrayRef> = by.key.iter().map(|(_, value)| Arc::clone(value)).collect();
        // While it is filled it does not have all rows; after a failure it may be filled anew.
        let restarts = by.pipeline.metrics().restarts;
        let index = (by.kept.as_str(), by.incarnation);
        let Some(target) = &by.table else {
            if !by.pipeline.is_filled() {
                return Ok(None);
            }
            let (_, rows) = by.pipeline.lookup_as_of(index, key)?;
            let is_same_run = by.pipeline.metrics().restarts == restarts;
            return if is_same_run { shaped(&by.schema, rows).map(Some) } else { Ok(None) };
        };
        if !by.pipeline.wait_reached(0, || false)? {
            return Ok(None);
        }
        let (horizon, rows) = by.pipeline.lookup_as_of(index, key)?;
        if by.pipeline.metrics().restarts != restarts {
            return Ok(None);
        }
        let rows = shaped(&by.schema, rows)?;
        let snapshot = self.tables.snapshot()?;
        let over = snapshot.as_of(&target.table, horizon)?.filter(|over| over.len() <= MOST_CHANGES);
        let Some(over) = over else { return Ok(None) };
        if over.is_empty() {
            return Ok(Some(rows));
        }
        let keys: Vec<&[u8]> = over.keys().map(Vec::as_slice).collect();
        let now = snapshot.get(&target.table, &keys, &Overlay::new())?;
        let gone = by.of_table(target, &keys, over.values())?;
        let new = by.of_table(target, &keys, now.iter())?;
        Ok(Some(vec![less(&by.schema, &rows, &gone)?, new]))
    }
}

/// An index, as others see it.
pub(crate) struct IndexOver {
    /// Another one, of other columns, may have its name by now.
    id: u64,
    pub(crate) name: String,
    /// The columns of its key, by their places in the relation.
    pub(crate) key: Vec<usize>,
    /// Which of the relation's columns it has.
    pub(crate) has: Vec<bool>,
}

impl IndexOver {
    fn new(on: &Object, object: &Object, index: &CreateIndex) -> Option<Self> {
        let is_there = |field: &FieldRef| {
            let kept = object.schema.field_with_name(field.name());
            kept.is_ok_and(|kept| kept.data_type() == field.data_type())
        };
        let has: Vec<bool> = on.schema.fields().iter().map(is_there).collect();
        let key = index.columns.iter().map(|name| on.schema.index_of(&name.value).ok());
        let key: Vec<usize> = key.collect::<Option<_>>()?;
        let is_whole = key.iter().all(|at| has[*at]);
        is_whole.then(|| Self { id: object.entry.id, name: object.name().to_owned(), key, has })
    }
}

/// The indexes over a relation.
fn indexes<'a>(state: &'a State, on: &'a str) -> impl Iterator<Item = (&'a Object, &'a CreateIndex)> {
    state.objects.iter().filter_map(move |object| match &object.body {
        Body::Index(index) if index.on.value == on => Some((object, index)),
        _ => None,
    })
}

/// Whether columns are those by which a relation is looked up without an index.
fn is_own_key(state: &State, on: &Object, equal: &[(usize, ArrayRef)]) -> bool {
    let key = match &on.body {
        Body::Table(target) => target.table.spec().key.clone(),
        _ => {
            let running = on.entry.pipeline.as_ref().and_then(|pipeline| state.running.get(pipeline));
            running.and_then(|running| running.lookup_columns(on.kept()).ok().flatten()).unwrap_or_default()
        }
    };
    key.len() == equal.len() && key.iter().all(|at| equal.iter().any(|(known, _)| known == at))
}

/// How an index answers for columns of its relation, if it can.
fn by(
    state: &State,
    on: &Object,
    (object, index): (&Object, &CreateIndex),
    columns: &[(usize, String)],
    equal: &[(usize, ArrayRef)],
) -> Option<ByIndex> {
    let schema = &object.schema;
    // The place in the index of a column of the relation.
    let place = |at: usize| {
        let field = on.schema.field(at);
        let place = schema.index_of(field.name()).ok()?;
        (schema.field(place).data_type() == field.data_type()).then_some(place)
    };
    let columns = columns.iter().map(|(at, name)| Some((place(*at)?, name.clone()))).collect::<Option<_>>()?;
    let equal = equal.iter().map(|(at, value)| Some((place(*at)?, Arc::clone(value))));
    let mut rest: Vec<(usize, ArrayRef)> = equal.collect::<Option<_>>()?;
    let mut key = Vec::with_capacity(index.columns.len());
    for name in &index.columns {
        let wanted = schema.index_of(&name.value).ok()?;
        let at = rest.iter().position(|(at, _)| *at == wanted)?;
        key.push(rest.swap_remove(at));
    }
    let pipeline = object.entry.pipeline.as_ref().filter(|pipeline| !state.waiting.contains(*pipeline))?;
    Some(ByIndex {
        name: object.name().to_owned(),
        kept: object.kept().to_owned(),
        incarnation: object.entry.incarnation,
        on: on.name().to_owned(),
        schema: Arc::clone(schema),
        columns,
        key,
        rest,
        pipeline: state.running.get(pipeline)?.clone(),
        table: match &on.body {
            Body::Table(target) => Some(target.clone()),
            _ => None,
        },
    })
}

impl ByIndex {
    /// Whether a connection sees what the index gives: a transaction sees tables as they were, with what
    /// it has written. Instants in a zone other than UTC are for the long way.
    pub(crate) fn is_for(&self, connection: &Connection) -> bool {
        (self.table.is_none() || connection.transaction.is_none()) && connection.zone_for(&self.schema).is_none()
    }

    /// The lines of EXPLAIN.
    pub(crate) fn explained(&self) -> Vec<String> {
        let names = |columns: &[(usize, ArrayRef)]| {
            let names: Vec<&str> = columns.iter().map(|(at, _)| self.schema.field(*at).name().as_str()).collect();
            names.join(", ")
        };
        let then = if self.rest.is_empty() { String::new() } else { format!(", then {}", names(&self.rest)) };
        vec![format!("IndexScan: {} on {} by {}{then}", self.name, self.on, names(&self.key))]
    }

    /// The rows of the key among a table's rows, which are given by their keys and values.
    fn of_table<'a>(
        &self,
        target: &Target,
        keys: &[&[u8]],
        values: impl Iterator<Item = &'a Option<Vec<u8>>>,
    ) -> Result<RecordBatch> {
        let there = keys.iter().zip(values).filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = there.unzip();
        let rows = target.table.decode(&keys, &values)?;
        let places = self.schema.fields().iter().map(|field| target.schema().index_of(field.name()));
        let rows = rows.project(&places.collect::<std::result::Result<Vec<_>, _>>()?)?;
        let rows = concat_batches(&self.schema, &shaped(&self.schema, vec![rows])?)?;
        // Whoever asks for several keys looks at the rows again.
        let is_one = self.key.iter().all(|(_, value)| value.len() == 1);
        if is_one { with_equal(&rows, &self.key) } else { Ok(rows) }
    }
}

/// The rows of which columns are equal to values.
fn with_equal(rows: &RecordBatch, equal: &[(usize, ArrayRef)]) -> Result<RecordBatch> {
    let mut rows = rows.clone();
    for (at, value) in equal {
        let is_equal = eq(&one_form(rows.column(*at)), &Scalar::new(one_form(value)))?;
        rows = filter_record_batch(&rows, &is_equal)?;
    }
    Ok(rows)
}

/// Rows without some, each of which is taken away once.
fn less(schema: &SchemaRef, rows: &[RecordBatch], gone: &RecordBatch) -> Result<RecordBatch> {
    let all = concat_batches(schema, rows)?;
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let (every, gone) = (converter.convert_columns(all.columns())?, converter.convert_columns(gone.columns())?);
    let mut left: HashMap<Row<'_>, usize> = HashMap::new();
    for row in &gone {
        *left.entry(row).or_default() += 1;
    }
    let mut stays = Vec::with_capacity(every.num_rows());
    for row in &every {
        let gone = left.get_mut(&row).filter(|count| **count > 0);
        stays.push(gone.is_none());
        if let Some(count) = gone {
            *count -= 1;
        }
    }
    Ok(filter_record_batch(&all, &BooleanArray::from(stays))?)
}

/// Refuses an index that cannot be kept, or would not give what its relation gives.
pub(crate) fn check(state: &State, index: &CreateIndex) -> Result<()> {
    let on = show::find(state, &index.on)?;
    if !matches!(on.body, Body::Materialized(_) | Body::Table(_) | Body::Fed(_)) {
        let message = format!("{:?} is a {}, which has no index", index.on.value, on.entry.kind);
        return Err(invalid("42809", message, Some(&index.on)));
    }
    let unsupported = |clause: String, hint: &str, name: &Name| -> Error {
        SqlError::Unsupported { clause, hint: hint.to_owned(), position: Some(name.at) }.into()
    };
    if on.watermark.is_some() {
        let hint = "the table has late rows, which views over it leave out";
        return Err(unsupported("an index on a table with a WATERMARK".to_owned(), hint, &index.on));
    }
    let mut seen = BTreeSet::new();
    for name in index.columns.iter().chain(&index.included) {
        if on.schema.index_of(&name.value).is_err() {
            let (kind, column) = (Kind::Column, name.value.clone());
            return Err(SqlError::Unknown { kind, name: column, position: Some(name.at) }.into());
        }
        if !seen.insert(&name.value) {
            return Err(invalid("42701", format!("column {:?} is given more than once", name.value), Some(name)));
        }
    }
    for name in &index.columns {
        let data_type = on.schema.field(on.schema.index_of(&name.value)?).data_type();
        if data_type.is_floating() || data_type.is_nested() {
            let clause = format!("an index by a column of type {}", pg_name(data_type));
            return Err(unsupported(clause, "its values are seldom equal", name));
        }
    }
    Ok(())
}

/// SHOW INDEXES.
pub(crate) fn shown(database: &Database, on: Option<&Name>) -> Result<Rows> {
    let state = database.state();
    if let Some(on) = on {
        show::find(&state, on)?;
    }
    let joined = |names: Vec<&str>| names.join(", ");
    let line = |object: &Object| {
        let Body::Index(index) = &object.body else { return None };
        let key: Vec<&str> = index.columns.iter().map(|name| name.value.as_str()).collect();
        let others = object.schema.fields().iter().map(|field| field.name().as_str());
        let others: Vec<&str> = others.filter(|name| !key.contains(name)).collect();
        let is_wanted = on.is_none_or(|on| on.value == index.on.value);
        is_wanted.then(|| [object.name().to_owned(), index.on.value.clone(), joined(key), joined(others)])
    };
    let mut lines: Vec<[String; 4]> = state.objects.iter().filter_map(line).collect();
    lines.sort();
    let column = |at: usize| texts(lines.iter().map(|line| line[at].clone()));
    Ok(Rows::of(vec![("name", column(0)), ("on", column(1)), ("key", column(2)), ("include", column(3))]))
}
