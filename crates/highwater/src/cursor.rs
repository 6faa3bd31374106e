//! Cursors: the rows of a query that a transaction takes piece by piece, forwards.
//!
//! A cursor sees what its transaction saw when it was declared, and ends with the transaction.

use crate::answer::{Answer, RowStream, Tag};
use crate::connection::{Connection, Transaction, invalid};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::outcome::Rows;
use crate::parameters::Parameters;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_sql::statement::{Fetch, Name, Query};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The cursors of a transaction, by name.
pub(crate) type Cursors = BTreeMap<String, Cursor>;

/// One cursor.
#[derive(Debug)]
pub(crate) struct Cursor {
    query: Query,
    schema: SchemaRef,
    /// Nobody locks it: a stream alone cannot be shared between threads.
    rows: Mutex<RowStream>,
    /// What was computed and not yet taken.
    left: Option<RecordBatch>,
}

impl Cursor {
    /// Up to `count` rows, or all.
    async fn take(&mut self, count: Option<u64>) -> Result<Rows> {
        let mut wanted = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let rows = self.rows.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut batches = Vec::new();
        while wanted > 0 {
            let next = match self.left.take() {
                Some(left) => Some(left),
                None => rows.next().await?,
            };
            let Some(batch) = next else { break };
            if batch.num_rows() > wanted {
                self.left = Some(batch.slice(wanted, batch.num_rows() - wanted));
            }
            let taken = batch.num_rows().min(wanted);
            wanted -= taken;
            batches.push(batch.slice(0, taken));
        }
        Ok(Rows { schema: self.schema.clone(), batches })
    }
}

impl Database {
    pub(crate) async fn declare(
        &self,
        connection: &mut Connection,
        name: &Name,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let Some(transaction) = &connection.transaction else {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(invalid("25P01", message, None));
        };
        if transaction.cursors.contains_key(&name.value) {
            return Err(invalid("42P03", format!("cursor {:?} already exists", name.value), Some(name)));
        }
        let answer = self.answer_query(connection, query, parameters).await?;
        let rows = answer.rows.ok_or_else(|| invalid("XX000", "a query came without rows", None))?;
        let cursor = Cursor { query: query.clone(), schema: rows.schema().clone(), rows: Mutex::new(rows), left: None };
        if let Some(transaction) = &mut connection.transaction {
            transaction.cursors.insert(name.value.clone(), cursor);
        }
        Ok(Answer::done(Tag::Plain("DECLARE CURSOR".to_owned())))
    }

    pub(crate) async fn fetch(&self, connection: &mut Connection, fetch: &Fetch) -> Result<Answer> {
        let rows = cursors(connection)
            .and_then(|cursors| cursors.get_mut(&fetch.cursor.value))
            .ok_or_else(|| unknown(&fetch.cursor))?
            .take(fetch.count)
            .await?;
        if fetch.skips {
            return Ok(Answer::done(Tag::Plain(format!("MOVE {}", rows.count()))));
        }
        Ok(Answer::collected(Tag::Fetch, rows))
    }
}

/// Ends a cursor, or all.
pub(crate) fn close(connection: &mut Connection, name: Option<&Name>) -> Result<Answer> {
    let cursors = cursors(connection);
    let Some(name) = name else {
        if let Some(cursors) = cursors {
            cursors.clear();
        }
        return Ok(Answer::done(Tag::Plain("CLOSE CURSOR ALL".to_owned())));
    };
    cursors.and_then(|cursors| cursors.remove(&name.value)).ok_or_else(|| unknown(name))?;
    Ok(Answer::done(Tag::Plain("CLOSE CURSOR".to_owned())))
}

fn cursors(connection: &mut Connection) -> Option<&mut Cursors> {
    connection.transaction.as_mut().map(|transaction: &mut Transaction| &mut transaction.cursors)
}

fn unknown(name: &Name) -> Error {
    invalid("34000", format!("cursor {:?} does not exist", name.value), Some(name))
}

impl Connection {
    /// The columns of a cursor.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Option<SchemaRef> {
        let cursor = self.transaction.as_ref()?.cursors.get(name)?;
        Some(cursor.schema.clone())
    }

    /// The names and queries of all cursors.
    pub(crate) fn cursors(&self) -> Vec<(&String, String)> {
        let cursors = self.transaction.iter().flat_map(|transaction| &transaction.cursors);
        cursors.map(|(name, cursor)| (name, cursor.query.ast.to_string())).collect()
    }
}
