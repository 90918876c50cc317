//! Stores that answer, and take no writes: a failover made them the second one.

use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, get};
use testkit::{Rig, until};
use tonic::Code;

#[tokio::test]
async fn a_postgres_that_takes_no_writes_is_not_ready_and_is_left_for_one_that_does() {
    let rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    let requests = rig.payments().requests();

    // All sessions learn of it, those that are there too.
    rig.execute("alter system set default_transaction_read_only = on").await;
    rig.execute("select pg_reload_conf()").await;
    rig.until_unready().await;
    for _ in 0..3 {
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        assert_refused_for_now(&refused, Code::Unavailable);
    }
    assert_eq!(rig.payments().requests(), requests);
    let (_, body) = get(&format!("{}/readyz", rig.http())).await;
    assert!(body.contains("writes"), "{body}");

    // ALTER SYSTEM cannot be sent with others.
    rig.execute("alter system reset default_transaction_read_only").await;
    rig.execute("select pg_reload_conf()").await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.assert_clean().await;
}

/// What a failover, a restart and an administrator do to sessions.
#[tokio::test]
async fn sessions_that_the_server_ends_are_replaced_and_nothing_is_an_internal_error() {
    let rig = Rig::start().await;
    for number in 0..10 {
        rig.driver_at(&format!("cab-{number}"), PICKUP.0, PICKUP.1).await;
        let ended = rig.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()",
        );
        let (placed, ()) = tokio::join!(async { rig.orders().create_order(a_ride()).await }, ended);
        if let Err(refused) = placed {
            assert_refused_for_now(&refused, Code::Unavailable);
        }
    }
    rig.until_all_settled().await;
    rig.assert_clean().await;
}
