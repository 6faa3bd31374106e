//! What the functions over arrays compute, a column at a time.
//!
//! Arguments have the types that `function` has brought them to: elements and single values are of
//! one type, numbers of elements are bigint. Invariant: PostgreSQL's nulls, and elements that are
//! null are equal to each other wherever PostgreSQL finds them by `IS NOT DISTINCT FROM`.

use crate::bounded;
use crate::error::DataError;
use crate::series;
use crate::spelling::element_texts;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray, StringBuilder, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{concat, take};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::Operator;
use highwater_engine::one_form;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

type Result<T, E = ArrowError> = std::result::Result<T, E>;

/// The places of an array's elements among all elements.
fn elements_of(arrays: &ListArray, row: usize) -> Range<usize> {
    let offsets = arrays.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn length_of(arrays: &ListArray, row: usize) -> i32 {
    arrays.value_length(row)
}

/// Refuses what takes too much memory.
fn check(bytes: i64) -> Result<()> {
    bounded::check("a function of arrays", bytes).map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

/// The same for values, some of them again and again.
fn check_taken(values: &dyn Array, places: impl Iterator<Item = usize>) -> Result<()> {
    match bounded::lengths(values).map_err(|error| ArrowError::ExternalError(Box::new(error)))? {
        Some(lengths) => check(places.fold(0, |sum: i64, at| sum.saturating_add(lengths.value(at)))),
        None => Ok(()),
    }
}

/// Arrays made of elements of others.
#[derive(Default)]
struct Made {
    indices: Vec<u64>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Made {
    fn push(&mut self, elements: impl IntoIterator<Item = usize>) {
        let before = self.indices.len();
        self.indices.extend(elements.into_iter().map(|at| at as u64));
        self.lengths.push(self.indices.len() - before);
        self.valid.push(true);
    }

    fn push_null(&mut self) {
        self.lengths.push(0);
        self.valid.push(false);
    }

    fn finish(self, elements: &dyn Array) -> Result<ArrayRef> {
        check_taken(elements, self.indices.iter().map(|at| *at as usize))?;
        let values = take(elements, &UInt64Array::from(self.indices), None)?;
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(self.lengths), values, nulls)?))
    }
}

/// `array[place]`
pub(super) fn element(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (arrays, places) = (args[0].as_list::<i32>(), args[1].as_primitive::<Int64Type>());
    let at = |row: usize| {
        let place = (arrays.is_valid(row) && places.is_valid(row)).then(|| places.value(row))?;
        let elements = elements_of(arrays, row);
        (1..=elements.len() as i64).contains(&place).then(|| elements.start as u64 + (place - 1) as u64)
    };
    let indices: UInt64Array = (0..arrays.len()).map(at).collect();
    take(arrays.values(), &indices, None)
}

/// `array[first:last]`
pub(super) fn slice(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [firsts, lasts] = [&args[1], &args[2]].map(|bound| bound.as_primitive::<Int64Type>());
    let arrays = args[0].as_list::<i32>();
    let mut made = Made::default();
    for row in 0..arrays.len() {
        if arrays.is_null(row) || firsts.is_null(row) || lasts.is_null(row) {
            made.push_null();
            continue;
        }
        let elements = elements_of(arrays, row);
        let first = firsts.value(row).max(1) - 1;
        let last = lasts.value(row).min(elements.len() as i64);
        made.push(elements.start + first as usize..elements.start + last.max(first) as usize);
    }
    made.finish(arrays.values())
}

/// `array_length(array, dimension)`, which is `array_upper` where arrays begin at 1.
pub(super) fn length(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (arrays, dimensions) = (args[0].as_list::<i32>(), args[1].as_primitive::<Int64Type>());
    let is_first = |row: usize| dimensions.is_valid(row) && dimensions.value(row) == 1;
    let length = |row: usize| {
        let length = (arrays.is_valid(row) && is_first(row)).then(|| length_of(arrays, row))?;
        (length > 0).then_some(length)
    };
    Ok(Arc::new((0..arrays.len()).map(length).collect::<Int32Array>()))
}

/// `array_lower(array, dimension)`
pub(super) fn lower(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lengths = length(args)?;
    let lengths = lengths.as_primitive::<Int32Type>();
    Ok(Arc::new(lengths.iter().map(|length| length.map(|_| 1_i32)).collect::<Int32Array>()))
}

/// `array_dims(array)`
pub(super) fn dimensions(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let text = |row: usize| {
        let length = arrays.is_valid(row).then(|| length_of(arrays, row))?;
        (length > 0).then(|| format!("[1:{length}]"))
    };
    Ok(Arc::new((0..arrays.len()).map(text).collect::<StringArray>()))
}

/// `array_ndims(array)`
pub(super) fn dimension_count(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let count = |row: usize| (arrays.is_valid(row) && length_of(arrays, row) > 0).then_some(1_i32);
    Ok(Arc::new((0..arrays.len()).map(count).collect::<Int32Array>()))
}

/// `cardinality(array)`
pub(super) fn cardinality(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let count = |row: usize| arrays.is_valid(row).then(|| length_of(arrays, row));
    Ok(Arc::new((0..arrays.len()).map(count).collect::<Int32Array>()))
}

/// `array_append(array, element)`; a null array is an empty one.
pub(super) fn append(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let elements = concat(&[arrays.values().as_ref(), args[1].as_ref()])?;
    let mut made = Made::default();
    for row in 0..arrays.len() {
        let own = if arrays.is_valid(row) { elements_of(arrays, row) } else { 0..0 };
        made.push(own.chain([arrays.values().len() + row]));
    }
    made.finish(&elements)
}

/// `array_prepend(element, array)`
pub(super) fn prepend(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[1].as_list::<i32>();
    let elements = concat(&[arrays.values().as_ref(), args[0].as_ref()])?;
    let mut made = Made::default();
    for row in 0..arrays.len() {
        let own = if arrays.is_valid(row) { elements_of(arrays, row) } else { 0..0 };
        made.push([arrays.values().len() + row].into_iter().chain(own));
    }
    made.finish(&elements)
}

/// `array_cat(array, array)`; a null one is left out.
pub(super) fn joined(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [left, right] = [&args[0], &args[1]].map(|array| array.as_list::<i32>());
    let elements = concat(&[left.values().as_ref(), right.values().as_ref()])?;
    let shift = left.values().len();
    let mut made = Made::default();
    for row in 0..left.len() {
        if left.is_null(row) && right.is_null(row) {
            made.push_null();
            continue;
        }
        let first = if left.is_valid(row) { elements_of(left, row) } else { 0..0 };
        let second = if right.is_valid(row) { elements_of(right, row) } else { 0..0 };
        made.push(first.chain(second.start + shift..second.end + shift));
    }
    made.finish(&elements)
}

/// The elements of all arrays, and for each of them the value that stands in its array's row, in the form in which
/// equal ones are compared.
fn beside(arrays: &ListArray, values: &ArrayRef) -> Result<(ArrayRef, ArrayRef, usize)> {
    let offsets = arrays.value_offsets();
    let (start, end) = (offsets[0] as usize, offsets[arrays.len()] as usize);
    let rows = (0..arrays.len()).flat_map(|row| std::iter::repeat_n(row as u64, elements_of(arrays, row).len()));
    let rows: Vec<u64> = rows.collect();
    check_taken(values, rows.iter().map(|row| *row as usize))?;
    let values = take(values, &UInt64Array::from(rows), None)?;
    Ok((one_form(&arrays.values().slice(start, end - start)), one_form(&values), start))
}

/// `array_position(array, element [, from])`
pub(super) fn position(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let from = args.get(2).map(|from| from.as_primitive::<Int64Type>());
    let (elements, wanted, start) = beside(arrays, &args[1])?;
    let same = cmp::not_distinct(&elements, &wanted)?;
    let place = |row: usize| {
        let first = match from {
            Some(from) => from.is_valid(row).then(|| from.value(row).max(1) as usize - 1)?,
            None => 0,
        };
        let all = arrays.is_valid(row).then(|| elements_of(arrays, row))?;
        let found = all.clone().skip(first).find(|at| same.value(at - start))?;
        Some((found - all.start) as i32 + 1)
    };
    Ok(Arc::new((0..arrays.len()).map(place).collect::<Int32Array>()))
}

/// `array_positions(array, element)`
pub(super) fn positions(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let (elements, wanted, start) = beside(arrays, &args[1])?;
    let same = cmp::not_distinct(&elements, &wanted)?;
    let longest = (0..arrays.len()).map(|row| length_of(arrays, row)).max().unwrap_or(0);
    let places = Int32Array::from_iter_values(1..=longest);
    let mut made = Made::default();
    for row in 0..arrays.len() {
        if arrays.is_null(row) {
            made.push_null();
            continue;
        }
        let all = elements_of(arrays, row);
        made.push(all.clone().filter(|at| same.value(at - start)).map(|at| at - all.start));
    }
    made.finish(&places)
}

/// `array_remove(array, element)`: all elements that are the same.
pub(super) fn remove(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let (elements, unwanted, start) = beside(arrays, &args[1])?;
    let same = cmp::not_distinct(&elements, &unwanted)?;
    let mut made = Made::default();
    for row in 0..arrays.len() {
        match arrays.is_valid(row) {
            true => made.push(elements_of(arrays, row).filter(|at| !same.value(at - start))),
            false => made.push_null(),
        }
    }
    made.finish(arrays.values())
}

/// `array_replace(array, from, to)`
pub(super) fn replace(args: &[ArrayRef]) -> Result<ArrayRef> {
    let arrays = args[0].as_list::<i32>();
    let (elements, from, start) = beside(arrays, &args[1])?;
    let same = cmp::not_distinct(&elements, &from)?;
    let shift = arrays.values().len();
    let all = concat(&[arrays.values().as_ref(), args[2].as_ref()])?;
    let mut made = Made::default();
    for row in 0..arrays.len() {
        match arrays.is_valid(row) {
            true => {
                let replaced = |at: usize| if same.value(at - start) { shift + row } else { at };
                made.push(elements_of(arrays, row).map(replaced));
            }
            false => made.push_null(),
        }
    }
    made.finish(&all)
}

/// `value operator ANY (array)`, and with `all` `value operator ALL (array)`.
pub(super) fn compared(args: &[ArrayRef], operator: Operator, all: bool) -> Result<ArrayRef> {
    let arrays = args[1].as_list::<i32>();
    let (elements, values, start) = beside(arrays, &args[0])?;
    let compared = match operator {
        Operator::Eq => cmp::eq(&values, &elements),
        Operator::NotEq => cmp::neq(&values, &elements),
        Operator::Lt => cmp::lt(&values, &elements),
        Operator::LtEq => cmp::lt_eq(&values, &elements),
        Operator::Gt => cmp::gt(&values, &elements),
        Operator::GtEq => cmp::gt_eq(&values, &elements),
        other => Err(ArrowError::NotYetImplemented(format!("{other} with ANY and ALL of an array"))),
    }?;
    let decides = |at: usize| compared.is_valid(at) && compared.value(at) != all;
    let result = |row: usize| {
        let elements = arrays.is_valid(row).then(|| elements_of(arrays, row))?;
        let mut places = elements.map(|at| at - start);
        if places.clone().any(decides) {
            return Some(!all);
        }
        let is_open = places.any(|at| compared.is_null(at));
        (!is_open).then_some(all)
    };
    Ok(Arc::new((0..arrays.len()).map(result).collect::<BooleanArray>()))
}

/// Whether all right elements, or any of them, are among the left ones; a null is equal to nothing.
fn found(args: &[ArrayRef], all: bool) -> Result<ArrayRef> {
    let [left, right] = [&args[0], &args[1]].map(|array| array.as_list::<i32>());
    let converter = RowConverter::new(vec![SortField::new(left.value_type())])?;
    let left_rows = converter.convert_columns(&[one_form(left.values())])?;
    let right_rows = converter.convert_columns(&[one_form(right.values())])?;
    let result = |row: usize| {
        if left.is_null(row) || right.is_null(row) {
            return None;
        }
        let own = elements_of(left, row).filter(|at| left.values().is_valid(*at));
        let own: HashSet<&[u8]> = own.map(|at| left_rows.row(at).data()).collect();
        let is_there = |at: usize| right.values().is_valid(at) && own.contains(right_rows.row(at).data());
        let mut others = elements_of(right, row);
        Some(if all { others.all(is_there) } else { others.any(is_there) })
    };
    Ok(Arc::new((0..left.len()).map(result).collect::<BooleanArray>()))
}

/// `array @> array`
pub(super) fn contains(args: &[ArrayRef]) -> Result<ArrayRef> {
    found(args, true)
}

/// `array && array`
pub(super) fn overlaps(args: &[ArrayRef]) -> Result<ArrayRef> {
    found(args, false)
}

/// `array_to_string(array, delimiter [, null])`
pub(super) fn to_string(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (arrays, delimiters) = (args[0].as_list::<i32>(), args[1].as_string::<i32>());
    let null_text = args.get(2).map(|text| text.as_string::<i32>());
    let elements = element_texts(arrays.values())?;
    let added = |row: usize| {
        let each = [Some(delimiters), null_text].into_iter().flatten().map(|texts| i64::from(texts.value_length(row)));
        i64::from(length_of(arrays, row)).saturating_mul(each.sum())
    };
    check((0..arrays.len()).map(added).fold(elements.value_data().len() as i64, i64::saturating_add))?;
    let text = |row: usize| {
        if arrays.is_null(row) || delimiters.is_null(row) {
            return None;
        }
        let null_text = null_text.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
        let shown = |at: usize| if elements.is_valid(at) { Some(elements.value(at)) } else { null_text };
        let shown: Vec<&str> = elements_of(arrays, row).filter_map(shown).collect();
        Some(shown.join(delimiters.value(row)))
    };
    Ok(Arc::new((0..arrays.len()).map(text).collect::<StringArray>()))
}

/// `string_to_array(text, delimiter [, null])`: without a delimiter, the single characters.
pub(super) fn from_string(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, delimiters] = [&args[0], &args[1]].map(|texts| texts.as_string::<i32>());
    let null_text = args.get(2).map(|text| text.as_string::<i32>());
    let mut elements = StringBuilder::new();
    let mut made = Made::default();
    let mut count = 0;
    for row in 0..texts.len() {
        if texts.is_null(row) {
            made.push_null();
            continue;
        }
        let text = texts.value(row);
        let parts: Vec<&str> = match delimiters.is_valid(row).then(|| delimiters.value(row)) {
            _ if text.is_empty() => Vec::new(),
            None => text.split_inclusive(|_: char| true).collect(),
            Some("") => vec![text],
            Some(delimiter) => text.split(delimiter).collect(),
        };
        let null_text = null_text.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
        for part in &parts {
            elements.append_option(Some(*part).filter(|part| Some(*part) != null_text));
        }
        made.push(count..count + parts.len());
        count += parts.len();
    }
    made.finish(&elements.finish())
}

/// The most elements of one row's series.
const LONGEST_SERIES: i128 = 10_000_000;
/// The most elements of the series of one batch of rows: 2 GiB.
const MOST_NUMBERS: usize = 1 << 28;

/// `generate_series(first, last [, step])` of whole numbers, as an array.
pub(super) fn series(args: &[ArrayRef]) -> Result<ArrayRef> {
    let bounds: Vec<&Int64Array> = args.iter().map(|bound| bound.as_primitive::<Int64Type>()).collect();
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(args[0].len());
    for row in 0..args[0].len() {
        if bounds.iter().any(|bound| bound.is_null(row)) {
            lengths.push(0);
            continue;
        }
        let (first, last) = (bounds[0].value(row), bounds[1].value(row));
        let step = bounds.get(2).map_or(1, |step| step.value(row));
        let count = steps(first, last, step)?;
        if values.len() + count > MOST_NUMBERS {
            return Err(too_many());
        }
        // A product may go around; the sum comes back.
        values.extend((0..count as i64).map(|at| first.wrapping_add(at.wrapping_mul(step))));
        lengths.push(count);
    }
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(Int64Array::from(values)), None)?))
}

/// Refuses series of times, with the arguments of [`series`], that are too long or may have no end.
pub(super) fn check_times(args: &[ArrayRef]) -> Result<()> {
    let [firsts, lasts] = [&args[0], &args[1]].map(|times| times.as_primitive::<TimestampMicrosecondType>());
    let step = args[2].as_primitive::<IntervalMonthDayNanoType>();
    let mut together = 0;
    for row in 0..step.len() {
        if firsts.is_null(row) || lasts.is_null(row) || step.is_null(row) {
            continue;
        }
        let distance = (i128::from(lasts.value(row)) - i128::from(firsts.value(row))) * 1000;
        let step = least_nanos(step.value(row))?;
        if step == 0 {
            return Err(zero_step());
        }
        let count = (distance / step + 1).max(0);
        if count > LONGEST_SERIES {
            return Err(too_long(count));
        }
        together += count as usize;
        if together > MOST_NUMBERS {
            return Err(too_many());
        }
    }
    Ok(())
}

/// The shortest time that an interval may be.
fn least_nanos(step: IntervalMonthDayNano) -> Result<i128> {
    const DAY: i128 = 86_400_000_000_000;
    let parts = [i128::from(step.months) * 28 * DAY, i128::from(step.days) * DAY, i128::from(step.nanoseconds)];
    if parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0) {
        let message = "a series of times by a step that goes forwards and backwards is not made";
        return Err(ArrowError::InvalidArgumentError(message.to_owned()));
    }
    Ok(parts.iter().sum())
}

fn too_long(count: i128) -> ArrowError {
    let message = format!("a series of {count} elements: one of more than {LONGEST_SERIES} is not made");
    limited(message)
}

fn too_many() -> ArrowError {
    limited(format!("series of more than {MOST_NUMBERS} elements together are not made"))
}

fn limited(message: String) -> ArrowError {
    let error = DataError { sqlstate: "54000", message };
    ArrowError::from_external_error(Box::new(DataFusionError::External(Box::new(error))))
}

fn zero_step() -> ArrowError {
    ArrowError::from_external_error(Box::new(series::zero_step()))
}

/// How many numbers a series has.
fn steps(first: i64, last: i64, step: i64) -> Result<usize> {
    if step == 0 {
        return Err(zero_step());
    }
    let distance = (i128::from(last) - i128::from(first)) * i128::from(step.signum());
    let count = if distance < 0 { 0 } else { distance / i128::from(step).abs() + 1 };
    if count > LONGEST_SERIES { Err(too_long(count)) } else { Ok(count as usize) }
}

#[cfg(test)]
mod tests;
