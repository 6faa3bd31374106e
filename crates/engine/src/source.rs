//! What a source of rows must offer, and nothing of how a pipeline drives it.
//!
//! A source is divided into *splits*, each with an *offset*: a JSON value that only the source
//! understands, and from which reading goes on exactly. The engine deals splits over workers, keeps
//! offsets in checkpoints and seeks on restore. A source never sees epochs or checkpoints.

use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::fmt::Debug;
use std::time::Duration;

/// A position in a split, opaque to the engine.
pub type Offset = serde_json::Value;

/// A source as a statement describes it; shared by all workers.
pub trait Source: Debug + Send + Sync {
    /// The columns it gives.
    fn schema(&self) -> SchemaRef;

    /// The splits that exist now, by names that stay theirs for ever. May read from outside; called
    /// on a background thread, at start and then every [`Source::discovery`] interval.
    ///
    /// # Errors
    /// `Connector` when the outside cannot be asked.
    fn splits(&self) -> Result<Vec<String>>;

    /// How often to look for new splits; `None` when the first answer is complete.
    fn discovery(&self) -> Option<Duration> {
        None
    }

    /// Whether [`SplitReader::poll`] may wait for I/O or parse for long. Such readers run on
    /// background threads behind a bounded queue; others run on the worker itself.
    fn blocking(&self) -> bool;

    /// Opens a split after `offset`, or at its start.
    ///
    /// # Errors
    /// `Connector` when it cannot be opened, `Data` when the offset is not one of this source's.
    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>>;
}

/// What a poll of a split found.
#[derive(Debug)]
pub enum Polled {
    /// Rows, at most as many as asked for and at least one.
    Rows(RecordBatch),
    /// Nothing now; ask again after this time.
    Idle(Duration),
    /// The split has ended and will never have more.
    End,
}

/// An open split.
pub trait SplitReader: Send {
    /// The next rows, at most `max_rows`. Waits at most some tens of milliseconds, and not at all
    /// when the source is not [`Source::blocking`].
    ///
    /// # Errors
    /// `Connector` when reading fails (it is reopened at its last offset), `Data` when a row is bad
    /// and the source's policy is to fail.
    fn poll(&mut self, max_rows: usize) -> Result<Polled>;

    /// The position after the rows given so far.
    fn offset(&self) -> Offset;

    /// How long ago the oldest row of the last poll came to be, where the source knows.
    fn age(&self) -> Option<Duration> {
        None
    }

    /// Rows left out so far because they were bad and the policy says to skip them.
    fn skipped(&self) -> u64 {
        0
    }
}
