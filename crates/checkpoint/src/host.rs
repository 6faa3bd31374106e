//! What the protocol needs of the machine it runs on: time, waiting, randomness and a place for
//! work that blocks. The store is not part of it; see [`crate::store`].
//!
//! Invariant: no other module of this crate reads a clock, sleeps, draws a random number or starts
//! a thread, so a host that is deterministic makes every run deterministic.

use futures::channel::oneshot;
use futures::future::BoxFuture;
use highwater_core::{Clock, Rng, SystemClock, WallMicros};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The machine under a [`crate::Store`].
pub trait Host: Send + Sync + Debug {
    /// Wall and monotonic time.
    fn clock(&self) -> &dyn Clock;
    /// 64 random bits.
    fn random(&self) -> u64;
    /// Resolves when `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Runs work that reads files or computes for long where it blocks nobody; resolves after it.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// The time of day of a host.
pub(crate) fn now(host: &dyn Host) -> WallMicros {
    host.clock().wall()
}

/// Runs blocking work and hands back its result.
pub(crate) async fn offload<T: Send + 'static>(host: &dyn Host, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    host.blocking(Box::new(move || {
        // The receiver is gone only when nobody waits for the result any more.
        let _ = sender.send(work());
    }))
    .await;
    receiver.await.expect("blocking() resolves after the work has run")
}

/// The system's clocks and randomness, Tokio's timers and its blocking threads. Must be used inside
/// a Tokio runtime with time enabled.
#[derive(Debug)]
pub struct TokioHost {
    clock: SystemClock,
    rng: Mutex<Rng>,
}

impl Default for TokioHost {
    fn default() -> Self {
        Self { clock: SystemClock::default(), rng: Mutex::new(Rng::from_os()) }
    }
}

impl Host for TokioHost {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn random(&self) -> u64 {
        // A poisoned generator is still a generator.
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = tokio::task::spawn_blocking(work);
        Box::pin(async move {
            match task.await {
                Ok(()) => {}
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // Cancelled: the runtime is going away, and this future with it.
                Err(_) => futures::future::pending().await,
            }
        })
    }
}
