//! The statements that Highwater speaks, as plain data with the positions that errors need.

use crate::text::Position;
use datafusion::sql::sqlparser::ast;
use std::fmt;

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Folded to lower case unless it was quoted.
    pub value: String,
    /// Where it stands.
    pub at: Position,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

/// One `key = value` of a WITH or ENCODE clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Lower case, dots included.
    pub key: String,
    /// As written, without quotes.
    pub value: String,
    /// Where the key stands.
    pub at: Position,
}

/// FORMAT PLAIN ENCODE ... (...).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// How rows are written.
    pub encoding: Encoding,
    /// What stands in parentheses.
    pub options: Vec<Property>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One JSON object a line.
    Json,
    /// Comma-separated values.
    Csv,
    /// Parquet.
    Parquet,
}

/// A query with the text it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// As sqlparser gives it; its spans are places in `text`.
    pub ast: Box<ast::Query>,
    /// The whole statement's text, for positions.
    pub text: String,
}

/// CREATE SOURCE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSource {
    /// The new source.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Empty when the connector knows its columns.
    pub columns: Vec<Column>,
    /// WITH.
    pub options: Vec<Property>,
    /// FORMAT ... ENCODE.
    pub format: Option<Format>,
}

/// A column of a CREATE SOURCE.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Its Arrow type.
    pub data_type: arrow::datatypes::DataType,
    /// NOT NULL.
    pub not_null: bool,
}

/// CREATE VIEW and CREATE MATERIALIZED VIEW.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    /// The new view.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// New names for the query's columns, all or none.
    pub columns: Vec<Name>,
    /// WITH; always empty for a plain view.
    pub options: Vec<Property>,
    /// AS.
    pub query: Query,
}

/// CREATE SINK.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSink {
    /// The new sink.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// AS SELECT, or FROM as `SELECT * FROM`.
    pub query: Query,
    /// WITH.
    pub options: Vec<Property>,
    /// FORMAT ... ENCODE.
    pub format: Option<Format>,
}

/// What SHOW shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// SHOW TABLES.
    Tables,
    /// SHOW SOURCES.
    Sources,
    /// SHOW VIEWS.
    Views,
    /// SHOW MATERIALIZED VIEWS.
    MaterializedViews,
    /// SHOW SINKS.
    Sinks,
    /// SHOW JOBS.
    Jobs,
    /// SHOW CHECKPOINTS [FOR v].
    Checkpoints(Option<Name>),
    /// SHOW CREATE kind x; the kind is not needed to find it, as all share one name space.
    Create(Name),
    /// SHOW setting.
    Setting(Name),
}

/// The kinds of objects that DROP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// SOURCE.
    Source,
    /// VIEW.
    View,
    /// MATERIALIZED VIEW.
    MaterializedView,
    /// SINK.
    Sink,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "SOURCE",
            Self::View => "VIEW",
            Self::MaterializedView => "MATERIALIZED VIEW",
            Self::Sink => "SINK",
        })
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// CREATE SOURCE.
    CreateSource(CreateSource),
    /// CREATE VIEW.
    CreateView(CreateView),
    /// CREATE MATERIALIZED VIEW.
    CreateMaterializedView(CreateView),
    /// CREATE SINK.
    CreateSink(CreateSink),
    /// SELECT, VALUES, WITH.
    Query(Query),
    /// EXPLAIN of a query.
    ExplainQuery(Query),
    /// EXPLAIN CREATE MATERIALIZED VIEW.
    ExplainView(CreateView),
    /// SHOW.
    Show(Show),
    /// DESCRIBE x.
    Describe(Name),
    /// CHECKPOINT [v] [WAIT].
    Checkpoint {
        /// All pipelines when absent.
        view: Option<Name>,
        /// Return only when it is published.
        wait: bool,
    },
    /// ALTER MATERIALIZED VIEW v SET (...).
    AlterView {
        /// The view.
        name: Name,
        /// The settings.
        options: Vec<Property>,
    },
    /// DROP.
    Drop {
        /// The kind that was named.
        kind: ObjectKind,
        /// The object.
        name: Name,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// FLUSH.
    Flush,
    /// SET x TO y.
    Set {
        /// The setting.
        name: Name,
        /// Its new value; `default` for DEFAULT.
        value: String,
    },
}
