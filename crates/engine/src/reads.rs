//! Reads of a pipeline's views as of one epoch: who asked, and how rows come back.
//!
//! A read is asked for by number in a tick, so that every worker answers as of the same epoch; the
//! rows come back through channels, one a node, in slices, while the stream goes on. It wants all rows,
//! those of some keys, or all rows and from then on every change. All rows come as they are taken: a few
//! MiB wait, and then the operator, whose snapshot stays, pauses. Only when that snapshot is in the way
//! of something else does the rest come at once, as much as may wait, and who then takes nothing loses
//! the read. Invariant: whoever asks gets an end of every part, or an error, whatever happens to the
//! pipeline; who reads no more holds nothing.

use crate::batch::Batch;
use crate::changes::Wake;
use crate::error::{Error, Result};
use crate::subscription::Tap;
use arrow::array::ArrayRef;
use highwater_core::{Epoch, WallMicros, WorkerIndex};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a node's rows that come before they are taken.
const PIECE_BYTES: u64 = 4 << 20;
/// So long one who reads may take nothing of all that may wait while others want the read to end.
const STALL: Duration = Duration::from_secs(10);
/// So long others wait for the end of a read at most, also of one whose rows are taken, but slowly.
const LONGEST: Duration = Duration::from_secs(600);

/// The reads of one pipeline that are asked for and not yet answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    requests: HashMap<u64, Request>,
    /// Set when the run has failed or stopped: nobody answers any more.
    closed: Option<String>,
}

#[derive(Debug)]
struct Request {
    nodes: Vec<String>,
    wish: Wish,
    /// One a node.
    askers: Vec<Asker>,
}

/// Where the rows of a node go.
#[derive(Clone, Debug)]
struct Asker {
    sender: Sender<Answer>,
    pace: Arc<Pace>,
}

/// What a read wants of its nodes.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// All rows.
    All,
    /// The rows of these keys: one array a key column, one entry a key.
    Keys(Arc<[ArrayRef]>),
    /// All rows, and from then on the changes of every epoch.
    Changes(Tap),
}

#[derive(Debug)]
enum Answer {
    /// A part is of this moment; its rows follow.
    Begun(Moment),
    Rows(Vec<Batch>),
    Done(Moment),
    Busy,
    /// Others could wait no longer for somebody to take rows.
    TooSlow,
    Failed(String),
}

/// How far rows come that nobody has taken yet.
struct Pace {
    /// Bytes that were given and not yet taken.
    waiting: AtomicU64,
    /// While fewer wait, more are given.
    window: AtomicU64,
    /// While fewer wait, more are given if the read is in the way of others.
    most: AtomicU64,
    /// Nobody takes any more.
    is_over: AtomicBool,
    /// The operators that give.
    givers: Mutex<Vec<Wake>>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("waiting", &self.waiting).field("window", &self.window).finish_non_exhaustive()
    }
}

impl Pace {
    fn new(wish: &Wish) -> Self {
        let window = if matches!(wish, Wish::All) { PIECE_BYTES } else { u64::MAX };
        Self {
            waiting: AtomicU64::new(0),
            window: AtomicU64::new(window),
            most: AtomicU64::new(u64::MAX),
            is_over: AtomicBool::new(false),
            givers: Mutex::default(),
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.load(Relaxed) < self.window.load(Relaxed)
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Relaxed) >= self.most.load(Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    fn take(&self, bytes: u64) {
        let window = self.window.load(Relaxed);
        let before = self.waiting.fetch_sub(bytes, Relaxed);
        if before >= window && before - bytes < window {
            self.wake();
        }
    }

    fn givers(&self) -> MutexGuard<'_, Vec<Wake>> {
        self.givers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        for giver in self.givers().iter() {
            giver();
        }
    }
}

/// What else wants a read to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// Nothing: it goes as rows are taken.
    No,
    /// Somebody waits for the snapshot to be given up.
    Waited,
    /// The run ends.
    Ending,
}

/// What an operator does next for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It gives rows.
    Give,
    /// It waits for rows to be taken.
    Pause,
    /// Nobody wants its rows any more.
    End,
}

/// As of when a read is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) epoch: Epoch,
    /// Where the change sources were.
    pub(crate) horizon: u64,
    /// The epoch's time.
    pub(crate) wall: WallMicros,
}

/// One operator's share of a read on one worker; ends when dropped, unless it was finished before.
#[derive(Debug)]
pub(crate) struct ReadPart {
    wish: Wish,
    moment: Moment,
    /// All who want the same rows.
    askers: Vec<Asker>,
    /// Since when one of them, who has all that may wait, is waited for.
    stalled: Option<Instant>,
    /// When others wanted it to end first.
    hurried: Option<Instant>,
    over: bool,
}

/// A read that was asked for.
#[derive(Debug)]
pub(crate) struct Ticket {
    asked: Arc<Asked>,
    readings: Vec<Reading>,
    /// What the rows may take in memory.
    most_bytes: u64,
}

/// A read among those that are not over.
#[derive(Debug)]
struct Asked {
    read: u64,
    reads: Reads,
}

/// The rows of one node of a read, as they come. Who drops it reads no more.
#[derive(Debug)]
pub(crate) struct Reading {
    answers: Receiver<Answer>,
    pace: Arc<Pace>,
    begun: usize,
    done: usize,
    moment: Moment,
    rows: VecDeque<Batch>,
    /// Of all rows that have come.
    bytes: u64,
    /// The read fails with its run as long as this is here.
    _asked: Arc<Asked>,
}

/// The rows of the nodes asked for, as of one epoch.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) moment: Moment,
    pub(crate) nodes: Vec<Vec<Batch>>,
}

impl Reads {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a read of the tables of `nodes`.
    pub(crate) fn ask(&self, nodes: Vec<String>, wish: Wish) -> Result<Ticket, String> {
        let mut open = self.open();
        if let Some(reason) = &open.closed {
            return Err(reason.clone());
        }
        let read = open.next;
        open.next += 1;
        let asked = Arc::new(Asked { read, reads: self.clone() });
        let begin = |_: &String| {
            let (sender, answers) = channel();
            let pace = Arc::new(Pace::new(&wish));
            let reading = Reading {
                answers,
                pace: Arc::clone(&pace),
                begun: 0,
                done: 0,
                moment: Moment::default(),
                rows: VecDeque::new(),
                bytes: 0,
                _asked: Arc::clone(&asked),
            };
            (Asker { sender, pace }, reading)
        };
        let (askers, readings) = nodes.iter().map(begin).unzip();
        open.requests.insert(read, Request { nodes, wish, askers });
        drop(open);
        Ok(Ticket { asked, readings, most_bytes: u64::MAX })
    }

    /// The share of an operator in a read, for each time that the read names it.
    pub(crate) fn part(&self, read: u64, node: &str, _worker: WorkerIndex) -> Vec<ReadPart> {
        let open = self.open();
        let Some(request) = open.requests.get(&read) else { return Vec::new() };
        let named = request.nodes.iter().enumerate().filter(|(_, name)| *name == node);
        let part = |node: usize| ReadPart {
            wish: request.wish.clone(),
            moment: Moment::default(),
            askers: vec![request.askers[node].clone()],
            stalled: None,
            hurried: None,
            over: false,
        };
        named.map(|(index, _)| part(index)).collect()
    }

    /// Fails all reads and every later one, with a reason.
    pub(crate) fn close(&self, reason: &str) {
        let mut open = self.open();
        open.closed = Some(reason.to_owned());
        for (_, request) in open.requests.drain() {
            for asker in &request.askers {
                // Whoever asked may have given up.
                let _ = asker.sender.send(Answer::Failed(reason.to_owned()));
            }
        }
    }

    /// A new run answers again.
    pub(crate) fn reopen(&self) {
        self.open().closed = None;
    }
}

impl ReadPart {
    /// What it wants.
    pub(crate) const fn wish(&self) -> &Wish {
        &self.wish
    }

    /// As of when it answers.
    pub(crate) const fn as_of(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// Another part that wants the same rows.
    pub(crate) fn join(&mut self, mut other: Self) {
        other.over = true;
        self.askers.append(&mut other.askers);
    }

    fn send(&self, mut make: impl FnMut() -> Answer) {
        for asker in &self.askers {
            // Whoever asked may have given up; the rows are then nobody's.
            let _ = asker.sender.send(make());
        }
    }

    pub(crate) fn give(&mut self, rows: Vec<Batch>) {
        if !rows.is_empty() {
            let bytes: u64 = rows.iter().map(bytes_of).sum();
            for asker in &self.askers {
                asker.pace.waiting.fetch_add(bytes, Relaxed);
            }
            self.send(|| Answer::Rows(rows.clone()));
        }
    }

    /// Tells that its rows are those of its moment, whenever they come; `giver` wakes the operator that
    /// gives them.
    pub(crate) fn begin(&self, giver: Option<&Wake>) {
        for asker in &self.askers {
            asker.pace.givers().extend(giver.cloned());
        }
        self.send(|| Answer::Begun(self.moment));
    }

    /// What is next.
    pub(crate) fn step(&mut self, hurry: Hurry) -> Step {
        self.askers.retain(|asker| !asker.pace.is_over());
        if self.askers.is_empty() {
            return Step::End;
        }
        if hurry != Hurry::No {
            self.hurried.get_or_insert_with(Instant::now);
        }
        let is_wanted = hurry != Hurry::No || self.askers.iter().any(|asker| asker.pace.has_room());
        if !self.askers.iter().any(|asker| asker.pace.is_full()) {
            self.stalled = None;
            return if is_wanted { Step::Give } else { Step::Pause };
        }
        if !is_wanted {
            // Who waits may wait again in a moment, as when memory is short until the next checkpoint: it counts on.
            return Step::Pause;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        let is_late = since.elapsed() >= STALL || self.hurried.is_some_and(|since| since.elapsed() >= LONGEST);
        if hurry != Hurry::Ending && !is_late {
            return Step::Pause;
        }
        self.stalled = None;
        self.askers.retain(|asker| {
            let is_full = asker.pace.is_full();
            if is_full {
                // Whoever asked may have given up.
                let _ = asker.sender.send(if hurry == Hurry::Ending { Answer::Busy } else { Answer::TooSlow });
            }
            !is_full
        });
        if self.askers.is_empty() { Step::End } else { Step::Give }
    }

    pub(crate) fn finish(mut self) {
        self.over = true;
        self.send(|| Answer::Done(self.moment));
    }

    /// Another read is in progress as of another epoch; the reader tries again.
    pub(crate) fn busy(mut self) {
        self.over = true;
        self.send(|| Answer::Busy);
    }
}

impl Drop for ReadPart {
    fn drop(&mut self) {
        if !self.over {
            self.send(|| Answer::Busy);
        }
    }
}

impl Ticket {
    /// Its number.
    pub(crate) fn read(&self) -> u64 {
        self.asked.read
    }

    /// Lets its rows take no more than this.
    pub(crate) const fn limit(&mut self, bytes: u64) {
        self.most_bytes = bytes;
    }

    /// Waits until it is known of what moment all parts are. `None` when the read has to be asked for
    /// again.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub(crate) fn begin(&mut self, pipeline: &str, workers: usize, timeout: Duration) -> Result<Option<Moment>> {
        for reading in &mut self.readings {
            if !reading.answer(pipeline, timeout, |reading| Ok(reading.begun.max(reading.done) >= workers))? {
                return Ok(None);
            }
        }
        Ok(Some(self.readings.first().map(|reading| reading.moment).unwrap_or_default()))
    }

    /// Lets all rows come at once.
    pub(crate) fn hasten(&self) {
        for reading in &self.readings {
            reading.hasten();
        }
    }

    /// Waits for the parts of all workers. `None` when the read has to be asked for again.
    ///
    /// # Errors
    /// `NotRunning` when the pipeline fails meanwhile, `Timeout` after `timeout` without an answer,
    /// `TooMuch` when the rows take more than they may.
    pub(crate) fn wait(mut self, pipeline: &str, workers: usize, timeout: Duration) -> Result<Option<Answered>> {
        let (most, mut answered) = (self.most_bytes, Answered::default());
        let mut before: u64 = 0;
        self.hasten();
        for reading in &mut self.readings {
            let is_over = reading.answer(pipeline, timeout, |reading| {
                if before + reading.bytes > most {
                    return Err(Error::TooMuch { pipeline: pipeline.to_owned(), bytes: most });
                }
                Ok(reading.done >= workers)
            })?;
            if !is_over {
                return Ok(None);
            }
            before += reading.bytes;
            answered.moment = reading.moment;
            answered.nodes.push(std::mem::take(&mut reading.rows).into());
        }
        Ok(Some(answered))
    }

    /// The rows of each node as they come, of which so many bytes may wait. `None` when the read has to be
    /// asked for again. Waits for the first piece of each.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub(crate) fn open(
        mut self,
        pipeline: &str,
        workers: usize,
        (timeout, most_bytes): (Duration, u64),
    ) -> Result<Option<Vec<Reading>>> {
        for reading in &mut self.readings {
            reading.pace.most.store(most_bytes.max(PIECE_BYTES), Relaxed);
            let enough = |reading: &Reading| Ok(reading.done >= workers || reading.bytes >= PIECE_BYTES);
            if !reading.answer(pipeline, timeout, enough)? {
                return Ok(None);
            }
        }
        Ok(Some(self.readings))
    }
}

impl Reading {
    /// Lets all rows come at once.
    pub(crate) fn hasten(&self) {
        self.pace.most.store(u64::MAX, Relaxed);
        self.pace.window.store(u64::MAX, Relaxed);
        self.pace.wake();
    }

    /// Whether all rows have come from so many workers, and the bytes of those that came.
    pub(crate) const fn come(&self, workers: usize) -> (bool, u64) {
        (self.done >= workers, self.bytes)
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// As [`Ticket::wait`], and `NotRunning` when the run has ended.
    pub(crate) fn next(&mut self, pipeline: &str, workers: usize, timeout: Duration) -> Result<Option<Batch>> {
        let has = |reading: &Self| Ok(!reading.rows.is_empty() || reading.done >= workers);
        if !self.answer(pipeline, timeout, has)? {
            let reason = "its run ended while its rows were read: read them anew".to_owned();
            return Err(Error::NotRunning { pipeline: pipeline.to_owned(), reason });
        }
        let next = self.rows.pop_front();
        if let Some(batch) = &next {
            self.pace.take(bytes_of(batch));
        }
        Ok(next)
    }

    /// Takes answers until `enough`; false when the read has to be asked for again.
    fn answer(&mut self, pipeline: &str, timeout: Duration, enough: impl Fn(&Self) -> Result<bool>) -> Result<bool> {
        let mut deadline = Instant::now() + timeout;
        while !enough(self)? {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Answer::Begun(as_of)) => {
                    self.moment = as_of;
                    self.begun += 1;
                }
                Ok(Answer::Rows(rows)) => {
                    self.bytes += rows.iter().map(bytes_of).sum::<u64>();
                    self.rows.extend(rows);
                    deadline = Instant::now() + timeout;
                }
                Ok(Answer::Done(as_of)) => {
                    self.moment = as_of;
                    self.done += 1;
                }
                Ok(Answer::Busy) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Ok(Answer::TooSlow) => {
                    let bytes = self.pace.most.load(Relaxed);
                    return Err(Error::TooMuch { pipeline: pipeline.to_owned(), bytes });
                }
                Ok(Answer::Failed(reason)) => {
                    return Err(Error::NotRunning { pipeline: pipeline.to_owned(), reason });
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::Timeout(format!("a read of {pipeline} had no answer for {timeout:?}")));
                }
            }
        }
        Ok(true)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.pace.is_over.store(true, Relaxed);
        self.pace.wake();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reads.open().requests.remove(&self.read);
    }
}

fn bytes_of(batch: &Batch) -> u64 {
    batch.rows.get_array_memory_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_nothing_is_not_given_more_time_by_who_waits_no_longer_for_a_moment() {
        let reads = Reads::default();
        let ticket = reads.ask(vec!["v".to_owned()], Wish::All).expect("it runs");
        let mut part = reads.part(ticket.read(), "v", WorkerIndex(0)).remove(0);
        let pace = Arc::clone(&ticket.readings[0].pace);
        pace.most.store(PIECE_BYTES, Relaxed);
        pace.waiting.store(PIECE_BYTES, Relaxed);
        assert_eq!((part.step(Hurry::No), part.stalled), (Step::Pause, None));
        assert_eq!(part.step(Hurry::Waited), Step::Pause);
        let since = part.stalled.expect("it is waited for");
        assert_eq!((part.step(Hurry::No), part.stalled), (Step::Pause, Some(since)));
        part.stalled = since.checked_sub(STALL);
        assert_eq!(part.step(Hurry::Waited), Step::End);
    }
}
