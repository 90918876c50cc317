//! Every call has a deadline, and the caller who waited learns `DEADLINE_EXCEEDED`.
//!
//! A unary call has that of the client, or [`DeadlineSettings::default`] if it has none, and at most
//! [`DeadlineSettings::max`]. A stream has one only if its client set it; the service ends idle streams itself. The
//! service finds the deadline in the extensions of the request, as [`CallDeadline`].
//!
//! tonic obeys `grpc-timeout` too, around all layers, and answers CANCELLED. Its timer starts after ours, and ours is
//! compared with the clock at every poll, so ours is always first.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, poll_fn, ready};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// The header in which a client says how long it will wait.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When the caller stops waiting. In the extensions of each request that has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDeadline(pub Instant);

/// How long calls may take.
#[derive(Debug, Clone)]
pub struct DeadlineSettings {
    /// Of a unary call whose client set none.
    pub default: Duration,
    /// Of any unary call.
    pub max: Duration,
    /// The paths of the methods that stream, as `/package.Service/Method`.
    pub streams: &'static [&'static str],
}

/// Makes [`Deadline`].
#[derive(Debug, Clone)]
pub struct DeadlineLayer {
    settings: DeadlineSettings,
}

/// Drops the work of the service inside when the deadline of the call passes, and answers for it.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
    settings: DeadlineSettings,
}

/// The deadline of one call as something to poll.
struct Timer {
    deadline: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// An answer that is not complete yet.
struct TimedBody {
    inner: Body,
    timer: Timer,
}

impl Default for DeadlineSettings {
    fn default() -> DeadlineSettings {
        DeadlineSettings {
            default: Duration::from_secs(10),
            max: Duration::from_secs(30),
            streams: &[],
        }
    }
}

impl DeadlineLayer {
    /// Keeps to `settings`.
    pub fn new(settings: DeadlineSettings) -> DeadlineLayer {
        DeadlineLayer { settings }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            settings: self.settings.clone(),
        }
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let time = match self.settings.time_for(request.uri().path(), request.headers()) {
            Ok(time) => time,
            Err(status) => return ready(Ok(status.into_http())).boxed(),
        };
        // A time so long that no clock reaches its end is no deadline.
        let Some(deadline) = time.and_then(|time| now.checked_add(time)) else {
            return self.inner.call(request).boxed();
        };
        if deadline <= now {
            return ready(Ok(passed().into_http())).boxed();
        }
        request.extensions_mut().insert(CallDeadline(deadline));
        within(Timer::new(deadline), self.inner.call(request)).boxed()
    }
}

/// The answer, or `DEADLINE_EXCEEDED` once the timer has run out.
async fn within<E>(
    mut timer: Timer,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    let mut answer = std::pin::pin!(answer);
    let in_time = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => timer.poll_passed(context).map(|()| None),
    });
    match in_time.await {
        Some(response) => response.map(|response| response.map(|inner| Body::new(TimedBody { inner, timer }))),
        None => Ok(passed().into_http()),
    }
}

impl DeadlineSettings {
    /// How long a call of `path` may take; `None` is for ever.
    fn time_for(&self, path: &str, headers: &HeaderMap) -> Result<Option<Duration>, Status> {
        let asked = headers.get(GRPC_TIMEOUT).map(parse_timeout).transpose()?;
        if self.streams.contains(&path) {
            return Ok(asked);
        }
        Ok(Some(asked.unwrap_or(self.default).min(self.max)))
    }
}

impl Timer {
    fn new(deadline: Instant) -> Timer {
        Timer {
            deadline,
            sleep: Box::pin(sleep_until(deadline)),
        }
    }

    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Another timer of this task may wake it a moment before this one is marked as run out.
        if Instant::now() >= self.deadline {
            Poll::Ready(())
        } else {
            self.sleep.as_mut().poll(context)
        }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => this.timer.poll_passed(context).map(|()| {
                this.inner = Body::empty();
                let mut trailers = HeaderMap::new();
                // It has no details, the only part of a status that may be no header value.
                let _ = passed().add_header(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn passed() -> Status {
    Status::deadline_exceeded("the deadline of the call has passed")
}

/// 1 to 8 digits and a unit, as the specification has it:
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>.
fn parse_timeout(value: &HeaderValue) -> Result<Duration, Status> {
    let bad = || Status::invalid_argument("grpc-timeout must be 1 to 8 digits and one of the units H, M, S, m, u, n");
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(bad)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let count = digits
        .iter()
        .fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(count * 3_600)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'S' => Ok(Duration::from_secs(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'n' => Ok(Duration::from_nanos(count)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_specification_are_read_and_no_others() {
        let parse = |text: &'static str| parse_timeout(&HeaderValue::from_static(text)).ok();
        for (text, expected) in [
            ("0n", Duration::ZERO),
            ("1n", Duration::from_nanos(1)),
            ("250u", Duration::from_micros(250)),
            ("100m", Duration::from_millis(100)),
            ("7S", Duration::from_secs(7)),
            ("2M", Duration::from_mins(2)),
            ("99999999H", Duration::from_hours(99_999_999)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "S",
            "abc",
            "10",
            "10s",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "1S ",
            "123456789S",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_unary_call_is_capped_and_a_stream_is_not() {
        let settings = DeadlineSettings {
            streams: &["/s/Stream"],
            ..DeadlineSettings::default()
        };
        let (none, hour) = (
            HeaderMap::new(),
            HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), HeaderValue::from_static("1H"))]),
        );
        let seconds =
            |path: &str, headers: &HeaderMap| settings.time_for(path, headers).unwrap().map(|time| time.as_secs());
        assert_eq!(seconds("/s/Unary", &none), Some(10));
        assert_eq!(seconds("/s/Unary", &hour), Some(30));
        assert_eq!(seconds("/s/Stream", &none), None);
        assert_eq!(seconds("/s/Stream", &hour), Some(3_600));
    }
}
