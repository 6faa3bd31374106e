//! From complete text records to Arrow rows, whole stretches at a time, and which records are bad.
//!
//! Invariant: every record that is not blank gives exactly one row or is reported as bad, whatever
//! the stretches it comes in; so offsets count records and rows alike.

use super::documents;
use super::envelope::{Changes, Opened};
use super::records::{Framing, Records};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use arrow::{csv, json};
use serde_json::Value;
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

enum Inner {
    Json(json::reader::Decoder),
    Csv(Box<csv::reader::Decoder>),
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
    inner: Inner,
}

impl Layout {
    pub(super) const fn framing(&self) -> Framing {
        match self {
            Self::Json { .. } | Self::Changes(_) => Framing::Lines,
            Self::Csv { delimiter, .. } => Framing::Quoted { delimiter: *delimiter },
        }
    }

    fn build(&self) -> Result<Inner, String> {
        // One more than is ever decoded at a time, lest a decoder stop before the last newline.
        let size = MOST_RECORDS + 1;
        match self {
            Self::Json { schema } => objects(schema, size),
            Self::Changes(changes) => objects(&changes.rows, size),
            Self::Csv { file, .. } if file.fields().iter().any(|field| field.data_type().is_nested()) => {
                Err("a CSV file has no arrays and no STRUCT: take NDJSON or Parquet".to_owned())
            }
            Self::Csv { file, places, delimiter } => Ok(Inner::Csv(Box::new(
                csv::ReaderBuilder::new(Arc::new(documents::as_texts(file)))
                    .with_delimiter(*delimiter)
                    .with_batch_size(size)
                    .with_projection(places.clone())
                    .build_decoder(),
            ))),
        }
    }
}

/// Reads objects; their columns of jsonb are left to `documents`.
fn objects(schema: &SchemaRef, size: usize) -> Result<Inner, String> {
    let schema = if documents::has_documents(schema) {
        Arc::new(documents::without_documents(schema))
    } else {
        Arc::clone(schema)
    };
    let decoder = json::ReaderBuilder::new(schema).with_batch_size(size).build_decoder();
    decoder.map(Inner::Json).map_err(|error| error.to_string())
}

impl Decoder {
    /// # Errors
    /// When a column's type cannot be read from such files.
    pub(super) fn new(layout: Layout) -> Result<Self, String> {
        let inner = layout.build()?;
        Ok(Self { layout, inner })
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
        if let Layout::Changes(changes) = &self.layout {
            let changes = Arc::clone(changes);
            return self.try_changes(&changes, records);
        }
        let framing = self.layout.framing();
        let mut expected = 0;
        for record in records.iter().filter(|record| !framing.is_blank(record)) {
            expected += 1;
            if let Layout::Json { schema } = &self.layout {
                check_row(record, schema)?;
            }
        }
        let batch = self.feed_or_begin_again(records.bytes())?;
        let found = batch.as_ref().map_or(0, RecordBatch::num_rows);
        match (&self.layout, found == expected) {
            (_, true) => batch.map(|batch| self.with_documents(batch, records)).transpose(),
            (Layout::Json { .. } | Layout::Changes(_), false) => Err("a line must hold exactly one object".into()),
            (Layout::Csv { .. }, false) => Err("a carriage return stands within a value without quotes".into()),
        }
    }

    /// The rows with their columns of jsonb.
    fn with_documents(&self, batch: RecordBatch, records: Records<'_>) -> Result<RecordBatch, String> {
        let framing = self.layout.framing();
        match &self.layout {
            Layout::Json { schema } if documents::has_documents(schema) => {
                let records = records.iter().filter(|record| !framing.is_blank(record));
                documents::from_records(records, &batch, schema)
            }
            Layout::Csv { file, places, .. } if documents::has_documents(file) => {
                let columns = file.project(places).map_err(|error| error.to_string())?;
                documents::of_texts(&batch, &Arc::new(columns))
            }
            _ => Ok(batch),
        }
    }

    /// All of the changes that items stand for.
    fn try_changes(&mut self, changes: &Changes, items: Records<'_>) -> Result<Option<RecordBatch>, String> {
        let mut opened = Opened::default();
        let mut expected = 0;
        for item in items.iter().filter(|item| !Framing::Lines.is_blank(item)) {
            expected += 1;
            let start = opened.rows.len();
            changes.open(item, &mut opened)?;
            check_row(&opened.rows[start..], &changes.rows)?;
        }
        match self.feed_or_begin_again(&opened.rows)? {
            Some(rows) if rows.num_rows() == expected => {
                let rows = if documents::has_documents(&changes.rows) {
                    let lines = opened.rows.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                    documents::from_records(lines, &rows, &changes.rows)?
                } else {
                    rows
                };
                changes.finish(&rows, opened).map(Some)
            }
            None if expected == 0 => Ok(None),
            _ => Err("a row must be exactly one object".into()),
        }
    }

    /// After an error the decoder is a new one.
    fn feed_or_begin_again(&mut self, bytes: &[u8]) -> Result<Option<RecordBatch>, String> {
        let decoded = self.feed(bytes);
        if decoded.is_err() {
            self.inner = self.layout.build()?;
        }
        decoded
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<Option<RecordBatch>, String> {
        match &mut self.inner {
            Inner::Json(decoder) => {
                let read = decoder.decode(bytes).map_err(|error| error.to_string())?;
                if read < bytes.len() || decoder.has_partial_record() {
                    return Err("a line must hold exactly one object".into());
                }
                decoder.flush().map_err(|error| error.to_string())
            }
            Inner::Csv(decoder) => {
                let read = decoder.decode(bytes).map_err(|error| error.to_string())?;
                if read < bytes.len() {
                    return Err("more rows than lines".into());
                }
                decoder.flush().map_err(|error| error.to_string())
            }
        }
    }
}

/// Refuses what the decoder would take and should not.
fn check_row(record: &[u8], schema: &SchemaRef) -> Result<(), String> {
    check_object(record)?;
    if has_fraction(record) { check_integers(record, schema) } else { Ok(()) }
}

/// Whether a number with a point or an exponent may stand in a record: the decoder would cut it to an
/// integer where the column is one.
fn has_fraction(record: &[u8]) -> bool {
    record.windows(2).any(|pair| pair[0].is_ascii_digit() && matches!(pair[1], b'.' | b'e' | b'E'))
}

fn check_integers(record: &[u8], schema: &SchemaRef) -> Result<(), String> {
    let members: serde_json::Map<String, Value> = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    check_members(&members, schema.fields())
}

fn check_members(members: &serde_json::Map<String, Value>, fields: &Fields) -> Result<(), String> {
    for field in fields {
        if let Some(value) = members.get(field.name()) {
            check_value(value, field)?;
        }
    }
    Ok(())
}

fn check_value(value: &Value, field: &Field) -> Result<(), String> {
    match (value, field.data_type()) {
        (Value::Number(number), own) if own.is_integer() && number.is_f64() => {
            Err(format!("column {:?} takes whole numbers, not {number}", field.name()))
        }
        (Value::Array(elements), DataType::List(of)) if of.data_type().is_integer() => {
            let element = of.as_ref().clone().with_name(field.name());
            elements.iter().try_for_each(|value| check_value(value, &element))
        }
        (Value::Object(members), DataType::Struct(fields)) => check_members(members, fields),
        _ => Ok(()),
    }
}

/// A line that begins and ends like an object; the decoder alone would let one span lines.
fn check_object(record: &[u8]) -> Result<(), String> {
    let trimmed = record.trim_ascii();
    if trimmed.first() == Some(&b'{') && trimmed.last() == Some(&b'}') {
        Ok(())
    } else {
        Err("a line must hold exactly one JSON object".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;

    #[test]
    fn a_fraction_is_no_integer() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("l", DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))), true),
            Field::new("s", DataType::Struct(vec![Field::new("m", DataType::Int32, true)].into()), true),
        ]));
        let good =
            [r#"{"n":7,"x":1.5}"#, r#"{"n":null,"x":1e3,"m":2.5}"#, r#"{"x":-0.5,"l":[1,null]}"#, r#"{"s":{"m":1}}"#];
        let bad = [r#"{"n":1.9,"x":0}"#, r#"{"n":-1.5e0}"#, r#"{"l":[1,2.5]}"#, r#"{"s":{"m":1.5}}"#];
        for (records, is_good) in [(good, true), (bad, false)] {
            for record in records {
                let found = !has_fraction(record.as_bytes()) || check_integers(record.as_bytes(), &schema).is_ok();
                assert_eq!(found, is_good, "{record}");
            }
        }
    }
}
