//! The provider's own pages, under `/_sandbox`: what goes wrong, who gets webhooks, and the ledger. The pages for what card
//! networks and banks do are in `network_api`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{self, Fault, InvalidFault};
use super::movements::Movement;
use super::network_api;
use super::state::ProviderState;
use super::webhooks::{WebhookBehaviour, WebhookEndpoint};

type Provider = State<Arc<ProviderState>>;

pub(super) fn routes() -> Router<Arc<ProviderState>> {
    let faults = get(read_faults).put(set_faults).delete(clear_faults);
    let webhooks = get(read_webhooks).put(set_webhooks).delete(clear_webhooks);
    Router::new()
        .route("/_sandbox/faults", faults)
        .route("/_sandbox/webhooks", webhooks)
        .route("/_sandbox/ledger", get(ledger))
        .merge(network_api::routes())
}

async fn read_faults(State(provider): Provider) -> Json<Vec<Fault>> {
    Json(provider.faults().remaining())
}

/// Replaces all faults, and answers with those that are set now.
async fn set_faults(State(provider): Provider, body: Bytes) -> Response {
    let not_json = |error: serde_json::Error| InvalidFault {
        field: "body".into(),
        must: format!("must be JSON: {error}"),
    };
    let json = serde_json::from_slice::<Value>(&body).map_err(not_json);
    match json.and_then(|json| faults::parse(&json)) {
        Ok(faults) => {
            provider.faults().set(faults);
            Json(provider.faults().remaining()).into_response()
        }
        Err(InvalidFault { field, must }) => {
            let message = format!("{field} {must}");
            bad_request(&json!({ "type": "invalid_request_error", "param": field, "message": message }))
        }
    }
}

async fn clear_faults(State(provider): Provider) -> StatusCode {
    provider.faults().set([]);
    StatusCode::NO_CONTENT
}

/// What `PUT /_sandbox/webhooks` accepts: an endpoint, how events are delivered from now on, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    endpoint: Option<Endpoint>,
    #[serde(default)]
    behaviour: WebhookBehaviour,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    url: String,
    secret: String,
}

/// The endpoint without its secret, how events are delivered, and the deliveries so far.
async fn read_webhooks(State(provider): Provider) -> Json<Value> {
    let (endpoint, behaviour) = provider.webhooks.registered();
    let url = endpoint.map(|endpoint| endpoint.url());
    Json(json!({ "url": url, "behaviour": behaviour, "deliveries": provider.webhooks.deliveries() }))
}

async fn set_webhooks(State(provider): Provider, body: Bytes) -> Response {
    match parse_registration(&body) {
        Ok((endpoint, behaviour)) => {
            if endpoint.is_some() {
                provider.webhooks.set_endpoint(endpoint);
            }
            provider.webhooks.set_behaviour(behaviour);
            read_webhooks(State(provider)).await.into_response()
        }
        Err(message) => bad_request(&json!({ "type": "invalid_request_error", "message": message })),
    }
}

fn parse_registration(body: &[u8]) -> Result<(Option<WebhookEndpoint>, WebhookBehaviour), String> {
    let registration: Registration = serde_json::from_slice(body).map_err(|error| {
        format!("the body must be {{\"endpoint\": {{\"url\": …, \"secret\": …}}, \"behaviour\": {{…}}}}: {error}")
    })?;
    let endpoint = registration
        .endpoint
        .map(|endpoint| WebhookEndpoint::new(&endpoint.url, &endpoint.secret));
    let endpoint = endpoint.transpose().map_err(|error| error.to_string())?;
    let behaviour = registration.behaviour.check().map_err(|error| error.to_string())?;
    Ok((endpoint, behaviour))
}

async fn clear_webhooks(State(provider): Provider) -> StatusCode {
    provider.webhooks.set_endpoint(None);
    provider.webhooks.set_behaviour(WebhookBehaviour::default());
    StatusCode::NO_CONTENT
}

async fn ledger(State(provider): Provider) -> Json<Vec<Movement>> {
    Json(provider.ledger().movements())
}

fn bad_request(error: &Value) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}
