//! How the columns of what is made of a query are called.

use crate::error::{Error, Result};
use crate::statement::{Name, Query};
use crate::text::Position;
use crate::{titles, types};
use arrow::datatypes::Field;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, col};
use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Spanned as _};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How columns are called.
#[derive(Clone, Copy, Debug)]
pub enum Naming<'a> {
    /// By a column list, and by PostgreSQL's titles where it has no more names; each name once.
    Listed(&'a [Name]),
    /// They are known by their places: a title that several have is the name of none.
    ByPlace,
}

/// Gives a view's columns their names, and types that PostgreSQL has.
///
/// # Errors
/// `Invalid` when there are more names than columns, or a name is given twice.
pub fn rename(plan: LogicalPlan, naming: Naming<'_>, query: &Query) -> Result<LogicalPlan> {
    let columns = match naming {
        Naming::Listed(columns) => columns,
        Naming::ByPlace => &[],
    };
    let schema = Arc::clone(plan.schema());
    if columns.len() > schema.fields().len() {
        return Err(Error::Invalid {
            sqlstate: "42601",
            message: "more column names than columns are given".to_owned(),
            position: columns.get(schema.fields().len()).map(|c| c.at),
        });
    }
    let planned: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut names = titles::titles(&planned, &query.ast.body);
    for (name, column) in names.iter_mut().zip(columns) {
        name.clone_from(&column.value);
    }
    if matches!(naming, Naming::ByPlace) {
        names = titles::told_apart(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut seen = BTreeSet::new();
    if let Some(at) = names.iter().position(|name| !seen.insert(name)) {
        return Err(Error::Invalid {
            sqlstate: "42701",
            message: format!("column {:?} specified more than once: name the columns with AS", names[at]),
            position: columns.get(at).map_or_else(|| item_at(query, at), |column| Some(column.at)),
        });
    }
    let is_plain = |field: &Arc<Field>| types::plain(field.data_type()).is_none();
    if names == planned && schema.fields().iter().all(is_plain) {
        return Ok(plan);
    }
    let shown = |((column, field), name): ((Column, &Arc<Field>), &String)| match types::plain(field.data_type()) {
        Some(plain) => cast(col(column), plain).alias(name),
        None if column.name == *name => col(column),
        None => col(column).alias(name),
    };
    let expressions: Vec<Expr> = schema.columns().into_iter().zip(schema.fields()).zip(&names).map(shown).collect();
    LogicalPlanBuilder::from(plan)
        .project(expressions)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| Error::of_planner(e, &query.text))
}

/// Where a query's SELECT says what a column is, if each of its items is one.
fn item_at(query: &Query, at: usize) -> Option<Position> {
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return None };
    let is_one = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let item = select.projection.get(at).filter(|_| select.projection.iter().all(is_one))?;
    Position::of(&query.text, item.span().start)
}
