//! Where a stream takes its fixes from, one by one as they fall due: nothing is buffered.

use std::iter::Peekable;

use tokio::time::Instant;

use super::DueFix;
use crate::drive::Alarm;

/// The fixes of one stream, by due time.
pub(crate) trait Source: Send + 'static {
    /// When the next fix is due; none when there are no more.
    fn next_due(&mut self) -> Option<Instant>;

    /// The next fix, if it is due at `now`.
    fn take(&mut self, now: Instant) -> Option<DueFix>;

    /// Returns at `at`, or at once if that has passed.
    fn until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<Self>;

    /// Lets go of one fix that was due at `by` and not taken: when it was due.
    fn miss(&mut self, by: Instant) -> Option<Instant>;
}

/// Fixes that know their times, which an alarm waits for.
pub(crate) struct Scheduled<I: Iterator>(Peekable<I>, Alarm);

impl<I: Iterator<Item = DueFix>> Scheduled<I> {
    pub(crate) fn new(fixes: I, alarm: &Alarm) -> Scheduled<I> {
        Scheduled(fixes.peekable(), alarm.clone())
    }
}

impl<I: Iterator<Item = DueFix> + Send + 'static> Source for Scheduled<I> {
    fn next_due(&mut self) -> Option<Instant> {
        self.0.peek().map(|fix| fix.due)
    }

    fn take(&mut self, now: Instant) -> Option<DueFix> {
        self.0.next_if(|fix| fix.due <= now)
    }

    fn until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<I> {
        let alarm = self.1.clone();
        async move { alarm.until(at).await }
    }

    fn miss(&mut self, by: Instant) -> Option<Instant> {
        self.take(by).map(|fix| fix.due)
    }
}
