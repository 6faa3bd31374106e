//! What types columns have that a subquery reads of the query around it.
//!
//! A reference outwards keeps the type that its column had when it was bound. Analysis may give the column another
//! one, as that of `coalesce(n, 3.50)`, whose number is a double at first, or of UNION, whose sides are brought
//! together; but it does not come past the subquery. So the references are told before that.

use super::Planned;
use super::around::{around, lateral, subquery_of};
use super::asking;
use crate::session::Session;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use std::sync::Arc;

/// A node whose subqueries know of the types that columns of its inputs will have.
pub(super) fn told(node: LogicalPlan, session: &Session) -> Planned<LogicalPlan> {
    match &node {
        LogicalPlan::Join(join) if lateral(&join.right).is_some() => {
            return beside(join, session).map(LogicalPlan::Join);
        }
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) if is_read(&node)? => {}
        _ => return Ok(node),
    }
    let types = types_of(&node.inputs(), session);
    let told = node.map_expressions(|expr| expr.transform_up(|part| of_expr(part, &types)))?;
    if told.transformed { told.data.recompute_schema() } else { Ok(told.data) }
}

/// Whether a subquery of a node reads what is around it.
fn is_read(node: &LogicalPlan) -> Planned<bool> {
    let mut is_read = false;
    node.apply_expressions(|expr| {
        is_read |= expr.exists(|part| match subquery_of(part) {
            Some((_, subquery)) => Ok(!around(&subquery.subquery)?.is_empty()),
            None => Ok(false),
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_read)
}

/// A join whose lateral side knows of them.
fn beside(join: &Join, session: &Session) -> Planned<Join> {
    if around(&join.right)?.is_empty() {
        return Ok(join.clone());
    }
    let right = in_plan(join.right.as_ref().clone(), &types_of(&[join.left.as_ref()], session))?;
    if !right.transformed {
        return Ok(join.clone());
    }
    Join::try_new(
        Arc::clone(&join.left),
        Arc::new(right.data),
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}

/// The types that columns have after analysis. What cannot be analysed by itself is taken for what it is.
fn types_of(inputs: &[&LogicalPlan], session: &Session) -> Vec<(Column, DataType)> {
    let mut types = Vec::new();
    for input in inputs {
        let Ok(analysed) = session.columns_when_run((*input).clone()) else { continue };
        let columns = input.schema().columns();
        if columns.len() == analysed.fields().len() {
            types.extend(columns.into_iter().zip(analysed.fields().iter().map(|field| field.data_type().clone())));
        }
    }
    types
}

fn of_expr(expr: Expr, types: &[(Column, DataType)]) -> Planned<Transformed<Expr>> {
    let Some((_, subquery)) = subquery_of(&expr) else { return Ok(Transformed::no(expr)) };
    let plan = in_plan(subquery.subquery.as_ref().clone(), types)?;
    if !plan.transformed {
        return Ok(Transformed::no(expr));
    }
    let subquery = asking(plan.data, subquery);
    Ok(Transformed::yes(match expr {
        Expr::Exists(exists) => Expr::Exists(Exists { subquery, ..exists }),
        Expr::InSubquery(within) => Expr::InSubquery(InSubquery { subquery, ..within }),
        Expr::SetComparison(comparison) => Expr::SetComparison(SetComparison { subquery, ..comparison }),
        _ => Expr::ScalarSubquery(subquery),
    }))
}

/// A subquery's plan in which references to columns have the types that these have.
fn in_plan(plan: LogicalPlan, types: &[(Column, DataType)]) -> Planned<Transformed<LogicalPlan>> {
    plan.transform_up(|node| {
        if let LogicalPlan::Subquery(subquery) = &node {
            let told = asking(subquery.subquery.as_ref().clone(), subquery);
            let is_changed = told.outer_ref_columns != subquery.outer_ref_columns;
            return Ok(Transformed::new_transformed(LogicalPlan::Subquery(told), is_changed));
        }
        let told = node.map_expressions(|expr| expr.transform_up(|part| Ok(of_reference(part, types))))?;
        if told.transformed { told.map_data(LogicalPlan::recompute_schema) } else { Ok(told) }
    })
}

fn of_reference(expr: Expr, types: &[(Column, DataType)]) -> Transformed<Expr> {
    let Expr::OuterReferenceColumn(field, column) = expr else { return Transformed::no(expr) };
    let is_it = |(known, _): &&(Column, DataType)| known.name == column.name && known.relation == column.relation;
    match types.iter().find(is_it) {
        Some((_, of)) if of != field.data_type() => {
            let field = Arc::new(field.as_ref().clone().with_data_type(of.clone()));
            Transformed::yes(Expr::OuterReferenceColumn(field, column))
        }
        _ => Transformed::no(Expr::OuterReferenceColumn(field, column)),
    }
}
