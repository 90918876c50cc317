//! What a list costs: a page, whatever is asked for and however rare it is; and that its pages have all of it, each order once.

use testkit::{Rig, until_eq};
use tokio_postgres::Client;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::{OrderId, UserId};
use waybill_domain::order::State;
use waybill_server::storage::orders::{ListFilter, OrderStore};

use crate::driver_races::store;

const PAGE: usize = 50;
/// For a page of 50 with its payments and assignments, and for what is under way, where that is little.
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

/// The same where much is under way, and old and new are settled or not in turns.
const UNDER_WAY: [(&str, i64, &str); 9] = [
    ("ben", 120, "failed"),
    ("anna", 400, "charging"),
    ("acme/ben", 300, "charged"),
    ("anna", 70, "refunded"),
    ("anna", 400, "succeeded"),
    ("tiny/tim", 60, "charging"),
    ("acme/ben", 110, "succeeded"),
    ("ben", 60, "charged"),
    ("ben", 60, "refunding"),
];

/// Orders of a user in a state, each by its number: the higher, the newer.
struct Stored {
    user: &'static str,
    status: &'static str,
    numbers: Vec<i64>,
}

/// All of a user in a state, and then those of the next.
fn in_a_row() -> Vec<Stored> {
    let mut first = 0;
    let stored = STORED.into_iter().map(|(user, count, status)| {
        let numbers = (first + 1..=first + count).collect();
        first += count;
        Stored { user, status, numbers }
    });
    stored.collect()
}

/// One of each in turn.
fn in_turns() -> Vec<Stored> {
    let stored = (1..).zip(UNDER_WAY).map(|(turn, (user, count, status))| {
        let numbers = (0..count).map(|number| number * 10 + turn).collect();
        Stored { user, status, numbers }
    });
    stored.collect()
}

impl Stored {
    fn is_settled(&self) -> bool {
        ["succeeded", "failed", "refunded"].contains(&self.status)
    }
}

async fn store_orders(rig: &Rig, stored: &[Stored]) {
    let sql = rig.sql().await;
    // Past the triggers, which these rows never went through.
    sql.batch_execute("set session_replication_role = replica")
        .await
        .unwrap();
    for orders in stored {
        let insert = "
            insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status, failure_reason,
                                     pickup_lat, pickup_long, request_hash, fence, payment_mode, finished_at)
            select lpad(to_hex(n), 32, '0')::uuid, null, $2, 500, 'USD', 'pm_card_visa', $3,
                   case when $3 in ('failed', 'refunding', 'refunded') then 'no_driver' end, 0, 0, '\\x00', 1, 'charge_first',
                   case when $4 then now() end
              from unnest($1::bigint[]) n";
        sql.execute(
            insert,
            &[&orders.numbers, &orders.user, &orders.status, &orders.is_settled()],
        )
        .await
        .unwrap();
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

/// What is listed: of whom, and in which state.
struct Listing {
    scope: Scope,
    filter: ListFilter,
    /// The orders of all pages.
    ids: Vec<Uuid>,
}

/// All that the users of a tenant, and who looks after all of them, may list of these orders.
fn listings(users: &[&str], stored: &[Stored]) -> Vec<Listing> {
    let tenant = user(users[0]).tenant();
    let of_tenant = users
        .iter()
        .map(|name| (Scope::Tenant(tenant.clone()), Some(user(name))));
    let of_user = users.iter().map(|name| (Scope::User(user(name), None), None));
    let all = (Scope::Tenant(tenant.clone()), None);
    let mut listings = Vec::new();
    for (scope, of) in of_tenant.chain(of_user).chain([all]) {
        for state in State::ALL.into_iter().map(Some).chain([None]) {
            let listed = stored.iter().filter(|orders| {
                let is_of_user = match (&scope, &of) {
                    (Scope::User(own, _), _) => own.as_str() == orders.user,
                    (_, Some(of)) => of.as_str() == orders.user,
                    _ => user(orders.user).tenant() == tenant,
                };
                is_of_user && state.is_none_or(|state| state.as_str() == orders.status)
            });
            let mut numbers: Vec<i64> = listed.flat_map(|orders| orders.numbers.clone()).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            let ids = numbers.into_iter().map(|number| u128::try_from(number).unwrap());
            listings.push(Listing {
                scope: scope.clone(),
                filter: ListFilter {
                    user: of.clone(),
                    state,
                    before: None,
                },
                ids: ids.map(Uuid::from_u128).collect(),
            });
        }
    }
    listings
}

impl Listing {
    /// The orders of the page after this one.
    async fn page(&self, store: &OrderStore, after: Option<Uuid>) -> Vec<Uuid> {
        let filter = ListFilter {
            before: after.map(OrderId::new),
            ..self.filter.clone()
        };
        let limit = i64::try_from(PAGE).unwrap();
        let orders = store.list(&self.scope, &filter, limit).await.unwrap();
        orders.iter().map(|order| order.id.uuid()).collect()
    }
}

/// Each list has its orders on its first two pages, the newest first, and each of these pages reads no more than so much.
async fn assert_first_pages(rig: &Rig, stored: &[Stored], read_max: i64) {
    let sql = rig.sql().await;
    let mut dear = Vec::new();
    for users in [vec!["anna", "ben"], vec!["acme/ann", "acme/ben"], vec!["tiny/tim"]] {
        for listing in listings(&users, stored) {
            let (mut after, mut expected) = (None, listing.ids.chunks(PAGE));
            for number in 1..=2 {
                let expected = expected.next().unwrap_or_default();
                let before = read_so_far(&sql).await;
                let page = listing.page(&store(rig, "reader"), after).await;
                let read = read_so_far(&sql).await - before;
                let (scope, filter) = (&listing.scope, &listing.filter);
                assert_eq!(page, expected, "page {number} of {scope:?} {filter:?}");
                if read > read_max {
                    let count = page.len();
                    dear.push(format!(
                        "{read} rows for {count} orders on page {number} of {scope:?} {filter:?}"
                    ));
                }
                after = page.last().copied().or(after);
            }
        }
    }
    assert!(
        dear.is_empty(),
        "{} pages read more than {read_max}:\n{}",
        dear.len(),
        dear.join("\n")
    );
}

#[tokio::test]
async fn a_list_reads_a_page_however_rare_is_what_is_listed() {
    let rig = Rig::builder().no_server().start().await;
    let stored = in_a_row();
    store_orders(&rig, &stored).await;
    assert_first_pages(&rig, &stored, READ_MAX).await;
}

/// Orders that are worked on are read for each page, whosever they are: there are never many, beside those that are settled.
#[tokio::test]
async fn a_list_reads_a_page_and_what_is_under_way_however_much_that_is() {
    let rig = Rig::builder().no_server().start().await;
    let stored = in_turns();
    store_orders(&rig, &stored).await;
    let under_way = stored.iter().filter(|orders| !orders.is_settled());
    let under_way: usize = under_way.map(|orders| orders.numbers.len()).sum();
    let read_max = READ_MAX + i64::try_from(under_way).unwrap();
    assert_first_pages(&rig, &stored, read_max).await;
}

#[tokio::test]
async fn the_pages_of_a_list_have_each_order_once_whether_it_is_settled_or_under_way() {
    let rig = Rig::builder().no_server().start().await;
    let stored = in_turns();
    store_orders(&rig, &stored).await;
    let store = store(&rig, "reader");
    for users in [vec!["anna", "ben"], vec!["acme/ann", "acme/ben"], vec!["tiny/tim"]] {
        for listing in listings(&users, &stored) {
            let mut all = Vec::new();
            loop {
                let page = listing.page(&store, all.last().copied()).await;
                if page.is_empty() {
                    break;
                }
                all.extend(page);
                assert!(all.len() <= listing.ids.len(), "{:?} has no end", listing.filter);
            }
            assert_eq!(all, listing.ids, "{:?} {:?}", listing.scope, listing.filter);
        }
    }
}
