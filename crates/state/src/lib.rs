//! Paged keyed state in memory over SST files: the tables of stateful operators, how they are
//! frozen, written, restored and evicted.
//!
//! The way of a checkpoint: [`Table::freeze`] marks pages, [`Table::copy_out`] turns them into
//! records between batches, [`write_file`] (or [`encode_inline`]) makes them durable,
//! [`PageStore::ingest`] makes them readable, [`Table::settle`] ends it. The way back:
//! [`Table::restoring`] over a [`Restore`] of all parts in scope. Which key groups are written
//! anew so that old files fall out of scope is decided in [`scope`].
//!
//! This crate knows no object store, no manifest, no epochs and no threads.

mod bits;
mod error;
mod file;
mod hash;
mod index;
mod inline;
mod key;
mod pack;
mod page;
mod prefetch;
mod record;
mod restore;
pub mod scope;
mod slotset;
mod store;
mod table;

pub use error::{Error, Result};
pub use file::{Compression, FileOptions, WrittenFile, write_file};
pub use hash::{hash_bytes, hash_placed, hash_u64, hash_u64s};
pub use inline::{decode_inline, encode_inline};
pub use key::{FileNumber, Kind, Record, RecordKey, TableId};
pub use restore::{Part, Restore};
pub use store::{PageSource, PageStore, StoreLimits, StoreUsage};
pub use table::{ByteKeys, FreezeInfo, FreezeOptions, KeyKind, Outcome, Progress, Rows, Slot, Table, TableOptions};
