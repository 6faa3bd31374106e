//! Requests that fail: one JSON body for all of them, with the SQLSTATE that says the class and the
//! HTTP status that follows from it. Pure.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    sqlstate: &'static str,
    message: String,
}

/// What a client is told of a request that failed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Error {
    /// What went wrong, with which object, and what to do.
    error: String,
    /// The class, as PostgreSQL's clients know it.
    #[schema(example = "42704")]
    sqlstate: &'static str,
}

impl Failed {
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into() }
    }

    /// The database's error.
    pub(super) fn of(error: &highwater::Error) -> Self {
        Self::new(error.sqlstate(), error.to_string())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.sqlstate {
            "28P01" => StatusCode::UNAUTHORIZED,
            "42501" => StatusCode::FORBIDDEN,
            "42704" | "42P01" => StatusCode::NOT_FOUND,
            "0A000" => StatusCode::METHOD_NOT_ALLOWED,
            "55000" => StatusCode::CONFLICT,
            "57P01" | "57P03" => StatusCode::SERVICE_UNAVAILABLE,
            "57014" => StatusCode::GATEWAY_TIMEOUT,
            other if other.starts_with("42") || other.starts_with("22") => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(Error { error: self.message, sqlstate: self.sqlstate })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let asks = HeaderValue::from_static(r#"Basic realm="highwater", charset="UTF-8""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
        }
        response
    }
}

/// Answers requests for what there is not.
pub(super) async fn no_such_page(uri: Uri) -> Failed {
    Failed::new("42704", format!("there is no {}; /api/v1/openapi.json tells what there is", uri.path()))
}

/// Answers requests that a page does not take.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failed {
    Failed::new("0A000", format!("{} does not take {method}", uri.path()))
}
