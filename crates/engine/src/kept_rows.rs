//! The encoded rows of one part of an outbox, shared by the sink that delivers them and the checkpoints
//! that hold them: in memory, and in a file of this machine once a checkpoint has put them there.
//!
//! Invariants: rows that are not in memory are in their file; they never change. The file stays as long
//! as a checkpoint of this run holds the part: `checkpointing` removes that of a published one, and the
//! outbox that of one that failed.

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
    /// In the order in which they came.
    pieces: Option<Vec<Arc<Vec<u8>>>>,
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
        Self { held: Arc::new(Mutex::new(Held { pieces: Some(vec![Arc::new(bytes)]), file: None })), length }
    }

    pub(crate) fn in_file(file: RowsFile, length: usize) -> Self {
        Self { held: Arc::new(Mutex::new(Held { pieces: None, file: Some(file) })), length }
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
            held.pieces = None;
        }
    }

    /// The rows themselves, of the file when they are not in memory. Copies them where they came in pieces.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, `Data` when it holds something else.
    pub(crate) fn read(&self) -> Result<Arc<Vec<u8>>> {
        let (pieces, file) = {
            let held = self.held();
            (held.pieces.clone(), held.file.clone())
        };
        match pieces.as_deref() {
            Some([bytes]) => return Ok(Arc::clone(bytes)),
            Some(pieces) => {
                let mut bytes = Vec::with_capacity(self.length);
                pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
                return Ok(Arc::new(bytes));
            }
            None => {}
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

    /// These and others behind them, in memory. Rows that are in memory are shared, not copied.
    ///
    /// # Errors
    /// As [`KeptRows::read`].
    pub(crate) fn followed_by(&self, more: Vec<u8>) -> Result<Self> {
        let length = self.length + more.len();
        let held = self.held().pieces.clone();
        let mut pieces = match held {
            Some(pieces) => pieces,
            None => vec![self.read()?],
        };
        pieces.push(Arc::new(more));
        Ok(Self { held: Arc::new(Mutex::new(Held { pieces: Some(pieces), file: None })), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_memory(rows: &KeptRows) -> bool {
        rows.held().pieces.is_some()
    }

    #[test]
    fn rows_leave_memory_for_their_file_and_are_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = RowsFile { path: folder.path().join("rows"), digest: Digest::of(b"rows") };
        let rows = KeptRows::in_memory(b"rows".to_vec());
        rows.spill();
        assert!(is_in_memory(&rows), "there is no file yet");
        std::fs::write(&file.path, b"rows").expect("written");
        let held_by_a_checkpoint = rows.clone();
        held_by_a_checkpoint.set_file(file.clone());
        assert!(is_in_memory(&rows));
        rows.spill();
        assert!(!is_in_memory(&held_by_a_checkpoint));
        assert_eq!((rows.read().expect("there").as_slice(), rows.len()), (&b"rows"[..], 4));
        let longer = rows.followed_by(b"more".to_vec()).expect("there");
        let longest = longer.followed_by(b"!".to_vec()).expect("in memory");
        assert_eq!((longer.read().expect("in memory").as_slice(), longer.len()), (&b"rowsmore"[..], 8));
        assert_eq!((longest.read().expect("in memory").as_slice(), longest.len()), (&b"rowsmore!"[..], 9));
        assert_eq!(longest.file(), None);
        assert_eq!(rows.file(), Some(file.clone()));
        std::fs::write(&file.path, b"rowz").expect("written");
        assert!(matches!(rows.read(), Err(Error::Data { .. })), "it is not what was written");
    }
}
