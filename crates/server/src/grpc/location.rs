//! `waybill.location.v1.LocationService`: fixes in, acknowledgements out.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::debug;
use waybill_domain::fix::{Fix, TimeWindow};
use waybill_domain::id::DriverId;
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::location_service_server::LocationService as Api;

use super::edge::{CallDeadline, Class, IngressLimits};
use super::fields::Violations;
use super::fixes::Batch;
use super::{principal, render};
use crate::identity::Access;
use crate::locations::ingest::Ingest;

/// Fixes in one ReportLocations call.
const REPORT_MAX: usize = 500;
/// Fixes in one message of a stream: what 64 KiB hold of drivers with short names. It would hold 30 times as many that are empty, of which each is
/// a rejection of some 200 bytes.
const MESSAGE_FIXES_MAX: usize = 1_000;
/// After so many fixes a stream is answered before it is read on: as many as one call may have.
const AHEAD_MAX: usize = REPORT_MAX;
/// How long the status that ends a stream waits for room: a client that does not read does not delay the drain.
const FINAL_STATUS_TIME_MAX: Duration = Duration::from_secs(2);
/// Responses that a client has not read yet. When it does not read, its stream stops being read.
const RESPONSES_MAX: usize = 16;
/// A response with more rejections waits until all before it are read. It has at most those of [`AHEAD_MAX`] fixes and of one message more. So in memory
/// there are some 5,500 of a stream, about 1 MB: in one response with many, in those behind it with few, in the next one, and in a message that waits.
const FEW_REJECTIONS: usize = 100;

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
        let caller = principal::caller(&access, &request);
        let inbound = request.into_inner();
        self.tasks.spawn(async move {
            let end = sessions.run(inbound, &responses, (&access, &caller)).await;
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
        let caller = principal::caller(&access, &request);
        let fixes = request.into_inner().fixes;
        if fixes.is_empty() || fixes.len() > REPORT_MAX {
            let mut bad = Violations::default();
            bad.add(
                "fixes",
                &format!("must hold 1 to {REPORT_MAX} fixes, not {}", fixes.len()),
            );
            return Err(bad.into_status());
        }
        let mut batch = self.sessions.parse(fixes, 0, &access);
        let good = batch.fixes.len();
        // A phone that was offline sends what it gathered in parts, the newest first: what is too much now is named.
        self.sessions.reject_excess(&mut batch, 0);
        let limits = &self.sessions.limits;
        if batch.fixes.is_empty() && good > 0 {
            return Err(limits.refuse(Class::Fixes).into());
        }
        for (driver, count) in batch.by_driver() {
            if let Err(limited) = limits.admit_passed(Class::Fixes, driver, count, deadline).await {
                self.sessions.ingest.refused(batch.fixes.len());
                return Err(limited.into());
            }
        }
        let accepted_count = u32::try_from(batch.fixes.len()).unwrap_or(u32::MAX);
        self.sessions.ingest.store(&caller, batch.fixes).await?;
        Ok(Response::new(pb::ReportLocationsResponse {
            accepted_count,
            rejections: batch.rejections,
            clock_offsets: render::clock_offsets(batch.clock_offsets),
        }))
    }
}

/// The fixes of one message, or of several in a row, which are stored and acknowledged together.
struct Taken {
    batch: Batch,
    /// The sequence of the last one.
    last: u64,
}

/// A message that was read.
struct Message<'a> {
    /// How many fixes of it can be stored.
    fixes: usize,
    /// Waits until they may pass.
    admitted: Pin<Box<dyn Future<Output = Taken> + Send + 'a>>,
}

/// What a stream has carried so far.
#[derive(Default)]
struct Carried {
    /// The lowest sequence that may come next.
    next_sequence: u64,
    driver: Option<DriverId>,
    /// Whether it has carried fixes of several drivers: none of them waits for another one then.
    is_shared: bool,
}

/// A message, or the stream's end.
type Read<'a> = Result<Option<Message<'a>>, Status>;

impl Sessions {
    /// Reads one stream to its end.
    async fn run(
        &self,
        inbound: Streaming<pb::StreamLocationsRequest>,
        responses: &mpsc::Sender<Result<pb::StreamLocationsResponse, Status>>,
        by: (&Access, &str),
    ) -> Result<(), Status> {
        let mut ahead = None;
        let end = self.answer(inbound, &mut ahead, responses, by).await;
        if let Some(Ok(Some(message))) = ahead {
            self.ingest.refused(message.fixes);
        }
        end
    }

    /// Takes what is there, stores it, answers it, and only then reads on. What comes meanwhile waits in the connection's window and is taken
    /// together; flow control holds the rest back. `ahead`: what was read and is not answered.
    async fn answer<'a>(
        &'a self,
        mut inbound: Streaming<pb::StreamLocationsRequest>,
        ahead: &mut Option<Read<'a>>,
        responses: &mpsc::Sender<Result<pb::StreamLocationsResponse, Status>>,
        (access, caller): (&Access, &str),
    ) -> Result<(), Status> {
        let mut carried = Carried::default();
        let mut end = pin!(self.end(access));
        loop {
            let read = if let Some(read) = ahead.take() {
                read
            } else {
                tokio::select! {
                    biased;
                    // Every stored message was acknowledged, so only the reason is left to send.
                    status = &mut end => return Err(status),
                    () = tokio::time::sleep(self.settings.idle_max) => {
                        let idle = self.settings.idle_max.as_secs();
                        return Err(Status::deadline_exceeded(format!("the stream was idle for {idle} s")));
                    }
                    message = inbound.message() => self.read(message, &mut carried, access),
                }
            };
            let Some(message) = read? else { return Ok(()) };
            let mut taken = tokio::select! {
                taken = message.admitted => taken,
                // Nothing of this message is stored yet: a stream that ends does not wait for the driver's tokens.
                status = &mut end => {
                    self.ingest.refused(message.fixes);
                    return Err(status);
                }
            };
            while taken.len() < AHEAD_MAX && ahead.is_none() {
                let Some(message) = inbound.message().now_or_never() else {
                    break;
                };
                match self.read(message, &mut carried, access) {
                    Ok(Some(mut message)) => match (&mut message.admitted).now_or_never() {
                        Some(next) => taken.add(next),
                        // What has to wait holds up nothing that came before it.
                        None => *ahead = Some(Ok(Some(message))),
                    },
                    end => *ahead = Some(end),
                }
            }
            self.ingest.store(caller, taken.batch.fixes).await?;
            let response = pb::StreamLocationsResponse {
                acknowledged_sequence: taken.last,
                rejections: taken.batch.rejections,
                clock_offsets: render::clock_offsets(taken.batch.clock_offsets),
            };
            let has_few_rejections = response.rejections.len() <= FEW_REJECTIONS;
            let places = if has_few_rejections { 1 } else { RESPONSES_MAX };
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

    /// Looks at what came of the stream.
    fn read(
        &self,
        message: Result<Option<pb::StreamLocationsRequest>, Status>,
        carried: &mut Carried,
        access: &Access,
    ) -> Read<'_> {
        let Some(message) = message? else { return Ok(None) };
        let first = message.first_sequence;
        let (last, after) = parse_sequences(&message, carried.next_sequence)?;
        carried.next_sequence = after;
        let mut batch = self.parse(message.fixes, first, access);
        let is_shared = carried.is_shared_with(&batch.fixes);
        if is_shared {
            self.reject_excess(&mut batch, first);
        }
        Ok(Some(Message {
            fixes: batch.fixes.len(),
            admitted: Box::pin(async move {
                for (driver, count) in batch.by_driver() {
                    if is_shared {
                        self.limits.pace_passed(Class::Fixes, driver, count).await;
                    } else {
                        self.limits.pace(Class::Fixes, driver, count).await;
                    }
                }
                Taken { batch, last }
            }),
        }))
    }

    /// Rejects what drivers send beyond their limits.
    fn reject_excess(&self, batch: &mut Batch, first_sequence: u64) {
        let mut excess = HashMap::new();
        for (driver, count) in batch.by_driver() {
            let passed = self.limits.pass_some(Class::Fixes, driver, count);
            if passed < count {
                excess.insert(driver.to_owned(), count - passed);
            }
        }
        if excess.is_empty() {
            return;
        }
        for _ in 0..excess.values().sum() {
            self.ingest.rejected(pb::RejectionReason::RateLimited.as_str_name());
        }
        batch.reject_excess(excess, first_sequence);
    }

    fn parse(&self, fixes: Vec<pb::Fix>, first_sequence: u64, access: &Access) -> Batch {
        let (window, only) = (self.settings.window, access.scope.driver());
        let batch = Batch::parse(fixes, first_sequence, Timestamp::now(), window, &access.tenant(), only);
        for rejection in &batch.rejections {
            self.ingest.rejected(rejection.reason().as_str_name());
        }
        self.ingest.clocks_off(batch.clock_offsets.len());
        batch
    }
}

impl Carried {
    /// Whether the stream carries several drivers, with these fixes.
    fn is_shared_with(&mut self, fixes: &[Fix]) -> bool {
        for fix in fixes {
            if self.is_shared {
                break;
            }
            self.is_shared = *self.driver.get_or_insert_with(|| fix.driver.clone()) != fix.driver;
        }
        self.is_shared
    }
}

impl Taken {
    /// How many fixes it had, the rejected ones among them: each of those is named in the response.
    fn len(&self) -> usize {
        self.batch.fixes.len() + self.batch.rejections.len()
    }

    /// The next message's, too.
    fn add(&mut self, next: Taken) {
        self.batch.add(next.batch);
        self.last = next.last;
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
    let count = message.fixes.len();
    let last_offset = (count as u64).checked_sub(1).filter(|_| count <= MESSAGE_FIXES_MAX);
    let Some(last_offset) = last_offset else {
        let why = format!("must hold 1 to {MESSAGE_FIXES_MAX} fixes, not {count}");
        bad.add("fixes", &why);
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
