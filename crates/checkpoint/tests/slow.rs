//! Stores that are slow and go on, and stores that hang, in virtual time: the first may take as long as they
//! like, the second are given up.

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{BoxFuture, pending, ready};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use highwater_checkpoint::store::PIECE;
use highwater_checkpoint::{
    Compression, Error, FetchOptions, FileId, Host, LocalFile, Retry, Root, Store, UploadOptions, Uploaded, Uploader,
    fetch, inspect,
};
use highwater_core::{CheckpointId, Clock, ManualClock};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// So long a call may stand still.
const DEADLINE: Duration = Duration::from_secs(1);
/// What a slow store takes for a part, for a MiB and for a deletion.
const PAUSE: Duration = Duration::from_millis(700);

/// A machine whose time passes when nothing else happens.
#[derive(Debug, Default)]
struct Virtual {
    clock: ManualClock,
    drawn: AtomicU64,
    timers: Mutex<Vec<(Duration, oneshot::Sender<()>)>>,
}

impl Host for Virtual {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, SeqCst)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        self.timers.lock().expect("nobody panics").push((self.clock.monotonic() + duration, sender));
        Box::pin(async move { receiver.await.expect("the timer fires") })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(ready(()))
    }
}

impl Virtual {
    /// Lets the time pass until the next timer that somebody waits for.
    fn fire(&self) {
        let mut timers = self.timers.lock().expect("nobody panics");
        timers.retain(|(_, timer)| !timer.is_canceled());
        let next = (0..timers.len()).min_by_key(|at| timers[*at].0).expect("somebody waits for the time");
        let (at, timer) = timers.remove(next);
        self.clock.advance(at.saturating_sub(self.clock.monotonic()));
        timer.send(()).expect("somebody waits for it");
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // What is woken within one look is seen in the next.
            for _ in 0..8 {
                if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                    return done;
                }
            }
            self.fire();
        }
    }
}

/// A store in memory that takes its time.
#[derive(Clone, Debug, Default)]
struct Slow {
    memory: Arc<InMemory>,
    host: Arc<Virtual>,
    /// No part is ever answered.
    hangs: Arc<AtomicBool>,
    /// Neither is the first attempt of the second part, nor the first to complete, though it is carried out.
    loses: Arc<AtomicBool>,
    /// The parts that were tried.
    parts: Arc<Mutex<Vec<usize>>>,
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.memory.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("parts are put by number")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.memory.get_opts(location, options).await?;
        let GetResultPayload::Stream(stream) = result.payload else { unreachable!("memory has no files") };
        let whole: Vec<Bytes> = stream.try_collect().await?;
        let all = Bytes::from(whole.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>());
        let pieces: Vec<Bytes> =
            (0..all.len()).step_by(MIB).map(|at| all.slice(at..(at + MIB).min(all.len()))).collect();
        let host = Arc::clone(&self.host);
        let slowly = move |piece| {
            let wait = host.sleep(PAUSE);
            async move {
                wait.await;
                Ok(piece)
            }
        };
        result.payload = GetResultPayload::Stream(futures::stream::iter(pieces).then(slowly).boxed());
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let slowly = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let path = location?;
                store.host.sleep(PAUSE).await;
                store.memory.delete(&path).await.map(|()| path)
            }
        };
        locations.then(slowly).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Slow {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.memory.create_multipart(path).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, number: usize, data: PutPayload) -> Result<PartId> {
        let is_first = {
            let mut parts = self.parts.lock().expect("nobody panics");
            parts.push(number);
            parts.iter().filter(|part| **part == number).count() == 1
        };
        if self.hangs.load(SeqCst) || self.loses.load(SeqCst) && number == 1 && is_first {
            return pending().await;
        }
        self.host.sleep(PAUSE).await;
        self.memory.put_part(path, id, number, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let done = self.memory.complete_multipart(path, id, parts).await;
        if self.loses.swap(false, SeqCst) { pending().await } else { done }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.memory.abort_multipart(path, id).await
    }
}

impl Slow {
    fn store(&self) -> Store {
        let root = Root::over(Arc::new(self.clone()), Path::default(), "slow:");
        let retry = Retry { attempts: 2, deadline: DEADLINE, ..Retry::default() };
        Store::new(root, Arc::clone(&self.host) as Arc<dyn Host>).with_retry(retry)
    }

    fn tried(&self) -> Vec<usize> {
        self.parts.lock().expect("nobody panics").clone()
    }

    fn now(&self) -> Duration {
        self.host.clock.monotonic()
    }
}

/// A file of three parts.
fn large(folder: &std::path::Path) -> (LocalFile, Vec<u8>) {
    let words = PIECE * 5 / 2 / 8;
    let content: Vec<u8> = (0..words).flat_map(u64::to_le_bytes).collect();
    let path = folder.join("large");
    std::fs::write(&path, &content).expect("it is written");
    let file = LocalFile {
        path,
        worker: 0,
        sequence: 1,
        first_key: vec![0],
        last_key: vec![255],
        digest: None,
        compression: Compression::None,
    };
    (file, content)
}

fn upload(slow: &Slow, uploader: &Uploader, file: LocalFile) -> Result<Uploaded, Error> {
    slow.host.run(uploader.upload(&[file], CheckpointId(1)))
}

#[test]
fn a_large_file_goes_to_a_slow_store_and_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, content) = large(folder.path());
    let slow = Slow::default();
    let store = slow.store();
    let uploader = Uploader::new(&store, "p", UploadOptions::default()).expect("a name");
    let uploaded = upload(&slow, &uploader, file).expect("it goes on");
    assert_eq!(slow.tried(), [0, 1, 2]);
    assert!(slow.now() > 2 * DEADLINE && uploader.moved() > 3);
    let (names, copies) = (store.root().names("p").expect("a name"), folder.path().join("copies"));
    let before = slow.now();
    let fetched = slow.host.run(fetch(&store, &names, &uploaded.files, &copies, FetchOptions::default()));
    let fetched = fetched.expect("it goes on");
    assert!(slow.now() - before > 10 * DEADLINE);
    assert!(std::fs::read(&fetched.files[0].path).expect("it is there") == content);
}

#[test]
fn parts_that_went_through_are_not_sent_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Slow::default();
    slow.loses.store(true, SeqCst);
    let uploader = Uploader::new(&slow.store(), "p", UploadOptions::default()).expect("a name");
    let uploaded = upload(&slow, &uploader, large(folder.path()).0).expect("the second attempts are answered");
    assert_eq!((slow.tried(), uploaded.shipped), (vec![0, 1, 1, 2], 1));
}

#[test]
fn a_store_that_hangs_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Slow::default();
    slow.hangs.store(true, SeqCst);
    let uploader = Uploader::new(&slow.store(), "p", UploadOptions::default()).expect("a name");
    let failed = upload(&slow, &uploader, large(folder.path()).0).expect_err("nobody answers");
    assert!(matches!(failed, Error::Unavailable { .. }), "{failed}");
    assert_eq!((slow.tried(), uploader.moved()), (vec![0, 0], 0));
    assert!(slow.now() < 5 * DEADLINE, "{:?}", slow.now());
}

#[test]
fn objects_of_a_pipeline_are_removed_side_by_side() {
    let slow = Slow::default();
    let store = slow.store();
    let names = store.root().names("p").expect("a name");
    for number in 0..24 {
        let path = names.file(FileId::parse(&format!("{number:032x}")).expect("an id"));
        slow.host.run(store.create(&path, Bytes::from("1"))).expect("it is written");
    }
    let before = slow.now();
    assert!(slow.host.run(inspect::delete(&store, "p", || {})).expect("it is removed"));
    assert!(slow.now() - before < 6 * PAUSE, "{:?}", slow.now() - before);
    assert!(slow.host.run(store.list(&names, names.base())).expect("it is listed").is_empty());
}
