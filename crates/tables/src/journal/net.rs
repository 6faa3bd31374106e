//! What the rows of a delivery change in the end, epoch by epoch.
//!
//! Within an epoch a row that came as often as it went changes nothing; what is left comes in the
//! order of the view's key, and for one key what goes comes before what comes.

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use highwater_engine::Batch;
use highwater_engine::sink::{EPOCH, TIME};
use std::cmp::Ordering;
use std::sync::Arc;

type Result<T> = std::result::Result<T, ArrowError>;

/// The column of what a change does.
const OP: &str = "__op";
/// The columns of a log's rows that are not the view's.
const STAMPS: usize = 2;

/// Whether rows of a view can be compared.
pub(super) fn check(schema: &SchemaRef) -> Result<()> {
    converter(schema.fields().iter().map(|field| field.data_type())).map(|_| ())
}

fn converter<'a>(types: impl Iterator<Item = &'a DataType>) -> Result<RowConverter> {
    RowConverter::new(types.map(|data_type| SortField::new(data_type.clone())).collect())
}

fn encoded(columns: &[ArrayRef]) -> Result<Rows> {
    converter(columns.iter().map(|column| column.data_type()))?.convert_columns(columns)
}

/// The changes of a delivery's rows; none when they are nothing in the end. See
/// [`super::JournalSink::new`] for the key. No time is before `since`.
pub(super) fn changes(batches: &[Batch], key: Option<&[usize]>, since: i64) -> Result<Option<RecordBatch>> {
    let batches: Vec<&Batch> = batches.iter().filter(|batch| !batch.is_empty()).collect();
    let mut time = since;
    let mut all = Vec::new();
    for of_epoch in batches.chunk_by(|a, b| stamp(a, 2) == stamp(b, 2)) {
        time = time.max(stamp(of_epoch[0], 1));
        all.extend(epoch(of_epoch, key, time)?);
    }
    let Some(first) = all.first() else { return Ok(None) };
    concat_batches(&first.schema(), &all).map(Some)
}

/// The times of the first and of the last change.
pub(super) fn times(changes: &RecordBatch) -> (i64, i64) {
    let times = changes.column(changes.num_columns() - 1).as_primitive::<Int64Type>();
    (times.value(0), times.value(times.len() - 1))
}

/// A value that is the same in all rows of a batch, by the column's place from the end.
fn stamp(batch: &Batch, from_end: usize) -> i64 {
    batch.rows.column(batch.rows.num_columns() - from_end).as_primitive::<Int64Type>().value(0)
}

/// The changes of one epoch.
fn epoch(batches: &[&Batch], key: Option<&[usize]>, time: i64) -> Result<Option<RecordBatch>> {
    let fields = batches[0].rows.schema();
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let schema: SchemaRef = Arc::new(Schema::new(fields.fields().iter().map(nullable).collect::<Vec<FieldRef>>()));
    let rows = concat_batches(&schema, batches.iter().map(|batch| &batch.rows))?;
    let weights: Vec<i64> =
        batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| batch.weight(row))).collect();
    let columns = &rows.columns()[..rows.num_columns() - STAMPS];
    let (picked, ops) = net(columns, &weights, key)?;
    if picked.is_empty() {
        return Ok(None);
    }
    let taken = take_record_batch(&rows, &UInt32Array::from(picked))?;
    let mut fields = schema.fields()[..columns.len()].to_vec();
    let added = [(OP, DataType::Utf8), (EPOCH, DataType::Int64), (TIME, DataType::Int64)];
    fields.extend(added.map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))));
    let mut arrays = taken.columns()[..columns.len()].to_vec();
    arrays.push(Arc::new(StringArray::from(ops)));
    arrays.push(Arc::clone(taken.column(columns.len())));
    arrays.push(Arc::new(Int64Array::from_value(time, taken.num_rows())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map(Some)
}

/// The rows that are left, in order, and what each does.
fn net(columns: &[ArrayRef], weights: &[i64], key: Option<&[usize]>) -> Result<(Vec<u32>, Vec<&'static str>)> {
    let whole = encoded(columns)?;
    let of_key = |key: &[usize]| encoded(&key.iter().map(|at| Arc::clone(&columns[*at])).collect::<Vec<_>>());
    let keys = key.filter(|key| !key.is_empty()).map(of_key).transpose()?;
    let by_row = |a: u32, b: u32| whole.row(a as usize).cmp(&whole.row(b as usize));
    let by_key =
        |a: u32, b: u32| keys.as_ref().map_or(Ordering::Equal, |keys| keys.row(a as usize).cmp(&keys.row(b as usize)));
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_unstable_by(|a, b| by_key(*a, *b).then_with(|| by_row(*a, *b)));
    let mut sums: Vec<(u32, i64)> = Vec::with_capacity(order.len());
    for row in order {
        let weight = weights[row as usize];
        match sums.last_mut() {
            Some((same, sum)) if by_row(*same, row).is_eq() => *sum += weight,
            _ => sums.push((row, weight)),
        }
    }
    sums.retain(|(_, sum)| *sum != 0);
    let (mut picked, mut ops) = (Vec::new(), Vec::new());
    for group in sums.chunk_by(|a, b| by_key(a.0, b.0).is_eq()) {
        let updates = key.is_some() && group.iter().any(|(_, sum)| *sum < 0) && group.iter().any(|(_, sum)| *sum > 0);
        let [gone, come] = if updates { ["UpdateDelete", "UpdateInsert"] } else { ["Delete", "Insert"] };
        for (sign, op) in [(-1, gone), (1, come)] {
            for (row, sum) in group.iter().filter(|(_, sum)| sum.signum() == sign) {
                let times = usize::try_from(sum.unsigned_abs()).unwrap_or(usize::MAX);
                picked.extend(std::iter::repeat_n(*row, times));
                ops.extend(std::iter::repeat_n(op, times));
            }
        }
    }
    Ok((picked, ops))
}
