//! The forged-webhook injector: events signed with the provider's own secret, about orders that it never charged or
//! never refunded. And some with another signature.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use testkit::chance::{Chance, pass};
use testkit::sql;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waybill_sandbox::payments::webhook_signature;

use crate::plan::WEBHOOK_SECRET;

const FOUND_WITHIN: Duration = Duration::from_secs(2);
const KINDS: [&str; 4] = [
    "payment_intent.succeeded",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "refund.created",
];

/// Sends them to whichever server takes them, about orders whose outcome is open, until the end.
pub async fn inject(url: String, database: String, end: CancellationToken, mut chance: Chance) {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(2))
        .build()
        .expect("a client");
    while !end.is_cancelled() {
        if let Some(order) = open_order(&database).await {
            let kind: &&str = chance.pick(&KINDS);
            let body = event(order, kind);
            let secret = if chance.percent(80) {
                WEBHOOK_SECRET
            } else {
                "whsec_of_another"
            };
            let signature = webhook_signature(secret, Timestamp::now().as_second(), body.as_bytes());
            let request = client.post(&url).header("Stripe-Signature", signature).body(body);
            // Whether a server took it shows in what it does.
            let _ = request.send().await;
        }
        end.run_until_cancelled(pass(chance.millis(50, 600))).await;
    }
}

/// An order that waits for the provider; none while the database is down.
async fn open_order(database: &str) -> Option<Uuid> {
    let query = "select order_id from order_sagas where status in ('charging', 'refunding') order by random() limit 1";
    let found = async { sql::connect(database).await?.query_opt(query, &[]).await };
    let row = tokio::time::timeout(FOUND_WITHIN, found).await.ok()?.ok()??;
    Some(row.get(0))
}

fn event(order: Uuid, kind: &str) -> String {
    let object = json!({
        "id": format!("pi_{}", Uuid::now_v7().simple()),
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 1,
        "currency": "usd",
        "metadata": {"order_id": order.to_string()},
    });
    let event = json!({
        "id": format!("evt_{}", Uuid::now_v7().simple()),
        "object": "event",
        "type": kind,
        "created": Timestamp::now().as_second(),
        "data": {"object": object},
    });
    event.to_string()
}
