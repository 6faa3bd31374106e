//! CREATE FUNCTION and DROP FUNCTION: functions that are one expression in SQL.

use super::create::data_type;
use super::query;
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Kind, Result};
use crate::function::Volatility;
use crate::statement::{Argument, CreateFunction, DropFunction, constants};
use crate::text::Position;
use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// What may stand in a function, and what the rest is refused with.
const ONE_EXPRESSION: &str = "a function is AS 'SELECT expression' or RETURN expression, without FROM";
const IN_SQL: &str = "a function is LANGUAGE sql; a program that embeds the database adds others";

/// What is read of a function besides its name and types.
struct Parts {
    volatility: Option<Volatility>,
    strict: Option<bool>,
    language: bool,
    body: Option<Body>,
}

struct Body {
    expression: Expr,
    text: String,
    at: Position,
    is_placed: bool,
    /// It is a text, whose language is to be told.
    is_text: bool,
}

/// What stands after CREATE [OR REPLACE] FUNCTION.
pub(super) fn create(c: &mut Cursor<'_>, or_replace: bool) -> Result<CreateFunction> {
    if c.is(&["IF", "NOT", "EXISTS"]) {
        let hint = "CREATE OR REPLACE FUNCTION takes the place of one";
        return Err(Error::unsupported("IF NOT EXISTS of a function", hint, Some(c.position())));
    }
    let name = c.name("the function's name")?;
    let arguments = arguments(c)?;
    let at = c.position();
    if !c.accept(&["RETURNS"]) {
        let message = "function result type must be specified".to_owned();
        return Err(Error::Invalid { sqlstate: "42P13", message, position: Some(at) });
    }
    let returns = returned(c)?;
    let mut parts = Parts { volatility: None, strict: None, language: false, body: None };
    while !c.at_end() {
        part(c, &mut parts)?;
    }
    let Some(body) = parts.body else {
        let message = "no function body specified".to_owned();
        return Err(Error::Invalid { sqlstate: "42P13", message, position: Some(c.position()) });
    };
    if body.is_text && !parts.language {
        let message = "no language specified".to_owned();
        return Err(Error::Invalid { sqlstate: "42P13", message, position: Some(c.position()) });
    }
    Ok(CreateFunction {
        name,
        or_replace,
        arguments,
        returns,
        volatility: parts.volatility.unwrap_or(Volatility::Volatile),
        strict: parts.strict.unwrap_or(false),
        body: body.expression,
        body_text: body.text,
        body_at: body.at,
        is_placed: body.is_placed,
    })
}

/// What stands after DROP FUNCTION.
pub(super) fn drop(c: &mut Cursor<'_>) -> Result<DropFunction> {
    let if_exists = c.accept(&["IF", "EXISTS"]);
    let name = c.name("a function's name")?;
    let arguments = if c.peek() == Some(&Token::LParen) { Some(arguments(c)?) } else { None };
    let arguments = arguments.map(|all| all.into_iter().map(|argument| argument.data_type).collect());
    let cascade = c.accept(&["CASCADE"]);
    if !cascade {
        c.accept(&["RESTRICT"]);
    }
    Ok(DropFunction { name, arguments, if_exists, cascade })
}

fn arguments(c: &mut Cursor<'_>) -> Result<Vec<Argument>> {
    c.expect_token(&Token::LParen)?;
    let mut all = Vec::new();
    if c.accept_token(&Token::RParen) {
        return Ok(all);
    }
    loop {
        all.push(argument(c)?);
        if !c.accept_token(&Token::Comma) {
            c.expect_token(&Token::RParen)?;
            return Ok(all);
        }
    }
}

fn argument(c: &mut Cursor<'_>) -> Result<Argument> {
    for mode in ["OUT", "INOUT", "VARIADIC"] {
        if c.is(&[mode]) && matches!(c.peek_at(1), Some(Token::Word(_))) {
            let clause = format!("{mode} of an argument");
            return Err(Error::unsupported(clause, "a function takes values and gives one", Some(c.position())));
        }
    }
    if c.is(&["IN"]) {
        c.advance();
    }
    let name = if is_named(c) { Some(c.ident("an argument's name")?) } else { None };
    let data_type = unbounded(data_type(c)?);
    if c.is(&["DEFAULT"]) || c.peek() == Some(&Token::Eq) {
        let hint = "give all arguments in the call";
        return Err(Error::unsupported("DEFAULT of an argument", hint, Some(c.position())));
    }
    Ok(Argument { name, data_type })
}

/// Whether the next word is an argument's name and not its type: another word, which is no part of
/// that type, stands after it.
fn is_named(c: &Cursor<'_>) -> bool {
    const OF_TWO: [(&str, &[&str]); 6] = [
        ("DOUBLE", &["PRECISION"]),
        ("CHARACTER", &["VARYING"]),
        ("CHAR", &["VARYING"]),
        ("TIME", &["WITH", "WITHOUT"]),
        ("TIMESTAMP", &["WITH", "WITHOUT"]),
        ("NATIONAL", &["CHARACTER", "CHAR"]),
    ];
    let is_second = |word: &&str| is_word(c.peek_at(1), word);
    let is_type = OF_TWO.iter().any(|(first, seconds)| c.is(&[*first]) && seconds.iter().any(is_second));
    matches!(c.peek_at(1), Some(Token::Word(_))) && !is_word(c.peek_at(1), "DEFAULT") && !is_type
}

/// A type as functions have it: PostgreSQL passes over how many digits a numeric has.
fn unbounded(data_type: DataType) -> DataType {
    if matches!(data_type, DataType::Decimal128(..)) { crate::types::numeric() } else { data_type }
}

fn returned(c: &mut Cursor<'_>) -> Result<DataType> {
    let at = Some(c.position());
    let several = "a function gives one value for each row";
    for (word, hint) in [
        ("TABLE", several),
        ("SETOF", several),
        ("VOID", "a function gives a value"),
        ("TRIGGER", "there are no triggers"),
        ("RECORD", several),
    ] {
        if c.is(&[word]) {
            return Err(Error::unsupported(format!("RETURNS {word}"), hint, at));
        }
    }
    Ok(unbounded(data_type(c)?))
}

/// One clause after the types.
fn part(c: &mut Cursor<'_>, parts: &mut Parts) -> Result<()> {
    let at = c.position();
    let volatilities =
        [("IMMUTABLE", Volatility::Immutable), ("STABLE", Volatility::Stable), ("VOLATILE", Volatility::Volatile)];
    for (word, volatility) in volatilities {
        if c.accept(&[word]) {
            return once(&mut parts.volatility, volatility, at);
        }
    }
    if c.accept(&["STRICT"]) || c.accept(&["RETURNS", "NULL", "ON", "NULL", "INPUT"]) {
        return once(&mut parts.strict, true, at);
    }
    if c.accept(&["CALLED", "ON", "NULL", "INPUT"]) {
        return once(&mut parts.strict, false, at);
    }
    if c.accept(&["LANGUAGE"]) {
        if std::mem::replace(&mut parts.language, true) {
            return Err(redundant(at));
        }
        return language(c);
    }
    if c.accept(&["AS"]) {
        let body = quoted(c)?;
        return once(&mut parts.body, body, at);
    }
    if c.accept(&["RETURN"]) {
        let at = c.position();
        let expression = c.sqlparser(Parser::parse_expr)?;
        let body = Body { expression, text: c.text.to_owned(), at, is_placed: true, is_text: false };
        return once(&mut parts.body, body, at);
    }
    hints(c, at)
}

/// What only tells PostgreSQL's planner something, and what is refused.
fn hints(c: &mut Cursor<'_>, at: Position) -> Result<()> {
    if c.accept(&["LEAKPROOF"]) || c.accept(&["NOT", "LEAKPROOF"]) {
        return Ok(());
    }
    if c.accept(&["PARALLEL"]) || c.accept(&["COST"]) {
        return c.value().map(|_| ());
    }
    for (words, clause, hint) in [
        (&["BEGIN"][..], "BEGIN ATOMIC", ONE_EXPRESSION),
        (&["ROWS"][..], "ROWS", "a function gives one value for each row"),
        (&["WINDOW"][..], "WINDOW", "a function is an expression"),
        (&["SET"][..], "SET of a function", "a function takes the session's settings"),
        (&["SECURITY"][..], "SECURITY", "a function has no rights of its own"),
        (&["EXTERNAL"][..], "EXTERNAL SECURITY", "a function has no rights of its own"),
        (&["TRANSFORM"][..], "TRANSFORM", IN_SQL),
        (&["SUPPORT"][..], "SUPPORT", IN_SQL),
        (&["USING"][..], "USING", IN_SQL),
    ] {
        if c.is(words) {
            return Err(Error::unsupported(clause, hint, Some(at)));
        }
    }
    Err(c.unexpected("LANGUAGE, IMMUTABLE, STABLE, VOLATILE, STRICT, AS or RETURN"))
}

fn once<T>(place: &mut Option<T>, value: T, at: Position) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(redundant(at)),
    }
}

fn redundant(at: Position) -> Error {
    let message = "conflicting or redundant options".to_owned();
    Error::Syntax { message, position: Some(at) }
}

fn language(c: &mut Cursor<'_>) -> Result<()> {
    let at = c.position();
    let language = c.value()?.to_lowercase();
    match language.as_str() {
        "sql" => Ok(()),
        "plpgsql" | "c" | "internal" | "python" | "plpython3u" | "javascript" | "plv8" | "rust" | "java" | "wasm"
        | "plperl" | "pltcl" => Err(Error::unsupported(format!("LANGUAGE {language}"), IN_SQL, Some(at))),
        _ => Err(Error::Unknown { kind: Kind::Language, name: language, position: Some(at) }),
    }
}

/// The expression of a body that is a text.
fn quoted(c: &mut Cursor<'_>) -> Result<Body> {
    let at = c.position();
    let (quote, content) = match c.peek() {
        Some(Token::SingleQuotedString(text)) => (1, text.clone()),
        Some(Token::DollarQuotedString(text)) => {
            (2 + text.tag.as_ref().map_or(0, |tag| tag.chars().count()), text.value.clone())
        }
        Some(Token::EscapedStringLiteral(text)) => (2, text.clone()),
        _ => return Err(c.unexpected("the function's body as a string")),
    };
    c.advance();
    if c.peek() == Some(&Token::Comma) {
        return Err(Error::unsupported("AS with two texts", IN_SQL, Some(c.position())));
    }
    let from = at.offset + quote;
    let written = c.text.chars().skip(from - 1).take(content.chars().count());
    let is_placed = written.eq(content.chars());
    let text = if is_placed {
        let place = |offset| Position { offset, ..at };
        c.alone(place(from), place(from + content.chars().count()))
    } else {
        content
    };
    let expression = selected(&text).map_err(|error| {
        let error = if is_placed { error } else { error.nowhere() };
        error.or_at(Some(at))
    })?;
    Ok(Body { expression, text, at, is_placed, is_text: true })
}

/// The one expression of `SELECT expression`.
fn selected(text: &str) -> Result<Expr> {
    let mut c = Cursor::new(text)?;
    let at = c.position();
    if c.at_end() {
        return Err(Error::unsupported("an empty body", ONE_EXPRESSION, None));
    }
    if !c.is(&["SELECT"]) {
        return Err(Error::unsupported("a body that is not SELECT", ONE_EXPRESSION, Some(at)));
    }
    let query = query(&mut c)?;
    if c.peek() == Some(&Token::SemiColon) {
        return Err(Error::unsupported("a body of several statements", ONE_EXPRESSION, Some(c.position())));
    }
    c.finish()?;
    let items = match query.ast.body.as_ref() {
        SetExpr::Select(select) => select.projection.as_slice(),
        _ => &[],
    };
    let [SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. }] = items else {
        return Err(Error::unsupported("a body that gives not one value", ONE_EXPRESSION, Some(at)));
    };
    let plain = constants([expression], text);
    let mut unnamed = query.ast.clone();
    if let SetExpr::Select(select) = unnamed.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(expression.clone())];
    }
    if unnamed != plain.ast {
        return Err(Error::unsupported("a body with more than an expression", ONE_EXPRESSION, Some(at)));
    }
    Ok(expression.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::statement::Statement;

    fn function(text: &str) -> CreateFunction {
        match parse(text) {
            Ok(Statement::CreateFunction(function)) => function,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn functions_are_read_in_all_their_spellings() {
        for (text, signature, body, strict) in [
            ("CREATE FUNCTION f() RETURNS int RETURN 1", "", "1", false),
            ("CREATE FUNCTION f(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1;'", "integer, varchar", "1", false),
            (
                "CREATE OR REPLACE FUNCTION public.f(IN a double precision, \"B\" numeric(4, 2)) RETURNS timestamp with \
                 time zone IMMUTABLE PARALLEL SAFE COST 5 STRICT AS $x$ SELECT now() AS n $x$ LANGUAGE 'SQL'",
                "a double precision, B numeric",
                "now()",
                true,
            ),
            (
                "CREATE FUNCTION f(timestamp without time zone, a int[]) RETURNS text LANGUAGE sql VOLATILE \
                 CALLED ON NULL INPUT NOT LEAKPROOF AS E'SELECT \\'a\\''",
                "timestamp, a integer[]",
                "'a'",
                false,
            ),
        ] {
            let function = function(text);
            assert_eq!(function.signature(), signature, "{text}");
            assert_eq!((function.body.to_string().as_str(), function.strict), (body, strict), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_by_name() {
        for (rest, sqlstate) in [
            ("RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "0A000"),
            ("RETURNS int LANGUAGE cobol AS 'x'", "42704"),
            ("RETURNS TABLE (a int) LANGUAGE sql AS 'SELECT 1'", "0A000"),
            ("RETURNS SETOF int LANGUAGE sql AS 'SELECT 1'", "0A000"),
            ("LANGUAGE sql AS 'SELECT 1'", "42P13"),
            ("RETURNS int LANGUAGE sql", "42P13"),
            ("RETURNS int AS 'SELECT 1'", "42P13"),
            ("RETURNS int LANGUAGE sql AS 'SELECT 1' STRICT STRICT", "42601"),
            ("RETURNS int LANGUAGE sql AS 'SELECT a FROM t'", "0A000"),
            ("RETURNS int LANGUAGE sql AS 'SELECT 1, 2'", "0A000"),
            ("RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'", "0A000"),
            ("RETURNS int LANGUAGE sql AS 'SELECT 1 LIMIT 1'", "0A000"),
            ("RETURNS int LANGUAGE sql AS 'DELETE FROM t'", "0A000"),
            ("RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END", "0A000"),
            ("RETURNS int LANGUAGE sql AS ''", "0A000"),
        ] {
            let text = format!("CREATE FUNCTION f(a int) {rest}");
            assert_eq!(parse(&text).expect_err(rest).sqlstate(), sqlstate, "{text}");
        }
        for arguments in ["OUT a int", "VARIADIC a int[]", "a int DEFAULT 1"] {
            let text = format!("CREATE FUNCTION f({arguments}) RETURNS int RETURN 1");
            assert_eq!(parse(&text).expect_err(arguments).sqlstate(), "0A000", "{text}");
        }
    }
}
