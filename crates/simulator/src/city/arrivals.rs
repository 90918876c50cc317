//! The orders of an invented city: a Poisson process, and in every fifty orders two that the payment provider declines
//! and one that no driver can reach.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::CityOptions;
use crate::Point;
use crate::customers::PlannedOrder;

/// Dealt from shuffled packs and not drawn one by one, so that even a short run shows every kind.
const PACK: usize = 50;
const DECLINED_IN_PACK: usize = 2;
const OUT_OF_REACH_IN_PACK: usize = 1;

/// Out at sea, west of San Francisco: beyond every search radius, 50 km at most.
const OUT_OF_REACH_EAST_M: f64 = -60_000.0;

/// The last order is placed so long before the end; an order that finds a driver takes far less.
const LAST_ORDER_BEFORE_END: Duration = Duration::from_secs(1);

/// How long rides take: exponential with this mean, within bounds.
const RIDE_MEAN_SECONDS: f64 = 8.0;
const RIDE_SECONDS: (f64, f64) = (1.0, 40.0);

/// In cents: the range of what a ride costs.
const AMOUNT_CENTS: std::ops::RangeInclusive<i64> = 500..=5_000;

/// So many customers share the orders, so that none of them comes near a rate limit of its own.
const CUSTOMERS: u64 = 1_000;

/// The orders of one run, by due time.
#[derive(Debug)]
pub(crate) struct Arrivals {
    options: CityOptions,
    started: Instant,
    after: Duration,
    number: u64,
    pack: Vec<Kind>,
    random: StdRng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Declined,
    OutOfReach,
}

impl Arrivals {
    /// Orders from one round of fixes after `started`, when every driver was seen, to the end of the run.
    pub(crate) fn new(options: &CityOptions, started: Instant) -> Arrivals {
        let random = StdRng::seed_from_u64(options.seed);
        Arrivals {
            options: *options,
            started,
            after: options.fix_every,
            number: 0,
            pack: Vec::new(),
            random,
        }
    }

    fn kind(&mut self) -> Kind {
        if self.pack.is_empty() {
            self.pack.resize(DECLINED_IN_PACK, Kind::Declined);
            self.pack
                .resize(DECLINED_IN_PACK + OUT_OF_REACH_IN_PACK, Kind::OutOfReach);
            self.pack.resize(PACK, Kind::Ordinary);
            self.pack.shuffle(&mut self.random);
        }
        let kind = self.pack.pop().unwrap_or(Kind::Ordinary);
        let refunded_in_time = self.after + self.options.settle <= self.options.duration;
        if kind == Kind::OutOfReach && !refunded_in_time {
            Kind::Ordinary
        } else {
            kind
        }
    }

    /// Exponentially distributed, the distance between two events of a Poisson process.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.random::<f64>()).ln()
    }

    /// Evenly distributed over the disc of the city.
    fn place(&mut self) -> Point {
        let distance_m = self.options.radius_m * self.random.random::<f64>().sqrt();
        let (sin, cos) = self.random.random_range(0.0..std::f64::consts::TAU).sin_cos();
        self.options.centre.offset(distance_m * sin, distance_m * cos)
    }
}

impl Iterator for Arrivals {
    type Item = PlannedOrder;

    fn next(&mut self) -> Option<PlannedOrder> {
        let gap = self.exponential(1.0 / self.options.orders_per_second);
        // Without orders the gap is infinite.
        self.after += Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 2);
        let last_order_before_end = LAST_ORDER_BEFORE_END.min(self.options.duration / 10);
        if self.after + last_order_before_end >= self.options.duration {
            return None;
        }
        let kind = self.kind();
        let pickup = match kind {
            Kind::OutOfReach => self.options.centre.offset(OUT_OF_REACH_EAST_M, 0.0),
            Kind::Ordinary | Kind::Declined => self.place(),
        };
        let ride_seconds = self
            .exponential(RIDE_MEAN_SECONDS)
            .clamp(RIDE_SECONDS.0, RIDE_SECONDS.1);
        self.number += 1;
        Some(PlannedOrder {
            due: self.started + self.after,
            user_id: format!("customer-{:03}", self.number % CUSTOMERS),
            amount_cents: self.random.random_range(AMOUNT_CENTS),
            payment_method: if kind == Kind::Declined {
                "pm_card_chargeDeclined"
            } else {
                "pm_card_visa"
            },
            pickup,
            drop_off: self.place(),
            ride: Duration::from_secs_f64(ride_seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CityOptions {
        CityOptions {
            duration: Duration::from_secs(1_000),
            ..CityOptions::default()
        }
    }

    fn is_out_of_reach(order: &PlannedOrder) -> bool {
        order.pickup.distance_m(options().centre) > 50_000.0
    }

    #[test]
    fn the_same_seed_gives_the_same_orders() {
        let started = Instant::now();
        let orders = |seed| {
            Arrivals::new(&CityOptions { seed, ..options() }, started)
                .take(200)
                .collect::<Vec<_>>()
        };
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
    }

    #[test]
    fn orders_come_at_the_rate_asked_for_and_at_random() {
        let started = Instant::now();
        let orders: Vec<PlannedOrder> = Arrivals::new(&options(), started).collect();
        assert!(
            (7_700..8_300).contains(&orders.len()),
            "{} orders in 1,000 s at 8/s",
            orders.len()
        );
        assert!(orders.is_sorted_by_key(|order| order.due));
        assert!(
            orders[0].due >= started + options().fix_every,
            "no order before the drivers were seen"
        );

        // The gaps of a Poisson process deviate as much as their mean.
        let gaps: Vec<f64> = orders
            .windows(2)
            .map(|pair| (pair[1].due - pair[0].due).as_secs_f64())
            .collect();
        let short = gaps.iter().filter(|gap| **gap < 0.125).count() * 100 / gaps.len();
        assert!(
            (60..=66).contains(&short),
            "{short} % of the gaps are shorter than the mean, not 1 - 1/e"
        );
    }

    #[test]
    fn four_in_a_hundred_are_declined_and_two_are_out_of_reach() {
        let orders: Vec<PlannedOrder> = Arrivals::new(&options(), Instant::now()).take(5_000).collect();
        assert_eq!(
            orders
                .iter()
                .filter(|order| order.payment_method == "pm_card_chargeDeclined")
                .count(),
            200
        );
        assert_eq!(orders.iter().filter(|order| is_out_of_reach(order)).count(), 100);
        assert_eq!(orders[..50].iter().filter(|order| is_out_of_reach(order)).count(), 1);
    }

    #[test]
    fn no_order_out_of_reach_comes_later_than_it_can_be_refunded() {
        let options = options();
        let started = Instant::now();
        let last_refundable = started + options.duration.saturating_sub(options.settle);
        let orders: Vec<PlannedOrder> = Arrivals::new(&options, started).collect();
        let last = orders.iter().rfind(|order| is_out_of_reach(order)).unwrap();
        assert!(last.due <= last_refundable, "{:?} too late", last.due - last_refundable);
        let after = orders.iter().filter(|order| order.due > last_refundable);
        assert!(after.count() > 150, "the others go on to the end");

        let short = CityOptions {
            duration: Duration::from_secs(20),
            ..options
        };
        assert_eq!(Arrivals::new(&short, started).filter(is_out_of_reach).count(), 0);
    }

    #[test]
    fn amounts_rides_and_places_are_within_their_bounds() {
        let options = options();
        let mut seconds = 0.0;
        for order in Arrivals::new(&options, Instant::now()).take(5_000) {
            assert!((500..=5_000).contains(&order.amount_cents));
            assert!((1.0..=40.0).contains(&order.ride.as_secs_f64()));
            assert!(is_out_of_reach(&order) || order.pickup.distance_m(options.centre) <= options.radius_m * 1.01);
            seconds += order.ride.as_secs_f64() / 5_000.0;
        }
        assert!((seconds - 8.0).abs() < 0.5, "a ride takes {seconds} s on average");
    }

    #[test]
    fn a_city_without_orders_has_none() {
        let none = CityOptions {
            orders_per_second: 0.0,
            ..options()
        };
        assert_eq!(Arrivals::new(&none, Instant::now()).count(), 0);
    }
}
