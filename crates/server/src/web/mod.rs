//! The listener for browsers: the console, the tracking page of shared links, and gRPC-Web, by which pages call the same services through
//! the same layers as every other client ([`crate::grpc::edge`]).
//!
//! There is no second API and no cookie: a page sends its token as a header, so a call that another site makes brings none. What any
//! answer may do in a browser is in [`policy`].

mod assets;
mod policy;
mod settings;

use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, map_response_with_state};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post_service};
use axum::{Json, Router};
use serde_json::json;

pub use self::assets::Assets;
pub use self::settings::{Tiles, WebSettings, tile_origin, web_origin};
use crate::grpc::edge::WebRoutes;
use crate::trails::{self, Trails};

/// What an answer is from, where there are no pages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What browsers load.
#[derive(Clone)]
pub struct Pages {
    /// The files of the pages.
    pub assets: Assets,
    /// The map that the fleet draws.
    pub trails: Trails,
}

/// All that is served to browsers; `calls` answers those of gRPC-Web. Without `pages` there is no console.
pub fn router(settings: &WebSettings, pages: Option<&Pages>, calls: WebRoutes) -> Router {
    let calls = Router::new().route("/{service}/{method}", post_service(calls).fallback(not_found));
    let calls = match policy::cors(&settings.origins) {
        Some(cors) => calls.layer(cors),
        None => calls,
    };
    let version = HeaderValue::from_static(VERSION);
    let build = pages.map_or(&version, |pages| pages.assets.build());
    let headers = policy::Headers::new(settings, build);
    let pages = pages.map_or_else(Router::new, |pages| {
        let config = Router::new().route("/config.json", get(config(settings)));
        let trails = trails::http::router(pages.trails.clone());
        pages.assets.router().merge(config).merge(trails)
    });
    let all = calls.merge(pages).fallback(not_found);
    let all = if settings.this_machine_only {
        all.layer(from_fn(policy::refuse_other_names))
    } else {
        all
    };
    all.layer(map_response_with_state(headers, policy::add))
}

/// What the pages have to know before they call.
fn config(settings: &WebSettings) -> Json<serde_json::Value> {
    let tiles = settings.tiles.as_ref();
    Json(json!({
        "tiles": tiles.map_or("", |tiles| &tiles.url),
        "tiles_attribution": tiles.map_or("", |tiles| &tiles.attribution),
    }))
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, Html(include_str!("not_found.html")))
}
