//! W1 `keyed`: count and sum per key, with checkpoints off, every 10 s and every 1 s on the same
//! state, for events that hit all keys and for events that hit one in a hundred.
//!
//! Speed without checkpoints is measured before and after each phase with them, and overhead is told
//! against the mean of the two, since machines drift. Gaps stand beside those of a thread that does
//! nothing but read the clock, since machines pause their guests.

use super::{KeyedView, Plan, Scratch, database, emit, execute, machine, rounded, rss_mb, start_logs, wait_for};
use crate::exit::{Exit, Failure, Outcome};
use crate::figures::{self, percentile};
use crate::process::{self, ThreadTime};
use crate::table::aligned;
use highwater::{CheckpointOutcome, CheckpointReport, Database, Metrics, Pipeline};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Arguments of `highwater bench keyed`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench keyed
  highwater bench keyed --keys 1000000 --patterns uniform --seconds 20 --profile")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// How many keys
    #[arg(long, value_name = "K", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Which keys events hit: uniform (all), hot1 (one in a hundred)
    #[arg(long, value_delimiter = ',', default_values = ["uniform", "hot1"], value_parser = ["uniform", "hot1"])]
    patterns: Vec<String>,
    /// Between checkpoints, in milliseconds; without checkpoints is measured in any case
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000])]
    intervals: Vec<u64>,
    /// Tell the CPU time of each kind of thread
    #[arg(long)]
    profile: bool,
}

/// One measured phase.
struct Phase {
    pattern: String,
    checkpoint_ms: u64,
    rows_per_s: f64,
    /// Against the mean of the phases without checkpoints before and after.
    overhead_pct: f64,
    metrics: Metrics,
    reports: Vec<CheckpointReport>,
    failed: usize,
    cpu_cores: f64,
    rss_mb: f64,
    threads: Vec<ThreadTime>,
}

/// Runs the workload.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    start_logs(&arguments.plan.flags)?;
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let floor = machine::gaps().percentiles();
    eprintln!(
        "a thread that only reads the clock pauses {} (p99), {} (max)",
        figures::micros(floor.p99),
        figures::micros(floor.max)
    );
    let (mut phases, mut fills, mut fulls) = (Vec::<Phase>::new(), Vec::new(), Vec::new());
    for pattern in &arguments.patterns {
        let (database, settings) = database(&scratch.flags(&arguments.plan.flags, pattern))?;
        let hot = if pattern == "hot1" { 1 } else { 100 };
        let view = KeyedView { keys: arguments.keys, hot, rate: 0, splits: settings.workers() };
        let started = Instant::now();
        let pipeline = view.create(&database)?;
        fills.push(fill(&pipeline, pattern, arguments.keys, started)?);
        let first = phases.len();
        phases.push(measure(&database, &pipeline, pattern, 0, arguments)?);
        fulls.push(full_checkpoint(&pipeline, pattern)?);
        for interval in &arguments.intervals {
            let mut phase = measure(&database, &pipeline, pattern, *interval, arguments)?;
            let off = measure(&database, &pipeline, pattern, 0, arguments)?;
            let before = phases.last().map_or(0.0, |off| off.rows_per_s);
            phase.overhead_pct = rounded(100.0 * (1.0 - phase.rows_per_s * 2.0 / (before + off.rows_per_s)));
            phases.extend([phase, off]);
        }
        show(&phases[first..], arguments.profile);
        database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, error))?;
        std::fs::remove_dir_all(scratch.path.join(pattern))
            .map_err(|error| Failure::storage("scratch folder", error))?;
    }
    let lines: Vec<Value> = phases.iter().map(fields).collect();
    let ms = |us: u64| rounded(us as f64 / 1e3);
    emit(
        "keyed",
        &arguments.plan,
        json!({"keys": arguments.keys, "machine_gap_ms_p99": ms(floor.p99), "machine_gap_ms_max": ms(floor.max), "fill": fills, "full_checkpoint": fulls, "phases": lines}),
    )?;
    Ok(Exit::Done)
}

/// Waits until every key was visited once; what growing cost.
fn fill(pipeline: &Pipeline, pattern: &str, keys: u64, started: Instant) -> Outcome<Value> {
    wait_for(pipeline, "all keys", Duration::from_secs(3600), |pipeline| pipeline.metrics().rows_in >= keys)?;
    let seconds = started.elapsed().as_secs_f64();
    let gap = pipeline.metrics().gap_us;
    Ok(json!({
        "pattern": pattern,
        "seconds": rounded(seconds),
        "rows_per_s": (keys as f64 / seconds).round(),
        "gap_ms_p99": rounded(gap.p99 as f64 / 1e3),
        "gap_ms_max": rounded(gap.max as f64 / 1e3),
    }))
}

/// One checkpoint of all keys, which nothing has saved before.
fn full_checkpoint(pipeline: &Pipeline, pattern: &str) -> Outcome<Value> {
    let report =
        pipeline.checkpoint(highwater::Trigger::Manual).map_err(|error| Failure::new(Exit::Pipeline, error))?;
    let per_key = report.delta_bytes.0 as f64 / report.changed_keys.max(1) as f64;
    Ok(json!({
        "pattern": pattern,
        "e2e_ms": report.duration.as_millis() as u64,
        "freeze_us": report.freeze_us,
        "changed_keys": report.changed_keys,
        "delta_bytes": report.delta_bytes.0,
        "uploaded_bytes": report.uploaded_bytes.0,
        "bytes_per_key": rounded(per_key),
    }))
}

/// One phase, after a second in which the cadence settles.
fn measure(
    database: &Database,
    pipeline: &Pipeline,
    pattern: &str,
    checkpoint_ms: u64,
    arguments: &Arguments,
) -> Outcome<Phase> {
    let interval = if checkpoint_ms == 0 { "off".to_owned() } else { format!("{checkpoint_ms}ms") };
    execute(database, &format!("ALTER MATERIALIZED VIEW counts SET (checkpoint_interval = '{interval}')"))?;
    std::thread::sleep(Duration::from_secs(1));
    let known = pipeline.history().last().map(|report| report.epoch);
    pipeline.reset_histograms();
    let threads = process::threads();
    let (started, cpu, rows) = (Instant::now(), process::cpu_time(), pipeline.metrics().rows_in);
    std::thread::sleep(Duration::from_secs(arguments.plan.seconds));
    let seconds = started.elapsed().as_secs_f64();
    let metrics = pipeline.metrics();
    let new = |report: &CheckpointReport| known.is_none_or(|known| report.epoch > known);
    let (reports, failed): (Vec<_>, Vec<_>) = pipeline
        .history()
        .into_iter()
        .filter(new)
        .partition(|report| matches!(report.outcome, CheckpointOutcome::Published));
    wait_for(pipeline, "rows", Duration::from_secs(60), |pipeline| pipeline.metrics().rows_in > rows)?;
    Ok(Phase {
        pattern: pattern.to_owned(),
        checkpoint_ms,
        rows_per_s: (metrics.rows_in - rows) as f64 / seconds,
        overhead_pct: 0.0,
        cpu_cores: (process::cpu_time() - cpu).as_secs_f64() / started.elapsed().as_secs_f64(),
        rss_mb: rss_mb(),
        threads: process::threads_since(&threads),
        metrics,
        reports,
        failed: failed.len(),
    })
}

fn sorted(phase: &Phase, of: impl Fn(&CheckpointReport) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = phase.reports.iter().map(of).collect();
    values.sort_unstable();
    values
}

fn fields(phase: &Phase) -> Value {
    let (freeze, gap) = (phase.metrics.freeze_us, phase.metrics.gap_us);
    let ms = |us: u64| rounded(us as f64 / 1e3);
    let e2e = sorted(phase, |report| report.duration.as_millis() as u64);
    json!({
        "pattern": phase.pattern,
        "checkpoint_ms": phase.checkpoint_ms,
        "rows_per_s": phase.rows_per_s.round(),
        "overhead_pct": phase.overhead_pct,
        "freeze_us_p50": freeze.p50, "freeze_us_p99": freeze.p99, "freeze_us_max": freeze.max,
        "gap_ms_p50": ms(gap.p50), "gap_ms_p99": ms(gap.p99), "gap_ms_max": ms(gap.max),
        "checkpoints": phase.reports.len(),
        "failed": phase.failed,
        "e2e_ms_p50": percentile(&e2e, 50.0), "e2e_ms_max": percentile(&e2e, 100.0),
        "delta_bytes_p50": percentile(&sorted(phase, |report| report.delta_bytes.0), 50.0),
        "uploaded_bytes_p50": percentile(&sorted(phase, |report| report.uploaded_bytes.0), 50.0),
        "changed_keys_p50": percentile(&sorted(phase, |report| report.changed_keys), 50.0),
        "state_bytes": phase.metrics.state_bytes.0,
        "rss_mb": phase.rss_mb,
        "cpu_cores": rounded(phase.cpu_cores),
    })
}

/// The table for people.
fn show(phases: &[Phase], profile: bool) {
    let names = [
        "pattern",
        "every",
        "rows/s",
        "overhead",
        "freeze p99/max",
        "gap p99/max",
        "ckpts",
        "took p50/max",
        "delta",
        "RSS",
    ];
    let rows: Vec<Vec<String>> = phases.iter().map(shown).collect();
    eprint!(
        "{}",
        aligned(&names.map(str::to_owned), &[false, true, true, true, true, true, true, true, true, true], &rows)
    );
    for phase in phases.iter().filter(|_| profile) {
        eprintln!("CPU by thread, {} every {} ms:", phase.pattern, phase.checkpoint_ms);
        for thread in &phase.threads {
            eprintln!("  {:<24} {:>8.2} s", thread.name, thread.cpu.as_secs_f64());
        }
    }
}

fn shown(phase: &Phase) -> Vec<String> {
    let (freeze, gap) = (phase.metrics.freeze_us, phase.metrics.gap_us);
    let e2e = sorted(phase, |report| report.duration.as_micros() as u64);
    let pair = |a: u64, b: u64| format!("{} / {}", figures::micros(a), figures::micros(b));
    let delta = percentile(&sorted(phase, |report| report.delta_bytes.0), 50.0);
    vec![
        phase.pattern.clone(),
        if phase.checkpoint_ms == 0 { "off".to_owned() } else { figures::micros(phase.checkpoint_ms * 1000) },
        figures::rate(phase.rows_per_s),
        format!("{:.1} %", phase.overhead_pct),
        pair(freeze.p99, freeze.max),
        pair(gap.p99, gap.max),
        phase.reports.len().to_string(),
        pair(percentile(&e2e, 50.0), percentile(&e2e, 100.0)),
        figures::bytes(delta),
        format!("{:.0} MiB", phase.rss_mb),
    ]
}
