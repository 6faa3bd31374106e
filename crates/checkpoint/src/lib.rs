//! Checkpoints in an object store: names, manifests, uploads, publishing, restore, retention and
//! collection, for any program whose state is a set of immutable files.
//!
//! The way of a checkpoint through the modules: local files are shipped by [`upload`], described by
//! a [`manifest`], made *the* checkpoint by [`publish`], chosen again by [`restore`] and brought
//! back by [`mod@resolve`] and [`mod@fetch`]; [`retention`] decides what stays and [`mod@collect`]
//! removes the rest; [`lifecycle`] says what a coordinator does next. [`inspect`] is for people.
//!
//! This crate knows no RocksDB, no Timely and no SQL. Time, randomness, waiting and threads come
//! from a [`host::Host`], so that a simulation can own them.
//!
//! Invariants, each proved on every step of the simulation in `crates/sim`:
//! - what the pointer lists is complete: its manifest and all files of it are in the store;
//! - nothing that a listed checkpoint references is ever deleted;
//! - a process that lost its claim publishes nothing and learns it;
//! - restore never starts empty while checkpoints exist, and changes nothing in the store.

pub mod collect;
pub mod compress;
pub mod digest;
pub mod encoding;
pub mod error;
pub mod fetch;
pub mod host;
pub mod inspect;
pub mod lifecycle;
pub mod local;
pub mod manifest;
pub mod names;
pub mod pointer;
mod progress;
pub mod publish;
pub mod resolve;
pub mod restore;
pub mod retention;
pub mod retry;
pub mod root;
pub mod sealed;
pub mod store;
pub mod upload;

pub use collect::{Collected, collect};
pub use compress::Compression;
pub use digest::Digest;
pub use encoding::{Base64, Hex};
pub use error::{Error, Outcome, Result};
pub use fetch::{FetchOptions, Fetched, RestoredFile, fetch};
pub use host::{Host, TokioHost};
pub use manifest::{
    CheckpointStats, FileMeta, InlinePart, Manifest, MergedOutbox, OperatorMeta, OutboxData, OutboxMeta, Trigger,
};
pub use names::{FileId, Names, Object};
pub use pointer::{Entry, Pointer};
pub use publish::{CommitPermit, PublishOptions, Published, Publisher};
pub use resolve::{Fallback, Resolved, resolve};
pub use retention::Retention;
pub use retry::Retry;
pub use root::Root;
pub use store::{Store, Verify};
pub use upload::{LocalFile, UploadOptions, Uploaded, Uploader};
