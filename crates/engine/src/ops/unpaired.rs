//! The output rows of one side of a join that depend on whether a row has a pair: rows without one
//! with nulls beside them, semi and anti joins, marks.
//!
//! Invariant: what a row gives is its count where its state, paired or not, is one that is given; an
//! epoch's change is the difference between what it gave and what it gives.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::ops::gathered::Part;
use crate::ops::pairs::{take_all, weights_of};
use crate::plan::JoinKind;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::datatypes::SchemaRef;
use std::ops::Range;
use std::sync::Arc;

/// What is given of a side's rows, and where its columns stand.
pub(crate) struct Unpaired {
    pub(crate) kind: JoinKind,
    pub(crate) schema: SchemaRef,
    pub(crate) side: usize,
}

/// Rows by their places in a part, with weights and marks.
#[derive(Default)]
struct Given {
    rows: Vec<u32>,
    weights: Vec<i64>,
    marks: Vec<bool>,
}

impl Given {
    fn push(&mut self, row: usize, weight: i64, mark: bool) {
        if weight != 0 {
            self.rows.push(row as u32);
            self.weights.push(weight);
            self.marks.push(mark);
        }
    }
}

impl Unpaired {
    /// What changes in the output for some rows of a part; `paired` has for each row of the part
    /// whether it had a pair and whether it has one.
    pub(crate) fn change(
        &self,
        part: &Part,
        columns: &[ArrayRef],
        paired: &[(bool, bool)],
        rows: Range<usize>,
    ) -> Result<Option<Batch>> {
        let mut given = Given::default();
        for row in rows {
            let (was, is) = paired[row];
            let (old, new) = (part.old[row], part.new[row]);
            let only = |wanted: bool| i64::from(is == wanted) * new - i64::from(was == wanted) * old;
            match self.kind {
                JoinKind::Semi => given.push(row, only(true), true),
                JoinKind::Mark if was == is => given.push(row, new - old, is),
                JoinKind::Mark => {
                    given.push(row, -old, was);
                    given.push(row, new, is);
                }
                _ => given.push(row, only(false), false),
            }
        }
        if given.rows.is_empty() {
            return Ok(None);
        }
        let columns = take_all(columns, &UInt32Array::from(given.rows))?;
        let rows = self.rows(columns, given.marks)?;
        Ok(Some(Batch { rows, weights: weights_of(given.weights) }))
    }

    /// Output rows of rows that never have a pair.
    pub(crate) fn never(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Option<RecordBatch>> {
        let given = self.kind != JoinKind::Semi && rows > 0;
        given.then(|| self.rows(columns, vec![false; rows])).transpose()
    }

    /// The side's columns with what stands beside them; `marks` has one entry a row.
    fn rows(&self, mut columns: Vec<ArrayRef>, marks: Vec<bool>) -> Result<RecordBatch> {
        let rows = marks.len();
        match self.kind {
            JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => {}
            JoinKind::Mark => columns.push(Arc::new(BooleanArray::from(marks))),
            JoinKind::Left | JoinKind::Right | JoinKind::Full => {
                let others = self.schema.fields().len() - columns.len();
                let at = if self.side == 0 { columns.len() } else { 0 };
                let fields = self.schema.fields()[at..at + others].iter();
                let nulls: Vec<ArrayRef> = fields.map(|field| new_null_array(field.data_type(), rows)).collect();
                drop(columns.splice(at..at, nulls));
            }
        }
        let made = record_batch(&self.schema, columns, rows);
        made.map_err(|e| Error::data("join", e))
    }
}
