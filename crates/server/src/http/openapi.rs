//! The description of the API, made from the code that answers it.

use super::{api, health, metrics};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

static TEXT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string_pretty(&Api::openapi()).expect("a description is maps with names as keys"));

/// Everything that is described.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Highwater",
        description = "Health, metrics, and what can be done to pipelines without SQL.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        health::health,
        health::ready,
        metrics::metrics,
        api::views,
        api::pipelines,
        api::pipeline,
        api::checkpoints,
        api::checkpoint,
        api::pause,
        api::resume,
        openapi,
    ),
    security(("basic" = [])),
    modifiers(&Login)
)]
struct Api;

/// How clients say who they are, when there are users.
struct Login;

impl Modify for Login {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
    }
}

/// Answers `GET /api/v1/openapi.json`.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "api",
    summary = "This description",
    responses((status = 200, description = "OpenAPI", content_type = "application/json"))
)]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}
