//! Joins in which nulls are equal (`a IS NOT DISTINCT FROM b`), kept apart from those in which they are not.
//!
//! The keys of one join are all of one kind. DataFusion adds equalities to keys that take nulls for equal, and makes
//! one chain of joins of both kinds, of which all have the kind of the last: nulls were equal where they are not to be,
//! or joined nothing where they are. Of a chain it also loses keys that no two of its relations have.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// The keys of joins from their conditions: an equality beside keys that take nulls for equal stays a condition.
#[derive(Debug, Default)]
pub(crate) struct JoinKeys(ExtractEquijoinPredicate);

impl OptimizerRule for JoinKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let has_keys = matches!(&plan, LogicalPlan::Join(join) if !join.on.is_empty() && takes_nulls(join));
        if has_keys { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Chains of joins without those in which nulls are equal, and without losing a key.
#[derive(Debug, Default)]
pub(crate) struct CrossJoins(EliminateCrossJoin);

impl OptimizerRule for CrossJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let apart = plan.transform_up_with_subqueries(set_apart)?;
        let done = self.0.rewrite(apart.data, config)?;
        if !apart.transformed {
            return Ok(done);
        }
        let together = done.data.transform_up_with_subqueries(put_back)?;
        Ok(Transformed::new_transformed(together.data, done.transformed))
    }
}

fn takes_nulls(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(Join { join_type: JoinType::Inner, .. }))
}

/// A join in which nulls are equal behind a screen, so that it is none to what is above, and what is below none to it.
/// So is what is below a join with a key of several columns: these may be of several relations, and DataFusion loses a
/// key that no two relations of a chain have.
fn set_apart(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(mut join) if join.join_type == JoinType::Inner && (takes_nulls(&join) || has_wide(&join)) => {
            join.left = if is_inner(&join.left) { Arc::new(screened(join.left)) } else { join.left };
            join.right = if is_inner(&join.right) { Arc::new(screened(join.right)) } else { join.right };
            let is_behind = takes_nulls(&join);
            let join = LogicalPlan::Join(join);
            Ok(Transformed::yes(if is_behind { screened(Arc::new(join)) } else { join }))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether a join has a key of several columns.
fn has_wide(join: &Join) -> bool {
    let is_wide = |key: &Expr| key.column_refs().len() > 1;
    join.on.iter().any(|(one, other)| is_wide(one) || is_wide(other))
}

/// All columns of a plan.
fn screened(plan: Arc<LogicalPlan>) -> LogicalPlan {
    let schema = Arc::clone(plan.schema());
    LogicalPlan::Projection(Projection::new_from_schema(plan, schema))
}

/// What is behind a screen.
fn put_back(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Projection(screen) if is_screen(&screen) => {
            Ok(Transformed::yes(Arc::unwrap_or_clone(screen.input)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn is_screen(projection: &Projection) -> bool {
    let below = projection.input.as_ref();
    let is_join = matches!(below, LogicalPlan::Join(_) | LogicalPlan::Filter(_) | LogicalPlan::Projection(_));
    let columns = below.schema().columns();
    let mut pairs = projection.expr.iter().zip(&columns);
    let is_same = pairs.all(|(expr, column)| matches!(expr, Expr::Column(shown) if shown == column));
    is_join && projection.expr.len() == columns.len() && is_same
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::Column;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, table_scan};
    use datafusion::optimizer::OptimizerContext;

    fn table(name: &str) -> LogicalPlan {
        let schema = Schema::new(vec![Field::new("k", DataType::Int32, true), Field::new("n", DataType::Int32, true)]);
        table_scan(Some(name), &schema, None).and_then(LogicalPlanBuilder::build).expect("a scan")
    }

    /// A join by one key.
    fn joined(left: LogicalPlan, right: LogicalPlan, keys: [&str; 2], null_equality: NullEquality) -> LogicalPlan {
        let keys = keys.map(|key| vec![Column::from_qualified_name(key)]);
        let [left_keys, right_keys] = keys;
        LogicalPlanBuilder::from(left)
            .join_detailed(right, JoinType::Inner, (left_keys, right_keys), None, null_equality)
            .and_then(LogicalPlanBuilder::build)
            .expect("a join")
    }

    fn kinds(plan: &LogicalPlan) -> Vec<NullEquality> {
        let own = match plan {
            LogicalPlan::Join(join) => Some(join.null_equality),
            _ => None,
        };
        own.into_iter().chain(plan.inputs().into_iter().flat_map(kinds)).collect()
    }

    #[test]
    fn joins_of_both_kinds_stay_what_they_are() {
        use NullEquality::{NullEqualsNothing, NullEqualsNull};
        for (first, second) in [(NullEqualsNull, NullEqualsNothing), (NullEqualsNothing, NullEqualsNull)] {
            let below = joined(table("a"), table("b"), ["a.n", "b.n"], first);
            let plan = joined(below, table("c"), ["b.k", "c.k"], second);
            let done = CrossJoins::default().rewrite(plan.clone(), &OptimizerContext::new()).expect("a plan");
            assert_eq!(kinds(&done.data), [second, first]);
            assert_eq!(done.data.schema().columns(), plan.schema().columns());
        }
        let plan = joined(table("a"), table("b"), ["a.n", "b.n"], NullEqualsNull);
        let LogicalPlan::Join(mut join) = plan else { panic!("a join") };
        join.filter = Some(col("a.k").eq(col("b.k")));
        let done = JoinKeys::default().rewrite(LogicalPlan::Join(join), &OptimizerContext::new()).expect("a plan");
        assert!(!done.transformed, "the equality stays a condition");
    }

    #[test]
    fn keys_of_several_relations_are_kept() {
        let below = joined(table("b"), table("c"), ["b.n", "c.n"], NullEquality::NullEqualsNothing);
        let plan = LogicalPlanBuilder::from(table("a"))
            .join_on(below, JoinType::Inner, Some(col("a.k").eq(col("b.k") + col("c.k"))))
            .and_then(LogicalPlanBuilder::build)
            .expect("a join");
        let context = OptimizerContext::new();
        let keyed = JoinKeys::default().rewrite(plan, &context).expect("a plan").data;
        let done = CrossJoins::default().rewrite(keyed, &context).expect("a plan").data;
        let LogicalPlan::Join(join) = &done else { panic!("a join") };
        assert_eq!(join.on, [(col("a.k"), col("b.k") + col("c.k"))]);
        assert!(is_inner(&join.right), "without a screen");
    }
}
