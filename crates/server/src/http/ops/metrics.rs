//! `/metrics`: JSON for people, the Prometheus text for scrapers.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mediatype::names::Q;
use mediatype::{MediaType, MediaTypeList, ReadParams as _};
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
    let format = format(&parameters, &headers);
    if format == Format::Json {
        return Json(metrics.snapshot()).into_response();
    }
    match metrics.openmetrics() {
        Ok(text) if format == Format::Plain => ([(CONTENT_TYPE, PLAIN)], plain(&text)).into_response(),
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        // Writing to a string does not fail, so this is a defect of a metric.
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What the metrics are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    OpenMetrics,
    /// The older text, of Prometheus.
    Plain,
}

impl Format {
    /// Of two that a caller likes the same, the first.
    const ALL: [Format; 3] = [Format::Json, Format::OpenMetrics, Format::Plain];

    /// How closely this range of media types describes it, if it does; parameters, as a version, are the newest that there are.
    fn described_by(self, range: &MediaType<'_>) -> Option<u8> {
        let (ty, subty) = match self {
            Format::Json => ("application", "json"),
            Format::OpenMetrics => ("application", "openmetrics-text"),
            Format::Plain => ("text", "plain"),
        };
        match (range.ty.as_str(), range.subty.as_str()) {
            ("*", "*") => Some(0),
            (range, "*") if range.eq_ignore_ascii_case(ty) => Some(1),
            (range, subrange) if range.eq_ignore_ascii_case(ty) && subrange.eq_ignore_ascii_case(subty) => Some(2),
            _ => None,
        }
    }
}

/// The format that the caller prefers (RFC 9110, section 12.5.1): each has the quality of the range that describes it most closely. Of those that it wants most
/// the one that it describes most closely, of these the one that it names first. JSON, where it wants none of them.
fn format(parameters: &Parameters, headers: &HeaderMap) -> Format {
    if parameters.format.as_deref() == Some("prometheus") {
        return Format::OpenMetrics;
    }
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(MediaType<'_>, u16)> = accepted
        .flat_map(MediaTypeList::new)
        .flatten()
        .filter_map(|range| Some((range.clone(), quality(&range)?)))
        .collect();
    let wanted = Format::ALL.into_iter().filter_map(|format| {
        let described = ranges
            .iter()
            .enumerate()
            .filter_map(|(place, (range, quality))| Some((format.described_by(range)?, *quality, Reverse(place))));
        let (closeness, quality, place) = described.max()?;
        (quality > 0).then_some((Reverse((quality, closeness, place)), format))
    });
    wanted
        .min_by_key(|(order, _)| *order)
        .map_or(Format::Json, |(_, format)| format)
}

/// How much a caller wants what is of this range, in thousandths; `None` where it is no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is from 0 to 1000; what is no number is cast to 0"
)]
fn quality(range: &MediaType<'_>) -> Option<u16> {
    let quality = range
        .get_param(Q)
        .map_or(Ok(1.0), |quality| quality.as_str().parse::<f32>());
    Some((quality.ok()?.clamp(0.0, 1.0) * 1000.0) as u16)
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
    fn a_caller_gets_the_format_that_it_prefers() {
        let cases = [
            ("*/*", Format::Json),
            ("application/json, text/plain, */*", Format::Json),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Json,
            ),
            ("image/png", Format::Json),
            ("no list of media types", Format::Json),
            ("text/plain", Format::Plain),
            ("Text/Plain; Version=0.0.4; Q=0.5, */*;q=0.1", Format::Plain),
            ("Text/Plain; Q=0.1, */*;q=0.5", Format::Json),
            ("application/json, text/plain;q=5", Format::Json),
            (
                "application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.9",
                Format::Plain,
            ),
            (
                "text/plain;q=0.5,application/openmetrics-text;version=1.0.0",
                Format::OpenMetrics,
            ),
            ("text/plain;q=0,application/json;q=0.1", Format::Json),
            ("*/*, application/json;q=0", Format::OpenMetrics),
            ("application/json;q=0, */*;q=0.1, application/*;q=0", Format::Plain),
            ("*/*, text/plain", Format::Plain),
            ("*/*;q=0", Format::Json),
            // As Prometheus 3 has it.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
        ];
        for (accept, expected) in cases {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(format(&Parameters { format: None }, &headers), expected, "{accept}");
        }
        let asked = Parameters {
            format: Some("prometheus".to_owned()),
        };
        assert_eq!(format(&asked, &HeaderMap::new()), Format::OpenMetrics);
        assert_eq!(format(&Parameters { format: None }, &HeaderMap::new()), Format::Json);
    }

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
