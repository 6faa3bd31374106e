//! Results of a SELECT that have one name: PostgreSQL takes them, as long as nothing names them, and DataFusion's
//! planner does not. One of them keeps the name where they are all the same, and the others are given names that
//! nobody writes, which end with their titles.

use crate::error::Error;
use crate::merged::merges_any;
use crate::order_by::{are_all_same, are_same, computed, keys, plain_key, unbracketed};
use crate::text::Position;
use crate::titles::{UNWRITTEN, first_select, folded, is_column, result_of, shown, unwritten};
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{Distinct, Expr, Ident, Query, Select, SelectItem, SetExpr, Spanned, Visitor};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Refuses a name in ORDER BY or DISTINCT ON that several results have.
pub(crate) fn check_order(query: &Query, text: &str) -> ControlFlow<Box<Error>> {
    let Some(select) = first_select(&query.body) else { return ControlFlow::Continue(()) };
    let is_of_sets = matches!(unbracketed(&query.body), SetExpr::SetOperation { .. });
    let on = match &select.distinct {
        Some(Distinct::On(on)) if !is_of_sets => on.as_slice(),
        _ => &[],
    };
    let sorted = keys(query.order_by.as_ref()).iter().map(|key| ("ORDER BY", &key.expr));
    for (clause, expr) in on.iter().map(|expr| ("DISTINCT ON", expr)).chain(sorted) {
        let Expr::Identifier(name) = plain_key(expr) else { continue };
        if is_ambiguous(select, &folded(name), is_of_sets) {
            let message = format!("{clause} {:?} is ambiguous", folded(name));
            let position = Position::of(text, expr.span().start);
            return ControlFlow::Break(Box::new(Error::Invalid { sqlstate: "42702", message, position }));
        }
    }
    ControlFlow::Continue(())
}

/// The same of all queries in one.
///
/// # Errors
/// `Invalid` (42702).
pub(crate) fn check_orders(query: &Query, text: &str) -> Result<(), Error> {
    match walk(query, &mut Orders { text }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Orders<'a> {
    text: &'a str,
}

impl Visitor for Orders<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Box<Error>> {
        check_order(query, self.text)
    }
}

/// Whether different results have a name, other than columns, which the planner tells of itself. Those of set
/// operations are different, whatever they are made of.
fn is_ambiguous(select: &Select, name: &str, is_of_sets: bool) -> bool {
    let is_it = |item: &&SelectItem| result_of(item).is_some_and(|title| title == name);
    let named: Vec<&SelectItem> = select.projection.iter().filter(is_it).collect();
    if is_of_sets {
        return named.len() > 1;
    }
    let exprs: Vec<&Expr> = named.iter().filter_map(|item| computed(item)).collect();
    let is_own = |item: &&SelectItem| matches!(item, SelectItem::UnnamedExpr(expr) if is_column(expr));
    !named.iter().all(is_own) && !are_all_same(&exprs, merges_any(select))
}

/// Names that nobody writes for results of a SELECT that share theirs: for columns beside others, of which the first
/// one keeps its name, or one that `keeps_bare` tells without its relation, as a merged column is told; and for others
/// but for the first one, if they are all the same.
pub(crate) fn tell_apart(select: &mut Select, keeps_bare: bool) {
    let mut named = BTreeMap::<String, Vec<usize>>::new();
    for (at, item) in select.projection.iter().enumerate() {
        if let Some(name) = written_name(item) {
            named.entry(name).or_default().push(at);
        }
    }
    for places in named.into_values().filter(|places| places.len() > 1) {
        let merges = merges_any(select);
        for at in shared(&select.projection, &places, keeps_bare, merges) {
            let item = &mut select.projection[at];
            if let (Some(title), Some(expr)) = (result_of(item), computed(item).cloned()) {
                let alias = Ident::with_quote('"', unwritten(at, shown(&title)));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
    }
}

/// The name that a result has within its query.
fn written_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) if !is_column(expr) => None,
        SelectItem::ExprWithAlias { alias, .. } if alias.value.starts_with(UNWRITTEN) => None,
        item => result_of(item),
    }
}

/// Those of several results of one name that cannot keep it.
fn shared(items: &[SelectItem], places: &[usize], keeps_bare: bool, merges: bool) -> Vec<usize> {
    let is_unnamed = |at: usize| matches!(items[at], SelectItem::UnnamedExpr(_));
    let (columns, mut others): (Vec<usize>, Vec<usize>) = places.iter().copied().partition(|at| is_unnamed(*at));
    if !others.is_empty() {
        let exprs: Vec<&Expr> = others.iter().filter_map(|at| computed(&items[*at])).collect();
        if are_all_same(&exprs, merges) {
            others.remove(0);
        }
        return [columns, others].concat();
    }
    let exprs: Vec<(usize, &Expr)> = columns.iter().filter_map(|at| Some((*at, computed(&items[*at])?))).collect();
    let bare = exprs.iter().find(|(_, expr)| matches!(plain_key(expr), Expr::Identifier(_)));
    if let Some((kept, _)) = bare.filter(|_| keeps_bare) {
        return columns.iter().copied().filter(|at| at != kept).collect();
    }
    let is_again =
        |(nth, (_, expr)): &(usize, &(usize, &Expr))| exprs[..*nth].iter().any(|(_, one)| are_same(one, expr));
    exprs.iter().enumerate().filter(is_again).map(|(_, (at, _))| *at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn results_of_one_name_are_told_apart() {
        for (written, keeps_bare, expected) in [
            ("SELECT k, t.k, a FROM t", true, r#"SELECT k, t.k AS "?column?#2#k", a FROM t"#),
            ("SELECT t.k, k FROM t", true, r#"SELECT t.k AS "?column?#1#k", k FROM t"#),
            ("SELECT t.k, k FROM t", false, r#"SELECT t.k, k AS "?column?#2#k" FROM t"#),
            ("SELECT t.k, u.k, t.K FROM t, u", true, r#"SELECT t.k, u.k, t.K AS "?column?#3#k" FROM t, u"#),
            ("SELECT a AS m, A AS M FROM t", true, r#"SELECT a AS m, A AS "?column?#2#m" FROM t"#),
            ("SELECT a AS m, b AS m FROM t", true, r#"SELECT a AS "?column?#1#m", b AS "?column?#2#m" FROM t"#),
            ("SELECT count(*) AS k, k FROM t", true, r#"SELECT count(*) AS k, k AS "?column?#2#k" FROM t"#),
            ("SELECT count(*), count(*), *, k FROM t", true, "SELECT count(*), count(*), *, k FROM t"),
        ] {
            let mut query = *template(written);
            let SetExpr::Select(select) = query.body.as_mut() else { panic!("a SELECT") };
            tell_apart(select, keeps_bare);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn order_by_names_one_result() {
        for (query, at) in [
            ("SELECT count(a), count(b) FROM t ORDER BY 1, count", 46),
            ("SELECT b + 1 AS a, a FROM t ORDER BY (a)", 39),
            ("SELECT max(a), b AS max FROM t UNION SELECT 1, 2 ORDER BY max", 59),
            ("SELECT k, k FROM t UNION SELECT 1, 2 ORDER BY k", 47),
            ("SELECT DISTINCT ON (m) a AS m, b AS m FROM t", 21),
        ] {
            let ControlFlow::Break(error) = check_order(&template(query), query) else { panic!("{query} is refused") };
            assert_eq!((error.sqlstate(), error.position().map(|at| at.offset)), ("42702", Some(at)), "{query}");
        }
        for query in [
            "SELECT count(a), count(t.a), b FROM t ORDER BY count, b",
            "SELECT t.a, u.a FROM t, u ORDER BY a",
            "VALUES (1), (2) ORDER BY column1",
        ] {
            assert!(check_order(&template(query), query).is_continue(), "{query}");
        }
    }
}
