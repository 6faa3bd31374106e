//! The pairs of a join whose number an epoch changed, and what that does to its output.
//!
//! A pair is there as often as the product of its rows' counts says. Only pairs of which one row was
//! changed are looked at, each once: the changed rows of the left with all of the right, and the
//! other rows of the left with the changed ones of the right. They are looked at a chunk at a time, in
//! an order that a cursor goes through, so that no cross product is ever made whole and between two
//! chunks others may have their turn. Where it matters whether a row has any pair, the number of its
//! pairs is kept; this module says by how much it changes. Invariant: a row that is new starts at 0,
//! and all of its pairs are looked at.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::ops::by_rows::{self, LeftOut};
use crate::ops::expressions::mask;
use crate::ops::gathered::Part;
use crate::shared::Run;
use crate::slices::CHUNK;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// What a pair must fulfil beside its keys, over no more columns than it names.
pub(crate) struct Condition {
    expression: Arc<dyn PhysicalExpr>,
    /// The columns of each side that it names.
    columns: [Vec<usize>; 2],
    schema: SchemaRef,
    /// The operator and its run, where pairs for which it cannot be computed are left out.
    leaves_out: Option<(String, Arc<Run>)>,
}

fn broken(error: ArrowError) -> Error {
    Error::data("join", error)
}

/// The rows at `indices` of some columns.
pub(crate) fn take_all(columns: &[ArrayRef], indices: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| take(column.as_ref(), indices, None).map_err(broken)).collect()
}

/// Weights of a batch; none when all are 1.
pub(crate) fn weights_of(weights: Vec<i64>) -> Option<Int64Array> {
    weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(weights))
}

impl Condition {
    /// `condition` is over the left columns and then the right ones.
    ///
    /// # Errors
    /// `Plan` when it names a column that there is not.
    pub(crate) fn new(condition: &Arc<dyn PhysicalExpr>, left: &Schema, right: &Schema) -> Result<Self> {
        let split = left.fields().len();
        let mut used: Vec<usize> = collect_columns(condition).iter().map(Column::index).collect();
        used.sort_unstable();
        used.dedup();
        let fields: Vec<_> = left.fields().iter().chain(right.fields()).collect();
        if used.last().is_some_and(|last| *last >= fields.len()) {
            return Err(Error::Plan(format!("the condition {condition} of a join names a column that it has not")));
        }
        let rebased = Arc::clone(condition).transform_down(|expression| {
            let any: &dyn Any = expression.as_ref();
            let Some(column) = any.downcast_ref::<Column>() else { return Ok(Transformed::no(expression)) };
            let index = used.partition_point(|used| *used < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
        });
        let expression = rebased.data().map_err(|e| Error::Plan(e.to_string()))?;
        let field_of = |column: &usize| Field::clone(fields[*column]).with_nullable(true);
        let kept: Vec<Field> = used.iter().map(field_of).collect();
        let (of_left, of_right) = used.split_at(used.partition_point(|column| *column < split));
        let of_right = of_right.iter().map(|column| column - split).collect();
        let (columns, schema) = ([of_left.to_vec(), of_right], Arc::new(Schema::new(kept)));
        Ok(Self { expression, columns, schema, leaves_out: None })
    }

    /// From now on it is not true of pairs for which it cannot be computed.
    pub(crate) fn leave_out(&mut self, operator: &str, run: &Arc<Run>) {
        self.leaves_out = Some((operator.to_owned(), Arc::clone(run)));
    }

    /// For which pairs of rows it is true. `weight` is that of a pair in the output.
    fn holds(
        &self,
        rows: [&[ArrayRef]; 2],
        pairs: [&UInt32Array; 2],
        weight: &impl Fn(usize) -> i64,
    ) -> Result<BooleanArray> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (side, named) in self.columns.iter().enumerate() {
            for column in named {
                columns.push(take(rows[side][*column].as_ref(), pairs[side], None).map_err(broken)?);
            }
        }
        let batch = record_batch(&self.schema, columns, pairs[0].len());
        let batch = batch.map_err(broken)?;
        match mask(&self.expression, &batch) {
            Err(Error::Expression { .. }) => self.holds_one_by_one(&batch, weight),
            done => done,
        }
    }

    /// The same where it cannot be computed for all pairs at once.
    fn holds_one_by_one(&self, pairs: &RecordBatch, weight: &impl Fn(usize) -> i64) -> Result<BooleanArray> {
        let mut holds = vec![false; pairs.num_rows()];
        by_rows::by_rows(
            0..pairs.num_rows(),
            &mut |rows: Range<usize>| {
                let mask = mask(&self.expression, &pairs.slice(rows.start, rows.len()))?;
                for (at, value) in rows.zip(mask.values()) {
                    holds[at] = value;
                }
                Ok(())
            },
            &mut |row: usize, error: Error| {
                let error = error.of_row(by_rows::told(pairs, row));
                let Some((operator, run)) = &self.leaves_out else { return Err(error) };
                let came = u64::from(weight(row) > 0);
                run.left_out(operator, LeftOut { came, reason: error.to_string() });
                Ok(())
            },
        )?;
        Ok(BooleanArray::from(holds))
    }
}

/// What a join wants of pairs.
pub(crate) struct Wanted<'a> {
    pub(crate) condition: Option<&'a Condition>,
    /// The schema of pairs that are given; none when only the numbers of pairs are wanted.
    pub(crate) gives: Option<&'a SchemaRef>,
    /// Of which side the rows' numbers of pairs are kept.
    pub(crate) counts: [bool; 2],
}

/// Pairs the rows of the same groups of two parts, step by step.
pub(crate) struct Pairing {
    pub(crate) parts: [Part; 2],
    /// The parts' columns.
    pub(crate) rows: [Vec<ArrayRef>; 2],
    /// By side, where they are kept: how much more pairs each row of the part has, by the pairs that
    /// were looked at.
    pub(crate) more: [Vec<i64>; 2],
    next: Cursor,
}

/// The pair that is looked at next.
#[derive(Default)]
struct Cursor {
    group: usize,
    /// Its left row.
    row: usize,
    /// Which it is among the rows of the right that are looked at with that one.
    other: usize,
    /// The changed rows of the right in this group.
    changed: Vec<u32>,
}

/// How many more of a pair there are in the output.
#[inline]
fn weight(parts: &[Part; 2], left: usize, right: usize) -> i64 {
    let [l, r] = parts;
    l.new[left] * r.new[right] - l.old[left] * r.old[right]
}

/// How many more pairs the row of a side has through its other row.
#[inline]
fn more(parts: &[Part; 2], side: usize, row: usize, other: usize) -> i64 {
    let (mine, others) = (&parts[side], &parts[1 - side]);
    match (mine.old[row], mine.new[row]) {
        (_, 0) => 0,
        (0, _) => others.new[other],
        _ => others.new[other] - others.old[other],
    }
}

impl Wanted<'_> {
    #[inline]
    fn matters(&self, parts: &[Part; 2], left: usize, right: usize) -> bool {
        self.gives.is_some() && weight(parts, left, right) != 0
            || self.counts[0] && more(parts, 0, left, right) != 0
            || self.counts[1] && more(parts, 1, right, left) != 0
    }

    /// An error of the condition. Where it matters whether a row has a pair none is left out, and so nobody
    /// is told that one can be.
    fn told(&self, error: Error) -> Error {
        if self.counts.contains(&true) { Error::data("the condition of a join", error) } else { error }
    }
}

impl Pairing {
    /// Begins with the first pair of some parts.
    pub(crate) fn new(parts: [Part; 2], rows: [Vec<ArrayRef>; 2], counts: [bool; 2]) -> Self {
        let more = std::array::from_fn(|side| vec![0; if counts[side] { parts[side].len() } else { 0 }]);
        let mut pairing = Self { parts, rows, more, next: Cursor::default() };
        pairing.enter(0);
        pairing
    }

    /// Looks at the next chunk of pairs; true when it was the last.
    pub(crate) fn step(&mut self, wanted: &Wanted<'_>, out: &mut Vec<Batch>) -> Result<bool> {
        let mut pairs = [Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK)];
        let mut left = CHUNK;
        while left > 0 && self.next.group < self.parts[0].groups() {
            left -= self.look(wanted, left, &mut pairs);
        }
        self.take_account(wanted, pairs, out)?;
        Ok(self.next.group >= self.parts[0].groups())
    }

    /// Makes a group the one that is looked at.
    fn enter(&mut self, group: usize) {
        let Self { parts: [left, right], next, .. } = self;
        next.group = group;
        next.other = 0;
        next.changed.clear();
        if group < left.groups() {
            let changed = right.of(group).filter(|row| right.is_changed(*row));
            next.changed.extend(changed.map(|row| row as u32));
            // Where the right has nothing, the group is over.
            next.row = if right.of(group).is_empty() { left.of(group).end } else { left.of(group).start };
        }
    }

    /// Looks at no more than `most` pairs of the group; gives how many it looked at.
    fn look(&mut self, wanted: &Wanted<'_>, most: usize, pairs: &mut [Vec<u32>; 2]) -> usize {
        let (parts, next) = (&self.parts, &mut self.next);
        let (left, right) = (&parts[0], parts[1].of(next.group));
        let end = left.of(next.group).end;
        let mut looked = 0;
        while next.row < end && looked < most {
            let (row, from) = (next.row, next.other);
            let mut pair = |other: u32| {
                if wanted.matters(parts, row, other as usize) {
                    pairs[0].push(row as u32);
                    pairs[1].push(other);
                }
            };
            let all = left.is_changed(row);
            let others = if all { right.len() } else { next.changed.len() };
            let to = others.min(from + most - looked);
            if all {
                for other in right.start + from..right.start + to {
                    pair(other as u32);
                }
            } else {
                for other in &next.changed[from..to] {
                    pair(*other);
                }
            }
            looked += to - from;
            (next.row, next.other) = if to == others { (row + 1, 0) } else { (row, to) };
        }
        if next.row == end {
            let group = next.group + 1;
            self.enter(group);
        }
        looked
    }

    /// Takes account of the pairs that fulfil the condition.
    fn take_account(&mut self, wanted: &Wanted<'_>, pairs: [Vec<u32>; 2], out: &mut Vec<Batch>) -> Result<()> {
        if pairs[0].is_empty() {
            return Ok(());
        }
        let mut indices = pairs.map(UInt32Array::from);
        if let Some(condition) = wanted.condition {
            let [left, right] = &indices;
            let weight = |at: usize| weight(&self.parts, left.value(at) as usize, right.value(at) as usize);
            let holds = condition.holds([&self.rows[0], &self.rows[1]], [left, right], &weight);
            let holds = holds.map_err(|error| wanted.told(error))?;
            indices = keep(&indices, &holds)?;
        }
        for side in (0..2).filter(|side| wanted.counts[*side]) {
            let others = indices[1 - side].values().iter();
            for (row, other) in indices[side].values().iter().zip(others) {
                self.more[side][*row as usize] += more(&self.parts, side, *row as usize, *other as usize);
            }
        }
        if let Some(schema) = wanted.gives {
            out.extend(self.given(schema, indices)?);
        }
        Ok(())
    }

    /// The output rows of pairs, less those that weigh nothing, as only their numbers changed.
    fn given(&self, schema: &SchemaRef, mut indices: [UInt32Array; 2]) -> Result<Option<Batch>> {
        let both = indices[0].values().iter().zip(indices[1].values().iter());
        let mut weights: Vec<i64> = both.map(|(l, r)| weight(&self.parts, *l as usize, *r as usize)).collect();
        if weights.contains(&0) {
            let weighs: BooleanArray = weights.iter().map(|weight| Some(*weight != 0)).collect();
            indices = keep(&indices, &weighs)?;
            weights.retain(|weight| *weight != 0);
        }
        if weights.is_empty() {
            return Ok(None);
        }
        let mut columns = take_all(&self.rows[0], &indices[0])?;
        columns.extend(take_all(&self.rows[1], &indices[1])?);
        let rows = record_batch(schema, columns, weights.len()).map_err(broken)?;
        Ok(Some(Batch { rows, weights: weights_of(weights) }))
    }
}

/// The pairs of which `kept` is true.
fn keep(pairs: &[UInt32Array; 2], kept: &BooleanArray) -> Result<[UInt32Array; 2]> {
    let of = |side: &UInt32Array| filter(side, kept).map(|rows| UInt32Array::from(rows.to_data())).map_err(broken);
    Ok([of(&pairs[0])?, of(&pairs[1])?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use datafusion_common::ScalarValue;
    use datafusion_expr::Operator;
    use datafusion_physical_expr::expressions::{BinaryExpr, lit};
    use std::sync::atomic::Ordering::Relaxed;

    /// `a / b > 1` over a column of the left and one of the right.
    fn quotient_is_large() -> Condition {
        let side = |name: &str| Schema::new(vec![Field::new(name, DataType::Int64, true)]);
        let column = |name: &str, at| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
        let quotient = Arc::new(BinaryExpr::new(column("a", 0), Operator::Divide, column("b", 1)));
        let one = lit(ScalarValue::Int64(Some(1)));
        let condition: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(quotient, Operator::Gt, one));
        Condition::new(&condition, &side("a"), &side("b")).expect("a condition")
    }

    /// A pair of 7 goes, and all others come.
    fn holds(condition: &Condition, pairs: &[(i64, i64)]) -> Result<Vec<bool>> {
        let left: Vec<ArrayRef> = vec![Arc::new(pairs.iter().map(|(a, _)| Some(*a)).collect::<Int64Array>())];
        let right: Vec<ArrayRef> = vec![Arc::new(pairs.iter().map(|(_, b)| Some(*b)).collect::<Int64Array>())];
        let all = UInt32Array::from_iter_values(0..pairs.len() as u32);
        let weight = |at: usize| if pairs[at].0 == 7 { -1 } else { 1 };
        let holds = condition.holds([&left, &right], [&all, &all], &weight)?;
        Ok(holds.values().iter().collect())
    }

    #[test]
    fn pairs_of_which_nobody_knows_fail_or_are_left_out() {
        let pairs = [(8, 2), (1, 0), (3, 3), (7, 0), (9, 1)];
        let mut condition = quotient_is_large();
        assert_eq!(holds(&condition, &[(8, 2), (3, 3)]).expect("they are known"), [true, false]);
        let error = holds(&condition, &pairs).expect_err("the second pair").to_string();
        assert_eq!(error, "division by zero in a / b > 1 for the row a = 1, b = 0");
        let run = Arc::new(Run::new("p".to_owned(), Arc::default(), Box::new(|_| {})));
        condition.leave_out("join", &run);
        assert_eq!(holds(&condition, &pairs).expect("the others"), [true, false, false, false, true]);
        assert_eq!(run.counters.failed_rows.load(Relaxed), 1, "counted when they come");
        let told = run.counters.last_failed_row.lock().expect("one thread").clone();
        assert_eq!(told.as_deref(), Some("join: division by zero in a / b > 1 for the row a = 7, b = 0"));
    }

    #[test]
    fn only_where_pairs_are_given_and_not_counted_can_they_be_left_out() {
        let refused = |counts: [bool; 2]| {
            let wanted = Wanted { condition: None, gives: None, counts };
            wanted.told(holds(&quotient_is_large(), &[(1, 0)]).expect_err("nobody knows"))
        };
        assert!(matches!(refused([false, false]), Error::Expression { .. }));
        assert!(matches!(refused([true, false]), Error::Data { .. }));
    }
}
