//! What the tests of locations share: fixes, a driver stream that is read and written step by step, and the places
//! where fixes are looked for.

use std::collections::HashMap;
use std::time::Duration;

use jiff::SignedDuration;
use testkit::wire::{self, PICKUP, assert_refused_for_now, now};
use testkit::{Rig, until};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;

/// Longer than anything here takes on a machine that has other work.
const DEADLINE: Duration = Duration::from_secs(20);

/// A fix of now.
pub fn fix(driver: &str, lat_deg: f64, lon_deg: f64) -> pb::Fix {
    wire::fix(driver, lat_deg, lon_deg, now())
}

/// Fixes of one driver, a millisecond apart, the last one now.
pub fn track(driver: &str, count: i64) -> Vec<pb::Fix> {
    let now = now();
    let at = |number: i64| now - SignedDuration::from_millis(count - 1 - number);
    (0..count)
        .map(|number| wire::fix(driver, 37.0, -122.0, at(number)))
        .collect()
}

/// A driver's stream.
pub struct DriverStream {
    requests: mpsc::Sender<pb::StreamLocationsRequest>,
    responses: Streaming<pb::StreamLocationsResponse>,
}

impl DriverStream {
    pub async fn open(mut client: LocationServiceClient<Channel>) -> DriverStream {
        let (requests, receiver) = mpsc::channel(64);
        let opened = timeout(DEADLINE, client.stream_locations(ReceiverStream::new(receiver))).await;
        let opened = opened.expect("the stream is opened in time");
        let responses = opened.expect("the stream is accepted").into_inner();
        DriverStream { requests, responses }
    }

    pub async fn send(&self, first_sequence: u64, fixes: Vec<pb::Fix>) {
        let message = pb::StreamLocationsRequest { first_sequence, fixes };
        self.requests.send(message).await.expect("the stream is open");
    }

    /// The next answer, or the status that the stream ends with.
    pub async fn next(&mut self) -> Result<pb::StreamLocationsResponse, Status> {
        let next = timeout(DEADLINE, self.responses.message()).await;
        next.expect("an answer in time")?.ok_or_else(|| Status::ok("the end"))
    }

    /// The next answer; panics where the stream ends instead.
    pub async fn answer(&mut self) -> pb::StreamLocationsResponse {
        self.next().await.expect("an answer")
    }

    /// Waits until all up to this sequence are acknowledged; the rejections among them.
    pub async fn until_acknowledged(&mut self, sequence: u64) -> Vec<pb::Rejection> {
        let mut rejections = Vec::new();
        loop {
            let answer = self.answer().await;
            rejections.extend(answer.rejections);
            if answer.acknowledged_sequence >= sequence {
                return rejections;
            }
        }
    }

    /// Sends one message and waits for its answer.
    pub async fn exchange(&mut self, first_sequence: u64, fixes: Vec<pb::Fix>) -> pb::StreamLocationsResponse {
        self.send(first_sequence, fixes).await;
        self.answer().await
    }

    /// Sends one message that must be stored whole.
    pub async fn store(&mut self, first_sequence: u64, fixes: Vec<pb::Fix>) {
        let last = first_sequence + fixes.len() as u64 - 1;
        let answer = self.exchange(first_sequence, fixes).await;
        assert_eq!((answer.acknowledged_sequence, answer.rejections), (last, Vec::new()));
    }

    /// What is acknowledged until the stream ends, and the status that it ends with.
    pub async fn rest(&mut self) -> (Option<u64>, Status) {
        let mut acknowledged = None;
        loop {
            match self.next().await {
                Ok(answer) => acknowledged = Some(answer.acknowledged_sequence),
                Err(status) => return (acknowledged, status),
            }
        }
    }

    /// Ends it on the client's side; the status that it ends with.
    pub async fn close(self) -> Status {
        let DriverStream { requests, responses } = self;
        drop(requests);
        let (requests, _) = mpsc::channel(1);
        let mut rest = DriverStream { requests, responses };
        rest.rest().await.1
    }
}

/// Reports a batch.
pub async fn report(rig: &Rig, fixes: Vec<pb::Fix>) -> Result<pb::ReportLocationsResponse, Status> {
    let request = pb::ReportLocationsRequest { fixes };
    Ok(rig.locations().report_locations(request).await?.into_inner())
}

/// Drivers say where they are, near the pickup of orders, in one call that is refused each time, for longer than a `locations.ttl` of 2 s.
pub async fn be_refused_for_long(rig: &Rig, drivers: &[&str], code: Code) {
    let began = Instant::now();
    until("what was stored before is old", async || {
        let fixes = drivers.iter().map(|driver| fix(driver, PICKUP.0, PICKUP.1)).collect();
        let refused = report(rig, fixes).await.unwrap_err();
        assert_refused_for_now(&refused, code);
        began.elapsed() > Duration::from_secs(4)
    })
    .await;
}

/// The hash of the driver's latest fix; empty when there is none.
pub async fn latest(rig: &Rig, driver: &str) -> HashMap<String, String> {
    let mut redis = rig.redis().await;
    let key = format!("driver:{driver}");
    redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap()
}

/// The time of the driver's latest fix, in Unix microseconds, in the hash and beside the index.
pub async fn latest_micros(rig: &Rig, driver: &str) -> (Option<i64>, Option<i64>) {
    let hash = latest(rig, driver).await;
    let mut recorded = redis::cmd("HGET");
    recorded.arg("drivers:recorded").arg(driver);
    let indexed = recorded.query_async(&mut rig.redis().await).await.unwrap();
    let written = hash.get("timestamp").map(|at| at.parse().unwrap());
    (written, indexed)
}

/// The length of the stream.
pub async fn stream_len(rig: &Rig) -> u64 {
    let mut length = redis::cmd("XLEN");
    length.arg("location_events");
    length.query_async(&mut rig.redis().await).await.unwrap()
}

/// The driver's rows in the history, the oldest first: degrees north and east, Unix microseconds.
pub async fn history(rig: &Rig, driver: &str) -> Vec<(f64, f64, i64)> {
    let query = "select lat, long, (extract(epoch from recorded_at) * 1000000)::bigint
                   from driver_locations where driver_id = $1 order by recorded_at";
    let rows = rig.sql().await.query(query, &[&driver]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}
