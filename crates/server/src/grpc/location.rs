//! `waybill.location.v1.LocationService`: fixes in, acknowledgements out.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::debug;
use waybill_domain::fix::TimeWindow;
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::location_service_server::LocationService as Api;

use super::edge::{CallDeadline, Class, IngressLimits};
use super::fields::Violations;
use super::fixes::Batch;
use super::principal;
use crate::identity::Access;
use crate::locations::ingest::Ingest;

/// Fixes in one ReportLocations call.
const REPORT_MAX: usize = 500;
/// How long the status that ends a stream waits for room: a client that does not read does not delay the drain.
const FINAL_STATUS_TIME_MAX: Duration = Duration::from_secs(2);
/// Responses that a client has not read yet. When it does not read, its stream stops being read.
const RESPONSES_MAX: usize = 16;

/// How streams are treated. See `[locations]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct LocationLimits {
    /// The times of fixes that are accepted.
    pub window: TimeWindow,
    /// How long a stream may be idle.
    pub idle_max: Duration,
}

/// The location service on the wire.
pub struct LocationApi {
    sessions: Sessions,
    tasks: TaskTracker,
}

/// What every stream needs.
#[derive(Clone)]
struct Sessions {
    ingest: Ingest,
    limits: Arc<IngressLimits>,
    settings: LocationLimits,
    draining: CancellationToken,
}

impl LocationApi {
    /// Serves `ingest` within `limits`; its streams run on `tasks` and end once `draining` is cancelled.
    pub fn new(
        ingest: Ingest,
        limits: Arc<IngressLimits>,
        settings: LocationLimits,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> LocationApi {
        LocationApi {
            sessions: Sessions {
                ingest,
                limits,
                settings,
                draining,
            },
            tasks,
        }
    }
}

#[tonic::async_trait]
impl Api for LocationApi {
    type StreamLocationsStream = ReceiverStream<Result<pb::StreamLocationsResponse, Status>>;

    async fn stream_locations(
        &self,
        request: Request<Streaming<pb::StreamLocationsRequest>>,
    ) -> Result<Response<Self::StreamLocationsStream>, Status> {
        let (responses, receiver) = mpsc::channel(RESPONSES_MAX);
        let sessions = self.sessions.clone();
        let access = principal::access(&request)?;
        let inbound = request.into_inner();
        self.tasks.spawn(async move {
            let end = sessions.run(inbound, &responses, &access).await;
            if let Err(status) = end {
                debug!(code = ?status.code(), message = status.message(), "stream ended");
                // A client that is gone, or does not read, misses it.
                let _ = tokio::time::timeout(FINAL_STATUS_TIME_MAX, responses.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report_locations(
        &self,
        request: Request<pb::ReportLocationsRequest>,
    ) -> Result<Response<pb::ReportLocationsResponse>, Status> {
        let deadline = CallDeadline::of(&request);
        let access = principal::access(&request)?;
        let fixes = request.into_inner().fixes;
        if fixes.is_empty() || fixes.len() > REPORT_MAX {
            let mut bad = Violations::default();
            bad.add(
                "fixes",
                &format!("must hold 1 to {REPORT_MAX} fixes, not {}", fixes.len()),
            );
            return Err(bad.into_status());
        }
        let batch = self.sessions.parse(fixes, 0, &access);
        for driver in batch.by_driver().into_keys() {
            // One token for a whole batch: a phone that was offline must be able to send what it gathered.
            let admitted = self.sessions.limits.admit(Class::Fixes, driver, deadline).await;
            if let Err(limited) = admitted {
                self.sessions.ingest.refused(batch.fixes.len());
                return Err(limited.into());
            }
        }
        let accepted_count = u32::try_from(batch.fixes.len()).unwrap_or(u32::MAX);
        self.sessions.ingest.store(batch.fixes).await?;
        Ok(Response::new(pb::ReportLocationsResponse {
            accepted_count,
            rejections: batch.rejections,
        }))
    }
}

impl Sessions {
    /// Reads one stream to its end. Each message is answered before the next one is read: later ones wait in the
    /// connection's window, and flow control holds the rest back.
    async fn run(
        &self,
        mut inbound: Streaming<pb::StreamLocationsRequest>,
        responses: &mpsc::Sender<Result<pb::StreamLocationsResponse, Status>>,
        access: &Access,
    ) -> Result<(), Status> {
        let mut next_sequence = 0;
        let mut end = pin!(self.end(access));
        loop {
            let message = tokio::select! {
                biased;
                // Every stored message was acknowledged, so only the reason is left to send.
                status = &mut end => return Err(status),
                () = tokio::time::sleep(self.settings.idle_max) => {
                    let idle = self.settings.idle_max.as_secs();
                    return Err(Status::deadline_exceeded(format!("the stream was idle for {idle} s")));
                }
                message = inbound.message() => message?,
            };
            let Some(message) = message else { return Ok(()) };
            let response = self.take(message, &mut next_sequence, access, end.as_mut()).await?;
            tokio::select! {
                // The acknowledgement first: it is sent whenever there is room.
                biased;
                sent = responses.send(Ok(response)) => if sent.is_err() { return Ok(()) },
                status = &mut end => return Err(status),
            }
        }
    }

    /// Waits until the stream has to end, whatever its client does: why.
    async fn end(&self, access: &Access) -> Status {
        tokio::select! {
            () = self.draining.cancelled() => drain_status(),
            why = access.ended() => why.into(),
        }
    }

    /// Stores one message's fixes.
    async fn take(
        &self,
        message: pb::StreamLocationsRequest,
        next_sequence: &mut u64,
        access: &Access,
        mut end: Pin<&mut impl Future<Output = Status>>,
    ) -> Result<pb::StreamLocationsResponse, Status> {
        let first = message.first_sequence;
        let (last, after) = parse_sequences(&message, *next_sequence)?;
        let batch = self.parse(message.fixes, first, access);
        for (driver, count) in batch.by_driver() {
            // Nothing of this message is stored yet: a stream that ends does not wait for the driver's tokens.
            tokio::select! {
                () = self.limits.pace(Class::Fixes, driver, count) => {}
                status = &mut end => {
                    self.ingest.refused(batch.fixes.len());
                    return Err(status);
                }
            }
        }
        self.ingest.store(batch.fixes).await?;
        *next_sequence = after;
        Ok(pb::StreamLocationsResponse {
            acknowledged_sequence: last,
            rejections: batch.rejections,
        })
    }

    fn parse(&self, fixes: Vec<pb::Fix>, first_sequence: u64, access: &Access) -> Batch {
        let (window, only) = (self.settings.window, access.scope.driver());
        let batch = Batch::parse(fixes, first_sequence, Timestamp::now(), window, &access.tenant(), only);
        for rejection in &batch.rejections {
            self.ingest.rejected(rejection.reason().as_str_name());
        }
        batch
    }
}

/// The sequence of the last fix, and the lowest that may come after it.
pub(super) fn parse_sequences(message: &pb::StreamLocationsRequest, next: u64) -> Result<(u64, u64), Status> {
    let first = message.first_sequence;
    let mut bad = Violations::default();
    if first < next {
        bad.add("first_sequence", &format!("must be at least {next}, not {first}"));
        return Err(bad.into_status());
    }
    let Some(last_offset) = (message.fixes.len() as u64).checked_sub(1) else {
        bad.add("fixes", "must hold at least one fix");
        return Err(bad.into_status());
    };
    let last = first.checked_add(last_offset);
    last.and_then(|last| Some((last, last.checked_add(1)?))).ok_or_else(|| {
        bad.add("first_sequence", "is too large");
        bad.into_status()
    })
}

fn drain_status() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
    Status::with_error_details(Code::Unavailable, "the server is draining", details)
}
