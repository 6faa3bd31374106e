//! Floating point where it is sorted, grouped by or counted: as PostgreSQL has it the two zeros are equal,
//! and all NaNs, which are greater than everything else. Arrow's order is by bits, which tell them apart.
//!
//! What is a key is therefore given one form, by a function that keeps the name of its argument. So are
//! intervals, which are equal when they are as long, a month having 30 days and a day 24 hours.

use crate::arrays;
use crate::composites;
use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, IntervalUnit};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{ScalarFunction, Sort};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use highwater_engine::{has_forms, one_form};
use std::any::Any;
use std::sync::Arc;

/// What the function is called where state is kept by it.
pub(crate) const KEY: &str = "float_key";

/// How the names of columns begin of which all values have their one form.
pub(crate) const ONE_FORM: &str = "form#";

/// Whether values of a type are floating point that tables have.
pub(crate) const fn is_float(of: &DataType) -> bool {
    matches!(of, DataType::Float32 | DataType::Float64)
}

/// Whether a type is that of intervals.
pub(crate) const fn is_interval(of: &DataType) -> bool {
    matches!(of, DataType::Interval(IntervalUnit::MonthDayNano))
}

/// A value in its one form as a key, if it is floating point or an interval, or an array or a composite value with
/// such.
pub(crate) fn key(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let has_one = |column: &Column| column.name.starts_with(ONE_FORM);
    if keyed(&expr).is_some() || expr.try_as_col().is_some_and(has_one) {
        return Ok(expr);
    }
    if !has_forms(&expr.get_type(schema)?) {
        return Ok(expr);
    }
    let function =
        ScalarUDF::from(Key { signature: Signature::any(1, Volatility::Immutable), aliases: [String::new()] });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![expr])))
}

/// The same of all sort keys, of which those that are arrays or composite are sorted as PostgreSQL does it.
pub(crate) fn sort_keys(sorts: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    let sorts = composites::by_fields(sorts, schema)?;
    let keyed = |sort: Sort| Ok(Sort { expr: key(sort.expr, schema)?, ..sort });
    arrays::nulls_apart(sorts.into_iter().map(keyed).collect::<Result<_>>()?, schema)
}

/// What has been given its one form, if an expression is that.
pub(crate) fn keyed(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if is_key(&call.func) => call.args.first(),
        _ => None,
    }
}

/// Whether a function gives keys their form.
fn is_key(function: &ScalarUDF) -> bool {
    let function: &dyn Any = function.inner().as_ref();
    function.is::<Key>()
}

/// Values with one NaN; zeros keep their signs.
pub(crate) fn one_nan(values: ColumnarValue) -> ColumnarValue {
    match values {
        ColumnarValue::Scalar(ScalarValue::Float32(Some(value))) if value.is_nan() => {
            ColumnarValue::Scalar(ScalarValue::Float32(Some(f32::NAN)))
        }
        ColumnarValue::Scalar(ScalarValue::Float64(Some(value))) if value.is_nan() => {
            ColumnarValue::Scalar(ScalarValue::Float64(Some(f64::NAN)))
        }
        ColumnarValue::Array(values) => ColumnarValue::Array(match values.data_type() {
            DataType::Float32 => mapped::<Float32Type>(values, |v| if v.is_nan() { f32::NAN } else { v }),
            DataType::Float64 => mapped::<Float64Type>(values, |v| if v.is_nan() { f64::NAN } else { v }),
            _ => values,
        }),
        other => other,
    }
}

/// Changes values in place where nobody else has them.
fn mapped<T: ArrowPrimitiveType>(values: ArrayRef, change: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    let array = values.as_primitive::<T>().clone();
    drop(values);
    Arc::new(array.unary_mut(&change).unwrap_or_else(|shared| shared.unary::<_, T>(&change)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    signature: Signature,
    /// That it is written as what it is called with.
    aliases: [String; 1],
}

impl ScalarUDFImpl for Key {
    fn name(&self) -> &'static str {
        KEY
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [of] => Ok(of.schema_name().to_string()),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [of] => Ok(of.clone()),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [of] => Ok(Arc::new(Field::new(self.name(), of.data_type().clone(), of.is_nullable()))),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn evaluate_bounds(&self, of: &[&Interval]) -> Result<Interval> {
        let data_type = of.first().map_or(DataType::Null, |of| of.data_type());
        Interval::make_unbounded(&data_type)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(one_form(values))),
            [ColumnarValue::Scalar(value)] => {
                ScalarValue::try_from_array(&one_form(&value.to_array()?), 0).map(ColumnarValue::Scalar)
            }
            _ => plan_err!("{} takes one value", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;

    #[test]
    fn one_nan_leaves_zeros_alone_and_shared_values_as_they_are() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, -f64::NAN]));
        let ColumnarValue::Array(one) = one_nan(ColumnarValue::Array(Arc::clone(&values))) else { panic!("an array") };
        let bits =
            |of: &ArrayRef| of.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&one), [(-0.0_f64).to_bits(), f64::NAN.to_bits()]);
        assert_eq!(bits(&values)[1], (-f64::NAN).to_bits(), "they belong to others too");
    }
}
