//! What the clients of a city counted so far: every fix and every order ends in exactly one of these numbers.

use std::time::Duration;

use tokio::time::Instant;
use waybill_proto::order::v1::OrderStatus;

use crate::customers::OrderCounts;
use crate::fleet::FleetCounts;
use crate::recorder::{Recorder, Timeline};

/// The counts of a city, shared by all tasks of its run and by whoever draws them on a screen.
#[derive(Debug)]
pub struct Stats {
    pub(crate) timeline: Timeline,
    pub(crate) fixes: FleetCounts,
    pub(crate) orders: OrderCounts,
}

/// The state of a run at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot {
    /// Since the counting began.
    pub elapsed: Duration,
    /// The orders.
    pub orders: OrdersSeen,
    /// The fixes.
    pub locations: FixesSeen,
}

/// The orders of a run. `placed` = `in_flight` + `succeeded` + `refunded` + `failed` + `gave_up`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OrdersSeen {
    /// Orders that were due.
    pub offered: u64,
    /// Orders begun. One that was due and is not begun waits until fewer are in flight.
    pub placed: u64,
    /// Orders without a settled answer yet.
    pub in_flight: u64,
    /// Orders that got a driver.
    pub succeeded: u64,
    /// Orders that got their money back.
    pub refunded: u64,
    /// Orders that were never charged.
    pub failed: u64,
    /// Orders without a settled answer when the time was up, or refused for good.
    pub gave_up: u64,
    /// Rides brought to their end.
    pub completed: u64,
    /// Calls that were repeated.
    pub retries: u64,
    /// From the intended time of an order to its settled answer, in milliseconds: half of the orders were as fast.
    pub p50_ms: f64,
    /// The same for 99 of 100 orders.
    pub p99_ms: f64,
}

/// The fixes of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FixesSeen {
    /// Distinct fixes handed to the server; sending one again does not count again.
    pub sent: u64,
    /// Distinct fixes that the server stored.
    pub acknowledged: u64,
    /// Distinct fixes that the server refused by name.
    pub rejected: u64,
    /// Distinct fixes that were sent and neither acknowledged nor rejected when the time was up.
    pub unsettled: u64,
    /// Fixes sent again because their stream broke.
    pub resent: u64,
    /// Streams that broke.
    pub broken_streams: u64,
    /// Drivers that sent a fix.
    pub drivers_seen: u64,
    /// Fixes acknowledged a second, over the last seconds.
    pub per_second: f64,
}

impl Default for Stats {
    /// Counts that begin now. The seconds of a city are not reported one by one.
    fn default() -> Stats {
        Stats::new(Timeline::without_seconds())
    }
}

impl Stats {
    /// The counts of a city that begins with `timeline`.
    pub(crate) fn new(timeline: Timeline) -> Stats {
        Stats {
            fixes: FleetCounts::new(&timeline),
            orders: OrderCounts::new(&timeline),
            timeline,
        }
    }

    /// Everything that is counted, the most important first.
    pub(crate) fn recorders(&self, with_orders: bool) -> Vec<Recorder> {
        let mut all = vec![self.fixes.recorder.clone()];
        if with_orders {
            all.extend(self.orders.all());
        }
        all
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let fixes = self.fixes.recorder.live(now);
        let unsettled = self.fixes.unsettled();
        Snapshot {
            elapsed: now.saturating_duration_since(self.timeline.started()),
            orders: orders(&self.orders),
            locations: FixesSeen {
                sent: fixes.totals.started,
                acknowledged: fixes.totals.answered,
                // An end that is not an acknowledgement is a rejection, or none is known.
                rejected: (fixes.totals.refused + fixes.totals.failed).saturating_sub(unsettled),
                unsettled,
                resent: fixes.totals.repeated,
                broken_streams: self.fixes.broken_streams(),
                drivers_seen: self.fixes.drivers_seen(),
                per_second: fixes.answered_per_second,
            },
        }
    }
}

fn orders(counts: &OrderCounts) -> OrdersSeen {
    // The ends before the starts: an order that begins meanwhile is in flight, and none has ended that did not begin.
    let succeeded = counts.orders.totals().answered;
    let refunded = counts.orders.errors(OrderStatus::Refunded.as_str_name());
    let failed = counts.orders.errors(OrderStatus::Failed.as_str_name());
    let (creations, completions) = (counts.creations.totals(), counts.completions.totals());
    let gave_up = creations.refused + creations.failed;
    let latency = counts.creations.latency();
    OrdersSeen {
        offered: creations.offered,
        placed: creations.started,
        in_flight: creations
            .started
            .saturating_sub(succeeded + refunded + failed + gave_up),
        succeeded,
        refunded,
        failed,
        gave_up,
        completed: completions.answered,
        retries: creations.repeated + completions.repeated,
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
    }
}
