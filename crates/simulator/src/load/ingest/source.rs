//! The fixes of one stream: when they are due, and whose.

use std::iter::Peekable;

use tokio::time::Instant;

use crate::city::Walks;
use crate::drive::Alarm;
use crate::fleet::{DueFix, Source};
use crate::load::rate::Dues;

/// Fixes as a schedule has them.
#[derive(Debug)]
pub(super) struct Open {
    dues: Peekable<Dues>,
    started: Instant,
    walks: Walks,
    limit: Limit,
    alarm: Alarm,
}

/// A fix whenever there is room for one.
#[derive(Debug)]
pub(super) struct Closed {
    from: Instant,
    walks: Walks,
    limit: Limit,
}

/// How many fixes there may still be. Those of the warm-up do not count.
#[derive(Debug)]
pub(super) struct Limit {
    left: Option<u64>,
    counts_from: Instant,
}

impl Open {
    /// Fixes at `dues` after `started`, which `alarm` waits for.
    pub(super) fn new(dues: Dues, started: Instant, walks: Walks, limit: Limit, alarm: Alarm) -> Open {
        Open {
            dues: dues.peekable(),
            started,
            walks,
            limit,
            alarm,
        }
    }

    /// The next time, if it is not after `by`.
    fn pass(&mut self, by: Instant) -> Option<Instant> {
        let due = self.next_due().filter(|due| *due <= by)?;
        self.dues.next();
        self.limit.count(due);
        Some(due)
    }
}

impl Closed {
    /// Fixes from `from` on.
    pub(super) fn new(from: Instant, walks: Walks, limit: Limit) -> Closed {
        Closed { from, walks, limit }
    }
}

impl Source for Open {
    fn next_due(&mut self) -> Option<Instant> {
        if self.limit.is_reached() {
            return None;
        }
        self.dues.peek().map(|due| self.started + *due)
    }

    fn take(&mut self, now: Instant) -> Option<DueFix> {
        let due = self.pass(now)?;
        self.walks.next(due)
    }

    fn until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<> {
        let alarm = self.alarm.clone();
        async move { alarm.until(at).await }
    }

    fn miss(&mut self, by: Instant) -> Option<Instant> {
        self.pass(by)
    }
}

impl Source for Closed {
    fn next_due(&mut self) -> Option<Instant> {
        (!self.limit.is_reached()).then_some(self.from)
    }

    fn take(&mut self, now: Instant) -> Option<DueFix> {
        if self.limit.is_reached() || now < self.from {
            return None;
        }
        self.limit.count(now);
        self.walks.next(now)
    }

    fn miss(&mut self, _: Instant) -> Option<Instant> {
        // What was not taken was never due.
        None
    }
}

impl Limit {
    /// The part of `stream`, of so many, of `count_max`; what is due before `counts_from` is free.
    pub(super) fn share(count_max: Option<u64>, stream: usize, streams: usize, counts_from: Instant) -> Limit {
        let (stream, streams) = (stream as u64, streams.max(1) as u64);
        let part = |max: u64| max / streams + u64::from(stream < max % streams);
        Limit {
            left: count_max.map(part),
            counts_from,
        }
    }

    fn is_reached(&self) -> bool {
        self.left == Some(0)
    }

    fn count(&mut self, due: Instant) {
        if let Some(left) = &mut self.left
            && due >= self.counts_from
        {
            *left -= 1;
        }
    }
}
