//! The engine's one error type, classed by what the caller must do.

use thiserror::Error as ThisError;

/// Why the engine could not do something.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The statement or plan asks for what cannot be done; fix the statement.
    #[error("{0}")]
    Plan(String),
    /// A row or value that an expression, source or sink cannot take; fix the data or its policy.
    #[error("{object}: {reason}")]
    Data {
        /// The source, operator or sink.
        object: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A source or sink could not be reached or read; retried by restarting the pipeline.
    #[error("{object}: {reason}")]
    Connector {
        /// The source or sink.
        object: String,
        /// What happened.
        reason: String,
    },
    /// The state on this machine could not be read or written.
    #[error("state: {0}")]
    State(#[from] highwater_state::Error),
    /// A checkpoint could not be written, published or restored.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] highwater_checkpoint::Error),
    /// The pipeline has failed, stopped or was dropped; the reason is told.
    #[error("pipeline {pipeline} is not running: {reason}")]
    NotRunning {
        /// Its name.
        pipeline: String,
        /// Why.
        reason: String,
    },
    /// Something was waited for beyond its deadline.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The rows that a read asks for take more memory than it may have.
    #[error("the rows of {pipeline} take more than {bytes} bytes of memory: ask for fewer, or raise query_memory")]
    TooMuch {
        /// The pipeline that is read.
        pipeline: String,
        /// What the read may take.
        bytes: u64,
    },
    /// The machine gave an error that is none of the above.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An expression that failed on data.
    #[must_use]
    pub fn data(object: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Data { object: object.into(), reason: reason.to_string() }
    }

    /// A source or sink that failed.
    #[must_use]
    pub fn connector(object: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Connector { object: object.into(), reason: reason.to_string() }
    }
}
