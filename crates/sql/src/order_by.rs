//! ORDER BY as PostgreSQL reads it: a name alone is that of a result, where there is one, and in an expression names
//! are those of what FROM gives. DataFusion's planner takes results first in both.
//!
//! An expression with the name of a result in it is therefore written in another way: one that SELECT gives under a
//! name is that name, and any other becomes a column of SELECT itself, beneath a query that sorts by it and shows
//! the rest. With DISTINCT there are none but those that SELECT gives, and none over set operations.
//!
//! A query in brackets takes the order that stands behind them.

use crate::error::Error;
use crate::merged::merges_any;
use crate::scopes::folded;
use crate::text::{Position, template};
use crate::titles::named_by_place;
use crate::walk::{walk, walk_expressions, walk_mut};
use datafusion::sql::sqlparser::ast::{
    CastKind, Distinct, ExcludeSelectItem, Expr, Ident, ObjectName, ObjectNamePart, OrderBy, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins, Visitor, VisitorMut,
    WildcardAdditionalOptions,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// How the names begin of columns that are sorted by and not shown.
const KEY: &str = "order#";
/// The name of the query whose columns they are.
pub(crate) const SORTED: &str = "sorted#";

/// Refuses the first key of a query that is an expression where there can be none.
pub(crate) fn check(query: &Query, text: &str) -> ControlFlow<Box<Error>> {
    let body = unbracketed(&query.body);
    for key in keys(query.order_by.as_ref()).iter().filter(|key| is_expression(&key.expr)) {
        let position = Position::of(text, key.expr.span().start);
        match body {
            SetExpr::SetOperation { .. } => {
                let clause = "an expression in ORDER BY of UNION, INTERSECT or EXCEPT";
                let hint = "name a column of the result, or sort around a subquery";
                return ControlFlow::Break(Box::new(Error::unsupported(clause, hint, position)));
            }
            SetExpr::Select(select) if is_distinct(select) && !may_give(select, &key.expr) => {
                return ControlFlow::Break(Box::new(Error::not_distinct(position)));
            }
            _ => {}
        }
    }
    ControlFlow::Continue(())
}

/// Where a query sorts by a name that is not among its DISTINCT results, or says ON otherwise than it sorts.
pub(crate) fn beyond_distinct(query: &Query, text: &str) -> Option<Position> {
    let mut found = Beyond { named: None, on: None };
    let ControlFlow::Continue(()) = walk(query, &mut found);
    let at = found.named.or(found.on)?;
    Position::of(text, at.span().start)
}

/// Gives all ORDER BY in a query a form in which the planner reads them so.
pub(crate) fn written_out(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut WriteOut);
}

pub(crate) fn keys(order: Option<&OrderBy>) -> &[OrderByExpr] {
    match order {
        Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) => keys,
        _ => &[],
    }
}

pub(crate) fn keys_mut(order: Option<&mut OrderBy>) -> &mut [OrderByExpr] {
    match order {
        Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) => keys,
        _ => &mut [],
    }
}

/// What stands in brackets, or without any.
pub(crate) fn unbracketed(body: &SetExpr) -> &SetExpr {
    match body {
        SetExpr::Query(query) => unbracketed(&query.body),
        other => other,
    }
}

/// A key without the brackets around it.
pub(crate) fn plain_key(key: &Expr) -> &Expr {
    match key {
        Expr::Nested(inner) => plain_key(inner),
        other => other,
    }
}

/// Whether a key is neither a name alone nor a place.
fn is_expression(key: &Expr) -> bool {
    !matches!(plain_key(key), Expr::Identifier(_) | Expr::Value(_))
}

fn is_distinct(select: &Select) -> bool {
    matches!(select.distinct, Some(Distinct::Distinct))
}

pub(crate) fn is_wild(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// What an item computes.
pub(crate) fn computed(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The last part of a column's name, as it is meant.
fn column_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        Expr::Nested(inner) => column_of(inner),
        _ => None,
    }
}

/// What a result is called that has a name.
fn result_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(expr) => column_of(expr),
        _ => None,
    }
}

/// Whether a SELECT gives an expression, or may do so by a `*`, which gives columns.
fn may_give(select: &Select, key: &Expr) -> bool {
    let gives = |item: &SelectItem| {
        computed(item).is_some_and(|expr| are_same(expr, key)) || is_wild(item) && column_of(key).is_some()
    };
    select.projection.iter().any(gives)
}

/// An expression without brackets, in which all names are as they are meant and columns have lost their relations,
/// and these relations in their order.
fn plain(expr: &Expr) -> (Expr, Vec<Option<String>>) {
    let (mut expr, mut plain) = (expr.clone(), Plain(Vec::new()));
    let ControlFlow::Continue(()) = walk_mut(&mut expr, &mut plain);
    (expr, plain.0)
}

/// Whether two expressions over the same FROM may be the same one, a column being told with its relation or without.
pub(crate) fn are_same(one: &Expr, other: &Expr) -> bool {
    let ((one, of_one), (other, of_other)) = (plain(one), plain(other));
    let is_one = |(one, other): (&Option<String>, &Option<String>)| one.is_none() || other.is_none() || one == other;
    one == other && of_one.iter().zip(&of_other).all(is_one)
}

/// Whether two expressions over the same FROM are the same one, each column being told with its relation in both or
/// in none.
pub(crate) fn are_equal(one: &Expr, other: &Expr) -> bool {
    plain(one) == plain(other)
}

/// Whether expressions over a FROM are all the same one. Where it merges columns, one without a relation is another
/// one than that of a relation.
pub(crate) fn are_all_same(exprs: &[&Expr], merges: bool) -> bool {
    let is_same = |one: &Expr, other: &Expr| are_equal(one, other) || !merges && are_same(one, other);
    exprs.iter().enumerate().all(|(at, one)| exprs[at + 1..].iter().all(|other| is_same(one, other)))
}

struct Plain(Vec<Option<String>>);

impl VisitorMut for Plain {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let plain = match expr {
            Expr::Identifier(name) => {
                self.0.push(None);
                Expr::Identifier(meant(name))
            }
            Expr::CompoundIdentifier(names) => {
                let [relation @ .., name] = names.as_slice() else { return ControlFlow::Continue(()) };
                self.0.push(relation.last().map(folded));
                Expr::Identifier(meant(name))
            }
            Expr::Nested(inner) => (**inner).clone(),
            Expr::Cast { kind, .. } if *kind == CastKind::DoubleColon => {
                *kind = CastKind::Cast;
                return ControlFlow::Continue(());
            }
            Expr::Function(call) => {
                for part in &mut call.name.0 {
                    if let ObjectNamePart::Identifier(name) = part {
                        *name = meant(name);
                    }
                }
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        *expr = plain;
        ControlFlow::Continue(())
    }
}

/// A name in the case that it means.
fn meant(name: &Ident) -> Ident {
    Ident::with_quote('"', folded(name))
}

/// The first keys of DISTINCT that are the names of no results, and the first expressions of DISTINCT ON.
struct Beyond {
    named: Option<Expr>,
    on: Option<Expr>,
}

impl Visitor for Beyond {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Infallible> {
        let keys = keys(query.order_by.as_ref());
        let SetExpr::Select(select) = unbracketed(&query.body) else { return ControlFlow::Continue(()) };
        let results: BTreeSet<String> = select.projection.iter().filter_map(result_of).collect();
        let is_beyond = |key: &&OrderByExpr| column_of(&key.expr).is_some_and(|name| !results.contains(&name));
        match &select.distinct {
            Some(Distinct::Distinct) if self.named.is_none() => {
                self.named = keys.iter().find(is_beyond).map(|key| key.expr.clone());
            }
            Some(Distinct::On(on)) if self.on.is_none() && !keys.is_empty() => self.on = on.first().cloned(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

struct WriteOut;

impl VisitorMut for WriteOut {
    type Break = Infallible;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        while let Some(inner) = bracketed(query) {
            *query = inner;
        }
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let aliases: BTreeSet<String> = select.projection.iter().filter_map(alias_of).collect();
        let mut is_any_open = false;
        for key in keys_mut(query.order_by.as_mut()) {
            if is_expression(&key.expr) && names_any(&key.expr, &aliases) && !is_by_rows(select) {
                match result_as(select, &key.expr, true) {
                    Some(name) => key.expr = Expr::Identifier(name),
                    None => is_any_open = true,
                }
            }
        }
        if is_any_open && !is_distinct(select) {
            sort_around(query);
        }
        ControlFlow::Continue(())
    }
}

/// A sorted query in brackets as it is without them, if they say nothing.
fn bracketed(query: &Query) -> Option<Query> {
    let SetExpr::Query(inner) = query.body.as_ref() else { return None };
    let is_twice = query.with.is_some() && inner.with.is_some()
        || query.limit_clause.is_some() && inner.limit_clause.is_some()
        || query.fetch.is_some() && inner.fetch.is_some();
    if query.order_by.is_none() || inner.order_by.is_some() || is_twice {
        return None;
    }
    let mut without = query.clone();
    let inner = inner.as_ref().clone();
    without.body = inner.body;
    without.with = without.with.or(inner.with);
    without.limit_clause = without.limit_clause.or(inner.limit_clause);
    without.fetch = without.fetch.or(inner.fetch);
    Some(without)
}

fn alias_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    }
}

/// DISTINCT ON is planned over what FROM gives, and so is its order.
pub(crate) fn is_by_rows(select: &Select) -> bool {
    matches!(select.distinct, Some(Distinct::On(_)))
}

/// Has DISTINCT sort by the names of the results that its keys compute: the planner knows them by no others.
pub(crate) fn name_keys(select: &mut Select, order: Option<&mut OrderBy>) {
    if !is_distinct(select) {
        return;
    }
    for key in keys_mut(order) {
        if is_expression(&key.expr)
            && let Some(name) = result_as(select, &key.expr, false)
        {
            key.expr = Expr::Identifier(name);
        }
    }
}

/// Whether an expression has a column of one of these names in it.
fn names_any(expr: &Expr, names: &BTreeSet<String>) -> bool {
    let looked = walk_expressions(expr, &mut |part| match part {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_)
            if column_of(part).is_some_and(|name| names.contains(&name)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    looked.is_break()
}

/// The name of the result that a SELECT computes by an expression; it is given one where it has none, unless it is a
/// column and these keep theirs.
fn result_as(select: &mut Select, key: &Expr, names_columns: bool) -> Option<Ident> {
    let items = || select.projection.iter().enumerate().filter_map(|(at, item)| Some((at, computed(item)?)));
    let equal = items().find(|(_, expr)| are_equal(expr, key)).map(|(at, _)| at);
    let at = equal.or_else(|| {
        let (places, same): (Vec<usize>, Vec<&Expr>) = items().filter(|(_, expr)| are_same(expr, key)).unzip();
        let is_one = !merges_any(select) && are_all_same(&same, false);
        places.first().copied().filter(|_| is_one)
    })?;
    let item = &mut select.projection[at];
    if let SelectItem::UnnamedExpr(expr) = item
        && (names_columns || column_of(expr).is_none())
    {
        *item = named_by_place(expr.clone(), at);
    }
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        _ => None,
    }
}

/// Has a SELECT compute what is sorted by, and sorts around it.
fn sort_around(query: &mut Query) {
    let mut inner = template("SELECT 1");
    std::mem::swap(&mut inner.body, &mut query.body);
    let SetExpr::Select(select) = inner.body.as_mut() else { return };
    let results: BTreeSet<String> = select.projection.iter().filter_map(result_of).collect();
    tell_apart(select);
    let mut hidden = Vec::new();
    for key in keys_mut(query.order_by.as_mut()) {
        let is_shown = match plain_key(&key.expr) {
            Expr::Identifier(name) => results.contains(&folded(name)),
            other => matches!(other, Expr::Value(_)),
        };
        if is_shown {
            continue;
        }
        let alias = Ident::with_quote('"', format!("{KEY}{}", hidden.len() + 1));
        let expr = std::mem::replace(&mut key.expr, Expr::Identifier(alias.clone()));
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: alias.clone() });
        hidden.push(ObjectName(vec![ObjectNamePart::Identifier(alias)]));
    }
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', SORTED), columns: Vec::new(), at: None };
    let relation = TableFactor::Derived { lateral: false, subquery: inner, alias: Some(alias), sample: None };
    let shown = WildcardAdditionalOptions {
        opt_exclude: Some(ExcludeSelectItem::Multiple(hidden)),
        ..WildcardAdditionalOptions::default()
    };
    let mut around = template("SELECT * FROM t");
    if let SetExpr::Select(select) = around.body.as_mut() {
        select.projection = vec![SelectItem::Wildcard(shown)];
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    }
    query.body = around.body;
}

/// Gives columns names of their own that have the name of another result.
fn tell_apart(select: &mut Select) {
    let mut seen: BTreeSet<String> = select.projection.iter().filter_map(alias_of).collect();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some(name) = column_of(expr)
            && !seen.insert(name)
        {
            *item = named_by_place(expr.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_with_names_of_results_are_written_in_another_way() {
        for (written, expected) in [
            ("SELECT -g AS g FROM t ORDER BY g, 1, h + 1", "SELECT -g AS g FROM t ORDER BY g, 1, h + 1"),
            (
                "SELECT -g AS g, id FROM t ORDER BY g + 1 DESC, id, 2, k LIMIT 1",
                r#"SELECT * EXCLUDE ("order#1", "order#2") FROM (SELECT -g AS g, id, g + 1 AS "order#1", k AS "order#2" FROM t) AS "sorted#" ORDER BY "order#1" DESC, id, 2, "order#2" LIMIT 1"#,
            ),
            (
                "SELECT a.id, b.id, -g AS x FROM a, b ORDER BY b.x",
                r#"SELECT * EXCLUDE ("order#1") FROM (SELECT a.id, b.id AS "?column?#2#id", -g AS x, b.x AS "order#1" FROM a, b) AS "sorted#" ORDER BY "order#1""#,
            ),
            ("SELECT sum(g) AS g FROM t ORDER BY SUM((t.G)) DESC", "SELECT sum(g) AS g FROM t ORDER BY g DESC"),
            (
                "SELECT DISTINCT g + 1, -g AS g FROM t ORDER BY g + 1",
                r#"SELECT DISTINCT g + 1 AS "?column?#1#?column?", -g AS g FROM t ORDER BY "?column?#1#?column?""#,
            ),
            (
                "SELECT DISTINCT ON (g + 1) -g AS g FROM t ORDER BY g + 1",
                "SELECT DISTINCT ON (g + 1) -g AS g FROM t ORDER BY g + 1",
            ),
            ("(SELECT g FROM t LIMIT 1) ORDER BY g", "SELECT g FROM t ORDER BY g LIMIT 1"),
            ("(SELECT g FROM t ORDER BY g) ORDER BY g DESC", "(SELECT g FROM t ORDER BY g) ORDER BY g DESC"),
        ] {
            let mut query = *template(written);
            written_out(&mut query);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn expressions_are_the_same_but_for_brackets_and_relations_that_are_left_out() {
        let expr = |text: &str| {
            let query = template(&format!("SELECT {text}"));
            let SetExpr::Select(select) = *query.body else { panic!("a SELECT") };
            computed(&select.projection[0]).expect("an expression").clone()
        };
        for (one, other, expected) in [
            ("a.x + 1", "(X) + 1", true),
            ("a.x + 1", "b.x + 1", false),
            ("a.x + y", "x + b.y", true),
            ("x + 1", "x + 2", false),
            ("x::text", "CAST(a.x AS text)", true),
            ("Lower(x)", "lower(x)", true),
            ("\"X\"", "x", false),
        ] {
            assert_eq!(are_same(&expr(one), &expr(other)), expected, "{one} and {other}");
        }
        let [a, bare, b] = ["a.x", "x", "b.x"].map(expr);
        assert!(are_all_same(&[&a, &bare], false) && !are_all_same(&[&a, &bare], true));
        assert!(!are_all_same(&[&a, &bare, &b], false) && are_all_same(&[&bare, &bare], true));
    }

    #[test]
    fn keys_that_distinct_and_set_operations_do_not_have_are_refused() {
        for (query, sqlstate, at) in [
            ("SELECT DISTINCT g FROM t ORDER BY g, g + 1", "42P10", 38),
            ("SELECT g FROM t UNION SELECT g FROM u ORDER BY g + 1", "0A000", 48),
            ("(SELECT g FROM t EXCEPT SELECT g FROM u) ORDER BY t.g", "0A000", 51),
        ] {
            let ControlFlow::Break(error) = check(&template(query), query) else { panic!("{query} is refused") };
            assert_eq!((error.sqlstate(), error.position().map(|at| at.offset)), (sqlstate, Some(at)), "{query}");
        }
        for query in [
            "SELECT DISTINCT g, -h AS i FROM t ORDER BY t.g, -h, i, 1",
            "SELECT DISTINCT * FROM t ORDER BY t.g",
            "SELECT g FROM t UNION SELECT g FROM u ORDER BY g, 1",
            "VALUES (1), (2) ORDER BY column1 + 1",
        ] {
            assert!(check(&template(query), query).is_continue(), "{query}");
        }
        let query = "SELECT DISTINCT s FROM t ORDER BY s, n";
        assert_eq!(beyond_distinct(&template(query), query).map(|at| at.offset), Some(38));
    }
}
