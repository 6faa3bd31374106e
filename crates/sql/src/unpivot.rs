//! VALUES that read the row around them, as in `FROM u CROSS JOIN LATERAL (VALUES ('a', u.x), ('b', u.y)) AS v (k, n)`.
//!
//! They become a SELECT over the numbers of their rows, of which each column is a CASE: a step over the rows of `u`,
//! which is read once. The values of a column are brought to one type as the branches of any CASE are, which is
//! PostgreSQL's rule for VALUES too. VALUES that read nothing stay as they are, and so do those with a subquery or a
//! window function, which are refused later.

use crate::respell::number;
use crate::text::template;
use crate::walk::{walk_expressions, walk_mut};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, CastKind, DataType, Expr, Ident, JoinConstraint, JoinOperator, Parens, Query, Select, SelectItem,
    SetExpr, TableFactor, Value, ValueWithSpan, Values, VisitorMut,
};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// The relation of the rows' numbers, and its column.
const ROWS: &str = "__values";
const NUMBER: &str = "__values_row";

/// Writes out the VALUES of a query that read the row around them.
pub(crate) fn written_out(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut WriteOut);
}

struct WriteOut;

impl VisitorMut for WriteOut {
    type Break = Infallible;

    /// VALUES give a row for each row around them, so that `LEFT JOIN ... ON true` adds none.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if is_lateral(&join.relation)
                && let JoinOperator::Left(on) | JoinOperator::LeftOuter(on) = &join.join_operator
                && is_true(on)
            {
                join.join_operator = JoinOperator::Inner(on.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        let TableFactor::Derived { lateral: true, subquery, .. } = factor else { return ControlFlow::Continue(()) };
        if let Some(selected) = selected(subquery) {
            *subquery = selected;
        } else if let SetExpr::Select(select) = subquery.body.as_mut()
            && let Some(first) = select.from.first_mut()
            && let TableFactor::Derived { lateral: false, subquery: within, .. } = &mut first.relation
            && let Some(selected) = selected(within)
        {
            *within = selected;
        }
        ControlFlow::Continue(())
    }
}

fn is_lateral(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Derived { lateral: true, subquery, .. } if rows(subquery).is_some())
}

const fn is_true(on: &JoinConstraint) -> bool {
    matches!(on, JoinConstraint::On(Expr::Value(ValueWithSpan { value: Value::Boolean(true), .. })))
}

/// The rows of VALUES that read columns, which can only be those of the row around them.
fn rows(query: &Query) -> Option<&[Parens<Vec<Expr>>]> {
    let SetExpr::Values(values) = query.body.as_ref() else { return None };
    let is_bare = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none();
    let is_whole = is_bare && query.fetch.is_none() && query.locks.is_empty();
    let width = values.rows.first()?.content.len();
    let is_even = width > 0 && values.rows.iter().all(|row| row.content.len() == width);
    (is_whole && is_even && reads_columns(values)).then_some(values.rows.as_slice())
}

fn reads_columns(values: &Values) -> bool {
    let mut is_read = false;
    let walked = walk_expressions(values, &mut |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            is_read = true;
            ControlFlow::Continue(())
        }
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        Expr::Function(call) if call.over.is_some() => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    is_read && walked.is_continue()
}

/// What takes the place of such VALUES.
fn selected(query: &Query) -> Option<Box<Query>> {
    let rows = rows(query)?;
    let mut over = template(&format!("SELECT 1 FROM generate_series(1, {}) AS {ROWS} ({NUMBER})", rows.len()));
    if let SetExpr::Select(select) = over.body.as_mut() {
        let width = rows.first().map_or(0, |row| row.content.len());
        select.projection = (0..width).map(|at| column(rows, at)).collect();
    }
    Some(over)
}

/// A column of the rows by their number, under the name that VALUES give it.
fn column(rows: &[Parens<Vec<Expr>>], at: usize) -> SelectItem {
    let values = rows.iter().map(|row| &row.content[at]);
    let is_text = values.clone().all(is_null);
    let branch = |(row, value): (usize, &Expr)| CaseWhen {
        condition: number(&(row + 1).to_string()),
        result: if is_text { text(value.clone()) } else { value.clone() },
    };
    let expr = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: Some(Box::new(Expr::CompoundIdentifier(vec![Ident::new(ROWS), Ident::new(NUMBER)]))),
        conditions: values.enumerate().map(branch).collect(),
        else_result: None,
    };
    SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("column{}", at + 1)) }
}

const fn is_null(value: &Expr) -> bool {
    matches!(value, Expr::Value(ValueWithSpan { value: Value::Null, .. }))
}

/// Nulls alone are texts.
fn text(value: Expr) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type: DataType::Text, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_read_the_row_around_them_are_cases_of_their_number() {
        let over = "FROM generate_series(1, 2) AS __values (__values_row)";
        let case = |first: &str, second: &str| {
            format!("CASE __values.__values_row WHEN 1 THEN {first} WHEN 2 THEN {second} END AS")
        };
        for (written, expected) in [
            (
                "SELECT * FROM u, LATERAL (VALUES ('a', u.x), ('b', u.y)) AS v (k, n)",
                format!(
                    "SELECT * FROM u, LATERAL (SELECT {} column1, {} column2 {over}) AS v (k, n)",
                    case("'a'", "'b'"),
                    case("u.x", "u.y")
                ),
            ),
            (
                "SELECT * FROM u LEFT JOIN LATERAL (VALUES (x, NULL), (y, NULL)) AS v ON true",
                format!(
                    "SELECT * FROM u INNER JOIN LATERAL (SELECT {} column1, {} column2 {over}) AS v ON true",
                    case("x", "y"),
                    case("CAST(NULL AS TEXT)", "CAST(NULL AS TEXT)")
                ),
            ),
            (
                "SELECT * FROM u, LATERAL (SELECT n FROM (VALUES (x), (y)) AS w (n)) AS v",
                format!(
                    "SELECT * FROM u, LATERAL (SELECT n FROM (SELECT {} column1 {over}) AS w (n)) AS v",
                    case("x", "y")
                ),
            ),
        ] {
            let mut query = *template(written);
            written_out(&mut query);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn other_values_stay() {
        for written in [
            "SELECT * FROM u, LATERAL (VALUES (1), (2)) AS v",
            "SELECT * FROM u, (VALUES (x)) AS v",
            "SELECT * FROM u, LATERAL (VALUES (x), (y) ORDER BY 1) AS v",
            "SELECT * FROM u, LATERAL (VALUES ((SELECT max(x) FROM u))) AS v",
            "SELECT * FROM u, LATERAL (VALUES (count(x) OVER ())) AS v",
            "SELECT * FROM u LEFT JOIN LATERAL (VALUES (1)) AS v ON true",
        ] {
            let mut query = *template(written);
            let before = query.clone();
            written_out(&mut query);
            assert_eq!(query, before, "{written}");
        }
    }
}
