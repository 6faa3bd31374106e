//! Scalar functions of a program: the trait, and what DataFusion calls in its place. Those of CREATE
//! FUNCTION are in `sql_function`.
//!
//! Owns the check of a function's declaration and of each result, and which types of arguments are
//! taken for which. Invariant: what a call gives has the declared type and one value a row; else,
//! and when it panics, the call is an error that names the function.

use crate::arithmetic;
use crate::bounded;
use crate::error::{Error, Result};
use crate::floats;
use crate::types;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, ScalarValue, plan_err};
use datafusion::logical_expr::{self, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// On what a function's result depends, in PostgreSQL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// On its arguments alone, now and for ever. Only such a function can stand in what is kept
    /// current: materialized views, sinks, and plain views that these read.
    Immutable,
    /// Also on what does not change within one statement.
    Stable,
    /// On anything: it is called anew for every row.
    Volatile,
}

/// Why a call failed; `?` makes one of any error, and `.into()` of a text.
pub type CallError = Box<dyn std::error::Error + Send + Sync>;

/// A scalar function for SQL: one value of each argument in, one value out.
///
/// The types of arguments and result are those that columns can have: `Boolean`, `Int16`, `Int32`,
/// `Int64`, `Float32`, `Float64`, `Decimal128`, `Utf8`, `Binary`, `Date32`, `Time64` and `Timestamp`
/// in microseconds (without a zone, or in UTC), `Interval(MonthDayNano)`, and a `List` of any of these
/// whose items are called `item` and may be null. There is no `jsonb` and no composite value.
pub trait ScalarFunction: Debug + Send + Sync {
    /// Its name in SQL: lower-case letters, digits and `_`, no digit first, 63 characters at most.
    fn name(&self) -> &str;

    /// The types of its arguments. Arguments of other types are cast where no fraction can be lost:
    /// any whole number to any number, for one, and nothing but text to text.
    fn arguments(&self) -> Vec<DataType>;

    /// The type of its result, which may be null.
    fn returns(&self) -> DataType;

    /// On what its result depends.
    fn volatility(&self) -> Volatility;

    /// Computes the results of `rows` rows: one array an argument in, of the declared types, each
    /// with `rows` values, nulls among them; one array out, of the declared type, with as many.
    ///
    /// May be called from several threads at once, more often than rows are given, and for rows that
    /// no result needs.
    ///
    /// # Errors
    /// Fail the statement with 38000 (an [`ArrowError`] keeps its own class, such as 22012 for a
    /// division by zero), or in a view the pipeline, which then begins again from its last checkpoint.
    /// To let a row pass, give null.
    fn call(&self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef, CallError>;
}

/// A call that failed. An error of Arrow's keeps its class; others are 38000 to clients.
#[derive(Debug, thiserror::Error)]
#[error("function {name}: {reason}")]
pub struct CallFailed {
    /// The function.
    pub name: String,
    /// What it said.
    #[source]
    pub reason: CallError,
}

/// A program's function as DataFusion sees it.
#[derive(Debug)]
struct Called {
    function: Arc<dyn ScalarFunction>,
    name: String,
    arguments: Vec<DataType>,
    returns: DataType,
    signature: Signature,
}

/// The function as DataFusion takes it.
///
/// # Errors
/// `Invalid` when its name or a type cannot be used.
pub(crate) fn called(function: &Arc<dyn ScalarFunction>) -> Result<ScalarUDF> {
    let refused = |sqlstate, message| Err(Error::Invalid { sqlstate, message, position: None });
    let (name, arguments, returns) = (function.name().to_owned(), function.arguments(), function.returns());
    if let Err(message) = check_name(&name) {
        return refused("42602", message);
    }
    if name == floats::KEY || arithmetic::NAMES.contains(&name.as_str()) {
        return refused("42723", format!("function {name} is one of the database's own: give yours another name"));
    }
    if let Some(other) = arguments.iter().chain([&returns]).find(|data_type| !is_taken(data_type)) {
        return refused("42P13", format!("function {name} has the type {other}, which no column can have"));
    }
    let volatility = match function.volatility() {
        Volatility::Immutable => logical_expr::Volatility::Immutable,
        Volatility::Stable => logical_expr::Volatility::Stable,
        Volatility::Volatile => logical_expr::Volatility::Volatile,
    };
    let signature = Signature::user_defined(volatility);
    Ok(ScalarUDF::from(Called { function: Arc::clone(function), name, arguments, returns, signature }))
}

/// Refuses, in words, what cannot be a function's name.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if starts && name.len() <= 63 && name.chars().all(is_plain) {
        return Ok(());
    }
    let takes = "it takes lower-case letters, digits and _, no digit first, 63 characters at most";
    Err(format!("{name:?} cannot be a function's name: {takes}"))
}

/// One function is registered once, so it is itself and no other.
impl PartialEq for Called {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function, &other.function)
    }
}

impl Eq for Called {}

impl Hash for Called {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Called {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.returns.clone())
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        let fits = |(to, from): (&DataType, &DataType)| is_taken_for(from, to);
        if given.len() == self.arguments.len() && self.arguments.iter().zip(given).all(fits) {
            return Ok(self.arguments.clone());
        }
        let (name, given, takes) = (&self.name, listed(given), listed(&self.arguments));
        plan_err!("function {name}({given}) does not exist: there is {name}({takes})")
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let is_scalar = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        // What depends on constants alone is one value, for however many rows.
        let is_constant = self.signature.volatility != logical_expr::Volatility::Volatile;
        let is_constant = is_constant && args.args.iter().all(is_scalar);
        let rows = if is_constant { 1 } else { args.number_rows };
        let arguments = bounded::spread(&self.name, &args.args, rows)?;
        let result = self.checked(&arguments, rows).map_err(|reason| self.failed(reason))?;
        if is_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Called {
    fn checked(&self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef, CallError> {
        let called = catch_unwind(AssertUnwindSafe(|| self.function.call(arguments, rows)));
        let result = called.unwrap_or_else(|panic| Err(format!("panicked: {}", message_of(panic.as_ref())).into()))?;
        if result.data_type() != &self.returns || result.len() != rows {
            let (is, declared) = (result.data_type(), &self.returns);
            return Err(format!("{} values of {is} came for {rows} of {declared}", result.len()).into());
        }
        Ok(result)
    }

    fn failed(&self, reason: CallError) -> DataFusionError {
        match reason.downcast::<ArrowError>() {
            Ok(arrow) => (*arrow).into(),
            Err(reason) => DataFusionError::External(Box::new(CallFailed { name: self.name.clone(), reason })),
        }
    }
}

/// Whether a program's function can have a type: any of a column's but jsonb and composite ones.
fn is_taken(data_type: &DataType) -> bool {
    let element = match data_type {
        DataType::List(of) => of.data_type(),
        DataType::Struct(_) => return false,
        other => other,
    };
    types::is_kept(data_type) && !types::is_jsonb(element)
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

fn listed(types: &[DataType]) -> String {
    types.iter().map(types::pg_name).collect::<Vec<_>>().join(", ")
}

/// Whether an argument of one type may stand where another is wanted. A whole number that the wanted
/// type cannot hold, or a text that is no time, is an error when it comes.
pub(crate) fn is_taken_for(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Date32, Decimal128, Interval, LargeBinary, Null, Time64, Utf8, Utf8View};
    let is_text = matches!(from, Utf8 | Utf8View);
    if from == to || *from == Null {
        return true;
    }
    match to {
        to if to.is_integer() => from.is_integer(),
        to if to.is_floating() || matches!(to, Decimal128(..)) => from.is_numeric(),
        Utf8 => is_text,
        Binary => matches!(from, LargeBinary | BinaryView),
        Date32 | Interval(_) => is_text,
        Time64(_) => is_text || matches!(from, DataType::Time32(_)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            is_text || matches!(from, DataType::Timestamp(..) | Date32 | DataType::Date64)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_where_nothing_is_lost() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (from, to, fits) in [
            (DataType::Int64, DataType::Int32, true),
            (DataType::Int32, DataType::Float64, true),
            (DataType::Float64, DataType::Decimal128(10, 2), true),
            (DataType::Float64, DataType::Int64, false),
            (DataType::Decimal128(5, 0), DataType::Int64, false),
            (DataType::Utf8View, DataType::Utf8, true),
            (DataType::Int64, DataType::Utf8, false),
            (DataType::Utf8, DataType::Int64, false),
            (DataType::Utf8, micros.clone(), true),
            (DataType::Date32, micros.clone(), true),
            (micros, DataType::Date32, false),
            (DataType::Null, DataType::Boolean, true),
        ] {
            assert_eq!(is_taken_for(&from, &to), fits, "{from} for {to}");
        }
    }
}
