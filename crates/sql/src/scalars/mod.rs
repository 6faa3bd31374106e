//! Functions of PostgreSQL that DataFusion has not, or has with other results.
//!
//! Each is a row of a table: what it is called, which types it takes and gives, and how whole columns are
//! computed. The tables and what is computed are in the modules, by what it is about. A function that is given
//! types it does not take does not exist (42883), as in PostgreSQL.

mod binary;
mod characters;
mod domains;
mod formatted;
mod lengths;
mod multiples;
mod numbers;
mod quoted;
mod read;
mod split;
mod substring;
mod times;
mod truncated;

use crate::bounded;
use crate::error::DataError;
use crate::types::{is_text, pg_name};
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub(crate) use binary::{check_encoding, check_utf8, from_text, read as read_bytes};
pub(crate) use numbers::OF_NUMERICS;
pub(crate) use read::{INSTANT_OF_TEXT, instant_of_text, read, time_of_text};
pub(crate) use split::{NAME as SPLIT_TO_ARRAY, check_regex};
pub(crate) use times::{APART, OF_INTERVALS, apart, days_earlier, days_later, time_of_both};

const STAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Makes the functions known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let all = binary::ALL.iter().chain(&formatted::ALL).chain(&numbers::ALL).chain(&quoted::ALL).chain(&times::ALL);
    for scalar in all.chain([&split::SPLIT, &characters::CHR]) {
        state.register_udf(Arc::new(udf(scalar)))?;
    }
    domains::register(state)?;
    lengths::register(state)?;
    multiples::register(state)?;
    truncated::register(state)?;
    substring::register(state)
}

pub(crate) fn refused(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message: message.into() }))
}

/// One function.
#[derive(Debug)]
struct Scalar {
    name: &'static str,
    /// The types in which it takes values of these types; none when it does not take them.
    takes: fn(&[DataType]) -> Option<Vec<DataType>>,
    /// The type of what it gives, by the types in which it takes its arguments.
    gives: fn(&[DataType]) -> DataType,
    /// Whether it gives null wherever it is given one.
    is_strict: bool,
    compute: fn(&[ArrayRef]) -> Result<ArrayRef>,
}

fn udf(scalar: &'static Scalar) -> ScalarUDF {
    ScalarUDF::from(Own { scalar, signature: Signature::user_defined(Volatility::Immutable) })
}

/// A call of one of the functions with values of the types that it takes.
fn call(scalar: &'static Scalar, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf(scalar)), args))
}

/// Whether values of a type may be taken for texts.
fn may_be_text(of: &DataType) -> bool {
    is_text(of) || of.is_null()
}

/// Whether values of a type may be taken for whole numbers.
fn may_be_whole(of: &DataType) -> bool {
    of.is_integer() || of.is_null()
}

/// Texts, so many of them.
fn texts(given: &[DataType], count: usize) -> Option<Vec<DataType>> {
    (given.len() == count && given.iter().all(may_be_text)).then(|| vec![DataType::Utf8; count])
}

/// What a function makes of each row; null where an argument is.
fn by_row<T>(args: &[ArrayRef], make: impl Fn(usize) -> Result<T>) -> Result<Vec<Option<T>>> {
    let rows = args.first().map_or(0, |arg| arg.len());
    let of_row = |row| if args.iter().any(|arg| arg.is_null(row)) { Ok(None) } else { make(row).map(Some) };
    (0..rows).map(of_row).collect()
}

fn whole(args: &[ArrayRef], at: usize, row: usize) -> i64 {
    args[at].as_primitive::<Int64Type>().value(row)
}

fn double(args: &[ArrayRef], at: usize, row: usize) -> f64 {
    args[at].as_primitive::<Float64Type>().value(row)
}

#[derive(Debug)]
struct Own {
    scalar: &'static Scalar,
    signature: Signature,
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        self.scalar.name == other.scalar.name
    }
}

impl Eq for Own {}

impl Hash for Own {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scalar.name.hash(state);
    }
}

impl ScalarUDFImpl for Own {
    fn name(&self) -> &str {
        self.scalar.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Some(taken) = (self.scalar.takes)(given) else {
            let given: Vec<String> = given.iter().map(pg_name).collect();
            return plan_err!("function {}({}) does not exist", self.scalar.name, given.join(", "));
        };
        Ok(taken)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok((self.scalar.gives)(args))
    }

    fn is_strict(&self) -> bool {
        self.scalar.is_strict
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what comes of columns that are null and nothing else.
        if self.scalar.is_strict && args.args.iter().any(|arg| arg.data_type().is_null()) {
            return Ok(ColumnarValue::Array(new_null_array(args.return_field.data_type(), args.number_rows)));
        }
        bounded::by_columns(self.scalar.name, &args, self.scalar.compute)
    }
}
