//! CREATE TABLE.

use super::create::{column_name, refuse_twice};
use super::watermark;
use super::{clauses, composite, respell};
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::generated::is_proctime;
use crate::statement::{
    Characters, Column, CreateTable, Envelope, Feed, Included, Metadata, Name, Property, TableColumn,
};
use crate::types::pg_name;
use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// What stands after CREATE TABLE.
pub(super) fn table(c: &mut Cursor<'_>) -> Result<CreateTable> {
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let name = c.name("the table's name")?;
    if c.is(&["AS"]) {
        let hint = "create the table and INSERT INTO it, or create a materialized view";
        return Err(Error::unsupported("CREATE TABLE ... AS", hint, Some(c.position())));
    }
    let mut table = CreateTable { if_not_exists, ..empty(name, c.text) };
    c.expect_token(&Token::LParen)?;
    while !c.accept_token(&Token::RParen) {
        if !(table.columns.is_empty() && table.key.is_empty() && table.watermark.is_none()) {
            c.expect_token(&Token::Comma)?;
        }
        element(c, &mut table)?;
    }
    if table.columns.is_empty() {
        return Err(Error::Invalid {
            sqlstate: "42601",
            message: "a table has at least one column".to_owned(),
            position: Some(table.name.at),
        });
    }
    table.append_only = c.accept(&["APPEND", "ONLY"]);
    if ["INCLUDE", "WITH", "FORMAT"].iter().any(|word| c.is(&[word])) {
        table.feed = feed(c)?;
    }
    check(&mut table)?;
    check_feed(&table)?;
    Ok(table)
}

fn empty(name: Name, text: &str) -> CreateTable {
    CreateTable {
        name,
        if_not_exists: false,
        columns: Vec::new(),
        key: Vec::new(),
        watermark: None,
        append_only: false,
        feed: None,
        text: text.to_owned(),
    }
}

/// The column of ADD COLUMN, and how it is written.
pub(super) fn added(c: &mut Cursor<'_>) -> Result<(TableColumn, String)> {
    let (at, from) = (c.position(), c.location());
    let mut table = empty(Name { value: String::new(), at }, c.text);
    let added = column(c, &mut table)?;
    let definition = from.map_or("", |from| c.since(from)).to_owned();
    let refused = if !table.key.is_empty() {
        Some(("PRIMARY KEY in ADD COLUMN", "add the column, and then the key: ADD PRIMARY KEY (column)"))
    } else if added.column.generated.is_some() {
        Some(("a generated column in ADD COLUMN", "generated columns are given when the table is created"))
    } else if added.column.not_null && added.default.is_none() {
        Some(("NOT NULL in ADD COLUMN without DEFAULT", "rows that are there would hold nulls"))
    } else {
        None
    };
    match refused {
        Some((clause, hint)) => Err(Error::unsupported(clause, hint, Some(at))),
        None => Ok((added, definition)),
    }
}

/// What to take where texts of so many characters are not known.
const USE_VARCHAR: &str = "use varchar, without a length";

/// PostgreSQL's greatest n of a `char(n)` or `varchar(n)`.
const MOST_CHARACTERS: usize = 10_485_760;

/// How PostgreSQL stores a table. Nothing that a statement gives depends on it, and rows are stored in another way
/// here: it means nothing.
const STORAGE: [&str; 7] = [
    "fillfactor",
    "log_autovacuum_min_duration",
    "parallel_workers",
    "toast_tuple_target",
    "user_catalog_table",
    "vacuum_index_cleanup",
    "vacuum_truncate",
];

fn is_storage(option: &Property) -> bool {
    let key = option.key.strip_prefix("toast.").unwrap_or(&option.key);
    STORAGE.contains(&key) || key.starts_with("autovacuum_")
}

/// INCLUDE ..., WITH (...) and FORMAT ... of a table that a connector fills; none where WITH only tells how
/// PostgreSQL would store the table.
fn feed(c: &mut Cursor<'_>) -> Result<Option<Feed>> {
    let included = clauses::included(c)?;
    let options = clauses::with(c)?;
    if options.is_empty() {
        return Err(c.unexpected("WITH (connector = ...)"));
    }
    if included.is_empty() && !c.is(&["FORMAT"]) && options.iter().all(is_storage) {
        return Ok(None);
    }
    Ok(Some(Feed { included, options, format: clauses::format(c)? }))
}

/// What a table cannot have that a connector fills, and what it needs for its format.
fn check_feed(table: &CreateTable) -> Result<()> {
    let Some(Feed { included, format, .. }) = &table.feed else { return Ok(()) };
    refuse_twice(included, table.columns.iter().map(|column| &column.column.name))?;
    if let Some(column) = table.columns.iter().find(|column| column.characters.is_some()) {
        let clause = "char(n) or varchar(n) of a table with a connector";
        return Err(Error::unsupported(clause, USE_VARCHAR, Some(column.column.name.at)));
    }
    if let Some(column) = table.columns.iter().find(|column| column.default.is_some()) {
        let hint = "a connector gives all columns";
        return Err(Error::unsupported("DEFAULT", hint, Some(column.column.name.at)));
    }
    let mut generated = table.columns.iter().filter_map(|c| Some((&c.column.name, c.column.generated.as_ref()?)));
    if let Some((name, expr)) = generated.next() {
        let clause = "a generated column of a table with a connector";
        let hint = match is_proctime(expr) {
            true => "a source has it: CREATE SOURCE",
            false => "compute it in a view over the table",
        };
        return Err(Error::unsupported(clause, hint, Some(name.at)));
    }
    if let Some(watermark) = &table.watermark {
        let hint = "a source has one: CREATE SOURCE";
        return Err(Error::unsupported("WATERMARK of a table with a connector", hint, Some(watermark.at)));
    }
    if table.append_only && !table.key.is_empty() {
        let hint = "rows replace those with the same PRIMARY KEY: leave one of them out";
        return Err(Error::unsupported("APPEND ONLY", hint, Some(table.key[0].at)));
    }
    let envelope = format.as_ref().map_or(Envelope::Plain, |format| format.envelope);
    let key = included.iter().find(|included| included.what == Metadata::Key);
    if let Some(Included { name, .. }) = key.filter(|_| envelope != Envelope::Upsert) {
        return Err(Error::unsupported("INCLUDE KEY", "only FORMAT UPSERT has keys", Some(name.at)));
    }
    match format {
        Some(format) if envelope != Envelope::Plain && table.key.is_empty() => Err(Error::Invalid {
            sqlstate: "42P16",
            message: format!("FORMAT {} needs a PRIMARY KEY: rows are replaced and deleted by it", envelope.name()),
            position: Some(format.at),
        }),
        _ => Ok(()),
    }
}

fn element(c: &mut Cursor<'_>, table: &mut CreateTable) -> Result<()> {
    let at = c.position();
    if c.is(&["CONSTRAINT"])
        && c.peek_at(2).is_some_and(|t| matches!(t, Token::Word(w) if w.value.eq_ignore_ascii_case("primary")))
    {
        c.advance();
        c.advance();
    }
    if c.accept(&["PRIMARY", "KEY"]) {
        refuse_second_key(table, at)?;
        c.expect_token(&Token::LParen)?;
        loop {
            table.key.push(c.ident("a column's name")?);
            if !c.accept_token(&Token::Comma) {
                break;
            }
        }
        return c.expect_token(&Token::RParen);
    }
    if watermark::accept(c, &mut table.watermark)? {
        return Ok(());
    }
    for clause in ["UNIQUE", "CHECK", "FOREIGN", "EXCLUDE", "LIKE", "CONSTRAINT"] {
        if c.is(&[clause]) {
            return Err(Error::unsupported(clause, "a table has a PRIMARY KEY at most", Some(at)));
        }
    }
    let column = column(c, table)?;
    if table.columns.iter().any(|other| other.column.name.value == column.column.name.value) {
        return Err(Error::Invalid {
            sqlstate: "42701",
            message: format!("column {:?} specified more than once", column.column.name.value),
            position: Some(column.column.name.at),
        });
    }
    table.columns.push(column);
    Ok(())
}

fn refuse_second_key(table: &CreateTable, at: crate::Position) -> Result<()> {
    if table.key.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        sqlstate: "42P16",
        message: format!("multiple primary keys for table {:?} are not allowed", table.name.value),
        position: Some(at),
    })
}

fn column(c: &mut Cursor<'_>, table: &mut CreateTable) -> Result<TableColumn> {
    let name = column_name(c)?;
    let characters = characters(c)?;
    let data_type = if characters.is_some() { DataType::Utf8 } else { composite::data_type(c)? };
    let column = Column { name, data_type, not_null: false, generated: None };
    let mut column = TableColumn { column, characters, default: None };
    while !matches!(c.peek(), None | Some(Token::Comma | Token::RParen)) {
        let at = c.position();
        if c.accept(&["NOT", "NULL"]) {
            column.column.not_null = true;
        } else if c.accept(&["PRIMARY", "KEY"]) {
            refuse_second_key(table, at)?;
            table.key.push(column.column.name.clone());
        } else if c.accept(&["DEFAULT"]) {
            column.default = Some(default(c)?);
        } else if let Some(expr) = generated(c, &column.column.data_type)? {
            column.column.generated = Some(expr);
        } else if !c.accept(&["NULL"]) {
            for clause in ["UNIQUE", "CHECK", "REFERENCES", "GENERATED", "COLLATE"] {
                if c.is(&[clause]) {
                    let hint = "a column has NOT NULL, DEFAULT, PRIMARY KEY and AS (expression)";
                    return Err(Error::unsupported(clause, hint, Some(at)));
                }
            }
            return Err(c.unexpected("a comma or a closing parenthesis"));
        }
    }
    if column.characters.is_some() && column.column.generated.is_some() {
        let clause = "a generated column of type char(n) or varchar(n)";
        return Err(Error::unsupported(clause, USE_VARCHAR, Some(column.column.name.at)));
    }
    if column.default.is_some() && column.column.generated.is_some() {
        return Err(Error::Invalid {
            sqlstate: "42601",
            message: format!(
                "both default and generation expression specified for column {:?}",
                column.column.name.value
            ),
            position: Some(column.column.name.at),
        });
    }
    Ok(column)
}

/// How many characters a text has at most, if a type of such texts comes next: `char(n)`, of one without n, or
/// `varchar(n)`, by these or their long names.
fn characters(c: &mut Cursor<'_>) -> Result<Option<Characters>> {
    let at = c.position();
    let is_varying = c.is(&["VARCHAR"]) || is_word(c.peek_at(1), "VARYING");
    let words = if is_word(c.peek_at(1), "VARYING") { 2 } else { 1 };
    let is_known = ["CHAR", "CHARACTER"].iter().any(|word| c.is(&[word])) || (c.is(&["VARCHAR"]) && words == 1);
    if !is_known || (is_varying && c.peek_at(words) != Some(&Token::LParen)) {
        return Ok(None);
    }
    for _ in 0..words {
        c.advance();
    }
    let most = most_characters(c, if is_varying { "varchar" } else { "char" })?;
    if c.peek() == Some(&Token::LBracket) {
        return Err(Error::unsupported("an array of char(n) or varchar(n)", "use varchar[]", Some(at)));
    }
    Ok(Some(if is_varying { Characters::Varying(most) } else { Characters::Fixed(most) }))
}

/// The n in parentheses behind the name of such a type; 1 where there is none.
fn most_characters(c: &mut Cursor<'_>, of: &str) -> Result<usize> {
    if !c.accept_token(&Token::LParen) {
        return Ok(1);
    }
    let at = c.position();
    match c.value()?.parse::<usize>() {
        Ok(given) if (1..=MOST_CHARACTERS).contains(&given) => {
            c.expect_token(&Token::RParen)?;
            Ok(given)
        }
        _ => {
            let message = format!("length for type {of} must be from 1 to {MOST_CHARACTERS}");
            Err(Error::Invalid { sqlstate: "22023", message, position: Some(at) })
        }
    }
}

/// `AS expression` or `GENERATED ALWAYS AS (expression) STORED` of a column, if that comes next.
pub(super) fn generated(c: &mut Cursor<'_>, data_type: &DataType) -> Result<Option<Expr>> {
    let at = c.position();
    let is_long = c.accept(&["GENERATED", "ALWAYS", "AS"]);
    if !is_long && !c.accept(&["AS"]) {
        return Ok(None);
    }
    if is_long && c.is(&["IDENTITY"]) {
        return Err(Error::unsupported("GENERATED AS IDENTITY", "give the numbers with the rows", Some(at)));
    }
    let from = c.position();
    let expr = default(c)?;
    if is_proctime(&expr) && !matches!(data_type, DataType::Timestamp(_, Some(_))) {
        return Err(Error::Invalid {
            sqlstate: "42804",
            message: format!("PROCTIME() is a timestamptz, not a {}", pg_name(data_type)),
            position: Some(from),
        });
    }
    if is_long {
        c.expect(&["STORED"])?;
    }
    Ok(Some(expr))
}

/// An expression that does not take the NOT of a NOT NULL after it.
fn default(c: &mut Cursor<'_>) -> Result<Expr> {
    let whole = c.set_aside(|c, at| {
        c.words_at(at, &["NOT", "NULL"]) || c.words_at(at, &["PRIMARY", "KEY"]) || c.token_at(at) == Some(&Token::Comma)
    });
    let expr = c.sqlparser(Parser::parse_expr);
    c.restore(whole);
    let mut expr = expr?;
    respell(&mut expr);
    Ok(expr)
}

/// Columns of keys and watermarks exist; those of keys take no nulls. Only rows that stay say when they
/// came.
fn check(table: &mut CreateTable) -> Result<()> {
    let is_arrival = |c: &&TableColumn| c.column.generated.as_ref().is_some_and(is_proctime);
    if let Some(column) = table.columns.iter().find(is_arrival).filter(|_| !table.append_only && table.feed.is_none()) {
        let hint = "write APPEND ONLY after the columns, or give the column a DEFAULT now()";
        let clause = "PROCTIME() of a table that is not APPEND ONLY";
        return Err(Error::unsupported(clause, hint, Some(column.column.name.at)));
    }
    let unknown = |name: &Name| Error::Invalid {
        sqlstate: "42703",
        message: format!("column {:?} named in key does not exist", name.value),
        position: Some(name.at),
    };
    for (at, name) in table.key.iter().enumerate() {
        if table.key[..at].iter().any(|other| other.value == name.value) {
            return Err(Error::Invalid {
                sqlstate: "42701",
                message: format!("column {:?} appears twice in primary key constraint", name.value),
                position: Some(name.at),
            });
        }
        let mut included = table.feed.iter().flat_map(|feed| &feed.included);
        if included.any(|included| included.what == Metadata::Key && included.name.value == name.value) {
            continue;
        }
        let column = table.columns.iter_mut().find(|column| column.column.name.value == name.value);
        column.ok_or_else(|| unknown(name))?.column.not_null = true;
    }
    let Some(watermark) = &table.watermark else { return Ok(()) };
    watermark::check(watermark, table.columns.iter().map(|column| &column.column))?;
    if table.append_only {
        return Ok(());
    }
    let clause = "WATERMARK of a table that is not APPEND ONLY";
    Err(Error::unsupported(clause, "write APPEND ONLY after the columns", Some(watermark.at)))
}
