//! What a list costs: a page, whatever is asked for and however rare it is.

use testkit::{Rig, until_eq};
use tokio_postgres::Client;
use waybill_domain::access::Scope;
use waybill_domain::id::UserId;
use waybill_domain::order::State;
use waybill_server::storage::orders::ListFilter;

use crate::driver_races::store;

const PAGE: i64 = 50;
/// For a page of 50 with its payments and assignments, and for what is under way.
const READ_MAX: i64 = 600;

/// Users, how many orders each has, and in which state. The earlier ones are the older ones; what is rare is the oldest.
const STORED: [(&str, i64, &str); 8] = [
    ("ben", 3, "failed"),
    ("acme/ben", 3, "failed"),
    ("tiny/tim", 3, "refunded"),
    ("anna", 3, "refunded"),
    ("anna", 5_000, "succeeded"),
    ("acme/ann", 5_000, "refunded"),
    ("acme/ben", 5_000, "succeeded"),
    ("ben", 3, "charging"),
];

async fn store_orders(rig: &Rig) {
    let sql = rig.sql().await;
    // Past the triggers, which these rows never went through.
    sql.batch_execute("set session_replication_role = replica")
        .await
        .unwrap();
    let mut first = 0;
    for (user, count, status) in STORED {
        let is_settled = status != "charging";
        let insert = "
            insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status, failure_reason,
                                     pickup_lat, pickup_long, request_hash, fence, payment_mode, finished_at)
            select lpad(to_hex($1 + n), 32, '0')::uuid, null, $2, 500, 'USD', 'pm_card_visa', $3,
                   case when $3 in ('failed', 'refunded') then 'no_driver' end, 0, 0, '\\x00', 1, 'charge_first',
                   case when $5 then now() end
              from generate_series(1, $4::bigint) n";
        sql.execute(insert, &[&first, &user, &status, &count, &is_settled])
            .await
            .unwrap();
        first += count;
    }
    sql.batch_execute("analyze").await.unwrap();
}

/// Rows and entries of indexes that were read of the tables of orders so far. A session says so when it ends at the latest.
async fn read_so_far(sql: &Client) -> i64 {
    let sessions =
        "select count(*) from pg_stat_activity where application_name = 'waybill' and datname = current_database()";
    until_eq("the sessions have ended", 0_i64, async || {
        sql.query_one(sessions, &[]).await.unwrap().get(0)
    })
    .await;
    let read = "select (select sum(seq_tup_read) from pg_stat_user_tables)::bigint
                       + (select sum(idx_tup_read) from pg_stat_user_indexes)::bigint";
    sql.query_one(read, &[]).await.unwrap().get(0)
}

fn user(name: &str) -> UserId {
    UserId::stored(name).unwrap()
}

#[tokio::test]
async fn a_list_reads_a_page_however_rare_is_what_is_listed() {
    let rig = Rig::builder().no_server().start().await;
    store_orders(&rig).await;
    let sql = rig.sql().await;
    let states = State::ALL.into_iter().map(Some).chain([None]);
    let states: Vec<Option<State>> = states.collect();
    let mut dear = Vec::new();
    for users in [vec!["anna", "ben"], vec!["acme/ann", "acme/ben"], vec!["tiny/tim"]] {
        let tenant = user(users[0]).tenant();
        let of_tenant = users
            .iter()
            .map(|name| (Scope::Tenant(tenant.clone()), Some(user(name))));
        let of_user = users.iter().map(|name| (Scope::User(user(name), None), None));
        for (scope, of) in of_tenant.chain(of_user).chain([(Scope::Tenant(tenant.clone()), None)]) {
            for state in &states {
                let listed = STORED.iter().filter(|(name, _, status)| {
                    let is_of_user = match (&scope, &of) {
                        (Scope::User(own, _), _) => own.as_str() == *name,
                        (_, Some(of)) => of.as_str() == *name,
                        _ => user(name).tenant() == tenant,
                    };
                    is_of_user && state.is_none_or(|state| state.as_str() == *status)
                });
                let expected = listed.map(|(_, count, _)| count).sum::<i64>().min(PAGE);
                let filter = ListFilter {
                    user: of.clone(),
                    state: *state,
                    before: None,
                };
                let before = read_so_far(&sql).await;
                let orders = store(&rig, "reader").list(&scope, &filter, PAGE).await.unwrap();
                let read = read_so_far(&sql).await - before;
                assert_eq!(orders.len(), usize::try_from(expected).unwrap(), "{scope:?} {filter:?}");
                assert!(
                    orders.is_sorted_by(|a, b| a.id.uuid() > b.id.uuid()),
                    "the newest first"
                );
                if read > READ_MAX {
                    dear.push(format!("{read} rows for {expected} orders of {scope:?} {filter:?}"));
                }
            }
        }
    }
    assert!(
        dear.is_empty(),
        "{} lists read more than a page:\n{}",
        dear.len(),
        dear.join("\n")
    );
}
