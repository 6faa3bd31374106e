//! `highwater run`: executes a script, then keeps its pipelines running in the foreground.
//!
//! Queries that stand after the last statement that creates something are the script's closing
//! queries: they are answered when input has ended or a stop is asked for. All others, and with
//! `--exit` all of them, are answered where they stand.

use crate::exit::{self, Exit, Failure, Outcome};
use crate::progress::{Screen, Style};
use crate::settings::{Flags, Settings};
use crate::signals::Stop;
use crate::watch::Watch;
use crate::{figures, logs, table};
use highwater::{Config, Database, Piece, Statement, Status};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A pipeline that failed so often in a row is given up.
const PATIENCE: u32 = 5;

/// Arguments of `highwater run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Run it again with the same data folder and it goes on where it was.

Examples:
  highwater run views.sql
  highwater run views.sql --data /var/lib/highwater --checkpoint-root s3://bucket/highwater
  echo 'SELECT * FROM v LIMIT 5' | highwater run - --exit --data /var/lib/highwater")]
pub(crate) struct Arguments {
    /// Statements, with semicolons between them; - for standard input
    script: PathBuf,
    /// Answer every statement where it stands, then stop instead of running on
    #[arg(long)]
    exit: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs a script.
///
/// # Errors
/// A statement or a pipeline that failed, a folder or root that cannot be used.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    let settings = Settings::load(&arguments.flags)?;
    let shown = arguments.script.display().to_string();
    let script = read(&arguments.script).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let pieces =
        highwater::split(&script).map_err(|error| Failure::new(Exit::Statement, format!("{shown}: {error}")))?;
    let style = Style::of(settings.progress());
    logs::start(&settings, style == Style::Table && !arguments.exit)?;
    let stop = Stop::on_signals()?;
    let database = open(&settings, true)?;
    let opening = if arguments.exit { pieces.len() } else { closing(&pieces) };
    // Views start together with all that the script puts over them.
    database.defer_starts();
    let started = execute(&database, &pieces[..opening], &shown)
        .and_then(|()| database.start_waiting().map_err(|error| Failure::new(Exit::Statement, error)));
    let result = started.and_then(|()| {
        let exit = if arguments.exit { Exit::Done } else { follow(&database, &stop, &mut Screen::new(style), &shown)? };
        execute(&database, &pieces[opening..], &shown)?;
        Ok(exit)
    });
    let broken = database.broken();
    let stopped = database.shutdown();
    let exit = result?;
    if let Some(first) = broken.first() {
        return Err(Failure::new(Exit::Storage, first));
    }
    stopped.map_err(|error| Failure::new(Exit::Pipeline, format!("stopping: {error}")))?;
    Ok(exit)
}

fn read(path: &Path) -> std::io::Result<String> {
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Opens the database that the settings describe. With `resume`, statements that made an object are
/// passed over when they come again.
///
/// # Errors
/// A folder or root that cannot be used.
pub(crate) fn open(settings: &Settings, resume: bool) -> Outcome<Database> {
    Database::open(config(settings, resume)).map_err(|error| Failure::storage(settings.data().display(), error))
}

/// What the settings say of a database.
pub(crate) fn config(settings: &Settings, resume: bool) -> Config {
    let mut config = Config::new(settings.data());
    config.checkpoint_root = Some(settings.checkpoint_root());
    config.workers = Some(settings.workers());
    config.resume = resume;
    config.query_memory = highwater::Bytes(settings.query_memory());
    config.state_memory = settings.state_memory().map(highwater::Bytes);
    config.memory_reserve = settings.memory_reserve().map(highwater::Bytes);
    config.block_cache = highwater::Bytes(settings.block_cache());
    config.checkpoints.interval = settings.checkpoint_interval();
    config.checkpoints.retain = settings.retain();
    config
}

/// Where the closing queries begin.
fn closing(pieces: &[Piece]) -> usize {
    pieces.iter().rposition(|piece| !is_query(&piece.text)).map_or(0, |last| last + 1)
}

/// Whether a statement only asks.
fn is_query(text: &str) -> bool {
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "with" => matches!(highwater::parse(text), Ok(Statement::Query(_))),
        word => ["select", "values", "show", "describe", "explain"].contains(&word),
    }
}

/// Executes statements and prints what they give.
fn execute(database: &Database, pieces: &[Piece], script: &str) -> Outcome<()> {
    for piece in pieces {
        let place = format!("{script}:{}:{}", piece.start.line, piece.start.column);
        let outcome = database.execute(&piece.text).map_err(|error| failed(script, piece, &error))?;
        for notice in &outcome.notices {
            tracing::info!(statement = place, "{notice}");
        }
        match outcome.rows {
            Some(rows) => {
                let text = table::psql(&rows.schema, &rows.batches);
                exit::print(&text.map_err(|error| Failure::new(Exit::Statement, format!("{place}: {error}")))?)?;
            }
            None => tracing::info!(statement = place, "{}", outcome.tag),
        }
    }
    Ok(())
}

/// A statement that failed, with the place in the script that its error is about.
fn failed(script: &str, piece: &Piece, error: &highwater::Error) -> Failure {
    let (start, at) = (piece.start, error.position());
    let (line, column) = match at {
        Some(at) if at.line == 1 => (start.line, start.column + at.column - 1),
        Some(at) => (start.line + at.line - 1, at.column),
        None => (start.line, start.column),
    };
    // Its own place is counted from where the statement begins.
    let own = at.map_or_else(String::new, |at| format!(" (at {at})"));
    let told = error.to_string();
    let message = if own.is_empty() { told } else { told.replace(&own, "") };
    Failure::new(Exit::Statement, format!("{script}:{line}:{column}: {message}"))
}

/// Shows progress until all input has ended, a stop is asked for or a pipeline is given up.
///
/// # Errors
/// The pipeline that was given up, with its reason.
pub(crate) fn follow(database: &Database, stop: &Stop, screen: &mut Screen, title: &str) -> Outcome {
    let (started, mut watch) = (Instant::now(), Watch::default());
    loop {
        let readings = watch.read(database);
        let shown = figures::clock(started.elapsed().as_secs());
        screen.show(&format!("highwater: {title}, {shown}, Ctrl-C stops with a final checkpoint"), &readings);
        let pipelines = database.pipelines();
        for pipeline in &pipelines {
            if let Status::Lost { reason } = pipeline.status() {
                return Err(Failure::new(Exit::Storage, format!("{}: {reason}", pipeline.title())));
            }
            if let Status::Failed { reason, restarts } = pipeline.status()
                && restarts >= PATIENCE
            {
                let name = pipeline.title();
                return Err(Failure::new(Exit::Pipeline, format!("{name} failed {restarts} times in a row: {reason}")));
            }
        }
        let ended = pipelines.iter().all(|pipeline| matches!(pipeline.status(), Status::Finished | Status::Stopped));
        let pause = if screen.is_table() { 500 } else { 1000 };
        if ended || wait(stop, &pipelines, Duration::from_millis(pause)) {
            screen.leave();
            return Ok(Exit::Done);
        }
    }
}

/// Waits for a stop, for at most `pause`; less when all input ends meanwhile.
fn wait(stop: &Stop, pipelines: &[highwater::Pipeline], pause: Duration) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if stop.wait(Duration::from_millis(20)) {
            return true;
        }
        if pipelines.iter().all(|pipeline| pipeline.status() == Status::Finished) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_place_in_the_script() {
        let script = "SELECT 1; SELECT *\nFROM;\nSELEC 2";
        let pieces = highwater::split(script).expect("statements");
        let told = |piece: &Piece| {
            let error = highwater::parse(&piece.text).map(drop).expect_err("it is wrong");
            failed("a.sql", piece, &error.into()).message
        };
        let second = told(&pieces[1]);
        assert!(second.starts_with("a.sql:2:") && !second.contains("(at line"), "{second}");
        assert!(told(&pieces[2]).starts_with("a.sql:3:1: syntax error"), "{}", told(&pieces[2]));
    }

    #[test]
    fn closing_queries_are_those_after_the_last_change() {
        let pieces = |texts: &[&str]| highwater::split(&texts.join(";\n")).expect("a script");
        assert_eq!(closing(&pieces(&["SELECT 1", "CREATE VIEW v AS SELECT 1", "select 2", "SHOW JOBS"])), 2);
        assert_eq!(closing(&pieces(&["(SELECT 1)"])), 0);
        assert_eq!(closing(&pieces(&["CHECKPOINT"])), 1);
        let (change, query) = ("WITH x AS (SELECT 1) DELETE FROM t USING x", "WITH x AS (SELECT 1) SELECT 1 FROM x");
        assert_eq!(closing(&pieces(&[query, change, query])), 2);
        assert_eq!(closing(&[]), 0);
    }
}
