//! Casts of values to text, which give PostgreSQL's text form and not Arrow's: `spelling` has it.
//!
//! A cast becomes a function once types are settled, so that those that nobody wrote (`f || ''`) do too.
//! Functions that take values of any type to join them write a boolean as `t`, where a cast writes `true`.

use crate::spelling::element_texts;
use crate::types::is_text;
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

/// What the function is called where state is kept by it.
pub(crate) const NAME: &str = "text_out";

/// Functions that write their arguments as values are written to clients.
const JOINING: [&str; 2] = ["concat", "concat_ws"];

/// Whether Arrow writes values of a type in another way than PostgreSQL's casts do.
const fn is_own(from: &DataType) -> bool {
    matches!(
        from,
        DataType::Float32
            | DataType::Float64
            | DataType::Binary
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
            | DataType::Duration(_)
            | DataType::Interval(_)
            | DataType::Struct(_)
    )
}

/// A value as text; an instant as the clocks of `zone` show it, or those of UTC.
pub(crate) fn text_of(value: Expr, zone: Option<Expr>) -> Expr {
    let function = ScalarUDF::from(Printed { signature: Signature::variadic_any(Volatility::Immutable) });
    let args = std::iter::once(value).chain(zone).collect();
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
}

/// A cast to text as the function that it is.
pub(crate) fn printed(written: Cast, schema: &DFSchema) -> Transformed<Expr> {
    let is_printed = is_text(written.field.data_type()) && written.expr.get_type(schema).is_ok_and(|of| is_own(&of));
    if !is_printed {
        return Transformed::no(Expr::Cast(written));
    }
    let text = text_of(*written.expr, None);
    if *written.field.data_type() == DataType::Utf8 {
        return Transformed::yes(text);
    }
    Transformed::yes(Expr::Cast(Cast { expr: Box::new(text), field: written.field }))
}

/// Writes the arguments of functions that join values of any type.
#[derive(Debug)]
pub(crate) struct Joined;

impl FunctionRewrite for Joined {
    fn name(&self) -> &'static str {
        "joined_as_text"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
        let is_joined = |of: &DataType| matches!(of, DataType::Boolean | DataType::List(_)) || is_own(of);
        let is_other = |arg: &Expr| arg.get_type(schema).is_ok_and(|of| is_joined(&of));
        if !JOINING.contains(&call.func.name()) || !call.args.iter().any(is_other) {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        let text = |arg: Expr| if is_other(&arg) { text_of(arg, None) } else { arg };
        call.args = call.args.into_iter().map(text).collect();
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Printed {
    signature: Signature,
}

/// Times and intervals in the units that their columns have.
fn plain(values: &ArrayRef) -> Result<ArrayRef> {
    let to = match values.data_type() {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Duration(_) | DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        _ => return Ok(Arc::clone(values)),
    };
    Ok(cast(values, &to)?)
}

/// Values as texts as clients see them: a boolean as `t`; instants as the clocks of `zone` show them, or those of UTC.
///
/// # Errors
/// When a value has no such text.
pub(crate) fn texts(values: &ArrayRef, zone: Option<&str>) -> Result<ArrayRef> {
    let values = plain(values)?;
    if let (Some(zone), DataType::Timestamp(_, Some(_))) = (zone, values.data_type()) {
        let zoned = values.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(zone);
        return Ok(Arc::new(element_texts(&(Arc::new(zoned) as ArrayRef))?));
    }
    Ok(Arc::new(element_texts(&values)?))
}

impl ScalarUDFImpl for Printed {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what comes of columns that are null and nothing else.
        if args.args.iter().any(|arg| arg.data_type().is_null()) {
            return Ok(ColumnarValue::Array(new_null_array(&DataType::Utf8, args.number_rows)));
        }
        let (value, zone) = match args.args.as_slice() {
            [value] => (value, None),
            [value, ColumnarValue::Scalar(zone)] => (value, zone.try_as_str().flatten()),
            _ => return plan_err!("{NAME} takes a value, and a zone that is written out"),
        };
        match value {
            ColumnarValue::Array(values) => texts(values, zone).map(ColumnarValue::Array),
            ColumnarValue::Scalar(value) => {
                ScalarValue::try_from_array(&texts(&value.to_array()?, zone)?, 0).map(ColumnarValue::Scalar)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, TimestampMicrosecondArray, TimestampNanosecondArray};

    fn text(values: ArrayRef, zone: Option<&str>) -> Vec<String> {
        let texts = texts(&values, zone).expect("printed");
        texts.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    }

    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        let floats = Float64Array::from(vec![1.0, f64::INFINITY, 1e20, -0.0, 0.1]);
        assert_eq!(text(Arc::new(floats), None), ["1", "Infinity", "1e+20", "-0", "0.1"]);
        assert_eq!(text(Arc::new(BooleanArray::from(vec![true, false])), None), ["t", "f"]);
        let nanos = TimestampNanosecondArray::from(vec![1_500_000_000]);
        assert_eq!(text(Arc::new(nanos), None), ["1970-01-01 00:00:01.5"]);
        let instant = || Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
        assert_eq!(text(instant(), None), ["1970-01-01 00:00:00+00"]);
        assert_eq!(text(instant(), Some("Europe/Berlin")), ["1970-01-01 01:00:00+01"]);
    }
}
