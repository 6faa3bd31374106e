//! Structured logs: text or JSON lines, to standard error, or to a file beside a live table.
//!
//! Standard output is never logged to: it belongs to results.

use crate::exit::{Failure, Outcome};
use crate::settings::{Settings, unread};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts logging, with what is mistyped in the environment. With `beside_table` lines go to a file unless another was named; gives that file.
///
/// # Errors
/// A filter that cannot be read, a file that cannot be written.
pub(crate) fn start(settings: &Settings, beside_table: bool) -> Outcome<Option<PathBuf>> {
    if let Some(wrong) = no_level(settings.log()) {
        let wanted = "error, warn, info, debug, trace and off are, and a filter is such as highwater_engine=debug";
        return Err(Failure::usage(format!("--log: `{wrong}` is no level: {wanted}")));
    }
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
    for told in unread(std::env::vars_os()) {
        tracing::warn!("{told}");
    }
    Ok(file)
}

/// The first part of a filter that is a word alone and no level. It would be taken for a target, which says nothing of
/// all others: a level that is mistyped would have nothing logged.
fn no_level(filter: &str) -> Option<&str> {
    let mut parts = filter.split(',').map(str::trim);
    parts.find(|part| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_mistyped_is_found() {
        assert_eq!(no_level("warning"), Some("warning"));
        assert_eq!(no_level("warn,inf"), Some("inf"));
        for right in ["info", "WARN", "off", "highwater_engine=debug", "warn, highwater_sql=trace", ""] {
            assert_eq!(no_level(right), None, "{right}");
        }
    }
}
