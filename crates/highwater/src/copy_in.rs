//! COPY t FROM STDIN: data comes in pieces, rows are encoded as they come, and all are committed
//! together at the end.

use crate::answer::{Answer, Tag};
use crate::connection::{Connection, invalid};
use crate::copy::{CopyError, CopyFormat, CopyParser};
use crate::database::Database;
use crate::dml::{Target, assign};
use crate::error::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use futures::future::BoxFuture;
use highwater_sql::statement::Copy;
use highwater_sql::zones::Zone;
use highwater_tables::{Insert, TableWrite, Write};
use std::sync::Arc;

/// What one COPY may bring, encoded.
const MOST_BYTES: usize = 1 << 30;

/// A COPY under way.
pub struct CopyIn {
    target: Target,
    places: Vec<usize>,
    parser: CopyParser,
    insert: Insert,
    rows: u64,
    /// The session's, in which defaults are.
    zone: Option<Zone>,
}

impl std::fmt::Debug for CopyIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Database {
    /// Begins a COPY. Nothing is written before [`Database::end_copy`].
    ///
    /// # Errors
    /// When the table or a column does not exist.
    pub fn begin_copy(&self, connection: &Connection, copy: &Copy) -> Result<CopyIn> {
        connection.begin_statement();
        connection.check_not_failed()?;
        connection.check_may_write("COPY FROM")?;
        let target = self.target(&copy.table)?;
        let mut places = target.places(&copy.columns, target.schema().fields().len())?;
        if copy.columns.is_empty() {
            places.retain(|at| !target.generated.has(*at));
        } else if let Some(column) = places.iter().position(|at| target.generated.has(*at)) {
            let column = &copy.columns[column];
            return Err(invalid("42P10", format!("column {:?} is a generated column", column.value), Some(column)));
        }
        let zone = connection.zone();
        let field = |at: &usize| {
            let field = target.schema().field(*at).clone();
            let read = zone.as_ref().map(|zone| zone.of_type(field.data_type()));
            Arc::new(match read {
                Some(read) => field.with_data_type(read),
                None => field,
            })
        };
        let fields: Vec<Arc<Field>> = places.iter().map(field).collect();
        let options = &copy.options;
        let mut format = if options.csv { CopyFormat::csv() } else { CopyFormat::text() };
        (format.header, format.names) = (options.header, options.names);
        format.delimiter = options.delimiter.map_or(format.delimiter, |c| c as u8);
        format.quote = options.quote.map_or(format.quote, |c| c as u8);
        format.escape = options.escape.or(options.quote).map_or(format.escape, |c| c as u8);
        if let Some(null) = &options.null {
            format.null = null.clone().into_bytes();
        }
        let parser = CopyParser::new(format, Arc::new(Schema::new(fields)));
        Ok(CopyIn { target, places, parser, insert: Insert::default(), rows: 0, zone })
    }

    /// Takes a piece of the data, cut anywhere.
    ///
    /// # Errors
    /// When a row cannot be read or is refused by the table; the COPY is then over.
    pub fn push_copy(&self, copy: &mut CopyIn, data: &[u8]) -> Result<()> {
        copy.parser.push(data).map_err(|error| refused(&copy.target, &error))?;
        let batches = copy.parser.batches();
        self.take(copy, batches)
    }

    /// Commits all rows, or adds them to the transaction.
    ///
    /// # Errors
    /// As [`Database::push_copy`]; `Tables` when a key exists.
    pub fn end_copy<'a>(&'a self, connection: &'a mut Connection, copy: CopyIn) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let before = connection.position;
            let mut done = self.finish_copy(connection, copy).await;
            match &mut done {
                Err(_) => connection.fail_transaction(),
                Ok(answer) => answer.notices.extend(self.flush_implicitly(connection, before)?),
            }
            done
        })
    }

    async fn finish_copy(&self, connection: &mut Connection, mut copy: CopyIn) -> Result<Answer> {
        let empty = CopyParser::new(CopyFormat::text(), Arc::new(Schema::empty()));
        let parser = std::mem::replace(&mut copy.parser, empty);
        let batches = parser.finish().map_err(|error| refused(&copy.target, &error))?;
        self.take(&mut copy, batches)?;
        let CopyIn { target, insert, rows, .. } = copy;
        if connection.transaction.is_some() {
            self.add_to_transaction(connection, &target, Write::Insert(insert))?;
        } else if !insert.is_empty() {
            let write = TableWrite { table: Arc::clone(&target.table), write: Write::Insert(insert) };
            self.commit_writes(connection, vec![write]).await?;
        }
        Ok(Answer::done(Tag::Copy(rows)))
    }

    fn take(&self, copy: &mut CopyIn, batches: Vec<RecordBatch>) -> Result<()> {
        let table = Arc::clone(&copy.target.table);
        // Of which line it is, nobody knows here.
        self.take_rows(copy, batches).map_err(|error| error.within(|| format!("COPY {}", table.spec().name)))
    }

    fn take_rows(&self, copy: &mut CopyIn, batches: Vec<RecordBatch>) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        for batch in batches {
            let own = copy.places.iter().map(|at| copy.target.schema().field(*at).data_type());
            let columns = batch.columns().iter().zip(own).map(|(array, own)| assign(array, own));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let (count, zone) = (batch.num_rows(), copy.zone.as_ref());
            let rows = copy.target.completed(&self.session, &columns, &copy.places, count, zone)?;
            copy.target.check_nulls(&rows)?;
            copy.rows += rows.num_rows() as u64;
            copy.insert.append(copy.target.table.insert(rows)?);
        }
        if copy.insert.bytes() > MOST_BYTES {
            let message = "one COPY brings more than 1 GiB, which is committed as a whole: divide it";
            return Err(invalid("54000", message, None));
        }
        Ok(())
    }
}

impl CopyIn {
    /// How many columns the data has.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.places.len()
    }

    /// What it waits for, as PostgreSQL's CONTEXT says it: `COPY t, line 3`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("COPY {}, line {}", self.target.table.spec().name, self.parser.line() + 1)
    }
}

fn refused(target: &Target, error: &CopyError) -> Error {
    let place = || format!("COPY {}, {}", target.table.spec().name, error.context());
    invalid(error.sqlstate, error.message.clone(), None).within(place)
}
