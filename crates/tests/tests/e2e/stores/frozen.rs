//! A server that is frozen in the middle of a transaction: Postgres ends the session, which holds locks (25P03).

use std::time::Duration;

use serde_json::Value;
use testkit::process::read;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, cancel, complete};
use testkit::{Rig, ServerProcess, until};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use waybill_proto::order::v1::OrderStatus;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::process::Signal;

/// The session that waits for the step log.
const WAITING: &str = "
    select pid from pg_locks
     where relation = 'order_saga_steps'::regclass and not granted
       and database = (select oid from pg_database where datname = current_database())
     limit 1";

/// What is asked about an order that is served: a transaction of several statements, of which one before the last is a line of the step log.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Completion,
    Cancellation,
}

impl Asked {
    async fn of(self, orders: &mut OrderServiceClient<Channel>, order_id: &str) -> Result<(), Status> {
        match self {
            Asked::Completion => orders.complete_order(patient(complete(order_id))).await.map(drop),
            Asked::Cancellation => orders.cancel_order(patient(cancel(order_id))).await.map(drop),
        }
    }

    /// What the order is afterwards.
    fn status(self) -> OrderStatus {
        match self {
            Asked::Completion => OrderStatus::Succeeded,
            Asked::Cancellation => OrderStatus::Refunded,
        }
    }
}

/// A call that waits for as long as it may.
fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(30));
    request
}

/// The errors in a log.
fn errors(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == "ERROR").collect()
}

#[tokio::test]
async fn a_server_that_is_frozen_in_a_transaction_goes_on_without_an_error_when_it_wakes() {
    let rig = Rig::builder()
        .private_stores()
        .with("postgres.lock_timeout=8s postgres.statement_timeout=8s orders.lease=1m")
        .start()
        .await;
    let server = ServerProcess::start(&rig, &[]).await;
    for asked in [Asked::Completion, Asked::Cancellation] {
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        let order_id = rig.place(a_ride()).await.order_id;
        let holder = rig.sql().await;
        holder
            .batch_execute("begin; lock table order_saga_steps in share mode")
            .await
            .unwrap();
        let (mut orders, id) = (server.orders(), order_id.clone());
        let mut call = JoinSet::new();
        call.spawn(async move { asked.of(&mut orders, &id).await });
        let sql = rig.sql().await;
        let session = until("the transaction waits for the lock", async || {
            let waiting = sql.query_opt(WAITING, &[]).await.unwrap();
            waiting.map(|row| row.get::<_, i32>(0))
        })
        .await;

        server.signal(Signal::SIGSTOP);
        // Its statement is done now, and no other comes.
        holder.batch_execute("rollback").await.unwrap();
        until("Postgres has ended the session", async || {
            let state = "select state from pg_stat_activity where pid = $1";
            match sql.query_opt(state, &[&session]).await.unwrap() {
                None => Ok(()),
                Some(row) => Err(row.get::<_, Option<String>>(0)),
            }
        })
        .await;
        server.signal(Signal::SIGCONT);

        if let Err(refused) = call.join_next().await.unwrap().unwrap() {
            assert_refused_for_now(&refused, Code::Unavailable);
        }
        until("a repeat is answered", async || {
            asked.of(&mut server.orders(), &order_id).await
        })
        .await;
        let settled = rig.until_settled(&order_id).await;
        assert_eq!(settled.status(), asked.status(), "{asked:?}");
        assert!(settled.assignment.unwrap().released_at.is_some(), "{asked:?}");
        let errors = errors(&server.log());
        assert!(errors.is_empty(), "{asked:?}: {errors:?}");
    }
    let ended = "terminating connection due to idle-in-transaction timeout";
    let log = read(&rig.folder().join("postgres/log"));
    assert!(log.matches(ended).count() >= 2, "{log}");
    rig.assert_clean().await;
}
