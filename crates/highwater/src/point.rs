//! The short way of statements that name one row by its whole primary key: `SELECT columns FROM t
//! WHERE key = value`, `UPDATE t SET column = value WHERE ...` and `DELETE FROM t WHERE ...`.
//!
//! They are recognised by their form and answered without a plan. Whatever is more than that, or
//! does not fit the types, takes the long way, which also tells what is wrong with it.

use crate::connection::Connection;
use crate::database::Database;
use crate::dml::Target;
use crate::error::Result;
use crate::objects::Body;
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::values::value;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
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
    /// The rows of a SELECT of this form; none when it is not of this form.
    pub(crate) fn point_select(
        &self,
        connection: &mut Connection,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Option<Rows>> {
        let Some((select, table, alias)) = plain_select(&query.ast) else { return Ok(None) };
        let Some(target) = self.point_target(&folded(table)) else { return Ok(None) };
        let Some(columns) = projected(select, &target, alias.unwrap_or(table)) else { return Ok(None) };
        let names = [alias.unwrap_or(table)];
        let Some(found) = self.found(connection, &target, select.selection.as_ref(), &names, parameters)? else {
            return Ok(None);
        };
        let fields: Vec<Field> = columns
            .iter()
            .map(|(at, name)| Field::new(name, target.schema().field(*at).data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let batches = match found {
            None => Vec::new(),
            Some(found) => {
                let arrays = columns.iter().map(|(at, _)| Arc::clone(found.row.column(*at))).collect();
                vec![RecordBatch::try_new(Arc::clone(&schema), arrays)?]
            }
        };
        Ok(Some(Rows { schema, batches }))
    }

    /// What an UPDATE of this form changes, and the new row; none when it is not of this form.
    pub(crate) fn point_update(
        &self,
        connection: &mut Connection,
        target: &Target,
        update: &Update,
        parameters: &Parameters,
    ) -> Result<Option<(Vec<Change>, Vec<RecordBatch>)>> {
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
        let new = RecordBatch::try_new(Arc::clone(target.schema()), columns)?;
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
        let name = Ident::with_quote('"', delete.alias.as_ref().unwrap_or(&delete.table).value.clone());
        let Some(found) = self.found(connection, target, delete.selection.as_ref(), &[&name], parameters)? else {
            return Ok(None);
        };
        let Some(Found { key, value, row }) = found else { return Ok(Some((Vec::new(), Vec::new()))) };
        Ok(Some((vec![Change { key, old: Some(value), new: None }], vec![row])))
    }

    fn point_target(&self, name: &str) -> Option<Target> {
        let state = self.state();
        match &state.objects.get(name)?.body {
            Body::Table(target) if target.table.has_key() => Some(target.clone()),
            _ => None,
        }
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
        let mut equal: Vec<(usize, &Expr)> = Vec::new();
        let is_key = condition.is_some_and(|condition| conjunction(condition, target, names, &mut equal));
        let key = &target.table.spec().key;
        if !is_key || equal.len() != key.len() {
            return Ok(None);
        }
        let mut arrays = Vec::with_capacity(key.len());
        for at in key {
            let Some((_, expr)) = equal.iter().find(|(column, _)| column == at) else { return Ok(None) };
            let array = value(expr, target.schema().field(*at).data_type(), parameters);
            let Some(array) = array.filter(|array| array.null_count() == 0) else { return Ok(None) };
            arrays.push(array);
        }
        let keys = target.table.keys(&arrays)?;
        let snapshot = connection.snapshot(&self.tables)?;
        let over = connection.overlay(&target.table);
        let mut values = snapshot.get(&target.table, &[keys.value(0)], &over)?;
        let Some(value) = values.pop().flatten() else { return Ok(Some(None)) };
        let row = target.table.decode(&[keys.value(0)], &[&value])?;
        Ok(Some(Some(Found { key: keys.value(0).to_vec(), value, row })))
    }
}

/// A SELECT from one table with nothing but columns and a condition.
fn plain_select(ast: &Ast) -> Option<(&Select, &Ident, Option<&Ident>)> {
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
fn projected(select: &Select, target: &Target, table: &Ident) -> Option<Vec<(usize, String)>> {
    let mut columns = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(options) if *options == Default::default() => {
                let fields = target.schema().fields().iter().enumerate();
                columns.extend(fields.map(|(at, field)| (at, field.name().clone())));
            }
            SelectItem::UnnamedExpr(expr) => {
                let at = column(expr, target, &[table])?;
                columns.push((at, target.schema().field(at).name().clone()));
            }
            SelectItem::ExprWithAlias { expr, alias } => columns.push((column(expr, target, &[table])?, folded(alias))),
            _ => return None,
        }
    }
    Some(columns)
}

/// The place of a column that an expression is, if it is one.
fn column(expr: &Expr, target: &Target, names: &[&Ident]) -> Option<usize> {
    let name = match expr {
        Expr::Identifier(name) => name,
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if names.iter().any(|known| folded(known) == folded(of)) => name,
            _ => return None,
        },
        _ => return None,
    };
    target.schema().index_of(&folded(name)).ok()
}

/// Takes a condition apart that is equalities of columns and values, with AND between them.
fn conjunction<'a>(expr: &'a Expr, target: &Target, names: &[&Ident], equal: &mut Vec<(usize, &'a Expr)>) -> bool {
    match expr {
        Expr::Nested(inner) => conjunction(inner, target, names, equal),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjunction(left, target, names, equal) && conjunction(right, target, names, equal)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let found = column(left, target, names).map(|at| (at, right.as_ref()));
            match found.or_else(|| column(right, target, names).map(|at| (at, left.as_ref()))) {
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

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
