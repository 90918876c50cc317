//! Drivers of the load's own: put onto the map before it begins, and kept fresh for as long as it lasts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, ReportLocationsRequest};

use crate::Point;
use crate::client::{Caller, RetryPolicy, position};

/// Fixes in one call; the contract takes 500.
const FIXES_PER_CALL: usize = 500;

/// Every driver reports once in this time, a third of the server's time to live.
const REFRESH: Duration = Duration::from_secs(10);

/// Drivers who stay where they are. Their names are new ones in each run: those of a run that was cut off may be on the
/// road for long.
#[derive(Debug)]
pub(super) struct Presence {
    run: String,
    places: Vec<Point>,
    caller: Caller,
}

impl Presence {
    pub(super) fn new(places: Vec<Point>, caller: &Caller) -> Presence {
        // The end of a UUIDv7 is its chance; the front is the time.
        let id = Uuid::now_v7().simple().to_string();
        let run = id.get(id.len().saturating_sub(8)..).unwrap_or_default().to_owned();
        Presence {
            run,
            places,
            // The positions are not what is measured; they have to get there.
            caller: caller.with(RetryPolicy::within(RetryPolicy::DEFAULT.call_deadline, true)),
        }
    }

    /// Reports every driver once.
    pub(super) async fn put(&self) -> Result<(), Status> {
        for call in 0..self.calls() {
            self.report(call).await?;
        }
        Ok(())
    }

    /// Reports every driver again and again until `stop`, spread evenly over time so that no burst disturbs the load.
    pub(super) async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let calls = self.calls();
        if calls == 0 {
            return;
        }
        let apart = REFRESH.div_f64(f64::from(u32::try_from(calls).unwrap_or(u32::MAX)));
        let mut due = tokio::time::interval_at(tokio::time::Instant::now() + apart, apart);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for call in (0..calls).cycle() {
            if stop.run_until_cancelled(due.tick()).await.is_none() {
                return;
            }
            match stop.run_until_cancelled(self.report(call)).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(status)) => {
                    tracing::warn!(code = ?status.code(), message = status.message(), "drivers could not be kept fresh");
                }
            }
        }
    }

    fn calls(&self) -> usize {
        self.places.len().div_ceil(FIXES_PER_CALL)
    }

    async fn report(&self, call: usize) -> Result<(), Status> {
        let now = Timestamp::now();
        let first = call * FIXES_PER_CALL;
        let fixes: Vec<Fix> = (first..)
            .zip(self.places.iter().skip(first).take(FIXES_PER_CALL))
            .map(|(number, place)| Fix {
                driver_id: format!("load-{}-{number}", self.run),
                position: Some(position(*place)),
                recorded_at: Some(prost_types::Timestamp {
                    seconds: now.as_second(),
                    nanos: now.subsec_nanosecond(),
                }),
            })
            .collect();
        let report = |channel, request| async move {
            let answer = LocationServiceClient::new(channel).report_locations(request).await?;
            Ok(answer.into_inner())
        };
        let answer = self.caller.call(ReportLocationsRequest { fixes }, || (), report);
        match answer.await?.rejections.into_iter().next() {
            None => Ok(()),
            Some(rejection) => Err(Status::invalid_argument(rejection.message)),
        }
    }
}
