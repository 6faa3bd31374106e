//! Rows as bytes: a key that sorts as the primary key does, and a value with the other columns.
//!
//! Both are Arrow's row format. A table without a primary key has row numbers for keys, big-endian,
//! and all its columns in the value.

use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use std::sync::Arc;

/// Turns a table's rows into keys and values, and back.
#[derive(Debug)]
pub(crate) struct RowCodec {
    schema: SchemaRef,
    /// Columns of the key, in its order; empty for row numbers.
    key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    keys: RowConverter,
    values: RowConverter,
}

impl RowCodec {
    pub(crate) fn new(schema: SchemaRef, key_columns: Vec<usize>) -> Result<Self> {
        let value_columns: Vec<usize> = (0..schema.fields().len()).filter(|at| !key_columns.contains(at)).collect();
        let converter = |columns: &[usize]| {
            let fields = columns.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
            RowConverter::new(fields).map_err(Error::corrupt)
        };
        let (keys, values) = (converter(&key_columns)?, converter(&value_columns)?);
        Ok(Self { schema, key_columns, value_columns, keys, values })
    }

    pub(crate) const fn has_key(&self) -> bool {
        !self.key_columns.is_empty()
    }

    /// The keys of rows; of the key's columns alone when `columns` has just these.
    pub(crate) fn keys_of(&self, columns: &[ArrayRef]) -> Result<BinaryArray> {
        let keys: Vec<ArrayRef> = columns.iter().map(one_zero).collect();
        bytes_of(&self.keys, &keys, columns.first().map_or(0, |column| column.len()))
    }

    /// The key columns of rows.
    pub(crate) fn key_columns_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key_columns.iter().map(|at| Arc::clone(rows.column(*at))).collect()
    }

    pub(crate) fn values_of(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        let values: Vec<ArrayRef> = self.value_columns.iter().map(|at| Arc::clone(rows.column(*at))).collect();
        bytes_of(&self.values, &values, rows.num_rows())
    }

    /// Rows from keys and values of the same number.
    pub(crate) fn decode(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<RecordBatch> {
        let key_arrays = columns_of(&self.keys, &self.key_columns, keys)?;
        let value_arrays = columns_of(&self.values, &self.value_columns, values)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (at, array) in self.key_columns.iter().zip(key_arrays).chain(self.value_columns.iter().zip(value_arrays)) {
            columns[*at] = Some(array);
        }
        let columns = columns.into_iter().flatten().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::corrupt)
    }
}

fn bytes_of(converter: &RowConverter, columns: &[ArrayRef], rows: usize) -> Result<BinaryArray> {
    if columns.is_empty() {
        return Ok(BinaryArray::from_iter_values(std::iter::repeat_n([], rows)));
    }
    let rows = converter.convert_columns(columns).map_err(Error::corrupt)?;
    rows.try_into_binary().map_err(Error::corrupt)
}

fn columns_of(converter: &RowConverter, columns: &[usize], rows: &[&[u8]]) -> Result<Vec<ArrayRef>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let parser = converter.parser();
    converter.convert_rows(rows.iter().map(|row| parser.parse(row))).map_err(Error::corrupt)
}

/// Zeros and NaNs that are equal have one form in keys.
fn one_zero(key: &ArrayRef) -> ArrayRef {
    match key.data_type() {
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(key.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(key.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::List(field) if field.data_type().is_floating() => {
            let list = key.as_list::<i32>();
            let (field, offsets) = (Arc::clone(field), list.offsets().clone());
            Arc::new(ListArray::new(field, offsets, one_zero(list.values()), list.nulls().cloned()))
        }
        _ => Arc::clone(key),
    }
}
