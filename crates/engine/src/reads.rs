//! Reads of a pipeline's views as of one epoch: who asked, and how rows come back.
//!
//! A read is asked for by number in a tick, so that every worker answers as of the same epoch; the
//! rows come back through a channel, in slices, while the stream goes on. It wants all rows, those
//! of some keys, or all rows and from then on every change. Invariant: whoever asks gets an end of
//! every part, or an error, whatever happens to the pipeline.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::subscription::Tap;
use arrow::array::ArrayRef;
use highwater_core::{Epoch, WallMicros, WorkerIndex};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    sender: Sender<Answer>,
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
    Rows(usize, Vec<Batch>),
    Done(Moment),
    Busy,
    Failed(String),
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
    node: usize,
    wish: Wish,
    moment: Moment,
    sender: Sender<Answer>,
    joined: Vec<(usize, Sender<Answer>)>,
    over: bool,
}

/// A read that was asked for.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) read: u64,
    answers: Receiver<Answer>,
    reads: Reads,
    begun: usize,
    done: usize,
    /// What the rows may take in memory.
    most_bytes: u64,
    bytes: u64,
    answered: Answered,
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
        let (sender, answers) = channel();
        let mut open = self.open();
        if let Some(reason) = &open.closed {
            return Err(reason.clone());
        }
        let read = open.next;
        open.next += 1;
        let answered = Answered { moment: Moment::default(), nodes: vec![Vec::new(); nodes.len()] };
        open.requests.insert(read, Request { nodes, wish, sender });
        drop(open);
        Ok(Ticket { read, answers, reads: self.clone(), begun: 0, done: 0, most_bytes: u64::MAX, bytes: 0, answered })
    }

    /// The share of an operator in a read, for each time that the read names it.
    pub(crate) fn part(&self, read: u64, node: &str, _worker: WorkerIndex) -> Vec<ReadPart> {
        let open = self.open();
        let Some(request) = open.requests.get(&read) else { return Vec::new() };
        let named = request.nodes.iter().enumerate().filter(|(_, name)| *name == node);
        let part = |node| ReadPart {
            node,
            wish: request.wish.clone(),
            moment: Moment::default(),
            sender: request.sender.clone(),
            joined: Vec::new(),
            over: false,
        };
        named.map(|(index, _)| part(index)).collect()
    }

    /// Fails all reads and every later one, with a reason.
    pub(crate) fn close(&self, reason: &str) {
        let mut open = self.open();
        open.closed = Some(reason.to_owned());
        for (_, request) in open.requests.drain() {
            // Whoever asked may have given up.
            let _ = request.sender.send(Answer::Failed(reason.to_owned()));
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
        self.joined.push((other.node, other.sender.clone()));
    }

    fn send(&self, mut make: impl FnMut(usize) -> Answer) {
        for (node, sender) in std::iter::once((self.node, &self.sender)).chain(self.joined.iter().map(|(n, s)| (*n, s)))
        {
            // Whoever asked may have given up; the rows are then nobody's.
            let _ = sender.send(make(node));
        }
    }

    pub(crate) fn give(&mut self, rows: Vec<Batch>) {
        if !rows.is_empty() {
            self.send(|node| Answer::Rows(node, rows.clone()));
        }
    }

    /// Tells that its rows are those of its moment, whenever they come.
    pub(crate) fn begin(&self) {
        self.send(|_| Answer::Begun(self.moment));
    }

    pub(crate) fn finish(mut self) {
        self.over = true;
        self.send(|_| Answer::Done(self.moment));
    }

    /// Another read is in progress as of another epoch; the reader tries again.
    pub(crate) fn busy(mut self) {
        self.over = true;
        self.send(|_| Answer::Busy);
    }
}

impl Drop for ReadPart {
    fn drop(&mut self) {
        if !self.over {
            self.send(|_| Answer::Busy);
        }
    }
}

impl Ticket {
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
        let parts = workers * self.answered.nodes.len();
        let is_begun = self.answer(pipeline, timeout, |ticket| ticket.begun.max(ticket.done) >= parts)?;
        Ok(is_begun.then_some(self.answered.moment))
    }

    /// Waits for the parts of all workers. `None` when the read has to be asked for again.
    ///
    /// # Errors
    /// `NotRunning` when the pipeline fails meanwhile, `Timeout` after `timeout` without an answer.
    pub(crate) fn wait(mut self, pipeline: &str, workers: usize, timeout: Duration) -> Result<Option<Answered>> {
        let parts = workers * self.answered.nodes.len();
        let is_over = self.answer(pipeline, timeout, |ticket| ticket.done >= parts)?;
        Ok(is_over.then(|| std::mem::take(&mut self.answered)))
    }

    /// Takes answers until `enough`; false when the read has to be asked for again.
    fn answer(&mut self, pipeline: &str, timeout: Duration, enough: impl Fn(&Self) -> bool) -> Result<bool> {
        let mut deadline = Instant::now() + timeout;
        while !enough(self) {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Answer::Begun(as_of)) => {
                    self.answered.moment = as_of;
                    self.begun += 1;
                }
                Ok(Answer::Rows(node, rows)) => {
                    self.bytes += rows.iter().map(|batch| batch.rows.get_array_memory_size() as u64).sum::<u64>();
                    if self.bytes > self.most_bytes {
                        return Err(Error::TooMuch { pipeline: pipeline.to_owned(), bytes: self.most_bytes });
                    }
                    self.answered.nodes[node].extend(rows);
                    deadline = Instant::now() + timeout;
                }
                Ok(Answer::Done(as_of)) => {
                    self.answered.moment = as_of;
                    self.done += 1;
                }
                Ok(Answer::Busy) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
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

impl Drop for Ticket {
    fn drop(&mut self) {
        self.reads.open().requests.remove(&self.read);
    }
}
