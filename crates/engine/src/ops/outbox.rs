//! A sink's outbox on one worker: rows collect between barriers, become part of the checkpoint, and
//! are delivered once it is published.
//!
//! Invariants: nothing is delivered that no published checkpoint holds; what a checkpoint holds is
//! handed in again with every later one until it is delivered, by reference; deliveries of a worker are
//! in order. What waits for a target that fails, or for a checkpoint that does, is in files, and of long waits
//! in few of them (`merged`): in memory are the rows since the last checkpoint, a few small parts, and one merge.
//! What is published and what is not are not merged with each other.
//!
//! The rows of a checkpoint that failed stay a delivery of their own, also in what was merged, and are delivered
//! under its number once a later checkpoint that holds them is published. A fence tells them apart by that:
//!
//! - Numbers rise within a run, above all that were listed before, and a checkpoint is published under one
//!   above those of the parts that it holds (`checkpointing`). So the deliveries of a part are in rising order.
//! - A delivery keeps its number and its rows in all later checkpoints, so one that is made again is the same.
//! - A run that ends before such a checkpoint is published has delivered nothing of them: the next one goes on
//!   from an older checkpoint, and may give the number to other rows.
//! - A checkpoint that was taken for failed and is official after all is restored only when no later one
//!   verifies. If none was published, nothing of its rows was delivered, under whichever number it has them; if
//!   one is damaged, they may come again, as after every such step back.

use crate::background::Background;
use crate::batch::Batch;
use crate::checkpointing::remove;
use crate::error::{Error, Result};
use crate::kept_rows::{KeptRows, RowsFile};
use crate::merged::{merge, to_merge};
use crate::ops::by_rows::LeftOut;
use crate::shared::{FailingDelivery, Run, caught};
use crate::sink::{DeliveryPermit, EPOCH, Sink, TIME, Target};
use crate::snapshot::OutboxPart;
use crate::tick::Tick;
use crate::wire;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use highwater_core::{Bytes, CheckpointId, Clock, Epoch, WallMicros};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest pause between two tries to deliver.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so many failures in a row nobody waits for a sink any more: it has had 300 ms to recover.
const PATIENT_FAILURES: u32 = 3;
/// Nor for a delivery that has not ended after so long; then it is told as those that fail are.
const LONGEST_DELIVERY: Duration = Duration::from_secs(30);

/// So many of the newest parts may stand in manifests, and in memory, however long they wait.
const NEWEST: usize = 8;

/// After so long the rest of a merged part is left for another time: whoever drops the sink, or asks how
/// much waits, is not kept for long.
const AT_A_TIME: Duration = Duration::from_secs(1);

/// What deliveries of a part left behind, and how they went.
struct Delivered {
    /// For the next one.
    target: Option<Box<dyn Target>>,
    /// How many were made.
    count: u32,
    /// The newest that was.
    through: Option<CheckpointId>,
    left_out: Option<(u64, String)>,
    /// Whether none of the part is left.
    result: Result<bool>,
}

/// A delivery that is under way.
struct Delivering {
    result: Arc<Mutex<Option<Delivered>>>,
    /// When it began, by the clock of the pipeline.
    since: Duration,
}

/// Parts that are on their way to be one.
struct Merging {
    /// The first of them.
    part: u32,
    checkpoint: Option<CheckpointId>,
    parts: usize,
    result: Arc<Mutex<Option<Result<OutboxPart>>>>,
}

/// One worker's outbox of one sink.
pub(crate) struct Outbox {
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    schema: SchemaRef,
    part: u32,
    background: Background,
    clock: Arc<dyn Clock>,
    run: Arc<Run>,
    /// Deliveries of the whole pipeline that are published and not made.
    undelivered: Arc<AtomicUsize>,
    /// Rows since the last barrier, encoded.
    current: Vec<u8>,
    /// What is published and not delivered, older first.
    kept: VecDeque<OutboxPart>,
    /// What no published checkpoint holds, older first: the parts of those that failed, under their numbers, and
    /// that of the one being made, without one.
    unpublished: Vec<OutboxPart>,
    /// The checkpoint that was frozen last.
    frozen: Option<CheckpointId>,
    target: Option<Box<dyn Target>>,
    delivering: Option<Delivering>,
    /// Whether that one has not ended for long.
    hangs: bool,
    /// When it is looked whether one does; so whoever asked to be woken then asks once.
    look_at: Option<Duration>,
    merging: Option<Merging>,
    /// Whether rows could not be read back; then they stay as they are.
    is_unreadable: bool,
    /// Deliveries made in this run.
    delivered: u64,
    failures: u32,
    /// Why deliveries fail, when several in a row have.
    failing: Option<String>,
    retry_at: Option<Instant>,
}

/// What an outbox is made of.
pub(crate) struct OutboxSetup {
    pub(crate) name: Arc<str>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) schema: SchemaRef,
    pub(crate) part: u32,
    pub(crate) background: Background,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) run: Arc<Run>,
    pub(crate) undelivered: Arc<AtomicUsize>,
    /// What the restored checkpoint holds for this worker; all of it is published.
    pub(crate) restored: Vec<OutboxPart>,
}

impl Outbox {
    pub(crate) fn new(setup: OutboxSetup) -> Self {
        let waiting = setup.restored.iter().map(|part| part.waiting() as usize).sum();
        setup.undelivered.fetch_add(waiting, Relaxed);
        Self {
            name: setup.name,
            sink: setup.sink,
            schema: setup.schema,
            part: setup.part,
            background: setup.background,
            clock: setup.clock,
            run: setup.run,
            undelivered: setup.undelivered,
            current: Vec::new(),
            kept: setup.restored.into(),
            unpublished: Vec::new(),
            frozen: None,
            target: None,
            delivering: None,
            hangs: false,
            look_at: None,
            merging: None,
            is_unreadable: false,
            delivered: 0,
            failures: 0,
            failing: None,
            retry_at: None,
        }
    }

    /// How many deliveries were made in this run.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Takes rows of the open epoch.
    pub(crate) fn put(&mut self, batch: &Batch, tick: &Tick) -> Result<()> {
        let encoded = if self.sink.is_log() {
            let stamped = stamped(batch, self.run.epoch(tick.epoch), tick.wall);
            stamped.and_then(|batch| wire::encode(&batch, &mut self.current))
        } else {
            wire::encode(batch, &mut self.current)
        };
        encoded.map_err(|e| Error::data(&*self.name, e))
    }

    /// What a checkpoint must hold for this sink.
    pub(crate) fn freeze(&mut self, checkpoint: CheckpointId) -> Vec<OutboxPart> {
        // The one before has failed if what it froze is not published.
        let failed = self.frozen.replace(checkpoint);
        for part in &mut self.unpublished {
            part.checkpoint = part.checkpoint.or(failed);
        }
        if !self.current.is_empty() {
            self.unpublished.push(OutboxPart {
                sink: Arc::clone(&self.name),
                checkpoint: None,
                part: self.part,
                rows: KeptRows::in_memory(std::mem::take(&mut self.current)),
                waits: false,
                merged: None,
            });
        }
        self.finish_merge();
        let old = (self.kept.len() + self.unpublished.len()).saturating_sub(NEWEST);
        self.begin_merge(old);
        for (at, part) in self.kept.iter_mut().chain(&mut self.unpublished).enumerate() {
            part.waits = at < old;
            part.rows.spill();
        }
        self.kept.iter().chain(&self.unpublished).cloned().collect()
    }

    /// Makes some of the `old` parts one, on a background thread: some that are published or some that are not, as
    /// these are not delivered together. The first that is published is left alone, as it may be on its way to the
    /// target; and what was merged before is in its file first.
    fn begin_merge(&mut self, old: usize) {
        let in_memory = |part: &OutboxPart| part.merged.is_some() && part.rows.file().is_none();
        let is_busy = self.is_unreadable || self.merging.is_some();
        if is_busy || self.kept.iter().chain(&self.unpublished).any(in_memory) {
            return;
        }
        let Some(parts) = self.merged_next(old) else { return };
        let Some(first) = parts.first() else { return };
        let (part, checkpoint, result) = (first.part, first.checkpoint, Arc::new(Mutex::new(None)));
        self.merging = Some(Merging { part, checkpoint, parts: parts.len(), result: Arc::clone(&result) });
        self.background.run(move || {
            let merged = merge(&parts);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(merged);
        });
    }

    /// Which of the `old` parts become one, if any do.
    fn merged_next(&self, old: usize) -> Option<Vec<OutboxPart>> {
        let kept = self.kept.iter().take(old).skip(1);
        if let Some(range) = to_merge(kept.clone()) {
            return Some(kept.skip(range.start).take(range.len()).cloned().collect());
        }
        let unpublished = self.unpublished.get(..old.saturating_sub(self.kept.len()))?;
        to_merge(unpublished.iter()).map(|range| unpublished[range].to_vec())
    }

    /// Puts a merged part in the place of those that it is made of, unless deliveries have come to them
    /// meanwhile. Their files go when a checkpoint without them is published, and at once if none with them was:
    /// who wrote the one that has failed is done with it.
    fn finish_merge(&mut self) {
        let Some(merging) = &self.merging else { return };
        let Some(merged) = merging.result.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let is_first = |part: &OutboxPart| (part.part, part.checkpoint) == (merging.part, merging.checkpoint);
        let at = self.kept.iter().position(is_first).filter(|at| *at > 0);
        let unpublished = self.unpublished.iter().position(is_first);
        let parts = merging.parts;
        self.merging = None;
        match (merged, at, unpublished) {
            (_, None, None) => {}
            (Ok(merged), Some(at), _) => {
                self.kept.drain(at..at + parts);
                self.kept.insert(at, merged);
            }
            (Ok(merged), None, Some(at)) => {
                let replaced: Vec<OutboxPart> = self.unpublished.splice(at..at + parts, [merged]).collect();
                let files = replaced.into_iter().filter_map(|part| part.rows.file());
                let files: Vec<RowsFile> = files.collect();
                self.background.run(move || files.iter().for_each(|file| remove(&file.path)));
            }
            (Err(error), ..) => {
                self.is_unreadable = true;
                tracing::warn!(sink = &*self.name, %error, "parts that wait stay as they are");
            }
        }
    }

    /// A checkpoint is published: all that was frozen until then belongs to it.
    pub(crate) fn published(&mut self, checkpoint: CheckpointId) {
        let waiting = self.unpublished.iter().map(|part| part.waiting() as usize).sum();
        self.undelivered.fetch_add(waiting, Relaxed);
        for mut part in self.unpublished.drain(..) {
            part.checkpoint = part.checkpoint.or(Some(checkpoint));
            self.kept.push_back(part);
        }
        if self.hangs || self.failing.is_some() {
            self.tell_stuck();
        }
    }

    /// Tells how much waits for a sink that fails or hangs, or that it no longer does.
    fn tell_stuck(&self) {
        self.run.set_failing(&self.name, self.part, self.stuck());
    }

    fn stuck(&self) -> Option<FailingDelivery> {
        let reason = if self.hangs {
            format!("a delivery has not ended for {} s", LONGEST_DELIVERY.as_secs())
        } else {
            self.failing.clone()?
        };
        let (waiting, bytes) = self
            .kept
            .iter()
            .fold((0, 0), |(waiting, bytes), part| (waiting + part.waiting() as usize, bytes + part.rows.len()));
        let (sink, bytes) = (self.name.to_string(), Bytes(bytes as u64));
        Some(FailingDelivery { sink, hangs: self.hangs, reason, waiting, bytes })
    }

    /// Goes on delivering; `done` is called from another thread when there is more to do. Gives the time after
    /// which to come back, if it must wait or somebody must look whether a delivery ends.
    pub(crate) fn deliver(&mut self, done: impl FnOnce() + Send + 'static) -> Option<Duration> {
        self.finish_delivery();
        if self.delivering.is_some() {
            return self.watch();
        }
        if let Some(at) = self.retry_at {
            let wait = at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Some(wait);
            }
            self.retry_at = None;
        }
        let part = self.kept.front()?.clone();
        let checkpoint = part.checkpoint?;
        let result = Arc::new(Mutex::new(None));
        let delivering = Delivering { result: Arc::clone(&result), since: self.clock.monotonic() };
        let (sink, schema, target) = (Arc::clone(&self.sink), Arc::clone(&self.schema), self.target.take());
        let started = self.background.deliver(move || {
            let delivered = Delivered::of(sink.as_ref(), &schema, target, (&part, checkpoint));
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(delivered);
            done();
        });
        match started {
            Ok(()) => {
                self.delivering = Some(delivering);
                self.watch()
            }
            Err(source) => {
                self.delivery_failed(&Error::Io { what: "start a thread for a delivery".into(), source });
                self.retry_at.map(|at| at.saturating_duration_since(Instant::now()))
            }
        }
    }

    /// Tells of a delivery that does not end. Gives the time after which somebody is to come back, unless they do so
    /// anyway.
    fn watch(&mut self) -> Option<Duration> {
        let due = self.delivering.as_ref()?.since + LONGEST_DELIVERY;
        let now = self.clock.monotonic();
        if self.hangs || self.look_at.is_some_and(|at| now < at) {
            return None;
        }
        if now < due {
            self.look_at = Some(due);
            return Some(due - now);
        }
        self.hangs = true;
        tracing::warn!(sink = &*self.name, after = ?LONGEST_DELIVERY, "a delivery has not ended: nobody waits for it");
        self.tell_stuck();
        None
    }

    fn finish_delivery(&mut self) {
        let Some(delivering) = &self.delivering else { return };
        let Some(delivered) = delivering.result.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.delivering = None;
        self.take_off(&delivered);
        let Delivered { target, count, left_out, result, .. } = delivered;
        if let Some((came, reason)) = left_out {
            self.run.left_out(&self.name, LeftOut { came, reason });
        }
        let hung = std::mem::take(&mut self.hangs);
        let was_stuck = hung || self.failing.is_some();
        if count > 0 {
            self.failures = 0;
            self.failing = None;
            self.delivered += u64::from(count);
            self.run.counters.delivered.fetch_add(u64::from(count), Relaxed);
        }
        match result {
            Ok(_) => self.target = target,
            Err(error) => self.delivery_failed(&error),
        }
        if hung {
            tracing::info!(sink = &*self.name, "the delivery that did not end has ended");
        }
        if was_stuck {
            self.tell_stuck();
        }
    }

    /// What was delivered of the first part does not wait any more.
    fn take_off(&mut self, delivered: &Delivered) {
        let Some(part) = self.kept.front_mut() else { return };
        let is_whole = matches!(delivered.result, Ok(true));
        let made = if is_whole { part.waiting() } else { delivered.count.min(part.waiting()) };
        self.undelivered.fetch_sub(made as usize, Relaxed);
        if is_whole {
            self.kept.pop_front();
        } else if let Some(merged) = &mut part.merged {
            merged.waiting -= made;
            merged.delivered = delivered.through.or(merged.delivered);
        }
    }

    /// The target is opened anew after a pause: a connection that failed once is not trusted.
    fn delivery_failed(&mut self, error: &Error) {
        let pause = Duration::from_millis(100 << self.failures.min(9)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.retry_at = Some(Instant::now() + pause);
        self.run.counters.delivery_failures.fetch_add(1, Relaxed);
        tracing::warn!(sink = &*self.name, %error, retry_in = ?pause, "a delivery failed");
        if self.failures >= PATIENT_FAILURES {
            self.failing = Some(error.to_string());
            self.tell_stuck();
        }
    }
}

impl Delivered {
    /// Delivers a part of a checkpoint, or as much of a merged one as is done in a moment.
    fn of(
        sink: &dyn Sink,
        schema: &SchemaRef,
        target: Option<Box<dyn Target>>,
        part: (&OutboxPart, CheckpointId),
    ) -> Self {
        let mut delivered = Self { target, count: 0, through: None, left_out: None, result: Ok(false) };
        let result = caught(&part.0.sink, || delivered.go_on(sink, schema, part));
        delivered.result = result;
        delivered
    }

    fn go_on(
        &mut self,
        sink: &dyn Sink,
        schema: &SchemaRef,
        (part, newest): (&OutboxPart, CheckpointId),
    ) -> Result<bool> {
        let opened = self.target.take().map_or_else(|| caught(&part.sink, || sink.open(schema)), Ok);
        let mut target = opened?;
        let bytes = part.rows.read()?;
        let until = Instant::now() + AT_A_TIME;
        let mut deliveries = part.deliveries(newest, &bytes)?.into_iter();
        for delivery in deliveries.by_ref() {
            let rows = wire::decode(delivery.rows).map_err(|error| Error::data(&*part.sink, error))?;
            let permit = DeliveryPermit::of_published(delivery.checkpoint);
            let left_out = caught(&part.sink, || {
                target.deliver(permit, part.part, &rows)?;
                Ok(target.left_out())
            })?;
            self.count += 1;
            self.through = Some(delivery.checkpoint);
            if let Some((came, reason)) = left_out {
                let before = self.left_out.take().map_or(0, |(before, _)| before);
                self.left_out = Some((before + came, reason));
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.target = Some(target);
        Ok(deliveries.len() == 0)
    }
}

/// The rows with the columns that a log has more.
fn stamped(batch: &Batch, epoch: Epoch, time: WallMicros) -> Result<Batch, ArrowError> {
    let mut fields = batch.rows.schema().fields().to_vec();
    let mut columns = batch.rows.columns().to_vec();
    for (name, value) in [(EPOCH, epoch.0 as i64), (TIME, time.0)] {
        fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
        columns.push(Arc::new(Int64Array::from_value(value, batch.len())));
    }
    Ok(batch.with_rows(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
}

#[cfg(test)]
mod tests;
