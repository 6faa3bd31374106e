//! `generate_series` of whole numbers in queries that run once, where its bounds depend on no row: numbers are made
//! as somebody takes them, so a series may be as long as the type allows. Elsewhere it is an array
//! ([`crate::arrays`]), whose length is limited.

use crate::arrays::SERIES;
use crate::error::DataError;
use crate::session::Session;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, Result, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Unnest};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use std::sync::Arc;

/// What the relation of a series is called.
const NAME: &str = "generate_series";

/// A plan whose series are made as they are read.
///
/// # Errors
/// `External` with a [`DataError`] for steps of 0.
pub(crate) fn streamed(plan: LogicalPlan, session: &Session) -> Result<LogicalPlan> {
    let streamed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Unnest(unnest) = &node else { return Ok(Transformed::no(node)) };
        match bounds_of(unnest, session) {
            Some(bounds) => Ok(Transformed::yes(relation(unnest, Left::new(bounds)?)?)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(streamed.data)
}

/// What a series that depends on no row is called with; nulls are none.
fn bounds_of(unnest: &Unnest, session: &Session) -> Option<Vec<Option<i64>>> {
    let LogicalPlan::Projection(shown) = unnest.input.as_ref() else { return None };
    let LogicalPlan::EmptyRelation(one) = shown.input.as_ref() else { return None };
    let [made] = shown.expr.as_slice() else { return None };
    let made = made.clone().unalias();
    let Expr::ScalarFunction(call) = &made else { return None };
    let is_series = call.func.name() == SERIES && matches!(call.args.len(), 2 | 3);
    let is_whole = unnest.schema.fields().iter().all(|field| *field.data_type() == DataType::Int64);
    if !is_series || !is_whole || !one.produce_one_row {
        return None;
    }
    call.args.iter().map(|bound| whole_number(bound, session)).collect()
}

/// The value of a bound, if it can be told before rows are there.
fn whole_number(bound: &Expr, session: &Session) -> Option<Option<i64>> {
    let Ok(Expr::Literal(value, _)) = session.evaluated(bound.clone()) else { return None };
    if !value.data_type().is_integer() && !value.data_type().is_null() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => Some(number),
        _ => None,
    }
}

/// A relation with the numbers, under the names of what it stands for.
fn relation(unnest: &Unnest, left: Left) -> Result<LogicalPlan> {
    let (qualifier, field) = unnest.schema.qualified_field(0);
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, field.is_nullable())]));
    let series = Series { schema: Arc::clone(&schema), left };
    let table = StreamingTable::try_new(schema, vec![Arc::new(series)])?;
    let value = Expr::Column(Column::new(Some(NAME), "value"));
    LogicalPlanBuilder::scan(NAME, provider_as_source(Arc::new(table)), None)?
        .project(vec![value.alias_qualified(qualifier.cloned(), field.name())])?
        .build()
}

#[derive(Debug)]
struct Series {
    schema: SchemaRef,
    left: Left,
}

impl PartitionStream for Series {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (rows, mut left) = (context.session_config().batch_size(), self.left);
        let schema = Arc::clone(&self.schema);
        let batches = std::iter::from_fn(move || {
            let numbers = left.take(rows)?;
            Some(RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(numbers)]).map_err(DataFusionError::from))
        });
        let batches = futures::stream::iter(batches);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// The numbers of a series that have not been taken.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// None when all have been.
    next: Option<i64>,
    last: i64,
    step: i64,
}

impl Left {
    fn new(bounds: Vec<Option<i64>>) -> Result<Self> {
        let Some(bounds) = bounds.into_iter().collect::<Option<Vec<i64>>>() else {
            return Ok(Self { next: None, last: 0, step: 1 });
        };
        let step = bounds.get(2).copied().unwrap_or(1);
        if step == 0 {
            return Err(zero_step());
        }
        Ok(Self { next: Some(bounds[0]), last: bounds[1], step })
    }

    /// The next numbers, at most so many; none when there are none.
    fn take(&mut self, most: usize) -> Option<Int64Array> {
        let first = self.next?;
        let distance = (i128::from(self.last) - i128::from(first)) * i128::from(self.step.signum());
        if distance < 0 {
            self.next = None;
            return None;
        }
        let left = distance / i128::from(self.step).abs() + 1;
        let count = left.min(most.max(1) as i128) as i64;
        // A product may go around; the sum comes back.
        let number = |at: i64| first.wrapping_add(at.wrapping_mul(self.step));
        let numbers = Int64Array::from_iter_values((0..count).map(number));
        self.next = (left > i128::from(count)).then(|| number(count));
        Some(numbers)
    }
}

/// What PostgreSQL says of a series that would not end.
pub(crate) fn zero_step() -> DataFusionError {
    let message = "step size cannot equal zero".to_owned();
    DataFusionError::External(Box::new(DataError { sqlstate: "22023", message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bounds: [i64; 3], most: usize) -> Vec<i64> {
        let mut left = Left::new(bounds.map(Some).to_vec()).expect("a step");
        let mut all = Vec::new();
        while let Some(numbers) = left.take(most) {
            assert!((1..=most).contains(&numbers.len()));
            all.extend_from_slice(numbers.values());
        }
        all
    }

    #[test]
    fn series_are_the_same_in_whatever_pieces() {
        let bounds = [
            ([1, 7, 2], vec![1, 3, 5, 7]),
            ([7, 1, 1], vec![]),
            ([3, -3, -2], vec![3, 1, -1, -3]),
            ([i64::MAX - 2, i64::MAX, 1], vec![i64::MAX - 2, i64::MAX - 1, i64::MAX]),
            ([i64::MIN, i64::MAX, i64::MAX], vec![i64::MIN, -1, i64::MAX - 1]),
            ([i64::MIN, i64::MIN, i64::MIN], vec![i64::MIN]),
        ];
        for (bounds, expected) in bounds {
            for most in 1..5 {
                assert_eq!(all(bounds, most), expected, "{bounds:?} by {most}");
            }
        }
    }

    #[test]
    fn nulls_give_nothing_and_a_step_of_nothing_is_refused() {
        let mut none = Left::new(vec![Some(1), None]).expect("no series");
        assert!(none.take(3).is_none());
        assert!(Left::new(vec![Some(1), Some(2), Some(0)]).is_err());
    }
}
