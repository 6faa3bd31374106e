//! ALTER TABLE ... ADD PRIMARY KEY: a table with the key takes the place of the one without it.
//!
//! Rows are stored under their keys, so all of them are written once more, as those of a table with a number of its
//! own, while everybody reads and writes the old one. Then the store ends the writing of that, if none of its rows
//! has changed since they were read, and one write of the catalog puts the new one in its place. Invariants: until
//! then the old table is as it was, whatever fails; no write of it is acknowledged that the new one does not have;
//! the catalog notes what is to be removed before it is there, of the copy first and then of the old one.

use crate::alter::parsed_table;
use crate::catalog::Entry;
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::dml::Target;
use crate::error::Result;
use crate::objects::{Body, Object};
use crate::outcome::Outcome;
use crate::pipelines::check_kind;
use arrow::array::{Array as _, RecordBatch};
use highwater_sql::statement::{AddKey, Name, ObjectKind};
use highwater_sql::with_column;
use highwater_tables::{Error as TablesError, Overlay, Snapshot, TableWrite, Write};
use std::sync::Arc;

/// How often rows are copied when some of them were changed meanwhile.
const MOST_TRIES: usize = 3;
/// Rows that are copied at a time.
const PIECE_ROWS: usize = 8192;

/// A table, and the one with the key.
struct Successor {
    /// The catalog's entry of the old one.
    before: Entry,
    old: Target,
    new: Object,
    keyed: Target,
    /// Under which number the new one is stored.
    number: u32,
}

/// What came of putting one in the other's place.
enum Placed {
    Yes,
    /// The old one was changed since its rows were read.
    Changed,
    /// It cannot be told which one a new start would find, until [`Database::settle_places`].
    Unknown(crate::error::Error),
}

impl Database {
    pub(crate) fn add_key(&self, connection: &Connection, added: &AddKey) -> Result<Outcome> {
        self.settle_places();
        for _ in 0..MOST_TRIES {
            let successor = self.successor_with(connection, added)?;
            let number = successor.number;
            let placed = self.copy_rows(connection, &successor);
            let placed = placed.and_then(|copied| self.place(connection, &added.table, successor, &copied));
            if let Ok(Placed::Unknown(error)) = placed {
                // What both of them hold stays until that is settled.
                return Err(error);
            }
            let mut state = self.state();
            state.being_copied.remove(&number);
            self.end_left(&mut state);
            drop(state);
            if let Placed::Yes = placed? {
                return Ok(Outcome::done("ALTER TABLE"));
            }
        }
        let message = format!("rows of {:?} are changed while they get their key: try again later", added.table.value);
        Err(invalid("55006", message, Some(&added.table)))
    }

    /// Makes a table with the key, and without rows, that nobody knows yet.
    fn successor_with(&self, connection: &Connection, added: &AddKey) -> Result<Successor> {
        let mut state = self.state_to_define(connection)?;
        let object = crate::show::find(&state, &added.table)?;
        check_kind(&object.entry, ObjectKind::Table, &added.table)?;
        let Body::Table(old) = &object.body else {
            let clause = "ADD PRIMARY KEY of a table with a connector".to_owned();
            let hint = "drop the table and create it with the key".to_owned();
            let position = Some(added.table.at);
            return Err(highwater_sql::Error::Unsupported { clause, hint, position }.into());
        };
        check_columns(old, added)?;
        check_alone(&state, &added.table)?;
        if !connection.overlay(&old.table).is_empty() {
            let message = format!("this transaction has changed rows of {:?}: commit it first", added.table.value);
            return Err(invalid("55006", message, Some(&added.table)));
        }
        let (before, old) = (object.entry.clone(), old.clone());
        let mut entry = before.clone();
        entry.id = state.catalog.next_id();
        entry.sql = with_column(&before.sql, &added.definition)?;
        entry.rewritten = true;
        let number = u32::try_from(entry.id).map_err(|_| invalid("54000", "too many objects", None))?;
        let statement = parsed_table(&entry)?;
        state.catalog.reserve(number)?;
        state.being_copied.insert(number);
        let made = self.table_object(statement, entry);
        if let Ok(Object { body: Body::Table(keyed), .. }) = &made {
            let keyed = keyed.clone();
            return Ok(Successor { before, old, new: made?, keyed, number });
        }
        state.being_copied.remove(&number);
        self.end_left(&mut state);
        made?;
        Err(invalid("XX000", format!("{:?} would be no table", added.table.value), Some(&added.table)))
    }

    /// Writes all rows of the old table into the new one, which must take them. Gives what they were read from.
    fn copy_rows(&self, connection: &Connection, successor: &Successor) -> Result<Snapshot> {
        let Successor { old, keyed, .. } = successor;
        let snapshot = self.tables.snapshot()?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            connection.check_cancelled()?;
            let mut piece = snapshot.scan(&old.table, after.as_deref(), PIECE_ROWS, &Overlay::new())?;
            if !piece.keys.is_empty() {
                let rows = piece.rows(&old.table)?;
                check_no_nulls(keyed, &rows)?;
                let write = Write::Insert(keyed.table.insert(rows)?);
                let answer = self.tables.commit(vec![TableWrite { table: Arc::clone(&keyed.table), write }])?;
                answer.blocking_recv().map_err(|_| TablesError::Closed)?.map_err(not_unique)?;
            }
            if piece.is_last {
                return Ok(snapshot);
            }
            after = piece.keys.pop();
        }
    }

    /// Puts the table with the key in the place of the other one.
    fn place(&self, connection: &Connection, name: &Name, successor: Successor, copied: &Snapshot) -> Result<Placed> {
        let Successor { before, old, new, keyed, number } = successor;
        let mut state = self.state_to_define(connection)?;
        if state.objects.get(&name.value).is_none_or(|object| object.entry != before) {
            let message = format!("{:?} was altered or dropped by another session: try again", name.value);
            return Err(invalid("55006", message, Some(name)));
        }
        check_alone(&state, name)?;
        if !self.tables.replace(&old.table, &keyed.table, copied)? {
            return Ok(Placed::Changed);
        }
        if let Err(error) = state.catalog.put_in_place(old.table.spec().id, new.entry.clone()) {
            if !state.catalog.is_on_disk() {
                let table = &name.value;
                tracing::error!(table, %error, "the catalog may name either table: none is written until that is");
                state.unplaced.push((old.table, number));
                return Ok(Placed::Unknown(error));
            }
            self.tables.reopen(&old.table)?;
            return Err(error);
        }
        state.objects.remove(std::slice::from_ref(&name.value));
        state.objects.add(new);
        Ok(Placed::Yes)
    }

    /// Has tables written again of which a new start might have found the copy in their place, once the catalog is
    /// written as it is, which has them. What is acknowledged from then on is in the table that a start finds.
    pub(crate) fn settle_places(&self) {
        let mut state = self.state();
        if state.unplaced.is_empty() {
            return;
        }
        if let Err(error) = state.catalog.write_again() {
            tracing::debug!(%error, "tables are not written yet, as the catalog cannot be");
            return;
        }
        for (table, copy) in std::mem::take(&mut state.unplaced) {
            let id = u64::from(table.spec().id);
            // It may have been dropped meanwhile.
            if state.catalog.entries().iter().any(|entry| entry.id == id)
                && let Err(error) = self.tables.reopen(&table)
            {
                tracing::debug!(table = table.spec().name, %error, "it is written again at the next start");
            }
            state.being_copied.remove(&copy);
        }
        self.end_left(&mut state);
    }
}

/// Refuses a key of columns that are not there, and a second key.
fn check_columns(target: &Target, added: &AddKey) -> Result<()> {
    if target.table.has_key() {
        let message = format!("multiple primary keys for table {:?} are not allowed", added.table.value);
        return Err(invalid("42P16", message, Some(&added.table)));
    }
    match added.key.iter().find(|column| target.schema().index_of(&column.value).is_err()) {
        Some(column) => {
            let message = format!("column {:?} named in key does not exist", column.value);
            Err(invalid("42703", message, Some(column)))
        }
        None => Ok(()),
    }
}

/// Refuses a table that others read or write: they hold on to its rows by the keys that these had.
fn check_alone(state: &State, name: &Name) -> Result<()> {
    let others = state.dependents(std::slice::from_ref(&name.value));
    if others.is_empty() {
        return Ok(());
    }
    let (table, others) = (&name.value, others.join(", "));
    let message = format!("{table:?} gets no primary key while others read or write it: drop them first: {others}");
    Err(invalid("55000", message, Some(name)))
}

fn check_no_nulls(keyed: &Target, rows: &RecordBatch) -> Result<()> {
    let spec = keyed.table.spec();
    let Some(at) = spec.key.iter().find(|at| rows.column(**at).null_count() > 0) else { return Ok(()) };
    let column = spec.schema.field(*at).name();
    let message = format!("column {column:?} of relation {:?} contains null values", spec.name);
    Err(invalid("23502", message, None))
}

/// The error of rows with one key, in PostgreSQL's words.
fn not_unique(error: TablesError) -> crate::error::Error {
    match error {
        TablesError::Duplicate { table, key } => {
            let message = format!("could not create unique index \"{table}_pkey\": Key {key} is duplicated.");
            invalid("23505", message, None)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use highwater_sql::statement::Statement;
    use std::fs;

    #[test]
    fn a_table_that_may_have_got_its_key_is_written_again_when_the_catalog_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(Config::new(folder.path())).expect("a database");
        database.script("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").expect("a table");
        let Ok(Statement::AddKey(added)) = highwater_sql::parse("ALTER TABLE t ADD PRIMARY KEY (a)") else {
            panic!("it is another statement")
        };
        let connection = Connection::new();
        let successor = database.successor_with(&connection, &added).expect("a table with the key");
        let copied = database.copy_rows(&connection, &successor).expect("copied");
        let (file, next) = (folder.path().join("catalog.json"), folder.path().join("catalog.json.new"));
        fs::write(&file, "x").expect("nobody can tell what it has");
        fs::create_dir(&next).expect("it cannot be written");
        let placed = database.place(&connection, &added.table, successor, &copied);
        assert!(matches!(placed, Ok(Placed::Unknown(_))));
        database.retry_broken();
        assert_eq!(database.state().unplaced.len(), 1, "nothing has changed");
        fs::remove_dir(&next).expect("it can be written");
        database.retry_broken();
        assert_eq!(database.state().unplaced.len(), 0);
        assert!(database.state().catalog.is_on_disk());
        database.execute("INSERT INTO t VALUES (2)").expect("there is no key");
        assert_eq!(database.query("SELECT a FROM t").expect("read").count(), 3);
        database.execute("DELETE FROM t WHERE a = 2").expect("deleted");
        database.execute("ALTER TABLE t ADD PRIMARY KEY (a)").expect("it gets its key");
        database.execute("INSERT INTO t VALUES (1)").expect_err("it is there");
        database.shutdown().expect("a clean end");
    }
}
