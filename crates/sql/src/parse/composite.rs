//! `STRUCT<x int, y varchar>` as the type of a column: its fields, in which others may be nested.

use super::create;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::tokenizer::Token;

/// How deep composite types are nested at most.
const DEEPEST: usize = 32;

/// The type that comes next.
pub(super) fn data_type(c: &mut Cursor<'_>) -> Result<DataType> {
    let (read, more) = any(c, 0)?;
    if more > 0 {
        return Err(Error::Syntax {
            message: "syntax error: more > than < in a STRUCT".to_owned(),
            position: Some(c.position()),
        });
    }
    Ok(read)
}

/// A type, and how many types around it end with it: `>>` is one token.
fn any(c: &mut Cursor<'_>, depth: usize) -> Result<(DataType, usize)> {
    let at = c.position();
    if c.is(&["STRUCT"]) && c.peek_at(1) == Some(&Token::Lt) {
        if depth == DEEPEST {
            let clause = format!("STRUCT in more than {DEEPEST} others");
            return Err(Error::unsupported(clause, "keep what is nested deeper as jsonb", Some(at)));
        }
        c.advance();
        c.advance();
        let (fields, more) = fields(c, depth + 1)?;
        if more == 0 && c.peek() == Some(&Token::LBracket) {
            let hint = "an array's elements are of one of the other types: keep it as jsonb";
            return Err(Error::unsupported("an array of STRUCT", hint, Some(at)));
        }
        return Ok((DataType::Struct(fields.into()), more));
    }
    Ok((create::data_type(c)?, 0))
}

/// Fields up to what ends them, and how many types around them end with it.
fn fields(c: &mut Cursor<'_>, depth: usize) -> Result<(Vec<Field>, usize)> {
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = c.ident("a field's name")?;
        if fields.iter().any(|field| *field.name() == name.value) {
            return Err(Error::Invalid {
                sqlstate: "42701",
                message: format!("field {:?} specified more than once", name.value),
                position: Some(name.at),
            });
        }
        let (data_type, ended) = any(c, depth)?;
        fields.push(Field::new(name.value, data_type, true));
        if ended > 0 {
            return Ok((fields, ended - 1));
        }
        if c.accept_token(&Token::Comma) {
            continue;
        }
        let Some(ends) = c.peek().and_then(closing) else { return Err(c.unexpected("a comma or >")) };
        c.advance();
        return Ok((fields, ends - 1));
    }
}

/// How many types a token ends; none when it is another one.
fn closing(token: &Token) -> Option<usize> {
    match token {
        Token::Gt => Some(1),
        Token::ShiftRight => Some(2),
        Token::CustomBinaryOperator(text) if text.bytes().all(|byte| byte == b'>') => Some(text.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::pg_name;

    fn read(text: &str) -> Result<String> {
        let mut cursor = Cursor::new(text)?;
        let read = data_type(&mut cursor)?;
        cursor.finish()?;
        Ok(pg_name(&read))
    }

    #[test]
    fn composite_types_have_fields_that_may_be_composite() {
        for (written, shown) in [
            ("struct<x int, y varchar>", "struct<x integer, y varchar>"),
            ("STRUCT<X numeric(8, 2), \"Y\" int[]>", "struct<x numeric(8,2), Y integer[]>"),
            ("struct<a struct<b int, c struct<d timestamp>>>", "struct<a struct<b integer, c struct<d timestamp>>>"),
            (
                "struct<a struct<b struct<c struct<d int>>>, e jsonb >",
                "struct<a struct<b struct<c struct<d integer>>>, e jsonb>",
            ),
            ("int", "integer"),
        ] {
            assert_eq!(read(written).expect(written), shown, "{written}");
        }
    }

    #[test]
    fn what_is_no_such_type_is_refused() {
        for (written, sqlstate) in [
            ("struct< >", "42601"),
            ("struct<x int", "42601"),
            ("struct<x int>>", "42601"),
            ("struct<x>", "42601"),
            ("struct<x int y int>", "42601"),
            ("struct<x int, x int>", "42701"),
            ("struct<x flurb>", "42704"),
            ("struct<x int>[]", "0A000"),
            ("struct<x struct<y int>[]>", "0A000"),
            ("struct<x int[][]>", "0A000"),
        ] {
            let error = read(written).expect_err(written);
            assert_eq!(error.sqlstate(), sqlstate, "{written}: {error}");
        }
    }

    #[test]
    fn there_is_a_deepest_one() {
        let nested = |depth: usize| format!("{}int{}", "struct<x ".repeat(depth), " >".repeat(depth));
        assert!(read(&nested(DEEPEST)).is_ok());
        assert_eq!(read(&nested(DEEPEST + 1)).expect_err("too deep").sqlstate(), "0A000");
    }
}
