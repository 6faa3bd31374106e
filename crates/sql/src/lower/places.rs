//! Where in a statement what lowering refuses stands. Plans do not tell: it is the one place that can be meant,
//! or none where there are several, or where another query is read that may be meant.

use super::Maintained;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::references::{called_at, references};
use crate::statement::Query;
use crate::text::Position;
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{Expr, Spanned as _, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// A refusal with its place.
pub(super) fn placed(error: Error, of: &Maintained<'_>) -> Error {
    let Error::Unsupported { clause, position: None, .. } = &error else { return error };
    if references(of.query).iter().any(|name| of.relations.is_view(name)) {
        return error;
    }
    let at = if clause.contains("subquery") {
        only_subquery(of.query)
    } else if let Some(function) = clause.strip_suffix("()") {
        called_at(of.query, function)
    } else {
        word_of(clause).and_then(|word| Cursor::new(&of.query.text).ok()?.only_word(word))
    };
    error.or_at(at)
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

/// The subquery among a query's expressions, if there is one alone.
fn only_subquery(query: &Query) -> Option<Position> {
    let mut found = Subqueries::default();
    let _: ControlFlow<()> = walk(&query.ast, &mut found);
    match found.0.as_slice() {
        [start] => Position::of(&query.text, *start),
        _ => None,
    }
}

/// Where the subqueries begin.
#[derive(Default)]
struct Subqueries(Vec<Location>);

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Subquery(subquery) | Expr::InSubquery { subquery, .. } | Expr::Exists { subquery, .. } = expr {
            self.0.push(subquery.span().start);
        }
        ControlFlow::Continue(())
    }
}
