//! The end of a transaction that nobody asked for: statements that a client sent together.
//!
//! When it loses against another one it is computed again, as a single statement is, if its client was
//! told nothing of it but how many rows were concerned, and these are as many again. What was told then
//! is true of the transaction that is committed.

use crate::answer::Tag;
use crate::connection::Connection;
use crate::database::Database;
use crate::dml::next_try;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use futures::future::BoxFuture;
use highwater_sql::statement::{Name, Statement};
use highwater_tables::Table;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a transaction is computed again at most.
const MOST_TRIES: usize = 100;

/// An INSERT, UPDATE or DELETE of a transaction that nobody asked for, and what its client was told.
#[derive(Clone, Debug)]
pub struct ToldWrite {
    /// The statement.
    pub statement: Arc<Statement>,
    /// What it was parsed from.
    pub text: Arc<str>,
    /// The values of its parameters.
    pub parameters: Parameters,
    /// Its answer, which had no rows.
    pub tag: Tag,
}

impl Database {
    /// Commits the transaction that [`Connection::begin_implicitly`] began. `told` are all its statements
    /// in their order, if they are nothing but writes that gave no rows: then it may be done again.
    ///
    /// # Errors
    /// Those of [`Database::run`] with COMMIT, and with the statements when they are done again. The
    /// transaction is over then.
    pub fn commit_implicit<'a>(
        &'a self,
        connection: &'a mut Connection,
        told: Option<&'a [ToldWrite]>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let committed = self.run(connection, &Statement::Commit, "COMMIT", &Parameters::none()).await;
            match (committed, told) {
                (Err(lost), Some(told)) if lost.is_conflict() => self.commit_again(connection, told, lost).await,
                (committed, _) => committed.map(|_| ()),
            }
        })
    }

    async fn commit_again(&self, connection: &mut Connection, told: &[ToldWrite], lost: Error) -> Result<()> {
        let mut tables: BTreeMap<u32, Arc<Table>> = BTreeMap::new();
        for write in told {
            let Some(name) = written(&write.statement) else { return Err(lost) };
            let table = self.target(name)?.table;
            tables.insert(table.spec().id, table);
        }
        // In the order of their numbers, so that no two wait for each other.
        let mut turns = Vec::with_capacity(tables.len());
        for table in tables.values() {
            turns.push(next_try(connection, table, None).await?);
        }
        let before = connection.position;
        for _ in 0..MOST_TRIES {
            connection.begin_implicitly();
            let done = self.done_again(connection, told).await;
            if !matches!(done, Ok(true)) {
                connection.fail_transaction();
            }
            match done {
                Ok(true) => {
                    // What waits for the same tables need not wait until views show this.
                    drop(turns);
                    self.flush_implicitly(connection, before).map_err(Error::nowhere)?;
                    return Ok(());
                }
                Ok(false) => break,
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.nowhere()),
            }
        }
        Err(lost)
    }

    /// Computes the statements anew and commits them; not when one of them concerns other numbers of rows.
    async fn done_again(&self, connection: &mut Connection, told: &[ToldWrite]) -> Result<bool> {
        for ToldWrite { statement, text, parameters, tag } in told {
            connection.check_cancelled()?;
            if self.dispatch(connection, statement, text, parameters).await?.tag != *tag {
                return Ok(false);
            }
        }
        self.end_transaction(connection, true).await?;
        Ok(true)
    }
}

/// The table that a statement writes.
pub(crate) const fn written(statement: &Statement) -> Option<&Name> {
    match statement {
        Statement::Insert(insert) => Some(&insert.table),
        Statement::Update(update) => Some(&update.table),
        Statement::Delete(delete) => Some(&delete.table),
        _ => None,
    }
}
