//! Where a split's rows come from, as its source operator sees it: read on the worker itself, or
//! behind a bounded queue that background tasks fill.
//!
//! Invariant: the offset a feed gives is the one after the rows it has handed out, never after rows
//! that still wait in its queue.

use crate::changes::Wake;
use crate::error::Result;
use crate::source::{Offset, Polled, Source, SplitReader};
use arrow::array::RecordBatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};
use tokio::task::spawn_blocking;

/// How many batches may wait behind a blocking split.
const QUEUE: usize = 4;
/// How many rows a background read asks for.
const READ_ROWS: usize = 8192;

/// What a feed has now.
pub(crate) enum Fed {
    Rows(RecordBatch),
    /// Nothing before this moment.
    Until(Instant),
    /// Nothing until the feed wakes its owner.
    Waiting,
    End,
}

/// One open split.
pub(crate) struct Feed {
    /// See [`SplitReader::age`]; none behind a queue.
    pub(crate) age: Option<Duration>,
    pub(crate) split: String,
    pub(crate) offset: Offset,
    pub(crate) skipped: u64,
    origin: Origin,
}

enum Origin {
    Inline(Box<dyn SplitReader>),
    Queued(Receiver<Message>),
    Ended,
}

enum Message {
    Rows { rows: RecordBatch, offset: Offset, skipped: u64 },
    End { offset: Offset, skipped: u64 },
    Failed(crate::error::Error),
}

impl Feed {
    /// Opens a split after `offset`, on this thread or behind a queue as the source needs.
    pub(crate) fn open(
        source: &Arc<dyn Source>,
        split: String,
        offset: Option<Offset>,
        background: &Handle,
        wake: Wake,
    ) -> Result<Self> {
        let origin = if source.blocking() {
            let (sender, receiver) = channel(QUEUE);
            background.spawn(fill(Arc::clone(source), split.clone(), offset.clone(), sender, wake));
            Origin::Queued(receiver)
        } else {
            Origin::Inline(source.open(&split, offset.as_ref())?)
        };
        let offset = match (&origin, offset) {
            (_, Some(offset)) => offset,
            (Origin::Inline(reader), None) => reader.offset(),
            _ => Offset::Null,
        };
        Ok(Self { age: None, split, offset, skipped: 0, origin })
    }

    /// The next rows, without waiting. A queued feed may give more than `max_rows`.
    pub(crate) fn poll(&mut self, max_rows: usize) -> Result<Fed> {
        match &mut self.origin {
            Origin::Ended => Ok(Fed::End),
            Origin::Inline(reader) => {
                let fed = match reader.poll(max_rows)? {
                    Polled::Rows(rows) => Fed::Rows(rows),
                    Polled::Idle(wait) => Fed::Until(Instant::now() + wait),
                    Polled::End => Fed::End,
                };
                self.offset = reader.offset();
                self.skipped = reader.skipped();
                self.age = reader.age();
                if matches!(fed, Fed::End) {
                    self.origin = Origin::Ended;
                }
                Ok(fed)
            }
            Origin::Queued(queue) => match queue.try_recv() {
                Ok(message) => self.receive(message),
                Err(TryRecvError::Empty) => Ok(Fed::Waiting),
                Err(TryRecvError::Disconnected) => {
                    Err(crate::error::Error::connector(&self.split, "its reader stopped without a reason"))
                }
            },
        }
    }

    fn receive(&mut self, message: Message) -> Result<Fed> {
        match message {
            Message::Rows { rows, offset, skipped } => {
                (self.offset, self.skipped) = (offset, skipped);
                Ok(Fed::Rows(rows))
            }
            Message::End { offset, skipped } => {
                (self.offset, self.skipped) = (offset, skipped);
                self.origin = Origin::Ended;
                Ok(Fed::End)
            }
            Message::Failed(error) => Err(error),
        }
    }

    /// Whether a poll would give rows or an end at once.
    pub(crate) fn has_waiting(&self) -> bool {
        match &self.origin {
            Origin::Queued(queue) => !queue.is_empty(),
            Origin::Inline(_) | Origin::Ended => false,
        }
    }

    pub(crate) const fn ended(&self) -> bool {
        matches!(self.origin, Origin::Ended)
    }
}

/// Reads a blocking split until it ends, fails or nobody listens. Idle splits hold no thread.
async fn fill(source: Arc<dyn Source>, split: String, offset: Option<Offset>, queue: Sender<Message>, wake: Wake) {
    let opened = spawn_blocking(move || source.open(&split, offset.as_ref())).await;
    let mut reader = match opened {
        Ok(Ok(reader)) => reader,
        Ok(Err(error)) => return send(&queue, Message::Failed(error), &wake).await,
        Err(error) => return send(&queue, panicked(&error), &wake).await,
    };
    loop {
        let step = spawn_blocking(move || {
            let polled = reader.poll(READ_ROWS);
            (reader, polled)
        });
        let polled;
        (reader, polled) = match step.await {
            Ok(done) => done,
            Err(error) => return send(&queue, panicked(&error), &wake).await,
        };
        let (offset, skipped) = (reader.offset(), reader.skipped());
        match polled {
            Ok(Polled::Rows(rows)) => send(&queue, Message::Rows { rows, offset, skipped }, &wake).await,
            Ok(Polled::Idle(wait)) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
            Ok(Polled::End) => return send(&queue, Message::End { offset, skipped }, &wake).await,
            Err(error) => return send(&queue, Message::Failed(error), &wake).await,
        }
        if queue.is_closed() {
            return;
        }
    }
}

fn panicked(error: &tokio::task::JoinError) -> Message {
    Message::Failed(crate::error::Error::connector("source", format!("its reader panicked: {error}")))
}

async fn send(queue: &Sender<Message>, message: Message, wake: &Wake) {
    if queue.send(message).await.is_ok() {
        wake();
    }
}
