//! INSERT, UPDATE, DELETE and TRUNCATE. Expressions and queries are sqlparser's.

use super::{joined, query, respell};
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::row_values::columns as row_columns;
use crate::statement::{ConflictUpdate, Delete, Insert, Joined, Name, OnConflict, Query, Update};
use crate::titles::width;
use datafusion::sql::sqlparser::ast::{Expr, SelectItem};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// What stands after INSERT INTO.
pub(super) fn insert(c: &mut Cursor<'_>) -> Result<Insert> {
    let text = c.text.to_owned();
    let table = c.name("a table's name")?;
    let alias = if c.accept(&["AS"]) { Some(c.ident("an alias")?) } else { None };
    let starts_query = c.peek_at(1).is_some_and(
        |token| matches!(token, Token::Word(w) if ["SELECT", "VALUES", "WITH", "TABLE"].iter().any(|k| w.value.eq_ignore_ascii_case(k))),
    );
    let columns = if c.peek() == Some(&Token::LParen) && !starts_query { names(c)? } else { Vec::new() };
    let source = if c.accept(&["DEFAULT", "VALUES"]) {
        None
    } else {
        let whole = c.set_aside(|c, at| c.words_at(at, &["RETURNING"]) || c.words_at(at, &["ON", "CONFLICT"]));
        let source = query(c)?;
        c.finish()?;
        c.restore(whole);
        Some(source)
    };
    let on_conflict = if c.is(&["ON", "CONFLICT"]) { Some(on_conflict(c)?) } else { None };
    Ok(Insert { table, alias, columns, source, on_conflict, returning: returning(c)?, text })
}

fn on_conflict(c: &mut Cursor<'_>) -> Result<OnConflict> {
    let at = c.position();
    c.expect(&["ON", "CONFLICT"])?;
    if c.is(&["ON", "CONSTRAINT"]) {
        return Err(Error::unsupported("ON CONSTRAINT", "name the columns of the key", Some(c.position())));
    }
    let target = if c.peek() == Some(&Token::LParen) { names(c)? } else { Vec::new() };
    c.expect(&["DO"])?;
    if c.accept(&["NOTHING"]) {
        return Ok(OnConflict { target, at, update: None });
    }
    c.expect(&["UPDATE"])?;
    if target.is_empty() {
        let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name".to_owned();
        return Err(Error::Invalid { sqlstate: "42601", message, position: Some(at) });
    }
    c.expect(&["SET"])?;
    let assignments = assignments(c)?;
    Ok(OnConflict { target, at, update: Some(ConflictUpdate { assignments, selection: selection(c)? }) })
}

/// What stands after UPDATE.
pub(super) fn update(c: &mut Cursor<'_>) -> Result<Update> {
    let text = c.text.to_owned();
    let (table, alias) = target(c, &["SET"])?;
    c.expect(&["SET"])?;
    let assignments = assignments(c)?;
    let joined = Joined { with: None, items: joined::items(c, Keyword::FROM, "FROM")? };
    let selection = selection(c)?;
    let returning = returning_joined(c, &joined)?;
    Ok(Update { table, alias, assignments, joined, selection, returning, text })
}

/// `column = expression, ...`.
fn assignments(c: &mut Cursor<'_>) -> Result<Vec<(Name, Expr)>> {
    let mut assignments: Vec<(Name, Expr)> = Vec::new();
    loop {
        for (column, expr) in assigned(c)? {
            if assignments.iter().any(|(other, _)| other.value == column.value) {
                return Err(Error::Invalid {
                    sqlstate: "42601",
                    message: format!("multiple assignments to same column {:?}", column.value),
                    position: Some(column.at),
                });
            }
            assignments.push((column, expr));
        }
        if !c.accept_token(&Token::Comma) {
            return Ok(assignments);
        }
    }
}

/// `column = expression`, or columns in parentheses that a row or a subquery is assigned to.
fn assigned(c: &mut Cursor<'_>) -> Result<Vec<(Name, Expr)>> {
    if c.peek() != Some(&Token::LParen) {
        let column = c.ident("a column's name")?;
        c.expect_token(&Token::Eq)?;
        return Ok(vec![(column, expression(c)?)]);
    }
    let at = c.position();
    let columns = listed(c)?;
    c.expect_token(&Token::Eq)?;
    let values = assigned_values(c)?;
    let count = match values.as_slice() {
        [Expr::Subquery(query)] => width(&query.body),
        values => Some(values.len()),
    };
    if count.is_some_and(|count| count != columns.len()) {
        let message = "number of columns does not match number of values".to_owned();
        return Err(Error::Invalid { sqlstate: "42601", message, position: Some(at) });
    }
    if columns.len() != values.len() {
        let hint = "assign each column by itself";
        return Err(Error::unsupported("an assignment to several columns at once", hint, Some(at)));
    }
    Ok(columns.into_iter().zip(values).collect())
}

/// The values of a row that is written out, or a subquery alone.
fn assigned_values(c: &mut Cursor<'_>) -> Result<Vec<Expr>> {
    let at = c.position();
    let is_row = c.accept(&["ROW"]);
    match expression(c)? {
        Expr::Tuple(values) => Ok(values),
        Expr::Nested(value) if is_row => Ok(vec![*value]),
        query @ Expr::Subquery(_) if !is_row => Ok(vec![query]),
        other => row_columns(&other).filter(|_| !is_row).ok_or_else(|| {
            let message =
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression".to_owned();
            Error::Invalid { sqlstate: "0A000", message, position: Some(at) }
        }),
    }
}

/// What stands after TRUNCATE. There are no sequences and no keys of other tables that it could concern.
pub(super) fn truncate(c: &mut Cursor<'_>) -> Result<Delete> {
    let text = c.text.to_owned();
    c.accept(&["TABLE"]);
    c.accept(&["ONLY"]);
    let table = c.name("a table's name")?;
    let mut others = Vec::new();
    while c.accept_token(&Token::Comma) {
        c.accept(&["ONLY"]);
        others.push(c.name("a table's name")?);
    }
    let _ = c.accept(&["RESTART", "IDENTITY"]) || c.accept(&["CONTINUE", "IDENTITY"]);
    let _ = c.accept(&["CASCADE"]) || c.accept(&["RESTRICT"]);
    let (joined, returning) = (Joined::default(), Vec::new());
    Ok(Delete { table, alias: None, joined, selection: None, returning, truncates: Some(others), text })
}

/// What stands after DELETE FROM.
pub(super) fn delete(c: &mut Cursor<'_>) -> Result<Delete> {
    let text = c.text.to_owned();
    let (table, alias) = target(c, &["WHERE", "RETURNING", "USING"])?;
    let joined = Joined { with: None, items: joined::items(c, Keyword::USING, "USING")? };
    let selection = selection(c)?;
    let returning = returning_joined(c, &joined)?;
    Ok(Delete { table, alias, joined, selection, returning, truncates: None, text })
}

/// `[ONLY] table [[AS] alias]`, where none of `keywords` is an alias.
fn target(c: &mut Cursor<'_>, keywords: &[&str]) -> Result<(Name, Option<Name>)> {
    let ends = |next: &Token| is_word(Some(next), "AS") || keywords.iter().any(|word| is_word(Some(next), word));
    if c.peek_at(1).is_some_and(|next| matches!(next, Token::Word(_)) && !ends(next)) {
        c.accept(&["ONLY"]);
    }
    let table = c.name("a table's name")?;
    let named = c.accept(&["AS"]) || !(c.at_end() || keywords.iter().any(|word| c.is(&[word])));
    let alias = if named { Some(c.ident("an alias")?) } else { None };
    Ok((table, alias))
}

fn expression(c: &mut Cursor<'_>) -> Result<Expr> {
    let mut expr = c.sqlparser(Parser::parse_expr)?;
    respell(&mut expr);
    Ok(expr)
}

fn selection(c: &mut Cursor<'_>) -> Result<Option<Expr>> {
    if !c.accept(&["WHERE"]) {
        return Ok(None);
    }
    if c.is(&["CURRENT", "OF"]) {
        let hint = "name the row by its key";
        return Err(Error::unsupported("WHERE CURRENT OF", hint, Some(c.position())));
    }
    expression(c).map(Some)
}

/// RETURNING of a statement that may be joined with other relations.
fn returning_joined(c: &mut Cursor<'_>, joined: &Joined) -> Result<Vec<SelectItem>> {
    if c.is(&["RETURNING"]) {
        joined.check_returned(c.position())?;
    }
    returning(c)
}

fn returning(c: &mut Cursor<'_>) -> Result<Vec<SelectItem>> {
    if !c.accept(&["RETURNING"]) {
        return Ok(Vec::new());
    }
    let mut items = c.sqlparser(|parser| parser.parse_comma_separated(Parser::parse_select_item))?;
    respell(&mut items);
    Ok(items)
}

/// Names in parentheses, each once.
pub(super) fn names(c: &mut Cursor<'_>) -> Result<Vec<Name>> {
    let names = listed(c)?;
    let is_again = |at: &usize| names[..*at].iter().any(|other| other.value == names[*at].value);
    let Some(again) = (0..names.len()).find(is_again) else { return Ok(names) };
    Err(Error::Invalid {
        sqlstate: "42701",
        message: format!("column {:?} specified more than once", names[again].value),
        position: Some(names[again].at),
    })
}

fn listed(c: &mut Cursor<'_>) -> Result<Vec<Name>> {
    c.expect_token(&Token::LParen)?;
    let mut names: Vec<Name> = vec![c.ident("a column's name")?];
    while c.accept_token(&Token::Comma) {
        names.push(c.ident("a column's name")?);
    }
    c.expect_token(&Token::RParen)?;
    Ok(names)
}

/// Fills in what DEFAULT stands for in a list of rows: nothing else may use that word there.
#[must_use]
pub fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// The rows of an INSERT that gives them one by one.
#[must_use]
pub fn rows_of(query: &Query) -> Option<Vec<&Vec<Expr>>> {
    use datafusion::sql::sqlparser::ast::SetExpr;
    let ast = &query.ast;
    let plain = ast.order_by.is_none() && ast.limit_clause.is_none() && ast.fetch.is_none();
    match ast.body.as_ref() {
        SetExpr::Values(values) if plain => Some(values.rows.iter().map(|row| &row.content).collect()),
        _ => None,
    }
}
