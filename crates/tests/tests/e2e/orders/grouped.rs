//! Orders that are committed together: each is under its own fence.

use futures_util::future::join_all;
use testkit::Rig;
use testkit::wire::a_ride;
use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::order::{OrderRequest, PaymentMode};
use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::position::Position;
use waybill_server::storage::StoreError;
use waybill_server::storage::orders::{Accepted, Assigned, Candidate, LeasedOrder, OrderStore, StepOutcome};

use crate::driver_races::store;

/// A new order, leased to who accepts it.
pub async fn accept(store: &OrderStore) -> LeasedOrder {
    let ride = a_ride();
    let request = OrderRequest {
        key: ride.idempotency_key.parse().unwrap(),
        user: ride.user_id.parse().unwrap(),
        amount: waybill_domain::money::Money::new("USD".parse().unwrap(), 1_999).unwrap(),
        payment_method: ride.payment_method.parse().unwrap(),
        provider_customer: None,
        payment_mode: PaymentMode::ChargeFirst,
        pickup: Position::new(37.77, -122.42).unwrap(),
        drop_off: None,
        required_tags: waybill_domain::duty::Tags::default(),
    };
    let accepted = store
        .accept(OrderId::new(Uuid::now_v7()), &request, &PaymentAccount::default())
        .await;
    match accepted.unwrap() {
        Accepted::New(order) => *order,
        Accepted::Duplicate(existing) => panic!("the key is new: {existing:?}"),
    }
}

/// Another worker claimed all of them. Of every second one its lease is at hand, and of the others that of before.
async fn claimed_anew(rig: &Rig, mut orders: Vec<LeasedOrder>) -> Vec<LeasedOrder> {
    rig.execute("update order_sagas set fence = fence + 1").await;
    for order in orders.iter_mut().step_by(2) {
        order.lease.fence += 1;
    }
    orders
}

/// Those of every second order, all others of which were fenced.
fn of_current<T>(results: Vec<Result<T, StoreError>>) -> Vec<T> {
    let mut current = Vec::new();
    for (number, result) in results.into_iter().enumerate() {
        match (number % 2, result) {
            (0, Ok(done)) => current.push(done),
            (1, Err(StoreError::Fenced { .. })) => {}
            (_, Ok(_)) => panic!("order {number} was changed under a lost lease"),
            (_, Err(error)) => panic!("order {number}: {error}"),
        }
    }
    current
}

#[tokio::test]
async fn of_orders_that_come_at_once_each_is_under_its_own_fence() {
    let rig = Rig::builder().no_server().start().await;
    let store = store(&rig, "worker");
    let accepted = join_all((0..20).map(|_| accept(&store))).await;
    let commits = "select count(distinct xmin::text) from order_sagas";
    assert!(rig.count(commits).await < 5, "they are accepted together");

    let orders = claimed_anew(&rig, accepted).await;
    let charged = orders.iter().map(|order| {
        let outcome = StepOutcome::Charged {
            provider_id: format!("pi_{}", order.order.id),
        };
        let store = &store;
        async move { store.advance(order, &outcome).await }
    });
    let charged = of_current(join_all(charged).await);
    assert_eq!(
        (rig.orders_in("charging").await, rig.orders_in("charged").await),
        (10, 10)
    );
    assert_eq!(rig.count("select count(*) from payments").await, 10);

    let orders = claimed_anew(&rig, charged).await;
    let assigned = orders.iter().enumerate().map(|(number, order)| {
        let candidate = Candidate {
            driver: format!("cab-{number}").parse().unwrap(),
            distance_m: 7.0,
        };
        let store = &store;
        async move { store.assign(order, &[candidate]).await }
    });
    for assigned in of_current(join_all(assigned).await) {
        assert!(matches!(assigned, Assigned::Driver(_)), "{assigned:?}");
    }
    assert_eq!(
        (rig.orders_in("charged").await, rig.orders_in("succeeded").await),
        (5, 5)
    );
    assert_eq!(
        rig.count("select count(*) from drivers where active_order_id is not null")
            .await,
        5
    );
}

/// Whoever does not take the order of one is the driver of another in the same group.
#[tokio::test]
async fn orders_that_come_at_once_each_get_the_nearest_who_takes_them() {
    let rig = Rig::builder().no_server().start().await;
    let store = store(&rig, "worker");
    for (driver, tags) in [("plain", &[][..]), ("large", &["xl"])] {
        let tags = waybill_domain::duty::Tags::new(tags).unwrap();
        store
            .set_duty(&driver.parse().unwrap(), Some(true), Some(&tags))
            .await
            .unwrap();
    }
    store
        .set_duty(&"off".parse().unwrap(), Some(false), None)
        .await
        .unwrap();
    let orders = join_all((0..3).map(|_| accept(&store))).await;
    let charged = orders.iter().map(|order| {
        let provider_id = format!("pi_{}", order.order.id);
        let (store, outcome) = (&store, StepOutcome::Charged { provider_id });
        async move { store.advance(order, &outcome).await.unwrap() }
    });
    let mut charged = join_all(charged).await;
    // The first one only leads; the other two are a group.
    charged[1].order.required_tags = waybill_domain::duty::Tags::new(&["xl"]).unwrap();
    let nearest = |names: &[&str]| {
        let candidate = |name: &&str| Candidate {
            driver: name.parse().unwrap(),
            distance_m: 7.0,
        };
        names.iter().map(candidate).collect::<Vec<_>>()
    };
    let candidates = [
        nearest(&["first"]),
        nearest(&["off", "plain", "large"]),
        nearest(&["off", "plain", "large"]),
    ];
    let assigned = charged
        .iter()
        .zip(&candidates)
        .map(|(order, candidates)| store.assign(order, candidates));
    let mut drivers = Vec::new();
    for assigned in join_all(assigned).await {
        match assigned.unwrap() {
            Assigned::Driver(order) => drivers.push(order.order.assignment.unwrap().driver.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(drivers, ["first", "large", "plain"]);
    let details = "select string_agg(detail, '|' order by id) from order_saga_steps where step = 'assign'";
    let details: String = rig.sql().await.query_one(details, &[]).await.unwrap().get(0);
    assert_eq!(
        details,
        "first, 7 m away|large, 7 m away; off duty: off; without what it requires: plain|plain, 7 m away; off duty: off"
    );
}
