//! What was seen last of something that at times takes long to look at.
//!
//! The list of pipelines is behind a lock that a definition may hold for minutes. Invariants: at most
//! one look is under way, however many ask; who waits gets what a look found that ended after they
//! had asked, or what was found before, once their patience is over.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a look gave.
#[derive(Debug)]
pub(super) enum Seen<T> {
    /// It is so now.
    Now(Arc<T>),
    /// It was so when it could last be seen; none when it never could.
    Before(Option<Arc<T>>),
}

impl<T> Seen<T> {
    /// The newest there is, of now or of before.
    pub(super) fn newest(self) -> Option<Arc<T>> {
        match self {
            Self::Now(found) => Some(found),
            Self::Before(found) => found,
        }
    }
}

/// What was seen last, shared by all who ask.
#[derive(Debug)]
pub(super) struct Latest<T>(watch::Sender<Looks<T>>);

#[derive(Debug)]
struct Looks<T> {
    found: Option<Arc<T>>,
    is_looking: bool,
    /// How many looks are over.
    ended: u64,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(watch::Sender::new(Looks { found: None, is_looking: false, ended: 0 }))
    }
}

impl<T: Send + Sync + 'static> Latest<T> {
    /// What `look` finds, which may block, or what was found before when that takes longer than
    /// `patience`. A look under way is joined.
    pub(super) async fn get(&self, look: impl FnOnce() -> T + Send + 'static, patience: Duration) -> Seen<T> {
        let mut begins = false;
        let mut wanted = 0;
        self.0.send_if_modified(|looks| {
            begins = !std::mem::replace(&mut looks.is_looking, true);
            wanted = looks.ended + 1;
            false
        });
        let mut watching = self.0.subscribe();
        if begins {
            tokio::spawn(follow(self.0.clone(), look));
        }
        let over = watching.wait_for(|looks| looks.ended >= wanted);
        if let Ok(Ok(looks)) = tokio::time::timeout(patience, over).await
            && let Some(found) = &looks.found
        {
            return Seen::Now(Arc::clone(found));
        }
        Seen::Before(self.0.borrow().found.clone())
    }
}

/// Looks, and tells all who wait, also when the look panicked.
async fn follow<T: Send + Sync + 'static>(tell: watch::Sender<Looks<T>>, look: impl FnOnce() -> T + Send + 'static) {
    let found = tokio::task::spawn_blocking(look).await;
    tell.send_modify(|looks| {
        looks.is_looking = false;
        looks.ended += 1;
        if let Ok(found) = found {
            looks.found = Some(Arc::new(found));
        }
    });
}
