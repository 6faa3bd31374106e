//! Rows as bytes: a key that sorts as the primary key does, and a value with the other columns.
//!
//! Both are Arrow's row format. A table without a primary key has row numbers for keys, big-endian,
//! and all its columns in the value. The value of a row that was written when the table had got
//! columns begins with a byte that says how many; that row format has its columns one after another,
//! so what a row lacks is put behind it (docs/formats/table-store.md).

use crate::error::{Error, Result, TooMuch};
use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use highwater_engine::one_form;
use std::borrow::Cow;
use std::sync::Arc;

/// The first byte of values with so many added columns is this and their number; Arrow's own first
/// bytes are less.
const ADDED: u8 = 0x10;
/// As many columns can be added.
const MOST_ADDED: usize = 200;

/// Turns a table's rows into keys and values, and back.
#[derive(Debug)]
pub(crate) struct RowCodec {
    schema: SchemaRef,
    /// Columns of the key, in its order; empty for row numbers.
    key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    keys: RowConverter,
    values: RowConverter,
    /// What each column that was added later, which are the last ones, holds in older rows, encoded.
    added: Vec<Vec<u8>>,
}

impl RowCodec {
    pub(crate) fn new(schema: SchemaRef, key_columns: Vec<usize>, added: &[ArrayRef]) -> Result<Self> {
        let value_columns: Vec<usize> = (0..schema.fields().len()).filter(|at| !key_columns.contains(at)).collect();
        let converter = |columns: &[usize]| {
            let fields = columns.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
            RowConverter::new(fields).map_err(Error::corrupt)
        };
        let (keys, values) = (converter(&key_columns)?, converter(&value_columns)?);
        if added.len() > MOST_ADDED {
            return Err(TooMuch::Columns { most: MOST_ADDED }.into());
        }
        let added = added.iter().map(encoded).collect::<Result<_>>()?;
        Ok(Self { schema, key_columns, value_columns, keys, values, added })
    }

    pub(crate) const fn has_key(&self) -> bool {
        !self.key_columns.is_empty()
    }

    /// The keys of rows; of the key's columns alone when `columns` has just these.
    pub(crate) fn keys_of(&self, columns: &[ArrayRef]) -> Result<BinaryArray> {
        let keys: Vec<ArrayRef> = columns.iter().map(one_form).collect();
        bytes_of(&self.keys, &keys, columns.first().map_or(0, |column| column.len()))
    }

    /// The key columns of rows.
    pub(crate) fn key_columns_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key_columns.iter().map(|at| Arc::clone(rows.column(*at))).collect()
    }

    pub(crate) fn values_of(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        let values: Vec<ArrayRef> = self.value_columns.iter().map(|at| Arc::clone(rows.column(*at))).collect();
        let bytes = bytes_of(&self.values, &values, rows.num_rows())?;
        if self.added.is_empty() {
            return Ok(bytes);
        }
        let mut marked = BinaryBuilder::with_capacity(bytes.len(), bytes.value_data().len() + bytes.len());
        let mut value = Vec::new();
        for row in 0..bytes.len() {
            value.clear();
            value.push(ADDED + self.added.len() as u8);
            value.extend_from_slice(bytes.value(row));
            marked.append_value(&value);
        }
        Ok(marked.finish())
    }

    /// A value with all columns, whenever it was written.
    fn whole<'a>(&self, value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let (has, body) = match value.split_first() {
            Some((first, body)) if *first > ADDED => (usize::from(*first - ADDED), body),
            _ => (0, value),
        };
        match self.added.get(has..) {
            // It was written with columns that are newer than this.
            None => Err(Error::Altered),
            Some([]) => Ok(Cow::Borrowed(body)),
            Some(missing) => {
                Ok(Cow::Owned([body].into_iter().chain(missing.iter().map(Vec::as_slice)).flatten().copied().collect()))
            }
        }
    }

    /// Rows from keys and values of the same number.
    pub(crate) fn decode(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<RecordBatch> {
        let key_arrays = columns_of(&self.keys, &self.key_columns, keys)?;
        let whole = values.iter().map(|value| self.whole(value)).collect::<Result<Vec<_>>>()?;
        let whole: Vec<&[u8]> = whole.iter().map(AsRef::as_ref).collect();
        let value_arrays = columns_of(&self.values, &self.value_columns, &whole)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (at, array) in self.key_columns.iter().zip(key_arrays).chain(self.value_columns.iter().zip(value_arrays)) {
            columns[*at] = Some(array);
        }
        let columns = columns.into_iter().flatten().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::corrupt)
    }
}

/// One value of a column.
fn encoded(value: &ArrayRef) -> Result<Vec<u8>> {
    let converter = RowConverter::new(vec![SortField::new(value.data_type().clone())]).map_err(Error::corrupt)?;
    Ok(bytes_of(&converter, std::slice::from_ref(value), 1)?.value(0).to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    fn codec(columns: usize, added: &[ArrayRef]) -> RowCodec {
        let all = [
            Field::new("k", DataType::Int64, true),
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Int64, true),
            Field::new("c", DataType::Utf8, true),
        ];
        RowCodec::new(Arc::new(Schema::new(all[..columns].to_vec())), vec![0], added).expect("types of rows")
    }

    fn rows(codec: &RowCodec, key: i64) -> RecordBatch {
        let columns: [ArrayRef; 4] = [
            Arc::new(Int64Array::from(vec![key, key + 1])),
            Arc::new(StringArray::from(vec![Some("long enough for several blocks of the format, and so on"), None])),
            Arc::new(Int64Array::from(vec![None, Some(i64::MIN)])),
            Arc::new(StringArray::from(vec![Some(""), Some("x")])),
        ];
        let width = codec.schema.fields().len();
        RecordBatch::try_new(Arc::clone(&codec.schema), columns[..width].to_vec()).expect("the schema's columns")
    }

    /// Rows written with each number of added columns are all read with the most.
    fn check(base: usize, held: &[ArrayRef; 2]) {
        let codecs: Vec<RowCodec> = (0..=2).map(|added| codec(base + added, &held[..added])).collect();
        let batches: Vec<RecordBatch> = codecs.iter().zip([0, 10, 20]).map(|(codec, key)| rows(codec, key)).collect();
        let keys = |(codec, rows): (&RowCodec, &RecordBatch)| codec.keys_of(&codec.key_columns_of(rows)).expect("keys");
        let keys: Vec<BinaryArray> = codecs.iter().zip(&batches).map(keys).collect();
        let values = codecs.iter().zip(&batches).map(|(codec, rows)| codec.values_of(rows).expect("values"));
        let values: Vec<BinaryArray> = values.collect();
        let keys: Vec<&[u8]> = keys.iter().flatten().flatten().collect();
        let values: Vec<&[u8]> = values.iter().flatten().flatten().collect();
        let all = codecs[2].decode(&keys, &values).expect("decodes");
        for (age, written) in batches.iter().enumerate() {
            for column in 0..base + 2 {
                let read = all.column(column).slice(age * 2, 2);
                if column < written.num_columns() {
                    assert_eq!(&read, written.column(column), "{base} {age} {column}");
                } else {
                    let held = &held[column - base];
                    assert_eq!((&read.slice(0, 1), &read.slice(1, 1)), (held, held), "{base} {age} {column}");
                }
            }
        }
        assert!(matches!(codecs[0].decode(&keys, &values), Err(Error::Altered)), "newer columns are not understood");
    }

    #[test]
    fn rows_of_all_ages_have_all_columns() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["held"]));
        check(2, &[Arc::clone(&number), null]);
        check(1, &[text, number]);
    }
}
