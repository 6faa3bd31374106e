//! Statements about the session: settings and transactions.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::input;
use crate::statement::{Isolation, Name, SavepointVerb, SetScope, Show, Statement, TransactionModes};
use crate::zones;
use datafusion::sql::sqlparser::tokenizer::Token;

/// A statement of the session, if one stands here.
pub(super) fn statement(c: &mut Cursor<'_>) -> Result<Option<Statement>> {
    if c.accept(&["SET"]) {
        return set(c, SetScope::Session).map(Some);
    }
    if c.accept(&["RESET"]) {
        if c.accept(&["ALL"]) {
            return Ok(Some(Statement::ResetAll));
        }
        if !c.is(&["ROLE"]) {
            refuse_role(c)?;
        }
        let name = setting_name(c)?;
        return Ok(Some(Statement::Set { scope: SetScope::Session, name, value: "default".to_owned() }));
    }
    if c.accept(&["BEGIN"]) || c.accept(&["START", "TRANSACTION"]) {
        return Ok(Some(Statement::Begin(modes(c)?)));
    }
    if c.accept(&["COMMIT"]) || c.accept(&["END"]) {
        accept_block_word(c);
        refuse_chain(c)?;
        return Ok(Some(Statement::Commit));
    }
    let rolls_back = c.accept(&["ROLLBACK"]);
    if rolls_back || c.accept(&["ABORT"]) {
        accept_block_word(c);
        if rolls_back && c.accept(&["TO"]) {
            return savepoint(c, SavepointVerb::RollbackTo).map(Some);
        }
        refuse_chain(c)?;
        return Ok(Some(Statement::Rollback));
    }
    if c.is(&["SAVEPOINT"]) {
        return savepoint(c, SavepointVerb::Begin).map(Some);
    }
    if c.accept(&["RELEASE"]) {
        return savepoint(c, SavepointVerb::Release).map(Some);
    }
    if c.accept(&["DISCARD"]) {
        c.expect(&["ALL"])?;
        return Ok(Some(Statement::DiscardAll));
    }
    if c.accept(&["UNLISTEN"]) {
        if !c.accept_token(&Token::Mul) {
            c.ident("a channel's name")?;
        }
        return Ok(Some(Statement::Unlisten));
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
    accept_block_word(c);
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

/// Reads TRANSACTION or WORK, which mean nothing.
fn accept_block_word(c: &mut Cursor<'_>) {
    if !c.accept(&["TRANSACTION"]) {
        c.accept(&["WORK"]);
    }
}

fn refuse_chain(c: &mut Cursor<'_>) -> Result<()> {
    c.accept(&["AND", "NO", "CHAIN"]);
    if c.is(&["AND", "CHAIN"]) {
        let hint = "the next transaction begins with BEGIN";
        return Err(Error::unsupported("AND CHAIN", hint, Some(c.position())));
    }
    Ok(())
}

/// The word SAVEPOINT, which may be left out, and a name.
fn savepoint(c: &mut Cursor<'_>, verb: SavepointVerb) -> Result<Statement> {
    c.accept(&["SAVEPOINT"]);
    Ok(Statement::Savepoint { verb, name: c.ident("a savepoint's name")? })
}

/// Refuses to be somebody else, and to check constraints later.
fn refuse_role(c: &Cursor<'_>) -> Result<()> {
    let (clause, hint) = if c.is(&["ROLE"]) {
        ("ROLE", "a session is its user's")
    } else if c.is(&["SESSION", "AUTHORIZATION"]) || c.is(&["AUTHORIZATION"]) {
        ("SESSION AUTHORIZATION", "a session is its user's")
    } else if c.is(&["CONSTRAINTS"]) {
        ("SET CONSTRAINTS", "constraints are checked at once")
    } else {
        return Ok(());
    };
    Err(Error::unsupported(clause, hint, Some(c.position())))
}

/// What stands after SET.
pub(super) fn set(c: &mut Cursor<'_>, mut scope: SetScope) -> Result<Statement> {
    let at = c.position();
    refuse_role(c)?;
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
        refuse_role(c)?;
    }
    if c.accept(&["TIME", "ZONE"]) {
        let name = Name { value: "timezone".to_owned(), at };
        return Ok(Statement::Set { scope, name, value: zone(c)? });
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

/// What stands after TIME ZONE: a name, LOCAL, DEFAULT, hours, or an INTERVAL.
fn zone(c: &mut Cursor<'_>) -> Result<String> {
    if c.is(&["INTERVAL"]) && matches!(c.peek_at(1), Some(Token::SingleQuotedString(_))) {
        c.advance();
        return zone_of_interval(c);
    }
    if matches!(c.peek_at(1), Some(Token::Number(..))) {
        c.accept_token(&Token::Plus);
    }
    let value = c.value()?;
    Ok(if value.eq_ignore_ascii_case("local") { "default".to_owned() } else { value })
}

/// The zone that is an interval of hours and minutes ahead of UTC, by its name.
fn zone_of_interval(c: &mut Cursor<'_>) -> Result<String> {
    const MINUTE_NS: i64 = 60_000_000_000;
    let at = Some(c.position());
    let mut text = c.value()?;
    if c.accept(&["HOUR"]) {
        if !c.accept(&["TO", "MINUTE"]) && text.parse::<i32>().is_ok() {
            text.push_str(" hours");
        }
    } else if !c.at_end() {
        let message = "time zone interval must be HOUR or HOUR TO MINUTE".to_owned();
        return Err(Error::Syntax { message, position: Some(c.position()) });
    }
    let invalid = |message: &str| Error::Invalid { sqlstate: "22023", message: message.to_owned(), position: at };
    let Some(interval) = input::interval(&text) else {
        let message = format!("invalid input syntax for type interval: {text:?}");
        return Err(Error::Invalid { sqlstate: "22007", message, position: at });
    };
    if interval.months != 0 || interval.days != 0 {
        return Err(invalid("a time zone's interval has hours and minutes, no months or days"));
    }
    let ahead = i32::try_from(interval.nanoseconds / MINUTE_NS).ok();
    let ahead = ahead.filter(|ahead| interval.nanoseconds % MINUTE_NS == 0 && ahead.abs() < 24 * 60);
    ahead.map(zones::offset_name).ok_or_else(|| invalid("a time zone is whole minutes from UTC, and less than a day"))
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
