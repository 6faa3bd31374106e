//! Correlated subqueries that are refused: by the clause that is in the way, with the subquery's place.
//!
//! A plan does not tell where its subqueries stand. It is the one of its kind, or the one around a column
//! whose place is known.

use super::Planned;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::statement::Query;
use crate::text::Position;
use crate::walk::walk;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr, Spanned as _, TableFactor, Visitor};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use std::ops::ControlFlow;
use thiserror::Error as ThisError;

/// What a subquery is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exists,
    In,
    /// ANY and ALL.
    Compared,
    Value,
    Lateral,
}

/// Why a subquery is refused.
#[derive(Debug, ThisError)]
#[error("{clause} is not supported: {hint}")]
struct Refused {
    clause: String,
    hint: &'static str,
    /// Which one, and where one of its columns stands.
    subquery: Option<(Kind, Option<Location>)>,
}

pub(super) fn refused<T>(clause: impl Into<String>, hint: &'static str) -> Planned<T> {
    Err(DataFusionError::External(Box::new(Refused { clause: clause.into(), hint, subquery: None })))
}

/// The same error, of a subquery.
pub(super) fn within(error: DataFusionError, kind: Kind, plan: &LogicalPlan) -> DataFusionError {
    let DataFusionError::External(inner) = error else { return error };
    match inner.downcast::<Refused>() {
        Ok(mut refused) => {
            refused.subquery.get_or_insert_with(|| (kind, column_at(plan)));
            DataFusionError::External(refused)
        }
        Err(other) => DataFusionError::External(other),
    }
}

/// The refusal of a query, with its place.
pub(super) fn told(error: DataFusionError, query: &Query) -> Error {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(Refused { clause, hint, subquery }) = inner.downcast_ref::<Refused>()
    {
        let at = subquery.and_then(|(kind, near)| place(query, kind, near));
        return Error::unsupported(clause.as_str(), *hint, at);
    }
    Error::of_planner(error, &query.text)
}

/// Where a column of a subquery stands.
fn column_at(plan: &LogicalPlan) -> Option<Location> {
    let mut found = None;
    let walked = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let LogicalExpr::Column(column) = e
                    && let Some(span) = column.spans().first()
                {
                    found = Some(Location::new(span.start.line, span.start.column));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.ok().and(found)
}

fn place(query: &Query, kind: Kind, near: Option<Location>) -> Option<Position> {
    let mut subqueries = Subqueries { kind, spans: Vec::new(), compared: Vec::new() };
    let _: ControlFlow<()> = walk(&query.ast, &mut subqueries);
    let span = match subqueries.spans.as_slice() {
        [one] => one,
        several => {
            let near = near?;
            several.iter().filter(|span| span.start <= near && near <= span.end).max_by_key(|span| span.start)?
        }
    };
    if kind == Kind::Lateral {
        return Cursor::new(&query.text).ok()?.word_before(span.start, "LATERAL");
    }
    Position::of(&query.text, span.start)
}

/// Where the subqueries of a kind are.
struct Subqueries {
    kind: Kind,
    spans: Vec<Span>,
    /// Those of ANY and ALL, which look like values.
    compared: Vec<Span>,
}

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let (kind, span) = match expr {
            Expr::Exists { subquery, .. } => (Kind::Exists, subquery.span()),
            // Rows are looked up with EXISTS.
            Expr::InSubquery { expr, subquery, .. } if matches!(expr.as_ref(), Expr::Tuple(_)) => {
                (Kind::Exists, subquery.span())
            }
            Expr::InSubquery { subquery, .. } => (Kind::In, subquery.span()),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => match right.as_ref() {
                Expr::Subquery(subquery) => {
                    self.compared.push(subquery.span());
                    (Kind::Compared, subquery.span())
                }
                _ => return ControlFlow::Continue(()),
            },
            Expr::Subquery(subquery) if !self.compared.contains(&subquery.span()) => (Kind::Value, subquery.span()),
            _ => return ControlFlow::Continue(()),
        };
        if kind == self.kind {
            self.spans.push(span);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { lateral: true, subquery, .. } = factor
            && self.kind == Kind::Lateral
        {
            self.spans.push(subquery.span());
        }
        ControlFlow::Continue(())
    }
}
