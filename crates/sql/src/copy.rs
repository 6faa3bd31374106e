//! COPY, as plain data.

use crate::statement::{Name, Query};

/// COPY t FROM STDIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The table.
    pub table: Name,
    /// The columns that the data gives; empty for all.
    pub columns: Vec<Name>,
    /// How rows are written.
    pub options: CopyOptions,
}

/// COPY ... TO STDOUT.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyOut {
    /// What it gives; `SELECT ... FROM` for a relation.
    pub query: Query,
    /// How rows are written.
    pub options: CopyOptions,
}

/// How COPY writes rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// CSV instead of text.
    pub csv: bool,
    /// Between two fields; the format's own when absent.
    pub delimiter: Option<char>,
    /// What stands for null; the format's own when absent.
    pub null: Option<String>,
    /// The first line holds names.
    pub header: bool,
    /// They are those of the columns, or the data is refused.
    pub names: bool,
    /// Around fields, in CSV.
    pub quote: Option<char>,
    /// Before a quote within a field, in CSV.
    pub escape: Option<char>,
}
