//! The moment after which the caller no longer waits for an answer.
//!
//! It sits outermost: a wait for a permit, for a token or between two attempts is a wait of the caller too. It is a point
//! in time and not a length, so that ten functions that hand it down do not add up to ten timeouts.

use std::time::Duration;
use tokio::time::Instant;

/// Longer than any process lives; what a length that does not fit into the clock means.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// A point on the monotonic clock. The earlier of two is the smaller: `deadline.min(other)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The deadline passed first. What the abandoned future had done by then, it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

impl Deadline {
    /// The deadline at this instant.
    pub fn at(instant: Instant) -> Self {
        Deadline(instant)
    }

    /// The deadline so long from now.
    pub fn after(length: Duration) -> Self {
        let now = Instant::now();
        Deadline(now.checked_add(length).unwrap_or(now + FAR))
    }

    /// What is left; zero once it is past.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn is_past(self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits for the future, but not past the deadline. A future whose deadline is past already is not started.
    pub async fn bound<F: Future>(self, future: F) -> Result<F::Output, Elapsed> {
        if self.is_past() {
            return Err(Elapsed);
        }
        tokio::time::timeout_at(self.0, future).await.map_err(|_| Elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn what_is_ready_in_time_comes_through() {
        assert_eq!(Deadline::after(Duration::from_mins(1)).bound(ready(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn what_never_comes_is_abandoned() {
        assert_eq!(
            Deadline::after(Duration::from_millis(5)).bound(pending::<()>()).await,
            Err(Elapsed)
        );
    }

    #[tokio::test]
    async fn nothing_is_started_after_the_deadline() {
        let mut started = false;
        let past = Deadline::after(Duration::ZERO);
        assert_eq!(past.bound(async { started = true }).await, Err(Elapsed));
        assert!(!started && past.is_past() && past.remaining().is_zero());
    }

    #[tokio::test]
    async fn the_earlier_of_two_counts_and_no_length_overflows() {
        let soon = Deadline::after(Duration::from_secs(1));
        assert_eq!(Deadline::after(Duration::MAX).min(soon), soon);
    }
}
