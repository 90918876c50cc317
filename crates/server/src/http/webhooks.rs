//! `POST /webhooks/payments`: the payment provider's events; of an account that a tenant has for itself,
//! `/webhooks/payments/<tenant>`. The only routes that the public may reach, so they have a listener and limits of their own, and
//! their answers are a status without a body.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use http_body_util::LengthLimitError;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use waybill_domain::payment_account::PaymentAccount;

use crate::metrics::Metrics;
use crate::payment_webhooks::{Disposition, PaymentWebhooks};

/// Stripe's largest events have some 20 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests of one account at a time.
const IN_FLIGHT_MAX: usize = 16;

/// A route for each account that has secrets.
pub fn router(webhooks: &PaymentWebhooks, metrics: &Arc<Metrics>) -> Router {
    webhooks.accounts().fold(Router::new(), |router, account| {
        let endpoint = Endpoint::new(webhooks.clone(), account.clone(), Arc::clone(metrics));
        let path = match account.name() {
            None => "/webhooks/payments".to_owned(),
            Some(tenant) => format!("/webhooks/payments/{tenant}"),
        };
        router.route(&path, post(receive).with_state(endpoint))
    })
}

/// What the handler needs, for one account.
#[derive(Clone)]
struct Endpoint {
    webhooks: PaymentWebhooks,
    account: PaymentAccount,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl Endpoint {
    pub fn new(webhooks: PaymentWebhooks, account: PaymentAccount, metrics: Arc<Metrics>) -> Endpoint {
        Endpoint {
            webhooks,
            account,
            metrics,
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }
}

async fn receive(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Body) -> StatusCode {
    let (disposition, status) = accept(&endpoint, &headers, body).await;
    endpoint.metrics.webhooks.event(disposition.as_str());
    status
}

async fn accept(endpoint: &Endpoint, headers: &HeaderMap, body: Body) -> (Disposition, StatusCode) {
    let Ok(_place) = endpoint.places.try_acquire() else {
        return (Disposition::Unavailable, StatusCode::SERVICE_UNAVAILABLE);
    };
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => return (Disposition::RefusedBody, status),
    };
    let signature = headers.get("stripe-signature");
    let signature = signature.map_or(&b""[..], |value| value.as_bytes());
    let disposition = endpoint
        .webhooks
        .accept(&endpoint.account, signature, &body, Timestamp::now())
        .await;
    let status = match disposition {
        Disposition::Accepted | Disposition::Duplicate | Disposition::NothingNew => StatusCode::OK,
        Disposition::RefusedSignature => StatusCode::UNAUTHORIZED,
        Disposition::RefusedBody => StatusCode::BAD_REQUEST,
        // Whatever is not 2xx is sent again.
        Disposition::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (disposition, status)
}

/// The whole body, up to the limit. One that is declared longer is not read at all.
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
