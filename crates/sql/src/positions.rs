//! Positions in ORDER BY, `ORDER BY 2`, and in `ROLLUP (2)` as the expressions that they stand for.
//!
//! DataFusion's planner takes a position for the column of what SELECT gives, and looks for it among the keys and
//! aggregates of a GROUP BY, where `sum(x) * 100` is no column. Only a query that it does not take so is written
//! this way. Columns, aliases and numbers stay positions, as do functions whose result is another one each time,
//! and rows of arrays. In grouping sets the planner takes a position for the number itself: columns are written out
//! there too, and so are ROLLUP and CUBE among GROUPING SETS.

use crate::respell::{plain_name, rows_function};
use crate::session::Session;
use crate::sets;
use crate::walk::{walk_expressions, walk_mut};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan, VisitorMut,
};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Writes positions out; tells whether there were any.
pub(crate) fn written_out(query: &mut Query, session: &Session) -> bool {
    let mut positions = Positions { session, found: false };
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut positions);
    positions.found
}

struct Positions<'a> {
    session: &'a Session,
    found: bool,
}

impl VisitorMut for Positions<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(order) = &mut query.order_by else { return ControlFlow::Continue(()) };
        let OrderByKind::Expressions(keys) = &mut order.kind else { return ControlFlow::Continue(()) };
        for key in keys {
            if let Some(at) = position(&key.expr)
                && let Some(SelectItem::UnnamedExpr(expr)) = select.projection.get(at)
                && select.projection[..at].iter().all(is_one)
                && self.is_repeatable(expr)
            {
                key.expr = expr.clone();
                self.found = true;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return ControlFlow::Continue(()) };
        for sets in keys {
            if let Some(flat) = sets::flattened(sets) {
                *sets = flat;
                self.found = true;
            }
            let (Expr::Rollup(groups) | Expr::Cube(groups) | Expr::GroupingSets(groups)) = sets else { continue };
            for key in groups.iter_mut().flatten() {
                if let Some(at) = position(key)
                    && let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) =
                        select.projection.get(at)
                    && select.projection[..at].iter().all(is_one)
                    && !self.is_changing(expr)
                {
                    *key = expr.clone();
                    self.found = true;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

impl Positions<'_> {
    /// Whether an expression is to be computed and gives the same each time.
    fn is_repeatable(&self, expr: &Expr) -> bool {
        let is_given = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
        !is_given && !self.is_changing(expr)
    }

    /// Whether an expression gives another result each time, or rows of arrays.
    fn is_changing(&self, expr: &Expr) -> bool {
        let changing = walk_expressions(expr, &mut |part| match part {
            Expr::Function(function)
                if rows_function(&function.name).is_some()
                    || plain_name(&function.name).is_none_or(|name| self.session.is_changing(&name.to_lowercase())) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        changing.is_break()
    }
}

/// Whether a result is one column: behind a `*` nobody knows yet what stands at a position.
const fn is_one(item: &SelectItem) -> bool {
    matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
}

/// The place among the results, from 0, that a key is.
fn position(key: &Expr) -> Option<usize> {
    match key {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            digits.parse::<usize>().ok()?.checked_sub(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn positions_of_expressions_are_written_out() {
        for (written, expected) in [
            ("SELECT sum(x) * 2, g FROM t ORDER BY 1, 2", "SELECT sum(x) * 2, g FROM t ORDER BY sum(x) * 2, 2"),
            ("SELECT g + 1, x FROM t ORDER BY 1 DESC", "SELECT g + 1, x FROM t ORDER BY g + 1 DESC"),
            ("SELECT g + 1 AS h, 7 FROM t ORDER BY 1, 2", "SELECT g + 1 AS h, 7 FROM t ORDER BY 1, 2"),
            ("SELECT random(), unnest(a) FROM t ORDER BY 1, 2", "SELECT random(), unnest(a) FROM t ORDER BY 1, 2"),
            ("SELECT *, g + 1 FROM t ORDER BY 2", "SELECT *, g + 1 FROM t ORDER BY 2"),
            ("SELECT g + 1 FROM t ORDER BY 2", "SELECT g + 1 FROM t ORDER BY 2"),
            ("SELECT g, x + 1 FROM t GROUP BY ROLLUP (1, 2)", "SELECT g, x + 1 FROM t GROUP BY ROLLUP (g, x + 1)"),
            ("SELECT x AS g FROM t GROUP BY 1, CUBE (1, 2)", "SELECT x AS g FROM t GROUP BY 1, CUBE (x, 2)"),
            (
                "SELECT g, x FROM t GROUP BY GROUPING SETS ((2), ROLLUP (1))",
                "SELECT g, x FROM t GROUP BY GROUPING SETS ((x), (g), ())",
            ),
            (
                "SELECT g, x FROM t GROUP BY GROUPING SETS (x, CUBE (g, (x, y)))",
                "SELECT g, x FROM t GROUP BY GROUPING SETS ((x), (g, x, y), (x, y), (g), ())",
            ),
            ("SELECT *, g FROM t GROUP BY ROLLUP (2)", "SELECT *, g FROM t GROUP BY ROLLUP (2)"),
        ] {
            let mut query = *template(written);
            assert_eq!(written_out(&mut query, &Session::new(1)), written != expected, "{written}");
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }
}
