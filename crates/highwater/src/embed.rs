//! What a program that embeds the database does without SQL text: rows in as record batches, rows out
//! as they are computed. These calls block; an asynchronous task makes them on a thread for blocking
//! work.

use crate::answer::RowStream;
use crate::composite::has_documents;
use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::dml::assign;
use crate::error::Result;
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::threads::QueryThreads;
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use highwater_sql::statement::Name;
use highwater_tables::{TableWrite, Write};
use std::sync::Arc;

/// A query's rows as they come.
pub struct Batches {
    rows: RowStream,
    runtime: Arc<QueryThreads>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("schema", self.schema()).finish_non_exhaustive()
    }
}

impl Batches {
    /// The columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.rows.next()).transpose()
    }
}

impl Database {
    /// Inserts rows into a table, all or none; when it returns they are durable. Columns are found by
    /// their names and cast to the table's types; those that are missing get their defaults. Gives
    /// the position in the log.
    ///
    /// # Errors
    /// As of INSERT: `Sql` for an unknown table (42P01) or column (42703), a value that does not fit
    /// (such as 22003, 22P02 or 42804) and a null where none may be (23502), `Tables` for a key that
    /// exists (23505). Nothing is inserted then.
    pub fn insert(&self, table: &str, rows: &RecordBatch) -> Result<u64> {
        let name = Name { value: table.to_owned(), at: highwater_sql::Position { offset: 1, line: 1, column: 1 } };
        let target = self.target(&name)?;
        let (mut given, mut places): (Vec<ArrayRef>, Vec<usize>) = (Vec::new(), Vec::new());
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            let Ok(at) = target.schema().index_of(field.name()) else {
                let message = format!("column {:?} of relation {table:?} does not exist", field.name());
                return Err(invalid("42703", message, None));
            };
            let data_type = target.schema().field(at).data_type();
            given.push(match column.data_type() {
                // A program's jsonb need not be in normal form.
                DataType::LargeUtf8 => assign(&cast(column, &DataType::Utf8)?, data_type)?,
                DataType::Struct(_) if has_documents(column.data_type()) => {
                    let message = format!("column {:?}: composite values with jsonb are given as texts", field.name());
                    return Err(invalid("0A000", message, None));
                }
                _ => assign(column, data_type)?,
            });
            places.push(at);
        }
        debug_assert!(given.iter().all(|column| column.len() == rows.num_rows()), "a batch's columns have one length");
        let complete = target.completed(&self.session, &given, &places, rows.num_rows(), None)?;
        target.check_nulls(&complete)?;
        let write =
            TableWrite { table: Arc::clone(&target.table), write: Write::Insert(target.table.insert(complete)?) };
        let done = self.tables.commit(vec![write])?;
        Ok(self.runtime.block_on(done).map_err(|_| highwater_tables::Error::Closed)??)
    }

    /// Executes a query and gives its rows batch by batch, as they are computed.
    ///
    /// # Errors
    /// Those of [`Database::execute`]; a statement that gives no rows gives none here.
    pub fn stream(&self, connection: &mut Connection, sql: &str) -> Result<Batches> {
        let text = sql.trim().trim_end_matches(';').trim_end();
        let statement = highwater_sql::parse(text)?;
        let answer = self.runtime.block_on(self.run(connection, &statement, text, &Parameters::none()))?;
        let rows = answer.rows.unwrap_or_else(|| RowStream::of(Rows::none("result")));
        Ok(Batches { rows, runtime: Arc::clone(&self.runtime) })
    }
}
