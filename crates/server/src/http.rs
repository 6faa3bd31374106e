//! The HTTP side of `highwater serve`: health, metrics and a small API over the database.
//!
//! It listens before the database is open, so that whoever watches the process sees it come up.
//! Invariant: nothing here waits on a thread of the runtime for the database, which blocks; and
//! health, readiness and metrics are answered in bounded time, whatever the database is doing.

mod answers;
mod api;
mod auth;
mod encoder;
mod failed;
mod health;
mod latest;
mod listener;
mod metrics;
mod openapi;
#[cfg(test)]
mod tests;

use crate::users::Users;
use auth::Logins;
use axum::routing::{get, post};
use axum::{Router, middleware};
use failed::Failed;
use highwater::{Database, Pipeline};
use latest::{Latest, Seen};
use listener::Door;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

/// How long requests under way may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long health and metrics wait for the newest list of pipelines; probes give up after a second.
const GLANCE: Duration = Duration::from_millis(500);
/// How long the API waits for what the database answers at once unless a definition is under way.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many requests may have the database do something at the same time.
const CALLS: usize = 16;

/// What all requests share.
pub(crate) struct Shared {
    /// Absent while it is being opened.
    pub(crate) database: OnceLock<Arc<Database>>,
    pub(crate) users: Users,
    pub(crate) started: Instant,
    started_at: SystemTime,
    logins: Logins,
    known: Latest<Known>,
    /// One permit a call that blocks.
    calls: Arc<Semaphore>,
}

/// What a database is made of, as far as it matters here.
struct Known {
    pipelines: Vec<Pipeline>,
    /// Pipelines that are yet to be restored.
    restoring: Vec<String>,
    /// Objects and pipelines that could not be brought back, with the reasons.
    broken: Vec<String>,
}

impl Shared {
    /// What requests share while the database is not open yet.
    pub(crate) fn new(users: Users) -> Self {
        Self {
            database: OnceLock::new(),
            users,
            started: Instant::now(),
            started_at: SystemTime::now(),
            logins: Logins::default(),
            known: Latest::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// The database, or why there is none.
    fn opened(&self) -> Result<&Arc<Database>, Failed> {
        self.database.get().ok_or_else(|| Failed::new("57P03", "the database is being opened: try again"))
    }

    /// The pipelines now or, while a definition holds the catalog for longer than `patience`, as they
    /// were before it.
    async fn known(&self, database: &Arc<Database>, patience: Duration) -> Seen<Known> {
        let database = Arc::clone(database);
        let look = move || Known {
            // In this order, so that none is missed that is restored meanwhile.
            restoring: database.restoring(),
            pipelines: database.pipelines(),
            broken: database.broken(),
        };
        self.known.get(look, patience).await
    }

    /// All pipelines as they are now.
    async fn pipelines(&self) -> Result<Vec<Pipeline>, Failed> {
        match self.known(self.opened()?, PATIENCE).await {
            Seen::Now(known) => Ok(known.pipelines.clone()),
            Seen::Before(_) => Err(Failed::new("57014", "a statement is defining something: try again")),
        }
    }

    /// The pipeline of a name.
    async fn pipeline(&self, name: &str) -> Result<Pipeline, Failed> {
        let found = self.pipelines().await?.into_iter().find(|pipeline| pipeline.title() == name);
        found.ok_or_else(|| Failed::new("42704", format!("there is no pipeline {name:?}")))
    }

    /// Has the database do what blocks. When `patience` is over it goes on unwatched.
    async fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        what: impl FnOnce() -> highwater::Result<T> + Send + 'static,
    ) -> Result<T, Failed> {
        let calls = Arc::clone(&self.calls);
        let called = async move {
            let permit = calls.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                // Held until it is done, even if nobody waits for it any more.
                let _permit = permit;
                what()
            });
            done.await
        };
        match tokio::time::timeout(patience, called).await {
            Ok(Ok(done)) => done.map_err(|error| Failed::of(&error)),
            Ok(Err(panicked)) => Err(Failed::new("XX000", format!("this request failed: {panicked}"))),
            Err(_) => Err(Failed::new("57014", format!("not done in {patience:?}; it may still be under way"))),
        }
    }
}

/// Serves until `stop` resolves; requests under way are finished, within five seconds.
///
/// # Errors
/// None today: what goes wrong with a connection ends that connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (tell, told) = oneshot::channel();
    let stopping = async move {
        stop.await;
        // Who listens goes only when the serving is over.
        let _ = tell.send(());
    };
    let serving = axum::serve(Door::new(listener, tls), router(shared)).with_graceful_shutdown(stopping);
    let late = async move {
        // The sender goes only after it has told.
        let _ = told.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = late => {
            tracing::debug!("HTTP requests were still under way");
            Ok(())
        }
    }
}

/// Every route; all but health and readiness are for those who may.
fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/views", get(api::views))
        .route("/api/v1/pipelines", get(api::pipelines))
        .route("/api/v1/pipelines/{name}", get(api::pipeline))
        .route("/api/v1/pipelines/{name}/checkpoints", get(api::checkpoints))
        .route("/api/v1/pipelines/{name}/checkpoint", post(api::checkpoint))
        .route("/api/v1/pipelines/{name}/pause", post(api::pause))
        .route("/api/v1/pipelines/{name}/resume", post(api::resume))
        .fallback(failed::no_such_page)
        .method_not_allowed_fallback(failed::no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::check));
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .method_not_allowed_fallback(failed::no_such_method)
        .merge(guarded)
        .with_state(shared)
}
