//! The token that is asked for before numbers and reasons are shown, where one is set.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};

use crate::identity::bearer;

/// Lets a call pass that shows the token, or any where none is set.
pub async fn asked(State(token): State<Arc<SecretString>>, request: Request, next: Next) -> Response {
    let token = token.expose_secret();
    let is_shown = |shown: &str| {
        // Of one length, whatever is shown.
        let (shown, token) = (digest(&SHA256, shown.as_bytes()), digest(&SHA256, token.as_bytes()));
        verify_slices_are_equal(shown.as_ref(), token.as_ref()).is_ok()
    };
    if token.is_empty() || bearer(request.headers()).is_ok_and(is_shown) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response()
}
