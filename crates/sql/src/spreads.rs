//! Deviations and variances of integers, and of numerics of at most 15 digits: of their number, their sum and the sum
//! of their squares, which are exact, so that they are the same in whatever order the values come and go. The values
//! have been made floating point, as which the aggregates take them, and are found again by their digits behind the
//! point. Squares are added up in two parts, as they have up to 127 bits.
//!
//! Of other types, with DISTINCT, and of frames of windows, they are DataFusion's and those of `deviations`.

use crate::rounding;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, i256};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Cast, ColumnarValue, EmitTo, Expr, ExprSchemable, GroupsAccumulator,
    ReversedUDAF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::any::Any;
use std::sync::Arc;

/// What is added up, as numerics. Sums of them have ten digits more, and 2^60 values no more than those.
const ADDED: DataType = DataType::Decimal128(28, 0);
/// The sums.
const SUM: DataType = DataType::Decimal128(38, 0);

/// The bits of a square's lower part.
const LOW: u32 = 60;

/// The most digits of a numeric of which the nearest double precision is that of no other.
const MOST_DIGITS: u8 = 15;

/// Which of them, and how many digits behind the point the values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spread {
    kind: Kind,
    digits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Variance,
    VarianceOfAll,
    Deviation,
    DeviationOfAll,
}

impl Kind {
    /// By DataFusion's name of the aggregate.
    fn named(name: &str) -> Option<Self> {
        match name {
            "var" => Some(Self::Variance),
            "var_pop" => Some(Self::VarianceOfAll),
            "stddev" => Some(Self::Deviation),
            "stddev_pop" => Some(Self::DeviationOfAll),
            _ => None,
        }
    }

    /// What the function is called that makes it of sums.
    const fn of_sums(self) -> &'static str {
        match self {
            Self::Variance => "var_of_sums",
            Self::VarianceOfAll => "var_pop_of_sums",
            Self::Deviation => "stddev_of_sums",
            Self::DeviationOfAll => "stddev_pop_of_sums",
        }
    }

    const fn is_of_all(self) -> bool {
        matches!(self, Self::VarianceOfAll | Self::DeviationOfAll)
    }

    const fn is_root(self) -> bool {
        matches!(self, Self::Deviation | Self::DeviationOfAll)
    }
}

/// The function that takes the place of an aggregate of floating point that such values were made.
///
/// # Errors
/// When the type of an argument is not known.
pub(crate) fn exact(
    function: &Arc<AggregateUDF>,
    args: &[Expr],
    distinct: bool,
    schema: &DFSchema,
) -> Result<Option<Arc<AggregateUDF>>> {
    let (Some(kind), [Expr::Cast(of)]) = (Kind::named(function.name()), args) else { return Ok(None) };
    if distinct || of_exact(function).is_some() || is_of_floats(function) {
        return Ok(None);
    }
    let Some(digits) = digits_of(of, schema)? else { return Ok(None) };
    let exact = Exact { of_floats: Arc::clone(function), spread: Spread { kind, digits } };
    Ok(Some(Arc::new(AggregateUDF::from(exact))))
}

/// The digits behind the point of what a cast makes double precision; none where it is no such value.
fn digits_of(cast: &Cast, schema: &DFSchema) -> Result<Option<u32>> {
    if *cast.field.data_type() != DataType::Float64 {
        return Ok(None);
    }
    Ok(match rounding::of_numeric(&cast.expr).unwrap_or(&cast.expr).get_type(schema)? {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(0),
        DataType::Decimal128(precision @ ..=MOST_DIGITS, scale) => {
            u32::try_from(scale).ok().filter(|digits| *digits <= u32::from(precision))
        }
        _ => None,
    })
}

/// Which of them a function is, if it is one of exact sums.
pub(crate) fn of_exact(function: &AggregateUDF) -> Option<Spread> {
    let function: &dyn Any = function.inner().as_ref();
    function.downcast_ref::<Exact>().map(|of| of.spread)
}

fn is_of_floats(function: &AggregateUDF) -> bool {
    let function: &dyn Any = function.inner().as_ref();
    function.is::<OfFloats>()
}

/// An aggregate as it was before there were exact ones: for what was made then.
pub(crate) fn of_floats(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(of_floats(*alias.expr));
            Expr::Alias(alias)
        }
        Expr::AggregateFunction(mut call) => {
            let inner: &dyn Any = call.func.inner().as_ref();
            if let Some(known) = inner.downcast_ref::<Exact>().map(|of| Arc::clone(&of.of_floats)) {
                call.func = Arc::new(AggregateUDF::from(OfFloats(known)));
            }
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

/// The same of the sums of some values: their number, and the sums of [`parts`] of them.
pub(crate) fn of_sums(spread: Spread, sums: [Expr; 4]) -> Expr {
    let name = with_digits(spread.kind.of_sums(), spread.digits);
    let function = ScalarUDF::from(OfSums { name, spread, signature: Signature::any(4, Volatility::Immutable) });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), sums.into()))
}

/// What is added up of a value: itself, and the upper and the lower part of its square.
pub(crate) fn parts(spread: Spread, value: &Expr) -> [Expr; 3] {
    [Part::Whole, Part::High, Part::Low].map(|part| {
        let (digits, signature) = (spread.digits, Signature::any(1, Volatility::Immutable));
        let function = ScalarUDF::from(PartOf { name: with_digits(part.name(), digits), part, digits, signature });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value.clone()]))
    })
}

/// A function's name, of values with digits behind the point. The names are kept with state.
fn with_digits(name: &str, digits: u32) -> String {
    if digits == 0 { name.to_owned() } else { format!("{name}_{digits}") }
}

/// What values with so many digits behind the point are multiplied with to be whole.
fn unit(digits: u32) -> f64 {
    10_i64.pow(digits) as f64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    High,
    Low,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole_of_float",
            Self::High => "high_of_float_squared",
            Self::Low => "low_of_float_squared",
        }
    }

    fn of(self, value: f64, unit: f64) -> i128 {
        let sums = Sums::of(value, unit);
        match self {
            Self::Whole => sums.sum,
            Self::High => sums.high,
            Self::Low => sums.low,
        }
    }
}

/// The sums of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    count: i64,
    sum: i128,
    /// Of the parts of squares.
    high: i128,
    low: i128,
}

impl Sums {
    /// Those of one value in units, which is as far from a whole number as floating point makes it.
    fn of(value: f64, unit: f64) -> Self {
        let value = (value * unit).round() as i128;
        // Where a value is null there may be anything.
        let square = value.wrapping_mul(value);
        let high = square >> LOW;
        Self { count: 1, sum: value, high, low: square - (high << LOW) }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.high += other.high;
        self.low += other.low;
    }

    /// None of too few values.
    fn spread(self, spread: Spread) -> Option<f64> {
        let count = i128::from(self.count);
        let parts = if spread.kind.is_of_all() { count } else { count - 1 };
        if parts <= 0 {
            return None;
        }
        let [high, low, sum] = [self.high, self.low, self.sum].map(i256::from_i128);
        let squares = high.wrapping_mul(i256::from_i128(1 << LOW)).wrapping_add(low);
        // Never below zero.
        let far = i256::from_i128(count).wrapping_mul(squares).wrapping_sub(sum.wrapping_mul(sum));
        let (low, high) = far.to_parts();
        let far = (high as f64).mul_add(2.0_f64.powi(128), low as f64);
        let variance = far / (count * parts) as f64 / 10_i128.pow(2 * spread.digits) as f64;
        Some(if spread.kind.is_root() { variance.sqrt() } else { variance })
    }
}

/// Sums as columns.
fn columns_of(sums: &[Sums]) -> Vec<ArrayRef> {
    let numerics = |of: fn(&Sums) -> i128| -> ArrayRef {
        Arc::new(Decimal128Array::from_iter_values(sums.iter().map(of)).with_data_type(SUM))
    };
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(sums.iter().map(|sums| sums.count)));
    vec![counts, numerics(|sums| sums.sum), numerics(|sums| sums.high), numerics(|sums| sums.low)]
}

/// Columns as sums; those of nothing are null.
fn sums_of(columns: &[ArrayRef]) -> Result<Vec<Sums>> {
    let [counts, numerics @ ..] = columns else { return plan_err!("a spread is of sums") };
    let numerics: Vec<&Decimal128Array> = numerics.iter().map(|column| column.as_primitive()).collect();
    let [sums, highs, lows] = numerics[..] else { return plan_err!("a spread is of other sums") };
    let counts = counts.as_primitive::<Int64Type>();
    let of = |row: usize| match counts.value(row) {
        0 => Sums::default(),
        count => Sums { count, sum: sums.value(row), high: highs.value(row), low: lows.value(row) },
    };
    Ok((0..counts.len()).map(of).collect())
}

fn spreads_of(sums: &[Sums], spread: Spread) -> ArrayRef {
    Arc::new(sums.iter().map(|sums| sums.spread(spread)).collect::<Float64Array>())
}

/// An aggregate of exact sums in the place of one of floating point, over that.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    of_floats: Arc<AggregateUDF>,
    spread: Spread,
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.of_floats.name()
    }

    fn aliases(&self) -> &[String] {
        self.of_floats.aliases()
    }

    fn signature(&self) -> &Signature {
        self.of_floats.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.of_floats.return_type(args)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Group { spread: self.spread, sums: Sums::default() }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { spread: self.spread, sums: Vec::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str, of: DataType| Arc::new(Field::new(format_state_name(args.name, part), of, true));
        Ok(vec![field("count", DataType::Int64), field("sum", SUM), field("high", SUM), field("low", SUM)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// DataFusion's own, which no exact one takes the place of when a plan is looked at again.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfFloats(Arc<AggregateUDF>);

impl AggregateUDFImpl for OfFloats {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }
}

/// The values of one group.
#[derive(Debug)]
struct Group {
    spread: Spread,
    sums: Sums,
}

impl Accumulator for Group {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let unit = unit(self.spread.digits);
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sums.add(Sums::of(value, unit)));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        sums_of(states)?.into_iter().for_each(|sums| self.sums.add(sums));
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        columns_of(&[self.sums]).iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.sums.spread(self.spread)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Those of many groups.
#[derive(Debug)]
struct Groups {
    spread: Spread,
    sums: Vec<Sums>,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, Sums::default());
        let (values, unit) = (values[0].as_primitive::<Float64Type>(), unit(self.spread.digits));
        for (row, (group, value)) in group_indices.iter().zip(values).enumerate() {
            let is_in = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value)) = (is_in, value) {
                self.sums[*group].add(Sums::of(value, unit));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.sums.resize(total, Sums::default());
        for (group, sums) in group_indices.iter().zip(sums_of(states)?) {
            self.sums[*group].add(sums);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows: Vec<usize> = (0..values[0].len()).collect();
        let mut alone = Self { spread: self.spread, sums: Vec::new() };
        alone.update_batch(values, &rows, filter, rows.len())?;
        alone.state(EmitTo::All)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(columns_of(&emit_to.take_needed(&mut self.sums)))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(spreads_of(&emit_to.take_needed(&mut self.sums), self.spread))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<Sums>()
    }
}

/// See [`of_sums`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSums {
    name: String,
    spread: Spread,
    signature: Signature,
}

impl ScalarUDFImpl for OfSums {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let sums = sums_of(&ColumnarValue::values_to_arrays(&args.args)?)?;
        Ok(ColumnarValue::Array(spreads_of(&sums, self.spread)))
    }
}

/// See [`parts`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct PartOf {
    name: String,
    part: Part,
    digits: u32,
    signature: Signature,
}

impl ScalarUDFImpl for PartOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(ADDED)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&args.args)?;
        let [values] = values.as_slice() else { return plan_err!("{} takes one value", self.name()) };
        let unit = unit(self.digits);
        let parts: Decimal128Array = values.as_primitive::<Float64Type>().unary(|value| self.part.of(value, unit));
        Ok(ColumnarValue::Array(Arc::new(parts.with_data_type(ADDED))))
    }
}

#[cfg(test)]
mod tests;
