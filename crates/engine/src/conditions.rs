//! Conditions that must hold together, where one of them cannot be computed for all rows.
//!
//! A row for which one condition is false or null is left out whatever the others are, in any order: so each is
//! computed for the rows that others leave, as often as that gets further. Whoever asks tries the conjunction as a
//! whole first, which is one pass. Invariants: of a single row nothing is said only where it fails, which is where no
//! condition that can be computed leaves it out; and what is said of rows is what would be said of each alone.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion_physical_expr::{PhysicalExpr, split_conjunction};
use std::sync::Arc;

/// For which rows a conjunction is true; nulls count as false. None where it cannot be told of all of them.
#[must_use]
pub fn held(conjunction: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Option<BooleanArray> {
    let mut conditions = split_conjunction(conjunction);
    // The rows that are left, and which they were.
    let (mut left, mut places) = (rows.clone(), (0..rows.num_rows()).collect::<Vec<_>>());
    while !conditions.is_empty() && !places.is_empty() {
        let tried = conditions.len();
        let mut failed = Vec::with_capacity(tried);
        for condition in conditions {
            if places.is_empty() {
                break;
            }
            let Some(mask) = mask(condition, &left) else {
                failed.push(condition);
                continue;
            };
            left = filter_record_batch(&left, &mask).ok()?;
            places =
                places.into_iter().zip(mask.values()).filter_map(|(place, holds)| holds.then_some(place)).collect();
        }
        if failed.len() == tried {
            return None;
        }
        conditions = failed;
    }
    let mut held = vec![false; rows.num_rows()];
    for place in places {
        held[place] = true;
    }
    Some(BooleanArray::from(held))
}

/// The rows for which one condition is true, if it can be computed for all.
fn mask(condition: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Option<BooleanArray> {
    let values = condition.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).ok()?;
    let mask = values.as_boolean_opt()?;
    Some(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion_common::ScalarValue;
    use datafusion_expr::Operator;
    use datafusion_physical_expr::expressions::{BinaryExpr, Column, lit};
    use proptest::prelude::*;

    type Row = (Option<i64>, Option<i64>);

    fn column(name: &str, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(name, at))
    }

    fn number(value: i64) -> Arc<dyn PhysicalExpr> {
        lit(ScalarValue::Int64(Some(value)))
    }

    fn binary(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    /// `12 / a > b AND 12 / b > a AND b <> 3`.
    fn conjunction() -> Arc<dyn PhysicalExpr> {
        let (a, b) = (|| column("a", 0), || column("b", 1));
        let first = binary(binary(number(12), Operator::Divide, a()), Operator::Gt, b());
        let second = binary(binary(number(12), Operator::Divide, b()), Operator::Gt, a());
        let third = binary(b(), Operator::NotEq, number(3));
        binary(binary(first, Operator::And, second), Operator::And, third)
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let a: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let b: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
        RecordBatch::try_from_iter([("a", a), ("b", b)]).expect("two columns")
    }

    /// Whether a row is given; none where it fails.
    fn twin((a, b): Row) -> Option<bool> {
        let quotient = |by: i64, least: i64| if by == 0 { None } else { Some(12 / by > least) };
        let of_both = |of: fn(i64, i64) -> (i64, i64)| match (a, b) {
            (Some(a), Some(b)) => quotient(of(a, b).0, of(a, b).1),
            // 12 / 0 fails beside a null, too.
            (Some(0), None) if of(0, 1).0 == 0 => None,
            (None, Some(0)) if of(1, 0).0 == 0 => None,
            _ => Some(false),
        };
        let conditions = [of_both(|a, b| (a, b)), of_both(|a, b| (b, a)), Some(b.is_some_and(|b| b != 3))];
        if conditions.contains(&Some(false)) {
            return Some(false);
        }
        conditions.iter().all(Option::is_some).then_some(true)
    }

    fn found(rows: &[Row]) -> Option<Vec<bool>> {
        held(&conjunction(), &batch(rows)).map(|mask| mask.values().iter().collect())
    }

    proptest! {
        #[test]
        fn a_row_fails_only_where_no_condition_leaves_it_out(
            rows in prop::collection::vec((prop::option::of(0..5_i64), prop::option::of(0..5_i64)), 0..40),
        ) {
            for row in &rows {
                prop_assert_eq!(found(&[*row]), twin(*row).map(|holds| vec![holds]), "{:?}", row);
            }
            if let Some(found) = found(&rows) {
                prop_assert_eq!(Some(found), rows.iter().map(|row| twin(*row)).collect::<Option<Vec<_>>>());
            }
        }
    }

    #[test]
    fn what_others_leave_out_is_not_computed() {
        // `b <> 3`, which comes last, leaves the first row out, and a null the second.
        assert_eq!(found(&[(Some(0), Some(3)), (None, None), (Some(1), Some(1))]), Some(vec![false, false, true]));
        assert_eq!(found(&[(Some(1), Some(1)), (Some(0), Some(1))]), None, "12 / 1 > 0 and 1 <> 3");
    }

    #[test]
    fn of_no_rows_none_fails() {
        let fails = binary(binary(number(1), Operator::Divide, number(0)), Operator::Gt, number(0));
        assert_eq!(held(&fails, &batch(&[])).map(|mask| mask.len()), Some(0));
    }
}
