//! What a log of changes must offer: rows inserted and deleted, at positions that several readers
//! share. The tables of a database are one such log.
//!
//! An ordinary [`crate::source::Source`] gives what it has; a change source gives, in each epoch,
//! exactly the changes up to a position that the clock has chosen for all of them, the *horizon*. So
//! an epoch shows a transaction over two tables whole or not at all, and it is known when a view
//! shows a given write. Before it follows the log, a reader gives what was there before it began:
//! the *backfill*, in pieces, in an order of its own, together with the changes to what it has given.

use crate::batch::Batch;
use crate::error::Result;
use crate::source::Offset;
use arrow::datatypes::SchemaRef;
use std::fmt::Debug;
use std::sync::Arc;

/// Wakes a reader's operator; may be called from any thread, and too often.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A log that several change sources read.
pub trait SharedLog: Debug + Send + Sync {
    /// The position to read to in one epoch after `after`: beyond it when there is more, but not
    /// beyond about `max_rows` rows, and never within a transaction.
    fn horizon(&self, after: u64, max_rows: u64) -> u64;

    /// The newest position.
    fn newest(&self) -> u64;
}

/// A source of changes as a statement describes it; one worker reads it.
pub trait ChangeSource: Debug + Send + Sync {
    /// The columns it gives.
    fn schema(&self) -> SchemaRef;

    /// Whether it only ever inserts.
    fn append_only(&self) -> bool;

    /// The places of the columns in which no two of the rows agree that are there; none when rows may be alike.
    fn key(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The log that it reads.
    fn log(&self) -> Arc<dyn SharedLog>;

    /// Opens it after `offset`, or for a backfill and what follows. `reader` names who reads: the
    /// log keeps what its readers may yet come back to.
    ///
    /// # Errors
    /// `Data` when the log no longer holds what follows the offset.
    fn open(&self, reader: &str, offset: Option<&Offset>, wake: Wake) -> Result<Box<dyn ChangeReader>>;

    /// Refuses an offset of another log than this one: of another database, or of what this one was before
    /// it lost something.
    ///
    /// # Errors
    /// `Data` when the offset is not one of this log.
    fn check(&self, offset: &Offset) -> Result<()>;

    /// Told after a checkpoint of `reader` is published: the offsets of all checkpoints that may
    /// still be restored. What all readers are past may go.
    fn retained(&self, reader: &str, offsets: &[Offset]);
}

/// An open change source.
pub trait ChangeReader: Send {
    /// Gives all changes up to `horizon`, and at most about `max_rows` rows of the backfill. Does
    /// not wait for I/O of the backfill, but may read the log's recent part from disk.
    ///
    /// # Errors
    /// `Connector` when reading fails, `Data` when what is to be read is damaged or gone.
    fn read(&mut self, horizon: u64, max_rows: usize, emit: &mut dyn FnMut(Batch)) -> Result<()>;

    /// The position after what was given so far.
    fn offset(&self) -> Offset;

    /// Whether a read with a far enough horizon would give rows now; later the reader wakes its owner.
    fn has_more(&self) -> bool;

    /// How much of the backfill was given, from 0 to 1; none once it is over.
    fn backfill(&self) -> Option<f64>;
}
