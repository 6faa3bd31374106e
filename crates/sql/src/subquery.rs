//! What a query says in other words before it is optimized: for a dataflow joins are all there is for
//! subqueries, and DataFusion's own take a null of NOT IN for false where it is a part of a condition.
//!
//! `x NOT IN (...)`, and `x IN (...)` where its null matters, become EXISTS and one aggregate that
//! tells whether the subquery has rows and nulls: so they are exact, correlated or not. ANY and ALL
//! become IN, or comparisons with the least and the greatest value. EXISTS outside of WHERE becomes a
//! count, and IS NOT DISTINCT FROM and ties of intervals equations where what is counted is tied by them. DISTINCT ON
//! becomes the first row of a window.

use crate::correlated::equation;
use crate::error::{Error, Result};
use crate::floats;
use crate::row_counts::most_rows;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DataFusionError, ExprSchema, ScalarValue, not_impl_err, plan_datafusion_err,
};
use datafusion::functions::core::coalesce;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Case, Distinct, DistinctOn, Expr, ExprFunctionExt, ExprSchemable, Filter, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, Sort, Subquery, Window, binary_expr, lit, not,
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
    let number = row_number().partition_by(on_expr);
    // An order of nothing is none.
    let number = if order.is_empty() { number.build()? } else { number.order_by(order.clone()).build()? };
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
                    if query.outer_ref_columns.is_empty() && most_rows(&query.subquery).is_none_or(|rows| rows > 1) =>
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

/// Gives ANY and ALL of subqueries a form that all rules know, and has IN found before rows are sorted, numbered or
/// grouped by it.
pub(crate) fn compared(plan: LogicalPlan) -> Planned<LogicalPlan> {
    let changed = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let changed = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|e| match e {
                Expr::SetComparison(comparison) => {
                    let subquery = told_apart(comparison.subquery)?.data;
                    Ok(Transformed::yes(compared_value(SetComparison { subquery, ..comparison })?))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => shown(subquery)?
                    .transform_data(told_apart)?
                    .map_data(|subquery| Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }))),
                Expr::ScalarSubquery(query) => {
                    let told = told_apart(query)?;
                    let tied = equated(Arc::clone(&told.data.subquery))?;
                    let is_changed = told.transformed || tied.transformed;
                    let query = if tied.transformed { subquery(tied.data, &told.data) } else { told.data };
                    Ok(Transformed::new_transformed(Expr::ScalarSubquery(query), is_changed))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
        })?;
        let changed = if changed.transformed { changed.map_data(LogicalPlan::recompute_schema)? } else { changed };
        changed.transform_data(found_below)
    })?;
    Ok(changed.data)
}

/// Whether a node sorts, numbers or groups its rows by what it looks up of them.
fn looks_up(node: &LogicalPlan) -> Planned<bool> {
    let mut is_found = false;
    if matches!(node, LogicalPlan::Sort(_) | LogicalPlan::Window(_) | LogicalPlan::Aggregate(_)) {
        node.apply_expressions(|expr| {
            is_found |= expr.exists(|e| Ok(matches!(e, Expr::InSubquery(within) if within.expr.any_column_refs())))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(is_found)
}

/// Such a node over columns of what is found: DataFusion makes joins of subqueries in SELECT and WHERE alone.
fn found_below(node: LogicalPlan) -> Planned<Transformed<LogicalPlan>> {
    if !looks_up(&node)? {
        return Ok(Transformed::no(node));
    }
    let input: Vec<LogicalPlan> = node.inputs().into_iter().cloned().collect();
    let [input] = <[LogicalPlan; 1]>::try_from(input).map_err(|_| plan_datafusion_err!("one input"))?;
    let shown: Vec<Expr> = node.schema().columns().into_iter().map(Expr::Column).collect();
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let names = NamePreserver::new(&node);
    // What is sorted by gives no name.
    let is_named = !matches!(node, LogicalPlan::Sort(_));
    let over = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let over = expr.transform_up(|e| match e {
            Expr::InSubquery(_) | Expr::Exists(_) => {
                let column = format!("__found_{}", columns.len());
                columns.push(e.alias(column.as_str()));
                Ok(Transformed::yes(Expr::Column(Column::from_name(column))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if is_named && over.transformed { over.update_data(|expr| name.restore(expr)) } else { over })
    })?;
    let input = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?));
    let over = match over.data {
        LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, .. }) => {
            let grouped = Aggregate::try_new(input, group_expr, aggr_expr)?;
            return Ok(Transformed::yes(LogicalPlan::Aggregate(grouped)));
        }
        LogicalPlan::Window(Window { window_expr, .. }) => LogicalPlan::Window(Window::try_new(window_expr, input)?),
        LogicalPlan::Sort(sort) => LogicalPlan::Sort(Sort { input, ..sort }),
        other => other,
    };
    let shown = Projection::try_new(shown, Arc::new(over))?;
    Ok(Transformed::yes(LogicalPlan::Projection(shown)))
}

/// VALUES as a subquery that shows its column, which DataFusion looks for at its top.
fn shown(query: Subquery) -> Planned<Transformed<Subquery>> {
    if !matches!(query.subquery.as_ref(), LogicalPlan::Values(_)) {
        return Ok(Transformed::no(query));
    }
    let columns = query.subquery.schema().columns().into_iter().map(Expr::Column).collect();
    let shown = Projection::try_new(columns, Arc::clone(&query.subquery))?;
    Ok(Transformed::yes(Subquery { subquery: Arc::new(LogicalPlan::Projection(shown)), ..query }))
}

/// A subquery whose value has a name of its own where it is a cast of a column that ties the subquery to the
/// query around it: both go by one name in DataFusion, and both are to leave the subquery.
fn told_apart(query: Subquery) -> Planned<Transformed<Subquery>> {
    let LogicalPlan::Projection(shown) = query.subquery.as_ref() else { return Ok(Transformed::no(query)) };
    let LogicalPlan::Filter(filter) = shown.input.as_ref() else { return Ok(Transformed::no(query)) };
    let tied = split_conjunction(&filter.predicate).into_iter().filter(|part| part.contains_outer());
    let tied: Vec<&Column> = tied.flat_map(Expr::column_refs).collect();
    let is_like_a_tie = |expr: &Expr| cast_column(expr).is_some_and(|column| tied.contains(&column));
    if !shown.expr.iter().any(is_like_a_tie) {
        return Ok(Transformed::no(query));
    }
    let named = |(at, expr): (usize, &Expr)| {
        if is_like_a_tie(expr) { expr.clone().alias(format!("__value_{at}")) } else { expr.clone() }
    };
    let exprs = shown.expr.iter().enumerate().map(named).collect();
    let shown = Projection::try_new(exprs, Arc::clone(&shown.input))?;
    Ok(Transformed::yes(Subquery { subquery: Arc::new(LogicalPlan::Projection(shown)), ..query }))
}

/// The column that a cast is of.
fn cast_column(expr: &Expr) -> Option<&Column> {
    let Expr::Cast(cast) = expr else { return None };
    match cast.expr.as_ref() {
        Expr::Column(column) => Some(column),
        inner => cast_column(inner),
    }
}

/// `x op ANY (...)` and `x op ALL (...)` as values, which are null when they are not known.
fn compared_value(comparison: SetComparison) -> Planned<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let within = |negated| InSubquery { expr, subquery, negated };
    match (quantifier, op) {
        (SetQuantifier::Any, Operator::Eq) => Ok(Expr::InSubquery(within(false))),
        (SetQuantifier::All, Operator::NotEq) => Ok(Expr::InSubquery(within(true))),
        (SetQuantifier::All, op) => holds_for_all(&within(false), op),
        (SetQuantifier::Any, op) => match op.negate() {
            Some(opposite) => Ok(not(holds_for_all(&within(false), opposite)?)),
            None => not_impl_err!("{op} ANY of a subquery"),
        },
    }
}

/// `x op ALL (...)`: what is true of the greatest or the least value is true of all.
fn holds_for_all(within: &InSubquery, op: Operator) -> Planned<Expr> {
    let value = value_column(&within.subquery.subquery);
    let compared = |extreme: Expr| -> Planned<Expr> {
        let extreme = Expr::ScalarSubquery(aggregated(&within.subquery, extreme)?);
        Ok(binary_expr(within.expr.as_ref().clone(), op, extreme))
    };
    let holds = match op {
        Operator::Gt | Operator::GtEq => compared(max(value))?,
        Operator::Lt | Operator::LtEq => compared(min(value))?,
        Operator::Eq => compared(min(value.clone()))?.and(compared(max(value))?),
        op => return not_impl_err!("{op} ALL of a subquery"),
    };
    let unknown = || Expr::Literal(ScalarValue::Boolean(None), None);
    let known = Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(within.expr.as_ref().clone().is_null()), Box::new(unknown()))],
        else_expr: Some(Box::new(lit(true))),
    });
    Ok(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(not(holds)), Box::new(lit(false)))],
        else_expr: Some(Box::new(cases(within, known, unknown(), lit(true))?)),
    }))
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

/// A subquery under a name of its own, as it may read what the query around it reads, and the conditions
/// that tie its rows to those of the query around it: these are not looked for below the name.
fn apart(subquery: &Subquery) -> Planned<(LogicalPlan, Vec<Expr>)> {
    let plan = &subquery.subquery;
    if plan.all_out_ref_exprs().is_empty() {
        return Ok((LogicalPlanBuilder::from(Arc::clone(plan)).alias(APART)?.build()?, Vec::new()));
    }
    let LogicalPlan::Projection(shown) = plan.as_ref() else { return tied_deeply() };
    let LogicalPlan::Filter(filter) = shown.input.as_ref() else { return tied_deeply() };
    if shown.expr.iter().any(Expr::contains_outer) || !filter.input.all_out_ref_exprs().is_empty() {
        return tied_deeply();
    }
    let parts = split_conjunction_owned(filter.predicate.clone());
    let (tied, own): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(Expr::contains_outer);
    let mut columns = shown.expr.clone();
    let mut ties = Vec::with_capacity(tied.len());
    for condition in tied {
        let tie = condition.transform_up(|e| match e {
            Expr::Column(column) => {
                let name = format!("__tie_{}", columns.len());
                columns.push(Expr::Column(column).alias(name.as_str()));
                Ok(Transformed::yes(Expr::Column(Column::new(Some(APART), name))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        ties.push(tie.data);
    }
    let mut rows = LogicalPlanBuilder::from(Arc::clone(&filter.input));
    if let Some(own) = conjunction(own) {
        rows = rows.filter(own)?;
    }
    Ok((rows.project(columns)?.alias(APART)?.build()?, ties))
}

/// A subquery whose rows are counted or the like, where `a IS NOT DISTINCT FROM b` ties it to the query around
/// it: as two equations, of whether the values are null and of what stands for them then. DataFusion joins
/// what is aggregated by equations of columns alone, so what makes one of intervals that are equal is a column.
fn equated(plan: Arc<LogicalPlan>) -> Planned<Transformed<LogicalPlan>> {
    Arc::unwrap_or_clone(plan).transform_up(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let schema = filter.input.schema();
        let given: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
        let mut columns = given.clone();
        let mut parts = Vec::new();
        for part in split_conjunction(&filter.predicate) {
            let Some(pairs) = equations(part, schema)? else {
                parts.push(part.clone());
                continue;
            };
            for (inner, outer) in pairs {
                let (prefix, inner, outer) = if has_interval(&inner, schema) {
                    (floats::ONE_FORM, floats::key(inner, schema)?, floats::key(outer, schema)?)
                } else {
                    ("__equal_", inner, outer)
                };
                let name = format!("{prefix}{}", columns.len());
                parts.push(Expr::Column(Column::from_name(name.as_str())).eq(outer));
                columns.push(inner.alias(name));
            }
        }
        let Some(condition) = conjunction(parts).filter(|_| columns.len() > given.len()) else {
            return Ok(Transformed::no(node));
        };
        let rows = LogicalPlanBuilder::from(Arc::clone(&filter.input)).project(columns)?;
        rows.filter(condition)?.project(given)?.build().map(Transformed::yes)
    })
}

/// The sides of the equations that a tie becomes, of which the first is of the subquery and the other of the query
/// around it; none where it stays as it is.
fn equations(part: &Expr, schema: &DFSchema) -> Planned<Option<Vec<(Expr, Expr)>>> {
    let Some((inner, op, outer)) = equation(part) else { return Ok(None) };
    if op == Operator::IsNotDistinctFrom {
        let nulls = (inner.clone().is_null(), outer.clone().is_null());
        return Ok(Some(vec![nulls, (never_null(inner, schema)?, never_null(outer, schema)?)]));
    }
    // What IN looks for has its one form when it is looked for in a column that has it.
    let is_done = matches!(inner, Expr::Column(_)) && floats::keyed(outer).is_some();
    let are_open = !is_done && has_interval(inner, schema) && has_interval(outer, schema);
    Ok(are_open.then(|| vec![(inner.clone(), outer.clone())]))
}

fn has_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| floats::is_interval(&of))
}

/// A value, and another one of its type where it is null.
fn never_null(value: &Expr, schema: &DFSchema) -> Planned<Expr> {
    let instead = ScalarValue::new_default(&value.get_type(schema)?)?;
    Ok(coalesce().call(vec![value.clone(), Expr::Literal(instead, None)]))
}

fn tied_deeply<T>() -> Planned<T> {
    not_impl_err!("a correlated subquery of IN, ANY or ALL that is more than SELECT ... FROM ... WHERE")
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
    let (rows, ties) = apart(&within.subquery)?;
    let equal = value_column(&rows).eq(looked_for.data);
    let plan = LogicalPlanBuilder::from(rows).filter(ties.into_iter().fold(equal, Expr::and))?.build()?;
    Ok(subquery(plan, &within.subquery))
}

fn aggregated(of: &Subquery, call: Expr) -> Planned<Subquery> {
    let none: Vec<Expr> = Vec::new();
    let rows = equated(Arc::clone(&of.subquery))?.data;
    let plan = LogicalPlanBuilder::from(rows).aggregate(none, vec![call])?.build()?;
    Ok(subquery(plan, of))
}

fn subquery(plan: LogicalPlan, like: &Subquery) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: like.spans.clone() }
}
