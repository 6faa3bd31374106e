//! The `file` source: NDJSON, CSV and Parquet files, one by one, by a pattern, or from a folder that
//! grows.
//!
//! Owns the options and the choice of reader. A split is a file; its offset is exact after every
//! batch: a byte for text, a row for Parquet. Where rows replace each other all files are one split,
//! which is read in the order of their names.

mod decode;
mod documents;
mod envelope;
mod given;
mod parquet;
mod place;
mod records;
mod sequence;
mod text;
mod values;

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;

use crate::connector::SourceRequest;
use crate::options::{Kind, OptionSpec, Settings};
use crate::shape::{Envelope, Metadata, Shape};
use crate::{FORMAT_OPTION, Format};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use decode::{Decoder, Layout};
use envelope::Changes;
use given::Given;
use highwater_engine::source::{Extent, Offset, Source, SplitReader};
use highwater_engine::{Error, Result};
use place::Place;
use records::Records;
use sequence::Sequence;
use std::sync::Arc;
use std::time::Duration;

/// The options of the `file` source.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("path", Kind::Text, "A file, a folder (with those within; names that begin with . or _ and other formats' endings are passed over), or a pattern with *, ? and **.").required(),
    FORMAT_OPTION,
    OptionSpec::new("file.watch", Kind::Boolean, "Never end: look for new files, and for complete lines that are appended. Put Parquet files in place by renaming them.").or("false"),
    OptionSpec::new("file.discovery.interval", Kind::Duration, "With file.watch, how often to look.").or("1s"),
    OptionSpec::new("on_error", Kind::Choice(&["fail", "skip", "dead_letter"]), "What to do with a row that does not fit the columns: fail, naming file, line and reason; leave it out and count it; or, for a table, also keep it in hw_catalog.dead_letters, the newest 10,000 of each file.").or("fail"),
    OptionSpec::new("csv.header", Kind::Boolean, "Whether each CSV file begins with the columns' names. Without them columns are taken by place.").or("true"),
    OptionSpec::new("csv.delimiter", Kind::Text, "The character between two values of a CSV file; \\t for a tab.").or(","),
];

/// What to do with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnError {
    Fail,
    Skip,
    /// Give it as a row of its own kind.
    Keep,
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

/// The split that all files are where they are read in order.
const ALL: &str = "all";

/// The source as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct FileSource {
    place: Place,
    format: Format,
    /// The columns that files hold.
    schema: SchemaRef,
    given: Arc<Given>,
    columns: text::Columns,
    arrival: Arrival,
    on_error: OnError,
    /// Whether rows replace each other, so that files are read one after the other.
    in_order: bool,
}

impl FileSource {
    pub(crate) fn new(asked: &SourceRequest<'_>) -> Result<Self> {
        let settings = asked.settings;
        let path = settings.text("path").expect("it is required");
        let place = Place::of(path)?;
        let format = Format::choose(asked.format, settings, path)?;
        let interval = settings.duration("file.discovery.interval").expect("it has a default");
        let arrival = if settings.flag("file.watch") { Arrival::Followed(interval) } else { Arrival::Complete };
        let files = place.list(format)?;
        if files.is_empty() && arrival == Arrival::Complete {
            let why = format!("there is no {} file; with file.watch = 'true' they may come later", format.name());
            return Err(settings.refuse("path", path, &why));
        }
        let declared = asked.columns.filter(|schema| !schema.fields().is_empty()).cloned();
        let schema = match (declared, format, files.first()) {
            (Some(schema), ..) => schema,
            (None, Format::Parquet, Some(first)) => parquet::columns_of(&place.resolve(first))?,
            (None, ..) => {
                let why = "declare the columns in CREATE SOURCE; only those of a Parquet file that exists can be found";
                return Err(Error::Plan(why.into()));
            }
        };
        check_types(&schema, format)?;
        let on_error = match settings.text("on_error") {
            Some("skip") => OnError::Skip,
            Some("dead_letter") => OnError::Keep,
            _ => OnError::Fail,
        };
        check_parquet(asked, format, on_error)?;
        let given = Arc::new(Given::new(&schema, &asked.shape, on_error == OnError::Keep)?);
        let columns = columns(asked, format, &schema)?;
        let in_order = !asked.shape.key.is_empty();
        Ok(Self { place, format, schema, given, columns, arrival, on_error, in_order })
    }

    /// Opens one file.
    fn open_file(&self, name: &str, arrival: Arrival, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let path = self.place.resolve(name);
        let object = format!("file '{}'", path.display());
        let (schema, on_error) = (Arc::clone(&self.schema), self.on_error);
        if self.format == Format::Parquet {
            let file = parquet::ParquetFile { path, object, schema, arrival, on_error };
            return Ok(Box::new(file.open(offset)?));
        }
        let (name, given, columns) = (name.to_owned(), Arc::clone(&self.given), self.columns.clone());
        let file = text::TextFile { path, name, object, schema, given, columns, arrival, on_error };
        Ok(Box::new(file.open(offset)?))
    }
}

/// The columns that the source gives of files with these ones.
///
/// # Errors
/// `Plan` when two columns have one name.
pub(crate) fn columns_given(values: &SchemaRef, shape: &Shape<'_>, keeps_errors: bool) -> Result<SchemaRef> {
    Ok(Given::new(values, shape, keeps_errors)?.schema)
}

/// How a text file's columns are found.
fn columns(asked: &SourceRequest<'_>, format: Format, schema: &SchemaRef) -> Result<text::Columns> {
    let shape = asked.shape;
    Ok(match (format, shape.envelope) {
        (Format::Json, Envelope::Plain) => text::Columns::Json,
        (Format::Json, envelope) => {
            let text = shape.included.iter().find(|included| included.what == Metadata::Key);
            let text = text.map(|included| included.name.as_str());
            text::Columns::Changes(Arc::new(Changes::new(envelope, schema, shape.key, text)))
        }
        (Format::Csv | Format::Parquet, Envelope::Plain) => {
            let settings = asked.settings;
            text::Columns::Csv { header: settings.flag("csv.header"), delimiter: delimiter(settings)? }
        }
        (_, envelope) => {
            return Err(Error::Plan(format!("FORMAT {} is for JSON files, not {}", envelope.name(), format.name())));
        }
    })
}

/// Refuses what only text files have.
fn check_parquet(asked: &SourceRequest<'_>, format: Format, on_error: OnError) -> Result<()> {
    if format != Format::Parquet {
        return Ok(());
    }
    if on_error == OnError::Keep {
        let why = "rows of Parquet files have no text that could be kept: use 'skip'";
        return Err(asked.settings.refuse("on_error", "dead_letter", why));
    }
    match asked.shape.included.first() {
        Some(included) => {
            Err(Error::Plan(format!("INCLUDE ... AS {} is for JSON and CSV files, not PARQUET", included.name)))
        }
        None => Ok(()),
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
    let refused = |field: &Field| {
        let (name, format) = (field.name(), format.name());
        let data_type = match field.data_type() {
            DataType::Struct(_) if documents::is_within(field) => "STRUCT with jsonb in it".to_owned(),
            DataType::Struct(_) => "STRUCT".to_owned(),
            other => other.to_string(),
        };
        Error::Plan(format!("column '{name}' of type {data_type} cannot be read from {format} files"))
    };
    for field in schema.fields() {
        if documents::is_within(field) {
            return Err(refused(field));
        }
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
            return Err(refused(field));
        }
    }
    Ok(())
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.given.schema)
    }

    fn splits(&self) -> Result<Vec<String>> {
        if self.in_order { Ok(vec![ALL.to_owned()]) } else { self.place.list(self.format) }
    }

    fn discovery(&self) -> Option<Duration> {
        match (self.arrival, &self.place) {
            (Arrival::Followed(interval), Place::Folder(_) | Place::Pattern { .. }) if !self.in_order => Some(interval),
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
        if self.in_order {
            return Ok(Box::new(Sequence::open(self.clone(), offset)?));
        }
        self.open_file(split, self.arrival, offset)
    }
}
