//! A root with a host: every call bounded by a deadline, retried with growing pauses, and resolved
//! by reading back when its outcome is unknown. What moves bytes has no deadline as long as they move.
//!
//! Invariants: [`Store::create`] and [`Store::replace`] answer what is true of the store, however
//! often a reply was lost on the way; an error that says "surely not done" is right.

use crate::digest::Hashing;
use crate::error::{Error, Outcome, Result};
use crate::host::{Host, TokioHost, offload};
use crate::local::{Folder, Moved};
use crate::names::{FileId, Names, Object};
use crate::progress::{Moving, Progress, Watch};
use crate::retry::Retry;
use crate::root::Root;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{Either, select};
use highwater_core::WallMicros;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, MultipartId, ObjectMeta, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Objects are moved in pieces of this size, each with its own deadline and retries.
pub const PIECE: u64 = 8 * 1024 * 1024;

/// So much of a local object is read at a time.
const STEP: u64 = 1024 * 1024;

/// So many steps of files are on their way to the root at the same time: with more of them each would be so slow that
/// it is taken for one that hangs, and what goes to a root that is no folder is in memory.
const ROOM: u32 = 128;

/// How often is looked whether calls to a folder that hung have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A call, and how it shows that it goes on.
#[derive(Clone, Copy)]
struct Call<'a> {
    action: &'static str,
    path: &'a Path,
    /// Where the steps of all its attempts are counted as well.
    moved: Option<&'a Progress>,
    /// Its bytes move where nobody sees it: see [`Retry::unseen`].
    unseen: bool,
}

impl<'a> Call<'a> {
    const fn new(action: &'static str, path: &'a Path) -> Self {
        Self { action, path, moved: None, unseen: false }
    }

    const fn write(path: &'a Path, moved: &'a Progress) -> Self {
        Self { action: "write", path, moved: Some(moved), unseen: false }
    }

    const fn unseen(self) -> Self {
        Self { unseen: true, ..self }
    }
}

/// How much of what was written or is about to be trusted is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// That it is there and has its length.
    Length,
    /// That every byte is right, by reading it.
    #[default]
    Digest,
}

/// An object as it was read, and what makes it replaceable.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// All of it.
    pub bytes: Bytes,
    version: UpdateVersion,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub path: Path,
    /// What the name stands for.
    pub object: Object,
    /// Bytes.
    pub size: u64,
    /// When the store received it.
    pub modified: WallMicros,
}

/// The answer of [`Store::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object holds the bytes.
    Done,
    /// The name is taken by other bytes.
    Taken,
}

/// The answer of [`Store::replace`].
#[derive(Clone, Debug)]
pub enum Replaced {
    /// The object holds the bytes.
    Done(Versioned),
    /// It held something else, which is handed back; none when it does not exist.
    Lost(Option<Versioned>),
}

/// A root, the host under it and the bounds of calls. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Store {
    root: Root,
    host: Arc<dyn Host>,
    retry: Retry,
    room: Arc<Semaphore>,
}

impl Store {
    /// A store at a URL on this machine; see [`Root::open`].
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self::new(Root::open(url)?, Arc::new(TokioHost::default())))
    }

    /// A root on any host, with the default bounds.
    #[must_use]
    pub fn new(root: Root, host: Arc<dyn Host>) -> Self {
        Self { root, host, retry: Retry::default(), room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// The same with other bounds.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Where it is.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// What it runs on.
    #[must_use]
    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// The bounds of calls.
    #[must_use]
    pub const fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`Error::Missing`] and errors of the store.
    pub async fn get(&self, path: &Path) -> Result<Versioned> {
        self.moved(Call::new("read", path), |moving| async move {
            let result = self.root.objects().get(path).await.map_err(|e| Error::store("read", path.as_ref(), e))?;
            let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
            let size = result.meta.size;
            let bytes = self.drained(path, result, moving).await?;
            whole(path, bytes, size).map(|bytes| Versioned { bytes, version })
        })
        .await
    }

    /// Reads a whole object, or none when there is none.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn find(&self, path: &Path) -> Result<Option<Versioned>> {
        match self.get(path).await {
            Err(Error::Missing { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Corrupt`] when the object ends before the range does, and errors
    /// of the store.
    pub async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        let range = &range;
        self.moved(Call::new("read", path), |moving| async move {
            let failed = |e| Error::store("read", path.as_ref(), e);
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            let result = match self.root.objects().get_opts(path, options).await {
                // Not every store says what it has when a range begins past the end.
                Err(object_store::Error::Generic { .. }) if self.ends_before(path, range).await? => {
                    return Err(Error::corrupt(path, format!("it ends before byte {}", range.end)));
                }
                result => result.map_err(failed)?,
            };
            if result.meta.size < range.end {
                return Err(Error::corrupt(path, format!("it ends before byte {}", range.end)));
            }
            whole(path, self.drained(path, result, moving).await?, range.end - range.start)
        })
        .await
    }

    /// The bytes of an answer, with a step for each piece that comes.
    async fn drained(&self, path: &Path, result: GetResult, moving: Moving) -> Result<Bytes> {
        let GetResult { payload, range, .. } = result;
        match payload {
            GetResultPayload::File(file, _) => {
                let read = offload(self.host(), move || read_in_steps(file, &range, &moving)).await;
                read.map_err(|e| Error::folder("read", path.as_ref(), Outcome::SurelyNotDone, e))
            }
            GetResultPayload::Stream(mut stream) => {
                let mut bytes = BytesMut::with_capacity(range.end.saturating_sub(range.start) as usize);
                while let Some(piece) = stream.next().await {
                    bytes.extend_from_slice(&piece.map_err(|e| Error::store("read", path.as_ref(), e))?);
                    // Who waits for this future waits for the attempt.
                    let _ = moving.note();
                }
                Ok(bytes.freeze())
            }
        }
    }

    async fn ends_before(&self, path: &Path, range: &Range<u64>) -> Result<bool> {
        let head = self.root.objects().head(path).await.map_err(|e| Error::store("look up", path.as_ref(), e))?;
        Ok(head.size < range.end)
    }

    /// An object's size; none when there is no such object.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn size(&self, path: &Path) -> Result<Option<u64>> {
        let head = self
            .tried("look up", path, || async {
                let head = self.root.objects().head(path).await;
                head.map_err(|e| Error::store("look up", path.as_ref(), e))
            })
            .await;
        match head {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a folder of a pipeline, folders below it included, in the order of names.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn list(&self, names: &Names, folder: &Path) -> Result<Vec<Listed>> {
        let mut listed: Vec<Listed> = self
            .moved(Call::new("list", folder), |moving| async move {
                let mut list = self.root.objects().list(Some(folder));
                let mut all: Vec<ObjectMeta> = Vec::new();
                while let Some(meta) = list.next().await {
                    all.push(meta.map_err(|e| Error::store("list", folder.as_ref(), e))?);
                    let _ = moving.note();
                }
                Ok(all)
            })
            .await?
            .into_iter()
            .map(|meta| Listed {
                object: names.parse(&meta.location),
                size: meta.size,
                modified: WallMicros(meta.last_modified.timestamp_micros()),
                path: meta.location,
            })
            .collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// The pipelines that have a folder here, in the order of names.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn pipelines(&self) -> Result<Vec<String>> {
        let prefix = self.root.prefix();
        let listed = self
            .tried("list", prefix, || async {
                let list = self.root.objects().list_with_delimiter(Some(prefix)).await;
                list.map_err(|e| Error::store("list", prefix.as_ref(), e))
            })
            .await?;
        let mut found: Vec<String> =
            listed.common_prefixes.iter().filter_map(|folder| Names::pipeline_of(prefix, folder)).collect();
        found.sort();
        Ok(found)
    }

    /// Writes a new object of a pipeline that is claimed. A name that is taken by the same bytes counts
    /// as done: an earlier attempt whose reply was lost.
    ///
    /// # Errors
    /// Errors of the store; see [`Error::outcome`]. [`Error::Missing`] when a local root has no claim.
    pub async fn create(&self, path: &Path, bytes: Bytes) -> Result<Created> {
        let tried = self.tried("write", path, || self.create_once(path, bytes.clone())).await;
        let doubtful = match &tried {
            Ok(true) => return Ok(Created::Done),
            Ok(false) => true,
            Err(error) => error.outcome() == Outcome::Unknown,
        };
        match (doubtful, tried) {
            (true, Ok(_)) => Ok(match self.find(path).await? {
                Some(found) if found.bytes == bytes => Created::Done,
                _ => Created::Taken,
            }),
            (true, Err(error)) => match self.find(path).await {
                Ok(Some(found)) if found.bytes == bytes => Ok(Created::Done),
                Ok(Some(_)) => Ok(Created::Taken),
                _ => Err(error),
            },
            (false, tried) => tried.map(|_| Created::Taken),
        }
    }

    async fn create_once(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        if let Some(folder) = self.root.folder() {
            let unique = FileId::random(self.host());
            return self.in_folder(folder, path, move |folder, path| folder.create(path, &bytes, unique)).await;
        }
        let options = PutOptions::from(PutMode::Create);
        match self.root.objects().put_opts(path, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(Error::store("write", path.as_ref(), error)),
        }
    }

    /// Makes a local root ready for the first claim of a pipeline, where `beside`, a pipeline that is claimed, is seen.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not: the root is not mounted. Errors of the store.
    pub async fn make_place(&self, names: &Names, beside: Option<&Names>) -> Result<()> {
        let Some(folder) = self.root.folder() else { return Ok(()) };
        let claim = beside.map(Names::current);
        let made = || {
            let claim = claim.clone();
            self.in_folder(folder, names.base(), move |folder, base| folder.make_place(base, claim.as_ref()))
        };
        self.tried("make", names.base(), made).await
    }

    /// Replaces an object when it is still as it was read (`None`: when it does not exist, in a place that was
    /// [made](Store::make_place)).
    ///
    /// # Errors
    /// Errors of the store; see [`Error::outcome`]. [`Error::Missing`] when a local root does not have the place.
    pub async fn replace(&self, path: &Path, expected: Option<&Versioned>, bytes: Bytes) -> Result<Replaced> {
        let tried = self.tried("replace", path, || self.replace_once(path, expected, bytes.clone())).await;
        let error = match tried {
            Ok(Some(version)) => return Ok(Replaced::Done(Versioned { bytes, version })),
            Ok(None) => None,
            Err(error) if error.outcome() == Outcome::Unknown => Some(error),
            Err(error) => return Err(error),
        };
        match (self.find(path).await, error) {
            (Ok(Some(found)), _) if found.bytes == bytes => Ok(Replaced::Done(found)),
            (found, None) => Ok(Replaced::Lost(found?)),
            (_, Some(error)) => Err(error),
        }
    }

    async fn replace_once(
        &self,
        path: &Path,
        expected: Option<&Versioned>,
        bytes: Bytes,
    ) -> Result<Option<UpdateVersion>> {
        if let Some(folder) = self.root.folder() {
            let unique = FileId::random(self.host());
            let expected = expected.map(|e| e.bytes.clone());
            let done = self
                .in_folder(folder, path, move |folder, path| folder.replace(path, expected.as_deref(), &bytes, unique))
                .await?;
            // A local folder compares contents, not versions.
            return Ok(done.then_some(UpdateVersion { e_tag: None, version: None }));
        }
        let mode = expected.map_or(PutMode::Create, |expected| PutMode::Update(expected.version.clone()));
        match self.root.objects().put_opts(path, PutPayload::from_bytes(bytes), PutOptions::from(mode)).await {
            Ok(put) => Ok(Some(UpdateVersion::from(put))),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotFound { .. },
            ) => Ok(None),
            Err(error) => Err(Error::store("replace", path.as_ref(), error)),
        }
    }

    /// Deletes an object; one that is not there is deleted.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn delete(&self, path: &Path) -> Result<()> {
        let deleted = self
            .tried("delete", path, || async {
                let deleted = self.root.objects().delete(path).await;
                deleted.map_err(|e| Error::store("delete", path.as_ref(), e))
            })
            .await;
        match deleted {
            Err(Error::Missing { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Removes what a local root has beside objects of a pipeline that has none left.
    ///
    /// # Errors
    /// When the name is none.
    pub(crate) async fn remove_empty(&self, folder: &Path) -> Result<()> {
        match self.root.folder() {
            Some(root) => self.in_folder(root, folder, |root, folder| root.remove_empty(folder)).await,
            None => Ok(()),
        }
    }

    /// Brings a file of this machine into the store under a name that nobody else uses; its steps are part of
    /// `moved` as well.
    ///
    /// # Errors
    /// [`Error::Local`] when the file cannot be read, and errors of the store.
    pub(crate) async fn put_file(&self, path: &Path, file: PathBuf, length: u64, moved: &Progress) -> Result<Moved> {
        let (file, call) = (&file, Call::write(path, moved));
        if let Some(folder) = self.root.folder() {
            let _room = self.room(STEP).await;
            return self
                .moved(call, |moving| {
                    let (file, unique) = (file.clone(), FileId::random(self.host()));
                    self.in_folder(folder, path, move |folder, path| folder.import(&file, path, unique, &moving))
                })
                .await;
        }
        if length > 2 * PIECE {
            self.put_parts(call, file, length).await?;
            return Ok(Moved::Copied);
        }
        let _room = self.room(length).await;
        self.moved(call.unseen(), |_| async move {
            let bytes = self.read_local(file.clone(), 0..length).await?;
            let put = self.root.objects().put(path, PutPayload::from_bytes(bytes)).await;
            put.map(|_| Moved::Copied).map_err(|e| Error::store("write", path.as_ref(), e))
        })
        .await
    }

    async fn put_parts(&self, call: Call<'_>, file: &std::path::Path, length: u64) -> Result<()> {
        let (path, parts) = (call.path, self.root.parts()?);
        let failed = |e| Error::store("write", path.as_ref(), e);
        let begin = || async move { parts.create_multipart(path).await.map_err(failed) };
        let id = &self.tried("write", path, begin).await?;
        let put = self.put_all_parts(call, id, file, length).await;
        if put.is_err() {
            // Parts that stay behind are the bucket's lifecycle rule's to remove.
            let abort = async move { parts.abort_multipart(path, id).await.map_err(failed) };
            let _ = self.attempted(call, Watch::default(), self.retry.deadline, abort).await;
        }
        put
    }

    /// Puts the parts, each with attempts of its own, and makes them the object.
    async fn put_all_parts(&self, call: Call<'_>, id: &MultipartId, file: &std::path::Path, length: u64) -> Result<()> {
        let (path, parts) = (call.path, self.root.parts()?);
        let failed = |e| Error::store("write", path.as_ref(), e);
        let mut done = Vec::new();
        for (number, at) in (0..length).step_by(PIECE as usize).enumerate() {
            let piece = at..(at + PIECE).min(length);
            let piece = &piece;
            let _room = self.room(PIECE).await;
            let put = |_| async move {
                let bytes = self.read_local(file.to_path_buf(), piece.clone()).await?;
                parts.put_part(path, id, number, PutPayload::from_bytes(bytes)).await.map_err(failed)
            };
            done.push(self.moved(call.unseen(), put).await?);
            if let Some(moved) = call.moved {
                moved.note();
            }
        }
        let done = &done;
        let complete = |_| async move { parts.complete_multipart(path, id, done.clone()).await.map_err(failed) };
        let Err(error) = self.moved(call.unseen(), complete).await else { return Ok(()) };
        // When the answer of an earlier attempt was lost, a later one finds nothing to complete.
        if self.size(path).await.is_ok_and(|size| size == Some(length)) { Ok(()) } else { Err(error) }
    }

    /// Waits until so many bytes of a file, of two pieces at most, may be on their way. That is part of no attempt.
    async fn room(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let steps = u32::try_from(bytes.div_ceil(STEP)).unwrap_or(ROOM).min(ROOM);
        // Nobody closes it.
        self.room.acquire_many(steps).await.ok()
    }

    async fn read_local(&self, file: PathBuf, range: Range<u64>) -> Result<Bytes> {
        offload(self.host(), move || {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let read = std::fs::File::open(&file).and_then(|mut open| {
                open.seek(SeekFrom::Start(range.start))?;
                open.read_exact(&mut bytes)
            });
            read.map_err(|e| Error::local("read", file, e))?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// Makes names that [`Store::put_file`] gave durable.
    pub(crate) async fn settle(&self, folder_path: &Path) -> Result<()> {
        match self.root.folder() {
            Some(folder) => self.in_folder(folder, folder_path, Folder::sync).await,
            None => Ok(()),
        }
    }

    /// Gives an object a name outside a local root; false when the root is not local.
    pub(crate) async fn export(&self, path: &Path, to: PathBuf) -> Result<Option<Moved>> {
        match self.root.folder() {
            Some(folder) => {
                let exported = self.moved(Call::new("read", path), |moving| {
                    let (to, unique) = (to.clone(), FileId::random(self.host()));
                    self.in_folder(folder, path, move |folder, path| folder.export(path, &to, unique, &moving))
                });
                exported.await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Digests an object by reading it; its length must be known.
    pub(crate) async fn digest(&self, path: &Path, length: u64) -> Result<crate::Digest> {
        let pieces = (0..length).step_by(PIECE as usize).map(|at| at..(at + PIECE).min(length));
        let mut pieces = futures::stream::iter(pieces.map(|piece| self.get_range(path, piece))).buffered(2);
        let mut hashing = Hashing::default();
        while let Some(bytes) = pieces.next().await {
            let bytes = bytes?;
            hashing = offload(self.host(), move || {
                hashing.write_all(&bytes).expect("a digest accepts every byte");
                hashing
            })
            .await;
        }
        Ok(hashing.finish().0)
    }

    async fn in_folder<T: Send + 'static>(
        &self,
        folder: &Arc<Folder>,
        path: &Path,
        work: impl FnOnce(&Folder, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (going_on, _awaited) = loop {
            match folder.begin() {
                Some(begun) => break begun,
                // The attempt ends before long.
                None => self.host.sleep(LOOK_AGAIN).await,
            }
        };
        let (folder, path) = (Arc::clone(folder), path.clone());
        let call = move || {
            let done = work(&folder, &path);
            drop(going_on);
            done
        };
        offload(self.host(), call).await
    }

    /// Makes a call until it succeeds, fails for good or the attempts are used up.
    async fn tried<T, F>(&self, action: &'static str, path: &Path, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.moved(Call::new(action, path), |_| call()).await
    }

    /// The same of a call that may take as long as bytes move.
    async fn moved<T, F>(&self, call: Call<'_>, mut make: impl FnMut(Moving) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut unknown = false;
        let mut failures = 0;
        loop {
            let watch = Watch::default();
            let attempt = make(watch.moving(call.moved));
            let patience = if call.unseen { self.retry.unseen(failures + 1) } else { self.retry.deadline };
            let error = match self.attempted(call, watch, patience, attempt).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            unknown |= error.outcome() == Outcome::Unknown;
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(if unknown { doubtful(error) } else { error });
            }
            tracing::debug!(%error, attempt = failures, "a call to the checkpoint store failed and is retried");
            self.host.sleep(self.retry.pause(failures, self.host.random())).await;
        }
    }

    /// One attempt: given up when it stands still for `patience`.
    async fn attempted<T>(
        &self,
        call: Call<'_>,
        watch: Watch,
        patience: Duration,
        attempt: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut attempt = pin!(attempt);
        loop {
            let steps = watch.steps();
            attempt = match select(attempt, self.host.sleep(patience)).await {
                Either::Left((result, _)) => return result,
                Either::Right(((), attempt)) if watch.steps() != steps => attempt,
                Either::Right(_) => {
                    return Err(Error::Unavailable {
                        action: call.action,
                        object: call.path.to_string(),
                        outcome: Outcome::Unknown,
                        source: format!("no answer within {patience:?}").into(),
                    });
                }
            };
        }
    }
}

/// Reads a part of a file.
fn read_in_steps(mut file: File, range: &Range<u64>, moving: &Moving) -> io::Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let mut bytes = Vec::with_capacity(length as usize);
    file.seek(SeekFrom::Start(range.start))?;
    while (bytes.len() as u64) < length {
        let left = length - bytes.len() as u64;
        if Read::by_ref(&mut file).take(left.min(STEP)).read_to_end(&mut bytes)? == 0 {
            break;
        }
        moving.note()?;
    }
    Ok(bytes.into())
}

/// What was read, when it is all that was asked for; a reply that was cut short is asked for again.
fn whole(path: &Path, bytes: Bytes, expected: u64) -> Result<Bytes> {
    if bytes.len() as u64 == expected {
        return Ok(bytes);
    }
    Err(Error::Unavailable {
        action: "read",
        object: path.to_string(),
        outcome: Outcome::SurelyNotDone,
        source: format!("{} of {expected} bytes came", bytes.len()).into(),
    })
}

/// The same error when an earlier attempt of the same call may have succeeded.
fn doubtful(error: Error) -> Error {
    match error {
        Error::Unavailable { action, object, source, .. } => {
            Error::Unavailable { action, object, outcome: Outcome::Unknown, source }
        }
        other => other,
    }
}
