//! `avg` of numeric in queries that run once, in windows and in groups that are computed anew: the quotient of
//! sum and count as `division` has it.
//!
//! It is DataFusion's, which cuts off, over numerics of more digits and to one digit more than is given, by which
//! the one before is rounded. Averages of other types are DataFusion's own. Those that are kept are the engine's.

use crate::aggregates::{Groups, WIDEST, Whole};
use crate::division::quotient_type;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};
use std::sync::Arc;

/// What a sum is divided by: a count.
const COUNT: DataType = DataType::Decimal128(20, 0);

/// Makes it known in the place of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    state.register_udaf(Arc::new(AggregateUDF::from(Average(avg_udaf()))))?;
    Ok(())
}

/// See above; of DataFusion's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Average(Arc<AggregateUDF>);

/// What DataFusion's is told of numerics.
struct Told {
    return_field: FieldRef,
    fields: Vec<FieldRef>,
}

impl Told {
    /// None of other types.
    fn of(return_field: &FieldRef, fields: &[FieldRef]) -> Option<Self> {
        let DataType::Decimal128(_, scale) = return_field.data_type() else { return None };
        let wide = |field: &FieldRef, scale: i8| -> FieldRef {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Decimal256(WIDEST, scale)))
        };
        let of = |field: &FieldRef| match field.data_type() {
            DataType::Decimal128(_, scale) => Some(wide(field, *scale)),
            _ => None,
        };
        let fields = fields.iter().map(of).collect::<Option<_>>()?;
        Some(Self { return_field: wide(return_field, *scale + 1), fields })
    }

    fn args<'a>(&'a self, args: AccumulatorArgs<'a>) -> AccumulatorArgs<'a> {
        AccumulatorArgs { return_field: Arc::clone(&self.return_field), expr_fields: &self.fields, ..args }
    }
}

impl AggregateUDFImpl for Average {
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
        match args.first().and_then(|of| quotient_type(of, &COUNT)) {
            Some(numeric) => Ok(numeric),
            None => self.0.return_type(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(told) = Told::of(&args.return_field, args.expr_fields) else { return self.0.accumulator(args) };
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Whole { inner: self.0.accumulator(told.args(args))?, to }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(told) = Told::of(&args.return_field, args.expr_fields) else {
            return self.0.create_sliding_accumulator(args);
        };
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Whole { inner: self.0.create_sliding_accumulator(told.args(args))?, to }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match Told::of(&args.return_field, args.expr_fields) {
            Some(told) => self.0.groups_accumulator_supported(told.args(args)),
            None => self.0.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let Some(told) = Told::of(&args.return_field, args.expr_fields) else {
            return self.0.create_groups_accumulator(args);
        };
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Groups { inner: self.0.create_groups_accumulator(told.args(args))?, to }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(told) = Told::of(&args.return_field, args.input_fields) else { return self.0.state_fields(args) };
        let return_field = Arc::clone(&told.return_field);
        self.0.state_fields(StateFieldsArgs { return_field, input_fields: &told.fields, ..args })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
    use arrow::datatypes::{Decimal128Type, Field, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::EmitTo;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;

    const MONEY: DataType = DataType::Decimal128(10, 2);

    fn money(values: &[i128]) -> [ArrayRef; 1] {
        [Arc::new(Decimal128Array::from(values.to_vec()).with_data_type(MONEY))]
    }

    fn with_args<T>(is_distinct: bool, make: impl FnOnce(&Average, AccumulatorArgs<'_>) -> Result<T>) -> T {
        let average = Average(avg_udaf());
        let numeric = average.return_type(&[MONEY]).expect("a type");
        assert_eq!(numeric, DataType::Decimal128(24, 16));
        let field: FieldRef = Arc::new(Field::new("x", MONEY, true));
        let schema = Schema::new(vec![Arc::clone(&field)]);
        let exprs: [Arc<dyn PhysicalExpr>; 1] = [Arc::new(Column::new("x", 0))];
        let args = AccumulatorArgs {
            return_field: Arc::new(Field::new("avg", numeric, true)),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "avg",
            is_distinct,
            exprs: &exprs,
            expr_fields: &[field],
        };
        make(&average, args).expect("an accumulator")
    }

    fn value(average: Option<i128>) -> ScalarValue {
        ScalarValue::Decimal128(average, 24, 16)
    }

    #[test]
    fn averages_are_rounded_in_frames_that_move() {
        let mut frame = with_args(false, |average, args| average.create_sliding_accumulator(args));
        assert_eq!(frame.evaluate().expect("an average"), value(None));
        frame.update_batch(&money(&[100, 200, 200])).expect("added");
        assert_eq!(frame.evaluate().expect("an average"), value(Some(16_666_666_666_666_667)));
        frame.update_batch(&money(&[-600])).expect("added");
        frame.retract_batch(&money(&[100])).expect("taken away");
        assert_eq!(frame.evaluate().expect("an average"), value(Some(-6_666_666_666_666_667)));
        frame.retract_batch(&money(&[200, 200, -600])).expect("taken away");
        assert_eq!(frame.evaluate().expect("an average"), value(None));
    }

    #[test]
    fn averages_of_groups_are_those_of_their_parts() {
        let make = || with_args(false, |average, args| average.create_groups_accumulator(args));
        let (mut part, mut whole) = (make(), make());
        part.update_batch(&money(&[100, -100, 200, 100]), &[0, 1, 0, 1], None, 2).expect("added");
        whole.update_batch(&money(&[200, -200]), &[0, 1], None, 2).expect("added");
        whole.merge_batch(&part.state(EmitTo::All).expect("a state"), &[0, 1], 2).expect("merged");
        let averages = whole.evaluate(EmitTo::All).expect("averages");
        assert_eq!(averages.data_type(), &DataType::Decimal128(24, 16));
        let expected = [16_666_666_666_666_667, -6_666_666_666_666_667];
        assert_eq!(averages.as_primitive::<Decimal128Type>().values().to_vec(), expected);
    }

    #[test]
    fn values_that_are_equal_count_once_where_they_are_to() {
        let mut average = with_args(true, |average, args| average.accumulator(args));
        average.update_batch(&money(&[100, 200, 200, 200])).expect("added");
        assert_eq!(average.evaluate().expect("an average"), value(Some(15_000_000_000_000_000)));
    }
}
