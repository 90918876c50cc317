//! Events of the provider, genuine and not, and what they leave in the database.

use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::sql::column;
use testkit::wire::{a_ride, http};
use testkit::{Builder, Rig, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use uuid::Uuid;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget, WebhookEndpoint, webhook_signature};

pub const SECRET: &str = "whsec_end_to_end";
pub const PATH: &str = "/webhooks/payments";

/// Servers that take webhooks, and whose calls give up soon.
pub fn listening() -> Builder {
    Rig::builder()
        .set("payments.webhook_secrets", SECRET)
        .with("payments.attempt_timeout=500ms payments.total_timeout=2s orders.sweep_interval=100ms")
}

/// The same without a sweeper that claims what is due: what a webhook did stays to be seen. Callers wait a second.
pub fn without_sweeper() -> Builder {
    listening().with("orders.sweep_interval=1h grpc.deadline_default=1s")
}

/// Where the rig's server takes the provider's events.
pub fn endpoint(rig: &Rig) -> WebhookEndpoint {
    WebhookEndpoint::new(&format!("{}{PATH}", rig.webhooks_url()), SECRET).expect("an endpoint")
}

pub fn event_about(order_id: &str) -> Value {
    let object = json!({
        "id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 1, "amount_received": 1,
        "metadata": { "order_id": order_id },
    });
    json!({
        "id": format!("evt_{}", Uuid::now_v7().simple()), "object": "event",
        "type": "payment_intent.succeeded", "data": { "object": object },
    })
}

pub fn signed(body: &str) -> String {
    webhook_signature(SECRET, Timestamp::now().as_second(), body.as_bytes())
}

/// Sends a body with a `Stripe-Signature`; the status of the answer, whose body must be empty.
pub async fn send(rig: &Rig, body: &str, signature: &str) -> u16 {
    let mut request = http()
        .post(format!("{}{PATH}", rig.webhooks_url()))
        .header("content-type", "application/json");
    if !signature.is_empty() {
        request = request.header("stripe-signature", signature);
    }
    let answer = request.body(body.to_owned()).send().await.expect("an answer");
    let status = answer.status().as_u16();
    assert_eq!(answer.text().await.expect("a body"), "", "no word to strangers");
    status
}

/// As the provider would send it, now.
pub async fn send_genuine(rig: &Rig, event: &Value) -> u16 {
    let body = event.to_string();
    send(rig, &body, &signed(&body)).await
}

/// A connection on which these bytes were sent, as they are.
pub async fn send_bytes(rig: &Rig, request: &[u8]) -> TcpStream {
    let address = rig.webhooks_addr().expect("webhooks are received");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("it is sent");
    stream
}

/// The status of the answer to these bytes.
pub async fn status_of_bytes(rig: &Rig, request: &[u8]) -> u16 {
    let mut answer = String::new();
    let mut stream = send_bytes(rig, request).await;
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.split(' ').nth(1).expect("a status").parse().expect("a number")
}

/// No charge happens, and no one can know.
pub fn never_charged() -> [Fault; 1] {
    [Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Charge)]
}

/// An order whose charge is in doubt, and whose next try is a day away; its id.
pub async fn order_in_doubt(rig: &Rig) -> String {
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let sql = rig.sql().await;
    until("the order is deferred", async || {
        let defer = "update order_sagas set next_run_at = now() + interval '1 day'
                      where lease_until is null and status = 'charging' and next_run_at < now() + interval '1 hour'
                     returning order_id::text";
        sql.query_opt(defer, &[]).await.unwrap().map(|row| row.get(0))
    })
    .await
}

/// Every row that says where an order and its money stand, and which events were stored.
pub async fn stored_rows(rig: &Rig) -> Vec<String> {
    let query = "select to_jsonb(o)::text from order_sagas o union all
                 select to_jsonb(s)::text from order_saga_steps s union all
                 select to_jsonb(t)::text from payment_attempts t union all
                 select to_jsonb(p)::text from payments p union all
                 select to_jsonb(e)::text from payment_events e order by 1";
    column(&rig.sql().await, query, &[]).await.expect("a query")
}
