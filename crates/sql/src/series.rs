//! `generate_series` of whole numbers in queries that run once, where its bounds depend on no row: numbers are made
//! as somebody takes them, so a series alone may be as long as the type allows, and one beside other rows is made
//! once and joined with them. Elsewhere it is an array ([`crate::arrays`]) in each row, whose length is limited.

use crate::arrays::SERIES;
use crate::error::DataError;
use crate::session::Session;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, NullHandling, Result, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, Unnest};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use std::sync::Arc;

/// How the relations of series are called, with a number.
const NAME: &str = "__series";
/// A series beside other rows is held as a whole: as many numbers, which an array has at most.
const MOST_HELD: i128 = 10_000_000;

/// A plan whose series are made as they are read.
///
/// # Errors
/// `External` with a [`DataError`] for steps of 0.
pub(crate) fn streamed(plan: LogicalPlan, session: &Session) -> Result<LogicalPlan> {
    let mut count = 0;
    let streamed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Unnest(unnest) = &node else { return Ok(Transformed::no(node)) };
        let Some(made) = made(unnest) else { return Ok(Transformed::no(node)) };
        let Some(bounds) = made.bounds(session) else { return Ok(Transformed::no(node)) };
        let left = Left::new(bounds)?;
        if !made.is_alone() && left.count() > MOST_HELD {
            return Ok(Transformed::no(node));
        }
        count += 1;
        Ok(Transformed::yes(made.relation(left, &format!("{NAME}{count}"))?))
    })?;
    Ok(streamed.data)
}

/// A series among the columns below an UNNEST of it alone.
struct Made<'a> {
    unnest: &'a Unnest,
    below: &'a Projection,
    /// Its place among the columns.
    at: usize,
    args: Vec<Expr>,
}

fn made(unnest: &Unnest) -> Option<Made<'_>> {
    let LogicalPlan::Projection(below) = unnest.input.as_ref() else { return None };
    let [(at, list)] = unnest.list_type_columns.as_slice() else { return None };
    let keeps_all = unnest.options.null_handling == NullHandling::PreserveAndExpandEmpty;
    if list.depth != 1 || keeps_all || !unnest.struct_type_columns.is_empty() {
        return None;
    }
    let Expr::ScalarFunction(call) = below.expr.get(*at)?.clone().unalias() else { return None };
    let is_series = call.func.name() == SERIES && matches!(call.args.len(), 2 | 3);
    // What a subquery has of the query around it stays where it is.
    (is_series && unnest.input.all_out_ref_exprs().is_empty()).then_some(Made {
        unnest,
        below,
        at: *at,
        args: call.args,
    })
}

impl Made<'_> {
    /// What the series is called with, if that are whole numbers that depend on no row; nulls are none.
    fn bounds(&self, session: &Session) -> Option<Vec<Option<i64>>> {
        self.args.iter().map(|bound| whole_number(bound, session)).collect()
    }

    /// Whether there is nothing beside it.
    fn is_alone(&self) -> bool {
        let is_one = matches!(self.below.input.as_ref(), LogicalPlan::EmptyRelation(one) if one.produce_one_row);
        is_one && self.below.expr.len() == 1
    }

    /// The numbers beside the other columns, all under the names that they had above the UNNEST.
    fn relation(&self, left: Left, name: &str) -> Result<LogicalPlan> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
        let series = Series { schema: Arc::clone(&schema), left };
        let table = StreamingTable::try_new(schema, vec![Arc::new(series)])?;
        let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?;
        if !self.is_alone() {
            let mut beside = self.below.expr.clone();
            beside.remove(self.at);
            let beside = Projection::try_new(beside, Arc::clone(&self.below.input))?;
            plan = plan.cross_join(LogicalPlan::Projection(beside))?;
        }
        let columns = self.below.schema.columns();
        let shown = self.unnest.schema.iter().zip(&self.unnest.dependency_indices);
        let shown = shown.map(|((relation, field), from)| {
            if *from == self.at {
                Expr::Column(Column::new(Some(name), "value")).alias_qualified(relation.cloned(), field.name())
            } else {
                Expr::Column(columns[*from].clone())
            }
        });
        Projection::try_new(shown.collect(), Arc::new(plan.build()?)).map(LogicalPlan::Projection)
    }
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

    /// How many they are.
    fn count(self) -> i128 {
        let Some(first) = self.next else { return 0 };
        let distance = (i128::from(self.last) - i128::from(first)) * i128::from(self.step.signum());
        if distance < 0 { 0 } else { distance / i128::from(self.step).abs() + 1 }
    }

    /// The next numbers, at most so many; none when there are none.
    fn take(&mut self, most: usize) -> Option<Int64Array> {
        let first = self.next?;
        let left = self.count();
        if left == 0 {
            self.next = None;
            return None;
        }
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
