//! W5 `compaction`: what incremental checkpoints really ship, when a few percent of many keys change
//! at random between any two of them.
//!
//! The delta is logical: 24 bytes a changed key (the key, a count, a sum).

use super::{KeyedView, Plan, Scratch, bytes_below, database, emit, rounded, start_logs, wait_for};
use crate::exit::{Exit, Failure, Outcome};
use crate::figures::{self, percentile};
use crate::table::aligned;
use highwater::{CheckpointReport, Pipeline, Trigger};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const LOGICAL_BYTES: u64 = 24;

/// Arguments of `highwater bench compaction`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench compaction
  highwater bench compaction --keys 1000000 --percent 1 --checkpoints 300")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// How many keys
    #[arg(long, value_name = "K", default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many of them change between two checkpoints, in percent
    #[arg(long, value_name = "P", default_value_t = 5.0)]
    percent: f64,
    /// How many checkpoints
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoints: u64,
}

/// Runs the workload.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    start_logs(&arguments.plan.flags)?;
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let (database, settings) = database(&scratch.flags(&arguments.plan.flags, "compaction"))?;
    // Slow enough that a checkpoint begins near its number of rows.
    let step = rows_for(arguments.keys, arguments.percent / 100.0);
    let rate = (step * 3).max(10_000);
    let view = KeyedView { keys: arguments.keys, hot: 100, rate, splits: settings.workers() };
    let pipeline = view.create(&database)?;
    let reports = collect(&pipeline, arguments, step)?;
    let root = bytes_below(Path::new(&settings.checkpoint_root()));
    let fields = fields(&reports, arguments, root);
    let names = ["checkpoints", "delta", "uploaded", "uploaded/delta", "live/state", "files max", "max/median"];
    let number = |key: &str| fields[key].as_f64().unwrap_or(0.0);
    let row = vec![
        number("checkpoints").to_string(),
        figures::bytes(number("delta_bytes") as u64),
        figures::bytes(number("uploaded_bytes") as u64),
        number("uploaded_over_delta").to_string(),
        number("live_over_state").to_string(),
        number("files_max").to_string(),
        number("max_over_median").to_string(),
    ];
    eprint!("{}", aligned(&names.map(str::to_owned), &[true; 7], &[row]));
    emit("compaction", &arguments.plan, fields)?;
    database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, error))?;
    Ok(Exit::Done)
}

/// So many random rows change `share` of the keys on average: distinct = keys × (1 - e^(-rows/keys)).
fn rows_for(keys: u64, share: f64) -> u64 {
    (-(1.0 - share.clamp(0.0, 0.99)).ln() * keys as f64).ceil().max(1.0) as u64
}

/// The full checkpoint first, then one after each step of rows.
fn collect(pipeline: &Pipeline, arguments: &Arguments, step: u64) -> Outcome<Vec<CheckpointReport>> {
    let limit = Duration::from_secs(3600);
    let mut reports = Vec::new();
    let mut next = arguments.keys;
    for number in 0..=arguments.checkpoints {
        wait_for(pipeline, "rows", limit, |pipeline| pipeline.metrics().rows_in >= next)?;
        let report = pipeline.checkpoint(Trigger::Manual);
        reports.push(report.map_err(|error| Failure::new(Exit::Pipeline, format!("checkpoint {number}: {error}")))?);
        next += step;
    }
    Ok(reports)
}

fn fields(reports: &[CheckpointReport], arguments: &Arguments, root: u64) -> Value {
    let (full, deltas) = reports.split_first().expect("the full checkpoint comes first");
    let changed: u64 = deltas.iter().map(|report| report.changed_keys).sum();
    let uploaded: u64 = deltas.iter().map(|report| report.uploaded_bytes.0).sum();
    let mut sizes: Vec<u64> = deltas.iter().map(|report| report.uploaded_bytes.0).collect();
    sizes.sort_unstable();
    // What the newest checkpoint needs; the root also holds those that are retained before it.
    let (live, image) = reports.last().map_or((0, 0), |report| (report.full_bytes.0, report.image_bytes.0));
    let over = |a: u64, b: u64| rounded(a as f64 / b.max(1) as f64);
    json!({
        "keys": arguments.keys,
        "percent": arguments.percent,
        "checkpoints": deltas.len(),
        "delta_bytes": changed * LOGICAL_BYTES,
        "uploaded_bytes": uploaded,
        "uploaded_over_delta": over(uploaded, changed * LOGICAL_BYTES),
        "full_bytes": full.uploaded_bytes.0,
        "image_bytes": image,
        "live_bytes": live,
        "root_bytes": root,
        "live_over_state": over(live, image),
        "files_max": reports.iter().map(|report| report.files).max().unwrap_or(0),
        "max_over_median": over(percentile(&sizes, 100.0), percentile(&sizes, 50.0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_changes_the_wanted_share() {
        let (keys, rows) = (4_000_000.0f64, rows_for(4_000_000, 0.05) as f64);
        let changed = keys * (1.0 - (-rows / keys).exp());
        assert!((changed / keys - 0.05).abs() < 1e-6);
        assert_eq!(rows_for(1, 0.0), 1);
    }
}
