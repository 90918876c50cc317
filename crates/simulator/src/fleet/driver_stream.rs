//! One stream of a fleet, kept up across disconnects.

use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, StreamLocationsRequest, StreamLocationsResponse};

use super::ack_log::Entry;
use super::counts::StreamCounts;
use super::source::Source;
use super::window::Window;
use super::{DueFix, FleetOptions};
use crate::Drivers;
use crate::client::Dial;

/// Messages that wait for the connection. Fixes beyond them wait in the window.
const QUEUED_MESSAGES: usize = 4;

/// How many fixes that were never taken are counted together: their list is not to grow for ever.
const MISSED_TOGETHER: usize = 4_096;

/// What one stream came to.
#[derive(Debug)]
pub(super) struct StreamReport {
    /// Every fix that the server acknowledged, where a log is kept.
    pub(super) acknowledged: Vec<Entry>,
    /// Why it gave up before its end.
    pub(super) failure: Option<Status>,
}

/// A stream that is opened as often as needed.
pub(super) struct DriverStream<S> {
    server: Dial,
    client: LocationServiceClient<Channel>,
    options: FleetOptions,
    drivers: Arc<Drivers>,
    source: S,
    counts: StreamCounts,
    /// See [`super::Fleet`].
    hopeless: Option<CancellationToken>,
    window: Window,
    pulled_at: Instant,
    /// Since when nothing but this process can keep a fix that is due from being taken.
    free_since: Instant,
    stopped_at: Option<Instant>,
    /// When to give up: set anew by every acknowledgement, and no more once there are no more fixes.
    gives_up_at: Instant,
    draining: bool,
    /// Streams that broke since the last acknowledgement.
    failures: u32,
}

/// How a stream ended.
enum StreamEnd {
    /// All is settled.
    Finished,
    /// The server ended it or it broke; perhaps with work left.
    Broken(Status),
    /// Nothing was acknowledged for too long.
    TimeIsUp,
}

impl<S: Source> DriverStream<S> {
    pub(super) fn new(
        server: Dial,
        options: FleetOptions,
        drivers: &Arc<Drivers>,
        source: S,
        counts: StreamCounts,
        hopeless: Option<CancellationToken>,
    ) -> DriverStream<S> {
        let now = Instant::now();
        DriverStream {
            client: LocationServiceClient::new(server.channel()),
            server,
            options,
            drivers: Arc::clone(drivers),
            source,
            counts,
            hopeless,
            window: Window::new(options.window.max(1)),
            pulled_at: now,
            free_since: now,
            stopped_at: None,
            gives_up_at: now + options.retry.give_up_after,
            draining: false,
            failures: 0,
        }
    }

    /// Streams until every fix is settled, or `stop` is cancelled and what was taken is settled, or the time is up.
    pub(super) async fn run(mut self, stop: CancellationToken) -> StreamReport {
        let mut failure = None;
        while self.wait_for_work(&stop).await {
            match self.stream(&stop).await {
                StreamEnd::Finished => break,
                StreamEnd::TimeIsUp => {
                    failure = Some(Status::deadline_exceeded("no acknowledgement for too long"));
                    break;
                }
                StreamEnd::Broken(status) => {
                    if !self.wait_after(&status, &stop).await {
                        failure = Some(status);
                        break;
                    }
                }
            }
        }
        self.give_up(failure.as_ref());
        if failure.as_ref().is_some_and(is_refused_for_good) {
            self.counts
                .refused_for_good(self.options.streams, self.hopeless.as_ref());
        }
        if failure.is_some() && !self.options.resend {
            self.sit_out(&stop).await;
        }
        self.miss(self.stopped_at.unwrap_or_else(Instant::now));
        StreamReport {
            acknowledged: self.counts.into_log(),
            failure,
        }
    }

    /// Waits until there is a fix to send; false when there will be none. An idle stream is not opened: the server
    /// would only end it again.
    async fn wait_for_work(&mut self, stop: &CancellationToken) -> bool {
        self.free_since = Instant::now();
        while self.window.is_empty() {
            let Some(pull_at) = self.pull_at() else { return false };
            if stop.run_until_cancelled(self.source.until(pull_at)).await.is_none() {
                self.stop();
            } else {
                self.pull(pull_at);
            }
        }
        true
    }

    /// Waits before the next stream, the longer the more streams broke in a row; false when there is no use.
    async fn wait_after(&mut self, status: &Status, stop: &CancellationToken) -> bool {
        if is_refused_for_good(status) {
            return false;
        }
        if self.window.is_empty() {
            return true;
        }
        self.failures += 1;
        self.counts.broken();
        tracing::warn!(
            code = ?status.code(), message = status.message(), unsettled = self.window.unsettled(),
            resend = self.options.resend, "a location stream broke"
        );
        if !self.options.resend {
            self.lose(status.code());
        }
        let opens_at = Instant::now() + self.options.retry.wait(self.failures, Some(status));
        let waited = sleep_until(opens_at.min(self.gives_up_at));
        if self.stopped_at.is_none() && stop.run_until_cancelled(waited).await.is_none() {
            // Acted on now: what falls due until the stream is open again is after the end.
            self.stop();
            self.drain();
        }
        sleep_until(opens_at.min(self.gives_up_at)).await;
        opens_at < self.gives_up_at
    }

    /// What was sent and not settled is lost: no acknowledgement of it can come any more.
    fn lose(&mut self, code: Code) {
        self.window.lose_sent(|fix| self.counts.lost(&fix, code));
    }

    /// Nothing of what is left goes out any more.
    fn give_up(&mut self, failure: Option<&Status>) {
        self.lose(failure.map_or(Code::DeadlineExceeded, Status::code));
        self.window.clear();
    }

    /// Lets the time of the fixes pass without sending any. A source that has fixes whenever they are taken, and none
    /// that are missed, has no time of its own.
    async fn sit_out(&mut self, stop: &CancellationToken) {
        while self.stopped_at.is_none()
            && let Some(due) = self.source.next_due()
        {
            // A second at a time: a wake-up a fix is not worth it.
            let look_at = due + Duration::from_secs(1);
            if stop.run_until_cancelled(sleep_until(look_at)).await.is_none() {
                self.stopped_at = Some(Instant::now());
            } else if self.miss(look_at) == 0 {
                return;
            }
        }
    }

    /// Lets go of what was due by `by` and not taken: how much it was.
    fn miss(&mut self, by: Instant) -> usize {
        let mut missed = 0;
        loop {
            let dues: Vec<Instant> = iter::from_fn(|| self.source.miss(by)).take(MISSED_TOGETHER).collect();
            if dues.is_empty() {
                return missed;
            }
            missed += dues.len();
            self.counts.missed(dues);
        }
    }

    /// Opens a stream and serves it to its end.
    async fn stream(&mut self, stop: &CancellationToken) -> StreamEnd {
        let (requests, body) = mpsc::channel(QUEUED_MESSAGES);
        let mut requests = Some(requests);
        let mut client = self.client.clone();
        let call = self.server.request(ReceiverStream::new(body));
        let mut answers = Answers::Opening(Box::pin(async move { client.stream_locations(call).await }));
        self.window.begin_stream();
        loop {
            let pull_at = self.pull_at();
            if pull_at.is_none() && self.source_is_over() {
                self.drain();
                if !self.window.has_unsent() {
                    // Half-close: the server acknowledges what it has and ends the stream.
                    requests = None;
                }
            }
            tokio::select! {
                answer = answers.next() => match answer {
                    Ok(Some(answer)) => self.settle(&answer),
                    _ if self.window.is_empty() && requests.is_none() => return StreamEnd::Finished,
                    Ok(None) => return StreamEnd::Broken(Status::unavailable("the server ended the stream")),
                    Err(status) => return StreamEnd::Broken(status),
                },
                permit = permit(requests.clone()), if requests.is_some() && self.window.has_unsent() => match permit {
                    Some(permit) => drop(permit.send(self.next_message())),
                    // The call is over; its answer has the reason.
                    None => requests = None,
                },
                () = self.source.until(pull_at.unwrap_or(self.pulled_at)), if pull_at.is_some() => {
                    self.pull(pull_at.unwrap_or(self.pulled_at));
                }
                () = stop.cancelled(), if self.stopped_at.is_none() => self.stop(),
                () = sleep_until(self.gives_up_at), if !self.window.is_empty() || requests.is_none() => {
                    return if self.window.is_empty() { StreamEnd::Finished } else { StreamEnd::TimeIsUp };
                }
            }
        }
    }

    fn source_is_over(&mut self) -> bool {
        self.stopped_at.is_some() || self.source.next_due().is_none()
    }

    /// When to take the next fixes; none when there is no room or there are no more.
    fn pull_at(&mut self) -> Option<Instant> {
        if self.stopped_at.is_some() || !self.window.has_room() {
            return None;
        }
        let next_due = self.source.next_due()?;
        Some(next_due.max(self.pulled_at + self.options.gather))
    }

    /// Takes all fixes that are due, as far as there is room. It was to be done at `pull_at`.
    fn pull(&mut self, pull_at: Instant) {
        let now = Instant::now();
        self.pulled_at = now;
        if self.window.is_empty() {
            // Nothing was owed until now, so the silence before does not count.
            self.progress();
        }
        let possible_at = pull_at.max(self.free_since);
        let mut taken = Vec::new();
        while self.window.has_room()
            && let Some(fix) = self.source.take(now)
        {
            taken.push((fix.due, fix.due.max(possible_at)));
            self.window.push(fix);
        }
        self.counts.taken(&taken, now);
    }

    /// Takes what is due, for the last time.
    fn stop(&mut self) {
        let now = Instant::now();
        if self.window.has_room() {
            self.pull(now);
        }
        self.stopped_at = Some(now);
    }

    /// From now on only the last acknowledgements are waited for.
    fn drain(&mut self) {
        if !self.draining {
            self.draining = true;
            self.gives_up_at = Instant::now() + self.options.drain;
        }
    }

    fn progress(&mut self) {
        if !self.draining {
            self.gives_up_at = Instant::now() + self.options.retry.give_up_after;
        }
    }

    fn next_message(&mut self) -> StreamLocationsRequest {
        let now = Instant::now();
        let batch = self.window.batch(self.options.batch.max(1));
        let (again, first_time) = batch.fixes.split_at(batch.again.min(batch.fixes.len()));
        self.counts.sent_again(again);
        self.counts.sent(first_time, now);
        StreamLocationsRequest {
            first_sequence: batch.first_sequence,
            fixes: batch.fixes.iter().map(|fix| message(fix, &self.drivers)).collect(),
        }
    }

    fn settle(&mut self, answer: &StreamLocationsResponse) {
        let now = Instant::now();
        let had_room = self.window.has_room();
        let rejections = answer.rejections.iter().map(|rejection| rejection.sequence);
        let (mut settled, mut stored) = (false, Vec::new());
        self.window
            .settle(answer.acknowledged_sequence, rejections, |fix, is_stored| {
                settled = true;
                if is_stored {
                    stored.push(fix);
                } else {
                    self.counts.rejected(&fix);
                }
            });
        self.counts.stored(&stored, now);
        for rejection in &answer.rejections {
            tracing::debug!(reason = ?rejection.reason(), field = rejection.field, "a fix was rejected");
        }
        if settled {
            self.failures = 0;
            self.progress();
        }
        if !had_room {
            self.free_since = now;
        }
    }
}

/// Whether a server that answers this will not take another stream either.
pub(crate) fn is_refused_for_good(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied
    )
}

/// The answers of a stream. A server may hold back its headers until it has an answer, so the first fixes go
/// out while the call is still opening.
enum Answers {
    Opening(Pin<Box<dyn Future<Output = Result<Response<AnswerStream>, Status>> + Send>>),
    Open(Box<AnswerStream>),
}

type AnswerStream = Streaming<StreamLocationsResponse>;

impl Answers {
    /// The next answer; none when the server ended the stream. Loses nothing when dropped halfway.
    async fn next(&mut self) -> Result<Option<StreamLocationsResponse>, Status> {
        if let Answers::Opening(call) = self {
            *self = Answers::Open(Box::new(call.await?.into_inner()));
        }
        match self {
            Answers::Open(answers) => answers.message().await,
            Answers::Opening(_) => Ok(None),
        }
    }
}

/// Room for one message; none when the call is over.
async fn permit<T>(requests: Option<mpsc::Sender<T>>) -> Option<mpsc::OwnedPermit<T>> {
    requests?.reserve_owned().await.ok()
}

fn message(fix: &DueFix, drivers: &Drivers) -> Fix {
    let micros = fix.recorded_at_micros;
    // Below a second, so it fits.
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Fix {
        driver_id: drivers.name(fix.driver).to_owned(),
        position: Some(LatLng {
            latitude: Some(fix.lat_deg),
            longitude: Some(fix.lon_deg),
        }),
        recorded_at: Some(Timestamp {
            seconds: micros.div_euclid(1_000_000),
            nanos,
        }),
    }
}
