//! Why a table could not be written or read.

use thiserror::Error as ThisError;

/// Classed by what the caller must do.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A key exists already; the statement must change.
    #[error("duplicate key value violates unique constraint \"{table}_pkey\": Key {key} already exists.")]
    Duplicate {
        /// The table.
        table: String,
        /// The key's columns and values, as PostgreSQL prints them.
        key: String,
    },
    /// A row that the transaction read has changed since; do the transaction again.
    #[error("a row of table {table:?} was changed by another transaction")]
    Conflict {
        /// The table.
        table: String,
    },
    /// A table got a column after the statement had begun; do the statement again.
    #[error("a table has got a column meanwhile: run the statement again")]
    Altered,
    /// A table cannot get another column; make a new one.
    #[error("a table can get {most} columns after it was created")]
    TooMany {
        /// As many.
        most: usize,
    },
    /// The table was dropped meanwhile.
    #[error("relation {table:?} does not exist")]
    Gone {
        /// The table.
        table: String,
    },
    /// The store cannot be written or read now; the write surely did not happen, unless said so.
    #[error("{what}: {source}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// What is stored cannot be understood; restore it from elsewhere.
    #[error("the table store is damaged: {0}")]
    Corrupt(String),
    /// The log no longer holds what a reader wants to come back to.
    #[error("the log of table {table:?} begins after position {position}, which a checkpoint goes on from")]
    Trimmed {
        /// The table.
        table: String,
        /// Where the reader stands.
        position: u64,
    },
    /// The store is closing.
    #[error("the table store is closed")]
    Closed,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) const fn store(what: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Store { what, source }
    }

    /// Whether freeing disk space can cure it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        // RocksDB carries the errno only as text.
        let is_full = |text: &str| text.contains("No space left") || text.contains("quota exceeded");
        matches!(self, Self::Store { source, .. } if is_full(source.as_ref()))
    }

    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<Error> for highwater_engine::Error {
    fn from(error: Error) -> Self {
        Self::connector("table", error)
    }
}
