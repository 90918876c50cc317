//! Customers against a real gRPC server that refuses, stalls and declines.

use std::collections::BTreeSet;

use tonic::{Code, Status};

use super::*;
use crate::fake_server::FakeServer;
use crate::stats::{OrdersSeen, Stats};

const CENTRE: Point = Point {
    lat_deg: 37.7749,
    lon_deg: -122.4194,
};

fn quick() -> CustomersOptions {
    CustomersOptions {
        retry: RetryPolicy::QUICK,
        ..CustomersOptions::default()
    }
}

fn order(number: usize) -> PlannedOrder {
    PlannedOrder {
        due: Instant::now(),
        user_id: format!("rider-{number:06}"),
        amount_cents: 1_250,
        payment_method: "pm_card_visa",
        pickup: CENTRE,
        drop_off: CENTRE.offset(1_000.0, 0.0),
        ride: Duration::from_hours(1),
    }
}

/// A server with a driver in the centre, its customers, and what they count.
struct City {
    server: FakeServer,
    stats: Stats,
    customers: Arc<Customers>,
}

impl City {
    async fn with(options: CustomersOptions) -> City {
        let server = FakeServer::start().await;
        let cab = [("cab".to_owned(), CENTRE)];
        server.script.seen.send_modify(|seen| seen.last_fix.extend(cab));
        let (stats, dial) = (Stats::default(), Dial::from(&server.target));
        let customers = Customers::new(&dial, options, &stats.orders, &stats.timeline);
        City {
            server,
            stats,
            customers,
        }
    }

    async fn place(&self, orders: impl IntoIterator<Item = PlannedOrder>) {
        self.place_until(orders, &CancellationToken::new()).await;
    }

    async fn place_until(&self, orders: impl IntoIterator<Item = PlannedOrder>, stop: &CancellationToken) {
        let all = self.customers.place_all(orders, stop);
        let all = tokio::time::timeout(Duration::from_secs(10), all).await;
        all.expect("all orders are settled").unwrap();
    }

    fn orders(&self) -> OrdersSeen {
        self.stats.snapshot().orders
    }
}

#[tokio::test]
async fn an_order_is_repeated_with_its_key_until_it_is_settled() {
    let city = City::with(quick()).await;
    let refusals = [
        Status::resource_exhausted("limit"),
        Status::aborted("running"),
        Status::unavailable("down"),
    ];
    city.server.script.create_refusals.lock().unwrap().extend(refusals);

    city.place([order(1)]).await;

    assert_eq!((city.orders().succeeded, city.orders().retries), (1, 3));
    assert_eq!(city.customers.answers()[0].status, "succeeded");
    city.server.see(|seen| {
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
    let city = City::with(quick()).await;
    city.place((0..50).map(|_| order(1))).await;

    city.server.see(|seen| {
        let keys: BTreeSet<_> = seen.creates.iter().map(|call| call.idempotency_key.clone()).collect();
        assert_eq!(keys.len(), 50);
    });
    assert_eq!(city.orders().succeeded, 50);
}

#[tokio::test]
async fn outcomes_are_distinct() {
    let city = City::with(quick()).await;
    let declined = PlannedOrder {
        payment_method: "pm_card_chargeDeclined",
        ..order(1)
    };
    let far_away = PlannedOrder {
        pickup: CENTRE.offset(-60_000.0, 0.0),
        ..order(2)
    };
    city.place([declined, far_away, order(3)]).await;

    let orders = city.orders();
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
    let city = City::with(quick()).await;
    city.server.script.hold_orders.send_replace(true);

    let release = async {
        // More than one connection takes.
        let all_there = city
            .server
            .until("all orders are with the server, none answered", |seen| {
                seen.creates.len() == 250
            });
        all_there.await;
        assert_eq!((city.orders().offered, city.orders().in_flight), (250, 250));
        city.server.script.hold_orders.send_replace(false);
    };
    tokio::join!(city.place((0..250).map(order)), release);

    assert_eq!(city.orders().succeeded, 250);
}

#[tokio::test]
async fn an_order_beyond_the_bound_waits_and_is_counted() {
    let city = City::with(CustomersOptions {
        in_flight_max: 2,
        ..quick()
    })
    .await;
    city.server.script.hold_orders.send_replace(true);
    let release = async {
        city.server
            .until("two orders are with the server", |seen| seen.creates.len() == 2)
            .await;
        let waits = async {
            while city.orders().offered < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap();
        assert_eq!(city.orders().placed, 2);
        city.server.script.hold_orders.send_replace(false);
    };
    tokio::join!(city.place((0..3).map(order)), release);

    let orders = city.orders();
    assert_eq!((orders.offered, orders.placed, orders.succeeded), (3, 3, 3));
}

#[tokio::test]
async fn an_order_that_stays_refused_is_given_up() {
    let mut options = quick();
    options.retry.give_up_after = Duration::from_millis(100);
    let city = City::with(options).await;
    city.server
        .script
        .create_refusals
        .lock()
        .unwrap()
        .extend((0..100_000).map(|_| Status::unavailable("down")));
    city.place([order(1)]).await;
    assert_eq!(city.orders().gave_up, 1);

    city.server.script.create_refusals.lock().unwrap().clear();
    city.server
        .script
        .create_refusals
        .lock()
        .unwrap()
        .push_back(Status::new(Code::InvalidArgument, "no"));
    let calls = city.server.see(|seen| seen.creates.len());
    city.place([order(2)]).await;
    assert_eq!(city.orders().gave_up, 2);
    assert_eq!(
        city.server.see(|seen| seen.creates.len()),
        calls + 1,
        "a definite refusal is not repeated"
    );
}

#[tokio::test]
async fn a_ride_is_completed_after_its_time_whatever_fails_first() {
    let city = City::with(quick()).await;
    city.server
        .script
        .complete_refusals
        .lock()
        .unwrap()
        .extend([Status::unavailable("down"), Status::aborted("busy")]);
    let ride = Duration::from_millis(30);
    city.place([PlannedOrder { ride, ..order(1) }]).await;

    city.server
        .until("the ride is completed", |seen| seen.completed.len() == 1)
        .await;
    city.server.see(|seen| {
        for (order_id, completed) in &seen.completed {
            assert!(
                *completed >= seen.settled[order_id] + ride,
                "completed before the ride was over"
            );
        }
    });
    city.customers.end_rides().await;
    assert_eq!((city.orders().completed, city.orders().retries), (1, 2));
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
    let city = City::with(quick()).await;
    city.place((0..5).map(order)).await;
    tokio::time::timeout(Duration::from_secs(10), city.customers.end_rides())
        .await
        .expect("an hour is not waited for");
    assert_eq!((city.orders().succeeded, city.orders().completed), (5, 0));
    city.server.see(|seen| assert!(seen.completed.is_empty()));
}

#[tokio::test]
async fn a_stop_ends_the_arrivals_and_orders_abandoned_count_as_given_up() {
    let city = City::with(quick()).await;
    city.server.script.hold_orders.send_replace(true);
    let stop = CancellationToken::new();
    let later = PlannedOrder {
        due: Instant::now() + Duration::from_hours(1),
        ..order(2)
    };
    let stopped = async {
        city.server
            .until("the first order is with the server", |seen| seen.creates.len() == 1)
            .await;
        stop.cancel();
        city.customers.abandon();
    };
    tokio::join!(city.place_until([order(1), later], &stop), stopped);

    let orders = city.orders();
    assert_eq!((orders.placed, orders.gave_up, orders.in_flight), (1, 1, 0));
}

#[tokio::test]
async fn orders_behind_one_that_waits_for_room_wait_too() {
    let city = City::with(CustomersOptions {
        in_flight_max: 20,
        ..quick()
    })
    .await;
    city.server.script.hold_orders.send_replace(true);
    let due = Instant::now();
    let orders = (0..40).map(|number| PlannedOrder { due, ..order(number) });
    let release = async {
        city.server
            .until("there is no room", |seen| seen.creates.len() == 20)
            .await;
        city.server.script.hold_orders.send_replace(false);
    };
    tokio::join!(city.place(orders), release);

    let late = city.stats.orders.creations.lateness().buckets();
    assert_eq!(city.orders().succeeded, 40);
    assert_eq!(
        late.iter().map(|bucket| bucket.count).sum::<u64>(),
        20,
        "the others waited for the server, and not for this process"
    );
}
