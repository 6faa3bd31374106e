//! Which of the columns that a source has a statement asks for, and in which types.
//!
//! Columns are matched by name, exactly or else whatever their case; those not asked for need not be
//! made at all.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch, StructArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cast::{CastOptions, cast_with_options};
use arrow::compute::{can_cast_types, cast, or};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use highwater_engine::{Error, Result};
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
        _ => {}
    }
    let converted = cast(column, to)?;
    if converted.null_count() == column.null_count() {
        return Ok((converted, None));
    }
    let lost = BooleanBuffer::collect_bool(column.len(), |row| column.is_valid(row) && converted.is_null(row));
    Ok((converted, Some(BooleanArray::new(lost, None))))
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
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Int64Type};

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
