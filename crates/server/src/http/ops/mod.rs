//! The routes for operators and their machines. They have a port of their own, so that a balancer or a scraper needs no
//! way to the gRPC port.

mod metrics;
mod ready;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

pub use self::ready::{Probe, ProbeOutcome, Readiness};
use crate::metrics::Metrics;

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/readyz", get(ready::readyz))
        .with_state(readiness)
        .route("/metrics", get(metrics::metrics))
        .with_state(metrics)
        .route("/livez", get(livez))
        .fallback(not_found)
}

/// Whether the process runs. It asks no store: a restart of the service repairs no store.
async fn livez() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

async fn not_found() -> Response {
    let routes = ["/livez", "/readyz", "/metrics"];
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": "not found", "routes": routes })),
    )
        .into_response()
}
