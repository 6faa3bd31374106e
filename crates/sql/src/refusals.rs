//! What DataFusion's planner refuses with no place of its own, or in words that are not about what was written.

use crate::error::{self, Error, Kind};
use crate::floats::is_interval;
use crate::mentioned;
use crate::order_by;
use crate::references::{called_at, function_name};
use crate::row_values;
use crate::session::Session;
use crate::statement::Query;
use crate::text::Position;
use crate::types::pg_name;
use crate::walk::{walk, walk_expressions};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{self, AccessExpr, Expr, Select, Spanned, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// What tells of the session that asks, where queries of its own answer it.
const OF_SESSION: [&str; 9] = [
    "current_catalog",
    "current_database",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_user",
    "session_user",
    "user",
];

/// What the planner said of a query.
pub(crate) fn refused(error: DataFusionError, query: &Query, session: &Session) -> Error {
    let error = Error::of_planner(error, &query.text);
    match &error {
        Error::Unknown { kind: Kind::Column | Kind::Function, name, position }
            if OF_SESSION.contains(&name.as_str()) && !is_quoted(&query.text, *position) =>
        {
            let hint = "its result depends on the session: ask for it in a query that reads no relation";
            Error::unsupported(name.clone(), hint, *position)
        }
        Error::Invalid { sqlstate: "42803", message, position: None } if message == error::IN_WHERE => {
            let at = aggregate_in_where(query, session);
            error.or_at(at)
        }
        Error::Invalid { sqlstate: "42803", message, position: None } if message == error::NESTED => {
            let at = nested_aggregate(query, session);
            error.or_at(at)
        }
        Error::Invalid { sqlstate: "42703", message, position: None } if message.starts_with(error::NO_FIELD) => {
            let at = message.split('"').nth(1).and_then(|field| field_at(query, field));
            error.or_at(at)
        }
        Error::Invalid { sqlstate: "42804", message, .. } if message.starts_with("Too many columns!") => {
            match row_looked_up(query) {
                Some(start) => {
                    let hint = "in WHERE it is one of the conditions: write EXISTS with a comparison of each column";
                    Error::unsupported("a row compared with a subquery", hint, Position::of(&query.text, start))
                }
                None => error,
            }
        }
        Error::Invalid { sqlstate: "42804", message, .. }
            if message.starts_with("Function 'percentile_cont' requires") =>
        {
            no_percentile(message, query).unwrap_or(error)
        }
        _ if error.sqlstate() == error::NOT_DISTINCT => {
            mentioned::placed(error, query).or_at(order_by::beyond_distinct(&query.ast, &query.text))
        }
        _ => mentioned::placed(error, query),
    }
}

/// `percentile_cont` of values that are no numbers.
fn no_percentile(message: &str, query: &Query) -> Option<Error> {
    let given = error::between(message, "argument types 'percentile_cont(", ")'")?;
    let (value, fraction) = given.rsplit_once(", ")?;
    let (value, fraction) = (value.parse::<DataType>().ok()?, fraction.parse::<DataType>().ok()?);
    let position = called_at(query, "percentile_cont");
    if is_interval(&value) {
        let hint = "take percentile_disc, or extract(epoch FROM ...)";
        return Some(Error::unsupported("percentile_cont() of intervals", hint, position));
    }
    let message = format!("function percentile_cont({}, {}) does not exist", pg_name(&fraction), pg_name(&value));
    Some(Error::Invalid { sqlstate: "42883", message, position })
}

fn is_quoted(text: &str, at: Option<Position>) -> bool {
    at.is_some_and(|at| text.chars().nth(at.offset - 1) == Some('"'))
}

/// The first aggregate of a WHERE, but for those of its subqueries.
fn aggregate_in_where(query: &Query, session: &Session) -> Option<Position> {
    let mut selects = Conditions { session };
    match walk(&query.ast, &mut selects) {
        ControlFlow::Break(start) => Position::of(&query.text, start),
        ControlFlow::Continue(()) => None,
    }
}

/// The first aggregate that is in an argument of another one of its query.
fn nested_aggregate(query: &Query, session: &Session) -> Option<Position> {
    let mut nested = Nested { session, around: Vec::new() };
    match walk(&query.ast, &mut nested) {
        ControlFlow::Break(start) => Position::of(&query.text, start),
        ControlFlow::Continue(()) => None,
    }
}

/// Where an aggregate begins, if an expression is one.
fn aggregate(expr: &Expr, session: &Session) -> Option<Location> {
    let Expr::Function(call) = expr else { return None };
    let name = function_name(&call.name).filter(|_| call.over.is_none())?;
    session.state().aggregate_functions().contains_key(&name).then(|| call.name.span().start)
}

struct Nested<'a> {
    session: &'a Session,
    /// Of each query that the walk is in, how many aggregates.
    around: Vec<usize>,
}

impl Visitor for Nested<'_> {
    type Break = Location;

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Location> {
        self.around.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Location> {
        self.around.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Location> {
        if let Some(start) = aggregate(expr, self.session)
            && let Some(around) = self.around.last_mut()
        {
            *around += 1;
            if *around > 1 {
                return ControlFlow::Break(start);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Location> {
        if aggregate(expr, self.session).is_some()
            && let Some(around) = self.around.last_mut()
        {
            *around -= 1;
        }
        ControlFlow::Continue(())
    }
}

struct Conditions<'a> {
    session: &'a Session,
}

impl Visitor for Conditions<'_> {
    type Break = Location;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Location> {
        match &select.selection {
            Some(condition) => walk(condition, &mut Aggregates { session: self.session, queries: 0 }),
            None => ControlFlow::Continue(()),
        }
    }
}

struct Aggregates<'a> {
    session: &'a Session,
    /// How many subqueries the walk is in.
    queries: usize,
}

impl Visitor for Aggregates<'_> {
    type Break = Location;

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Location> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Location> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Location> {
        match aggregate(expr, self.session).filter(|_| self.queries == 0) {
            Some(start) => ControlFlow::Break(start),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Where the first field of a name is asked for.
fn field_at(query: &Query, field: &str) -> Option<Position> {
    let found = walk_expressions(&query.ast, &mut |expr| {
        let Expr::CompoundFieldAccess { access_chain, .. } = expr else { return ControlFlow::Continue(()) };
        for access in access_chain {
            if let AccessExpr::Dot(Expr::Identifier(ident)) = access
                && ident.value.eq_ignore_ascii_case(field)
            {
                return ControlFlow::Break(ident.span.start);
            }
        }
        ControlFlow::Continue(())
    });
    match found {
        ControlFlow::Break(start) => Position::of(&query.text, start),
        ControlFlow::Continue(()) => None,
    }
}

/// Where the first row stands that is looked up in a subquery.
fn row_looked_up(query: &Query) -> Option<Location> {
    let found = walk_expressions(&query.ast, &mut |expr| match expr {
        Expr::InSubquery { expr: row, .. } if row_values::columns(row).is_some_and(|columns| columns.len() > 1) => {
            ControlFlow::Break(row.span().start)
        }
        _ => ControlFlow::Continue(()),
    });
    found.break_value()
}
