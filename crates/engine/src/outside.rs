//! Calls of sources and sinks that ask what is outside, and so may never return: of a folder on a mount that hangs,
//! or a broker that takes connections and does not answer.
//!
//! Each call has a thread to itself, and who makes it waits for a bounded time. Nobody waits for the threads: one
//! that hangs ends with the process. Invariant: what has not answered in that time is not asked once more before it
//! has, so that whoever tries again and again leaves no more threads than asked it before.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::plan::Node;
use crate::shared::caught;
use crate::sink::Sink;
use crate::source::Source;
use highwater_core::CheckpointId;
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long who begins a pipeline waits for a source or sink.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often who waits looks whether the answer is still wanted.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Makes such calls; clones know of each other's.
#[derive(Clone, Debug)]
pub struct Outside {
    calls: Arc<Mutex<Calls>>,
    patience: Duration,
}

/// Those that have not returned.
#[derive(Debug, Default)]
struct Calls {
    open: BTreeMap<u64, Call>,
    next: u64,
}

#[derive(Debug)]
struct Call {
    /// What is asked.
    of: String,
    since: Instant,
}

impl Default for Outside {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Outside {
    /// Waits for each answer for so long.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { calls: Arc::default(), patience }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call and waits for its answer, as long as `wanted`, which is asked every so often, gives no error. `of`
    /// tells what is asked from all else, `object` is what people call it.
    ///
    /// # Errors
    /// Those of the call and of `wanted`, and `Connector` when it panics, or gives no answer in time, now or since an
    /// earlier call.
    pub fn ask<T: Send + 'static>(
        &self,
        object: &str,
        of: String,
        call: impl FnOnce() -> Result<T> + Send + 'static,
        mut wanted: impl FnMut() -> Result<()>,
    ) -> Result<T> {
        let number = self.begin(object, of)?;
        let (done, answer) = channel();
        let (this, name) = (self.clone(), object.to_owned());
        let work = move || {
            let answered = caught(&name, call);
            this.calls().open.remove(&number);
            // Whoever asked may have gone.
            let _ = done.send(answered);
        };
        if let Err(source) = std::thread::Builder::new().name("hw-outside".into()).spawn(work) {
            self.calls().open.remove(&number);
            return Err(Error::Io { what: format!("start a thread to ask {object}"), source });
        }
        let began = Instant::now();
        loop {
            match answer.recv_timeout(LOOK_UP) {
                Ok(answered) => return answered,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::connector(object, "no answer came")),
                Err(RecvTimeoutError::Timeout) => wanted()?,
            }
            if began.elapsed() >= self.patience {
                return Err(self.silent(object));
            }
        }
    }

    /// Notes a call, unless one of the same hangs.
    fn begin(&self, object: &str, of: String) -> Result<u64> {
        let mut calls = self.calls();
        if calls.open.values().any(|call| call.of == of && call.since.elapsed() >= self.patience) {
            return Err(self.silent(object));
        }
        let number = calls.next;
        calls.next += 1;
        calls.open.insert(number, Call { of, since: Instant::now() });
        Ok(number)
    }

    /// The same whenever it is told, so that who tries again and again is told of it once.
    fn silent(&self, object: &str) -> Error {
        let reason = format!("it has not answered within {:?}, and is asked again when it has", self.patience);
        Error::connector(object, reason)
    }
}

/// Asks the sources and sinks of a pipeline that is being begun, until nobody wants that any more.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) outside: &'a Outside,
    pub(crate) pipeline: &'a str,
    pub(crate) cancel: &'a Cancel,
}

impl Asker<'_> {
    fn ask<T: Send + 'static>(&self, node: &Node, call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let of = format!("{}/{}/{}", self.pipeline, node.incarnation, node.name);
        self.outside.ask(&node.name, of, call, || self.cancel.check(self.pipeline))
    }

    /// See [`Source::splits`].
    pub(crate) fn splits(&self, node: &Node, source: &Arc<dyn Source>) -> Result<Vec<String>> {
        let source = Arc::clone(source);
        self.ask(node, move || source.splits())
    }

    /// See [`Sink::delivered`].
    pub(crate) fn delivered(&self, node: &Node, sink: &Arc<dyn Sink>) -> Result<Option<CheckpointId>> {
        let sink = Arc::clone(sink);
        self.ask(node, move || sink.delivered())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    /// For what is to be waited for.
    const LONG: Duration = Duration::from_secs(60);

    /// A call that gives 7 when its gate opens.
    fn gated() -> (impl FnOnce() -> Result<u32> + Send + 'static, Sender<()>) {
        let (open, gate) = channel::<()>();
        let call = move || {
            // A gate that is gone is open.
            let _ = gate.recv();
            Ok(7)
        };
        (call, open)
    }

    #[test]
    fn an_answer_an_error_and_a_panic_are_told() {
        let outside = Outside::new(LONG);
        let asked = |call: fn() -> Result<u32>| outside.ask("s", "s".to_owned(), call, || Ok(()));
        assert_eq!(asked(|| Ok(7)).expect("an answer"), 7);
        assert!(matches!(asked(|| Err(Error::Plan("of itself".into()))), Err(Error::Plan(_))));
        let told = asked(|| panic!("told to")).expect_err("it panics").to_string();
        assert!(told.contains("s: panicked: told to"), "{told}");
        assert!(outside.calls().open.is_empty(), "all have returned");
    }

    #[test]
    fn what_hangs_is_named_and_asked_again_only_when_it_has_answered() {
        let outside = Outside::new(Duration::from_millis(30));
        let (call, open) = gated();
        let hangs = outside.ask("source s", "s".to_owned(), call, || Ok(()));
        let told = hangs.expect_err("it hangs").to_string();
        assert!(told.starts_with("source s: it has not answered"), "{told}");
        let (call, again) = gated();
        drop(again);
        outside.ask("source s", "s".to_owned(), call, || Ok(())).expect_err("it hangs still");
        assert_eq!(outside.calls().open.len(), 1, "it was not asked");
        drop(open);
        let deadline = Instant::now() + LONG;
        while !outside.calls().open.is_empty() {
            assert!(Instant::now() < deadline, "the call returns");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn another_one_is_asked_beside_what_hangs_and_what_is_given_up_is_waited_for_no_more() {
        let outside = Outside::new(LONG);
        let (call, open) = gated();
        let mut looks = 0;
        let given_up = outside.ask("s", "s".to_owned(), call, || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(Error::Plan("nobody wants it".into())) }
        });
        assert!(matches!(given_up, Err(Error::Plan(_))));
        let (call, other) = gated();
        drop(other);
        assert_eq!(outside.ask("t", "t".to_owned(), call, || Ok(())).expect("it answers"), 7);
        drop(open);
    }
}
