//! VACUUM and ANALYZE, which have nothing to do here.

use super::dml::names;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Statement, Vacuum};
use datafusion::sql::sqlparser::tokenizer::Token;

/// What PostgreSQL knows in the parentheses of VACUUM.
const OF_VACUUM: [&str; 10] = [
    "analyze",
    "disable_page_skipping",
    "freeze",
    "full",
    "index_cleanup",
    "parallel",
    "process_toast",
    "skip_locked",
    "truncate",
    "verbose",
];
/// And in those of ANALYZE.
const OF_ANALYZE: [&str; 2] = ["skip_locked", "verbose"];

/// Such a statement, if it is one.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    let analyzes = c.accept(&["ANALYZE"]) || c.accept(&["ANALYSE"]);
    if !analyzes && !c.accept(&["VACUUM"]) {
        return Ok(None);
    }
    if c.accept_token(&Token::LParen) {
        options(c, analyzes)?;
    } else {
        let words: &[&str] = if analyzes { &["VERBOSE"] } else { &["FULL", "FREEZE", "VERBOSE", "ANALYZE"] };
        for word in words {
            c.accept(&[*word]);
        }
    }
    let mut tables = Vec::new();
    while !c.at_end() {
        if !tables.is_empty() {
            c.expect_token(&Token::Comma)?;
        }
        let name = c.name("a table's name")?;
        let columns = if c.peek() == Some(&Token::LParen) { names(c)? } else { Vec::new() };
        tables.push((name, columns));
    }
    Ok(Some(Statement::Vacuum(Vacuum { analyzes, tables })))
}

/// The options behind an opening parenthesis, and the one that closes it.
fn options(c: &mut Cursor<'_>, analyzes: bool) -> Result<()> {
    let known: &[&str] = if analyzes { &OF_ANALYZE } else { &OF_VACUUM };
    loop {
        let option = c.ident("an option")?;
        if !known.contains(&option.value.as_str()) {
            let verb = if analyzes { "ANALYZE" } else { "VACUUM" };
            let message = format!("unrecognized {verb} option {:?}", option.value);
            return Err(Error::Syntax { message, position: Some(option.at) });
        }
        if !matches!(c.peek(), Some(Token::Comma | Token::RParen)) {
            c.value()?;
        }
        if !c.accept_token(&Token::Comma) {
            return c.expect_token(&Token::RParen);
        }
    }
}
