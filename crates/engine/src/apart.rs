//! Threads for jobs that may block for ever: each job has one to itself, so it holds up no other.
//!
//! A thread is made when a job comes and none is idle, and ends when none has come for a while, so that
//! hundreds of sinks with little to do are few threads. Invariants: a job waits for another one only while as
//! many as there may be run; a job that panics takes only itself down. Nobody waits for the threads: one that
//! blocks ends with the process.

use crate::background::{Job, lower_priority, run};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread waits for another job.
const IDLE: Duration = Duration::from_secs(5);

/// When a job begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    Now,
    /// When one of the others has ended.
    Later,
}

/// The threads of a process.
pub(crate) struct Apart {
    name: &'static str,
    waiting: Mutex<Waiting>,
    came: Condvar,
    most: usize,
    idle: Duration,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Those that wait for a job.
    idle: usize,
}

impl Apart {
    /// Threads of a name, of which `most` may block at the same time before other jobs wait for them.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self { name, waiting: Mutex::default(), came: Condvar::new(), most, idle: IDLE }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No job runs under it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job beside all others, of which there may be so many.
    ///
    /// # Errors
    /// When the system gives no thread; the job is not run then.
    pub(crate) fn run(self: &Arc<Self>, job: Job) -> std::io::Result<Begins> {
        let mut waiting = self.lock();
        waiting.jobs.push_back(job);
        if waiting.idle >= waiting.jobs.len() {
            self.came.notify_one();
            return Ok(Begins::Now);
        }
        if waiting.threads >= self.most {
            return Ok(Begins::Later);
        }
        let this = Arc::clone(self);
        match std::thread::Builder::new().name(self.name.into()).spawn(move || this.work()) {
            Ok(_) => {
                waiting.threads += 1;
                Ok(Begins::Now)
            }
            Err(error) => {
                let job = waiting.jobs.pop_back();
                drop(waiting);
                drop(job);
                Err(error)
            }
        }
    }

    fn work(&self) {
        lower_priority();
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                drop(waiting);
                run(job);
                waiting = self.lock();
                continue;
            }
            waiting.idle += 1;
            let woken = self.came.wait_timeout_while(waiting, self.idle, |waiting| waiting.jobs.is_empty());
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.idle -= 1;
            if waiting.jobs.is_empty() {
                waiting.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A job that tells its number when it begins and blocks until its gate opens.
    fn gated(number: usize, began: &Sender<usize>) -> (Job, Sender<()>) {
        let (open, gate) = channel::<()>();
        let began = began.clone();
        let job: Job = Box::new(move || {
            began.send(number).expect("the test listens");
            // A gate that is gone is open.
            let _ = gate.recv();
        });
        (job, open)
    }

    fn next(began: &Receiver<usize>) -> usize {
        began.recv_timeout(PATIENCE).expect("a job begins")
    }

    fn wait_for_threads(apart: &Apart, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        while apart.lock().threads != wanted {
            assert!(Instant::now() < deadline, "{} threads", apart.lock().threads);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn jobs_that_block_hold_up_no_other_and_idle_threads_end() {
        let apart = Arc::new(Apart { idle: Duration::from_millis(20), ..Apart::new("test", 100) });
        let (begin, began) = channel();
        let mut gates = Vec::new();
        for number in 0..20 {
            let (job, open) = gated(number, &begin);
            apart.run(job).expect("a thread");
            assert_eq!(next(&began), number);
            gates.push(open);
        }
        apart.run(Box::new(|| panic!("of itself"))).expect("a thread");
        wait_for_threads(&apart, 20);
        drop(gates);
        wait_for_threads(&apart, 0);
    }

    #[test]
    fn a_thread_that_is_idle_takes_the_next_job() {
        let apart = Arc::new(Apart { idle: PATIENCE, ..Apart::new("test", 100) });
        let (begin, began) = channel();
        for number in 0..20 {
            let (job, open) = gated(number, &begin);
            drop(open);
            apart.run(job).expect("a thread");
            assert_eq!(next(&began), number);
            let deadline = Instant::now() + PATIENCE;
            while apart.lock().idle == 0 {
                assert!(Instant::now() < deadline, "the job ends");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(apart.lock().threads, 1);
    }

    #[test]
    fn beyond_the_most_threads_jobs_wait_for_those_before_them() {
        let apart = Arc::new(Apart { idle: PATIENCE, ..Apart::new("test", 2) });
        let (begin, began) = channel();
        let mut gates = VecDeque::new();
        for number in 0..4 {
            let (job, open) = gated(number, &begin);
            apart.run(job).expect("two threads");
            gates.push_back(open);
        }
        let first = [next(&began), next(&began)];
        assert!(first.contains(&0) && first.contains(&1), "{first:?}");
        for number in 2..4 {
            drop(gates.pop_front());
            assert_eq!(next(&began), number);
        }
        assert_eq!(apart.lock().threads, 2);
    }
}
