//! A source on one worker: its splits, dealt by name or place, read a bounded piece a tick.
//!
//! Invariant: the offsets handed in at a barrier are those after the rows of all epochs up to it.

use crate::background::Background;
use crate::changes::Wake;
use crate::clock::Supply;
use crate::error::Result;
use crate::feed::{Fed, Feed};
use crate::shared::Run;
use crate::source::{Offset, Source, stamped};
use arrow::array::RecordBatch;
use highwater_core::WallMicros;
use highwater_state::hash_bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most rows of one batch.
const BATCH_ROWS: usize = 8192;
/// A tick is answered within about this time, however many rows it allows.
const LONGEST_ANSWER: Duration = Duration::from_millis(4);

/// One worker's splits of one source.
pub(crate) struct SourceSplits {
    name: String,
    source: Arc<dyn Source>,
    background: Background,
    wake: Wake,
    run: Arc<Run>,
    place: Place,
    /// Offsets of splits that are not open yet, and of those that no longer exist.
    known: BTreeMap<String, Offset>,
    /// Splits that exist, whoever reads them.
    listed: BTreeSet<String>,
    feeds: Vec<Feed>,
    next: usize,
    idle_until: Vec<Option<Instant>>,
    found: Found,
    skipped: u64,
}

/// Splits that a background look found, until the worker takes them.
pub(crate) type Found = Arc<Mutex<Option<Result<Vec<String>>>>>;

/// Which worker of how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) workers: usize,
}

/// What a source on one worker is made of.
pub(crate) struct SourceSetup {
    pub(crate) name: String,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) background: Background,
    pub(crate) wake: Wake,
    pub(crate) run: Arc<Run>,
    pub(crate) place: Place,
    pub(crate) splits: Vec<String>,
    pub(crate) offsets: BTreeMap<String, Offset>,
}

impl SourceSplits {
    /// # Errors
    /// When a split cannot be opened.
    pub(crate) fn open(setup: SourceSetup) -> Result<Self> {
        let mut this = Self {
            name: setup.name,
            source: setup.source,
            background: setup.background,
            wake: setup.wake,
            run: setup.run,
            place: setup.place,
            known: setup.offsets,
            listed: BTreeSet::new(),
            feeds: Vec::new(),
            next: 0,
            idle_until: Vec::new(),
            found: Found::default(),
            skipped: 0,
        };
        this.take_splits(setup.splits)?;
        if let Some(every) = this.source.discovery() {
            let look =
                look_for_splits(Arc::clone(&this.source), every, Arc::downgrade(&this.found), Arc::clone(&this.wake));
            this.background.handle().spawn(look);
        }
        Ok(this)
    }

    /// Opens the splits that are new and this worker's. A complete list is dealt by place, which is
    /// even; one that grows is dealt by name, which stays.
    fn take_splits(&mut self, mut splits: Vec<String>) -> Result<()> {
        splits.sort_unstable();
        let by_name = self.source.discovery().is_some();
        for (place, split) in splits.into_iter().enumerate() {
            let owner = if by_name { hash_bytes(split.as_bytes()) as usize } else { place } % self.place.workers;
            if !self.listed.insert(split.clone()) || owner != self.place.worker {
                continue;
            }
            let offset = self.known.get(&split).cloned();
            let feed = Feed::open(&self.source, split, offset, self.background.handle(), Arc::clone(&self.wake))?;
            self.feeds.push(feed);
            self.idle_until.push(None);
        }
        Ok(())
    }

    /// Takes up what happened in the background.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        match found {
            Some(Ok(splits)) => self.take_splits(splits),
            Some(Err(error)) => {
                tracing::warn!(source = self.name, %error, "looking for new splits failed; it is tried again");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Gives at most about `max_rows` rows to `emit`, a batch at a time, which came at `wall`; tells when
    /// the oldest of them came to be, where that is known.
    pub(crate) fn answer(
        &mut self,
        max_rows: usize,
        wall: WallMicros,
        mut emit: impl FnMut(RecordBatch),
    ) -> Result<Option<Instant>> {
        let started = Instant::now();
        let (mut rows, mut resting, mut oldest) = (0, 0, None);
        while rows < max_rows && resting < self.feeds.len() && started.elapsed() < LONGEST_ANSWER {
            let at = self.next % self.feeds.len();
            self.next = at + 1;
            if self.feeds[at].ended() || self.idle_until[at].is_some_and(|until| until > started) {
                resting += 1;
                continue;
            }
            match self.feeds[at].poll(BATCH_ROWS.min(max_rows - rows))? {
                Fed::Rows(batch) => {
                    (resting, self.idle_until[at]) = (0, None);
                    rows += batch.num_rows();
                    let born = self.feeds[at].age.and_then(|age| started.checked_sub(age));
                    oldest = oldest.into_iter().chain(born).min();
                    emit(stamped(batch, self.source.arrivals(), wall)?);
                }
                Fed::Until(until) => {
                    resting += 1;
                    self.idle_until[at] = Some(until);
                }
                Fed::Waiting | Fed::End => resting += 1,
            }
        }
        self.run.counters.rows_in.fetch_add(rows as u64, Relaxed);
        let skipped: u64 = self.feeds.iter().map(|feed| feed.skipped).sum();
        self.run.counters.skipped_rows.fetch_add(skipped - self.skipped, Relaxed);
        self.skipped = skipped;
        Ok(oldest)
    }

    /// What there is for the next tick. `now` is the monotonic clock, at this moment.
    pub(crate) fn supply(&self, now: Duration) -> Supply {
        let this_moment = Instant::now();
        let none = if self.source.discovery().is_some() { Supply::Waiting } else { Supply::Ended };
        self.feeds.iter().zip(&self.idle_until).fold(none, |supply, (feed, idle)| {
            supply.and(match idle {
                _ if feed.ended() => Supply::Ended,
                Some(until) if *until > this_moment => Supply::At(now + (*until - this_moment)),
                _ if !self.source.blocking() || feed.has_waiting() => Supply::Ready,
                _ => Supply::Waiting,
            })
        })
    }

    /// Where all splits are, those included that another run left behind.
    pub(crate) fn offsets(&self) -> BTreeMap<String, Offset> {
        let mut offsets: BTreeMap<String, Offset> = BTreeMap::new();
        for feed in &self.feeds {
            if !feed.offset.is_null() {
                offsets.insert(feed.split.clone(), feed.offset.clone());
            }
        }
        // Splits that are gone keep their offsets, once: on the first worker.
        if self.place.worker == 0 {
            let gone = self.known.iter().filter(|(split, _)| !self.listed.contains(*split));
            offsets.extend(gone.map(|(split, offset)| (split.clone(), offset.clone())));
        }
        offsets
    }
}

async fn look_for_splits(
    source: Arc<dyn Source>,
    every: Duration,
    found: std::sync::Weak<Mutex<Option<Result<Vec<String>>>>>,
    wake: Wake,
) {
    loop {
        tokio::time::sleep(every).await;
        let looking = Arc::clone(&source);
        let Ok(splits) = tokio::task::spawn_blocking(move || looking.splits()).await else { continue };
        let Some(found) = found.upgrade() else { return };
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(splits);
        wake();
    }
}
