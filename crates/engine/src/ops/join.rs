//! Joins: both sides' rows by key, and at an epoch's end the change of what they give.
//!
//! Rows are applied as they come. At the end only groups that the epoch touched are looked at, a
//! portion of them at a time, and of them only the rows that can matter: a side is read whole where the
//! other one has changed. What a portion gives is made a chunk at a time, with cursors that are kept
//! from call to call, as one group may give more than fits into memory. Pairs are
//! found by `pairs`; rows that are given for having a pair, or none, by `unpaired`. Without a condition
//! a row has a pair when the other side's group has rows, so a group's totals tell; with one each row
//! keeps the number of its pairs. Rows of which a key is null, where nulls do not pair, are handed on
//! without state.

mod forgetting;
mod temporal;

pub(crate) use forgetting::Forgetting;
pub(crate) use temporal::{Temporal, filling};

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::KeyCodec;
use crate::ops::gathered::{Gathered, Part, SIDES, Touched, Want};
use crate::ops::grouping::{Grouping, is_loose};
use crate::ops::pairs::{Condition, Pairing, Wanted};
use crate::ops::unpaired::Unpaired;
use crate::plan::JoinKind;
use crate::shared::Run;
use crate::slices::{CHUNK, until};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::SchemaRef;
use highwater_state::{Slot, Table};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Rows of touched groups that are looked at together; one group may have more.
const TOGETHER: usize = 16 << 10;

impl JoinKind {
    /// What it is called where state is kept for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Left => "left",
            Self::Right => "right",
            Self::Full => "full",
            Self::Semi => "semi",
            Self::Anti => "anti",
            Self::Mark => "mark",
        }
    }

    /// Whether pairs are given.
    pub(crate) const fn gives_pairs(self) -> bool {
        matches!(self, Self::Inner | Self::Left | Self::Right | Self::Full)
    }

    /// Whether rows of a side are given for having a pair, or none.
    pub(crate) const fn gives_rows_of(self, side: usize) -> bool {
        match self {
            Self::Inner => false,
            Self::Left | Self::Semi | Self::Anti | Self::Mark => side == 0,
            Self::Right => side == 1,
            Self::Full => true,
        }
    }
}

/// One worker's share of a join.
pub(crate) struct Join {
    kind: JoinKind,
    schema: SchemaRef,
    gathered: Gathered,
    /// By side, for whole rows.
    codecs: [KeyCodec; 2],
    condition: Option<Condition>,
    /// The epoch's rows that belong to no group, with their sides.
    loose: VecDeque<(usize, Batch)>,
    /// Groups that the ending epoch changed.
    touched: Vec<Touched>,
    /// How many of them have been in a portion.
    begun: usize,
    portion: Option<Portion>,
    forgetting: Option<Forgetting>,
    temporal: Option<Temporal>,
}

/// Groups that are looked at together, and how far.
struct Portion {
    /// Their places in the touched groups.
    groups: Range<usize>,
    pairing: Pairing,
    /// All pairs were looked at.
    is_paired: bool,
    /// The row of a side that is looked at next for having a pair, or none.
    side: usize,
    row: usize,
    /// Whether each row of this side had a pair and whether it has one.
    paired: Vec<(bool, bool)>,
}

/// Which rows of each side are wanted of each of some groups.
#[derive(Default)]
struct Wants([Vec<Want>; 2]);

impl Join {
    /// Of a side whose rows are given and of which a condition decides, `gathered` has a word a row.
    pub(crate) fn new(
        kind: JoinKind,
        schema: SchemaRef,
        gathered: Gathered,
        codecs: [KeyCodec; 2],
        condition: Option<Condition>,
    ) -> Self {
        Self {
            kind,
            schema,
            gathered,
            codecs,
            condition,
            loose: VecDeque::new(),
            touched: Vec::new(),
            begun: 0,
            portion: None,
            forgetting: None,
            temporal: None,
        }
    }

    /// The same, without the pairs for which the condition cannot be computed. Where it matters whether a
    /// row has a pair, that would make rows of what nobody knows: such a join fails all the same.
    pub(crate) fn leaving_out(mut self, operator: &str, run: &Arc<Run>) -> Self {
        if self.kind == JoinKind::Inner
            && let Some(condition) = &mut self.condition
        {
            condition.leave_out(operator, run);
        }
        self
    }

    /// Rows that never pair again are forgotten; marks of watermarks are inputs after those of the sides.
    pub(crate) fn forgetting(mut self, forgetting: Forgetting) -> Self {
        self.forgetting = Some(forgetting);
        self
    }

    /// Left rows are paired once; what tells of backfills are inputs after those of the sides.
    pub(crate) fn temporal(mut self, temporal: Temporal) -> Self {
        self.temporal = Some(temporal);
        self
    }

    const fn counts_pairs_of(&self, side: usize) -> bool {
        self.condition.is_some() && self.kind.gives_rows_of(side)
    }

    const fn counts(&self) -> [bool; 2] {
        [self.counts_pairs_of(0), self.counts_pairs_of(1)]
    }

    /// Whether pairs must be looked at for what changed on one side of a group.
    const fn pairs_matter(&self, group: &Touched, side: usize) -> bool {
        let changed = &group.sides[side];
        if self.kind.gives_pairs() {
            return changed.is_changed;
        }
        // A changed row alters the numbers of the other side; its own one begins when it is new.
        self.counts_pairs_of(1 - side) && changed.is_changed || self.counts_pairs_of(side) && changed.has_new
    }

    /// Which rows of a side of a group can matter.
    const fn want(&self, group: &Touched, side: usize) -> Want {
        let (mine, others) = (&group.sides[side], &group.sides[1 - side]);
        let pairs = (mine.old != 0 || mine.new != 0)
            && (others.old != 0 || others.new != 0)
            && (self.pairs_matter(group, side) || self.pairs_matter(group, 1 - side));
        let given = self.kind.gives_rows_of(side);
        let flips = given && self.condition.is_none() && (others.old > 0) != (others.new > 0);
        if flips || pairs && self.pairs_matter(group, 1 - side) {
            Want::All
        } else if mine.is_changed && (given || pairs) {
            Want::Changed
        } else {
            Want::Nothing
        }
    }

    /// How many of the first groups of `touched` are to be looked at together, and what is wanted of
    /// them.
    fn together(&self, touched: &[Touched]) -> (usize, Wants) {
        let (mut wants, mut rows) = (Wants::default(), 0);
        for (at, group) in touched.iter().enumerate() {
            if rows >= TOGETHER {
                return (at, wants);
            }
            for side in 0..2 {
                let want = self.want(group, side);
                rows += group.sides[side].rows(want);
                wants.0[side].push(want);
            }
        }
        (touched.len(), wants)
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if let Some((side, batch)) = self.loose.pop_front() {
            out.extend(self.pass_loose(side, batch)?);
            return Ok(false);
        }
        if let Some(is_over) = self.wait()? {
            return Ok(is_over);
        }
        if self.portion.is_none() {
            self.portion = self.begin_portion()?;
        }
        let Some(mut portion) = self.portion.take() else { return self.end() };
        if !self.go_on(&mut portion, out)? {
            self.portion = Some(portion);
        }
        Ok(false)
    }

    /// A step of what follows when all changes are given; true when it was the last.
    fn end(&mut self) -> Result<bool> {
        if self.temporal.is_some() {
            return self.let_go();
        }
        let is_over = self.gathered.end_epoch()?;
        if is_over {
            self.forget()?;
        }
        Ok(is_over)
    }

    /// Reads the next touched groups that are looked at together; none when all were.
    fn begin_portion(&mut self) -> Result<Option<Portion>> {
        if self.begun == self.touched.len() {
            self.touched = self.gathered.touched()?;
            self.begun = 0;
        }
        if self.touched.is_empty() {
            return Ok(None);
        }
        let (count, wants) = self.together(&self.touched[self.begun..]);
        let range = self.begun..self.begun + count;
        self.begun = range.end;
        let groups = &self.touched[range.clone()];
        let parts = [self.gathered.part(0, groups, &wants.0[0])?, self.gathered.part(1, groups, &wants.0[1])?];
        let rows = [self.columns(0, &parts[0])?, self.columns(1, &parts[1])?];
        let pairing = Pairing::new(parts, rows, self.counts());
        let is_paired = !self.kind.gives_pairs() && self.condition.is_none();
        Ok(Some(Portion { groups: range, pairing, is_paired, side: 0, row: 0, paired: Vec::new() }))
    }

    /// Looks at the next chunk of a portion; true when it was the last.
    fn go_on(&mut self, portion: &mut Portion, out: &mut Vec<Batch>) -> Result<bool> {
        if portion.is_paired {
            self.give_rows(portion, out)?;
        } else {
            let gives = self.kind.gives_pairs().then_some(&self.schema);
            let wanted = Wanted { condition: self.condition.as_ref(), gives, counts: self.counts() };
            portion.is_paired = portion.pairing.step(&wanted, out)?;
        }
        Ok(portion.is_paired && self.side_from(portion.side).is_none())
    }

    /// The next side of which rows are given.
    fn side_from(&self, side: usize) -> Option<usize> {
        (side..2).find(|side| self.kind.gives_rows_of(*side))
    }

    /// Gives the next rows of a portion that are given for having a pair, or none.
    fn give_rows(&mut self, portion: &mut Portion, out: &mut Vec<Batch>) -> Result<()> {
        let Some(side) = self.side_from(portion.side) else { return Ok(()) };
        if portion.row == 0 {
            portion.paired = self.paired(side, portion);
        }
        let Pairing { parts, rows: columns, more, .. } = &portion.pairing;
        let part = &parts[side];
        // A row gives two where its mark changes.
        let rows = portion.row..part.len().min(portion.row + CHUNK / 2);
        out.extend(self.unpaired(side).change(part, &columns[side], &portion.paired, rows.clone())?);
        if self.counts_pairs_of(side) {
            self.keep_counts(side, part, &more[side], rows.clone());
        }
        (portion.side, portion.row) = if rows.end == part.len() { (side + 1, 0) } else { (side, rows.end) };
        Ok(())
    }

    /// Whether each row of a side of a portion had a pair and whether it has one.
    fn paired(&self, side: usize, portion: &Portion) -> Vec<(bool, bool)> {
        let part = &portion.pairing.parts[side];
        if self.counts_pairs_of(side) {
            self.paired_rows(side, part, &portion.pairing.more[side])
        } else {
            paired_groups(side, part, &self.touched[portion.groups.clone()])
        }
    }

    /// The columns of a part's rows.
    fn columns(&self, side: usize, part: &Part) -> Result<Vec<ArrayRef>> {
        self.codecs[side].columns_of_bytes(part.slots.iter().map(|slot| self.gathered.row(side, *slot)))
    }

    /// Whether each row of a part had a pair and whether it has one, by the numbers of their pairs.
    fn paired_rows(&self, side: usize, part: &Part, more: &[i64]) -> Vec<(bool, bool)> {
        let numbers = part.slots.iter().map(|slot| self.gathered.extra(side, *slot));
        numbers.zip(more).map(|(old, more)| (old > 0, old + more > 0)).collect()
    }

    /// Enters how many more pairs some rows of a part have.
    fn keep_counts(&mut self, side: usize, part: &Part, more: &[i64], rows: Range<usize>) {
        let changed: Vec<usize> = rows.filter(|row| more[*row] != 0).collect();
        let slots: Vec<Slot> = changed.iter().map(|row| part.slots[*row]).collect();
        let more: Vec<i64> = changed.iter().map(|row| more[*row]).collect();
        self.gathered.add_extra(side, &slots, &more);
    }

    fn unpaired(&self, side: usize) -> Unpaired {
        Unpaired { kind: self.kind, schema: SchemaRef::clone(&self.schema), side }
    }

    /// Rows of a side in row format.
    fn rows<'a>(&'a self, side: usize, slots: &'a [Slot]) -> impl Iterator<Item = &'a [u8]> {
        slots.iter().map(move |slot| self.gathered.row(side, *slot))
    }

    /// Rows of a side as they come in, by group; `times` their counts are their weights.
    fn regrouped(
        &self,
        side: usize,
        slots: &[Slot],
        times: i64,
        (schema, grouping): (&SchemaRef, &Grouping),
    ) -> Result<Vec<Batch>> {
        let columns = self.codecs[side].columns_of_bytes(self.rows(side, slots))?;
        let rows = record_batch(schema, columns, slots.len());
        let weights: Int64Array = slots.iter().map(|slot| Some(times * self.gathered.count(side, *slot))).collect();
        let row: ArrayRef = Arc::new(BinaryArray::from_iter_values(self.rows(side, slots)));
        grouping.of_rows(&Batch::weighted(rows.map_err(|e| Error::data("join", e))?, weights), &row)
    }

    /// Hands on rows of a side that belong to no group.
    fn pass_loose(&self, side: usize, batch: Batch) -> Result<Option<Batch>> {
        let bytes = batch.rows.column(0).as_binary::<i32>();
        let rows = (0..bytes.len()).map(|row| bytes.value(row));
        let columns = self.codecs[side].columns_of_bytes(rows)?;
        let given = self.unpaired(side).never(columns, batch.len())?;
        Ok(given.map(|rows| Batch { rows, weights: batch.weights }))
    }
}

/// Whether each row of a part had a pair and whether it has one, by the other side's totals.
fn paired_groups(side: usize, part: &Part, groups: &[Touched]) -> Vec<(bool, bool)> {
    let mut paired = Vec::with_capacity(part.len());
    for (at, group) in groups.iter().enumerate() {
        let others = &group.sides[1 - side];
        paired.extend(part.of(at).map(|_| (others.old > 0, others.new > 0)));
    }
    paired
}

impl Logic for Join {
    fn tables(&mut self) -> Vec<&mut Table> {
        self.gathered.tables()
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if input >= SIDES || is_loose(batch) {
            return Ok(true);
        }
        self.gathered.load_batch(batch, deadline)
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(SIDES) {
            if let Some(temporal) = &mut self.temporal {
                temporal.goes_on();
            } else if let Some(forgetting) = &mut self.forgetting {
                forgetting.take(watermark, &batch);
            }
            return Ok(());
        }
        if !is_loose(&batch) {
            return self.gathered.apply(input, &batch);
        }
        if !self.kind.gives_rows_of(input) {
            return Err(Error::data("join", "a row without a key came from a side that gives none"));
        }
        self.loose.push_back((input, batch));
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || self.step(out))
    }
}

#[cfg(test)]
mod tests;
