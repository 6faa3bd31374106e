//! What UPDATE and DELETE join their target with, and WITH before the statements that change rows.

use super::{dml, respell};
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::present;
use crate::references::references;
use crate::scopes::folded;
use crate::statement::{Insert, Query, Statement};
use crate::text::{Position, template};
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{self, SetExpr, TableWithJoins, Visitor, With};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::ops::ControlFlow;

/// What the statements begin with that change rows.
const VERBS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// What stands after `keyword`, which is FROM or USING; nothing where it does not come next.
pub(super) fn items(c: &mut Cursor<'_>, keyword: Keyword, word: &str) -> Result<Vec<TableWithJoins>> {
    if !c.is(&[word]) {
        return Ok(Vec::new());
    }
    let whole = c.set_aside(|c, at| c.words_at(at, &["WHERE"]) || c.words_at(at, &["RETURNING"]));
    let presents = present::asked(c)?;
    let from = c.sqlparser(|parser| {
        parser.expect_keyword_is(keyword)?;
        parser.parse_comma_separated(Parser::parse_table_and_joins)
    })?;
    c.finish()?;
    c.restore(whole);
    let mut query = template("SELECT 1");
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from = from;
    }
    present::mark(&mut query, &presents, c.text)?;
    respell(&mut query);
    check(&query, c)?;
    Ok(match query.body.as_mut() {
        SetExpr::Select(select) => std::mem::take(&mut select.from),
        _ => Vec::new(),
    })
}

/// WITH and the statement behind it, if that is one that changes rows.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    if !precedes_change(c) {
        return Ok(None);
    }
    let with = with(c)?;
    let at = c.position();
    if c.accept(&["UPDATE"]) {
        let mut update = dml::update(c)?;
        update.joined.with = Some(with);
        return Ok(Some(Statement::Update(update)));
    }
    if c.accept(&["DELETE", "FROM"]) {
        let mut delete = dml::delete(c)?;
        delete.joined.with = Some(with);
        return Ok(Some(Statement::Delete(delete)));
    }
    c.expect(&["INSERT", "INTO"])?;
    let mut insert = dml::insert(c)?;
    check_conflict(&with, &insert)?;
    insert.source = insert.source.map(|query| known_in(with, query, at)).transpose()?;
    Ok(Some(Statement::Insert(insert)))
}

/// Whether what stands behind the relations of a WITH changes rows. Brackets close before it, and before commas and
/// AS between the relations and their columns.
fn precedes_change(c: &Cursor<'_>) -> bool {
    if !c.is(&["WITH"]) {
        return false;
    }
    let mut depth = 0_usize;
    for (at, token) in (1..).map_while(|at| Some((at, c.peek_at(at)?))) {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                let next = c.peek_at(at + 1);
                let goes_on = next == Some(&Token::Comma) || is_word(next, "AS");
                if depth == 0 && !goes_on {
                    return VERBS.iter().any(|verb| is_word(next, verb));
                }
            }
            _ => {}
        }
    }
    false
}

/// The relations of a WITH that a statement which changes rows follows.
fn with(c: &mut Cursor<'_>) -> Result<With> {
    let whole = c.set_aside(|c, at| {
        at > 0 && c.token_at(at - 1) == Some(&Token::RParen) && VERBS.iter().any(|verb| c.words_at(at, &[*verb]))
    });
    let presents = present::asked(c)?;
    let with = c.sqlparser(|parser| {
        parser.expect_keyword_is(Keyword::WITH)?;
        Ok(With {
            with_token: parser.get_current_token().clone().into(),
            recursive: parser.parse_keyword(Keyword::RECURSIVE),
            cte_tables: parser.parse_comma_separated(Parser::parse_cte)?,
        })
    })?;
    c.finish()?;
    c.restore(whole);
    let mut query = template("SELECT 1");
    query.with = Some(with);
    present::mark(&mut query, &presents, c.text)?;
    respell(&mut query);
    check(&query, c)?;
    query.with.take().ok_or_else(|| c.unexpected("WITH"))
}

/// The query of an INSERT, in which the relations of a WITH before it are known.
fn known_in(mut with: With, mut query: Query, at: Position) -> Result<Query> {
    if let Some(own) = query.ast.with.take() {
        let is_known =
            |cte: &ast::Cte| with.cte_tables.iter().any(|other| folded(&other.alias.name) == folded(&cte.alias.name));
        if with.recursive || own.recursive || own.cte_tables.iter().any(is_known) {
            let hint = "put all of its relations into one WITH";
            return Err(Error::unsupported("WITH before INSERT and in its query", hint, Some(at)));
        }
        with.cte_tables.extend(own.cte_tables);
    }
    query.ast.with = Some(with);
    Ok(query)
}

/// Refuses subqueries of DO UPDATE that read a relation of WITH, which only the query of an INSERT knows.
fn check_conflict(with: &With, insert: &Insert) -> Result<()> {
    let Some(conflict) = &insert.on_conflict else { return Ok(()) };
    let Some(update) = &conflict.update else { return Ok(()) };
    let assigned: Vec<String> = update.assignments.iter().map(|(column, _)| column.value.clone()).collect();
    let read = references(&update.query(&insert.table, insert.alias.as_ref(), &assigned, &insert.text));
    if with.cte_tables.iter().any(|cte| read.contains(&folded(&cte.alias.name))) {
        let hint = "write its query where DO UPDATE reads it";
        return Err(Error::unsupported("a relation of WITH in ON CONFLICT", hint, Some(conflict.at)));
    }
    Ok(())
}

/// Refuses statements that change rows within a query.
pub(super) fn check(query: &ast::Query, c: &Cursor<'_>) -> Result<()> {
    match walk(query, &mut Changes) {
        ControlFlow::Break(verb) => {
            let hint = "write it as a statement of its own";
            Err(Error::unsupported(format!("{verb} within a query"), hint, c.only_word(verb)))
        }
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Looks for a statement that changes rows, and breaks off with its first word.
struct Changes;

impl Visitor for Changes {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<&'static str> {
        match query.body.as_ref() {
            SetExpr::Insert(_) => ControlFlow::Break("INSERT"),
            SetExpr::Update(_) => ControlFlow::Break("UPDATE"),
            SetExpr::Delete(_) => ControlFlow::Break("DELETE"),
            SetExpr::Merge(_) => ControlFlow::Break("MERGE"),
            _ => ControlFlow::Continue(()),
        }
    }
}
