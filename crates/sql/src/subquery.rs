//! What a query says in other words before it is optimized for a dataflow, where joins are all there
//! is for subqueries.
//!
//! `x NOT IN (...)`, and `x IN (...)` where its null matters, become EXISTS and one aggregate that
//! tells whether the subquery has rows and nulls: so they are exact, correlated or not. EXISTS
//! outside of WHERE becomes a count. DISTINCT ON becomes the first row of a window.

use crate::error::{Error, Result};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Case, Distinct, DistinctOn, Expr, ExprFunctionExt, Filter, LogicalPlan, LogicalPlanBuilder, Subquery, lit, not,
};
use std::sync::Arc;

type Planned<T> = std::result::Result<T, DataFusionError>;

/// The name of a subquery whose column is compared with one outside.
const APART: &str = "__looked_up";

/// Gives DISTINCT ON a form that all rules know.
pub(crate) fn plain_distinct(plan: LogicalPlan) -> Planned<LogicalPlan> {
    let plain = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(on)) => Ok(Transformed::yes(first_rows(on)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plain.data)
}

/// The rows that come first among those with equal ON expressions, in the query's order.
fn first_rows(on: DistinctOn) -> Planned<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = on;
    let order = sort_expr.unwrap_or_default();
    let number = row_number().partition_by(on_expr).order_by(order.clone()).build()?;
    let name = number.schema_name().to_string();
    let shown = select_expr.into_iter().zip(schema.iter());
    let shown = shown.map(|(expr, (relation, field))| expr.alias_qualified(relation.cloned(), field.name()));
    let shown: Vec<Expr> = shown.collect();
    let first = Expr::Column(Column::from_name(name)).eq(lit(1_u64));
    let mut builder = LogicalPlanBuilder::from(input).window(vec![number])?.filter(first)?;
    if !order.is_empty() {
        builder = builder.sort(order)?;
    }
    builder.project(shown)?.build()
}

/// Refuses subqueries whose value would depend on which of several rows comes first.
///
/// # Errors
/// `Unsupported` for a scalar subquery that may give more than one row.
pub(crate) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut is_wide = false;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| match e {
                Expr::ScalarSubquery(query)
                    if query.outer_ref_columns.is_empty() && query.subquery.max_rows().is_none_or(|rows| rows > 1) =>
                {
                    is_wide = true;
                    Ok(TreeNodeRecursion::Stop)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    if is_wide {
        let hint = "use an aggregate, or ORDER BY with LIMIT 1";
        return Err(Error::unsupported("a subquery that may give several rows as a value", hint, None));
    }
    Ok(())
}

/// Puts the subqueries of ANY and ALL apart, for what compares them with columns outside.
pub(crate) fn compared_apart(plan: LogicalPlan) -> Planned<LogicalPlan> {
    let changed = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|e| match e {
                Expr::SetComparison(comparison) => {
                    let rows = subquery(apart(&comparison.subquery)?, &comparison.subquery);
                    Ok(Transformed::yes(Expr::SetComparison(SetComparison { subquery: rows, ..comparison })))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
        })
    })?;
    Ok(changed.data)
}

/// Rewrites IN and EXISTS where a semi or anti join would not be the same.
pub(crate) fn exact(plan: LogicalPlan) -> Planned<LogicalPlan> {
    let exact = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) => in_filter(filter),
        LogicalPlan::Join(_) => Ok(Transformed::no(node)),
        node => elsewhere(node),
    })?;
    Ok(exact.data)
}

/// The same outside of WHERE and ON, where DataFusion itself runs neither.
pub(crate) fn outside_of_where(plan: LogicalPlan) -> Planned<LogicalPlan> {
    let changed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) => Ok(Transformed::no(node)),
        node => elsewhere(node),
    })?;
    Ok(changed.data)
}

fn in_filter(filter: Filter) -> Planned<Transformed<LogicalPlan>> {
    let is_in = |e: &Expr| Ok(matches!(e, Expr::InSubquery(_)));
    if !filter.predicate.exists(is_in)? {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let schema = Arc::clone(filter.input.schema());
    let parts = split_conjunction_owned(filter.predicate).into_iter().map(|part| condition(part, &schema));
    let parts: Vec<Expr> = parts.collect::<Planned<_>>()?;
    let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}

/// A condition of WHERE, where null and false are the same: IN alone is a semi join.
fn condition(part: Expr, schema: &DFSchema) -> Planned<Expr> {
    match part {
        Expr::InSubquery(within) if within.negated => not_in(&within, schema),
        Expr::InSubquery(within) => Ok(Expr::InSubquery(within)),
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(within) if within.negated => Ok(Expr::InSubquery(InSubquery { negated: false, ..within })),
            Expr::InSubquery(within) => not_in(&within, schema),
            inner => valued(not(inner), schema),
        },
        other => valued(other, schema),
    }
}

/// All IN of an expression as values.
fn valued(expr: Expr, schema: &DFSchema) -> Planned<Expr> {
    let valued = expr.transform_up(|e| match e {
        Expr::InSubquery(within) => Ok(Transformed::yes(value_of(&within, schema)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(valued.data)
}

/// Nodes other than WHERE and ON.
fn elsewhere(node: LogicalPlan) -> Planned<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    let changed = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|e| match e {
            Expr::InSubquery(within) => Ok(Transformed::yes(counted(value_of(&within, &schema)?)?)),
            Expr::Exists(_) => Ok(Transformed::yes(counted(e)?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
    })?;
    if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
}

/// EXISTS as a count.
fn counted(expr: Expr) -> Planned<Expr> {
    let counted = expr.transform_up(|e| match e {
        Expr::Exists(Exists { subquery, negated }) => {
            let rows = aggregated(&subquery, count(lit(1_i64)))?;
            let rows = Expr::ScalarSubquery(rows);
            Ok(Transformed::yes(if negated { rows.eq(lit(0_i64)) } else { rows.gt(lit(0_i64)) }))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(counted.data)
}

/// `x NOT IN (...)` as a condition.
fn not_in(within: &InSubquery, schema: &DFSchema) -> Planned<Expr> {
    let without = Expr::Exists(Exists { subquery: matching(within, schema)?, negated: true });
    let known = within.expr.as_ref().clone().is_not_null();
    // No rows: whatever x is, it is not in there.
    Ok(without.and(cases(within, known, lit(false), lit(true))?))
}

/// `x [NOT] IN (...)` as a value, which is null when it is not known.
fn value_of(within: &InSubquery, schema: &DFSchema) -> Planned<Expr> {
    let unknown = || Expr::Literal(ScalarValue::Boolean(None), None);
    let missing = Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(within.expr.as_ref().clone().is_null()), Box::new(unknown()))],
        else_expr: Some(Box::new(lit(false))),
    });
    let found = Expr::Exists(Exists { subquery: matching(within, schema)?, negated: false });
    let value = Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(found), Box::new(lit(true)))],
        else_expr: Some(Box::new(cases(within, missing, unknown(), lit(false))?)),
    });
    Ok(if within.negated { not(value) } else { value })
}

/// One of three expressions: when the subquery has rows and no null, rows and a null, no rows.
fn cases(within: &InSubquery, without_null: Expr, with_null: Expr, empty: Expr) -> Planned<Expr> {
    let is_null = Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(value_column(&within.subquery.subquery).is_null()), Box::new(lit(1_i64)))],
        else_expr: Some(Box::new(lit(0_i64))),
    });
    let nulls = aggregated(&within.subquery, max(is_null))?;
    Ok(Expr::Case(Case {
        expr: Some(Box::new(Expr::ScalarSubquery(nulls))),
        when_then_expr: vec![
            (Box::new(lit(0_i64)), Box::new(without_null)),
            (Box::new(lit(1_i64)), Box::new(with_null)),
        ],
        else_expr: Some(Box::new(empty)),
    }))
}

/// The column that a subquery has.
fn value_column(plan: &LogicalPlan) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(0)))
}

/// A subquery under a name of its own: it may read what the query around it reads.
fn apart(subquery: &Subquery) -> Planned<LogicalPlan> {
    LogicalPlanBuilder::from(Arc::clone(&subquery.subquery)).alias(APART)?.build()
}

/// The rows of a subquery that are equal to what is looked for.
fn matching(within: &InSubquery, schema: &DFSchema) -> Planned<Subquery> {
    let looked_for = within.expr.as_ref().clone().transform_up(|e| match e {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let rows = apart(&within.subquery)?;
    let equal = value_column(&rows).eq(looked_for.data);
    let plan = LogicalPlanBuilder::from(rows).filter(equal)?.build()?;
    Ok(subquery(plan, &within.subquery))
}

fn aggregated(of: &Subquery, call: Expr) -> Planned<Subquery> {
    let none: Vec<Expr> = Vec::new();
    let plan = LogicalPlanBuilder::from(Arc::clone(&of.subquery)).aggregate(none, vec![call])?.build()?;
    Ok(subquery(plan, of))
}

fn subquery(plan: LogicalPlan, like: &Subquery) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: like.spans.clone() }
}
