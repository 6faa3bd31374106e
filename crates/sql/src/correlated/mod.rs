//! Subqueries that read the row of the query around them, in a form that DataFusion answers right.
//!
//! DataFusion makes joins of correlated subqueries by pulling the conditions that name the query around them
//! up to the top, past whatever is between. Past a window that is another window, past an aggregate without
//! GROUP BY the one row of an empty group is lost, and columns of one name become one. So subqueries that are
//! more than `SELECT ... FROM ... WHERE` are rewritten before: what is one row becomes a value or a comparison
//! with one (`single`), and conditions are pulled up here, past what they may be pulled past (`lifted`).
//! What is neither is refused (`refused`). What is right as it is stays so (`plain`). Before all that columns of the
//! query around are given the types that they will have (`outer`).

mod around;
mod lifted;
mod outer;
mod plain;
mod refused;
mod single;
#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::lateral::has_subquery;
use crate::session::Session;
use crate::statement::Query;
pub(crate) use around::{around as read_around, lateral};
use around::{around, subquery_of};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction};
use datafusion::logical_expr::{
    Distinct, Expr, FetchType, Filter, Join, JoinType, LogicalPlan, Operator, Projection, SkipType, Subquery,
    SubqueryAlias, binary_expr, lit, not,
};
pub(crate) use lifted::equation;
use lifted::{Names, lifted};
use refused::{Kind, refused, within};
use single::{Single, single};
use std::sync::Arc;

type Planned<T> = std::result::Result<T, DataFusionError>;

/// A bound query whose correlated subqueries can be made joins of.
///
/// # Errors
/// `Unsupported` with the clause that is in the way, and the subquery's place.
pub(crate) fn settled(plan: LogicalPlan, query: &Query, session: &Session) -> Result<LogicalPlan, Error> {
    let mut names = Names::default();
    let settled = plan.transform_up_with_subqueries(|node| of_node(outer::told(node, session)?, &mut names));
    settled.map(|settled| settled.data).map_err(|error| refused::told(error, query))
}

/// A node whose inputs are settled, and the subqueries of which.
fn of_node(node: LogicalPlan, names: &mut Names) -> Planned<Transformed<LogicalPlan>> {
    let is_correlated = check(&node)?;
    if let LogicalPlan::Join(join) = &node
        && let Some((subquery, alias)) = lateral(&join.right)
    {
        return match of_join(join, subquery, alias, names).map_err(|e| within(e, Kind::Lateral, &subquery.subquery))? {
            Some(settled) => Ok(Transformed::yes(settled)),
            None => Ok(Transformed::no(node)),
        };
    }
    if !is_correlated {
        return Ok(Transformed::no(node));
    }
    let saved = NamePreserver::new(&node);
    let is_condition = matches!(node, LogicalPlan::Filter(_));
    let changed = node.map_expressions(|expr| {
        let name = saved.save(&expr);
        let changed = expr.transform_up(|e| of_expr(e, is_condition, names))?;
        Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
    })?;
    as_values(&changed.data)?;
    if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
}

/// Refuses what is made of all rows of a subquery where ties leave rows of several values: all but IN and EXISTS as
/// conditions of WHERE.
fn as_values(node: &LogicalPlan) -> Planned<()> {
    let LogicalPlan::Filter(filter) = node else {
        return node.apply_expressions(|expr| keyed(expr, true)).map(drop);
    };
    let is_looked_up = |part: &&Expr| match part {
        Expr::InSubquery(within) => !within.negated,
        Expr::SetComparison(of) => of.op == Operator::Eq && of.quantifier == SetQuantifier::Any,
        _ => false,
    };
    let parts = split_conjunction(&filter.predicate).into_iter().filter(|part| !is_looked_up(part));
    parts.map(|part| keyed(part, false)).try_for_each(|seen| seen.map(drop))
}

fn keyed(expr: &Expr, with_exists: bool) -> Planned<TreeNodeRecursion> {
    expr.apply(|e| {
        let Some((kind, subquery)) = subquery_of(e) else { return Ok(TreeNodeRecursion::Continue) };
        let clause = match kind {
            Kind::In => "NOT IN, or IN within an expression,",
            Kind::Compared => "ANY or ALL",
            Kind::Exists if with_exists => "EXISTS outside of WHERE",
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        if around(&subquery.subquery)?.is_empty() || plain::is_keyed(&subquery.subquery)? {
            return Ok(TreeNodeRecursion::Continue);
        }
        let refusal = refused(
            format!("{clause} of a correlated subquery that is tied by more than equalities"),
            "write it as a join, or as EXISTS in WHERE",
        );
        refusal.map_err(|error| within(error, kind, &subquery.subquery))
    })
}

/// Whether a subquery is left to DataFusion as a set of rows, which may be counted and the like.
fn is_left(plan: &LogicalPlan, names: &mut Names) -> Planned<bool> {
    Ok(plain::is_plain(plan, true)? && (plain::is_keyed(plan)? || !lifted(plan, true, names)?.is_equal()))
}

/// Refuses correlated subqueries that stand where no join can be made of them, or that read more than the row
/// of the query right around them; whether there are others.
fn check(node: &LogicalPlan) -> Planned<bool> {
    let mut is_correlated = false;
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            let Some((kind, subquery)) = subquery_of(e) else { return Ok(TreeNodeRecursion::Continue) };
            let read = around(&subquery.subquery)?;
            if read.is_empty() {
                return Ok(TreeNodeRecursion::Continue);
            }
            let schema = merge_schema(&node.inputs());
            let refusal = if let Some(clause) = clause_of(node) {
                let hint = "compute it in a subquery in FROM, and name its column";
                refused::<()>(format!("a correlated subquery in {clause}"), hint)
            } else if read.iter().any(|column| schema.maybe_index_of_column(column).is_none()) {
                farther()
            } else {
                Ok(())
            };
            refusal.map_err(|error| within(error, kind, &subquery.subquery))?;
            is_correlated = true;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(is_correlated)
}

fn farther<T>() -> Planned<T> {
    let hint = "it can only read the row of the query right around it: join to the other one within";
    refused("a subquery that is tied to a query two levels up", hint)
}

/// The clause of a node whose subqueries are not made joins of.
fn clause_of(node: &LogicalPlan) -> Option<&'static str> {
    match node {
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) => None,
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let sorts = on.sort_expr.iter().flatten().map(|sort| &sort.expr);
            on.on_expr.iter().chain(sorts).any(has_subquery).then_some("DISTINCT ON or its ORDER BY")
        }
        LogicalPlan::Sort(_) => Some("ORDER BY"),
        LogicalPlan::Window(_) => Some("OVER"),
        LogicalPlan::Aggregate(_) => Some("GROUP BY or an aggregate"),
        LogicalPlan::Join(_) => Some("ON"),
        LogicalPlan::Values(_) => Some("VALUES"),
        _ => Some("this clause"),
    }
}

fn of_expr(expr: Expr, is_condition: bool, names: &mut Names) -> Planned<Transformed<Expr>> {
    let Some((kind, subquery)) = subquery_of(&expr) else { return Ok(Transformed::no(expr)) };
    if around(&subquery.subquery)?.is_empty() {
        return Ok(Transformed::no(expr));
    }
    let settled = match &expr {
        // A condition of WHERE alone does not count the rows.
        Expr::Exists(Exists { subquery, .. }) if is_condition && plain::is_plain(&subquery.subquery, true)? => Ok(None),
        Expr::Exists(Exists { subquery, negated }) => exists(subquery, *negated, names),
        Expr::InSubquery(within) => looked_up(within, names),
        Expr::SetComparison(comparison) => compared(comparison, names),
        _ => value(subquery, names),
    };
    match settled.map_err(|error| within(error, kind, &subquery.subquery))? {
        Some(settled) => Ok(Transformed::yes(settled)),
        None => Ok(Transformed::no(expr)),
    }
}

/// Whether there are rows: all that only makes one row of another is left out.
fn exists(subquery: &Subquery, negated: bool, names: &mut Names) -> Planned<Option<Expr>> {
    if is_left(&subquery.subquery, names)? {
        return Ok(None);
    }
    let Some(rows) = rows_of(&subquery.subquery)? else { return Ok(Some(lit(negated))) };
    if let Some(one) = single(rows)? {
        let there = match &one.holds {
            Some(holds) => one.asked(holds, names)?.is_true(),
            None => lit(true),
        };
        return Ok(Some(if negated { not(there) } else { there }));
    }
    let rows = tied(rows, true, names)?;
    let rows = LogicalPlan::Projection(Projection::try_new(vec![lit(1_i64)], Arc::new(rows))?);
    Ok(Some(Expr::Exists(Exists { subquery: asking(rows, subquery), negated })))
}

/// What has rows when a plan has; none where there are none.
fn rows_of(plan: &LogicalPlan) -> Planned<Option<&LogicalPlan>> {
    let input = match plan {
        LogicalPlan::Projection(projection) => &projection.input,
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        LogicalPlan::Distinct(Distinct::On(on)) => &on.input,
        LogicalPlan::Window(window) => &window.input,
        LogicalPlan::Aggregate(aggregate)
            if !aggregate.group_expr.is_empty()
                && !matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) =>
        {
            &aggregate.input
        }
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (_, FetchType::Literal(Some(0))) => return Ok(None),
            (SkipType::Literal(0), FetchType::Literal(_)) => &limit.input,
            _ => return Ok(Some(plan)),
        },
        _ => return Ok(Some(plan)),
    };
    rows_of(input)
}

/// `x [NOT] IN (...)`.
fn looked_up(within: &InSubquery, names: &mut Names) -> Planned<Option<Expr>> {
    let InSubquery { expr, subquery, negated } = within;
    let any = (Operator::Eq, SetQuantifier::Any);
    if let Some(compared) = compared_with_one(expr, subquery, any, names)? {
        return Ok(Some(if *negated { not(compared) } else { compared }));
    }
    let settled = one_column(subquery, names)?;
    Ok(settled.map(|subquery| Expr::InSubquery(InSubquery { expr: expr.clone(), subquery, negated: *negated })))
}

/// `x op ANY (...)` and `x op ALL (...)`.
fn compared(comparison: &SetComparison, names: &mut Names) -> Planned<Option<Expr>> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    if let Some(compared) = compared_with_one(expr, subquery, (*op, *quantifier), names)? {
        return Ok(Some(compared));
    }
    let settled = one_column(subquery, names)?;
    Ok(settled.map(|subquery| Expr::SetComparison(SetComparison { subquery, ..comparison.clone() })))
}

/// A comparison with the one row that a subquery has at most.
fn compared_with_one(
    expr: &Expr,
    subquery: &Subquery,
    (op, quantifier): (Operator, SetQuantifier),
    names: &mut Names,
) -> Planned<Option<Expr>> {
    let Some(one) = single(&subquery.subquery)? else { return Ok(None) };
    let compared = binary_expr(expr.clone(), op, one.first(names)?);
    let none = || lit(matches!(quantifier, SetQuantifier::All));
    Ok(Some(match &one.holds {
        Some(holds) => case(one.asked(holds, names)?, compared, Some(none())),
        None => compared,
    }))
}

/// A subquery that something is looked up in, as a set of values.
fn one_column(subquery: &Subquery, names: &mut Names) -> Planned<Option<Subquery>> {
    let plan = &subquery.subquery;
    if is_left(plan, names)? {
        return Ok(None);
    }
    let rows = shown(plan, tied(plan, true, names)?)?;
    Ok(Some(asking(rows, subquery)))
}

/// A subquery as a value.
fn value(subquery: &Subquery, names: &mut Names) -> Planned<Option<Expr>> {
    let plan = &subquery.subquery;
    let Some(one) = single(plan)? else {
        if plain::is_plain_group(plan)? {
            return Ok(None);
        }
        // What is in the way of more says more.
        lifted(plan, false, names)?;
        return refused("a correlated subquery that may give several rows as a value", "use an aggregate such as max");
    };
    if plain::is_plain_single(plan)? {
        return Ok(None);
    }
    let value = one.first(names)?;
    Ok(Some(match &one.holds {
        Some(holds) => case(one.asked(holds, names)?, value, None),
        None => value,
    }))
}

/// A join whose right side reads the row of the left one.
fn of_join(
    join: &Join,
    subquery: &Subquery,
    alias: Option<&SubqueryAlias>,
    names: &mut Names,
) -> Planned<Option<LogicalPlan>> {
    let plan = &subquery.subquery;
    let read = around(plan)?;
    if read.iter().any(|column| join.left.schema().maybe_index_of_column(column).is_none()) {
        return farther();
    }
    if read.is_empty() {
        return Ok(None);
    }
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return refused("RIGHT or FULL JOIN of LATERAL", "join it with JOIN or LEFT JOIN");
    }
    let is_hidden = |column: &Column| column.relation.is_none() && plan.schema().has_column(column);
    if read.iter().any(is_hidden) {
        return refused("this LATERAL", "give the relation around it an alias");
    }
    if let Some(one) = single(plan)? {
        if join.join_type == JoinType::Inner && plain::is_plain_lateral(plan)? {
            return Ok(None);
        }
        return beside(join, &one, names).map(Some);
    }
    if plain::is_plain(plan, false)? {
        return Ok(None);
    }
    let rows = shown(plan, tied(plan, false, names)?)?;
    let mut right = LogicalPlan::Subquery(asking(rows, subquery));
    if let Some(alias) = alias {
        right = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(right), alias.alias.clone())?);
    }
    Ok(Some(LogicalPlan::Join(Join { right: Arc::new(right), ..join.clone() })))
}

/// A lateral join to the one row that its right side has at most: its columns are values beside the left row.
fn beside(join: &Join, one: &Single, names: &mut Names) -> Planned<LogicalPlan> {
    let kept: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let mut exprs = kept.clone();
    for (value, (relation, field)) in one.values.iter().zip(join.right.schema().iter()) {
        exprs.push(one.asked(value, names)?.alias_qualified(relation.cloned(), field.name()));
    }
    let mut conditions: Vec<Expr> = join.on.iter().map(|(left, right)| left.clone().eq(right.clone())).collect();
    conditions.extend(join.filter.clone().filter(|filter| *filter != lit(true)));
    if let Some(holds) = &one.holds {
        let name = names.next();
        conditions.push(Expr::Column(Column::from_name(name.as_str())));
        exprs.push(one.asked(holds, names)?.alias(name));
    }
    let rows = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&join.left))?);
    let Some(condition) = conjunction(conditions) else { return Ok(rows) };
    let columns = join.right.schema().columns().into_iter();
    if join.join_type == JoinType::Inner {
        let rows = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(rows))?);
        let exprs = kept.into_iter().chain(columns.map(Expr::Column)).collect();
        return Projection::try_new(exprs, Arc::new(rows)).map(LogicalPlan::Projection);
    }
    let or_null = |column: Column| {
        let value = case(condition.clone(), Expr::Column(column.clone()), None);
        value.alias_qualified(column.relation, column.name)
    };
    let exprs = kept.into_iter().chain(columns.map(or_null)).collect();
    Projection::try_new(exprs, Arc::new(rows)).map(LogicalPlan::Projection)
}

/// The rows of a plan for each row around it, with the conditions that name that one at the top.
fn tied(plan: &LogicalPlan, is_set: bool, names: &mut Names) -> Planned<LogicalPlan> {
    lifted(plan, is_set, names)?.tied()
}

/// The columns that a plan had, of rows that have more.
fn shown(plan: &LogicalPlan, rows: LogicalPlan) -> Planned<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    Projection::try_new(columns, Arc::new(rows)).map(LogicalPlan::Projection)
}

/// A subquery with another plan.
fn asking(plan: LogicalPlan, like: &Subquery) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: like.spans.clone() }
}

fn case(when: Expr, then: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(when), Box::new(then))],
        else_expr: otherwise.map(Box::new),
    })
}
