//! Cursors: rows that a client takes piece by piece, forwards.
//!
//! A cursor over a query sees what its transaction saw when it was declared, and ends with the
//! transaction; WITH HOLD it goes on after COMMIT with the same rows. A cursor over a subscription
//! belongs to the session.

use crate::answer::{Answer, RowStream, Tag};
use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::show;
use crate::subscription::{Following, patience};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_sql::statement::{Fetch, Name, Query};
use highwater_tables::JournalSpec;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Cursors by name.
pub(crate) type Cursors = BTreeMap<String, Cursor>;

/// One cursor.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// What it reads, in SQL.
    text: String,
    schema: SchemaRef,
    /// It outlives its transaction.
    hold: bool,
    /// In how many subtransactions it was made; it ends when the last of them is taken back.
    pub(crate) depth: usize,
    origin: Origin,
    /// The row that was taken last, unless the end was passed.
    current: Option<RecordBatch>,
}

/// Where rows come from.
#[derive(Debug)]
enum Origin {
    Query {
        /// Nobody locks it: a stream alone cannot be shared between threads.
        rows: Mutex<RowStream>,
        /// What was computed and not yet taken.
        left: Option<RecordBatch>,
        /// A FETCH was ended before it gave its rows: which ones come next is lost.
        is_broken: bool,
    },
    Changes(Box<Following>),
}

impl Cursor {
    fn of_query(query: &Query, rows: RowStream, hold: bool) -> Self {
        let (text, schema) = (query.ast.to_string(), rows.schema().clone());
        let origin = Origin::Query { rows: Mutex::new(rows), left: None, is_broken: false };
        Self { text, schema, hold, depth: 0, origin, current: None }
    }

    pub(crate) fn of_changes(text: String, following: Following) -> Self {
        let schema = following.schema().clone();
        Self { text, schema, hold: true, depth: 0, origin: Origin::Changes(Box::new(following)), current: None }
    }

    pub(crate) const fn outlives_transactions(&self) -> bool {
        self.hold
    }

    /// What the cursor of a subscription reads.
    pub(crate) fn journal(&self) -> Option<&JournalSpec> {
        match &self.origin {
            Origin::Query { .. } => None,
            Origin::Changes(following) => Some(following.journal()),
        }
    }

    /// Up to `count` rows, or all; for 0 the row that was taken last.
    async fn take(&mut self, count: Option<u64>, patience: Option<Duration>) -> Result<Rows> {
        let count = count.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        if count == Some(0) {
            return Ok(Rows { schema: self.schema.clone(), batches: self.current.iter().cloned().collect() });
        }
        let batches = match &mut self.origin {
            Origin::Query { rows, left, is_broken } => {
                // It stays so when this fails, or when nobody waits for it any more.
                if std::mem::replace(is_broken, true) {
                    let message = "a FETCH from this cursor has failed, and its rows are lost: declare it anew";
                    return Err(invalid("55000", message, None));
                }
                let rows = rows.get_mut().unwrap_or_else(PoisonError::into_inner);
                let taken = take_from(rows, left, count.unwrap_or(usize::MAX)).await?;
                *is_broken = false;
                taken
            }
            Origin::Changes(following) => following.take(count, patience).await?,
        };
        let taken = Rows { schema: self.schema.clone(), batches };
        let last = taken.batches.iter().rfind(|batch| batch.num_rows() > 0);
        let last = last.filter(|_| count == Some(taken.count()));
        self.current = last.map(|batch| batch.slice(batch.num_rows() - 1, 1));
        Ok(taken)
    }
}

/// Up to so many rows of a stream of which some are left over.
async fn take_from(
    rows: &mut RowStream,
    left: &mut Option<RecordBatch>,
    mut wanted: usize,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while wanted > 0 {
        let next = match left.take() {
            Some(left) => Some(left),
            None => rows.next().await?,
        };
        let Some(batch) = next else { break };
        if batch.num_rows() > wanted {
            *left = Some(batch.slice(wanted, batch.num_rows() - wanted));
        }
        let taken = batch.num_rows().min(wanted);
        wanted -= taken;
        batches.push(batch.slice(0, taken));
    }
    Ok(batches)
}

impl Database {
    pub(crate) async fn declare(
        &self,
        connection: &mut Connection,
        name: &Name,
        hold: bool,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Answer> {
        if connection.transaction.is_none() && !hold {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(invalid("25P01", message, None));
        }
        check_new(connection, name)?;
        let answer = self.answer_query(connection, query, parameters).await?;
        let rows = answer.rows.ok_or_else(|| invalid("XX000", "a query came without rows", None))?;
        let mut cursor = Cursor::of_query(query, rows, hold);
        let cursors = match &mut connection.transaction {
            Some(transaction) => {
                cursor.depth = transaction.depth();
                &mut transaction.cursors
            }
            None => &mut connection.held,
        };
        cursors.insert(name.value.clone(), cursor);
        Ok(Answer { notices: answer.notices, ..Answer::done(Tag::Plain("DECLARE CURSOR".to_owned())) })
    }

    pub(crate) async fn fetch(&self, connection: &mut Connection, fetch: &Fetch) -> Result<Answer> {
        let patience = patience(&fetch.options)?;
        let cursor = find(connection, &fetch.cursor)?;
        if let (Origin::Query { .. }, Some(option)) = (&cursor.origin, fetch.options.first()) {
            let reason = "is for cursors of subscriptions: what this one reads is there";
            return Err(highwater_sql::Error::option(&option.key, reason, Some(option.at)).into());
        }
        let rows = cursor.take(fetch.count, patience).await?;
        if fetch.skips {
            return Ok(Answer::done(Tag::Plain(format!("MOVE {}", rows.count()))));
        }
        Ok(Answer::collected(Tag::Fetch, rows))
    }
}

/// Refuses the name of a cursor that there is.
pub(crate) fn check_new(connection: &Connection, name: &Name) -> Result<()> {
    if connection.all_cursors().any(|(other, _)| *other == name.value) {
        return Err(invalid("42P03", format!("cursor {:?} already exists", name.value), Some(name)));
    }
    Ok(())
}

/// Ends a cursor, or all.
pub(crate) fn close(connection: &mut Connection, name: Option<&Name>) -> Result<Answer> {
    let Some(name) = name else {
        if let Some(transaction) = &mut connection.transaction {
            transaction.cursors.clear();
        }
        connection.held.clear();
        return Ok(Answer::done(Tag::Plain("CLOSE CURSOR ALL".to_owned())));
    };
    find(connection, name)?;
    if let Some(transaction) = &mut connection.transaction {
        transaction.cursors.remove(&name.value);
    }
    connection.held.remove(&name.value);
    Ok(Answer::done(Tag::Plain("CLOSE CURSOR".to_owned())))
}

fn find<'a>(connection: &'a mut Connection, name: &Name) -> Result<&'a mut Cursor> {
    let of_transaction = connection.transaction.as_mut().and_then(|t| t.cursors.get_mut(&name.value));
    match of_transaction {
        Some(cursor) => Ok(cursor),
        None => connection.held.get_mut(&name.value).ok_or_else(|| unknown(name)),
    }
}

fn unknown(name: &Name) -> Error {
    invalid("34000", format!("cursor {:?} does not exist", name.value), Some(name))
}

/// SHOW CURSORS.
pub(crate) fn shown(connection: &Connection) -> Rows {
    let of_queries = connection.all_cursors().filter(|(_, cursor)| cursor.journal().is_none());
    let (names, texts): (Vec<_>, Vec<_>) = of_queries.map(|(name, cursor)| (name.clone(), cursor.text.clone())).unzip();
    Rows::of(vec![("cursor_name", show::texts(names)), ("statement", show::texts(texts))])
}

/// A cursor as `pg_cursors` shows it.
pub(crate) struct ShownCursor<'a> {
    pub(crate) name: &'a String,
    pub(crate) text: &'a String,
    pub(crate) hold: bool,
}

impl Connection {
    pub(crate) fn all_cursors(&self) -> impl Iterator<Item = (&String, &Cursor)> {
        let of_transaction = self.transaction.iter().flat_map(|transaction| &transaction.cursors);
        of_transaction.chain(&self.held)
    }

    /// The columns of a cursor.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Option<SchemaRef> {
        let (_, cursor) = self.all_cursors().find(|(known, _)| *known == name)?;
        Some(cursor.schema.clone())
    }

    /// All cursors.
    pub(crate) fn cursors(&self) -> Vec<ShownCursor<'_>> {
        let all = self.all_cursors();
        all.map(|(name, cursor)| ShownCursor { name, text: &cursor.text, hold: cursor.hold }).collect()
    }
}
