//! Functions whose values may be much longer than what they are made of: how much a call gives is
//! bounded, so that no number in a statement or a row takes all memory.

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

/// Bytes that one call may give, for all of its rows together: 32 KiB for each of a batch's 8192.
pub(crate) const MOST_BYTES: i64 = 256 << 20;
/// Bytes of a character at most.
const CHARACTER: i64 = 4;
/// How often a text is repeated; the others take a length in characters.
const REPEAT: &str = "repeat";

/// One of DataFusion's functions of a text and a number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded(Arc<ScalarUDF>);

/// Puts the bounded functions in the places of those that are not.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in [REPEAT, "lpad", "rpad"] {
        let bounded = Bounded(state.udf(name)?);
        state.register_udf(Arc::new(ScalarUDF::from(bounded)))?;
    }
    Ok(())
}

/// The error of a function that would give more.
pub(crate) fn too_much(name: &str) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!("{name} would give more than {} MiB at once", MOST_BYTES >> 20))
}

/// A column, or one value of a constant.
fn values(of: &ColumnarValue) -> Result<ArrayRef> {
    match of {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(_) => of.to_array(1),
    }
}

/// The value of a row, when it is not null.
fn value(of: &Int64Array, row: usize) -> Option<i64> {
    let row = if of.len() == 1 { 0 } else { row };
    of.is_valid(row).then(|| of.value(row))
}

impl Bounded {
    /// The bytes that a call gives at most.
    fn bytes(&self, args: &ScalarFunctionArgs) -> Result<i64> {
        let [text, number, ..] = args.args.as_slice() else { return Ok(0) };
        let numbers = cast(&values(number)?, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let lengths = match self.0.name() {
            REPEAT => Some(cast(&length(&values(text)?)?, &DataType::Int64)?),
            _ => None,
        };
        let lengths = lengths.as_ref().map(|lengths| lengths.as_primitive::<Int64Type>());
        let of_row = |row| {
            let each = lengths.map_or(Some(CHARACTER), |lengths| value(lengths, row))?;
            Some(value(numbers, row)?.max(0).saturating_mul(each))
        };
        Ok((0..args.number_rows).filter_map(of_row).fold(0, i64::saturating_add))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.bytes(&args)? > MOST_BYTES {
            return Err(too_much(self.name()));
        }
        self.0.inner().invoke_with_args(args)
    }
}
