//! The crate's one error, classed by what the caller must do, and its translation from the errors
//! of object stores and of the file system.
//!
//! Invariant: an error of a write says whether the write surely did not happen or may have.

use crate::resolve::Fallback;
use highwater_core::{CheckpointId, Generation};
use std::io;
use std::path::PathBuf;

/// A cause that is kept.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is known about a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store is as it was before.
    SurelyNotDone,
    /// The store may have carried it out, or may still do so.
    Unknown,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SurelyNotDone => "nothing was changed",
            Self::Unknown => "it may have happened",
        })
    }
}

/// Says that a write may have happened; what only reads changes nothing.
fn doubt(action: &str, outcome: Outcome) -> String {
    let reads = ["list", "locate", "look up", "read"].contains(&action);
    if reads || outcome == Outcome::SurelyNotDone { String::new() } else { format!(" ({outcome})") }
}

/// Everything that can go wrong, by what to do about it. Who reads a message sees the cause in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer or refused for now. Try again later.
    #[error("cannot {action} {object} for now{}: {source}", doubt(action, *outcome))]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// On which object.
        object: String,
        /// Whether a write may have happened.
        outcome: Outcome,
        /// Why.
        #[source]
        source: Source,
    },
    /// The object is not there. For a referenced object: restore from another checkpoint.
    #[error("{object} is not in the store")]
    Missing {
        /// Which object.
        object: String,
    },
    /// The object is not what was written. Restore from another checkpoint.
    #[error("{object} is damaged: {reason}")]
    Corrupt {
        /// Which object.
        object: String,
        /// How it shows.
        reason: String,
    },
    /// A newer program wrote it. Use that program.
    #[error("{object} has format {found}, this program reads formats up to {supported}: use a newer program")]
    Newer {
        /// Which object.
        object: String,
        /// Its format.
        found: u32,
        /// The newest format that this program reads.
        supported: u32,
    },
    /// Another process has claimed the pipeline. Stop; nothing was published.
    #[error("pipeline {pipeline} was claimed by another process (generation {theirs}, ours is {ours}): stop")]
    Fenced {
        /// Which pipeline.
        pipeline: String,
        /// The generation that this process held.
        ours: Generation,
        /// The generation that holds it now.
        theirs: Generation,
    },
    /// The disk or the quota is full. Free space; the next attempt may succeed.
    #[error("no space left to {action} {object}: free space")]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// On which object.
        object: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// The store refuses these credentials. Fix them.
    #[error("not allowed to {action} {object}: check the credentials and permissions ({source})")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On which object.
        object: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A setting or an argument is wrong. Fix it.
    #[error("{reason}")]
    Config {
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Checkpoints exist and none of them verifies. Restore elsewhere, or remove the pipeline.
    #[error("none of the {} checkpoints of pipeline {pipeline} can be restored; the last reason: {}",
        .fallbacks.len(), .fallbacks.last().map_or("none", |f| f.reason.as_str()))]
    NothingVerifies {
        /// Which pipeline.
        pipeline: String,
        /// What was tried, newest first, and why it was passed over.
        fallbacks: Vec<Fallback>,
    },
    /// Uploaded files may have been collected since. Upload them again under new names.
    #[error("checkpoint {checkpoint} of pipeline {pipeline} cannot be published: {reason}; upload its files again")]
    Stale {
        /// Which pipeline.
        pipeline: String,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Which files and why.
        reason: String,
    },
    /// A file on this machine cannot be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Local {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether trying the same again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether this says that a checkpoint cannot be trusted, so that an older one is to be taken.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Corrupt { .. })
    }

    /// Whether a write that returned this may have happened.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Unavailable { outcome, .. } => *outcome,
            _ => Outcome::SurelyNotDone,
        }
    }

    pub(crate) fn corrupt(object: impl ToString, reason: impl ToString) -> Self {
        Self::Corrupt { object: object.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn config(reason: impl ToString) -> Self {
        Self::Config { reason: reason.to_string() }
    }

    /// A failure of a file that belongs to this machine, not to the store.
    pub(crate) fn local(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) {
            return Self::NoSpace { action, object: path.display().to_string(), source: source.into() };
        }
        Self::Local { action, path, source }
    }

    /// A failure of the file system below a local root.
    pub(crate) fn folder(action: &'static str, object: &str, outcome: Outcome, source: io::Error) -> Self {
        let object = object.to_owned();
        match source.kind() {
            _ if is_full(&source) => Self::NoSpace { action, object, source: source.into() },
            io::ErrorKind::NotFound => Self::Missing { object },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, object, source: source.into() }
            }
            _ => Self::Unavailable { action, object, outcome, source: source.into() },
        }
    }

    /// An error of an object store.
    pub(crate) fn store(action: &'static str, object: &str, source: object_store::Error) -> Self {
        use object_store::Error as E;
        let object = object.to_owned();
        match source {
            E::NotFound { .. } => Self::Missing { object },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Denied { action, object, source: source.into() }
            }
            E::NotSupported { .. } | E::NotImplemented { .. } | E::InvalidPath { .. } => {
                Self::Config { reason: format!("this store cannot {action} {object}: {source}") }
            }
            E::UnknownConfigurationKey { .. } => Self::Config { reason: source.to_string() },
            _ if caused_by_full_disk(&source) => Self::NoSpace { action, object, source: source.into() },
            _ => Self::Unavailable { action, object, outcome: Outcome::Unknown, source: source.into() },
        }
    }
}

/// Whether an I/O error means that the disk or the quota is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn caused_by_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if e.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        cause = e.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_below_other_errors() {
        let full = io::Error::from_raw_os_error(28);
        let error = object_store::Error::Generic { store: "local", source: Box::new(full) };
        assert!(matches!(Error::store("write", "a", error), Error::NoSpace { .. }));
        let quota = io::Error::from_raw_os_error(122);
        assert!(matches!(Error::local("write", "a", quota), Error::NoSpace { .. }));
    }

    #[test]
    fn what_a_store_does_not_explain_may_have_happened() {
        let error = object_store::Error::Generic { store: "s3", source: "reset".into() };
        let error = Error::store("write", "a", error);
        assert!(error.is_transient() && error.outcome() == Outcome::Unknown);
    }

    #[test]
    fn a_message_has_its_cause_and_says_of_writes_alone_that_they_may_have_happened() {
        let reset = || object_store::Error::Generic { store: "s3", source: "reset".into() };
        let told = |action| Error::store(action, "a", reset()).to_string();
        assert_eq!(told("write"), "cannot write a for now (it may have happened): Generic s3 error: reset");
        assert_eq!(told("read"), "cannot read a for now: Generic s3 error: reset");
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(Error::local("create", "/a", refused).to_string(), "cannot create /a: permission denied");
    }
}
