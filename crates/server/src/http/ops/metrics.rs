//! `/metrics`: JSON for people, the Prometheus text for scrapers.

use std::collections::HashSet;
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
    let Some(format) = text_format(&parameters, &headers) else {
        return Json(metrics.snapshot()).into_response();
    };
    match metrics.openmetrics() {
        Ok(text) => match format {
            TextFormat::OpenMetrics => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            TextFormat::Plain => ([(CONTENT_TYPE, PLAIN)], plain(&text)).into_response(),
        },
        // Writing to a string does not fail, so this is a defect of a metric.
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The formats of scrapers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextFormat {
    OpenMetrics,
    /// The older one, of Prometheus.
    Plain,
}

/// The text that the caller wants; `None` means JSON.
fn text_format(parameters: &Parameters, headers: &HeaderMap) -> Option<TextFormat> {
    let accepts = |kind| {
        headers
            .get_all(ACCEPT)
            .iter()
            .any(|value| value.to_str().is_ok_and(|v| v.contains(kind)))
    };
    if parameters.format.as_deref() == Some("prometheus") || accepts("application/openmetrics-text") {
        Some(TextFormat::OpenMetrics)
    } else if accepts("text/plain") {
        Some(TextFormat::Plain)
    } else {
        None
    }
}

/// The same metrics in the older format: there a counter has its type and its help under the name of its samples, units are in names alone, and the end
/// is not marked.
fn plain(openmetrics: &str) -> String {
    let counters: HashSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len() + 16 * counters.len());
    for line in openmetrics.lines() {
        let about = line.strip_prefix("# ").and_then(|about| about.split_once(' '));
        match about {
            Some(("UNIT", _)) => {}
            None if line == "# EOF" => {}
            Some((kind, rest)) => {
                let (name, what) = rest.split_once(' ').unwrap_or((rest, ""));
                let total = if counters.contains(name) { "_total" } else { "" };
                text.extend(["# ", kind, " ", name, total, " ", what, "\n"]);
            }
            None => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_older_format_a_counter_is_typed_by_the_name_of_its_samples() {
        let openmetrics = "\
# HELP waybill_calls Calls by method.
# TYPE waybill_calls counter
# UNIT waybill_calls calls
waybill_calls_total{method=\"a # TYPE b\"} 3
# HELP waybill_open Open now.
# TYPE waybill_open gauge
waybill_open 1
# EOF
";
        assert_eq!(
            plain(openmetrics),
            "\
# HELP waybill_calls_total Calls by method.
# TYPE waybill_calls_total counter
waybill_calls_total{method=\"a # TYPE b\"} 3
# HELP waybill_open Open now.
# TYPE waybill_open gauge
waybill_open 1
"
        );
    }
}
