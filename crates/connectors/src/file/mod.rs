//! The `file` source: NDJSON, CSV and Parquet files, one by one, by a pattern, or from a folder that
//! grows.
//!
//! Owns the options and the choice of reader. A split is a file; its offset is exact after every
//! batch: a byte for text, a row for Parquet.

mod decode;
mod documents;
mod parquet;
mod place;
mod records;
mod text;

#[cfg(test)]
mod tests;

use crate::options::{Kind, OptionSpec, Settings};
use crate::{FORMAT_OPTION, Format};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use decode::{Decoder, Layout};
use highwater_engine::source::{Extent, Offset, Source, SplitReader};
use highwater_engine::{Error, Result};
use place::Place;
use records::Records;
use std::sync::Arc;
use std::time::Duration;

/// The options of the `file` source.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("path", Kind::Text, "A file, a folder (with those within; names that begin with . or _ and other formats' endings are passed over), or a pattern with *, ? and **.").required(),
    FORMAT_OPTION,
    OptionSpec::new("file.watch", Kind::Boolean, "Never end: look for new files, and for complete lines that are appended. Put Parquet files in place by renaming them.").or("false"),
    OptionSpec::new("file.discovery.interval", Kind::Duration, "With file.watch, how often to look.").or("1s"),
    OptionSpec::new("on_error", Kind::Choice(&["fail", "skip"]), "What to do with a row that does not fit the columns: fail, naming file, line and reason; or leave it out and count it.").or("fail"),
    OptionSpec::new("csv.header", Kind::Boolean, "Whether each CSV file begins with the columns' names. Without them columns are taken by place.").or("true"),
    OptionSpec::new("csv.delimiter", Kind::Text, "The character between two values of a CSV file; \\t for a tab.").or(","),
];

/// What to do with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnError {
    Fail,
    Skip,
}

/// Whether a file is all there or may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Complete,
    /// Looked at again after this time.
    Followed(Duration),
}

impl Arrival {
    const fn is_followed(self) -> bool {
        matches!(self, Self::Followed(_))
    }
}

/// The source as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct FileSource {
    place: Place,
    format: Format,
    schema: SchemaRef,
    csv: text::Columns,
    arrival: Arrival,
    on_error: OnError,
}

impl FileSource {
    pub(crate) fn new(settings: &Settings, declared: Option<SchemaRef>, format: Option<Format>) -> Result<Self> {
        let path = settings.text("path").expect("it is required");
        let place = Place::of(path)?;
        let format = Format::choose(format, settings, path)?;
        let interval = settings.duration("file.discovery.interval").expect("it has a default");
        let arrival = if settings.flag("file.watch") { Arrival::Followed(interval) } else { Arrival::Complete };
        let files = place.list(format)?;
        if files.is_empty() && arrival == Arrival::Complete {
            let why = format!("there is no {} file; with file.watch = 'true' they may come later", format.name());
            return Err(settings.refuse("path", path, &why));
        }
        let csv = text::Columns::Csv { header: settings.flag("csv.header"), delimiter: delimiter(settings)? };
        let schema = match (declared.filter(|schema| !schema.fields().is_empty()), format, files.first()) {
            (Some(schema), ..) => schema,
            (None, Format::Parquet, Some(first)) => parquet::columns_of(&place.resolve(first))?,
            (None, ..) => {
                let why = "declare the columns in CREATE SOURCE; only those of a Parquet file that exists can be found";
                return Err(Error::Plan(why.into()));
            }
        };
        check_types(&schema, format)?;
        let on_error = if settings.text("on_error") == Some("skip") { OnError::Skip } else { OnError::Fail };
        Ok(Self { place, format, schema, csv, arrival, on_error })
    }
}

fn delimiter(settings: &Settings) -> Result<u8> {
    match settings.text("csv.delimiter").expect("it has a default") {
        "\\t" => Ok(b'\t'),
        one if one.len() == 1 && !matches!(one, "\"" | "\n" | "\r") => Ok(one.as_bytes()[0]),
        other => Err(settings.refuse("csv.delimiter", other, "expected one ASCII character")),
    }
}

/// Refuses column types that text files cannot hold, by trying to decode one.
fn check_types(schema: &SchemaRef, format: Format) -> Result<()> {
    for field in schema.fields() {
        let first = Arc::new(Field::new("first", DataType::Utf8, true));
        let row = Arc::new(Schema::new(vec![first, Arc::new(field.as_ref().clone().with_nullable(true))]));
        let (layout, sample) = match format {
            Format::Json => (Layout::Json { schema: row }, "{\"first\":\"\"}\n"),
            Format::Csv => (Layout::Csv { file: row, places: vec![0, 1], delimiter: b',' }, "first,\n"),
            Format::Parquet => continue,
        };
        let decoded =
            Decoder::new(layout).map(|mut decoder| decoder.decode(Records::new(sample.as_bytes(), &[sample.len()])));
        if !decoded.is_ok_and(|(_, bad)| bad.is_empty()) {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(Error::Plan(format!(
                "column '{name}' of type {data_type} cannot be read from {} files",
                format.name()
            )));
        }
    }
    Ok(())
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<String>> {
        self.place.list(self.format)
    }

    fn discovery(&self) -> Option<Duration> {
        match (self.arrival, &self.place) {
            (Arrival::Followed(interval), Place::Folder(_) | Place::Pattern { .. }) => Some(interval),
            _ => None,
        }
    }

    fn extent(&self) -> Extent {
        if self.arrival.is_followed() { Extent::Growing } else { Extent::Bounded }
    }

    fn blocking(&self) -> bool {
        true
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        // A split that was seen but not read from yet is recorded without a position.
        let offset = offset.filter(|offset| !offset.is_null());
        let path = self.place.resolve(split);
        let object = format!("file '{}'", path.display());
        let (schema, arrival, on_error) = (Arc::clone(&self.schema), self.arrival, self.on_error);
        let columns = match self.format {
            Format::Parquet => {
                let file = parquet::ParquetFile { path, object, schema, arrival, on_error };
                return Ok(Box::new(file.open(offset)?));
            }
            Format::Json => text::Columns::Json,
            Format::Csv => self.csv.clone(),
        };
        let file = text::TextFile { path, object, schema, columns, arrival, on_error };
        Ok(Box::new(file.open(offset)?))
    }
}
