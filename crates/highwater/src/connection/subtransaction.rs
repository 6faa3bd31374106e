//! Subtransactions: parts of a transaction that SAVEPOINT begins, RELEASE ends and ROLLBACK TO takes back. They
//! are no savepoints of this system's own words, which are checkpoints.
//!
//! Invariant: while there is one, all that the transaction's writes replace is kept, so that they can be taken
//! back one by one, those of a statement that failed midway included. What the transaction has seen of others
//! stays what it is.

use super::{Connection, READ_ONLY, Transaction, TransactionSettings, invalid};
use crate::error::Result;
use highwater_sql::statement::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a transaction stood when SAVEPOINT began a part of it.
#[derive(Debug)]
pub(super) struct Subtransaction {
    name: String,
    /// How many writes there were to take back.
    replaced: usize,
    bytes: usize,
    has_upserted: bool,
    /// The connection's settings.
    settings: BTreeMap<String, String>,
    around: Option<TransactionSettings>,
}

/// What a write of a transaction has replaced.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) table: u32,
    pub(super) key: Vec<u8>,
    /// What the transaction wanted there; none when it had not written there.
    pub(super) new: Option<Option<Vec<u8>>>,
}

impl Connection {
    /// SAVEPOINT.
    pub(crate) fn begin_subtransaction(&mut self, name: &Name) -> Result<()> {
        let settings = self.settings.clone();
        let transaction = self.block("SAVEPOINT")?;
        let begun = Subtransaction {
            name: name.value.clone(),
            replaced: transaction.replaced.len(),
            bytes: transaction.bytes,
            has_upserted: transaction.has_upserted,
            settings,
            around: transaction.settings.clone(),
        };
        transaction.subtransactions.push(begun);
        Ok(())
    }

    /// RELEASE: what was done since SAVEPOINT belongs to what is around it.
    pub(crate) fn release(&mut self, name: &Name) -> Result<()> {
        let transaction = self.block("RELEASE SAVEPOINT")?;
        let at = transaction.subtransaction(name)?;
        let read_only = transaction.subtransactions[at].settings.get(READ_ONLY).cloned();
        transaction.subtransactions.truncate(at);
        for cursor in transaction.cursors.values_mut() {
            cursor.depth = cursor.depth.min(at);
        }
        if at == 0 {
            transaction.replaced = Vec::new();
        }
        // One that is read only does not make what is around it so.
        match read_only {
            Some(value) => self.settings.insert(READ_ONLY.to_owned(), value),
            None => self.settings.remove(READ_ONLY),
        };
        Ok(())
    }

    /// ROLLBACK TO: takes back what was done since SAVEPOINT, which has just been said then. Gives a
    /// transaction that has failed a new life.
    pub(crate) fn roll_back_to(&mut self, name: &Name) -> Result<()> {
        let transaction = self.block("ROLLBACK TO SAVEPOINT")?;
        let at = transaction.subtransaction(name)?;
        let settings = transaction.subtransactions[at].settings.clone();
        transaction.return_to(at);
        self.settings = settings;
        Ok(())
    }

    /// The transaction that somebody asked for.
    fn block(&mut self, what: &str) -> Result<&mut Transaction> {
        let asked_for = self.transaction.as_mut().filter(|transaction| !transaction.is_implicit);
        asked_for.ok_or_else(|| invalid("25P01", format!("{what} can only be used in transaction blocks"), None))
    }
}

impl Transaction {
    /// How many subtransactions there are, each within the one before it.
    pub(crate) const fn depth(&self) -> usize {
        self.subtransactions.len()
    }

    /// The newest one of a name.
    fn subtransaction(&self, name: &Name) -> Result<usize> {
        let found = self.subtransactions.iter().rposition(|begun| begun.name == name.value);
        found.ok_or_else(|| invalid("3B001", format!("savepoint {:?} does not exist", name.value), Some(name)))
    }

    fn return_to(&mut self, at: usize) {
        self.subtransactions.truncate(at + 1);
        let begun = &self.subtransactions[at];
        for Replaced { table, key, new } in self.replaced.drain(begun.replaced..).rev() {
            let written = self.tables.get_mut(&table).expect("a table stays once it was written");
            // Statements under way go on with what they read.
            let pending = Arc::make_mut(&mut written.new);
            match new {
                Some(before) => pending.insert(key, before),
                None => {
                    written.old.remove(&key);
                    pending.remove(&key)
                }
            };
        }
        self.bytes = begun.bytes;
        self.has_upserted = begun.has_upserted;
        self.settings.clone_from(&begun.around);
        self.cursors.retain(|_, cursor| cursor.depth <= at);
        self.failed = false;
    }
}
