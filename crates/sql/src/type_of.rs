//! `pg_typeof(value)`: what PostgreSQL calls the type of a value. It is known when a statement is planned.

use crate::types::catalog_name;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// What it is called.
pub const NAME: &str = "pg_typeof";

/// The function.
#[must_use]
pub fn udf() -> ScalarUDF {
    ScalarUDF::from(TypeOf { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.arg_fields.as_slice() {
            [of] => Ok(ColumnarValue::Scalar(ScalarValue::from(catalog_name(of.data_type())))),
            _ => plan_err!("{NAME} takes one value"),
        }
    }
}
