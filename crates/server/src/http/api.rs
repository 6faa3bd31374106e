//! The API: what pipelines, views and checkpoints there are, and the few things that can be done to
//! a pipeline without SQL.

use super::answers::{Cataloged, CheckpointAnswer, PauseAnswer, PipelineAnswer, ViewAnswer};
use super::failed::{Error, Failed};
use super::{PATIENCE, Shared};
use arrow::util::display::array_value_to_string;
use axum::Json;
use axum::extract::{Path, State};
use highwater::{CheckpointOutcome, Database, Trigger};
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for its checkpoint, which itself is given up after ten minutes by default.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(610);

/// Every materialized view and the pipeline that keeps it.
const VIEWS: &str = "SELECT name, pipeline, status FROM hw_catalog.views WHERE materialized = 'true' ORDER BY name";

type Answer<T> = Result<Json<T>, Failed>;

/// Answers `GET /api/v1/views`.
#[utoipa::path(
    get,
    path = "/api/v1/views",
    tag = "views",
    summary = "All materialized views",
    responses(
        (status = 200, description = "The views, by name", body = Vec<ViewAnswer>),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn views(State(shared): State<Arc<Shared>>) -> Answer<Vec<ViewAnswer>> {
    let database = Arc::clone(shared.opened()?);
    let views = shared.call(PATIENCE, move || cataloged(&database)).await?;
    // After the views, so that the pipeline of each is there.
    let pipelines = shared.pipelines().await?;
    let answer = |view: Cataloged| {
        let pipeline = pipelines.iter().find(|pipeline| pipeline.title() == view.pipeline);
        let read = pipeline.map(|pipeline| (pipeline.status(), pipeline.metrics()));
        ViewAnswer::new(view, read.as_ref().map(|(status, metrics)| (status, metrics)))
    };
    Ok(Json(views.into_iter().map(answer).collect()))
}

/// Reads the catalog. Blocks.
fn cataloged(database: &Database) -> highwater::Result<Vec<Cataloged>> {
    let rows = database.execute_for(&mut database.connect(), VIEWS)?.rows;
    let mut views = Vec::new();
    for batch in rows.iter().flat_map(|rows| &rows.batches) {
        for row in 0..batch.num_rows() {
            let text = |column: usize| array_value_to_string(batch.column(column), row);
            views.push(Cataloged { name: text(0)?, pipeline: text(1)?, status: text(2)? });
        }
    }
    Ok(views)
}

/// Answers `GET /api/v1/pipelines`.
#[utoipa::path(
    get,
    path = "/api/v1/pipelines",
    tag = "pipelines",
    summary = "All pipelines and their counters",
    responses(
        (status = 200, description = "The pipelines, by name", body = Vec<PipelineAnswer>),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn pipelines(State(shared): State<Arc<Shared>>) -> Answer<Vec<PipelineAnswer>> {
    Ok(Json(shared.pipelines().await?.iter().map(PipelineAnswer::of).collect()))
}

/// Answers `GET /api/v1/pipelines/{name}`.
#[utoipa::path(
    get,
    path = "/api/v1/pipelines/{name}",
    tag = "pipelines",
    summary = "A pipeline and its counters",
    params(("name" = String, Path, description = "The pipeline's name")),
    responses(
        (status = 200, description = "The pipeline", body = PipelineAnswer),
        (status = 404, description = "There is none of this name", body = Error),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn pipeline(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<PipelineAnswer> {
    Ok(Json(PipelineAnswer::of(&shared.pipeline(&name).await?)))
}

/// Answers `GET /api/v1/pipelines/{name}/checkpoints`.
#[utoipa::path(
    get,
    path = "/api/v1/pipelines/{name}/checkpoints",
    tag = "checkpoints",
    summary = "The checkpoints of a pipeline that this process made, up to 256",
    params(("name" = String, Path, description = "The pipeline's name")),
    responses(
        (status = 200, description = "The checkpoints, oldest first", body = Vec<CheckpointAnswer>),
        (status = 404, description = "There is no pipeline of this name", body = Error),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn checkpoints(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Answer<Vec<CheckpointAnswer>> {
    let history = shared.pipeline(&name).await?.history();
    Ok(Json(history.iter().map(CheckpointAnswer::of).collect()))
}

/// Answers `POST /api/v1/pipelines/{name}/checkpoint`.
#[utoipa::path(
    post,
    path = "/api/v1/pipelines/{name}/checkpoint",
    tag = "checkpoints",
    summary = "Make a checkpoint and wait until it is published",
    params(("name" = String, Path, description = "The pipeline's name")),
    responses(
        (status = 200, description = "It is published", body = CheckpointAnswer),
        (status = 404, description = "There is no pipeline of this name", body = Error),
        (status = 409, description = "The pipeline does not run", body = Error),
        (status = 500, description = "The checkpoint failed; the reason is told", body = Error),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "It is not published yet; it may still be", body = Error),
    )
)]
pub(super) async fn checkpoint(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Answer<CheckpointAnswer> {
    let pipeline = shared.pipeline(&name).await?;
    let make = move || Ok(pipeline.checkpoint(Trigger::Manual)?);
    let report = shared.call(CHECKPOINT_PATIENCE, make).await?;
    match &report.outcome {
        CheckpointOutcome::Published => Ok(Json(CheckpointAnswer::of(&report))),
        CheckpointOutcome::Failed(reason) => {
            Err(Failed::new("58030", format!("checkpoint {} of {name:?} failed: {reason}", report.id)))
        }
    }
}

/// Answers `POST /api/v1/pipelines/{name}/pause`.
#[utoipa::path(
    post,
    path = "/api/v1/pipelines/{name}/pause",
    tag = "pipelines",
    summary = "Take no more rows until it is resumed, over definitions and restarts too; reads and checkpoints go on",
    params(("name" = String, Path, description = "The pipeline's name")),
    responses(
        (status = 200, description = "It was told", body = PauseAnswer),
        (status = 404, description = "There is no pipeline of this name", body = Error),
        (status = 409, description = "The pipeline does not run", body = Error),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn pause(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<PauseAnswer> {
    set_paused(&shared, name, true).await
}

/// Answers `POST /api/v1/pipelines/{name}/resume`.
#[utoipa::path(
    post,
    path = "/api/v1/pipelines/{name}/resume",
    tag = "pipelines",
    summary = "Take rows again",
    params(("name" = String, Path, description = "The pipeline's name")),
    responses(
        (status = 200, description = "It was told", body = PauseAnswer),
        (status = 404, description = "There is no pipeline of this name", body = Error),
        (status = 409, description = "The pipeline does not run", body = Error),
        (status = 503, description = "The database is being opened", body = Error),
        (status = 504, description = "A definition is under way", body = Error),
    )
)]
pub(super) async fn resume(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<PauseAnswer> {
    set_paused(&shared, name, false).await
}

async fn set_paused(shared: &Shared, pipeline: String, paused: bool) -> Answer<PauseAnswer> {
    let (found, database) = (shared.pipeline(&pipeline).await?, Arc::clone(shared.opened()?));
    shared.call(PATIENCE, move || database.pause(&found, paused)).await?;
    Ok(Json(PauseAnswer { pipeline, paused }))
}
