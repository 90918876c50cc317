//! `POST /webhooks/payments`: where the payment provider tells us what happened. The only page for strangers, so its
//! answers are a status without a word, and it has limits of its own.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::LengthLimitError;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::orders::webhooks::{Outcome, Webhooks};

/// Stripe's largest events have some 20 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// At once. A quarter of the connections: `/readyz` must find one, whatever strangers send.
const IN_FLIGHT_MAX: usize = 16;

/// What the handler needs.
#[derive(Clone)]
pub(super) struct Face {
    webhooks: Webhooks,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl Face {
    pub fn new(webhooks: Webhooks, metrics: Arc<Metrics>) -> Face {
        Face {
            webhooks,
            metrics,
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }
}

pub(super) async fn receive(State(face): State<Face>, headers: HeaderMap, body: Body) -> StatusCode {
    let (outcome, status) = outcome(&face, &headers, body).await;
    face.metrics.webhooks.event(outcome.as_str());
    status
}

async fn outcome(face: &Face, headers: &HeaderMap, body: Body) -> (Outcome, StatusCode) {
    let Ok(_place) = face.places.try_acquire() else {
        return (Outcome::Unavailable, StatusCode::SERVICE_UNAVAILABLE);
    };
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => return (Outcome::RefusedBody, status),
    };
    let signature = headers.get("stripe-signature");
    let signature = signature.map_or(&b""[..], |value| value.as_bytes());
    let outcome = face.webhooks.take(signature, &body, Timestamp::now()).await;
    let status = match outcome {
        Outcome::Taken | Outcome::Duplicate => StatusCode::OK,
        Outcome::RefusedSignature => StatusCode::UNAUTHORIZED,
        Outcome::RefusedBody => StatusCode::BAD_REQUEST,
        // Whatever is not 2xx is sent again.
        Outcome::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (outcome, status)
}

/// The whole body. One that says that it is too long is not read at all, another only up to the limit.
async fn read(body: Body) -> Result<Bytes, StatusCode> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        let too_long = std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
        if too_long {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::BAD_REQUEST
        }
    })
}
