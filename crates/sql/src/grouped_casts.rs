//! Casts among the keys of GROUP BY. DataFusion calls a cast by what is cast, and takes keys of one name for one:
//! `GROUP BY ts, ts::date` would be refused. Where another key is the same but for casts, a cast becomes a branch of a
//! CASE that is always taken, wherever it stands in the query: that has a name of its own, and costs nothing.

use crate::order_by::{are_same, computed, plain_key};
use crate::respell::number;
use crate::titles::folded;
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan, VisitorMut,
};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Gives such casts names.
pub(crate) fn written_out(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut WriteOut);
}

struct WriteOut;

impl VisitorMut for WriteOut {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && let Some(mut named) = Named::of(select)
        {
            return walk_mut(&mut query.order_by, &mut named);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let Some(mut named) = Named::of(select) else { return ControlFlow::Continue(()) };
        walk_mut(&mut select.distinct, &mut named)?;
        walk_mut(&mut select.projection, &mut named)?;
        walk_mut(&mut select.group_by, &mut named)?;
        walk_mut(&mut select.having, &mut named)
    }
}

/// The casts of a SELECT that are given names.
struct Named(Vec<Expr>);

impl Named {
    fn of(select: &Select) -> Option<Self> {
        let GroupByExpr::Expressions(keys, _) = &select.group_by else { return None };
        let keys: Vec<&Expr> = keys.iter().map(|key| meant(key, &select.projection)).collect();
        let is_apart = |key: &&Expr| {
            let is_other = |other: &&Expr| are_same(bare(other), bare(key)) && !are_same(other, key);
            matches!(plain_key(key), Expr::Cast { .. }) && keys.iter().any(is_other)
        };
        let casts: Vec<Expr> = keys.iter().copied().filter(is_apart).map(|key| plain_key(key).clone()).collect();
        (!casts.is_empty()).then_some(Self(casts))
    }
}

impl VisitorMut for Named {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if matches!(expr, Expr::Cast { .. })
            && let Some(at) = self.0.iter().position(|cast| are_same(cast, expr))
        {
            *expr = branch(expr.clone(), at + 1);
        }
        ControlFlow::Continue(())
    }
}

/// The expression that a key is, which may be the name or the place of a result.
fn meant<'a>(key: &'a Expr, items: &'a [SelectItem]) -> &'a Expr {
    let item = match plain_key(key) {
        Expr::Identifier(name) => items.iter().find(|item| is_called(item, &folded(name))),
        Expr::Value(ValueWithSpan { value: Value::Number(place, _), .. }) => {
            place.parse::<usize>().ok().and_then(|place| items.get(place.checked_sub(1)?))
        }
        _ => None,
    };
    item.and_then(computed).unwrap_or(key)
}

fn is_called(item: &SelectItem, name: &str) -> bool {
    matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == name)
}

/// What is cast.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => bare(inner),
        other => other,
    }
}

/// The only branch of a CASE.
fn branch(result: Expr, place: usize) -> Expr {
    let place = number(&place.to_string());
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: Some(Box::new(place.clone())),
        conditions: vec![CaseWhen { condition: place, result }],
        else_result: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn casts_of_what_is_a_key_too_are_named() {
        for (query, expected) in [
            (
                "SELECT a, a::int AS b, count(*) FROM t GROUP BY a, (CAST(a AS int)) ORDER BY a::int",
                "SELECT a, CASE 1 WHEN 1 THEN a::INT END AS b, count(*) FROM t \
                 GROUP BY a, (CASE 1 WHEN 1 THEN CAST(a AS INT) END) ORDER BY CASE 1 WHEN 1 THEN a::INT END",
            ),
            (
                "SELECT a::date AS x, a::time FROM t GROUP BY x, 2 HAVING t.a::date > b",
                "SELECT CASE 1 WHEN 1 THEN a::DATE END AS x, CASE 2 WHEN 2 THEN a::TIME END FROM t \
                 GROUP BY x, 2 HAVING CASE 1 WHEN 1 THEN t.a::DATE END > b",
            ),
            ("SELECT a::int, b FROM t GROUP BY a::int, b", "SELECT a::INT, b FROM t GROUP BY a::INT, b"),
            ("SELECT a::int FROM t GROUP BY a::int, a::int", "SELECT a::INT FROM t GROUP BY a::INT, a::INT"),
        ] {
            let mut query = *template(query);
            written_out(&mut query);
            assert_eq!(query.to_string(), expected);
        }
    }
}
