//! Many reads of one row each, at once: a SELECT that gives a parameter to each column of a key is taken apart
//! when it is prepared, and answered for as many values of its parameters as have come, without looking at its
//! text again.
//!
//! Whatever is more than that, or is not as it was when the statement was taken apart, is for the way of all
//! statements, which also tells what is wrong. Invariant: what is given here is what that way gives.

use crate::connection::{Connection, TransactionState};
use crate::database::Database;
use crate::dml::Target;
use crate::point::{conjunction, folded, is_told_apart, plain_select, projected, uncast};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, Value};
use highwater_sql::statement::Statement;
use std::sync::Arc;

/// Keys that are read from a table at once.
const STEP: usize = 32;
/// With so many bytes no further step is taken.
const ENOUGH: usize = 1 << 20;
/// With more bytes than this the rows are read one by one: a batch has no place for them.
const TOO_MUCH: usize = 1 << 30;

/// How a statement reads.
#[derive(Clone, Debug, Default)]
pub enum ReadForm {
    /// That cannot be told now: what it reads does not run, or is not there.
    #[default]
    Unknown,
    /// By a key.
    ByKey(Arc<KeyRead>),
    /// In another way.
    Otherwise,
}

/// A SELECT that names rows by a key, each of whose columns is equal to a parameter.
#[derive(Clone, Debug)]
pub struct KeyRead {
    relation: String,
    /// The relation's columns, as it was taken apart for them.
    schema: SchemaRef,
    /// The columns of the key, in its order.
    key: Vec<usize>,
    /// The parameters' places, one a column of the key.
    parameters: Vec<usize>,
    /// The columns that it selects, by their places.
    columns: Vec<usize>,
    /// It has an ORDER BY or a LIMIT, which say nothing of one row.
    is_cut: bool,
}

/// The rows of several reads.
#[derive(Clone, Debug)]
pub struct KeyRows {
    /// The selected columns, under the relation's names for them: the rows of the first read, of the second, and
    /// so on.
    pub rows: RecordBatch,
    /// Where the rows of each read end.
    pub ends: Vec<usize>,
}

impl KeyRead {
    /// The columns of the key: which parameter each is equal to, from 0, and its type, which is one of whole
    /// numbers or texts.
    pub fn key(&self) -> impl Iterator<Item = (usize, &DataType)> {
        self.parameters.iter().zip(&self.key).map(|(parameter, at)| (*parameter, self.schema.field(*at).data_type()))
    }

    /// The types of the columns that it selects.
    pub fn types(&self) -> impl Iterator<Item = &DataType> {
        self.columns.iter().map(|at| self.schema.field(*at).data_type())
    }

    /// Whether a connection reads in this way now: a transaction sees what it has written, and instants are shown
    /// in the session's zone.
    #[must_use]
    pub fn is_for(&self, connection: &Connection) -> bool {
        connection.transaction_state() == TransactionState::Idle && connection.zone_for(&self.schema).is_none()
    }

    fn is_of(&self, schema: &SchemaRef, key: &[usize]) -> bool {
        (Arc::ptr_eq(schema, &self.schema) || *schema == self.schema) && self.key == key
    }
}

impl Database {
    /// Takes a statement apart.
    #[must_use]
    pub fn read_form(&self, statement: &Statement) -> ReadForm {
        let Statement::Query(query) = statement else { return ReadForm::Otherwise };
        let Some(plain) = plain_select(&query.ast) else { return ReadForm::Otherwise };
        let relation = folded(plain.table);
        let (schema, key) = match self.point_target(&relation) {
            Some(target) => (Arc::clone(target.schema()), target.table.spec().key.clone()),
            None => match self.keyed_view(&relation) {
                Some(view) => (view.schema, view.key),
                None => return ReadForm::Unknown,
            },
        };
        let names = [plain.name];
        let mut equal = Vec::new();
        let is_key = plain.select.selection.as_ref().is_some_and(|all| conjunction(all, &schema, &names, &mut equal));
        let parameter = |at: &usize| {
            let (_, expr) = equal.iter().find(|(column, _)| column == at)?;
            let data_type = schema.field(*at).data_type();
            place(uncast(expr, data_type)).filter(|_| is_told_apart(data_type))
        };
        let parameters: Option<Vec<usize>> = key.iter().map(parameter).collect();
        let columns = projected(&plain, &schema).filter(|columns| !columns.is_empty());
        match (parameters, columns) {
            (Some(parameters), Some(columns)) if is_key && equal.len() == key.len() => {
                let columns = columns.into_iter().map(|(at, _)| at).collect();
                let is_cut = !plain.is_all();
                ReadForm::ByKey(Arc::new(KeyRead { relation, schema, key, parameters, columns, is_cut }))
            }
            _ => ReadForm::Otherwise,
        }
    }

    /// The rows of some reads, or of the first of them when there is much in these: one array a column of
    /// [`KeyRead::key`], of its type and without nulls, and one entry a read. None when they are for the way of all
    /// statements. `text` is what the statement was parsed from.
    pub async fn read_keys(
        &self,
        connection: &mut Connection,
        read: &KeyRead,
        text: &str,
        keys: Vec<ArrayRef>,
    ) -> Option<KeyRows> {
        if !read.is_for(connection) {
            return None;
        }
        connection.begin_statement();
        connection.works_on(text);
        let rows = match self.point_target(&read.relation) {
            Some(target) if read.is_of(target.schema(), &target.table.spec().key) => self.stored(&target, &keys)?,
            Some(_) => return None,
            None => {
                let view = self.keyed_view(&read.relation).filter(|view| read.is_of(&view.schema, &view.key))?;
                // Another one may be served under its name by now.
                self.look_up(view, keys).await.filter(|rows| read.is_of(&rows.rows.schema(), &read.key))?
            }
        };
        if read.is_cut && !are_single(&rows.ends) {
            return None;
        }
        Some(KeyRows { rows: rows.rows.project(&read.columns).ok()?, ..rows })
    }

    /// The rows of a table.
    fn stored(&self, target: &Target, keys: &[ArrayRef]) -> Option<KeyRows> {
        let keys = target.table.keys(keys).ok()?;
        let keys: Vec<&[u8]> = keys.iter().flatten().collect();
        let mut values = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for step in keys.chunks(STEP) {
            let read = self.tables.get(&target.table, step).ok()?;
            bytes += read.iter().flatten().map(Vec::len).sum::<usize>();
            values.extend(read);
            if bytes > TOO_MUCH {
                return None;
            }
            if bytes > ENOUGH {
                break;
            }
        }
        let found = keys.iter().zip(&values).filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        let (keys, found): (Vec<&[u8]>, Vec<&[u8]>) = found.unzip();
        let ends = values.iter().scan(0, |end, value| {
            *end += usize::from(value.is_some());
            Some(*end)
        });
        Some(KeyRows { ends: ends.collect(), rows: target.table.decode(&keys, &found).ok()? })
    }
}

/// Whether no read has several rows, of which these are the ends.
fn are_single(ends: &[usize]) -> bool {
    let begins = std::iter::once(&0).chain(ends);
    begins.zip(ends).all(|(begin, end)| end - begin <= 1)
}

/// The place of the parameter that an expression is, from 0.
fn place(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}
