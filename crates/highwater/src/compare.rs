//! Whether two results hold the same rows, as multisets; for checks of views against recomputation.

use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use arrow::util::display::array_value_to_string;
use std::cmp::Ordering;

/// How far two floats may be apart, relative to the larger one.
const TOLERANCE: f64 = 1e-9;

/// Compares two results whatever the order of their rows. Floats are equal when they differ by at
/// most 1e-9 of the larger one, as sums depend on the order of adding. Gives the first difference
/// in words, or nothing when they are the same.
///
/// # Errors
/// When the batches of one side do not have one schema.
pub fn same_rows(ours: &[RecordBatch], theirs: &[RecordBatch]) -> Result<Option<String>> {
    let counts = [ours, theirs].map(|side| side.iter().map(RecordBatch::num_rows).sum::<usize>());
    let (Some(first), Some(second)) = (ours.first(), theirs.first()) else {
        return Ok((counts[0] != counts[1]).then(|| count_text(counts)));
    };
    if first.num_columns() != second.num_columns() {
        let text = format!("{} columns and {} columns", first.num_columns(), second.num_columns());
        return Ok(Some(text));
    }
    let ours = Side::new(&first.schema(), ours, None)?;
    let theirs = Side::new(&second.schema(), theirs, Some(&ours))?;
    for at in 0..counts[0].min(counts[1]) {
        if !ours.same(at, &theirs, at) {
            let text = format!("{} and {}", ours.text(at), theirs.text(at));
            return Ok(Some(if counts[0] == counts[1] { text } else { format!("{}; {text}", count_text(counts)) }));
        }
    }
    Ok((counts[0] != counts[1]).then(|| count_text(counts)))
}

fn count_text(counts: [usize; 2]) -> String {
    format!("{} rows and {} rows", counts[0], counts[1])
}

/// One result, sorted: by the columns that compare exactly, then by the floats.
struct Side {
    whole: RecordBatch,
    exact: Rows,
    floats: Vec<ArrayRef>,
    order: Vec<usize>,
}

impl Side {
    fn new(schema: &SchemaRef, batches: &[RecordBatch], like: Option<&Self>) -> Result<Self> {
        let mut whole = concat_batches(schema, batches)?;
        if let Some(like) = like {
            let columns = whole.columns().iter().zip(like.whole.columns());
            let cast_all = columns.map(|(ours, theirs)| cast(ours, theirs.data_type()));
            whole = RecordBatch::try_new(like.whole.schema(), cast_all.collect::<Result<_, _>>()?)?;
        }
        let is_float = |c: &ArrayRef| c.data_type().is_floating();
        let (floats, exact): (Vec<_>, Vec<_>) = whole.columns().iter().cloned().partition(is_float);
        let floats: Vec<ArrayRef> = floats.iter().map(|c| cast(c, &DataType::Float64)).collect::<Result<_, _>>()?;
        let exact = rows_of(&exact, whole.num_rows())?;
        let near = rows_of(&floats, whole.num_rows())?;
        let mut order: Vec<usize> = (0..whole.num_rows()).collect();
        order.sort_unstable_by(|a, b| exact.row(*a).cmp(&exact.row(*b)).then_with(|| near.row(*a).cmp(&near.row(*b))));
        Ok(Self { whole, exact, floats, order })
    }

    fn same(&self, at: usize, other: &Self, other_at: usize) -> bool {
        let (mine, its) = (self.order[at], other.order[other_at]);
        self.exact.row(mine).cmp(&other.exact.row(its)) == Ordering::Equal
            && self.floats.iter().zip(&other.floats).all(|(a, b)| near(a, mine, b, its))
    }

    fn text(&self, at: usize) -> String {
        let row = self.order[at];
        let value = |column: &ArrayRef| {
            if column.is_null(row) {
                return "null".to_owned();
            }
            array_value_to_string(column, row).unwrap_or_else(|e| e.to_string())
        };
        let values: Vec<String> = self.whole.columns().iter().map(value).collect();
        format!("({})", values.join(", "))
    }
}

/// Rows in a form that compares; with no columns all rows are equal.
fn rows_of(columns: &[ArrayRef], count: usize) -> Result<Rows> {
    if columns.is_empty() {
        let nothing: ArrayRef = arrow::array::new_null_array(&DataType::Boolean, count);
        return rows_of(&[nothing], count);
    }
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

fn near(a: &ArrayRef, at: usize, b: &ArrayRef, b_at: usize) -> bool {
    let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>());
    if a.is_null(at) || b.is_null(b_at) {
        return a.is_null(at) == b.is_null(b_at);
    }
    let (a, b) = (a.value(at), b.value(b_at));
    a.total_cmp(&b) == Ordering::Equal || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn batch(keys: &[i64], values: &[Option<f64>]) -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("v", DataType::Float64, true), Field::new("k", DataType::Int64, true)]);
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        RecordBatch::try_new(Arc::new(schema), vec![values, keys]).expect("a batch")
    }

    #[test]
    fn order_and_division_into_batches_do_not_matter() {
        let ours = [batch(&[1, 2], &[Some(0.1 + 0.2), None]), batch(&[3], &[Some(1.0)])];
        let theirs = [batch(&[3, 1, 2], &[Some(1.0), Some(0.3), None])];
        assert_eq!(same_rows(&ours, &theirs).expect("comparable"), None);
    }

    #[test]
    fn a_different_value_count_or_multiplicity_is_told() {
        let ours = [batch(&[1, 2], &[Some(1.0), Some(2.0)])];
        for theirs in [
            batch(&[1, 2], &[Some(1.0), Some(2.1)]),
            batch(&[1, 3], &[Some(1.0), Some(2.0)]),
            batch(&[1], &[Some(1.0)]),
            batch(&[1, 1, 2], &[Some(1.0), Some(1.0), Some(2.0)]),
            batch(&[1, 2], &[Some(1.0), None]),
        ] {
            let found = same_rows(&ours, std::slice::from_ref(&theirs)).expect("comparable");
            assert!(found.is_some(), "{theirs:?}");
        }
        assert_eq!(same_rows(&ours, &[]).expect("comparable").as_deref(), Some("2 rows and 0 rows"));
    }
}
