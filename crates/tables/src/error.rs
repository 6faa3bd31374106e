//! Why a table could not be written or read.

use std::path::PathBuf;
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
    /// A table got a column or a key after the statement or its transaction had begun; do that again.
    #[error("a table was altered meanwhile: run the statement again, or the whole transaction that it is in")]
    Altered,
    /// It is more than can be stored: write less at once, or make a new table.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
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
    /// A place in a log that is not this store's, to where that was read or written; nothing can go on from it.
    #[error(
        "a checkpoint goes on from position {position} of a log that these tables do not have, whose log ends at \
         {newest}: tables and checkpoints are not of one database. When the data folder was lost, an older copy of it \
         was put back, or its log has lost its end, drop the view, sink or subscription and create it anew; when \
         another server has this root, use another one"
    )]
    Foreign {
        /// The place.
        position: u64,
        /// Where the log ends.
        newest: u64,
    },
    /// Writes that were acknowledged are gone; restore the store from elsewhere.
    #[error(
        "{}: the log of the tables ends at position {newest}, and {} tells that position {marked} was durable: a file \
         of the log was lost, cut off or damaged. Put the data folder back from a copy. To go on without the writes \
         after position {newest}, remove {}: views that have seen them are refused then",
        store.display(), mark.display(), mark.display()
    )]
    Lost {
        /// The store's folder.
        store: PathBuf,
        /// The file that tells.
        mark: PathBuf,
        /// The newest position that is there.
        newest: u64,
        /// The newest position that was durable.
        marked: u64,
    },
    /// A file beside the store cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store is closing.
    #[error("the table store is closed")]
    Closed,
}

/// What is more than can be stored.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TooMuch {
    /// Columns that a table gets.
    #[error("a table can get {most} columns after it was created")]
    Columns {
        /// As many.
        most: usize,
    },
    /// Bytes of a transaction, which stands in the log as a whole.
    #[error("one transaction changes {bytes} bytes of table {table:?}, and at most {most} can be written: divide it")]
    Bytes {
        /// The table.
        table: String,
        /// As many, at most.
        bytes: usize,
        /// What would do.
        most: usize,
    },
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
        match self {
            Self::Store { source, .. } => is_full(source.as_ref()),
            Self::Io { source, .. } => is_full(&source.to_string()),
            _ => false,
        }
    }

    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<Error> for highwater_engine::Error {
    fn from(error: Error) -> Self {
        match error {
            // Another try finds the same.
            Error::Corrupt(_) | Error::Trimmed { .. } | Error::Foreign { .. } => Self::data("table", error),
            _ => Self::connector("table", error),
        }
    }
}
