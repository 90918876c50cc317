//! A recorded city at a speed: the workload `trace`. Each fix and each ride is due when it was, whatever became of the
//! one before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use waybill_proto::order::v1::OrderStatus;

use super::fixes::Recorded;
use super::ingest;
use super::plan::TraceLoad;
use super::recorder::Recorder;
use super::timeline::Timeline;
use crate::connections::Dial;
use crate::customers::{Customers, CustomersOptions, Observer, Outcome};
use crate::fleet::{Scheduled, Streams};
use crate::retry::RetryPolicy;
use crate::run::{RecordedCity, RunError};
use crate::trace::BrokenLines;

/// Orders without an answer at one time: far more than a server should let wait. One more waits, and its latency says so.
const IN_FLIGHT_MAX: usize = 5_000;

/// A recorded city, read and ready.
#[derive(Debug)]
pub(crate) struct Replay {
    city: RecordedCity,
    streams: usize,
}

/// Who counts what.
#[derive(Debug, Clone)]
pub(crate) struct Recorders {
    /// The fixes.
    pub(crate) fixes: Recorder,
    /// Orders, due when their rides were asked for. One without a driver failed, by the name of its status.
    pub(crate) orders: Recorder,
    /// The same as calls: answered with whatever became of the order.
    pub(crate) creations: Recorder,
    /// `CompleteOrder`, due when the ride is over.
    pub(crate) completions: Recorder,
}

/// How a city is played.
pub(crate) struct Playing<'a> {
    /// The server.
    pub(crate) server: &'a Dial,
    /// The times of the run: the city begins with it.
    pub(crate) timeline: &'a Timeline,
    /// Who counts.
    pub(crate) recorders: Recorders,
    /// How long a call may take, and the last acknowledgements.
    pub(crate) deadline: Duration,
    /// Whether a call that failed is made again, and an unacknowledged fix sent again.
    pub(crate) retries: bool,
}

impl Recorders {
    pub(super) fn new(timeline: &Timeline) -> Recorders {
        Recorders {
            fixes: Recorder::new("fix", "fixes", timeline),
            orders: Recorder::new("order", "orders", timeline),
            creations: Recorder::new("CreateOrder", "orders", timeline),
            completions: Recorder::new("CompleteOrder", "orders", timeline),
        }
    }

    /// The most important first.
    pub(super) fn all(&self, with_orders: bool) -> Vec<Recorder> {
        let mut all = vec![self.fixes.clone()];
        if with_orders {
            all.extend([&self.orders, &self.creations, &self.completions].map(Recorder::clone));
        }
        all
    }
}

impl Replay {
    /// Reads the files. A file that is not there, is something else, or holds no fix, is an error that says so.
    pub(crate) async fn read(load: &TraceLoad) -> Result<Replay, RunError> {
        let city = RecordedCity::read(load.locations.clone(), load.rides.clone(), load.speed).await?;
        Ok(Replay {
            city,
            streams: load.streams,
        })
    }

    /// Whether there are rides to order.
    pub(crate) fn orders(&self) -> bool {
        self.city.has_rides()
    }

    /// How long it takes until the last fix or ride is due.
    pub(crate) fn lasts(&self) -> Duration {
        self.city.lasts()
    }

    /// Lines that could not be used.
    pub(crate) fn broken_lines(&self) -> &BrokenLines {
        &self.city.broken_lines
    }

    /// Plays until the time of the trace is over or `stop` is cancelled, and all that was begun has ended. Rides that
    /// are on the road then are left there. Answers why streams gave up early, one for each that did.
    pub(crate) async fn run(&self, playing: Playing<'_>, stop: &CancellationToken) -> Result<Vec<Status>, RunError> {
        let started = playing.timeline.started();
        let clock = self.city.clock(started, playing.timeline.started_at())?;
        let carried_by: Arc<[usize]> = self.city.drivers().streams(self.streams).into();
        let options = ingest::options(self.streams, playing.retries, playing.deadline);
        let streams = Streams::start(playing.server, options, self.city.drivers(), stop, |stream| {
            let fixes = Scheduled::new(self.city.fixes(&carried_by, stream, clock));
            (fixes, Recorded::new(playing.recorders.fixes.clone()))
        });
        let customers = Customers::watched(playing.server, playing.customers(), Arc::new(playing.recorders.clone()));

        let orders = async {
            customers.place_all(self.city.orders(clock), stop).await;
            playing.settle(&customers, stop).await;
        };
        let (ended, ()) = tokio::join!(streams.ended(), orders);
        if tokio::time::timeout(playing.deadline, customers.end_rides())
            .await
            .is_err()
        {
            customers.abandon();
            customers.end_rides().await;
        }
        Ok(ended?.failures)
    }
}

impl Playing<'_> {
    fn customers(&self) -> CustomersOptions {
        CustomersOptions {
            in_flight_max: IN_FLIGHT_MAX,
            retry: RetryPolicy {
                call_deadline: self.deadline,
                give_up_after: self.deadline,
                repeats: self.retries,
                ..RetryPolicy::default()
            },
        }
    }

    /// Waits until every order has ended; after a stop no longer than a call may take.
    async fn settle(&self, customers: &Customers, stop: &CancellationToken) {
        let time_is_up = async {
            stop.cancelled().await;
            tokio::time::sleep(self.deadline).await;
        };
        tokio::select! {
            () = customers.settled() => {}
            () = time_is_up => {
                customers.abandon();
                customers.settled().await;
            }
        }
    }
}

impl Observer for Recorders {
    fn scheduled(&self, due: Instant) {
        self.orders.offered(due, 1);
        self.creations.offered(due, 1);
    }

    fn delayed(&self, _: Instant) {}

    fn placed(&self, due: Instant, at: Instant, waited: bool) {
        self.orders.started(due, at);
        self.creations.started(due, at);
        if !waited {
            self.creations.late(due, at);
        }
    }

    fn settled(&self, due: Instant, at: Instant, answer: Result<&Outcome, &Status>) {
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(status) => {
                self.orders.ended(due, at, status.code());
                return self.creations.ended(due, at, status.code());
            }
        };
        self.creations.answered(due, at);
        match outcome {
            Outcome::Succeeded { .. } => self.orders.answered(due, at),
            Outcome::Refunded { .. } => self.orders.failed(due, at, OrderStatus::Refunded.as_str_name()),
            Outcome::Failed { .. } | Outcome::GaveUp => {
                self.orders.failed(due, at, OrderStatus::Failed.as_str_name());
            }
        }
    }

    fn completing(&self, due: Instant, at: Instant) {
        self.completions.offered(due, 1);
        self.completions.started(due, at);
        self.completions.late(due, at);
    }

    fn completed(&self, due: Instant, at: Instant, answer: Result<(), &Status>) {
        match answer {
            Ok(()) => self.completions.answered(due, at),
            Err(status) => self.completions.ended(due, at, status.code()),
        }
    }

    fn placed_again(&self, due: Instant) {
        self.creations.repeated_all([due]);
    }

    fn completing_again(&self, due: Instant) {
        self.completions.repeated_all([due]);
    }
}

#[cfg(test)]
mod tests;
