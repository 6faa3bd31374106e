//! Clauses that several statements share: INCLUDE, WITH (...) and FORMAT ... ENCODE ...

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Encoding, Envelope, Format, Included, Metadata, Property};
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

/// FORMAT PLAIN | UPSERT | DEBEZIUM ENCODE JSON | CSV | PARQUET [(...)], which may be absent.
pub(super) fn format(c: &mut Cursor<'_>) -> Result<Option<Format>> {
    if !c.accept(&["FORMAT"]) {
        return Ok(None);
    }
    let at = c.position();
    let envelope = envelope(c)?;
    c.expect(&["ENCODE"])?;
    let encoded_at = c.position();
    let encoding = encoding(c)?;
    if envelope != Envelope::Plain && encoding != Encoding::Json {
        let clause = format!("FORMAT {} ENCODE {}", envelope.name(), encoding.name());
        return Err(Error::unsupported(clause, "use ENCODE JSON", Some(encoded_at)));
    }
    let options = if c.peek() == Some(&Token::LParen) { properties(c)? } else { Vec::new() };
    Ok(Some(Format { envelope, at, encoding, options }))
}

fn envelope(c: &mut Cursor<'_>) -> Result<Envelope> {
    for envelope in [Envelope::Plain, Envelope::Upsert, Envelope::Debezium] {
        if c.accept(&[envelope.name()]) {
            return Ok(envelope);
        }
    }
    for later in ["MAXWELL", "CANAL", "NATIVE", "DEBEZIUM_MONGO"] {
        if c.is(&[later]) {
            let clause = format!("FORMAT {later}");
            return Err(Error::unsupported(clause, "use FORMAT PLAIN, UPSERT or DEBEZIUM", Some(c.position())));
        }
    }
    Err(c.unexpected("PLAIN, UPSERT or DEBEZIUM"))
}

/// INCLUDE what AS name, as often as it stands there.
pub(super) fn included(c: &mut Cursor<'_>) -> Result<Vec<Included>> {
    let mut all = Vec::new();
    while c.accept(&["INCLUDE"]) {
        let at = c.position();
        let known = [("KEY", Metadata::Key), ("FILE", Metadata::File), ("OFFSET", Metadata::Offset)];
        let Some((_, what)) = known.into_iter().find(|(word, _)| c.accept(&[word])) else {
            for later in ["TIMESTAMP", "PARTITION", "HEADER", "PAYLOAD"] {
                if c.is(&[later]) {
                    let clause = format!("INCLUDE {later}");
                    return Err(Error::unsupported(clause, "there are KEY, FILE and OFFSET", Some(at)));
                }
            }
            return Err(c.unexpected("KEY, FILE or OFFSET"));
        };
        c.expect(&["AS"])?;
        all.push(Included { what, name: c.ident("a column's name")? });
    }
    Ok(all)
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
