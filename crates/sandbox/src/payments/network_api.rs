//! The pages under `/_sandbox` for what card networks and banks do. They answer with the object as Stripe's API shows it, or
//! with an error object of the same form.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
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

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::request(&format!("The body is not as it must be: {error}.")))
}
