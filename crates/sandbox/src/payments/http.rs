//! The provider's pages: Stripe's under `/v1`, the sandbox's own under `/_sandbox`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Form as FormBody, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Bank;
use super::books::Manner;
use super::faults::{self, BadFault, Fault, FaultKind, Operation};
use super::line::Cut;
use super::objects::Movement;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::{self, Charge, Form, Instruction, Page, Refund, What};
use super::webhooks::{WebhookBehaviour, WebhookEndpoint};

const BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) fn router(bank: Arc<Bank>) -> Router {
    let stripe = Router::new()
        .route("/v1/payment_intents", post(charge).get(list_intents))
        .route("/v1/payment_intents/{id}", get(read_intent))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/refunds/{id}", get(read_refund))
        .fallback(unrecognized)
        .method_not_allowed_fallback(unrecognized)
        .layer(from_fn_with_state(bank.clone(), admit));
    let sandbox = Router::new()
        .route(
            "/_sandbox/faults",
            get(read_faults).put(set_faults).delete(clear_faults),
        )
        .route(
            "/_sandbox/webhooks",
            get(read_webhooks).put(set_webhooks).delete(clear_webhooks),
        )
        .route("/_sandbox/ledger", get(ledger));
    stripe
        .merge(sandbox)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(bank)
}

/// The key of the account that a request was admitted for.
#[derive(Clone)]
struct ApiKey(String);

/// Counts a request and checks who asks, before anything else is looked at.
async fn admit(State(bank): State<Arc<Bank>>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    bank.requests.fetch_add(1, Ordering::Relaxed);
    let key = request::api_key(request.headers())?;
    request.extensions_mut().insert(ApiKey(key));
    Ok(next.run(request).await)
}

type FormResult = Result<FormBody<Form>, FormRejection>;
type QueryResult = Result<Query<Form>, QueryRejection>;

async fn charge(
    State(bank): State<Arc<Bank>>,
    ConnectInfo(line): ConnectInfo<Cut>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, Refusal> {
    let parse = |form: &Form| Charge::parse(form).map(What::Charge);
    let instruction = Instruction::new(key, &headers, "/v1/payment_intents", read_form(form)?, parse)?;
    follow(bank, line, instruction, Operation::Charge).await
}

async fn refund(
    State(bank): State<Arc<Bank>>,
    ConnectInfo(line): ConnectInfo<Cut>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, Refusal> {
    let parse = |form: &Form| Refund::parse(form).map(What::Refund);
    let instruction = Instruction::new(key, &headers, "/v1/refunds", read_form(form)?, parse)?;
    follow(bank, line, instruction, Operation::Refund).await
}

/// Carries out an instruction, well or badly, as the faults have it. There is no await between the look at the key and
/// the effect, so a client that hangs up cannot leave half of it.
async fn follow(
    bank: Arc<Bank>,
    line: Cut,
    instruction: Instruction,
    operation: Operation,
) -> Result<Response, Refusal> {
    let fate = bank.faults().decide(operation);
    if !fate.latency.is_zero() {
        tokio::select! {
            () = line.happened() => return Err(Refusal::server_error()),
            () = tokio::time::sleep(fate.latency) => {}
        }
    }
    let execute = |manner| execute(&bank, &instruction, manner);
    let Some((kind, delay)) = fate.fault else {
        return execute(Manner::Usual).await.map(IntoResponse::into_response);
    };
    match kind {
        FaultKind::RateLimited => Err(Refusal::rate_limited()),
        FaultKind::InProgress => Err(Refusal::key_in_use()),
        FaultKind::ErrorBeforeEffect => Err(Refusal::server_error()),
        FaultKind::Hang => {
            line.happened().await;
            Err(Refusal::server_error())
        }
        FaultKind::Decline => execute(Manner::Decline).await.map(IntoResponse::into_response),
        FaultKind::ErrorAfterEffectSaved => execute(Manner::SaveError).await.map(IntoResponse::into_response),
        FaultKind::LateSuccess => follow_late(&bank, instruction, delay).await,
        FaultKind::ErrorAfterEffect => execute(Manner::Usual).await.and(Err(Refusal::server_error())),
        FaultKind::ReplyLost => {
            let reply = execute(Manner::Usual).await;
            line.now();
            reply.map(IntoResponse::into_response)
        }
        FaultKind::Garbage => execute(Manner::Usual).await.map(|_| garbage()),
        FaultKind::WrongAmount => execute(Manner::Usual)
            .await
            .map(|reply| altered(&reply, another_amount))
            .map(IntoResponse::into_response),
        FaultKind::WrongCurrency => execute(Manner::Usual)
            .await
            .map(|reply| altered(&reply, another_currency))
            .map(IntoResponse::into_response),
        FaultKind::EmptyBody => execute(Manner::Usual).await.map(|_| StatusCode::OK.into_response()),
        FaultKind::SlowBody => execute(Manner::Usual).await.map(slowly),
        // Given apart from the others in a fate; alone it changes nothing more.
        FaultKind::Latency => execute(Manner::Usual).await.map(IntoResponse::into_response),
    }
}

/// Carries out an instruction, then tells of it.
async fn execute(bank: &Bank, instruction: &Instruction, manner: Manner) -> Result<Reply, Refusal> {
    let (reply, news) = {
        let mut books = bank.books();
        (books.execute(instruction, manner), books.take_news())
    };
    bank.webhooks.tell(news).await;
    reply
}

/// The same for one that was begun.
async fn finish(bank: &Bank, instruction: &Instruction) -> Result<Reply, Refusal> {
    let (reply, news) = {
        let mut books = bank.books();
        (books.finish(instruction), books.take_news())
    };
    bank.webhooks.tell(news).await;
    reply
}

/// The effect comes in a task of its own: it comes whether or not the client has waited.
async fn follow_late(bank: &Arc<Bank>, instruction: Instruction, delay: Duration) -> Result<Response, Refusal> {
    if let Some(reply) = bank.books().begin(&instruction)? {
        return Ok(reply.into_response());
    }
    let late = bank.clone();
    let task = bank.tasks.spawn(async move {
        tokio::select! {
            // The provider stops: what it had not done yet it never does.
            () = late.stopping.cancelled() => Err(Refusal::server_error()),
            () = tokio::time::sleep(delay) => finish(&late, &instruction).await,
        }
    });
    task.await
        .unwrap_or_else(|_| Err(Refusal::server_error()))
        .map(IntoResponse::into_response)
}

fn garbage() -> Response {
    let page = "<!DOCTYPE html><html><body><h1>We'll be right back</h1></body></html>";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// The answer with something in its body changed.
fn altered(reply: &Reply, alter: fn(&mut Value)) -> Reply {
    let mut body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    alter(&mut body);
    Reply {
        status: reply.status,
        body: body.to_string(),
        replayed: reply.replayed,
    }
}

/// One minor unit more than the truth. An answer without an amount, such as a decline, stays as it is.
fn another_amount(body: &mut Value) {
    for field in ["amount", "amount_received"] {
        if let Some(amount) = body.get_mut(field)
            && let Some(truth) = amount.as_i64()
        {
            *amount = json!(truth + 1);
        }
    }
}

/// Not the currency that was asked for, whichever that was.
fn another_currency(body: &mut Value) {
    if let Some(currency) = body.get_mut("currency") {
        *currency = json!(if *currency == json!("eur") { "usd" } else { "eur" });
    }
}

/// The answer, a byte a second.
fn slowly(reply: Reply) -> Response {
    let bytes = reply.body.into_bytes().into_iter();
    let slow = futures_util::stream::unfold(bytes, async |mut bytes| {
        let byte = bytes.next()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(vec![byte])), bytes))
    });
    (reply.status, Body::from_stream(slow)).into_response()
}

async fn read_intent(State(bank): State<Arc<Bank>>, Path(id): Path<String>) -> Result<Reply, Refusal> {
    bank.books().intent(&id)
}

async fn read_refund(State(bank): State<Arc<Bank>>, Path(id): Path<String>) -> Result<Reply, Refusal> {
    bank.books().refund(&id)
}

async fn list_intents(State(bank): State<Arc<Bank>>, query: QueryResult) -> Result<Reply, Refusal> {
    let page = Page::parse(&read_query(query)?, &[])?;
    bank.books().list_intents(&page)
}

async fn list_refunds(State(bank): State<Arc<Bank>>, query: QueryResult) -> Result<Reply, Refusal> {
    let page = Page::parse(&read_query(query)?, &["payment_intent"])?;
    bank.books().list_refunds(&page)
}

async fn unrecognized(method: Method, uri: Uri) -> Refusal {
    Refusal::unrecognized(method.as_str(), uri.path())
}

fn read_form(form: FormResult) -> Result<Form, Refusal> {
    form.map(|FormBody(form)| form)
        .map_err(|rejection| Refusal::request(&rejection.body_text()))
}

fn read_query(query: QueryResult) -> Result<Form, Refusal> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Refusal::request(&rejection.body_text()))
}

async fn read_faults(State(bank): State<Arc<Bank>>) -> Json<Vec<Fault>> {
    Json(bank.faults().left())
}

/// Replaces all rules, and answers with those that are set now.
async fn set_faults(State(bank): State<Arc<Bank>>, body: Bytes) -> Response {
    let not_json = |error: serde_json::Error| BadFault {
        field: "body".into(),
        must: format!("must be JSON: {error}"),
    };
    let parsed = serde_json::from_slice::<Value>(&body)
        .map_err(not_json)
        .and_then(|json| faults::parse(&json));
    match parsed {
        Ok(rules) => {
            bank.faults().set(rules);
            Json(bank.faults().left()).into_response()
        }
        Err(BadFault { field, must }) => {
            let message = format!("{field} {must}");
            let error = json!({ "error": { "type": "invalid_request_error", "param": field, "message": message } });
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
    }
}

async fn clear_faults(State(bank): State<Arc<Bank>>) -> StatusCode {
    bank.faults().set([]);
    StatusCode::NO_CONTENT
}

/// What `PUT /_sandbox/webhooks` takes: an endpoint, how it is told from now on, or both.
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

/// The endpoint without its secret, how events are delivered, and what came of those so far.
async fn read_webhooks(State(bank): State<Arc<Bank>>) -> Json<Value> {
    let (endpoint, behaviour) = bank.webhooks.registered();
    let url = endpoint.map(|endpoint| endpoint.url());
    Json(json!({ "url": url, "behaviour": behaviour, "deliveries": bank.webhooks.deliveries() }))
}

async fn set_webhooks(State(bank): State<Arc<Bank>>, body: Bytes) -> Response {
    let parsed = serde_json::from_slice::<Registration>(&body)
        .map_err(|error| {
            format!("the body must be {{\"endpoint\": {{\"url\": …, \"secret\": …}}, \"behaviour\": {{…}}}}: {error}")
        })
        .and_then(|asked| {
            let endpoint = asked.endpoint.map(|one| WebhookEndpoint::new(&one.url, &one.secret));
            let both = endpoint
                .transpose()
                .and_then(|endpoint| Ok((endpoint, asked.behaviour.check()?)));
            both.map_err(|error| error.to_string())
        });
    match parsed {
        Ok((endpoint, behaviour)) => {
            if endpoint.is_some() {
                bank.webhooks.register(endpoint);
            }
            bank.webhooks.behave(behaviour);
            read_webhooks(State(bank)).await.into_response()
        }
        Err(message) => {
            let error = json!({ "error": { "type": "invalid_request_error", "message": message } });
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
    }
}

async fn clear_webhooks(State(bank): State<Arc<Bank>>) -> StatusCode {
    bank.webhooks.register(None);
    bank.webhooks.behave(WebhookBehaviour::default());
    StatusCode::NO_CONTENT
}

async fn ledger(State(bank): State<Arc<Bank>>) -> Json<Vec<Movement>> {
    Json(bank.books().movements())
}
