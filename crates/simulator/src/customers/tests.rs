//! Customers against a real gRPC server that refuses, stalls and declines.

use std::collections::BTreeSet;

use tonic::Code;

use super::*;
use crate::fake_server::FakeServer;

const CENTRE: Point = Point {
    lat_deg: 37.7749,
    lon_deg: -122.4194,
};

fn quick() -> CustomersOptions {
    let retry = RetryPolicy {
        wait_first: Duration::from_millis(2),
        wait_max: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    CustomersOptions {
        retry,
        ..CustomersOptions::default()
    }
}

fn order(number: usize) -> Order {
    Order {
        due: Instant::now(),
        user_id: format!("rider-{number:06}"),
        amount_cents: 1_250,
        payment_method: "pm_card_visa",
        pickup: CENTRE,
        drop_off: CENTRE.offset(1_000.0, 0.0),
        ride: Duration::from_hours(1),
    }
}

/// A server with a driver in the centre, and its customers.
async fn city(options: CustomersOptions) -> (FakeServer, Customers, Arc<Stats>) {
    let server = FakeServer::start().await;
    server
        .script
        .seen
        .send_modify(|seen| seen.last_fix.extend([("cab".to_owned(), CENTRE)]));
    let stats = Arc::new(Stats::default());
    let customers = Customers::new(&server.endpoint, options, Arc::clone(&stats));
    (server, customers, stats)
}

async fn place(customers: &Customers, orders: impl IntoIterator<Item = Order>) {
    let all = async {
        customers.place_all(orders, &CancellationToken::new()).await;
        customers.settled().await;
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("all orders are settled");
}

#[tokio::test]
async fn an_order_is_repeated_with_its_key_until_it_is_settled() {
    let (server, customers, stats) = city(quick()).await;
    let refusals = [
        Status::resource_exhausted("limit"),
        Status::aborted("running"),
        Status::unavailable("down"),
    ];
    server.script.create_refusals.lock().unwrap().extend(refusals);

    let outcome = customers.shared.settle(&order(1)).await.unwrap();

    let Outcome::Succeeded { driver_id, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((driver_id.as_str(), stats.snapshot().orders.retries), ("cab", 3));
    server.see(|seen| {
        assert_eq!(seen.creates.len(), 4);
        assert!(
            seen.creates.iter().all(|call| *call == seen.creates[0]),
            "each call is the same request"
        );
        assert_eq!(seen.orders.len(), 1);
    });
}

#[tokio::test]
async fn each_order_has_a_key_of_its_own() {
    let (server, customers, stats) = city(quick()).await;
    place(&customers, (0..50).map(|_| order(1))).await;

    server.see(|seen| {
        let keys: BTreeSet<_> = seen.creates.iter().map(|call| call.idempotency_key.clone()).collect();
        assert_eq!(keys.len(), 50);
    });
    assert_eq!(stats.snapshot().orders.succeeded, 50);
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let (_server, customers, stats) = city(quick()).await;
    let declined = Order {
        payment_method: "pm_card_chargeDeclined",
        ..order(1)
    };
    let far_away = Order {
        pickup: CENTRE.offset(-60_000.0, 0.0),
        ..order(2)
    };
    place(&customers, [declined, far_away, order(3)]).await;

    let orders = stats.snapshot().orders;
    let ends = (
        orders.succeeded,
        orders.refunded,
        orders.failed,
        orders.gave_up,
        orders.in_flight,
    );
    assert_eq!((orders.placed, ends), (3, (1, 1, 1, 0, 0)));
}

#[tokio::test]
async fn an_order_does_not_wait_for_the_one_before() {
    let (server, customers, stats) = city(quick()).await;
    server.script.hold_orders.send_replace(true);

    // More than one connection takes.
    customers
        .place_all((0..250).map(order), &CancellationToken::new())
        .await;
    server
        .until("all orders are with the server, none answered", |seen| {
            seen.creates.len() == 250
        })
        .await;

    assert_eq!(stats.snapshot().orders.in_flight, 250);
    server.script.hold_orders.send_replace(false);
    place(&customers, []).await;
    assert_eq!(
        (stats.snapshot().orders.succeeded, stats.snapshot().orders.delayed),
        (250, 0)
    );
}

#[tokio::test]
async fn an_order_beyond_the_bound_waits_and_is_counted() {
    let (server, customers, stats) = city(CustomersOptions {
        in_flight_max: 2,
        ..quick()
    })
    .await;
    server.script.hold_orders.send_replace(true);
    let release = async {
        server
            .until("two orders are with the server", |seen| seen.creates.len() == 2)
            .await;
        let delayed = async {
            while stats.snapshot().orders.delayed == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), delayed).await.unwrap();
        assert_eq!(stats.snapshot().orders.placed, 2);
        server.script.hold_orders.send_replace(false);
    };
    tokio::join!(place(&customers, (0..3).map(order)), release);

    let orders = stats.snapshot().orders;
    assert_eq!((orders.placed, orders.succeeded), (3, 3));
    assert_eq!(orders.delayed, 1);
}

#[tokio::test]
async fn an_order_that_stays_refused_is_given_up() {
    let mut options = quick();
    options.retry.give_up_after = Duration::from_millis(100);
    let (server, customers, stats) = city(options).await;
    server
        .script
        .create_refusals
        .lock()
        .unwrap()
        .extend((0..100_000).map(|_| Status::unavailable("down")));
    place(&customers, [order(1)]).await;
    assert_eq!(stats.snapshot().orders.gave_up, 1);

    server.script.create_refusals.lock().unwrap().clear();
    server
        .script
        .create_refusals
        .lock()
        .unwrap()
        .push_back(Status::new(Code::InvalidArgument, "no"));
    let calls = server.see(|seen| seen.creates.len());
    let refused = customers.shared.settle(&order(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        server.see(|seen| seen.creates.len()),
        calls + 1,
        "a definite refusal is not repeated"
    );
}

#[tokio::test]
async fn a_ride_is_completed_after_its_time_whatever_fails_first() {
    let (server, customers, stats) = city(quick()).await;
    server
        .script
        .complete_refusals
        .lock()
        .unwrap()
        .extend([Status::unavailable("down"), Status::aborted("busy")]);
    let ride = Duration::from_millis(30);
    place(&customers, [Order { ride, ..order(1) }]).await;

    server
        .until("the ride is completed", |seen| seen.completed.len() == 1)
        .await;
    server.see(|seen| {
        for (order_id, completed) in &seen.completed {
            assert!(
                *completed >= seen.settled[order_id] + ride,
                "completed before the ride was over"
            );
        }
    });
    customers.end_rides().await;
    assert_eq!(
        (stats.snapshot().orders.completed, stats.snapshot().orders.retries),
        (1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_ride_arrives_at_its_time_and_not_after_the_end_of_the_run() {
    let over = CancellationToken::new();
    let ends_at = Instant::now() + Duration::from_mins(10);
    assert!(arrives(ends_at, &over).await);
    assert_eq!(Instant::now(), ends_at);

    over.cancel();
    assert!(!arrives(Instant::now() + Duration::from_mins(10), &over).await);
}

#[tokio::test]
async fn rides_on_the_road_at_the_end_are_left_there() {
    let (server, customers, stats) = city(quick()).await;
    place(&customers, (0..5).map(order)).await;
    tokio::time::timeout(Duration::from_secs(10), customers.end_rides())
        .await
        .expect("an hour is not waited for");
    assert_eq!(
        (stats.snapshot().orders.succeeded, stats.snapshot().orders.completed),
        (5, 0)
    );
    server.see(|seen| assert!(seen.completed.is_empty()));
}

#[tokio::test]
async fn a_stop_ends_the_arrivals_and_orders_abandoned_count_as_given_up() {
    let (server, customers, stats) = city(quick()).await;
    server.script.hold_orders.send_replace(true);
    let stop = CancellationToken::new();
    let later = Order {
        due: Instant::now() + Duration::from_hours(1),
        ..order(2)
    };
    let stopped = async {
        server
            .until("the first order is with the server", |seen| seen.creates.len() == 1)
            .await;
        stop.cancel();
    };
    tokio::join!(customers.place_all([order(1), later], &stop), stopped);
    customers.abandon();
    place(&customers, []).await;

    let orders = stats.snapshot().orders;
    assert_eq!((orders.placed, orders.gave_up, orders.in_flight), (1, 1, 0));
}

/// Of each order that was placed, whether it had waited for room.
#[derive(Debug, Default)]
struct Waited(Mutex<Vec<bool>>);

impl Observer for Waited {
    fn scheduled(&self, _: Instant) {}
    fn delayed(&self, _: Instant) {}
    fn placed(&self, _: Instant, _: Instant, waited: bool) {
        self.0.lock().unwrap().push(waited);
    }
    fn settled(&self, _: Instant, _: Instant, _: Result<&Outcome, &Status>) {}
    fn completing(&self, _: Instant, _: Instant) {}
    fn completed(&self, _: Instant, _: Instant, _: Result<(), &Status>) {}
    fn placed_again(&self, _: Instant) {}
    fn completing_again(&self, _: Instant) {}
}

#[tokio::test]
async fn orders_behind_one_that_waits_for_room_wait_too() {
    let (server, _, _) = city(quick()).await;
    let waited = Arc::new(Waited::default());
    let options = CustomersOptions {
        in_flight_max: 20,
        ..quick()
    };
    let customers = Customers::watched(&Dial::from(&server.endpoint), options, Arc::<Waited>::clone(&waited));
    server.script.hold_orders.send_replace(true);
    let due = Instant::now();
    let orders = (0..40).map(|number| Order { due, ..order(number) });
    let release = async {
        server.until("there is no room", |seen| seen.creates.len() == 20).await;
        server.script.hold_orders.send_replace(false);
    };
    tokio::join!(place(&customers, orders), release);

    let waited = waited.0.lock().unwrap();
    assert_eq!(
        *waited,
        [[false; 20], [true; 20]].concat(),
        "what the server kept waiting"
    );
}
