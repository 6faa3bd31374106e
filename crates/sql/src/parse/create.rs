//! CREATE of all but tables, indexes and functions: SOURCE, VIEW, MATERIALIZED VIEW, SINK and SUBSCRIPTION.

use super::{clauses, composite, query, watermark};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{
    Column, CreateSink, CreateSource, CreateSubscription, CreateView, Envelope, Included, Metadata, Name, Query,
    Statement, Watermark, columns_of,
};
use crate::text::Position;
use crate::types;
use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{SetExpr, TableFactor};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// What stands after CREATE.
pub(super) fn create(c: &mut Cursor<'_>) -> Result<Statement> {
    let at = Some(c.position());
    if c.accept(&["OR", "REPLACE"]) {
        if c.accept(&["FUNCTION"]) {
            return super::function::create(c, true).map(Statement::CreateFunction);
        }
        return Err(Error::unsupported("OR REPLACE", "drop the object first", at));
    }
    if c.accept(&["TABLE"]) {
        super::table::table(c).map(Statement::CreateTable)
    } else if c.accept(&["SOURCE"]) {
        source(c).map(Statement::CreateSource)
    } else if c.accept(&["SINK"]) {
        sink(c).map(Statement::CreateSink)
    } else if c.accept(&["SUBSCRIPTION"]) {
        subscription(c).map(Statement::CreateSubscription)
    } else if c.accept(&["FUNCTION"]) {
        super::function::create(c, false).map(Statement::CreateFunction)
    } else if c.accept(&["INDEX"]) {
        super::index::index(c).map(Statement::CreateIndex)
    } else if c.is(&["UNIQUE", "INDEX"]) {
        Err(Error::unsupported("UNIQUE INDEX", "a table's PRIMARY KEY is unique", Some(c.position())))
    } else if c.accept(&["VIEW"]) {
        view(c, false).map(Statement::CreateView)
    } else if c.accept(&["MATERIALIZED", "VIEW"]) {
        view(c, true).map(Statement::CreateMaterializedView)
    } else {
        Err(other(c))
    }
}

fn other(c: &Cursor<'_>) -> Error {
    let later = ["AGGREGATE", "PROCEDURE", "SCHEMA", "DATABASE", "SAVEPOINT", "SECRET", "USER", "ROLE"];
    match later.iter().find(|w| c.is(&[w])) {
        Some(word) => {
            let hint = match *word {
                "USER" | "ROLE" => "the command `highwater users` looks after users and their roles",
                _ => "CREATE makes a TABLE, SOURCE, VIEW, MATERIALIZED VIEW, INDEX, SINK, SUBSCRIPTION or FUNCTION",
            };
            Error::unsupported(format!("CREATE {word}"), hint, Some(c.position()))
        }
        None => c.unexpected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, INDEX, SINK, SUBSCRIPTION or FUNCTION"),
    }
}

fn source(c: &mut Cursor<'_>) -> Result<CreateSource> {
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let name = c.name("the source's name")?;
    let (columns, watermark) = if c.peek() == Some(&Token::LParen) { columns(c)? } else { (Vec::new(), None) };
    if c.is(&["APPEND"]) {
        return Err(Error::unsupported("APPEND ONLY", "leave it out", Some(c.position())));
    }
    let included_at = c.position();
    let included = clauses::included(c)?;
    if included.iter().any(|included| included.what == Metadata::Key) {
        return Err(Error::unsupported("INCLUDE KEY", KEPT, Some(included_at)));
    }
    refuse_twice(&included, columns.iter().map(|column| &column.name))?;
    let options = clauses::with(c)?;
    if options.is_empty() {
        return Err(c.unexpected("WITH (connector = ...)"));
    }
    let format = clauses::format(c)?;
    if let Some(format) = format.as_ref().filter(|format| format.envelope != Envelope::Plain) {
        return Err(Error::unsupported(format!("FORMAT {}", format.envelope.name()), KEPT, Some(format.at)));
    }
    Ok(CreateSource { name, if_not_exists, columns, included, watermark, options, format })
}

/// What to do where rows must be known to be replaced.
const KEPT: &str = "a source's rows are only ever added: CREATE TABLE ... WITH (connector = ...) keeps them by key";

/// A column of INCLUDE is none of the others.
pub(super) fn refuse_twice<'a>(included: &[Included], columns: impl Iterator<Item = &'a Name>) -> Result<()> {
    let mut taken: Vec<&str> = columns.map(|name| name.value.as_str()).collect();
    for Included { name, .. } in included {
        if taken.contains(&name.value.as_str()) {
            return Err(Error::Invalid {
                sqlstate: "42701",
                message: format!("column {:?} is given more than once", name.value),
                position: Some(name.at),
            });
        }
        taken.push(&name.value);
    }
    Ok(())
}

/// Columns and a watermark, or the watermark alone where the connector knows its columns.
fn columns(c: &mut Cursor<'_>) -> Result<(Vec<Column>, Option<Watermark>)> {
    c.expect_token(&Token::LParen)?;
    let (mut all, mut watermark): (Vec<Column>, _) = (Vec::new(), None);
    loop {
        refuse_table_constraint(c)?;
        if watermark::accept(c, &mut watermark)? {
            if c.accept_token(&Token::Comma) {
                continue;
            }
            c.expect_token(&Token::RParen)?;
            break;
        }
        let column = column(c)?;
        if all.iter().any(|other| other.name.value == column.name.value) {
            return Err(Error::Invalid {
                sqlstate: "42701",
                message: format!("column {:?} is given more than once", column.name.value),
                position: Some(column.name.at),
            });
        }
        all.push(column);
        if !c.accept_token(&Token::Comma) {
            c.expect_token(&Token::RParen)?;
            break;
        }
    }
    // Without columns of its own the connector knows them.
    let are_told = all.iter().any(|column| column.generated.is_none());
    if let Some(watermark) = watermark.as_ref().filter(|_| are_told) {
        watermark::check(watermark, &all)?;
    }
    Ok((all, watermark))
}

fn refuse_table_constraint(c: &Cursor<'_>) -> Result<()> {
    let at = Some(c.position());
    if c.is(&["PRIMARY", "KEY"]) {
        return Err(Error::unsupported("PRIMARY KEY", KEPT, at));
    }
    Ok(())
}

pub(super) fn column_name(c: &mut Cursor<'_>) -> Result<Name> {
    c.ident("a column's name")
}

/// A type that has no fields.
pub(super) fn data_type(c: &mut Cursor<'_>) -> Result<DataType> {
    let at = c.position();
    let sql_type = c.sqlparser(Parser::parse_data_type)?;
    types::arrow_type(&sql_type, Some(at))
}

fn column(c: &mut Cursor<'_>) -> Result<Column> {
    let name = column_name(c)?;
    let data_type = composite::data_type(c)?;
    let (mut not_null, mut generated) = (false, None);
    while !matches!(c.peek(), None | Some(Token::Comma | Token::RParen)) {
        let at = Some(c.position());
        if c.accept(&["NOT", "NULL"]) {
            not_null = true;
        } else if c.accept(&["PRIMARY", "KEY"]) {
            return Err(Error::unsupported("PRIMARY KEY", KEPT, at));
        } else if let Some(expr) = super::table::generated(c, &data_type)? {
            generated = Some(expr);
        } else if c.is(&["GENERATED"]) || c.is(&["DEFAULT"]) {
            let clause = if c.is(&["DEFAULT"]) { "DEFAULT" } else { "GENERATED" };
            return Err(Error::unsupported(clause, "a source's column has AS expression at most", at));
        } else if !c.accept(&["NULL"]) {
            return Err(c.unexpected("a comma or a closing parenthesis"));
        }
    }
    Ok(Column { name, data_type, not_null, generated })
}

fn view(c: &mut Cursor<'_>, materialized: bool) -> Result<CreateView> {
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let name = c.name("the view's name")?;
    let columns = if c.peek() == Some(&Token::LParen) { column_names(c)? } else { Vec::new() };
    let options = if materialized { clauses::with(c)? } else { Vec::new() };
    c.expect(&["AS"])?;
    let whole = c.set_aside(|c, at| c.words_at(at, &["EMIT", "ON"]));
    let query = query(c)?;
    c.finish()?;
    c.restore(whole);
    let closes = closes(c)?;
    if closes.is_some() && !materialized {
        let hint = "a plain view is a name for a query: say it of the materialized view over it";
        return Err(Error::unsupported("EMIT ON WINDOW CLOSE of a plain view", hint, closes));
    }
    Ok(CreateView { name, if_not_exists, columns, options, query, closes })
}

/// EMIT ON WINDOW CLOSE, and where it stands.
fn closes(c: &mut Cursor<'_>) -> Result<Option<Position>> {
    let at = c.position();
    if !c.is(&["EMIT"]) {
        return Ok(None);
    }
    c.expect(&["EMIT", "ON", "WINDOW", "CLOSE"])?;
    Ok(Some(at))
}

fn column_names(c: &mut Cursor<'_>) -> Result<Vec<Name>> {
    c.expect_token(&Token::LParen)?;
    let mut names = vec![c.ident("a column's name")?];
    while c.accept_token(&Token::Comma) {
        names.push(c.ident("a column's name")?);
    }
    c.expect_token(&Token::RParen)?;
    Ok(names)
}

fn sink(c: &mut Cursor<'_>) -> Result<CreateSink> {
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let name = c.name("the sink's name")?;
    let into = if c.accept(&["INTO"]) { Some(c.name("a table's name")?) } else { None };
    if into.is_some() && c.peek() == Some(&Token::LParen) {
        let hint = "columns are matched by their places: select them in the table's order";
        return Err(Error::unsupported("a column list in SINK INTO", hint, Some(c.position())));
    }
    let query = if c.accept(&["FROM"]) { all_of(c)? } else { sink_query(c)? };
    let closes = closes(c)?;
    let at = c.position();
    let options = clauses::with(c)?;
    if into.is_some() {
        if options.iter().any(|option| option.key != "on_error") || c.is(&["FORMAT"]) {
            let hint = "a table takes rows as they are, and on_error is all that there is";
            return Err(Error::unsupported("WITH or FORMAT in SINK INTO", hint, Some(at)));
        }
        return Ok(CreateSink { name, if_not_exists, into, query, closes, options, format: None });
    }
    if options.is_empty() {
        return Err(c.unexpected("WITH (connector = ...)"));
    }
    let format = clauses::format(c)?;
    Ok(CreateSink { name, if_not_exists, into: None, query, closes, options, format })
}

/// `FROM v` is short for `AS SELECT * FROM v`.
fn all_of(c: &mut Cursor<'_>) -> Result<Query> {
    let name = c.sqlparser(|parser| parser.parse_object_name(false))?;
    let mut ast = crate::text::template("SELECT * FROM x");
    if let SetExpr::Select(select) = ast.body.as_mut()
        && let Some(TableFactor::Table { name: place, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        *place = name;
    }
    Ok(Query { ast, text: c.text.to_owned() })
}

fn subscription(c: &mut Cursor<'_>) -> Result<CreateSubscription> {
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let name = c.name("the subscription's name")?;
    c.expect(&["FROM"])?;
    let from = c.name("a materialized view's name")?;
    let query = columns_of(&from, &[], c.text);
    let options = clauses::with(c)?;
    Ok(CreateSubscription { name, if_not_exists, from, query, options })
}

/// AS SELECT ..., up to EMIT ON, or the WITH ( that belongs to the sink: sqlparser would take it for table hints.
fn sink_query(c: &mut Cursor<'_>) -> Result<Query> {
    c.expect(&["AS"])?;
    let is_with = |c: &Cursor<'_>, at| c.words_at(at, &["WITH"]) && c.token_at(at + 1) == Some(&Token::LParen);
    let whole = c.set_aside(|c, at| c.words_at(at, &["EMIT", "ON"]) || is_with(c, at));
    let query = query(c)?;
    c.finish()?;
    c.restore(whole);
    Ok(query)
}
