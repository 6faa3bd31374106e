//! `stddev` and `stddev_pop` with DISTINCT, which DataFusion's have not: the roots of its variances with DISTINCT.
//! Without it they are DataFusion's own, and those of integers are of `spreads`.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};
use std::sync::Arc;

/// Makes them known in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (own, variance) in [(stddev_udaf(), var_samp_udaf()), (stddev_pop_udaf(), var_pop_udaf())] {
        state.register_udaf(Arc::new(AggregateUDF::from(Deviation { own, variance })))?;
    }
    Ok(())
}

/// See above.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Deviation {
    /// DataFusion's.
    own: Arc<AggregateUDF>,
    /// Its square.
    variance: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Deviation {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        self.own.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.own.return_type(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Ok(Box::new(Root(self.variance.accumulator(args)?)));
        }
        self.own.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.own.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.own.create_groups_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct { self.variance.state_fields(args) } else { self.own.state_fields(args) }
    }
}

/// One group: the root of what this gives.
#[derive(Debug)]
struct Root(Box<dyn Accumulator>);

impl Accumulator for Root {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.0.evaluate()? {
            ScalarValue::Float64(variance) => Ok(ScalarValue::Float64(variance.map(f64::sqrt))),
            other => plan_err!("{other} is no variance"),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;

    fn distinct(of: &Deviation) -> Box<dyn Accumulator> {
        let field: FieldRef = Arc::new(Field::new("x", DataType::Float64, true));
        let schema = Schema::new(vec![Arc::clone(&field)]);
        let exprs: [Arc<dyn PhysicalExpr>; 1] = [Arc::new(Column::new("x", 0))];
        let args = AccumulatorArgs {
            return_field: Arc::clone(&field),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "x",
            is_distinct: true,
            exprs: &exprs,
            expr_fields: &[Arc::clone(&field)],
        };
        of.accumulator(args).expect("an accumulator")
    }

    fn values(of: &[f64]) -> [ArrayRef; 1] {
        [Arc::new(Float64Array::from(of.to_vec()))]
    }

    #[test]
    fn values_that_are_equal_count_once_also_of_parts() {
        let sample = Deviation { own: stddev_udaf(), variance: var_samp_udaf() };
        let all = Deviation { own: stddev_pop_udaf(), variance: var_pop_udaf() };
        for (of, one, two) in [(&sample, None, Some(2.0_f64.sqrt())), (&all, Some(0.0), Some(1.0))] {
            let mut whole = distinct(of);
            assert_eq!(whole.evaluate().expect("nothing"), ScalarValue::Float64(None));
            whole.update_batch(&values(&[1.0, 1.0])).expect("added");
            assert_eq!(whole.evaluate().expect("a deviation"), ScalarValue::Float64(one));
            let mut part = distinct(of);
            part.update_batch(&values(&[3.0, 1.0, 3.0])).expect("added");
            let state: Vec<ArrayRef> =
                part.state().expect("a state").iter().map(|part| part.to_array().expect("an array")).collect();
            whole.merge_batch(&state).expect("merged");
            assert_eq!(whole.evaluate().expect("a deviation"), ScalarValue::Float64(two));
        }
    }
}
