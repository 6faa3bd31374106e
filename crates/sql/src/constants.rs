//! Constants that nothing can be computed with: what is no regular expression, a pattern that ends with its escape,
//! a format by which nothing is read, and the name of an encoding or a time zone that is none.
//!
//! PostgreSQL tells of them when it computes the first row. A view that is made and fails at its first row is worse
//! than none: what makes one refuses them in PostgreSQL's words, where they stand. A constant that may never be used,
//! as within CASE, COALESCE, AND, OR and FILTER, is let pass, and a view that is there is not asked again.

use crate::error::{Error, Result};
use crate::formats;
use crate::input;
use crate::patterns;
use crate::references::function_name;
use crate::scalars;
use crate::session::Session;
use crate::statement::{self, Column, Query};
use crate::text::Position;
use crate::walk::walk;
use crate::zones;
use datafusion::common::Result as Planned;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableFactor, Value,
    ValueWithSpan, Visitor,
};
use std::ops::ControlFlow;

/// Nanoseconds.
const DAY: i128 = 86_400_000_000_000;

/// Refuses the first such constant of a query that is to be kept.
///
/// # Errors
/// `Invalid` with the constant's position.
pub fn check(query: &Query, session: &Session) -> Result<()> {
    let mut constants = Constants { text: &query.text, session, guards: 0 };
    match walk(&query.ast, &mut constants) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The same of the columns of a table or source that is made, of which some are computed from others.
///
/// # Errors
/// As [`check`].
pub fn check_generated<'a>(columns: impl IntoIterator<Item = &'a Column>, text: &str, session: &Session) -> Result<()> {
    let generated = columns.into_iter().filter_map(|column| column.generated.as_ref());
    check(&statement::constants(generated, text), session)
}

struct Constants<'a> {
    text: &'a str,
    session: &'a Session,
    /// How many expressions the walk is in that may not compute all that they have.
    guards: usize,
}

type Walk = ControlFlow<Box<Error>>;

impl Visitor for Constants<'_> {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Walk {
        match factor {
            TableFactor::Table { name, args: Some(call), .. } if self.guards == 0 => self.call(name, &call.args),
            TableFactor::Function { name, args, .. } if self.guards == 0 => self.call(name, args),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Walk {
        self.guards += usize::from(is_guard(expr));
        if self.guards == 0 { self.expr(expr) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> Walk {
        self.guards -= usize::from(is_guard(expr));
        ControlFlow::Continue(())
    }
}

/// Whether an expression may not compute all that it has.
fn is_guard(expr: &Expr) -> bool {
    match expr {
        Expr::Case { .. } | Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => true,
        Expr::Function(call) => {
            call.filter.is_some() || function_name(&call.name).is_some_and(|name| name == "coalesce")
        }
        _ => false,
    }
}

/// Whether an operator has a regular expression on its right.
pub(crate) const fn is_match(op: &BinaryOperator) -> bool {
    use BinaryOperator::{PGRegexIMatch, PGRegexMatch, PGRegexNotIMatch, PGRegexNotMatch};
    matches!(op, PGRegexMatch | PGRegexIMatch | PGRegexNotMatch | PGRegexNotIMatch)
}

impl Constants<'_> {
    fn expr(&self, expr: &Expr) -> Walk {
        match expr {
            Expr::BinaryOp { op, right: pattern, .. } if is_match(op) => self.constant(pattern, scalars::check_regex),
            Expr::Substring { substring_from: Some(pattern), substring_for: None, .. } => {
                self.constant(pattern, scalars::check_regex)
            }
            Expr::SimilarTo { pattern, escape_char: escape, .. } => {
                self.pattern(pattern, escape.as_ref(), patterns::check_similar)
            }
            Expr::Like { any: false, pattern, escape_char: escape, .. }
            | Expr::ILike { any: false, pattern, escape_char: escape, .. } => {
                self.pattern(pattern, escape.as_ref(), patterns::check_like)
            }
            Expr::AtTimeZone { time_zone, .. } => self.constant(time_zone, zones::check),
            Expr::Function(call) => match &call.args {
                FunctionArguments::List(list) => self.call(&call.name, &list.args),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn call(&self, name: &ObjectName, args: &[FunctionArg]) -> Walk {
        let Some(name) = function_name(name).filter(|name| !self.session.declares(name)) else {
            return ControlFlow::Continue(());
        };
        let (at, check): (usize, fn(&str) -> Planned<()>) = match name.as_str() {
            "encode" | "decode" => (1, scalars::check_encoding),
            "convert_from" => (1, |name| scalars::check_utf8(name, "source")),
            "convert_to" => (1, |name| scalars::check_utf8(name, "destination")),
            "to_date" | "to_timestamp" => (1, formats::check_read),
            zones::AT_ZONE => (0, zones::check),
            "date_bin" => (0, check_stride),
            name if flags_of(name).is_some_and(|at| are_plain(args.get(at))) => (1, scalars::check_regex),
            _ => return ControlFlow::Continue(()),
        };
        match args.get(at).and_then(given) {
            Some(Expr::Interval(length)) if length.leading_field.is_none() && name == "date_bin" => {
                self.constant(&length.value, check)
            }
            Some(constant) => self.constant(constant, check),
            None => ControlFlow::Continue(()),
        }
    }

    /// A pattern whose escape is a backslash unless it has another one, or none.
    fn pattern(&self, pattern: &Expr, escape: Option<&ValueWithSpan>, check: fn(&str, &str) -> Planned<()>) -> Walk {
        match escape.map_or(Some("\\"), text_of) {
            Some(escape) => self.constant(pattern, |pattern| check(pattern, escape)),
            None => ControlFlow::Continue(()),
        }
    }

    fn constant(&self, expr: &Expr, check: impl Fn(&str) -> Planned<()>) -> Walk {
        let Some(value) = literal(expr) else { return ControlFlow::Continue(()) };
        match text_of(value).map_or(Ok(()), check) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                let error = Error::of_planner(error, "").or_at(Position::of(self.text, value.span.start));
                ControlFlow::Break(Box::new(error))
            }
        }
    }
}

/// A value that is written out.
pub(crate) fn literal(expr: &Expr) -> Option<&ValueWithSpan> {
    match expr {
        Expr::Value(value) => Some(value),
        Expr::Nested(within) => literal(within),
        _ => None,
    }
}

/// The text that is written out.
pub(crate) fn text_of(value: &ValueWithSpan) -> Option<&str> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

/// An argument without a name.
const fn given(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Where the flags stand of a function whose second argument is a regular expression.
fn flags_of(function: &str) -> Option<usize> {
    match function {
        "regexp_replace" | "regexp_count" => Some(3),
        "regexp_like" | "regexp_match" | "regexp_matches" | "regexp_split_to_array" | "regexp_split_to_table" => {
            Some(2)
        }
        _ => None,
    }
}

/// Whether flags are such that a regular expression is one with and without them.
fn are_plain(flags: Option<&FunctionArg>) -> bool {
    let Some(flags) = flags else { return true };
    let text = given(flags).and_then(literal).and_then(text_of);
    text.is_some_and(|flags| flags.chars().all(|flag| "gims".contains(flag)))
}

/// Refuses the length of the bins of `date_bin` that is none. Of bins of months DataFusion knows.
fn check_stride(text: &str) -> Planned<()> {
    match input::interval(text) {
        Some(stride) if stride.months == 0 && i128::from(stride.days) * DAY + i128::from(stride.nanoseconds) <= 0 => {
            Err(scalars::refused("22008", "stride must be greater than zero"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Statement;

    fn checked(text: &str) -> Result<()> {
        let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text} is a query") };
        check(&query, &Session::new(1))
    }

    #[test]
    fn constants_that_no_row_can_be_computed_with_are_refused_where_they_stand() {
        for (text, sqlstate, constant) in [
            ("SELECT s ~ '(' FROM t", "2201B", "'('"),
            ("SELECT 1 FROM t WHERE NOT (s !~* ('a['))", "2201B", "'a['"),
            ("SELECT regexp_replace(s, '*', 'x', 'gi') FROM t", "2201B", "'*'"),
            ("SELECT regexp_match(s, E'(') FROM t", "2201B", "E'('"),
            ("SELECT * FROM regexp_split_to_table('a b', '[') AS r", "2201B", "'['"),
            ("SELECT substring(s FROM '(') FROM t", "2201B", "'('"),
            ("SELECT s SIMILAR TO 'a(' FROM t", "2201B", "'a('"),
            ("SELECT s SIMILAR TO 'a' ESCAPE 'xy' FROM t", "22025", "'a'"),
            ("SELECT s LIKE 'a#' ESCAPE '#' FROM t", "22025", "'a#'"),
            ("SELECT s NOT ILIKE 'a\\' FROM t", "22025", "'a\\'"),
            ("SELECT to_date(s, 'Y,YYY') FROM t", "0A000", "'Y,YYY'"),
            ("SELECT to_timestamp(s, 'YYYY TZ') FROM t", "0A000", "'YYYY TZ'"),
            ("SELECT encode(b, 'rot13') FROM t", "22023", "'rot13'"),
            ("SELECT decode(s, 'hax') FROM t", "22023", "'hax'"),
            ("SELECT convert_from(b, 'latin0') FROM t", "22023", "'latin0'"),
            ("SELECT convert_to(s, 'latin0') FROM t", "22023", "'latin0'"),
            ("SELECT ts AT TIME ZONE 'nowhere' FROM t", "22023", "'nowhere'"),
            ("SELECT timezone('nowhere', ts) FROM t", "22023", "'nowhere'"),
            ("SELECT date_bin(INTERVAL '0 minutes', ts) FROM t", "22008", "'0 minutes'"),
            ("SELECT date_bin(INTERVAL '-1 day', ts) FROM t", "22008", "'-1 day'"),
            ("SELECT 1 FROM (SELECT s FROM t WHERE s ~ ')') AS q", "2201B", "')'"),
        ] {
            let error = checked(text).expect_err(text);
            assert_eq!(error.sqlstate(), sqlstate, "{text}: {error}");
            let at = text.find(constant).map(|at| at + 1);
            assert_eq!(error.position().map(|position| position.offset), at, "{text}: {error}");
        }
        let error = checked("SELECT s ~ '(' FROM t").expect_err("not closed").nowhere();
        assert_eq!(error.to_string(), "invalid regular expression: unclosed group");
    }

    #[test]
    fn what_may_never_be_used_or_is_no_constant_is_let_pass() {
        for text in [
            "SELECT CASE WHEN false THEN s ~ '(' END FROM t",
            "SELECT coalesce(s ~ '(', true) FROM t",
            "SELECT 1 FROM t WHERE n > 1 AND s ~ '('",
            "SELECT 1 FROM t WHERE n > 1 OR EXISTS (SELECT 1 FROM u WHERE v ~ '(')",
            "SELECT count(*) FILTER (WHERE s ~ '(') FROM t",
            "SELECT s ~ p, s LIKE p, encode(b, p), ts AT TIME ZONE p FROM t",
            "SELECT s ~ 'a(b)c', s LIKE 'a\\\\', s LIKE 'a\\' ESCAPE '', s SIMILAR TO '(a|b)%' FROM t",
            "SELECT regexp_replace(s, '(', 'x', f), regexp_replace(s, '(', 'x', 'q') FROM t",
            "SELECT to_date(s, 'YYYY-MM-DD'), encode(b, 'Hex'), convert_to(s, 'utf-8'), to_timestamp(1) FROM t",
            "SELECT ts AT TIME ZONE 'europe/berlin', ts AT TIME ZONE INTERVAL '1 hour' FROM t",
            "SELECT date_bin(INTERVAL '15 minutes', ts), date_bin(INTERVAL '1 month', ts) FROM t",
            "SELECT substring(s FROM 2 FOR 3), substring(s, 2) FROM t",
        ] {
            checked(text).expect(text);
        }
    }
}
