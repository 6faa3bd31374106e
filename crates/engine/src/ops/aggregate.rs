//! GROUP BY: accumulators by key, updated a batch at a time.
//!
//! Keys that are one integer live in one table, all others (and the nulls among those) in a second
//! whose keys are bytes. When nobody reads this operator's changes, rows are applied as they come
//! and a view reads the table itself. When somebody does, an epoch's batches wait for its end, where
//! `changing` applies them and gives one change a group. Groups that are final may be forgotten
//! (`freeing`). Invariant: a group with no rows has no slot, but for the one group of an aggregation
//! without keys, which always exists.

mod changing;

mod closing;
mod freeing;

pub(crate) use closing::Closing;
pub(crate) use freeing::Freeing;

use crate::batch::{Batch, record_batch};
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, hash_keys, integers};
use crate::ops::accumulate::{Carries, Input, Layout, Place, ROWS, Scratch};
use crate::ops::distinct::Distinct;
use crate::ops::extremes::Extremes;
use crate::slices::{last_chunk, until};
use crate::stateful::{Logic, contents};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use changing::Changing;
pub(crate) use changing::{Finished, difference};
use highwater_state::{ByteKeys, Rows, Slot, Table};
use std::collections::VecDeque;
use std::time::Instant;

/// One worker's share of a GROUP BY. Its first input are the rows; the others, where it forgets, marks of
/// watermarks.
pub(crate) struct Aggregate {
    codec: KeyCodec,
    layout: Layout,
    schema: SchemaRef,
    keys: usize,
    /// Integer keys; none when keys are never one integer.
    narrow: Option<Table>,
    wide: Table,
    sets: Vec<Extremes>,
    distincts: Vec<Distinct>,
    /// An operator reads the changes.
    emits: bool,
    /// Somebody outside reads them.
    watched: bool,
    /// The epoch's batches, kept until its end when changes are read.
    pending: VecDeque<Batch>,
    changing: Changing,
    /// The changes of one group without keys start with its insert.
    announce_empty: bool,
    /// Groups that had no rows left at some moment of this epoch, by table.
    emptied: [Vec<Slot>; 2],
    /// Of the sums of this epoch, by table.
    carries: [Carries; 2],
    read: ReadState,
    buffers: Buffers,
    /// What is final is forgotten.
    freeing: Option<Freeing>,
}

#[derive(Default)]
struct Buffers {
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    created: Vec<u32>,
    scratch: Scratch,
}

/// A read in progress: which tables are still to be copied.
#[derive(Default)]
struct ReadState {
    narrow: bool,
    wide: bool,
}

/// The parts of an aggregation that are decided before any worker runs.
pub(crate) struct Shape {
    pub(crate) codec: KeyCodec,
    pub(crate) layout: Layout,
    pub(crate) schema: SchemaRef,
    pub(crate) keys: usize,
    pub(crate) emits: bool,
    /// This worker owns the one group of an aggregation without keys, and the state is new.
    pub(crate) creates_global: bool,
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    Narrow,
    Wide,
}

impl Aggregate {
    pub(crate) fn new(
        shape: Shape,
        narrow: Option<Table>,
        wide: Table,
        sets: Vec<Extremes>,
        distincts: Vec<Distinct>,
    ) -> Result<Self> {
        let mut this = Self {
            codec: shape.codec,
            layout: shape.layout,
            schema: shape.schema,
            keys: shape.keys,
            narrow,
            wide,
            sets,
            distincts,
            emits: shape.emits,
            watched: false,
            pending: VecDeque::new(),
            changing: Changing::default(),
            announce_empty: shape.creates_global && shape.emits,
            emptied: [Vec::new(), Vec::new()],
            carries: [Carries::default(), Carries::default()],
            read: ReadState::default(),
            buffers: Buffers::default(),
            freeing: None,
        };
        if shape.creates_global {
            this.create_global()?;
        }
        Ok(this)
    }

    fn create_global(&mut self) -> Result<()> {
        let key = self.codec.wide(&[], 1)?;
        let mut slots = Vec::new();
        self.find(&key, &mut slots)?;
        Ok(())
    }

    fn table(&mut self, which: Which) -> &mut Table {
        match which {
            Which::Narrow => self.narrow.as_mut().expect("integer keys have a table"),
            Which::Wide => &mut self.wide,
        }
    }

    /// Whether nothing is left to load.
    fn is_loaded(&self) -> bool {
        self.narrow.as_ref().is_none_or(Table::is_loaded)
            && self.wide.is_loaded()
            && self.sets.iter().all(Extremes::is_ordered)
            && self.distincts.iter().all(Distinct::is_loaded)
    }

    /// The slots of a keyed batch's groups, created where they are new.
    fn find(&mut self, key: &ArrayRef, slots: &mut Vec<Slot>) -> Result<Which> {
        let Buffers { hashes, created, .. } = &mut self.buffers;
        hash_keys(key.as_ref(), hashes);
        created.clear();
        if let Some(values) = integers(key.as_ref()) {
            let table = self.narrow.as_mut().expect("integer keys have a table");
            table.upsert_u64(hashes, values.values(), slots, created)?;
            return Ok(Which::Narrow);
        }
        let bytes = key.as_binary::<i32>();
        let keys = ByteKeys::new(bytes.value_data(), bytes.value_offsets())?;
        self.wide.upsert_bytes(hashes, keys, slots, created)?;
        Ok(Which::Wide)
    }

    /// Applies a keyed batch to groups whose slots are known.
    fn update(&mut self, which: Which, slots: &[Slot], batch: &Batch) -> Result<()> {
        let columns = &batch.rows.columns()[1..];
        let weights = batch.weights.as_ref().map(|w| &w.values()[..]);
        let mut own = Vec::new();
        if !self.distincts.is_empty() {
            own.resize(columns.len(), None);
        }
        for distinct in &mut self.distincts {
            own[distinct.column()] = Some(distinct.apply(batch.rows.column(0), columns, weights)?);
        }
        let input = Input { columns, weights, own: &own, rows: batch.len() };
        let table = match which {
            Which::Narrow => self.narrow.as_mut().expect("integer keys have a table"),
            Which::Wide => &mut self.wide,
        };
        let carries = &mut self.carries[which as usize];
        self.layout.update(table, slots, &input, &mut self.buffers.scratch, carries)?;
        for set in &mut self.sets {
            set.apply(batch.rows.column(0), columns, weights)?;
        }
        if batch.weights.is_some() {
            let table = self.table(which);
            let empty: Vec<Slot> = slots.iter().copied().filter(|slot| table.words(*slot)[ROWS] == 0).collect();
            self.emptied[which as usize].extend(empty);
        }
        Ok(())
    }

    /// The epoch's rows have all been applied; before that sums may be beyond their type.
    fn settle_sums(&mut self) -> Result<()> {
        self.carries.iter_mut().try_for_each(Carries::settle)
    }

    /// Frees groups that have no rows left, of each table a chunk; true when they were the last.
    fn drop_empty(&mut self) -> Result<bool> {
        for which in [Which::Narrow, Which::Wide] {
            let slots = self.next_empty(which);
            if !slots.is_empty() {
                // A group that stands in two chunks is gone in the second, where it has no rows as well.
                self.table(which).delete(&slots)?;
            }
        }
        Ok(self.emptied.iter().all(Vec::is_empty))
    }

    /// Takes a chunk of the groups of a table that had no rows left at some moment, and gives those that
    /// have none now and can go.
    fn next_empty(&mut self, which: Which) -> Vec<Slot> {
        let mut slots = last_chunk(&mut self.emptied[which as usize]);
        let keeps_global = self.keys == 0;
        if slots.is_empty() || keeps_global {
            return Vec::new();
        }
        slots.sort_unstable();
        slots.dedup();
        let table = self.table(which);
        slots.retain(|slot| table.words(*slot)[ROWS] == 0);
        slots
    }

    /// A step of the epoch's end; true when it was the last.
    fn step(&mut self, out: &mut Vec<Batch>) -> Result<bool> {
        if !self.change(out)? {
            return Ok(false);
        }
        if std::mem::take(&mut self.announce_empty) {
            contents(self, out)?;
        }
        self.drop_empty()
    }

    /// The output rows of some groups, and which of them exist.
    fn finish_slots(&mut self, which: Which, slots: &[Slot]) -> Result<Finished> {
        let always = self.keys == 0 && !self.announce_empty;
        let stride = self.layout.words;
        let mut words = Vec::with_capacity(slots.len() * stride);
        let table = self.table(which);
        for slot in slots {
            words.extend_from_slice(table.words(*slot));
        }
        let keys = self.keys_of(which, slots);
        let exists = words.chunks_exact(stride).map(|row| always || row[ROWS] != 0).collect();
        let sets: Vec<ArrayRef> = self.live_extremes(&keys)?;
        let rows = self.finish(&keys, &words, sets)?;
        Ok(Finished { rows, exists })
    }

    /// The keys of some groups.
    fn keys_of(&mut self, which: Which, slots: &[Slot]) -> Keys {
        let table = self.table(which);
        match which {
            Which::Narrow => Keys::Integers(slots.iter().map(|slot| table.key_u64(*slot)).collect()),
            Which::Wide => {
                let mut keys = ByteRows::default();
                for slot in slots {
                    keys.push(table.key_bytes(*slot));
                }
                Keys::Bytes(keys)
            }
        }
    }

    /// The multisets' results for groups as they are now, one column an aggregate that needs one.
    fn live_extremes(&self, keys: &Keys) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for (place, _) in &self.layout.places {
            if let Place::Set { set, max } = place {
                columns.push(keys.with(|groups| self.sets[*set].finish(groups, *max))?);
            }
        }
        Ok(columns)
    }

    /// Output rows from keys, words and multisets' columns.
    fn finish(&self, keys: &Keys, words: &[u64], sets: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns = match keys {
            Keys::Integers(keys) => self.codec.columns_of_integers(keys.clone())?,
            Keys::Bytes(keys) => self.codec.columns_of_bytes(keys.iter())?,
        };
        let mut sets = sets.into_iter();
        for (index, (place, _)) in self.layout.places.iter().enumerate() {
            columns.push(match place {
                Place::Set { .. } => sets.next().expect("one column a multiset aggregate"),
                _ => self.layout.finish(index, words)?,
            });
        }
        record_batch(&self.schema, columns, keys.len()).map_err(|e| Error::data("aggregate", e))
    }

    fn finish_read(&self, rows: Rows, which: Which) -> Result<Option<Batch>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let words = rows.words;
        let keys = match which {
            Which::Narrow => Keys::Integers(rows.keys),
            Which::Wide => Keys::Bytes(ByteRows { data: rows.key_data, ends: rows.key_ends }),
        };
        let mut sets = Vec::new();
        for (place, _) in &self.layout.places {
            if let Place::Set { set, max } = place {
                sets.push(keys.with(|groups| self.sets[*set].finish_read(groups, *max))?);
            }
        }
        let batch = Batch::inserts(self.finish(&keys, &words, sets)?);
        if self.keys == 0 {
            return Ok(Some(batch));
        }
        // A group that lost its last row within the epoch is freed at its end, so none is empty here.
        debug_assert!(words.chunks_exact(self.layout.words).all(|row| row[ROWS] != 0), "an empty group was read");
        Ok(Some(batch))
    }
}

/// Reading the groups of some keys.
impl Aggregate {
    /// Those of a column of keys whose groups live on this worker.
    fn owned(&mut self, key: &ArrayRef) -> Result<ArrayRef> {
        hash_keys(key.as_ref(), &mut self.buffers.hashes);
        let owned: BooleanArray = self.buffers.hashes.iter().map(|hash| Some(self.wide.owns(*hash))).collect();
        arrow::compute::filter(key, &owned).map_err(|e| Error::data("aggregate", e))
    }

    /// Loads what the groups of some keys need, however long it takes.
    fn load_groups(&mut self, key: &ArrayRef) -> Result<Which> {
        hash_keys(key.as_ref(), &mut self.buffers.hashes);
        let which = if integers(key.as_ref()).is_some() { Which::Narrow } else { Which::Wide };
        let hashes = std::mem::take(&mut self.buffers.hashes);
        self.table(which).load_for(&hashes, &mut || true)?;
        self.buffers.hashes = hashes;
        for set in &mut self.sets {
            set.load(&mut || true)?;
        }
        Ok(which)
    }

    /// The slots of the keys that are there; the hashes are those of the buffers.
    fn found(&mut self, which: Which, key: &ArrayRef) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        let hashes = &self.buffers.hashes;
        match (which, integers(key.as_ref())) {
            (Which::Narrow, Some(values)) => {
                let table = self.narrow.as_mut().expect("integer keys have a table");
                table.find_u64(hashes, values.values(), &mut slots)?;
            }
            _ => {
                let bytes = key.as_binary::<i32>();
                let keys = ByteKeys::new(bytes.value_data(), bytes.value_offsets())?;
                self.wide.find_bytes(hashes, keys, &mut slots)?;
            }
        }
        Ok(slots.into_iter().flatten().collect())
    }
}

impl Logic for Aggregate {
    fn tables(&mut self) -> Vec<&mut Table> {
        let mut tables: Vec<&mut Table> = self.narrow.iter_mut().collect();
        tables.push(&mut self.wide);
        tables.extend(self.sets.iter_mut().map(Extremes::table));
        tables.extend(self.distincts.iter_mut().map(Distinct::table));
        tables
    }

    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool> {
        if input > 0 || self.is_loaded() {
            return Ok(true);
        }
        let key = batch.rows.column(0);
        hash_keys(key.as_ref(), &mut self.buffers.hashes);
        let Self { narrow, wide, buffers, distincts, .. } = self;
        let hashes = &buffers.hashes;
        let table = if integers(key.as_ref()).is_some() { narrow.as_mut().expect("has a table") } else { wide };
        let mut in_time = || Instant::now() < deadline;
        if !table.load_for(hashes, &mut in_time)? {
            return Ok(false);
        }
        for distinct in distincts {
            // A pair lies in its group's key group.
            if !distinct.table().load_for(hashes, &mut in_time)? {
                return Ok(false);
            }
        }
        for set in &mut self.sets {
            if !set.load(&mut in_time)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn load_more(&mut self, mut more: &mut dyn FnMut() -> bool) -> Result<bool> {
        for table in self.narrow.iter_mut().chain([&mut self.wide]) {
            if !table.load_next(&mut more)? {
                return Ok(false);
            }
        }
        for set in &mut self.sets {
            if !set.load(more)? {
                return Ok(false);
            }
        }
        for distinct in &mut self.distincts {
            if !distinct.table().load_next(&mut more)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn apply(&mut self, input: usize, batch: Batch) -> Result<()> {
        if let Some(watermark) = input.checked_sub(1) {
            if let Some(freeing) = &mut self.freeing {
                freeing.take(watermark, &batch);
            }
            return Ok(());
        }
        if self.emits || self.watched {
            self.pending.push_back(batch);
            return Ok(());
        }
        let mut slots = std::mem::take(&mut self.buffers.slots);
        let which = self.find(batch.rows.column(0), &mut slots)?;
        self.update(which, &slots, &batch)?;
        self.buffers.slots = slots;
        Ok(())
    }

    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        until(deadline, || Ok(self.step(out)? && self.free()?))
    }

    fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    fn lookup(&mut self, keys: &[ArrayRef], out: &mut Vec<Batch>) -> Result<()> {
        for part in self.codec.key_alone(keys)? {
            let key = self.owned(part.rows.column(0))?;
            if key.is_empty() {
                continue;
            }
            let which = self.load_groups(&key)?;
            let found = self.found(which, &key)?;
            if found.is_empty() {
                continue;
            }
            let Finished { rows, exists } = self.finish_slots(which, &found)?;
            let rows = arrow::compute::filter_record_batch(&rows, &BooleanArray::from(exists));
            out.push(Batch::inserts(rows.map_err(|e| Error::data("aggregate", e))?));
        }
        Ok(())
    }

    fn begin_read(&mut self, group: Option<u16>) -> Result<()> {
        if let Some(narrow) = &mut self.narrow {
            narrow.freeze_for_read(group)?;
        }
        self.wide.freeze_for_read(group)?;
        self.read = ReadState { narrow: self.narrow.is_some(), wide: true };
        for set in &mut self.sets {
            set.begin_read(group)?;
        }
        Ok(())
    }

    fn read_on(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        let mut more = || Instant::now() < deadline;
        for set in &mut self.sets {
            if !set.read_on(&mut more)? {
                return Ok(false);
            }
        }
        while self.read.narrow || self.read.wide {
            let which = if self.read.narrow { Which::Narrow } else { Which::Wide };
            let mut rows = Rows::default();
            let left = self.table(which).copy_rows(&mut more, &mut rows)?.pages_left;
            out.extend(self.finish_read(rows, which)?);
            match (left, which) {
                (0, Which::Narrow) => self.read.narrow = false,
                (0, Which::Wide) => self.read.wide = false,
                _ => return Ok(false),
            }
        }
        for set in &mut self.sets {
            set.end_read();
        }
        Ok(true)
    }

    fn end_read(&mut self) {
        for table in self.tables() {
            table.end_read();
        }
        for set in &mut self.sets {
            set.end_read();
        }
    }

    fn hashes(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        self.codec.hashes(&rows.columns()[..self.keys], rows.num_rows())
    }
}

/// Byte strings end to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteRows {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl ByteRows {
    fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.data[start..*end])
    }
}

/// The keys of some groups of one table.
enum Keys {
    Integers(Vec<u64>),
    Bytes(ByteRows),
}

impl Keys {
    fn len(&self) -> usize {
        match self {
            Self::Integers(keys) => keys.len(),
            Self::Bytes(keys) => keys.ends.len(),
        }
    }

    /// Hands the keys on as the bytes under which multisets know these groups.
    fn with<T>(&self, use_keys: impl FnOnce(&mut dyn Iterator<Item = Vec<u8>>) -> Result<T>) -> Result<T> {
        match self {
            Self::Integers(keys) => {
                use_keys(&mut keys.iter().map(|key| crate::ops::extremes::narrow_group(*key).to_vec()))
            }
            Self::Bytes(keys) => use_keys(&mut keys.iter().map(crate::ops::extremes::wide_group)),
        }
    }
}
