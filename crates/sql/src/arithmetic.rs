//! Operators that give no wrong value: integers fail where Arrow's would wrap around (22003), and numerics where
//! a result has more digits than a numeric, of which Arrow's look at 128 bits alone; what is no number is one
//! NaN, whose sign says nothing, quotients of numerics are rounded (`division`), and texts end to end are no
//! longer than memory holds.
//!
//! Operators become functions as soon as types are settled, so that what is computed while a statement is
//! planned, once, or for ever is computed by the same ones. A function keeps the name of its operator.

use crate::bounded;
use crate::division;
use crate::error::DataError;
use crate::floats;
use crate::types::pg_name;
use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, new_null_array};
use arrow::compute::kernels::bitwise::bitwise_xor;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Decimal128Type, DecimalType, Field, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use std::any::Any;
use std::ops::BitXor;
use std::sync::Arc;

/// Operators become functions where these give something else.
///
/// # Errors
/// When the type of an operand is not known.
pub(crate) fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let made = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match Operation::of(*op) {
            Some(operation) => {
                let (data_type, other) = (type_of(left, schema)?, type_of(right, schema)?);
                if operation == Operation::Divide && division::quotient_type(&data_type, &other).is_some() {
                    // They were no numerics yet when they were bound: the type is the one that was settled since.
                    Some((operation, expr.get_type(schema)?))
                } else if is_numeric(&data_type) && is_numeric(&other) {
                    match operation {
                        Operation::Divide | Operation::Join => None,
                        _ => Some((operation, BinaryTypeCoercer::new(&data_type, op, &other).get_result_type()?)),
                    }
                } else {
                    (data_type == other).then_some((operation, data_type))
                }
            }
            None => None,
        },
        Expr::Negative(of) => Some((Operation::Negate, type_of(of, schema)?)),
        Expr::ScalarFunction(call) if division::is_quotient(&call.func) => {
            Some((Operation::Divide, expr.get_type(schema)?))
        }
        _ => None,
    };
    let Some((operation, data_type)) = made.filter(|(operation, of)| operation.is_of(of)) else {
        return Ok(Transformed::no(expr));
    };
    let args = match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => vec![*left, *right],
        Expr::Negative(of) => vec![*of],
        Expr::ScalarFunction(call) => call.args,
        other => return Ok(Transformed::no(other)),
    };
    let signature = Signature::any(args.len(), Volatility::Immutable);
    let sign = vec![operation.operator().unwrap_or(Operator::Minus).to_string()];
    let function = ScalarUDF::from(Arithmetic { operation, data_type, signature, sign });
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))))
}

const fn is_numeric(of: &DataType) -> bool {
    matches!(of, DataType::Decimal128(..))
}

/// An expression as it is written: with operators again, and without the forms of keys.
pub(crate) fn written(expr: Expr) -> Result<Expr> {
    let written = expr.transform_up(|expr| {
        if let Some(of) = floats::keyed(&expr) {
            return Ok(Transformed::yes(of.clone()));
        }
        let plain = match made(&expr) {
            Some((Arithmetic { operation, .. }, [left, right])) => operation
                .operator()
                .map(|op| Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), op, Box::new(right.clone())))),
            Some((_, [of])) => Some(Expr::Negative(Box::new(of.clone()))),
            _ => None,
        };
        Ok(plain.map_or_else(|| Transformed::no(expr), Transformed::yes))
    })?;
    Ok(written.data)
}

/// The function that an operator has become, and what it is called with.
fn made(expr: &Expr) -> Option<(&Arithmetic, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let function: &dyn Any = call.func.inner().as_ref();
    Some((function.downcast_ref::<Arithmetic>()?, call.args.as_slice()))
}

/// The type of an expression; of long sums without looking at all of their parts.
pub(crate) fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match made(expr) {
        Some((arithmetic, _)) => Ok(arithmetic.data_type.clone()),
        None => expr.get_type(schema),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Join,
    Xor,
}

/// What the functions are called where state is kept by them.
pub(crate) const NAMES: [&str; 8] = ["plus", "minus", "times", "divided", "modulo", "negative", "joined", "xor"];

impl Operation {
    const fn of(operator: Operator) -> Option<Self> {
        match operator {
            Operator::Plus => Some(Self::Add),
            Operator::Minus => Some(Self::Subtract),
            Operator::Multiply => Some(Self::Multiply),
            Operator::Divide => Some(Self::Divide),
            Operator::Modulo => Some(Self::Modulo),
            Operator::StringConcat => Some(Self::Join),
            Operator::BitwiseXor => Some(Self::Xor),
            _ => None,
        }
    }

    const fn operator(self) -> Option<Operator> {
        match self {
            Self::Add => Some(Operator::Plus),
            Self::Subtract => Some(Operator::Minus),
            Self::Multiply => Some(Operator::Multiply),
            Self::Divide => Some(Operator::Divide),
            Self::Modulo => Some(Operator::Modulo),
            Self::Join => Some(Operator::StringConcat),
            Self::Xor => Some(Operator::BitwiseXor),
            Self::Negate => None,
        }
    }

    /// Whether it is another one than DataFusion's for values of a type.
    fn is_of(self, of: &DataType) -> bool {
        match self {
            Self::Join => matches!(of, DataType::Utf8 | DataType::Utf8View),
            Self::Modulo => floats::is_float(of) || is_numeric(of),
            // The simplifier forgets the nulls of `x # x`.
            Self::Xor => of.is_signed_integer(),
            Self::Negate => of.is_signed_integer() || floats::is_float(of),
            _ => of.is_integer() || floats::is_float(of) || is_numeric(of),
        }
    }

    /// # Errors
    /// Arrow's, and that of texts that are too long.
    fn computed(self, args: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
        match (self, args) {
            (Self::Join, [_, _]) => bounded::joined(args, rows),
            (Self::Xor, [left, right]) => exclusive(&left.to_array(rows)?, &right.to_array(rows)?),
            (Self::Add, [left, right]) => apply(left, right, numeric::add),
            (Self::Subtract, [left, right]) => apply(left, right, numeric::sub),
            (Self::Multiply, [left, right]) => apply(left, right, numeric::mul),
            (Self::Divide, [left, right]) => apply(left, right, numeric::div),
            (Self::Modulo, [left, right]) => apply(left, right, numeric::rem),
            (Self::Negate, [ColumnarValue::Array(of)]) => Ok(ColumnarValue::Array(numeric::neg(of)?)),
            (Self::Negate, [ColumnarValue::Scalar(of)]) => {
                let negated = numeric::neg(&of.to_array()?)?;
                ScalarValue::try_from_array(&negated, 0).map(ColumnarValue::Scalar)
            }
            _ => plan_err!("{self:?} is given {} values", args.len()),
        }
    }
}

/// The bits that one of two numbers has.
fn exclusive(left: &ArrayRef, right: &ArrayRef) -> Result<ColumnarValue> {
    fn of<T>(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef>
    where
        T: ArrowNumericType,
        T::Native: BitXor<Output = T::Native>,
    {
        Ok(Arc::new(bitwise_xor(left.as_primitive::<T>(), right.as_primitive::<T>())?))
    }
    let bits = match left.data_type() {
        DataType::Int8 => of::<Int8Type>(left, right)?,
        DataType::Int16 => of::<Int16Type>(left, right)?,
        DataType::Int32 => of::<Int32Type>(left, right)?,
        DataType::Int64 => of::<Int64Type>(left, right)?,
        other => return plan_err!("{other} has no bits"),
    };
    Ok(ColumnarValue::Array(bits))
}

/// An operator as a function of values of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    operation: Operation,
    data_type: DataType,
    signature: Signature,
    /// The operator's sign alone, by which the engine tells of a call that fails as it is written.
    sign: Vec<String>,
}

/// What is to be called `a + b`, put together without a text for each part.
fn name_into(expr: &Expr, name: &mut String) {
    match made(expr) {
        Some((arithmetic, args)) => arithmetic.name_into(args, name),
        None => name.push_str(&expr.schema_name().to_string()),
    }
}

impl Arithmetic {
    fn name_into(&self, args: &[Expr], name: &mut String) {
        match (args, self.operation.operator()) {
            ([left, right], Some(operator)) => {
                name_into(left, name);
                name.push_str(&format!(" {operator} "));
                name_into(right, name);
            }
            _ => {
                name.push_str("(- ");
                args.iter().for_each(|of| name_into(of, name));
                name.push(')');
            }
        }
    }

    fn told(&self, error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::ArrowError(arrow, _) if matches!(*arrow, ArrowError::ArithmeticOverflow(_)) => {
                out_of_range(&self.data_type)
            }
            other => other,
        }
    }
}

/// Numerics none of which has more digits than the type of most digits: the others have as many as results can
/// have.
fn within_digits(value: ColumnarValue, data_type: &DataType) -> Result<ColumnarValue> {
    let most = Decimal128Type::MAX_PRECISION;
    if !matches!(data_type, DataType::Decimal128(precision, _) if *precision == most) {
        return Ok(value);
    }
    let fits = match &value {
        ColumnarValue::Array(values) => {
            values.as_primitive::<Decimal128Type>().validate_decimal_precision(most).is_ok()
        }
        ColumnarValue::Scalar(ScalarValue::Decimal128(Some(value), ..)) => {
            Decimal128Type::is_valid_decimal_precision(*value, most)
        }
        ColumnarValue::Scalar(_) => true,
    };
    if fits { Ok(value) } else { Err(out_of_range(data_type)) }
}

/// A number that is too large for its type.
pub(crate) fn out_of_range(data_type: &DataType) -> DataFusionError {
    let message = match data_type {
        DataType::Decimal128(..) => "numeric out of range".to_owned(),
        other => format!("{} out of range", pg_name(other)),
    };
    DataFusionError::External(Box::new(DataError { sqlstate: "22003", message }))
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &'static str {
        NAMES[self.operation as usize]
    }

    fn aliases(&self) -> &[String] {
        &self.sign
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.name_into(args, &mut name);
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.data_type.clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn evaluate_bounds(&self, _: &[&Interval]) -> Result<Interval> {
        Interval::make_unbounded(&self.data_type)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what comes of columns that are null and nothing else.
        if args.args.iter().any(|arg| arg.data_type().is_null()) {
            return Ok(ColumnarValue::Array(new_null_array(&self.data_type, args.number_rows)));
        }
        let computed = match (self.operation, &self.data_type, args.args.as_slice()) {
            (Operation::Divide, DataType::Decimal128(..), [left, right]) => {
                division::divided(left, right, &self.data_type)
            }
            (operation, DataType::Decimal128(..), values) => {
                operation.computed(values, args.number_rows).and_then(|value| within_digits(value, &self.data_type))
            }
            (operation, _, values) => operation.computed(values, args.number_rows),
        };
        computed.map(floats::one_nan).map_err(|error| self.told(error))
    }
}

#[cfg(test)]
mod tests;
