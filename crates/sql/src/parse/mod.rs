//! Text to [`Statement`]: the dispatch on a statement's first words, and the small statements.

mod alter;
mod clauses;
mod composite;
mod copy;
mod create;
mod cursors;
mod dml;
mod function;
mod index;
mod joined;
mod prepared;
mod session;
mod table;
mod vacuum;
mod watermark;

use crate::asof;
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::present;
use crate::statement::{ObjectKind, Query, Show, Statement};
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{self, AccessExpr, Expr, LimitClause, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::ops::ControlFlow;

/// Parses one statement; a semicolon may end it.
///
/// # Errors
/// `Syntax` and `Unsupported`, with positions in `text`; `Unknown` for a type's name.
pub fn parse(text: &str) -> Result<Statement> {
    let mut cursor = Cursor::new(text)?;
    let statement = statement(&mut cursor)?;
    cursor.finish()?;
    Ok(statement)
}

fn statement(c: &mut Cursor<'_>) -> Result<Statement> {
    if c.accept(&["CREATE"]) {
        create::create(c)
    } else if c.accept(&["EXPLAIN"]) {
        explain(c)
    } else if c.accept(&["SHOW"]) {
        show(c).map(Statement::Show)
    } else if c.accept(&["DESCRIBE"]) || c.accept(&["DESC"]) {
        Ok(Statement::Describe(c.name("a relation's name")?))
    } else if c.accept(&["CHECKPOINT"]) {
        checkpoint(c)
    } else if c.accept(&["ALTER"]) {
        alter::alter(c)
    } else if c.accept(&["DROP"]) {
        drop(c)
    } else if c.accept(&["FLUSH"]) {
        Ok(Statement::Flush)
    } else if c.accept(&["INSERT", "INTO"]) {
        dml::insert(c).map(Statement::Insert)
    } else if c.accept(&["UPDATE"]) {
        dml::update(c).map(Statement::Update)
    } else if c.accept(&["DELETE", "FROM"]) {
        dml::delete(c).map(Statement::Delete)
    } else if c.accept(&["TRUNCATE"]) {
        dml::truncate(c).map(Statement::Delete)
    } else if c.accept(&["COPY"]) {
        copy::copy(c)
    } else if let Some(statement) = session::statement(c)? {
        Ok(statement)
    } else if let Some(statement) = prepared::statement(c)? {
        Ok(statement)
    } else if let Some(statement) = cursors::statement(c)? {
        Ok(statement)
    } else if let Some(statement) = vacuum::statement(c)? {
        Ok(statement)
    } else if let Some(statement) = joined::statement(c)? {
        Ok(statement)
    } else if starts_query(c) {
        query(c).map(Statement::Query)
    } else {
        Err(unknown_statement(c))
    }
}

fn starts_query(c: &Cursor<'_>) -> bool {
    ["SELECT", "VALUES", "WITH", "TABLE"].iter().any(|w| c.is(&[w])) || c.peek() == Some(&Token::LParen)
}

pub use dml::{is_default, rows_of};

/// A query up to the end of what the cursor may read.
pub(crate) fn query(c: &mut Cursor<'_>) -> Result<Query> {
    if !starts_query(c) {
        return Err(c.unexpected("a query"));
    }
    let presents = present::asked(c)?;
    let mut ast = c.sqlparser(|parser| parser.parse_query())?;
    present::mark(&mut ast, &presents, c.text)?;
    respell(&mut ast);
    joined::check(&ast, c)?;
    Ok(Query { ast, text: c.text.to_owned() })
}

/// Spells what was parsed as the planner takes it.
fn respell(parsed: &mut impl VisitMut) {
    // Nothing breaks off.
    let _: ControlFlow<()> = walk_mut(parsed, &mut Respelled);
}

/// What the planner takes in another spelling only: `FETCH FIRST n ROWS ONLY` is `LIMIT n`, the field
/// of `(x).field` is a text, and the condition of an ASOF join is marked.
struct Respelled;

impl VisitorMut for Respelled {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        if !query.fetch.as_ref().is_some_and(|fetch| !fetch.with_ties && !fetch.percent) {
            return ControlFlow::Continue(());
        }
        let none = || LimitClause::LimitOffset { limit: None, offset: None, limit_by: Vec::new() };
        if let LimitClause::LimitOffset { limit: limit @ None, .. } = query.limit_clause.get_or_insert_with(none) {
            let one = || Expr::Value(Value::Number("1".to_owned(), false).into());
            *limit = query.fetch.take().map(|fetch| fetch.quantity.unwrap_or_else(one));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(asof::mark);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::NestedJoin { table_with_joins, .. } = factor {
            asof::mark(table_with_joins);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundFieldAccess { access_chain, .. } = expr else { return ControlFlow::Continue(()) };
        for access in access_chain {
            if let AccessExpr::Dot(field) = access
                && let Expr::Identifier(name) = field
            {
                let folded = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
                *field = Expr::Value(Value::SingleQuotedString(folded).into());
            }
        }
        ControlFlow::Continue(())
    }
}

fn unknown_statement(c: &Cursor<'_>) -> Error {
    let later = [
        "PAUSE", "RESUME", "RESTORE", "VERIFY", "GRANT", "REVOKE", "LISTEN", "NOTIFY", "LOCK", "MERGE", "CALL", "DO",
        "REINDEX", "CLUSTER", "REFRESH", "COMMENT", "SECURITY", "REASSIGN", "IMPORT", "LOAD",
    ];
    match later.iter().find(|w| c.is(&[w])) {
        Some(word) => {
            let hint = match *word {
                "GRANT" | "REVOKE" => "users have roles, and the command `highwater users` looks after them",
                "PAUSE" | "RESUME" => "POST /api/v1/pipelines/NAME/pause and /resume at the HTTP address do it",
                _ => "there is no such statement yet",
            };
            Error::unsupported(*word, hint, Some(c.position()))
        }
        None => c.unexpected("a statement"),
    }
}

/// What EXPLAIN explains.
const EXPLAINED: &str = "it explains a query, or CREATE MATERIALIZED VIEW, CREATE SINK or CREATE INDEX";

fn explain(c: &mut Cursor<'_>) -> Result<Statement> {
    let analyzes = explain_options(c)?;
    let at = Some(c.position());
    for other in ["EXECUTE", "INSERT", "UPDATE", "DELETE", "DECLARE", "MERGE"] {
        if c.is(&[other]) {
            return Err(Error::unsupported(format!("EXPLAIN {other}"), EXPLAINED, at));
        }
    }
    if !c.accept(&["CREATE"]) {
        let query = query(c)?;
        return Ok(if analyzes { Statement::ExplainAnalyze(query) } else { Statement::ExplainQuery(query) });
    }
    if analyzes {
        let hint = "EXPLAIN without ANALYZE shows its plan; EXPLAIN ANALYZE runs a query";
        return Err(Error::unsupported("EXPLAIN ANALYZE CREATE", hint, at));
    }
    for other in ["TABLE", "SOURCE", "VIEW", "SUBSCRIPTION", "FUNCTION"] {
        if c.is(&[other]) {
            return Err(Error::unsupported(format!("EXPLAIN CREATE {other}"), EXPLAINED, at));
        }
    }
    match create::create(c)? {
        Statement::CreateMaterializedView(view) => Ok(Statement::ExplainView(view)),
        Statement::CreateSink(sink) => Ok(Statement::ExplainSink(sink)),
        Statement::CreateIndex(index) => Ok(Statement::ExplainIndex(index)),
        _ => Err(Error::unsupported("EXPLAIN of this statement", EXPLAINED, at)),
    }
}

/// ANALYZE and VERBOSE, or options in parentheses; whether the query is run. What else there is to say of a plan is
/// not known or is always said.
fn explain_options(c: &mut Cursor<'_>) -> Result<bool> {
    const TAKEN: [&str; 6] = ["VERBOSE", "COSTS", "TIMING", "SUMMARY", "BUFFERS", "SETTINGS"];
    const OTHERS: [&str; 4] = ["GENERIC_PLAN", "SERIALIZE", "WAL", "MEMORY"];
    let is_option = |word: &&str| is_word(c.peek_at(1), word);
    let has_options = ["ANALYZE", "FORMAT"].iter().chain(&TAKEN).chain(&OTHERS).any(is_option);
    if c.peek() != Some(&Token::LParen) || !has_options {
        let analyzes = c.accept(&["ANALYZE"]);
        c.accept(&["VERBOSE"]);
        return Ok(analyzes);
    }
    c.expect_token(&Token::LParen)?;
    let mut analyzes = false;
    loop {
        let at = Some(c.position());
        if c.accept(&["ANALYZE"]) {
            analyzes = is_on(c)?;
        } else if c.accept(&["FORMAT"]) {
            if !c.accept(&["TEXT"]) {
                return Err(Error::unsupported("FORMAT in EXPLAIN", "a plan is written as TEXT", at));
            }
        } else if TAKEN.iter().any(|word| c.accept(&[word])) {
            is_on(c)?;
        } else if let Some(other) = OTHERS.iter().find(|word| c.is(&[word])) {
            return Err(Error::unsupported(format!("{other} in EXPLAIN"), "leave it out", at));
        } else {
            return Err(c.unexpected("an option of EXPLAIN"));
        }
        if !c.accept_token(&Token::Comma) {
            c.expect_token(&Token::RParen)?;
            return Ok(analyzes);
        }
    }
}

/// The value of an option that is on or off, and on when it is only named.
fn is_on(c: &mut Cursor<'_>) -> Result<bool> {
    if matches!(c.peek(), None | Some(Token::Comma | Token::RParen)) {
        return Ok(true);
    }
    let unexpected = c.unexpected("ON or OFF");
    match c.value()?.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err(unexpected),
    }
}

fn show(c: &mut Cursor<'_>) -> Result<Show> {
    let lists: [(&[&str], Show); 12] = [
        (&["TABLES"], Show::Tables),
        (&["SOURCES"], Show::Sources),
        (&["VIEWS"], Show::Views),
        (&["MATERIALIZED", "VIEWS"], Show::MaterializedViews),
        (&["INDEXES"], Show::Indexes(None)),
        (&["SINKS"], Show::Sinks),
        (&["SUBSCRIPTIONS"], Show::Subscriptions),
        (&["CURSORS"], Show::Cursors),
        (&["SUBSCRIPTION", "CURSORS"], Show::SubscriptionCursors),
        (&["FUNCTIONS"], Show::Functions),
        (&["JOBS"], Show::Jobs),
        (&["CHECKPOINTS"], Show::Checkpoints(None)),
    ];
    for (words, shown) in lists {
        if c.accept(words) {
            return match shown {
                Show::Checkpoints(_) if c.accept(&["FOR"]) => Ok(Show::Checkpoints(Some(c.name("a view's name")?))),
                Show::Indexes(_) if c.accept(&["FROM"]) => Ok(Show::Indexes(Some(c.name("a relation's name")?))),
                shown => Ok(shown),
            };
        }
    }
    if c.accept(&["CREATE", "FUNCTION"]) {
        return Ok(Show::CreateFunction(c.name("a function's name")?));
    }
    if c.accept(&["CREATE"]) {
        object_kind(c)?;
        return Ok(Show::Create(c.name("an object's name")?));
    }
    session::show(c)
}

fn object_kind(c: &mut Cursor<'_>) -> Result<ObjectKind> {
    let kinds: [(&[&str], ObjectKind); 7] = [
        (&["TABLE"], ObjectKind::Table),
        (&["SOURCE"], ObjectKind::Source),
        (&["VIEW"], ObjectKind::View),
        (&["MATERIALIZED", "VIEW"], ObjectKind::MaterializedView),
        (&["INDEX"], ObjectKind::Index),
        (&["SINK"], ObjectKind::Sink),
        (&["SUBSCRIPTION"], ObjectKind::Subscription),
    ];
    for (words, kind) in kinds {
        if c.accept(words) {
            return Ok(kind);
        }
    }
    if c.is(&["FUNCTION"]) {
        return Err(Error::unsupported("FUNCTION", "CREATE OR REPLACE FUNCTION changes one", Some(c.position())));
    }
    for later in ["AGGREGATE", "PROCEDURE", "SCHEMA"] {
        if c.is(&[later]) {
            return Err(Error::unsupported(later, "there are no such objects yet", Some(c.position())));
        }
    }
    Err(c.unexpected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, INDEX, SINK or SUBSCRIPTION"))
}

fn checkpoint(c: &mut Cursor<'_>) -> Result<Statement> {
    let wait_only = c.is(&["WAIT"]) && c.peek_at(1).is_none();
    let view = if wait_only || c.at_end() { None } else { Some(c.name("a view's name")?) };
    Ok(Statement::Checkpoint { view, wait: c.accept(&["WAIT"]) })
}

fn drop(c: &mut Cursor<'_>) -> Result<Statement> {
    if c.accept(&["FUNCTION"]) {
        return function::drop(c).map(Statement::DropFunction);
    }
    let kind = object_kind(c)?;
    let if_exists = c.accept(&["IF", "EXISTS"]);
    let mut names = vec![c.name("an object's name")?];
    while c.accept_token(&Token::Comma) {
        names.push(c.name("an object's name")?);
    }
    let cascade = c.accept(&["CASCADE"]);
    if !cascade {
        c.accept(&["RESTRICT"]);
    }
    Ok(Statement::Drop { kind, names, if_exists, cascade })
}
