//! `sum` and `avg` of intervals, which DataFusion has not: months, days and time are added up apart, and the
//! whole is divided as an interval is. Of anything else they are DataFusion's.

use crate::error::DataError;
use crate::floats::is_interval;
use crate::intervals::multiplied;
use crate::types::pg_name;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, not_impl_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::sync::Arc;

const AVERAGE: &str = "avg";

/// What is kept of a group, all of them whole numbers.
const PARTS: [&str; 4] = ["count", "months", "days", "nanoseconds"];

/// Puts the functions in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in ["sum", AVERAGE] {
        let signature = Signature::user_defined(Volatility::Immutable);
        let summed = Summed { of_others: state.udaf(name)?, signature };
        state.register_udaf(Arc::new(AggregateUDF::from(summed)))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Summed {
    of_others: Arc<AggregateUDF>,
    signature: Signature,
}

impl Summed {
    fn accumulator_of(&self, args: &AccumulatorArgs<'_>) -> Result<Option<Box<dyn Accumulator>>> {
        if !is_interval(args.return_field.data_type()) {
            return Ok(None);
        }
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT ...) of intervals", self.of_others.name());
        }
        Ok(Some(Box::new(Total { divides: self.of_others.name() == AVERAGE, parts: [0; 4] })))
    }
}

impl AggregateUDFImpl for Summed {
    fn name(&self) -> &str {
        self.of_others.name()
    }

    fn aliases(&self) -> &[String] {
        self.of_others.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if let [DataType::Interval(_)] = given {
            return Ok(vec![DataType::Interval(IntervalUnit::MonthDayNano)]);
        }
        let fields: Vec<FieldRef> = given.iter().map(|of| Arc::new(Field::new("", of.clone(), true))).collect();
        match fields_with_udf(&fields, self.of_others.as_ref()) {
            Ok(fields) => Ok(fields.iter().map(|field| field.data_type().clone()).collect()),
            Err(_) => {
                let given: Vec<String> = given.iter().map(pg_name).collect();
                plan_err!("function {}({}) does not exist", self.of_others.name(), given.join(", "))
            }
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [of] if is_interval(of) => Ok(of.clone()),
            args => self.of_others.return_type(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.accumulator_of(&args)? {
            Some(own) => Ok(own),
            None => self.of_others.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.accumulator_of(&args)? {
            Some(own) => Ok(own),
            None => self.of_others.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !is_interval(args.return_field.data_type()) && self.of_others.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.of_others.create_groups_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_interval(args.return_field.data_type()) {
            return self.of_others.state_fields(args);
        }
        let field = |part: &str| Arc::new(Field::new(format_state_name(args.name, part), DataType::Int64, true));
        Ok(PARTS.iter().map(|part| field(part)).collect())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of_others.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The intervals of a group.
#[derive(Debug)]
struct Total {
    divides: bool,
    /// In the order of [`PARTS`].
    parts: [i64; 4],
}

fn out_of_range() -> DataFusionError {
    let message = "interval out of range".to_owned();
    DataFusionError::External(Box::new(DataError { sqlstate: "22008", message }))
}

impl Total {
    fn add(&mut self, parts: [i64; 4]) -> Result<()> {
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            *sum = sum.checked_add(part).ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    fn add_all(&mut self, values: &[ArrayRef], times: i64) -> Result<()> {
        for value in values[0].as_primitive::<IntervalMonthDayNanoType>().iter().flatten() {
            let IntervalMonthDayNano { months, days, nanoseconds } = value;
            self.add([1, i64::from(months), i64::from(days), nanoseconds].map(|part| part.saturating_mul(times)))?;
        }
        Ok(())
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add_all(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add_all(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for row in 0..states.first().map_or(0, |state| state.len()) {
            let part = |at: usize| states[at].as_primitive::<Int64Type>().value(row);
            self.add([part(0), part(1), part(2), part(3)])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.parts.iter().map(|part| ScalarValue::Int64(Some(*part))).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let [count, months, days, nanoseconds] = self.parts;
        if count == 0 {
            return Ok(ScalarValue::IntervalMonthDayNano(None));
        }
        let narrow = |part: i64| i32::try_from(part).map_err(|_| out_of_range());
        let sum = IntervalMonthDayNano::new(narrow(months)?, narrow(days)?, nanoseconds);
        let value = if self.divides { multiplied(sum, |part| part / count as f64)? } else { sum };
        Ok(ScalarValue::IntervalMonthDayNano(Some(value)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::IntervalMonthDayNanoArray;

    fn of(months: i32, days: i32, hours: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000)
    }

    fn evaluated(divides: bool, values: Vec<Option<IntervalMonthDayNano>>) -> ScalarValue {
        let values: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(values));
        let mut total = Total { divides, parts: [0; 4] };
        total.update_batch(&[Arc::clone(&values)]).expect("added");
        // A state that goes by way of another one, and what comes and goes, change nothing.
        let states: Vec<ArrayRef> =
            total.state().expect("a state").iter().map(|part| part.to_array().expect("an array")).collect();
        let mut merged = Total { divides, parts: [0; 4] };
        merged.merge_batch(&states).expect("merged");
        merged.update_batch(&[Arc::clone(&values)]).expect("added");
        merged.retract_batch(&[values]).expect("taken away");
        merged.evaluate().expect("in range")
    }

    #[test]
    fn parts_are_added_up_apart_and_divided_with_what_is_left() {
        let some = |value| ScalarValue::IntervalMonthDayNano(Some(value));
        let values = vec![Some(of(0, 0, 23)), None, Some(of(0, 1, 23))];
        assert_eq!(evaluated(false, values.clone()), some(of(0, 1, 46)));
        assert_eq!(evaluated(true, values), some(of(0, 0, 35)));
        assert_eq!(evaluated(true, vec![Some(of(1, 0, 0)), Some(of(0, 0, 0))]), some(of(0, 15, 0)));
        assert_eq!(evaluated(true, vec![None]), ScalarValue::IntervalMonthDayNano(None));
    }

    #[test]
    fn what_no_interval_holds_is_out_of_range() {
        let mut total = Total { divides: false, parts: [0; 4] };
        let values: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![of(i32::MAX, 0, 0); 2]));
        total.update_batch(&[values]).expect("added");
        assert!(total.evaluate().is_err());
    }
}
