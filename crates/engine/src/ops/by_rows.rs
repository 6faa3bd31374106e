//! Work that is done to each row alone, a batch at a time: what becomes of rows for which an expression
//! cannot be computed.
//!
//! A batch is computed whole. Only when that fails is it halved, down to single rows, and a row fails
//! when it fails alone: what stands beside it decides nothing. So a guard such as `b <> 0 AND a / b > 1`
//! holds although both sides may be computed for a whole batch (in which order is not asked, see
//! `conditions`), and a row that is left out when it comes is left out when it goes. Invariant: the work on a row depends on that row alone, and what can be
//! computed for a batch can be computed for each of its rows.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::plan::OnError;
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use std::ops::Range;

/// What the parts of a batch may take in memory together, in bytes. Functions refuse a batch for which they
/// would give too much at once, and what they refuse is computed in parts.
const MOST_MADE: usize = 1 << 30;

/// The longest value, and the longest row, that an error tells, in characters.
const LONGEST_VALUE: usize = 64;
const LONGEST_ROW: usize = 512;

/// Rows that were left out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    /// Those of them that came; of what goes it was told when it came.
    pub(crate) came: u64,
    /// Why the first one was.
    pub(crate) reason: String,
}

/// Does something to a batch, into `out`. Gives the rows that were left out, if any were.
///
/// # Errors
/// Those of `apply`; of an expression with the first row for which it cannot be computed, unless such
/// rows are left out. `Data` when the parts of a batch take too much memory together.
pub(crate) fn apply(
    batch: Batch,
    on_error: OnError,
    out: &mut Vec<Batch>,
    apply: &mut impl FnMut(Batch, &mut Vec<Batch>) -> Result<()>,
) -> Result<Option<LeftOut>> {
    let before = out.len();
    let whole = batch.clone();
    match apply(batch, out) {
        Err(Error::Expression { .. }) => out.truncate(before),
        done => return done.map(|()| None),
    }
    let (mut left_out, mut made): (Option<LeftOut>, usize) = (None, 0);
    by_rows(
        0..whole.len(),
        &mut |rows: Range<usize>| {
            let before = out.len();
            let applied = apply(whole.slice(rows), out);
            if applied.is_err() {
                out.truncate(before);
            }
            made += out[before..].iter().map(bytes).sum::<usize>();
            if made > MOST_MADE {
                let reason = format!("what is computed of its rows takes more than {} MiB", MOST_MADE >> 20);
                return Err(Error::data("a batch", reason));
            }
            applied
        },
        &mut |row: usize, error: Error| {
            let of_row = || error.of_row(told(&whole.rows, row));
            if on_error == OnError::Fail {
                return Err(of_row());
            }
            let left_out = left_out.get_or_insert_with(|| LeftOut { came: 0, reason: of_row().to_string() });
            left_out.came += u64::from(whole.weight(row) > 0);
            Ok(())
        },
    )?;
    Ok(left_out)
}

/// Computes a range of rows, in halves where that fails, and tells `failed` of the rows that fail alone.
///
/// # Errors
/// Those of `failed`, and those of `compute` that no expression gave.
pub(crate) fn by_rows(
    rows: Range<usize>,
    compute: &mut impl FnMut(Range<usize>) -> Result<()>,
    failed: &mut impl FnMut(usize, Error) -> Result<()>,
) -> Result<()> {
    match compute(rows.clone()) {
        Err(error @ Error::Expression { .. }) => match rows.len() {
            0 => Ok(()),
            1 => failed(rows.start, error),
            length => {
                let middle = rows.start + length / 2;
                by_rows(rows.start..middle, compute, failed)?;
                by_rows(middle..rows.end, compute, failed)
            }
        },
        done => done,
    }
}

/// What a batch's values take in memory, also where others share them.
fn bytes(batch: &Batch) -> usize {
    batch.rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// A row in words.
pub(crate) fn told(rows: &RecordBatch, row: usize) -> String {
    let schema = rows.schema_ref();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let value = match array_value_to_string(column, row) {
            _ if column.is_null(row) => "NULL".to_owned(),
            Ok(value) => shortened(value, LONGEST_VALUE),
            // A type that cannot be shown is of no help.
            Err(_) => "?".to_owned(),
        };
        format!("{} = {value}", field.name())
    });
    shortened(columns.collect::<Vec<_>>().join(", "), LONGEST_ROW)
}

/// A text of no more than so many characters and the sign that there were more.
fn shortened(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expressions::Mapper;
    use crate::plan::Map;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
    use datafusion_common::{DataFusionError, ScalarValue};
    use datafusion_expr::Operator;
    use datafusion_physical_expr::PhysicalExpr;
    use datafusion_physical_expr::expressions::{BinaryExpr, Column, lit};
    use proptest::prelude::*;
    use std::sync::Arc;

    type Rows = Vec<(Option<i64>, Option<i64>, i64)>;

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
    }

    fn batch(rows: &Rows) -> Batch {
        let a: ArrayRef = Arc::new(rows.iter().map(|(a, _, _)| *a).collect::<Int64Array>());
        let b: ArrayRef = Arc::new(rows.iter().map(|(_, b, _)| *b).collect::<Int64Array>());
        let weights = Int64Array::from_iter_values(rows.iter().map(|(_, _, weight)| *weight));
        Batch::weighted(RecordBatch::try_new(schema(&["a", "b"]), vec![a, b]).expect("two columns"), weights)
    }

    fn column(name: &str, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(name, at))
    }

    fn binary(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    /// The values given, with their weights.
    type Given = Vec<(Option<i64>, i64)>;

    fn quotient() -> Arc<dyn PhysicalExpr> {
        binary(column("a", 0), Operator::Divide, column("b", 1))
    }

    /// `SELECT a / b`, or `SELECT a WHERE b <> 0 AND a / b > 1`.
    fn mapper(is_guarded: bool) -> Mapper {
        let zero = lit(ScalarValue::Int64(Some(0)));
        let large = binary(quotient(), Operator::Gt, lit(ScalarValue::Int64(Some(1))));
        let guard = binary(binary(column("b", 1), Operator::NotEq, zero), Operator::And, large);
        let map = if is_guarded {
            Map { filter: Some(guard), columns: vec![column("a", 0)] }
        } else {
            Map { filter: None, columns: vec![quotient()] }
        };
        Mapper::new(map, schema(&["x"]))
    }

    fn mapped(is_guarded: bool, on_error: OnError, rows: &Rows) -> Result<(Given, u64)> {
        let (mapper, mut out) = (mapper(is_guarded), Vec::new());
        let left_out = apply(batch(rows), on_error, &mut out, &mut |batch: Batch, out: &mut Vec<Batch>| {
            out.extend(mapper.apply(batch)?);
            Ok(())
        })?;
        let mut given = Vec::new();
        for batch in &out {
            let values = batch.rows.column(0).as_primitive::<Int64Type>();
            given.extend(
                (0..batch.len()).map(|row| (values.is_valid(row).then(|| values.value(row)), batch.weight(row))),
            );
        }
        Ok((given, left_out.map_or(0, |left_out| left_out.came)))
    }

    /// Row by row, as SQL says it.
    fn twin(is_guarded: bool, rows: &Rows) -> (Given, u64) {
        let (mut given, mut came) = (Vec::new(), 0);
        for (a, b, weight) in rows {
            match (a, b) {
                (Some(_), Some(0)) if is_guarded => {}
                (Some(_), Some(0)) => came += u64::from(*weight > 0),
                (Some(a), Some(b)) if is_guarded => given.extend((a / b > 1).then_some((Some(*a), *weight))),
                (Some(a), Some(b)) => given.push((Some(a / b), *weight)),
                _ if is_guarded => {}
                _ => given.push((None, *weight)),
            }
        }
        (given, came)
    }

    fn some_rows() -> impl Strategy<Value = Rows> {
        let number = || prop::option::weighted(0.9, 0..6_i64);
        let weight = prop_oneof![Just(1_i64), Just(-1), Just(2)];
        prop::collection::vec((number(), number(), weight), 0..60)
    }

    proptest! {
        #[test]
        fn rows_are_left_out_as_one_by_one(rows in some_rows(), is_guarded in any::<bool>()) {
            let found = mapped(is_guarded, OnError::Skip, &rows).expect("nothing else fails");
            prop_assert_eq!(found, twin(is_guarded, &rows));
        }

        #[test]
        fn a_row_fails_only_if_it_fails_alone(rows in some_rows(), is_guarded in any::<bool>()) {
            let fails = !is_guarded && rows.iter().any(|(a, b, _)| a.is_some() && *b == Some(0));
            let found = mapped(is_guarded, OnError::Fail, &rows);
            prop_assert_eq!(found.is_err(), fails);
            if let Ok(found) = found {
                prop_assert_eq!(found, twin(is_guarded, &rows));
            }
        }
    }

    #[test]
    fn the_error_tells_the_expression_and_the_row() {
        let rows = vec![(Some(8), Some(4), 1), (Some(7), Some(0), 1), (None, Some(0), 1)];
        let error = mapped(false, OnError::Fail, &rows).expect_err("the second row");
        assert_eq!(error.to_string(), "division by zero in a / b for the row a = 7, b = 0");
    }

    #[test]
    fn the_parts_of_a_batch_take_no_more_than_so_much_memory() {
        let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x".repeat(1 << 20)]));
        let large = RecordBatch::try_from_iter([("t", text)]).expect("one column");
        let refused = || {
            let exhausted = DataFusionError::ResourcesExhausted("repeat would give too much at once".to_owned());
            Error::expression(&quotient(), exhausted)
        };
        let made = |rows: usize| {
            let mut out = Vec::new();
            let mut enlarge = |batch: Batch, out: &mut Vec<Batch>| {
                if batch.len() > 1 {
                    return Err(refused());
                }
                out.push(Batch::inserts(large.clone()));
                Ok(())
            };
            let rows = vec![(None, None, 1); rows];
            apply(batch(&rows), OnError::Skip, &mut out, &mut enlarge).map(|_| out.len())
        };
        assert_eq!(made(1000).expect("less than a GiB"), 1000);
        assert!(matches!(made(1024), Err(Error::Data { .. })), "and not a row left out");
    }

    #[test]
    fn of_no_rows_none_fails() {
        let mut out = Vec::new();
        let mut fails = |_: Batch, _: &mut Vec<Batch>| {
            Err(Error::expression(&quotient(), DataFusionError::Execution("a constant".to_owned())))
        };
        let left_out = apply(batch(&Rows::new()), OnError::Fail, &mut out, &mut fails).expect("no rows");
        assert!(left_out.is_none() && out.is_empty());
    }

    #[test]
    fn long_rows_are_cut() {
        let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["ä".repeat(100)]));
        let rows = RecordBatch::try_from_iter([("t", text)]).expect("one column");
        assert_eq!(told(&rows, 0), format!("t = {}...", "ä".repeat(LONGEST_VALUE)));
    }
}
