//! Statements about the session: settings and transactions.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::statement::{Isolation, Name, SetScope, Show, Statement, TransactionModes};
use datafusion::sql::sqlparser::tokenizer::Token;

/// A statement of the session, if one stands here.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    if c.accept(&["SET"]) {
        return set(c, SetScope::Session).map(Some);
    }
    if c.accept(&["RESET"]) {
        let name = setting_name(c)?;
        return Ok(Some(Statement::Set { scope: SetScope::Session, name, value: "default".to_owned() }));
    }
    if c.accept(&["BEGIN"]) || c.accept(&["START", "TRANSACTION"]) {
        return Ok(Some(Statement::Begin(modes(c)?)));
    }
    if c.accept(&["COMMIT"]) || c.accept(&["END"]) {
        end_of_transaction(c)?;
        return Ok(Some(Statement::Commit));
    }
    if c.accept(&["ROLLBACK"]) || c.accept(&["ABORT"]) {
        end_of_transaction(c)?;
        return Ok(Some(Statement::Rollback));
    }
    if c.accept(&["DISCARD"]) {
        c.expect(&["ALL"])?;
        return Ok(Some(Statement::DiscardAll));
    }
    if c.is(&["SAVEPOINT"]) || c.is(&["RELEASE"]) {
        let hint = "a transaction is committed or rolled back as a whole";
        return Err(Error::unsupported("SAVEPOINT within a transaction", hint, Some(c.position())));
    }
    Ok(None)
}

/// TRANSACTION, WORK and the modes of a transaction. Whether it is deferrable means nothing here.
fn modes(c: &mut Cursor<'_>) -> Result<TransactionModes> {
    const LEVELS: &[(&[&str], Isolation)] = &[
        (&["READ", "COMMITTED"], Isolation::ReadCommitted),
        (&["READ", "UNCOMMITTED"], Isolation::ReadUncommitted),
        (&["REPEATABLE", "READ"], Isolation::RepeatableRead),
    ];
    if !c.accept(&["TRANSACTION"]) {
        c.accept(&["WORK"]);
    }
    let mut modes = TransactionModes::default();
    while !c.at_end() {
        let at = c.position();
        if c.accept(&["ISOLATION", "LEVEL"]) {
            if c.is(&["SERIALIZABLE"]) {
                let hint = "transactions are isolated by snapshots: REPEATABLE READ";
                return Err(Error::unsupported("ISOLATION LEVEL SERIALIZABLE", hint, Some(at)));
            }
            let level = LEVELS.iter().find(|(words, _)| c.accept(words));
            let (_, isolation) = level.ok_or_else(|| c.unexpected("an isolation level"))?;
            modes.isolation = Some(*isolation);
        } else if c.accept(&["READ", "ONLY"]) {
            modes.read_only = Some(true);
        } else if c.accept(&["READ", "WRITE"]) {
            modes.read_only = Some(false);
        } else if !(c.accept(&["DEFERRABLE"]) || c.accept(&["NOT", "DEFERRABLE"])) {
            return Err(c.unexpected("a transaction mode"));
        }
        c.accept_token(&Token::Comma);
    }
    Ok(modes)
}

fn end_of_transaction(c: &mut Cursor<'_>) -> Result<()> {
    if !c.accept(&["TRANSACTION"]) {
        c.accept(&["WORK"]);
    }
    c.accept(&["AND", "NO", "CHAIN"]);
    if c.is(&["TO"]) || c.is(&["AND", "CHAIN"]) {
        let hint = "a transaction is committed or rolled back as a whole";
        return Err(Error::unsupported("this form of COMMIT or ROLLBACK", hint, Some(c.position())));
    }
    Ok(())
}

/// What stands after SET.
pub(super) fn set(c: &mut Cursor<'_>, mut scope: SetScope) -> Result<Statement> {
    let at = c.position();
    if scope == SetScope::Session {
        if c.accept(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
            return Ok(Statement::SetTransaction { scope, modes: modes(c)? });
        }
        if c.accept(&["TRANSACTION"]) {
            return Ok(Statement::SetTransaction { scope: SetScope::Transaction, modes: modes(c)? });
        }
        if c.accept(&["LOCAL"]) {
            scope = SetScope::Transaction;
        } else {
            c.accept(&["SESSION"]);
        }
    }
    if c.accept(&["TIME", "ZONE"]) {
        let name = Name { value: "timezone".to_owned(), at };
        let value = c.value()?;
        let value = if value.eq_ignore_ascii_case("local") { "default".to_owned() } else { value };
        return Ok(Statement::Set { scope, name, value });
    }
    let name = setting_name(c)?;
    if !c.accept(&["TO"]) {
        c.expect_token(&Token::Eq)?;
    }
    let mut values = vec![c.value()?];
    while c.accept_token(&Token::Comma) {
        values.push(c.value()?);
    }
    Ok(Statement::Set { scope, name, value: values.join(", ") })
}

/// SHOW ALL or SHOW setting.
pub(super) fn show(c: &mut Cursor<'_>) -> Result<Show> {
    let at = c.position();
    if c.accept(&["ALL"]) {
        return Ok(Show::All);
    }
    if c.accept(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok(Show::Setting(Name { value: "transaction_isolation".to_owned(), at }));
    }
    if c.accept(&["TIME", "ZONE"]) {
        return Ok(Show::Setting(Name { value: "timezone".to_owned(), at }));
    }
    setting_name(c).map(Show::Setting)
}

/// Settings may have dots in their names; their case does not matter.
fn setting_name(c: &mut Cursor<'_>) -> Result<Name> {
    let mut name = c.ident("a setting's name")?;
    while c.accept_token(&Token::Period) {
        name.value = format!("{}.{}", name.value, c.ident("a setting's name")?);
    }
    name.value.make_ascii_lowercase();
    Ok(name)
}
