//! What cannot be kept current yet is refused by the clause's name and place, before binding.
//!
//! This looks at the syntax tree, whose nodes know where they stand. Lowering refuses once more
//! whatever reaches it in another way, such as through a plain view.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement::Query;
use crate::text::Position;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, Volatility};
use datafusion::sql::sqlparser::ast::{
    self, Distinct, DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr,
    JoinOperator, LimitClause, Select, SetExpr, SetOperator, Spanned, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use std::ops::ControlFlow;

/// The aggregates that are kept incrementally.
pub(crate) const AGGREGATES: [&str; 5] = ["count", "sum", "avg", "min", "max"];

/// Functions of the clock, whose result changes without any row changing.
const CLOCK: &str = "its result changes without any row changing";

/// Refuses the first clause of a query that cannot be maintained.
///
/// # Errors
/// `Unsupported` with the clause's name and position.
pub(crate) fn check(query: &Query, session: &Session) -> Result<()> {
    let cursor = Cursor::new(&query.text)?;
    let mut gate = Gate { cursor: &cursor, session };
    match query.ast.visit(&mut gate) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Refuses functions whose result depends on more than their arguments, in all of a bound plan.
///
/// # Errors
/// `Unsupported` with the function's name.
pub(crate) fn check_functions(plan: &LogicalPlan) -> Result<()> {
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
}

type Walk = ControlFlow<Box<Error>>;

impl Visitor for Gate<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &ast::Query) -> Walk {
        self.query(query)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Walk {
        self.select(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Walk {
        self.factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Walk {
        self.expr(expr)
    }
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
        {
            return self.refuse("WITH RECURSIVE", "write it without RECURSIVE", self.at(with.with_token.0.span));
        }
        if let Some(order) = &query.order_by {
            let at = self.before(order.span(), "ORDER");
            return self.refuse("ORDER BY", "order the rows when the view is read", at);
        }
        if let Some(limit) = &query.limit_clause {
            return self.limit(limit);
        }
        if let Some(fetch) = &query.fetch {
            return self.refuse("FETCH", "limit the rows when the view is read", self.before(fetch.span(), "FETCH"));
        }
        if !query.locks.is_empty() {
            let at = self.cursor.word_after(query.span().end, "FOR");
            return self.refuse("FOR UPDATE", "a view has no locks", at);
        }
        self.body(&query.body)
    }

    fn limit(&self, limit: &LimitClause) -> Walk {
        let (word, span) = match limit {
            LimitClause::LimitOffset { limit: Some(limit), .. } => ("LIMIT", limit.span()),
            LimitClause::LimitOffset { offset: Some(offset), .. } => ("OFFSET", offset.value.span()),
            other => ("LIMIT", other.span()),
        };
        self.refuse(word, "limit the rows when the view is read", self.before(span, word))
    }

    fn body(&self, body: &SetExpr) -> Walk {
        match body {
            SetExpr::SetOperation { op, right, .. } => {
                let word = match op {
                    SetOperator::Union => "UNION",
                    SetOperator::Except | SetOperator::Minus => "EXCEPT",
                    SetOperator::Intersect => "INTERSECT",
                };
                self.refuse(word, "make a view of each side", self.before(right.span(), word))
            }
            SetExpr::Values(values) => {
                let at = self.before(values.span(), "VALUES");
                self.refuse("VALUES", "a view reads a source or a view", at)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn select(&self, select: &Select) -> Walk {
        let here = self.at(select.select_token.0.span);
        if let Some(Distinct::On(on)) = &select.distinct {
            let at = on.first().map_or(here, |e| self.before(e.span(), "DISTINCT"));
            return self.refuse("DISTINCT ON", "use GROUP BY with min or max", at);
        }
        let Some(first) = select.from.first() else {
            return self.refuse("SELECT without FROM", "a view reads a source or a view", here);
        };
        if let Some(second) = select.from.get(1) {
            let at = self.at(second.relation.span());
            return self.refuse("CROSS JOIN", "a view reads one source or view", at);
        }
        if let Some(join) = first.joins.first() {
            let at = self.before(join.relation.span(), "JOIN");
            return self.refuse(join_name(&join.join_operator), "a view reads one source or view", at);
        }
        if let Some(named) = select.named_window.first() {
            let at = self.before(named.0.span, "WINDOW");
            return self.refuse("WINDOW", "functions over windows are not kept", at);
        }
        if let Some(qualify) = &select.qualify {
            let at = self.before(qualify.span(), "QUALIFY");
            return self.refuse("QUALIFY", "functions over windows are not kept", at);
        }
        if let Some(into) = &select.into {
            return self.refuse("INTO", "use CREATE SINK", self.at(into.span()));
        }
        match &select.group_by {
            GroupByExpr::All(_) => self.refuse("GROUP BY ALL", "name the columns", here),
            GroupByExpr::Expressions(_, modifiers) if !modifiers.is_empty() => {
                self.refuse("GROUP BY WITH", "make a view for each grouping", here)
            }
            GroupByExpr::Expressions(..) => ControlFlow::Continue(()),
        }
    }

    fn factor(&self, factor: &TableFactor) -> Walk {
        let at = self.at(factor.span());
        match factor {
            TableFactor::Table { sample: Some(_), .. } => self.refuse("TABLESAMPLE", "filter by a hash of a key", at),
            TableFactor::Table { version: Some(_), .. } => {
                self.refuse("FOR SYSTEM_TIME AS OF", "a view follows the present", at)
            }
            TableFactor::Table { name, args: Some(_), .. } => {
                let function = name.to_string();
                let known = ["tumble", "hop"].contains(&function.to_lowercase().as_str());
                if known {
                    return ControlFlow::Continue(());
                }
                self.refuse(format!("{function}() in FROM"), "there are TUMBLE and HOP", at)
            }
            TableFactor::Derived { lateral: true, .. } => self.refuse("LATERAL", "a view reads one source or view", at),
            TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            TableFactor::UNNEST { .. } => self.refuse("UNNEST", "arrays are not kept yet", at),
            _ => self.refuse("this kind of table", "a view reads a source or a view", at),
        }
    }

    fn expr(&self, expr: &Expr) -> Walk {
        let hint = "make a view of the subquery and read both";
        match expr {
            Expr::Subquery(q) if !self.is_window_table(q.span().start) => {
                self.refuse("a subquery in an expression", hint, self.at(expr.span()))
            }
            Expr::InSubquery { subquery, .. } => {
                self.refuse("IN (SELECT ...)", hint, self.before(subquery.span(), "IN"))
            }
            Expr::Exists { subquery, .. } => self.refuse("EXISTS", hint, self.before(subquery.span(), "EXISTS")),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if matches!(right.as_ref(), Expr::Subquery(_)) => {
                self.refuse("ANY or ALL of a subquery", hint, self.at(right.span()))
            }
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => self.grouping(expr),
            Expr::Function(function) => self.function(function),
            _ => ControlFlow::Continue(()),
        }
    }

    /// `TUMBLE((SELECT ...), ...)`: the only subquery that stands among arguments.
    fn is_window_table(&self, start: Location) -> bool {
        ["TUMBLE", "HOP"].iter().any(|word| self.cursor.follows_call(start, word))
    }

    fn grouping(&self, expr: &Expr) -> Walk {
        let word = match expr {
            Expr::Cube(_) => "CUBE",
            Expr::Rollup(_) => "ROLLUP",
            _ => "GROUPING SETS",
        };
        let keyword = word.split(' ').next().unwrap_or(word);
        self.refuse(word, "make a view for each grouping", self.before(expr.span(), keyword))
    }

    fn function(&self, function: &Function) -> Walk {
        let name = function.name.to_string().to_lowercase();
        let at = self.at(function.name.span());
        if function.over.is_some() {
            let clause = format!("window function {name}() OVER");
            return self.refuse(clause, "functions over windows are not kept", at);
        }
        let state = self.session.state();
        if let Some(scalar) = state.scalar_functions().get(&name)
            && scalar.signature().volatility != Volatility::Immutable
        {
            return self.refuse(format!("{name}()"), CLOCK, at);
        }
        if let Some(aggregate) = state.aggregate_functions().get(&name)
            && !state.scalar_functions().contains_key(&name)
        {
            return self.aggregate(function, aggregate.name(), at);
        }
        ControlFlow::Continue(())
    }

    fn aggregate(&self, function: &Function, name: &str, at: Option<Position>) -> Walk {
        if !AGGREGATES.contains(&name) {
            let hint = "count, sum, avg, min and max are kept";
            return self.refuse(format!("{name}()"), hint, at);
        }
        if !function.within_group.is_empty() {
            return self.refuse("WITHIN GROUP", "count, sum, avg, min and max are kept", at);
        }
        let FunctionArguments::List(list) = &function.args else {
            return ControlFlow::Continue(());
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            let clause = format!("DISTINCT in {name}()");
            let at = self.cursor.word_after(function.name.span().start, "DISTINCT").or(at);
            return self.refuse(clause, "group by the column in a view of its own", at);
        }
        let ordered = |c: &FunctionArgumentClause| matches!(c, FunctionArgumentClause::OrderBy(_));
        if list.clauses.iter().any(ordered) {
            let at = self.cursor.word_after(function.name.span().start, "ORDER").or(at);
            return self.refuse(format!("ORDER BY in {name}()"), "leave it out", at);
        }
        ControlFlow::Continue(())
    }
}

fn join_name(join: &JoinOperator) -> &'static str {
    match join {
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => "LEFT JOIN",
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => "RIGHT JOIN",
        JoinOperator::FullOuter(_) => "FULL JOIN",
        JoinOperator::CrossJoin(_) | JoinOperator::CrossApply => "CROSS JOIN",
        JoinOperator::AsOf { .. } => "ASOF JOIN",
        _ => "JOIN",
    }
}
