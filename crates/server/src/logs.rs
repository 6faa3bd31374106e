//! Structured logs: text or JSON lines, to standard error, or to a file beside a live table.
//!
//! Standard output is never logged to: it belongs to results.

use crate::exit::{Failure, Outcome};
use crate::settings::Settings;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts logging. With `beside_table` lines go to a file unless another was named; gives that file.
///
/// # Errors
/// A filter that cannot be read, a file that cannot be written.
pub(crate) fn start(settings: &Settings, beside_table: bool) -> Outcome<Option<PathBuf>> {
    let filter = EnvFilter::try_new(settings.log()).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let file = settings.log_file().or_else(|| beside_table.then(|| settings.data().join("highwater.log")));
    let writer = match &file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let fail = |error: std::io::Error| Failure::storage(path.display(), error);
            path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fail)?;
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(fail)?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    let started = if settings.log_json() { builder.json().try_init() } else { builder.with_target(false).try_init() };
    started.map_err(|error| Failure::usage(format!("logs: {error}")))?;
    Ok(file)
}
