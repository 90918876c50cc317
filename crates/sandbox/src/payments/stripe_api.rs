//! Stripe's API, under `/v1`: requests are executed and answered, well or as the faults have it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{ConnectInfo, Extension, Form as FormBody, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::change::Execution;
use super::connection::Cutter;
use super::faults::{FaultKind, FaultTarget};
use super::objects::CardOutcome;
use super::reply::Reply;
use super::request::{
    self, Action, CancelRequest, CaptureRequest, ChargeRequest, Form, Page, PaymentRequest, RefundRequest,
};
use super::state::ProviderState;

type Provider = State<Arc<ProviderState>>;

pub(super) fn routes(provider: &Arc<ProviderState>) -> Router<Arc<ProviderState>> {
    Router::new()
        .route("/v1/payment_intents", post(charge).get(list_intents))
        .route("/v1/payment_intents/{id}", get(read_intent))
        .route("/v1/payment_intents/{id}/capture", post(capture))
        .route("/v1/payment_intents/{id}/cancel", post(cancel))
        .route("/v1/charges", get(list_charges))
        .route("/v1/customers", post(add_customer))
        .route("/v1/disputes", get(list_disputes))
        .route("/v1/disputes/{id}", get(read_dispute))
        .route("/v1/payment_methods", post(add_method))
        .route("/v1/payment_methods/{id}/attach", post(attach))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/refunds/{id}", get(read_refund))
        .fallback(unrecognized)
        .method_not_allowed_fallback(unrecognized)
        .layer(from_fn_with_state(provider.clone(), authenticate))
}

/// The API key of the account that sent the request.
#[derive(Clone)]
struct ApiKey(String);

/// Counts a request and checks its API key, before anything else.
async fn authenticate(State(provider): Provider, mut request: Request, next: Next) -> Result<Response, ApiError> {
    provider.requests.fetch_add(1, Ordering::Relaxed);
    let key = request::api_key(request.headers())?;
    request.extensions_mut().insert(ApiKey(key));
    Ok(next.run(request).await)
}

type FormResult = Result<FormBody<Form>, FormRejection>;
type QueryResult = Result<Query<Form>, QueryRejection>;

async fn charge(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<Cutter>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, ApiError> {
    let parse = |form: &Form| ChargeRequest::parse(form).map(Action::Charge);
    let request = PaymentRequest::new(key, &headers, "/v1/payment_intents", form_of(form)?, parse)?;
    answer(provider, connection, request, FaultTarget::Charge).await
}

async fn capture(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<Cutter>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, ApiError> {
    let path = format!("/v1/payment_intents/{id}/capture");
    let parse = |form: &Form| CaptureRequest::parse(&id, form).map(Action::Capture);
    let request = PaymentRequest::new(key, &headers, &path, form_of(form)?, parse)?;
    answer(provider, connection, request, FaultTarget::Capture).await
}

async fn cancel(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<Cutter>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, ApiError> {
    let path = format!("/v1/payment_intents/{id}/cancel");
    let parse = |form: &Form| CancelRequest::parse(&id, form).map(Action::Cancel);
    let request = PaymentRequest::new(key, &headers, &path, form_of(form)?, parse)?;
    answer(provider, connection, request, FaultTarget::Cancel).await
}

async fn refund(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<Cutter>,
    Extension(ApiKey(key)): Extension<ApiKey>,
    headers: HeaderMap,
    form: FormResult,
) -> Result<Response, ApiError> {
    let parse = |form: &Form| RefundRequest::parse(form).map(Action::Refund);
    let request = PaymentRequest::new(key, &headers, "/v1/refunds", form_of(form)?, parse)?;
    answer(provider, connection, request, FaultTarget::Refund).await
}

/// Executes a request and answers it, with the faults that hit it. Between the look-up of its key and its effect nothing
/// is awaited, so a client that hangs up cannot leave half of it.
async fn answer(
    provider: Arc<ProviderState>,
    connection: Cutter,
    request: PaymentRequest,
    target: FaultTarget,
) -> Result<Response, ApiError> {
    let decision = provider.faults().decide(target);
    if !decision.latency.is_zero() {
        tokio::select! {
            () = connection.until_cut() => return Err(ApiError::server_error()),
            () = tokio::time::sleep(decision.latency) => {}
        }
    }
    let Some((fault, delay)) = decision.fault else {
        return Ok(execute(&provider, &request, Execution::Normal).await?.into_response());
    };
    let execution = match fault {
        FaultKind::RateLimited => return Err(ApiError::rate_limited()),
        FaultKind::Rejected => return Err(ApiError::not_activated()),
        FaultKind::InProgress => return Err(ApiError::key_in_use()),
        FaultKind::ErrorBeforeEffect => return Err(ApiError::server_error()),
        FaultKind::Hang => {
            connection.until_cut().await;
            return Err(ApiError::server_error());
        }
        FaultKind::LateSuccess => return execute_late(&provider, request, delay).await,
        FaultKind::Decline => Execution::Decline,
        FaultKind::RefundPending => Execution::Pending,
        FaultKind::ErrorAfterEffectSaved => Execution::SaveError,
        // The answer goes wrong below; a latency that is alone changes nothing more.
        FaultKind::ErrorAfterEffect
        | FaultKind::ReplyLost
        | FaultKind::Garbage
        | FaultKind::WrongAmount
        | FaultKind::WrongCurrency
        | FaultKind::EmptyBody
        | FaultKind::SlowBody
        | FaultKind::Latency => Execution::Normal,
    };
    let reply = execute(&provider, &request, execution).await;
    if fault == FaultKind::ReplyLost {
        connection.cut();
    }
    let reply = reply?;
    Ok(match fault {
        FaultKind::ErrorAfterEffect => return Err(ApiError::server_error()),
        FaultKind::Garbage => garbage(),
        FaultKind::WrongAmount => altered(&reply, another_amount).into_response(),
        FaultKind::WrongCurrency => altered(&reply, another_currency).into_response(),
        FaultKind::EmptyBody => StatusCode::OK.into_response(),
        FaultKind::SlowBody => slow(reply),
        _ => reply.into_response(),
    })
}

async fn execute(provider: &ProviderState, request: &PaymentRequest, execution: Execution) -> Result<Reply, ApiError> {
    let executed = provider.ledger().execute(request, execution)?;
    Ok(provider.publish(executed).await)
}

/// The effect comes in a task of its own, whether or not the client waits for it.
async fn execute_late(
    provider: &Arc<ProviderState>,
    request: PaymentRequest,
    delay: Duration,
) -> Result<Response, ApiError> {
    if let Some(reply) = provider.ledger().begin(&request)? {
        return Ok(reply.into_response());
    }
    let late = provider.clone();
    let task = provider.tasks.spawn(async move {
        tokio::select! {
            // The provider stops: what has not been done never is.
            () = late.stopping.cancelled() => return Err(ApiError::server_error()),
            () = tokio::time::sleep(delay) => {}
        }
        let executed = late.ledger().finish(&request)?;
        Ok(late.publish(executed).await)
    });
    let reply = task.await.unwrap_or_else(|_| Err(ApiError::server_error()));
    reply.map(IntoResponse::into_response)
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
        body: body.to_string(),
        ..reply.clone()
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
fn slow(reply: Reply) -> Response {
    let bytes = reply.body.into_bytes().into_iter();
    let stream = futures_util::stream::unfold(bytes, async |mut bytes| {
        let byte = bytes.next()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(vec![byte])), bytes))
    });
    (reply.status, Body::from_stream(stream)).into_response()
}

async fn add_customer(State(provider): Provider, form: FormResult) -> Result<Reply, ApiError> {
    request::refuse_unknown(&form_of(form)?, &["name", "email", "description"])?;
    provider.ledger().add_customer()
}

async fn add_method(State(provider): Provider, form: FormResult) -> Result<Reply, ApiError> {
    let form = form_of(form)?;
    request::refuse_unknown(&form, &["type", "card[token]"])?;
    let token = request::required(&form, "card[token]")?;
    let card = CardOutcome::of_token(token)
        .ok_or_else(|| ApiError::parameter("resource_missing", "card[token]", &format!("No such token: '{token}'")))?;
    provider.ledger().add_method(card)
}

async fn attach(State(provider): Provider, Path(id): Path<String>, form: FormResult) -> Result<Reply, ApiError> {
    let form = form_of(form)?;
    request::refuse_unknown(&form, &["customer"])?;
    provider.ledger().attach(&id, request::required(&form, "customer")?)
}

async fn read_intent(State(provider): Provider, Path(id): Path<String>) -> Result<Reply, ApiError> {
    provider.ledger().intent(&id)
}

async fn read_refund(State(provider): Provider, Path(id): Path<String>) -> Result<Reply, ApiError> {
    provider.ledger().refund(&id)
}

/// The fault that hits a page of a list.
fn check_list_faults(provider: &ProviderState) -> Result<(), ApiError> {
    match provider.faults().decide(FaultTarget::List).fault {
        None => Ok(()),
        Some((FaultKind::RateLimited, _)) => Err(ApiError::rate_limited()),
        Some(_) => Err(ApiError::server_error()),
    }
}

async fn list_intents(State(provider): Provider, query: QueryResult) -> Result<Reply, ApiError> {
    check_list_faults(&provider)?;
    provider.ledger().list_intents(&page_of(query, &[])?)
}

async fn list_charges(State(provider): Provider, query: QueryResult) -> Result<Reply, ApiError> {
    check_list_faults(&provider)?;
    let filters = ["payment_intent", "transfer_group"];
    provider.ledger().list_charges(&page_of(query, &filters)?)
}

async fn list_refunds(State(provider): Provider, query: QueryResult) -> Result<Reply, ApiError> {
    check_list_faults(&provider)?;
    provider.ledger().list_refunds(&page_of(query, &["payment_intent"])?)
}

async fn read_dispute(State(provider): Provider, Path(id): Path<String>) -> Result<Reply, ApiError> {
    provider.ledger().dispute(&id)
}

async fn list_disputes(State(provider): Provider, query: QueryResult) -> Result<Reply, ApiError> {
    let form = query.as_ref().ok();
    let charge = form.and_then(|Query(form)| request::get(form, "charge").map(str::to_owned));
    let page = page_of(query, &["payment_intent", "charge"])?;
    provider.ledger().list_disputes(&page, charge.as_deref())
}

async fn unrecognized(method: Method, uri: Uri) -> ApiError {
    ApiError::unrecognized(method.as_str(), uri.path())
}

fn form_of(form: FormResult) -> Result<Form, ApiError> {
    let FormBody(form) = form.map_err(|rejection| ApiError::request(&rejection.body_text()))?;
    Ok(form)
}

fn page_of(query: QueryResult, filters: &[&str]) -> Result<Page, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::request(&rejection.body_text()))?;
    Page::parse(&query, filters)
}
