//! Plays a city, invented or recorded: its drivers stream and its customers order, until all that was begun has ended.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::Drivers;
use crate::client::Dial;
use crate::customers::{Answer, Customers, CustomersOptions, PlannedOrder};
use crate::drive::{Alarm, Clock};
use crate::fleet::{AckLog, DueFix, Fleet, FleetOptions, Scheduled};
use crate::stats::Stats;

/// How a city is played, and who counts.
pub(crate) struct Play<'a> {
    pub(crate) server: &'a Dial,
    pub(crate) stats: &'a Stats,
    pub(crate) fleet: FleetOptions,
    pub(crate) fleet_end: FleetEnd,
    /// Whether every acknowledged fix is kept.
    pub(crate) keeps_log: bool,
    pub(crate) customers: CustomersOptions,
    /// How long the orders in flight may take after a stop.
    pub(crate) wind_down: Duration,
    /// How long, at the end, completions that were begun may take.
    pub(crate) last_completions: Duration,
}

/// When the fleet is sent home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FleetEnd {
    /// It drives until this time, and for as long as an order may want a driver.
    AfterOrdersAnd(Instant),
    /// It has an end of its own. After a stop it drives for as long as an order may want a driver.
    AfterItsLastFix,
    /// It has an end of its own, and takes no fix after a stop.
    AtStop,
}

/// What a city came to, beside its counts.
pub(crate) struct Played {
    /// Every fix that the server acknowledged, where that was kept.
    pub(crate) acknowledged: AckLog,
    /// Every settled answer.
    pub(crate) answers: Vec<Answer>,
    /// Why location streams gave up before their end, one for each that did.
    pub(crate) stream_failures: Vec<Status>,
}

impl Play<'_> {
    /// Plays until every order is settled and every fix is acknowledged, rejected or lost; rides that are still on the
    /// road then are left there. `fixes` gives each stream, by number, the fixes of its drivers. `stop` ends it early.
    pub(crate) async fn city<I>(
        self,
        drivers: &Arc<Drivers>,
        fixes: impl Fn(usize) -> I,
        orders: impl IntoIterator<Item = PlannedOrder>,
        stop: &CancellationToken,
    ) -> Result<Played, JoinError>
    where
        I: Iterator<Item = DueFix> + Send + 'static,
    {
        let send_home = match self.fleet_end {
            FleetEnd::AtStop => stop.child_token(),
            FleetEnd::AfterOrdersAnd(_) | FleetEnd::AfterItsLastFix => CancellationToken::new(),
        };
        let _send_home_if_dropped = send_home.clone().drop_guard();
        let fleet = Fleet {
            server: self.server,
            options: self.fleet,
            drivers,
            counts: &self.stats.fixes,
            keeps_log: self.keeps_log,
            hopeless: None,
        };
        let alarm = Alarm::new(Clock::Machine);
        let streams = fleet.start(&send_home, |stream| Scheduled::new(fixes(stream), &alarm));
        let customers = Customers::new(self.server, self.customers, &self.stats.orders, &self.stats.timeline);

        tokio::select! {
            placed = customers.place_all(orders, stop) => placed?,
            never = self.abandon_late(&customers, stop) => match never {},
        }
        if let FleetEnd::AfterOrdersAnd(end) = self.fleet_end {
            stop.run_until_cancelled(tokio::time::sleep_until(end)).await;
            send_home.cancel();
        }
        let mut ended = pin!(streams.ended());
        let fleet = tokio::select! {
            fleet = &mut ended => fleet?,
            () = stop.cancelled() => {
                send_home.cancel();
                ended.await?
            }
        };
        let completed = tokio::time::timeout(self.last_completions, customers.end_rides());
        if completed.await.is_err() {
            customers.abandon();
            customers.end_rides().await;
        }
        Ok(Played {
            acknowledged: fleet.acknowledged,
            answers: customers.answers(),
            stream_failures: fleet.failures,
        })
    }

    /// After a stop orders are not waited for without end: they are given up.
    async fn abandon_late(&self, customers: &Customers, stop: &CancellationToken) -> Infallible {
        stop.cancelled().await;
        tokio::time::sleep(self.wind_down).await;
        customers.abandon();
        std::future::pending().await
    }
}
