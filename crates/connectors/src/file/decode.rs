//! From complete text records to Arrow rows, whole stretches at a time, and which records are bad.
//!
//! Invariant: every record that is not blank gives exactly one row or is reported as bad, whatever
//! the stretches it comes in; so offsets count records and rows alike.

use super::envelope::{Changes, Opened};
use super::records::{Framing, Records};
use super::values;
use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// The most records decoded at a time.
pub(super) const MOST_RECORDS: usize = 8192;

/// What a text's records hold.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// One JSON object a line; members that are not columns are passed over.
    Json {
        /// The columns.
        schema: SchemaRef,
    },
    /// One JSON object a line that stands for a change; gives more columns than the row's.
    Changes(Arc<Changes>),
    /// Values with delimiters between them.
    Csv {
        /// What the file holds, in its order.
        file: SchemaRef,
        /// The columns' places in it.
        places: Vec<usize>,
        /// Between two values.
        delimiter: u8,
    },
}

/// A record that does not fit the columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Where it begins in the stretch that was framed.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// Decodes records of one layout.
pub(super) struct Decoder {
    layout: Layout,
    /// Divides CSV into texts.
    csv: Option<Box<csv::reader::Decoder>>,
}

impl Layout {
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Json { .. } => Framing::Lines,
            Self::Changes(changes) => changes.framing(),
            Self::Csv { delimiter, .. } => Framing::Quoted { delimiter: *delimiter },
        }
    }

    fn build(&self) -> Result<Option<Box<csv::reader::Decoder>>, String> {
        let Self::Csv { file, places, delimiter } = self else { return Ok(None) };
        if file.fields().iter().any(|field| field.data_type().is_nested()) {
            return Err("a CSV file has no arrays and no STRUCT: take NDJSON or Parquet".to_owned());
        }
        let texts = file.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
        let decoder = csv::ReaderBuilder::new(Arc::new(Schema::new(texts.collect::<Vec<Field>>())))
            .with_delimiter(*delimiter)
            // One more than is ever decoded at a time, lest the decoder stop before the last newline.
            .with_batch_size(MOST_RECORDS + 1)
            .with_projection(places.clone())
            .build_decoder();
        Ok(Some(Box::new(decoder)))
    }
}

impl Decoder {
    /// # Errors
    /// When a column's type cannot be read from such files.
    pub(super) fn new(layout: Layout) -> Result<Self, String> {
        let csv = layout.build()?;
        Ok(Self { layout, csv })
    }

    /// The rows of all good records, and the bad ones.
    pub(super) fn decode(&mut self, records: Records<'_>) -> (Vec<RecordBatch>, Vec<Bad>) {
        let (mut rows, mut bad) = (Vec::new(), Vec::new());
        self.isolate(records, &mut rows, &mut bad);
        (rows, bad)
    }

    /// Decodes all at once if it can, else each half.
    fn isolate(&mut self, records: Records<'_>, rows: &mut Vec<RecordBatch>, bad: &mut Vec<Bad>) {
        if records.len() == 0 {
            return;
        }
        match self.try_decode(records) {
            Ok(batch) => rows.extend(batch),
            Err(reason) if records.len() == 1 => bad.push(Bad { at: records.origin(), reason }),
            Err(_) => {
                let (left, right) = records.halves();
                self.isolate(left, rows, bad);
                self.isolate(right, rows, bad);
            }
        }
    }

    /// All of the records or the reason why not; `None` when all are blank.
    fn try_decode(&mut self, records: Records<'_>) -> Result<Option<RecordBatch>, String> {
        let framing = self.layout.framing();
        let found = records.iter().filter(|record| !framing.is_blank(record));
        match &self.layout {
            Layout::Json { schema } => values::of_objects(found, schema),
            Layout::Changes(changes) => changes_of(changes, found),
            Layout::Csv { file, places, .. } => {
                let columns = Arc::new(file.project(places).map_err(|error| error.to_string())?);
                let expected = found.count();
                let texts = self.texts(records.bytes())?;
                if texts.as_ref().map_or(0, RecordBatch::num_rows) != expected {
                    return Err("a carriage return stands within a value without quotes".into());
                }
                texts.map(|texts| values::of_texts(&texts, columns)).transpose()
            }
        }
    }

    /// The values of CSV as they are written; after an error the decoder is a new one.
    fn texts(&mut self, bytes: &[u8]) -> Result<Option<RecordBatch>, String> {
        let decoder = self.csv.as_mut().ok_or("the file is no CSV")?;
        let divided = match decoder.decode(bytes) {
            Ok(read) if read < bytes.len() => Err("more rows than lines".to_owned()),
            Ok(_) => decoder.flush().map_err(|error| without_line(&error.to_string())),
            Err(error) => Err(without_line(&error.to_string())),
        };
        if divided.is_err() {
            self.csv = self.layout.build()?;
        }
        divided
    }
}

/// All of the changes that items stand for.
fn changes_of<'a>(changes: &Changes, items: impl Iterator<Item = &'a [u8]>) -> Result<Option<RecordBatch>, String> {
    let mut opened = Opened::default();
    for item in items {
        changes.open(item, &mut opened)?;
    }
    let objects = opened.rows.split(|byte| *byte == b'\n').filter(|object| !object.is_empty());
    let rows = values::of_objects(objects, &changes.rows)?;
    rows.map(|rows| changes.finish(&rows, opened)).transpose()
}

/// A reason without the line that it tells, which is that of the stretch and not the file's.
fn without_line(reason: &str) -> String {
    match reason.split_once(" for line ") {
        Some((what, rest)) => format!("{what}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_no_line() {
        let reason = "Csv error: incorrect number of fields for line 12, expected 2 got 1";
        assert_eq!(without_line(reason), "Csv error: incorrect number of fields, expected 2 got 1");
        assert_eq!(without_line("another"), "another");
    }
}
