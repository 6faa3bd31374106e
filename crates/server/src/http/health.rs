//! Whether the process lives and whether its views can be relied on: what supervisors and load
//! balancers ask. Both need no login; where there are users, they tell no reasons, which may name rows and files.

use super::{GLANCE, Shared};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use highwater::Status;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// All of a backfill, in thousandths.
const WHOLE: u64 = 1000;

/// What the process is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `starting` until the database is open, then `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether all views can be relied on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Why not; none when it is ready.
    reasons: Vec<Reason>,
}

/// Why the server is not ready.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Reason {
    /// Which pipeline holds it up; none when it is the database itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    #[schema(example = "a backfill is under way: 41.5 % done")]
    reason: String,
}

/// Answers `GET /health`.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    summary = "Whether the process lives",
    security(()),
    responses((status = 200, description = "It lives", body = Health))
)]
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Json<Health> {
    Json(Health { status: if shared.database.get().is_some() { "ok" } else { "starting" } })
}

/// Answers `GET /ready`.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "health",
    summary = "Whether all views can be relied on",
    security(()),
    responses(
        (status = 200, description = "All pipelines run and show all rows of their sources", body = Readiness),
        (status = 503, description = "Not yet, or not now", body = Readiness),
    )
)]
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Readiness>) {
    let reasons = reasons(&shared).await;
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons }))
}

async fn reasons(shared: &Shared) -> Vec<Reason> {
    let of_all = |reason: &str| vec![Reason { pipeline: None, reason: reason.to_owned() }];
    let Some(database) = shared.database.get() else { return of_all("the database is being opened") };
    let Some(known) = shared.known(database, GLANCE).await.newest() else {
        return of_all("a statement is defining something, and the pipelines were not seen before it");
    };
    let tells = shared.users.is_empty();
    let reason = |pipeline: &highwater::Pipeline| {
        let (metrics, status) = (pipeline.metrics(), pipeline.status());
        let status = if tells { status } else { without_reason(status) };
        let reason = reason(&status, metrics.backfill, metrics.paused)?;
        Some(Reason { pipeline: Some(pipeline.title().to_owned()), reason })
    };
    let restoring = |pipeline: &String| Reason {
        pipeline: Some(pipeline.clone()),
        reason: "it waits to be restored, or is being restored".to_owned(),
    };
    let broken = broken(&known.broken, tells);
    known.restoring.iter().map(restoring).chain(known.pipelines.iter().filter_map(reason)).chain(broken).collect()
}

/// What says why to those only who have logged in.
const ELSEWHERE: &str = "the log and SHOW JOBS tell why";

/// What could not be brought back.
fn broken(all: &[String], tells: bool) -> Vec<Reason> {
    let reason = |reason: String| Reason { pipeline: None, reason };
    match all.len() {
        0 => Vec::new(),
        _ if tells => all.iter().cloned().map(reason).collect(),
        count => vec![reason(format!("{count} objects or pipelines could not be brought back: {ELSEWHERE}"))],
    }
}

/// A status that tells nothing of what the pipeline computes.
pub(super) fn without_reason(status: Status) -> Status {
    match status {
        Status::Failed { restarts, .. } => Status::Failed { reason: ELSEWHERE.to_owned(), restarts },
        Status::Lost { .. } => Status::Lost { reason: ELSEWHERE.to_owned() },
        other => other,
    }
}

/// Why a pipeline holds up readiness, if it does. `backfill` is in thousandths.
pub(super) fn reason(status: &Status, backfill: u64, paused: bool) -> Option<String> {
    match status {
        Status::Starting => Some("it is starting".to_owned()),
        Status::Failed { reason, restarts } => Some(format!("it failed, after {restarts} restarts: {reason}")),
        Status::Lost { reason } => Some(format!("another process has taken it over: {reason}")),
        Status::Running if paused => Some("it is paused, and shows nothing newer until it is resumed".to_owned()),
        Status::Running if backfill < WHOLE => {
            Some(format!("a backfill is under way: {:.1} % done", backfill as f64 / 10.0))
        }
        Status::Running | Status::Finished | Status::Stopped => None,
    }
}
