//! The short way of statements that name one row by its whole key: `SELECT columns FROM t WHERE key =
//! value`, `UPDATE t SET column = value WHERE ...` and `DELETE FROM t WHERE ...`. The key is a table's
//! primary key, or the columns by which a materialized view is grouped; other columns may have an index
//! ([`crate::index`]).
//!
//! They are recognised by their form and answered without a plan. Whatever is more than that, or
//! does not fit the types, takes the long way, which also tells what is wrong with it; so does what
//! has instants in a session whose zone is not UTC. A query's long way looks rows up too where it can
//! ([`crate::narrowed`]).

use crate::connection::Connection;
use crate::database::Database;
use crate::dml::Target;
use crate::error::Result;
use crate::listed::listed;
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::values::{exact_value, value};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, Expr, Fetch, GroupByExpr, Ident, LimitClause, ObjectName,
    ObjectNamePart, OrderByExpr, OrderByKind, Query as Ast, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableFactor, Value,
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
        let Some(plain) = plain_select(&query.ast) else { return Ok(None) };
        let (names, condition) = ([plain.name], plain.select.selection.as_ref());
        let name = folded(plain.table);
        if let Some(target) = self.point_target(&name) {
            if connection.zone_for(target.schema()).is_some() {
                return Ok(None);
            }
            let Some(columns) = projected(&plain, target.schema()) else { return Ok(None) };
            let rows = match listed(condition, target.schema(), &target.table.spec().key, &names, parameters) {
                Some(keys) => self.found_among(connection, &target, keys)?,
                None => match self.found(connection, &target, condition, &names, parameters)? {
                    Some(found) => found.into_iter().map(|found| found.row).collect(),
                    None => return Ok(None),
                },
            };
            let Some(rows) = plain.first(rows) else { return Ok(None) };
            return Ok(Some(picked(target.schema(), &columns, rows)?));
        }
        let Some(view) = self.keyed_view(&name) else { return Ok(None) };
        if connection.zone_for(&view.schema).is_some() {
            return Ok(None);
        }
        let Some(columns) = projected(&plain, &view.schema) else { return Ok(None) };
        let key = listed(condition, &view.schema, &view.key, &names, parameters).map(|keys| vec![keys]);
        let key = key.or_else(|| key_of(condition, &view.schema, &view.key, &names, parameters));
        let Some(key) = key else { return Ok(None) };
        if key.iter().any(|values| values.is_empty()) {
            return Ok(Some(picked(&view.schema, &columns, Vec::new())?));
        }
        let rows = match tokio::task::block_in_place(|| view.lookup(key)) {
            // The long way reads a checkpoint of what does not run.
            Err(error) if error.is_of_look_up() => return Ok(None),
            rows => rows?,
        };
        let Some(rows) = plain.first(rows) else { return Ok(None) };
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

    /// The rows of a table that have keys of one column among these.
    fn found_among(&self, connection: &mut Connection, target: &Target, keys: ArrayRef) -> Result<Vec<RecordBatch>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = target.table.keys(&[keys])?;
        let keys: Vec<&[u8]> = keys.iter().flatten().collect();
        let snapshot = connection.snapshot(&self.tables)?;
        let over = connection.overlay(&target.table);
        let values = snapshot.get(&target.table, &keys, &over)?;
        let found = keys.iter().zip(&values).filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = found.unzip();
        Ok(vec![target.table.decode(&keys, &values)?])
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
        let data_type = schema.field(*at).data_type();
        exact_value(uncast(expr, data_type), data_type, parameters).filter(|array| array.null_count() == 0)
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

/// A SELECT from one table with nothing but columns and a condition, and what it gives of the rows that are found.
pub(crate) struct Plain<'a> {
    pub(crate) select: &'a Select,
    pub(crate) table: &'a Ident,
    /// What columns are qualified by.
    pub(crate) name: &'a Ident,
    most: usize,
    order: &'a [OrderByExpr],
}

impl Plain<'_> {
    /// The rows that it gives of those that are found; none when these are to be put in order first.
    pub(crate) fn first(&self, rows: Vec<RecordBatch>) -> Option<Vec<RecordBatch>> {
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        if count > 1 && !self.order.is_empty() {
            return None;
        }
        let mut left = self.most;
        let first = |rows: RecordBatch| {
            let taken = rows.num_rows().min(left);
            left -= taken;
            rows.slice(0, taken)
        };
        Some(if count <= self.most { rows } else { rows.into_iter().map(first).collect() })
    }

    /// Whether it gives all rows that are found, in any order.
    pub(crate) const fn is_all(&self) -> bool {
        self.most == usize::MAX && self.order.is_empty()
    }
}

/// A SELECT of this form; none for others.
pub(crate) fn plain_select(ast: &Ast) -> Option<Plain<'_>> {
    let order: &[OrderByExpr] = match &ast.order_by {
        None => &[],
        Some(by) => match &by.kind {
            OrderByKind::Expressions(order) if by.interpolate.is_none() => order.as_slice(),
            _ => return None,
        },
    };
    let most = most(ast)?;
    let is_plain = ast.with.is_none() && ast.locks.is_empty();
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
            let table = relation(name)?;
            let alias = alias.as_ref();
            if alias.is_some_and(|alias| !alias.columns.is_empty()) {
                return None;
            }
            let name = alias.map_or(table, |alias| &alias.name);
            Some(Plain { select: select.as_ref(), table, name, most, order })
        }
        _ => None,
    }
}

/// How many rows LIMIT or FETCH FIRST leave, if they say it by a number, and leave some.
fn most(ast: &Ast) -> Option<usize> {
    let count = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => {
                let count = text.parse::<i64>().ok().and_then(|count| usize::try_from(count).ok());
                count.filter(|count| *count > 0)
            }
            _ => None,
        },
        _ => None,
    };
    match (&ast.limit_clause, &ast.fetch) {
        (None, None) => Some(usize::MAX),
        (Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }), None)
            if limit_by.is_empty() =>
        {
            count(limit)
        }
        (None, Some(Fetch { with_ties: false, percent: false, quantity })) => quantity.as_ref().map_or(Some(1), count),
        _ => None,
    }
}

/// A relation's name, which may stand behind that of the one schema.
fn relation(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(table)] => Some(table),
        [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)] if folded(schema) == "public" => {
            Some(table)
        }
        _ => None,
    }
}

/// The columns that are selected, with the names they get; none when something else is, or the rows are ordered by
/// something else.
pub(crate) fn projected(plain: &Plain<'_>, schema: &SchemaRef) -> Option<Vec<(usize, String)>> {
    let table = plain.name;
    let is_column = |key: &OrderByExpr| key.with_fill.is_none() && column(&key.expr, schema, &[table]).is_some();
    if !plain.order.iter().all(is_column) {
        return None;
    }
    let mut columns = Vec::new();
    let all = || schema.fields().iter().enumerate().map(|(at, field)| (at, field.name().clone()));
    for item in &plain.select.projection {
        match item {
            SelectItem::Wildcard(options) if *options == Default::default() => columns.extend(all()),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(of), options)
                if *options == Default::default() =>
            {
                let [ObjectNamePart::Identifier(of)] = of.0.as_slice() else { return None };
                if folded(of) != folded(table) {
                    return None;
                }
                columns.extend(all());
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

/// What stands in parentheses and below casts to a column's own type, where such a cast leaves all values as they are
/// that the column is compared with here.
pub(crate) fn uncast<'a>(expr: &'a Expr, data_type: &DataType) -> &'a Expr {
    match expr {
        Expr::Nested(inner) => uncast(inner, data_type),
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type: into, array, format }
            if !array && format.is_none() && is_same(into, data_type) =>
        {
            let inner = uncast(inner, data_type);
            // A number's text is not what was written.
            if *data_type != DataType::Utf8 || is_text(inner) { inner } else { expr }
        }
        _ => expr,
    }
}

/// Types of keys whose values are equal only to themselves.
pub(crate) const fn is_told_apart(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Utf8)
}

/// Whether an expression is a text or a parameter.
pub(crate) const fn is_text(expr: &Expr) -> bool {
    let Expr::Value(value) = expr else { return false };
    matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::Placeholder(_))
}

/// Whether a type as it is written is a column's.
pub(crate) const fn is_same(written: &SqlType, data_type: &DataType) -> bool {
    match data_type {
        DataType::Int16 => matches!(written, SqlType::SmallInt(None) | SqlType::Int2(None)),
        DataType::Int32 => matches!(written, SqlType::Int(None) | SqlType::Integer(None) | SqlType::Int4(None)),
        DataType::Int64 => matches!(written, SqlType::BigInt(None) | SqlType::Int8(None)),
        DataType::Utf8 => {
            matches!(written, SqlType::Text | SqlType::Varchar(None) | SqlType::CharacterVarying(None))
        }
        _ => false,
    }
}

/// The place of a column that an expression is, if it is one.
pub(crate) fn column(expr: &Expr, schema: &SchemaRef, names: &[&Ident]) -> Option<usize> {
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
