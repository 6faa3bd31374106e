//! What a subquery reads of the queries around it.

use super::Planned;
use super::refused::Kind;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery, SubqueryAlias};

/// The subquery that an expression is over.
pub(super) const fn subquery_of(expr: &Expr) -> Option<(Kind, &Subquery)> {
    match expr {
        Expr::Exists(Exists { subquery, .. }) => Some((Kind::Exists, subquery)),
        Expr::InSubquery(InSubquery { subquery, .. }) => Some((Kind::In, subquery)),
        Expr::SetComparison(SetComparison { subquery, .. }) => Some((Kind::Compared, subquery)),
        Expr::ScalarSubquery(subquery) => Some((Kind::Value, subquery)),
        _ => None,
    }
}

/// A right side of a join that may read the left one's rows.
pub(crate) fn lateral(plan: &LogicalPlan) -> Option<(&Subquery, Option<&SubqueryAlias>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((subquery, None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery, Some(alias))),
            _ => None,
        },
        _ => None,
    }
}

/// The columns that a plan, and the subqueries in it, read of queries around the plan.
pub(crate) fn around(plan: &LogicalPlan) -> Planned<Vec<Column>> {
    let mut found = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|e| {
            if let Expr::OuterReferenceColumn(_, column) = e {
                found.push(column.clone());
            } else if let Some((_, subquery)) = subquery_of(e) {
                let schema = merge_schema(&plan.inputs());
                let read = around(&subquery.subquery)?.into_iter();
                found.extend(read.filter(|column| schema.maybe_index_of_column(column).is_none()));
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if let LogicalPlan::Join(join) = plan
        && lateral(&join.right).is_some()
    {
        let read = around(&join.right)?.into_iter();
        found.extend(read.filter(|column| join.left.schema().maybe_index_of_column(column).is_none()));
        found.extend(around(&join.left)?);
        return Ok(found);
    }
    for input in plan.inputs() {
        found.extend(around(input)?);
    }
    Ok(found)
}
