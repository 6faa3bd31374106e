//! UNNEST: each row once for each element of its arrays.
//!
//! Arrays of one row are gone through side by side; the shorter ones have nulls at their ends. Rows
//! without an element are left out, or stay once with nulls. What many elements make comes in several
//! batches, so that a long array does not make one of any size.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::plan::Unnest;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Rows after which a batch ends; the elements of one row stay together.
const BATCH_ROWS: usize = 64 << 10;

fn broken(error: ArrowError) -> Error {
    Error::data("UNNEST", error)
}

/// Some rows of a batch, repeated, and the places of the elements beside them.
struct Part {
    rows: Vec<u32>,
    /// For each of the lists.
    elements: Vec<Vec<Option<u32>>>,
}

/// The rows of a batch with the elements of their arrays, into `out`; `schema` is the output's.
pub(crate) fn unnest(plan: &Unnest, schema: &SchemaRef, batch: &Batch, out: &mut Vec<Batch>) -> Result<()> {
    let list = |at: &usize| {
        let list = batch.rows.column(*at).as_list_opt::<i32>();
        list.ok_or_else(|| Error::data("UNNEST", "a column that is no list"))
    };
    let lists: Vec<&ListArray> = plan.lists.iter().map(list).collect::<Result<_>>()?;
    let mut next = 0;
    while next < batch.len() {
        let part = part(plan, &lists, batch.len(), &mut next);
        if !part.rows.is_empty() {
            out.push(made(plan, schema, batch, &lists, part)?);
        }
    }
    Ok(())
}

/// Those of so many rows from `next` on whose elements make a batch.
fn part(plan: &Unnest, lists: &[&ListArray], rows: usize, next: &mut usize) -> Part {
    let mut part = Part { rows: Vec::new(), elements: vec![Vec::new(); lists.len()] };
    while *next < rows && part.rows.len() < BATCH_ROWS {
        let row = *next;
        *next += 1;
        let length = |list: &&ListArray| if list.is_valid(row) { list.value_length(row) as usize } else { 0 };
        let longest = lists.iter().map(length).max().unwrap_or(0).max(usize::from(plan.keeps_empty));
        part.rows.extend(std::iter::repeat_n(row as u32, longest));
        for (list, elements) in lists.iter().zip(&mut part.elements) {
            let (first, length) = (list.value_offsets()[row] as u32, length(list));
            elements.extend((first..first + length as u32).map(Some));
            elements.extend(std::iter::repeat_n(None, longest - length));
        }
    }
    part
}

fn made(plan: &Unnest, schema: &SchemaRef, batch: &Batch, lists: &[&ListArray], part: Part) -> Result<Batch> {
    let rows = UInt32Array::from(part.rows);
    let elements: Vec<UInt32Array> = part.elements.into_iter().map(UInt32Array::from).collect();
    let column = |from: &usize| match plan.lists.iter().position(|list| list == from) {
        Some(at) => take(lists[at].values(), &elements[at], None),
        None => take(batch.rows.column(*from), &rows, None),
    };
    let columns: Vec<ArrayRef> = plan.columns.iter().map(column).collect::<Result<_, _>>().map_err(broken)?;
    let made = record_batch(schema, columns, rows.len()).map_err(broken)?;
    let weights = batch.weights.as_ref().map(|weights| take(weights, &rows, None)).transpose().map_err(broken)?;
    Ok(match weights {
        Some(weights) => Batch::weighted(made, weights.as_primitive::<arrow::datatypes::Int64Type>().clone()),
        None => Batch::inserts(made),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use std::sync::Arc;

    type Arrays = Vec<Option<Vec<Option<i32>>>>;

    /// For each element the row's number, the elements of both arrays, and the weight.
    fn twin(first: &Arrays, second: &Arrays, keeps_empty: bool) -> Vec<(i32, Option<i32>, Option<i32>, i64)> {
        let mut rows = Vec::new();
        for (at, (a, b)) in first.iter().zip(second).enumerate() {
            let (a, b) = (a.clone().unwrap_or_default(), b.clone().unwrap_or_default());
            let longest = a.len().max(b.len()).max(usize::from(keeps_empty));
            let element = |all: &Vec<Option<i32>>, i: usize| all.get(i).copied().flatten();
            rows.extend((0..longest).map(|i| (at as i32, element(&a, i), element(&b, i), at as i64 % 3 - 1)));
        }
        rows
    }

    fn unnested(first: &Arrays, second: &Arrays, keeps_empty: bool) -> Vec<Batch> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        let field = |name: &str, of: &DataType| Field::new(name, of.clone(), true);
        let input = Schema::new(vec![field("a", &list), field("n", &DataType::Int32), field("b", &list)]);
        let lists =
            |rows: &Arrays| -> ArrayRef { Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.clone())) };
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..first.len() as i32));
        let rows = RecordBatch::try_new(Arc::new(input), vec![lists(first), numbers, lists(second)]).expect("rows");
        let weights = Int64Array::from_iter_values((0..first.len() as i64).map(|at| at % 3 - 1));
        let output: SchemaRef =
            Arc::new(Schema::new(["x", "n", "y"].map(|name| field(name, &DataType::Int32)).to_vec()));
        let plan = Unnest { lists: vec![2, 0], columns: vec![0, 1, 2], keeps_empty };
        let mut out = Vec::new();
        unnest(&plan, &output, &Batch::weighted(rows, weights), &mut out).expect("rows");
        out
    }

    fn told(batches: &[Batch]) -> Vec<(i32, Option<i32>, Option<i32>, i64)> {
        let mut rows = Vec::new();
        for batch in batches {
            let [x, n, y] = [0, 1, 2].map(|at| batch.rows.column(at).as_primitive::<Int32Type>());
            let get = |column: &Int32Array, at: usize| column.is_valid(at).then(|| column.value(at));
            rows.extend((0..batch.len()).map(|at| (n.value(at), get(x, at), get(y, at), batch.weight(at))));
        }
        rows
    }

    #[test]
    fn each_element_is_a_row() {
        let some = |all: &[i32]| Some(all.iter().map(|v| (*v > 0).then_some(*v)).collect::<Vec<_>>());
        let first = vec![some(&[1, 0, 3]), some(&[]), None, some(&[4]), None];
        let second = vec![some(&[7]), some(&[]), some(&[8, 9]), None, None];
        for keeps_empty in [false, true] {
            let found = told(&unnested(&first, &second, keeps_empty));
            assert_eq!(found, twin(&first, &second, keeps_empty));
        }
    }

    #[test]
    fn long_arrays_come_in_several_batches() {
        let long: Vec<Option<i32>> = (0..1000).map(Some).collect();
        let first: Arrays = vec![Some(long); 200];
        let second: Arrays = vec![None; 200];
        let batches = unnested(&first, &second, false);
        assert!(batches.len() > 1 && batches.iter().all(|batch| batch.len() < BATCH_ROWS + 1000));
        assert_eq!(told(&batches), twin(&first, &second, false));
    }
}
