//! The listener for browsers: gRPC-Web, by which pages call the same services through the same layers as every other client
//! ([`crate::grpc::edge`]).
//!
//! There is no second API and no cookie: a page sends its token as a header, so a call that another site makes brings none. What any
//! answer may do in a browser is in [`policy`].

mod policy;
mod settings;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::map_response_with_state;
use axum::response::{Html, IntoResponse};
use axum::routing::post_service;

pub use self::settings::{Tiles, WebSettings, tile_origin, web_origin};
use crate::grpc::edge::WebRoutes;

/// All that is served to browsers; `calls` answers those of gRPC-Web.
pub fn router(settings: &WebSettings, calls: WebRoutes) -> Router {
    let calls = Router::new().route("/{service}/{method}", post_service(calls).fallback(not_found));
    let calls = match policy::cors(&settings.origins) {
        Some(cors) => calls.layer(cors),
        None => calls,
    };
    calls
        .fallback(not_found)
        .layer(map_response_with_state(policy::Headers::new(settings), policy::add))
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, Html(include_str!("not_found.html")))
}
