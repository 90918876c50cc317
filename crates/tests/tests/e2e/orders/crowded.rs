//! More orders than there is room for: what frees room, and what was begun, goes before them.

use std::time::Duration;

use serde_json::json;
use testkit::sql::column;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, position};
use testkit::{Rig, ServerProcess, until, until_eq};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use uuid::Uuid;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{ListStuckOrdersRequest, RetryOrderRequest};
use waybill_proto::driver::v1::SetDutyRequest;
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, ListOrdersRequest, Money, Order, OrderStatus, PaymentMode,
    RefundOrderRequest, ReleaseDriverRequest, RevokeShareRequest, ShareOrderRequest,
};
use waybill_sandbox::payments::{Fault, FaultKind};

/// A valid order of a new user, from where there is no driver.
fn a_remote_ride() -> CreateOrderRequest {
    CreateOrderRequest {
        pickup: Some(position((PICKUP.0 + 1.0, PICKUP.1))),
        ..a_ride()
    }
}

/// Places orders until one is refused: why.
async fn until_refused(rig: &Rig, timeout: Duration) -> Status {
    for number in 0..50 {
        let mut ride = a_remote_ride();
        ride.user_id = format!("user-{number}");
        let mut call = Request::new(ride);
        call.set_timeout(timeout);
        match rig.orders().create_order(call).await {
            Err(status) if status.code() == Code::ResourceExhausted => return status,
            _ => {}
        }
    }
    panic!("no order is refused");
}

/// Callers who place orders without end, whatever the answer.
fn flood(rig: &Rig) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let mut orders = rig.orders();
        callers.spawn(async move {
            loop {
                let _ = orders.create_order(a_remote_ride()).await;
            }
        });
    }
    callers
}

/// How many orders were refused since there are as many as may be in flight.
async fn refused_so_far(rig: &Rig) -> u64 {
    let metrics = rig.metrics().await;
    metrics["orders"]["overload_refusals"]["in_flight_max"]
        .as_u64()
        .unwrap_or_default()
}

/// Waits until more orders are refused than now: the flood goes on, and there is no room.
async fn until_more_are_refused(rig: &Rig) {
    let refused = refused_so_far(rig).await;
    until("more orders are refused", async || refused_so_far(rig).await > refused).await;
}

async fn cancel(rig: &Rig, order_id: &str) -> Result<Order, Status> {
    let request = CancelOrderRequest {
        order_id: order_id.to_owned(),
        ..Default::default()
    };
    Ok(rig.orders().cancel_order(request).await?.into_inner().order.unwrap())
}

#[tokio::test]
async fn what_frees_drivers_passes_while_new_orders_are_refused() {
    let rig = Rig::with(
        "limits.orders_in_all.per_second=1 limits.orders_in_all.burst=4 limits.wait_max=0ms orders.assignment_window=0s",
    )
    .await;
    let mut served = Vec::new();
    for driver in ["cab-1", "cab-2", "cab-3"] {
        rig.driver_at(driver, PICKUP.0, PICKUP.1).await;
        let mut ride = a_ride();
        ride.user_id = format!("rider-of-{driver}");
        served.push(rig.place(ride).await);
    }
    let refusal = until_refused(&rig, Duration::from_secs(10)).await;
    assert_refused_for_now(&refusal, Code::ResourceExhausted);

    rig.complete(&served[0].order_id).await.unwrap();
    assert_eq!(
        cancel(&rig, &served[1].order_id).await.unwrap().status(),
        OrderStatus::Refunded
    );
    let release = ReleaseDriverRequest {
        order_id: served[2].order_id.clone(),
        driver_id: served[2].assignment.clone().unwrap().driver_id,
        reason: "a flat tyre".to_owned(),
    };
    rig.orders().release_driver(release).await.unwrap();
    let duty = SetDutyRequest {
        driver_id: "cab-1".to_owned(),
        on_duty: Some(true),
        ..Default::default()
    };
    DriverServiceClient::new(rig.channel()).set_duty(duty).await.unwrap();

    let refusal = until_refused(&rig, Duration::from_secs(10)).await;
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
}

#[tokio::test]
async fn refunds_and_the_end_of_links_pass_while_new_orders_are_refused() {
    let rig = Rig::with(
        "limits.orders_in_all.per_second=1 limits.orders_in_all.burst=4 limits.wait_max=0ms orders.assignment_window=0s",
    )
    .await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order_id = rig.place(a_ride()).await.order_id;
    let share = ShareOrderRequest {
        order_id: order_id.clone(),
        lifetime: None,
    };
    let share_id = rig.orders().share_order(share).await.unwrap().into_inner().share_id;
    let refusal = until_refused(&rig, Duration::from_secs(10)).await;
    assert_refused_for_now(&refusal, Code::ResourceExhausted);

    let refund = RefundOrderRequest {
        order_id: order_id.clone(),
        idempotency_key: Uuid::now_v7().to_string(),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 100,
        }),
        reason: "the driver was late".to_owned(),
    };
    rig.orders().refund_order(refund).await.unwrap();
    let revoke = RevokeShareRequest { order_id, share_id };
    rig.orders().revoke_share(revoke).await.unwrap();

    let refusal = until_refused(&rig, Duration::from_secs(10)).await;
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
}

#[tokio::test]
async fn what_operators_do_passes_while_reads_are_refused() {
    let rig = Rig::with(
        "limits.reads_in_all.per_second=1 limits.reads_in_all.burst=4 limits.wait_max=0ms grpc.services=order,location,fleet,operator",
    )
    .await;
    let operators = || AdminServiceClient::new(rig.channel());
    let refusal = until("a list is refused", async || {
        rig.orders().list_orders(ListOrdersRequest::default()).await.err()
    })
    .await;
    assert_refused_for_now(&refusal, Code::ResourceExhausted);

    let stuck = operators().list_stuck_orders(ListStuckOrdersRequest::default()).await;
    assert_eq!(stuck.unwrap().into_inner().orders.len(), 0);
    let retry = RetryOrderRequest {
        order_id: Uuid::now_v7().to_string(),
        operator: "mara".to_owned(),
        reason: String::new(),
    };
    let no_such_order = operators().retry_order(retry).await.unwrap_err();
    assert_eq!(no_such_order.code(), Code::NotFound, "{no_such_order:?}");
}

/// With a lease that is over only long after the test, nothing goes on that is not resumed at once.
#[tokio::test]
async fn what_was_begun_goes_on_while_new_orders_take_all_room() {
    let rig = Rig::with("orders.in_flight_max=2 orders.lease=5m orders.assignment_window=5m").await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let served = rig.place(a_ride()).await;
    assert_eq!(served.assignment.as_ref().unwrap().driver_id, "cab-1");
    // They look for a driver, and there is none.
    let refusal = until_refused(&rig, Duration::from_secs(1)).await;
    assert!(
        refusal.message().contains("too many orders are in progress"),
        "{refusal:?}"
    );
    let metrics = rig.metrics().await["orders"].clone();
    assert_eq!(metrics["overload_refusals"], json!({"in_flight_max": 1}), "{metrics}");
    assert_eq!(metrics["transactions"], 0, "{metrics}");
    // No more places may be learned than there is room for orders.
    assert_eq!(metrics["transactions_max"], 2, "{metrics}");

    let cancelled = cancel(&rig, &served.order_id).await.unwrap();

    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    let driver = cancelled.assignment.unwrap();
    assert!(driver.released_at.is_some(), "{driver:?}");
}

/// Of two servers one dies in the middle of an order. The other has as many orders as it may have, and is called for more.
#[tokio::test]
async fn what_a_dead_server_left_is_settled_while_new_orders_take_all_room() {
    let rig = Rig::with(
        "payments.attempt_timeout=1s payments.total_timeout=1s postgres.statement_timeout=500ms orders.lease=2s \
         orders.sweep_interval=100ms orders.in_flight_max=2 orders.assignment_window=5m",
    )
    .await;
    let server = ServerProcess::start(&rig, &[]).await;
    until_refused(&rig, Duration::from_secs(1)).await;
    until_eq("two orders look for a driver", 2, async || {
        rig.orders_in("charged").await
    })
    .await;
    let mut flood = flood(&rig);
    until_more_are_refused(&rig).await;

    let slow = Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_millis(800));
    rig.payments().set_fault(slow);
    let (requests, mut orders) = (rig.payments().requests(), server.orders());
    let mut call = JoinSet::new();
    call.spawn(async move {
        // The order is looked at, not the answer.
        let _ = orders.create_order(a_ride()).await;
    });
    until("the request is at the provider", async || {
        rig.payments().requests() > requests
    })
    .await;
    server.kill().await;
    until("the order is served", async || {
        // Else its last position might be old by then.
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        rig.orders_in("succeeded").await == 1
    })
    .await;
    until_more_are_refused(&rig).await;
    flood.shutdown().await;

    let unfinished = "select order_id::text from order_sagas where finished_at is null";
    for order_id in column::<String>(&rig.sql().await, unfinished, &[]).await.unwrap() {
        cancel(&rig, &order_id).await.unwrap();
    }
    rig.assert_clean().await;
}

/// With a lease that is over only long after the test, nothing is captured that is not resumed at once.
#[tokio::test]
async fn a_completion_captures_its_hold_while_new_orders_take_all_room() {
    let rig = Rig::with("orders.in_flight_max=2 orders.lease=5m orders.assignment_window=5m").await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    let served = rig.place(held).await;
    assert_eq!(served.assignment.as_ref().unwrap().driver_id, "cab-1");
    until_refused(&rig, Duration::from_secs(1)).await;
    let mut flood = flood(&rig);
    until_more_are_refused(&rig).await;

    rig.complete(&served.order_id).await.unwrap();
    let settled = rig.until_settled(&served.order_id).await;
    let captured = settled.payment.unwrap().captured_amount.unwrap();
    assert_eq!(captured.minor_units, 1_999);
    assert!(settled.assignment.unwrap().released_at.is_some());
    until_more_are_refused(&rig).await;
    flood.shutdown().await;
}

/// Else new orders would be accepted faster than those before them get on, and all would wait there.
#[tokio::test]
async fn what_becomes_of_a_charge_takes_a_place_until_it_is_committed() {
    let rig = Rig::with("postgres.lock_timeout=8s postgres.statement_timeout=8s orders.lease=1m").await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let holder = rig.sql().await;
    holder
        .batch_execute("begin; lock table payments in share mode")
        .await
        .unwrap();

    let mut placing = rig.begin(a_ride());
    until("the provider has charged it", async || rig.charges().len() == 1).await;
    until("the commit of it takes a place", async || {
        let orders = rig.metrics().await["orders"].clone();
        if orders["transactions"] == 1 {
            Ok(())
        } else {
            Err(orders)
        }
    })
    .await;

    holder.batch_execute("rollback").await.unwrap();
    let placed = placing.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(placed.status(), OrderStatus::Succeeded);
    assert_eq!(rig.metrics().await["orders"]["transactions"], 0);
    rig.assert_clean().await;
}

/// Else it would wait for a place before it is refused, and others would wait for the one that it then has.
#[tokio::test]
async fn an_order_that_is_certain_to_be_refused_waits_in_no_line() {
    let rig =
        Rig::with("orders.in_flight_max=2 postgres.lock_timeout=8s postgres.statement_timeout=8s orders.lease=1m")
            .await;
    for driver in ["cab-1", "cab-2"] {
        rig.driver_at(driver, PICKUP.0, PICKUP.1).await;
    }
    let holder = rig.sql().await;
    holder
        .batch_execute("begin; lock table order_sagas in share mode")
        .await
        .unwrap();
    // They have all places, and all room.
    let placing = [rig.begin(a_ride()), rig.begin(a_ride())];
    until_eq("both are being accepted", json!(2), async || {
        rig.metrics().await["orders"]["transactions"].clone()
    })
    .await;

    let refusal = rig.orders().create_order(a_ride()).await.unwrap_err();

    assert_refused_for_now(&refusal, Code::ResourceExhausted);
    let metrics = rig.metrics().await["orders"].clone();
    assert_eq!(metrics["overload_refusals"], json!({"in_flight_max": 1}), "{metrics}");
    holder.batch_execute("rollback").await.unwrap();
    for mut call in placing {
        let placed = call.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(placed.status(), OrderStatus::Succeeded);
    }
    rig.assert_clean().await;
}

/// What is read and checked first costs more than the answer. A few are read all the same: they may repeat an order that is there.
#[tokio::test]
async fn an_order_for_which_there_is_no_room_is_refused_before_it_is_read() {
    let rig = Rig::with("orders.in_flight_max=2 orders.lease=5m orders.assignment_window=5m").await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let ride = a_ride();
    let served = rig.place(ride.clone()).await;
    let empty = async || {
        rig.orders()
            .create_order(CreateOrderRequest::default())
            .await
            .unwrap_err()
    };
    assert_eq!(empty().await.code(), Code::InvalidArgument, "there is room");
    until_refused(&rig, Duration::from_secs(1)).await;

    let mut flood = flood(&rig);
    until_more_are_refused(&rig).await;
    until("one is refused before it is read", async || {
        let status = empty().await;
        if status.code() != Code::ResourceExhausted {
            return Err(status);
        }
        assert_refused_for_now(&status, Code::ResourceExhausted);
        Ok(())
    })
    .await;
    until("a call that is repeated is answered", async || {
        let repeated = rig.orders().create_order(ride.clone()).await;
        repeated.map(|answer| assert_eq!(answer.into_inner().order.unwrap().order_id, served.order_id))
    })
    .await;
    flood.shutdown().await;
}
