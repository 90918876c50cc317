//! What workers read while an old snapshot lasts, as that of a dump or an audit: dead entries of what is finished stay in the indexes, and are
//! not read again and again.

use testkit::{Rig, until};
use tokio_postgres::Client;
use waybill_domain::access::Scope;
use waybill_domain::id::DriverId;
use waybill_domain::order::State;
use waybill_domain::tenant::Tenant;
use waybill_server::storage::orders::ListFilter;

use crate::driver_races::store;

/// Orders that were finished, each by a driver of its own, since the snapshot was taken.
const FINISHED: i64 = 5_000;
const TIMES: i64 = 50;
/// Of an index, in one look.
const READ_MAX: i64 = 20;

/// Entries that were read of these tables' indexes. A session says so when it ends at the latest.
const READ: &str =
    "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname in ('order_sagas', 'drivers')";
const SESSIONS: &str =
    "select count(*) from pg_stat_activity where application_name = 'waybill' and datname = current_database()";

/// Accepts so many orders, binds each to a driver, and finishes and completes it.
async fn finish_orders(rig: &Rig) {
    let sql = rig.sql().await;
    let finish = format!(
        "set session_replication_role = replica;
         insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status, pickup_lat, pickup_long,
                                  request_hash, fence, next_run_at)
         select lpad(to_hex(n), 32, '0')::uuid, 'the-key-of-order-' || n, 'anna', 500, 'USD', 'pm_card_visa', 'charging', 0, 0, '\\x00', 1,
                now() - interval '1 hour'
           from generate_series(1, {FINISHED}) n;
         insert into drivers (driver_id, active_order_id)
         select 'cab-' || n, lpad(to_hex(n), 32, '0')::uuid from generate_series(1, {FINISHED}) n;
         update drivers set active_order_id = null;
         update order_sagas set status = 'succeeded', finished_at = now(), response_code = 0, response_message = '',
                                response_details = '', response_body = '';"
    );
    sql.batch_execute(&finish).await.unwrap();
}

/// Takes a snapshot that lasts as long as the session.
async fn old_snapshot(rig: &Rig) -> Client {
    let dump = rig.sql().await;
    dump.batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    dump
}

/// How many entries one more of these looks reads, once the first was made.
async fn read_by_each(rig: &Rig, look: impl AsyncFn(&waybill_server::storage::orders::OrderStore)) -> i64 {
    let sql = rig.sql().await;
    let read = async || {
        until("the sessions have ended", async || {
            sql.query_one(SESSIONS, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        sql.query_one(READ, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = read().await;
    let store_once = store(rig, "worker");
    look(&store_once).await;
    drop(store_once);
    let first = read().await - before;
    let store_often = store(rig, "worker");
    look(&store_often).await;
    for _ in 0..TIMES {
        look(&store_often).await;
    }
    drop(store_often);
    let all = read().await - before - first;
    (all - first) / TIMES
}

#[tokio::test]
async fn an_idle_sweep_reads_nothing_of_what_was_finished_during_an_old_snapshot() {
    let rig = Rig::builder().no_server().start().await;
    let _dump = old_snapshot(&rig).await;
    finish_orders(&rig).await;
    let swept = read_by_each(&rig, async |store| {
        assert_eq!(store.claim_due(100).await.unwrap().len(), 0, "no order is due");
        assert_eq!(store.count_unfinished().await.unwrap(), (0, 0));
    })
    .await;
    assert!(swept < READ_MAX, "an idle sweep reads {swept} entries");
}

#[tokio::test]
async fn a_list_of_what_is_under_way_reads_nothing_of_what_was_finished_during_an_old_snapshot() {
    let rig = Rig::builder().no_server().start().await;
    let _dump = old_snapshot(&rig).await;
    finish_orders(&rig).await;
    let scope = Scope::Tenant(Tenant::default());
    let filter = ListFilter {
        state: Some(State::Charging),
        ..ListFilter::default()
    };
    let listed = read_by_each(&rig, async |store| {
        // As the sweeper of a server does each second.
        store.claim_due(100).await.unwrap();
        assert_eq!(store.list(&scope, &filter, 50).await.unwrap(), []);
        assert_eq!(store.list_unfinished(&scope, false, 50).await.unwrap().orders.len(), 0);
    })
    .await;
    assert!(listed < READ_MAX, "a list reads {listed} entries");
}

#[tokio::test]
async fn who_is_busy_is_asked_of_those_near_alone() {
    let rig = Rig::builder().no_server().start().await;
    let _dump = old_snapshot(&rig).await;
    finish_orders(&rig).await;
    rig.execute("set session_replication_role = replica; update drivers set active_order_id = gen_random_uuid() where driver_id = 'cab-7'")
        .await;
    let near: Vec<DriverId> = ["cab-6", "cab-7", "never-seen"]
        .map(|name| name.parse().unwrap())
        .into();
    let asked = read_by_each(&rig, async |store| {
        let busy = store.busy_among(&near).await.unwrap();
        assert_eq!(busy.into_iter().collect::<Vec<_>>(), near[1..2]);
    })
    .await;
    assert!(asked < READ_MAX, "a look at the busy reads {asked} entries");
}

/// Someone at the database, or a clock that was set back.
#[tokio::test]
async fn an_order_whose_due_time_was_set_before_the_bound_is_claimed_all_the_same() {
    let rig = Rig::builder().no_server().start().await;
    finish_orders(&rig).await;
    let store = store(&rig, "worker");
    assert_eq!(store.claim_due(100).await.unwrap().len(), 0, "all are finished");
    let set = "set session_replication_role = replica;
               update order_sagas set status = 'charging', finished_at = null, next_run_at = now() - interval '1 day'
                where order_id in (select order_id from order_sagas limit 3)";
    rig.execute(set).await;
    let mut claimed = 0;
    until("all three are claimed", async || {
        claimed += store.claim_due(100).await.unwrap().len();
        if claimed == 3 { Ok(()) } else { Err(claimed) }
    })
    .await;
}

/// What one process sees in progress does not hide behind its bound what another sets due.
#[tokio::test]
async fn an_order_that_another_process_sets_due_is_claimed_at_the_next_sweep() {
    let rig = Rig::builder().no_server().start().await;
    finish_orders(&rig).await;
    let store = store(&rig, "worker");
    assert_eq!(store.claim_due(100).await.unwrap().len(), 0, "all are finished");
    // A transaction that began before a sweep, and ends after it.
    let mut other = rig.sql().await;
    other
        .batch_execute("set session_replication_role = replica")
        .await
        .unwrap();
    let tx = other.transaction().await.unwrap();
    tx.execute("select now()", &[]).await.unwrap();
    assert_eq!(store.claim_due(100).await.unwrap().len(), 0);
    tx.execute(
        "update order_sagas set status = 'charging', finished_at = null, next_run_at = now()
          where order_id = (select order_id from order_sagas limit 1)",
        &[],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.claim_due(100).await.unwrap().len(), 1);
}
