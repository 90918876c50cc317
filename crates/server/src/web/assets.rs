//! The pages and what they need, as `console/` builds them: embedded, compressed once, and named by what they are made of.
//!
//! A page says from which build it is, and every answer does ([`Assets::build`]): one that was loaded before the server was replaced
//! offers to be loaded again.

use std::io::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

/// What stands in a page for the build.
const BUILD_PLACE: &str = "WAYBILL_BUILD";

const HTML: &str = "text/html; charset=utf-8";

/// A file of `console/dist`: under which path, of which type, what.
type Source = (&'static str, &'static str, &'static [u8]);

macro_rules! dist {
    ($file:literal) => {
        include_bytes!(concat!("../../../../console/dist/", $file))
    };
}

const FILES: [Source; 9] = [
    ("/", HTML, dist!("index.html")),
    ("/t/", HTML, dist!("track.html")),
    ("/assets/app.js", "text/javascript; charset=utf-8", dist!("app.js")),
    ("/assets/app.css", "text/css; charset=utf-8", dist!("app.css")),
    (
        "/assets/shared.js",
        "text/javascript; charset=utf-8",
        dist!("shared.js"),
    ),
    ("/assets/track.js", "text/javascript; charset=utf-8", dist!("track.js")),
    ("/assets/track.css", "text/css; charset=utf-8", dist!("track.css")),
    ("/assets/favicon.svg", "image/svg+xml", dist!("favicon.svg")),
    (
        "/assets/licenses.txt",
        "text/plain; charset=utf-8",
        dist!("licenses.txt"),
    ),
];

/// The files, ready to be sent. A clone shares them.
#[derive(Debug, Clone)]
pub struct Assets {
    /// The first digits of the hash of all files.
    build: HeaderValue,
    files: Vec<(&'static str, Arc<File>)>,
}

#[derive(Debug)]
struct File {
    content_type: &'static str,
    etag: HeaderValue,
    plain: Bytes,
    gzipped: Bytes,
}

impl Assets {
    /// Those of this program.
    pub fn embedded() -> io::Result<Assets> {
        let mut hash = Sha256::new();
        for (_, _, bytes) in FILES {
            hash.update(bytes);
        }
        let build = short(&hash.finalize());
        let files = FILES.map(|(path, content_type, bytes)| {
            let bytes = match content_type {
                HTML => String::from_utf8_lossy(bytes).replace(BUILD_PLACE, &build).into_bytes(),
                _ => bytes.to_vec(),
            };
            Ok((path, Arc::new(File::new(content_type, bytes)?)))
        });
        Ok(Assets {
            build: HeaderValue::from_str(&build).map_err(io::Error::other)?,
            files: files.into_iter().collect::<io::Result<_>>()?,
        })
    }

    /// What all files are made of, in short.
    pub fn build(&self) -> &HeaderValue {
        &self.build
    }

    /// A route for each file.
    pub fn router(&self) -> Router {
        self.files.iter().fold(Router::new(), |router, (path, file)| {
            router.route(path, get(send).with_state(Arc::clone(file)))
        })
    }
}

impl File {
    fn new(content_type: &'static str, bytes: Vec<u8>) -> io::Result<File> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        Ok(File {
            content_type,
            etag: HeaderValue::from_str(&format!("W/\"{}\"", short(&Sha256::digest(&bytes))))
                .map_err(io::Error::other)?,
            gzipped: encoder.finish()?.into(),
            plain: bytes.into(),
        })
    }
}

async fn send(State(file): State<Arc<File>>, asked: HeaderMap) -> Response {
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(file.content_type)),
        // Asked for anew each time, and not sent again: a new server has new pages at once.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, file.etag.clone()),
        (VARY, HeaderValue::from_static("accept-encoding")),
    ]);
    if parts(&asked, &IF_NONE_MATCH).any(|known| known == "*" || file.etag == known) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if parts(&asked, &ACCEPT_ENCODING).any(takes_gzip) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (headers, file.gzipped.clone()).into_response();
    }
    (headers, file.plain.clone()).into_response()
}

/// What stands between the commas of a header.
fn parts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// Whether this part of `accept-encoding` is gzip, and is not refused.
fn takes_gzip(coding: &str) -> bool {
    let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
    let is_refused = weight
        .trim()
        .strip_prefix("q=")
        .is_some_and(|weight| weight.parse() == Ok(0.0));
    name.trim().eq_ignore_ascii_case("gzip") && !is_refused
}

/// The beginning of a hash, which is enough to tell builds apart.
fn short(hash: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hash.get(..9).unwrap_or(hash))
}
