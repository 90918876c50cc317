//! The HTTP face for people and machines that run the service: `/livez`, `/readyz`, `/metrics`; and for
//! the payment provider: `/webhooks/payments`, where secrets are set.
//!
//! It has its own port, so that a balancer or a scraper needs no way to the gRPC port, and no other route: what is not
//! one of these is 404. It knows neither Redis nor Postgres; the caller gives it probes.

mod listener;
mod metrics;
mod ready;
mod webhooks;

use std::future::Future;
use std::sync::Arc;

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

pub use self::listener::{BindError, bind};
pub use self::ready::{Probe, ProbeOutcome, Readiness};
use crate::metrics::Metrics;
use crate::orders::webhooks::Webhooks;

/// Serves on `listener` until `stop` completes, webhooks too if there are any to be taken; answers that are under way then are finished.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    webhooks: Option<Webhooks>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limited = listener::LimitedListener::new(listener);
    axum::serve(limited, router(metrics, readiness, webhooks))
        .with_graceful_shutdown(stop)
        .await
}

fn router(metrics: Arc<Metrics>, readiness: Arc<Readiness>, webhooks: Option<Webhooks>) -> Router {
    let mut router = Router::new();
    if let Some(webhooks) = webhooks {
        let face = webhooks::Face::new(webhooks, Arc::clone(&metrics));
        router = router.route("/webhooks/payments", post(webhooks::receive).with_state(face));
    }
    router
        .route("/readyz", get(ready::readyz))
        .with_state(readiness)
        .route("/metrics", get(metrics::metrics))
        .with_state(metrics)
        .route("/livez", get(livez))
        .fallback(not_found)
        .layer(middleware::map_response(close_after_answer))
}

/// Whether the process runs. It asks no store: restarting the service does not mend a store.
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

/// One request a connection: then the time limit of a connection is the time limit of a request, and no idle
/// connection holds a place.
async fn close_after_answer(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
