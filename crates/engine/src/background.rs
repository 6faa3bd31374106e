//! Where work goes that must not hold up a Timely worker: threads of low priority for files, a Tokio
//! runtime for stores and sources that wait, and threads apart for sinks' targets, which may block for ever, and
//! for what goes to the root and for collections, which may take long.
//!
//! One of these serves a whole process, so that hundreds of pipelines do not mean hundreds of
//! threads. Invariant: a job that panics takes only itself down.

use crate::apart::{Apart, Begins};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::runtime::{Handle, Runtime};

/// How many deliveries may block at the same time before others wait for them.
const DELIVERIES: usize = 1024;
/// So many workers' parts go to the root at the same time.
const SHIPMENTS: usize = 64;
/// So many manifests do: they are small, and wait for no large part.
const PUBLICATIONS: usize = 64;
/// So many collections go on at the same time: all are of one root, to which checkpoints are written meanwhile.
const COLLECTIONS: usize = 4;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads for background work; cheap to clone.
#[derive(Clone)]
pub(crate) struct Background {
    jobs: Sender<Job>,
    deliveries: Arc<Apart>,
    shipments: Arc<Apart>,
    publications: Arc<Apart>,
    collections: Arc<Apart>,
    handle: Handle,
    _runtime: Arc<Running>,
}

/// Ends the runtime without waiting for what blocks in it.
struct Running(Option<Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Background {
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("hw-io")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name(format!("hw-background-{number}")).spawn(move || work(&queue))?;
        }
        let handle = runtime.handle().clone();
        let deliveries = Arc::new(Apart::new("hw-delivery", DELIVERIES));
        let shipments = Arc::new(Apart::new("hw-shipment", SHIPMENTS));
        let publications = Arc::new(Apart::new("hw-publication", PUBLICATIONS));
        let collections = Arc::new(Apart::new("hw-collection", COLLECTIONS));
        let runtime = Arc::new(Running(Some(runtime)));
        Ok(Self { jobs, deliveries, shipments, publications, collections, handle, _runtime: runtime })
    }

    /// Runs a job when a thread is free, of which there are few: it must not wait for what is not this machine's.
    /// Jobs of one caller may run at the same time.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the threads live as long as this");
    }

    /// Runs a delivery, which may block for ever, beside all others.
    ///
    /// # Errors
    /// When the system gives no thread; the job is not run then.
    pub(crate) fn deliver(&self, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        if self.deliveries.run(Box::new(job))? == Begins::Later {
            tracing::warn!("a delivery waits for {DELIVERIES} others: their targets do not answer");
        }
        Ok(())
    }

    /// Runs what brings files to the root, which may be slow, beside all else but others of its kind. It is run
    /// whatever happens: where the system gives no thread, as [`Background::run`] does.
    pub(crate) fn ship(&self, job: impl FnOnce() + Send + 'static) {
        self.bring(&self.shipments, Box::new(job));
    }

    /// The same of what publishes a checkpoint whose files are there.
    pub(crate) fn publish(&self, job: impl FnOnce() + Send + 'static) {
        self.bring(&self.publications, Box::new(job));
    }

    fn bring(&self, threads: &Arc<Apart>, job: Job) {
        let job = Arc::new(Mutex::new(Some(job)));
        let kept = Arc::clone(&job);
        if let Err(error) = threads.run(Box::new(move || run_kept(&job))) {
            tracing::warn!(%error, "there is no thread for what goes to the checkpoint root");
            self.run(move || run_kept(&kept));
        }
    }

    /// Runs what removes something from the root, which may take long, beside all else but others of its kind.
    ///
    /// # Errors
    /// As [`Background::deliver`].
    pub(crate) fn collect(&self, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.collections.run(Box::new(job)).map(drop)
    }

    /// Waits for a future; only from a background thread or a caller's own.
    pub(crate) fn wait_for<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// The runtime for tasks that wait.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

fn run_kept(job: &Mutex<Option<Job>>) {
    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(job) = job {
        job();
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    lower_priority();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        run(job);
    }
}

/// Runs a job and tells of its panic.
pub(crate) fn run(job: Job) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
        tracing::error!(reason = crate::shared::message_of(panic.as_ref()), "a background job panicked");
    }
}

/// Workers come first, in two ways: background threads have a lower priority, and long work of theirs
/// yields every some hundred microseconds, as a thread that does not is left alone for a whole tick
/// of the kernel (4 ms), whatever its priority. Where the system refuses, only the second holds.
pub(crate) fn lower_priority() {
    let low = ThreadPriorityValue::try_from(40_u8).map(ThreadPriority::Crossplatform);
    if let Ok(low) = low {
        let _ = set_current_thread_priority(low);
    }
}
