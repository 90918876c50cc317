//! The rate limit towards the payment provider: it holds for all servers together.

use std::time::Instant;

use testkit::wire::{PICKUP, a_ride, fix};
use testkit::{Rig, until};
use tokio::task::JoinSet;
use waybill_proto::order::v1::OrderStatus;

const PER_SECOND: u64 = 20;
const ORDERS: u64 = 60;
/// What the bucket holds, and what each of two servers may have taken out and not used yet.
const AT_ONCE_MAX: u64 = 4;

#[tokio::test]
async fn servers_on_the_same_stores_send_no_more_requests_together_than_the_rate_allows() {
    let rig = Rig::builder()
        .servers(2)
        .with("payments.rate_per_second=20 grpc.deadline_default=30s")
        .start()
        .await;
    let fixes = (0..ORDERS).map(|n| fix(&format!("cab-{n}"), PICKUP.0, PICKUP.1, jiff::Timestamp::now()));
    rig.report(fixes.collect()).await;
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for n in 0..ORDERS {
        let mut orders = rig.orders_of(usize::try_from(n % 2).unwrap());
        calls.spawn(async move { orders.create_order(a_ride()).await });
    }
    until("all are charged", async || {
        // First the count, then the time: what is sent in between does not count.
        let sent = rig.payments().requests();
        let elapsed = begun.elapsed();
        let allowed = AT_ONCE_MAX + u64::try_from(elapsed.as_micros()).unwrap() * PER_SECOND / 1_000_000;
        assert!(sent <= allowed, "{sent} requests after {elapsed:?}");
        sent >= ORDERS
    })
    .await;
    for order in calls.join_all().await {
        let order = order.unwrap().into_inner().order.unwrap();
        assert_eq!(order.status(), OrderStatus::Succeeded);
    }
    let metrics = rig.metrics().await;
    assert_eq!(
        metrics["dependencies"]["egress_rate_limit_alone"]["payments"], 0,
        "{metrics}"
    );
    rig.assert_clean().await;
}
