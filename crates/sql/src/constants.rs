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
use crate::statement::Query;
use crate::text::Position;
use crate::walk::walk;
use crate::zones;
use datafusion::common::Result as Planned;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableFactor,
    Value, ValueWithSpan, Visitor,
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

impl Constants<'_> {
    fn expr(&self, expr: &Expr) -> Walk {
        use BinaryOperator::{PGRegexIMatch, PGRegexMatch, PGRegexNotIMatch, PGRegexNotMatch};
        match expr {
            Expr::BinaryOp {
                op: PGRegexMatch | PGRegexIMatch | PGRegexNotMatch | PGRegexNotIMatch,
                right: pattern,
                ..
            }
            | Expr::Substring { substring_from: Some(pattern), substring_for: None, .. } => {
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

/// A value that is written out, also as an interval.
fn literal(expr: &Expr) -> Option<&ValueWithSpan> {
    match expr {
        Expr::Value(value) => Some(value),
        Expr::Nested(within) => literal(within),
        Expr::Interval(interval) if interval.leading_field.is_none() => literal(&interval.value),
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
