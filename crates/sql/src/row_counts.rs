//! How many rows a plan gives at most, whatever rows there are.
//!
//! DataFusion's own count goes by keys that may be none ([`crate::dependencies`]), takes the one row without columns
//! for no row, and knows neither the rows of both sides that a full join has nor that grouping sets have a row each.

use crate::dependencies::are_doubtful;
use crate::lateral::has_subquery;
use datafusion::common::{DFSchema, Dependency};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, FetchType, Filter, Join, JoinType, LogicalPlan, Operator};

/// The number, if there is one.
pub(crate) fn most_rows(plan: &LogicalPlan) -> Option<usize> {
    match plan {
        LogicalPlan::Projection(of) => most_rows(&of.input),
        LogicalPlan::SubqueryAlias(of) => most_rows(&of.input),
        LogicalPlan::Window(of) => most_rows(&of.input),
        LogicalPlan::Distinct(Distinct::All(input)) => most_rows(input),
        LogicalPlan::Distinct(Distinct::On(on)) => most_rows(&on.input),
        LogicalPlan::Filter(filter) if is_of_one_key(filter) => fewer(Some(1), most_rows(&filter.input)),
        LogicalPlan::Filter(filter) => most_rows(&filter.input),
        LogicalPlan::Aggregate(of) if of.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) => None,
        LogicalPlan::Aggregate(of) if of.group_expr.iter().all(|key| matches!(key, Expr::Literal(..))) => Some(1),
        LogicalPlan::Aggregate(of) => most_rows(&of.input),
        LogicalPlan::Sort(sort) => fewer(sort.fetch, most_rows(&sort.input)),
        LogicalPlan::Limit(limit) => match limit.get_fetch_type() {
            Ok(FetchType::Literal(fetch)) => fewer(fetch, most_rows(&limit.input)),
            _ => most_rows(&limit.input),
        },
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Union(union) => {
            union.inputs.iter().try_fold(0_usize, |sum, input| sum.checked_add(most_rows(input)?))
        }
        LogicalPlan::TableScan(scan) => scan.fetch,
        LogicalPlan::EmptyRelation(none) => Some(usize::from(none.produce_one_row)),
        LogicalPlan::Values(values) => Some(values.values.len()),
        _ => None,
    }
}

fn fewer(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    one.into_iter().chain(other).min()
}

fn of_join(join: &Join) -> Option<usize> {
    let (left, right) = (most_rows(&join.left), most_rows(&join.right));
    match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        JoinType::Inner => left?.checked_mul(right?),
        JoinType::Left => left?.checked_mul(right?.max(1)),
        JoinType::Right => left?.max(1).checked_mul(right?),
        JoinType::Full => {
            let (left, right) = (left?, right?);
            left.checked_mul(right)?.checked_add(left)?.checked_add(right)
        }
    }
}

/// Whether a condition gives all columns of a key their values.
fn is_of_one_key(filter: &Filter) -> bool {
    let schema = filter.input.schema();
    let known = schema.functional_dependencies();
    if known.is_empty() || are_doubtful(&filter.input) {
        return false;
    }
    let parts = split_conjunction(&filter.predicate).into_iter();
    let given: Vec<usize> = parts.filter_map(|part| given_column(part, schema)).collect();
    known.iter().any(|key| {
        let columns = &key.source_indices;
        let may_be_null = key.nullable && columns.iter().any(|at| schema.field(*at).is_nullable());
        key.mode == Dependency::Single && !may_be_null && columns.iter().all(|at| given.contains(at))
    })
}

/// The column that a condition sets equal to a value that is one for all rows.
fn given_column(part: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
    let (column, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), value) | (value, Expr::Column(column)) => (column, value),
        _ => return None,
    };
    let is_one = !value.any_column_refs() && !value.is_volatile() && !has_subquery(value);
    if is_one { schema.maybe_index_of_column(column) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::Result;
    use datafusion::functions_aggregate::expr_fn::max;
    use datafusion::logical_expr::expr::GroupingSet;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
    use std::sync::Arc;

    fn rows(name: &str, count: i64) -> Result<LogicalPlanBuilder> {
        LogicalPlanBuilder::values((0..count).map(|row| vec![lit(row)]).collect())?.alias(name)
    }

    fn joined(left: i64, right: i64, join_type: JoinType) -> Result<Option<usize>> {
        let keys = (vec!["a.column1"], vec!["b.column1"]);
        let plan = rows("a", left)?.join(rows("b", right)?.build()?, join_type, keys, None)?.build()?;
        Ok(most_rows(&plan))
    }

    #[test]
    fn rows_of_joins_are_at_most_those_of_both_sides() {
        for (join_type, most) in [
            (JoinType::Inner, 6),
            (JoinType::Left, 6),
            (JoinType::Right, 6),
            (JoinType::Full, 11),
            (JoinType::LeftSemi, 2),
            (JoinType::RightAnti, 3),
        ] {
            assert_eq!(joined(2, 3, join_type).expect("a plan"), Some(most), "{join_type}");
        }
        assert!(joined(1, 1, JoinType::Full).expect("a plan") >= Some(2), "neither row may have a partner");
    }

    #[test]
    fn a_row_without_columns_is_one() {
        for (has_row, most) in [(true, 1), (false, 0)] {
            let plan = LogicalPlanBuilder::empty(has_row).build().expect("a plan");
            assert_eq!(most_rows(&plan), Some(most));
        }
    }

    #[test]
    fn groups_are_no_more_than_rows_but_of_sets() {
        let none: Vec<Expr> = Vec::new();
        let group = |keys: Vec<Expr>| rows("a", 1).and_then(|rows| rows.aggregate(keys, none.clone())?.build());
        let plain = group(vec![col("a.column1")]).expect("a plan");
        assert_eq!(most_rows(&plain), Some(1));
        let rolled_up = Expr::GroupingSet(GroupingSet::Rollup(vec![col("a.column1")]));
        assert_eq!(most_rows(&group(vec![rolled_up]).expect("a plan")), None);
    }

    #[test]
    fn a_key_is_given_by_equations_with_what_no_row_decides() {
        let most = |condition: Expr| -> Result<Option<usize>> {
            let rows = rows("a", 4)?.project(vec![col("column1").is_null().alias("k"), lit(1_i64).alias("v")])?;
            let grouped = rows.aggregate(vec![col("k")], vec![max(col("v")).alias("m")])?.build()?;
            Ok(most_rows(&LogicalPlan::Filter(Filter::try_new(condition, Arc::new(grouped))?)))
        };
        assert_eq!(most(col("k").eq(lit(true))).expect("a plan"), Some(1));
        assert_eq!(most(col("k").eq(col("m").is_null())).expect("a plan"), Some(4));
        assert_eq!(most(col("m").eq(lit(1_i64))).expect("a plan"), Some(4));
    }
}
