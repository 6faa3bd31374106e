//! The threads on which queries are computed.
//!
//! Invariant: who lets them go waits a bounded time: not every operator looks whether anybody still
//! wants its rows. A task of a program's own runtime, whose thread may not wait, does not wait at all.

use crate::database::STACK_BYTES;
use std::ops::Deref;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long queries under way are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A runtime for queries.
#[derive(Debug)]
pub(crate) struct QueryThreads(Option<Runtime>);

impl QueryThreads {
    /// So many threads; one a core when it is 0.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        if threads > 0 {
            builder.worker_threads(threads);
        }
        let runtime = builder.thread_name("hw-query").thread_stack_size(STACK_BYTES).enable_all().build()?;
        Ok(Self(Some(runtime)))
    }
}

impl Deref for QueryThreads {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        match Handle::try_current() {
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(PATIENCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_let_go_in_a_task_as_well() {
        for runtime in [Builder::new_current_thread().build(), Builder::new_multi_thread().worker_threads(1).build()] {
            let runtime = runtime.expect("a runtime");
            let threads = QueryThreads::start(1).expect("threads");
            threads.spawn(std::future::pending::<()>());
            runtime.block_on(async { runtime.spawn(async move { drop(threads) }).await }).expect("no panic");
        }
    }
}
