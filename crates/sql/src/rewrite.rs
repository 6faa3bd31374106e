//! Stored statements when an object that they name gets another name, or a table another column.
//!
//! Invariant: a statement means the same as before. A query whose relation has no alias goes on calling
//! it by the old name, as PostgreSQL's does: `FROM t` becomes `FROM u AS t`, so that `t.a` still stands
//! for something, and all that is made from the query has the names that it had.

use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::parse;
use crate::references::{Form, Place, defined, places};
use crate::statement::{Name, Property, Statement};
use crate::text::{slice, tokens};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use std::collections::BTreeMap;

/// A part of a text and what stands there instead.
struct Edit {
    from: Location,
    to: Location,
    text: String,
}

impl Edit {
    const fn of(span: Span, text: String) -> Self {
        Self { from: span.start, to: span.end, text }
    }

    const fn insert(at: Location, text: String) -> Self {
        Self { from: at, to: at, text }
    }
}

fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.from);
    let mut out = String::with_capacity(text.len() + 32);
    let mut at = Location::new(1, 1);
    for edit in edits {
        out.push_str(slice(text, at, Some(edit.from)));
        out.push_str(&edit.text);
        at = edit.to;
    }
    out.push_str(slice(text, at, None));
    out
}

/// A CREATE with another name for what it creates.
///
/// # Errors
/// When the text does not parse, or creates nothing.
pub fn retitled(text: &str, to: &str) -> Result<String> {
    let statement = parse(text)?;
    let name = match &statement {
        Statement::CreateTable(table) => &table.name,
        Statement::CreateSource(source) => &source.name,
        Statement::CreateView(view) | Statement::CreateMaterializedView(view) => &view.name,
        Statement::CreateSink(sink) => &sink.name,
        Statement::CreateIndex(index) => &index.name,
        Statement::CreateSubscription(subscription) => &subscription.name,
        _ => return Err(damaged("it creates nothing")),
    };
    let span = span_of(&tokens(text)?, name)?;
    Ok(edited(text, vec![Edit::of(span, quoted(to))]))
}

/// A CREATE whose query, target or subject names the relation `from`, which is called `to` now; none
/// when it does not name it.
///
/// # Errors
/// `Unsupported` when the new name means something else in the query; when the text does not parse.
pub fn renamed(text: &str, from: &str, to: &str) -> Result<Option<String>> {
    let statement = parse(text)?;
    let tokens = tokens(text)?;
    let mut edits = Vec::new();
    let (query, is_short) = match &statement {
        Statement::CreateView(view) | Statement::CreateMaterializedView(view) => (&view.query, false),
        Statement::CreateSink(sink) => {
            if let Some(into) = sink.into.as_ref().filter(|into| into.value == from) {
                edits.push(Edit::of(span_of(&tokens, into)?, quoted(to)));
            }
            (&sink.query, is_short(text)?)
        }
        Statement::CreateSubscription(subscription) => return subject_renamed(text, &subscription.from, from, to),
        Statement::CreateIndex(index) => return subject_renamed(text, &index.on, from, to),
        _ => return Ok(None),
    };
    let found = places(query).into_iter().filter(|(name, _)| name == from);
    let found: Vec<Place> = found.map(|(_, place)| place).collect();
    if !found.is_empty() && defined(query).contains(to) {
        let hint = "a query that reads it has a WITH of that name";
        return Err(Error::unsupported(format!("renaming {from:?} to {to:?}"), hint, None));
    }
    for place in found {
        let alias = || format!(" AS {}", quoted(from));
        match place.form {
            Form::Bare if !is_short && !is_whole(&tokens, place.span) => {
                edits.push(Edit::of(place.span, quoted(to) + &alias()))
            }
            Form::BareCall => {
                edits.push(Edit::of(place.span, quoted(to)));
                edits.push(Edit::insert(end_of_call(&tokens, place.span)?, alias()));
            }
            Form::Bare | Form::Aliased | Form::AliasedCall => edits.push(Edit::of(place.span, quoted(to))),
        }
    }
    Ok((!edits.is_empty()).then(|| edited(text, edits)))
}

/// A text with another name for the one relation that it is about, if that is `from`.
fn subject_renamed(text: &str, subject: &Name, from: &str, to: &str) -> Result<Option<String>> {
    if subject.value != from {
        return Ok(None);
    }
    let span = span_of(&tokens(text)?, subject)?;
    Ok(Some(edited(text, vec![Edit::of(span, quoted(to))])))
}

/// A CREATE TABLE with one more column at the end.
///
/// # Errors
/// When the text has no columns.
pub fn with_column(text: &str, definition: &str) -> Result<String> {
    let mut depth = 0;
    for token in tokens(text)? {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => {
                return Ok(edited(text, vec![Edit::insert(token.span.start, format!(", {definition}"))]));
            }
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    Err(damaged("it has no columns"))
}

/// A CREATE MATERIALIZED VIEW or CREATE SINK whose WITH has other values, and further settings; what else is created is
/// as it was.
///
/// # Errors
/// When the text does not parse.
pub fn with_settings(text: &str, settings: &BTreeMap<&str, &str>) -> Result<String> {
    let (options, view) = match parse(text)? {
        Statement::CreateMaterializedView(view) => (view.options, Some(view.name)),
        Statement::CreateSink(sink) => (sink.options, None),
        _ => return Ok(text.to_owned()),
    };
    let tokens = tokens(text)?;
    let (mut edits, mut further) = (Vec::new(), settings.clone());
    let mut last = None;
    for option in &options {
        let span = value_of(&tokens, option)?;
        if let Some(value) = further.remove(option.key.as_str()) {
            edits.push(Edit::of(span, literal(value)));
        }
        last = Some(span.end);
    }
    let further: Vec<String> = further.iter().map(|(key, value)| format!("{key} = {}", literal(value))).collect();
    let further = further.join(", ");
    if further.is_empty() {
        return Ok(edited(text, edits));
    }
    edits.push(match (last, &view) {
        (Some(last), _) => Edit::insert(last, format!(", {further}")),
        (None, Some(view)) => Edit::insert(begin_of_query(&tokens, view)?, format!("WITH ({further}) ")),
        (None, None) => {
            let end = tokens.last().ok_or_else(|| damaged("it is empty"))?.span.end;
            Edit::insert(end, format!(" WITH ({further})"))
        }
    });
    Ok(edited(text, edits))
}

/// Where the value of an option stands.
fn value_of(tokens: &[TokenWithSpan], option: &Property) -> Result<Span> {
    let start = Location::new(option.at.line, option.at.column);
    let behind = tokens.iter().skip_while(|token| token.span.start < start);
    let mut value = behind.skip_while(|token| token.token != Token::Eq).skip(1);
    let ends = |token: &&TokenWithSpan| matches!(token.token, Token::Comma | Token::RParen);
    let first = value.next().ok_or_else(|| damaged("an option has no value"))?;
    let last = value.take_while(|token| !ends(token)).last().unwrap_or(first);
    Ok(Span::new(first.span.start, last.span.end))
}

/// Where the AS of a view stands.
fn begin_of_query(tokens: &[TokenWithSpan], view: &Name) -> Result<Location> {
    let start = Location::new(view.at.line, view.at.column);
    let mut depth = 0;
    for token in tokens.iter().filter(|token| token.span.start > start) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ if depth == 0 && is_word(Some(&token.token), "AS") => return Ok(token.span.start),
            _ => {}
        }
    }
    Err(damaged("it has no AS"))
}

/// A value as it is written in WITH.
fn literal(value: &str) -> String {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

/// A CREATE TABLE whose column `from` is called `to` now; none when more in it than the column and the key may be
/// made of the column.
///
/// # Errors
/// When the text does not parse, or creates no table.
pub fn column_renamed(text: &str, from: &str, to: &str) -> Result<Option<String>> {
    let Statement::CreateTable(table) = parse(text)? else { return Err(damaged("it creates no table")) };
    let tokens = tokens(text)?;
    let named = table.columns.iter().map(|column| &column.column.name).chain(&table.key);
    let spans = named.filter(|name| name.value == from).map(|name| span_of(&tokens, name));
    let mut spans = spans.collect::<Result<Vec<Span>>>()?;
    // A key that is written at its column is that name once more.
    spans.sort_by_key(|span| span.start);
    spans.dedup_by_key(|span| span.start);
    let is_computed = table.columns.iter().any(|column| column.column.generated.is_some());
    let is_elsewhere = |token: &TokenWithSpan| is_name(&token.token, from) && !spans.contains(&token.span);
    if (is_computed || table.watermark.is_some()) && tokens.iter().any(is_elsewhere) {
        return Ok(None);
    }
    let edits = spans.into_iter().map(|span| Edit::of(span, quoted(to))).collect();
    Ok(Some(edited(text, edits)))
}

/// Whether a token may stand for what has this name.
fn is_name(token: &Token, name: &str) -> bool {
    match token {
        Token::Word(word) if word.quote_style.is_some() => word.value == name,
        Token::Word(word) => word.value.to_lowercase() == name,
        _ => false,
    }
}

/// A name as it is written in a statement.
fn quoted(name: &str) -> String {
    let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let is_word = matches!(Token::make_word(name, None), Token::Word(word) if word.keyword == Keyword::NoKeyword);
    if is_plain && is_word { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether a sink's query is `FROM v`, where no alias can stand.
fn is_short(text: &str) -> Result<bool> {
    let mut c = Cursor::new(text)?;
    c.expect(&["CREATE", "SINK"])?;
    c.accept(&["IF", "NOT", "EXISTS"]);
    c.name("the sink's name")?;
    if c.accept(&["INTO"]) {
        c.name("a table's name")?;
    }
    Ok(c.is(&["FROM"]))
}

/// Whether a relation is that of `TABLE t`, where no alias can stand either.
fn is_whole(tokens: &[TokenWithSpan], relation: Span) -> bool {
    let before = tokens.iter().take_while(|token| token.span.start < relation.start).last();
    is_word(before.map(|token| &token.token), "TABLE")
}

fn span_of(tokens: &[TokenWithSpan], name: &Name) -> Result<Span> {
    let start = Location::new(name.at.line, name.at.column);
    let found = tokens.iter().find(|token| token.span.start == start);
    found.map(|token| token.span).ok_or_else(|| damaged("a name is not where it was"))
}

/// The place after the parenthesis that closes the call in which `argument` stands.
fn end_of_call(tokens: &[TokenWithSpan], argument: Span) -> Result<Location> {
    let mut depth = 0;
    for token in tokens.iter().filter(|token| token.span.start >= argument.end) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return Ok(token.span.end),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    Err(damaged("a call does not end"))
}

fn damaged(why: &str) -> Error {
    let message = format!("the catalog's text cannot be changed: {why}");
    Error::Invalid { sqlstate: "XX001", message, position: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        renamed(text, "t", "u").expect("parses").unwrap_or_else(|| "unchanged".to_owned())
    }

    #[test]
    fn settings_are_written_into_with() {
        let settings = BTreeMap::from([("on_error", "it's"), ("parallelism", "2")]);
        for (text, changed) in [
            (
                "CREATE MATERIALIZED VIEW v (a) AS SELECT b AS a FROM t",
                "CREATE MATERIALIZED VIEW v (a) WITH (on_error = 'it''s', parallelism = 2) AS SELECT b AS a FROM t",
            ),
            (
                "CREATE MATERIALIZED VIEW v WITH (parallelism = '1', retain = 3) AS SELECT 1",
                "CREATE MATERIALIZED VIEW v WITH (parallelism = 2, retain = 3, on_error = 'it''s') AS SELECT 1",
            ),
            (
                "CREATE SINK k FROM v WITH (connector = 'file', on_error = 'fail')",
                "CREATE SINK k FROM v WITH (connector = 'file', on_error = 'it''s', parallelism = 2)",
            ),
            ("CREATE SINK k INTO t FROM v", "CREATE SINK k INTO t FROM v WITH (on_error = 'it''s', parallelism = 2)"),
            ("CREATE TABLE t (a int)", "CREATE TABLE t (a int)"),
        ] {
            assert_eq!(with_settings(text, &settings).expect(text), changed);
        }
        let same = "CREATE MATERIALIZED VIEW v AS SELECT 1";
        assert_eq!(with_settings(same, &BTreeMap::new()).expect(same), same);
    }

    #[test]
    fn a_query_goes_on_calling_its_relation_by_the_old_name() {
        let cases = [
            (
                "CREATE VIEW v AS SELECT t.a FROM t WHERE 't' = t.a",
                "CREATE VIEW v AS SELECT t.a FROM u AS t WHERE 't' = t.a",
            ),
            (
                "CREATE VIEW v AS SELECT x.a FROM public.t x JOIN t USING (a)",
                "CREATE VIEW v AS SELECT x.a FROM u x JOIN u AS t USING (a)",
            ),
            ("CREATE VIEW v AS TABLE t ORDER BY a", "CREATE VIEW v AS TABLE u ORDER BY a"),
            ("CREATE VIEW v AS (TABLE public.t) UNION TABLE w", "CREATE VIEW v AS (TABLE u) UNION TABLE w"),
            (
                "CREATE VIEW v AS SELECT a FROM w WHERE a IN (SELECT a FROM T)",
                "CREATE VIEW v AS SELECT a FROM w WHERE a IN (SELECT a FROM u AS t)",
            ),
            (
                "CREATE VIEW v AS SELECT t.a FROM TUMBLE(t, ts, INTERVAL '1' DAY)",
                "CREATE VIEW v AS SELECT t.a FROM TUMBLE(u, ts, INTERVAL '1' DAY) AS t",
            ),
            (
                "CREATE VIEW v AS SELECT * FROM HOP(t, ts, INTERVAL '1' DAY, INTERVAL '2' DAY) w",
                "CREATE VIEW v AS SELECT * FROM HOP(u, ts, INTERVAL '1' DAY, INTERVAL '2' DAY) w",
            ),
            (
                "CREATE VIEW v AS\n  SELECT 'é', a\n  FROM t -- t",
                "CREATE VIEW v AS\n  SELECT 'é', a\n  FROM u AS t -- t",
            ),
            ("CREATE SINK k FROM t WITH (connector = 'file')", "CREATE SINK k FROM u WITH (connector = 'file')"),
            ("CREATE SINK k INTO t FROM w", "CREATE SINK k INTO u FROM w"),
            (
                "CREATE SUBSCRIPTION t FROM t WITH (retention = '1d')",
                "CREATE SUBSCRIPTION t FROM u WITH (retention = '1d')",
            ),
            ("CREATE INDEX t ON public.t (t)", "CREATE INDEX t ON public.u (t)"),
            ("CREATE VIEW t AS SELECT 1", "unchanged"),
            ("CREATE VIEW v AS SELECT a AS t FROM w", "unchanged"),
            ("CREATE VIEW v AS WITH t AS (SELECT a FROM w) SELECT * FROM t", "unchanged"),
            ("CREATE TABLE w (t int)", "unchanged"),
        ];
        for (before, after) in cases {
            assert_eq!(rewritten(before), after);
        }
        let again = renamed("CREATE VIEW v AS SELECT t.a FROM u AS t", "u", "Select").expect("parses");
        assert_eq!(again.as_deref(), Some("CREATE VIEW v AS SELECT t.a FROM \"Select\" AS t"));
        let hidden = renamed("CREATE VIEW v AS WITH u AS (SELECT 1) SELECT * FROM t, u", "t", "u");
        assert_eq!(hidden.expect_err("u is another thing there").sqlstate(), "0A000");
    }

    #[test]
    fn a_column_has_another_name_where_nothing_is_made_of_it() {
        let cases = [
            ("CREATE TABLE t (a int PRIMARY KEY, b int)", Some("CREATE TABLE t (\"B c\" int PRIMARY KEY, b int)")),
            (
                "CREATE TABLE a (\"a\" int, b int, PRIMARY KEY (b, a))",
                Some("CREATE TABLE a (\"B c\" int, b int, PRIMARY KEY (b, \"B c\"))"),
            ),
            (
                "CREATE TABLE t (a int DEFAULT 1, b int, c int AS (b + 1))",
                Some("CREATE TABLE t (\"B c\" int DEFAULT 1, b int, c int AS (b + 1))"),
            ),
            ("CREATE TABLE t (a int, c int AS (A + 1))", None),
            ("CREATE TABLE t (a timestamp, WATERMARK FOR a AS a - INTERVAL '1' SECOND) APPEND ONLY", None),
        ];
        for (before, after) in cases {
            assert_eq!(column_renamed(before, "a", "B c").expect("a table").as_deref(), after, "{before}");
        }
        assert_eq!(column_renamed("CREATE VIEW v AS SELECT 1", "a", "b").expect_err("a view").sqlstate(), "XX001");
    }

    #[test]
    fn what_is_created_has_another_name_or_column() {
        let titled = |text: &str| retitled(text, "b").expect("parses");
        assert_eq!(
            titled("CREATE TABLE IF NOT EXISTS public.a (a int)"),
            "CREATE TABLE IF NOT EXISTS public.b (a int)"
        );
        assert_eq!(
            titled("CREATE MATERIALIZED VIEW \"A\" AS SELECT a FROM a"),
            "CREATE MATERIALIZED VIEW b AS SELECT a FROM a"
        );
        assert_eq!(
            with_column("CREATE TABLE t (a numeric(10, 2), PRIMARY KEY (a)) APPEND ONLY", "b int").expect("a table"),
            "CREATE TABLE t (a numeric(10, 2), PRIMARY KEY (a), b int) APPEND ONLY"
        );
    }
}
