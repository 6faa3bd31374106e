//! The tables of a database: rows that clients write, durable when a commit returns, and the log of
//! their changes that views read.
//!
//! The way of a write: a session makes [`Write`]s against a [`Snapshot`]; the committer checks that
//! what they replace is still there, gives a group of transactions one position in the log, and
//! makes rows and log durable with one synchronous write. The way of a read: [`Snapshot::scan`] and
//! [`Snapshot::get`]. The way to a view: [`TableSource`], a change source of the engine, gives the
//! rows that were there and then the changes, position by position.
//!
//! Rows, log and position stand in one RocksDB, so they cannot disagree; whether it is the one that a
//! checkpoint goes on from, and whether it is whole, tell its runs and its mark. Beside them stand the
//! journals of subscriptions: what changed in views ([`Journal`]). The crate knows no SQL.

mod codec;
mod commit;
mod error;
mod journal;
mod layout;
mod log;
mod mark;
mod place;
mod reader;
mod removal;
mod runs;
mod scan;
mod small_files;
mod snapshot;
mod store;
mod table;
mod write;

pub use commit::Fence;
pub use error::{Error, Result, TooMuch};
pub use journal::{Journal, JournalPlace, JournalRead, JournalSink, JournalSpec};
pub use scan::{Overlay, Piece};
pub use snapshot::Snapshot;
pub use store::{Stop, StoreOptions, TableStore, Usage, Writer};
pub use table::{Table, TableSource, TableSpec};
pub use write::{Change, Insert, TableWrite, Write};
