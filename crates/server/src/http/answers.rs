//! What the API answers with: pipelines, views and checkpoints as JSON. Pure.
//!
//! Invariants: names carry their units and keep their meaning; what is added later is a new name.

use highwater::engine::metrics::Percentiles;
use highwater::{CheckpointOutcome, CheckpointReport, Metrics, Pipeline, Status, Trigger};
use serde::Serialize;
use utoipa::ToSchema;

/// What a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doing {
    /// Its dataflow is being made.
    Starting,
    /// It waits to be restored, or is being restored.
    Restoring,
    /// It runs.
    Running,
    /// It has read all its input, and can be read.
    Finished,
    /// It failed and will be restarted from its last checkpoint.
    Failed,
    /// Another process has taken it over.
    Lost,
    /// It was stopped, or is being replaced.
    Stopped,
    /// It could not be started.
    Broken,
}

/// What a pipeline is doing, and why if it does not run.
pub(super) fn doing(status: &Status) -> (Doing, Option<String>) {
    match status {
        Status::Starting => (Doing::Starting, None),
        Status::Running => (Doing::Running, None),
        Status::Finished => (Doing::Finished, None),
        Status::Failed { reason, .. } => (Doing::Failed, Some(reason.clone())),
        Status::Lost { reason } => (Doing::Lost, Some(reason.clone())),
        Status::Stopped => (Doing::Stopped, None),
    }
}

/// Durations since the process began or the pipeline was last defined anew, in microseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Durations {
    /// How many.
    count: u64,
    /// The median.
    p50_us: u64,
    /// 99 of 100 are at most this.
    p99_us: u64,
    /// The longest.
    max_us: u64,
}

impl From<Percentiles> for Durations {
    fn from(found: Percentiles) -> Self {
        Self { count: found.count, p50_us: found.p50, p99_us: found.p99, max_us: found.max }
    }
}

/// How many checkpoints ended how.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckpointCounts {
    published: u64,
    failed: u64,
    /// Nothing had changed.
    skipped: u64,
    /// Passed over at a restore as they were damaged.
    fallbacks: u64,
}

/// A pipeline and its counters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PipelineAnswer {
    name: String,
    status: Doing,
    /// Why it does not run.
    reason: Option<String>,
    /// Rows that its sources gave.
    rows_in: u64,
    /// Bad rows that its sources left out.
    skipped_rows: u64,
    /// Rows left out as they were before the watermark.
    late_rows: u64,
    /// Rows left out of views and sinks, as they cannot be computed or taken.
    failed_rows: u64,
    /// Epochs completed.
    epochs: u64,
    /// From an epoch's tick until it was complete.
    epoch: Durations,
    /// The longest pauses between two batches of a worker, in windows of 100 ms.
    gap: Durations,
    /// How long the stream stood still for barriers.
    freeze: Durations,
    /// Keys in its state.
    keys: u64,
    /// Memory that its state takes.
    state_bytes: u64,
    /// State dropped from memory as it was above the budget.
    evicted_bytes: u64,
    checkpoints: CheckpointCounts,
    /// Parts of outboxes delivered to sinks.
    deliveries: u64,
    /// Deliveries that failed and were tried again.
    delivery_failures: u64,
    /// Restarts after failures.
    restarts: u64,
    /// The position in the log of table changes that all its views show.
    log_position: u64,
    /// How much of its slowest backfill is done, from 0 to 1.
    backfill: f64,
}

impl PipelineAnswer {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        Self::new(pipeline.title(), &pipeline.status(), &pipeline.metrics())
    }

    pub(super) fn new(name: &str, status: &Status, metrics: &Metrics) -> Self {
        let (status, reason) = doing(status);
        Self {
            name: name.to_owned(),
            status,
            reason,
            rows_in: metrics.rows_in,
            skipped_rows: metrics.skipped_rows,
            late_rows: metrics.late_rows,
            failed_rows: metrics.failed_rows,
            epochs: metrics.epochs,
            epoch: metrics.epoch_us.into(),
            gap: metrics.gap_us.into(),
            freeze: metrics.freeze_us.into(),
            keys: metrics.keys,
            state_bytes: metrics.state_bytes.0,
            evicted_bytes: metrics.evicted_bytes.0,
            checkpoints: CheckpointCounts {
                published: metrics.checkpoints,
                failed: metrics.failed_checkpoints,
                skipped: metrics.skipped_checkpoints,
                fallbacks: metrics.fallbacks,
            },
            deliveries: metrics.delivered,
            delivery_failures: metrics.delivery_failures,
            restarts: metrics.restarts,
            log_position: metrics.horizon,
            backfill: metrics.backfill as f64 / 1000.0,
        }
    }
}

/// A materialized view. Its figures are those of its pipeline, which it may share with other views.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ViewAnswer {
    name: String,
    pipeline: String,
    status: Doing,
    /// Why its pipeline does not run.
    reason: Option<String>,
    /// Keys in the state; none when the pipeline is broken, as all that follow.
    keys: Option<u64>,
    /// Memory that the state takes.
    state_bytes: Option<u64>,
    /// Rows that the sources gave.
    rows_in: Option<u64>,
    /// Restarts after failures.
    restarts: Option<u64>,
    /// How much of the slowest backfill is done, from 0 to 1.
    backfill: Option<f64>,
}

/// What the catalog says of a materialized view.
#[derive(Clone, Debug)]
pub(super) struct Cataloged {
    pub(super) name: String,
    pub(super) pipeline: String,
    /// What its pipeline is doing, in words.
    pub(super) status: String,
}

impl ViewAnswer {
    /// A view with its pipeline, if that was started.
    pub(super) fn new(view: Cataloged, pipeline: Option<(&Status, &Metrics)>) -> Self {
        let metrics = pipeline.map(|(_, metrics)| metrics);
        let (status, reason) = match pipeline {
            Some((status, _)) => doing(status),
            None if view.status == "restoring" => (Doing::Restoring, None),
            None => (Doing::Broken, Some(view.status.trim_start_matches("broken: ").to_owned())),
        };
        Self {
            name: view.name,
            pipeline: view.pipeline,
            status,
            reason,
            keys: metrics.map(|metrics| metrics.keys),
            state_bytes: metrics.map(|metrics| metrics.state_bytes.0),
            rows_in: metrics.map(|metrics| metrics.rows_in),
            restarts: metrics.map(|metrics| metrics.restarts),
            backfill: metrics.map(|metrics| metrics.backfill as f64 / 1000.0),
        }
    }
}

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// It is official.
    Published,
    /// It is not; its changes belong to the next one.
    Failed,
}

/// What one checkpoint was and cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckpointAnswer {
    /// Its number.
    id: u64,
    /// The epoch after which the barrier stood.
    epoch: u64,
    /// Who asked for it: `interval`, `manual`, `final` or `creation`.
    #[schema(value_type = String, example = "manual")]
    trigger: Trigger,
    /// When the barrier was asked for, in microseconds since 1970.
    at_us: i64,
    outcome: Ended,
    /// Why it failed.
    reason: Option<String>,
    /// The longest time that a worker's stream stood still for it.
    freeze_us: u64,
    /// From the barrier's tick until it was published.
    duration_ms: u64,
    /// Keys changed since the one before.
    changed_keys: u64,
    /// Encoded changes.
    delta_bytes: u64,
    /// State written anew so that old files fall out of need.
    base_bytes: u64,
    /// What one full image of the state takes.
    image_bytes: u64,
    /// Given to the store.
    uploaded_bytes: u64,
    /// All files that it needs.
    full_bytes: u64,
    /// How many files these are.
    files: usize,
}

impl CheckpointAnswer {
    pub(super) fn of(report: &CheckpointReport) -> Self {
        let (outcome, reason) = match &report.outcome {
            CheckpointOutcome::Published => (Ended::Published, None),
            CheckpointOutcome::Failed(reason) => (Ended::Failed, Some(reason.clone())),
        };
        Self {
            id: report.id.0,
            epoch: report.epoch.0,
            trigger: report.trigger,
            at_us: report.wall.0,
            outcome,
            reason,
            freeze_us: report.freeze_us,
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            changed_keys: report.changed_keys,
            delta_bytes: report.delta_bytes.0,
            base_bytes: report.base_bytes.0,
            image_bytes: report.image_bytes.0,
            uploaded_bytes: report.uploaded_bytes.0,
            full_bytes: report.full_bytes.0,
            files: report.files,
        }
    }
}

/// Whether a pipeline takes rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PauseAnswer {
    pub(super) pipeline: String,
    /// Whether it was told to take no more rows.
    pub(super) paused: bool,
}
