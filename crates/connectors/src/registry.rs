//! All connectors by their names: those of this crate and those of a program.
//!
//! Invariants: a name stands for one source connector and one sink connector at most, and a name of
//! this crate for nothing else; the sources that come out of it keep what [`crate::guard`] checks; who asks for a
//! source waits for a bounded time.

use crate::connector::{SinkConnector, SinkRequest, SourceConnector, SourceRequest};
use crate::format::Format;
use crate::guard::GuardedConnector;
use crate::options::{OptionSpec, Options, Settings, check_specs, nearest};
use crate::shape::{Envelope, Shape};
use crate::{blackhole, datagen, file, file_sink, nexmark};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_core::SystemClock;
use highwater_engine::sink::Sink;
use highwater_engine::source::Source;
use highwater_engine::{Error, Outside, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long a connector is waited for that looks at what is outside to make a source, such as a folder.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connectors that statements may name.
#[derive(Clone, Debug)]
pub struct Connectors {
    sources: Vec<Arc<dyn SourceConnector>>,
    sinks: Vec<Arc<dyn SinkConnector>>,
    outside: Outside,
}

/// A CREATE SOURCE or CREATE SINK, as written.
#[derive(Clone, Copy, Debug)]
pub struct Created<'a> {
    /// The value of the `connector` option.
    pub connector: &'a str,
    /// The source's or sink's name.
    pub name: &'a str,
    /// See [`SinkRequest::incarnation`].
    pub incarnation: u64,
    /// All other options.
    pub options: &'a Options,
    /// The columns that CREATE SOURCE declares, if any: a part of those that the source has, or what
    /// they are to be where that is for the statement to say.
    pub columns: Option<&'a SchemaRef>,
    /// That of FORMAT ... ENCODE.
    pub format: Option<Format>,
    /// What else the statement says of its rows.
    pub shape: Shape<'a>,
}

impl Created<'_> {
    /// The columns that the source gives, as far as that is known without its connector: none where the
    /// statement declares none.
    ///
    /// # Errors
    /// `Plan` when two columns have one name.
    pub fn declared_schema(&self) -> Result<Option<SchemaRef>> {
        let Some(columns) = self.columns.filter(|columns| !columns.fields().is_empty()) else { return Ok(None) };
        if self.connector != "file" {
            return Ok(Some(Arc::clone(columns)));
        }
        let on_error = self.options.get("on_error");
        let keeps_errors = on_error.is_some_and(|word| word.trim().eq_ignore_ascii_case("dead_letter"));
        file::columns_given(columns, &self.shape, keeps_errors).map(Some)
    }
}

/// A connector of this crate; `F` makes the source or sink.
#[derive(Clone, Debug)]
struct BuiltIn<F> {
    name: &'static str,
    doc: &'static str,
    options: &'static [OptionSpec],
    make: F,
}

type MakeSource = fn(&SourceRequest<'_>) -> Result<Arc<dyn Source>>;
type MakeSink = fn(&SinkRequest<'_>) -> Result<Arc<dyn Sink>>;

const SOURCES: [BuiltIn<MakeSource>; 3] = [
    BuiltIn {
        name: "nexmark",
        doc: "The people, auctions and bids of the Nexmark benchmark, made up on the spot. With the same options every run gives the same events.",
        options: nexmark::OPTIONS,
        make: |asked| {
            let clock = Arc::new(SystemClock::default());
            Ok(Arc::new(nexmark::Nexmark::new(asked.settings, asked.columns.cloned(), clock)?))
        },
    },
    BuiltIn {
        name: "datagen",
        doc: "Rows made up on the spot for the declared columns. With the same options every run gives the same rows.",
        options: datagen::OPTIONS,
        make: |asked| {
            let clock = Arc::new(SystemClock::default());
            Ok(Arc::new(datagen::Datagen::new(asked.settings, asked.columns.cloned(), clock)?))
        },
    },
    BuiltIn {
        name: "file",
        doc: "NDJSON, CSV and Parquet files; each file is a split, read from exactly where it was left.",
        options: file::OPTIONS,
        make: |asked| Ok(Arc::new(file::FileSource::new(asked)?)),
    },
];

const SINKS: [BuiltIn<MakeSink>; 2] = [
    BuiltIn {
        name: "file",
        doc: "NDJSON, CSV or Parquet files in a folder, exactly once: one file for each part of a checkpoint's output, named <prefix>-<checkpoint>-<part>, put in place whole and never changed.",
        options: file_sink::OPTIONS,
        make: |asked| Ok(Arc::new(file_sink::FileSink::new(asked)?)),
    },
    BuiltIn {
        name: "blackhole",
        doc: "Takes rows and forgets them; for measuring.",
        options: &[],
        make: |_| Ok(Arc::new(blackhole::Blackhole)),
    },
];

impl SourceConnector for BuiltIn<MakeSource> {
    fn name(&self) -> &str {
        self.name
    }

    fn doc(&self) -> &str {
        self.doc
    }

    fn options(&self) -> &[OptionSpec] {
        self.options
    }

    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        (self.make)(asked)
    }
}

impl SinkConnector for BuiltIn<MakeSink> {
    fn name(&self) -> &str {
        self.name
    }

    fn doc(&self) -> &str {
        self.doc
    }

    fn options(&self) -> &[OptionSpec] {
        self.options
    }

    fn sink(&self, asked: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
        (self.make)(asked)
    }
}

impl Default for Connectors {
    /// Those of this crate.
    fn default() -> Self {
        Self {
            sources: SOURCES.into_iter().map(|connector| Arc::new(connector) as _).collect(),
            sinks: SINKS.into_iter().map(|connector| Arc::new(connector) as _).collect(),
            outside: Outside::new(PATIENCE),
        }
    }
}

impl Connectors {
    /// Those of this crate and those of a program.
    ///
    /// # Errors
    /// `Plan` when a name is taken or is no name, or a declared option is not sound.
    pub fn new(sources: &[Arc<dyn SourceConnector>], sinks: &[Arc<dyn SinkConnector>]) -> Result<Self> {
        let mut all = Self::default();
        for connector in sources {
            check_name(connector.name(), all.sources.iter().any(|other| other.name() == connector.name()))?;
            check_specs(connector.name(), connector.options())?;
            all.sources.push(Arc::new(GuardedConnector::new(Arc::clone(connector))));
        }
        for connector in sinks {
            check_name(connector.name(), all.sinks.iter().any(|other| other.name() == connector.name()))?;
            check_specs(connector.name(), connector.options())?;
            all.sinks.push(Arc::clone(connector));
        }
        Ok(all)
    }

    /// All connectors for sources.
    pub fn sources(&self) -> impl Iterator<Item = &dyn SourceConnector> {
        self.sources.iter().map(AsRef::as_ref)
    }

    /// All connectors for sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &dyn SinkConnector> {
        self.sinks.iter().map(AsRef::as_ref)
    }

    /// Makes a source.
    ///
    /// # Errors
    /// `Plan` that names the connector, option or column; `Connector` when the outside cannot be
    /// asked, or does not answer.
    pub fn source(&self, created: &Created<'_>) -> Result<Arc<dyn Source>> {
        let Created { connector, name, options, format, shape, .. } = *created;
        let found = self.sources.iter().find(|known| known.name() == connector).map(Arc::clone);
        let found = found.ok_or_else(|| unknown(connector, "source", self.sources().map(SourceConnector::name)))?;
        let settings = Settings::read(connector, found.options(), options)?;
        let columns = created.columns.filter(|columns| !columns.fields().is_empty()).cloned();
        refuse_shape(connector, "source", &shape)?;
        let (asked, envelope) = (name.to_owned(), shape.envelope);
        let (key, included) = (shape.key.to_vec(), shape.included.to_vec());
        let make = move || {
            let (name, columns) = (asked.as_str(), columns.as_ref());
            let shape = Shape { envelope, key: &key, included: &included };
            found.source(&SourceRequest { name, settings: &settings, columns, format, shape })
        };
        let object = format!("source '{name}' of connector '{connector}'");
        let source = self.outside.ask(&object, format!("{created:?}"), make, || Ok(()))?;
        refuse_documents(connector, &source.schema())?;
        Ok(source)
    }

    /// Makes a sink.
    ///
    /// # Errors
    /// `Plan` that names the connector or option.
    pub fn sink(&self, created: &Created<'_>) -> Result<Arc<dyn Sink>> {
        let Created { connector, name, incarnation, options, format, shape, .. } = *created;
        let found = self.sinks().find(|known| known.name() == connector);
        let found = found.ok_or_else(|| unknown(connector, "sink", self.sinks().map(SinkConnector::name)))?;
        let settings = Settings::read(connector, found.options(), options)?;
        refuse_shape(connector, "sink", &shape)?;
        let envelope = shape.envelope;
        found.sink(&SinkRequest { name, incarnation, settings: &settings, format, envelope })
    }
}

/// Whether a type is jsonb, or has it within.
fn has_documents(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(of) => has_documents(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_documents(field.data_type())),
        other => *other == DataType::LargeUtf8,
    }
}

/// Refuses columns of jsonb, which is in normal form where `file` gives it.
fn refuse_documents(connector: &str, columns: &SchemaRef) -> Result<()> {
    let document = columns.fields().iter().find(|field| has_documents(field.data_type()));
    let Some(field) = document.filter(|_| connector != "file") else { return Ok(()) };
    let name = field.name();
    Err(Error::Plan(format!("column '{name}' is jsonb, which connector '{connector}' does not give: take varchar")))
}

/// Refuses what only files have.
fn refuse_shape(connector: &str, kind: &str, shape: &Shape<'_>) -> Result<()> {
    if connector == "file" {
        return Ok(());
    }
    let clause = match (shape.envelope, shape.included.first()) {
        (Envelope::Plain, None) => return Ok(()),
        (Envelope::Plain, Some(included)) => format!("INCLUDE ... AS {}", included.name),
        (envelope, _) => format!("FORMAT {}", envelope.name()),
    };
    Err(Error::Plan(format!("{clause} is not for a {kind} with connector '{connector}': only 'file' has it")))
}

fn check_name(name: &str, is_taken: bool) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_plain) {
        let takes = "it takes lower-case letters, digits, _ and -, a letter first";
        return Err(Error::Plan(format!("'{name}' cannot be a connector's name: {takes}")));
    }
    let is_ours = SOURCES.iter().any(|ours| ours.name == name) || SINKS.iter().any(|ours| ours.name == name);
    if is_ours {
        return Err(Error::Plan(format!("connector '{name}' is built in: give yours another name")));
    }
    if is_taken {
        return Err(Error::Plan(format!("two connectors are named '{name}'")));
    }
    Ok(())
}

fn unknown<'a>(name: &str, kind: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", known.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")),
    };
    Error::Plan(format!("connector '{name}' is not one that a {kind} can have: {hint}"))
}
