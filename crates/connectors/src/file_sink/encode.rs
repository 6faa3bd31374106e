//! Rows with weights as the bytes of one file.

use super::Changes;
use super::values::{Values, for_csv};
use crate::Format;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::{csv, json};
use highwater_engine::Batch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// The column that tells inserts from deletes in a changelog.
pub(super) const OP_COLUMN: &str = "__op";

/// What a file is to look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub(super) format: Format,
    pub(super) changes: Changes,
    pub(super) compression: Compression,
}

/// A Parquet compression by the name in the option.
pub(super) fn compression(name: &str) -> Compression {
    match name {
        "none" => Compression::UNCOMPRESSED,
        "snappy" => Compression::SNAPPY,
        "lz4" => Compression::LZ4_RAW,
        _ => Compression::ZSTD(ZstdLevel::default()),
    }
}

impl Encoding {
    /// The columns of the file.
    pub(super) fn schema(&self, rows: &SchemaRef) -> SchemaRef {
        if self.changes != Changes::Changelog {
            return Arc::clone(rows);
        }
        let mut fields = rows.fields().to_vec();
        fields.push(Arc::new(Field::new(OP_COLUMN, DataType::Utf8, false)));
        Arc::new(Schema::new(fields))
    }

    /// Each row as often as its weight says; not for what is written by key.
    ///
    /// # Errors
    /// A reason, when a delete has no place in the file.
    pub(super) fn expand(&self, batch: &Batch) -> Result<RecordBatch, String> {
        let mut indices: Vec<u32> = Vec::with_capacity(batch.len());
        let mut ops: Vec<&str> = Vec::new();
        for row in 0..batch.len() {
            let weight = batch.weight(row);
            match self.changes {
                Changes::AppendOnly if weight < 0 => return Err("a delete came to an append-only sink".into()),
                Changes::InsertsOnly if weight < 0 => continue,
                Changes::AppendOnly | Changes::InsertsOnly => {}
                Changes::Upsert | Changes::Debezium => unreachable!("these are written by key"),
                Changes::Changelog => {
                    let op = if weight < 0 { "D" } else { "I" };
                    ops.extend(std::iter::repeat_n(op, weight.unsigned_abs() as usize));
                }
            }
            indices.extend(std::iter::repeat_n(row as u32, weight.unsigned_abs() as usize));
        }
        let in_place = indices.iter().enumerate().all(|(place, row)| place as u32 == *row);
        let rows = match in_place && indices.len() == batch.len() {
            true => batch.rows.clone(),
            false => take_record_batch(&batch.rows, &UInt32Array::from(indices)).map_err(|error| error.to_string())?,
        };
        if self.changes != Changes::Changelog {
            return Ok(rows);
        }
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(StringArray::from(ops)) as ArrayRef);
        RecordBatch::try_new(self.schema(&rows.schema()), columns).map_err(|error| error.to_string())
    }

    /// Writes a whole file of rows that were expanded.
    ///
    /// # Errors
    /// The writer's reason.
    pub(super) fn write(&self, schema: &SchemaRef, rows: &[RecordBatch], out: impl Write + Send) -> Result<(), String> {
        match self.format {
            Format::Json => write_json(rows, out).map_err(|error| error.to_string()),
            Format::Csv => write_csv(schema, rows, out).map_err(|error| error.to_string()),
            Format::Parquet => self.write_parquet(schema, rows, out).map_err(|error| error.to_string()),
        }
    }

    fn write_parquet(
        &self,
        schema: &SchemaRef,
        rows: &[RecordBatch],
        out: impl Write + Send,
    ) -> parquet::errors::Result<()> {
        let properties = WriterProperties::builder().set_compression(self.compression).build();
        let mut writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))?;
        for rows in rows {
            writer.write(rows)?;
        }
        writer.close().map(|_| ())
    }
}

fn write_json(rows: &[RecordBatch], out: impl Write) -> Result<(), arrow::error::ArrowError> {
    let builder = json::WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Values));
    let mut writer = builder.build::<_, json::writer::LineDelimited>(out);
    for rows in rows {
        writer.write(rows)?;
    }
    writer.finish()
}

/// The first batch of all brings the header.
fn write_csv(schema: &SchemaRef, rows: &[RecordBatch], out: impl Write) -> Result<(), arrow::error::ArrowError> {
    let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
    writer.write(&RecordBatch::new_empty(Arc::clone(schema)))?;
    rows.iter().try_for_each(|rows| writer.write(&for_csv(rows)?))
}
