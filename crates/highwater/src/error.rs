//! Why the database could not do something, with the SQLSTATE that clients are told.

use datafusion::common::DataFusionError;
use highwater_sql::lower::subquery_at;
use highwater_sql::statement::Query;
use highwater_sql::{CallFailed, DataError, Position, no_regex, place_of};
use highwater_tables::TooMuch;
use std::path::{Path, PathBuf};
use thiserror::Error as ThisError;

/// The database's errors, classed by what the caller must do.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Fix the statement.
    #[error(transparent)]
    Sql(#[from] highwater_sql::Error),
    /// The engine, a connector or a checkpoint: see its own classes.
    #[error(transparent)]
    Engine(#[from] highwater_engine::Error),
    /// A table refused a write, or its store failed: see its own classes.
    #[error(transparent)]
    Tables(#[from] highwater_tables::Error),
    /// A query failed on its data; fix the query or the data.
    #[error("{}", query_message(.0))]
    Query(#[source] Box<DataFusionError>),
    /// What COPY was given cannot be taken; fix the data.
    #[error("{source} ({context})")]
    Copy {
        /// Where, as PostgreSQL's CONTEXT says it: `COPY t, line 3, column b: "x"`.
        context: String,
        /// Why.
        source: Box<Error>,
    },
    /// The objects that need this one must be dropped first, or CASCADE.
    #[error("cannot drop {name:?} because {} it", others(needed_by))]
    InUse {
        /// What was to be dropped.
        name: String,
        /// What reads it.
        needed_by: Vec<String>,
    },
    /// The data folder is another process's, or cannot be used.
    #[error("{}: {what}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
        /// Whether the disk or the quota is full.
        is_full: bool,
    },
    /// What the program added to [`Config`](crate::Config) cannot be used; fix the program.
    #[error("config: {0}")]
    Config(String),
    /// The catalog's file is damaged or of a newer version; restore it from a copy.
    #[error("catalog: {0}")]
    Catalog(#[source] highwater_engine::checkpoint::Error),
    /// A statement of a script failed; the statement's place in the script is told.
    #[error("statement {number} (line {line}): {source}")]
    Script {
        /// From 1.
        number: usize,
        /// The line in the script on which it starts.
        line: u64,
        /// Why.
        source: Box<Error>,
    },
}

/// The database's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn others(needed_by: &[String]) -> String {
    let verb = if needed_by.len() == 1 { "needs" } else { "need" };
    format!("{} {verb}", needed_by.join(", "))
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl Error {
    /// The five characters by which PostgreSQL's clients know the class of an error.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Sql(highwater_sql::Error::Engine(error)) | Self::Engine(error) => engine_state(error),
            Self::Sql(highwater_sql::Error::Plan(error)) => planning_state(error),
            Self::Sql(error) => error.sqlstate(),
            Self::Tables(error) => table_state(error),
            Self::Query(error) => query_state(error),
            Self::InUse { .. } => "2BP01",
            Self::Folder { is_full: true, .. } => "53100",
            Self::Folder { .. } => "58030",
            Self::Config(_) => "F0000",
            Self::Catalog(_) => "XX001",
            Self::Script { source, .. } | Self::Copy { source, .. } => source.sqlstate(),
        }
    }

    /// Whether rows cannot be looked up as was intended, since the pipeline stopped a moment ago, or what it kept
    /// for that was dropped: there is another way to them.
    pub(crate) const fn is_of_look_up(&self) -> bool {
        use highwater_engine::Error as Failed;
        matches!(self, Self::Engine(Failed::NotRunning { .. } | Failed::NoView { .. }))
    }

    /// What an I/O error means for a file or folder of the database.
    pub(crate) fn folder(path: &Path, error: &std::io::Error) -> Self {
        let is_full = highwater_engine::checkpoint::error::is_full(error);
        Self::Folder { path: path.to_owned(), what: error.to_string(), is_full }
    }

    /// The same error without a position.
    pub(crate) fn nowhere(self) -> Self {
        match self {
            Self::Sql(error) => Self::Sql(error.nowhere()),
            other => other,
        }
    }

    /// What went wrong while a query was planned, with its place in the query when that can be told.
    pub(crate) fn of(self, query: &Query) -> Self {
        let Self::Query(error) = &self else { return self };
        if matches!(error.find_root(), DataFusionError::NotImplemented(text) if is_of_subquery(text)) {
            let (clause, hint, position) = (SUBQUERY.to_owned(), NO_SUBQUERY.to_owned(), subquery_at(query));
            return Self::Sql(highwater_sql::Error::Unsupported { clause, hint, position });
        }
        let (sqlstate, message) = (self.sqlstate(), self.to_string());
        match place_of(query, sqlstate, &message) {
            None => self,
            position => Self::Sql(highwater_sql::Error::Invalid { sqlstate, message, position }),
        }
    }

    /// What the statement was at when it failed, as PostgreSQL's CONTEXT, when known.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        match self {
            Self::Copy { context, .. } => Some(context),
            _ => None,
        }
    }

    /// The same error with what COPY was at, unless it says that already.
    pub(crate) fn within(self, context: impl FnOnce() -> String) -> Self {
        match self {
            Self::Copy { .. } => self,
            other => Self::Copy { context: context(), source: Box::new(other) },
        }
    }

    /// Where in the statement, when known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Sql(error) => error.position(),
            Self::Script { source, .. } => source.position(),
            _ => None,
        }
    }
}

/// What went wrong with a query, in PostgreSQL's words where it has some.
fn query_message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(inner, _) => match &**inner {
            arrow::error::ArrowError::DivideByZero => "division by zero".to_owned(),
            arrow::error::ArrowError::CastError(text) | arrow::error::ArrowError::InvalidArgumentError(text)
                if is_too_wide(text) =>
            {
                NUMERIC_OVERFLOW.to_owned()
            }
            arrow::error::ArrowError::CastError(text) => cast_message(text),
            arrow::error::ArrowError::ComputeError(text) if said(text).is_some() => {
                text.trim_start_matches("Execution error: ").to_owned()
            }
            arrow::error::ArrowError::ComputeError(text) if no_regex(text).is_some() => {
                no_regex(text).unwrap_or_default()
            }
            arrow::error::ArrowError::ComputeError(text) if text.contains("overflow") => {
                let array = text.split_once("Array overflow").map_or("Int64", |(data_type, _)| data_type);
                format!("{} out of range", type_called(array))
            }
            other => other.to_string(),
        },
        DataFusionError::External(source) => {
            let told = source.to_string();
            no_regex(&told).unwrap_or(told)
        }
        DataFusionError::NotImplemented(text) if is_of_subquery(text) => {
            format!("{SUBQUERY} is not supported: {NO_SUBQUERY}")
        }
        other => {
            let message = other.message();
            let first = message.lines().next().unwrap_or_default();
            said_otherwise(first).unwrap_or(first).to_owned()
        }
    }
}

/// What is said of a subquery that no join could be made of.
const SUBQUERY: &str = "this subquery";
const NO_SUBQUERY: &str = "write it as a join, or tie it by = to the query around it";

/// Whether what cannot be computed is a subquery that no join could be made of.
fn is_of_subquery(text: &str) -> bool {
    let left = text.strip_prefix("Physical plan does not support logical expression ");
    left.is_some_and(|expr| {
        ["ScalarSubquery", "InSubquery", "Exists", "OuterReference"].iter().any(|k| expr.starts_with(k))
    })
}

/// PostgreSQL's words for a numeric that has more digits than its type.
const NUMERIC_OVERFLOW: &str = "numeric field overflow";

/// Whether arrow says that a numeric has more digits than its type.
fn is_too_wide(text: &str) -> bool {
    let is_of_text = text.contains("Cannot cast string");
    let is_cast = text.contains("Cannot cast to Decimal") && text.contains("Overflowing on");
    !is_of_text && (is_cast || text.contains("to store in a Decimal"))
}

/// What arrow says of a cast that failed, in PostgreSQL's words where it has some.
pub(crate) fn cast_message(text: &str) -> String {
    if is_too_wide(text) {
        return NUMERIC_OVERFLOW.to_owned();
    }
    let syntax = text.strip_prefix("Cannot cast string '").and_then(|rest| rest.rsplit_once("' to value of "));
    let range = text.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type "));
    match (syntax, range) {
        (Some((value, to)), _) if is_out_of_range(text) => {
            format!("value \"{value}\" is out of range for type {}", type_called(to.trim_end_matches(" type")))
        }
        (Some((value, to)), _) => {
            let to = type_called(to.trim_end_matches(" type"));
            format!("invalid input syntax for type {to}: \"{value}\"")
        }
        (None, Some((value, to))) => format!("value \"{value}\" is out of range for type {}", type_called(to)),
        (None, None) => text.to_owned(),
    }
}

/// PostgreSQL's name of a type that arrow calls so.
fn type_called(arrow: &str) -> &str {
    match arrow {
        "Boolean" => "boolean",
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Date32" => "date",
        other if other.starts_with("Decimal") => "numeric",
        other if other.starts_with("Timestamp") => "timestamp",
        other if other.starts_with("Time") => "time",
        other => other,
    }
}

/// Whether a cast failed because the value is too large for the type.
pub(crate) fn is_out_of_range(text: &str) -> bool {
    let parsed = text.split_once("Cannot cast string '").and_then(|(_, rest)| rest.rsplit_once("' to value of Int"));
    let is_whole = |value: &str| {
        let digits = value.trim().trim_start_matches(['-', '+']);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.contains("Can't cast value")
        || text.contains("overflow")
        || is_too_wide(text)
        || parsed.is_some_and(|(value, _)| is_whole(value))
}

fn table_state(error: &highwater_tables::Error) -> &'static str {
    match error {
        highwater_tables::Error::Duplicate { .. } => "23505",
        highwater_tables::Error::Conflict { .. } | highwater_tables::Error::Altered => "40001",
        highwater_tables::Error::TooMuch(TooMuch::Columns { .. }) => "54011",
        highwater_tables::Error::TooMuch(TooMuch::Bytes { .. }) => "54000",
        highwater_tables::Error::Gone { .. } => "42P01",
        highwater_tables::Error::Closed => "57P01",
        highwater_tables::Error::Corrupt(_)
        | highwater_tables::Error::Trimmed { .. }
        | highwater_tables::Error::Foreign { .. }
        | highwater_tables::Error::Lost { .. } => "XX001",
        highwater_tables::Error::Store { .. } | highwater_tables::Error::Io { .. } if error.is_no_space() => "53100",
        highwater_tables::Error::Store { .. } | highwater_tables::Error::Io { .. } => "58030",
    }
}

/// What DataFusion says of values that it does not take, the classes of the errors, and PostgreSQL's words where
/// they are others.
const SAID: [(&str, &str, Option<&str>); 9] = [
    ("field position must not be zero", "22023", None),
    ("cannot take square root of a negative number", "2201F", None),
    ("Timestamp out of range", "22008", None),
    (
        "Scalar subquery returned more than one row",
        "21000",
        Some("more than one row returned by a subquery used as an expression"),
    ),
    ("was not provided a value for execution", "42P02", None),
    ("LIMIT must be >=", "2201W", Some("LIMIT must not be negative")),
    ("OFFSET must be >=", "2201X", Some("OFFSET must not be negative")),
    ("NTILE requires a positive integer, but finds NULL", "0A000", Some("ntile of null is not supported")),
    ("NTILE requires a positive integer", "22014", Some("argument of ntile must be greater than zero")),
];

/// The class of an error in these words.
fn said(text: &str) -> Option<&'static str> {
    SAID.iter().find(|(words, ..)| text.contains(*words)).map(|(_, sqlstate, _)| *sqlstate)
}

/// PostgreSQL's words for an error in these words.
fn said_otherwise(text: &str) -> Option<&'static str> {
    SAID.iter().find(|(words, ..)| text.contains(*words)).and_then(|(.., message)| *message)
}

/// What went wrong while a statement was planned: constants are computed then.
fn planning_state(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::External(_) | DataFusionError::ArrowError(..) | DataFusionError::ResourcesExhausted(_) => {
            query_state(error)
        }
        DataFusionError::Execution(text) => said(text).unwrap_or("XX000"),
        DataFusionError::NotImplemented(_) => "0A000",
        _ => "XX000",
    }
}

/// Files of a query.
fn io_state(error: &std::io::Error) -> &'static str {
    if highwater_engine::checkpoint::error::is_full(error) { "53100" } else { "58030" }
}

/// What went wrong with a query's data, as far as it can be told.
fn query_state(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::IoError(error) => io_state(error),
        DataFusionError::External(source) if source.is::<CallFailed>() => "38000",
        DataFusionError::External(source) => match source.downcast_ref::<DataError>() {
            Some(error) => error.sqlstate,
            None if no_regex(&source.to_string()).is_some() => "2201B",
            None => source.downcast_ref::<Error>().map_or("22000", Error::sqlstate),
        },
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::NotImplemented(_) => "0A000",
        DataFusionError::Execution(text) | DataFusionError::Plan(text) => said(text).unwrap_or("22000"),
        DataFusionError::ArrowError(arrow, _) => match &**arrow {
            arrow::error::ArrowError::DivideByZero => "22012",
            arrow::error::ArrowError::IoError(_, error) => io_state(error),
            arrow::error::ArrowError::ComputeError(text) if said(text).is_some() => said(text).unwrap_or("22000"),
            arrow::error::ArrowError::ComputeError(text) if no_regex(text).is_some() => "2201B",
            arrow::error::ArrowError::ArithmeticOverflow(_) => "22003",
            arrow::error::ArrowError::CastError(text) if is_out_of_range(text) => "22003",
            arrow::error::ArrowError::InvalidArgumentError(text) if is_too_wide(text) => "22003",
            arrow::error::ArrowError::ComputeError(text) if text.contains("overflow") => "22003",
            arrow::error::ArrowError::CastError(_) | arrow::error::ArrowError::ParseError(_) => "22P02",
            _ => "22000",
        },
        _ => "22000",
    }
}

fn engine_state(error: &highwater_engine::Error) -> &'static str {
    match error {
        highwater_engine::Error::Plan(_) | highwater_engine::Error::NoView { .. } => "22023",
        highwater_engine::Error::Data { .. } => "22000",
        highwater_engine::Error::Expression { source, .. } => query_state(source),
        highwater_engine::Error::Connector { .. } => "08000",
        highwater_engine::Error::NotRunning { .. } => "55000",
        highwater_engine::Error::Timeout(_) => "57014",
        highwater_engine::Error::TooMuch { .. } => "53200",
        _ if error.is_no_space() => "53100",
        _ => "58030",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subquery_that_is_not_computed_is_told_with_its_place() {
        let text = "SELECT 1 FROM t LEFT JOIN u ON t.a IN (SELECT b FROM u)";
        let Ok(highwater_sql::statement::Statement::Query(query)) = highwater_sql::parse(text) else {
            panic!("{text} is a query")
        };
        let of = |told: &str| Error::from(DataFusionError::NotImplemented(told.to_owned())).of(&query);
        let refused = of("Physical plan does not support logical expression InSubquery(InSubquery { .. })");
        assert_eq!(refused.sqlstate(), "0A000");
        assert_eq!(refused.position().map(|at| at.offset), text.find("SELECT b").map(|at| at + 1));
        assert!(refused.to_string().starts_with("this subquery is not supported"), "{refused}");
        assert_eq!(of("something else").position(), None);
    }

    #[test]
    fn a_constant_that_is_no_value_is_told_with_its_place() {
        let text = "SELECT CAST('x' AS integer)";
        let Ok(highwater_sql::statement::Statement::Query(query)) = highwater_sql::parse(text) else {
            panic!("{text} is a query")
        };
        let message = "invalid input syntax for type integer: \"x\"".to_owned();
        let bad = DataError { sqlstate: "22P02", message: message.clone() };
        let refused = Error::from(DataFusionError::External(Box::new(bad))).of(&query);
        assert_eq!(refused.sqlstate(), "22P02");
        assert_eq!(refused.position().map(|at| at.offset), Some(13));
        assert!(refused.to_string().starts_with(&message), "{refused}");
    }

    #[test]
    fn a_full_disk_is_no_other_error_of_the_system() {
        let of = |kind: std::io::ErrorKind| {
            let what = "write a spill file".to_owned();
            Error::Engine(highwater_engine::Error::Io { what, source: kind.into() }).sqlstate()
        };
        assert_eq!(of(std::io::ErrorKind::StorageFull), "53100");
        let catalog = |kind: std::io::ErrorKind| Error::folder(Path::new("catalog.json"), &kind.into()).sqlstate();
        assert_eq!(catalog(std::io::ErrorKind::StorageFull), "53100");
        assert_eq!(catalog(std::io::ErrorKind::QuotaExceeded), "53100");
        assert_eq!(catalog(std::io::ErrorKind::PermissionDenied), "58030");
        assert_eq!(of(std::io::ErrorKind::PermissionDenied), "58030");
    }
}
