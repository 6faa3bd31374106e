//! `lcm` of numerics, of which DataFusion's may have more digits than its type, which are then not written: such a
//! result is refused. What is computed is DataFusion's.

use super::refused;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

/// Puts the function in the place of DataFusion's.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let function = Multiple(state.udf("lcm")?);
    state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Multiple(Arc<ScalarUDF>);

/// Refuses numerics of more digits than their type has.
fn check(values: &ColumnarValue) -> Result<()> {
    let DataType::Decimal128(precision, _) = values.data_type() else { return Ok(()) };
    let values = values.to_array(1)?;
    values.as_primitive::<Decimal128Type>().validate_decimal_precision(precision).map_err(|_| {
        let message = "numeric field overflow: cast an argument of lcm() to a numeric of more digits";
        refused("22003", message)
    })
}

impl ScalarUDFImpl for Multiple {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(args)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = self.0.inner().invoke_with_args(args)?;
        check(&made)?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array};

    #[test]
    fn digits_beyond_the_type_are_refused() {
        let of = |values: Vec<Option<i128>>| {
            let values = Decimal128Array::from(values).with_precision_and_scale(5, 2).expect("a type");
            check(&ColumnarValue::Array(Arc::new(values)))
        };
        assert!(of(vec![Some(99_999), None, Some(-99_999)]).is_ok());
        assert!(of(vec![Some(100_000)]).is_err());
        assert!(check(&ColumnarValue::Array(Arc::new(Int64Array::from(vec![i64::MAX])))).is_ok());
    }
}
