//! The database's own guards: what no statement may do, whoever types it; and that every statement of ours is valid.

use testkit::table::rows;
use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use waybill_server::app::migrate;
use waybill_server::storage::{all_statements, reconcile};

/// The rig with one order that was served and one that was refunded.
async fn two_orders() -> (Rig, Client) {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    rig.place(a_ride()).await;
    let sql = rig.sql().await;
    (rig, sql)
}

/// The constraint that refuses the statement, or the class of the error where it has none.
async fn refusal(sql: &Client, statement: &str) -> String {
    let error = sql.batch_execute(statement).await.expect_err(statement);
    let error = error.as_db_error().expect("an answer of the database");
    error
        .constraint()
        .map_or_else(|| error.code().code().to_owned(), str::to_owned)
}

#[tokio::test]
async fn no_statement_makes_an_impossible_transition() {
    let (_rig, sql) = two_orders().await;
    for (from, to) in [
        ("succeeded", "charging"),
        ("succeeded", "refunded"),
        ("succeeded", "failed"),
        ("refunded", "succeeded"),
        ("refunded", "charged"),
    ] {
        let statement = format!("update order_sagas set status = '{to}' where status = '{from}'");
        let refused = refusal(&sql, &statement).await;
        assert_eq!(refused, "order_sagas_transition", "{from} to {to}");
    }
}

/// Statements, and the constraint that refuses each.
const REFUSED: &str = "
update order_sagas set response_body = 'other' | order_sagas_answer_final
update order_sagas set response_code = 5 | order_sagas_answer_final
update order_sagas set response_body = null, response_code = null | order_sagas_answer_final
update order_sagas set response_message = 'other' | order_sagas_answer_final
update order_sagas set idempotency_key = 'another-key-of-22-bytes' | order_sagas_key_final
update order_sagas set fence = fence - 1 | order_sagas_fence
update order_sagas set status = 'charged' where status = 'succeeded' | order_sagas_finished
update order_sagas set amount = 0 | order_sagas_amount
update order_sagas set failure_reason = 'no_driver' where status = 'succeeded' | order_sagas_failure_has_reason
update payments set refund_amount = amount + 1 where refunded_at is not null | payments_refund_not_above_capture
update payments set refund_amount = 1 where refunded_at is null | payments_refund_whole
update payment_attempts set state = 'declined' where operation = 'refund' | payment_attempts_refund_not_declined
update refunds set amount = 1 | refunds_final
update refunds set state = 'open', settled_at = null | refunds_transition
update refunds set state = 'replaced' | refunds_transition
insert into refunds (order_id, number, amount, currency, origin) select order_id, 9, amount + 1, currency, 'request' from payments | refunds_not_above_capture
insert into refunds (order_id, number, amount, currency, origin) select order_id, 9, 1, currency, 'request' from payments where refunded_at is not null | refunds_not_above_capture
update payments set captured_amount = 1 | payments_captured_once
update payments set to_capture = amount + 1 | payments_capture_not_above_hold
";

#[tokio::test]
async fn no_statement_changes_a_given_answer_lowers_a_fence_or_breaks_a_sum() {
    let (_rig, sql) = two_orders().await;
    for (statement, constraint) in rows(REFUSED) {
        assert_eq!(refusal(&sql, &statement).await, constraint, "{statement}");
    }
}

#[tokio::test]
async fn a_driver_cannot_be_given_two_active_orders_by_hand() {
    let (_rig, sql) = two_orders().await;
    let statement = "insert into order_assignments (order_id, driver_id, assigned_seq)
                     select order_id, 'cab-1', 9 from order_sagas where status = 'refunded'";
    assert_eq!(refusal(&sql, statement).await, "order_assignments_one_active");
}

#[tokio::test]
async fn an_order_is_served_by_one_driver() {
    let (_rig, sql) = two_orders().await;
    let statement = "insert into drivers (driver_id, active_order_id)
                     select 'another', active_order_id from drivers where driver_id = 'cab-1'";
    assert_eq!(refusal(&sql, statement).await, "drivers_active_order");
}

#[tokio::test]
async fn a_step_succeeds_once() {
    let (_rig, sql) = two_orders().await;
    let statement = "insert into order_saga_steps (order_id, step, status, fence, actor)
                     select order_id, 'charge', 'succeeded', 1, 'another worker' from order_sagas";
    assert_eq!(refusal(&sql, statement).await, "order_saga_steps_one_success");
}

#[tokio::test]
async fn what_happened_cannot_be_rewritten() {
    let (rig, sql) = two_orders().await;
    rig.until_written().await;
    for statement in [
        "update order_saga_steps set detail = ''",
        "delete from order_saga_steps",
        "update driver_locations set lat = 0",
        "delete from driver_locations",
        // Who erases replaces names, and nothing else.
        "set waybill.erasing = 'on'; update order_saga_steps set status = 'failed'",
        "set waybill.erasing = 'on'; delete from order_saga_steps",
        "set waybill.erasing = 'on'; update driver_locations set driver_id = 'cab-2'",
    ] {
        let refused = refusal(&sql, statement).await;
        assert_eq!(refused, SqlState::INSUFFICIENT_PRIVILEGE.code(), "{statement}");
    }
    for answer in [
        "response_message = 'other'",
        "response_code = 5",
        "response_body = null",
    ] {
        let statement = format!("set waybill.erasing = 'on'; update order_sagas set {answer}");
        assert_eq!(refusal(&sql, &statement).await, "order_sagas_answer_final", "{answer}");
    }
}

#[tokio::test]
async fn every_statement_of_the_program_prepares() {
    let rig = Rig::builder().no_server().start().await;
    let mut sql = rig.sql().await;
    let tx = sql.transaction().await.unwrap();
    tx.batch_execute(reconcile::CREATE_WINDOW_TABLE).await.unwrap();
    let statements = all_statements();
    assert!(statements.len() > 40, "{} statements", statements.len());
    for statement in statements {
        if let Err(error) = tx.prepare(statement.sql).await {
            panic!("{}: {error:?}\n{}", statement.name, statement.sql);
        }
    }
}

/// A statement that waits for a table makes all that come after it wait, too: a migration behind a long transaction must not stop
/// the servers.
#[tokio::test]
async fn a_migration_that_waits_for_a_table_lets_others_pass() {
    let rig = Rig::builder().no_server().start().await;
    let (sql, reader) = (rig.sql().await, rig.sql().await);
    // The last ones are pending.
    sql.batch_execute(
        "drop function order_sagas_payment_account cascade;
         drop table payment_accounts;
         alter table order_sagas drop column payment_account;
         drop index order_shares_by_expiry;
         alter table order_sagas drop column required_tags;
         alter table drivers drop column off_duty_since, drop column tags, drop column duty_changed_at;
         drop table trails, trail_cursor;
         alter table driver_locations drop column tx;
         alter table history_cursors drop column epoch;
         alter table schema_migrations drop column oldest_program;
         drop index order_sagas_settled, order_sagas_settled_by_user;
         alter table order_assignments add constraint order_assignments_driver_id_fkey foreign key (driver_id) references drivers;
         alter table past_assignments add constraint past_assignments_driver_id_fkey foreign key (driver_id) references drivers;
         delete from schema_migrations where version >= 20",
    )
    .await
    .unwrap();
    sql.batch_execute("begin; lock table order_sagas in access share mode")
        .await
        .unwrap();
    let config = rig.config();
    let watched = async {
        until("the migration waits", async || {
            let waiting = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                            where d.datname = current_database() and not l.granted";
            reader.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        reader.batch_execute("set statement_timeout = '20s'").await.unwrap();
        let read = reader.query_one("select count(*) from order_sagas", &[]).await;
        read.expect("who reads the table is not kept waiting for the long transaction");
        sql.batch_execute("commit").await.unwrap();
    };
    let (names, ()) = tokio::join!(migrate(&config), watched);
    let names = names.unwrap();
    let expected = [
        "payment_account",
        "link_expiry",
        "driver_duty",
        "trails",
        "erasure",
        "stream_epoch",
        "schema_compatibility",
        "order_lists",
        "orders_by_user",
    ];
    assert_eq!(names, expected);
}
