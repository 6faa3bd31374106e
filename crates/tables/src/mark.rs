//! The newest durable position of the log, in a file beside the store (docs/formats/table-store.md).
//!
//! RocksDB takes a write-ahead log that was cut off, emptied or lost for one that a crash has ended, and a
//! damaged length in its last block for the end. The mark tells: it is written after a commit is durable and
//! before that is acknowledged, and not synced, so that it is at most behind when the machine fails.
//! Invariant: what the mark says was durable.

use crate::error::{Error, Result};
use highwater_core::splitmix64;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const LENGTH: usize = 16;

/// The file, held open.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// Opens the mark of a store whose log ends at `newest`, and refuses one that has lost something.
    pub(crate) fn open(path: &Path, store: &Path, newest: u64) -> Result<Self> {
        if let Some(marked) = read(path)?.filter(|marked| *marked > newest) {
            let (store, mark) = (store.to_owned(), path.to_owned());
            return Err(Error::Lost { store, mark, newest, marked });
        }
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let this = Self { file: opened.map_err(refused(path))?, path: path.to_owned() };
        this.write(newest).and_then(|()| this.file.sync_all()).map_err(refused(path))?;
        Ok(this)
    }

    /// Notes a position that is durable.
    pub(crate) fn set(&self, position: u64) {
        if let Err(error) = self.write(position) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the newest position of the tables could not be noted");
        }
    }

    fn write(&self, position: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(position), 0)
    }
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// What a mark says; none when there is none, nothing was noted in it yet, or it is damaged, which is told.
fn read(path: &Path) -> Result<Option<u64>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path)(error)),
    };
    let position = decode(&bytes);
    if position.is_none() && !bytes.is_empty() {
        let path = path.display();
        tracing::error!(%path, "this file is damaged: whether the tables have all of their log is not known");
    }
    Ok(position)
}

/// A position and a mix of it, big-endian.
fn encode(position: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&position.to_be_bytes());
    bytes[8..].copy_from_slice(&splitmix64(position).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let (position, _) = bytes.split_first_chunk::<8>()?;
    let position = u64::from_be_bytes(*position);
    (encode(position) == *bytes).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_damage_is_seen() {
        assert_eq!(encode(258)[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        let bytes = encode(u64::MAX - 1);
        assert_eq!(decode(&bytes), Some(u64::MAX - 1));
        for at in 0..LENGTH {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!((decode(&flipped), decode(&bytes[..at])), (None, None), "at {at}");
        }
    }
}
