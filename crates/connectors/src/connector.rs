//! What a connector is: a name, its options, and the source or sink that it makes of a statement.
//!
//! The connectors of this crate and those of a program are the same to whoever asks for them.

use crate::format::Format;
use crate::options::{OptionSpec, Settings};
use crate::shape::{Envelope, Shape};
use arrow::datatypes::SchemaRef;
use highwater_engine::Result;
use highwater_engine::sink::Sink;
use highwater_engine::source::Source;
use std::fmt::Debug;
use std::sync::Arc;

/// Makes sources of `CREATE SOURCE ... WITH (connector = 'name', ...)`.
pub trait SourceConnector: Debug + Send + Sync {
    /// The value of the `connector` option: lower-case letters, digits, `_` and `-`, a letter first.
    fn name(&self) -> &str;

    /// What it is, in a sentence or two.
    fn doc(&self) -> &str {
        ""
    }

    /// The options that WITH may have besides `connector`. A statement with another one, without a
    /// required one or with a value of another kind is refused without asking the connector.
    fn options(&self) -> &[OptionSpec] {
        &[]
    }

    /// Makes the source of a statement; called when it is executed, and whenever the database is
    /// opened again. Reads no rows yet.
    ///
    /// # Errors
    /// `Plan` that names the option or column; `Connector` when the outside cannot be asked.
    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>>;
}

/// Makes sinks of `CREATE SINK ... WITH (connector = 'name', ...)`.
pub trait SinkConnector: Debug + Send + Sync {
    /// As [`SourceConnector::name`].
    fn name(&self) -> &str;

    /// As [`SourceConnector::doc`].
    fn doc(&self) -> &str {
        ""
    }

    /// As [`SourceConnector::options`].
    fn options(&self) -> &[OptionSpec] {
        &[]
    }

    /// Makes the sink of a statement; called when it is executed, and again whenever its pipeline is
    /// planned anew. Opens nothing yet.
    ///
    /// # Errors
    /// `Plan` that names the option.
    fn sink(&self, asked: &SinkRequest<'_>) -> Result<Arc<dyn Sink>>;
}

/// What a CREATE SOURCE asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SourceRequest<'a> {
    /// The source's name.
    pub name: &'a str,
    /// The options of WITH and ENCODE (...), with defaults for those that are not given.
    pub settings: &'a Settings,
    /// The declared columns; absent when there are none.
    pub columns: Option<&'a SchemaRef>,
    /// That of FORMAT ... ENCODE.
    pub format: Option<Format>,
    /// What else the statement says of its rows. For a program's connector an item is a row, and nothing
    /// is included.
    pub shape: Shape<'a>,
}

/// What a CREATE SINK asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SinkRequest<'a> {
    /// The sink's name.
    pub name: &'a str,
    /// How many sinks of this name were dropped before. The numbers of checkpoints begin anew with a
    /// new pipeline, so a fence belongs to a name and an incarnation.
    pub incarnation: u64,
    /// The options of WITH and ENCODE (...), with defaults for those that are not given.
    pub settings: &'a Settings,
    /// That of FORMAT ... ENCODE.
    pub format: Option<Format>,
    /// FORMAT; plain for a program's connector.
    pub envelope: Envelope,
}
