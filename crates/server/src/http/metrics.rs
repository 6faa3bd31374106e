//! What is measured, as one table each for pipelines and for the process: `/metrics` and
//! docs/metrics.md both follow them.
//!
//! Invariants: a name keeps its meaning; times are in seconds and sizes in bytes; nothing here reads
//! a disk or waits for a statement.

use super::encoder::{CONTENT_TYPE, Family, Kind, Page, Samples};
use super::failed::Failed;
use super::{GLANCE, Shared};
use crate::process;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use highwater::engine::metrics::Percentiles;
use highwater::{CheckpointOutcome, CheckpointReport, Metrics, Pipeline, Status, TablesUsage};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What was read of one pipeline.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) name: String,
    /// It runs, or has read all its input.
    pub(super) is_up: bool,
    pub(super) metrics: Metrics,
    /// Its newest published checkpoint.
    pub(super) last: Option<CheckpointReport>,
}

/// What was read of the process.
#[derive(Debug)]
pub(super) struct ProcessReading {
    pub(super) started_at: SystemTime,
    pub(super) uptime: Duration,
    /// In bytes; 0 when the system does not tell, neither this nor the CPU time.
    pub(super) resident: u64,
    pub(super) cpu: Duration,
    /// None until the database is open.
    pub(super) tables: Option<TablesUsage>,
    /// None as long as that could not be seen.
    pub(super) broken: Option<usize>,
}

/// How the samples of a pipeline come about.
enum Of {
    Count(fn(&Metrics) -> u64),
    /// A histogram.
    Durations(fn(&Metrics) -> Percentiles),
    /// Of the newest published checkpoint, none as long as there is none.
    Last(fn(&CheckpointReport) -> f64),
    Up,
    Backfill,
    /// Checkpoints by how they ended.
    Checkpoints,
}

/// What is measured of every pipeline.
pub(super) struct OfPipeline {
    pub(super) family: Family,
    of: Of,
}

/// What is measured of the process.
pub(super) struct OfProcess {
    pub(super) family: Family,
    /// None when it is not known.
    of: fn(&ProcessReading) -> Option<f64>,
}

const fn of_pipeline(name: &'static str, kind: Kind, of: Of, help: &'static str) -> OfPipeline {
    OfPipeline { family: Family { name, kind, help }, of }
}

const fn of_process(
    name: &'static str,
    kind: Kind,
    of: fn(&ProcessReading) -> Option<f64>,
    help: &'static str,
) -> OfProcess {
    OfProcess { family: Family { name, kind, help }, of }
}

/// Who is measured.
pub(super) const BUILD: Family =
    Family { name: "highwater_build_info", kind: Kind::Gauge, help: "Always 1; the label version says which this is." };

/// Every family with a label `pipeline`.
pub(super) const OF_PIPELINE: [OfPipeline; 25] = [
    of_pipeline("highwater_pipeline_up", Kind::Gauge, Of::Up, "1 when it runs or has read all its input, else 0."),
    of_pipeline(
        "highwater_pipeline_rows_in_total",
        Kind::Counter,
        Of::Count(|m| m.rows_in),
        "Rows that its sources gave.",
    ),
    of_pipeline(
        "highwater_pipeline_skipped_rows_total",
        Kind::Counter,
        Of::Count(|m| m.skipped_rows),
        "Bad rows that its sources left out.",
    ),
    of_pipeline(
        "highwater_pipeline_late_rows_total",
        Kind::Counter,
        Of::Count(|m| m.late_rows),
        "Rows left out as they were before the watermark.",
    ),
    of_pipeline(
        "highwater_pipeline_failed_rows_total",
        Kind::Counter,
        Of::Count(|m| m.failed_rows),
        "Rows left out of views and sinks as they cannot be computed or taken.",
    ),
    of_pipeline("highwater_pipeline_epochs_total", Kind::Counter, Of::Count(|m| m.epochs), "Epochs completed."),
    of_pipeline(
        "highwater_pipeline_epoch_seconds",
        Kind::Summary,
        Of::Durations(|m| m.epoch_us),
        "From an epoch's tick until it was complete on all workers.",
    ),
    of_pipeline(
        "highwater_pipeline_gap_seconds",
        Kind::Summary,
        Of::Durations(|m| m.gap_us),
        "The longest pause between two batches of a worker, in windows of 100 ms.",
    ),
    of_pipeline(
        "highwater_pipeline_freeze_seconds",
        Kind::Summary,
        Of::Durations(|m| m.freeze_us),
        "How long the stream stood still for a barrier, by worker, operator and checkpoint.",
    ),
    of_pipeline("highwater_pipeline_keys", Kind::Gauge, Of::Count(|m| m.keys), "Keys in its state."),
    of_pipeline(
        "highwater_pipeline_state_bytes",
        Kind::Gauge,
        Of::Count(|m| m.state_bytes.0),
        "Memory that its state takes.",
    ),
    of_pipeline(
        "highwater_pipeline_evicted_bytes_total",
        Kind::Counter,
        Of::Count(|m| m.evicted_bytes.0),
        "State dropped from memory as it was above the budget.",
    ),
    of_pipeline(
        "highwater_pipeline_checkpoints_total",
        Kind::Counter,
        Of::Checkpoints,
        "Checkpoints by outcome: published, failed, or skipped as nothing had changed.",
    ),
    of_pipeline(
        "highwater_pipeline_checkpoint_fallbacks_total",
        Kind::Counter,
        Of::Count(|m| m.fallbacks),
        "Checkpoints passed over at a restore as they were damaged.",
    ),
    of_pipeline(
        "highwater_pipeline_last_checkpoint_timestamp_seconds",
        Kind::Gauge,
        Of::Last(|report| report.wall.0 as f64 / 1e6),
        "When the barrier of its newest published checkpoint was asked for, since 1970.",
    ),
    of_pipeline(
        "highwater_pipeline_last_checkpoint_duration_seconds",
        Kind::Gauge,
        Of::Last(|report| report.duration.as_secs_f64()),
        "How long its newest published checkpoint took, from the barrier until it was published.",
    ),
    of_pipeline(
        "highwater_pipeline_last_checkpoint_freeze_seconds",
        Kind::Gauge,
        Of::Last(|report| report.freeze_us as f64 / 1e6),
        "The longest that a worker stood still for its newest published checkpoint.",
    ),
    of_pipeline(
        "highwater_pipeline_last_checkpoint_uploaded_bytes",
        Kind::Gauge,
        Of::Last(|report| report.uploaded_bytes.0 as f64),
        "What its newest published checkpoint gave to the store.",
    ),
    of_pipeline(
        "highwater_pipeline_last_checkpoint_full_bytes",
        Kind::Gauge,
        Of::Last(|report| report.full_bytes.0 as f64),
        "All files that its newest published checkpoint needs.",
    ),
    of_pipeline(
        "highwater_pipeline_deliveries_total",
        Kind::Counter,
        Of::Count(|m| m.delivered),
        "Parts of outboxes delivered to sinks.",
    ),
    of_pipeline(
        "highwater_pipeline_delivery_failures_total",
        Kind::Counter,
        Of::Count(|m| m.delivery_failures),
        "Deliveries that failed and were tried again.",
    ),
    of_pipeline(
        "highwater_pipeline_stuck_deliveries",
        Kind::Gauge,
        Of::Count(|m| m.stuck_deliveries),
        "Deliveries that wait for sinks of which three tries in a row have failed or one has not ended for 30 s.",
    ),
    of_pipeline(
        "highwater_pipeline_restarts_total",
        Kind::Counter,
        Of::Count(|m| m.restarts),
        "Restarts after failures.",
    ),
    of_pipeline(
        "highwater_pipeline_backfill_ratio",
        Kind::Gauge,
        Of::Backfill,
        "How much of its slowest backfill is done, from 0 to 1; 1 when none is under way.",
    ),
    of_pipeline(
        "highwater_pipeline_log_position",
        Kind::Gauge,
        Of::Count(|m| m.horizon),
        "The position in the log of table changes that all its views show; 0 when it reads no table.",
    ),
];

/// Every family without labels.
pub(super) const OF_PROCESS: [OfProcess; 8] = [
    of_process(
        "highwater_uptime_seconds",
        Kind::Gauge,
        |reading| Some(reading.uptime.as_secs_f64()),
        "How long the server has been up.",
    ),
    of_process(
        "highwater_broken_objects",
        Kind::Gauge,
        |reading| reading.broken.map(|broken| broken as f64),
        "Objects and pipelines that could not be brought back when the database was opened.",
    ),
    of_process(
        "highwater_tables_bytes",
        Kind::Gauge,
        |reading| reading.tables.map(|tables| tables.file_bytes.0 as f64),
        "Files of the tables, their rows and their log of changes.",
    ),
    of_process(
        "highwater_log_position",
        Kind::Gauge,
        |reading| reading.tables.map(|tables| tables.position as f64),
        "The newest position in the log of table changes.",
    ),
    of_process(
        "highwater_log_commits",
        Kind::Gauge,
        |reading| reading.tables.map(|tables| tables.commits as f64),
        "Commits in the log of table changes that a pipeline still needs.",
    ),
    of_process(
        "process_start_time_seconds",
        Kind::Gauge,
        |reading| reading.started_at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs_f64()),
        "When the server was started, since 1970.",
    ),
    of_process(
        "process_resident_memory_bytes",
        Kind::Gauge,
        |reading| Some(reading.resident as f64).filter(|bytes| *bytes > 0.0),
        "Memory of the process.",
    ),
    of_process(
        "process_cpu_seconds_total",
        Kind::Counter,
        |reading| (reading.resident > 0).then_some(reading.cpu.as_secs_f64()),
        "CPU time of the process, all threads together.",
    ),
];

/// Answers `GET /metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    summary = "Metrics in Prometheus' text format",
    responses((status = 200, description = "All metrics", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Failed> {
    let database = shared.database.get().cloned();
    let known = match &database {
        Some(database) => shared.known(database, GLANCE).await.newest(),
        None => None,
    };
    let (uptime, started_at) = (shared.started.elapsed(), shared.started_at);
    let rendered = tokio::task::spawn_blocking(move || {
        let of_process = ProcessReading {
            started_at,
            uptime,
            resident: process::resident(),
            cpu: process::cpu_time(),
            tables: database.map(|database| database.tables_usage()),
            broken: known.as_ref().map(|known| known.broken.len()),
        };
        let readings: Vec<Reading> = known.iter().flat_map(|known| &known.pipelines).map(read).collect();
        render(&of_process, &readings)
    });
    let page = rendered.await.map_err(|error| Failed::new("XX000", format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response())
}

fn read(pipeline: &Pipeline) -> Reading {
    let published = |report: &CheckpointReport| report.outcome == CheckpointOutcome::Published;
    Reading {
        name: pipeline.title().to_owned(),
        is_up: matches!(pipeline.status(), Status::Running | Status::Finished),
        metrics: pipeline.metrics(),
        last: pipeline.history().into_iter().rev().find(published),
    }
}

/// The page that tells these readings.
pub(super) fn render(of_process: &ProcessReading, pipelines: &[Reading]) -> String {
    let mut page = Page::default();
    page.family(&BUILD).add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    for measure in &OF_PROCESS {
        if let Some(value) = (measure.of)(of_process) {
            page.family(&measure.family).add(&[], value);
        }
    }
    for measure in &OF_PIPELINE {
        let mut samples = page.family(&measure.family);
        for reading in pipelines {
            measure.of.sample(reading, &mut samples);
        }
    }
    page.finish()
}

impl Of {
    fn sample(&self, reading: &Reading, samples: &mut Samples<'_>) {
        let pipeline = ("pipeline", reading.name.as_str());
        let metrics = &reading.metrics;
        match self {
            Self::Count(of) => samples.add(&[pipeline], of(metrics) as f64),
            Self::Up => samples.add(&[pipeline], f64::from(u8::from(reading.is_up))),
            Self::Backfill => samples.add(&[pipeline], metrics.backfill as f64 / 1000.0),
            Self::Last(of) => {
                if let Some(report) = &reading.last {
                    samples.add(&[pipeline], of(report));
                }
            }
            Self::Durations(of) => {
                let found = of(metrics);
                for (quantile, micros) in [("0.5", found.p50), ("0.99", found.p99), ("1", found.max)] {
                    samples.add(&[pipeline, ("quantile", quantile)], micros as f64 / 1e6);
                }
                samples.add_count(&[pipeline], found.count);
            }
            Self::Checkpoints => {
                let outcomes = [
                    ("published", metrics.checkpoints),
                    ("failed", metrics.failed_checkpoints),
                    ("skipped", metrics.skipped_checkpoints),
                ];
                for (outcome, count) in outcomes {
                    samples.add(&[pipeline, ("outcome", outcome)], count as f64);
                }
            }
        }
    }
}
