//! PREPARE, EXECUTE and DEALLOCATE.

use super::create::data_type;
use super::parse;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Prepare, Statement};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// A statement about prepared statements, if one stands here.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    if c.accept(&["PREPARE"]) {
        return prepare(c).map(Some);
    }
    if c.accept(&["EXECUTE"]) {
        let name = c.ident("a prepared statement's name")?;
        let mut values = Vec::new();
        if c.accept_token(&Token::LParen) {
            values = c.sqlparser(|parser| parser.parse_comma_separated0(Parser::parse_expr, Token::RParen))?;
            c.expect_token(&Token::RParen)?;
        }
        return Ok(Some(Statement::Execute { name, values }));
    }
    if c.accept(&["DEALLOCATE"]) {
        c.accept(&["PREPARE"]);
        let name = if c.accept(&["ALL"]) { None } else { Some(c.ident("a prepared statement's name")?) };
        return Ok(Some(Statement::Deallocate(name)));
    }
    Ok(None)
}

fn prepare(c: &mut Cursor<'_>) -> Result<Statement> {
    if c.is(&["TRANSACTION"]) {
        let hint = "a transaction is committed at once";
        return Err(Error::unsupported("PREPARE TRANSACTION", hint, Some(c.position())));
    }
    let name = c.ident("a name for the prepared statement")?;
    let mut types = Vec::new();
    if c.accept_token(&Token::LParen) {
        loop {
            types.push(data_type(c)?);
            if !c.accept_token(&Token::Comma) {
                break;
            }
        }
        c.expect_token(&Token::RParen)?;
    }
    c.expect(&["AS"])?;
    let at = c.position();
    let text = c.rest();
    let statement = Box::new(parse(&text)?);
    if !matches!(*statement, Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)) {
        let hint = "SELECT, VALUES, INSERT, UPDATE and DELETE can be prepared";
        return Err(Error::unsupported("PREPARE of this statement", hint, Some(at)));
    }
    Ok(Statement::Prepare(Prepare { name, types, statement, text }))
}
