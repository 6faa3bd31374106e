//! Where rows come from and go to: the sources `nexmark`, `datagen` and `file`, and the sinks `file`
//! and `blackhole`.
//!
//! [`source`] and [`sink`] make them from the options of a WITH clause; [`connectors`] lists them
//! with their options for help and documentation. This crate implements the engine's contracts and
//! knows no SQL, no pipeline and no checkpoint: an offset is a value it gives and takes, a delivery
//! a file it puts in place once.

mod blackhole;
mod conform;
mod datagen;
mod duration;
mod file;
mod file_sink;
mod format;
mod nexmark;
mod options;
mod pace;
mod share;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod documentation;

pub use format::Format;
pub use options::{Kind, OptionSpec, Options};

pub(crate) use format::FORMAT_OPTION;

use arrow::datatypes::SchemaRef;
use highwater_core::SystemClock;
use highwater_engine::sink::Sink;
use highwater_engine::source::Source;
use highwater_engine::{Error, Result};
use std::sync::Arc;

/// Whether a connector gives rows or takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// For CREATE SOURCE.
    Source,
    /// For CREATE SINK.
    Sink,
}

/// A connector and its options.
#[derive(Clone, Copy, Debug)]
pub struct Connector {
    /// The value of the `connector` option.
    pub name: &'static str,
    /// Whether it gives rows or takes them.
    pub role: Role,
    /// What it is, in a sentence or two.
    pub doc: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
}

const CONNECTORS: &[Connector] = &[
    Connector {
        name: "nexmark",
        role: Role::Source,
        doc: "The people, auctions and bids of the Nexmark benchmark, made up on the spot. With the same options every run gives the same events.",
        options: nexmark::OPTIONS,
    },
    Connector {
        name: "datagen",
        role: Role::Source,
        doc: "Rows made up on the spot for the declared columns. With the same options every run gives the same rows.",
        options: datagen::OPTIONS,
    },
    Connector {
        name: "file",
        role: Role::Source,
        doc: "NDJSON, CSV and Parquet files; each file is a split, read from exactly where it was left.",
        options: file::OPTIONS,
    },
    Connector {
        name: "file",
        role: Role::Sink,
        doc: "NDJSON, CSV or Parquet files in a folder, exactly once: one file for each part of a checkpoint's output, named <prefix>-<checkpoint>-<part>, put in place whole and never changed.",
        options: file_sink::OPTIONS,
    },
    Connector { name: "blackhole", role: Role::Sink, doc: "Takes rows and forgets them; for measuring.", options: &[] },
];

/// Every connector there is.
#[must_use]
pub fn connectors() -> &'static [Connector] {
    CONNECTORS
}

/// Makes a source. `declared` are the columns of CREATE SOURCE, if any: a part of those that the
/// source has, or for `datagen` and text files what they are to be. `format` is that of the FORMAT
/// clause.
///
/// # Errors
/// `Plan` that names the option or column; `Connector` when a file cannot be read.
pub fn source(
    connector: &str,
    options: &Options,
    declared: Option<SchemaRef>,
    format: Option<Format>,
) -> Result<Arc<dyn Source>> {
    let clock = Arc::new(SystemClock::default());
    match connector {
        "nexmark" => Ok(Arc::new(nexmark::Nexmark::new(options, declared, clock)?)),
        "datagen" => Ok(Arc::new(datagen::Datagen::new(options, declared, clock)?)),
        "file" => Ok(Arc::new(file::FileSource::new(options, declared, format)?)),
        other => Err(unknown(other, Role::Source)),
    }
}

/// Makes a sink. `name` is the sink's, from which a file sink's prefix is made.
///
/// # Errors
/// `Plan` that names the option.
pub fn sink(connector: &str, name: &str, options: &Options, format: Option<Format>) -> Result<Arc<dyn Sink>> {
    match connector {
        "file" => Ok(Arc::new(file_sink::FileSink::new(name, options, format)?)),
        "blackhole" => Ok(Arc::new(blackhole::Blackhole::new(options)?)),
        other => Err(unknown(other, Role::Sink)),
    }
}

fn unknown(name: &str, role: Role) -> Error {
    let names = || CONNECTORS.iter().filter(|connector| connector.role == role).map(|connector| connector.name);
    let kind = if role == Role::Source { "source" } else { "sink" };
    let hint = match options::nearest(name, names()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", names().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")),
    };
    Error::Plan(format!("connector '{name}' is not one that a {kind} can have: {hint}"))
}
