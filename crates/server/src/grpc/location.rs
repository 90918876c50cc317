//! `waybill.location.v1.LocationService`: fixes in, acknowledgements out.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::debug;
use waybill_domain::id::DriverId;
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::location_service_server::LocationService as Api;

use super::edge::{CallDeadline, Class, IngressLimits};
use super::fields::Violations;
use super::inbound::{Credit, Inbound, Intake, LocationLimits};
use super::{principal, render};
use crate::identity::Access;
use crate::locations::ingest::Ingest;
use crate::resilience::{PlaceLimits, Places};

/// Fixes in one ReportLocations call.
const REPORT_MAX: usize = 500;
/// After so many fixes a stream is answered before it is read on: as many as one call may have.
const AHEAD_MAX: usize = REPORT_MAX;
/// How long the status that ends a stream waits for room: a client that does not read does not delay the drain.
const FINAL_STATUS_TIME_MAX: Duration = Duration::from_secs(2);
/// Responses that a client has not read yet. When it does not read, its stream stops being read.
const RESPONSES_MAX: usize = 16;
/// A response that names more fixes and clocks waits until all before it are read. It has at most those of [`AHEAD_MAX`] fixes and of one message more. So
/// in memory there are some 8,500 of a stream, below 2 MB: in one response with many, in those behind it with few, in the next one, and in what is read
/// ahead.
const FEW_NAMED: usize = 100;
/// Streams that one driver has open: its phone's, and those of connections that it has lost and the server has not.
const STREAMS_OF_ONE_MAX: usize = 16;

/// The location service on the wire.
pub struct LocationApi {
    sessions: Sessions,
    streams: Places,
    tasks: TaskTracker,
}

/// What every stream needs.
#[derive(Clone)]
struct Sessions {
    intake: Intake,
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
            streams: Places::new(PlaceLimits {
                all_max: settings.streams_max,
                tenant_share: settings.tenant_share,
                caller_max: STREAMS_OF_ONE_MAX,
            }),
            sessions: Sessions {
                intake: Intake {
                    ingest,
                    limits,
                    settings,
                },
                draining,
            },
            tasks,
        }
    }
}

#[tonic::async_trait]
impl Api for LocationApi {
    type StreamLocationsStream = BoxStream<'static, Result<pb::StreamLocationsResponse, Status>>;

    async fn stream_locations(
        &self,
        request: Request<Streaming<pb::StreamLocationsRequest>>,
    ) -> Result<Response<Self::StreamLocationsStream>, Status> {
        let access = principal::access(&request)?;
        let driver = access.scope.driver().map(DriverId::as_str);
        let place = self
            .streams
            .take(&access.scope.business(), driver)
            .ok_or_else(too_many)?;
        let (responses, receiver) = mpsc::channel(RESPONSES_MAX);
        let sessions = self.sessions.clone();
        let caller = principal::caller(&access, request.extensions());
        let messages = request.into_inner();
        self.tasks.spawn(async move {
            let end = sessions.run(messages, &responses, (&access, &caller)).await;
            if let Err(status) = end {
                debug!(code = ?status.code(), message = status.message(), "stream ended");
                // A client that is gone, or does not read, misses it.
                let _ = tokio::time::timeout(FINAL_STATUS_TIME_MAX, responses.send(Err(status))).await;
            }
        });
        // Until its client has all of them, or is gone: one that does not read keeps them in memory.
        let in_its_place = ReceiverStream::new(receiver).map(move |response| {
            let _held = &place;
            response
        });
        Ok(Response::new(in_its_place.boxed()))
    }

    async fn report_locations(
        &self,
        request: Request<pb::ReportLocationsRequest>,
    ) -> Result<Response<pb::ReportLocationsResponse>, Status> {
        let deadline = CallDeadline::of(&request);
        let access = principal::access(&request)?;
        let caller = principal::caller(&access, request.extensions());
        let fixes = request.into_inner().fixes;
        if fixes.is_empty() || fixes.len() > REPORT_MAX {
            let mut bad = Violations::default();
            bad.add(
                "fixes",
                &format!("must hold 1 to {REPORT_MAX} fixes, not {}", fixes.len()),
            );
            return Err(bad.into_status());
        }
        let intake = &self.sessions.intake;
        let mut batch = intake.parse(fixes, 0, &access);
        let good = batch.fixes.len();
        // A phone that was offline sends what it gathered in parts, the newest first: what is too much now is named.
        intake.reject_excess(&mut batch, 0, &mut Credit::default());
        let limits = &intake.limits;
        if batch.fixes.is_empty() && good > 0 {
            return Err(limits.refuse(Class::Fixes).into());
        }
        // Each bad fix is named in the answer, which is not for nothing.
        if let (0, Some(driver)) = (good, access.scope.driver()) {
            limits.admit(Class::Fixes, driver.as_str(), deadline).await?;
        }
        for (driver, count) in batch.by_driver() {
            if let Err(limited) = limits.admit_passed(Class::Fixes, driver, count, deadline).await {
                intake.ingest.refused(batch.fixes.len());
                return Err(limited.into());
            }
        }
        let accepted_count = u32::try_from(batch.fixes.len()).unwrap_or(u32::MAX);
        intake.ingest.store(&caller, batch.fixes).await?;
        Ok(Response::new(pb::ReportLocationsResponse {
            accepted_count,
            rejections: batch.rejections,
            clock_offsets: render::clock_offsets(batch.clock_offsets),
        }))
    }
}

impl Sessions {
    /// Reads one stream to its end.
    async fn run(
        &self,
        messages: Streaming<pb::StreamLocationsRequest>,
        responses: &mpsc::Sender<Result<pb::StreamLocationsResponse, Status>>,
        (access, caller): (&Access, &str),
    ) -> Result<(), Status> {
        let mut inbound = Inbound::new(&self.intake, access, messages);
        let end = self.answer(&mut inbound, responses, (access, caller)).await;
        self.intake.ingest.refused(inbound.left());
        end
    }

    /// Takes what is there, stores it, answers it, and only then reads on. What comes meanwhile waits in the connection's window and is taken
    /// together; flow control holds the rest back.
    async fn answer(
        &self,
        inbound: &mut Inbound<'_>,
        responses: &mpsc::Sender<Result<pb::StreamLocationsResponse, Status>>,
        (access, caller): (&Access, &str),
    ) -> Result<(), Status> {
        let mut end = pin!(self.end(access));
        loop {
            let next = tokio::select! {
                biased;
                // Every stored message was acknowledged, so only the reason is left to send. Nothing of what was read is stored yet: a stream that
                // ends does not wait for the driver's tokens.
                status = &mut end => return Err(status),
                next = inbound.next() => next?,
                // Nor does one whose client is gone.
                () = responses.closed() => return Ok(()),
            };
            let Some(mut taken) = next else { return Ok(()) };
            // What has to wait holds up nothing that came before it.
            while taken.batch.size() < AHEAD_MAX
                && let Some(next) = inbound.ready()
            {
                taken.add(next);
            }
            self.intake.ingest.store(caller, taken.batch.fixes).await?;
            let response = pb::StreamLocationsResponse {
                acknowledged_sequence: taken.last,
                rejections: taken.batch.rejections,
                clock_offsets: render::clock_offsets(taken.batch.clock_offsets),
            };
            let has_few = response.rejections.len() + response.clock_offsets.len() <= FEW_NAMED;
            let places = if has_few { 1 } else { RESPONSES_MAX };
            tokio::select! {
                // The acknowledgement first: it is sent whenever there is room.
                biased;
                reserved = responses.reserve_many(places) => match reserved {
                    Ok(mut places) => if let Some(place) = places.next() { place.send(Ok(response)); },
                    Err(_) => return Ok(()),
                },
                status = &mut end => {
                    // The last acknowledgement waits for no other to be read.
                    let _ = responses.try_send(Ok(response));
                    return Err(status);
                }
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
}

fn too_many() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::ResourceExhausted, "too many streams of fixes are open", details)
}

fn drain_status() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
    Status::with_error_details(Code::Unavailable, "the server is draining", details)
}
