//! What an order costs the database, counted and not timed: a commit is a wait for the disk.

use std::collections::BTreeMap;

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride};
use waybill_proto::order::v1::OrderStatus;

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
