//! The streams of a fleet, each in a task of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::FleetOptions;
use super::lane::{self, Lane};
use super::observer::Observer;
use super::source::Source;
use crate::Drivers;
use crate::connections::Dial;

/// Streams that are under way, and who watches each.
#[derive(Debug)]
pub(crate) struct Streams<O>(JoinSet<(usize, lane::Report<O>)>);

/// What streams came to.
#[derive(Debug)]
pub(crate) struct Ended<O> {
    /// Those who watched, by the number of their stream.
    pub(crate) observers: Vec<O>,
    /// Why streams gave up before their end, one for each that did.
    pub(crate) failures: Vec<Status>,
}

impl<O: Observer> Streams<O> {
    /// Begins to stream. `of_stream` gives each stream, by number, the fixes of its drivers and who watches it; a driver
    /// must not be on two streams. They end after the last fix, or when `stop` is cancelled.
    pub(crate) fn start<S: Source>(
        server: &Dial,
        options: FleetOptions,
        drivers: &Arc<Drivers>,
        stop: &CancellationToken,
        of_stream: impl Fn(usize) -> (S, O),
    ) -> Streams<O> {
        let mut lanes = JoinSet::new();
        for number in 0..options.streams.max(1) {
            let (source, observer) = of_stream(number);
            let lane = Lane::new(server.channel(), options, Arc::clone(drivers), source, observer);
            let stop = stop.clone();
            lanes.spawn(async move { (number, lane.run(stop).await) });
        }
        Streams(lanes)
    }

    /// Waits for the end of every stream. The error is a panic in one of them, which ends all.
    pub(crate) async fn ended(mut self) -> Result<Ended<O>, JoinError> {
        let mut reports = BTreeMap::new();
        while let Some(ended) = self.0.join_next().await {
            let (number, report) = ended?;
            reports.insert(number, report);
        }
        let (mut observers, mut failures) = (Vec::new(), Vec::new());
        for report in reports.into_values() {
            observers.push(report.observer);
            failures.extend(report.failure);
        }
        Ok(Ended { observers, failures })
    }
}
