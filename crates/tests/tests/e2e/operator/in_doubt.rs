//! Orders in doubt, and what an operator asks about them.

use testkit::sql::one;
use testkit::wire::{a_ride, assert_refused, channel};
use testkit::{Builder, Rig, until};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{OrderFile, Outcome, ResolveOrderRequest, RetryOrderRequest, ShowOrderRequest};
use waybill_proto::order::v1::{CreateOrderRequest, Order, PaymentMode};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

/// With the operator's service, and a deadline so short that an order in doubt is soon left to the sweeper.
pub fn with_operator() -> Builder {
    Rig::builder().with(
        "grpc.services=order,location,fleet,operator grpc.deadline_default=1s \
         payments.attempt_timeout=500ms payments.total_timeout=600ms orders.sweep_interval=100ms",
    )
}

/// Every order is charged, and looks for no driver: it is refunded.
pub fn refunding() -> Builder {
    with_operator().set("orders.assignment_window", "0s")
}

/// An order whose charge meets `fault`, deferred until tomorrow. The provider is well again when this returns.
pub async fn charge_in_doubt(rig: &Rig, fault: FaultKind) -> String {
    rig.payments().set_fault(Fault::always(fault).on(FaultTarget::Charge));
    begin(rig, a_ride(), "charging").await
}

/// The same of an order whose amount is held until its completion.
pub async fn hold_in_doubt(rig: &Rig, fault: FaultKind) -> String {
    rig.payments().set_fault(Fault::always(fault).on(FaultTarget::Charge));
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    begin(rig, held, "charging").await
}

/// A charged order whose refund is not made, deferred until tomorrow. For a rig without a window to assign drivers in.
pub async fn refund_in_doubt(rig: &Rig) -> String {
    refund_in_doubt_of(rig, a_ride()).await
}

/// The same of this order.
pub async fn refund_in_doubt_of(rig: &Rig, request: CreateOrderRequest) -> String {
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Refund));
    begin(rig, request, "refunding").await
}

async fn begin(rig: &Rig, request: CreateOrderRequest, status: &str) -> String {
    let refused = rig.orders().create_order(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let order_id = refused.get_details_error_info().unwrap().metadata["order_id"].clone();
    let sql = rig.sql().await;
    // Its worker would set the time anew, so it is waited for.
    let defer = "update order_sagas set next_run_at = now() + interval '1 day'
                  where order_id::text = $1 and status = $2 and lease_until is null";
    until("the order is deferred", async || {
        sql.execute(defer, &[&order_id, &status]).await.unwrap() == 1
    })
    .await;
    // As if no one had asked the provider for an hour.
    let quiet = "update payment_attempts set last_sent_at = last_sent_at - interval '1 hour' where order_id::text = $1";
    sql.execute(quiet, &[&order_id]).await.unwrap();
    rig.payments().clear_faults();
    order_id
}

pub fn operator(rig: &Rig) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel(&rig.grpc_addr()))
}

/// An operator's assertion about the order's money.
pub fn assertion(order_id: &str, outcome: Outcome, provider_id: &str) -> ResolveOrderRequest {
    ResolveOrderRequest {
        order_id: order_id.to_owned(),
        outcome: outcome.into(),
        provider_id: provider_id.to_owned(),
        unverified: false,
        amount_minor_units: 0,
        operator: "mara".to_owned(),
        reason: "looked it up in the dashboard".to_owned(),
    }
}

pub async fn resolve(rig: &Rig, request: ResolveOrderRequest) -> Result<Order, Status> {
    let answer = operator(rig).resolve_order(request).await;
    answer.map(|answer| answer.into_inner().order.expect("an order"))
}

pub async fn show(rig: &Rig, order_id: &str) -> Result<OrderFile, Status> {
    let order_id = order_id.to_owned();
    let answer = operator(rig).show_order(ShowOrderRequest { order_id }).await?;
    Ok(answer.into_inner().order.expect("an order"))
}

/// Has the order retried; until when a worker holds it.
pub async fn retry(rig: &Rig, order_id: &str) -> Result<Option<prost_types::Timestamp>, Status> {
    let request = RetryOrderRequest {
        order_id: order_id.to_owned(),
        operator: "mara".to_owned(),
        reason: "the provider is back".to_owned(),
    };
    Ok(operator(rig).retry_order(request).await?.into_inner().lease_until)
}

/// As if every charge was first sent so long ago that it is not sent again.
pub async fn age_charges(rig: &Rig) {
    rig.execute(
        "update payment_attempts
            set first_sent_at = now() - interval '13 hours', last_sent_at = now() - interval '1 hour'",
    )
    .await;
}

/// As if no refund had been sent for half a day: none is on its way any more.
pub async fn age_refunds(rig: &Rig) {
    rig.execute(
        "update payment_attempts
            set first_sent_at = now() - interval '25 hours', last_sent_at = now() - interval '13 hours'
          where operation = 'refund'",
    )
    .await;
}

/// Refused with this reason, naming these, with nothing changed.
pub async fn is_refused(rig: &Rig, request: ResolveOrderRequest, code: Code, reason: &str, named: &[&str]) {
    let before = ledger_rows(rig).await;
    let refused = resolve(rig, request).await.unwrap_err();
    assert_refused(&refused, code, reason);
    for name in named {
        assert!(refused.message().contains(name), "{name:?} in {:?}", refused.message());
    }
    assert_eq!(ledger_rows(rig).await, before, "{reason}");
}

/// Refused because the provider says otherwise.
pub async fn is_contradicted(rig: &Rig, request: ResolveOrderRequest, named: &[&str]) {
    is_refused(rig, request, Code::FailedPrecondition, "PROVIDER_DISAGREES", named).await;
}

/// All that a refused call must leave as it was.
pub async fn ledger_rows(rig: &Rig) -> String {
    let query = "select string_agg(row, ' ') from (
                     select s::text as row from order_sagas s
                     union all select t::text from order_saga_steps t
                     union all select a::text from payment_attempts a
                     union all select r::text from refunds r
                     union all select p::text from payments p order by 1) rows";
    one(&rig.sql().await, query, &[]).await.unwrap()
}
