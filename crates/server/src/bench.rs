//! `highwater bench`: workloads that anybody can repeat. One JSON line on standard output, a short
//! table for people on standard error.
//!
//! Nothing here bypasses what a user gets: the views are SQL, the checkpoints are the product's own.

mod compaction;
mod dml;
mod keyed;
mod machine;
mod nexmark;
mod recovery;
mod views;

use crate::exit::{Exit, Failure, Outcome};
use crate::run::open;
use crate::settings::{Flags, Settings};
use crate::{logs, process};
use clap::Subcommand;
use highwater::{Database, Pipeline, Status};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `highwater bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench keyed --keys 10000000 --seconds 30 --json keyed.json
  highwater bench recovery --keys 1000000
  highwater bench compaction
  highwater bench nexmark --queries q5,q7,q8
  highwater bench views --views 300")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Count and sum per key: speed, freeze, gap and bytes with checkpoints off and at intervals
    Keyed(keyed::Arguments),
    /// SIGKILL and restart: time to the first row and to full speed
    Recovery(recovery::Arguments),
    /// What incremental checkpoints really upload
    Compaction(compaction::Arguments),
    /// INSERTs, COPY, point reads and UPDATEs a second over the wire, beside PostgreSQL if it is named
    Dml(dml::Arguments),
    /// The queries of the Nexmark benchmark at full speed: rows a second, gaps and state of each
    Nexmark(nexmark::Arguments),
    /// Hundreds of small views: latency, CPU, memory and how flat the writes are
    Views(views::Arguments),
    /// The process that `recovery` kills
    #[command(hide = true)]
    RecoveryVictim(recovery::Victim),
}

/// What all workloads take.
#[derive(Clone, Debug, clap::Args)]
struct Plan {
    /// Also append the JSON line to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seconds of each measured phase
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Of what is random in the workload
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    flags: Flags,
}

/// Runs a workload.
///
/// # Errors
/// A statement or pipeline that failed, a folder or file that cannot be used.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    match arguments.workload {
        Workload::Keyed(arguments) => keyed::main(&arguments),
        Workload::Recovery(arguments) => recovery::main(&arguments),
        Workload::Compaction(arguments) => compaction::main(&arguments),
        Workload::Dml(arguments) => dml::main(&arguments),
        Workload::Nexmark(arguments) => nexmark::main(&arguments),
        Workload::Views(arguments) => views::main(&arguments),
        Workload::RecoveryVictim(arguments) => recovery::victim(&arguments),
    }
}

/// A folder for one workload's data, removed in the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new folder below the data folder that was named, else below the system's temporary one.
    fn new(flags: &Flags) -> Outcome<Self> {
        let above = flags.given("data").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = above.join(format!("highwater-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| Failure::storage(path.display(), error))?;
        Ok(Self { path })
    }

    /// The settings of a database in a folder of that name here; logs only warnings unless told otherwise.
    fn flags(&self, flags: &Flags, name: &str) -> Flags {
        let data = self.path.join(name).to_string_lossy().into_owned();
        flags.clone().with("data", data).or("log", "warn")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in a temporary folder.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Opens a database for a workload.
fn database(flags: &Flags) -> Outcome<(Database, Settings)> {
    let settings = Settings::load(flags)?;
    Ok((open(&settings, true)?, settings))
}

/// Starts logging for a workload.
fn start_logs(flags: &Flags) -> Outcome<()> {
    logs::start(&Settings::load(&flags.clone().or("log", "warn"))?, false).map(|_| ())
}

/// Runs one statement.
fn execute(database: &Database, sql: &str) -> Outcome<()> {
    database.execute(sql).map(|_| ()).map_err(|error| Failure::new(Exit::Statement, format!("{sql}: {error}")))
}

/// The source and view of the keyed workloads: event i has key `splitmix64(i) % keys` and value i.
struct KeyedView {
    keys: u64,
    /// Percent of the keys that events hit after each was visited once.
    hot: u64,
    /// Rows a second; 0 for as many as are taken.
    rate: u64,
    splits: usize,
}

impl KeyedView {
    /// Creates both, without checkpoints, and gives their pipeline.
    fn create(&self, database: &Database) -> Outcome<Pipeline> {
        let (keys, hot, rate, splits) = (self.keys, self.hot, self.rate, self.splits);
        execute(
            database,
            &format!(
                "CREATE SOURCE gen (k bigint, v bigint) WITH (connector = 'datagen', datagen.split.num = '{splits}', \
                 datagen.rows.per.second = '{rate}', fields.k.kind = 'keyed', fields.k.keys = '{keys}', \
                 fields.k.hot = '{hot}', fields.v.kind = 'event_number')"
            ),
        )?;
        execute(
            database,
            "CREATE MATERIALIZED VIEW counts WITH (checkpoint_interval = 'off') AS \
             SELECT k, count(*) AS n, sum(v) AS total FROM gen GROUP BY k",
        )?;
        let pipeline = database.pipelines().into_iter().next();
        pipeline.ok_or_else(|| Failure::new(Exit::Pipeline, "the view has no pipeline"))
    }
}

/// Waits for a condition of a pipeline.
fn wait_for(pipeline: &Pipeline, what: &str, limit: Duration, mut done: impl FnMut(&Pipeline) -> bool) -> Outcome<()> {
    let until = Instant::now() + limit;
    while !done(pipeline) {
        if let Status::Failed { reason, .. } = pipeline.status() {
            return Err(Failure::new(Exit::Pipeline, reason));
        }
        if Instant::now() > until {
            return Err(Failure::new(Exit::Pipeline, format!("waited in vain for {what}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Prints the line of a workload, with what every line holds, and appends it to the file.
fn emit(workload: &str, plan: &Plan, fields: Value) -> Outcome<()> {
    let mut line = Map::new();
    let head = json!({
        "workload": workload,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": std::env::var("HIGHWATER_COMMIT").unwrap_or_else(|_| "unknown".to_owned()),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "seed": plan.seed,
        "seconds": plan.seconds,
    });
    for part in [head, fields] {
        if let Value::Object(part) = part {
            line.extend(part);
        }
    }
    let line = Value::Object(line).to_string();
    println!("{line}");
    if let Some(path) = &plan.json {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| Failure::storage(path.display(), error))?;
    }
    Ok(())
}

/// What the files below a folder take.
fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        bytes += if path.is_dir() { bytes_below(&path) } else { entry.metadata().map_or(0, |found| found.len()) };
    }
    bytes
}

/// Two digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The resident memory in MiB.
fn rss_mb() -> f64 {
    rounded(process::resident() as f64 / f64::from(1 << 20))
}
