//! W4 `recovery`: a view of many keys, steady; SIGKILL; restart. What a person waits for is measured
//! from outside, by the clock of the process that starts the other.
//!
//! The victim tells what it sees in JSON lines on its standard output; the times are those at which
//! this process reads them.

use super::{KeyedView, Plan, Scratch, bytes_below, database, emit, execute, rounded, start_logs, wait_for};
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::{Flags, Settings};
use crate::table::aligned;
use crate::{figures, process};
use highwater::Status;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Folders of the data folder that a restart uses when they are there.
const FILES: &str = "files";
const PAGES: &str = "pages";
const PATIENCE: Duration = Duration::from_secs(600);
/// The windows in which speed is told.
const WINDOW: Duration = Duration::from_millis(25);
/// So long after the whole state is there, speed is the steady one.
const SETTLED: Duration = Duration::from_secs(12);
/// Speed is full again at this share of the steady one.
const FULL: f64 = 0.9;

/// Arguments of `highwater bench recovery`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench recovery
  highwater bench recovery --keys 50000000")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// How many keys
    #[arg(long, value_name = "K", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
}

/// Arguments of the process that is killed.
#[derive(Debug, clap::Args)]
pub(super) struct Victim {
    #[arg(long)]
    keys: u64,
    #[command(flatten)]
    flags: Flags,
}

/// A started victim and what it says, with the times at which it was read.
struct Watched {
    child: Child,
    started: Instant,
    said: Receiver<(Instant, Value)>,
}

/// What one restart took, from the start of the process.
#[derive(Debug, Default)]
struct Restart {
    /// The view runs.
    ready: Duration,
    /// Rows can be seen in it: the first epoch is complete.
    first_row: Duration,
    /// Rows a second are again what they settle at.
    full_speed: Duration,
    /// The whole state is in memory.
    loaded: Duration,
    downloaded: u64,
    /// What they settle at.
    rows_per_s: f64,
}

/// Runs the workload: once from the files that are left, once from the root alone.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let flags = scratch.flags(&arguments.plan.flags, "recovery");
    let data = Settings::load(&flags)?.data();
    let mut rows = Vec::new();
    let mut watched = start(arguments, &flags)?;
    let steady = watched.steady(arguments)?;
    for source in ["local", "store"] {
        watched.kill()?;
        let before = prepare(&data, source)?;
        watched = start(arguments, &flags)?;
        let mut restart = watched.restart(arguments.keys)?;
        restart.downloaded = bytes_below(&data.join(FILES)).saturating_sub(before);
        watched.steady(arguments)?;
        rows.push(row(source, arguments.keys, &restart));
        emit("recovery", &arguments.plan, fields(source, arguments.keys, steady, &restart))?;
    }
    watched.kill()?;
    let names = ["source", "ready", "first row", "full speed", "all loaded", "fill", "downloaded"];
    eprint!("{}", aligned(&names.map(str::to_owned), &[false, true, true, true, true, true, true], &rows));
    Ok(Exit::Done)
}

/// For `store`, removes what a restart could find on this machine; gives the bytes of the files left.
fn prepare(data: &Path, source: &str) -> Outcome<u64> {
    for folder in [FILES, PAGES].map(|name| data.join(name)) {
        if source == "store" && folder.is_dir() {
            std::fs::remove_dir_all(&folder).map_err(|error| Failure::storage(folder.display(), error))?;
        }
    }
    Ok(bytes_below(&data.join(FILES)))
}

fn start(arguments: &Arguments, flags: &Flags) -> Outcome<Watched> {
    let program = std::env::current_exe().map_err(|error| Failure::storage("this program", error))?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["bench", "recovery-victim", "--keys", &arguments.keys.to_string()])
        .args(flags.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::storage("the process to kill", error))?;
    let said = process::listen(&mut child)?;
    Ok(Watched { child, started, said })
}

impl Watched {
    fn next(&self) -> Outcome<(Instant, Value)> {
        self.said.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Failure::new(Exit::Pipeline, "the view does not go on"),
            RecvTimeoutError::Disconnected => Failure::new(Exit::Pipeline, "the process to kill ended by itself"),
        })
    }

    /// Waits until all keys are there and two checkpoints after that; the median speed then, for some seconds.
    fn steady(&self, arguments: &Arguments) -> Outcome<f64> {
        let mut base = None;
        let mut speeds = Vec::new();
        let mut since = None;
        loop {
            let (at, said) = self.next()?;
            let Some(rate) = said["rate"].as_f64() else { continue };
            let published = said["published"].as_u64().unwrap_or(0);
            if said["keys"].as_u64().unwrap_or(0) < arguments.keys || published < *base.get_or_insert(published) + 2 {
                continue;
            }
            speeds.push(rate);
            if at - *since.get_or_insert(at) >= Duration::from_secs(arguments.plan.seconds.min(10)) {
                speeds.sort_by(f64::total_cmp);
                return Ok(speeds[speeds.len() / 2]);
            }
        }
    }

    /// Follows a restart until speed has settled.
    fn restart(&self, keys: u64) -> Outcome<Restart> {
        let mut restart = Restart::default();
        let mut rates = Vec::new();
        while restart.loaded.is_zero() || rates.last().is_none_or(|(after, _)| *after < restart.loaded + SETTLED) {
            let (at, said) = self.next()?;
            let after = at - self.started;
            match said["event"].as_str() {
                Some("ready") => restart.ready = after,
                Some("first_row") => restart.first_row = after,
                _ => {}
            }
            if restart.loaded.is_zero() && said["keys"].as_u64().is_some_and(|held| held >= keys) {
                restart.loaded = after;
            }
            rates.extend(said["rate"].as_f64().map(|rate| (after, rate)));
        }
        let settled = restart.loaded + SETTLED / 6;
        let mut last: Vec<f64> = rates.iter().filter(|(after, _)| *after >= settled).map(|(_, rate)| *rate).collect();
        last.sort_by(f64::total_cmp);
        restart.rows_per_s = last[last.len() / 2];
        let full = rates.iter().find(|(_, rate)| *rate >= FULL * restart.rows_per_s);
        restart.full_speed = full.map_or(Duration::ZERO, |(after, _)| *after);
        Ok(restart)
    }

    fn kill(&mut self) -> Outcome<()> {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(|_| ()).map_err(|error| Failure::storage("the process to kill", error))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It is gone already unless something failed.
        let _ = self.kill();
    }
}

fn fields(source: &str, keys: u64, steady: f64, restart: &Restart) -> Value {
    let ms = |duration: Duration| rounded(duration.as_secs_f64() * 1e3);
    json!({
        "keys": keys,
        "source": source,
        "to_ready_ms": ms(restart.ready),
        "to_first_row_ms": ms(restart.first_row),
        "to_full_speed_ms": ms(restart.full_speed),
        "to_loaded_ms": ms(restart.loaded),
        "fill_keys_per_s": fill(keys, restart).round(),
        "downloaded_bytes": restart.downloaded,
        "rows_per_s_before": steady.round(),
        "rows_per_s_after": restart.rows_per_s.round(),
    })
}

/// Keys a second, of all the time from the start of the process until all keys were in memory.
fn fill(keys: u64, restart: &Restart) -> f64 {
    keys as f64 / restart.loaded.as_secs_f64().max(1e-6)
}

fn row(source: &str, keys: u64, restart: &Restart) -> Vec<String> {
    vec![
        source.to_owned(),
        figures::duration(restart.ready),
        figures::duration(restart.first_row),
        figures::duration(restart.full_speed),
        figures::duration(restart.loaded),
        figures::rate(fill(keys, restart)),
        figures::bytes(restart.downloaded),
    ]
}

/// Keeps the view and tells what it sees, until it is killed.
pub(super) fn victim(arguments: &Victim) -> Outcome {
    start_logs(&arguments.flags)?;
    let (database, settings) = database(&arguments.flags)?;
    let pipeline = match database.pipelines().into_iter().next() {
        Some(pipeline) => pipeline,
        None => {
            let view = KeyedView { keys: arguments.keys, hot: 100, rate: 0, splits: settings.workers() };
            let pipeline = view.create(&database)?;
            execute(&database, "ALTER MATERIALIZED VIEW counts SET (checkpoint_interval = '10s')")?;
            pipeline
        }
    };
    wait_for(&pipeline, "its restore", PATIENCE, |pipeline| pipeline.status() == Status::Running)?;
    tell(&json!({"event": "ready"}));
    wait_for(&pipeline, "rows", PATIENCE, |pipeline| {
        let metrics = pipeline.metrics();
        metrics.rows_in > 0 && metrics.epochs > 0
    })?;
    tell(&json!({"event": "first_row"}));
    let (mut at, mut rows) = (Instant::now(), pipeline.metrics().rows_in);
    loop {
        std::thread::sleep(WINDOW);
        let (now, metrics) = (Instant::now(), pipeline.metrics());
        let rate = (metrics.rows_in - rows) as f64 / (now - at).as_secs_f64();
        (at, rows) = (now, metrics.rows_in);
        tell(&json!({"rate": rate, "keys": metrics.keys, "published": metrics.checkpoints}));
        if let Status::Failed { reason, .. } = pipeline.status() {
            return Err(Failure::new(Exit::Pipeline, reason));
        }
    }
}

fn tell(line: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the next thing is a signal.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
