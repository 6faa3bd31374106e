//! ALTER: of settings, names, columns and keys.

use super::create::column_name;
use super::dml::names;
use super::{clauses, object_kind, session, table};
use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::statement::{AddColumn, AddKey, Name, ObjectKind, RenameColumn, SetScope, Statement};

/// What stands after ALTER.
pub(super) fn alter(c: &mut Cursor<'_>) -> Result<Statement> {
    if c.accept(&["SYSTEM"]) {
        c.expect(&["SET"])?;
        return session::set(c, SetScope::System);
    }
    let kind = object_kind(c)?;
    let at = c.position();
    if c.accept(&["IF", "EXISTS"]) {
        return Err(Error::unsupported("IF EXISTS", "leave it out", Some(at)));
    }
    if kind == ObjectKind::Table {
        // There are no tables made of others, which it would leave alone.
        c.accept(&["ONLY"]);
    }
    let name = c.name("an object's name")?;
    let at = c.position();
    if c.accept(&["RENAME", "TO"]) {
        return Ok(Statement::Rename { kind, name, to: c.name("the new name")? });
    }
    if c.accept(&["RENAME"]) {
        if kind != ObjectKind::Table || c.is(&["CONSTRAINT"]) {
            let hint = "RENAME TO gives an object another name, and RENAME COLUMN a column of a table";
            return Err(Error::unsupported("RENAME of this", hint, Some(at)));
        }
        return rename_column(c, name).map(Statement::RenameColumn);
    }
    if matches!(kind, ObjectKind::MaterializedView | ObjectKind::Sink) && c.accept(&["SET"]) {
        return Ok(Statement::AlterView { kind, name, options: clauses::properties(c)? });
    }
    if kind == ObjectKind::Table && c.accept(&["ADD"]) {
        if is_key(c) {
            return add_key(c, name).map(Statement::AddKey);
        }
        return add_column(c, name).map(|added| Statement::AddColumn(Box::new(added)));
    }
    for later in ["SET", "ADD", "DROP", "ALTER", "OWNER", "SWAP", "REFRESH", "CONNECTOR"] {
        if c.is(&[later]) {
            let clause = format!("{later} in ALTER {kind}");
            let hint = "there are RENAME TO, of tables ADD COLUMN and ADD PRIMARY KEY, and of materialized views \
                        and sinks SET";
            return Err(Error::unsupported(clause, hint, Some(at)));
        }
    }
    Err(c.unexpected(match kind {
        ObjectKind::Table => "RENAME TO, ADD COLUMN or ADD PRIMARY KEY",
        ObjectKind::MaterializedView | ObjectKind::Sink => "RENAME TO or SET",
        _ => "RENAME TO",
    }))
}

fn rename_column(c: &mut Cursor<'_>, table: Name) -> Result<RenameColumn> {
    c.accept(&["COLUMN"]);
    let column = column_name(c)?;
    c.expect(&["TO"])?;
    Ok(RenameColumn { table, column, to: column_name(c)? })
}

/// Whether a primary key comes next, with a name or without.
fn is_key(c: &Cursor<'_>) -> bool {
    c.is(&["PRIMARY"]) || (c.is(&["CONSTRAINT"]) && is_word(c.peek_at(2), "PRIMARY"))
}

fn add_key(c: &mut Cursor<'_>, table: Name) -> Result<AddKey> {
    if c.accept(&["CONSTRAINT"]) {
        // As in CREATE TABLE its name means nothing.
        c.advance();
    }
    let from = c.location();
    c.expect(&["PRIMARY", "KEY"])?;
    let key = names(c)?;
    let definition = from.map_or("", |from| c.since(from)).to_owned();
    Ok(AddKey { table, key, definition })
}

fn add_column(c: &mut Cursor<'_>, table: Name) -> Result<AddColumn> {
    for constraint in ["CONSTRAINT", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE"] {
        if c.is(&[constraint]) {
            let clause = format!("ADD {constraint}");
            return Err(Error::unsupported(clause, "it adds a column or a PRIMARY KEY", Some(c.position())));
        }
    }
    c.accept(&["COLUMN"]);
    let if_not_exists = c.accept(&["IF", "NOT", "EXISTS"]);
    let text = c.text.to_owned();
    let (column, definition) = table::added(c)?;
    Ok(AddColumn { table, if_not_exists, column, definition, text })
}
