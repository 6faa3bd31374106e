//! Clauses that several statements share: WITH (...) and FORMAT ... ENCODE ...

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Encoding, Format, Property};
use datafusion::sql::sqlparser::tokenizer::Token;

/// `(key = value, dotted.key = value, ...)`; each key once.
pub(super) fn properties(c: &mut Cursor<'_>) -> Result<Vec<Property>> {
    c.expect_token(&Token::LParen)?;
    let mut all: Vec<Property> = Vec::new();
    while !c.accept_token(&Token::RParen) {
        if !all.is_empty() {
            c.expect_token(&Token::Comma)?;
        }
        let property = property(c)?;
        if all.iter().any(|p| p.key == property.key) {
            return Err(Error::option(property.key, "is given twice", Some(property.at)));
        }
        all.push(property);
    }
    Ok(all)
}

fn property(c: &mut Cursor<'_>) -> Result<Property> {
    let at = c.position();
    let mut key = part(c)?;
    while c.accept_token(&Token::Period) {
        key = format!("{key}.{}", part(c)?);
    }
    c.expect_token(&Token::Eq)?;
    Ok(Property { key, value: c.value()?, at })
}

/// A word of a key, quoted in either way if it must be.
fn part(c: &mut Cursor<'_>) -> Result<String> {
    if let Some(Token::SingleQuotedString(text)) = c.peek() {
        let text = text.to_lowercase();
        c.advance();
        return Ok(text);
    }
    Ok(c.ident("an option's name")?.value.to_lowercase())
}

/// WITH (...), which may be absent.
pub(super) fn with(c: &mut Cursor<'_>) -> Result<Vec<Property>> {
    if c.accept(&["WITH"]) { properties(c) } else { Ok(Vec::new()) }
}

/// FORMAT PLAIN ENCODE JSON | CSV | PARQUET [(...)], which may be absent.
pub(super) fn format(c: &mut Cursor<'_>) -> Result<Option<Format>> {
    if !c.accept(&["FORMAT"]) {
        return Ok(None);
    }
    for later in ["UPSERT", "DEBEZIUM", "MAXWELL", "CANAL", "NATIVE"] {
        if c.is(&[later]) {
            let clause = format!("FORMAT {later}");
            return Err(Error::unsupported(clause, "use FORMAT PLAIN", Some(c.position())));
        }
    }
    c.expect(&["PLAIN"])?;
    c.expect(&["ENCODE"])?;
    let encoding = encoding(c)?;
    let options = if c.peek() == Some(&Token::LParen) { properties(c)? } else { Vec::new() };
    Ok(Some(Format { encoding, options }))
}

fn encoding(c: &mut Cursor<'_>) -> Result<Encoding> {
    let known = [("JSON", Encoding::Json), ("CSV", Encoding::Csv), ("PARQUET", Encoding::Parquet)];
    for (word, encoding) in known {
        if c.accept(&[word]) {
            return Ok(encoding);
        }
    }
    for later in ["AVRO", "PROTOBUF", "BYTES", "TEXT"] {
        if c.is(&[later]) {
            let clause = format!("ENCODE {later}");
            return Err(Error::unsupported(clause, "use JSON, CSV or PARQUET", Some(c.position())));
        }
    }
    Err(c.unexpected("JSON, CSV or PARQUET"))
}
