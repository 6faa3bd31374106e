//! Runs futures on one thread in virtual time. Which runnable future goes next is drawn from the
//! seed; when none is runnable the clock jumps to the next timer.
//!
//! Invariant: nothing but the seed decides the order of steps: no threads, no real time.

use futures::future::BoxFuture;
use highwater_checkpoint::Host;
use highwater_core::{Clock, ManualClock, Rng};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// More steps than any run takes.
const MOST_STEPS: u64 = 400_000;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type TimerId = (Duration, u64);

/// The simulated machine: clock, timers and randomness of all processes of a run. Cloning means the
/// same machine.
#[derive(Clone, Debug)]
pub struct SimHost {
    machine: Arc<Machine>,
}

#[derive(Debug)]
struct Machine {
    clock: ManualClock,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    timers: BTreeMap<TimerId, Waker>,
    last_timer: u64,
    spawned: Vec<Task>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} timers", self.timers.len())
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        // One thread: poisoned only when the run has panicked already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimHost {
    /// The machine of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let clock = ManualClock::default();
        // Late enough for times before it.
        clock.advance(Duration::from_secs(1_000_000));
        let state = State { rng: Rng::seeded(seed), timers: BTreeMap::new(), last_timer: 0, spawned: Vec::new() };
        Self { machine: Arc::new(Machine { clock, state: Mutex::new(state) }) }
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.machine.state().rng.below(bound)
    }

    /// True in so many of 1000 cases.
    #[must_use]
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A time of up to `most`.
    #[must_use]
    pub fn some_time(&self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }

    /// Runs a future beside the others, to its end or to that of the run.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.machine.state().spawned.push(Box::pin(task));
    }

    /// Moves the clock to the next timer and wakes whoever waits for it; false when there is none.
    fn jump(&self) -> bool {
        let Some(((at, _), waker)) = self.machine.state().timers.pop_first() else { return false };
        self.machine.clock.advance(at.saturating_sub(self.machine.clock.monotonic()));
        waker.wake();
        true
    }
}

impl Host for SimHost {
    fn clock(&self) -> &dyn Clock {
        &self.machine.clock
    }

    fn random(&self) -> u64 {
        self.machine.state().rng.next_u64()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // The clock counts microseconds: a fraction of one would never be over.
        let micros = duration.as_nanos().div_ceil(1000) as u64;
        let until = self.machine.clock.monotonic() + Duration::from_micros(micros);
        Box::pin(Sleep { machine: Arc::clone(&self.machine), until, timer: None })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

/// Waits for a time; its timer goes with it.
struct Sleep {
    machine: Arc<Machine>,
    until: Duration,
    timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.machine.clock.monotonic() >= self.until {
            return Poll::Ready(());
        }
        let machine = Arc::clone(&self.machine);
        let mut state = machine.state();
        let until = self.until;
        let timer = *self.timer.get_or_insert_with(|| {
            state.last_timer += 1;
            (until, state.last_timer)
        });
        state.timers.insert(timer, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.machine.state().timers.remove(&timer);
        }
    }
}

#[derive(Default)]
struct Flag {
    is_woken: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
    }
}

struct Slot {
    task: Task,
    flag: Arc<Flag>,
}

/// Runs `main` to its end, and what it spawns as long; `check` runs after each step and ends the run
/// when it fails. Gives the number of steps.
///
/// # Errors
/// What `check` says, or that the run is stuck.
pub fn run_until(
    host: &SimHost,
    main: impl Future<Output = ()> + Send + 'static,
    check: impl Fn() -> Result<(), String>,
) -> Result<u64, String> {
    let slot = |task: Task| Slot { task, flag: Arc::new(Flag { is_woken: AtomicBool::new(true) }) };
    let mut main = Some(slot(Box::pin(main)));
    let mut others: Vec<Slot> = Vec::new();
    for steps in 1..=MOST_STEPS {
        others.extend(host.machine.state().spawned.drain(..).map(slot));
        let is_ready = |slot: &Slot| slot.flag.is_woken.load(Ordering::SeqCst);
        let ready: Vec<usize> = (0..others.len()).filter(|n| is_ready(&others[*n])).collect();
        let main_ready = main.as_ref().is_some_and(is_ready);
        let choices = ready.len() as u64 + u64::from(main_ready);
        if choices == 0 {
            if !host.jump() {
                return Err("the run is stuck: nothing is runnable and no timer is set".to_owned());
            }
            continue;
        }
        let choice = host.below(choices) as usize;
        match ready.get(choice) {
            Some(&n) => {
                if step(&mut others[n]) {
                    drop(others.swap_remove(n));
                }
            }
            None => {
                if main.as_mut().is_some_and(step) {
                    main = None;
                }
            }
        }
        check()?;
        if main.is_none() {
            return Ok(steps);
        }
    }
    Err(format!("the run has not ended after {MOST_STEPS} steps"))
}

/// Polls once; true when the task has ended.
fn step(slot: &mut Slot) -> bool {
    slot.flag.is_woken.store(false, Ordering::SeqCst);
    let waker = Waker::from(Arc::clone(&slot.flag));
    slot.task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
}

/// A future that is dropped after so many polls, wherever it stands: a crash.
#[derive(Debug)]
pub struct Fused<F> {
    inner: Option<Pin<Box<F>>>,
    polls: u64,
}

impl<F> Fused<F> {
    /// Crashes at poll number `polls`.
    pub fn new(inner: F, polls: u64) -> Self {
        Self { inner: Some(Box::pin(inner)), polls }
    }
}

impl<F: Future> Future for Fused<F> {
    /// None when it crashed.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.inner = None;
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let done = inner.as_mut().poll(context).map(Some);
        self.polls -= 1;
        if done.is_pending() && self.polls == 0 {
            // It crashes where it stands, not where it would go on.
            self.inner = None;
            return Poll::Ready(None);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_and_cancelled_timers_do_not_count() {
        let host = SimHost::seeded(1);
        let machine = host.clone();
        let before = host.clock().monotonic();
        let main = async move {
            drop(
                futures::future::select(machine.sleep(Duration::from_secs(1)), machine.sleep(Duration::from_secs(90)))
                    .await,
            );
            machine.sleep(Duration::from_secs(2)).await;
        };
        run_until(&host, main, || Ok(())).expect("it ends");
        assert_eq!(host.clock().monotonic() - before, Duration::from_secs(3));
    }

    #[test]
    fn a_crash_ends_a_future_at_any_step() {
        let host = SimHost::seeded(1);
        let machine = host.clone();
        let main = async move {
            for polls in 1..4 {
                let sleeper = async {
                    machine.sleep(Duration::from_secs(1)).await;
                    machine.sleep(Duration::from_secs(1)).await;
                };
                assert_eq!(Fused::new(sleeper, polls).await.is_some(), polls == 3);
            }
        };
        run_until(&host, main, || Ok(())).expect("it ends");
    }
}
