//! Reads a Parquet file from a row group and row on.
//!
//! Invariant: the offset counts rows as the file has them, bad ones included; a file that does not go as far as
//! the offset is refused.

use super::{Arrival, OnError, documents};
use crate::conform::{Conform, cast_marking};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{filter, not, or};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_engine::source::{Offset, Polled, SplitReader};
use highwater_engine::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows decoded at a time.
const ROWS: usize = 8192;

/// What to read and how.
#[derive(Clone, Debug)]
pub(super) struct ParquetFile {
    pub(super) path: PathBuf,
    /// How messages call it.
    pub(super) object: String,
    pub(super) schema: SchemaRef,
    pub(super) arrival: Arrival,
    pub(super) on_error: OnError,
}

/// An open Parquet file.
pub(super) struct ParquetReader {
    from: ParquetFile,
    /// Absent until the file is complete.
    opened: Option<Opened>,
    group: usize,
    row: usize,
    /// Reads the current row group from the current row on.
    reader: Option<ParquetRecordBatchReader>,
    /// Read, but not yet given.
    rest: Option<RecordBatch>,
    skipped: u64,
}

struct Opened {
    file: File,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
}

/// The columns of a file, in types that the rest of the system works with.
pub(super) fn columns_of(path: &Path) -> Result<SchemaRef> {
    let object = format!("file '{}'", path.display());
    let file = File::open(path).map_err(|error| Error::connector(&object, error))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|error| Error::connector(&object, error))?;
    let plain = |data_type: &DataType| match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    let fields = metadata.schema().fields().iter();
    let fields: Vec<Field> = fields.map(|field| Field::new(field.name(), plain(field.data_type()), true)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

impl ParquetFile {
    /// # Errors
    /// `Data` when the offset is not one of a Parquet file.
    pub(super) fn open(self, offset: Option<&Offset>) -> Result<ParquetReader> {
        let (group, row) = match offset {
            None => (0, 0),
            Some(offset) => {
                let field = |name: &str| offset.get(name).and_then(Offset::as_u64);
                let (group, row) = field("group")
                    .zip(field("row"))
                    .ok_or_else(|| Error::data(&self.object, format!("{offset} is not an offset of a Parquet file")))?;
                (group as usize, row as usize)
            }
        };
        Ok(ParquetReader { from: self, opened: None, group, row, reader: None, rest: None, skipped: 0 })
    }
}

impl ParquetReader {
    fn connector(&self, error: impl std::fmt::Display) -> Error {
        Error::connector(&self.from.object, error)
    }

    /// Opens the file; what to answer instead when it is gone or not yet complete.
    fn ensure_opened(&mut self) -> Result<Option<Polled>> {
        if self.opened.is_some() {
            return Ok(None);
        }
        let file = match (File::open(&self.from.path), self.from.arrival) {
            (Ok(file), _) => file,
            (Err(error), Arrival::Followed(_)) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(file = self.from.object, "the file was removed; taken as ended");
                return Ok(Some(Polled::End));
            }
            (Err(error), _) => return Err(self.connector(error)),
        };
        let metadata = match (ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()), self.from.arrival) {
            (Ok(metadata), _) => metadata,
            (Err(error), Arrival::Followed(interval)) => {
                tracing::warn!(file = self.from.object, %error, "the file is not complete; looking again later");
                return Ok(Some(Polled::Idle(interval)));
            }
            (Err(error), Arrival::Complete) => return Err(self.connector(error)),
        };
        self.check_holds(metadata.metadata())?;
        let conform = Conform::new(&self.from.object, metadata.schema(), Some(Arc::clone(&self.from.schema)));
        let places = conform.map_err(|error| Error::data(&self.from.object, error))?.places;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), places);
        self.opened = Some(Opened { file, metadata, mask });
        Ok(None)
    }

    /// Refuses a file that ends before the place where reading goes on.
    fn check_holds(&self, metadata: &ParquetMetaData) -> Result<()> {
        let groups = metadata.num_row_groups();
        let rows = if self.group < groups { metadata.row_group(self.group).num_rows() } else { 0 };
        if self.group <= groups && i64::try_from(self.row).is_ok_and(|row| row <= rows) {
            return Ok(());
        }
        let (group, row) = (self.group, self.row);
        let place = format!("row {row} of row group {group}");
        Err(self.connector(format!("it ends before {place}, up to which it was read before: replaced?")))
    }

    /// The next rows as the file has them; `None` at its end.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(rest) = self.rest.take() {
                return Ok(Some(rest));
            }
            if self.reader.is_none() {
                self.reader = self.open_group()?;
            }
            match self.reader.as_mut().map(Iterator::next) {
                None => return Ok(None),
                Some(None) => {
                    (self.group, self.row, self.reader) = (self.group + 1, 0, None);
                }
                Some(Some(rows)) => {
                    let rows = rows.map_err(|error| self.connector(error))?;
                    self.rest = Some(rows).filter(|rows| rows.num_rows() > 0);
                }
            }
        }
    }

    fn open_group(&self) -> Result<Option<ParquetRecordBatchReader>> {
        let opened = self.opened.as_ref().expect("opened before rows are asked for");
        let groups = opened.metadata.metadata().num_row_groups();
        if self.group >= groups {
            return Ok(None);
        }
        let file = opened.file.try_clone().map_err(|error| self.connector(error))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, opened.metadata.clone())
            .with_row_groups(vec![self.group])
            .with_projection(opened.mask.clone())
            .with_batch_size(ROWS)
            .with_offset(self.row);
        builder.build().map(Some).map_err(|error| self.connector(error))
    }

    /// The declared columns of some rows, without those that hold a value which does not fit.
    fn conform(&mut self, rows: &RecordBatch, first: usize) -> Result<RecordBatch> {
        let data = |error: arrow::error::ArrowError| Error::data(&self.from.object, error);
        let mut bad: Option<BooleanArray> = None;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.from.schema.fields().len());
        let places = Conform::new(&self.from.object, &rows.schema(), Some(Arc::clone(&self.from.schema)))?.places;
        for (field, place) in self.from.schema.fields().iter().zip(places) {
            let (column, lost) = if documents::is_document(field) {
                documents::from_texts(rows.column(place)).map_err(data)?
            } else {
                cast_marking(rows.column(place), field.data_type()).map_err(data)?
            };
            if let (Some(lost), OnError::Fail) = (&lost, self.from.on_error) {
                let row = first + lost.values().set_indices().next().unwrap_or(0);
                let reason = format!("row {row} of row group {}: '{}' does not fit its type", self.group, field.name());
                return Err(Error::data(&self.from.object, reason));
            }
            bad = match (bad, lost) {
                (Some(bad), Some(lost)) => Some(or(&bad, &lost).map_err(data)?),
                (bad, lost) => bad.or(lost),
            };
            columns.push(column);
        }
        let skipped = bad.as_ref().map_or(0, BooleanArray::true_count);
        if let Some(bad) = bad {
            let good = not(&bad).map_err(data)?;
            let kept = columns.iter().map(|column| filter(column, &good));
            columns = kept.collect::<Result<_, _>>().map_err(data)?;
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.from.schema), columns).map_err(data)?;
        self.skipped += skipped as u64;
        Ok(rows)
    }
}

impl SplitReader for ParquetReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        if let Some(answer) = self.ensure_opened()? {
            return Ok(answer);
        }
        let Some(rows) = self.next_rows()? else { return Ok(Polled::End) };
        let take = rows.num_rows().min(max_rows.max(1));
        let given = self.conform(&rows.slice(0, take), self.row);
        let kept = if given.is_ok() { take } else { 0 };
        self.row += kept;
        self.rest = (kept < rows.num_rows()).then(|| rows.slice(kept, rows.num_rows() - kept));
        let given = given?;
        Ok(if given.num_rows() > 0 { Polled::Rows(given) } else { Polled::Idle(std::time::Duration::ZERO) })
    }

    fn offset(&self) -> Offset {
        json!({ "group": self.group, "row": self.row })
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}
