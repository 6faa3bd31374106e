//! W2 `views`: hundreds of small views in one process, each a count per key over a generator of its
//! own, checkpointed at a fixed cadence.
//!
//! The latency is that of the oldest event of each epoch, from when it fell due until every view
//! showed it. Writes are what the kernel accounts to this process, in windows of 100 ms.

use super::{Plan, Scratch, database, emit, execute, rounded, rss_mb, start_logs};
use crate::exit::{Exit, Failure, Outcome};
use crate::figures;
use crate::process;
use crate::table::aligned;
use highwater::engine::metrics::Histogram;
use highwater::{CheckpointOutcome, Database, Pipeline, Status};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two readings of what was written.
const WINDOW: Duration = Duration::from_millis(100);
/// How long the views run before anything is measured.
const WARM_UP: Duration = Duration::from_secs(10);

/// Arguments of `highwater bench views`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench views --views 300 --seconds 60
  highwater bench views --views 1000 --rate 100")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// How many views
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    views: u64,
    /// Events a second for each of them
    #[arg(long, value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Keys of each of them
    #[arg(long, value_name = "K", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Milliseconds between two checkpoints of a view
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..))]
    cadence: u64,
}

/// Runs the workload.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    start_logs(&arguments.plan.flags)?;
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let (database, _) = database(&scratch.flags(&arguments.plan.flags, "views"))?;
    let started = Instant::now();
    create(&database, arguments)?;
    let created = started.elapsed();
    std::thread::sleep(WARM_UP);
    let measured = measure(&database, arguments)?;
    let mut fields = measured;
    fields["created_ms"] = json!(created.as_millis() as u64);
    show(&fields);
    emit("views", &arguments.plan, fields)?;
    database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, error))?;
    Ok(Exit::Done)
}

fn create(database: &Database, arguments: &Arguments) -> Outcome<()> {
    let Arguments { views, rate, keys, cadence, .. } = arguments;
    for view in 0..*views {
        execute(
            database,
            &format!(
                "CREATE SOURCE gen_{view} (k bigint, v bigint) WITH (connector = 'datagen', datagen.split.num = '1', \
                 datagen.rows.per.second = '{rate}', fields.k.kind = 'keyed', fields.k.keys = '{keys}', \
                 fields.v.kind = 'event_number')"
            ),
        )?;
        execute(
            database,
            &format!(
                "CREATE MATERIALIZED VIEW view_{view} WITH (checkpoint_interval = '{cadence}ms') AS \
                 SELECT k, count(*) AS n FROM gen_{view} GROUP BY k"
            ),
        )?;
    }
    Ok(())
}

/// Bytes that this process has had written to storage so far.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn measure(database: &Database, arguments: &Arguments) -> Outcome<Value> {
    let pipelines = database.pipelines();
    pipelines.iter().for_each(Pipeline::reset_histograms);
    let before: Vec<usize> = pipelines.iter().map(|pipeline| pipeline.history().len()).collect();
    let failed_before: u64 = pipelines.iter().map(|p| p.metrics().failed_checkpoints).sum();
    let epochs_before = epochs(&pipelines);
    let (rows_before, cpu_before, started) = (rows_in(&pipelines), process::cpu_time(), Instant::now());
    let (mut last, mut windows) = (written(), Vec::new());
    let seconds = arguments.plan.seconds;
    for window in 1..=seconds * 10 {
        let until = started + WINDOW * window as u32;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let now = written();
        windows.push(now - last);
        last = now;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = (process::cpu_time() - cpu_before).as_secs_f64() / elapsed;
    let rows = (rows_in(&pipelines) - rows_before) as f64 / elapsed;
    let epochs = (epochs(&pipelines) - epochs_before) as f64 / elapsed;
    let latency = Histogram::default();
    pipelines.iter().for_each(|pipeline| pipeline.add_latencies(&latency));
    let latency = latency.percentiles();
    let ms = |us: u64| rounded(us as f64 / 1e3);
    let failed: u64 = pipelines.iter().map(|p| p.metrics().failed_checkpoints).sum::<u64>() - failed_before;
    let (checkpoints, mut lateness) = cadence(&pipelines, &before, arguments.cadence);
    lateness.sort_unstable();
    if let Some(Status::Failed { reason, .. }) =
        pipelines.iter().map(Pipeline::status).find(|s| matches!(s, Status::Failed { .. }))
    {
        return Err(Failure::new(Exit::Pipeline, reason));
    }
    let seconds_of: Vec<f64> = windows.chunks(10).map(|second| second.iter().sum::<u64>() as f64).collect();
    let mean = windows.iter().sum::<u64>() as f64 / windows.len().max(1) as f64;
    let worst_second = seconds_of.iter().copied().fold(0.0, f64::max);
    windows.sort_unstable();
    Ok(json!({
        "views": arguments.views,
        "rate": arguments.rate,
        "keys": arguments.keys,
        "cadence_ms": arguments.cadence,
        "rows_per_s": rows.round(),
        "epochs_per_s": epochs.round(),
        "latency_ms_p50": ms(latency.p50), "latency_ms_p99": ms(latency.p99), "latency_ms_max": ms(latency.max),
        "rss_mb": rss_mb(),
        "cpu_cores": rounded(cpu),
        "threads": std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "write_mb_per_s": rounded(mean * 10.0 / 1e6),
        "write_1s_max_over_mean": rounded(worst_second / (mean * 10.0).max(1.0)),
        "write_100ms_p99_over_mean": rounded(figures::percentile(&windows, 99.0) as f64 / mean.max(1.0)),
        "checkpoints_per_s": rounded(checkpoints as f64 / elapsed),
        "failed_checkpoints": failed,
        "checkpoint_lateness_ms_p99": figures::percentile(&lateness, 99.0),
        "checkpoint_lateness_ms_max": lateness.last().copied().unwrap_or(0),
    }))
}

fn rows_in(pipelines: &[Pipeline]) -> u64 {
    pipelines.iter().map(|pipeline| pipeline.metrics().rows_in).sum()
}

fn epochs(pipelines: &[Pipeline]) -> u64 {
    pipelines.iter().map(|pipeline| pipeline.metrics().epochs).sum()
}

/// How many checkpoints there were, and by how many milliseconds each was further from the one
/// before than the cadence says.
fn cadence(pipelines: &[Pipeline], before: &[usize], cadence_ms: u64) -> (usize, Vec<u64>) {
    let (mut count, mut lateness) = (0, Vec::new());
    for (pipeline, before) in pipelines.iter().zip(before) {
        let history = pipeline.history();
        let published: Vec<_> = history.iter().filter(|r| r.outcome == CheckpointOutcome::Published).collect();
        count += published.len().saturating_sub(*before);
        for pair in published.windows(2).skip(before.saturating_sub(1)) {
            let apart = (pair[1].wall.0 - pair[0].wall.0) / 1000;
            lateness.push(u64::try_from(apart).unwrap_or(0).saturating_sub(cadence_ms));
        }
    }
    (count, lateness)
}

fn show(fields: &Value) {
    let number = |key: &str| fields[key].to_string();
    let names = [
        "views",
        "rows/s",
        "latency p50",
        "p99",
        "max ms",
        "cores",
        "RSS MB",
        "MB/s",
        "1s max",
        "100ms p99",
        "late p99",
    ];
    let row = [
        "views",
        "rows_per_s",
        "latency_ms_p50",
        "latency_ms_p99",
        "latency_ms_max",
        "cpu_cores",
        "rss_mb",
        "write_mb_per_s",
        "write_1s_max_over_mean",
        "write_100ms_p99_over_mean",
        "checkpoint_lateness_ms_p99",
    ]
    .map(number);
    eprint!("{}", aligned(&names.map(str::to_owned), &[true; 11], &[row.to_vec()]));
}
