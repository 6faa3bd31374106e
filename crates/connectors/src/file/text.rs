//! Reads a file of text records from a byte offset on: NDJSON and CSV.
//!
//! Owns the buffer and the offset; framing and decoding are its neighbours' affair. Invariants: the
//! offset always lies between two records; what has not been given is never counted in it; a file
//! that is followed gives complete lines only.

use super::decode::{Bad, Decoder, Layout, MOST_RECORDS};
use super::envelope::Changes;
use super::given::{Given, Unread, merged};
use super::records::{Framing, Records};
use super::{Arrival, OnError};
use crate::conform::place_of;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use highwater_engine::source::{Offset, Polled, SplitReader};
use highwater_engine::{Error, Result};
use memchr::memchr_iter;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A longer record than this is taken for a missing end.
const LONGEST_RECORD: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a text file's columns are found.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    /// By the members' names.
    Json,
    /// The same, in items that stand for changes.
    Changes(Arc<Changes>),
    /// By the names in the first record, or by place when there is no such record.
    Csv {
        /// Whether there is one.
        header: bool,
        /// Between two values.
        delimiter: u8,
    },
}

/// What to read and how.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    /// The split's name.
    pub(super) name: String,
    /// How messages call it.
    pub(super) object: String,
    /// The columns that the file holds.
    pub(super) schema: SchemaRef,
    /// What is given of them.
    pub(super) given: Arc<Given>,
    pub(super) columns: Columns,
    pub(super) arrival: Arrival,
    pub(super) on_error: OnError,
}

/// An open text file.
pub(super) struct TextReader {
    from: TextFile,
    framing: Framing,
    /// Absent until the header has been read.
    decoder: Option<Decoder>,
    /// Absent while a followed file has nothing new.
    file: Option<File>,
    buffer: Vec<u8>,
    /// Where in the buffer the next record begins.
    start: usize,
    ends: Vec<usize>,
    /// Whether the buffer ends in a newline that the file lacks.
    closed: bool,
    /// The next record's place in the file.
    byte: u64,
    /// The lines before it.
    line: u64,
    skipped: u64,
    /// Bad records from the file's start on; counted where they are kept.
    bad: u64,
}

/// What a look at the file brought.
enum Filled {
    More,
    Nothing,
    /// A followed file is no longer there.
    Gone,
}

impl TextFile {
    /// # Errors
    /// `Data` when the offset is not one of a text file.
    pub(super) fn open(self, offset: Option<&Offset>) -> Result<TextReader> {
        let (byte, line, bad) = match offset {
            None => (0, 0, 0),
            Some(offset) => {
                let field = |name: &str| offset.get(name).and_then(Offset::as_u64);
                let (byte, line) = field("byte")
                    .zip(field("line"))
                    .ok_or_else(|| Error::data(&self.object, format!("{offset} is not an offset of a text file")))?;
                (byte, line, field("bad").unwrap_or(0))
            }
        };
        let framing = match &self.columns {
            Columns::Json => Framing::Lines,
            Columns::Changes(changes) => changes.framing(),
            Columns::Csv { delimiter, .. } => Framing::Quoted { delimiter: *delimiter },
        };
        let mut reader = TextReader {
            from: self,
            framing,
            decoder: None,
            file: None,
            buffer: Vec::new(),
            start: 0,
            ends: Vec::new(),
            closed: false,
            byte,
            line,
            skipped: 0,
            bad,
        };
        if let Some(layout) = reader.layout_without_header() {
            reader.decoder = Some(reader.decoder(layout)?);
        }
        Ok(reader)
    }
}

impl TextReader {
    fn layout_without_header(&self) -> Option<Layout> {
        let schema = Arc::clone(&self.from.schema);
        match &self.from.columns {
            Columns::Json => Some(Layout::Json { schema }),
            Columns::Changes(changes) => Some(Layout::Changes(Arc::clone(changes))),
            Columns::Csv { header: false, delimiter } => {
                let places = (0..schema.fields().len()).collect();
                Some(Layout::Csv { file: schema, places, delimiter: *delimiter })
            }
            Columns::Csv { header: true, .. } => None,
        }
    }

    fn decoder(&self, layout: Layout) -> Result<Decoder> {
        Decoder::new(layout).map_err(|reason| Error::data(&self.from.object, reason))
    }

    fn connector(&self, error: impl std::fmt::Display) -> Error {
        Error::connector(&self.from.object, error)
    }

    /// Reads on at the end of the buffer.
    fn fill(&mut self) -> Result<Filled> {
        if self.file.is_none() {
            match File::open(&self.from.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.from.arrival.is_followed() => {
                    return Ok(Filled::Gone);
                }
                Err(error) => return Err(self.connector(error)),
            }
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        if held > LONGEST_RECORD {
            let reason = format!("the record at byte {} has no end within 64 MiB; is a quote left open?", self.byte);
            return Err(Error::data(&self.from.object, reason));
        }
        let place = self.byte + held as u64;
        // A followed file mostly has nothing new: it is asked before memory is taken for what may be there.
        if !self.from.arrival.is_followed() || self.length()? > place {
            // Reading as much as there is already keeps the framing of a long record linear.
            self.buffer.resize(held + held.max(CHUNK), 0);
            let file = self.file.as_ref().expect("opened above");
            let read = file.read_at(&mut self.buffer[held..], place);
            let read = read.inspect_err(|_| self.buffer.truncate(held)).map_err(|error| self.connector(error))?;
            self.buffer.truncate(held + read);
            if read > 0 {
                return Ok(Filled::More);
            }
        }
        if self.length()? < place {
            return Err(self.connector(format!("it is shorter than byte {place}, which was read before: replaced?")));
        }
        if self.from.arrival.is_followed() {
            // Thousands of files may wait for more, for ever.
            self.file = None;
            self.buffer.shrink_to_fit();
        }
        Ok(Filled::Nothing)
    }

    /// Of the open file.
    fn length(&self) -> Result<u64> {
        let file = self.file.as_ref().expect("it was opened before");
        Ok(file.metadata().map_err(|error| self.connector(error))?.len())
    }

    /// Looks for at most `most` complete records in the buffer, reading on until there is one; what
    /// to answer instead when there is none. A bounded file's last record needs no newline.
    fn find_records(&mut self, most: usize) -> Result<Option<Polled>> {
        if std::mem::take(&mut self.closed) {
            self.buffer.pop();
        }
        loop {
            self.framing.find(&self.buffer[self.start..], most, &mut self.ends);
            if !self.ends.is_empty() {
                return Ok(None);
            }
            match (self.fill()?, self.from.arrival) {
                (Filled::More, _) => {}
                (Filled::Nothing, Arrival::Followed(interval)) => return Ok(Some(Polled::Idle(interval))),
                (Filled::Nothing, Arrival::Complete) if self.start == self.buffer.len() => {
                    return Ok(Some(Polled::End));
                }
                (Filled::Nothing, Arrival::Complete) => {
                    self.closed = true;
                    self.buffer.push(b'\n');
                    self.ends.push(self.buffer.len() - self.start);
                    return Ok(None);
                }
                (Filled::Gone, _) => {
                    tracing::warn!(file = self.from.object, byte = self.byte, "the file was removed; taken as ended");
                    return Ok(Some(Polled::End));
                }
            }
        }
    }

    /// Reads the CSV header, wherever reading goes on after it.
    fn read_header(&mut self, delimiter: u8) -> Result<Option<Polled>> {
        let (byte, line) = (std::mem::take(&mut self.byte), std::mem::take(&mut self.line));
        let found = self.find_records(1);
        if !matches!(found, Ok(None)) {
            (self.byte, self.line) = (byte, line);
            self.forget_buffer();
            return found;
        }
        let end = self.ends[0];
        let header = self.buffer[..end].strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.buffer[..end]);
        let format = csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
        let names = format.infer_schema(header, Some(0)).map_err(|error| Error::data(&self.from.object, error))?.0;
        let layout = self.layout_of_header(&names, delimiter)?;
        self.decoder = Some(self.decoder(layout)?);
        self.advance();
        if byte > 0 {
            (self.byte, self.line) = (byte, line);
            self.forget_buffer();
        }
        Ok(None)
    }

    fn forget_buffer(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    fn layout_of_header(&self, names: &Schema, delimiter: u8) -> Result<Layout> {
        // By column of the file: what is taken of it, and whether it may be null.
        let mut types = vec![(DataType::Utf8, true); names.fields().len()];
        let mut places = Vec::with_capacity(self.from.schema.fields().len());
        for column in self.from.schema.fields() {
            let place = place_of(names, column.name()).ok_or_else(|| {
                let has: Vec<&str> = names.fields().iter().map(|field| field.name().as_str()).collect();
                let reason = format!("its header lacks the column '{}'; it has {}", column.name(), has.join(", "));
                Error::data(&self.from.object, reason)
            })?;
            types[place] = (column.data_type().clone(), column.is_nullable());
            places.push(place);
        }
        let fields = names.fields().iter().zip(types);
        let file = fields.map(|(name, (data_type, nullable))| Field::new(name.name(), data_type, nullable));
        let file: Vec<Field> = file.collect();
        Ok(Layout::Csv { file: Arc::new(Schema::new(file)), places, delimiter })
    }

    /// Passes over the records found.
    fn advance(&mut self) {
        let length = self.ends.last().copied().unwrap_or(0);
        let bytes = &self.buffer[self.start..self.start + length];
        self.line += memchr_iter(b'\n', bytes).count() as u64;
        self.start += length;
        self.byte += length as u64 - u64::from(std::mem::take(&mut self.closed));
    }

    /// The records found.
    fn found(&self) -> Records<'_> {
        let found = Records::new(&self.buffer[self.start..], &self.ends);
        if self.byte == 0 && found.bytes().starts_with(BYTE_ORDER_MARK) {
            return found.without_prefix(BYTE_ORDER_MARK.len());
        }
        found
    }

    /// The good rows among the records found, unless one is bad and that is not allowed.
    fn decode(&mut self) -> Result<Option<RecordBatch>> {
        let mut decoder = self.decoder.take().expect("the header was read before any record");
        let (rows, bad) = decoder.decode(self.found());
        self.decoder = Some(decoder);
        if let (Some(first), OnError::Fail) = (bad.first(), self.from.on_error) {
            return Err(self.bad_record(first));
        }
        self.skipped += bad.len() as u64;
        let rows = match rows.len() {
            0 => None,
            1 => rows.into_iter().next(),
            _ => {
                let rows = concat_batches(&rows[0].schema(), &rows);
                Some(rows.map_err(|error| Error::data(&self.from.object, error))?)
            }
        };
        self.give(rows, &bad).map_err(|error| Error::data(&self.from.object, error))
    }

    /// The rows as the source gives them; where bad ones are kept, these in their places.
    fn give(&mut self, rows: Option<RecordBatch>, bad: &[Bad]) -> Result<Option<RecordBatch>, ArrowError> {
        let given = Arc::clone(&self.from.given);
        if given.is_bare() {
            return rows.map(|rows| given.bare(&rows)).transpose();
        }
        let (starts, is_bad) = self.walk(bad);
        let good = starts.iter().zip(&is_bad).filter(|(_, is_bad)| !**is_bad).map(|(start, _)| *start);
        let good: Vec<u64> = good.collect();
        let rows = rows.map(|rows| given.rows(&rows, &self.from.name, &good)).transpose()?;
        if self.from.on_error != OnError::Keep || bad.is_empty() {
            return Ok(rows);
        }
        let first = self.bad;
        self.bad += bad.len() as u64;
        let unread = bad.iter().zip(first..).map(|(bad, number)| self.unread(bad, number)).collect();
        let unread = given.unread(&self.from.name, unread)?;
        match rows {
            Some(rows) => merged(&rows, &unread, &is_bad).map(Some),
            None => Ok(Some(unread)),
        }
    }

    /// Where each record that is not blank begins in the file, and whether it is bad.
    fn walk(&self, bad: &[Bad]) -> (Vec<u64>, Vec<bool>) {
        let found = self.found();
        let (mut at, mut next_bad) = (found.origin(), bad.iter().peekable());
        let (mut starts, mut is_bad) = (Vec::new(), Vec::new());
        for record in found.iter() {
            let start = at;
            at += record.len();
            if !self.framing.is_blank(record) {
                starts.push(self.byte + start as u64);
                is_bad.push(next_bad.next_if(|bad| bad.at == start).is_some());
            }
        }
        (starts, is_bad)
    }

    fn unread(&self, bad: &Bad, number: u64) -> Unread {
        let at = self.start + bad.at;
        let end = self.ends.iter().map(|end| self.start + end).find(|end| *end > at).unwrap_or(self.buffer.len());
        let line = self.line + memchr_iter(b'\n', &self.buffer[self.start..at]).count() as u64;
        let offset = json!({ "byte": self.byte + bad.at as u64, "line": line });
        Unread::new(number, &offset, &self.buffer[at..end], &bad.reason)
    }

    fn bad_record(&self, bad: &Bad) -> Error {
        let before = &self.buffer[self.start..self.start + bad.at];
        let line = self.line + memchr_iter(b'\n', before).count() as u64 + 1;
        let byte = self.byte + bad.at as u64;
        Error::data(
            &self.from.object,
            format!("line {line} (byte {byte}): {}; set on_error = 'skip' to leave such rows out", bad.reason),
        )
    }
}

impl SplitReader for TextReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        if let (None, Columns::Csv { delimiter, .. }) = (&self.decoder, &self.from.columns)
            && let Some(answer) = self.read_header(*delimiter)?
        {
            return Ok(answer);
        }
        if let Some(answer) = self.find_records(max_rows.clamp(1, MOST_RECORDS))? {
            return Ok(answer);
        }
        let rows = self.decode()?;
        self.advance();
        Ok(rows.map_or(Polled::Idle(Duration::ZERO), Polled::Rows))
    }

    fn offset(&self) -> Offset {
        match self.from.on_error {
            OnError::Keep => json!({ "byte": self.byte, "line": self.line, "bad": self.bad }),
            OnError::Fail | OnError::Skip => json!({ "byte": self.byte, "line": self.line }),
        }
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn a_file_that_waits_for_more_takes_no_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        std::fs::write(&path, "{\"id\":1}\n{\"id\":").expect("written");
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let given = Arc::new(Given::new(&schema, &Shape::default(), false).expect("one column"));
        let file = TextFile {
            path: path.clone(),
            name: "a.json".to_owned(),
            object: "file 'a.json'".to_owned(),
            schema,
            given,
            columns: Columns::Json,
            arrival: Arrival::Followed(Duration::from_secs(1)),
            on_error: OnError::Fail,
        };
        let mut reader = file.open(None).expect("opens");
        assert!(matches!(reader.poll(9), Ok(Polled::Rows(_))));
        for _ in 0..2 {
            assert!(matches!(reader.poll(9), Ok(Polled::Idle(_))));
            assert!(reader.buffer.capacity() < 1 << 10, "{}", reader.buffer.capacity());
        }
        std::fs::write(&path, "{\"id\":1}\n{\"id\":2}\n").expect("written");
        assert!(matches!(reader.poll(9), Ok(Polled::Rows(rows)) if rows.num_rows() == 1));
    }
}
