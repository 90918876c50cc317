//! What an order costs the database, counted and not timed: a commit is a wait for the disk.

use std::collections::BTreeMap;

use jiff::Timestamp;
use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, complete, fix};
use tokio::task::JoinSet;
use tonic::Status;
use waybill_proto::order::v1::{CreateOrderRequest, Order, OrderStatus};

/// Notes the transaction of every row that is written for an order, also of rows that are overwritten later. Reading
/// what is left would not see those; counting all commits would see those of other orders and of the workers behind.
const WATCH: &str = "
    create table writers (order_id uuid, xid xid8, primary key (order_id, xid));
    create function note_writer() returns trigger language plpgsql as $$
    declare
        of_order text = coalesce(to_jsonb(new) ->> 'order_id', to_jsonb(new) ->> 'active_order_id',
                                 to_jsonb(old) ->> 'active_order_id');
    begin
        if of_order is not null then
            insert into writers values (of_order::uuid, pg_current_xact_id()) on conflict do nothing;
        end if;
        return null;
    end $$;
    do $$
    declare
        watched text;
    begin
        foreach watched in array '{order_sagas, order_saga_steps, payments, payment_attempts, order_assignments,
                                   drivers}'::text[] loop
            execute format('create trigger note_writer after insert or update on %I
                                for each row execute function note_writer()', watched);
        end loop;
    end $$;";

/// How many transactions wrote for each order.
async fn commits(rig: &Rig) -> BTreeMap<String, i64> {
    let count = "select order_id::text, count(*) from writers group by order_id";
    let rows = rig.sql().await.query(count, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_served_order_takes_three_commits_and_its_completion_one() {
    let rig = Rig::start().await;
    rig.execute(WATCH).await;
    let mut orders = Vec::new();
    for index in 0..5 {
        rig.driver_at(&format!("cab-{index}"), PICKUP.0, PICKUP.1).await;
        let order = rig.place(a_ride()).await;
        assert_eq!(order.status(), OrderStatus::Succeeded);
        orders.push(order.order_id);
    }
    // Accepted with the intent to charge; charged; assigned.
    let placed = commits(&rig).await;
    assert_eq!(placed, orders.iter().map(|order| (order.clone(), 3)).collect());

    let order_id = orders[0].clone();
    rig.complete(&order_id).await.unwrap();
    assert_eq!(commits(&rig).await[&order_id], 4);
}

/// Fewer than there are places for new orders at first (`admission`): none waits for one, whatever else the machine does.
const AT_ONCE: usize = 30;

/// So many orders at once, of these users in turn, with a driver for each.
async fn place_at_once(rig: &Rig, count: usize, users: &[&str]) -> Vec<(String, Result<Order, Status>)> {
    let drivers = (0..count).map(|number| fix(&format!("cab-{number}"), PICKUP.0, PICKUP.1, Timestamp::now()));
    rig.report(drivers.collect()).await;
    let mut placing = JoinSet::new();
    for number in 0..count {
        let (mut orders, user) = (rig.orders(), users[number % users.len()].to_owned());
        let request = CreateOrderRequest {
            user_id: user.clone(),
            ..a_ride()
        };
        placing.spawn(async move {
            let placed = orders.create_order(request).await;
            (user, placed.map(|placed| placed.into_inner().order.unwrap()))
        });
    }
    placing.join_all().await
}

#[tokio::test]
async fn orders_that_come_at_once_share_their_commits() {
    let rig = Rig::start().await;
    rig.execute(WATCH).await;
    let mut completing = JoinSet::new();
    for (_, placed) in place_at_once(&rig, AT_ONCE, &["anna", "ben"]).await {
        let order = placed.unwrap();
        assert_eq!(order.status(), OrderStatus::Succeeded);
        // Twice: of two who ask for one order, one does it.
        for _ in 0..2 {
            let (request, mut orders) = (complete(&order.order_id), rig.orders());
            completing.spawn(async move { orders.complete_order(request).await.unwrap() });
        }
    }
    assert!(
        commits(&rig).await.values().all(|commits| (3..=4).contains(commits)),
        "of each order"
    );
    completing.join_all().await;

    // Of each kind: one that never shares makes as many as orders.
    let of_steps =
        "select step || ' ' || status as kind, count(distinct xmin::text), count(*) from order_saga_steps group by 1";
    for row in rig.sql().await.query(of_steps, &[]).await.unwrap() {
        let (kind, commits, lines): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(usize::try_from(lines).unwrap(), AT_ONCE, "{kind}");
        assert!(commits < lines, "{kind}: {commits} commits for {lines} orders");
    }
    rig.assert_clean().await;
}

/// What is wrong with one row fails the statement for all rows.
#[tokio::test]
async fn an_order_that_the_database_refuses_fails_alone() {
    tokio::join!(
        refuse_some("order_sagas", None),
        refuse_some("payments", Some("charging")),
        refuse_some("order_assignments", Some("charged")),
    );
}

/// The orders of one user are refused where they are inserted into this table, and stay in this state.
async fn refuse_some(table: &str, stuck_in: Option<&str>) {
    let rig = Rig::builder()
        .impatient()
        .with("orders.lease=6s postgres.statement_timeout=2s postgres.lock_timeout=1s grpc.deadline_default=10s")
        .start()
        .await;
    rig.execute(&format!(
        "create function refuse() returns trigger language plpgsql as $$
         begin
             if (select user_id from order_sagas where order_id = new.order_id) = 'bad'
                or to_jsonb(new) ->> 'user_id' = 'bad' then
                 raise exception 'refused' using errcode = 'check_violation';
             end if;
             return new;
         end $$;
         create trigger refuse before insert on {table} for each row execute function refuse()"
    ))
    .await;
    for (user, placed) in place_at_once(&rig, AT_ONCE, &["anna", "ben", "bad", "cem", "dan"]).await {
        assert_eq!(placed.is_ok(), user != "bad", "{table} {user} {placed:?}");
    }
    if let Some(status) = stuck_in {
        assert_eq!(rig.orders_in(status).await, 6, "{table}");
    }
    assert_eq!(rig.orders_in("succeeded").await, 24, "{table}");
    let dependencies = &rig.metrics().await["dependencies"];
    assert!(
        dependencies["group_commits_failed"].as_u64() > Some(0),
        "{table} {dependencies}"
    );
    rig.execute(&format!("drop trigger refuse on {table}")).await;
    rig.until_all_settled().await;
    rig.assert_clean().await;
}
