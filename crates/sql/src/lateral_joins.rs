//! LATERAL joined by DataFusion's rule: inner ones before those around them and before other subqueries, and with
//! the columns that there were, with which what is above goes on where a subquery is left in the plan.
//!
//! DataFusion goes from without inwards. It pulls nothing past a sort, a LIMIT or a UNION below which something is
//! tied, though to another query within: then filters are handed into the subquery first, and what ties it is found
//! no more. Once inner ones are joined, all that is tied in a subquery is what ties the subquery itself.
//!
//! Invariant: a subquery reads the query right around it alone (`correlated`), so an inner one is whole by itself.

use crate::correlated::{lateral, read_around};
use crate::lateral::has_subquery;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection, SubqueryAlias};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};
use std::sync::Arc;

/// The first of the rules for other subqueries.
const OTHERS: &str = "decorrelate_predicate_subquery";

/// Puts this rule into the place of DataFusion's, and before those for other subqueries.
pub(crate) fn put_first(rules: &mut [Arc<dyn OptimizerRule + Send + Sync>]) {
    let own = LateralJoins::default();
    let place = |name: &str| rules.iter().position(|rule| rule.name() == name);
    let (Some(first), Some(at)) = (place(OTHERS), place(own.name())) else { return };
    rules[at] = Arc::new(own);
    if first < at {
        rules[first..=at].rotate_right(1);
    }
}

/// A view's plan by rules of which DataFusion's own joins LATERAL, as state is kept for plans that it made. By this
/// one where that leaves a subquery or fails.
///
/// # Errors
/// Those of the rules.
pub(crate) fn optimized(mut rules: Optimizer, plan: LogicalPlan, options: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let context =
        || OptimizerContext::new_with_config_options(Arc::clone(options)).without_query_execution_start_time();
    if !has_lateral(&plan)? {
        return rules.optimize(plan, &context(), |_, _| {});
    }
    let made = rules.optimize(plan.clone(), &context(), |_, _| {});
    if is_whole(&made)? {
        return made;
    }
    put_first(&mut rules.rules);
    let again = rules.optimize(plan, &context(), |_, _| {});
    if is_whole(&again)? { again } else { made }
}

/// Whether rules have made a plan, and left no subquery in it.
fn is_whole(made: &Result<LogicalPlan>) -> Result<bool> {
    let Ok(plan) = made else { return Ok(false) };
    let is_left = plan.exists(|node| {
        let mut is_left = matches!(node, LogicalPlan::Subquery(_));
        node.apply_expressions(|expr| {
            is_left |= has_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(is_left)
    })?;
    Ok(!is_left)
}

fn has_lateral(plan: &LogicalPlan) -> Result<bool> {
    let mut is_found = false;
    plan.apply_with_subqueries(|node| {
        is_found |= matches!(node, LogicalPlan::Join(join) if lateral(&join.right).is_some());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_found)
}

/// See above.
#[derive(Debug, Default)]
struct LateralJoins(DecorrelateLateralJoin);

impl OptimizerRule for LateralJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        if let Some(right) = untied(&join.right)? {
            return Ok(Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(right), ..join })));
        }
        let columns = join.schema.columns();
        let mut joined = self.0.rewrite(LogicalPlan::Join(join), config)?;
        // DataFusion leaves out what is near a join that it made, which from within outwards is what is around it.
        joined.tnr = TreeNodeRecursion::Continue;
        if !joined.transformed || joined.data.schema().columns() == columns {
            return Ok(joined);
        }
        let shown = columns.into_iter().map(Expr::Column).collect();
        joined.map_data(|plan| Projection::try_new(shown, Arc::new(plan)).map(LogicalPlan::Projection))
    }
}

/// A right side that reads the left one no more than it ever did, as only what is within it was tied: the plan
/// itself. DataFusion would leave the subquery where it is.
fn untied(right: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let Some((subquery, alias)) = lateral(right) else { return Ok(None) };
    if !read_around(&subquery.subquery)?.is_empty() {
        return Ok(None);
    }
    Ok(Some(match alias {
        Some(alias) => {
            let named = SubqueryAlias::try_new(Arc::clone(&subquery.subquery), alias.alias.clone())?;
            LogicalPlan::SubqueryAlias(named)
        }
        None => subquery.subquery.as_ref().clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::{OTHERS, put_first};
    use datafusion::optimizer::Optimizer;
    use datafusion::optimizer::optimizer::ApplyOrder;

    #[test]
    fn lateral_is_joined_from_within_before_other_subqueries() {
        let mut rules = Optimizer::new().rules;
        put_first(&mut rules);
        let place = |name: &str| rules.iter().position(|rule| rule.name() == name).expect(name);
        let own = place("decorrelate_lateral_join");
        assert_eq!(own + 1, place(OTHERS));
        assert!(matches!(rules[own].apply_order(), Some(ApplyOrder::BottomUp)));
        assert_eq!(rules.len(), Optimizer::new().rules.len());
    }
}
