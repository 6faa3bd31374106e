//! What is computed of composite values as wholes: whether they are null, and copies of them.

use crate::rounding::rounded;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::any::Any;
use std::sync::Arc;

/// Names of the functions, where state is kept by them.
pub(crate) const ALL_NULL: &str = "row_all_null";
pub(crate) const NONE_NULL: &str = "row_none_null";
pub(crate) const ABSENT: &str = "row_absent";
pub(crate) const EMPTIED: &str = "row_emptied";
pub(crate) const BROUGHT: &str = "row_brought";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `IS NULL`: there is no value, or all of its fields are null.
    AllNull,
    /// `IS NOT NULL`: there is a value, and none of its fields is null.
    NoneNull,
    /// There is no value.
    Absent,
    /// The value; where there is none, its fields are null too.
    Emptied,
    /// The value with its fields, by their places, as those of another type.
    Brought(DataType),
}

/// A function of one composite value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RowFunction {
    kind: Kind,
    signature: Signature,
}

pub(super) fn call(kind: Kind, value: Expr) -> Expr {
    let function = ScalarUDF::from(RowFunction { kind, signature: Signature::any(1, Volatility::Immutable) });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value]))
}

/// Whether an expression has been [`Kind::Emptied`].
pub(super) fn is_emptied(expr: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    let function: &dyn Any = call.func.inner().as_ref();
    function.downcast_ref::<RowFunction>().is_some_and(|function| function.kind == Kind::Emptied)
}

/// Which values are there.
fn valid(values: &dyn Array) -> BooleanBuffer {
    values.logical_nulls().map_or_else(|| BooleanBuffer::new_set(values.len()), |nulls| nulls.inner().clone())
}

/// Values whose fields are null where they are.
fn emptied(rows: &StructArray) -> Result<StructArray, ArrowError> {
    let Some(nulls) = rows.nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(rows.clone()) };
    let absent = BooleanArray::new(!nulls.inner(), None);
    let column = |column: &ArrayRef| -> Result<ArrayRef, ArrowError> {
        let column = nullif(column.as_ref(), &absent)?;
        Ok(match column.as_struct_opt() {
            Some(inner) => Arc::new(emptied(inner)?),
            None => column,
        })
    };
    let columns = rows.columns().iter().map(column).collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    StructArray::try_new(rows.fields().clone(), columns, Some(nulls.clone()))
}

/// Values of a type whose fields have those of another in the same places.
fn brought(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let (Some(rows), DataType::Struct(fields)) = (values.as_struct_opt(), to) else {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        return cast_with_options(&rounded(values, to)?, to, &strict);
    };
    let columns = rows.columns().iter().zip(fields.iter()).map(|(column, field)| brought(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned())?))
}

impl RowFunction {
    fn computed(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let Some(rows) = values.as_struct_opt() else {
            // The optimizer asks what comes of columns that are null and nothing else.
            return Ok(match &self.kind {
                Kind::AllNull | Kind::Absent => Arc::new(BooleanArray::from(vec![true; values.len()])),
                Kind::NoneNull => Arc::new(BooleanArray::from(vec![false; values.len()])),
                Kind::Emptied => Arc::clone(values),
                Kind::Brought(to) => new_null_array(to, values.len()),
            });
        };
        let fields = rows.columns().iter().map(|column| valid(column.as_ref()));
        let holds = match &self.kind {
            Kind::AllNull => {
                let any = fields.reduce(|any, field| &any | &field);
                !&any.map_or_else(|| valid(rows), |any| &any & &valid(rows))
            }
            Kind::NoneNull => fields.fold(valid(rows), |all, field| &all & &field),
            Kind::Absent => !&valid(rows),
            Kind::Emptied => return Ok(Arc::new(emptied(rows)?)),
            Kind::Brought(to) => return Ok(brought(values, to)?),
        };
        Ok(Arc::new(BooleanArray::new(holds, None)))
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::AllNull => ALL_NULL,
            Kind::NoneNull => NONE_NULL,
            Kind::Absent => ABSENT,
            Kind::Emptied => EMPTIED,
            Kind::Brought(_) => BROUGHT,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match (&self.kind, args) {
            (Kind::AllNull | Kind::NoneNull | Kind::Absent, [_]) => Ok(DataType::Boolean),
            (Kind::Emptied, [of]) => Ok(of.clone()),
            (Kind::Brought(to), [_]) => Ok(to.clone()),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => self.computed(values).map(ColumnarValue::Array),
            [ColumnarValue::Scalar(value)] => {
                let one = self.computed(&value.to_array()?)?;
                ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
            }
            _ => plan_err!("{} takes one value", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{Field, Fields};

    fn rows() -> ArrayRef {
        let fields: Fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), Some(2), None, Some(4)])),
            Arc::new(StringArray::from(vec![Some("a"), None, None, Some("d")])),
        ];
        let valid = NullBuffer::from(vec![true, true, true, false]);
        Arc::new(StructArray::new(fields, columns, Some(valid)))
    }

    fn computed(kind: Kind) -> ArrayRef {
        let function = RowFunction { kind, signature: Signature::any(1, Volatility::Immutable) };
        function.computed(&rows()).expect("computed")
    }

    #[test]
    fn a_row_is_null_by_its_fields() {
        for (kind, expected) in [
            (Kind::AllNull, [false, false, true, true]),
            (Kind::NoneNull, [true, false, false, false]),
            (Kind::Absent, [false, false, false, true]),
        ] {
            assert_eq!(computed(kind.clone()).as_boolean(), &BooleanArray::from(expected.to_vec()), "{kind:?}");
        }
    }

    #[test]
    fn no_value_has_no_fields() {
        let emptied = computed(Kind::Emptied);
        assert_eq!(emptied.as_struct().column(0).as_ref(), &Int32Array::from(vec![Some(1), Some(2), None, None]));
        assert!(emptied.is_null(3) && emptied.is_valid(2));
    }

    #[test]
    fn fields_are_brought_by_their_places() {
        let fields: Fields = vec![Field::new("y", DataType::Int64, true), Field::new("x", DataType::Utf8, true)].into();
        let brought = computed(Kind::Brought(DataType::Struct(fields)));
        let first = brought.as_struct().column_by_name("y").expect("a field");
        assert_eq!(first.as_ref(), &Int64Array::from(vec![Some(1), Some(2), None, Some(4)]));
        assert!(brought.is_null(3));
    }
}
