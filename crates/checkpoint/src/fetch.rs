//! Brings files of a checkpoint to a local folder: those that are there and verify are kept, those
//! of a local root are hard-linked, the others downloaded in pieces; several at once.
//!
//! Invariants: what is handed back has the length and, unless told otherwise, the digest that the
//! manifest says, and the store still has it with its length; a local copy that is damaged or cannot be read is
//! in the way of nothing.

use crate::compress::{Compression, Measured, unpack};
use crate::digest::{Hashing, digest_file};
use crate::error::{Error, Result};
use crate::host::offload;
use crate::local::Moved;
use crate::manifest::FileMeta;
use crate::names::{FileId, Names};
use crate::store::{PIECE, Store, Verify};
use crate::upload::check_arrived;
use futures::{StreamExt, TryStreamExt};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How to fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// So many files at once.
    pub parallel: usize,
    /// How files are checked before they are trusted.
    pub verify: Verify,
}

impl Default for FetchOptions {
    /// Four at once, checked by digest.
    fn default() -> Self {
        Self { parallel: 4, verify: Verify::Digest }
    }
}

/// A file of a checkpoint on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    /// Where it is. It may share its bytes with the store: never change it in place.
    pub path: PathBuf,
    /// What it is.
    pub meta: FileMeta,
}

/// What a fetch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The files, in the order they were asked for.
    pub files: Vec<RestoredFile>,
    /// Bytes that came from the store.
    pub downloaded_bytes: u64,
    /// Bytes that were hard-linked.
    pub linked_bytes: u64,
    /// Bytes that were here already.
    pub reused_bytes: u64,
}

enum Way {
    Reused,
    Linked,
    Downloaded,
}

/// The name of a file in the local folder.
#[must_use]
pub fn cached(folder: &Path, id: FileId) -> PathBuf {
    folder.join(format!("{id}.sst"))
}

/// Brings files of a pipeline into `folder`, which is created.
///
/// # Errors
/// [`Error::Missing`] and [`Error::Corrupt`] when the store's copy is not good (restore from another
/// checkpoint), and errors of the store and of this machine.
pub async fn fetch(
    store: &Store,
    names: &Names,
    files: impl IntoIterator<Item = &FileMeta>,
    folder: &Path,
    options: FetchOptions,
) -> Result<Fetched> {
    fs::create_dir_all(folder).map_err(|e| Error::local("create", folder, e))?;
    let each = files.into_iter().map(|meta| async move {
        let path = cached(folder, meta.id);
        let way = fetch_one(store, names, meta, &path, options.verify).await?;
        Ok::<_, Error>((RestoredFile { path, meta: meta.clone() }, way))
    });
    // Collected first: a stream over borrowed closures would not be Send.
    let each: Vec<_> = each.collect();
    let done: Vec<_> = futures::stream::iter(each).buffered(options.parallel.max(1)).try_collect().await?;
    let mut fetched = Fetched::default();
    for (file, way) in done {
        match way {
            Way::Reused => fetched.reused_bytes += file.meta.length,
            Way::Linked => fetched.linked_bytes += file.meta.length,
            Way::Downloaded => fetched.downloaded_bytes += file.meta.stored,
        }
        fetched.files.push(file);
    }
    Ok(fetched)
}

async fn fetch_one(store: &Store, names: &Names, meta: &FileMeta, to: &Path, verify: Verify) -> Result<Way> {
    if let Some(encryption) = &meta.encryption {
        return Err(Error::config(format!(
            "file {} is encrypted with {encryption}, which needs a newer program",
            meta.id
        )));
    }
    let object = names.file(meta.id);
    let stored = Measured { length: meta.stored, digest: meta.stored_digest };
    check_arrived(store, &object, stored, Verify::Length).await?;
    if is_good(store, meta, to, verify).await? {
        return Ok(Way::Reused);
    }
    if meta.compression == Compression::None
        && let Some(moved) = store.export(&object, to.to_path_buf()).await?
    {
        if !is_arrived(store, meta, to, verify).await? {
            return Err(Error::corrupt(&object, "its content is not what was written"));
        }
        return Ok(if moved == Moved::Linked { Way::Linked } else { Way::Downloaded });
    }
    let arriving = to.with_extension("arriving");
    let downloaded = download(store, &object, meta, &arriving, to).await;
    let cleared = remove_if_there(&arriving);
    downloaded?;
    cleared?;
    Ok(Way::Downloaded)
}

/// Whether the local copy is what the manifest says; one that is not, or that cannot be read, is removed, as the
/// store has another one.
async fn is_good(store: &Store, meta: &FileMeta, path: &Path, verify: Verify) -> Result<bool> {
    let (path, expected) = (path.to_path_buf(), Measured { length: meta.length, digest: meta.digest });
    offload(store.host(), move || {
        let good = is_expected(&path, expected, verify).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "a local copy cannot be read and is fetched anew");
            false
        });
        if !good {
            remove_if_there(&path)?;
        }
        Ok(good)
    })
    .await
}

/// The same of what was just put there: when it cannot be read, that is this machine's fault, not the store's.
async fn is_arrived(store: &Store, meta: &FileMeta, path: &Path, verify: Verify) -> Result<bool> {
    let (path, expected) = (path.to_path_buf(), Measured { length: meta.length, digest: meta.digest });
    offload(store.host(), move || {
        let good = is_expected(&path, expected, verify).map_err(|e| Error::local("read", &path, e))?;
        if !good {
            remove_if_there(&path)?;
        }
        Ok(good)
    })
    .await
}

fn is_expected(path: &Path, expected: Measured, verify: Verify) -> io::Result<bool> {
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(length == expected.length
        && (verify == Verify::Length || digest_file(path)? == (expected.digest, expected.length)))
}

/// Downloads to `arriving`, unpacks when packed, checks, and gives it its name.
async fn download(
    store: &Store,
    object: &object_store::path::Path,
    meta: &FileMeta,
    arriving: &Path,
    to: &Path,
) -> Result<()> {
    let opened = File::create(arriving).map_err(|e| Error::local("write", arriving, e))?;
    let mut file = (opened, Hashing::default());
    let mut at = 0;
    while at < meta.stored {
        let piece = at..(at + PIECE).min(meta.stored);
        at = piece.end;
        let bytes = store.get_range(object, piece).await?;
        let path = arriving.to_path_buf();
        file = offload(store.host(), move || {
            let written = file.0.write_all(&bytes).and_then(|()| file.1.write_all(&bytes));
            written.map(|()| file).map_err(|e| Error::local("write", path, e))
        })
        .await?;
    }
    let (digest, length) = file.1.finish();
    if digest != meta.stored_digest || length != meta.stored {
        return Err(Error::corrupt(object, "its digest is wrong"));
    }
    let (arriving, to, meta, object) = (arriving.to_path_buf(), to.to_path_buf(), meta.clone(), object.clone());
    offload(store.host(), move || unpack_and_name(&arriving, &to, &meta, &object)).await
}

fn unpack_and_name(arriving: &Path, to: &Path, meta: &FileMeta, object: &object_store::path::Path) -> Result<()> {
    let named = |from: &Path| fs::rename(from, to).map_err(|e| Error::local("name", to, e));
    if meta.compression == Compression::None {
        return named(arriving);
    }
    let unpacked = to.with_extension("unpacked");
    let content = unpack(arriving, &unpacked, meta.compression, meta.length);
    let expected = Measured { length: meta.length, digest: meta.digest };
    match content {
        Ok(found) if found == expected => named(&unpacked),
        Err(error) if error.raw_os_error().is_some() => {
            remove_if_there(&unpacked)?;
            Err(Error::local("write", &unpacked, error))
        }
        _ => {
            remove_if_there(&unpacked)?;
            Err(Error::corrupt(object, "it does not unpack to what was written"))
        }
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::local("remove", path, error)),
        _ => Ok(()),
    }
}
