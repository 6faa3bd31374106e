//! Where rows come from and go to: the sources `nexmark`, `datagen` and `file`, the sinks `file` and
//! `blackhole`, and those that a program adds.
//!
//! [`Connectors`] makes them from the options of a WITH clause, and lists them with their options for
//! documentation. This crate implements the engine's contracts and knows no SQL, no pipeline and no
//! checkpoint: an offset is a value it gives and takes, a delivery a file it puts in place once.

mod blackhole;
mod conform;
mod connector;
mod contract;
mod datagen;
mod duration;
mod file;
mod file_sink;
mod format;
mod guard;
mod nexmark;
mod options;
mod pace;
mod registry;
mod shape;
mod share;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod documentation;

pub use connector::{SinkConnector, SinkRequest, SourceConnector, SourceRequest};
pub use contract::check_source;
pub use format::Format;
pub use options::{Kind, OptionSpec, Options, Settings};
pub use registry::{Connectors, Created};
pub use shape::{DELETED, ERROR_COLUMNS, ERRORS_KEPT, Envelope, Included, Metadata, Shape};

pub(crate) use format::FORMAT_OPTION;
