//! Casts that leave out digits after the point round, as PostgreSQL's do: numeric with halves away from
//! zero, floating point with halves to the even number. Arrow's casts to integers cut off. Floating point becomes
//! numeric by its digits, and numeric the nearest floating point ([`numerics`]), where Arrow's casts multiply and
//! divide.
//!
//! All are functions of their own. DataFusion compares what is below a cast with a literal in
//! place of the cast, which is another question where the cast rounds: `n::int = 3` is not `n = 3`.

use crate::floats::is_float;
use crate::numerals::as_numeric;
use crate::numerics;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use std::any::Any;
use std::sync::Arc;

/// What is done to values below a cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// So many digits after the point stay.
    Rounded(i8),
    /// Floating point becomes numeric of this precision and scale.
    Numeric(u8, i8),
    /// Numeric becomes double precision.
    Double,
    /// Numeric becomes real.
    Real,
}

impl Step {
    /// What is done before a cast of one type to another; nothing for most.
    fn before(from: &DataType, to: &DataType) -> Option<Self> {
        match (from, to) {
            (DataType::Float32 | DataType::Float64, to) if to.is_integer() => Some(Self::Rounded(0)),
            (DataType::Float32 | DataType::Float64, DataType::Decimal128(precision, scale)) => {
                Some(Self::Numeric(*precision, *scale))
            }
            (DataType::Decimal128(..), DataType::Float64) => Some(Self::Double),
            (DataType::Decimal128(..), DataType::Float32) => Some(Self::Real),
            (DataType::Decimal128(_, scale), to) if to.is_integer() && *scale > 0 => Some(Self::Rounded(0)),
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, kept)) if (0..*scale).contains(kept) => {
                Some(Self::Rounded(*kept))
            }
            (DataType::List(from), DataType::List(to)) => Self::before(from.data_type(), to.data_type()),
            _ => None,
        }
    }

    /// What values of a type are then.
    fn gives(self, from: &DataType) -> DataType {
        match (from, self) {
            (DataType::List(of), _) => list_of(self.gives(of.data_type())),
            (_, Self::Numeric(precision, scale)) => DataType::Decimal128(precision, scale),
            (_, Self::Double) => DataType::Float64,
            (_, Self::Real) => DataType::Float32,
            (DataType::Decimal128(precision, scale), Self::Rounded(digits)) => {
                rounded_numeric(*precision, *scale, digits)
            }
            (other, Self::Rounded(_)) => other.clone(),
        }
    }

    fn of(self, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match (values.data_type(), self) {
            // So the optimizer asks what a condition makes of nulls.
            (DataType::Null, _) => Ok(new_null_array(&self.gives(&DataType::Null), values.len())),
            (DataType::List(_), _) => {
                let lists = values.as_list::<i32>();
                let elements = self.of(lists.values())?;
                let field = Arc::new(Field::new_list_field(elements.data_type().clone(), true));
                Ok(Arc::new(ListArray::try_new(field, lists.offsets().clone(), elements, lists.nulls().cloned())?))
            }
            (_, Self::Numeric(precision, scale)) => Ok(Arc::new(numerics::of_floats(values, precision, scale)?)),
            (_, Self::Double) => Ok(Arc::new(numerics::as_doubles(values.as_primitive()))),
            (_, Self::Real) => Ok(Arc::new(numerics::as_reals(values.as_primitive()))),
            (DataType::Float32, Self::Rounded(_)) => {
                Ok(Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even)))
            }
            (DataType::Float64, Self::Rounded(_)) => {
                Ok(Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even)))
            }
            (from, Self::Rounded(_)) => {
                let strict = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(values, &self.gives(from), &strict)
            }
        }
    }
}

/// The type of rounded numerics, which has a digit more before the point.
fn rounded_numeric(precision: u8, scale: i8, digits: i8) -> DataType {
    let gone = u8::try_from(scale.saturating_sub(digits)).unwrap_or(0);
    let precision = precision.saturating_sub(gone).saturating_add(1);
    DataType::Decimal128(precision.min(Decimal128Type::MAX_PRECISION), digits)
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// Values as a cast to a type finds them.
///
/// # Errors
/// When a value has more digits than there are.
pub fn rounded(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match Step::before(values.data_type(), to) {
        Some(step) => step.of(values),
        None => Ok(Arc::clone(values)),
    }
}

/// A cast below which the function stands that is to; a number that is written out is taken for the numeric that it is.
pub(crate) fn exact(Cast { expr: inner, field }: Cast, schema: &DFSchema) -> Transformed<Expr> {
    let step = inner.get_type(schema).ok().and_then(|from| Step::before(&from, field.data_type()));
    let Some(step) = step else { return Transformed::no(Expr::Cast(Cast { expr: inner, field })) };
    if let (Step::Numeric(..), Some(numeric)) = (step, as_numeric(&inner)) {
        return Transformed::yes(exact(Cast { expr: Box::new(numeric), field }, schema).data);
    }
    let written = if step == Step::Rounded(0) { rounded_as_written(&inner) } else { None };
    let inner = written.unwrap_or_else(|| {
        let function = Arc::new(ScalarUDF::from(Below::cast(step)));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![*inner]))
    });
    Transformed::yes(Expr::Cast(Cast { expr: Box::new(inner), field }))
}

/// Whether a cast makes numerics of floating point, or the other way around.
pub(crate) fn is_by_digits(cast: &Cast, schema: &DFSchema) -> bool {
    let step = cast.expr.get_type(schema).ok().and_then(|from| Step::before(&from, cast.field.data_type()));
    matches!(step, Some(Step::Numeric(..) | Step::Double | Step::Real))
}

/// The numeric that an expression makes double precision of, if it is the function that does that below casts.
pub(crate) fn of_numeric(expr: &Expr) -> Option<&Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let function: &dyn Any = call.func.inner().as_ref();
    let is_double = function.downcast_ref::<Below>().is_some_and(|below| below.step == Step::Double);
    if is_double { call.args.first() } else { None }
}

/// Puts functions below casts.
#[derive(Debug)]
pub(crate) struct Rounding;

impl FunctionRewrite for Rounding {
    fn name(&self) -> &'static str {
        "rounding_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::Cast(cast) => exact(cast, schema),
            Expr::ScalarFunction(call) => places_told(call),
            other => Transformed::no(other),
        })
    }
}

/// `round(n, 2)` with its places in the type that it takes, also where they are computed. Otherwise a cast or
/// more stands there, until it is computed: the type of the result, which goes by places that are written out,
/// would be another one by then, after everything around it has been settled.
fn places_told(mut call: ScalarFunction) -> Transformed<Expr> {
    let places = match (call.func.name(), call.args.as_slice()) {
        ("round", [_, Expr::Literal(value, _)]) if value.is_null() => Some(None),
        ("round", [_, places]) => whole(places).and_then(|places| i32::try_from(places).ok()).map(Some),
        _ => None,
    };
    let Some(places) = places else { return Transformed::no(Expr::ScalarFunction(call)) };
    call.args[1] = Expr::Literal(ScalarValue::Int32(places), None);
    Transformed::yes(Expr::ScalarFunction(call))
}

/// A whole number that is written out, or computed of such.
fn whole(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        Expr::Literal(ScalarValue::Int32(value), _) => value.map(i64::from),
        Expr::Literal(ScalarValue::Int16(value), _) => value.map(i64::from),
        Expr::Negative(of) => whole(of)?.checked_neg(),
        Expr::Cast(Cast { expr: of, field }) if field.data_type().is_signed_integer() => whole(of),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (whole(left)?, whole(right)?);
            match op {
                Operator::Plus => left.checked_add(right),
                Operator::Minus => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A number that is written out, or an array of such, rounded to whole numbers.
fn rounded_as_written(expr: &Expr) -> Option<Expr> {
    if let Some(number) = written(expr) {
        return Some(lit(number.round()));
    }
    let Expr::ScalarFunction(array) = expr else { return None };
    let is_literal = |arg: &Expr| written(arg).is_some() || matches!(arg, Expr::Literal(..));
    if array.func.name() != "make_array" || !array.args.iter().all(is_literal) {
        return None;
    }
    let whole = |arg: &Expr| written(arg).map_or_else(|| arg.clone(), |number| lit(number.round()));
    let args = array.args.iter().map(whole).collect();
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&array.func), args)))
}

/// A number that is written out, which is numeric in PostgreSQL.
fn written(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(ScalarValue::Float64(number), _) => *number,
        Expr::Negative(inner) => written(inner).map(|number| -number),
        _ => None,
    }
}

/// `round(floating point)`, whose halves go to the even number.
///
/// A number that is written out is numeric in PostgreSQL: its halves go away from zero, as DataFusion's do.
pub(crate) fn to_even(call: ScalarFunction, schema: &DFSchema) -> Expr {
    let is_own = match call.args.as_slice() {
        [of] => {
            call.func.name() == "round" && written(of).is_none() && of.get_type(schema).is_ok_and(|of| is_float(&of))
        }
        _ => false,
    };
    if !is_own {
        return Expr::ScalarFunction(call);
    }
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(Below::cast(Step::Rounded(0)))), call.args))
}

/// The function that does what is done below a cast.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Below {
    name: String,
    step: Step,
    signature: Signature,
}

impl Below {
    fn cast(step: Step) -> Self {
        let name = match step {
            Step::Rounded(digits) => format!("rounded_to_{digits}"),
            Step::Numeric(precision, scale) => format!("numeric_of_{precision}_{scale}"),
            Step::Double => "double_of_numeric".to_owned(),
            Step::Real => "real_of_numeric".to_owned(),
        };
        Self { name, step, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Below {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [from] => Ok(self.step.gives(from)),
            _ => plan_err!("{} takes one value", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [of] => Ok(Arc::new(Field::new(self.name(), self.step.gives(of.data_type()), of.is_nullable()))),
            _ => plan_err!("{} takes one value", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.step.of(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let made = self.step.of(&value.to_array()?)?;
                ScalarValue::try_from_array(&made, 0).map(ColumnarValue::Scalar)
            }
            _ => plan_err!("{} takes one value", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, Int32Array};
    use arrow::compute::cast;
    use arrow::datatypes::Int32Type;

    fn whole(values: ArrayRef) -> Vec<i32> {
        let whole = cast(&rounded(&values, &DataType::Int32).expect("rounds"), &DataType::Int32).expect("fits");
        whole.as_primitive::<Int32Type>().values().to_vec()
    }

    #[test]
    fn halves_of_numeric_go_away_from_zero_and_of_floats_to_the_even_number() {
        let numeric = |values: Vec<i128>, precision, scale| {
            let values = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
            Arc::new(values.expect("fits")) as ArrayRef
        };
        assert_eq!(whole(numeric(vec![250, -250, 249, 350, 9999], 4, 2)), [3, -3, 2, 4, 100]);
        assert_eq!(whole(numeric(vec![5, -5, 4], 1, 1)), [1, -1, 0]);
        assert_eq!(whole(Arc::new(Float64Array::from(vec![2.5, -2.5, 2.4, 3.5, 0.5]))), [2, -2, 2, 4, 0]);
        assert_eq!(whole(Arc::new(Int32Array::from(vec![7]))), [7]);
        let elements: ArrayRef = Arc::new(Float64Array::from(vec![2.5, 3.5, -0.5]));
        let field = Arc::new(Field::new_list_field(DataType::Float64, true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
        let lists: ArrayRef = Arc::new(ListArray::try_new(field, offsets, elements, None).expect("lists"));
        let whole_lists = rounded(&lists, &list_of(DataType::Int32)).expect("rounds");
        assert_eq!(whole(Arc::clone(whole_lists.as_list::<i32>().values())), [2, 4, 0]);
        let tenths = rounded(&numeric(vec![999, -115], 3, 2), &DataType::Decimal128(9, 1)).expect("rounds");
        assert_eq!(&tenths, &numeric(vec![100, -12], 3, 1));
        for (step, of) in [(Step::Double, DataType::Float64), (Step::Rounded(0), DataType::Null)] {
            assert_eq!(&step.of(&new_null_array(&DataType::Null, 2)).expect("nulls"), &new_null_array(&of, 2));
        }
    }

    #[test]
    fn floats_become_numerics_by_their_digits() {
        let money = DataType::Decimal128(10, 2);
        let found =
            rounded(&(Arc::new(Float64Array::from(vec![1.005, -0.285])) as ArrayRef), &money).expect("in range");
        let expected = Decimal128Array::from(vec![101_i128, -29]).with_precision_and_scale(10, 2).expect("fits");
        assert_eq!(found.as_primitive::<Decimal128Type>(), &expected);
        let cast_of = |value: Expr| {
            let Expr::Cast(cast) = datafusion::logical_expr::cast(value, money.clone()) else { panic!("a cast") };
            exact(cast, &DFSchema::empty())
        };
        let double = datafusion::logical_expr::cast(lit(1.005), DataType::Float64);
        let done = cast_of(double);
        assert!(done.transformed && done.data.to_string().contains("numeric_of_10_2"), "{}", done.data);
        let Expr::Cast(done) = done.data else { panic!("a cast") };
        assert!(!is_by_digits(&done, &DFSchema::empty()) && !exact(done, &DFSchema::empty()).transformed);
        let written = cast_of(lit(1.005)).data.to_string();
        assert!(written.contains("rounded_to_2") && written.contains("Decimal128"), "{written}");
    }
}
