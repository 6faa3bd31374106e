//! How long bytes are, in the places of DataFusion's functions, which stay for texts.

use super::binary::is_bytes;
use super::may_be_text;
use crate::types::pg_name;
use arrow::array::{Array, ArrayRef};
use arrow::compute::kernels::length::{bit_length, length};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// The functions, and whether each counts bits.
const ALL: [(&str, bool); 3] = [("length", false), ("octet_length", false), ("bit_length", true)];

/// Puts the functions in the places of DataFusion's.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    for (name, is_of_bits) in ALL {
        let signature = Signature::user_defined(Volatility::Immutable);
        let counted = Length { of_texts: state.udf(name)?, is_of_bits, signature };
        state.register_udf(Arc::new(ScalarUDF::from(counted)))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    of_texts: Arc<ScalarUDF>,
    is_of_bits: bool,
    signature: Signature,
}

impl Length {
    fn counted(&self, bytes: &dyn Array) -> Result<ArrayRef> {
        Ok(if self.is_of_bits { bit_length(bytes)? } else { length(bytes)? })
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        self.of_texts.name()
    }

    fn aliases(&self) -> &[String] {
        self.of_texts.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [of] if is_bytes(of) => Ok(vec![DataType::Binary]),
            [of] if may_be_text(of) => Ok(vec![DataType::Utf8]),
            _ => {
                let given: Vec<String> = given.iter().map(pg_name).collect();
                plan_err!("function {}({}) does not exist", self.name(), given.join(", "))
            }
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [DataType::Binary] => Ok(DataType::Int32),
            _ => self.of_texts.inner().return_type(args),
        }
    }

    fn is_strict(&self) -> bool {
        self.of_texts.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(bytes)] if *bytes.data_type() == DataType::Binary => {
                self.counted(bytes.as_ref()).map(ColumnarValue::Array)
            }
            [ColumnarValue::Scalar(bytes @ ScalarValue::Binary(_))] => {
                let counted = self.counted(bytes.to_array()?.as_ref())?;
                ScalarValue::try_from_array(&counted, 0).map(ColumnarValue::Scalar)
            }
            _ => self.of_texts.inner().invoke_with_args(args),
        }
    }
}
