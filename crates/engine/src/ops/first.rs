//! The first rows of each group in an order, kept up to date without looking at the other rows: as many
//! as there are numbers, or all rows that rank() or dense_rank() give one of these.
//!
//! All rows are kept by group, as for groups that are computed anew. The *front* of a group that
//! changed is remembered in memory: its first rows, sorted, some more than are given, so that rows
//! can come and go for a while before the group is read again. A front is a copy: after a restart, and
//! when there are too many of them, they are made anew. Of an input that only ever inserts the rows
//! that no longer are among the first are forgotten. Invariants: a front holds the first rows of its
//! group without a hole, and with ties one beyond those that are given unless there is none; rows with
//! equal order keys are tied, and told apart by their row format.

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::KeyCodec;
use crate::ops::departing::Departing;
use crate::ops::expressions::column;
use crate::ops::gathered::{Gathered, Part, Touched, Want};
use crate::ops::pairs::weights_of;
use crate::plan::{self, Ranking, SortKey};
use crate::slices::{CHUNK, until};
use crate::stateful::Logic;
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion_common::HashMap;
use highwater_state::{Slot, Table};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Instant;

/// Rows of touched groups that are looked at together; one group may have more.
const TOGETHER: usize = 32 << 10;
/// The least number of rows that a front has beyond those that are given.
const SPARE: usize = 64;
/// What the fronts of an operator on one worker may take, about.
const FRONTS_BYTES: usize = 16 << 20;
/// What a row of a front takes beside its bytes, about.
const ROW_BYTES: usize = 64;

/// One worker's share of the groups.
pub(crate) struct First {
    gathered: Gathered,
    schema: SchemaRef,
    rows: KeyCodec,
    order: Vec<SortKey>,
    converter: RowConverter,
    most: Most,
    /// How many distinct rows a front has at most, but for ties.
    length: usize,
    /// How many it has beyond those that are given, where ties make these more.
    spare: usize,
    /// Rows beyond the first ones are forgotten.
    forgets: bool,
    fronts: HashMap<Slot, Front>,
    bytes: usize,
    /// Groups of the epoch that is being closed, and how many of them are done.
    touched: Vec<Touched>,
    done: usize,
    departing: Option<Departing>,
}

/// The first rows of a group.
#[derive(Default)]
struct Front {
    /// By order key and row.
    rows: BTreeMap<Box<[u8]>, Kept>,
    /// The sum of their counts.
    total: i64,
    /// The group has no others.
    whole: bool,
}

/// A row of a front.
#[derive(Clone, Copy)]
struct Kept {
    slot: Slot,
    count: i64,
    /// Where in its key the row begins.
    row_at: u32,
}

/// Which rows of a group are given: those whose numbers are not greater.
#[derive(Clone, Copy)]
struct Most {
    number: i64,
    ranking: Ranking,
}

/// Goes through the rows of a group in their order, and says which are given.
struct Counter<'a> {
    ranking: Ranking,
    /// How many numbers are left.
    left: i64,
    /// The order key of the row before.
    before: Option<&'a [u8]>,
}

/// A row of a group that was changed or read.
struct Seen {
    key: Box<[u8]>,
    slot: Slot,
    row_at: u32,
    old: i64,
    new: i64,
}

/// Rows that are given, in order, with how often.
type Given = Vec<(Box<[u8]>, u32, i64)>;

fn broken(error: ArrowError) -> Error {
    Error::data("first rows", error)
}

impl Most {
    fn has_ties(self) -> bool {
        self.ranking != Ranking::RowNumber
    }

    const fn counter<'a>(self) -> Counter<'a> {
        Counter { ranking: self.ranking, left: self.number, before: None }
    }
}

impl<'a> Counter<'a> {
    /// How often the next row is given; 0 when it is behind those that are. It is there.
    fn take(&mut self, order: &'a [u8], count: i64) -> i64 {
        let is_tied = self.ranking != Ranking::RowNumber && self.before == Some(order);
        if self.left <= 0 && !is_tied {
            return 0;
        }
        self.before = Some(order);
        let left = self.left;
        self.left -= if self.ranking == Ranking::DenseRank { i64::from(!is_tied) } else { count };
        if self.ranking == Ranking::RowNumber { count.min(left) } else { count }
    }
}

/// The order key at the front of a row's key.
fn order_of(key: &[u8], row_at: u32) -> &[u8] {
    &key[..row_at as usize]
}

impl Front {
    /// The first rows of a sorted group that are there.
    fn of(seen: &[Seen], length: usize) -> Self {
        let mut front = Self { whole: true, ..Self::default() };
        for row in seen.iter().filter(|row| row.new > 0) {
            if front.rows.len() == length {
                front.whole = false;
                break;
            }
            front.total += row.new;
            front.rows.insert(row.key.clone(), Kept { slot: row.slot, count: row.new, row_at: row.row_at });
        }
        front
    }

    fn given(&self, most: Most) -> Given {
        given(most, self.rows.iter().map(|(key, kept)| (&**key, kept.row_at, kept.count)))
    }

    /// The row that takes the last number, which those tied with it have as well; none when there are
    /// fewer than could be.
    fn last_numbered(&self, most: Most) -> Option<(&[u8], Kept)> {
        let mut counter = most.counter();
        self.rows.iter().find_map(|(key, kept)| {
            counter.take(order_of(key, kept.row_at), kept.count);
            (counter.left <= 0).then_some((&**key, *kept))
        })
    }

    /// The first row that is not given.
    fn first_behind(&self, most: Most) -> Option<&[u8]> {
        let mut counter = most.counter();
        self.rows
            .iter()
            .find_map(|(key, kept)| (counter.take(order_of(key, kept.row_at), kept.count) == 0).then_some(&**key))
    }

    /// How many distinct rows are given.
    fn length_given(&self, most: Most) -> usize {
        let mut counter = most.counter();
        self.rows.iter().take_while(|&(key, kept)| counter.take(order_of(key, kept.row_at), kept.count) > 0).count()
    }

    /// Whether it tells all rows that are given.
    fn is_enough(&self, most: Most) -> bool {
        self.whole || if most.has_ties() { self.first_behind(most).is_some() } else { self.total >= most.number }
    }

    /// Enters what a row's count is now. Rows behind the front stay out of it.
    fn set(&mut self, row: Seen) {
        if !self.whole && self.rows.last_key_value().is_none_or(|(last, _)| row.key > *last) {
            return;
        }
        let before = if row.new > 0 {
            let kept = Kept { slot: row.slot, count: row.new, row_at: row.row_at };
            self.rows.insert(row.key, kept)
        } else {
            self.rows.remove(&row.key)
        };
        self.total += row.new.max(0) - before.map_or(0, |kept| kept.count);
    }

    /// Lets go of rows beyond `length`.
    fn trim(&mut self, length: usize) {
        while self.rows.len() > length
            && let Some((_, gone)) = self.rows.pop_last()
        {
            self.total -= gone.count;
            self.whole = false;
        }
    }

    fn bytes(&self) -> usize {
        self.rows.keys().map(|key| key.len() + ROW_BYTES).sum()
    }
}

/// The first of sorted rows.
fn given<'a>(most: Most, rows: impl Iterator<Item = (&'a [u8], u32, i64)>) -> Given {
    let (mut first, mut counter) = (Given::new(), most.counter());
    for (key, row_at, count) in rows {
        let given = counter.take(order_of(key, row_at), count);
        if given == 0 {
            break;
        }
        first.push((key.into(), row_at, given));
    }
    first
}

/// Adds the rows that make `new` of `old`, both sorted.
fn difference(old: Given, new: Given, changes: &mut Given) {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some((gone, ..)), Some((come, ..))) => gone.cmp(come),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let gone = old.next_if(|_| order.is_le());
        let come = new.next_if(|_| order.is_ge());
        let weight = come.as_ref().map_or(0, |(.., count)| *count) - gone.as_ref().map_or(0, |(.., count)| *count);
        if weight != 0 {
            changes.extend(come.or(gone).map(|(key, row_at, _)| (key, row_at, weight)));
        }
    }
}

impl First {
    /// `gathered` has one side. `forgets` is for inputs that only ever insert.
    ///
    /// # Errors
    /// `Plan` when the order cannot be kept.
    pub(crate) fn new(
        gathered: Gathered,
        schema: SchemaRef,
        rows: KeyCodec,
        first: &plan::First,
        forgets: bool,
    ) -> Result<Self> {
        let field = |key: &SortKey| {
            let data_type = key.expr.data_type(&schema).map_err(|e| Error::Plan(e.to_string()))?;
            Ok(SortField::new_with_options(data_type, key.options))
        };
        let fields = first.order.iter().map(field).collect::<Result<Vec<_>>>()?;
        let converter = RowConverter::new(fields).map_err(|e| Error::Plan(format!("order: {e}")))?;
        let number = i64::try_from(first.rows).unwrap_or(i64::MAX);
        Ok(Self {
            gathered,
            schema,
            rows,
            order: first.order.clone(),
            converter,
            most: Most { number, ranking: first.ranking },
            length: if forgets { first.rows } else { first.rows.saturating_add(first.rows.max(SPARE)) },
            spare: SPARE,
            forgets,
            fronts: HashMap::new(),
            bytes: 0,
            touched: Vec::new(),
            done: 0,
            departing: None,
        })
    }

    /// The same, whose rows leave when their groups are final.
    pub(crate) fn departing(mut self, departing: Option<Departing>) -> Self {
        self.departing = departing;
        self
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if self.done == self.touched.len() {
            self.touched = self.gathered.touched()?;
            self.done = 0;
            if self.touched.is_empty() {
                return self.gathered.end_epoch();
            }
        }
        let groups = self.together();
        let mut changes = Given::new();
        self.change(&groups, &mut changes)?;
        for some in changes.chunks(CHUNK) {
            out.push(self.batch(some)?);
        }
        Ok(false)
    }

    /// A step of letting rows leave whose groups are final; true when there was none left to do.
    fn depart(&mut self) -> Result<bool> {
        let Self { departing: Some(departing), gathered, fronts, bytes, .. } = self else { return Ok(true) };
        departing.step(gathered, &mut |group| *bytes -= fronts.remove(&group).map_or(0, |front| front.bytes()))
    }

    /// Takes the next touched groups that are looked at together.
    fn together(&mut self) -> Vec<Touched> {
        let (from, mut rows) = (self.done, 0);
        while self.done < self.touched.len() && rows < TOGETHER {
            let group = &self.touched[self.done];
            rows += group.sides[0].rows(self.want(group));
            self.done += 1;
        }
        self.touched[from..self.done].to_vec()
    }

    fn want(&self, group: &Touched) -> Want {
        match (group.sides[0].is_changed, self.fronts.contains_key(&group.slot())) {
            (false, _) => Want::Nothing,
            (true, true) => Want::Changed,
            (true, false) => Want::All,
        }
    }

    /// The changes that some groups give.
    fn change(&mut self, groups: &[Touched], changes: &mut Given) -> Result<()> {
        let again = self.change_some(groups, changes)?;
        // Their fronts were used up; what they gave before the epoch is computed from all of their rows.
        let left = self.change_some(&again, changes)?;
        debug_assert!(left.is_empty(), "a group whose rows are all known needs no others");
        Ok(())
    }

    /// The same; gives the groups of which all rows are needed.
    fn change_some(&mut self, groups: &[Touched], changes: &mut Given) -> Result<Vec<Touched>> {
        let wants: Vec<Want> = groups.iter().map(|group| self.want(group)).collect();
        let part = self.gathered.part(0, groups, &wants)?;
        let mut seen = self.seen(&part)?.into_iter();
        let mut again = Vec::new();
        for (at, (group, want)) in groups.iter().zip(&wants).enumerate() {
            let rows: Vec<Seen> = seen.by_ref().take(part.of(at).len()).collect();
            match want {
                Want::Nothing => {}
                Want::Changed => {
                    if !self.go_on(group, rows, changes)? {
                        again.push(group.clone());
                    }
                }
                Want::All => self.begin(group, rows, changes)?,
            }
        }
        if self.bytes > FRONTS_BYTES {
            self.fronts.clear();
            self.bytes = 0;
        }
        Ok(again)
    }

    /// Rows with their places in the order.
    fn seen(&self, part: &Part) -> Result<Vec<Seen>> {
        if part.len() == 0 {
            return Ok(Vec::new());
        }
        let bytes = |at: usize| self.gathered.row(0, part.slots[at]);
        let columns = self.rows.columns_of_bytes((0..part.len()).map(bytes))?;
        let rows = record_batch(&self.schema, columns, part.len()).map_err(broken)?;
        // A row without a place is not left out: nobody is told that it can be.
        let key =
            |key: &SortKey| column(&key.expr, &rows).map_err(|error| Error::data("the order of first rows", error));
        let keys: Vec<ArrayRef> = self.order.iter().map(key).collect::<Result<_>>()?;
        let keys = if keys.is_empty() { None } else { Some(self.converter.convert_columns(&keys).map_err(broken)?) };
        let place = |at: usize| {
            let key = keys.as_ref().map(|keys| keys.row(at));
            let key: &[u8] = key.as_ref().map_or(&[], |key| key.as_ref());
            let (slot, row_at) = (part.slots[at], key.len() as u32);
            Seen { key: [key, bytes(at)].concat().into(), slot, row_at, old: part.old[at], new: part.new[at] }
        };
        Ok((0..part.len()).map(place).collect())
    }

    /// Changes a group whose front is known; false when that does not tell all that is needed.
    fn go_on(&mut self, group: &Touched, rows: Vec<Seen>, changes: &mut Given) -> Result<bool> {
        let mut front = self.fronts.remove(&group.slot()).expect("it is known");
        self.bytes -= front.bytes();
        // Most changes are behind what is given and change nothing of it.
        let is_same = front.last_numbered(self.most).is_some_and(|(last, kept)| {
            let is_behind = |row: &Seen| match self.most.has_ties() {
                true => order_of(&row.key, row.row_at) > order_of(last, kept.row_at),
                false => *row.key > *last,
            };
            rows.iter().all(is_behind)
        });
        let old = if is_same { Given::new() } else { front.given(self.most) };
        rows.into_iter().for_each(|row| front.set(row));
        if !front.is_enough(self.most) {
            return Ok(false);
        }
        self.cut(group, &mut front)?;
        if !is_same {
            difference(old, front.given(self.most), changes);
        }
        self.keep(group, front);
        Ok(true)
    }

    /// Changes a group of which all rows are at hand.
    fn begin(&mut self, group: &Touched, mut rows: Vec<Seen>, changes: &mut Given) -> Result<()> {
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let counted = |count: fn(&Seen) -> i64| {
            let there = rows.iter().filter(move |row| count(row) > 0);
            given(self.most, there.map(move |row| (&*row.key, row.row_at, count(row))))
        };
        let (old, new) = (counted(|row| row.old), counted(|row| row.new));
        let length = if self.most.has_ties() { self.length.max(new.len() + self.spare) } else { self.length };
        difference(old, new, changes);
        let mut front = Front::of(&rows, if self.forgets { usize::MAX } else { length });
        self.cut(group, &mut front)?;
        self.keep(group, front);
        Ok(())
    }

    /// Lets go of rows far behind those that are given, or forgets all that are behind them.
    fn cut(&mut self, group: &Touched, front: &mut Front) -> Result<()> {
        if !self.forgets {
            let mut length = self.length;
            if self.most.has_ties() && front.rows.len() > length {
                length = length.max(front.length_given(self.most) + self.spare);
            }
            front.trim(length);
            return Ok(());
        }
        let Some(first) = front.first_behind(self.most).map(Box::<[u8]>::from) else { return Ok(()) };
        let behind = front.rows.split_off(&first);
        front.total -= behind.values().map(|kept| kept.count).sum::<i64>();
        let gone: Vec<Slot> = behind.values().map(|kept| kept.slot).collect();
        self.gathered.forget(0, group, &gone)
    }

    fn keep(&mut self, group: &Touched, front: Front) {
        if front.rows.is_empty() {
            // The group may be gone, and its slot another's soon.
            return;
        }
        self.bytes += front.bytes();
        self.fronts.insert(group.slot(), front);
    }

    fn batch(&self, changes: &[(Box<[u8]>, u32, i64)]) -> Result<Batch> {
        let columns = self.rows.columns_of_bytes(changes.iter().map(|(key, row_at, _)| &key[*row_at as usize..]))?;
        let rows = record_batch(&self.schema, columns, changes.len()).map_err(broken)?;
        Ok(Batch { rows, weights: weights_of(changes.iter().map(|(.., weight)| *weight).collect()) })
    }
}

impl Logic for First {
    fn tables(&mut self) -> Vec<&mut Table> {
        self.gathered.tables()
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if input > 0 { Ok(true) } else { self.gathered.load_batch(batch, deadline) }
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(1) {
            if let Some(departing) = &mut self.departing {
                departing.take(watermark, &batch);
            }
            return Ok(());
        }
        self.gathered.apply(0, &batch)
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || Ok(self.step(out)? && self.depart()?))
    }
}

#[cfg(test)]
mod tests;
