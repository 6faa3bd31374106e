//! COPY ... FROM STDIN and COPY ... TO STDOUT.

use super::dml::names;
use super::query;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Copy, CopyOptions, CopyOut, Statement, columns_of};
use datafusion::sql::sqlparser::tokenizer::Token;

/// Options that may stand behind HEADER without a comma, as in `CSV HEADER DELIMITER ';'`.
const OPTIONS: [&str; 8] = ["csv", "delimiter", "encoding", "escape", "format", "freeze", "null", "quote"];

/// What stands after COPY.
pub(super) fn copy(c: &mut Cursor<'_>) -> Result<Statement> {
    if c.accept_token(&Token::LParen) {
        let from = c.position();
        let mut query = query(c)?;
        query.text = c.alone(from, c.position());
        c.expect_token(&Token::RParen)?;
        c.expect(&["TO"])?;
        return Ok(Statement::CopyOut(CopyOut { query, options: to_stdout(c)? }));
    }
    let table = c.name("a table's name")?;
    let columns = if c.peek() == Some(&Token::LParen) { names(c)? } else { Vec::new() };
    if c.accept(&["TO"]) {
        let query = columns_of(&table, &columns, c.text);
        return Ok(Statement::CopyOut(CopyOut { query, options: to_stdout(c)? }));
    }
    c.expect(&["FROM"])?;
    if !c.accept(&["STDIN"]) {
        let hint = "the client sends the data: FROM STDIN, or \\copy in psql";
        return Err(Error::unsupported("COPY FROM a file or program", hint, Some(c.position())));
    }
    Ok(Statement::Copy(Copy { table, columns, options: options(c)? }))
}

/// Whether an option ends before its value, which is true then.
fn is_flag(c: &Cursor<'_>) -> bool {
    match c.peek() {
        None | Some(Token::Comma | Token::RParen) => true,
        Some(Token::Word(word)) => OPTIONS.contains(&word.value.to_lowercase().as_str()),
        Some(_) => false,
    }
}

fn freeze(c: &mut Cursor<'_>) -> Result<()> {
    let at = c.position();
    match c.value()?.to_lowercase().as_str() {
        "true" | "on" | "1" | "false" | "off" | "0" => Ok(()),
        _ => {
            let message = "freeze requires a Boolean value".to_owned();
            Err(Error::Syntax { message, position: Some(at) })
        }
    }
}

/// Whether there is a line of names, and whether it is compared.
fn header(c: &mut Cursor<'_>) -> Result<(bool, bool)> {
    let at = c.position();
    match c.value()?.to_lowercase().as_str() {
        "true" | "on" | "1" => Ok((true, false)),
        "false" | "off" | "0" => Ok((false, false)),
        "match" => Ok((true, true)),
        _ => {
            let message = "header requires a Boolean value or \"match\"".to_owned();
            Err(Error::Syntax { message, position: Some(at) })
        }
    }
}

fn to_stdout(c: &mut Cursor<'_>) -> Result<CopyOptions> {
    if !c.accept(&["STDOUT"]) {
        let hint = "the client takes the data: TO STDOUT, or \\copy in psql";
        return Err(Error::unsupported("COPY TO a file or program", hint, Some(c.position())));
    }
    let at = c.position();
    let options = options(c)?;
    if options.names {
        return Err(Error::unsupported(
            "HEADER match in COPY TO",
            "there is nothing to compare: HEADER true",
            Some(at),
        ));
    }
    Ok(options)
}

fn options(c: &mut Cursor<'_>) -> Result<CopyOptions> {
    let mut options = CopyOptions::default();
    c.accept(&["WITH"]);
    if c.accept_token(&Token::LParen) {
        loop {
            option(c, &mut options)?;
            if !c.accept_token(&Token::Comma) {
                break;
            }
        }
        c.expect_token(&Token::RParen)?;
    } else {
        while !c.at_end() {
            option(c, &mut options)?;
        }
    }
    Ok(options)
}

fn option(c: &mut Cursor<'_>, copy: &mut CopyOptions) -> Result<()> {
    let option = c.ident("an option of COPY")?;
    match option.value.as_str() {
        "format" => {
            let at = c.position();
            copy.csv = match c.value()?.to_lowercase().as_str() {
                "csv" => true,
                "text" => false,
                other => {
                    let hint = "the formats are text and csv";
                    return Err(Error::unsupported(format!("COPY format {other:?}"), hint, Some(at)));
                }
            };
        }
        "csv" => copy.csv = true,
        "header" => {
            (copy.header, copy.names) = if is_flag(c) { (true, false) } else { header(c)? };
        }
        // Of how PostgreSQL stores the rows, which means nothing here.
        "freeze" if is_flag(c) => {}
        "freeze" => freeze(c)?,
        "delimiter" => {
            c.accept(&["AS"]);
            copy.delimiter = Some(one_byte(c)?);
        }
        "null" => {
            c.accept(&["AS"]);
            copy.null = Some(c.value()?);
        }
        "quote" => copy.quote = Some(one_byte(c)?),
        "escape" => copy.escape = Some(one_byte(c)?),
        "encoding" => {
            let at = c.position();
            let encoding = c.value()?.to_lowercase();
            if encoding != "utf8" && encoding != "utf-8" {
                return Err(Error::unsupported(format!("encoding {encoding:?}"), "send UTF8", Some(at)));
            }
        }
        other => {
            let hint = "there are FORMAT, FREEZE, DELIMITER, NULL, HEADER, QUOTE, ESCAPE and ENCODING";
            return Err(Error::unsupported(format!("COPY option {other:?}"), hint, Some(option.at)));
        }
    }
    Ok(())
}

fn one_byte(c: &mut Cursor<'_>) -> Result<char> {
    let at = c.position();
    let value = c.value()?;
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) if one.is_ascii() && one != '\n' && one != '\r' => Ok(one),
        _ => Err(Error::Invalid {
            sqlstate: "22023",
            message: "it must be a single one-byte character".to_owned(),
            position: Some(at),
        }),
    }
}
