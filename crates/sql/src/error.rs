//! Why a statement was refused: classed by SQLSTATE, with the position in the statement.

use crate::matched;
use crate::text::Position;
use crate::titles;
use datafusion::common::{Column, DataFusionError, SchemaError};
use std::fmt;
use thiserror::Error as ThisError;

/// Why a statement cannot be parsed, bound or maintained. Each is fixed by changing the statement,
/// except `Plan` and `Engine`, which carry what DataFusion or the engine said.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The text is not a statement (42601).
    #[error("{message}{}", At(*position))]
    Syntax {
        /// What is wrong, and near what.
        message: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// The statement is understood, but this clause is not supported where it stands (0A000).
    #[error("{clause} is not supported{}: {hint}", At(*position))]
    Unsupported {
        /// The clause's name.
        clause: String,
        /// Why, or what to write instead.
        hint: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// A name that stands for nothing: a relation, column, function or type.
    #[error("{kind} {name:?} does not exist{}", At(*position))]
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// The name that was not found.
        name: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// A name that is taken (42P07).
    #[error("{name:?} already exists{}", At(*position))]
    Duplicate {
        /// The name.
        name: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// An option or setting with a name or value that cannot be used (22023).
    #[error("option {option:?}: {reason}{}", At(*position))]
    Option {
        /// The option's name.
        option: String,
        /// What is wrong and what it takes.
        reason: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// Any other mistake in meaning, with its SQLSTATE.
    #[error("{message}{}", At(*position))]
    Invalid {
        /// Five characters.
        sqlstate: &'static str,
        /// What is wrong.
        message: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// DataFusion could not plan or run it for a reason that is none of the above.
    #[error("{}", told(.0))]
    Plan(#[source] Box<DataFusionError>),
    /// The engine or a connector refused it.
    #[error(transparent)]
    Engine(#[from] highwater_engine::Error),
}

/// A value that cannot be computed with, in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub struct DataError {
    /// Its class.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
}

/// What a name was looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A source, view or sink.
    Relation,
    /// A column.
    Column,
    /// A function.
    Function,
    /// A data type.
    Type,
    /// A setting.
    Setting,
    /// A language of functions.
    Language,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relation => "relation",
            Self::Column => "column",
            Self::Function => "function",
            Self::Type => "type",
            Self::Setting => "setting",
            Self::Language => "language",
        })
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Prints a position the way it is read in a terminal.
struct At(Option<Position>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, " (at {at})"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The five characters by which PostgreSQL's clients know the class of an error.
    #[must_use]
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "42601",
            Self::Unsupported { .. } => "0A000",
            Self::Unknown { kind, .. } => match kind {
                Kind::Relation => "42P01",
                Kind::Column => "42703",
                Kind::Function => "42883",
                Kind::Type | Kind::Setting | Kind::Language => "42704",
            },
            Self::Duplicate { .. } => "42P07",
            Self::Option { .. } => "22023",
            Self::Invalid { sqlstate, .. } => sqlstate,
            Self::Plan(_) | Self::Engine(_) => "XX000",
        }
    }

    /// Where in the statement, when known.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self {
            Self::Syntax { position, .. }
            | Self::Unsupported { position, .. }
            | Self::Unknown { position, .. }
            | Self::Duplicate { position, .. }
            | Self::Option { position, .. }
            | Self::Invalid { position, .. } => *position,
            Self::Plan(_) | Self::Engine(_) => None,
        }
    }

    /// The same error at `at`, unless it has a position already.
    #[must_use]
    pub fn or_at(mut self, at: Option<Position>) -> Self {
        if let Some(position) = self.position_mut() {
            *position = position.or(at);
        }
        self
    }

    /// The same error without its position, which is one in a text that nobody sees.
    #[must_use]
    pub fn nowhere(mut self) -> Self {
        if let Some(position) = self.position_mut() {
            *position = None;
        }
        self
    }

    const fn position_mut(&mut self) -> Option<&mut Option<Position>> {
        match self {
            Self::Syntax { position, .. }
            | Self::Unsupported { position, .. }
            | Self::Unknown { position, .. }
            | Self::Duplicate { position, .. }
            | Self::Option { position, .. }
            | Self::Invalid { position, .. } => Some(position),
            Self::Plan(_) | Self::Engine(_) => None,
        }
    }

    /// A clause that is understood but not supported.
    pub(crate) fn unsupported(clause: impl Into<String>, hint: impl Into<String>, position: Option<Position>) -> Self {
        Self::Unsupported { clause: clause.into(), hint: hint.into(), position }
    }

    /// An option that cannot be used.
    #[must_use]
    pub fn option(option: impl Into<String>, reason: impl Into<String>, position: Option<Position>) -> Self {
        Self::Option { option: option.into(), reason: reason.into(), position }
    }

    /// What DataFusion's planner said about `text`, classed as far as it can be told.
    #[must_use]
    pub fn of_planner(error: DataFusionError, text: &str) -> Self {
        let position =
            error.diagnostic().and_then(|d| d.span).and_then(|s| Position::locate(text, s.start.line, s.start.column));
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => Self::of_schema(schema, position),
            DataFusionError::Plan(message) => Self::of_message(message, position),
            DataFusionError::NotImplemented(message) => {
                Self::unsupported(not_done(message), "DataFusion does not plan it", position)
            }
            DataFusionError::External(source) => match source.downcast_ref::<DataError>() {
                Some(said) => Self::Invalid { sqlstate: said.sqlstate, message: said.message.clone(), position },
                None => match no_regex(&source.to_string()) {
                    Some(message) => Self::Invalid { sqlstate: "2201B", message, position },
                    None => Self::Plan(Box::new(error)),
                },
            },
            _ => Self::Plan(Box::new(error)),
        }
    }

    /// Whether DataFusion's planner refuses two results of one name, or may do so.
    pub(crate) fn is_name_twice(error: &DataFusionError) -> bool {
        match error.find_root() {
            DataFusionError::Plan(message) => message.contains(NAME_TWICE),
            DataFusionError::SchemaError(error, _) => !matches!(error.as_ref(), SchemaError::FieldNotFound { .. }),
            _ => false,
        }
    }

    /// A relation cannot have two columns of one name.
    pub(crate) fn name_twice(position: Option<Position>) -> Self {
        let message = "a column is given more than once: name the columns with AS".to_owned();
        Self::Invalid { sqlstate: "42701", message, position }
    }

    /// DISTINCT rows have no order but by what they are made of.
    pub(crate) fn not_distinct(position: Option<Position>) -> Self {
        let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list".to_owned();
        Self::Invalid { sqlstate: NOT_DISTINCT, message, position }
    }

    /// What DataFusion cannot compute, in its words.
    pub(crate) fn not_computed(error: &DataFusionError) -> Self {
        let words = match error.find_root() {
            DataFusionError::NotImplemented(message)
            | DataFusionError::Plan(message)
            | DataFusionError::Execution(message) => not_done(message),
            other => not_done(&other.to_string()),
        };
        if words.starts_with("In an aggregate with DISTINCT, ") {
            let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list".to_owned();
            return Self::Invalid { sqlstate: NOT_DISTINCT, message, position: None };
        }
        Self::unsupported(words, "DataFusion does not compute it", None)
    }

    fn of_schema(error: &SchemaError, position: Option<Position>) -> Self {
        match error {
            // Columns that share a title have other names.
            SchemaError::FieldNotFound { field, valid_fields } if is_shared(field, valid_fields) => Self::Invalid {
                sqlstate: "42702",
                message: format!("column reference {:?} is ambiguous", field.name),
                position,
            },
            SchemaError::FieldNotFound { field, .. } => {
                Self::Unknown { kind: Kind::Column, name: field.quoted_flat_name().replace('"', ""), position }
            }
            SchemaError::AmbiguousReference { field } => Self::Invalid {
                sqlstate: "42702",
                message: format!("column reference {:?} is ambiguous", field.name),
                position,
            },
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                Self::Invalid {
                    sqlstate: "42701",
                    message: format!("column {name:?} is given more than once"),
                    position,
                }
            }
        }
    }

    fn of_message(message: &str, position: Option<Position>) -> Self {
        let message = first_line(message);
        if let Some(name) = between(&message, "table '", "' not found") {
            return Self::Unknown { kind: Kind::Relation, name, position };
        }
        if let Some(name) = between(&message, "Invalid function '", "'") {
            return Self::Unknown { kind: Kind::Function, name, position };
        }
        if let Some(name) = between(&message, "table function '", "' not found") {
            return Self::Unknown { kind: Kind::Function, name, position };
        }
        if let Some(message) = between(&message, COERCION_FAILED, ". No function matches") {
            if let Some((sqlstate, message)) = matched::in_postgres_words(&message) {
                return Self::Invalid { sqlstate, message, position };
            }
            let sqlstate = if message.ends_with(matched::UNMATCHED) { "42804" } else { "42883" };
            return Self::Invalid { sqlstate, message, position };
        }
        if let Some(column) = between(&message, "column \"", "\" must appear in the GROUP BY") {
            let message = format!("column {column:?} must appear in GROUP BY or in an aggregate function");
            return Self::Invalid { sqlstate: "42803", message, position };
        }
        if message.contains(NAME_TWICE) {
            return Self::name_twice(position);
        }
        if message.contains(DISTINCT_ORDER) {
            return Self::not_distinct(position);
        }
        if message.contains(DISTINCT_ON_ORDER) {
            return Self::Invalid { sqlstate: NOT_DISTINCT, message, position };
        }
        if let Some((sqlstate, message)) = in_postgres_words(&message) {
            return Self::Invalid { sqlstate, message, position };
        }
        if message.contains(SEVERAL_ROWS) {
            let hint = "use an aggregate such as max";
            return Self::unsupported("a correlated subquery that may give several rows as a value", hint, position);
        }
        let sqlstate = if message.contains("GROUP BY") { "42803" } else { "42804" };
        Self::Invalid { sqlstate, message, position }
    }
}

/// Whether several of the columns that there are have a title, of a relation if it tells one.
fn is_shared(field: &Column, valid: &[Column]) -> bool {
    let is_of_it = |column: &&Column| field.relation.is_none() || field.relation == column.relation;
    titles::share(valid.iter().filter(is_of_it).map(|column| column.name.as_str()), &field.name)
}

/// What DataFusion's planner says of a statement, in PostgreSQL's words and with its SQLSTATE, where it has some.
fn in_postgres_words(message: &str) -> Option<(&'static str, String)> {
    if message.contains("Aggregate functions are not allowed in the WHERE clause") {
        return Some(("42803", IN_WHERE.to_owned()));
    }
    if let Some(field) = between(message, "Field ", " not found in struct") {
        return Some(("42703", format!("{NO_FIELD}{field:?} in record data type")));
    }
    if message.contains("LIMIT must be >=") {
        return Some(("2201W", "LIMIT must not be negative".to_owned()));
    }
    if message.contains("OFFSET must be >=") {
        return Some(("2201X", "OFFSET must not be negative".to_owned()));
    }
    if message.contains("Aggregate function calls cannot be nested") {
        return Some(("42803", NESTED.to_owned()));
    }
    if let Some((operator, _)) = message.split_once(" queries have different number of columns") {
        return Some(("42601", format!("each {operator} query must have the same number of columns")));
    }
    if message.contains("Inconsistent data length across values list") {
        return Some(("42601", "VALUES lists must all be the same length".to_owned()));
    }
    if message.contains(ALIASED) {
        return Some((NOT_DISTINCT, message.to_owned()));
    }
    if let Some(told) = matched::in_postgres_words(message) {
        return Some(told);
    }
    let (clause, place) = if message.contains("Order by index starts at 1") {
        ("ORDER BY", "0".to_owned())
    } else if let Some(place) = between(message, "Order by column out of bounds, specified: ", ",") {
        ("ORDER BY", place)
    } else if let Some(place) = between(message, "Cannot find column with position ", " in SELECT clause") {
        ("GROUP BY", place)
    } else {
        let function = between(message, "Function '", "' user-defined coercion failed")?;
        let given = between(message, "argument types '", "'").unwrap_or(function);
        let given = matched::called(&given).unwrap_or(given);
        return Some(("42883", format!("function {given} does not exist")));
    };
    Some(("42P10", format!("{clause} position {place} is not in select list")))
}

/// PostgreSQL's words for a regular expression that is none, if this is what a text says at length.
#[must_use]
pub fn no_regex(told: &str) -> Option<String> {
    let (_, told) = told.split_once("regex parse error:")?;
    // The pattern and the place in it come first.
    let why = told.lines().rev().find_map(|line| line.strip_prefix("error: "))?;
    Some(format!("invalid regular expression: {why}"))
}

/// What a program's function said, or DataFusion.
fn told(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(source) => source.to_string(),
        _ => error.to_string(),
    }
}

/// What DataFusion writes before a function's own words about its arguments.
const COERCION_FAILED: &str = "user-defined coercion failed with: Error during planning: ";

/// What DataFusion says of a correlated subquery as a value, also when keys tell that there is one row.
const SEVERAL_ROWS: &str = "Correlated scalar subquery must be aggregated";

/// The SQLSTATE of an order that DISTINCT has no place for, and of other references to columns that are none.
pub(crate) const NOT_DISTINCT: &str = "42P10";

/// PostgreSQL's words for an aggregate in WHERE, for one in another, and the first ones for a field that is not there.
pub(crate) const IN_WHERE: &str = "aggregate functions are not allowed in WHERE";
pub(crate) const NESTED: &str = "aggregate function calls cannot be nested";
pub(crate) const NO_FIELD: &str = "could not identify column ";

/// What DataFusion says of an order by what DISTINCT rows do not have, and by other than DISTINCT ON.
const DISTINCT_ORDER: &str = "For SELECT DISTINCT, ORDER BY expressions";
const DISTINCT_ON_ORDER: &str = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";

/// What is said of more names than a relation has columns, in PostgreSQL's words.
pub(crate) const ALIASED: &str = " columns available but ";

/// What DataFusion's planner says of two expressions of one name.
const NAME_TWICE: &str = "require unique expression names";

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// What DataFusion does not do, without its own words for that.
fn not_done(message: &str) -> String {
    let line = first_line(message);
    let said = [" is not supported yet", " is not supported", " not implemented yet"];
    let before = said.iter().find_map(|words| line.strip_suffix(*words));
    before.unwrap_or(line.as_str()).to_owned()
}

pub(crate) fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let start = text.find(before)? + before.len();
    let rest = &text[start..];
    Some(rest[..rest.find(after)?].to_owned())
}
