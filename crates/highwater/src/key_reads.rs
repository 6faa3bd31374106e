//! Many reads of one row each, at once: a SELECT that gives a parameter to each column of a key is taken apart
//! when it is prepared, and answered for as many values of its parameters as have come, without looking at its
//! text again.
//!
//! Whatever is more than that, or is not as it was when the statement was taken apart, is for the way of all
//! statements, which also tells what is wrong. Invariant: what is given here is what that way gives.

use crate::connection::{Connection, TransactionState};
use crate::database::Database;
use crate::point::{conjunction, folded, plain_select, projected};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, Value};
use highwater_sql::statement::Statement;
use std::sync::Arc;

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
}

impl Database {
    /// Takes a statement apart; none when it is not of this kind, or what it reads cannot be read by its key now.
    #[must_use]
    pub fn key_read(&self, statement: &Statement) -> Option<KeyRead> {
        let Statement::Query(query) = statement else { return None };
        let (select, table, alias) = plain_select(&query.ast)?;
        let names = [alias.unwrap_or(table)];
        let relation = folded(table);
        let (schema, key) = match self.point_target(&relation) {
            Some(target) => (Arc::clone(target.schema()), target.table.spec().key.clone()),
            None => {
                let view = self.keyed_view(&relation)?;
                (view.schema, view.key)
            }
        };
        let columns = projected(select, &schema, names[0])?.into_iter().map(|(at, _)| at).collect();
        let mut equal = Vec::new();
        if !conjunction(select.selection.as_ref()?, &schema, &names, &mut equal) || equal.len() != key.len() {
            return None;
        }
        let parameter = |at: &usize| {
            let (_, expr) = equal.iter().find(|(column, _)| column == at)?;
            place(expr).filter(|_| is_taken(schema.field(*at).data_type()))
        };
        let parameters = key.iter().map(parameter).collect::<Option<_>>()?;
        Some(KeyRead { relation, schema, key, parameters, columns })
    }

    /// The rows of some reads, all as of one moment: one array a column of [`KeyRead::key`], of its type and
    /// without nulls, and one entry a read. None when they are for the way of all statements. `text` is what the
    /// statement was parsed from.
    pub async fn read_keys(
        &self,
        connection: &mut Connection,
        read: &KeyRead,
        text: &str,
        keys: Vec<ArrayRef>,
    ) -> Option<KeyRows> {
        if connection.transaction_state() != TransactionState::Idle || connection.zone_for(&read.schema).is_some() {
            return None;
        }
        connection.begin_statement();
        connection.works_on(text);
        let rows = match self.point_target(&read.relation) {
            Some(target) if is_same(target.schema(), &read.schema) && target.table.spec().key == read.key => {
                let keys = target.table.keys(&keys).ok()?;
                let keys: Vec<&[u8]> = keys.iter().flatten().collect();
                let values = self.tables.get(&target.table, &keys).ok()?;
                let found = keys.iter().zip(&values).filter_map(|(key, value)| Some((*key, value.as_deref()?)));
                let (keys, found): (Vec<&[u8]>, Vec<&[u8]>) = found.unzip();
                let ends = values.iter().scan(0, |end, value| {
                    *end += usize::from(value.is_some());
                    Some(*end)
                });
                KeyRows { ends: ends.collect(), rows: target.table.decode(&keys, &found).ok()? }
            }
            Some(_) => return None,
            None => {
                let view = self.keyed_view(&read.relation)?;
                if !is_same(&view.schema, &read.schema) || view.key != read.key {
                    return None;
                }
                self.look_up(view, keys).await?
            }
        };
        Some(KeyRows { rows: rows.rows.project(&read.columns).ok()?, ..rows })
    }
}

fn is_same(one: &SchemaRef, other: &SchemaRef) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Types of keys whose values are equal only to themselves.
const fn is_taken(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Utf8)
}

/// The place of the parameter that an expression is, from 0.
fn place(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}
