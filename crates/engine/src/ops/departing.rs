//! Rows that are kept by group leave when their groups are final.
//!
//! Nothing is given for it, and nothing that was given changes. They are found as `sweep` says, and leave
//! by the way on which deleted rows do, in an epoch's end of their own after that of the epoch. Invariant:
//! what leaves is of a group that is final, so that no row of it comes, or goes, any more.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::KeyCodec;
use crate::ops::expressions::column;
use crate::ops::gathered::Gathered;
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use crate::ops::sweep::Sweep;
use crate::ops::watermark::{Bound, NEVER};
use crate::plan::Final;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion_physical_expr::PhysicalExpr;
use highwater_state::Slot;
use std::sync::Arc;

/// What an operator over one side of rows by group needs to let them leave.
pub(crate) struct Departing {
    /// The key that is a time.
    time: Arc<dyn PhysicalExpr>,
    bound: Bound,
    sweep: Sweep,
    grouping: Grouping,
    codec: KeyCodec,
    /// Of the rows.
    schema: SchemaRef,
}

fn broken(error: ArrowError) -> Error {
    Error::data("rows that leave", error)
}

impl Departing {
    /// `keys` are those of the groups, over the columns of `input`.
    ///
    /// # Errors
    /// `Plan` when a key or a column cannot be kept.
    pub(crate) fn new(last: &Final, keys: &[Arc<dyn PhysicalExpr>], input: &SchemaRef) -> Result<Self> {
        Ok(Self {
            time: Arc::clone(&keys[last.time]),
            bound: Bound::new(last.passing.clone()),
            sweep: Sweep::new(),
            grouping: Grouping::new(keys, input, NullKeys::Group)?,
            codec: row_codec(input)?,
            schema: Arc::clone(input),
        })
    }

    /// Takes a mark of one of the watermarks.
    pub(crate) fn take(&mut self, watermark: usize, batch: &Batch) {
        self.bound.take(watermark, batch);
    }

    /// A step, when the end of an epoch is over; true when there was none left to do. `gone` is told of the
    /// groups of which rows left.
    pub(crate) fn step(&mut self, gathered: &mut Gathered, gone: &mut dyn FnMut(Slot)) -> Result<bool> {
        let bound = self.bound.after();
        if bound == NEVER || !gathered.is_loaded() {
            return Ok(true);
        }
        let rows = gathered.rows_of(0);
        let Some(pages) = self.sweep.next(rows.len(), rows.page_count()) else { return Ok(true) };
        let mut slots = Vec::new();
        for page in pages {
            gathered.rows_of(0).live_slots(page, &mut slots)?;
            if !slots.is_empty() {
                self.leave(gathered, &slots, bound)?;
            }
        }
        loop {
            let touched = gathered.touched()?;
            if touched.is_empty() {
                break;
            }
            touched.iter().for_each(|group| gone(group.slot()));
        }
        while !gathered.end_epoch()? {}
        Ok(false)
    }

    /// Deletes those of some rows that are final.
    fn leave(&self, gathered: &mut Gathered, slots: &[Slot], bound: i64) -> Result<()> {
        let row = BinaryArray::from_iter_values(slots.iter().map(|slot| gathered.row(0, *slot)));
        let columns = self.codec.columns_of_bytes((0..row.len()).map(|at| row.value(at)))?;
        let rows = record_batch(&self.schema, columns, slots.len()).map_err(broken)?;
        let times = column(&self.time, &rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let is_final: BooleanArray = times.iter().map(|time| Some(time.is_some_and(|time| time <= bound))).collect();
        if is_final.true_count() == 0 {
            return Ok(());
        }
        let weights: Int64Array = slots.iter().map(|slot| Some(-gathered.count(0, *slot))).collect();
        let leaving = Batch::weighted(rows, weights).filter(&is_final).map_err(broken)?;
        let row: ArrayRef = arrow::compute::filter(&row, &is_final).map_err(broken)?;
        for part in self.grouping.of_rows(&leaving, &row)? {
            gathered.apply(0, &part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
