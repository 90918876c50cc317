//! Every call has a deadline, and the caller who waited learns `DEADLINE_EXCEEDED`.
//!
//! A unary call has that of the client, or [`DeadlineSettings::default`] if it has none, and at most
//! [`DeadlineSettings::max`]. A stream has one only if its client set it; the service ends idle streams itself. But it has
//! to begin within the default: a client that never sends its request to the end would keep what it sent in memory for ever.
//! The service finds the deadline in the extensions of the request, as [`CallDeadline`].
//!
//! tonic obeys `grpc-timeout` too, around all layers, and answers CANCELLED. Its timer starts after ours, and ours is
//! compared with the clock at every poll, so ours is always first.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::poll_fn;
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tonic::Status;

/// The header in which a client says how long it will wait.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When the caller stops waiting. In the extensions of each request that has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDeadline(pub Instant);

/// How long calls may take.
#[derive(Debug, Clone)]
pub struct DeadlineSettings {
    /// Of a unary call whose client set none, and of the beginning of a stream.
    pub default: Duration,
    /// Of any unary call.
    pub max: Duration,
    /// The paths of the methods that stream, as `/package.Service/Method`.
    pub streams: &'static [&'static str],
}

/// The deadline of one call, to poll.
pub(super) type Timer = Pin<Box<Sleep>>;

/// The deadlines of a call that goes to its service.
pub(super) struct Deadlines {
    /// Of the beginning of its answer.
    pub beginning: Timer,
    /// Of the whole answer; none if it may take for ever.
    whole: Option<Instant>,
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

impl CallDeadline {
    /// The deadline of this request, if it has one.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<CallDeadline> {
        request.extensions().get().copied()
    }
}

impl Deadlines {
    /// The one of what is left of an answer that has begun.
    pub(super) fn rest(self) -> Option<Timer> {
        let whole = self.whole?;
        let mut timer = self.beginning;
        if timer.deadline() != whole {
            timer.as_mut().reset(whole);
        }
        Some(timer)
    }
}

impl DeadlineSettings {
    /// Starts the timer of a call and puts its deadline into the request, unless it may take for ever. An error is the
    /// answer to a call that has no time left, or whose time-out cannot be read.
    pub(super) fn start<B>(&self, request: &mut http::Request<B>) -> Result<Deadlines, Status> {
        let now = Instant::now();
        let (beginning, whole) = self.times_for(request.uri().path(), request.headers())?;
        if beginning.is_zero() {
            return Err(deadline_exceeded());
        }
        // A time so long that no clock reaches its end is no deadline.
        let whole = whole.and_then(|time| now.checked_add(time));
        if let Some(deadline) = whole {
            request.extensions_mut().insert(CallDeadline(deadline));
        }
        Ok(Deadlines {
            beginning: Box::pin(now.checked_add(beginning).map_or_else(|| sleep(beginning), sleep_until)),
            whole,
        })
    }

    /// How long the answer to a call of `path` may take to begin, and to end; `None` is for ever.
    fn times_for(&self, path: &str, headers: &HeaderMap) -> Result<(Duration, Option<Duration>), Status> {
        let asked = headers.get(GRPC_TIMEOUT).map(parse_timeout).transpose()?;
        if self.streams.contains(&path) {
            return Ok((asked.unwrap_or(self.default).min(self.default), asked));
        }
        let time = asked.unwrap_or(self.default).min(self.max);
        Ok((time, Some(time)))
    }
}

/// What `future` returns, or `DEADLINE_EXCEEDED` once the timer has run out.
pub(super) async fn or_deadline<T>(future: impl Future<Output = T>, timer: &mut Timer) -> Result<T, Status> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| check_deadline(future.as_mut().poll(context), Some(&mut *timer), context)).await
}

/// What was polled, or `DEADLINE_EXCEEDED` if that is pending and the timer has run out.
pub(super) fn check_deadline<T>(
    polled: Poll<T>,
    timer: Option<&mut Timer>,
    context: &mut Context<'_>,
) -> Poll<Result<T, Status>> {
    match (polled, timer) {
        (Poll::Ready(value), _) => Poll::Ready(Ok(value)),
        // Another timer of this task may wake it a moment before this one is marked as run out.
        (Poll::Pending, Some(timer)) if Instant::now() >= timer.deadline() => Poll::Ready(Err(deadline_exceeded())),
        (Poll::Pending, Some(timer)) => timer.as_mut().poll(context).map(|()| Err(deadline_exceeded())),
        (Poll::Pending, None) => Poll::Pending,
    }
}

fn deadline_exceeded() -> Status {
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
        let seconds = |path: &str, headers: &HeaderMap| {
            let (beginning, whole) = settings.times_for(path, headers).unwrap();
            (beginning.as_secs(), whole.map(|time| time.as_secs()))
        };
        assert_eq!(seconds("/s/Unary", &none), (10, Some(10)));
        assert_eq!(seconds("/s/Unary", &hour), (30, Some(30)));
        assert_eq!(seconds("/s/Stream", &none), (10, None));
        assert_eq!(seconds("/s/Stream", &hour), (10, Some(3_600)));
    }
}
