//! One who follows what a driver serves: the driver's app, mostly.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::Release;

use super::{Drivers, Shared};
use crate::metrics::Metrics;
use crate::resilience::{Place, task_stream};
use crate::storage::StoreError;
use crate::storage::orders::{CurrentAssignment, DriverAssignments};

/// How long nothing is sent where nothing changes. Proxies cut what is silent for a minute.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often is looked whether the counts are still read.
const STALE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long they may not be read, nor what the driver serves, before the watcher gets the error.
const STALE_MAX: Duration = Duration::from_secs(30);
/// The rest after a read that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a watcher may not read: its place is for others then.
const UNREAD_TIME_MAX: Duration = Duration::from_mins(5);
/// How long a read may wait for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// What a driver serves now.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignmentNews {
    /// The present assignment.
    pub current: Option<CurrentAssignment>,
    /// How the one ended that was known before, if it did.
    pub ended: Option<(OrderId, Release)>,
}

/// What a watcher is sent. It ends with the reason.
pub type Followed = ReceiverStream<Result<AssignmentNews, WatchError>>;

/// Why a driver is not, or no longer, followed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// This process has as many watchers as it may, in all, of this tenant, or of this driver.
    #[error("too many follow what drivers serve")]
    TooMany,
    /// The watcher does not read what there is.
    #[error("what there is was not read for {} s", UNREAD_TIME_MAX.as_secs())]
    Unread,
    /// The database does not answer; for long, if the watch had begun.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This process ends.
    #[error("the server is draining")]
    Draining,
}

struct Watcher {
    shared: Arc<Shared>,
    driver: DriverId,
    seqs: watch::Receiver<i64>,
    /// What was read last, and is to be sent.
    assignments: DriverAssignments,
    /// The order that the watcher knows.
    known: Option<OrderId>,
    /// Since when it cannot be read again.
    failing_since: Option<Instant>,
    _place: Place,
    _counted: CountedWatch,
}

/// Counted while it lasts.
struct CountedWatch(Arc<Metrics>);

impl Drivers {
    /// Follows what a driver serves. `known` is the order that the watcher knows of before: the first message says how its service
    /// ended, if it did.
    pub async fn watch(&self, driver: DriverId, known: Option<OrderId>) -> Result<Followed, WatchError> {
        let shared = &self.shared;
        if shared.draining.is_cancelled() {
            return Err(WatchError::Draining);
        }
        let place = shared.places.take(&driver.tenant(), Some(driver.as_str()));
        let place = place.ok_or(WatchError::TooMany)?;
        // Within the call, so that a database that is away is an error of the call.
        let assignments = shared.read(&shared.first, &driver, known).await?;
        let watcher = Watcher {
            seqs: shared.roster.follow(&driver, assignments.seq),
            shared: Arc::clone(shared),
            driver,
            assignments,
            known,
            failing_since: None,
            _place: place,
            _counted: CountedWatch::begin(Arc::clone(&shared.metrics)),
        };
        let draining = shared.draining.clone();
        Ok(task_stream(&shared.tasks, draining, WatchError::Draining, |messages| {
            watcher.follow(messages)
        }))
    }
}

impl Shared {
    async fn read(
        &self,
        turns: &Semaphore,
        driver: &DriverId,
        known: Option<OrderId>,
    ) -> Result<DriverAssignments, StoreError> {
        let Ok(_turn) = timeout(TURN_TIME_MAX, turns.acquire()).await else {
            return Err(StoreError::Busy {
                store: "postgres",
                why: "too many follow what drivers serve".to_owned(),
            });
        };
        self.orders.assignments_of(driver, known).await
    }
}

impl CountedWatch {
    fn begin(metrics: Arc<Metrics>) -> CountedWatch {
        metrics.orders.assignment_watch_begun();
        CountedWatch(metrics)
    }
}

impl Drop for CountedWatch {
    fn drop(&mut self) {
        self.0.orders.assignment_watch_ended();
    }
}

impl Watcher {
    async fn follow(mut self, messages: mpsc::Sender<Result<AssignmentNews, WatchError>>) -> Result<(), WatchError> {
        loop {
            // There is room first, and then a look: who reads late gets what is so then.
            let Ok(room) = timeout(UNREAD_TIME_MAX, messages.reserve()).await else {
                return Err(WatchError::Unread);
            };
            let Ok(room) = room else { return Ok(()) };
            if self.seqs.has_changed().unwrap_or(false) && !self.refresh().await? {
                drop(room);
                sleep(RETRY_AFTER).await;
                continue;
            }
            room.send(Ok(self.news()));
            self.news_or_silence().await;
        }
    }

    /// What is to be sent now; from here on the watcher knows it.
    fn news(&mut self) -> AssignmentNews {
        let current = self.assignments.current.clone();
        let serves = current.as_ref().map(|current| current.order);
        let before = std::mem::replace(&mut self.known, serves).filter(|before| Some(*before) != serves);
        AssignmentNews {
            current,
            ended: before.zip(self.assignments.ended.take()),
        }
    }

    /// Until there is something new, or it is time to say that there is nothing.
    async fn news_or_silence(&mut self) {
        let sent_at = Instant::now();
        loop {
            let left = SILENCE_MAX.saturating_sub(sent_at.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                // The roster outlives its watchers.
                _ = self.seqs.changed() => {
                    self.seqs.mark_changed();
                    return;
                }
                () = sleep(left.min(STALE_LOOK_EVERY)) => {
                    // No one looks for changes any more: it does so itself, or ends.
                    if self.shared.roster.stale_for() > STALE_MAX {
                        self.seqs.mark_changed();
                        return;
                    }
                }
            }
        }
    }

    /// Reads what the driver serves; whether that succeeded. It is an error once it has failed for long.
    async fn refresh(&mut self) -> Result<bool, StoreError> {
        // Before the read, so that what happens meanwhile is read again.
        self.seqs.mark_unchanged();
        match self.shared.read(&self.shared.again, &self.driver, self.known).await {
            Ok(assignments) => {
                (self.assignments, self.failing_since) = (assignments, None);
                Ok(true)
            }
            Err(error) => {
                let failing_for = self.failing_since.get_or_insert_with(Instant::now).elapsed();
                if failing_for >= STALE_MAX {
                    return Err(error);
                }
                debug!(%error, "what a driver serves cannot be read");
                self.seqs.mark_changed();
                Ok(false)
            }
        }
    }
}
