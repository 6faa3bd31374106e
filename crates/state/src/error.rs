//! The one error of this crate, classed by what the caller must do.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with state, its files or its page store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused; free space when `no_space`, else look at the path.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// True when the disk or a quota is full.
        no_space: bool,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// RocksDB refused; free space when `no_space`, else the page store must be opened anew.
    #[error("cannot {action}: {source}")]
    RocksDb {
        /// What was being done.
        action: &'static str,
        /// True when the disk or a quota is full.
        no_space: bool,
        /// RocksDB's own words.
        #[source]
        source: rocksdb::Error,
    },
    /// Stored bytes are not what was written: restore from another checkpoint.
    #[error("corrupt state: {what}")]
    Corrupt {
        /// Which object, and what is wrong with it.
        what: String,
    },
    /// A table has reached a fixed limit of its format.
    #[error("{what} is full: its limit is {limit}")]
    Full {
        /// What is full.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The caller broke a rule of the interface; nothing was changed.
    #[error("state used wrongly: {0}")]
    Usage(&'static str),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let no_space = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self::Io { action, path: path.to_path_buf(), no_space, source }
    }

    pub(crate) fn rocks(action: &'static str, source: rocksdb::Error) -> Self {
        // RocksDB carries the errno only as text.
        let text = source.as_ref();
        let no_space = text.contains("No space left") || text.contains("quota exceeded");
        Self::RocksDb { action, no_space, source }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    /// Whether freeing disk space can cure it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { no_space: true, .. } | Self::RocksDb { no_space: true, .. })
    }
}
