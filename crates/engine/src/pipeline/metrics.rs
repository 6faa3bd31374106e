//! What a pipeline has counted and measured, for its owners.

use super::Pipeline;
use crate::metrics::{Histogram, Percentiles};
use highwater_core::Bytes;
use std::sync::atomic::Ordering::Relaxed;

/// A snapshot of a pipeline's counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Rows that sources gave in this process.
    pub rows_in: u64,
    /// Bad rows left out.
    pub skipped_rows: u64,
    /// Rows left out as they were late.
    pub late_rows: u64,
    /// Rows left out of views and sinks, as an expression cannot be computed for them or a target does
    /// not take them.
    pub failed_rows: u64,
    /// Epochs complete.
    pub epochs: u64,
    /// From an epoch's tick until it was complete, in microseconds.
    pub epoch_us: Percentiles,
    /// From when the oldest row of an epoch came to be until every view showed it, in microseconds;
    /// of sources that know when their rows came to be.
    pub latency_us: Percentiles,
    /// The longest pause between two batches of a worker in windows of 100 ms, in microseconds.
    pub gap_us: Percentiles,
    /// The stream's stop for a barrier, in microseconds, one a worker, operator and checkpoint.
    pub freeze_us: Percentiles,
    /// Keys held.
    pub keys: u64,
    /// Memory of the tables.
    pub state_bytes: Bytes,
    /// State dropped from memory since it was above the budget; it is read back when needed.
    pub evicted_bytes: Bytes,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Checkpoints failed.
    pub failed_checkpoints: u64,
    /// Checkpoints skipped, as nothing had changed.
    pub skipped_checkpoints: u64,
    /// Checkpoints passed over at restore.
    pub fallbacks: u64,
    /// Outbox parts delivered.
    pub delivered: u64,
    /// Failed deliveries.
    pub delivery_failures: u64,
    /// Deliveries that wait for sinks of which several tries in a row have failed, or one does not end.
    pub stuck_deliveries: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// The position in the log of changes that every view shows.
    pub horizon: u64,
    /// How much of the slowest backfill is done, in thousandths; 1,000 when none is under way.
    pub backfill: u64,
    /// Whether somebody has paused it.
    pub paused: bool,
}

impl Pipeline {
    /// Its counters now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let c = &self.inner.counters;
        let stuck = self.inner.state().run.as_ref().map_or(0, |run| run.spec.run.stuck());
        Metrics {
            rows_in: c.rows_in.load(Relaxed),
            skipped_rows: c.skipped_rows.load(Relaxed),
            late_rows: c.late_rows.load(Relaxed),
            failed_rows: c.failed_rows.load(Relaxed),
            epochs: c.epochs.load(Relaxed),
            epoch_us: c.epoch_time.percentiles(),
            latency_us: c.latency.percentiles(),
            gap_us: c.gap.percentiles(),
            freeze_us: c.freeze.percentiles(),
            keys: c.keys.load(Relaxed),
            state_bytes: Bytes(c.state_bytes.load(Relaxed)),
            evicted_bytes: Bytes(c.evicted_bytes.load(Relaxed)),
            checkpoints: c.published.load(Relaxed),
            failed_checkpoints: c.failed.load(Relaxed),
            skipped_checkpoints: c.skipped.load(Relaxed),
            fallbacks: c.fallbacks.load(Relaxed),
            delivered: c.delivered.load(Relaxed),
            delivery_failures: c.delivery_failures.load(Relaxed),
            stuck_deliveries: stuck as u64,
            restarts: self.inner.restarts.load(Relaxed),
            horizon: c.horizon.load(Relaxed),
            backfill: c.backfill.load(Relaxed),
            paused: c.paused.load(Relaxed),
        }
    }

    /// Adds its latencies to those of others.
    pub fn add_latencies(&self, to: &Histogram) {
        to.add(&self.inner.counters.latency);
    }

    /// Begins new histograms, for a new phase of a measurement.
    pub fn reset_histograms(&self) {
        let c = &self.inner.counters;
        c.epoch_time.reset();
        c.latency.reset();
        c.gap.reset();
        c.freeze.reset();
    }
}
