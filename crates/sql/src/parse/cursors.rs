//! DECLARE, FETCH, MOVE and CLOSE: cursors that go forwards, over queries and subscriptions.

use super::{clauses, parse};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{DeclareSubscription, Fetch, Since, Statement};
use datafusion::sql::sqlparser::tokenizer::Token;

/// A statement about cursors, if one stands here.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    if c.accept(&["DECLARE"]) {
        return declare(c).map(Some);
    }
    if c.accept(&["FETCH"]) {
        return fetch(c, false).map(Some);
    }
    if c.accept(&["MOVE"]) {
        return fetch(c, true).map(Some);
    }
    if c.accept(&["CLOSE"]) {
        let name = if c.accept(&["ALL"]) { None } else { Some(c.ident("a cursor's name")?) };
        return Ok(Some(Statement::Close(name)));
    }
    Ok(None)
}

fn declare(c: &mut Cursor<'_>) -> Result<Statement> {
    let cursor = c.ident("a name for the cursor")?;
    if c.accept(&["SUBSCRIPTION"]) {
        c.expect(&["CURSOR", "FOR"])?;
        let subscription = c.name("a subscription's name")?;
        let at = c.position();
        let since = since(c)?;
        return Ok(Statement::DeclareSubscription(DeclareSubscription { cursor, subscription, since, at }));
    }
    loop {
        let at = Some(c.position());
        if c.is(&["BINARY"]) {
            return Err(Error::unsupported("a BINARY cursor", "FETCH gives the format that the client asks for", at));
        }
        if c.is(&["SCROLL"]) {
            return Err(Error::unsupported("a SCROLL cursor", "cursors go forwards only", at));
        }
        if !(c.accept(&["INSENSITIVE"]) || c.accept(&["ASENSITIVE"]) || c.accept(&["NO", "SCROLL"])) {
            break;
        }
    }
    c.expect(&["CURSOR"])?;
    let hold = c.accept(&["WITH", "HOLD"]);
    if !hold {
        c.accept(&["WITHOUT", "HOLD"]);
    }
    c.expect(&["FOR"])?;
    let at = c.position();
    match parse(&c.rest())? {
        Statement::Query(query) => Ok(Statement::Declare { cursor, hold, query }),
        _ => Err(Error::unsupported("a cursor for this statement", "a cursor reads a query", Some(at))),
    }
}

/// SINCE now() | begin() | milliseconds, or FULL; nothing is SINCE now().
fn since(c: &mut Cursor<'_>) -> Result<Since> {
    if c.accept(&["FULL"]) {
        return Ok(Since::Full);
    }
    if !c.accept(&["SINCE"]) {
        return Ok(Since::Now);
    }
    for (function, since) in [("NOW", Since::Now), ("PROCTIME", Since::Now), ("BEGIN", Since::Begin)] {
        if c.accept(&[function]) {
            c.expect_token(&Token::LParen)?;
            c.expect_token(&Token::RParen)?;
            return Ok(since);
        }
    }
    let unexpected = c.unexpected("now(), begin() or milliseconds since 1970");
    match c.peek() {
        Some(Token::Number(..)) => c.value()?.parse().map(Since::Time).map_err(|_| unexpected),
        _ => Err(unexpected),
    }
}

/// What stands after FETCH or MOVE.
fn fetch(c: &mut Cursor<'_>, skips: bool) -> Result<Statement> {
    let count = if c.peek_at(1).is_none() { Some(1) } else { count(c)? };
    if !c.accept(&["FROM"]) {
        c.accept(&["IN"]);
    }
    let cursor = c.ident("a cursor's name")?;
    let options = clauses::with(c)?;
    Ok(Statement::Fetch(Fetch { cursor, count, skips, options }))
}

/// How many rows; none for all.
fn count(c: &mut Cursor<'_>) -> Result<Option<u64>> {
    for word in ["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"] {
        if c.is(&[word]) {
            return Err(Error::unsupported(format!("FETCH {word}"), "cursors go forwards only", Some(c.position())));
        }
    }
    if c.accept(&["NEXT"]) {
        return Ok(Some(1));
    }
    c.accept(&["FORWARD"]);
    if c.accept(&["ALL"]) {
        return Ok(None);
    }
    let at = c.position();
    let Some(Token::Number(..) | Token::Minus) = c.peek() else { return Ok(Some(1)) };
    match c.value()?.parse() {
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(Error::unsupported("FETCH of rows before", "cursors go forwards only", Some(at))),
    }
}
