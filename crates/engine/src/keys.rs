//! How a row's key becomes what the state keeps: one 64-bit integer where it can, else row-format
//! bytes; and which worker owns it.
//!
//! Invariant: equal keys give equal forms on every worker and in every run. A null or a key of
//! several columns takes the bytes form, so a table of integers never needs a null.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StructArray,
    UInt32Array, UInt64Array, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::not;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Schema,
    UInt64Type,
};
use arrow::row::{RowConverter, SortField};
use highwater_core::KeyGroups;
use highwater_state::{hash_bytes, hash_u64s};
use std::sync::Arc;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pushers::exchange::Distributor;

use crate::wire::Flow;

/// Turns key columns into the form the state keeps, and back.
pub(crate) struct KeyCodec {
    types: Vec<DataType>,
    /// The key is one fixed-width column of at most 64 bits.
    narrow: bool,
    rows: RowConverter,
}

/// Nanoseconds of a day, and days of a month, where the lengths of intervals are compared.
const DAY: i128 = 86_400_000_000_000;
const MONTH: i128 = 30;

/// The interval of the same length with the most months, then days; its parts have one sign, so the order of
/// lengths is that of months, days and the rest.
fn longest_parts(interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let days = i128::from(interval.months) * MONTH + i128::from(interval.days);
    let length = days * DAY + i128::from(interval.nanoseconds);
    let months = length / (MONTH * DAY);
    let months = i32::try_from(months).unwrap_or(if months < 0 { i32::MIN } else { i32::MAX });
    IntervalMonthDayNano::new(months, (length / DAY % MONTH) as i32, (length % DAY) as i64)
}

/// Values that are equal in one form: the zeros and the NaNs of floating point, and intervals of one length, in
/// which a month has 30 days and a day 24 hours.
#[must_use]
pub fn one_form(key: &ArrayRef) -> ArrayRef {
    match key.data_type() {
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(key.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(key.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = key.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(intervals.unary::<_, IntervalMonthDayNanoType>(longest_parts))
        }
        DataType::List(field) if has_forms(field.data_type()) => {
            let list = key.as_list::<i32>();
            let (field, offsets) = (Arc::clone(field), list.offsets().clone());
            Arc::new(ListArray::new(field, offsets, one_form(list.values()), list.nulls().cloned()))
        }
        DataType::Struct(fields) if has_forms(key.data_type()) => {
            let whole = key.as_struct();
            let columns = whole.columns().iter().map(one_form).collect();
            Arc::new(StructArray::new(fields.clone(), columns, whole.nulls().cloned()))
        }
        _ => Arc::clone(key),
    }
}

/// Whether values of a type that are equal may differ.
#[must_use]
pub fn has_forms(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::List(of) => has_forms(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_forms(field.data_type())),
        _ => false,
    }
}

/// The name of the key column of a keyed batch, which is always its first.
pub(crate) const KEY: &str = "__key";

impl KeyCodec {
    /// # Errors
    /// `Plan` when a type cannot be a key.
    pub(crate) fn new(types: Vec<DataType>) -> Result<Self> {
        let narrow = types.len() == 1 && is_narrow(&types[0]);
        let fields = types.iter().cloned().map(SortField::new).collect();
        let rows = RowConverter::new(fields).map_err(|e| Error::Plan(format!("key: {e}")))?;
        Ok(Self { types, narrow, rows })
    }

    /// Whether keys without nulls take the integer form.
    pub(crate) const fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Keyed batches: the key column first (UInt64 or Binary), then `columns`. At most two: the
    /// rows in integer form and those that a null forces into bytes.
    ///
    /// # Errors
    /// Arrow's, which are broken invariants here.
    pub(crate) fn key(&self, keys: &[ArrayRef], columns: &[ArrayRef], source: &Batch) -> Result<Vec<Batch>> {
        let keys: Vec<ArrayRef> = keys.iter().map(one_form).collect();
        let wide = |keys: &[ArrayRef]| -> Result<ArrayRef> { self.wide(keys, source.len()) };
        if !self.narrow {
            return Ok(vec![keyed(wide(&keys)?, columns, source)?]);
        }
        let key = &keys[0];
        if key.null_count() == 0 {
            return Ok(vec![keyed(widen(key), columns, source)?]);
        }
        let valid = key.nulls().map_or_else(|| BooleanBuffer::new_set(key.len()), |n| n.inner().clone());
        let valid = BooleanArray::new(valid, None);
        let all = keyed(widen(key), columns, source)?.filter(&valid).map_err(broken)?;
        let nulls = keyed(wide(&keys)?, columns, source)?;
        let nulls = nulls.filter(&not(&valid).map_err(broken)?).map_err(broken)?;
        Ok([all, nulls].into_iter().filter(|batch| !batch.is_empty()).collect())
    }

    /// A keyed batch in bytes form, whatever the types, with `columns` beside the key.
    pub(crate) fn key_wide_with(&self, keys: &[ArrayRef], columns: &[ArrayRef], source: &Batch) -> Result<Batch> {
        let keys: Vec<ArrayRef> = keys.iter().map(one_form).collect();
        keyed(self.wide(&keys, source.len())?, columns, source)
    }

    /// A keyed batch in bytes form with nothing beside the key.
    pub(crate) fn key_wide(&self, keys: &[ArrayRef], source: &Batch) -> Result<Vec<Batch>> {
        Ok(vec![keyed(self.wide(keys, source.len())?, &[], source)?])
    }

    /// Keyed batches of keys alone, one entry a key.
    pub(crate) fn key_alone(&self, keys: &[ArrayRef]) -> Result<Vec<Batch>> {
        let rows = keys.first().map_or(1, Array::len);
        let none = record_batch(&Arc::new(Schema::empty()), Vec::new(), rows);
        self.key(keys, &[], &Batch::inserts(none.map_err(broken)?))
    }

    /// The bytes form, whatever the types.
    pub(crate) fn wide(&self, keys: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        if keys.is_empty() {
            return Ok(Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n([], rows))));
        }
        let rows = self.rows.convert_columns(keys).map_err(broken)?;
        Ok(Arc::new(rows.try_into_binary().map_err(broken)?))
    }

    /// The hashes of keys as [`hash_keys`] gives them for keyed batches of [`KeyCodec::key`], row by row.
    pub(crate) fn hashes(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let keys: Vec<ArrayRef> = keys.iter().map(one_form).collect();
        let mut hashes = Vec::new();
        if !self.narrow {
            hash_keys(self.wide(&keys, rows)?.as_ref(), &mut hashes);
            return Ok(hashes);
        }
        hash_keys(widen(&keys[0]).as_ref(), &mut hashes);
        if let Some(nulls) = keys[0].nulls().filter(|nulls| nulls.null_count() > 0) {
            let wide = self.wide(&keys, rows)?;
            let wide = wide.as_binary::<i32>();
            for row in (0..rows).filter(|row| nulls.is_null(*row)) {
                hashes[row] = hash_bytes(wide.value(row));
            }
        }
        Ok(hashes)
    }

    /// The key columns of integer-form keys.
    pub(crate) fn columns_of_integers(&self, keys: Vec<u64>) -> Result<Vec<ArrayRef>> {
        assert!(self.narrow, "only narrow keys have an integer form");
        Ok(vec![narrow(keys, &self.types[0])?])
    }

    /// The key columns of bytes-form keys.
    pub(crate) fn columns_of_bytes<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.types.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.rows.parser();
        self.rows.convert_rows(keys.map(|key| parser.parse(key))).map_err(broken)
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::data("key", error)
}

/// A batch of `columns` behind a key, with the weights of `source`.
pub(crate) fn keyed(key: ArrayRef, columns: &[ArrayRef], source: &Batch) -> Result<Batch> {
    let mut arrays = Vec::with_capacity(columns.len() + 1);
    arrays.push(key);
    arrays.extend_from_slice(columns);
    let fields: Vec<Field> = arrays
        .iter()
        .enumerate()
        .map(|(i, array)| {
            let name = if i == 0 { KEY.to_owned() } else { format!("a{i}") };
            Field::new(name, array.data_type().clone(), i > 0)
        })
        .collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(broken)?;
    Ok(Batch { rows, weights: source.weights.clone() })
}

/// Types whose values are at most 64 bits and whose equality is equality of bits.
fn is_narrow(data_type: &DataType) -> bool {
    use DataType::{Date32, Date64, Int16, Int32, Int64, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64};
    matches!(
        data_type,
        DataType::Int8
            | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | UInt64
            | Date32
            | Date64
            | Time32(_)
            | Time64(_)
            | Timestamp(_, _)
    )
}

/// The bits of a narrow column as 64-bit integers; 64-bit columns are shared, not copied.
fn widen(column: &ArrayRef) -> ArrayRef {
    let data = column.to_data();
    let (offset, length) = (data.offset(), data.len());
    let buffer = &data.buffers()[0];
    let values: Vec<u64> = match column.data_type().primitive_width() {
        Some(8) => {
            let values = arrow::buffer::ScalarBuffer::<u64>::new(buffer.clone(), offset, length);
            return Arc::new(UInt64Array::new(values, None));
        }
        Some(4) => buffer.typed_data::<u32>()[offset..offset + length].iter().map(|&v| u64::from(v)).collect(),
        Some(2) => buffer.typed_data::<u16>()[offset..offset + length].iter().map(|&v| u64::from(v)).collect(),
        _ => buffer.as_slice()[offset..offset + length].iter().map(|&v| u64::from(v)).collect(),
    };
    Arc::new(UInt64Array::from(values))
}

/// A narrow column from its bits.
fn narrow(bits: Vec<u64>, data_type: &DataType) -> Result<ArrayRef> {
    let length = bits.len();
    let buffer = match data_type.primitive_width() {
        Some(8) => Buffer::from_vec(bits),
        Some(4) => Buffer::from_vec(bits.into_iter().map(|v| v as u32).collect::<Vec<_>>()),
        Some(2) => Buffer::from_vec(bits.into_iter().map(|v| v as u16).collect::<Vec<_>>()),
        _ => Buffer::from_vec(bits.into_iter().map(|v| v as u8).collect::<Vec<_>>()),
    };
    let data = arrow::array::ArrayData::builder(data_type.clone()).len(length).add_buffer(buffer);
    Ok(make_array(data.build().map_err(broken)?))
}

/// The hashes of a keyed batch, into `out`.
pub(crate) fn hash_keys(key: &dyn Array, out: &mut Vec<u64>) {
    out.clear();
    if let Some(integers) = key.as_primitive_opt::<UInt64Type>() {
        hash_u64s(integers.values(), out);
    } else {
        let bytes = key.as_binary::<i32>();
        out.extend((0..bytes.len()).map(|i| hash_bytes(bytes.value(i))));
    }
}

/// Deals the rows of keyed batches to the workers that own their key groups.
pub(crate) struct ByKeyGroup {
    groups: KeyGroups,
    hashes: Vec<u64>,
    rows_of: Vec<Vec<u32>>,
}

impl ByKeyGroup {
    pub(crate) fn new(groups: KeyGroups, workers: usize) -> Self {
        Self { groups, hashes: Vec::new(), rows_of: vec![Vec::new(); workers] }
    }

    fn deal(&mut self, key: &dyn Array) {
        hash_keys(key, &mut self.hashes);
        let workers = self.rows_of.len();
        for rows in &mut self.rows_of {
            rows.clear();
        }
        if let [first, second] = self.rows_of.as_mut_slice() {
            deal_to_two(&self.hashes, first, second);
            return;
        }
        for (row, &hash) in self.hashes.iter().enumerate() {
            let worker = self.groups.worker_of(self.groups.of_hash(hash), workers);
            self.rows_of[worker].push(row as u32);
        }
    }
}

/// Two workers own the lower and the upper half of the groups: the hash's top bit decides, and both
/// lists are written for every row, so that there is no branch to mispredict.
fn deal_to_two(hashes: &[u64], first: &mut Vec<u32>, second: &mut Vec<u32>) {
    first.resize(hashes.len(), 0);
    second.resize(hashes.len(), 0);
    let (mut a, mut b) = (0, 0);
    for (row, &hash) in hashes.iter().enumerate() {
        let upper = (hash >> 63) as usize;
        first[a] = row as u32;
        second[b] = row as u32;
        a += 1 - upper;
        b += upper;
    }
    first.truncate(a);
    second.truncate(b);
}

impl Distributor<Flow> for ByKeyGroup {
    fn partition<T: Clone, P: Push<Message<T, Flow>>>(&mut self, flow: &mut Flow, time: &T, pushers: &mut [P]) {
        if let [only] = pushers {
            Message::push_at(flow, time.clone(), only);
            return;
        }
        let Some(batch) = flow.0.take() else { return };
        self.deal(batch.rows.column(0).as_ref());
        for (worker, pusher) in pushers.iter_mut().enumerate() {
            let rows = std::mem::take(&mut self.rows_of[worker]);
            if rows.is_empty() {
                continue;
            }
            let part = if rows.len() == batch.len() {
                batch.clone()
            } else {
                let indices = UInt32Array::from(rows);
                batch.take(&indices).expect("indices are within the batch")
            };
            Message::push_at(&mut Flow(Some(part)), time.clone(), pusher);
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Flow>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// Gives all batches to the first worker.
pub(crate) struct ToFirst;

impl Distributor<Flow> for ToFirst {
    fn partition<T: Clone, P: Push<Message<T, Flow>>>(&mut self, flow: &mut Flow, time: &T, pushers: &mut [P]) {
        Message::push_at(flow, time.clone(), &mut pushers[0]);
    }

    fn flush<T: Clone, P: Push<Message<T, Flow>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// Gives every worker one of the copies of its rows that a batch has, as [`Batch::repeated`] makes them.
pub(crate) struct ToAll;

impl Distributor<Flow> for ToAll {
    fn partition<T: Clone, P: Push<Message<T, Flow>>>(&mut self, flow: &mut Flow, time: &T, pushers: &mut [P]) {
        let Some(batch) = flow.0.take() else { return };
        let each = batch.len() / pushers.len();
        debug_assert_eq!(each * pushers.len(), batch.len(), "what is sent is what is received");
        for (at, pusher) in pushers.iter_mut().enumerate() {
            let copy = batch.slice(at * each..(at + 1) * each);
            Message::push_at(&mut Flow(Some(copy)), time.clone(), pusher);
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Flow>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// The values of an integer-form key column.
pub(crate) fn integers(key: &dyn Array) -> Option<&PrimitiveArray<UInt64Type>> {
    key.as_primitive_opt::<UInt64Type>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use highwater_state::hash_u64;
    use timely::Accountable as _;

    fn source(rows: usize) -> Batch {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![0; rows]));
        Batch::inserts(RecordBatch::try_from_iter([("x", column)]).expect("one column"))
    }

    #[test]
    fn a_narrow_key_returns_and_its_null_takes_the_bytes_form() {
        let codec = KeyCodec::new(vec![DataType::Int32]).expect("a key type");
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(-5), None, Some(7)]));
        let parts = codec.key(&[Arc::clone(&column)], &[], &source(3)).expect("keys");
        assert_eq!(parts.len(), 2);
        let bits = integers(parts[0].rows.column(0)).expect("integer form").values().to_vec();
        let back = codec.columns_of_integers(bits).expect("back");
        assert_eq!(back[0].as_ref(), &Int32Array::from(vec![-5, 7]) as &dyn Array);
        let bytes = parts[1].rows.column(0).as_binary::<i32>();
        let back = codec.columns_of_bytes(bytes.iter().flatten()).expect("back");
        assert_eq!(back[0].null_count(), 1);
    }

    #[test]
    fn floats_have_one_zero_and_one_nan() {
        let values: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(0.0), Some(-f64::NAN), None, Some(-1.5)]));
        let keys = one_form(&values);
        let bits = |at: usize| keys.as_primitive::<Float64Type>().value(at).to_bits();
        assert_eq!((bits(0), bits(1), bits(2)), (0, 0, f64::NAN.to_bits()));
        assert!(keys.is_null(3));
        assert_eq!(bits(4), (-1.5_f64).to_bits());
    }

    #[test]
    fn several_columns_return_from_bytes() {
        let codec = KeyCodec::new(vec![DataType::Utf8, DataType::Int32]).expect("key types");
        let a: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let b: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let parts = codec.key(&[Arc::clone(&a), Arc::clone(&b)], &[], &source(2)).expect("keys");
        let bytes = parts[0].rows.column(0).as_binary::<i32>();
        let back = codec.columns_of_bytes(bytes.iter().flatten()).expect("back");
        assert_eq!((&back[0], &back[1]), (&a, &b));
    }

    #[test]
    fn intervals_of_one_length_have_one_form_in_the_order_of_lengths() {
        let interval = IntervalMonthDayNano::new;
        for (one, other) in [
            (interval(0, 30, 0), interval(1, 0, 0)),
            (interval(0, 0, 86_400_000_000_000), interval(0, 1, 0)),
            (interval(1, -31, 0), interval(0, -1, 0)),
            (interval(0, 1, -1), interval(0, 0, 86_399_999_999_999)),
        ] {
            assert_eq!(longest_parts(one), longest_parts(other), "{one:?} and {other:?}");
        }
        let sorted = [interval(-1, -1, 0), interval(-1, 0, 0), interval(0, -29, 0), interval(0, 0, -1)];
        let sorted =
            sorted.into_iter().chain([interval(0, 0, 0), interval(0, 0, 1), interval(0, 29, 0), interval(1, 0, 0)]);
        let forms: Vec<_> = sorted.map(longest_parts).collect();
        assert!(forms.is_sorted(), "{forms:?}");
    }

    #[test]
    fn composite_values_return_from_bytes_and_equal_ones_have_one_form() {
        let rows = |numbers: Vec<Option<f64>>, valid: Vec<bool>| -> ArrayRef {
            let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"); numbers.len()]));
            let fields = [("n", DataType::Float64), ("t", DataType::Utf8)];
            let fields = fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(numbers)), texts];
            Arc::new(StructArray::new(fields, columns, Some(valid.into())))
        };
        let column = rows(vec![Some(1.5), None, Some(2.5), Some(-0.0)], vec![true, true, false, true]);
        let codec = KeyCodec::new(vec![column.data_type().clone()]).expect("a key type");
        let parts = codec.key(&[Arc::clone(&column)], &[], &source(4)).expect("keys");
        let bytes = parts[0].rows.column(0).as_binary::<i32>();
        let back = codec.columns_of_bytes(bytes.iter().flatten()).expect("back");
        assert_eq!(back[0].slice(0, 3).as_ref(), column.slice(0, 3).as_ref());
        assert_eq!(back[0].data_type(), column.data_type());
        assert!(back[0].as_struct().column(0).is_null(2), "no value has no fields");
        let zero = codec.key(&[rows(vec![Some(0.0)], vec![true])], &[], &source(1)).expect("keys");
        assert_eq!(zero[0].rows.column(0).as_binary::<i32>().value(0), bytes.value(3));
    }

    #[test]
    fn arrays_return_from_bytes_and_equal_ones_have_one_form() {
        let list = |rows: Vec<Option<Vec<Option<f64>>>>| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
        };
        let rows = vec![Some(vec![Some(1.5), None]), Some(Vec::new()), None, Some(vec![None]), Some(vec![Some(-0.0)])];
        let column = list(rows);
        let codec = KeyCodec::new(vec![column.data_type().clone()]).expect("a key type");
        let parts = codec.key(&[Arc::clone(&column)], &[], &source(5)).expect("keys");
        let bytes = parts[0].rows.column(0).as_binary::<i32>();
        let back = codec.columns_of_bytes(bytes.iter().flatten()).expect("back");
        assert_eq!(back[0].slice(0, 4).as_ref(), column.slice(0, 4).as_ref());
        assert_eq!(back[0].data_type(), column.data_type());
        let zero = codec.key(&[list(vec![Some(vec![Some(0.0)])])], &[], &source(1)).expect("keys");
        assert_eq!(bytes.value(4), zero[0].rows.column(0).as_binary::<i32>().value(0));
    }

    #[test]
    fn rows_are_dealt_to_the_owners_of_their_groups() {
        for workers in [2usize, 3] {
            let mut by_group = ByKeyGroup::new(KeyGroups::DEFAULT, workers);
            let keys = UInt64Array::from((0..1000).collect::<Vec<u64>>());
            by_group.deal(&keys);
            let dealt: usize = by_group.rows_of.iter().map(Vec::len).sum();
            assert_eq!(dealt, 1000);
            for (worker, rows) in by_group.rows_of.iter().enumerate() {
                for &row in rows {
                    let group = KeyGroups::DEFAULT.of_hash(hash_u64(keys.value(row as usize)));
                    assert_eq!(KeyGroups::DEFAULT.worker_of(group, workers), worker);
                }
            }
        }
    }

    /// The rows that a worker is sent.
    #[derive(Default)]
    struct Received(Vec<Batch>);

    impl Push<Message<u64, Flow>> for Received {
        fn push(&mut self, message: &mut Option<Message<u64, Flow>>) {
            self.0.extend(message.take().and_then(|message| message.data.0));
        }
    }

    #[test]
    fn all_workers_are_sent_the_rows_and_no_more_than_there_are() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        let rows = Batch::inserts(RecordBatch::try_from_iter([("x", column)]).expect("one column"));
        let mut copies = Flow(Some(rows.repeated(3).expect("copies")));
        let count = copies.record_count();
        let mut workers: [Received; 3] = Default::default();
        ToAll.partition(&mut copies, &0, &mut workers);
        let received: usize = workers.iter().flat_map(|worker| &worker.0).map(Batch::len).sum();
        assert_eq!(received as i64, count, "Timely counts both");
        for Received(batches) in workers {
            let [batch] = batches.as_slice() else { panic!("one batch") };
            assert_eq!(batch.rows, rows.rows);
        }
    }
}
