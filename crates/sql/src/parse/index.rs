//! CREATE INDEX.

use super::create::column_name;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{CreateIndex, Name, columns_of};
use datafusion::sql::sqlparser::tokenizer::Token;

/// What stands after CREATE INDEX.
pub(super) fn index(c: &mut Cursor<'_>) -> Result<CreateIndex> {
    refuse(c, &["CONCURRENTLY"], "it is not needed: reads and writes go on meanwhile")?;
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    if c.is(&["ON"]) {
        return Err(Error::unsupported("CREATE INDEX without a name", "name it", Some(c.position())));
    }
    let name = c.name("the index's name")?;
    c.expect(&["ON"])?;
    let on = c.name("a materialized view's or table's name")?;
    refuse(c, &["USING"], "an index finds rows by equality")?;
    let columns = key(c)?;
    let included = if c.accept(&["INCLUDE"]) { names(c)? } else { Vec::new() };
    refuse(c, &["DISTRIBUTED", "NULLS", "WITH", "TABLESPACE", "WHERE"], "an index has columns and INCLUDE")?;
    let all = if included.is_empty() { Vec::new() } else { columns.iter().chain(&included).cloned().collect() };
    let query = columns_of(&on, &all, c.text);
    Ok(CreateIndex { name, if_not_exists, on, columns, included, query })
}

fn refuse(c: &Cursor<'_>, clauses: &[&str], hint: &str) -> Result<()> {
    match clauses.iter().find(|clause| c.is(&[clause])) {
        Some(clause) => Err(Error::unsupported(format!("{clause} in CREATE INDEX"), hint, Some(c.position()))),
        None => Ok(()),
    }
}

/// The columns that rows are found by.
fn key(c: &mut Cursor<'_>) -> Result<Vec<Name>> {
    c.expect_token(&Token::LParen)?;
    let mut columns = Vec::new();
    loop {
        if [c.peek(), c.peek_at(1)].contains(&Some(&Token::LParen)) {
            let hint = "make a materialized view with the expression as a column";
            return Err(Error::unsupported("an expression in CREATE INDEX", hint, Some(c.position())));
        }
        columns.push(column_name(c)?);
        c.accept(&["ASC"]);
        refuse(c, &["DESC", "NULLS", "COLLATE"], "an index finds rows by equality")?;
        if !c.accept_token(&Token::Comma) {
            c.expect_token(&Token::RParen)?;
            return Ok(columns);
        }
    }
}

fn names(c: &mut Cursor<'_>) -> Result<Vec<Name>> {
    c.expect_token(&Token::LParen)?;
    let mut names = vec![column_name(c)?];
    while c.accept_token(&Token::Comma) {
        names.push(column_name(c)?);
    }
    c.expect_token(&Token::RParen)?;
    Ok(names)
}
