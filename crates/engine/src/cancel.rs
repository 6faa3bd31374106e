//! The end of waiting for the checkpoint root: who begins a run, or removes one, waits as long as the root takes
//! to answer, but not when nobody wants the answer any more.
//!
//! Invariant: what is given up is left as a crash at that moment would leave it, which the next run copes with.

use crate::background::Background;
use crate::error::{Error, Result};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often who waits is asked for their patience.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Whether something is still wanted; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// It is not, from now on.
    pub(crate) fn cancel(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// # Errors
    /// `NotRunning` when it is not wanted any more.
    pub(crate) fn check(&self, pipeline: &str) -> Result<()> {
        if self.is_cancelled() { Err(given_up(pipeline)) } else { Ok(()) }
    }

    pub(crate) async fn cancelled(&self) {
        // It fails when the sender goes, which is here.
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Waits for the root on behalf of a pipeline, as [`Background::wait_for`].
    ///
    /// # Errors
    /// Those of the future, and as [`Cancel::check`].
    pub(crate) fn wait<T, E>(
        &self,
        background: &Background,
        pipeline: &str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T>
    where
        Error: From<E>,
    {
        let answered = background.wait_for(async {
            tokio::select! {
                biased;
                () = self.cancelled() => None,
                answered = answer => Some(answered),
            }
        });
        Ok(answered.ok_or_else(|| given_up(pipeline))??)
    }

    /// The same as long as `patience`, which is asked every so often, lasts; none when it is over.
    ///
    /// # Errors
    /// As [`Cancel::wait`].
    pub(crate) fn wait_while<T, E>(
        &self,
        background: &Background,
        pipeline: &str,
        answer: impl Future<Output = Result<T, E>>,
        mut patience: impl FnMut() -> bool,
    ) -> Result<Option<T>>
    where
        Error: From<E>,
    {
        let impatience = async {
            while patience() {
                tokio::time::sleep(LOOK_UP).await;
            }
        };
        background.wait_for(async {
            tokio::select! {
                biased;
                () = self.cancelled() => Err(given_up(pipeline)),
                answered = answer => answered.map(Some).map_err(Error::from),
                () = impatience => Ok(None),
            }
        })
    }
}

fn given_up(pipeline: &str) -> Error {
    let reason = "it was stopped before it had begun".to_owned();
    Error::NotRunning { pipeline: pipeline.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::pin::Pin;

    type Answer = Pin<Box<dyn Future<Output = Result<u32>>>>;

    #[test]
    fn a_wait_ends_when_nobody_wants_the_answer_any_more() {
        let (background, cancel) = (Background::start(1).expect("threads"), Cancel::default());
        let answer: Result<u32> = cancel.wait(&background, "p", ready(Ok::<_, Error>(7)));
        assert_eq!(answer.expect("it is wanted"), 7);
        assert!(cancel.check("p").is_ok());
        let other = cancel.clone();
        let waiting = std::thread::spawn(move || other.wait(&background, "p", pending::<Result<u32>>()));
        cancel.cancel();
        assert!(matches!(waiting.join().expect("it ends"), Err(Error::NotRunning { .. })));
        assert!(cancel.is_cancelled() && cancel.check("p").is_err());
    }

    #[test]
    fn a_wait_ends_when_patience_does() {
        let (background, cancel) = (Background::start(1).expect("threads"), Cancel::default());
        let asked = |answer: Answer, mut left: usize| {
            cancel.wait_while(&background, "p", answer, move || {
                left = left.saturating_sub(1);
                left > 0
            })
        };
        assert_eq!(asked(Box::pin(ready(Ok::<u32, Error>(7))), 0).expect("it is there"), Some(7));
        assert_eq!(asked(Box::pin(pending::<Result<u32>>()), 3).expect("nobody ends it"), None);
        cancel.cancel();
        assert!(matches!(asked(Box::pin(pending::<Result<u32>>()), 3), Err(Error::NotRunning { .. })));
    }
}
