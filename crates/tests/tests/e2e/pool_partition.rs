//! What is under way goes before what is new, and what is new before what only looks: calls from outside cannot take the connections that sagas
//! need, nor reads those of new orders.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride, channel, position};
use testkit::{Rig, until, until_eq};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::{GetDriverRequest, ListLocationsRequest, SearchDriversRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{GetOrderRequest, ListOrdersRequest, OrderStatus, WatchOrderRequest};
use waybill_sandbox::payments::{Fault, FaultKind};
use waybill_sandbox::proxy::Mode;

/// A saga that finds no connection leaves its order to the lease: seconds in which a customer has paid and waits.
#[tokio::test]
async fn a_flood_of_calls_does_not_keep_a_saga_from_the_database() {
    let rig = Rig::builder().set("postgres.pool_max", "4").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // The order is with the provider while the flood comes.
    let slow = Duration::from_millis(500);
    rig.payments()
        .set_fault(Fault::always(FaultKind::Latency).delayed(slow));
    let before = rig.payments().requests();
    let mut placed = rig.begin(a_ride());
    until("the charge is with the provider", async || {
        rig.payments().requests() > before
    })
    .await;

    // Every call now holds its connection for as long as a statement may wait for a lock.
    let sql = rig.sql().await;
    sql.batch_execute("begin; lock table drivers in access exclusive mode")
        .await
        .unwrap();
    let mut flood = JoinSet::new();
    for caller in 0..64 {
        let mut fleet = rig.fleet();
        let request = GetDriverRequest {
            driver_id: format!("unknown-{caller}"),
        };
        flood.spawn(async move {
            loop {
                let _ = fleet.get_driver(request.clone()).await;
            }
        });
    }

    until_eq("the charge is in the ledger", 1, async || {
        rig.orders_in("charged").await
    })
    .await;

    flood.shutdown().await;
    sql.batch_execute("commit").await.unwrap();
    let order = placed.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}

/// A list may take long: of a database that is slow, or whose tables are locked. An order that is placed meanwhile does not wait for it.
#[tokio::test]
async fn a_flood_of_lists_does_not_keep_new_orders_from_the_database() {
    let rig = Rig::builder().set("postgres.pool_max", "4").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // Each list now holds its connection for as long as a statement may wait for a lock. An order is accepted and charged without this table.
    let sql = rig.sql().await;
    sql.batch_execute("begin; lock table order_assignments in access exclusive mode")
        .await
        .unwrap();
    let mut flood = JoinSet::new();
    for _ in 0..64 {
        let mut orders = rig.orders();
        flood.spawn(async move {
            loop {
                let _ = orders.list_orders(ListOrdersRequest::default()).await;
            }
        });
    }
    let waiting = "select count(*) > 0 from pg_locks l join pg_database d on d.oid = l.database
                    where d.datname = current_database() and not l.granted";
    until("lists wait", async || {
        sql.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;

    let mut placed = JoinSet::new();
    for count in 1..=10 {
        let mut order = rig.begin(a_ride());
        until("the order is charged", async || match order.try_join_next() {
            None => rig.orders_in("charged").await == count,
            Some(refused) => panic!("{:?}", refused.unwrap().map(|order| order.status())),
        })
        .await;
        placed.spawn(async move { order.join_next().await });
    }
    flood.shutdown().await;
    sql.batch_execute("commit").await.unwrap();
}

/// Calls that only read, all of them in Postgres too.
#[derive(Debug, Clone, Copy)]
enum Read {
    GetDriver,
    ListLocations,
    SearchDrivers,
    WatchOrder,
    GetOrder,
    ListOrders,
}

impl Read {
    const ALL: [Read; 6] = [
        Read::GetDriver,
        Read::ListLocations,
        Read::SearchDrivers,
        Read::WatchOrder,
        Read::GetOrder,
        Read::ListOrders,
    ];

    /// Makes the call, whatever the answer.
    async fn call(self, channel: &Channel, order_id: &str) {
        let mut orders = OrderServiceClient::new(channel.clone());
        let mut fleet = FleetServiceClient::new(channel.clone());
        let (driver_id, order_id) = ("cab-1".to_owned(), order_id.to_owned());
        match self {
            Read::GetDriver => drop(fleet.get_driver(GetDriverRequest { driver_id }).await),
            Read::ListLocations => {
                let request = ListLocationsRequest {
                    driver_id,
                    ..ListLocationsRequest::default()
                };
                drop(fleet.list_locations(request).await);
            }
            Read::SearchDrivers => {
                let request = SearchDriversRequest {
                    near: Some(position(PICKUP)),
                    ..SearchDriversRequest::default()
                };
                drop(fleet.search_drivers(request).await);
            }
            Read::WatchOrder => {
                let request = WatchOrderRequest {
                    order_id,
                    after_step_id: None,
                };
                if let Ok(watched) = orders.watch_order(request).await {
                    drop(watched.into_inner().message().await);
                }
            }
            Read::GetOrder => drop(orders.get_order(GetOrderRequest { order_id }).await),
            Read::ListOrders => drop(orders.list_orders(ListOrdersRequest::default()).await),
        }
    }
}

/// How many reads found no connection in time.
async fn refused_reads(rig: &Rig) -> u64 {
    let metrics = rig.metrics().await;
    metrics["dependencies"]["pool_refusals"]["reads"]
        .as_u64()
        .unwrap_or_default()
}

/// On a slow line to the database each read has its connection for a while, and there are far more of them than can be made.
#[tokio::test]
async fn a_flood_of_any_read_keeps_neither_new_orders_nor_completions_from_the_database() {
    let rig = Rig::builder().postgres_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let first = rig.place(a_ride()).await;
    rig.complete(&first.order_id).await.unwrap();
    rig.postgres_line().set_mode(Mode::Latency {
        requests: Duration::from_millis(50),
        replies: Duration::from_millis(50),
    });
    // Fewer calls on each than a connection may have at once. New orders come on another one.
    let channels = [0, 1, 2].map(|_| channel(&rig.grpc_addr()));
    for read in Read::ALL {
        let refused = refused_reads(&rig).await;
        let mut flood = JoinSet::new();
        for number in 0..192 {
            let (channel, order_id) = (channels[number % channels.len()].clone(), first.order_id.clone());
            flood.spawn(async move {
                loop {
                    read.call(&channel, &order_id).await;
                }
            });
        }
        until("reads find no connection in time", async || {
            let now = refused_reads(&rig).await;
            if now > refused { Ok(()) } else { Err((read, now)) }
        })
        .await;
        for _ in 0..2 {
            rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
            let placed = rig.orders().create_order(a_ride()).await;
            let placed = placed.unwrap_or_else(|refused| panic!("during {read:?}: {refused:?}"));
            let order = placed.into_inner().order.unwrap();
            assert_eq!(order.status(), OrderStatus::Succeeded, "during {read:?}");
            let completed = rig.complete(&order.order_id).await;
            assert!(completed.is_ok(), "during {read:?}: {completed:?}");
        }
        flood.shutdown().await;
    }
    rig.postgres_line().set_mode(Mode::Pass);
    rig.assert_clean().await;
}
