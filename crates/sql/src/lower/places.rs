//! Where in a statement what lowering refuses stands. Plans do not tell: it is the one place that can be meant,
//! or none where there are several, or where another query is read that may be meant.

use super::Maintained;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::ignored::order_of;
use crate::mentioned;
use crate::references::{called_at, references};
use crate::statement::Query;
use crate::text::Position;
use crate::walk::{walk, walk_expressions};
use datafusion::sql::sqlparser::ast::{Expr, Spanned as _, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// A refusal with its place.
pub(super) fn placed(error: Error, of: &Maintained<'_>) -> Error {
    if references(of.query).iter().any(|name| of.relations.is_view(name)) {
        return error;
    }
    let Error::Unsupported { clause, position: None, .. } = &error else { return mentioned::placed(error, of.query) };
    let at = if clause.contains("subquery") || clause.starts_with("this NOT IN") {
        only_subquery(of.query, clause.starts_with("this NOT IN"))
    } else if clause.starts_with("Conflicting ordering") {
        other_order(of.query)
    } else if let Some(function) = clause.strip_suffix("()") {
        called_at(of.query, function)
    } else {
        word_of(clause).and_then(|word| Cursor::new(&of.query.text).ok()?.only_word(word))
    };
    mentioned::placed(error.or_at(at), of.query)
}

/// The word that a clause begins with, of those that have no place in a plan.
fn word_of(clause: &str) -> Option<&'static str> {
    let words = [
        ("this LATERAL", "LATERAL"),
        ("CUBE of ", "CUBE"),
        ("an empty grouping set", "GROUP"),
        ("DISTINCT ", "DISTINCT"),
        ("LIMIT ", "LIMIT"),
    ];
    words.into_iter().find(|(start, _)| clause.starts_with(start)).map(|(_, word)| word)
}

/// The first aggregate whose ORDER BY is another one than that of one before it.
fn other_order(query: &Query) -> Option<Position> {
    let mut first: Option<String> = None;
    let found = walk_expressions(&query.ast, &mut |expr| {
        let Some((order, _)) = order_of(expr) else { return ControlFlow::Continue(()) };
        if *first.get_or_insert_with(|| order.clone()) == order {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(expr.span().start)
    });
    Position::of(&query.text, found.break_value()?)
}

/// Where the subquery stands among a query's expressions, if there is one alone.
#[must_use]
pub fn subquery_at(query: &Query) -> Option<Position> {
    only_subquery(query, false)
}

/// The subquery among a query's expressions, or that of NOT IN, if there is one alone.
fn only_subquery(query: &Query, of_not_in: bool) -> Option<Position> {
    let mut found = Subqueries { of_not_in, starts: Vec::new() };
    let _: ControlFlow<()> = walk(&query.ast, &mut found);
    match found.starts.as_slice() {
        [start] => Position::of(&query.text, *start),
        _ => None,
    }
}

/// Where the subqueries begin.
struct Subqueries {
    /// Whether those of NOT IN are meant alone.
    of_not_in: bool,
    starts: Vec<Location>,
}

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_meant = !self.of_not_in || matches!(expr, Expr::InSubquery { negated: true, .. });
        if let Expr::Subquery(subquery) | Expr::InSubquery { subquery, .. } | Expr::Exists { subquery, .. } = expr
            && is_meant
        {
            self.starts.push(subquery.span().start);
        }
        ControlFlow::Continue(())
    }
}
