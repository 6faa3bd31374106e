//! COPY FROM STDIN's data, PostgreSQL's text and CSV formats, into Arrow record batches.
//!
//! Owns the buffer of a row that has not ended, the rows of the batch being gathered and their lines.
//! Its parts: `rows` finds where rows end, `fields` divides a row among the columns; `highwater_sql::input`
//! reads a column of text as a type. It knows neither tables nor the wire, and leaves NOT NULL to its user.
//!
//! Invariants: the result does not depend on how the data is cut; between two rows every column has
//! one field for each of `lines`; of several errors the one that stands first in the data is told.

mod error;
mod fields;
mod rows;

#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod tests;

pub(crate) use error::CopyError;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use error::shown;
use fields::{Fields, Misfit, names, split};
use highwater_sql::input::parse_text_column;
use memchr::memchr_iter;
use rows::{Found, Framing};
use std::sync::Arc;

/// Rows of a full batch.
const BATCH_ROWS: usize = 8192;

/// A batch of fewer rows is full when its data has so many bytes.
const BATCH_BYTES: usize = 64 << 20;

/// Bytes of the longest row, as in PostgreSQL. With `BATCH_BYTES` it bounds a column's offsets, which
/// are of 31 bits.
const LONGEST_ROW: usize = 1 << 30;

/// The SQLSTATE of data that is not of the format.
const BAD_COPY_FILE_FORMAT: &str = "22P04";

/// The SQLSTATE of a row that is too long.
const PROGRAM_LIMIT_EXCEEDED: &str = "54000";

/// The two ways to write rows as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyKind {
    /// A line a row, with backslash escapes.
    Text,
    /// Values with delimiters between them and quotes around them where needed.
    Csv,
}

/// How COPY's data is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyFormat {
    /// Which of the two formats.
    pub(crate) kind: CopyKind,
    /// Between two fields: one ASCII character, neither a newline nor, in the text format, one that
    /// means something after a backslash.
    pub(crate) delimiter: u8,
    /// A field of these bytes, as it stands in the data, is null; in CSV only without quotes.
    pub(crate) null: Vec<u8>,
    /// Whether the first row holds names and is no row.
    pub(crate) header: bool,
    /// Whether these must be those of the columns, in their order.
    pub(crate) names: bool,
    /// Around a CSV field.
    pub(crate) quote: u8,
    /// Before a quote or itself within a quoted CSV field.
    pub(crate) escape: u8,
}

impl CopyFormat {
    /// Tabs between fields and `\N` for null.
    pub(crate) fn text() -> Self {
        let (kind, null) = (CopyKind::Text, br"\N".to_vec());
        Self { kind, delimiter: b'\t', null, header: false, names: false, quote: b'"', escape: b'"' }
    }

    /// Commas between fields, nothing for null, and a quote doubled to stand for itself.
    pub(crate) fn csv() -> Self {
        let (kind, null) = (CopyKind::Csv, Vec::new());
        Self { kind, delimiter: b',', null, header: false, names: false, quote: b'"', escape: b'"' }
    }
}

/// Takes bytes as they come and gives batches of the columns' types, which it keeps until they are
/// asked for. After an error it is of no more use.
pub(crate) struct CopyParser {
    format: CopyFormat,
    schema: SchemaRef,
    framing: Framing,
    /// The beginning of a row that has not ended.
    held: Vec<u8>,
    /// Whether the header is still to come.
    header: bool,
    /// Whether the end marker was found; what follows it is not looked at.
    ended: bool,
    /// The number of the line read last, from 1.
    line: u64,
    columns: Vec<Fields>,
    /// The line of each row gathered.
    lines: Vec<u64>,
    /// Bytes of the rows gathered.
    gathered: usize,
    full: Vec<RecordBatch>,
}

impl CopyParser {
    /// The schema has the columns of the data in their order. In the batches all of them may be null.
    pub(crate) fn new(format: CopyFormat, schema: SchemaRef) -> Self {
        let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let fields: Vec<Field> = schema.fields().iter().map(nullable).collect();
        Self {
            framing: Framing::new(&format),
            held: Vec::new(),
            header: format.header,
            ended: false,
            line: 0,
            columns: fields.iter().map(|_| Fields::default()).collect(),
            lines: Vec::new(),
            gathered: 0,
            full: Vec::new(),
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            format,
        }
    }

    /// Takes a piece of data, cut anywhere: also inside a row, a quoted field or an escape.
    ///
    /// # Errors
    /// What is wrong with the data, and where. An error in a value may be told some pieces later.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), CopyError> {
        if self.ended {
            return Ok(());
        }
        if self.held.is_empty() {
            let taken = self.take_rows(data)?;
            self.held.extend_from_slice(&data[taken..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(data);
            let taken = self.take_rows(&held)?;
            held.drain(..taken);
            self.held = held;
        }
        if self.ended {
            self.held = Vec::new();
        }
        if self.held.len() > LONGEST_ROW {
            self.line += 1;
            return Err(self.refuse(PROGRAM_LIMIT_EXCEEDED, "a row is longer than 1 GiB; is a quote left open?", None));
        }
        Ok(())
    }

    /// The number of the line read last, from 1; 0 before the first.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    /// The full batches so far, each of about 8,192 rows; they are given once.
    pub(crate) fn batches(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.full)
    }

    /// The end of the data: the batches not given yet, with the rest of the rows as the last. The last
    /// row needs no newline.
    ///
    /// # Errors
    /// As `push`, and when the last row is cut off within a quoted field or an escape.
    pub(crate) fn finish(mut self) -> Result<Vec<RecordBatch>, CopyError> {
        let mut held = std::mem::take(&mut self.held);
        if !self.ended && !held.is_empty() {
            if let Err(message) = self.framing.terminate(&mut held) {
                self.line += 1;
                return Err(self.refuse(BAD_COPY_FILE_FORMAT, message, Some(&held)));
            }
            self.take_rows(&held)?;
        }
        self.convert()?;
        Ok(self.full)
    }

    /// Gathers the complete rows; how many bytes they have.
    fn take_rows(&mut self, bytes: &[u8]) -> Result<usize, CopyError> {
        let mut start = 0;
        while !self.ended {
            match self.framing.next(&bytes[start..]) {
                Ok(Found::Row { length, next, special }) => {
                    self.take_row(&bytes[start..start + length], special)?;
                    start += next;
                }
                Ok(Found::Incomplete) => break,
                Ok(Found::EndOfData) => self.ended = true,
                Err(message) => {
                    self.line += 1;
                    return Err(self.refuse(BAD_COPY_FILE_FORMAT, message, None));
                }
            }
        }
        Ok(start)
    }

    /// Gathers a row without its newline; `special` when it has escapes or quotes.
    fn take_row(&mut self, row: &[u8], special: bool) -> Result<(), CopyError> {
        self.line += 1;
        if special && self.format.kind == CopyKind::Csv {
            self.line += memchr_iter(b'\n', row).count() as u64;
        }
        if std::mem::take(&mut self.header) {
            return if self.format.names { self.compare_names(row, special) } else { Ok(()) };
        }
        if row.len() > LONGEST_ROW {
            return Err(self.refuse(PROGRAM_LIMIT_EXCEEDED, "a row is longer than 1 GiB", None));
        }
        if let Err(misfit) = split(&self.format, row, special, &mut self.columns) {
            return Err(self.refuse_row(row, misfit));
        }
        self.lines.push(self.line);
        self.gathered += row.len();
        if self.lines.len() == BATCH_ROWS || self.gathered >= BATCH_BYTES { self.convert() } else { Ok(()) }
    }

    /// Refuses a header whose names are not those of the columns, in their order.
    fn compare_names(&self, row: &[u8], special: bool) -> Result<(), CopyError> {
        let expected: Vec<&String> = self.schema.fields().iter().map(|field| field.name()).collect();
        let found = names(&self.format, row, special);
        if found.len() != expected.len() {
            let (found, expected) = (found.len(), expected.len());
            let message = format!("wrong number of fields in header line: got {found}, expected {expected}");
            return Err(self.refused(BAD_COPY_FILE_FORMAT, &message, Some(row)));
        }
        for (at, (name, expected)) in found.iter().zip(expected).enumerate() {
            let got = match name {
                Some(name) if name == expected.as_bytes() => continue,
                Some(name) => format!("got \"{}\"", String::from_utf8_lossy(name)),
                None => format!("got null value (\"{}\")", String::from_utf8_lossy(&self.format.null)),
            };
            let field = at + 1;
            let message = format!("column name mismatch in header line field {field}: {got}, expected \"{expected}\"");
            return Err(self.refused(BAD_COPY_FILE_FORMAT, &message, Some(row)));
        }
        Ok(())
    }

    /// The error of a row with too few fields or too many. PostgreSQL looks at a row's values up to the
    /// missing one, but not at all when there are too many.
    fn refuse_row(&mut self, row: &[u8], misfit: Misfit) -> CopyError {
        let message = match misfit {
            Misfit::Missing(column) => {
                self.lines.push(self.line);
                format!("missing data for column \"{}\"", self.schema.field(column).name())
            }
            Misfit::Extra => {
                let rows = self.lines.len();
                self.columns.iter_mut().for_each(|column| column.truncate(rows));
                "extra data after last expected column".to_owned()
            }
        };
        self.refuse(BAD_COPY_FILE_FORMAT, &message, Some(row))
    }

    /// The error at the present line, unless a value gathered before it is bad.
    fn refuse(&mut self, sqlstate: &'static str, message: &str, row: Option<&[u8]>) -> CopyError {
        match self.read_columns() {
            Err(earlier) => earlier,
            Ok(_) => self.refused(sqlstate, message, row),
        }
    }

    /// The error at the present line.
    fn refused(&self, sqlstate: &'static str, message: &str, row: Option<&[u8]>) -> CopyError {
        CopyError {
            sqlstate,
            message: message.to_owned(),
            detail: None,
            line: self.line,
            column: None,
            value: row.map(shown),
        }
    }

    /// Makes a batch of the rows gathered.
    fn convert(&mut self) -> Result<(), CopyError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let arrays = self.read_columns()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.lines.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("the columns have one length and the types of their fields, which may be null");
        self.full.push(batch);
        self.lines.clear();
        self.gathered = 0;
        Ok(())
    }

    /// The rows gathered as arrays, or the first error among them by row and then by column.
    fn read_columns(&mut self) -> Result<Vec<ArrayRef>, CopyError> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut first: Option<(usize, CopyError)> = None;
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let (text, bad) = column.take();
            let read = parse_text_column(&text, field.data_type()).and_then(|array| bad.map_or(Ok(array), Err));
            match read {
                Ok(array) => arrays.push(array),
                Err(bad) if first.as_ref().is_some_and(|(row, _)| *row <= bad.row) => {}
                Err(bad) => {
                    let line = self.lines.get(bad.row).copied().unwrap_or(self.line);
                    let value = (bad.row < text.len()).then(|| shown(text.value(bad.row).as_bytes()));
                    first = Some((bad.row, CopyError::of_value(bad, line, field.name(), value)));
                }
            }
        }
        first.map_or(Ok(arrays), |(_, error)| Err(error))
    }
}
