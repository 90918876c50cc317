//! What the payment provider tells us: it makes an order be looked at now, and changes nothing else, however often and
//! in whatever order it comes. What is refused is in [`crate::webhooks_refused`].

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use uuid::Uuid;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget, WebhookBehaviour, WebhookEndpoint, webhook_signature};
use waybill_sandbox::proxy::Mode;

use crate::rig::{Builder, PICKUP, Rig, a_ride, until};

pub const SECRET: &str = "whsec_end_to_end";
pub const PATH: &str = "/webhooks/payments";

/// Servers that take webhooks, and whose calls give up soon.
pub fn listening() -> Builder {
    Rig::builder()
        .set("payments.webhook_secrets", SECRET)
        .set("payments.attempt_timeout", "500ms")
        .set("payments.total_timeout", "2s")
        .set("orders.sweep_interval", "100ms")
}

/// The same, with nobody who takes up what is due: what a webhook did stays to be seen.
pub fn nobody_sweeps() -> Builder {
    listening().set("orders.sweep_interval", "1h")
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

impl Rig {
    fn endpoint(&self) -> WebhookEndpoint {
        WebhookEndpoint::new(&format!("{}{PATH}", self.webhooks_url()), SECRET).expect("an endpoint")
    }

    /// Sends a body with a `Stripe-Signature`; the status of the answer, whose body must tell nothing.
    pub async fn webhook(&self, body: &str, signature: &str) -> u16 {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let request = reqwest::Client::new()
            .post(format!("{}{PATH}", self.webhooks_url()))
            .header("content-type", "application/json");
        let request = if signature.is_empty() {
            request
        } else {
            request.header("stripe-signature", signature)
        };
        let answer = request.body(body.to_owned()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        assert_eq!(answer.text().await.expect("a body"), "", "no word to strangers");
        status
    }

    /// As the provider would send it, now.
    pub async fn genuine(&self, event: &Value) -> u16 {
        let body = event.to_string();
        self.webhook(&body, &signed(&body)).await
    }

    /// A connection on which these bytes were sent, as they are.
    pub async fn send(&self, request: &[u8]) -> TcpStream {
        let address = self.webhooks_url().replace("http://", "");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request).await.expect("it is sent");
        stream
    }

    /// Sends bytes as they are; the status of the answer.
    pub async fn raw(&self, request: &[u8]) -> u16 {
        let mut answer = String::new();
        let mut stream = self.send(request).await;
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.split(' ').nth(1).expect("a status").parse().expect("a number")
    }

    /// An order whose charge is in doubt, and whose next try is a day away; its id.
    pub async fn order_in_doubt(&self) -> String {
        let refused = self.orders().create_order(a_ride()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
        let sql = self.sql().await;
        until("the order is put off", async || {
            let put_off = "update order_sagas set next_run_at = now() + interval '1 day'
                            where lease_until is null and status = 'charging' and next_run_at < now() + interval '1 hour'
                           returning order_id::text";
            sql.query_opt(put_off, &[]).await.unwrap().map(|row| row.get(0))
        })
        .await
    }

    /// Every row that says where an order and its money stand, and what was taken.
    pub async fn books(&self) -> Vec<String> {
        let query = "select to_jsonb(o)::text from order_sagas o union all
                     select to_jsonb(s)::text from order_saga_steps s union all
                     select to_jsonb(t)::text from payment_attempts t union all
                     select to_jsonb(p)::text from payments p union all
                     select to_jsonb(e)::text from payment_events e order by 1";
        let rows = self.sql().await.query(query, &[]).await.expect("a query");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// How many orders are due now.
    async fn due(&self) -> i64 {
        self.count("select count(*) from order_sagas where finished_at is null and next_run_at <= now()")
            .await
    }
}

/// The charge happens, its reply is lost, and no further send is answered.
fn lost() -> [Fault; 2] {
    [
        Fault::times(FaultKind::ReplyLost, 1).on(FaultTarget::Charge),
        Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Charge),
    ]
}

/// No charge happens, and nobody can know.
pub fn never_charged() -> [Fault; 1] {
    [Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Charge)]
}

#[tokio::test]
async fn an_order_whose_charge_was_not_answered_is_settled_when_the_provider_tells_of_it() {
    let rig = listening().set("grpc.deadline_default", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_webhooks(Some(rig.endpoint()));
    // The event waits to be overtaken, until it is let go.
    rig.payments().set_webhook_behaviour(WebhookBehaviour {
        reordered: true,
        ..WebhookBehaviour::default()
    });
    rig.payments().set_faults(lost());
    let order_id = rig.order_in_doubt().await;
    assert_eq!(rig.charges().len(), 1);

    rig.payments().clear_faults();
    rig.payments().set_webhook_behaviour(WebhookBehaviour::default());
    let order = rig.until_settled(&order_id).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    let stored = "select count(*) from payment_events e join order_sagas o using (order_id)
                   where e.type = 'payment_intent.succeeded'";
    assert_eq!(rig.count(stored).await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_event_that_says_succeeded_is_not_believed() {
    let rig = listening().set("grpc.deadline_default", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_faults(never_charged());
    let order_id = rig.order_in_doubt().await;
    let unknowns = "select count(*) from order_saga_steps where step = 'charge' and status = 'unknown'";
    let before = rig.count(unknowns).await;

    assert_eq!(rig.genuine(&event_about(&order_id)).await, 200);
    until("the provider is asked", async || rig.count(unknowns).await > before).await;
    let status = "select count(*) from order_sagas where status = 'charging'";
    assert_eq!(
        (
            rig.count(status).await,
            rig.count("select count(*) from payments").await
        ),
        (1, 0)
    );

    // The provider's own answer is what counts, also against what it told.
    rig.payments().set_fault(Fault::always(FaultKind::Decline));
    until("it is asked again", async || {
        assert_eq!(rig.genuine(&event_about(&order_id)).await, 200);
        rig.count("select count(*) from order_sagas where finished_at is not null")
            .await
            == 1
    })
    .await;
    let order = rig.order(&order_id).await;
    assert_eq!(
        (order.status(), order.failure_reason()),
        (OrderStatus::Failed, FailureReason::PaymentDeclined)
    );
    assert!(rig.charges().is_empty());
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_duplicate_is_stored_once_and_wakes_nobody() {
    let rig = nobody_sweeps().set("grpc.deadline_default", "1s").start().await;
    rig.payments().set_faults(never_charged());
    let order_id = rig.order_in_doubt().await;
    let event = event_about(&order_id);
    assert_eq!(rig.due().await, 0);

    assert_eq!(rig.genuine(&event).await, 200);
    assert_eq!(rig.due().await, 1, "due now, a day before its time");
    let sql = rig.sql().await;
    sql.batch_execute("update order_sagas set next_run_at = now() + interval '1 day'")
        .await
        .unwrap();
    let before = rig.books().await;
    for _ in 0..3 {
        assert_eq!(rig.genuine(&event).await, 200);
    }
    assert_eq!(rig.books().await, before);
    let counted = rig.metrics().await["webhooks"]["events"].clone();
    assert_eq!(counted, json!({ "accepted": 1, "duplicate": 3 }));
}

#[tokio::test]
async fn events_about_no_order_of_ours_are_taken_and_do_nothing() {
    let rig = nobody_sweeps().set("grpc.deadline_default", "1s").start().await;
    rig.payments().set_faults(never_charged());
    rig.order_in_doubt().await;
    let stranger = Uuid::now_v7().to_string();
    assert_eq!(rig.genuine(&event_about(&stranger)).await, 200);
    for event in [
        event_about("not-a-uuid"),
        json!({ "id": "evt_a", "type": "payout.paid" }),
        json!({ "id": "evt_b", "type": "charge.updated", "data": { "object": { "metadata": [] } } }),
        json!({ "id": "evt_c", "type": "charge.updated", "data": { "object": { "metadata": { "order_id": 7 } } } }),
    ] {
        assert_eq!(rig.genuine(&event).await, 200, "{event}");
    }
    let stored = format!("select count(*) from payment_events where order_id = '{stranger}'");
    let unknown = "select count(*) from payment_events where order_id is null";
    assert_eq!((rig.count(&stored).await, rig.count(unknown).await), (1, 4));
    assert_eq!(rig.due().await, 0);
}

#[tokio::test]
async fn a_settled_order_is_not_taken_up_again() {
    let rig = nobody_sweeps().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    let rows = "select to_jsonb(o)::text from order_sagas o";
    let sql = rig.sql().await;
    // As a settled order never is: a wake would be seen.
    sql.batch_execute("update order_sagas set next_run_at = now() + interval '1 day'")
        .await
        .unwrap();
    let before: String = sql.query_one(rows, &[]).await.unwrap().get(0);
    assert_eq!(rig.genuine(&event_about(&order.order_id)).await, 200);
    let after: String = sql.query_one(rows, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
}

#[tokio::test]
async fn however_badly_events_are_delivered_each_order_is_paid_once_and_each_event_stored_once() {
    let rig = listening().set("orders.assignment_window", "0s").start().await;
    rig.payments().set_webhooks(Some(rig.endpoint()));
    let usual = WebhookBehaviour::default();
    for (round, behaviour) in [
        WebhookBehaviour { copies: 3, ..usual },
        WebhookBehaviour {
            reordered: true,
            ..usual
        },
        WebhookBehaviour {
            before_response: true,
            copies: 3,
            ..usual
        },
        WebhookBehaviour {
            delay_ms: 200,
            reordered: true,
            ..usual
        },
    ]
    .into_iter()
    .enumerate()
    {
        rig.payments().set_webhook_behaviour(behaviour);
        rig.payments()
            .set_fault(Fault::times(FaultKind::ReplyLost, 1).on(FaultTarget::Charge));
        // Nobody drives: each order is charged and refunded.
        let order = rig.place(a_ride()).await;
        assert_eq!(order.status(), OrderStatus::Refunded);
        let events = 2 * (i64::try_from(round).unwrap() + 1);
        until("both events of the order are stored", async || {
            let stored = rig.count("select count(*) from payment_events").await;
            if stored == events { Ok(()) } else { Err(stored) }
        })
        .await;
    }
    assert_eq!((rig.charges().len(), rig.refunds().len()), (4, 4));
    until("every delivery was answered", async || {
        let deliveries = rig.payments().deliveries();
        let refused = deliveries.iter().find(|one| one.status != Some(200)).cloned();
        if deliveries.len() == 16 && refused.is_none() {
            Ok(())
        } else {
            Err((deliveries.len(), refused))
        }
    })
    .await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn forged_events_of_the_provider_are_refused_and_orders_settle_without_them() {
    let rig = listening().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_webhooks(Some(rig.endpoint()));
    rig.payments().set_webhook_behaviour(WebhookBehaviour {
        forged: true,
        ..WebhookBehaviour::default()
    });
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    until("the forgery is refused", async || {
        let deliveries = rig.payments().deliveries();
        deliveries.first().map(|first| assert_eq!(first.status, Some(401)))
    })
    .await;
    assert_eq!(rig.count("select count(*) from payment_events").await, 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn events_are_forgotten_after_a_month_however_many_there_are() {
    let rig = listening().set("orders.key_expiry_interval", "100ms").start().await;
    let sql = rig.sql().await;
    sql.batch_execute(
        "insert into payment_events (event_id, type, received_at)
         select 'evt_' || n, 'x', now() - interval '31 days' from generate_series(1, 2500) n;
         insert into payment_events (event_id, type, received_at) values ('evt_young', 'x', now() - interval '29 days')",
    )
    .await
    .unwrap();
    until("only the young one is left", async || {
        let left = rig.count("select count(*) from payment_events").await;
        if left == 1 { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(
        rig.count("select count(*) from payment_events where event_id = 'evt_young'")
            .await,
        1
    );
}

#[tokio::test]
async fn without_postgres_the_provider_is_asked_to_send_again() {
    let rig = listening().postgres_through_proxy().start().await;
    let event = event_about(&Uuid::now_v7().to_string());
    rig.postgres_line().set_mode(Mode::Refuse);
    until("the event is not taken", async || {
        // Until the last open connection is found to be cut, an event may still get through: of other orders.
        let other = event_about(&Uuid::now_v7().to_string());
        let status = rig.genuine(&other).await;
        if status == 503 { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(rig.genuine(&event).await, 503);

    rig.postgres_line().set_mode(Mode::Pass);
    until("it is taken when it comes again", async || {
        let status = rig.genuine(&event).await;
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
    let stored = format!(
        "select count(*) from payment_events where event_id = '{}'",
        event["id"].as_str().unwrap()
    );
    assert_eq!(rig.count(&stored).await, 1);
    assert!(
        rig.metrics().await["webhooks"]["events"]["unavailable"]
            .as_u64()
            .unwrap()
            >= 2
    );
}
