//! Aggregates of DataFusion over other values than they are given, where they would be wrong over these.
//!
//! `sum` of bigint and of numeric wraps around: it is taken over numerics of more digits, and fails when the
//! whole is no bigint, or no numeric. `min` and
//! `max` of floating point begin with the greatest and the least number, which infinities are beyond, and
//! keep a NaN if it comes last: they are taken over integers of the same order, in which NaN is the greatest.

use crate::arithmetic::out_of_range;
use crate::floats;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, DecimalType, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type,
    i256,
};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprSchemable, GroupsAccumulator, ReversedUDAF,
    Signature,
};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// The digits that sums of numerics have while they are made.
pub(crate) const WIDEST: u8 = Decimal256Type::MAX_PRECISION;

/// The digits of a sum of bigints: more than any number of rows needs.
const SUM: DataType = DataType::Decimal128(38, 0);

/// The function that takes the place of an aggregate of these arguments, if any does.
///
/// # Errors
/// When the type of an argument is not known.
pub(crate) fn exact(
    function: &Arc<AggregateUDF>,
    args: &[Expr],
    schema: &DFSchema,
) -> Result<Option<Arc<AggregateUDF>>> {
    let ([of], "sum" | "min" | "max") = (args, function.name()) else { return Ok(None) };
    let any: &dyn Any = function.inner().as_ref();
    if any.is::<Recoded>() {
        return Ok(None);
    }
    let data_type = of.get_type(schema)?;
    let is_recoded = match function.name() {
        "sum" => matches!(data_type, DataType::Int64 | DataType::Decimal128(..)),
        _ => floats::is_float(&data_type),
    };
    let recoded = || Arc::new(AggregateUDF::from(Recoded(Arc::clone(function))));
    Ok(is_recoded.then(recoded))
}

/// Whether a function is the sum of bigints or numerics, whose parts may be beyond the type of the whole.
pub(crate) fn is_exact_sum(function: &AggregateUDF) -> bool {
    let any: &dyn Any = function.inner().as_ref();
    any.is::<Recoded>() && function.name() == "sum"
}

/// The type that values of a type are recoded to.
fn code_of(of: &DataType) -> Result<DataType> {
    match of {
        DataType::Int64 => Ok(SUM),
        DataType::Decimal128(_, scale) => Ok(DataType::Decimal256(WIDEST, *scale)),
        DataType::Float32 => Ok(DataType::Int32),
        DataType::Float64 => Ok(DataType::Int64),
        other => plan_err!("{other} is not recoded"),
    }
}

/// The order of floating point is that of its bits, but for the negative ones, whose order is the other way
/// round; doing it twice gives the same bits again.
const fn ordered_bits(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

const fn ordered_bits_of_real(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

fn coded(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::Int64 => {
            let wide = values.as_primitive::<Int64Type>().unary::<_, Decimal128Type>(i128::from);
            Arc::new(wide.with_data_type(SUM))
        }
        of @ DataType::Decimal128(..) => {
            let wide = values.as_primitive::<Decimal128Type>().unary::<_, Decimal256Type>(i256::from_i128);
            Arc::new(wide.with_data_type(code_of(of)?))
        }
        DataType::Float32 => {
            let bits = |value: f32| ordered_bits_of_real(value.to_bits() as i32);
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Int32Type>(bits))
        }
        DataType::Float64 => {
            let bits = |value: f64| ordered_bits(value.to_bits() as i64);
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Int64Type>(bits))
        }
        other => return plan_err!("{other} is not recoded"),
    })
}

fn all_coded(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    values.iter().map(coded).collect()
}

/// Without the last digit, by which the one before is rounded: halves go away from zero.
fn without_digit(number: i256) -> i256 {
    let half = i256::from_i128(if number.is_negative() { -5 } else { 5 });
    number.wrapping_add(half).wrapping_div(i256::from_i128(10))
}

/// Numerics that have one digit more behind the point are rounded.
///
/// # Errors
/// For a sum that is no bigint, or no numeric.
fn decoded(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(match to {
        DataType::Int64 => {
            let narrow = |sum: i128| i64::try_from(sum).map_err(|_| out_of_range(to));
            Arc::new(values.as_primitive::<Decimal128Type>().try_unary::<_, Int64Type, _>(narrow)?)
        }
        DataType::Decimal128(_, scale) => {
            let most = 10_u128.pow(Decimal128Type::MAX_PRECISION.into());
            let is_longer = matches!(values.data_type(), DataType::Decimal256(_, of) if of > scale);
            let narrow = |sum: i256| {
                let sum = if is_longer { without_digit(sum) } else { sum };
                let sum = sum.to_i128().filter(|sum| sum.unsigned_abs() < most);
                sum.ok_or_else(|| out_of_range(to))
            };
            let sums = values.as_primitive::<Decimal256Type>().try_unary::<_, Decimal128Type, _>(narrow)?;
            Arc::new(sums.with_data_type(to.clone()))
        }
        DataType::Float32 => {
            let value = |bits: i32| f32::from_bits(ordered_bits_of_real(bits) as u32);
            Arc::new(values.as_primitive::<Int32Type>().unary::<_, Float32Type>(value))
        }
        DataType::Float64 => {
            let value = |bits: i64| f64::from_bits(ordered_bits(bits) as u64);
            Arc::new(values.as_primitive::<Int64Type>().unary::<_, Float64Type>(value))
        }
        other => return plan_err!("{other} is not recoded"),
    })
}

/// An aggregate over recoded values.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Recoded(Arc<AggregateUDF>);

fn coded_field(field: &FieldRef) -> Result<FieldRef> {
    Ok(Arc::new(field.as_ref().clone().with_data_type(code_of(field.data_type())?)))
}

/// What the aggregate itself is told.
fn coded_args(args: AccumulatorArgs<'_>) -> Result<AccumulatorArgs<'_>> {
    Ok(AccumulatorArgs { return_field: coded_field(&args.return_field)?, ..args })
}

impl AggregateUDFImpl for Recoded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Whole { inner: self.0.accumulator(coded_args(args)?)?, to }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let to = args.return_field.data_type().clone();
        if args.is_distinct && to == DataType::Int64 {
            return Ok(Box::new(SumOfDistinct::default()));
        }
        Ok(Box::new(Whole { inner: self.0.create_sliding_accumulator(coded_args(args)?)?, to }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        coded_args(args).is_ok_and(|args| self.0.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Groups { inner: self.0.create_groups_accumulator(coded_args(args)?)?, to }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let return_field = coded_field(&args.return_field)?;
        self.0.state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// One group.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Of recoded values.
    pub(crate) inner: Box<dyn Accumulator>,
    /// The type of the result.
    pub(crate) to: DataType,
}

impl Accumulator for Whole {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&all_coded(values)?)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&all_coded(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.inner.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&decoded(&value, &self.to)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

/// The sum of the different bigints in a frame that moves.
#[derive(Debug, Default)]
struct SumOfDistinct {
    /// How often each value is in the frame.
    counts: HashMap<i64, usize>,
    sum: i128,
}

impl Accumulator for SumOfDistinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let count = self.counts.entry(value).or_default();
            if *count == 0 {
                self.sum += i128::from(value);
            }
            *count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let Some(count) = self.counts.get_mut(&value) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&value);
                self.sum -= i128::from(value);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        plan_err!("a frame is in one place")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        plan_err!("a frame is in one place")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            return Ok(ScalarValue::Int64(None));
        }
        let sum = i64::try_from(self.sum).map_err(|_| out_of_range(&DataType::Int64))?;
        Ok(ScalarValue::Int64(Some(sum)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, usize)>()
    }
}

/// Many groups at once.
pub(crate) struct Groups {
    pub(crate) inner: Box<dyn GroupsAccumulator>,
    pub(crate) to: DataType,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(&all_coded(values)?, group_indices, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(states, group_indices, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&all_coded(values)?, filter)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        decoded(&self.inner.evaluate(emit_to)?, &self.to)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Float64Array, Int64Array};

    #[test]
    fn recoded_floating_point_has_its_order_and_comes_back() {
        let sorted =
            [f64::NEG_INFINITY, f64::MIN, -1.5, 0.0, f64::MIN_POSITIVE, 2.0, f64::MAX, f64::INFINITY, f64::NAN];
        let values: ArrayRef = Arc::new(Float64Array::from(sorted.to_vec()));
        let codes = coded(&values).expect("recoded");
        assert!(codes.as_primitive::<Int64Type>().values().is_sorted());
        let back = decoded(&codes, &DataType::Float64).expect("decoded");
        let bits =
            |of: &ArrayRef| of.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
        let reals: ArrayRef = Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, -1.5, 0.0, 2.0, f32::NAN]));
        let codes = coded(&reals).expect("recoded");
        assert!(codes.as_primitive::<Int32Type>().values().is_sorted());
        let back = decoded(&codes, &DataType::Float32).expect("decoded");
        assert_eq!(back.as_primitive::<Float32Type>().value(1), -1.5);
        assert!(back.as_primitive::<Float32Type>().value(4).is_nan());
    }

    #[test]
    fn a_frame_adds_each_value_once() {
        let values = |values: &[i64]| -> [ArrayRef; 1] { [Arc::new(Int64Array::from(values.to_vec()))] };
        let mut sum = SumOfDistinct::default();
        assert_eq!(sum.evaluate().expect("a sum"), ScalarValue::Int64(None));
        sum.update_batch(&values(&[5, 5, i64::MAX])).expect("added");
        assert!(sum.evaluate().is_err());
        sum.retract_batch(&values(&[i64::MAX, 5])).expect("taken away");
        assert_eq!(sum.evaluate().expect("a sum"), ScalarValue::Int64(Some(5)));
        sum.retract_batch(&values(&[5])).expect("taken away");
        assert_eq!(sum.evaluate().expect("a sum"), ScalarValue::Int64(None));
    }

    #[test]
    fn a_sum_that_is_no_numeric_is_an_error() {
        let numeric = DataType::Decimal128(38, 2);
        let most = 10_i128.pow(38) - 1;
        let values = arrow::array::Decimal128Array::from(vec![most, 1, -1]).with_data_type(numeric.clone());
        let codes = coded(&(Arc::new(values) as ArrayRef)).expect("recoded");
        let sum = |rows: usize| -> ArrayRef {
            let codes = codes.slice(0, rows);
            let sum = arrow::compute::sum(codes.as_primitive::<Decimal256Type>()).expect("there are values");
            Arc::new(arrow::array::Decimal256Array::from(vec![sum]).with_data_type(codes.data_type().clone()))
        };
        let error = decoded(&sum(2), &numeric).expect_err("too large").to_string();
        assert!(error.contains("numeric out of range"), "{error}");
        assert_eq!(decoded(&sum(3), &numeric).expect("fits").as_primitive::<Decimal128Type>().value(0), most);
    }

    #[test]
    fn a_last_digit_rounds_the_one_before() {
        for (number, rounded) in [(14, 1), (15, 2), (-14, -1), (-15, -2), (9, 1), (-4, 0), (0, 0)] {
            assert_eq!(without_digit(i256::from_i128(number)), i256::from_i128(rounded), "{number}");
        }
    }

    #[test]
    fn a_sum_that_is_no_bigint_is_an_error() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(1), None]));
        let codes = coded(&values).expect("recoded");
        let sum = arrow::compute::sum(codes.as_primitive::<Decimal128Type>()).expect("there are values");
        assert_eq!(sum, i128::from(i64::MAX) + 1);
        let one =
            |sum: i128| -> ArrayRef { Arc::new(arrow::array::Decimal128Array::from(vec![sum]).with_data_type(SUM)) };
        let error = decoded(&one(sum), &DataType::Int64).expect_err("too large").to_string();
        assert!(error.contains("bigint out of range"), "{error}");
        let fits = decoded(&one(sum - 1), &DataType::Int64).expect("fits");
        assert_eq!(fits.as_primitive::<Int64Type>().value(0), i64::MAX);
    }
}
