//! Names for the columns of relations in FROM, `t AS q (a, b)`: those that are left out keep theirs.
//!
//! Of columns that then have one name none keeps it, as a query that named it would be ambiguous.

use crate::dependencies::screened;
use crate::error::ALIASED;
use crate::titles::{shown, told_apart};
use datafusion::common::{DataFusionError, Diagnostic, Span, plan_datafusion_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{Ident, TableAlias, TableAliasColumnDef, TableFactor};

/// Names the columns of relations.
#[derive(Debug)]
pub(crate) struct Aliases;

impl RelationPlanner for Aliases {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning, DataFusionError> {
        let taken = alias_of(&mut relation).and_then(|alias| alias.take_if(|alias| !alias.columns.is_empty()));
        let Some(mut alias) = taken else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        // Without its name it is planned as it is.
        let is_lateral = matches!(relation, TableFactor::Derived { lateral: true, .. });
        let plan = screened(context.plan(relation)?, is_lateral)?;
        let own: Vec<&str> = plan.schema().fields().iter().map(|field| shown(field.name())).collect();
        let given: Vec<String> =
            alias.columns.iter().map(|column| context.normalize_ident(column.name.clone())).collect();
        if given.len() > own.len() {
            return Err(too_many(&alias, own.len(), context));
        }
        let names: Vec<&str> = given.iter().map(String::as_str).chain(own[given.len()..].iter().copied()).collect();
        let apart = told_apart(&names);
        if apart != given {
            let named = |name: String| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None };
            alias.columns = apart.into_iter().map(named).collect();
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
    }
}

/// Where a relation has its name.
const fn alias_of(relation: &mut TableFactor) -> Option<&mut Option<TableAlias>> {
    match relation {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => Some(alias),
        _ => None,
    }
}

fn too_many(alias: &TableAlias, columns: usize, context: &dyn RelationPlannerContext) -> DataFusionError {
    let name = context.normalize_ident(alias.name.clone());
    let message = format!("table {name:?} has {columns}{ALIASED}{} columns specified", alias.columns.len());
    let span = Span::try_from_sqlparser_span(alias.name.span);
    plan_datafusion_err!("{message}").with_diagnostic(Diagnostic::new_error(message, span))
}
