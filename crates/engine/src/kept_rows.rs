//! The encoded rows of one part of an outbox, shared by the sink that delivers them and the checkpoints
//! that hold them: in memory, and in a file of this machine once a checkpoint has put them there.
//!
//! Invariants: rows that are not in memory are in their file; they never change. The file stays as long
//! as a checkpoint of this run may hold the part: `checkpointing` removes it when a checkpoint without it is
//! published, and the outbox that of a part that was merged before any checkpoint with it was.

use crate::error::{Error, Result};
use highwater_checkpoint::Digest;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The rows; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct KeptRows {
    held: Arc<Mutex<Held>>,
    length: usize,
}

#[derive(Debug)]
struct Held {
    bytes: Option<Arc<Vec<u8>>>,
    file: Option<RowsFile>,
}

/// Where rows are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowsFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
}

impl KeptRows {
    pub(crate) fn in_memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Self { held: Arc::new(Mutex::new(Held { bytes: Some(Arc::new(bytes)), file: None })), length }
    }

    pub(crate) fn in_file(file: RowsFile, length: usize) -> Self {
        Self { held: Arc::new(Mutex::new(Held { bytes: None, file: Some(file) })), length }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes they are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Their file, once they have one.
    pub(crate) fn file(&self) -> Option<RowsFile> {
        self.held().file.clone()
    }

    /// They are in this file now.
    pub(crate) fn set_file(&self, file: RowsFile) {
        self.held().file = Some(file);
    }

    /// Gives their memory back, if they have a file.
    pub(crate) fn spill(&self) {
        let mut held = self.held();
        if held.file.is_some() {
            held.bytes = None;
        }
    }

    /// The rows themselves, of the file when they are not in memory.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, `Data` when it holds something else.
    pub(crate) fn read(&self) -> Result<Arc<Vec<u8>>> {
        let (bytes, file) = {
            let held = self.held();
            (held.bytes.clone(), held.file.clone())
        };
        if let Some(bytes) = bytes {
            return Ok(bytes);
        }
        let file = file.expect("rows that are not in memory have a file");
        let read = std::fs::read(&file.path);
        let what = || format!("read {}", file.path.display());
        let bytes = read.map_err(|source| Error::Io { what: what(), source })?;
        if Digest::of(&bytes) != file.digest {
            return Err(Error::data(what(), "the file is damaged"));
        }
        Ok(Arc::new(bytes))
    }

    #[cfg(test)]
    pub(crate) fn is_in_memory(&self) -> bool {
        self.held().bytes.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_leave_memory_for_their_file_and_are_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = RowsFile { path: folder.path().join("rows"), digest: Digest::of(b"rows") };
        let rows = KeptRows::in_memory(b"rows".to_vec());
        rows.spill();
        assert!(rows.is_in_memory(), "there is no file yet");
        std::fs::write(&file.path, b"rows").expect("written");
        let held_by_a_checkpoint = rows.clone();
        held_by_a_checkpoint.set_file(file.clone());
        assert!(rows.is_in_memory());
        rows.spill();
        assert!(!held_by_a_checkpoint.is_in_memory());
        assert_eq!((rows.read().expect("there").as_slice(), rows.len()), (&b"rows"[..], 4));
        assert_eq!(rows.file(), Some(file.clone()));
        std::fs::write(&file.path, b"rowz").expect("written");
        assert!(matches!(rows.read(), Err(Error::Data { .. })), "it is not what was written");
    }
}
