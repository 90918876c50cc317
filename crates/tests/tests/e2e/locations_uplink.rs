//! What the location tests share: fixes, a location stream that is read and written step by step, and the places where
//! fixes are looked for.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;

use crate::rig::{Rig, until};

/// Longer than anything here takes on a machine that has other work.
const DEADLINE: Duration = Duration::from_secs(20);

/// A fix of `driver` at this time.
pub fn fix_at(driver: &str, lat_deg: f64, lon_deg: f64, at: Timestamp) -> pb::Fix {
    pb::Fix {
        driver_id: driver.to_owned(),
        position: Some(pb::LatLng {
            latitude: lat_deg,
            longitude: lon_deg,
        }),
        recorded_at: Some(time(at)),
    }
}

/// A fix of now.
pub fn fix(driver: &str, lat_deg: f64, lon_deg: f64) -> pb::Fix {
    fix_at(driver, lat_deg, lon_deg, now())
}

/// Fixes of one driver, a millisecond apart, the last one now.
pub fn track(driver: &str, count: i64) -> Vec<pb::Fix> {
    let now = now();
    (0..count)
        .map(|back| {
            fix_at(
                driver,
                37.0,
                -122.0,
                now - SignedDuration::from_millis(count - 1 - back),
            )
        })
        .collect()
}

/// Now, in whole microseconds as they are stored.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

pub fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A location stream.
pub struct Uplink {
    requests: mpsc::Sender<pb::StreamLocationsRequest>,
    responses: Streaming<pb::StreamLocationsResponse>,
}

impl Uplink {
    pub async fn open(mut client: LocationServiceClient<Channel>) -> Uplink {
        let (requests, receiver) = mpsc::channel(64);
        let responses = timeout(DEADLINE, client.stream_locations(ReceiverStream::new(receiver)))
            .await
            .expect("the stream is opened in time")
            .expect("the stream is accepted")
            .into_inner();
        Uplink { requests, responses }
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
            match timeout(DEADLINE, self.responses.message())
                .await
                .expect("an end in time")
            {
                Ok(Some(answer)) => acknowledged = Some(answer.acknowledged_sequence),
                Ok(None) => return (acknowledged, Status::ok("")),
                Err(status) => return (acknowledged, status),
            }
        }
    }

    /// Says that there is nothing more to come.
    pub async fn close(self) -> Status {
        let Uplink { requests, responses } = self;
        drop(requests);
        let (closed, _) = mpsc::channel(1);
        let mut rest = Uplink {
            requests: closed,
            responses,
        };
        rest.rest().await.1
    }
}

/// Hands in a batch.
pub async fn report(rig: &Rig, fixes: Vec<pb::Fix>) -> Result<pb::ReportLocationsResponse, Status> {
    let answer = rig
        .locations()
        .report_locations(pb::ReportLocationsRequest { fixes })
        .await?;
    Ok(answer.into_inner())
}

/// The hash of the driver's latest fix; empty when there is none.
pub async fn latest(rig: &Rig, driver: &str) -> HashMap<String, String> {
    let mut redis = rig.redis().await;
    let key = format!("driver:{driver}");
    redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap()
}

/// The time of the driver's latest fix, in Unix microseconds, in the hash and in the index.
pub async fn latest_micros(rig: &Rig, driver: &str) -> (Option<i64>, Option<i64>) {
    let mut redis = rig.redis().await;
    let hash = latest(rig, driver).await;
    let seen: Option<f64> = redis::cmd("ZSCORE")
        .arg("drivers:seen")
        .arg(driver)
        .query_async(&mut redis)
        .await
        .unwrap();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "microseconds since 1970 are whole in a double"
    )]
    (
        hash.get("timestamp").map(|at| at.parse().unwrap()),
        seen.map(|at| at as i64),
    )
}

/// The length of the stream.
pub async fn stream_len(rig: &Rig) -> u64 {
    let mut redis = rig.redis().await;
    redis::cmd("XLEN")
        .arg("location_events")
        .query_async(&mut redis)
        .await
        .unwrap()
}

/// The driver's rows in the history, the oldest first: degrees north and east, Unix microseconds.
pub async fn history(rig: &Rig, driver: &str) -> Vec<(f64, f64, i64)> {
    let rows = rig
        .sql()
        .await
        .query(
            "select lat, long, (extract(epoch from recorded_at) * 1000000)::bigint
               from driver_locations where driver_id = $1 order by recorded_at",
            &[&driver],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// Waits until everything in the stream is in the history. What is not there then never will be.
pub async fn until_written(rig: &Rig) {
    until("the history is written to the end of the stream", async || {
        let mut redis = rig.redis().await;
        let streams: Vec<String> = redis::cmd("KEYS")
            .arg("location_events*")
            .query_async(&mut redis)
            .await
            .unwrap();
        for stream in streams {
            let last: redis::streams::StreamRangeReply = redis::cmd("XREVRANGE")
                .arg(&stream)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(1)
                .query_async(&mut redis)
                .await
                .unwrap();
            let row = rig
                .sql()
                .await
                .query_opt("select last_id from history_cursors where stream = $1", &[&stream])
                .await
                .unwrap();
            let cursor: String = row?.get(0);
            if last.ids.first().is_some_and(|last| last.id != cursor) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Keeps every writer from the history of the plain stream until the transaction of the session is over.
pub async fn hold_history(rig: &Rig) -> tokio_postgres::Client {
    let session = rig.sql().await;
    until("the history has a cursor", async || {
        session.batch_execute("rollback; begin").await.unwrap();
        let lock = "select 1 from history_cursors where stream = 'location_events' for update";
        session.query_opt(lock, &[]).await.unwrap()
    })
    .await;
    session
}
