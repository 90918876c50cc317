//! The routes for operators and their machines. They have a port of their own, so that a balancer or a scraper needs no
//! way to the gRPC port.

mod metrics;
mod ready;
mod token;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use secrecy::SecretString;
use serde_json::json;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// `/livez`, `/readyz` and `/metrics`; the last two for who shows `token`, unless that is empty.
pub fn router(metrics: Arc<Metrics>, readiness: Arc<Readiness>, token: SecretString) -> Router {
    Router::new()
        .route("/readyz", get(ready::readyz))
        .with_state(readiness)
        .route("/metrics", get(metrics::metrics))
        .with_state(metrics)
        .route_layer(from_fn_with_state(Arc::new(token), token::asked))
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
