//! An answer as it goes over the wire, and as it is saved.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::objects::new_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A status and a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: String,
    /// Whether this is the saved answer to an earlier request with the same key.
    pub replayed: bool,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: &Value) -> Reply {
        Reply {
            status,
            body: body.to_string(),
            replayed: false,
        }
    }

    pub(super) fn ok(body: &Value) -> Reply {
        Reply::new(StatusCode::OK, body)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.status, json, self.body).into_response();
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(new_id("req")) {
            headers.insert(REQUEST_ID, id);
        }
        if self.replayed {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
