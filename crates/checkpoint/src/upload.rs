//! Ships local files to the store: only those that it lacks, several at once, packed as asked,
//! checked after they arrived.
//!
//! An [`Uploader`] remembers what it shipped by local path, so a file of a failed checkpoint is not
//! shipped again for the next one, unless it has waited so long that collection may have removed
//! it: a file that no checkpoint lists is only trusted for [`UploadOptions::trust`].
//!
//! Invariant: a [`FileMeta`] is handed out only for an object that is completely in the store.

use crate::compress::{Compression, Measured, pack};
use crate::digest::{Digest, digest_file};
use crate::encoding::Hex;
use crate::error::{Error, Result};
use crate::host::{now, offload};
use crate::local::Moved;
use crate::manifest::{FileMeta, Manifest};
use crate::names::{FileId, Names};
use crate::progress::Progress;
use crate::resolve::Resolved;
use crate::store::{Store, Verify};
use futures::{StreamExt, TryStreamExt};
use highwater_core::{CheckpointId, WallMicros};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A file of this machine that a checkpoint needs. It must never change again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is; also how the uploader knows it again.
    pub path: PathBuf,
    /// The worker that wrote it.
    pub worker: u32,
    /// Its place among that worker's files.
    pub sequence: u64,
    /// Its smallest key.
    pub first_key: Vec<u8>,
    /// Its largest key.
    pub last_key: Vec<u8>,
    /// Its digest, when the writer has computed it.
    pub digest: Option<Digest>,
    /// How to pack it.
    pub compression: Compression,
}

/// How to upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// So many files at once.
    pub parallel: usize,
    /// How to check what arrived.
    pub verify: Verify,
    /// For so long an uploaded file is trusted to be there although no checkpoint lists it. At most
    /// half of the age guard of collection.
    pub trust: Duration,
}

impl Default for UploadOptions {
    /// Four at once, checked by length, trusted for three hours.
    fn default() -> Self {
        Self { parallel: 4, verify: Verify::Length, trust: crate::collect::AGE_GUARD / 2 }
    }
}

/// What one call of [`Uploader::upload`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// All files, in the order they were given.
    pub files: Vec<FileMeta>,
    /// How many were shipped.
    pub shipped: usize,
    /// Bytes that were shipped: copied or sent.
    pub uploaded_bytes: u64,
    /// Bytes that were given to the store by hard link.
    pub linked_bytes: u64,
    /// Bytes that the store had already.
    pub referenced_bytes: u64,
}

/// Ships the files of one pipeline and remembers them. Calls may run at the same time, for
/// different files.
#[derive(Debug)]
pub struct Uploader {
    store: Store,
    names: Names,
    options: UploadOptions,
    known: Mutex<Known>,
    moved: Progress,
}

#[derive(Debug, Default)]
struct Known {
    by_path: BTreeMap<PathBuf, FileMeta>,
    listed: BTreeSet<FileId>,
}

impl Uploader {
    /// An uploader that knows nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] when the pipeline's name cannot be one.
    pub fn new(store: &Store, pipeline: &str, options: UploadOptions) -> Result<Self> {
        let names = store.root().names(pipeline)?;
        Ok(Self { store: store.clone(), names, options, known: Mutex::default(), moved: Progress::default() })
    }

    /// Grows as long as files, or parts of them, go to the store.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.steps()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change of it is one insertion, so it is whole even after a panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a restore brought back: these files are in the store.
    pub fn restored(&self, resolved: &Resolved) {
        let mut known = self.known();
        for file in &resolved.files {
            known.listed.insert(file.meta.id);
            known.by_path.insert(file.path.clone(), file.meta.clone());
        }
    }

    /// Learns that a checkpoint was published. Files that it does not hold are forgotten, but for
    /// those of later checkpoints: an attempt that it overtook may be collected at once.
    pub fn published(&self, manifest: &Manifest) {
        let mut known = self.known();
        let Known { by_path, listed } = &mut *known;
        *listed = manifest.all_files().map(|file| file.id).collect();
        by_path.retain(|_, file| listed.contains(&file.id) || file.created_for > manifest.checkpoint);
    }

    /// Forgets everything, so that every file is shipped again under a new name; after
    /// [`Error::Stale`].
    pub fn forget(&self) {
        *self.known() = Known::default();
    }

    /// Puts files into the store unless they are there.
    ///
    /// # Errors
    /// The first that occurs. Files that were shipped before it stay known.
    pub async fn upload(&self, files: &[LocalFile], checkpoint: CheckpointId) -> Result<Uploaded> {
        // Collected first: a stream over a borrowing closure would not be Send.
        let each: Vec<_> = files.iter().map(|file| self.ship_or_reference(file, checkpoint)).collect();
        let shipped: Vec<(FileMeta, Option<Moved>)> =
            futures::stream::iter(each).buffered(self.options.parallel.max(1)).try_collect().await?;
        let mut uploaded = Uploaded::default();
        for (meta, moved) in shipped {
            match moved {
                None => uploaded.referenced_bytes += meta.stored,
                Some(Moved::Linked) => uploaded.linked_bytes += meta.stored,
                Some(Moved::Copied) => uploaded.uploaded_bytes += meta.stored,
            }
            uploaded.shipped += usize::from(moved.is_some());
            uploaded.files.push(meta);
        }
        // Also when all were there: those that an upload has shipped which failed are not settled yet.
        if !files.is_empty() {
            self.store.settle(&self.names.files()).await?;
        }
        Ok(uploaded)
    }

    async fn ship_or_reference(&self, file: &LocalFile, checkpoint: CheckpointId) -> Result<(FileMeta, Option<Moved>)> {
        let time = now(self.store.host());
        let found = {
            let known = self.known();
            let found = known.by_path.get(&file.path);
            found.filter(|f| known.listed.contains(&f.id) || !is_stale(f, time, self.options.trust)).cloned()
        };
        if let Some(meta) = found {
            return Ok((meta, None));
        }
        let id = FileId::random(self.store.host());
        let (meta, moved) = self.ship(file, id, checkpoint, time).await?;
        self.known().by_path.insert(file.path.clone(), meta.clone());
        self.moved.note();
        Ok((meta, Some(moved)))
    }

    async fn ship(
        &self,
        file: &LocalFile,
        id: FileId,
        checkpoint: CheckpointId,
        uploaded_at: WallMicros,
    ) -> Result<(FileMeta, Moved)> {
        let prepared = self.prepare(file, id).await?;
        let Prepared { content, stored, scratch } = &prepared;
        let path = self.names.file(id);
        let source = scratch.as_ref().unwrap_or(&file.path).clone();
        let moved = self.store.put_file(&path, source, stored.length, &self.moved).await;
        if let Some(scratch) = scratch {
            // It is only this machine's space; the next upload has another name.
            let _ = std::fs::remove_file(scratch);
        }
        let moved = moved?;
        check_arrived(&self.store, &path, *stored, self.options.verify).await?;
        let meta = FileMeta {
            id,
            worker: file.worker,
            sequence: file.sequence,
            length: content.length,
            digest: content.digest,
            stored: stored.length,
            stored_digest: stored.digest,
            first_key: Hex(file.first_key.clone()),
            last_key: Hex(file.last_key.clone()),
            compression: file.compression,
            encryption: None,
            created_for: checkpoint,
            uploaded_at,
        };
        Ok((meta, moved))
    }

    async fn prepare(&self, file: &LocalFile, id: FileId) -> Result<Prepared> {
        let (path, compression, known) = (file.path.clone(), file.compression, file.digest);
        offload(self.store.host(), move || prepare(&path, compression, known, id)).await
    }
}

struct Prepared {
    content: Measured,
    stored: Measured,
    /// The packed file, when it is not the file itself.
    scratch: Option<PathBuf>,
}

fn prepare(path: &Path, compression: Compression, known: Option<Digest>, id: FileId) -> Result<Prepared> {
    let failed = |e| Error::local("read", path, e);
    if compression == Compression::None {
        let content = match known {
            Some(digest) => Measured { length: std::fs::metadata(path).map_err(failed)?.len(), digest },
            None => {
                let (digest, length) = digest_file(path).map_err(failed)?;
                Measured { length, digest }
            }
        };
        return Ok(Prepared { content, stored: content, scratch: None });
    }
    let scratch = path.with_extension(format!("{id}.packed"));
    let packed = pack(path, &scratch, compression).map_err(|e| Error::local("pack", path, e));
    let (content, stored) = packed.inspect_err(|_| {
        let _ = std::fs::remove_file(&scratch);
    })?;
    if known.is_some_and(|known| known != content.digest) {
        let _ = std::fs::remove_file(&scratch);
        return Err(Error::corrupt(path.display(), "it is not what its writer wrote"));
    }
    Ok(Prepared { content, stored, scratch: Some(scratch) })
}

/// Whether a file that no checkpoint lists has waited too long to be trusted.
pub(crate) fn is_stale(file: &FileMeta, now: WallMicros, trust: Duration) -> bool {
    let age = now.0.saturating_sub(file.uploaded_at.0);
    age < 0 || age as u128 > trust.as_micros()
}

/// Checks an object that has just been written, or is about to be trusted.
pub(crate) async fn check_arrived(
    store: &Store,
    path: &object_store::path::Path,
    expected: Measured,
    verify: Verify,
) -> Result<()> {
    match store.size(path).await? {
        None => return Err(Error::Missing { object: path.to_string() }),
        Some(size) if size != expected.length => {
            return Err(Error::corrupt(path, format!("it has {size} bytes instead of {}", expected.length)));
        }
        Some(_) => {}
    }
    if verify == Verify::Digest && store.digest(path, expected.length).await? != expected.digest {
        return Err(Error::corrupt(path, "its digest is wrong"));
    }
    Ok(())
}
