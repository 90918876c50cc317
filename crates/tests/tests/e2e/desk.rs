//! The operator's desk over gRPC: what is stuck, what is known of it, and what a person may do about it.

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{
    ListStuckOrdersRequest, OrderFile, Outcome, ResolveOrderRequest, RetryOrderRequest, ShowOrderRequest,
};
use waybill_proto::order::v1::{Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use crate::rig::{Builder, PICKUP, Rig, a_ride, channel, refusal_fields, refusal_reason, until};

/// With the desk open, and a caller's patience so short that an order in doubt is left alone soon.
pub fn with_desk() -> Builder {
    Rig::builder()
        .set("grpc.services", "order,location,fleet,operator")
        .set("grpc.deadline_default", "1s")
        .set("payments.attempt_timeout", "500ms")
        .set("payments.total_timeout", "600ms")
        .set("orders.sweep_interval", "100ms")
}

/// An order whose charge meets `fault`, put off until tomorrow. The provider is well again when this returns.
pub async fn in_doubt_about_its_charge(rig: &Rig, fault: FaultKind) -> String {
    rig.payments().set_fault(Fault::always(fault).on(FaultTarget::Charge));
    begin(rig, "charging").await
}

/// A charged order whose refund is not made, put off until tomorrow. For a rig without a window to assign drivers in.
pub async fn in_doubt_about_its_refund(rig: &Rig) -> String {
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Refund));
    begin(rig, "refunding").await
}

async fn begin(rig: &Rig, status: &str) -> String {
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let order_id = refused.get_details_error_info().unwrap().metadata["order_id"].clone();
    let sql = rig.sql().await;
    // Its worker would set the time anew, so it is waited for.
    let put_off = "update order_sagas set next_run_at = now() + interval '1 day'
                    where order_id::text = $1 and status = $2 and lease_until is null";
    until("the order is given back", async || {
        sql.execute(put_off, &[&order_id, &status]).await.unwrap() == 1
    })
    .await;
    // As if nobody had asked the provider for an hour.
    let quiet = "update payment_attempts set last_sent_at = last_sent_at - interval '1 hour' where order_id::text = $1";
    sql.execute(quiet, &[&order_id]).await.unwrap();
    rig.payments().clear_faults();
    order_id
}

pub fn desk(rig: &Rig) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel(&rig.grpc_addr()))
}

pub fn claim(order_id: &str, outcome: Outcome, provider_id: &str) -> ResolveOrderRequest {
    ResolveOrderRequest {
        order_id: order_id.to_owned(),
        outcome: outcome.into(),
        provider_id: provider_id.to_owned(),
        unverified: false,
        operator: "mara".to_owned(),
        reason: "looked it up in the dashboard".to_owned(),
    }
}

pub async fn resolve(rig: &Rig, request: ResolveOrderRequest) -> Result<Order, Status> {
    let answer = desk(rig).resolve_order(request).await;
    answer.map(|answer| answer.into_inner().order.expect("an order"))
}

pub async fn show(rig: &Rig, order_id: &str) -> OrderFile {
    let request = ShowOrderRequest {
        order_id: order_id.to_owned(),
    };
    let answer = desk(rig).show_order(request).await.expect("the order is there");
    answer.into_inner().order.expect("an order")
}

pub fn retry_request(order_id: &str) -> RetryOrderRequest {
    RetryOrderRequest {
        order_id: order_id.to_owned(),
        operator: "mara".to_owned(),
        reason: "the provider is back".to_owned(),
    }
}

/// A charge at the provider of which Waybill's books know nothing; its id. `order_id`: in its metadata.
pub async fn charge_by_hand(rig: &Rig, amount: i64, currency: &str, order_id: Option<&str>) -> String {
    let mut form = vec![
        ("amount", amount.to_string()),
        ("currency", currency.to_owned()),
        ("payment_method", "pm_card_visa".to_owned()),
        ("confirm", "true".to_owned()),
    ];
    form.extend(order_id.map(|id| ("metadata[order_id]", id.to_owned())));
    rig.at_provider("payment_intents", &form).await
}

/// A refund of this payment, made in the provider's dashboard; its id.
pub async fn refund_by_hand(rig: &Rig, payment: &str, amount: i64) -> String {
    let form = [("payment_intent", payment.to_owned()), ("amount", amount.to_string())];
    rig.at_provider("refunds", &form).await
}

/// As if every charge was first sent so long ago that it is not sent again.
pub async fn age_charges(rig: &Rig) {
    let age = "update payment_attempts set first_sent_at = now() - interval '13 hours', last_sent_at = now() - interval '1 hour'";
    rig.sql().await.batch_execute(age).await.unwrap();
}

/// All that a refused call must leave as it was.
pub async fn books(rig: &Rig) -> String {
    let query = "select string_agg(row, ' ') from (
                     select s::text as row from order_sagas s
                     union all select t::text from order_saga_steps t
                     union all select a::text from payment_attempts a
                     union all select p::text from payments p order by 1) rows";
    rig.sql().await.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_server_that_is_not_told_to_has_no_desk() {
    let rig = Rig::start().await;
    let refused = desk(&rig).list_stuck_orders(ListStuckOrdersRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn orders_that_are_old_or_flagged_are_listed_the_oldest_first() {
    let rig = with_desk().start().await;
    let old = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let flagged = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let _young = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let sql = rig.sql().await;
    let age = "update order_sagas set created_at = now() - interval '2 minutes' where order_id::text = $1";
    sql.execute(age, &[&old]).await.unwrap();
    let flag = "update order_sagas set needs_attention = 'look at this' where order_id::text = $1";
    sql.execute(flag, &[&flagged]).await.unwrap();

    let list = async |page_size| {
        let answer = desk(&rig).list_stuck_orders(ListStuckOrdersRequest { page_size }).await;
        answer.unwrap().into_inner()
    };
    let stuck = list(0).await;
    let ids: Vec<&str> = stuck.orders.iter().map(|order| order.order_id.as_str()).collect();
    assert_eq!(
        (ids.as_slice(), stuck.more_count),
        (&[old.as_str(), flagged.as_str()][..], 0)
    );
    let first = &stuck.orders[0];
    assert_eq!(first.status(), OrderStatus::Charging);
    assert!(first.sends >= 2 && first.attempts >= 1, "{first:?}");
    assert!(
        first.lease_until.is_none() && first.needs_attention.is_empty(),
        "{first:?}"
    );
    assert!(
        stuck.now.unwrap().seconds - first.since.unwrap().seconds >= 119,
        "{stuck:?}"
    );
    assert_eq!(stuck.orders[1].needs_attention, "look at this");

    let stuck = list(1).await;
    assert_eq!((stuck.orders.len(), stuck.more_count), (1, 1));
}

#[tokio::test]
async fn an_order_is_shown_with_the_fence_and_the_instance_of_each_step() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    desk(&rig).retry_order(retry_request(&order)).await.unwrap();
    rig.until_settled(&order).await;

    let shown = show(&rig, &order).await;
    assert_eq!(shown.status, "succeeded");
    let steps: Vec<_> = shown
        .steps
        .iter()
        .map(|line| (line.step.as_str(), line.status.as_str()))
        .collect();
    assert_eq!(steps.first(), Some(&("create", "succeeded")));
    assert_eq!(steps.last(), Some(&("assign", "succeeded")));
    let asked = steps
        .iter()
        .position(|step| *step == ("retry", "requested"))
        .expect("the retry");
    assert_eq!(
        (shown.steps[asked].actor.as_str(), shown.steps[asked].detail.as_str()),
        ("operator mara", "the provider is back")
    );
    let last = shown.steps.last().unwrap();
    assert_eq!(last.fence, shown.fence);
    assert!(shown.steps[0].fence == 1 && last.fence > 1, "{shown:?}");
    // The process and a random part: there is one server here, and it wrote all but the operator's line.
    assert!(last.actor.starts_with(&format!("{}-", std::process::id())), "{last:?}");
    assert_eq!(shown.steps[0].actor, last.actor);

    let [attempt] = shown.attempts_at_provider.as_slice() else {
        panic!("{shown:?}")
    };
    assert_eq!(
        (attempt.operation.as_str(), attempt.state.as_str()),
        ("charge", "succeeded")
    );
    assert_eq!(attempt.provider_id, rig.charges()[0].provider_id);
    let payment = shown.payment.as_ref().unwrap();
    assert_eq!(payment.amount.as_ref().unwrap().minor_units, 1_999);
    assert_eq!(shown.assignments[0].driver_id, "cab-1");
}

#[tokio::test]
async fn drivers_that_the_order_lost_and_events_of_the_provider_are_shown_too() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await.order_id;
    let before = format!(
        "insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
         select order_id, driver_id, assigned_at - interval '1 minute', -2, -1, 'silent' from order_assignments;
         insert into payment_events (event_id, type, order_id) values ('evt_1', 'payment_intent.succeeded', '{order}')"
    );
    rig.sql().await.batch_execute(&before).await.unwrap();
    let shown = show(&rig, &order).await;
    let reasons: Vec<_> = shown
        .assignments
        .iter()
        .map(|one| one.release_reason.as_str())
        .collect();
    assert_eq!(reasons, ["silent", ""]);
    assert_eq!(shown.events[0].event_id, "evt_1");
}

#[tokio::test]
async fn an_order_that_was_put_off_until_tomorrow_settles_when_it_is_retried() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let answer = desk(&rig)
        .retry_order(retry_request(&order))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.lease_until, None, "nobody had it");
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_retry_takes_no_order_from_the_worker_that_has_it() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let lease = "update order_sagas set lease_owner = 'a live worker', lease_until = now() + interval '1 hour'";
    rig.sql().await.batch_execute(lease).await.unwrap();
    let before = show(&rig, &order).await;
    let answer = desk(&rig)
        .retry_order(retry_request(&order))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.lease_until, before.lease_until);
    let after = show(&rig, &order).await;
    assert_eq!(
        (
            after.fence,
            after.attempts,
            after.lease_owner.as_str(),
            after.lease_until
        ),
        (before.fence, before.attempts, "a live worker", before.lease_until)
    );
    let due = |file: &OrderFile| file.next_run_at.unwrap().seconds;
    assert!(due(&after) < due(&before), "due, once the worker gives it back");
}

#[tokio::test]
async fn what_is_asked_of_the_desk_in_vain_has_its_named_status_and_changes_nothing() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let settled = rig.place(a_ride()).await.order_id;
    let before = books(&rig).await;

    let at_rest = desk(&rig).retry_order(retry_request(&settled)).await.unwrap_err();
    assert_eq!(
        (at_rest.code(), refusal_reason(&at_rest).as_str()),
        (Code::FailedPrecondition, "ORDER_AT_REST")
    );
    for outcome in [Outcome::Charged, Outcome::Refunded] {
        let refused = resolve(&rig, claim(&settled, outcome, "pi_1")).await.unwrap_err();
        assert_eq!(
            (refused.code(), refusal_reason(&refused).as_str()),
            (Code::FailedPrecondition, "ORDER_NOT_RESOLVABLE")
        );
        assert!(refused.message().contains("succeeded"), "where it stands: {refused:?}");
    }

    let unknown = Uuid::now_v7().to_string();
    let not_found = [
        desk(&rig).retry_order(retry_request(&unknown)).await.map(drop),
        desk(&rig)
            .show_order(ShowOrderRequest {
                order_id: unknown.clone(),
            })
            .await
            .map(drop),
        resolve(&rig, claim(&unknown, Outcome::NotCharged, "")).await.map(drop),
    ];
    for refused in not_found {
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }

    let valid = claim(&settled, Outcome::Charged, "pi_1");
    let long = "a".repeat(501);
    for (request, fields) in [
        (
            ResolveOrderRequest {
                order_id: "seven".to_owned(),
                ..valid.clone()
            },
            vec!["order_id"],
        ),
        (
            ResolveOrderRequest {
                reason: String::new(),
                ..valid.clone()
            },
            vec!["reason"],
        ),
        (
            ResolveOrderRequest {
                reason: "  ".to_owned(),
                ..valid.clone()
            },
            vec!["reason"],
        ),
        (
            ResolveOrderRequest {
                reason: long,
                ..valid.clone()
            },
            vec!["reason"],
        ),
        (
            ResolveOrderRequest {
                reason: "two\nlines".to_owned(),
                ..valid.clone()
            },
            vec!["reason"],
        ),
        (
            ResolveOrderRequest {
                operator: String::new(),
                reason: String::new(),
                ..valid.clone()
            },
            vec!["operator", "reason"],
        ),
        (
            ResolveOrderRequest {
                outcome: 0,
                ..valid.clone()
            },
            vec!["outcome"],
        ),
        (
            ResolveOrderRequest {
                outcome: 9,
                ..valid.clone()
            },
            vec!["outcome"],
        ),
        (
            ResolveOrderRequest {
                provider_id: String::new(),
                ..valid.clone()
            },
            vec!["provider_id"],
        ),
        (
            ResolveOrderRequest {
                unverified: true,
                ..valid.clone()
            },
            vec!["unverified"],
        ),
        (claim(&settled, Outcome::NotCharged, "pi_1"), vec!["provider_id"]),
    ] {
        let refused = resolve(&rig, request.clone()).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), fields, "{request:?}");
    }
    assert_eq!(books(&rig).await, before);
}
