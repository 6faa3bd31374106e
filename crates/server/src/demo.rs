//! `highwater demo`: Nexmark at full speed through four views, with a live table; and with `--kill`
//! the same under a parent that kills it and in the end compares it with recomputation.

mod kill;

use crate::exit::{self, Exit, Failure, Outcome};
use crate::progress::{Screen, Style};
use crate::run::{follow, open};
use crate::settings::{Flags, Settings};
use crate::signals::Stop;
use crate::{logs, table};
use highwater::Database;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The views of the demo.
pub(crate) const VIEWS: [&str; 4] = ["bids_per_auction", "bids_per_minute", "busy_channels", "people_per_state"];

const CLOSING: [&str; 2] = [
    "SELECT auction, bids, highest, average FROM bids_per_auction ORDER BY bids DESC, auction LIMIT 5",
    "SELECT state, people FROM people_per_state ORDER BY people DESC, state LIMIT 5",
];

/// Arguments of `highwater demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Without --data it begins afresh in the system's temporary folder.

Examples:
  highwater demo
  highwater demo --minutes 1 --checkpoint-interval 1s
  highwater demo --kill --minutes 3")]
pub(crate) struct Arguments {
    /// Kill it with SIGKILL at random moments, restart it, and compare every view in the end
    #[arg(long)]
    kill: bool,
    /// How long; until Ctrl-C by default, with --kill 3
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Of the random moments
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Tell in JSON lines what happens: the process that is killed
    #[arg(long, hide = true)]
    tell: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs the demo.
///
/// # Errors
/// A folder or root that cannot be used, a pipeline that failed.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    if arguments.tell {
        return kill::victim(&arguments.flags);
    }
    let (flags, _ours) = folder(arguments.flags)?;
    let flags = flags.or("checkpoint_interval", if arguments.kill { "1s" } else { "5s" });
    let time = arguments.minutes.map(|minutes| Duration::try_from_secs_f64(minutes * 60.0));
    let time = time.transpose().map_err(|error| Failure::usage(format!("--minutes: {error}")))?;
    if arguments.kill {
        return kill::main(&flags, time.unwrap_or(Duration::from_secs(180)), arguments.seed);
    }
    let settings = Settings::load(&flags)?;
    let style = Style::of(settings.progress());
    logs::start(&settings, style == Style::Table)?;
    let stop = Stop::on_signals()?;
    if let Some(time) = time {
        let stop = stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(time);
            stop.ask();
        });
    }
    let database = open(&settings, true)?;
    create(&database, settings.workers())?;
    let followed = follow(&database, &stop, &mut Screen::new(style), "Nexmark through four views");
    if followed.is_ok() {
        show(&database)?;
    }
    database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, format!("stopping: {error}")))?;
    followed
}

/// The flags with a data folder: the one that was named, or an empty temporary one, which is no other demo's as long
/// as the file is open.
fn folder(flags: Flags) -> Outcome<(Flags, Option<File>)> {
    if flags.given("data").is_some() {
        return Ok((flags, None));
    }
    let folder: PathBuf = std::env::temp_dir().join("highwater-demo");
    let ours = claimed(&folder)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Failure::storage(folder.display(), error))?;
    }
    Ok((flags.with("data", folder.to_string_lossy()), Some(ours)))
}

/// Claims the folder of demos that name none, by a file beside it, unless another one runs there.
///
/// # Errors
/// A demo that runs there, a file that cannot be used.
fn claimed(folder: &Path) -> Outcome<File> {
    let claim = folder.with_extension("lock");
    let fail = |error: std::io::Error| Failure::storage(claim.display(), error);
    let file = File::options().create(true).truncate(false).write(true).open(&claim).map_err(fail)?;
    if !is_free(&file).map_err(fail)? {
        return Err(taken(folder));
    }
    // What a demo with --kill has begun may go on when that was killed itself.
    if let Ok(inside) = File::open(folder.join("lock"))
        && !is_free(&inside).map_err(fail)?
    {
        return Err(taken(folder));
    }
    Ok(file)
}

/// Whether nobody else has locked a file, which is locked then as long as it is open.
fn is_free(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn taken(folder: &Path) -> Failure {
    Failure::storage(
        folder.display(),
        "another demo runs there: wait until it ends, or name another folder with --data",
    )
}

/// Creates the sources and views, or goes on with them.
///
/// # Errors
/// A statement that failed.
fn create(database: &Database, splits: usize) -> Outcome<()> {
    let script = include_str!("demo.sql").replace("$splits", &splits.to_string());
    let fail = |error: String| Failure::new(Exit::Statement, format!("demo.sql: {error}"));
    for piece in highwater::split(&script).map_err(|error| fail(error.to_string()))? {
        database.execute(&piece.text).map_err(|error| fail(format!("{}: {error}", piece.start)))?;
    }
    Ok(())
}

/// What the views hold now.
fn show(database: &Database) -> Outcome<()> {
    for sql in CLOSING {
        let fail = |error: String| Failure::new(Exit::Statement, format!("{sql}: {error}"));
        if let Some(rows) = database.execute(sql).map_err(|error| fail(error.to_string()))?.rows {
            let table = table::psql(&rows.schema, &rows.batches).map_err(|error| fail(error.to_string()))?;
            exit::print(&format!("{sql};\n{table}\n"))?;
        }
    }
    Ok(())
}
