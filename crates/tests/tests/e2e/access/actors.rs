//! Who did what to an order is in its log.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, by};
use tonic::Code;
use uuid::Uuid;
use waybill_proto::admin::v1::ShowOrderRequest;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::order::v1::{
    CancelOrderRequest, CompleteOrderRequest, Money, RefundOrderRequest, ReleaseDriverRequest, RevokeShareRequest,
    ShareOrderRequest,
};

use super::Doors;
use crate::cli::on_stores;

impl Doors {
    /// The lines of the log that callers asked for: step, status and who.
    async fn requests(&self, order_id: &str) -> Vec<(String, String, String)> {
        let sql = self.rig.sql().await;
        let query = "select step, status, requested_by from order_saga_steps
                      where order_id = $1::text::uuid and requested_by is not null order by id";
        let rows = sql.query(query, &[&order_id]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

fn line(step: &str, status: &str, by: &str) -> (String, String, String) {
    (step.to_owned(), status.to_owned(), by.to_owned())
}

#[tokio::test]
async fn every_change_has_the_name_of_who_asked_for_it() {
    let doors = Doors::start(Rig::builder().set("orders.assignment_window", "0s")).await;
    let (shop, dora) = (doors.token("service", "shop"), doors.token("dispatcher", "dora"));
    let order_id = doors.annas().await.order_id;
    doors.complete("cab-1", &order_id).await;
    let refund = RefundOrderRequest {
        order_id: order_id.clone(),
        idempotency_key: Uuid::now_v7().to_string(),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 100,
        }),
        reason: "late".to_owned(),
    };
    doors.orders().refund_order(by(Some(&shop), refund)).await.unwrap();
    let expected = [
        line("create", "succeeded", "customer anna"),
        line("charge", "started", "customer anna"),
        line("complete", "succeeded", "driver cab-1"),
        line("refund", "started", "service shop"),
    ];
    assert_eq!(doors.requests(&order_id).await, expected);

    // Operators see it, by the call and at a terminal.
    let olga = doors.token("operator", "olga");
    let request = ShowOrderRequest {
        order_id: order_id.clone(),
    };
    let shown = AdminServiceClient::new(doors.rig.channel())
        .show_order(by(Some(&olga), request))
        .await;
    let shown: Vec<String> = (shown.unwrap().into_inner().order.unwrap().steps.into_iter())
        .map(|line| line.requested_by)
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        shown,
        ["customer anna", "customer anna", "driver cab-1", "service shop"]
    );
    for args in [
        &["orders", "show", &order_id][..],
        &["orders", "show", &order_id, "--json"],
    ] {
        let ended = on_stores(&doors.rig, args).await;
        assert!(ended.stdout.contains("driver cab-1"), "{ended:?}");
    }

    // Who lets a driver go, and who cancels.
    let order_id = doors.annas().await.order_id;
    let release = ReleaseDriverRequest {
        order_id: order_id.clone(),
        driver_id: "cab-1".to_owned(),
        reason: "flat tyre".to_owned(),
    };
    let cab = doors.token("driver", "cab-1");
    doors.orders().release_driver(by(Some(&cab), release)).await.unwrap();
    let cancel = CancelOrderRequest {
        order_id: doors.annas().await.order_id,
        cancellation_fee: None,
    };
    let cancelled = cancel.order_id.clone();
    doors.orders().cancel_order(by(Some(&dora), cancel)).await.unwrap();
    let releases = [
        line("create", "succeeded", "customer anna"),
        line("charge", "started", "customer anna"),
        line("release", "succeeded", "driver cab-1"),
    ];
    assert_eq!(doors.requests(&order_id).await, releases);
    let cancels = [
        line("create", "succeeded", "customer anna"),
        line("charge", "started", "customer anna"),
        line("cancel", "succeeded", "dispatcher dora"),
        line("refund", "started", "dispatcher dora"),
    ];
    assert_eq!(doors.requests(&cancelled).await, cancels);
}

#[tokio::test]
async fn a_cancellation_that_a_worker_carries_out_has_the_name_of_who_asked_for_it() {
    let doors = Doors::start(Rig::builder()).await;
    let order_id = doors.searching("anna").await;
    let anna = doors.token("customer", "anna");
    let cancel = CancelOrderRequest {
        order_id: order_id.clone(),
        cancellation_fee: None,
    };
    doors.orders().cancel_order(by(Some(&anna), cancel)).await.unwrap();
    let expected = [
        line("create", "succeeded", "customer anna"),
        line("charge", "started", "customer anna"),
        line("cancel", "requested", "customer anna"),
    ];
    assert_eq!(doors.requests(&order_id).await, expected);
}

/// What a caller asked for and did not get leaves no line.
#[tokio::test]
async fn a_refused_call_leaves_no_line() {
    let doors = Doors::start(Rig::builder()).await;
    let order_id = doors.annas().await.order_id;
    let ben = doors.token("customer", "ben");
    let cancel = CancelOrderRequest {
        order_id: order_id.clone(),
        cancellation_fee: None,
    };
    let refused = doors.orders().cancel_order(by(Some(&ben), cancel)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let expected = [
        line("create", "succeeded", "customer anna"),
        line("charge", "started", "customer anna"),
    ];
    assert_eq!(doors.requests(&order_id).await, expected);
}

#[tokio::test]
async fn a_link_has_the_names_of_who_made_and_who_ended_it() {
    let doors = Doors::start(Rig::builder()).await;
    let order_id = doors.annas().await.order_id;
    let anna = doors.token("customer", "anna");
    let share = ShareOrderRequest {
        order_id: order_id.clone(),
        lifetime: None,
    };
    doors.orders().share_order(by(Some(&anna), share)).await.unwrap();
    for name in ["dora", "dirk"] {
        let revoke = RevokeShareRequest {
            order_id: order_id.clone(),
            share_id: String::new(),
        };
        let dispatcher = doors.token("dispatcher", name);
        doors
            .orders()
            .revoke_share(by(Some(&dispatcher), revoke))
            .await
            .unwrap();
    }
    let sql = doors.rig.sql().await;
    let row = sql
        .query_one("select created_by, revoked_by from order_shares", &[])
        .await
        .unwrap();
    // The first to end it ended it.
    assert_eq!((row.get(0), row.get(1)), ("customer anna", "dispatcher dora"));
}

/// Where callers are not known no one is named.
#[tokio::test]
async fn without_tokens_no_name_is_made_up() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    assert_eq!(
        rig.count("select count(*) from order_saga_steps where requested_by is not null")
            .await,
        0
    );
    assert!(rig.count("select count(*) from order_saga_steps").await > 0);
    // A driver who completes without a name is not made up either.
    let order_id = rig
        .sql()
        .await
        .query_one("select order_id::text from order_sagas", &[])
        .await
        .unwrap();
    let order_id: String = order_id.get(0);
    let request = CompleteOrderRequest {
        order_id,
        ..CompleteOrderRequest::default()
    };
    rig.orders().complete_order(request).await.unwrap();
    assert_eq!(
        rig.count("select count(*) from order_saga_steps where requested_by is not null")
            .await,
        0
    );
}
