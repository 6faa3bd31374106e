//! Aggregates over a group's values in an order: `mode()` and `percentile_disc(f)`, which DataFusion has not, and
//! `percentile_cont(f)`, whose fraction of the way between two values it cuts off after six digits, all of them
//! `WITHIN GROUP (ORDER BY x)`; and the check of the fractions of all that take one.
//!
//! A group's values are kept without nulls and sorted when its result is wanted; no values give null. Of
//! several values that are equally frequent `mode` gives the one that comes first in the order.

use crate::error::{self, DataError, Error};
use crate::references::called_at;
use crate::session::Session;
use crate::statement::Query;
use crate::types::{array_of, is_jsonb, pg_name};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_empty_array};
use arrow::compute::{SortOptions, cast as cast_array, concat, filter, is_not_null, partition, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Signature,
    Volatility, cast,
};
use std::ops::Range;
use std::sync::Arc;

/// What they are called.
const MODE: &str = "mode";
const PERCENTILE_DISC: &str = "percentile_disc";
const PERCENTILE_CONT: &str = "percentile_cont";
/// Those whose second argument, behind the values, is a fraction.
const OF_FRACTIONS: [&str; 2] = [PERCENTILE_CONT, PERCENTILE_DISC];

/// Whether a name is that of one of these aggregates that DataFusion has not.
pub(crate) fn is_one(name: &str) -> bool {
    [MODE, PERCENTILE_DISC].contains(&name)
}

/// Whether a name is that of an aggregate of values and a fraction.
pub(crate) fn takes_fraction(name: &str) -> bool {
    OF_FRACTIONS.contains(&name)
}

/// Makes them known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for which in [Which::Mode, Which::PercentileDisc] {
        let aggregate = OrderedSet { which, signature: Signature::user_defined(Volatility::Immutable) };
        state.register_udaf(Arc::new(AggregateUDF::from(aggregate)))?;
    }
    let between = Between(state.udaf(PERCENTILE_CONT)?);
    state.register_udaf(Arc::new(AggregateUDF::from(between)))?;
    Ok(())
}

/// Refuses fractions that are no constant between 0 and 1. What stands for a parameter is looked at when
/// there is a value for it.
///
/// # Errors
/// `Invalid` (22003) for other numbers, `Unsupported` for what may differ from group to group, with the
/// function's place where it can be told.
pub(crate) fn check(plan: &LogicalPlan, query: &Query, session: &Session) -> error::Result<()> {
    let mut fractions: Vec<(String, Expr)> = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::AggregateFunction(call) = e
                    && let ([_, fraction], true) = (call.params.args.as_slice(), takes_fraction(call.func.name()))
                {
                    fractions.push((call.func.name().to_owned(), fraction.clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    fractions.into_iter().try_for_each(|(function, fraction)| check_fraction(&function, fraction, query, session))
}

fn check_fraction(function: &str, fraction: Expr, query: &Query, session: &Session) -> error::Result<()> {
    let is_parameter = |e: &Expr| Ok(matches!(e, Expr::Placeholder(_)));
    if fraction.exists(is_parameter).map_err(|e| Error::Plan(Box::new(e)))? {
        return Ok(());
    }
    let refused = || {
        let clause = format!("{function}() of a fraction that is no constant");
        Err(Error::unsupported(clause, "write it as a number", called_at(query, function)))
    };
    match fraction.get_type(&DFSchema::empty()) {
        Ok(of) if of.is_numeric() => {}
        // Nulls are none, and what is no number at all is refused by its type.
        Ok(_) => return Ok(()),
        // It has columns.
        Err(_) => return refused(),
    }
    let Expr::Literal(ScalarValue::Float64(fraction), _) = session.evaluated(cast(fraction, DataType::Float64))? else {
        return refused();
    };
    let beyond = |e: DataError| Error::Invalid {
        sqlstate: e.sqlstate,
        message: e.message,
        position: called_at(query, function),
    };
    fraction.map_or(Ok(()), |fraction| checked(fraction).map(|_| ()).map_err(beyond))
}

fn checked(fraction: f64) -> std::result::Result<f64, DataError> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(fraction);
    }
    Err(DataError { sqlstate: "22003", message: format!("percentile value {fraction} is not between 0 and 1") })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Mode,
    PercentileDisc,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    which: Which,
    signature: Signature,
}

/// The type of values that are given as another; none when values of it are not sorted here.
fn sorted(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Null => Some(DataType::Utf8),
        other if is_jsonb(other) || other.is_nested() => None,
        other => Some(other.clone()),
    }
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &'static str {
        match self.which {
            Which::Mode => MODE,
            Which::PercentileDisc => PERCENTILE_DISC,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_fraction = |of: &DataType| of.is_numeric() || of.is_null();
        let (value, more) = match (self.which, given) {
            (Which::Mode, [value]) => (value, Vec::new()),
            (Which::PercentileDisc, [value, fraction]) if is_fraction(fraction) => (value, vec![DataType::Float64]),
            _ => {
                let given: Vec<String> = given.iter().skip(1).map(pg_name).collect();
                return plan_err!("function {}({}) does not exist", self.name(), given.join(", "));
            }
        };
        let Some(value) = sorted(value) else {
            return plan_err!("{}() of {} does not exist: it has no order here", self.name(), pg_name(value));
        };
        Ok([vec![value], more].concat())
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [value, ..] => Ok(value.clone()),
            [] => plan_err!("{} takes values", self.name()),
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values = array_of(args.return_type().clone());
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "values"), values, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let choice = match self.which {
            Which::Mode => Choice::MostFrequent,
            Which::PercentileDisc => Choice::At(fraction_of(&args)?),
        };
        let descending = args.order_bys.first().is_some_and(|sort| sort.options.descending);
        let of = args.return_field.data_type().clone();
        Ok(Box::new(Values { of, choice, descending, held: Vec::new() }))
    }
}

/// `percentile_cont` of DataFusion, but for what it computes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Between(Arc<AggregateUDF>);

impl AggregateUDFImpl for Between {
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

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    /// The least and the greatest value need no other ones.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.0.simplify()
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let is_of_nulls = args.expr_fields.first().is_some_and(|field| field.data_type().is_null());
        if is_of_nulls || args.is_distinct {
            return self.0.accumulator(args);
        }
        let choice = Choice::Between(fraction_of(&args)?);
        let descending = args.order_bys.first().is_some_and(|sort| sort.options.descending);
        let of = args.return_field.data_type().clone();
        Ok(Box::new(Values { of, choice, descending, held: Vec::new() }))
    }
}

/// The fraction that a percentile is told, which may be null.
fn fraction_of(args: &AccumulatorArgs<'_>) -> Result<Option<f64>> {
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let fraction = match args.exprs.get(1).map(|fraction| fraction.evaluate(&none)) {
        Some(Ok(ColumnarValue::Scalar(ScalarValue::Float64(fraction)))) => fraction,
        _ => return plan_err!("the fraction of a percentile is no constant"),
    };
    fraction.map(checked).transpose().map_err(|e| DataFusionError::External(Box::new(e)))
}

/// Which of the values in order.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// The first of those that come most often.
    MostFrequent,
    /// The first up to which there is such a part of all; none of a null.
    At(Option<f64>),
    /// What lies such a part of the way from the first one to the last; nothing of a null.
    Between(Option<f64>),
}

/// The values of one group.
#[derive(Debug)]
struct Values {
    of: DataType,
    choice: Choice,
    descending: bool,
    /// As they came, without nulls.
    held: Vec<ArrayRef>,
}

impl Values {
    fn hold(&mut self, values: &ArrayRef) -> Result<()> {
        let there =
            if values.logical_null_count() > 0 { filter(values, &is_not_null(values)?)? } else { Arc::clone(values) };
        if !there.is_empty() {
            self.held.push(there);
        }
        Ok(())
    }

    /// The number that lies such a part of the way from the first of these values to the last.
    fn between(&self, values: &ArrayRef, fraction: f64) -> Result<ScalarValue> {
        let place = fraction * (values.len() - 1) as f64;
        let (before, behind) = (place.floor() as usize, place.ceil() as usize);
        let options = SortOptions { descending: self.descending, nulls_first: false };
        let order = sort_to_indices(values, Some(options), Some(behind + 1))?;
        let numbers = cast_array(&take(values, &order, None)?, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let (low, high) = (numbers.value(before), numbers.value(behind));
        let found = if before == behind { low } else { low + place.fract() * (high - low) };
        ScalarValue::Float64(Some(found)).cast_to(&self.of)
    }

    fn whole(&self) -> Result<ArrayRef> {
        match self.held.as_slice() {
            [] => Ok(new_empty_array(&self.of)),
            [one] => Ok(Arc::clone(one)),
            all => {
                let all: Vec<&dyn Array> = all.iter().map(|values| values.as_ref()).collect();
                Ok(concat(&all)?)
            }
        }
    }
}

/// Where the first of the longest runs of equal values begins.
fn most_frequent(sorted: ArrayRef) -> Result<usize> {
    let mut longest: Range<usize> = 0..0;
    for run in partition(&[sorted])?.ranges() {
        if run.len() > longest.len() {
            longest = run;
        }
    }
    Ok(longest.start)
}

/// The place of the first of so many sorted values up to which there is this fraction of them.
fn place_of(fraction: f64, values: usize) -> usize {
    ((fraction * values as f64).ceil() as usize).clamp(1, values) - 1
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.hold(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.hold(&values))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.whole()?).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let values = self.whole()?;
        let options = SortOptions { descending: self.descending, nulls_first: false };
        let order = |most: Option<usize>| sort_to_indices(&values, Some(options), most);
        let (order, at) = match self.choice {
            _ if values.is_empty() => return ScalarValue::try_from(&self.of),
            Choice::At(None) | Choice::Between(None) => return ScalarValue::try_from(&self.of),
            Choice::Between(Some(fraction)) => return self.between(&values, fraction),
            Choice::At(Some(fraction)) => {
                let at = place_of(fraction, values.len());
                (order(Some(at + 1))?, at)
            }
            Choice::MostFrequent => {
                let order = order(None)?;
                let at = most_frequent(take(&values, &order, None)?)?;
                (order, at)
            }
        };
        ScalarValue::try_from_array(&values, order.value(at) as usize)
    }

    fn size(&self) -> usize {
        let bytes = |values: &ArrayRef| values.to_data().get_slice_memory_size().unwrap_or(0);
        size_of_val(self) + self.held.iter().map(bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int32Array, StringArray};

    fn values(of: DataType, choice: Choice, descending: bool) -> Values {
        Values { of, choice, descending, held: Vec::new() }
    }

    fn in_order(values: &[Option<i32>], descending: bool) -> Vec<i32> {
        let mut sorted: Vec<i32> = values.iter().flatten().copied().collect();
        sorted.sort_unstable();
        if descending {
            sorted.reverse();
        }
        sorted
    }

    /// Counted value by value.
    fn mode_twin(values: &[Option<i32>], descending: bool) -> Option<i32> {
        let sorted = in_order(values, descending);
        let count = |of: i32| sorted.iter().filter(|value| **value == of).count();
        let most = sorted.iter().map(|value| count(*value)).max()?;
        sorted.iter().copied().find(|value| count(*value) == most)
    }

    /// The first value up to which there are enough.
    fn disc_twin(values: &[Option<i32>], fraction: f64, descending: bool) -> Option<i32> {
        let sorted = in_order(values, descending);
        let enough = |at: &usize| (at + 1) as f64 / sorted.len() as f64 >= fraction;
        (0..sorted.len()).find(enough).map(|at| sorted[at])
    }

    /// What comes of values in two parts that are merged.
    fn in_parts(of: &[Option<i32>], choice: Choice, descending: bool) -> ScalarValue {
        let mut whole = values(DataType::Int32, choice, descending);
        for part in of.chunks(of.len().div_ceil(2).max(1)) {
            let mut one = values(DataType::Int32, choice, descending);
            for batch in part.chunks(3) {
                one.update_batch(&[Arc::new(Int32Array::from(batch.to_vec()))]).expect("taken");
            }
            let state = one.state().expect("a state").pop().expect("one column");
            whole.merge_batch(&[state.to_array().expect("an array")]).expect("merged");
        }
        whole.evaluate().expect("a value")
    }

    #[test]
    fn values_are_chosen_as_by_hand() {
        let mut seed = 7_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for rows in 0..60 {
            let some: Vec<Option<i32>> =
                (0..rows).map(|_| Some(below(9) as i32 - 4).filter(|value| *value != 3)).collect();
            for descending in [false, true] {
                let mode = in_parts(&some, Choice::MostFrequent, descending);
                assert_eq!(mode, ScalarValue::Int32(mode_twin(&some, descending)), "{some:?}");
                for fraction in [0.0, 0.25, 0.5, 1.0] {
                    let found = in_parts(&some, Choice::At(Some(fraction)), descending);
                    let expected = disc_twin(&some, fraction, descending);
                    assert_eq!(found, ScalarValue::Int32(expected), "{fraction} of {some:?}");
                }
            }
            assert_eq!(in_parts(&some, Choice::At(None), false), ScalarValue::Int32(None));
        }
    }

    #[test]
    fn what_lies_between_two_numbers_has_all_digits() {
        let of = |numbers: Vec<f64>, fraction: f64, descending: bool| {
            let mut held = values(DataType::Float64, Choice::Between(Some(fraction)), descending);
            held.update_batch(&[Arc::new(Float64Array::from(numbers))]).expect("taken");
            held.evaluate().expect("a value")
        };
        for (fraction, descending, found) in
            [(0.3, false, 1.9), (0.3, true, 4.4), (0.0, true, 8.0), (1.0, false, 8.0), (0.5, false, 3.0)]
        {
            let expected = ScalarValue::Float64(Some(found));
            assert_eq!(of(vec![4.0, 1.0, 8.0, 2.0], fraction, descending), expected, "{fraction}");
        }
        assert_eq!(of(vec![0.0, 1.0], 1.0 / 3.0, false), ScalarValue::Float64(Some(1.0 / 3.0)));
        assert_eq!(of(vec![7.0], 0.3, false), ScalarValue::Float64(Some(7.0)));
        assert_eq!(of(vec![], 0.3, false), ScalarValue::Float64(None));
    }

    #[test]
    fn texts_and_booleans_have_an_order() {
        let mut texts = values(DataType::Utf8, Choice::MostFrequent, false);
        texts.update_batch(&[Arc::new(StringArray::from(vec!["b", "a", "b", "a", "c"]))]).expect("taken");
        assert_eq!(texts.evaluate().expect("a value"), ScalarValue::from("a"));
        let mut flags = values(DataType::Boolean, Choice::At(Some(0.5)), false);
        flags.update_batch(&[Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))]).expect("taken");
        assert_eq!(flags.evaluate().expect("a value"), ScalarValue::Boolean(Some(false)));
    }

    #[test]
    fn a_fraction_is_between_0_and_1() {
        assert_eq!(checked(0.0), Ok(0.0));
        assert_eq!(checked(1.0), Ok(1.0));
        for fraction in [-0.1, 1.5, f64::NAN] {
            assert_eq!(checked(fraction).expect_err("beyond").sqlstate, "22003");
        }
    }
}
