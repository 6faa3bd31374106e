//! What a pipeline measures of itself, cheap enough for the hot path: relaxed atomics, and one
//! reading of the clock a batch.
//!
//! Invariant: nothing here blocks or allocates on a worker once it is set up, but where rows are left out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Buckets a doubling, as a power of two.
const FINE: usize = 4;
/// How many buckets a histogram has, from 1 µs to beyond an hour.
const BUCKETS: usize = 32 << FINE;

/// A histogram of durations in microseconds with a relative error of at most 6 %, and their maximum.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), max: AtomicU64::new(0) }
    }
}

/// The percentiles of a histogram, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many durations.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The longest, exact.
    pub max: u64,
}

fn bucket_of(micros: u64) -> usize {
    let value = micros.max(1);
    let doubling = value.ilog2() as usize;
    let part = (value << FINE >> doubling) as usize - (1 << FINE);
    ((doubling << FINE) + part).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (doubling, part) = (bucket >> FINE, (bucket as u64 & ((1 << FINE) - 1)) + (1 << FINE));
    (((part + 1) << doubling) - 1) >> FINE
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        self.counts[bucket_of(micros)].fetch_add(1, Relaxed);
        self.max.fetch_max(micros, Relaxed);
    }

    /// Adds what another one has counted.
    pub fn add(&self, other: &Self) {
        for (ours, theirs) in self.counts.iter().zip(&other.counts) {
            ours.fetch_add(theirs.load(Relaxed), Relaxed);
        }
        self.max.fetch_max(other.max.load(Relaxed), Relaxed);
    }

    /// Its percentiles now.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max = self.max.load(Relaxed);
        let at = |share: f64| {
            let rank = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|n| {
                seen += n;
                seen >= rank && seen > 0
            });
            bucket.map_or(0, |b| top_of(b).min(max))
        };
        Percentiles { count, p50: at(0.5), p99: at(0.99), max }
    }

    /// Starts again from nothing, for a new phase of a measurement.
    pub fn reset(&self) {
        for count in &self.counts {
            count.store(0, Relaxed);
        }
        self.max.store(0, Relaxed);
    }
}

/// One pipeline's counters, shared by its workers and its handle.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rows that sources gave.
    pub rows_in: AtomicU64,
    /// Rows that sources left out because they were bad.
    pub skipped_rows: AtomicU64,
    /// Rows left out because their time was before the watermark.
    pub late_rows: AtomicU64,
    /// Rows left out of views and sinks, as an expression cannot be computed for them or a target does
    /// not take them.
    pub failed_rows: AtomicU64,
    /// Why the newest of them was.
    pub last_failed_row: Mutex<Option<String>>,
    /// Epochs complete on all workers.
    pub epochs: AtomicU64,
    /// From an epoch's tick until it is complete everywhere.
    pub epoch_time: Histogram,
    /// The longest time between two finished batches of a worker, in windows of 100 ms.
    pub gap: Histogram,
    /// The time in which the stream stood still for a barrier, a worker and checkpoint.
    pub freeze: Histogram,
    /// Keys in the tables of all workers, as of their last epochs.
    pub keys: AtomicU64,
    /// Bytes of memory of these tables.
    pub state_bytes: AtomicU64,
    /// State dropped from memory.
    pub evicted_bytes: AtomicU64,
    /// Checkpoints published.
    pub published: AtomicU64,
    /// Checkpoints that failed.
    pub failed: AtomicU64,
    /// Checkpoints skipped since nothing had changed.
    pub skipped: AtomicU64,
    /// Checkpoints passed over at a restore because they did not verify.
    pub fallbacks: AtomicU64,
    /// Outbox parts delivered.
    pub delivered: AtomicU64,
    /// Deliveries that failed and were tried again.
    pub delivery_failures: AtomicU64,
    /// From when the oldest row of an epoch came to be until every view showed it.
    pub latency: Histogram,
    /// Where the change sources are that every view shows.
    pub horizon: AtomicU64,
    /// The share of the slowest backfill that is done, in thousandths; 1,000 when none is under way.
    pub backfill: AtomicU64,
    /// Whether its sources are asked for nothing, as somebody has paused it.
    pub paused: AtomicBool,
}

/// Measures the longest pause between two finished batches in each window of 100 ms.
///
/// Windows in which the worker had nothing to do are not pauses: [`GapMeter::idle`] says so.
#[derive(Debug)]
pub(crate) struct GapMeter {
    last: Option<Instant>,
    window_started: Instant,
    longest: Duration,
}

const WINDOW: Duration = Duration::from_millis(100);

impl GapMeter {
    pub(crate) fn new() -> Self {
        Self { last: None, window_started: Instant::now(), longest: Duration::ZERO }
    }

    /// A batch is finished.
    pub(crate) fn finished(&mut self, now: Instant, into: &Histogram) {
        if let Some(last) = self.last {
            self.longest = self.longest.max(now - last);
        }
        self.last = Some(now);
        if now - self.window_started >= WINDOW {
            into.record(self.longest);
            self.longest = Duration::ZERO;
            self.window_started = now;
        }
    }

    /// There is nothing to do: the time until the next batch is no pause.
    pub(crate) const fn idle(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for micros in [1u64, 2, 3, 5, 100, 1000, 65_535, 10_000_000] {
            let bucket = bucket_of(micros);
            assert!(micros <= top_of(bucket), "{micros} is beyond bucket {bucket}");
            assert!(bucket == 0 || micros > top_of(bucket - 1) || micros < 4, "{micros} belongs below {bucket}");
        }
    }

    #[test]
    fn percentiles_are_near_and_the_maximum_exact() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let found = histogram.percentiles();
        assert_eq!((found.count, found.max), (1000, 1000));
        assert!((500..=600).contains(&found.p50) && (990..=1000).contains(&found.p99), "{found:?}");
    }
}
