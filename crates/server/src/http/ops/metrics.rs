//! `/metrics`: JSON for people, the Prometheus text for scrapers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::metrics::Metrics;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    format: Option<String>,
}

pub(super) async fn metrics(
    State(metrics): State<Arc<Metrics>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let Some(content_type) = text_format(&parameters, &headers) else {
        return Json(metrics.snapshot()).into_response();
    };
    match metrics.openmetrics() {
        Ok(text) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        // Writing to a string does not fail, so this is a defect of a metric.
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The content type of the text if the caller wants it; `None` means JSON. The body is the same for both types: a
/// scraper of the older format takes what the newer one adds for comments.
fn text_format(parameters: &Parameters, headers: &HeaderMap) -> Option<&'static str> {
    let accepts = |kind| {
        headers
            .get_all(ACCEPT)
            .iter()
            .any(|value| value.to_str().is_ok_and(|v| v.contains(kind)))
    };
    if parameters.format.as_deref() == Some("prometheus") || accepts("application/openmetrics-text") {
        Some(OPENMETRICS)
    } else if accepts("text/plain") {
        Some(PLAIN)
    } else {
        None
    }
}
