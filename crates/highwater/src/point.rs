//! The short way of statements that name one row by its whole key: `SELECT columns FROM t WHERE key =
//! value`, `UPDATE t SET column = value WHERE ...` and `DELETE FROM t WHERE ...`. The key is a table's
//! primary key, or the columns by which a materialized view is grouped; other columns may have an index
//! ([`crate::index`]).
//!
//! They are recognised by their form and answered without a plan. Whatever is more than that, or
//! does not fit the types, takes the long way, which also tells what is wrong with it; so does what
//! has instants in a session whose zone is not UTC.

use crate::connection::Connection;
use crate::database::Database;
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::values::{exact_value, value};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, ObjectNamePart, Query as Ast, Select, SelectItem, SetExpr, TableFactor,
};
use highwater_sql::statement::{Delete, Query, Update};
use highwater_tables::Change;
use std::sync::Arc;

/// One row of a table.
struct Found {
    key: Vec<u8>,
    value: Vec<u8>,
    row: RecordBatch,
}

impl Database {
    /// The rows of a SELECT that names a row by its key, or some rows by an index; none when it does not.
    pub(crate) fn point_select(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Option<Rows>> {
        let by_key = self.key_select(connection, query, parameters)?;
        if by_key.is_some() {
            return Ok(by_key);
        }
        self.index_for(query, parameters).map_or(Ok(None), |by| self.indexed(connection, &by))
    }

    /// The rows of a SELECT of this form; none when it is not of this form.
    fn key_select(&self, connection: &mut Connection, query: &Query, parameters: &Parameters) -> Result<Option<Rows>> {
        let Some((select, table, alias)) = plain_select(&query.ast) else { return Ok(None) };
        let names = [alias.unwrap_or(table)];
        let name = folded(table);
        if let Some(target) = self.point_target(&name) {
            if connection.zone_for(target.schema()).is_some() {
                return Ok(None);
            }
            let Some(columns) = projected(select, target.schema(), names[0]) else { return Ok(None) };
            let found = self.found(connection, &target, select.selection.as_ref(), &names, parameters)?;
            let Some(found) = found else { return Ok(None) };
            let rows = found.into_iter().map(|found| found.row).collect();
            return Ok(Some(picked(target.schema(), &columns, rows)?));
        }
        let Some(view) = self.keyed_view(&name) else { return Ok(None) };
        if connection.zone_for(&view.schema).is_some() {
            return Ok(None);
        }
        let Some(columns) = projected(select, &view.schema, names[0]) else { return Ok(None) };
        let key = key_of(select.selection.as_ref(), &view.schema, &view.key, &names, parameters);
        let Some(key) = key else { return Ok(None) };
        let rows = match tokio::task::block_in_place(|| view.lookup(key)) {
            // It stopped a moment ago: the long way reads its checkpoint.
            Err(Error::Engine(highwater_engine::Error::NotRunning { .. })) => return Ok(None),
            rows => rows?,
        };
        Ok(Some(picked(&view.schema, &columns, rows)?))
    }

    /// What an UPDATE of this form changes, and the new row; none when it is not of this form.
    pub(crate) fn point_update(
        &self,
        connection: &mut Connection,
        target: &Target,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<Option<(Vec<Change>, Vec<RecordBatch>)>> {
        if !update.joined.is_empty() || !target.generated.is_empty() || connection.zone_for(target.schema()).is_some() {
            return Ok(None);
        }
        let mut assigned: Vec<(usize, ArrayRef)> = Vec::with_capacity(update.assignments.len());
        for (name, expr) in &update.assignments {
            let Ok(at) = target.schema().index_of(&name.value) else { return Ok(None) };
            if target.table.spec().key.contains(&at) {
                return Ok(None);
            }
            let Some(array) = value(expr, target.schema().field(at).data_type(), parameters) else { return Ok(None) };
            assigned.push((at, array));
        }
        let name = Ident::with_quote('"', update.alias.as_ref().unwrap_or(&update.table).value.clone());
        let Some(found) = self.found(connection, target, update.selection.as_ref(), &[&name], parameters)? else {
            return Ok(None);
        };
        let Some(Found { key, value: old, row }) = found else { return Ok(Some((Vec::new(), Vec::new()))) };
        let mut columns = row.columns().to_vec();
        for (at, array) in assigned {
            columns[at] = array;
        }
        let new = target.computed(RecordBatch::try_new(Arc::clone(target.schema()), columns)?)?;
        target.check_nulls(&new)?;
        let (_, values) = target.table.encode(&new)?;
        let change = Change { key, old: Some(old), new: Some(values.value(0).to_vec()) };
        Ok(Some((vec![change], vec![new])))
    }

    /// What a DELETE of this form changes, and the old row; none when it is not of this form.
    pub(crate) fn point_delete(
        &self,
        connection: &mut Connection,
        target: &Target,
        delete: &Delete,
        parameters: &Parameters,
    ) -> Result<Option<(Vec<Change>, Vec<RecordBatch>)>> {
        if !delete.joined.is_empty() || connection.zone_for(target.schema()).is_some() {
            return Ok(None);
        }
        let name = Ident::with_quote('"', delete.alias.as_ref().unwrap_or(&delete.table).value.clone());
        let Some(found) = self.found(connection, target, delete.selection.as_ref(), &[&name], parameters)? else {
            return Ok(None);
        };
        let Some(Found { key, value, row }) = found else { return Ok(Some((Vec::new(), Vec::new()))) };
        Ok(Some((vec![Change { key, old: Some(value), new: None }], vec![row])))
    }

    pub(crate) fn point_target(&self, name: &str) -> Option<Target> {
        self.targets.get(name).filter(|target| target.table.has_key())
    }

    /// The row that a condition names by its key, if it is there; none at all when the condition is
    /// another one.
    #[expect(clippy::option_option, reason = "a condition of another form is not a row that is missing")]
    fn found(
        &self,
        connection: &mut Connection,
        target: &Target,
        condition: Option<&Expr>,
        names: &[&Ident],
        parameters: &Parameters,
    ) -> Result<Option<Option<Found>>> {
        let arrays = key_of(condition, target.schema(), &target.table.spec().key, names, parameters);
        let Some(arrays) = arrays else { return Ok(None) };
        let keys = target.table.keys(&arrays)?;
        let snapshot = connection.snapshot(&self.tables)?;
        let over = connection.overlay(&target.table);
        let mut values = snapshot.get(&target.table, &[keys.value(0)], &over)?;
        let Some(value) = values.pop().flatten() else { return Ok(Some(None)) };
        let row = target.table.decode(&[keys.value(0)], &[&value])?;
        Ok(Some(Some(Found { key: keys.value(0).to_vec(), value, row })))
    }
}

/// The values that a condition gives to the columns of a key, if it is nothing but their equalities.
fn key_of(
    condition: Option<&Expr>,
    schema: &SchemaRef,
    key: &[usize],
    names: &[&Ident],
    parameters: &Parameters,
) -> Option<Vec<ArrayRef>> {
    let mut equal: Vec<(usize, &Expr)> = Vec::new();
    let is_key = conjunction(condition?, schema, names, &mut equal);
    if !is_key || equal.len() != key.len() {
        return None;
    }
    let value_of = |at: &usize| {
        let (_, expr) = equal.iter().find(|(column, _)| column == at)?;
        exact_value(expr, schema.field(*at).data_type(), parameters).filter(|array| array.null_count() == 0)
    };
    key.iter().map(value_of).collect()
}

/// Columns of rows, under the names that they get.
pub(crate) fn picked(schema: &SchemaRef, columns: &[(usize, String)], rows: Vec<RecordBatch>) -> Result<Rows> {
    let field = |(at, name): &(usize, String)| Field::new(name, schema.field(*at).data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let pick = |row: RecordBatch| {
        let arrays = columns.iter().map(|(at, _)| Arc::clone(row.column(*at))).collect();
        RecordBatch::try_new(Arc::clone(&schema), arrays)
    };
    let batches = rows.into_iter().map(pick).collect::<Result<_, _>>()?;
    Ok(Rows { schema, batches })
}

/// A SELECT from one table with nothing but columns and a condition.
pub(crate) fn plain_select(ast: &Ast) -> Option<(&Select, &Ident, Option<&Ident>)> {
    let is_plain = ast.with.is_none()
        && ast.order_by.is_none()
        && ast.limit_clause.is_none()
        && ast.fetch.is_none()
        && ast.locks.is_empty();
    let SetExpr::Select(select) = ast.body.as_ref() else { return None };
    let groups = matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
    let is_plain = is_plain
        && groups
        && select.distinct.is_none()
        && select.top.is_none()
        && select.into.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.named_window.is_empty()
        && select.lateral_views.is_empty();
    let [from] = select.from.as_slice() else { return None };
    match &from.relation {
        TableFactor::Table { name, alias, args: None, version: None, sample: None, with_hints, .. }
            if is_plain && from.joins.is_empty() && with_hints.is_empty() =>
        {
            let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else { return None };
            let alias = alias.as_ref();
            if alias.is_some_and(|alias| !alias.columns.is_empty()) {
                return None;
            }
            Some((select, table, alias.map(|alias| &alias.name)))
        }
        _ => None,
    }
}

/// The columns that are selected, with the names they get.
pub(crate) fn projected(select: &Select, schema: &SchemaRef, table: &Ident) -> Option<Vec<(usize, String)>> {
    let mut columns = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(options) if *options == Default::default() => {
                let fields = schema.fields().iter().enumerate();
                columns.extend(fields.map(|(at, field)| (at, field.name().clone())));
            }
            SelectItem::UnnamedExpr(expr) => {
                let at = column(expr, schema, &[table])?;
                columns.push((at, schema.field(at).name().clone()));
            }
            SelectItem::ExprWithAlias { expr, alias } => columns.push((column(expr, schema, &[table])?, folded(alias))),
            _ => return None,
        }
    }
    Some(columns)
}

/// The place of a column that an expression is, if it is one.
fn column(expr: &Expr, schema: &SchemaRef, names: &[&Ident]) -> Option<usize> {
    let name = match expr {
        Expr::Identifier(name) => name,
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if names.iter().any(|known| folded(known) == folded(of)) => name,
            _ => return None,
        },
        _ => return None,
    };
    schema.index_of(&folded(name)).ok()
}

/// Takes a condition apart that is equalities of columns and values, with AND between them.
pub(crate) fn conjunction<'a>(
    expr: &'a Expr,
    schema: &SchemaRef,
    names: &[&Ident],
    equal: &mut Vec<(usize, &'a Expr)>,
) -> bool {
    match expr {
        Expr::Nested(inner) => conjunction(inner, schema, names, equal),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjunction(left, schema, names, equal) && conjunction(right, schema, names, equal)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let found = column(left, schema, names).map(|at| (at, right.as_ref()));
            match found.or_else(|| column(right, schema, names).map(|at| (at, left.as_ref()))) {
                Some((at, _)) if equal.iter().any(|(other, _)| *other == at) => false,
                Some(found) => {
                    equal.push(found);
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

pub(crate) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
