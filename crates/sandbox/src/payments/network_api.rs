//! The pages under `/_sandbox` for what card networks and banks do, and for the expiry of keys. They answer with the object
//! as Stripe's API shows it, or with an error object of the same form.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api_error::ApiError;
use super::reply::Reply;
use super::state::ProviderState;

type Provider = State<Arc<ProviderState>>;

pub(super) fn routes() -> Router<Arc<ProviderState>> {
    Router::new()
        .route("/_sandbox/payment_intents/{id}/expire", post(expire_hold))
        .route("/_sandbox/refunds/{id}/settle", post(settle_refund))
        .route("/_sandbox/refunds/{id}/fail", post(fail_refund))
        .route("/_sandbox/disputes", post(open_dispute))
        .route("/_sandbox/disputes/{id}/close", post(close_dispute))
        .route("/_sandbox/keys", delete(expire_keys))
}

async fn expire_hold(State(provider): Provider, Path(id): Path<String>) -> Result<Reply, ApiError> {
    let expired = provider.ledger().expire_hold(&id)?;
    Ok(provider.publish(expired).await)
}

async fn settle_refund(State(provider): Provider, Path(id): Path<String>) -> Result<Reply, ApiError> {
    let settled = provider.ledger().settle_refund(&id)?;
    Ok(provider.publish(settled).await)
}

/// What `POST /_sandbox/refunds/{id}/fail` accepts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    reason: Option<String>,
}

async fn fail_refund(State(provider): Provider, Path(id): Path<String>, body: Bytes) -> Result<Reply, ApiError> {
    let Failure { reason } = parse(&body)?;
    let failed = provider
        .ledger()
        .fail_refund(&id, reason.as_deref().unwrap_or("unknown"))?;
    Ok(provider.publish(failed).await)
}

/// What `POST /_sandbox/disputes` accepts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    payment_intent: String,
    /// All that is left if not given.
    amount: Option<i64>,
    reason: Option<String>,
}

async fn open_dispute(State(provider): Provider, body: Bytes) -> Result<Reply, ApiError> {
    let Opening {
        payment_intent,
        amount,
        reason,
    } = parse(&body)?;
    let reason = reason.as_deref().unwrap_or("fraudulent");
    let (_, opened) = provider.ledger().open_dispute(&payment_intent, amount, reason)?;
    Ok(provider.publish(opened).await)
}

/// What `POST /_sandbox/disputes/{id}/close` accepts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    won: bool,
}

async fn close_dispute(State(provider): Provider, Path(id): Path<String>, body: Bytes) -> Result<Reply, ApiError> {
    let Closing { won } = parse(&body)?;
    let closed = provider.ledger().close_dispute(&id, won)?;
    Ok(provider.publish(closed).await)
}

async fn expire_keys(State(provider): Provider) -> Result<StatusCode, ApiError> {
    provider.ledger().expire_keys()?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::request(&format!("The body is not as it must be: {error}.")))
}
