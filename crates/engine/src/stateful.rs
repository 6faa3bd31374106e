//! How an operator with state lives through epochs: alignment, barriers, slices of background work.
//!
//! It owns the order of things and nothing of what an operator computes. Input of later epochs waits
//! until the frontier has passed the current one; at an epoch's end the operator emits its changes, in
//! slices between which others have their turn, and then, if the epoch's tick says so, its tables are
//! frozen and copied out in slices between batches. Invariants: a table is never touched by another
//! thread; a slice ends after some milliseconds; the capability of the current epoch is held, and
//! nothing of a later one applied, frozen or read, until it is closed; nothing is evicted between the
//! slices of a close, as it goes on from slots that it has found.

use crate::backlog::Backlog;
use crate::batch::Batch;
use crate::changes::Wake;
use crate::control::{BACKFILLED, SupplyTold};
use crate::error::{Error, Result};
use crate::fill::Giving;
use crate::memory::{Held, Memory};
use crate::metrics::GapMeter;
use crate::reads::{Hurry, Moment, ReadPart, Reads, Step, Wish};
use crate::shared::Run;
use crate::snapshot::Snapshots;
use crate::source::Offset;
use crate::subscription::Tap;
use crate::tick::{Tick, TickLog};
use arrow::array::{ArrayRef, RecordBatch};
use highwater_core::{CheckpointId, OperatorId, WallMicros, WorkerIndex};
use highwater_state::scope::{GroupFact, RollingBase, WrittenBytes};
use highwater_state::{FileNumber, FreezeOptions, Record, Table};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest an operator works in one go before others get their turn.
const SLICE: Duration = Duration::from_millis(2);
/// The longest stretch of copying out or loading between two batches.
const BACKGROUND_SLICE: Duration = Duration::from_micros(500);
/// Below this many bytes in memory a table is written whole at each checkpoint, which is one small
/// part and leaves nothing older in scope.
const SMALL_STATE: u64 = 256 << 10;
/// By how much tables may grow beyond twice what they were before a read in progress is ended: as long as
/// it goes on, what is removed keeps its place.
const GROWN_STATE: u64 = 16 << 20;

/// What one kind of stateful operator does; `stateful` calls it in the right order. What is only asked
/// of operators whose rows are read is an error unless it is given.
pub(crate) trait Logic {
    /// Its tables, in the order of their numbers.
    fn tables(&mut self) -> Vec<&mut Table>;

    /// Loads what a batch of one of its inputs needs of a state that is being restored, until
    /// `deadline`; true when all is there.
    fn load_for(&mut self, input: usize, batch: &Batch, deadline: Instant) -> Result<bool>;

    /// Loads whatever is not loaded yet, while `more` says so; true when all of the state is there.
    fn load_more(&mut self, more: &mut dyn FnMut() -> bool) -> Result<bool> {
        for table in self.tables() {
            if !table.load_next(&mut &mut *more)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes rows of the current epoch from one of its inputs.
    fn apply(&mut self, input: usize, batch: Batch) -> Result<()>;

    /// Tells the time of the epoch that ends next; it never goes back.
    fn at(&mut self, _now: WallMicros) {}

    /// When time alone changes what it gives, if it ever does.
    fn due(&self) -> Option<WallMicros> {
        None
    }

    /// Works on the end of the current epoch until `deadline`, and at least a step: its changes,
    /// consolidated, go to `out` in batches of some thousand rows. True when all are given; until then
    /// it is called again, and between the calls no rows are applied and nothing is evicted.
    fn close(&mut self, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool>;

    /// From the next epoch on, whether [`Logic::close`] gives changes though no operator reads them.
    fn watch(&mut self, _watched: bool) {}

    /// The rows of some keys, of which this worker may own none: one array a key column, one entry
    /// a key.
    fn lookup(&mut self, _keys: &[ArrayRef], _out: &mut Vec<Batch>) -> Result<()> {
        unreadable()
    }

    /// Begins a read of the contents of a key group, or of all that this worker has, as they are now.
    fn begin_read(&mut self, _group: Option<u16>) -> Result<()> {
        unreadable()
    }

    /// Copies rows of the read in progress to `out`, until `deadline`; true when it is over.
    fn read_on(&mut self, _deadline: Instant, _out: &mut Vec<Batch>) -> Result<bool> {
        unreadable()
    }

    /// Gives up the read in progress, if there is one.
    fn end_read(&mut self) {
        for table in self.tables() {
            table.end_read();
        }
    }

    /// The hashes of the keys of rows that it gave, by which they are in key groups.
    fn hashes(&self, _rows: &RecordBatch) -> Result<Vec<u64>> {
        unreadable()
    }
}

fn unreadable<T>() -> Result<T> {
    Err(Error::Plan("its rows cannot be read: only those of a view's own table can".to_owned()))
}

/// All rows of an operator as inserts, in one go.
pub(crate) fn contents(logic: &mut impl Logic, out: &mut Vec<Batch>) -> Result<()> {
    logic.load_more(&mut || true)?;
    logic.begin_read(None)?;
    while !logic.read_on(Instant::now() + Duration::from_secs(1), out)? {}
    Ok(())
}

/// What an operator shares with the rest of its pipeline on its worker.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) run: Arc<Run>,
    pub(crate) ticks: TickLog,
    pub(crate) snapshots: Snapshots,
    pub(crate) reads: Reads,
    pub(crate) worker: WorkerIndex,
    pub(crate) memory: Memory,
    pub(crate) backlog: Backlog,
}

/// What a turn of [`Stateful::turn`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do until input, a tick or a settled checkpoint comes.
    Rest,
    /// The same, or until rows of a read are taken; who does not take them is looked at after a while.
    Later,
    /// There is more to do at once.
    Again,
}

/// One stateful operator of one worker.
pub(crate) struct Stateful<L> {
    logic: L,
    around: Surroundings,
    name: String,
    id: OperatorId,
    /// The epoch that is open: all before are closed.
    epoch: u64,
    stage: Stage,
    /// Epoch, input and rows.
    stash: VecDeque<(u64, usize, Batch)>,
    rolling: RollingBase,
    written: WrittenBytes,
    copying: Option<Copying>,
    /// A checkpoint that is copied out and of which it is not known yet whether it is durable.
    settling: Option<CheckpointId>,
    reading: Option<ReadPart>,
    waiting_reads: VecDeque<ReadPart>,
    /// A read of a later epoch was refused because of the one in progress.
    is_read_waited_for: bool,
    /// What the tables held when the read in progress began.
    read_bytes: u64,
    /// Gives it another turn, from any thread.
    wake: Option<Wake>,
    /// Who is told of every epoch's changes.
    taps: Vec<Tap>,
    gap: GapMeter,
    held: Held,
    /// All of the state is in memory, or was evicted since.
    loaded: bool,
    /// Keys as they were told last.
    told_keys: u64,
    /// Rows were applied since its size was told.
    is_size_old: bool,
    /// There is nothing to evict until the next checkpoint is stored.
    all_dirty: bool,
    /// To operators that are new.
    fills: Vec<Giving>,
    /// The key group that is being given, and in which fill.
    giving: Option<(usize, u16)>,
    /// Rows that fills gave in the open epoch.
    filled: usize,
}

/// How far the open epoch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its rows are applied.
    Open,
    /// Its changes are given.
    Changes,
    /// What fills have for it is given.
    Fills,
}

/// A checkpoint whose pages are being copied out.
struct Copying {
    checkpoint: CheckpointId,
    records: Vec<Record>,
    /// Tables that are done.
    done: usize,
    /// Keys when it was frozen.
    keys: u64,
    delta: u64,
    base: u64,
    new: u64,
    changed: u64,
    /// Where its fills go on.
    fills: BTreeMap<String, Offset>,
}

/// What a slice of an epoch's close gives to the outputs.
#[derive(Default)]
pub(crate) struct Emitted {
    pub(crate) changes: Vec<Batch>,
    /// By fill.
    pub(crate) fills: Vec<Vec<Batch>>,
}

impl<L: Logic> Stateful<L> {
    pub(crate) fn new(logic: L, name: String, id: OperatorId, around: Surroundings, fills: Vec<Giving>) -> Self {
        around.snapshots.expect_operator();
        Self {
            held: Held::new(around.memory.clone()),
            loaded: false,
            told_keys: 0,
            is_size_old: false,
            all_dirty: false,
            logic,
            around,
            name,
            id,
            epoch: 0,
            stage: Stage::Open,
            stash: VecDeque::new(),
            rolling: RollingBase::default(),
            written: WrittenBytes::default(),
            copying: None,
            settling: None,
            reading: None,
            waiting_reads: VecDeque::new(),
            is_read_waited_for: false,
            read_bytes: 0,
            wake: None,
            taps: Vec::new(),
            gap: GapMeter::new(),
            fills,
            giving: None,
            filled: 0,
        }
    }

    /// The same, woken by `wake` when rows of a read are taken.
    pub(crate) fn woken_by(self, wake: Wake) -> Self {
        Self { wake: Some(wake), ..self }
    }

    /// Keeps a batch of one of the inputs until its epoch is current.
    pub(crate) fn take(&mut self, epoch: u64, input: usize, batch: Batch) {
        self.around.backlog.add(epoch, batch.len());
        self.stash.push_back((epoch, input, batch));
    }

    /// The epoch for which a capability must be held.
    pub(crate) const fn open_epoch(&self) -> u64 {
        self.epoch
    }

    /// When time alone changes what the operator gives, as far as the closed epochs tell.
    pub(crate) fn due(&self) -> Option<WallMicros> {
        self.logic.due()
    }

    /// Works for at most some milliseconds. `complete(e)` tells whether no more input of epoch `e`
    /// can come; `emit` sends what an epoch gives, at that epoch, and is called for each slice of it.
    pub(crate) fn turn(&mut self, complete: impl Fn(u64) -> bool, emit: impl FnMut(u64, Emitted)) -> Result<Turn> {
        let turn = self.work(complete, emit)?;
        if self.is_size_old {
            // An epoch may be long, and who looks at the memory must see it grow.
            self.tell_size();
        }
        Ok(turn)
    }

    fn work(&mut self, complete: impl Fn(u64) -> bool, mut emit: impl FnMut(u64, Emitted)) -> Result<Turn> {
        let deadline = Instant::now() + SLICE;
        self.settle()?;
        loop {
            let worked = self.apply_one(deadline)?;
            // When no more input can come, the run ends.
            let copied = self.background(complete(u64::MAX))?;
            if worked == Applied::Nothing {
                if self.may_close(&complete) {
                    let mut emitted = Emitted { changes: Vec::new(), fills: vec![Vec::new(); self.fills.len()] };
                    let over = self.close(deadline, &mut emitted)?;
                    emit(self.epoch, emitted);
                    if !over {
                        return Ok(Turn::Again);
                    }
                    self.epoch += 1;
                } else if self.stage != Stage::Open {
                    self.gap.idle();
                    return Ok(Turn::Again);
                } else if copied != Turn::Again {
                    self.gap.idle();
                    return Ok(copied);
                }
            }
            if worked == Applied::Unloaded || Instant::now() >= deadline {
                return Ok(Turn::Again);
            }
        }
    }

    /// Whether the open epoch's close is to begin, or to go on: not while others have not caught up
    /// with what it gave.
    fn may_close(&self, complete: impl Fn(u64) -> bool) -> bool {
        match self.stage {
            Stage::Open => complete(self.epoch) && self.around.ticks.get(self.epoch).is_some(),
            _ => !self.around.backlog.is_long(self.epoch),
        }
    }

    /// Applies one stashed batch of the open epoch.
    fn apply_one(&mut self, deadline: Instant) -> Result<Applied> {
        if self.stage != Stage::Open {
            return Ok(Applied::Nothing);
        }
        let Some(at) = self.stash.iter().position(|(epoch, ..)| *epoch == self.epoch) else {
            return Ok(Applied::Nothing);
        };
        let (_, input, batch) = &self.stash[at];
        if !self.logic.load_for(*input, batch, deadline)? {
            return Ok(Applied::Unloaded);
        }
        let (epoch, input, batch) = self.stash.remove(at).expect("found just now");
        self.around.backlog.remove(epoch, batch.len());
        self.logic.apply(input, batch)?;
        self.is_size_old = true;
        self.gap.finished(Instant::now(), &self.around.run.counters.gap);
        Ok(Applied::One)
    }

    /// A slice of the open epoch's close; true when it was the last.
    fn close(&mut self, deadline: Instant, emitted: &mut Emitted) -> Result<bool> {
        let tick = self.around.ticks.get(self.epoch).expect("an epoch is closed after its tick");
        if matches!(self.stage, Stage::Open | Stage::Changes) {
            if self.stage == Stage::Open {
                self.logic.at(tick.wall);
                self.stage = Stage::Changes;
            }
            let over = self.logic.close(deadline, &mut emitted.changes)?;
            self.is_size_old = true;
            self.tell_taps(tick.epoch, &emitted.changes, over);
            self.follow(emitted)?;
            if !over {
                if !emitted.changes.is_empty() {
                    self.gap.finished(Instant::now(), &self.around.run.counters.gap);
                }
                return Ok(false);
            }
            self.stage = Stage::Fills;
            self.filled = 0;
        }
        for at in 0..self.fills.len() {
            if !self.fill_on(at, &tick, deadline, &mut emitted.fills[at])? {
                return Ok(false);
            }
        }
        self.stage = Stage::Open;
        self.end_epoch(&tick)?;
        Ok(true)
    }

    /// Hands on to the readers of fills what of some changes is for them.
    fn follow(&self, emitted: &mut Emitted) -> Result<()> {
        for (fill, out) in self.fills.iter().zip(&mut emitted.fills) {
            if fill.next().is_none() {
                out.extend_from_slice(&emitted.changes);
                continue;
            }
            for changes in &emitted.changes {
                out.extend(fill.follow(changes, &self.logic.hashes(&changes.rows)?)?);
            }
        }
        Ok(())
    }

    /// Gives what a fill has for the open epoch, until `deadline`; true when that is all given.
    fn fill_on(&mut self, at: usize, tick: &Tick, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        while let Some(group) = self.next_group(at, tick) {
            if !self.give(at, group, deadline, out)? || Instant::now() >= deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The key group that is being given, or is to be given next in the open epoch.
    fn next_group(&self, at: usize, tick: &Tick) -> Option<u16> {
        if let Some((of, group)) = self.giving {
            return (of == at).then_some(group);
        }
        let may_begin = self.fills[at].is_at_once() || self.may_fill() && self.filled < tick.max_rows as usize;
        self.fills[at].next().filter(|_| may_begin)
    }

    /// Whether key groups can be given: all is there, and no other read is in progress.
    const fn may_fill(&self) -> bool {
        self.loaded && self.reading.is_none()
    }

    /// Rows of a key group as inserts, those that are read until `deadline`; true when they were the last.
    fn give(&mut self, at: usize, group: u16, deadline: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        if self.giving.is_none() {
            if !self.loaded {
                self.loaded = self.logic.load_more(&mut || Instant::now() < deadline)?;
                if !self.loaded {
                    return Ok(false);
                }
            }
            self.logic.begin_read(Some(group))?;
            self.giving = Some((at, group));
        }
        let before = out.len();
        let over = self.logic.read_on(deadline, out)?;
        self.filled += out[before..].iter().map(Batch::len).sum::<usize>();
        if over {
            self.giving = None;
            self.fills[at].gave(group);
            // What was read back for it is clean.
            self.all_dirty = false;
        }
        Ok(over)
    }

    /// How far the fills are that take more than an epoch: whether they would give more, and how much they gave,
    /// in thousandths.
    pub(crate) fn filling(&self) -> impl Iterator<Item = (SupplyTold, u16)> {
        let waits = if self.may_fill() { SupplyTold::Ready } else { SupplyTold::Waiting };
        self.fills.iter().filter(|fill| !fill.is_at_once()).map(move |fill| match fill.next() {
            None => (SupplyTold::Ended, BACKFILLED),
            Some(_) => (waits, fill.share().min(BACKFILLED - 1)),
        })
    }

    /// What follows when all of an epoch is given: its barrier, and the reads that want its rows.
    fn end_epoch(&mut self, tick: &Rc<Tick>) -> Result<()> {
        if let Some(checkpoint) = tick.checkpoint {
            self.freeze(checkpoint)?;
        }
        for read in &tick.reads {
            for part in self.around.reads.part(*read, &self.name, self.around.worker) {
                match part.wish().clone() {
                    Wish::Keys(keys) => self.look_up(part, &keys, tick)?,
                    Wish::All | Wish::Changes(_) => self.waiting_reads.push_back(part),
                }
            }
        }
        self.begin_reads(tick)?;
        self.tell_size();
        Ok(())
    }

    /// Enters what the tables hold into the counters and the worker's memory; gives by how much that is more, modulo
    /// 2^64.
    fn tell_size(&mut self) -> u64 {
        let (mut keys, mut bytes) = (0, 0);
        for table in self.logic.tables() {
            keys += table.len();
            bytes += table.memory_bytes() + table.read_undo_bytes();
        }
        let counters = &self.around.run.counters;
        // Differences wrap around, and so does the sum.
        let more = self.held.set(bytes);
        counters.state_bytes.fetch_add(more, Relaxed);
        counters.keys.fetch_add(keys.wrapping_sub(self.told_keys), Relaxed);
        self.told_keys = keys;
        self.is_size_old = false;
        more
    }

    /// Evicts clean pages while memory is above its budget; asks for a checkpoint when none is clean.
    fn evict(&mut self) -> Turn {
        let wanted = self.held.to_free();
        if wanted == 0 || self.all_dirty || self.stage != Stage::Open {
            return Turn::Rest;
        }
        let mut freed = 0;
        for table in self.logic.tables() {
            freed += table.evict(wanted - freed.min(wanted));
        }
        self.tell_size();
        self.around.run.counters.evicted_bytes.fetch_add(freed, Relaxed);
        if freed == 0 {
            self.all_dirty = true;
            self.around.run.want_checkpoint();
            return Turn::Rest;
        }
        // Nothing else may come that gives it another turn.
        if self.held.to_free() > 0 { Turn::Again } else { Turn::Rest }
    }

    /// Tells some of an epoch's changes, and whether they are the last.
    fn tell_taps(&mut self, epoch: u64, changes: &[Batch], over: bool) {
        if self.taps.is_empty() || changes.is_empty() && !over {
            return;
        }
        let epoch = self.around.run.epoch(epoch);
        self.taps.retain(|tap| tap.send(epoch, changes, over));
        if self.taps.is_empty() {
            self.logic.watch(false);
        }
    }

    fn moment(&self, tick: &Tick) -> Moment {
        Moment { epoch: self.around.run.epoch(tick.epoch), horizon: tick.horizon, wall: tick.wall }
    }

    /// Answers a read of some keys at once.
    fn look_up(&mut self, mut part: ReadPart, keys: &[ArrayRef], tick: &Tick) -> Result<()> {
        let mut rows = Vec::new();
        self.logic.lookup(keys, &mut rows)?;
        part.as_of(self.moment(tick));
        part.give(rows);
        part.finish();
        Ok(())
    }

    /// Reads of one epoch share one snapshot; a read that finds another epoch's in progress is told
    /// to try again.
    fn begin_reads(&mut self, tick: &Rc<Tick>) -> Result<()> {
        if self.waiting_reads.is_empty() {
            return Ok(());
        }
        if self.reading.is_some() {
            self.is_read_waited_for = true;
            for part in self.waiting_reads.drain(..) {
                part.busy();
            }
            return Ok(());
        }
        // What must be loaded for a read is loaded now: the reader waits for it.
        self.loaded = self.logic.load_more(&mut || true)?;
        self.logic.begin_read(None)?;
        for part in &self.waiting_reads {
            if let Wish::Changes(tap) = part.wish() {
                self.taps.push(tap.clone());
                self.logic.watch(true);
            }
        }
        let moment = self.moment(tick);
        let mut parts = self.waiting_reads.drain(..);
        let mut first = parts.next().expect("not empty");
        first.as_of(moment);
        for part in parts {
            first.join(part);
        }
        first.begin(self.wake.as_ref());
        self.reading = Some(first);
        self.is_read_waited_for = false;
        self.tell_size();
        self.read_bytes = self.held.bytes();
        Ok(())
    }

    fn freeze(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.settle()?;
        let started = Instant::now();
        let number = FileNumber::new(checkpoint, self.around.worker);
        let (rolling, written) = (&mut self.rolling, self.written);
        let mut tables = self.logic.tables();
        let small = tables.iter().map(|table| table.memory_bytes()).sum::<u64>() <= SMALL_STATE;
        let mut facts: Vec<GroupFact> = Vec::new();
        if !small {
            for table in &tables {
                table.base_facts(&mut facts);
            }
        }
        let chosen = rolling.choose(&mut facts, written, checkpoint);
        for table in &mut tables {
            let id = table.id();
            let rebase: Vec<u16> = chosen.iter().filter(|(of, _)| *of == id).map(|(_, group)| *group).collect();
            table.freeze(&FreezeOptions { number, rebase: &rebase, all: small })?;
        }
        let keys = tables.iter().map(|table| table.len()).sum();
        let mut fills = BTreeMap::new();
        for (number, fill) in self.fills.iter().enumerate() {
            fill.keep(number, self.around.worker, &mut fills)?;
        }
        let records = Vec::new();
        self.copying =
            Some(Copying { checkpoint, records, done: 0, keys, delta: 0, base: 0, new: 0, changed: 0, fills });
        let took = started.elapsed();
        self.around.run.counters.freeze.record(took);
        self.around.snapshots.frozen(checkpoint, took);
        Ok(())
    }

    /// What the read in progress is in the way of.
    fn hurry(&self, is_ending: bool) -> Hurry {
        // What it has yet to copy cannot be evicted.
        let is_short = self.all_dirty && self.held.to_free() > 0;
        let is_grown = self.held.bytes() > self.read_bytes.saturating_mul(2).saturating_add(GROWN_STATE);
        let is_filling = self.fills.iter().any(|fill| fill.next().is_some());
        if is_ending {
            Hurry::Ending
        } else if self.is_read_waited_for || is_short || is_grown || is_filling {
            Hurry::Waited
        } else {
            Hurry::No
        }
    }

    /// A slice of a read; false when it waits for its rows to be taken.
    fn read_on(&mut self, mut part: ReadPart, is_ending: bool, deadline: Instant) -> Result<bool> {
        match part.step(self.hurry(is_ending)) {
            Step::Give => {}
            Step::Pause => {
                self.reading = Some(part);
                return Ok(false);
            }
            Step::End => {
                self.logic.end_read();
                self.is_size_old = true;
                return Ok(true);
            }
        }
        let mut rows = Vec::new();
        let over = self.logic.read_on(deadline, &mut rows)?;
        part.give(rows);
        // What was saved of the pages that it has read is gone.
        self.is_size_old = true;
        if over {
            part.finish();
        } else {
            self.reading = Some(part);
        }
        Ok(true)
    }

    /// One slice of what is not urgent: copying out, reading, loading.
    fn background(&mut self, is_ending: bool) -> Result<Turn> {
        let deadline = Instant::now() + BACKGROUND_SLICE;
        if let Some(mut copying) = self.copying.take() {
            if self.copy_on(&mut copying, deadline)? {
                self.deliver(copying);
            } else {
                self.copying = Some(copying);
            }
            return Ok(Turn::Again);
        }
        if let Some(part) = self.reading.take()
            && self.read_on(part, is_ending, deadline)?
        {
            return Ok(Turn::Again);
        }
        if !self.loaded {
            self.loaded = self.logic.load_more(&mut || Instant::now() < deadline)?;
            // Hundreds of pipelines may be loading at once: the budget holds for them as well.
            let more = self.tell_size();
            self.around.run.settle_more(more);
            self.evict();
            return Ok(Turn::Again);
        }
        let evicted = self.evict();
        Ok(if evicted == Turn::Rest && self.reading.is_some() { Turn::Later } else { evicted })
    }

    fn copy_on(&mut self, copying: &mut Copying, deadline: Instant) -> Result<bool> {
        let mut tables = self.logic.tables();
        while let Some(table) = tables.get_mut(copying.done) {
            let progress = table.copy_out(&mut || Instant::now() < deadline, &mut copying.records)?;
            copying.delta += progress.delta_bytes;
            copying.base += progress.base_bytes;
            copying.new += progress.new_bytes;
            copying.changed += progress.changed_slots;
            if progress.pages_left > 0 {
                return Ok(false);
            }
            copying.done += 1;
        }
        Ok(true)
    }

    fn deliver(&mut self, copying: Copying) {
        self.written = WrittenBytes { delta: copying.delta, base: copying.base };
        let mut tables = self.logic.tables();
        let floor = tables.iter().filter_map(|table| table.floor()).min();
        let mut facts = Vec::new();
        for table in &tables {
            table.base_facts(&mut facts);
        }
        let bytes = tables.iter_mut().map(|table| table.memory_bytes()).sum();
        let part = crate::snapshot::OperatorPart {
            operator: self.id,
            name: self.name.clone(),
            records: copying.records,
            changed: copying.changed,
            delta_bytes: copying.delta + copying.new,
            base_bytes: copying.base - copying.new,
            image_bytes: facts.iter().map(|fact| fact.base_bytes).sum(),
            floor,
            keys: copying.keys,
            bytes,
            fills: copying.fills,
        };
        self.settling = Some(copying.checkpoint);
        self.around.snapshots.deliver(copying.checkpoint, part);
    }

    fn settle(&mut self) -> Result<()> {
        if self.copying.is_some() {
            return Ok(());
        }
        let Some(checkpoint) = self.settling else { return Ok(()) };
        let Some(outcome) = self.around.snapshots.outcome(checkpoint) else { return Ok(()) };
        self.settling = None;
        for table in self.logic.tables() {
            table.settle(outcome)?;
        }
        self.all_dirty = false;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    One,
    Nothing,
    /// The batch waits for state that is being restored.
    Unloaded,
}

#[cfg(test)]
mod tests;
