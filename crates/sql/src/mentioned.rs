//! Where in a query stands what was refused by its plan, which does not tell: it is looked for by what the refusal
//! mentions, such as a function, an operator, a constant or a clause.
//!
//! Invariant: it is the one place that can be meant. Where there are several, or none, there is no position.

use crate::constants::{is_match, literal, text_of};
use crate::cursor::Cursor;
use crate::error::{Error, between};
use crate::matched::UNMATCHED;
use crate::references::{called_at, places};
use crate::scalars;
use crate::statement::Query;
use crate::text::Position;
use crate::walk::walk_expressions;
use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, SelectItem, SetExpr, Spanned as _, Value};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// A refusal with its place, if it has none and its words tell it.
pub(crate) fn placed(error: Error, query: &Query) -> Error {
    let at = match &error {
        Error::Unsupported { clause, position: None, .. } => {
            clause_at(query, clause).or_else(|| constant_at(query, clause))
        }
        Error::Invalid { sqlstate, message, position: None } => place_of(query, sqlstate, message),
        _ => return error,
    };
    error.or_at(at)
}

/// The place in a query that an error of this class is about, if its message tells it.
#[must_use]
pub fn place_of(query: &Query, sqlstate: &str, message: &str) -> Option<Position> {
    match sqlstate {
        "42883" => match between(message, "function ", "(") {
            Some(function) => called_at(query, &function),
            None => operator_at(query, message.strip_prefix("operator does not exist: ")?),
        },
        "42846" if message.starts_with("cannot cast type ") => only_cast(query),
        "42804" if message.ends_with(UNMATCHED) => only_word(query, message.split(' ').next()?),
        "42804" => only_word(query, between(message, "argument of ", " must be type ")?.split('/').next()?),
        "42P10" if message.starts_with("in an aggregate with DISTINCT") => only_word(query, "DISTINCT"),
        "42P10" => number_at(query, &between(message, " position ", " is not in select list")?),
        "42601" if message.starts_with("VALUES ") => only_word(query, "VALUES"),
        "2201W" => only_word(query, "LIMIT"),
        "2201X" => only_word(query, "OFFSET"),
        "2201B" => only_pattern(query),
        "0A000" => constant_at(query, message).or_else(|| clause_at(query, message)),
        of_values if of_values.starts_with("22") => constant_at(query, message),
        _ => None,
    }
}

/// The place of what a clause begins with: a function, a column, a relation, an operator or a word.
fn clause_at(query: &Query, clause: &str) -> Option<Position> {
    if let Some(column) = between(clause, "column \"", "\" of type ") {
        return column_at(query, &column);
    }
    if let Some(relation) = between(clause, "reading \"", "\" together") {
        let (_, place) = only(places(query).into_iter().filter(|(name, _)| *name == relation))?;
        return Position::of(&query.text, place.span.start);
    }
    if let Some(operator) = between(clause, "operator ", " of jsonb") {
        return only_token(query, &operator);
    }
    let first = clause.split(' ').next()?;
    match first.split_once('(') {
        Some((function, _)) => called_at(query, function),
        None if first.len() > 1 && first.bytes().all(|letter| letter.is_ascii_uppercase()) => only_word(query, first),
        // No other word has one.
        None if first.contains('_') => called_at(query, first),
        None => None,
    }
}

/// The one that there is.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let (first, second) = (all.next(), all.next());
    first.filter(|_| second.is_none())
}

fn only_word(query: &Query, word: &str) -> Option<Position> {
    Cursor::new(&query.text).ok()?.only_word(word)
}

fn only_token(query: &Query, token: &str) -> Option<Position> {
    Cursor::new(&query.text).ok()?.only_token(token)
}

/// The operator between two types, of which there may be several words.
fn operator_at(query: &Query, operation: &str) -> Option<Position> {
    let is_operator = |word: &&str| !word.is_empty() && word.bytes().all(|sign| b"+-*/<>=~!@#%^&|`?".contains(&sign));
    let mut words = operation.split(' ');
    if words.clone().any(|word| word == "LIKE") {
        return only_word(query, "LIKE");
    }
    only_token(query, words.find(is_operator)?)
}

/// The place of the one expression for which there is one.
fn only_expression(query: &Query, look: impl Fn(&Expr) -> Option<Location>) -> Option<Position> {
    let mut starts = Vec::new();
    let _: ControlFlow<()> = walk_expressions(&query.ast, &mut |expr| {
        starts.extend(look(expr));
        ControlFlow::Continue(())
    });
    Position::of(&query.text, only(starts.into_iter())?)
}

fn only_cast(query: &Query) -> Option<Position> {
    only_expression(query, |expr| match expr {
        Expr::Cast { .. } => Some(expr.span().start),
        _ => None,
    })
}

/// The one pattern beside an operator that is no regular expression.
fn only_pattern(query: &Query) -> Option<Position> {
    only_expression(query, |expr| {
        let Expr::BinaryOp { op, right, .. } = expr else { return None };
        let pattern = literal(right).filter(|_| is_match(op))?;
        scalars::check_regex(text_of(pattern)?).is_err().then_some(pattern.span.start)
    })
}

fn number_at(query: &Query, digits: &str) -> Option<Position> {
    only_expression(query, |expr| match expr {
        Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == digits) => {
            Some(value.span.start)
        }
        _ => None,
    })
}

/// Where the constant stands that a message quotes.
fn constant_at(query: &Query, message: &str) -> Option<Position> {
    let is_quoted = |text: &str| message.contains(&format!("\"{text}\""));
    let found = only_expression(query, |expr| match expr {
        Expr::Value(value) if text_of(value).is_some_and(is_quoted) => Some(value.span.start),
        Expr::Extract { field: DateTimeField::Custom(unit), .. } if is_quoted(&unit.value) => Some(unit.span.start),
        _ => None,
    });
    // Other units of EXTRACT are words that have no places.
    found.or_else(|| only_word(query, &between(message, "unit \"", "\"")?))
}

/// The result of a name.
fn column_at(query: &Query, name: &str) -> Option<Position> {
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return None };
    let found = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if alias.value == name => Some(expr),
        SelectItem::UnnamedExpr(expr @ Expr::Identifier(ident)) if ident.value == name => Some(expr),
        SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(idents)) if idents.last()?.value == name => Some(expr),
        _ => None,
    });
    Position::of(&query.text, only(found)?.span().start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Relations, Session};
    use crate::statement::Statement;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn refused(text: &str) -> Error {
        let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text} is a query") };
        let column = |(name, of): (&str, DataType)| Field::new(name, of, true);
        let columns = [("a", DataType::Int32), ("d", DataType::Date32), ("j", DataType::LargeUtf8)];
        let mut relations = Relations::default();
        relations.stream("t", Arc::new(Schema::new(columns.map(column).to_vec())));
        Session::new(1).bind(&query, &relations).expect_err(text)
    }

    #[test]
    fn what_is_mentioned_is_found_where_it_stands_once() {
        let mut others = Vec::new();
        for (text, sqlstate, place) in [
            ("SELECT 1, upper(d) FROM t", "42883", Some("upper")),
            ("SELECT upper(d), upper(d) FROM t", "42883", None),
            ("SELECT a = d FROM t", "42883", Some("a = d")),
            ("SELECT a = d, d = a FROM t", "42883", Some("a = d")),
            ("SELECT lower(j) FROM t", "42883", Some("lower")),
            ("SELECT 1 FROM t WHERE j < '1'", "0A000", Some("<")),
            ("SELECT a FROM t ORDER BY j", "0A000", Some("ORDER")),
            ("SELECT j::date FROM t", "42846", Some("j")),
            ("SELECT coalesce(a, d) FROM t", "42804", Some("coalesce")),
            ("SELECT a FROM t UNION SELECT d FROM t", "42804", Some("d FROM")),
            ("SELECT a AND true FROM t", "42804", Some("a AND")),
            ("SELECT a FROM t ORDER BY 3", "42P10", Some("3")),
            ("SELECT 3 FROM t ORDER BY 3, 3 + 1", "42P10", None),
            ("SELECT sum(max(a)) FROM t", "42803", Some("a))")),
            ("SELECT date_trunc('fortnight', d) FROM t", "22023", Some("'fortnight'")),
            ("SELECT extract(fortnight FROM d) FROM t", "22023", Some("fortnight")),
            ("SELECT extract(timezone_hour FROM d) FROM t", "0A000", Some("timezone_hour")),
            ("SELECT to_char(d, 'TMMonth') FROM t", "0A000", Some("'TMMonth'")),
        ] {
            let error = refused(text);
            assert_eq!(error.sqlstate(), sqlstate, "{text}: {error}");
            let at = place.and_then(|place| text.find(place)).map(|at| at + 1);
            let found = error.position().map(|position| position.offset);
            if found != at {
                others.push(format!("{text}: {found:?} and not {at:?}: {error}"));
            }
        }
        assert!(others.is_empty(), "{}", others.join("\n"));
    }
}
