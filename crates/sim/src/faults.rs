//! The store under simulation: memory that answers late, fails in all four ways (done or not,
//! reported or not), carries calls out long after they were given up, and cuts replies short.
//!
//! Invariant: whatever it does to the caller, [`World`] learns what really happened.

use crate::world::World;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use highwater_checkpoint::Host;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Done and answered.
    Good,
    /// Not done, and an error says so.
    Refused,
    /// Not done, and nobody answers.
    Lost,
    /// Done, and an error is answered.
    DoneButFailed,
    /// Done, and nobody answers.
    DoneInSilence,
    /// Nobody answers, and it is done much later.
    DoneLate,
}

/// A failing store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    memory: Arc<InMemory>,
    world: Arc<World>,
    per_mille: Arc<AtomicU64>,
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl FaultyStore {
    /// An empty store of a world in which so many of 1000 calls go wrong.
    #[must_use]
    pub fn new(world: Arc<World>, per_mille: u64) -> Self {
        Self { memory: Arc::new(InMemory::new()), world, per_mille: Arc::new(AtomicU64::new(per_mille)) }
    }

    /// From now on so many of 1000 calls go wrong.
    pub fn set_faults(&self, per_mille: u64) {
        self.per_mille.store(per_mille, Ordering::SeqCst);
    }

    /// Changes an object behind everybody's back.
    pub fn rot(&self) {
        let Some((path, left)) = self.world.choose_rot() else { return };
        self.world.rot(&path, left.as_ref());
        self.overwrite(&path, left);
    }

    /// Brings back what rotted.
    pub fn heal(&self) {
        for (path, bytes) in self.world.healing() {
            self.world.wrote(&path, &bytes);
            self.overwrite(&path, Some(bytes));
        }
    }

    fn overwrite(&self, path: &Path, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) => {
                let put = self.memory.put_opts(path, PutPayload::from_bytes(bytes), PutOptions::default());
                put.now_or_never().expect("memory answers at once").expect("memory accepts it");
            }
            None => self.remove(path),
        }
    }

    fn remove(&self, path: &Path) {
        let one = futures::stream::iter([Ok(path.clone())]).boxed();
        let gone: Vec<_> = self.memory.delete_stream(one).collect().now_or_never().expect("memory answers at once");
        assert!(gone.iter().all(Result::is_ok), "memory deletes");
    }

    /// Draws what becomes of a call, and lets some time pass.
    async fn fate(&self, what: &str, path: &Path) -> Fate {
        let host = &self.world.host;
        let fate = if host.chance(self.per_mille.load(Ordering::SeqCst)) {
            [Fate::Refused, Fate::Lost, Fate::DoneButFailed, Fate::DoneInSilence, Fate::DoneLate]
                [host.below(5) as usize]
        } else {
            Fate::Good
        };
        host.sleep(host.some_time(Duration::from_millis(30))).await;
        if fate != Fate::Good {
            self.world.count(|counts| counts.faults += 1);
            self.world.tell(format!("  {what} of {} is {fate:?}", path.filename().unwrap_or("all")));
        }
        fate
    }

    /// Carries a call out as its fate says.
    async fn carry_out<T>(&self, fate: Fate, act: impl Fn(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        match fate {
            Fate::Good => act(self),
            Fate::Refused => Err(failure()),
            Fate::Lost => futures::future::pending().await,
            Fate::DoneButFailed => act(self).and(Err(failure())),
            Fate::DoneInSilence => {
                // Whatever came of it, nobody hears it.
                drop(act(self));
                futures::future::pending().await
            }
            Fate::DoneLate => {
                let host = self.world.host.clone();
                let (store, machine) = (self.clone(), host.clone());
                let delay = host.some_time(Duration::from_secs(200));
                host.spawn(async move {
                    machine.sleep(delay).await;
                    store.world.tell("  a late call arrives");
                    drop(act(&store));
                });
                futures::future::pending().await
            }
        }
    }

    fn put_now(&self, path: &Path, bytes: &Bytes, mode: &PutMode) -> Result<PutResult> {
        let put = self.memory.put_opts(path, PutPayload::from_bytes(bytes.clone()), PutOptions::from(mode.clone()));
        let done = put.now_or_never().expect("memory answers at once")?;
        self.world.wrote(path, bytes);
        Ok(done)
    }

    fn delete_now(&self, path: &Path) -> Result<Path> {
        self.remove(path);
        self.world.deleted(path);
        Ok(path.clone())
    }

    fn list_now(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let list = self.memory.list(Some(prefix)).try_collect::<Vec<_>>();
        let mut list = list.now_or_never().expect("memory answers at once")?;
        for meta in &mut list {
            self.date(meta);
        }
        Ok(list)
    }

    /// The store's own time: the virtual clock's.
    fn date(&self, meta: &mut ObjectMeta) {
        let modified = self.world.modified(&meta.location);
        if let Some(date) = modified.and_then(|at| DateTime::from_timestamp_micros(at.0)) {
            meta.last_modified = date;
        }
    }
}

fn no_parts() -> Error {
    Error::NotImplemented { operation: "multipart".into(), implementer: "FaultyStore".into() }
}

fn failure() -> Error {
    Error::Generic { store: "simulated", source: "connection reset".into() }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (path, bytes, mode) = (location.clone(), Bytes::from(payload), opts.mode);
        let fate = self.fate("write", location).await;
        self.carry_out(fate, move |store| store.put_now(&path, &bytes, &mode)).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(no_parts())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        match self.fate("read", location).await {
            Fate::Good => self.memory.get_opts(location, options).await,
            Fate::Refused | Fate::DoneButFailed => Err(failure()),
            Fate::DoneLate if !is_head => {
                let mut result = self.memory.get_opts(location, options).await?;
                let GetResultPayload::Stream(stream) = result.payload else { return Err(failure()) };
                let parts: Vec<Bytes> = stream.try_collect().await?;
                let part = parts.first().map(|bytes| bytes.slice(..bytes.len() / 2)).unwrap_or_default();
                let stream = futures::stream::iter([Ok(part)]).boxed();
                result.payload = GetResultPayload::Stream(stream);
                Ok(result)
            }
            Fate::Lost | Fate::DoneInSilence | Fate::DoneLate => futures::future::pending().await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let each = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let path = location?;
                let fate = store.fate("delete", &path).await;
                store.carry_out(fate, move |store| store.delete_now(&path)).await
            }
        };
        locations.then(each).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        let all = async move {
            match store.fate("list", &prefix).await {
                Fate::Good | Fate::DoneLate => store.list_now(&prefix),
                Fate::Refused | Fate::DoneButFailed => Err(failure()),
                Fate::Lost | Fate::DoneInSilence => futures::future::pending().await,
            }
        };
        futures::stream::once(all).map_ok(|list| futures::stream::iter(list.into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}

/// The files of a run are too small for parts.
#[async_trait]
impl MultipartStore for FaultyStore {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        Err(no_parts())
    }

    async fn put_part(&self, _: &Path, _: &MultipartId, _: usize, _: PutPayload) -> Result<PartId> {
        Err(no_parts())
    }

    async fn complete_multipart(&self, _: &Path, _: &MultipartId, _: Vec<PartId>) -> Result<PutResult> {
        Err(no_parts())
    }

    async fn abort_multipart(&self, _: &Path, _: &MultipartId) -> Result<()> {
        Err(no_parts())
    }
}
