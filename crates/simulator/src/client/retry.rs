//! When to try again, and how long to wait before: full jitter, so that clients which failed together do not come back
//! together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The longest wait that a server may ask for. A mistaken answer must not put a customer to sleep for a day.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(30);

/// How a call is repeated until its answer is definite.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The deadline of one call.
    pub call_deadline: Duration,
    /// How long to go on before giving up.
    pub give_up_after: Duration,
    /// The bound of the first wait; it doubles with every further one.
    pub wait_first: Duration,
    /// The bound of every wait.
    pub wait_max: Duration,
    /// Whether a call is made again at all. If not, its first answer is its last.
    pub repeats: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::DEFAULT
    }
}

impl RetryPolicy {
    /// A client that wants its answer.
    pub(crate) const DEFAULT: RetryPolicy = RetryPolicy {
        call_deadline: Duration::from_secs(30),
        give_up_after: Duration::from_mins(2),
        wait_first: Duration::from_millis(100),
        wait_max: Duration::from_secs(5),
        repeats: true,
    };

    /// Soon back, so that a test of many failures takes no time.
    #[cfg(test)]
    pub(crate) const QUICK: RetryPolicy = RetryPolicy {
        wait_first: Duration::from_millis(2),
        wait_max: Duration::from_millis(20),
        ..RetryPolicy::DEFAULT
    };

    /// Calls under one deadline, repetitions included, where there are `repeats`.
    pub(crate) fn within(deadline: Duration, repeats: bool) -> RetryPolicy {
        RetryPolicy {
            call_deadline: deadline,
            give_up_after: deadline,
            repeats,
            ..RetryPolicy::DEFAULT
        }
    }

    /// How long to wait after `failures` failures in a row, the last of which is `status`: any time up to the doubled
    /// bound, on top of what the server asked for.
    pub(crate) fn wait(&self, failures: u32, status: Option<&Status>) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let bound = self.wait_first.saturating_mul(1 << doublings).min(self.wait_max);
        let asked = status.and_then(asked_wait).unwrap_or_default();
        asked + bound.mul_f64(rand::rng().random::<f64>())
    }

    /// Repeats `call`, which is given the deadline of each call, until it is answered, refused for good, or the time is
    /// up; the error is the last one. `repeated` is called before every repetition.
    pub(super) async fn until_answered<T, F>(
        &self,
        abandon: &CancellationToken,
        repeated: impl Fn(),
        mut call: impl FnMut(Duration) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let gives_up_at = Instant::now() + self.give_up_after;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let deadline = self.call_deadline.min(gives_up_at.saturating_duration_since(begun));
            let answered = abandon
                .run_until_cancelled(tokio::time::timeout(deadline, call(deadline)))
                .await;
            let status = match answered {
                Some(Ok(Ok(answer))) => return Ok(answer),
                // tonic's own timer, which may be the first of the two, reports that the call was cancelled.
                Some(Ok(Err(status))) if status.code() == Code::Cancelled && begun.elapsed() >= deadline => too_late(),
                Some(Ok(Err(status))) => status,
                Some(Err(_)) => too_late(),
                None => return Err(Status::cancelled("abandoned at the end of the run")),
            };
            failures += 1;
            let wait = self.wait(failures, Some(&status));
            if !self.repeats || !is_worth_repeating(&status) || Instant::now() + wait >= gives_up_at {
                return Err(status);
            }
            if abandon.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Err(status);
            }
            repeated();
        }
    }
}

fn too_late() -> Status {
    Status::deadline_exceeded("no answer within the deadline")
}

/// Whether the same call may be answered otherwise next time. A status with a source was made on this side, out of a
/// broken connection: the server has not answered yet.
fn is_worth_repeating(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(
            status.code(),
            // CANCELLED is what tonic's client reports when the time of a call is up.
            Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled
        )
}

/// What the server asked for in `google.rpc.RetryInfo`.
fn asked_wait(status: &Status) -> Option<Duration> {
    Some(status.get_details_retry_info()?.retry_delay?.min(ASKED_WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    /// Answers the statuses one after the other, then the number of calls.
    async fn repeat(policy: RetryPolicy, statuses: Vec<Status>) -> (Result<u32, Status>, u32) {
        let (calls, retries) = (Cell::new(0), Cell::new(0));
        let statuses = Cell::new(statuses.into_iter());
        let answer = policy
            .until_answered(
                &CancellationToken::new(),
                || retries.set(retries.get() + 1),
                |_| {
                    calls.set(calls.get() + 1);
                    let mut left = statuses.take();
                    let next = left.next();
                    statuses.set(left);
                    let calls = calls.get();
                    async move { next.map_or(Ok(calls), Err) }
                },
            )
            .await;
        (answer, retries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_while_the_answer_may_change() {
        let statuses = vec![
            Status::unavailable(""),
            Status::aborted(""),
            Status::deadline_exceeded(""),
            Status::resource_exhausted(""),
        ];
        let (answer, retries) = repeat(RetryPolicy::default(), statuses).await;
        assert_eq!((answer.unwrap(), retries), (5, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_definite_refusal_is_not_repeated() {
        for status in [
            Status::invalid_argument(""),
            Status::failed_precondition(""),
            Status::internal(""),
        ] {
            let code = status.code();
            let (answer, retries) = repeat(RetryPolicy::default(), vec![status]).await;
            assert_eq!((answer.unwrap_err().code(), retries), (code, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_without_repetition_takes_the_first_answer() {
        let once = RetryPolicy {
            repeats: false,
            ..RetryPolicy::default()
        };
        let (answer, retries) = repeat(once, vec![Status::unavailable("")]).await;
        assert_eq!((answer.unwrap_err().code(), retries), (Code::Unavailable, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_gets_through_is_given_up_in_time() {
        let begun = Instant::now();
        let down = (0..100_000).map(|_| Status::unavailable("")).collect();
        let (answer, retries) = repeat(RetryPolicy::default(), down).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
        assert!(
            begun.elapsed() <= Duration::from_mins(2) && retries > 24,
            "{retries} in {:?}",
            begun.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_asked_again_after_the_deadline() {
        let begun = Instant::now();
        let policy = RetryPolicy::default();
        let calls = Cell::new(0);
        let never_answered = |_| {
            calls.set(calls.get() + 1);
            std::future::pending::<Result<(), Status>>()
        };
        let answer = policy
            .until_answered(&CancellationToken::new(), || (), never_answered)
            .await;
        assert_eq!((answer.unwrap_err().code(), calls.get()), (Code::DeadlineExceeded, 4));
        assert!(begun.elapsed() <= Duration::from_secs(121));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_the_server_asks_for_is_honoured() {
        let begun = Instant::now();
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let limited = Status::with_error_details(Code::ResourceExhausted, "later", details);
        let (answer, _) = repeat(RetryPolicy::default(), vec![limited]).await;
        assert_eq!(answer.unwrap(), 2);
        assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
    }

    #[test]
    fn waits_are_jittered_and_bounded() {
        let policy = RetryPolicy::default();
        for failures in 1..40 {
            assert!(policy.wait(failures, None) <= policy.wait_max);
        }
        let waits: std::collections::BTreeSet<_> = (0..50).map(|_| policy.wait(4, None)).collect();
        assert!(waits.len() > 1 && waits.iter().all(|wait| *wait <= policy.wait_first * 8));
    }
}
