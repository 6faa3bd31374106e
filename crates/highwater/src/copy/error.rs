//! What is wrong with COPY's data: the error as PostgreSQL words it, and its place.

use highwater_sql::input::BadValue;
use thiserror::Error as ThisError;

/// Bytes of data shown with an error at most, as in PostgreSQL.
const MOST_SHOWN: usize = 100;

/// An error in COPY's data.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub(crate) struct CopyError {
    /// The class of the error.
    pub(crate) sqlstate: &'static str,
    /// PostgreSQL's message.
    pub(crate) message: String,
    /// PostgreSQL's DETAIL.
    pub(crate) detail: Option<String>,
    /// From 1; of a CSV row with newlines in it the last line, unless the row does not end.
    pub(crate) line: u64,
    /// The column's name, when the error is in a value.
    pub(crate) column: Option<String>,
    /// The value or, without a column, the row: what is shown of it.
    pub(super) value: Option<String>,
}

/// The beginning of a value or a row, as text.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_SHOWN)]);
    match bytes.len() <= MOST_SHOWN {
        true => text.into_owned(),
        // A character cut in two at the end is not shown.
        false => format!("{}...", text.trim_end_matches('\u{FFFD}')),
    }
}

impl CopyError {
    pub(super) fn of_value(bad: BadValue, line: u64, column: &str, value: Option<String>) -> Self {
        let BadValue { sqlstate, message, detail, .. } = bad;
        Self { sqlstate, message, detail, line, column: Some(column.to_owned()), value }
    }

    /// Where it is, such as `line 3, column a: "x"`: what follows `COPY t, ` in PostgreSQL's CONTEXT.
    pub(crate) fn context(&self) -> String {
        let mut context = format!("line {}", self.line);
        if let Some(column) = &self.column {
            context += &format!(", column {column}");
        }
        if let Some(value) = &self.value {
            context += &format!(": \"{value}\"");
        }
        context
    }
}
