//! HOP: each row goes into every window that holds its time.
//!
//! Windows start at multiples of the slide since 1970-01-01 UTC, also before it. A row of time `t`
//! is in the windows that start in `(t - size, t]`. Rows without a time are in none.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::plan::Hop;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use std::sync::Arc;

/// The windows of a batch's rows; `schema` is the input's and `window_start`, `window_end`.
pub(crate) fn hop(plan: &Hop, schema: &SchemaRef, batch: &Batch) -> Result<Option<Batch>> {
    let broken = |e| Error::data("HOP", e);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let time = batch.rows.column(plan.time);
    let time = cast(time, &micros).map_err(broken)?;
    let time = time.as_primitive::<TimestampMicrosecondType>();
    let (mut rows, mut starts) = (Vec::new(), Vec::new());
    for row in 0..time.len() {
        if time.is_null(row) {
            continue;
        }
        let at = time.value(row);
        let mut start = at.div_euclid(plan.slide_us) * plan.slide_us;
        while start > at - plan.size_us {
            rows.push(row as u32);
            starts.push(start);
            start -= plan.slide_us;
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let ends: Vec<i64> = starts.iter().map(|start| start + plan.size_us).collect();
    let kept = batch.take(&UInt32Array::from(rows)).map_err(broken)?;
    let mut columns: Vec<ArrayRef> = kept.rows.columns().to_vec();
    for (bounds, field) in [starts, ends].into_iter().zip(schema.fields().iter().skip(columns.len())) {
        let bounds: ArrayRef = Arc::new(TimestampMicrosecondArray::from(bounds));
        columns.push(cast(&bounds, field.data_type()).map_err(broken)?);
    }
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(broken)?;
    Ok(Some(Batch { rows, weights: kept.weights }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};

    #[test]
    fn a_row_is_in_every_window_that_holds_it() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let field = |name: &str| Field::new(name, micros.clone(), true);
        let input = Arc::new(Schema::new(vec![field("t")]));
        let output = Arc::new(Schema::new(vec![field("t"), field("window_start"), field("window_end")]));
        let times = [Some(0), Some(7), None, Some(-1), Some(10)];
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
        let batch = Batch::inserts(RecordBatch::try_new(input, vec![column]).expect("one column"));
        let plan = Hop { time: 0, slide_us: 5, size_us: 10 };
        let out = hop(&plan, &output, &batch).expect("hops").expect("rows");
        let get = |i: usize| out.rows.column(i).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let found: Vec<(i64, i64)> = get(0).into_iter().zip(get(1)).collect();
        // The slow twin: try every start there can be.
        let mut expected = Vec::new();
        for time in times.into_iter().flatten() {
            for start in (-100..100).rev().map(|n| n * 5) {
                if start <= time && time < start + 10 {
                    expected.push((time, start));
                }
            }
        }
        assert_eq!(found, expected);
        assert!(get(1).iter().zip(get(2)).all(|(start, end)| start + 10 == end));
    }
}
