//! Casts among the keys of GROUP BY and within calls. DataFusion calls a cast by what is cast, and takes keys and
//! aggregates of one name for one: `GROUP BY ts, ts::date` and `max(ts), max(ts::date)` would be refused. Where another
//! key or call is the same but for casts, a cast becomes a branch of a CASE that is always taken, wherever it stands in
//! the query: that has a name of its own, and costs nothing.

use crate::order_by::{are_same, computed, plain_key};
use crate::respell::number;
use crate::titles::folded;
use crate::walk::{walk, walk_expressions, walk_mut};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, GroupByExpr, OrderBy, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan, Visitor, VisitorMut,
};
use std::collections::BTreeMap;
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
            && let Some(mut named) = Named::of(select, query.order_by.as_ref())
        {
            return walk_mut(&mut query.order_by, &mut named);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let Some(mut named) = Named::of(select, None) else { return ControlFlow::Continue(()) };
        walk_mut(&mut select.distinct, &mut named)?;
        walk_mut(&mut select.projection, &mut named)?;
        walk_mut(&mut select.group_by, &mut named)?;
        walk_mut(&mut select.having, &mut named)
    }
}

/// The casts of a SELECT that are given names.
struct Named(Vec<Expr>);

impl Named {
    /// Those of a SELECT, and then those of an ORDER BY over it: what both know has one name in them.
    fn of(select: &Select, order_by: Option<&OrderBy>) -> Option<Self> {
        let GroupByExpr::Expressions(keys, _) = &select.group_by else { return None };
        let keys: Vec<&Expr> = keys.iter().map(|key| meant(key, &select.projection)).collect();
        let is_apart = |key: &&Expr| {
            let is_other = |other: &&Expr| are_same(bare(other), bare(key)) && !are_same(other, key);
            matches!(plain_key(key), Expr::Cast { .. }) && keys.iter().any(is_other)
        };
        let mut casts: Vec<Expr> = keys.iter().copied().filter(is_apart).map(|key| plain_key(key).clone()).collect();
        let of_calls = order_by.map(|_| casts_of_calls(select, order_by)).unwrap_or_default();
        for cast in casts_of_calls(select, None).into_iter().chain(of_calls) {
            if !casts.iter().any(|known| are_same(known, &cast)) {
                casts.push(cast);
            }
        }
        (!casts.is_empty()).then_some(Self(casts))
    }
}

/// The casts within calls beside which there is another one that is the same but for casts.
fn casts_of_calls(select: &Select, order_by: Option<&OrderBy>) -> Vec<Expr> {
    let mut calls: BTreeMap<String, Vec<Expr>> = BTreeMap::new();
    let mut collect = |expr: &Expr| {
        if matches!(expr, Expr::Function(_)) {
            let mut bare = expr.clone();
            // Nothing breaks the walks off.
            let ControlFlow::Continue(()) = walk_mut(&mut bare, &mut Bare);
            calls.entry(bare.to_string().to_lowercase()).or_default().push(expr.clone());
        }
        ControlFlow::<Infallible>::Continue(())
    };
    let ControlFlow::Continue(()) = walk_expressions(&select.projection, &mut collect);
    let ControlFlow::Continue(()) = walk_expressions(&select.having, &mut collect);
    if let Some(order_by) = order_by {
        let ControlFlow::Continue(()) = walk_expressions(order_by, &mut collect);
    }
    let mut outermost = Outermost::default();
    for alike in calls.values() {
        let first = alike.first().map(ToString::to_string);
        if alike.iter().any(|call| Some(call.to_string()) != first) {
            for call in alike {
                let ControlFlow::Continue(()) = walk(call, &mut outermost);
            }
        }
    }
    outermost.casts
}

/// Takes away what a name that DataFusion gives does not tell, and relations, which may be told or not.
struct Bare;

impl VisitorMut for Bare {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let bare = match &*expr {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => Some((**inner).clone()),
            Expr::CompoundIdentifier(names) => names.last().cloned().map(Expr::Identifier),
            _ => None,
        };
        if let Some(bare) = bare {
            *expr = bare;
        }
        ControlFlow::Continue(())
    }
}

/// Finds casts that are in no other, but for those of literals: a constant has to stay one.
#[derive(Default)]
struct Outermost {
    casts: Vec<Expr>,
    within: usize,
}

impl Visitor for Outermost {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if matches!(expr, Expr::Cast { .. }) {
            if self.within == 0 && !matches!(bare(expr), Expr::Value(_)) {
                self.casts.push(expr.clone());
            }
            self.within += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if matches!(expr, Expr::Cast { .. }) {
            self.within -= 1;
        }
        ControlFlow::Continue(())
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
            (
                "SELECT max(a), max(t.a::text) FROM t HAVING max(a::text) > 'b'",
                "SELECT max(a), max(CASE 1 WHEN 1 THEN t.a::TEXT END) FROM t \
                 HAVING max(CASE 1 WHEN 1 THEN a::TEXT END) > 'b'",
            ),
            (
                "SELECT max(a) FROM t ORDER BY max(a::text)",
                "SELECT max(a) FROM t ORDER BY max(CASE 1 WHEN 1 THEN a::TEXT END)",
            ),
            ("SELECT max(a::text), max(b::text) FROM t", "SELECT max(a::TEXT), max(b::TEXT) FROM t"),
            ("SELECT lag(a, 1), lag(a, 1::int) FROM t", "SELECT lag(a, 1), lag(a, 1::INT) FROM t"),
        ] {
            let mut query = *template(query);
            written_out(&mut query);
            assert_eq!(query.to_string(), expected);
        }
    }
}
