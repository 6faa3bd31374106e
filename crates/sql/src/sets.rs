//! GROUPING SETS, CUBE and ROLLUP as DataFusion takes them: of columns alone, and of one key at each place.
//!
//! A key that is an expression is computed below its sets, under the name that it has above them: an analysis that
//! rewrites it, such as that of `d + 1` for a date, would name the sets as a whole and not the key. `ROLLUP ((a, b),
//! c)` is written out as the sets that it stands for.

use crate::error::Error;
use crate::references::called_at;
use crate::respell::{plain_name, unnamed};
use crate::statement::Query;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, Projection};
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;

/// More groups of columns than this have too many sets to be written out.
pub(crate) const MOST_CUBED: usize = 8;

/// ROLLUP and CUBE of several columns at one place, written out; none where they are of one each.
pub(crate) fn written_out(expr: &ast::Expr) -> Option<ast::Expr> {
    let is_plain = |groups: &[Vec<ast::Expr>]| groups.iter().all(|group| group.len() == 1);
    let sets: Vec<Vec<ast::Expr>> = match expr {
        ast::Expr::Rollup(groups) if !is_plain(groups) => rolled_up(groups),
        ast::Expr::Cube(groups) if !is_plain(groups) && groups.len() <= MOST_CUBED => cubed(groups),
        _ => return None,
    };
    Some(ast::Expr::GroupingSets(sets))
}

/// GROUPING SETS among which are ROLLUP and CUBE, which are read as calls there, with the sets of these in their
/// places; none where there are no such.
pub(crate) fn flattened(expr: &ast::Expr) -> Option<ast::Expr> {
    let ast::Expr::GroupingSets(sets) = expr else { return None };
    if !sets.iter().any(|set| sets_within(set).is_some()) {
        return None;
    }
    let flat = sets.iter().flat_map(|set| sets_within(set).unwrap_or_else(|| vec![set.clone()]));
    Some(ast::Expr::GroupingSets(flat.collect()))
}

/// The sets that ROLLUP or CUBE stands for in place of one.
fn sets_within(set: &[ast::Expr]) -> Option<Vec<Vec<ast::Expr>>> {
    let [ast::Expr::Function(call)] = set else { return None };
    let ast::FunctionArguments::List(list) = &call.args else { return None };
    let group = |arg: &ast::FunctionArg| match unnamed(arg)? {
        ast::Expr::Tuple(keys) => Some(keys),
        ast::Expr::Nested(key) => Some(vec![*key]),
        key => Some(vec![key]),
    };
    let groups: Vec<Vec<ast::Expr>> = list.args.iter().map(group).collect::<Option<_>>()?;
    match plain_name(&call.name)?.to_lowercase().as_str() {
        "rollup" => Some(rolled_up(&groups)),
        "cube" if groups.len() <= MOST_CUBED => Some(cubed(&groups)),
        _ => None,
    }
}

fn rolled_up(groups: &[Vec<ast::Expr>]) -> Vec<Vec<ast::Expr>> {
    (0..=groups.len()).rev().map(|most| groups[..most].concat()).collect()
}

fn cubed(groups: &[Vec<ast::Expr>]) -> Vec<Vec<ast::Expr>> {
    (0_usize..1 << groups.len()).map(|left_out| without(groups, left_out).concat()).collect()
}

/// What is at places whose bits are not set.
pub(crate) fn without<T: Clone>(all: &[T], left_out: usize) -> Vec<T> {
    all.iter().enumerate().filter(|(at, _)| (left_out >> at) & 1 == 0).map(|(_, one)| one.clone()).collect()
}

/// Sets of other keys.
pub(crate) fn with_keys(sets: &GroupingSet, key: impl Fn(&Expr) -> Expr) -> GroupingSet {
    let keys = |of: &Vec<Expr>| of.iter().map(&key).collect::<Vec<Expr>>();
    match sets {
        GroupingSet::Rollup(of) => GroupingSet::Rollup(keys(of)),
        GroupingSet::Cube(of) => GroupingSet::Cube(keys(of)),
        GroupingSet::GroupingSets(sets) => GroupingSet::GroupingSets(sets.iter().map(keys).collect()),
    }
}

/// Refuses `grouping(x)` of what is not grouped by.
///
/// # Errors
/// `Invalid` (42803) with its place where there is one such call.
pub(crate) fn check(plan: &LogicalPlan, query: &Query) -> std::result::Result<(), Error> {
    let mut is_found = false;
    let walked = plan.apply_with_subqueries(|node| {
        let LogicalPlan::Aggregate(grouped) = node else { return Ok(TreeNodeRecursion::Continue) };
        let Ok(keys) = grouping_set_to_exprlist(&grouped.group_expr) else { return Ok(TreeNodeRecursion::Continue) };
        for expr in &grouped.aggr_expr {
            is_found |= expr.exists(|expr| Ok(is_of_others(expr, &keys)))?;
        }
        Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    if !is_found {
        return Ok(());
    }
    let message = "arguments to GROUPING must be grouping expressions of the associated query level".to_owned();
    Err(Error::Invalid { sqlstate: "42803", message, position: called_at(query, "grouping") })
}

/// Whether an expression is `grouping` with an argument that is none of the keys.
fn is_of_others(expr: &Expr, keys: &[&Expr]) -> bool {
    let Expr::AggregateFunction(call) = expr else { return false };
    call.func.name() == "grouping" && !call.params.args.iter().all(|arg| keys.contains(&arg))
}

/// A plan whose grouping sets are of columns.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn of_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(grouped) => computed_below(grouped),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(done.data)
}

/// The same of a plan that has just been bound, but for sets over UNNEST: what these read is put in order first
/// (`lateral`), which looks for the UNNEST right below.
///
/// # Errors
/// As [`of_columns`].
pub(crate) fn bound_of_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(grouped) if !matches!(grouped.input.as_ref(), LogicalPlan::Unnest(_)) => {
            computed_below(grouped)
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(done.data)
}

fn computed_below(grouped: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = grouped.group_expr.as_slice() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(grouped)));
    };
    let is_made = |key: &Expr| !matches!(key, Expr::Column(_));
    let made: Vec<Expr> = sets.distinct_expr().into_iter().filter(|&key| is_made(key)).cloned().collect();
    if made.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(grouped)));
    }
    let column = |key: &Expr| {
        if !made.contains(key) {
            return key.clone();
        }
        let (relation, name) = key.qualified_name();
        Expr::Column(Column::new(relation, name))
    };
    let mut below: Vec<Expr> = grouped.input.schema().columns().into_iter().map(Expr::Column).collect();
    for key in &made {
        let (relation, name) = key.qualified_name();
        below.push(key.clone().unalias().alias_qualified(relation, name));
    }
    let sets = Expr::GroupingSet(with_keys(sets, column));
    let aggregates = grouped.aggr_expr.iter().map(|call| asked(call, column)).collect::<Result<_>>()?;
    let input = LogicalPlan::Projection(Projection::try_new(below, Arc::clone(&grouped.input))?);
    let made = Aggregate::try_new(Arc::new(input), vec![sets], aggregates)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(made)))
}

/// An aggregate that asks with grouping() for the sets' columns.
fn asked(call: &Expr, column: impl Fn(&Expr) -> Expr) -> Result<Expr> {
    let asked = call.clone().transform_up(|expr| match expr {
        Expr::AggregateFunction(mut call) if call.func.name() == "grouping" => {
            call.params.args = call.params.args.iter().map(&column).collect();
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(asked.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_several_columns_are_written_out() {
        let ident = |name: &str| ast::Expr::Identifier(ast::Ident::new(name));
        let groups = || vec![vec![ident("a"), ident("b")], vec![ident("c")]];
        let shown = |expr: &ast::Expr| written_out(expr).map(|sets| sets.to_string());
        let rollup = shown(&ast::Expr::Rollup(groups()));
        assert_eq!(rollup.as_deref(), Some("GROUPING SETS ((a, b, c), (a, b), ())"));
        let cube = shown(&ast::Expr::Cube(groups()));
        assert_eq!(cube.as_deref(), Some("GROUPING SETS ((a, b, c), (c), (a, b), ())"));
        assert_eq!(shown(&ast::Expr::Rollup(vec![vec![ident("a")]])), None);
    }
}
