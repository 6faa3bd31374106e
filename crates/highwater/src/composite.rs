//! Assignments to columns of composite types: field by field, by their places.

use crate::connection::invalid;
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Fields};
use highwater_sql::spelling;
use highwater_sql::types::pg_name;
use std::sync::Arc;

/// The error of a row that has not as many values as a composite type has fields.
pub(crate) fn misfit(values: usize, fields: &Fields) -> Error {
    let to = pg_name(&DataType::Struct(fields.clone()));
    let (count, which) = (fields.len(), if values < fields.len() { "few" } else { "many" });
    let message = format!("cannot cast type record to {to}: input has too {which} columns, {values} for {count}");
    invalid("42804", message, None)
}

/// Values of one type as another one's, one of which is composite, where each field is assigned by `assign`; none
/// where neither is.
pub(crate) fn assigned(
    array: &ArrayRef,
    to: &DataType,
    assign: impl Fn(&ArrayRef, &DataType) -> Result<ArrayRef>,
) -> Result<Option<ArrayRef>> {
    match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            if rows.num_columns() != fields.len() {
                return Err(misfit(rows.num_columns(), fields));
            }
            let columns = rows.columns().iter().zip(fields).map(|(column, field)| assign(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
            Ok(Some(Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned())?)))
        }
        (DataType::Null, DataType::Struct(_)) => Ok(Some(new_null_array(to, array.len()))),
        (DataType::Struct(_), DataType::Utf8) => Ok(spelling::texts(array)),
        (from @ DataType::Struct(_), _) | (from, DataType::Struct(_)) => {
            let (from, to) = (pg_name(from), pg_name(to));
            let message = format!("column is of type {to} but expression is of type {from}");
            Err(invalid("42804", message, None))
        }
        _ => Ok(None),
    }
}

/// Whether a composite type has fields of jsonb.
pub(crate) fn has_documents(of: &DataType) -> bool {
    match of {
        DataType::LargeUtf8 => true,
        DataType::List(of) => has_documents(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_documents(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dml::assign;
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::Field;

    fn fields(all: &[(&str, DataType)]) -> Fields {
        all.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect()
    }

    #[test]
    fn fields_are_assigned_by_their_places() {
        let given = fields(&[("y", DataType::Int64), ("x", DataType::Utf8)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("7"), None]))];
        let valid = NullBuffer::from(vec![true, false]);
        let given: ArrayRef = Arc::new(StructArray::new(given, columns, Some(valid)));
        let to = fields(&[("x", DataType::Int32), ("y", DataType::Int64)]);
        let assigned = assign(&given, &DataType::Struct(to)).expect("assigned");
        assert_eq!(assigned.as_struct().column(0).as_ref(), &Int32Array::from(vec![1, 2]));
        assert_eq!(assigned.as_struct().column(1).as_ref(), &Int64Array::from(vec![Some(7), None]));
        assert!(assigned.is_null(1));
        let text = assign(&given, &DataType::Utf8).expect("its text");
        assert_eq!(text.as_string::<i32>(), &StringArray::from(vec![Some("(1,7)"), None]));
        let one = DataType::Struct(fields(&[("x", DataType::Int32)]));
        for (from, to) in [(&given, &one), (&assigned, &DataType::Int32)] {
            assert_eq!(assign(from, to).expect_err("refused").sqlstate(), "42804");
        }
    }
}
