//! What the payment provider reports to us: it makes an order due now, and changes nothing else, however often and in
//! whatever order it comes.

use serde_json::json;
use testkit::sql::one;
use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until, until_eq};
use tonic::Code;
use uuid::Uuid;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget, WebhookBehaviour};
use waybill_sandbox::proxy::Mode;

use super::events::{
    endpoint, event_about, listening, never_charged, order_in_doubt, send_genuine, stored_rows, without_sweeper,
};

const EVENTS: &str = "select count(*) from payment_events";

/// How many orders are due now.
async fn due(rig: &Rig) -> i64 {
    rig.count("select count(*) from order_sagas where finished_at is null and next_run_at <= now()")
        .await
}

/// The charge happens, its reply is lost, and no further send is answered.
fn charged_unseen() -> [Fault; 2] {
    let [unanswered] = never_charged();
    [
        Fault::times(FaultKind::ReplyLost, 1).on(FaultTarget::Charge),
        unanswered,
    ]
}

#[tokio::test]
async fn an_order_whose_charge_was_not_answered_is_settled_when_the_provider_reports_it() {
    let rig = listening().set("grpc.deadline_default", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_webhooks(Some(endpoint(&rig)));
    // The event waits to be overtaken, until it is let go.
    rig.payments().set_webhook_behaviour(WebhookBehaviour {
        reordered: true,
        ..WebhookBehaviour::default()
    });
    rig.payments().set_faults(charged_unseen());
    let order_id = order_in_doubt(&rig).await;
    assert_eq!(rig.charges().len(), 1);

    rig.payments().clear_faults();
    rig.payments().set_webhook_behaviour(WebhookBehaviour::default());
    let order = rig.until_settled(&order_id).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_event_that_says_succeeded_is_not_believed() {
    let rig = listening().set("grpc.deadline_default", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_faults(never_charged());
    let order_id = order_in_doubt(&rig).await;
    let unknowns = "select count(*) from order_saga_steps where step = 'charge' and status = 'unknown'";
    let before = rig.count(unknowns).await;

    assert_eq!(send_genuine(&rig, &event_about(&order_id)).await, 200);
    until("the provider is asked", async || rig.count(unknowns).await > before).await;
    assert_eq!(rig.orders_in("charging").await, 1);
    assert_eq!(rig.count("select count(*) from payments").await, 0);

    // The provider's own answer is what counts, also against what it reported.
    rig.payments().set_fault(Fault::always(FaultKind::Decline));
    until("it is asked again", async || {
        assert_eq!(send_genuine(&rig, &event_about(&order_id)).await, 200);
        rig.orders_in("failed").await == 1
    })
    .await;
    let order = rig.order(&order_id).await;
    let found = (order.status(), order.failure_reason());
    assert_eq!(found, (OrderStatus::Failed, FailureReason::PaymentDeclined));
    assert!(rig.charges().is_empty());
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_duplicate_is_stored_once_and_wakes_no_order() {
    let rig = without_sweeper().start().await;
    rig.payments().set_faults(never_charged());
    let order_id = order_in_doubt(&rig).await;
    let event = event_about(&order_id);
    assert_eq!(due(&rig).await, 0);

    assert_eq!(send_genuine(&rig, &event).await, 200);
    assert_eq!(due(&rig).await, 1, "due now, a day before its time");
    rig.execute("update order_sagas set next_run_at = now() + interval '1 day'")
        .await;
    let before = stored_rows(&rig).await;
    for _ in 0..3 {
        assert_eq!(send_genuine(&rig, &event).await, 200);
    }
    assert_eq!(stored_rows(&rig).await, before);
    let counted = rig.metrics().await["webhooks"]["events"].clone();
    assert_eq!(counted, json!({ "accepted": 1, "duplicate": 3 }));
}

#[tokio::test]
async fn events_about_no_order_of_ours_are_accepted_and_do_nothing() {
    let rig = without_sweeper().start().await;
    rig.payments().set_faults(never_charged());
    order_in_doubt(&rig).await;
    let stranger = Uuid::now_v7().to_string();
    assert_eq!(send_genuine(&rig, &event_about(&stranger)).await, 200);
    for event in [
        event_about("not-a-uuid"),
        json!({ "id": "evt_a", "type": "payout.paid" }),
        json!({ "id": "evt_b", "type": "charge.updated", "data": { "object": { "metadata": [] } } }),
        json!({ "id": "evt_c", "type": "charge.updated", "data": { "object": { "metadata": { "order_id": 7 } } } }),
    ] {
        assert_eq!(send_genuine(&rig, &event).await, 200, "{event}");
    }
    let stored = format!("select count(*) from payment_events where order_id = '{stranger}'");
    let unknown = "select count(*) from payment_events where order_id is null";
    assert_eq!((rig.count(&stored).await, rig.count(unknown).await), (1, 4));
    assert_eq!(due(&rig).await, 0);
}

#[tokio::test]
async fn a_settled_order_is_not_resumed() {
    let rig = listening().set("orders.sweep_interval", "1h").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    let rows = "select to_jsonb(o)::text from order_sagas o";
    let sql = rig.sql().await;
    // As a settled order never is: a wake would be seen.
    sql.batch_execute("update order_sagas set next_run_at = now() + interval '1 day'")
        .await
        .unwrap();
    let before: String = one(&sql, rows, &[]).await.unwrap();
    assert_eq!(send_genuine(&rig, &event_about(&order.order_id)).await, 200);
    let after: String = one(&sql, rows, &[]).await.unwrap();
    assert_eq!(after, before);
}

/// What most webhooks say: that a charge was made, which its own answer said before.
#[tokio::test]
async fn an_event_about_a_payment_that_is_known_writes_nothing() {
    let rig = listening().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    let mut event = event_about(&order.order_id);
    event["data"]["object"]["id"] = json!(rig.charges()[0].provider_id);
    let before = stored_rows(&rig).await;
    for _ in 0..2 {
        assert_eq!(send_genuine(&rig, &event).await, 200);
    }
    assert_eq!(stored_rows(&rig).await, before);
    let counted = rig.metrics().await["webhooks"]["events"].clone();
    assert_eq!(counted, json!({ "nothing_new": 2 }));

    // Of another payment than the order's, it is kept for whoever looks into it.
    event["data"]["object"]["id"] = json!("pi_other");
    assert_eq!(send_genuine(&rig, &event).await, 200);
    assert_eq!(rig.count(EVENTS).await, 1);
}

/// Its saga waits for the provider: the event waits for the saga, and is stored when that has learned of no charge.
#[tokio::test]
async fn an_event_that_comes_while_its_order_is_charged_makes_it_due_once_the_saga_gives_up() {
    let rig = without_sweeper().start().await;
    rig.payments().set_fault(Fault::always(FaultKind::Hang));
    let sql = rig.sql().await;
    let mut orders = rig.orders();
    let reported = async {
        until("the provider is asked", async || rig.payments().requests() > 0).await;
        let order_id: String = one(&sql, "select order_id::text from order_sagas", &[]).await.unwrap();
        assert_eq!(send_genuine(&rig, &event_about(&order_id)).await, 200);
        assert_eq!(rig.count(EVENTS).await, 0, "its saga has it");
    };
    let (refused, ()) = tokio::join!(orders.create_order(a_ride()), reported);
    assert_eq!(refused.unwrap_err().code(), Code::Aborted);
    until_eq("the event is stored", 1, async || rig.count(EVENTS).await).await;
    let due = "select count(*) from order_sagas s join payment_events e using (order_id)
                where s.lease_owner is null and s.next_run_at <= e.received_at";
    until_eq("the order is due since then", 1, async || rig.count(due).await).await;
}

#[tokio::test]
async fn an_event_about_an_order_that_is_at_work_is_stored_if_it_is_of_another_charge() {
    let rig = listening().start().await;
    let mut orders = rig.orders();
    let reported = async {
        until_eq("it looks for a driver", 1, async || rig.orders_in("charged").await).await;
        let charge = rig.charges().remove(0);
        let mut event = event_about(charge.order_id.as_deref().unwrap());
        event["data"]["object"]["id"] = json!(charge.provider_id);
        assert_eq!(send_genuine(&rig, &event).await, 200);
        assert_eq!(rig.count(EVENTS).await, 0, "that is known");
        event["data"]["object"]["id"] = json!("pi_other");
        assert_eq!(send_genuine(&rig, &event).await, 200);
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    };
    let (placed, ()) = tokio::join!(orders.create_order(a_ride()), reported);
    assert_eq!(
        placed.unwrap().into_inner().order.unwrap().status(),
        OrderStatus::Succeeded
    );
    // At once, or, if its saga did not know its charge yet, when that is over.
    until_eq("the other one is stored", 1, async || rig.count(EVENTS).await).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn however_badly_events_are_delivered_each_order_is_paid_once_and_each_refund_stored_once() {
    let rig = listening().set("orders.assignment_window", "0s").start().await;
    rig.payments().set_webhooks(Some(endpoint(&rig)));
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
        // There is no driver: each order is charged and refunded.
        let order = rig.place(a_ride()).await;
        assert_eq!(order.status(), OrderStatus::Refunded);
        // Those of charges may say nothing new.
        let refunds = i64::try_from(round).unwrap() + 1;
        until_eq("the refund's event is stored", refunds, async || {
            rig.count(&format!("{EVENTS} where type like '%refund%'")).await
        })
        .await;
    }
    assert_eq!(rig.movements_count(), (4, 4));
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
    rig.payments().set_webhooks(Some(endpoint(&rig)));
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
    assert_eq!(rig.count(EVENTS).await, 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn without_postgres_the_provider_is_asked_to_send_again() {
    let rig = listening().postgres_through_proxy().start().await;
    let event = event_about(&Uuid::now_v7().to_string());
    rig.postgres_line().set_mode(Mode::Refuse);
    until_eq("the event is not accepted", 503, async || {
        // Until the last open connection is found to be cut, an event may still get through: of other orders.
        send_genuine(&rig, &event_about(&Uuid::now_v7().to_string())).await
    })
    .await;
    assert_eq!(send_genuine(&rig, &event).await, 503);

    rig.postgres_line().set_mode(Mode::Pass);
    until_eq("it is accepted when it comes again", 200, async || {
        send_genuine(&rig, &event).await
    })
    .await;
    let stored = format!("{EVENTS} where event_id = '{}'", event["id"].as_str().unwrap());
    assert_eq!(rig.count(&stored).await, 1);
    let counted = rig.metrics().await["webhooks"]["events"].clone();
    assert!(counted["unavailable"].as_u64().unwrap() >= 2, "{counted}");
}
