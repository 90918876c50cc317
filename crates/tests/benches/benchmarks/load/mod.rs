//! The load on a server: that of `waybill load`, plan for plan. Whatever is not answered as it should be ends the run:
//! a benchmark with errors in it is none.

pub mod calls;
pub mod city;
pub mod handshakes;
pub mod one_order;
pub mod refusals;
pub mod watchers;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use waybill_simulator::Target;
use waybill_simulator::load::plan::{Arrivals, IngestLoad, NearbyLoad, OrdersLoad, Pace, Plan, Rate, Workload};
use waybill_simulator::load::report::{LoadReport, Operation};
use waybill_simulator::load::{self, Live};

use testkit::benchmark::Verdicts;
use testkit::benchmark::rounds::Turn;

/// Calls share connections, as those of an application's servers do.
pub const CHANNELS: usize = 4;
/// Orders at a time.
pub const ORDERERS: usize = 48;
/// Searches at a time, how far they look in metres, and how many drivers they want.
pub const SEARCHERS: usize = 64;
/// See `SEARCHERS`.
pub const RADIUS_M: f64 = 2_000.0;
/// See `SEARCHERS`.
pub const WANTED: u32 = 8;
/// Streams of fixes, each on a connection of its own.
pub const STREAMS: usize = 8;
/// Fixes on a stream that are not acknowledged yet, at most.
pub const WINDOW: usize = 500;
/// Fixes in one message at most: well within the size of a message.
const BATCH: usize = 500;
/// Streams on which each fix is a message of its own: many, as vehicles have them.
pub const STREAMS_OF_SINGLES: usize = 64;
/// Their window where they have a rate: no fix waits for room, for it is the acknowledgement that is measured.
const WINDOW_OF_SINGLES: usize = 20_000;
/// Drivers of the load of orders: ten places for each order under way, so that none waits for a driver.
const DRIVERS_OF_ORDERS: u32 = 8 * 10 * 48;
/// A server that is not measured at its limits answers long before.
const DEADLINE: Duration = Duration::from_secs(10);

/// The load on one server.
pub struct Load {
    server: Target,
    /// Of each run since they were asked for.
    verdicts: RefCell<Verdicts>,
}

impl Load {
    /// On the server at `endpoint`.
    pub fn on(endpoint: Endpoint) -> Load {
        Load {
            server: endpoint.into(),
            verdicts: RefCell::default(),
        }
    }

    /// Orders, placed and completed, as fast as the callers are answered.
    pub async fn orders(&self, time: Duration) -> Turn {
        self.orders_of(ORDERERS, time).await
    }

    /// The same of so many callers.
    pub async fn orders_of(&self, callers: usize, time: Duration) -> Turn {
        let callers = Pace::Closed { callers };
        turn(&self.run(orders(), callers, time, None).await)
    }

    /// Orders at `rate` a second.
    pub async fn orders_at(&self, rate: f64, time: Duration) -> LoadReport {
        self.run(orders(), at(rate), time, None).await
    }

    /// Orders at `rate` a second, whatever becomes of them. `repeated`: as clients that obey the server repeat them.
    pub async fn orders_whatever(&self, rate: f64, time: Duration, repeated: bool) -> LoadReport {
        self.run_whatever(orders(), at(rate), (time, repeated), &CancellationToken::new())
            .await
    }

    /// As many orders a second as callers reach that wait for each answer, be it a refusal.
    pub async fn orders_served(&self, time: Duration) -> f64 {
        let callers = Pace::Closed { callers: ORDERERS };
        let report = self
            .run_whatever(orders(), callers, (time, false), &CancellationToken::new())
            .await;
        operation(&report, Some("order")).answered_per_second
    }

    /// The same, repeated, until `stop`.
    pub async fn orders_until(&self, rate: f64, stop: &CancellationToken) -> LoadReport {
        let longest = Duration::from_mins(20);
        self.run_whatever(orders(), at(rate), (longest, true), stop).await
    }

    /// Fixes on as many streams at `rate` a second, whatever becomes of them.
    pub async fn fixes_whatever(&self, drivers: u32, rate: f64, time: Duration) -> LoadReport {
        let workload = fixes(drivers, STREAMS_OF_SINGLES, WINDOW_OF_SINGLES, BATCH);
        self.run_whatever(workload, at(rate), (time, false), &CancellationToken::new())
            .await
    }

    async fn run_whatever(
        &self,
        workload: Workload,
        pace: Pace,
        (duration, retries): (Duration, bool),
        stop: &CancellationToken,
    ) -> LoadReport {
        let plan = Plan {
            duration,
            deadline: DEADLINE,
            retries,
            ..Plan::new(workload, pace)
        };
        let report = load::run(plan, &self.server, &Live::default(), stop).await;
        report.expect("the load is made")
    }

    /// Fixes of so many drivers, as fast as they are acknowledged. The turn ends with the last acknowledgement.
    pub async fn fixes(&self, drivers: u32, window: usize, time: Duration) -> Turn {
        let full = Pace::Closed { callers: STREAMS };
        self.acknowledged(fixes(drivers, STREAMS, window, BATCH), full, time)
            .await
    }

    /// The most fixes a second when each is a message of its own, and each stream waits for its acknowledgement.
    pub async fn singles(&self, drivers: u32, time: Duration) -> Turn {
        let full = Pace::Closed {
            callers: STREAMS_OF_SINGLES,
        };
        turn(
            &self
                .run(fixes(drivers, STREAMS_OF_SINGLES, 1, 1), full, time, None)
                .await,
        )
    }

    /// The same, where so many may be on their way on each stream; and until all of them are acknowledged.
    pub async fn singles_ahead(&self, drivers: u32, window: usize, time: Duration) -> Turn {
        let full = Pace::Closed {
            callers: STREAMS_OF_SINGLES,
        };
        let workload = fixes(drivers, STREAMS_OF_SINGLES, window, 1);
        self.acknowledged(workload, full, time).await
    }

    /// A fix of each of so many drivers.
    pub async fn fixes_of_all(&self, drivers: u32) {
        let full = Pace::Closed { callers: STREAMS };
        self.run(
            fixes(drivers, STREAMS, WINDOW, BATCH),
            full,
            Duration::from_mins(2),
            Some(drivers.into()),
        )
        .await;
    }

    /// Fixes on as many streams at `rate` a second, in one message as far as they are due together.
    pub async fn singles_at(&self, drivers: u32, rate: f64, time: Duration) -> LoadReport {
        let workload = fixes(drivers, STREAMS_OF_SINGLES, WINDOW_OF_SINGLES, BATCH);
        self.run(workload, at(rate), time, None).await
    }

    async fn acknowledged(&self, workload: Workload, pace: Pace, time: Duration) -> Turn {
        let began_at = Instant::now();
        let report = self.run(workload, pace, time, None).await;
        let all = operation(&report, None).totals.answered;
        Turn {
            count: all,
            elapsed: began_at.elapsed(),
            all,
        }
    }

    /// Searches among the drivers that are there, so many at a time, as fast as they are answered.
    pub async fn searches(&self, callers: usize, time: Duration) -> Turn {
        let workload = Workload::Nearby(NearbyLoad {
            drivers: 0,
            radius_m: RADIUS_M,
            count: WANTED,
        });
        turn(&self.run(workload, Pace::Closed { callers }, time, None).await)
    }

    /// Whose numbers those since the last time were. Asking forgets.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.take()
    }

    async fn run(&self, workload: Workload, pace: Pace, time: Duration, count_max: Option<u64>) -> LoadReport {
        let plan = Plan {
            workload,
            pace,
            // The turn before was it.
            warm_up: Duration::ZERO,
            duration: time,
            count_max,
            deadline: DEADLINE,
            retries: false,
            seed: 1,
        };
        let report = load::run(plan, &self.server, &Live::default(), &CancellationToken::new()).await;
        let report = report.expect("the load is made");
        for operation in &report.operations {
            let totals = operation.totals;
            assert!(
                totals.answered > 0 && operation.errors.is_empty() && totals.answered == totals.offered,
                "not all is well with {}: {totals:?}, {:?}",
                operation.name,
                operation.errors
            );
        }
        let limited = report.generator.limited_by_generator.clone();
        self.verdicts.borrow_mut().push(limited);
        report
    }
}

fn orders() -> Workload {
    Workload::Orders(OrdersLoad {
        drivers: DRIVERS_OF_ORDERS,
    })
}

fn fixes(drivers: u32, streams: usize, window: usize, batch: usize) -> Workload {
    Workload::Ingest(IngestLoad {
        drivers,
        streams,
        // A message takes what is due together, and waits for no more.
        gather: Duration::ZERO,
        window,
        batch,
    })
}

fn at(rate: f64) -> Pace {
    Pace::Open {
        arrivals: Arrivals::Poisson,
        rate: Rate::Constant(rate),
    }
}

/// The most important operation, as a turn: what was answered while it lasted, as the baselines count it.
fn turn(report: &LoadReport) -> Turn {
    let operation = operation(report, None);
    Turn {
        count: operation.seconds.iter().map(|second| second.completed).sum(),
        elapsed: Duration::from_secs_f64(report.measured_seconds),
        all: operation.totals.answered,
    }
}

/// An operation by its name; without one, the most important.
pub fn operation<'a>(report: &'a LoadReport, name: Option<&str>) -> &'a Operation {
    let mut operations = report.operations.iter();
    let found = operations.find(|operation| name.is_none_or(|name| operation.name == name));
    found.expect("the load has such an operation")
}
