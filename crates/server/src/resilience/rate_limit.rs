//! The egress rate limit: no more calls a second than the dependency sells us.
//!
//! Calls take their turn under it at the head of the bulkhead's line, one after the other; only further requests of a call
//! that has its slot wait beside. It sits outside the timeout of the attempt, because our own wait is not the dependency's
//! slowness. A call whose turn comes after its deadline is refused at once and takes no token.
//!
//! Instances share one bucket. Each takes a few tokens out of it at a time. While the bucket does not answer, each instance
//! keeps the rate by itself.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::metrics::WaitMetrics;
use crate::resilience::Deadline;

/// So many tokens may be taken at once, as a part of those of a second. Stripe limits the requests of any second
/// (<https://docs.stripe.com/rate-limits>): a burst of a whole second's tokens would be twice of that.
const BURST_PART: u32 = 10;
/// An instance takes so many tokens out of the shared bucket, as a part of those of a second: with many calls a second not
/// each of them asks.
const BLOCK_PART: u32 = 20;
/// What was taken and not used for so long is not used any more: instances that were quiet must not send at once.
const BLOCK_AGE_MAX: Duration = Duration::from_millis(200);
/// For so long a bucket that did not answer is not asked.
const AWAY: Duration = Duration::from_secs(1);

/// A bucket of tokens that several processes share.
pub trait SharedBucket: fmt::Debug + Send + Sync {
    /// Takes at most so many tokens. `None`: the bucket does not answer.
    fn take(&self, tokens: u32) -> BoxFuture<'_, Option<Taken>>;
}

/// What was taken out of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many tokens, at least one.
    Tokens(NonZeroU32),
    /// It is empty for so long.
    NoneFor(Duration),
}

/// How many calls there may be.
#[derive(Debug, Clone, Copy)]
pub struct CallRate {
    /// Calls a second.
    pub per_second: NonZeroU32,
}

impl CallRate {
    /// Calls at once, after a quiet time.
    pub fn burst(self) -> NonZeroU32 {
        NonZeroU32::new(self.per_second.get() / BURST_PART).unwrap_or(NonZeroU32::MIN)
    }
}

/// Spaces calls out.
#[derive(Debug)]
pub struct EgressLimit {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
    rate: CallRate,
    shared: Option<Shared>,
    metrics: WaitMetrics,
}

/// The turn of this call comes after its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit would hold the call past its deadline")]
pub struct TooLate;

#[derive(Debug)]
struct Shared {
    bucket: Arc<dyn SharedBucket>,
    block: u32,
    state: Mutex<SharedState>,
    /// Turns that were taken without the bucket.
    alone: Counter,
}

#[derive(Debug, Default)]
struct SharedState {
    /// Taken out and not used, and until when they may be.
    tokens: u32,
    usable_until: Option<Instant>,
    away_until: Option<Instant>,
}

/// What is known before the bucket is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A token of an earlier block is there.
    Held,
    /// It did not answer a moment ago.
    Away,
    Ask,
}

impl EgressLimit {
    /// `per_second` calls a second, and a tenth of that at once after a quiet time.
    pub fn new(per_second: NonZeroU32, metrics: WaitMetrics) -> Self {
        let rate = CallRate { per_second };
        EgressLimit {
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(per_second).allow_burst(rate.burst())),
            clock: DefaultClock::default(),
            rate,
            shared: None,
            metrics,
        }
    }

    /// The same rate, shared by all who take from this bucket. `alone` counts calls while it does not answer.
    pub fn share(&mut self, bucket: Arc<dyn SharedBucket>, alone: Counter) {
        self.shared = Some(Shared {
            bucket,
            block: (self.rate.per_second.get() / BLOCK_PART).max(1),
            state: Mutex::default(),
            alone,
        });
    }

    /// Calls a second.
    pub fn per_second(&self) -> NonZeroU32 {
        self.rate.per_second
    }

    /// Waits for a turn, at most until the deadline.
    pub async fn until_ready(&self, deadline: Deadline) -> Result<(), TooLate> {
        let mut waiting = None;
        while let Err(wait) = self.take().await {
            if wait >= deadline.remaining() {
                self.metrics.refusals.inc();
                return Err(TooLate);
            }
            waiting.get_or_insert_with(|| self.metrics.begin());
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// A turn now, or when to ask again.
    async fn take(&self) -> Result<(), Duration> {
        if let Some(shared) = &self.shared {
            if let Some(taken) = shared.take().await {
                return taken;
            }
            shared.alone.inc();
        }
        let now = self.limiter.check();
        now.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

impl Shared {
    /// `None`: the bucket does not answer.
    async fn take(&self) -> Option<Result<(), Duration>> {
        match self.lock().look(Instant::now()) {
            Before::Held => return Some(Ok(())),
            Before::Away => return None,
            Before::Ask => {}
        }
        let taken = self.bucket.take(self.block).await;
        self.lock().answered(taken, Instant::now());
        taken.map(|taken| match taken {
            Taken::Tokens(_) => Ok(()),
            Taken::NoneFor(wait) => Err(wait),
        })
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedState {
    fn look(&mut self, now: Instant) -> Before {
        let is_future = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if self.tokens > 0 && is_future(self.usable_until) {
            self.tokens -= 1;
            Before::Held
        } else if is_future(self.away_until) {
            Before::Away
        } else {
            Before::Ask
        }
    }

    fn answered(&mut self, taken: Option<Taken>, now: Instant) {
        match taken {
            // One of them is for the call that asked.
            Some(Taken::Tokens(tokens)) => {
                self.tokens += tokens.get() - 1;
                self.usable_until = Some(now + BLOCK_AGE_MAX);
            }
            Some(Taken::NoneFor(_)) => {}
            None => self.away_until = Some(now + AWAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn limit(per_second: u32) -> (EgressLimit, WaitMetrics) {
        let metrics = WaitMetrics::default();
        (
            EgressLimit::new(NonZeroU32::new(per_second).unwrap(), metrics.clone()),
            metrics,
        )
    }

    fn minute() -> Deadline {
        Deadline::after(Duration::from_mins(1))
    }

    /// A bucket whose answers are written down; then it does not answer. It notes what it was asked for.
    #[derive(Debug, Default)]
    struct Answers(Mutex<(VecDeque<Taken>, Vec<u32>)>);

    impl SharedBucket for Answers {
        fn take(&self, tokens: u32) -> BoxFuture<'_, Option<Taken>> {
            let mut answers = self.0.lock().unwrap();
            answers.1.push(tokens);
            Box::pin(std::future::ready(answers.0.pop_front()))
        }
    }

    fn shared(answers: impl IntoIterator<Item = Taken>) -> (EgressLimit, Arc<Answers>, Counter) {
        let (mut limit, _) = limit(100);
        let bucket = Arc::new(Answers(Mutex::new((answers.into_iter().collect(), Vec::new()))));
        let alone = Counter::default();
        limit.share(Arc::clone(&bucket) as Arc<dyn SharedBucket>, alone.clone());
        (limit, bucket, alone)
    }

    #[tokio::test]
    async fn a_call_whose_turn_is_after_its_deadline_is_refused() {
        let (limit, metrics) = limit(1);
        assert_eq!(limit.until_ready(minute()).await, Ok(()));
        assert_eq!(
            limit.until_ready(Deadline::after(Duration::from_millis(1))).await,
            Err(TooLate)
        );
        assert_eq!((metrics.waits.get(), metrics.refusals.get()), (0, 1));
        assert!(metrics.seconds.get() == 0.0);
    }

    #[tokio::test]
    async fn a_call_that_may_wait_waits_and_is_counted() {
        let (limit, metrics) = limit(50);
        for _ in 0..7 {
            assert_eq!(limit.until_ready(minute()).await, Ok(()));
        }
        assert!(metrics.waits.get() >= 1 && metrics.seconds.get() > 0.0, "{metrics:?}");
    }

    fn tokens(count: u32) -> Taken {
        Taken::Tokens(NonZeroU32::new(count).unwrap())
    }

    #[tokio::test]
    async fn tokens_are_taken_out_of_the_shared_bucket_in_blocks() {
        let (limit, bucket, _) = shared([tokens(5), tokens(1)]);
        for _ in 0..6 {
            limit.until_ready(minute()).await.unwrap();
        }
        assert_eq!(bucket.0.lock().unwrap().1, [5, 5]);
    }

    #[test]
    fn tokens_that_are_not_used_soon_are_not_used_any_more() {
        let (mut state, now) = (SharedState::default(), Instant::now());
        state.answered(Some(tokens(3)), now);
        assert_eq!(state.look(now), Before::Held);
        assert_eq!(state.look(now + BLOCK_AGE_MAX), Before::Ask);
    }

    #[tokio::test]
    async fn a_call_waits_until_the_shared_bucket_has_a_token_again() {
        let empty = Taken::NoneFor(Duration::from_millis(20));
        let (limit, bucket, _) = shared([empty, empty, tokens(1)]);
        let soon = Deadline::after(Duration::from_millis(10));
        assert_eq!(limit.until_ready(soon).await, Err(TooLate));
        limit.until_ready(minute()).await.unwrap();
        assert_eq!(bucket.0.lock().unwrap().1.len(), 3);
    }

    #[tokio::test]
    async fn while_the_shared_bucket_does_not_answer_the_rate_is_kept_alone() {
        let (limit, bucket, alone) = shared([]);
        for _ in 0..10 {
            limit.until_ready(minute()).await.unwrap();
        }
        assert_eq!((bucket.0.lock().unwrap().1.len(), alone.get()), (1, 10));
    }

    #[test]
    fn a_bucket_that_does_not_answer_is_asked_again_a_second_later() {
        let (mut state, now) = (SharedState::default(), Instant::now());
        state.answered(None, now);
        assert_eq!(state.look(now), Before::Away);
        assert_eq!(state.look(now + AWAY), Before::Ask);
    }
}
