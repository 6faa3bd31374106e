//! DECLARE, FETCH, MOVE and CLOSE: cursors that go forwards, within a transaction.

use super::parse;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Fetch, Statement};
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
    if c.is(&["WITH", "HOLD"]) {
        let hint = "a cursor ends with its transaction";
        return Err(Error::unsupported("a cursor WITH HOLD", hint, Some(c.position())));
    }
    c.accept(&["WITHOUT", "HOLD"]);
    c.expect(&["FOR"])?;
    let at = c.position();
    match parse(&c.rest())? {
        Statement::Query(query) => Ok(Statement::Declare { cursor, query }),
        _ => Err(Error::unsupported("a cursor for this statement", "a cursor reads a query", Some(at))),
    }
}

/// What stands after FETCH or MOVE.
fn fetch(c: &mut Cursor<'_>, skips: bool) -> Result<Statement> {
    let count = if c.peek_at(1).is_none() { Some(1) } else { count(c)? };
    if !c.accept(&["FROM"]) {
        c.accept(&["IN"]);
    }
    let cursor = c.ident("a cursor's name")?;
    Ok(Statement::Fetch(Fetch { cursor, count, skips }))
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
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => Err(Error::unsupported("FETCH of no row or of rows before", "cursors go forwards only", Some(at))),
    }
}
