//! Quotients of numerics: of which type they are, and how they are computed.
//!
//! PostgreSQL's have 16 significant digits at least, and how many stand behind the point depends on the values.
//! Here it depends on the types, so that it is known when a statement is bound: 16, or as many as one of the two
//! has that has more; what is left of 38 digits stands before the point. The last digit is rounded, halves away
//! from zero. Averages have the same type (`averages`).
//!
//! A division becomes a function when it is bound, while the types of its operands may still change (those of
//! CASE are settled later), and a function of settled types with all others (`arithmetic`).

use crate::floats::is_float;
use crate::jsonb::typed;
use arrow::array::{Array, ArrayRef, AsArray, Datum, Decimal128Array};
use arrow::compute::kernels::arity::try_binary;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use highwater_engine::decimal::Division;
use std::any::Any;
use std::sync::Arc;

/// The digits behind the point that a quotient has at least.
const LEAST: i8 = 16;

/// The type of a quotient; none when it is not one of numerics.
///
/// It has no more digits than its largest value: the dividend's before the point, and as many more as the
/// divisor may have zeros behind it.
pub(crate) fn quotient_type(dividend: &DataType, divisor: &DataType) -> Option<DataType> {
    let (DataType::Decimal128(precision, of), DataType::Decimal128(_, by)) = (dividend, divisor) else { return None };
    if *of < 0 || *by < 0 {
        return None;
    }
    let scale = LEAST.max(*of).max(*by);
    let digits = i16::from(*precision) - i16::from(*of) + i16::from(*by) + i16::from(scale);
    let precision =
        u8::try_from(digits).map_or(Decimal128Type::MAX_PRECISION, |p| p.min(Decimal128Type::MAX_PRECISION));
    Some(DataType::Decimal128(precision, scale))
}

/// The numeric that a number is divided as; none when it is divided as something else.
pub(crate) fn numeric_of(of: &DataType) -> Option<DataType> {
    let digits = match of {
        DataType::Decimal128(_, scale) if *scale >= 0 => return Some(of.clone()),
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 | DataType::UInt64 => 20,
        _ => return None,
    };
    Some(DataType::Decimal128(digits, 0))
}

/// Whether a quotient of two is numeric: one of them is, and the other one a number too that is no double, or
/// has no type yet.
pub(crate) fn is_of_numerics(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let is_divided = |of: &Expr| of.get_type(schema).is_ok_and(|of| of.is_null() || numeric_of(&of).is_some());
    (is_numeric(left, schema) || is_numeric(right, schema)) && is_divided(left) && is_divided(right)
}

/// Whether an expression is numeric, or will be when the branches of a CASE have been brought to one type.
fn is_numeric(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            let mut branches = when_then_expr.iter().map(|(_, then)| then).chain(else_expr);
            branches.any(|branch| is_numeric(branch, schema))
        }
        other => other.get_type(schema).is_ok_and(|of| matches!(of, DataType::Decimal128(_, scale) if scale >= 0)),
    }
}

/// A quotient of two for which [`is_of_numerics`] holds. A parameter of which nothing is known is of the type of
/// the other one.
///
/// # Errors
/// When a type is not known.
pub(crate) fn quotient(left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let (of, by) = (left.get_type(schema)?, right.get_type(schema)?);
    let args = vec![typed(left, &by), typed(right, &of)];
    let function = ScalarUDF::from(Quotient { signature: Signature::user_defined(Volatility::Immutable) });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args)))
}

/// Whether a function is a division whose types may still change.
pub(crate) fn is_quotient(function: &ScalarUDF) -> bool {
    let any: &dyn Any = function.inner().as_ref();
    any.is::<Quotient>()
}

/// See [`quotient`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    signature: Signature,
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &'static str {
        "divided"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(names.join(" / "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = given else { return plan_err!("a division is one of two numbers") };
        match (numeric_of(left), numeric_of(right)) {
            (Some(left), Some(right)) => Ok(vec![left, right]),
            (Some(of), None) if right.is_null() => Ok(vec![of.clone(), of]),
            (None, Some(of)) if left.is_null() => Ok(vec![of.clone(), of]),
            _ if is_float(left) || is_float(right) => Ok(vec![DataType::Float64, DataType::Float64]),
            _ => plan_err!("Cannot divide {left} by {right}"),
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [left, right] => Ok(quotient_type(left, right).unwrap_or(DataType::Float64)),
            _ => plan_err!("a division is one of two numbers"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("a division has not been settled")
    }
}

/// The quotients of numerics.
///
/// # Errors
/// Arrow's for a division by zero, and for a quotient that has more digits than its type.
pub(crate) fn divided(left: &ColumnarValue, right: &ColumnarValue, to: &DataType) -> Result<ColumnarValue> {
    apply(left, right, |left, right| quotients(left, right, to))
}

fn quotients(left: &dyn Datum, right: &dyn Datum, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let ((left, is_left_one), (right, is_right_one)) = (left.get(), right.get());
    let division = division(left.data_type(), right.data_type(), to)?;
    let divide = |dividend: i128, divisor: i128| {
        if divisor == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let quotient = division.quotient(dividend, divisor);
        quotient.ok_or_else(|| ArrowError::ArithmeticOverflow(format!("{dividend} / {divisor}")))
    };
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let quotients: Decimal128Array = match (is_left_one, is_right_one) {
        (false, true) if right.is_null(0) => Decimal128Array::new_null(left.len()),
        (false, true) => left.try_unary(|left| divide(left, right.value(0)))?,
        (true, false) if left.is_null(0) => Decimal128Array::new_null(right.len()),
        (true, false) => right.try_unary(|right| divide(left.value(0), right))?,
        _ => try_binary(left, right, divide)?,
    };
    Ok(Arc::new(quotients.with_data_type(to.clone())))
}

fn division(of: &DataType, by: &DataType, to: &DataType) -> Result<Division, ArrowError> {
    if let (DataType::Decimal128(_, of), DataType::Decimal128(_, by), DataType::Decimal128(precision, scale)) =
        (of, by, to)
        && let Ok(digits) = u32::try_from(i32::from(*scale) + i32::from(*by) - i32::from(*of))
    {
        return Ok(Division::new(digits, *precision));
    }
    Err(ArrowError::InvalidArgumentError(format!("{of} / {by} is no {to}")))
}

#[cfg(test)]
mod tests;
