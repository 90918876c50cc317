//! The operator's service over gRPC: what is stuck, what is known of it, and how it is retried.

use futures_util::future::join_all;
use testkit::wire::{PICKUP, a_declined_ride, a_ride, assert_refused, refusal_fields};
use testkit::{Rig, until};
use tonic::Code;
use uuid::Uuid;
use waybill_proto::admin::v1::{ListStuckOrdersRequest, OrderFile, Outcome, ResolveOrderRequest};
use waybill_proto::order::v1::{CreateOrderRequest, OrderStatus, PaymentMode};
use waybill_sandbox::payments::{Fault, FaultKind};

use crate::webhooks::events;

use super::in_doubt::{assertion, charge_in_doubt, ledger_rows, operator, resolve, retry, show, with_operator};

#[tokio::test]
async fn a_server_serves_operators_only_where_it_is_set_to() {
    let rig = Rig::start().await;
    let list = ListStuckOrdersRequest::default();
    let refused = operator(&rig).list_stuck_orders(list).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn orders_that_are_old_or_flagged_are_listed_the_oldest_first() {
    let rig = with_operator().start().await;
    let old = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let flagged = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let _young = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let sql = rig.sql().await;
    let age = "update order_sagas set created_at = now() - interval '2 minutes' where order_id::text = $1";
    sql.execute(age, &[&old]).await.unwrap();
    let flag = "update order_sagas set needs_attention = 'look at this' where order_id::text = $1";
    sql.execute(flag, &[&flagged]).await.unwrap();

    let list = async |page_size| {
        let request = ListStuckOrdersRequest { page_size };
        operator(&rig).list_stuck_orders(request).await.unwrap().into_inner()
    };
    let stuck = list(0).await;
    let ids: Vec<&str> = stuck.orders.iter().map(|order| order.order_id.as_str()).collect();
    assert_eq!((ids, stuck.more_count), (vec![old.as_str(), flagged.as_str()], 0));
    let first = &stuck.orders[0];
    assert_eq!(first.status(), OrderStatus::Charging);
    assert!(first.sends >= 1 && first.attempts >= 1, "{first:?}");
    assert_eq!((first.lease_until, first.needs_attention.as_str()), (None, ""));
    let age_secs = stuck.now.unwrap().seconds - first.since.unwrap().seconds;
    assert!(age_secs >= 119, "{stuck:?}");
    assert_eq!(stuck.orders[1].needs_attention, "look at this");

    let stuck = list(1).await;
    assert_eq!((stuck.orders.len(), stuck.more_count), (1, 1));
}

#[tokio::test]
async fn a_deferred_order_settles_when_it_is_retried_and_each_step_is_shown_with_its_fence_and_instance() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    // Deferred until tomorrow, it settles now.
    assert_eq!(retry(&rig, &order).await.unwrap(), None, "no worker holds it");
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;

    let shown = show(&rig, &order).await.unwrap();
    assert_eq!(shown.status, "succeeded");
    let steps = shown.steps.iter();
    let steps: Vec<_> = steps.map(|line| (line.step.as_str(), line.status.as_str())).collect();
    assert_eq!(steps.first(), Some(&("create", "succeeded")));
    assert_eq!(steps.last(), Some(&("assign", "succeeded")));
    let retried = steps.iter().position(|step| *step == ("retry", "requested"));
    let retried = &shown.steps[retried.expect("the retry")];
    assert_eq!(
        (&*retried.actor, &*retried.detail),
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
    let found = (attempt.operation.as_str(), attempt.state.as_str());
    assert_eq!(found, ("charge", "succeeded"));
    assert_eq!(attempt.provider_id, rig.charges()[0].provider_id);
    let payment = shown.payment.as_ref().unwrap();
    assert_eq!(payment.amount.as_ref().unwrap().minor_units, 1_999);
    assert_eq!(shown.assignments[0].driver_id, "cab-1");
}

#[tokio::test]
async fn earlier_drivers_of_the_order_and_events_of_the_provider_are_shown_too() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await.order_id;
    rig.execute(&format!(
        "insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
         select order_id, driver_id, assigned_at - interval '1 minute', -2, -1, 'silent' from order_assignments;
         insert into payment_events (event_id, type, order_id) values ('evt_1', 'payment_intent.succeeded', '{order}')"
    ))
    .await;
    let shown = show(&rig, &order).await.unwrap();
    let reasons: Vec<_> = shown.assignments.iter().map(|one| &*one.release_reason).collect();
    assert_eq!(reasons, ["silent", ""]);
    assert_eq!(shown.events[0].event_id, "evt_1");
}

#[tokio::test]
async fn a_retry_takes_no_order_from_the_worker_that_holds_it() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    rig.execute("update order_sagas set lease_owner = 'a live worker', lease_until = now() + interval '1 hour'")
        .await;
    let before = show(&rig, &order).await.unwrap();
    assert_eq!(retry(&rig, &order).await.unwrap(), before.lease_until);
    let after = show(&rig, &order).await.unwrap();
    let held = |file: &OrderFile| {
        let owner = file.lease_owner.clone();
        (file.fence, file.attempts, owner, file.lease_until)
    };
    assert_eq!(held(&after), held(&before));
    assert_eq!(after.lease_owner, "a live worker");
    let due = |file: &OrderFile| file.next_run_at.unwrap().seconds;
    assert!(due(&after) < due(&before), "due, once the worker returns it");
}

/// A worker holds the order and will defer it by half a minute: what asks for an earlier try meanwhile counts.
#[tokio::test]
async fn a_request_for_an_earlier_try_survives_the_worker_that_holds_the_order() {
    join_all(["retry", "webhook", "cancel"].map(async |request| {
        let rig = with_operator()
            .set("payments.webhook_secrets", events::SECRET)
            .start()
            .await;
        let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
        rig.payments().set_fault(Fault::always(FaultKind::Hang));
        rig.execute(&format!(
            "update payment_attempts set sends = 12 where order_id = '{order}';
             update order_sagas set next_run_at = now() where order_id = '{order}'"
        ))
        .await;
        let held = format!("select fence from order_sagas where order_id = '{order}' and lease_until > now()");
        let sql = rig.sql().await;
        let fence: i64 = until("a worker holds it", async || {
            sql.query_opt(&held, &[])
                .await
                .unwrap()
                .map(|row| row.get(0))
                .ok_or("deferred")
        })
        .await;
        match request {
            "retry" => assert!(retry(&rig, &order).await.unwrap().is_some(), "a worker holds it"),
            "webhook" => assert_eq!(events::send_genuine(&rig, &events::event_about(&order)).await, 200),
            _ => drop(rig.cancel(&order).await.unwrap()),
        }
        // An event may wait until the worker returns the order, and is stored, and counts, right after that.
        let events = format!("select count(*) from payment_events where order_id = '{order}'");
        let expected = i64::from(request == "webhook");
        let next = format!(
            "select fence, lease_until is null and next_run_at > now() + interval '5 s' and ({events}) = {expected}
               from order_sagas where order_id = '{order}'"
        );
        let (claimed, deferred): (bool, bool) = until("it is claimed again, or deferred", async || {
            let row = sql.query_one(&next, &[]).await.unwrap();
            let (now, deferred): (i64, bool) = (row.get(0), row.get(1));
            if now > fence || deferred {
                Ok((now > fence, deferred))
            } else {
                Err(now)
            }
        })
        .await;
        assert!(claimed && !deferred, "{request}");
        assert_eq!(rig.count(&events).await, expected, "{request}");
        rig.payments().clear_faults();
        retry(&rig, &order).await.unwrap();
        rig.until_settled(&order).await;
        rig.assert_clean().await;
    }))
    .await;
}

/// What is wrong with a request to resolve, and the fields that the refusal must name.
type Wrong = (fn(&mut ResolveOrderRequest), &'static [&'static str]);

const WRONG: [Wrong; 11] = [
    (|request| request.order_id = "seven".into(), &["order_id"]),
    (|request| request.reason.clear(), &["reason"]),
    (|request| request.reason = "  ".into(), &["reason"]),
    (|request| request.reason = "a".repeat(501), &["reason"]),
    (|request| request.reason = "two\nlines".into(), &["reason"]),
    (
        |request| (request.operator, request.reason) = (String::new(), String::new()),
        &["operator", "reason"],
    ),
    (|request| request.outcome = 0, &["outcome"]),
    (|request| request.outcome = 9, &["outcome"]),
    (|request| request.provider_id.clear(), &["provider_id"]),
    (|request| request.unverified = true, &["unverified"]),
    (|request| request.set_outcome(Outcome::NotCharged), &["provider_id"]),
];

/// Where no webhook came, an operator asks: a refund by hand is taken over, and the flag of what was dealt with goes.
#[tokio::test]
async fn the_retry_of_a_settled_order_compares_its_payment_with_the_provider() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await.order_id;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    retry(&rig, &order).await.unwrap();
    until("the ledger has it", async || {
        let payment = rig.order(&order).await.payment.unwrap();
        payment.refund_amount.is_some_and(|amount| amount.minor_units == 500)
    })
    .await;
    rig.until_settled(&order).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn the_flag_of_a_hold_that_was_gone_goes_when_an_operator_has_dealt_with_it() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    let order = rig.place(held).await.order_id;
    let list = rig.at_provider_get("payment_intents").await;
    rig.payments()
        .expire_hold(list["data"][0]["id"].as_str().unwrap())
        .await
        .unwrap();
    rig.complete(&order).await.unwrap();
    rig.until_settled(&order).await;
    assert!(
        show(&rig, &order)
            .await
            .unwrap()
            .needs_attention
            .contains("hold was gone")
    );
    // What happens in between does not clear it.
    rig.execute(
        "update order_sagas set needs_attention = 'tried 10 times', reconcile_requested_at = now(), next_run_at = now(),
                                finished_at = null",
    )
    .await;
    rig.until_settled(&order).await;
    let flag = show(&rig, &order).await.unwrap().needs_attention;
    assert!(flag.contains("hold was gone"), "{flag:?}");
    retry(&rig, &order).await.unwrap();
    rig.until_settled(&order).await;
    let shown = show(&rig, &order).await.unwrap();
    assert_eq!(
        (shown.needs_attention.as_str(), shown.status.as_str()),
        ("", "succeeded")
    );
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_an_operator_asks_in_vain_has_its_named_status_and_changes_nothing() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let settled = rig.place(a_ride()).await.order_id;
    let declined = rig.place(a_declined_ride()).await.order_id;
    let before = ledger_rows(&rig).await;

    let refused = retry(&rig, &declined).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_AT_REST");
    let refused = resolve(&rig, assertion(&settled, Outcome::Charged, "pi_1"))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_RESOLVABLE");
    assert!(refused.message().contains("succeeded"), "where it stands: {refused:?}");
    let refused = resolve(&rig, assertion(&settled, Outcome::Refunded, "re_1"))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NO_FAILED_REFUND");

    let unknown = Uuid::now_v7().to_string();
    let not_found = [
        retry(&rig, &unknown).await.map(drop),
        show(&rig, &unknown).await.map(drop),
        resolve(&rig, assertion(&unknown, Outcome::NotCharged, ""))
            .await
            .map(drop),
    ];
    for refused in not_found {
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }

    for (make_wrong, fields) in WRONG {
        let mut request = assertion(&settled, Outcome::Charged, "pi_1");
        make_wrong(&mut request);
        let refused = resolve(&rig, request.clone()).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), fields, "{request:?}");
    }
    assert_eq!(ledger_rows(&rig).await, before);
}
