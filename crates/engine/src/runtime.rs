//! The engine of a process: its Timely workers, and the pipelines that come and go on them.
//!
//! A pipeline runs on all workers of one Timely cluster, or, when it has little to do, on one of
//! several clusters of a single worker, where an epoch needs no messages between threads. Commands
//! reach all workers of a cluster in one order, as Timely wants dataflows built. A supervisor thread
//! has failed pipelines restarted with back-off. Invariants: a worker thread never waits for anything but
//! its next command or activation; when an engine has been dropped no thread of it uses the page store,
//! unless what it waits for takes longer than ten seconds.

use crate::background::Background;
use crate::build;
use crate::error::{Error, Result};
use crate::machine;
use crate::memory::Memory;
use crate::outside::Outside;
use crate::pipeline::{MEMORY_INTERVAL, MemoryWatch, Pipeline, Pipelines, memory_reserve};
use crate::plan::Plan;
use crate::run::{Event, Facilities, PipelineSpec, RunSpec};
use crate::saved::Saved;
use crate::shared::message_of;
use highwater_checkpoint::{Root, Store};
use highwater_core::{Bytes, SystemClock};
use highwater_state::{PageStore, StoreLimits};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use timely::worker::Worker;

/// From so many pipelines on, a worker of several lets work gather between two steps: else each
/// message of each of them wakes it by itself, and most of its time goes into falling asleep and
/// waking up.
const CROWD: usize = 16;
const GATHER: Duration = Duration::from_micros(200);
/// The longest a worker sleeps without a reason to wake.
const LONGEST_PARK: Duration = Duration::from_millis(500);

/// How often it is looked which failed pipelines are to be restarted.
const RESTART_LOOK: Duration = Duration::from_millis(100);

/// More would own no key group.
const MOST_WORKERS: usize = 256;

/// Where and how an engine runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Worker threads; one a core by default.
    pub workers: usize,
    /// Files on this machine: the page store and copies of what checkpoints need.
    pub data_dir: PathBuf,
    /// Where checkpoints go: a path or a URL (`file://`, `s3://`, `memory:`).
    pub checkpoint_root: String,
    /// Cache of RocksDB blocks.
    pub block_cache: Bytes,
    /// For the tables of all pipelines, in memory; above it their clean pages are evicted and read
    /// back from RocksDB when they are needed. The indexes of the tables always stay.
    pub state_memory: Bytes,
    /// Of the machine's memory, or of the control group's, what is to stay free: when less is, the
    /// pipeline fails whose state the epoch that is open made grow most.
    pub memory_reserve: Bytes,
}

impl EngineConfig {
    /// The defaults, with everything under one folder.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            checkpoint_root: data_dir.join("checkpoints").display().to_string(),
            data_dir,
            block_cache: Bytes(64 << 20),
            state_memory: Bytes(machine::memory().0 / 2),
            memory_reserve: memory_reserve(),
        }
    }
}

/// What a worker is told to do.
pub(crate) enum Command {
    Create(Arc<RunSpec>),
    /// Let go of a run, wherever it is; told when done.
    Drop(u64, Sender<()>),
    Shutdown,
}

/// The running engine. Dropping it stops the workers without final checkpoints.
pub struct Engine {
    pipelines: Arc<Pipelines>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    keepers: Mutex<Option<Keepers>>,
}

/// The threads that look after the pipelines.
struct Keepers {
    supervisor: JoinHandle<()>,
    memory: JoinHandle<()>,
    /// The memory's watch lasts as long as this.
    watches: Sender<()>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Sends commands to workers, in one order for all of a cluster.
pub(crate) struct Workers {
    /// The workers that share pipelines.
    wide: Cluster,
    /// Those that have pipelines of their own; none when the wide cluster is one worker.
    narrow: Vec<Cluster>,
}

/// The workers of one Timely computation.
type Cluster = Mutex<Vec<Link>>;
/// A worker's queue, and what wakes it.
type Link = (Sender<Command>, Thread);

fn tell(cluster: &Cluster, make: impl Fn() -> Command) {
    let links = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    for (sender, thread) in links.iter() {
        // A worker that has gone is told nothing.
        let _ = sender.send(make());
        thread.unpark();
    }
}

impl Workers {
    /// Makes a run's dataflow on the workers it is for; narrow ones are dealt in turn.
    pub(crate) fn create(&self, spec: &Arc<RunSpec>) {
        let in_turn = spec.id as usize % self.narrow.len().max(1);
        let narrow = self.narrow.get(in_turn).filter(|_| spec.workers() == 1);
        tell(narrow.unwrap_or(&self.wide), || Command::Create(Arc::clone(spec)));
    }

    fn all(&self) -> impl Iterator<Item = &Cluster> {
        self.narrow.iter().chain([&self.wide])
    }

    fn shutdown(&self) {
        self.all().for_each(|cluster| tell(cluster, || Command::Shutdown));
    }

    /// Lets go of a run, and waits until its workers have.
    pub(crate) fn drop_run(&self, run: u64) {
        let (done, all_done) = channel();
        self.all().for_each(|cluster| tell(cluster, || Command::Drop(run, done.clone())));
        drop(done);
        while all_done.recv().is_ok() {}
    }
}

impl Engine {
    /// The store of pages, whose cache and limits other databases of the process share.
    #[must_use]
    pub fn page_store(&self) -> &PageStore {
        self.pipelines.page_store()
    }

    /// Starts workers and background threads.
    ///
    /// # Errors
    /// When a folder cannot be made, the root cannot be opened, or the system gives no threads.
    pub fn start(config: EngineConfig) -> Result<Self> {
        if config.workers > MOST_WORKERS {
            return Err(Error::Plan(format!("{} workers; at most {MOST_WORKERS} are possible", config.workers)));
        }
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Io { what, source }
        };
        std::fs::create_dir_all(&config.data_dir).map_err(io("create the data folder"))?;
        let background = Background::start(2).map_err(io("start background threads"))?;
        let store = {
            let _entered = background.handle().enter();
            Store::new(Root::open(&config.checkpoint_root)?, Arc::new(highwater_checkpoint::TokioHost::default()))
        };
        let limits = StoreLimits { block_cache: config.block_cache, ..StoreLimits::default() };
        let pages = Arc::new(PageStore::create(&config.data_dir.join("pages"), limits)?);
        let facilities = Facilities {
            background,
            clock: Arc::new(SystemClock::default()),
            store,
            pages,
            outside: Outside::default(),
            files: config.data_dir.join("files"),
            scratch: empty(config.data_dir.join("scratch"))?,
            workers: config.workers,
        };
        let (workers, running) = start_workers(config.workers, config.state_memory)?;
        let (events, happened) = channel();
        let pipelines = Arc::new(Pipelines::new(facilities, workers, events));
        let supervised = Arc::downgrade(&pipelines);
        let supervisor = std::thread::Builder::new()
            .name("hw-supervisor".into())
            .spawn(move || supervise(&happened, &supervised))
            .map_err(io("start the supervisor"))?;
        let (watch, watched) = (MemoryWatch::new(config.memory_reserve), Arc::downgrade(&pipelines));
        let (watches, over) = channel();
        let memory = std::thread::Builder::new()
            .name("hw-memory".into())
            .spawn(move || watch_memory(watch, &watched, &over))
            .map_err(io("start the memory's watch"))?;
        let keepers = Mutex::new(Some(Keepers { supervisor, memory, watches }));
        Ok(Self { pipelines, workers: Mutex::new(running), keepers })
    }

    /// Creates a pipeline, or goes on with the one of that name from the newest checkpoint that
    /// verifies. Returns when its dataflow runs; its state may still be loading.
    ///
    /// # Errors
    /// When the name is taken, the plan cannot be run, or a checkpoint exists and none verifies.
    pub fn create(&self, spec: PipelineSpec) -> Result<Pipeline> {
        self.pipelines.create(spec)
    }

    /// The same; none when `patience`, which is asked every so often, is over before the dataflow runs, as the root
    /// does not answer. It is told whether that has: then files of a checkpoint are waited for, which may be large.
    /// What is in the root in the end is what a crash at that moment would leave.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub fn create_while(
        &self,
        spec: PipelineSpec,
        patience: impl FnMut(bool) -> bool + Send + 'static,
    ) -> Result<Option<Pipeline>> {
        self.pipelines.create_while(spec, patience)
    }

    /// The rows of views of a pipeline as its newest checkpoint holds them, whether it runs or not; none when
    /// `patience`, which is asked every so often, is over before the root has given its files.
    ///
    /// # Errors
    /// `Plan` when the plan or the checkpoint has no such view, `NotRunning` when there is no
    /// checkpoint or the engine ends, and those of restoring one.
    pub fn saved(
        &self,
        pipeline: &str,
        plan: &Plan,
        views: &[String],
        patience: impl FnMut() -> bool,
    ) -> Result<Option<Saved>> {
        self.pipelines.saved(pipeline, plan, views, patience)
    }

    /// Removes all that a pipeline which does not run has, here and in the root, and gives true; false when
    /// `patience`, which is asked every so often, is over before the root has answered. Then call it again.
    ///
    /// # Errors
    /// When something cannot be removed, or the root that had its checkpoints has none: it may be away, and
    /// what is there is still to be removed. Call it again.
    pub fn delete(&self, pipeline: &str, patience: impl FnMut() -> bool) -> Result<bool> {
        self.pipelines.delete(pipeline, patience)
    }

    /// The store that checkpoints go to.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.pipelines.store()
    }

    /// The root to which checkpoints of a pipeline were published last, as far as this machine knows: none when it
    /// knows of none, and empty when it does not know to which.
    #[must_use]
    pub fn published_to(&self, pipeline: &str) -> Option<String> {
        self.pipelines.published_to(pipeline)
    }

    /// Runs a future of the checkpoint crate on the engine's runtime, from a thread of the caller's.
    pub fn wait_for<F: Future>(&self, future: F) -> F::Output {
        self.pipelines.wait_for(future)
    }

    /// Waits for what the root tells of a pipeline, as [`Engine::wait_for`], but not when the engine ends meanwhile;
    /// none when `patience`, which is asked every so often, is over.
    ///
    /// # Errors
    /// `Checkpoint`, and `NotRunning` when the engine ends.
    pub fn wait_for_root<T>(
        &self,
        pipeline: &str,
        answer: impl Future<Output = highwater_checkpoint::Result<T>>,
        patience: impl FnMut() -> bool,
    ) -> Result<Option<T>> {
        self.pipelines.wait_for_root(pipeline, answer, patience)
    }

    /// Has nobody wait for the root any more to begin or delete a pipeline: what is under way is given up with
    /// `NotRunning`, and goes on at the next start. To be called before [`Engine::shutdown`] when that has to wait
    /// for who does so.
    pub fn begin_no_more(&self) {
        self.pipelines.begin_no_more();
    }

    /// Whether no pipeline is begun any more.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.pipelines.ending().is_cancelled()
    }

    /// Stops every pipeline with a final checkpoint, as [`Engine::shutdown`] does, which is still to be called: what is
    /// being stopped by others has no time of its own. No pipeline is begun any more.
    ///
    /// # Errors
    /// The first of a pipeline that could not stop cleanly; all are stopped all the same.
    pub fn stop_pipelines(&self) -> Result<()> {
        self.pipelines.stop_all()
    }

    /// Stops every pipeline with a final checkpoint, then the workers. Final checkpoints are waited for two minutes,
    /// all together.
    ///
    /// # Errors
    /// The first of a pipeline that could not stop cleanly; all are stopped all the same.
    pub fn shutdown(&self) -> Result<()> {
        let stopped = self.pipelines.stop_all();
        self.stop_threads();
        self.pipelines.let_go(false);
        stopped
    }

    /// Ends all threads but those of the background.
    fn stop_threads(&self) {
        self.pipelines.workers().shutdown();
        for running in self.workers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Err(panic) = running.join() {
                tracing::error!(reason = message_of(panic.as_ref()), "the workers ended with a panic");
            }
        }
        let keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Keepers { supervisor, memory, watches }) = keepers else { return };
        self.pipelines.supervise_no_more();
        drop(watches);
        for keeper in [supervisor, memory] {
            if let Err(panic) = keeper.join() {
                tracing::error!(reason = message_of(panic.as_ref()), "the pipelines' supervision ended with a panic");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.pipelines.abandon();
        self.stop_threads();
        // Who has them last closes the page store: that must be this thread, as nobody waits for another one.
        self.pipelines.let_go(true);
    }
}

/// A folder for what lasts no longer than the process, with nothing left of another one.
fn empty(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        let io = |source| Error::Io { what: format!("empty {}", folder.display()), source };
        std::fs::remove_dir_all(&folder).map_err(io)?;
    }
    Ok(folder)
}

/// The wide cluster and, beside more than one worker, as many narrow ones. The workers of a core
/// share its part of the memory.
fn start_workers(count: usize, state_memory: Bytes) -> Result<(Workers, Vec<JoinHandle<()>>)> {
    let count = count.max(1);
    let budgets: Vec<Memory> = (0..count).map(|_| Memory::new(Bytes(state_memory.0 / count as u64))).collect();
    let mut running = Vec::new();
    let mut start = |config: timely::Config, budgets: Vec<Memory>| {
        let (cluster, handle) = start_cluster(config, budgets)?;
        running.push(handle);
        Ok::<_, Error>(Mutex::new(cluster))
    };
    let wide = start(timely::Config::process(count), budgets.clone())?;
    let narrow = budgets.into_iter().filter(|_| count > 1);
    let narrow = narrow.map(|budget| start(timely::Config::thread(), vec![budget])).collect::<Result<_>>()?;
    Ok((Workers { wide, narrow }, running))
}

/// A cluster of one worker for each budget.
fn start_cluster(config: timely::Config, budgets: Vec<Memory>) -> Result<(Vec<Link>, JoinHandle<()>)> {
    let count = budgets.len();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel::<Command>()).unzip();
    let receivers: Arc<Mutex<BTreeMap<usize, Receiver<Command>>>> =
        Arc::new(Mutex::new(receivers.into_iter().enumerate().collect()));
    let (started, threads) = channel();
    let start = move || {
        let guards = timely::execute(config, move |worker| {
            let mine = receivers.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker.index());
            let commands = mine.expect("one queue a worker");
            // The engine waits for all of these before it goes on.
            let _ = started.send((worker.index(), std::thread::current()));
            work(worker, &commands, &budgets[worker.index()]);
        });
        match guards {
            Ok(guards) => drop(guards.join()),
            Err(reason) => tracing::error!(reason, "the workers could not start"),
        }
    };
    let running = std::thread::Builder::new().name("hw-workers".into()).spawn(start);
    let running = running.map_err(|source| Error::Io { what: "start the workers".into(), source })?;
    let mut found: BTreeMap<usize, Thread> = BTreeMap::new();
    while found.len() < count {
        let (index, thread) =
            threads.recv().map_err(|_| Error::Timeout("the workers ended before they began".into()))?;
        found.insert(index, thread);
    }
    Ok((senders.into_iter().zip(found.into_values()).collect(), running))
}

/// A worker's life: commands between steps, sleep when there is nothing.
fn work(worker: &mut Worker, commands: &Receiver<Command>, memory: &Memory) {
    let mut dataflows: BTreeMap<u64, usize> = BTreeMap::new();
    loop {
        match commands.try_recv() {
            Ok(Command::Create(spec)) => {
                dataflows.insert(spec.id, worker.next_dataflow_index());
                build::build(worker, &spec, memory);
                continue;
            }
            Ok(Command::Drop(run, done)) => {
                if let Some(index) = dataflows.remove(&run) {
                    worker.drop_dataflow(index);
                }
                drop(done);
                continue;
            }
            Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {}
        }
        if worker.has_dataflows() {
            worker.step_or_park(Some(LONGEST_PARK));
            if worker.peers() > 1 && dataflows.len() >= CROWD {
                std::thread::sleep(GATHER);
            }
        } else {
            std::thread::park_timeout(LONGEST_PARK);
        }
    }
    for index in worker.installed_dataflows() {
        worker.drop_dataflow(index);
    }
}

/// Beside the supervisor, which may wait for workers that are busy.
fn watch_memory(mut watch: MemoryWatch, pipelines: &Weak<Pipelines>, over: &Receiver<()>) {
    while let Some(pipelines) = pipelines.upgrade() {
        watch.look(&pipelines);
        drop(pipelines);
        if over.recv_timeout(MEMORY_INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Takes up what happens, and every so often, however much that is, restarts what is due.
fn supervise(happened: &Receiver<Event>, pipelines: &Weak<Pipelines>) {
    let mut next = Instant::now() + RESTART_LOOK;
    loop {
        let event = happened.recv_timeout(next.saturating_duration_since(Instant::now()));
        let Some(pipelines) = pipelines.upgrade() else { return };
        let goes_on = match event {
            Ok(event) => pipelines.happened(event),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        if !goes_on {
            return;
        }
        if Instant::now() >= next {
            pipelines.restart_due();
            next = Instant::now() + RESTART_LOOK;
        }
    }
}
