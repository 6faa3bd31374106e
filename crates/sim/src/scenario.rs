//! The play of one seed: which processes run, when they crash, what fails and rots; and its end, when
//! all is well again and one last process must restore and publish.

use crate::executor::{Fused, SimHost, run_until};
use crate::faults::FaultyStore;
use crate::process::{AGE_GUARD, End, Orders, run as run_process};
use crate::world::{Counts, World};
use futures::channel::oneshot;
use highwater_checkpoint::{Digest, Error, Host, Names, Retry, Root, Store, collect, inspect};
use object_store::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a seed plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of everything that is drawn on the way.
    pub seed: u64,
    /// So many of 1000 calls go wrong.
    pub faults: u64,
    /// So many supervisors restart processes at the same time.
    pub supervisors: u64,
    /// Each supervisor starts so many processes.
    pub processes: u64,
    /// Each process takes so many checkpoints.
    pub rounds: u64,
    /// So many of 1000 processes crash; the step is drawn.
    pub crashes: u64,
    /// The first process crashes at exactly this step.
    pub crash_at: Option<u64>,
    /// So many checkpoints stay.
    pub keep: usize,
    /// So many of 1000 uploads take longer than the age guard.
    pub slow: u64,
    /// Objects that rot.
    pub rot: u64,
    /// Somebody collects and prunes beside the processes, so many times.
    pub prunes: u64,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Steps of futures.
    pub steps: u64,
    /// How much happened.
    pub counts: Counts,
    /// What happened.
    pub trace: Vec<String>,
    /// The digest of the trace.
    pub digest: Digest,
    /// The invariant that was broken.
    pub violation: Option<String>,
}

impl Plan {
    /// The plan of a seed: half of all are gentle in one respect or another.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let dice = SimHost::seeded(!seed);
        let one_of = |choices: &[u64]| choices[dice.below(choices.len() as u64) as usize];
        Self {
            seed,
            faults: one_of(&[0, 20, 80, 200]),
            supervisors: one_of(&[1, 1, 2]),
            processes: 1 + dice.below(4),
            rounds: 1 + dice.below(5),
            crashes: one_of(&[0, 500, 900]),
            crash_at: None,
            keep: 1 + dice.below(3) as usize,
            slow: one_of(&[0, 0, 200]),
            rot: one_of(&[0, 0, 1, 3]),
            prunes: one_of(&[0, 2, 4]),
        }
    }
}

/// Plays a seed.
#[must_use]
pub fn run(seed: u64) -> Run {
    run_plan(&Plan::of(seed))
}

/// Plays a plan.
///
/// # Panics
/// When the machine has no scratch space.
#[must_use]
pub fn run_plan(plan: &Plan) -> Run {
    // In memory where the system has such a folder: nothing of a run is to be kept.
    let shared_memory = std::path::Path::new("/dev/shm");
    let scratch = if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() };
    let scratch = scratch.expect("a scratch folder can be made");
    let host = SimHost::seeded(plan.seed);
    let prefix = Path::from("root");
    let names = Names::new(&prefix, "p").expect("a good name");
    let world = Arc::new(World::new(host.clone(), names));
    let faulty = FaultyStore::new(Arc::clone(&world), plan.faults);
    let retry = Retry {
        attempts: 3,
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_secs(1),
        deadline: Duration::from_secs(5),
    };
    let root = Root::over(Arc::new(faulty.clone()), prefix, "simulated:");
    let store = Store::new(root, Arc::new(host.clone())).with_retry(retry);
    let play = Play { plan: plan.clone(), world: Arc::clone(&world), store, faulty, scratch: scratch.path().into() };
    world.tell(format!("{plan:?}"));
    let ended = run_until(&host, play.all(), || world.verdict());
    let (counts, trace, digest) = world.end();
    let (steps, violation) = match ended {
        Ok(steps) => (steps, None),
        Err(violation) => (0, Some(violation)),
    };
    Run { seed: plan.seed, steps, counts, trace, digest, violation }
}

#[derive(Clone)]
struct Play {
    plan: Plan,
    world: Arc<World>,
    store: Store,
    faulty: FaultyStore,
    scratch: std::path::PathBuf,
}

impl Play {
    /// All of it, to a good end.
    async fn all(self) {
        let mut ends = Vec::new();
        for supervisor in 0..self.plan.supervisors {
            ends.push(self.beside(self.clone().supervise(supervisor)));
        }
        ends.push(self.beside(self.clone().prune()));
        ends.push(self.beside(self.clone().decay()));
        for end in ends {
            // It is dropped only with the whole run.
            end.await.expect("what runs beside ends");
        }
        self.finish().await;
    }

    /// Runs a future beside the others; the receiver hears of its end.
    fn beside(&self, task: impl Future<Output = ()> + Send + 'static) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.world.host.spawn(async move {
            task.await;
            // The receiver goes only with the whole run.
            let _ = sender.send(());
        });
        receiver
    }

    fn orders(&self, name: String) -> Orders {
        let folder = self.scratch.join(&name);
        Orders { name, rounds: self.plan.rounds, keep: self.plan.keep, folder, slow: self.plan.slow }
    }

    /// Starts one process after another, as systemd would.
    async fn supervise(self, supervisor: u64) {
        let host = self.world.host.clone();
        host.sleep(host.some_time(Duration::from_secs(10)) * supervisor as u32).await;
        for n in 0..self.plan.processes {
            let name = format!("{}{n}", char::from(b'A' + supervisor as u8));
            let first = supervisor == 0 && n == 0;
            let polls = match self.plan.crash_at.filter(|_| first) {
                Some(step) => step,
                None if host.chance(self.plan.crashes) => 1 + host.below(120 + 80 * self.plan.rounds),
                None => u64::MAX,
            };
            let process = run_process(Arc::clone(&self.world), self.store.clone(), self.orders(name.clone()));
            if Fused::new(process, polls).await.is_none() {
                self.world.count(|counts| counts.crashes += 1);
                self.world.tell(format!("{name} crashes"));
            }
            host.sleep(host.some_time(Duration::from_secs(20))).await;
        }
    }

    /// Somebody at the command line, who holds no claim.
    async fn prune(self) {
        let host = self.world.host.clone();
        // With slow uploads about, late enough to overtake them.
        let pause = if self.plan.slow > 0 { AGE_GUARD } else { Duration::from_secs(60) };
        for _ in 0..self.plan.prunes {
            host.sleep(host.some_time(pause)).await;
            let pipeline = self.world.names.pipeline();
            let swept = if host.chance(500) {
                let pruned = inspect::prune(&self.store, pipeline, 1 + host.below(2) as usize, AGE_GUARD).await;
                pruned.map(|pruned| pruned.collected)
            } else {
                collect(&self.store, pipeline, AGE_GUARD).await
            };
            match swept {
                Ok(swept) => self.world.tell(format!("somebody swept: {swept:?}")),
                Err(error) => self.world.tell(format!("somebody cannot sweep: {error}")),
            }
        }
    }

    async fn decay(self) {
        let host = self.world.host.clone();
        for _ in 0..self.plan.rot {
            host.sleep(host.some_time(Duration::from_secs(90))).await;
            self.faulty.rot();
        }
    }

    /// No more faults: one last process must restore and publish. When nothing verifies, that must be
    /// because everything listed has rotted; then the operator brings it back.
    async fn finish(self) {
        self.faulty.set_faults(0);
        // Whatever is still on its way arrives.
        self.world.host.sleep(Duration::from_secs(300)).await;
        let last = |n: u32| Orders { slow: 0, rounds: 2, ..self.orders(format!("last{n}")) };
        let mut end = run_process(Arc::clone(&self.world), self.store.clone(), last(0)).await;
        if let (End::Failed(_), Some(pointer)) = (&end, self.world.pointer()) {
            let damaged = self.world.damaged(&pointer);
            let all = pointer.checkpoints.iter().all(|e| damaged.contains(&e.checkpoint));
            if all && !damaged.is_empty() {
                self.world.tell("the operator brings back what rotted");
                self.faulty.heal();
                end = run_process(Arc::clone(&self.world), self.store.clone(), last(1)).await;
            }
        }
        let verdict = if end == End::Done(true) { Ok(()) } else { Err(format!("the last process ended so: {end:?}")) };
        self.world.judge("when all is well a process restores and publishes", verdict);
        let read: Result<_, Error> = inspect::verify(&self.store, self.world.names.pipeline(), None).await;
        let verdict = match read {
            Ok(report) if report.is_good() => Ok(()),
            Ok(report) => Err(format!("{:?}", report.damage)),
            Err(error) => Err(error.to_string()),
        };
        self.world.judge("the newest checkpoint verifies in the end", verdict);
    }
}
