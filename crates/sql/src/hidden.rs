//! Columns that ORDER BY reads and SELECT does not give. DataFusion's planner adds them below the sort, in
//! an order that is another one each time; but state is found again by the columns' order, so they are put
//! in that of their names.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Projection, Sort};
use std::sync::Arc;

/// A plan that is the same each time.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn in_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    let ordered = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Projection(shown) => match below(shown)? {
            Some(ordered) => Ok(Transformed::yes(ordered)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(ordered.data)
}

/// The same of what takes some columns of a sort alone, by their names.
fn below(shown: &Projection) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Sort(sort) = shown.input.as_ref() else { return Ok(None) };
    if !shown.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) {
        return Ok(None);
    }
    let Some(input) = sorted(&sort.input, shown.expr.len())? else { return Ok(None) };
    let sort = LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: sort.fetch });
    Projection::try_new(shown.expr.clone(), Arc::new(sort)).map(LogicalPlan::Projection).map(Some)
}

/// What a sort reads, with its columns from `given` on in the order of their names; none where that is
/// nothing new.
fn sorted(plan: &LogicalPlan, given: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(projection) if projection.expr.len() > given + 1 => {
            let mut exprs = projection.expr.clone();
            exprs[given..].sort_by_cached_key(|expr| expr.schema_name().to_string());
            Projection::try_new(exprs, Arc::clone(&projection.input)).map(LogicalPlan::Projection).map(Some)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let input = sorted(input, given)?;
            Ok(input.map(|input| LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        _ => Ok(None),
    }
}
