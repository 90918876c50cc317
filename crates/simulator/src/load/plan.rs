//! What to call, when, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// A run of load.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is called.
    pub workload: Workload,
    /// When.
    pub pace: Pace,
    /// How long the load goes before anything is counted. The first stage of a staircase is not shortened by it.
    pub warm_up: Duration,
    /// How long it is measured, after the warm-up. A recorded city is as long as it was.
    pub duration: Duration,
    /// How many calls (or fixes) at most, the warm-up not counted.
    pub count_max: Option<u64>,
    /// How long a call may take; sent to the server as its deadline.
    pub deadline: Duration,
    /// Whether a call that failed is made again. Off: each call is one call, and its failure is counted.
    pub retries: bool,
    /// Where the chances of the run come from; the same seed draws the same arrivals.
    pub seed: u64,
}

impl Plan {
    /// Half a minute of `workload` at `pace`, without a warm-up and without repetitions.
    pub fn new(workload: Workload, pace: Pace) -> Plan {
        Plan {
            workload,
            pace,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(30),
            count_max: None,
            deadline: Duration::from_secs(10),
            retries: false,
            seed: 1,
        }
    }
}

/// What is called.
#[derive(Debug, Clone)]
pub enum Workload {
    /// Orders from creation to completion, with drivers of their own near by, who keep reporting.
    Orders(OrdersLoad),
    /// Fixes on streams.
    Ingest(IngestLoad),
    /// Searches for the nearest drivers.
    Nearby(NearbyLoad),
    /// Fixes, searches and orders at once. The rate is that of the fixes; the others are shares of it.
    Mixed(MixedLoad),
    /// A recorded city: its fixes and rides when they were, at a speed.
    Trace(TraceLoad),
}

impl Workload {
    /// Its name, as in `waybill load <name>`.
    pub fn name(&self) -> &'static str {
        match self {
            Workload::Orders(_) => "orders",
            Workload::Ingest(_) => "ingest",
            Workload::Nearby(_) => "nearby",
            Workload::Mixed(_) => "mixed",
            Workload::Trace(_) => "trace",
        }
    }
}

/// The parameters of `orders`.
#[derive(Debug, Clone, Copy)]
pub struct OrdersLoad {
    /// Drivers, spread over places far from each other, eight to a place.
    pub drivers: u32,
}

/// An order holds its driver for as long as it takes. Two seconds are far above what a server in health needs; there are
/// never fewer than a few places, nor more than are kept fresh with ease.
const ORDER_SECONDS: f64 = 2.0;
const DRIVERS_OF_ORDERS: (f64, f64) = (200.0, 50_000.0);
const DRIVERS_PER_CALLER: f64 = 8.0;

impl OrdersLoad {
    /// Enough drivers for the orders that are under way at one time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within the bounds"
    )]
    pub fn for_pace(pace: Pace) -> OrdersLoad {
        let drivers = match pace {
            Pace::Open { rate, .. } => ORDER_SECONDS * rate.max(),
            Pace::Closed { callers } => DRIVERS_PER_CALLER * callers as f64,
            Pace::Recorded => 0.0,
        };
        let drivers = drivers.clamp(DRIVERS_OF_ORDERS.0, DRIVERS_OF_ORDERS.1).ceil();
        OrdersLoad {
            drivers: drivers as u32,
        }
    }
}

/// The parameters of `ingest`.
#[derive(Debug, Clone, Copy)]
pub struct IngestLoad {
    /// Drivers, spread evenly over the streams.
    pub drivers: u32,
    /// Streams, each on a connection of its own.
    pub streams: usize,
    /// Fixes that fall due within this time go out in one message. A fix waits for it, and its latency includes the wait.
    pub gather: Duration,
    /// Unacknowledged fixes on a stream at most.
    pub window: usize,
    /// Fixes in one message at most.
    pub batch: usize,
}

/// The parameters of `nearby`.
#[derive(Debug, Clone, Copy)]
pub struct NearbyLoad {
    /// Drivers put onto the map first, and kept fresh; 0 searches what is there.
    pub drivers: u32,
    /// The radius of a search in metres.
    pub radius_m: f64,
    /// Drivers asked for.
    pub count: u32,
}

impl Default for NearbyLoad {
    /// As far and as many as the server considers for an order, and a small town of drivers.
    fn default() -> NearbyLoad {
        NearbyLoad {
            drivers: 1_000,
            radius_m: 5_000.0,
            count: 8,
        }
    }
}

/// The parameters of `mixed`.
#[derive(Debug, Clone, Copy)]
pub struct MixedLoad {
    /// The fixes.
    pub ingest: IngestLoad,
    /// Orders for each fix, such as 0.005.
    pub orders_share: f64,
    /// Searches for each fix, such as 0.02.
    pub nearby_share: f64,
}

/// The parameters of `trace`.
#[derive(Debug, Clone)]
pub struct TraceLoad {
    /// The file of the fixes.
    pub locations: PathBuf,
    /// The file of the rides; without it nothing is ordered.
    pub rides: Option<PathBuf>,
    /// How many times faster than it was.
    pub speed: f64,
    /// Streams, each on a connection of its own.
    pub streams: usize,
}

/// When calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Scheduled ahead, whatever the server does.
    Open {
        /// How the arrivals are spaced.
        arrivals: Arrivals,
        /// How many there are.
        rate: Rate,
    },
    /// The next call when the one before is answered: so many callers, or full windows of fixes. It measures what the
    /// server can do, and cannot see a stall. Where it reaches no server a caller waits before its next call, a second at
    /// most.
    Closed {
        /// Callers at a time. For fixes the windows decide, and this is not used.
        callers: usize,
    },
    /// As a trace has it.
    Recorded,
}

impl Pace {
    /// So many calls for each one of this pace. One that has no rate stays as it is.
    #[must_use]
    pub fn times(self, share: f64) -> Pace {
        match self {
            Pace::Open { arrivals, rate } => Pace::Open {
                arrivals,
                rate: rate.times(share),
            },
            pace => pace,
        }
    }
}

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independent of each other, as those of many customers are: gaps with an exponential distribution.
    Poisson,
    /// Evenly.
    Constant,
}

/// Stages of a staircase at most. Each is counted by itself, and a report of more is not read.
pub const STAGES_MAX: u32 = 1_000;

/// Calls (or fixes) a second, over the time of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// The same all the time.
    Constant(f64),
    /// From one to the other, evenly.
    Ramp {
        /// At the start.
        from: f64,
        /// At the end.
        to: f64,
    },
    /// From one to the other in equal stages, each of a constant rate.
    Stairs {
        /// In the first stage.
        from: f64,
        /// In the last one.
        to: f64,
        /// How long a stage is. There are as many as fit into the duration, 2 at least and 1,000 at most.
        step: Duration,
    },
}

impl Rate {
    /// The highest that it gets.
    pub fn max(self) -> f64 {
        match self {
            Rate::Constant(rate) => rate,
            Rate::Ramp { from, to } | Rate::Stairs { from, to, .. } => from.max(to),
        }
    }

    /// So many calls for each one of this rate.
    #[must_use]
    pub fn times(self, share: f64) -> Rate {
        match self {
            Rate::Constant(rate) => Rate::Constant(rate * share),
            Rate::Ramp { from, to } => Rate::Ramp {
                from: from * share,
                to: to * share,
            },
            Rate::Stairs { from, to, step } => Rate::Stairs {
                from: from * share,
                to: to * share,
                step,
            },
        }
    }
}
