//! Which of the columns that a source has a statement asks for, and in which types.
//!
//! Columns are matched by name, exactly or else whatever their case; those not asked for need not be
//! made at all.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cast::{CastOptions, cast_with_options};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{and, can_cast_types, cast, concat, nullif, or};
use arrow::datatypes::{DataType, FieldRef, Fields, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use highwater_engine::{Error, Result};
use highwater_values::input::parse_text_column;
use highwater_values::spelling;
use std::sync::Arc;

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
            if own != field.data_type() && !can_cast_types(own, field.data_type()) {
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
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = self
            .schema
            .fields()
            .iter()
            .zip(columns)
            .map(|(field, column)| match column.data_type() == field.data_type() {
                true => Ok(column),
                false => cast_with_options(&column, field.data_type(), &strict),
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// Casts a column; the rows whose value does not fit are null and marked in the second result.
pub(crate) fn cast_marking(column: &ArrayRef, to: &DataType) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    if column.data_type() == to {
        return Ok((Arc::clone(column), None));
    }
    match (column.data_type(), to) {
        (DataType::List(_), DataType::List(field)) => return cast_elements(column.as_list(), field),
        (DataType::LargeList(own) | DataType::FixedSizeList(own, _), DataType::List(_)) => {
            return cast_marking(&cast(column, &DataType::List(Arc::clone(own)))?, to);
        }
        (DataType::Struct(_), DataType::Struct(fields)) => return cast_fields(column.as_struct(), fields),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, to) if is_read(to) => {
            return read_marking(cast(column, &DataType::Utf8)?.as_string::<i32>(), to);
        }
        _ => {}
    }
    let texts = if to == &DataType::Utf8 { spelling::texts(column) } else { None };
    let converted = texts.map_or_else(|| cast(column, to), Ok)?;
    let changed = changed(column, &converted)?;
    let is_lost = |row: usize| {
        column.is_valid(row) && (converted.is_null(row) || changed.as_ref().is_some_and(|changed| changed.value(row)))
    };
    let lost = BooleanBuffer::collect_bool(column.len(), is_lost);
    if lost.count_set_bits() == 0 {
        return Ok((converted, None));
    }
    let lost = BooleanArray::new(lost, None);
    Ok((nullif(&converted, &lost)?, Some(lost)))
}

/// Whether texts are read as PostgreSQL reads them where they are to be of a type.
fn is_read(to: &DataType) -> bool {
    !matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary)
}

/// The same of texts: all at once if they fit, else one by one.
fn read_marking(texts: &StringArray, to: &DataType) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    if let Ok(column) = parse_text_column(texts, to) {
        return Ok((column, None));
    }
    let read = |row: usize| parse_text_column(&texts.slice(row, 1), to).unwrap_or_else(|_| new_null_array(to, 1));
    let values: Vec<ArrayRef> = (0..texts.len()).map(read).collect();
    let column = concat(&values.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?;
    let lost = BooleanBuffer::collect_bool(texts.len(), |row| texts.is_valid(row) && column.is_null(row));
    Ok((column, Some(BooleanArray::new(lost, None))))
}

/// Which numbers a cast has made others: those with a fraction that are whole now, and those that are
/// infinite now. A number that was rounded to a scale, or to the precision of a float, is none.
fn changed(from: &ArrayRef, to: &ArrayRef) -> Result<Option<BooleanArray>, ArrowError> {
    match (from.data_type(), to.data_type()) {
        (own, whole) if own.is_floating() && whole.is_integer() => {
            let wide = cast(from, &DataType::Float64)?;
            Ok(Some(BooleanArray::from_unary(wide.as_primitive::<Float64Type>(), |value| value.fract() != 0.0)))
        }
        (own, whole) if own.is_decimal() && whole.is_integer() => distinct(&cast(to, own)?, from).map(Some),
        (DataType::Float64, DataType::Float32) => {
            let is_infinite = BooleanArray::from_unary(to.as_primitive::<Float32Type>(), f32::is_infinite);
            let was_finite = BooleanArray::from_unary(from.as_primitive::<Float64Type>(), f64::is_finite);
            and(&is_infinite, &was_finite).map(Some)
        }
        _ => Ok(None),
    }
}

/// The same of arrays, which do not fit when one of their elements does not.
fn cast_elements(list: &ListArray, field: &FieldRef) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let (elements, lost) = cast_marking(list.values(), field.data_type())?;
    let made = |nulls: Option<NullBuffer>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), elements, nulls)?))
    };
    let offsets = list.value_offsets();
    let is_lost = |row: usize| {
        let mut places = offsets[row] as usize..offsets[row + 1] as usize;
        list.is_valid(row) && lost.as_ref().is_some_and(|lost| places.any(|at| lost.value(at)))
    };
    let lost = BooleanBuffer::collect_bool(list.len(), is_lost);
    if lost.count_set_bits() == 0 {
        return Ok((made(list.nulls().cloned())?, None));
    }
    let nulls = NullBuffer::union(list.nulls(), Some(&NullBuffer::new(!&lost)));
    Ok((made(nulls)?, Some(BooleanArray::new(lost, None))))
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
    use arrow::array::{Decimal128Array, Float64Array, Int32Array, Int64Array};
    use arrow::datatypes::{Decimal128Type, Field, Int64Type, Time64MicrosecondType, TimeUnit};

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
    fn numbers_that_would_become_others_are_marked() {
        let doubles: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.6), None, Some(-2.0), Some(-0.0), Some(1e300)]));
        let lost = |column: &ArrayRef, to: &DataType| {
            let (converted, lost) = cast_marking(column, to).expect("cast");
            let is_lost = |row: usize| lost.as_ref().is_some_and(|lost| lost.value(row));
            let lost: Vec<usize> = (0..column.len()).filter(|row| is_lost(*row)).collect();
            assert!(lost.iter().all(|row| converted.is_null(*row)), "{to}");
            lost
        };
        assert_eq!(lost(&doubles, &DataType::Int32), [0, 4]);
        assert_eq!(lost(&doubles, &DataType::Float32), [4]);
        assert_eq!(lost(&doubles, &DataType::Decimal128(38, 0)), [4]);
        let decimals = Decimal128Array::from(vec![Some(1600), Some(-2000), None]).with_precision_and_scale(10, 3);
        let decimals: ArrayRef = Arc::new(decimals.expect("a decimal"));
        assert_eq!(lost(&decimals, &DataType::Int16), [0]);
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
            assert_eq!((converted.data_type(), converted.is_null(0)), (&to, true));
        }
    }
}
