//! What a browser may do with an answer: headers that every answer has, and which other pages may call.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tower_http::cors::CorsLayer;

use super::WebSettings;

/// What our pages run was built from this. A page that runs another build offers to be loaded again.
const BUILD: HeaderName = HeaderName::from_static("x-waybill-build");

/// What a page of another origin may send with a call.
const SENT: [HeaderName; 6] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
];

/// What it may read of the answer. A call that is refused has its status in the headers.
const READ: [HeaderName; 5] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("idempotent-replayed"),
    BUILD,
];

/// For how long a browser need not ask again; browsers take no more than two hours.
const ASKED_FOR: Duration = Duration::from_hours(2);

/// The headers of every answer.
#[derive(Debug, Clone)]
pub(super) struct Headers(HeaderMap);

impl Headers {
    pub fn new(settings: &WebSettings, build: &HeaderValue) -> Headers {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_SECURITY_POLICY, content_policy(settings));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // The address of a page has a token in it for a moment.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        );
        headers.insert(BUILD, build.clone());
        Headers(headers)
    }
}

/// Adds the headers to an answer. One that says nothing of it is kept by no cache.
pub(super) async fn add(State(Headers(policy)): State<Headers>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.extend(policy);
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses what is sent to a name that is not this machine's own: it is of another site, whose name leads here.
pub(super) async fn refuse_other_names(request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(Authority::as_str);
    let host = authority.or_else(|| request.headers().get(HOST)?.to_str().ok());
    if host.is_some_and(is_this_machine) {
        return next.run(request).await;
    }
    let why = "where callers are not known, this server answers to localhost, 127.0.0.1 and [::1] alone";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

/// Whether this is a name of this machine for itself, perhaps with a port.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Only our own scripts and styles, from files; pictures of the tile server, too.
fn content_policy(settings: &WebSettings) -> HeaderValue {
    let tiles = settings.tiles.as_ref().map_or("", |tiles| &tiles.origin);
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: {tiles}; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    // The origin was checked when the settings were read: there is nothing in it that a header cannot have.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Lets pages of these origins call; `None`: of no other than our own.
pub(super) fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let cors = CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::POST])
        .allow_headers(SENT)
        .expose_headers(READ)
        .max_age(ASKED_FOR);
    (!origins.is_empty()).then_some(cors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_here_is_not_this_machines_own() {
        for own in [
            "localhost:7202",
            "LOCALHOST",
            "127.0.0.1:7202",
            "127.1.2.3",
            "[::1]:7202",
        ] {
            assert!(is_this_machine(own), "{own:?}");
        }
        for other in [
            "evil.example:7202",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "0.0.0.0",
            "a b",
        ] {
            assert!(!is_this_machine(other), "{other:?}");
        }
    }
}
