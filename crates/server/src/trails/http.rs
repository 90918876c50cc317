//! `GET /trails/{z}/{x}/{y}.png`: a tile, as web maps ask for it. No token: what is shown is no one's.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tracing::warn;

use super::picture::Picture;
use super::tiles::Trails;

/// How long a browser believes a tile.
const CACHED: &str = "public, max-age=60";

/// The route of the tiles.
pub fn router(trails: Trails) -> Router {
    Router::new().route("/trails/{z}/{x}/{y}", get(tile)).with_state(trails)
}

async fn tile(
    State(trails): State<Trails>,
    Path((z, x, y)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some((zoom, x, y)) = parse(&z, &x, &y) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match trails.tile(zoom, x, y).await {
        Ok(Some(picture)) => render(picture, &headers),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            warn!(%error, "no tile of the trails");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn render(picture: Picture, headers: &HeaderMap) -> Response {
    let known = headers.get_all(IF_NONE_MATCH).into_iter();
    let mut known = known.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    // A proxy that packs answers marks their names as weak; the picture is the same.
    let is_known = known.any(|name| name.trim().trim_start_matches("W/") == picture.etag);
    let names = [(ETAG, picture.etag), (CACHE_CONTROL, CACHED.to_owned())];
    if is_known {
        (StatusCode::NOT_MODIFIED, names).into_response()
    } else {
        (names, [(CONTENT_TYPE, "image/png")], Body::from(picture.png)).into_response()
    }
}

/// The tile of a path, whose last part ends in `.png`.
fn parse(z: &str, x: &str, y: &str) -> Option<(u8, u32, u32)> {
    let y = y.strip_suffix(".png")?;
    let zoom = u8::try_from(number(z)?).ok()?;
    Some((zoom, number(x)?, number(y)?))
}

/// A number in one way only: digits, without a zero before them.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_tiles_are_read_and_others_are_not() {
        assert_eq!(parse("15", "5241", "12665.png"), Some((15, 5241, 12665)));
        assert_eq!(parse("0", "0", "0.png"), Some((0, 0, 0)));
        for (z, x, y) in [
            ("15", "5241", "12665"),
            ("15", "5241", "12665.jpg"),
            ("15", "5241", ".png"),
            ("+15", "5241", "12665.png"),
            ("15", "-1", "12665.png"),
            ("15", "05241", "12665.png"),
            ("256", "5241", "12665.png"),
            ("15", "99999999999", "12665.png"),
            ("", "5241", "12665.png"),
            ("15", "5241", "12665.png.png"),
            ("15", "٣", "12665.png"),
        ] {
            assert_eq!(parse(z, x, y), None, "{z}/{x}/{y}");
        }
    }
}
