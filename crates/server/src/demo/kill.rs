//! The demo under a parent that kills it with SIGKILL at random moments and starts it again. In the
//! end every view is compared with what DataFusion computes from the sources' rows up to the same
//! offsets, from scratch.
//!
//! The child tells in JSON lines what it sees; times are those at which the parent reads them.

use super::{VIEWS, create};
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::{Flags, Settings};
use crate::signals::Stop;
use crate::{figures, logs, process, run};
use highwater::engine::core::Rng;
use highwater::{Database, same_rows};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long a child may take to its first row, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(120);

/// One life of the child.
#[derive(Debug, Default)]
struct Life {
    first_row: Duration,
    rows: u64,
    checkpoints: u64,
    freeze_us: u64,
    ended: bool,
}

/// The part of the time in which it is killed and restarted; recomputing takes about the rest.
const KILLING: f64 = 0.28;

/// When a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// SIGKILL so long after the start, whatever has happened by then.
    Early(Duration),
    /// SIGKILL so long after the first row.
    Late(Duration),
    /// A clean stop so long after the first row.
    Clean(Duration),
}

impl End {
    /// A random end; one in four falls into the start.
    fn random(rng: &mut Rng) -> Self {
        if rng.one_in(4) {
            Self::Early(Duration::from_millis(1 + rng.below(150)))
        } else {
            Self::Late(Duration::from_millis(100 + rng.below(4_900)))
        }
    }
}

/// Kills and restarts it, then recomputes.
///
/// # Errors
/// A child that does not go on, a folder that cannot be used.
pub(super) fn main(flags: &Flags, time: Duration, seed: u64) -> Outcome {
    let settings = Settings::load(&flags.clone().or("log", "warn"))?;
    logs::start(&settings, false)?;
    let stop = Stop::on_signals()?;
    let (started, mut rng) = (Instant::now(), Rng::seeded(seed));
    let killing = time.mul_f64(KILLING);
    let (mut waits, mut rows, mut kills) = (Vec::new(), 0, 0);
    eprintln!("killing the demo at random moments for {}, seed {seed}", figures::duration(killing));
    loop {
        let left = killing.saturating_sub(started.elapsed());
        let random = End::random(&mut rng);
        let end = if stop.asked() || left.is_zero() { End::Clean(Duration::from_secs(1)) } else { random };
        let life = live(flags, end, &stop)?;
        rows += life.rows;
        if kills > 0 && life.rows > 0 {
            waits.push(life.first_row.as_micros() as u64);
        }
        tell_life(kills + 1, &life, end);
        if matches!(end, End::Clean(_)) {
            break;
        }
        kills += 1;
    }
    waits.sort_unstable();
    let (p50, max) = (figures::percentile(&waits, 50.0), figures::percentile(&waits, 100.0));
    eprintln!(
        "{} rows; {kills} kills; first row after a restart: median {}, longest {}",
        figures::count(rows),
        figures::micros(p50),
        figures::micros(max)
    );
    compare_all(&settings)
}

fn tell_life(number: u32, life: &Life, end: End) {
    let end = if matches!(end, End::Clean(_)) { "stopped cleanly" } else { "SIGKILL" };
    let first = if life.rows > 0 { figures::duration(life.first_row) } else { "none".to_owned() };
    eprintln!(
        "{number:>3}  first row after {first:>8}, {:>8} rows, {:>2} checkpoints, longest freeze {:>8}, then {end}",
        figures::count(life.rows),
        life.checkpoints,
        figures::micros(life.freeze_us),
    );
}

/// Starts the child, lets it live, ends it.
fn live(flags: &Flags, end: End, stop: &Stop) -> Outcome<Life> {
    let started = Instant::now();
    let mut child = start(flags)?;
    let said = process::listen(&mut child)?;
    let mut life = Life::default();
    let mut until = started + if let End::Early(span) = end { span } else { PATIENCE };
    while !(life.ended || stop.asked() && life.rows > 0) {
        match said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((at, value)) => {
                if life.rows == 0 && value["rows"].as_u64().unwrap_or(0) > 0 {
                    life.first_row = at - started;
                    if let End::Late(span) | End::Clean(span) = end {
                        until = at + span;
                    }
                }
                life.note(&value);
            }
            Err(RecvTimeoutError::Timeout) if life.rows > 0 || matches!(end, End::Early(_)) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill(&mut child)?;
                return Err(Failure::new(Exit::Pipeline, "no row after a restart"));
            }
            Err(RecvTimeoutError::Disconnected) => life.ended = true,
        }
    }
    if life.ended {
        let status = child.wait().map_err(|error| Failure::storage("the child", error))?;
        return Err(Failure::new(Exit::Pipeline, format!("the demo ended by itself: {status}")));
    }
    if matches!(end, End::Clean(_)) {
        finish(&mut child)?
    } else {
        kill(&mut child)?
    }
    Ok(life)
}

impl Life {
    fn note(&mut self, value: &Value) {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        self.rows = self.rows.max(number("rows"));
        self.checkpoints = self.checkpoints.max(number("checkpoints"));
        self.freeze_us = self.freeze_us.max(number("freeze_us"));
    }
}

fn start(flags: &Flags) -> Outcome<Child> {
    let program = std::env::current_exe().map_err(|error| Failure::storage("this program", error))?;
    let child = Command::new(program)
        .args(["demo", "--tell"])
        .args(flags.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    child.map_err(|error| Failure::storage("the child", error))
}

/// SIGKILL.
fn kill(child: &mut Child) -> Outcome<()> {
    let ended = child.kill().and_then(|()| child.wait());
    ended.map(|_| ()).map_err(|error| Failure::storage("the child", error))
}

/// SIGTERM, and waits for the clean stop.
fn finish(child: &mut Child) -> Outcome<()> {
    let fail = |error: std::io::Error| Failure::storage("the child", error);
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| fail(error.into()))?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().map_err(fail)? {
            let told = format!("the demo did not stop cleanly: {status}");
            return if status.success() { Ok(()) } else { Err(Failure::new(Exit::Pipeline, told)) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(child)?;
    Err(Failure::new(Exit::Pipeline, "the demo did not stop when asked to"))
}

/// The child: the demo without a table, telling what it sees.
pub(super) fn victim(flags: &Flags) -> Outcome {
    let settings = Settings::load(&flags.clone().or("log", "warn"))?;
    logs::start(&settings, false)?;
    let stop = Stop::on_signals()?;
    let database = run::open(&settings, true)?;
    create(&database, settings.workers())?;
    let mut pause = Duration::from_millis(1);
    while !stop.wait(pause) {
        let metrics: Vec<_> = database.pipelines().iter().map(highwater::Pipeline::metrics).collect();
        let rows: u64 = metrics.iter().map(|metrics| metrics.rows_in).sum();
        let checkpoints: u64 = metrics.iter().map(|metrics| metrics.checkpoints).sum();
        let freeze_us = metrics.iter().map(|metrics| metrics.freeze_us.max).max().unwrap_or(0);
        if rows > 0 {
            pause = Duration::from_millis(50);
            let mut out = std::io::stdout().lock();
            let line = json!({"rows": rows, "checkpoints": checkpoints, "freeze_us": freeze_us});
            // Nobody listens any more: the next thing is a signal.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
    database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, format!("stopping: {error}")))?;
    Ok(Exit::Done)
}

/// Opens what the child left and compares each view with recomputation.
fn compare_all(settings: &Settings) -> Outcome {
    let database = run::open(settings, true)?;
    // Nobody needs more rows: the machine is left to the recomputation.
    let pause = |database: &Database| database.pipelines().iter().try_for_each(|pipeline| pipeline.pause(true));
    let mut exit = Exit::Done;
    for view in VIEWS {
        pause(&database).map_err(|error| Failure::new(Exit::Pipeline, error))?;
        let began = Instant::now();
        let found =
            compare(&database, view).map_err(|error| Failure::new(Exit::Pipeline, format!("{view}: {error}")))?;
        let took = figures::duration(began.elapsed());
        match found {
            (rows, None) => eprintln!("{view}: {rows} rows equal recomputation from scratch ({took})"),
            (rows, Some(difference)) => {
                exit = Exit::Differs;
                println!("{view}: {rows} rows, the first that differs (view and recomputation): {difference}");
            }
        }
    }
    database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, format!("stopping: {error}")))?;
    println!("{}", if exit == Exit::Done { "views equal recomputation" } else { "views DIFFER from recomputation" });
    Ok(exit)
}

/// The number of rows of a view, and how it differs from recomputation.
fn compare(database: &Database, view: &str) -> highwater::Result<(usize, Option<String>)> {
    let compared = database.recompute(view)?;
    Ok((compared.view.count(), same_rows(&compared.view.batches, &compared.recomputed.batches)?))
}
