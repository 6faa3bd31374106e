//! What cannot be kept current yet is refused by the clause's name and place, before binding.
//!
//! This looks at the syntax tree, whose nodes know where they stand. Lowering refuses once more
//! whatever reaches it in another way, such as through a plain view.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::respell::rows_function;
use crate::session::Session;
use crate::statement::Query;
use crate::temporal;
use crate::text::Position;
use crate::titles::is_about_itself;
use crate::walk::{walk, walk_expressions};
use crate::window;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, Volatility};
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, GroupByExpr, JoinOperator, LimitClause, OrderByKind, Select, SetExpr, Spanned, TableFactor,
    Value, ValueWithSpan, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::ops::ControlFlow;

/// Functions of the clock, whose result changes without any row changing.
const CLOCK: &str = "its result changes without any row changing";

/// Refuses the first clause of a query that cannot be maintained.
///
/// # Errors
/// `Unsupported` with the clause's name and position.
pub(crate) fn check(query: &Query, session: &Session) -> Result<()> {
    let cursor = Cursor::new(&query.text)?;
    let mut gate = Gate { cursor: &cursor, session, laterals: 0, subqueries: 0, clocks: Vec::new() };
    match walk(&query.ast, &mut gate) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Refuses functions whose result depends on more than their arguments, in all of a bound plan.
///
/// # Errors
/// `Unsupported` with the function's name.
pub fn check_functions(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| match e {
                LogicalExpr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                    found = Some(call.func.name().to_owned());
                    Ok(TreeNodeRecursion::Stop)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    match found {
        Some(name) => Err(Error::unsupported(format!("{name}()"), CLOCK, None)),
        None => Ok(()),
    }
}

struct Gate<'a> {
    cursor: &'a Cursor<'a>,
    session: &'a Session,
    /// How many LATERAL subqueries the walk is in.
    laterals: usize,
    /// How many expressions with a subquery the walk is in.
    subqueries: usize,
    /// Where now() may stand.
    clocks: Vec<Span>,
}

type Walk = ControlFlow<Box<Error>>;

impl Visitor for Gate<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &ast::Query) -> Walk {
        self.query(query)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Walk {
        if let Some(selection) = &select.selection {
            temporal::clocks(selection, &mut self.clocks);
        }
        self.select(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Walk {
        self.laterals += usize::from(matches!(factor, TableFactor::Derived { lateral: true, .. }));
        self.factor(factor)
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> Walk {
        self.laterals -= usize::from(matches!(factor, TableFactor::Derived { lateral: true, .. }));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Walk {
        self.subqueries += usize::from(has_subquery(expr));
        self.expr(expr)
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> Walk {
        self.subqueries -= usize::from(has_subquery(expr));
        ControlFlow::Continue(())
    }
}

/// Whether an expression is one over a query.
const fn has_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. })
}

impl Gate<'_> {
    fn refuse(&self, clause: impl Into<String>, hint: &str, at: Option<Position>) -> Walk {
        ControlFlow::Break(Box::new(Error::unsupported(clause, hint, at)))
    }

    fn at(&self, span: Span) -> Option<Position> {
        Position::of(self.cursor.text, span.start)
    }

    /// The keyword before a node, or the node itself.
    fn before(&self, span: Span, word: &str) -> Option<Position> {
        self.cursor.word_before(span.start, word).or_else(|| self.at(span))
    }

    fn query(&self, query: &ast::Query) -> Walk {
        if let Some(with) = &query.with
            && with.recursive
            && is_about_itself(with)
        {
            return self.refuse("WITH RECURSIVE", "write it without RECURSIVE", self.at(with.with_token.0.span));
        }
        if let Some(order) = &query.order_by
            && matches!(order.kind, OrderByKind::All(_))
        {
            return self.refuse("ORDER BY ALL", "name the columns", self.before(order.span(), "ORDER"));
        }
        if let Some(limit) = &query.limit_clause {
            self.limit(limit, query.order_by.is_some())?;
        }
        if !query.locks.is_empty() {
            let at = self.cursor.word_after(query.span().end, "FOR");
            return self.refuse("FOR UPDATE", "a view has no locks", at);
        }
        self.body(&query.body)
    }

    fn limit(&self, limit: &LimitClause, is_ordered: bool) -> Walk {
        let (word, span, is_each) = match limit {
            LimitClause::LimitOffset { limit: Some(limit), limit_by, .. } => {
                ("LIMIT", limit.span(), !limit_by.is_empty())
            }
            LimitClause::LimitOffset { offset: Some(offset), .. } => ("OFFSET", offset.value.span(), false),
            other => ("LIMIT", other.span(), false),
        };
        if is_each {
            return self.refuse("LIMIT BY", "number the rows with row_number()", self.before(span, word));
        }
        if is_ordered {
            return ControlFlow::Continue(());
        }
        let clause = format!("{word} without ORDER BY");
        self.refuse(clause, "say with ORDER BY which rows are wanted", self.before(span, word))
    }

    fn body(&self, body: &SetExpr) -> Walk {
        let SetExpr::SetOperation { left, right, .. } = body else { return ControlFlow::Continue(()) };
        self.body(left)?;
        self.body(right)
    }

    fn select(&self, select: &Select) -> Walk {
        let here = self.at(select.select_token.0.span);
        if let Some(first) = select.from.first()
            && let Some(function) = rows_in(&first.relation).filter(|_| self.laterals == 0 && self.subqueries > 0)
        {
            let hint = "in a subquery of an expression it stands after a table";
            return self.refuse(format!("{function}() first in FROM"), hint, self.at(first.relation.span()));
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if let Some(clause) = refused_join(&join.join_operator) {
                return self.refuse(clause, "use another join", self.before(join.relation.span(), "JOIN"));
            }
        }
        if let Some(into) = &select.into {
            return self.refuse("INTO", "use CREATE SINK", self.at(into.span()));
        }
        match &select.group_by {
            GroupByExpr::All(_) => self.refuse("GROUP BY ALL", "name the columns", here),
            GroupByExpr::Expressions(_, modifiers) if !modifiers.is_empty() => {
                self.refuse("GROUP BY WITH", "use ROLLUP, CUBE or GROUPING SETS", here)
            }
            keys @ GroupByExpr::Expressions(..) => self.keys(keys),
        }
    }

    fn keys(&self, keys: &GroupByExpr) -> Walk {
        walk_expressions(keys, &mut |expr| match expr {
            Expr::Subquery(query) | Expr::InSubquery { subquery: query, .. } | Expr::Exists { subquery: query, .. } => {
                let hint = "join to the subquery, and group by its column";
                self.refuse("a subquery in GROUP BY", hint, self.at(query.span()))
            }
            _ => ControlFlow::Continue(()),
        })
    }

    fn factor(&self, factor: &TableFactor) -> Walk {
        let at = self.at(factor.span());
        match factor {
            TableFactor::Table { sample: Some(_), .. } => self.refuse("TABLESAMPLE", "filter by a hash of a key", at),
            TableFactor::Table { name, args: Some(_), .. } => {
                let function = name.to_string();
                if rows_in(factor).is_some() {
                    return self.rows(factor, at);
                }
                if window::is_window(&function) {
                    return ControlFlow::Continue(());
                }
                let hint = "there are TUMBLE, HOP, SESSION, UNNEST, generate_series and those of jsonb";
                self.refuse(format!("{function}() in FROM"), hint, at)
            }
            TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            _ if rows_in(factor).is_some() => self.rows(factor, at),
            _ => self.refuse("this kind of table", "a view reads a source or a view", at),
        }
    }

    /// A function that gives rows, in FROM.
    fn rows(&self, factor: &TableFactor, at: Option<Position>) -> Walk {
        let is_numbered = matches!(
            factor,
            TableFactor::Table { with_ordinality: true, .. }
                | TableFactor::Function { with_ordinality: true, .. }
                | TableFactor::UNNEST { with_ordinality: true, .. }
        );
        if is_numbered {
            return self.refuse("WITH ORDINALITY", "an array's elements are not numbered yet", at);
        }
        ControlFlow::Continue(())
    }

    fn expr(&self, expr: &Expr) -> Walk {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) => self.refuse(
                format!("the parameter {name}"),
                "a view has no parameters: write the value",
                self.at(*span),
            ),
            _ => ControlFlow::Continue(()),
        }
    }

    fn function(&self, function: &Function) -> Walk {
        let name = function.name.to_string().to_lowercase();
        let span = function.name.span();
        let at = self.at(span);
        if self.clocks.contains(&span) {
            return ControlFlow::Continue(());
        }
        if name == "proctime" {
            let hint = "a source and an APPEND ONLY table keep when rows came in a column p timestamptz AS proctime()";
            return self.refuse("proctime()", hint, at);
        }
        if self.session.is_changing(&name) {
            return self.refuse(format!("{name}()"), CLOCK, at);
        }
        ControlFlow::Continue(())
    }
}

/// The function in FROM that gives rows, by name.
fn rows_in(factor: &TableFactor) -> Option<&'static str> {
    match factor {
        TableFactor::UNNEST { .. } => Some("unnest"),
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => rows_function(name),
        _ => None,
    }
}

/// Joins that have no operator, by name.
const fn refused_join(join: &JoinOperator) -> Option<&'static str> {
    match join {
        JoinOperator::AsOf { .. } => Some("ASOF JOIN with MATCH_CONDITION"),
        JoinOperator::CrossApply | JoinOperator::OuterApply => Some("APPLY"),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => Some("ARRAY JOIN"),
        _ => None,
    }
}
