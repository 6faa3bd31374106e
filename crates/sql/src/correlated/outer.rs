//! What types columns have that a subquery reads of the query around it.
//!
//! A reference outwards keeps the type that its column had when it was bound. Analysis may give the column another
//! one, as where it brings the sides of a UNION together, but it does not come past the subquery. So the references
//! are told before that.

use super::Planned;
use super::around::{around, lateral, subquery_of};
use crate::alike::told_around;
use crate::session::Session;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::utils::merge_schema;
use std::sync::Arc;

/// A node whose subqueries know of the types that columns of its inputs will have.
pub(super) fn told(node: LogicalPlan, session: &Session) -> Planned<LogicalPlan> {
    match node {
        LogicalPlan::Join(mut join) if lateral(&join.right).is_some() => {
            if !around(&join.right)?.is_empty()
                && let Some(types) = analysed(&[join.left.as_ref()], session)?
            {
                join.right = Arc::new(told_around(join.right.as_ref().clone(), &types)?.data);
                return LogicalPlan::Join(join).recompute_schema();
            }
            Ok(LogicalPlan::Join(join))
        }
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) => {
            if is_read(&node)?
                && let Some(types) = analysed(&node.inputs(), session)?
            {
                return node.map_subqueries(|subquery| told_around(subquery, &types))?.data.recompute_schema();
            }
            Ok(node)
        }
        other => Ok(other),
    }
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

/// The columns of inputs as they are after analysis; none where they are what they were, or where they cannot be
/// analysed by themselves.
fn analysed(inputs: &[&LogicalPlan], session: &Session) -> Planned<Option<DFSchema>> {
    let mut types: Vec<DataType> = Vec::new();
    for input in inputs {
        let Ok(columns) = session.columns_when_run((*input).clone()) else { return Ok(None) };
        types.extend(columns.fields().iter().map(|field| field.data_type().clone()));
    }
    let bound = merge_schema(inputs);
    let are_same = bound.fields().iter().map(|field| field.data_type()).eq(&types);
    if are_same || types.len() != bound.fields().len() {
        return Ok(None);
    }
    let typed = |(field, of): (&Arc<Field>, DataType)| field.as_ref().clone().with_data_type(of);
    let fields: Vec<Field> = bound.fields().iter().zip(types).map(typed).collect();
    let relations = bound.iter().map(|(relation, _)| relation.cloned()).collect();
    DFSchema::from_field_specific_qualified_schema(relations, &Arc::new(Schema::new(fields))).map(Some)
}
