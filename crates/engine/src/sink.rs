//! What a sink's target must offer for exactly-once delivery, and nothing of how rows get there.
//!
//! Rows between two barriers collect in an *outbox* that is part of the checkpoint, or, if that one fails,
//! of the next ones, under its number. Once one that holds them is published the engine calls
//! [`Target::deliver`] with a [`DeliveryPermit`], again after a crash if need be. A target must therefore make a delivery take effect once per part of an
//! outbox, by a *fence* it keeps with the rows (a name, a row, a transaction's own offset).
//!
//! What a target can rest on:
//!
//! 1. A delivery is named by its checkpoint and its part, and has the same rows whenever it is made
//!    again. Each worker delivers parts of its own, all at the same time as the others.
//! 2. The checkpoints of one part are delivered in rising order, the next one after the one before
//!    has succeeded. So the newest checkpoint of each part is fence enough.
//! 3. A delivery whose process died or whose pipeline failed may be made again while the first one
//!    still goes on. So the fence must be checked and moved in one step with the rows.

use crate::batch::Batch;
use crate::error::Result;
use crate::source::Offset;
use arrow::datatypes::SchemaRef;
use highwater_core::CheckpointId;
use std::fmt::Debug;

/// The column, of a log's rows, of the epoch that changed them; see [`Sink::is_log`].
pub const EPOCH: &str = "__epoch";
/// The column, of a log's rows, of the time of that epoch, in microseconds since 1970-01-01 UTC.
pub const TIME: &str = "__time";

/// A sink as a statement describes it; shared by all workers.
pub trait Sink: Debug + Send + Sync {
    /// Checks that rows of `schema` can be delivered; called when the sink is created.
    /// `append_only` tells whether deletes can occur.
    ///
    /// # Errors
    /// `Plan` that names the option or column.
    fn check(&self, schema: &SchemaRef, append_only: bool) -> Result<()>;

    /// Whether one worker delivers all rows, so that those that change one thing come in the order in
    /// which they changed.
    fn is_gathered(&self) -> bool {
        self.is_log()
    }

    /// The places of the columns by which rows are known: all changes of a key of one checkpoint are then
    /// in one part, and the later ones of that key are delivered behind them, as long as the number of
    /// workers stays. Empty when that does not matter, and where one worker delivers all rows.
    ///
    /// # Errors
    /// `Plan` when there is no such column.
    fn key(&self, _schema: &SchemaRef) -> Result<Vec<usize>> {
        Ok(Vec::new())
    }

    /// Opens the target for one worker's parts, at the first delivery and again after each that
    /// failed. Runs on the same thread as the delivery, and may block as it may.
    ///
    /// # Errors
    /// `Connector` when it cannot be reached.
    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn Target>>;

    /// The newest checkpoint that its fence knows, of any part, where the target can tell without being
    /// written: then what a lost or an older root makes again is not taken for what was delivered. Asked
    /// when a pipeline starts.
    ///
    /// # Errors
    /// When it cannot be told now; the pipeline does not start then.
    fn delivered(&self) -> Result<Option<CheckpointId>> {
        Ok(None)
    }

    /// How far the target has come, where it can tell: all deliveries made so far are durable in it up to there. A
    /// checkpoint keeps it, as what was delivered before is in no outbox of it. Asked at every checkpoint, where it
    /// must not wait for others.
    ///
    /// # Errors
    /// When it cannot be told now; the checkpoint fails then.
    fn reached(&self) -> Result<Option<Offset>> {
        Ok(None)
    }

    /// Refuses to go on from a checkpoint that was made when the target had come as far as this, when it has not,
    /// as it is another one or an older copy: what was delivered since would be missing. Asked when a pipeline
    /// starts.
    ///
    /// # Errors
    /// `Data` when it is not what it was.
    fn check_reached(&self, _reached: &Offset) -> Result<()> {
        Ok(())
    }

    /// Whether it is a log of what changes, and not a copy of what there is. Then it is not given
    /// what its input held when it was made; one worker delivers all of it, unless [`Sink::is_gathered`]
    /// says otherwise; and its rows have two columns more, [`EPOCH`] and [`TIME`], both Int64 and never
    /// null.
    fn is_log(&self) -> bool {
        false
    }
}

/// Proof that rows are part of a published checkpoint: a tick that tells so yields one on every worker, as
/// [`highwater_checkpoint::CommitPermit`] does where the manifest is.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryPermit {
    checkpoint: CheckpointId,
}

impl DeliveryPermit {
    pub(crate) const fn of_published(checkpoint: CheckpointId) -> Self {
        Self { checkpoint }
    }

    /// The number of the checkpoint for which the rows were collected.
    #[must_use]
    pub const fn checkpoint(self) -> CheckpointId {
        self.checkpoint
    }
}

/// A place that rows are delivered to.
pub trait Target: Send {
    /// Delivers one part of a checkpoint's outbox, all of it or nothing, once: a part that was
    /// delivered before is left as it is. `rows` are in the order of their epochs. May block, also
    /// for ever: it has a thread to itself, and only the worker's later parts of this sink wait for it. After 30
    /// seconds people are told that it hangs, until it ends.
    ///
    /// # Errors
    /// `Connector` when it cannot be delivered now. After any error it is tried again, with pauses
    /// from 100 milliseconds to 30 seconds, until it succeeds; a clean stop gives it 10 seconds.
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> Result<()>;

    /// How many rows deliveries have left out since this was asked last, and why the first of them was;
    /// nothing where all were taken.
    fn left_out(&mut self) -> Option<(u64, String)> {
        None
    }
}
