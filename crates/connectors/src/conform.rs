//! Which of the columns that a source has a statement asks for, and in which types.
//!
//! Columns are matched by name, exactly or else whatever their case; those not asked for need not be
//! made at all.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cast::{CastOptions, cast_with_options};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{can_cast_types, cast, concat, or};
use arrow::datatypes::{
    DataType, Date32Type, FieldRef, Fields, Float32Type, Float64Type, Schema, SchemaRef, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use highwater_engine::{Error, Result};
use highwater_values::input::{DAYS, MOMENTS, TIMES, parse_text_column};
use highwater_values::{bytea, numerics, spelling};
use memchr::memchr;
use std::sync::Arc;

/// PostgreSQL's words for a zero byte in a text.
pub(crate) const NO_ZERO_BYTES: &str = "invalid byte sequence for encoding \"UTF8\": 0x00";

/// A choice of columns of a source.
#[derive(Clone, Debug)]
pub(crate) struct Conform {
    /// The columns as the statement has them.
    pub(crate) schema: SchemaRef,
    /// For each of them, its place in the source.
    pub(crate) places: Vec<usize>,
}

/// The place of a column by name: exactly, or else whatever its case.
pub(crate) fn place_of(native: &Schema, name: &str) -> Option<usize> {
    let fields = native.fields();
    let exact = fields.iter().position(|field| field.name() == name);
    exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)))
}

impl Conform {
    /// Finds the `declared` columns in the source's own, all of them when none are declared.
    ///
    /// # Errors
    /// `Plan` that names the column which the source lacks or has in another type.
    pub(crate) fn new(source: &str, native: &SchemaRef, declared: Option<SchemaRef>) -> Result<Self> {
        let schema = declared.filter(|schema| !schema.fields().is_empty()).unwrap_or_else(|| Arc::clone(native));
        let mut places = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let place = place_of(native, field.name()).ok_or_else(|| {
                let has: Vec<&str> = native.fields().iter().map(|field| field.name().as_str()).collect();
                Error::Plan(format!("column '{}' is not one of {source}; it has {}", field.name(), has.join(", ")))
            })?;
            let own = native.field(place).data_type();
            if !is_read_as(own, field.data_type()) {
                return Err(Error::Plan(format!(
                    "column '{}' is declared as {} but {source} gives {own}",
                    field.name(),
                    field.data_type()
                )));
            }
            places.push(place);
        }
        Ok(Self { schema, places })
    }

    /// A batch of the chosen columns, given in the statement's order in the source's types; a value
    /// that does not fit is an error.
    pub(crate) fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().zip(columns);
        let columns = columns.map(|(field, column)| cast_strictly(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// A column in another type.
///
/// # Errors
/// When a value does not fit.
fn cast_strictly(column: ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), to) {
        (own, to) if own == to => Ok(column),
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(precision, scale)) => {
            Ok(Arc::new(numerics::of_floats(&column, *precision, *scale)?))
        }
        (DataType::Decimal128(..), DataType::Float64) => Ok(Arc::new(numerics::as_doubles(column.as_primitive()))),
        (DataType::Decimal128(..), DataType::Float32) => Ok(Arc::new(numerics::as_reals(column.as_primitive()))),
        _ => cast_with_options(&column, to, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

/// Whether values of a type are read as another one: numbers as numbers and times as times, but not as what a
/// cast makes of another kind of value.
fn is_read_as(own: &DataType, to: &DataType) -> bool {
    own == to || can_cast_types(own, to) && is_like(own, to)
}

fn is_like(own: &DataType, to: &DataType) -> bool {
    match (own, to) {
        (DataType::Dictionary(_, values), _) => is_like(values, to),
        (DataType::List(own) | DataType::LargeList(own) | DataType::FixedSizeList(own, _), DataType::List(to)) => {
            is_like(own.data_type(), to.data_type())
        }
        (DataType::Struct(own), DataType::Struct(to)) => {
            let own = Schema::new(own.clone());
            let is_like = |field: &FieldRef| {
                place_of(&own, field.name()).is_some_and(|at| is_like(own.field(at).data_type(), field.data_type()))
            };
            to.iter().all(is_like)
        }
        (DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _)
        | (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        | (
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_),
            DataType::Binary,
        ) => true,
        (own, DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..)) if own.is_integer() => true,
        _ => own == to || own.is_numeric() && to.is_numeric() || own.is_temporal() && to.is_temporal(),
    }
}

/// Casts a column. The rows whose value does not fit, or is none that `INSERT` takes, are marked in the second
/// result; what the first has there is not to be used.
pub(crate) fn cast_marking(column: &ArrayRef, to: &DataType) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let is_same = column.data_type() == to;
    match (column.data_type(), to) {
        // Its rows count as valid: it has no buffer that says they are null.
        (DataType::Null, _) => return Ok((new_null_array(to, column.len()), None)),
        (DataType::Dictionary(_, values), _) if !is_same => return cast_marking(&cast(column, values)?, to),
        (DataType::List(_), DataType::List(field)) => return cast_elements(column.as_list(), field),
        (DataType::LargeList(own) | DataType::FixedSizeList(own, _), DataType::List(_)) => {
            return cast_marking(&cast(column, &DataType::List(Arc::clone(own)))?, to);
        }
        (DataType::Struct(_), DataType::Struct(fields)) => return cast_fields(column.as_struct(), fields),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, to) if is_read(to) => {
            return read_marking(cast(column, &DataType::Utf8)?.as_string::<i32>(), to);
        }
        // Arrow's own cast to microseconds overflows.
        (DataType::Date64, DataType::Timestamp(..)) => {
            return cast_marking(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?, to);
        }
        _ => {}
    }
    let converted = if is_same { Arc::clone(column) } else { converted(column, to)? };
    let (changed, refused) = (changed(column, &converted)?, refused(&converted));
    if is_same && refused.is_none() {
        return Ok((converted, None));
    }
    let is_marked = |marks: &Option<BooleanArray>, row: usize| marks.as_ref().is_some_and(|marks| marks.value(row));
    let is_lost = |row: usize| {
        column.is_valid(row) && (converted.is_null(row) || is_marked(&changed, row) || is_marked(&refused, row))
    };
    let lost = BooleanBuffer::collect_bool(column.len(), is_lost);
    let lost = (lost.count_set_bits() > 0).then(|| BooleanArray::new(lost, None));
    Ok((converted, lost))
}

/// A column in another type; what does not fit may be null, or another value.
fn converted(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), to) {
        (
            DataType::Timestamp(TimeUnit::Nanosecond, zone),
            DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Time64(TimeUnit::Microsecond),
        ) => {
            let instants = column.as_primitive::<TimestampNanosecondType>();
            let rounded = instants.unary::<_, TimestampMicrosecondType>(rounded).with_timezone_opt(zone.clone());
            cast(&rounded, to)
        }
        (DataType::Time64(TimeUnit::Nanosecond), DataType::Time64(TimeUnit::Microsecond)) => {
            let times = column.as_primitive::<Time64NanosecondType>();
            Ok(Arc::new(times.unary::<_, Time64MicrosecondType>(rounded)))
        }
        (_, DataType::Utf8) => spelling::texts(column).map_or_else(|| cast(column, to), Ok),
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(precision, scale)) => {
            Ok(Arc::new(numerics::of_floats_that_fit(column, *precision, *scale)?))
        }
        (DataType::Decimal128(..), DataType::Float64) => Ok(Arc::new(numerics::as_doubles(column.as_primitive()))),
        (DataType::Decimal128(..), DataType::Float32) => Ok(Arc::new(numerics::as_reals(column.as_primitive()))),
        // Arrow fails for the whole column when one of its timestamps is beyond the years that it can tell.
        (DataType::Timestamp(..), DataType::Date32 | DataType::Time64(_)) => {
            cast(column, to).or_else(|_| one_by_one(column.len(), to, |row| cast(&column.slice(row, 1), to).ok()))
        }
        _ => cast(column, to),
    }
}

/// Microseconds of nanoseconds, halves to the even one: what PostgreSQL makes of their texts.
fn rounded(nanoseconds: i64) -> i64 {
    let (micros, rest) = (nanoseconds.div_euclid(1000), nanoseconds.rem_euclid(1000));
    let is_up = rest > 500 || rest == 500 && micros % 2 != 0;
    micros + i64::from(is_up)
}

/// Whether texts are read where they are to be of a type.
fn is_read(to: &DataType) -> bool {
    !matches!(to, DataType::LargeUtf8 | DataType::Utf8View)
}

/// The texts of a file as values of a type: as PostgreSQL reads them, but bytes are hexadecimal digits, those
/// behind `\x` too.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn read_texts(texts: &StringArray, to: &DataType) -> Result<ArrayRef, String> {
    if has_zero_bytes(texts) {
        return Err(NO_ZERO_BYTES.to_owned());
    }
    if to != &DataType::Binary {
        return parse_text_column(texts, to).map_err(|bad| bad.message);
    }
    let digits = |text: &str, bytes: &mut Vec<u8>| bytea::hexadecimal(text.strip_prefix(r"\x").unwrap_or(text), bytes);
    Ok(Arc::new(bytea::of_texts(texts, digits).map_err(|malformed| malformed.to_string())?))
}

fn has_zero_bytes(texts: &StringArray) -> bool {
    let offsets = texts.value_offsets();
    let bytes = &texts.value_data()[offsets[0] as usize..offsets[texts.len()] as usize];
    memchr(0, bytes).is_some() && texts.iter().flatten().any(|text| text.contains('\0'))
}

/// What [`cast_marking`] gives of texts: all at once if they fit, else one by one.
fn read_marking(texts: &StringArray, to: &DataType) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    if let Ok(column) = read_texts(texts, to) {
        return Ok((column, None));
    }
    let column = one_by_one(texts.len(), to, |row| read_texts(&texts.slice(row, 1), to).ok())?;
    let lost = BooleanBuffer::collect_bool(texts.len(), |row| texts.is_valid(row) && column.is_null(row));
    Ok((column, Some(BooleanArray::new(lost, None))))
}

/// A column of the values that rows have, with nulls where they have none.
fn one_by_one(rows: usize, of: &DataType, value: impl Fn(usize) -> Option<ArrayRef>) -> Result<ArrayRef, ArrowError> {
    let values: Vec<ArrayRef> = (0..rows).map(|row| value(row).unwrap_or_else(|| new_null_array(of, 1))).collect();
    concat(&values.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())
}

/// Which numbers a cast has made others: those with a fraction that are whole now, and those that are
/// infinite or 0 now. A number that was rounded to a scale, or to the precision of a float, is none.
fn changed(from: &ArrayRef, to: &ArrayRef) -> Result<Option<BooleanArray>, ArrowError> {
    match (from.data_type(), to.data_type()) {
        (own, whole) if own.is_floating() && whole.is_integer() => {
            let wide = cast(from, &DataType::Float64)?;
            Ok(Some(BooleanArray::from_unary(wide.as_primitive::<Float64Type>(), |value| value.fract() != 0.0)))
        }
        (own, whole) if own.is_decimal() && whole.is_integer() => distinct(&cast(to, own)?, from).map(Some),
        (own, DataType::Float32) if own == &DataType::Float64 || own.is_decimal() => {
            let wide = cast(from, &DataType::Float64)?;
            let (wide, narrow) = (wide.as_primitive::<Float64Type>(), to.as_primitive::<Float32Type>());
            let is_changed = |row: usize| {
                let (wide, narrow) = (wide.value(row), narrow.value(row));
                narrow.is_infinite() && wide.is_finite() || narrow == 0.0 && wide != 0.0
            };
            Ok(Some(BooleanArray::new(BooleanBuffer::collect_bool(from.len(), is_changed), None)))
        }
        _ => Ok(None),
    }
}

/// Which values `INSERT` does not take, if there are such: texts with zero bytes, and dates and times beyond the
/// first and the last.
fn refused(column: &ArrayRef) -> Option<BooleanArray> {
    let refused = match column.data_type() {
        DataType::Utf8 => {
            let texts = Some(column.as_string::<i32>()).filter(|texts| has_zero_bytes(texts))?;
            BooleanArray::from_unary(texts, |text| text.contains('\0'))
        }
        DataType::Date32 => {
            BooleanArray::from_unary(column.as_primitive::<Date32Type>(), |day| !DAYS.contains(&i64::from(day)))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            BooleanArray::from_unary(column.as_primitive::<Time64MicrosecondType>(), |time| !TIMES.contains(&time))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            BooleanArray::from_unary(column.as_primitive::<TimestampMicrosecondType>(), |at| !MOMENTS.contains(&at))
        }
        _ => return None,
    };
    (refused.true_count() > 0).then_some(refused)
}

/// What [`cast_marking`] gives of arrays, which do not fit when one of their elements does not.
fn cast_elements(list: &ListArray, field: &FieldRef) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let (elements, lost) = cast_marking(list.values(), field.data_type())?;
    let made = ListArray::try_new(Arc::clone(field), list.offsets().clone(), elements, list.nulls().cloned())?;
    let Some(lost) = lost else { return Ok((Arc::new(made), None)) };
    let offsets = list.value_offsets();
    let is_lost = |row: usize| {
        let mut places = offsets[row] as usize..offsets[row + 1] as usize;
        list.is_valid(row) && places.any(|at| lost.value(at))
    };
    let lost = BooleanBuffer::collect_bool(list.len(), is_lost);
    let lost = (lost.count_set_bits() > 0).then(|| BooleanArray::new(lost, None));
    Ok((Arc::new(made), lost))
}

/// The same of composite values, whose fields are found by their names, and which do not fit when one of these does
/// not.
fn cast_fields(rows: &StructArray, fields: &Fields) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let own = Schema::new(rows.fields().clone());
    let mut columns = Vec::with_capacity(fields.len());
    let mut lost: Option<BooleanArray> = None;
    for field in fields {
        let lacking = || ArrowError::SchemaError(format!("a composite value lacks the field '{}'", field.name()));
        let place = place_of(&own, field.name()).ok_or_else(lacking)?;
        let (column, gone) = cast_marking(rows.column(place), field.data_type())?;
        lost = match (lost, gone) {
            (Some(lost), Some(gone)) => Some(or(&lost, &gone)?),
            (lost, gone) => lost.or(gone),
        };
        columns.push(column);
    }
    let made = StructArray::try_new(fields.clone(), columns, rows.nulls().cloned())?;
    Ok((Arc::new(made), lost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Decimal128Type, Field, Int32Type, Int64Type};

    #[test]
    fn columns_are_found_by_name_and_cast() {
        let native: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("B", DataType::Utf8, true)]));
        let declared: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("b", DataType::Utf8, true), Field::new("a", DataType::Int32, true)]));
        let conform = Conform::new("source 'x'", &native, Some(declared)).expect("found");
        assert_eq!(conform.places, [1, 0]);
        let batch = conform
            .batch(vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(Int64Array::from(vec![7]))])
            .expect("cast");
        assert_eq!(batch.column(1).as_ref(), &Int32Array::from(vec![7]) as &dyn Array);
        let absent: SchemaRef = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true)]));
        let error = Conform::new("source 'x'", &native, Some(absent)).expect_err("absent").to_string();
        assert_eq!(error, "column 'c' is not one of source 'x'; it has a, B");
    }

    #[test]
    fn values_that_do_not_fit_are_marked() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)]));
        let (converted, lost) = cast_marking(&column, &DataType::Int32).expect("cast");
        assert_eq!(converted.null_count(), 2);
        assert_eq!(lost, Some(BooleanArray::from(vec![false, false, true])));
    }

    #[test]
    fn composite_values_with_fields_that_do_not_fit_are_marked() {
        let own: Vec<(&str, ArrayRef)> = vec![
            ("Y", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("x", Arc::new(Int64Array::from(vec![1, 1 << 40]))),
        ];
        let column: ArrayRef = Arc::new(StructArray::try_from(own).expect("a composite column"));
        let fields = |names: [&str; 2]| -> Fields {
            vec![Field::new(names[0], DataType::Int32, true), Field::new(names[1], DataType::Utf8, true)].into()
        };
        let (converted, lost) = cast_marking(&column, &DataType::Struct(fields(["x", "y"]))).expect("cast");
        assert_eq!(lost, Some(BooleanArray::from(vec![false, true])));
        assert_eq!(converted.as_struct().column(1).as_ref(), &StringArray::from(vec!["a", "b"]));
        let absent = cast_marking(&column, &DataType::Struct(fields(["x", "z"]))).expect_err("absent");
        assert!(absent.to_string().contains("lacks the field 'z'"), "{absent}");
    }

    #[test]
    fn columns_of_no_type_are_nulls() {
        let column = new_null_array(&DataType::Null, 2);
        let list = DataType::new_list(DataType::Int32, true);
        for to in [DataType::Int32, DataType::Utf8, DataType::Decimal128(4, 0), DataType::Binary, list.clone()] {
            assert!(is_read_as(&DataType::Null, &to), "as {to}");
            assert_eq!(cast_marking(&column, &to).expect("nulls"), (new_null_array(&to, 2), None), "as {to}");
        }
        let elements = Arc::new(Field::new_list_field(DataType::Null, true));
        let lists =
            ListArray::new(elements, OffsetBuffer::from_lengths([1, 2]), new_null_array(&DataType::Null, 3), None);
        let rows = [Some(vec![None]), Some(vec![None, None])];
        let expected = ListArray::from_iter_primitive::<Int32Type, _, _>(rows);
        let (made, lost) = cast_marking(&(Arc::new(lists) as ArrayRef), &list).expect("lists of nulls");
        assert_eq!((made.as_list::<i32>(), lost), (&expected, None));
    }

    #[test]
    fn numbers_that_would_become_others_are_marked() {
        let doubles: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.6), None, Some(-2.0), Some(-0.0), Some(1e300)]));
        assert_eq!(lost(Arc::clone(&doubles), &DataType::Int32), [0, 4]);
        assert_eq!(lost(Arc::clone(&doubles), &DataType::Float32), [4]);
        assert_eq!(lost(Arc::clone(&doubles), &DataType::Decimal128(38, 0)), [4]);
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.005), None, Some(f64::NAN), Some(0.285)]));
        let (numerics, marked) = cast_marking(&doubles, &DataType::Decimal128(10, 2)).expect("cast");
        let numerics = numerics.as_primitive::<Decimal128Type>();
        assert_eq!(numerics.iter().collect::<Vec<_>>(), [Some(101), None, None, Some(29)]);
        assert_eq!(marked, Some(BooleanArray::from(vec![false, false, true, false])));
        let decimals = Decimal128Array::from(vec![Some(1600), Some(-2000), None]).with_precision_and_scale(10, 3);
        let decimals: ArrayRef = Arc::new(decimals.expect("a decimal"));
        assert_eq!(lost(Arc::clone(&decimals), &DataType::Int16), [0]);
        let (rounded, none) = cast_marking(&decimals, &DataType::Decimal128(4, 0)).expect("cast");
        assert_eq!((rounded.as_primitive::<Decimal128Type>().value(0), none), (2, None));
    }

    #[test]
    fn texts_are_those_of_postgresql() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1e10), None]));
        let (texts, lost) = cast_marking(&numbers, &DataType::Utf8).expect("cast");
        assert_eq!((texts.as_string::<i32>().value(0), texts.is_null(1), lost), ("10000000000", true, None));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("24:00"), Some("x"), None, Some("10:00")]));
        let (times, lost) = cast_marking(&texts, &DataType::Time64(TimeUnit::Microsecond)).expect("cast");
        assert_eq!(times.as_primitive::<Time64MicrosecondType>().value(0), 86_400_000_000);
        assert_eq!(lost, Some(BooleanArray::from(vec![false, true, false, false])));
    }

    #[test]
    fn arrays_with_elements_that_do_not_fit_are_marked() {
        let rows = [Some(vec![Some(1), None]), Some(vec![Some(2), Some(1 << 40)]), None, Some(Vec::new())];
        let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows));
        let to = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        for (column, expected) in
            [(column.slice(1, 3), Some(BooleanArray::from(vec![true, false, false]))), (column.slice(2, 2), None)]
        {
            let (converted, lost) = cast_marking(&column, &to).expect("cast");
            assert_eq!(lost, expected);
            assert_eq!(converted.data_type(), &to);
        }
    }

    /// The rows of a column that do not fit a type.
    fn lost(column: ArrayRef, to: &DataType) -> Vec<usize> {
        let lost = cast_marking(&column, to).expect("cast").1;
        lost.map_or_else(Vec::new, |lost| lost.values().set_indices().collect())
    }

    #[test]
    fn dates_and_times_beyond_the_first_and_the_last_are_marked() {
        let time = DataType::Time64(TimeUnit::Microsecond);
        let times = vec![Some(-1), Some(0), Some(86_400_000_000), None, Some(86_400_000_001)];
        assert_eq!(lost(Arc::new(Int64Array::from(times.clone())), &time), [0, 4]);
        assert_eq!(lost(Arc::new(Time64MicrosecondArray::from(times)), &time), [0, 4]);
        let days = vec![-2_440_589, -2_440_588, 2_145_042_905, 2_145_042_906];
        assert_eq!(lost(Arc::new(Int32Array::from(days.clone())), &DataType::Date32), [0, 3]);
        assert_eq!(lost(Arc::new(Date32Array::from(days.clone())), &DataType::Date32), [0, 3]);
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(lost(Arc::new(Date32Array::from(days)), &timestamp), [0, 2, 3]);
        let first = -2_440_588 * 86_400_000_000;
        let micros = vec![first - 1, first, i64::MAX];
        assert_eq!(lost(Arc::new(Int64Array::from(micros.clone())), &timestamp), [0]);
        assert_eq!(lost(Arc::new(TimestampMicrosecondArray::from(micros)), &timestamp), [0]);
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, i64::MAX]));
        assert_eq!(lost(Arc::clone(&far), &DataType::Date32), [1], "beyond the years of Arrow");
        assert_eq!(lost(far, &time), [1], "beyond the years of Arrow");
        let list = DataType::new_list(DataType::Date32, true);
        let rows = [Some(vec![Some(0), None]), Some(vec![Some(i32::MAX)])];
        let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Date32Type, _, _>(rows));
        assert_eq!(lost(column, &list), [1], "no cast is needed");
    }

    #[test]
    fn nanoseconds_are_rounded_as_in_texts() {
        let nanoseconds = vec![Some(1_499), Some(1_500), Some(2_500), Some(2_501), None, Some(-500), Some(-501)];
        let expected = [Some(1), Some(2), Some(2), Some(3), None, Some(0), Some(-1)];
        let column: ArrayRef = Arc::new(TimestampNanosecondArray::from(nanoseconds).with_timezone("UTC"));
        let to = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let (converted, lost) = cast_marking(&column, &to).expect("cast");
        let converted = converted.as_primitive::<TimestampMicrosecondType>();
        assert_eq!((converted.iter().collect::<Vec<_>>(), lost), (expected.to_vec(), None));
    }

    #[test]
    fn texts_of_bytes_are_hexadecimal_digits() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("ff"), Some(r"\x00FF"), Some("zz"), None, Some("0")]));
        let (bytes, lost) = cast_marking(&texts, &DataType::Binary).expect("cast");
        assert_eq!((bytes.as_binary::<i32>().value(0), bytes.as_binary::<i32>().value(1)), (&[255][..], &[0, 255][..]));
        assert_eq!(lost, Some(BooleanArray::from(vec![false, false, true, false, true])));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"zz"[..]]));
        assert_eq!(cast_marking(&bytes, &DataType::Binary).expect("no cast").0.as_ref(), bytes.as_ref());
    }

    #[test]
    fn texts_with_zero_bytes_are_marked() {
        let texts: StringArray = vec![Some("a\0"), Some("b"), None, Some("\0")].into();
        assert_eq!(lost(Arc::new(texts.clone()), &DataType::Utf8), [0, 3]);
        assert!(lost(Arc::new(texts.slice(1, 2)), &DataType::Utf8).is_empty());
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], &b"\0"[..], &b"\xff"[..]]));
        assert_eq!(lost(bytes, &DataType::Utf8), [1, 2]);
    }

    #[test]
    fn numbers_that_would_become_0_are_marked() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1e-60), Some(-0.0), Some(1e-40), None]));
        assert_eq!(lost(numbers, &DataType::Float32), [0]);
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let list = |of: DataType| DataType::new_list(of, true);
        let refused = [
            (DataType::Float64, DataType::Boolean),
            (DataType::Int32, DataType::Boolean),
            (DataType::Boolean, DataType::Int32),
            (DataType::Float64, timestamp.clone()),
            (timestamp.clone(), DataType::Int64),
            (DataType::Int64, DataType::Binary),
            (DataType::Int64, list(DataType::Int64)),
            (list(DataType::Float64), list(DataType::Boolean)),
        ];
        for (own, to) in refused {
            let schema =
                |of: &DataType| -> SchemaRef { Arc::new(Schema::new(vec![Field::new("a", of.clone(), true)])) };
            let error = Conform::new("file 'x'", &schema(&own), Some(schema(&to))).expect_err("refused").to_string();
            assert!(error.starts_with("column 'a' is declared as "), "{error}");
        }
        let read = [
            (DataType::Int64, timestamp.clone()),
            (DataType::Int64, DataType::Float32),
            (DataType::Date32, timestamp),
            (DataType::Utf8, DataType::Boolean),
            (DataType::Boolean, DataType::Utf8),
            (list(DataType::Int64), list(DataType::Int32)),
        ];
        for (own, to) in read {
            assert!(is_read_as(&own, &to), "{own} as {to}");
        }
    }
}
