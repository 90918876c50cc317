//! The watchers of orders: one loop each, which reads the order when a saga of this process moved it, and else now and
//! then, since another process may hold it. It only reads: what a watcher does changes nothing for the order.
//!
//! A read is one small statement, a few at a time for all watchers together. What a watcher does not fetch is not
//! buffered for it: there is no further read before the last change has room, so that a slow watcher gets fewer, larger
//! changes, and one that does not read at all is disconnected.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::order::Order;

use super::Context;
use super::in_flight::ProgressSignal;
use super::service::OrderService;
use crate::metrics::Metrics;
use crate::resilience::{Place, PlaceLimits, Places};
use crate::storage::StoreError;
use crate::storage::orders::LogLine;

/// How long a watcher waits for its next read: after a change, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Reads at a time, of all watchers: many that wake at once, as after a fault of Postgres, leave connections to others.
const READS_MAX: usize = 2;
/// Steps in one change; what is beyond follows at once.
const STEPS_MAX: usize = 100;
/// Watches of one customer, or of one driver.
const WATCHES_OF_ONE_MAX: usize = 50;
/// Changes that a watcher has not fetched yet.
const UNREAD_MAX: usize = 8;
/// How long so many may stay unread.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long reads may fail before the watchers get the error: longer than a restart of Postgres.
const READ_FAILURE_TIME_MAX: Duration = Duration::from_secs(10);

/// What is new about an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// As it is now.
    pub order: Order,
    /// Since the last change, the oldest first.
    pub steps: Vec<LogLine>,
    /// The last step that the watcher knows: where to go on.
    pub last_step: i64,
}

/// The changes of one order. It ends when the order is settled, or with the reason why it is not followed any more.
pub type Changes = ReceiverStream<Result<Change, WatchError>>;

/// Why an order is not, or no longer, followed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// This process has as many watchers as it may, in all, of this tenant, or of this caller.
    #[error("too many orders are watched")]
    TooMany,
    /// The watcher does not fetch what there is.
    #[error("{UNREAD_MAX} changes were not read for {} s", UNREAD_TIME_MAX.as_secs())]
    Unread,
    /// This process ends.
    #[error("the server is draining")]
    Draining,
    /// A store failed; for long, if the watch had begun.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the watchers of a process share.
pub(super) struct Watchers {
    places: Places,
    reads: Semaphore,
}

/// One of the places, counted. Dropped, it is free again.
struct CountedPlace {
    _place: Place,
    metrics: Arc<Metrics>,
}

/// One watcher, and what it knows.
struct Watcher {
    context: Arc<Context>,
    /// Whose order it may be: a driver who is unassigned follows it no longer.
    scope: Scope,
    id: OrderId,
    /// The last step that it knows.
    last_step: i64,
    /// The order as it was last sent.
    sent: Option<Order>,
    next: Next,
    /// Of the saga that holds the order, if it is one of this process.
    progress: ProgressSignal,
    _place: CountedPlace,
}

/// What a watcher does after it sent what it read.
#[derive(Clone, Copy)]
enum Next {
    /// Nothing until the order moves on.
    Wait,
    /// There is more than one change holds.
    ReadAgain,
    /// The order is settled, and all of it is sent.
    End,
}

impl OrderService {
    /// Follows an order: first as it is now, with its steps after `after_step`, then each change, until it is settled.
    /// Without `after_step` only steps from now on are sent.
    pub async fn watch(&self, scope: Scope, id: OrderId, after_step: Option<i64>) -> Result<Changes, WatchError> {
        let context = &self.context;
        if context.draining.is_cancelled() {
            return Err(WatchError::Draining);
        }
        let place = context.watchers.place(&scope, &context.metrics)?;
        let last_step = match after_step {
            Some(step) => step,
            None => context.reads.last_step(&scope, id).await?,
        };
        let mut watcher = Watcher {
            context: Arc::clone(context),
            scope,
            id,
            last_step,
            sent: None,
            next: Next::Wait,
            progress: ProgressSignal::default(),
            _place: place,
        };
        // Within the call, so that what cannot be watched is refused.
        let first = watcher.read().await?;
        let (changes, receiver) = mpsc::channel(UNREAD_MAX + 1);
        context.tasks.spawn(watcher.run(first, changes));
        Ok(ReceiverStream::new(receiver))
    }
}

impl Watchers {
    /// Room for so many, of which a tenant has its share.
    pub(super) fn new(watchers_max: usize, tenant_share: f64) -> Watchers {
        Watchers {
            places: Places::new(PlaceLimits {
                all_max: watchers_max,
                tenant_share,
                caller_max: WATCHES_OF_ONE_MAX,
            }),
            reads: Semaphore::new(READS_MAX),
        }
    }

    fn place(&self, scope: &Scope, metrics: &Arc<Metrics>) -> Result<CountedPlace, WatchError> {
        let caller = match scope {
            Scope::Everything | Scope::Tenant(_) => None,
            Scope::User(user, _) => Some(format!("user {user}")),
            Scope::Driver(driver) => Some(format!("driver {driver}")),
        };
        let place = self.places.take(&scope.business(), caller.as_deref());
        let place = place.ok_or(WatchError::TooMany)?;
        metrics.orders.watch_begun();
        Ok(CountedPlace {
            _place: place,
            metrics: Arc::clone(metrics),
        })
    }
}

impl Drop for CountedPlace {
    fn drop(&mut self) {
        self.metrics.orders.watch_ended();
    }
}

impl Watcher {
    async fn run(mut self, first: Option<Change>, changes: mpsc::Sender<Result<Change, WatchError>>) {
        // Room for the last word is kept from the beginning: a watch that is cut must not look like one that is done.
        let Ok(last_word) = changes.clone().reserve_owned().await else {
            return;
        };
        let context = Arc::clone(&self.context);
        let end = tokio::select! {
            biased;
            end = self.follow(first, &changes) => end,
            () = context.draining.cancelled() => Err(WatchError::Draining),
            // The client is gone.
            () = changes.closed() => Ok(()),
        };
        if let Err(error) = end {
            last_word.send(Err(error));
        }
    }

    async fn follow(
        &mut self,
        first: Option<Change>,
        changes: &mpsc::Sender<Result<Change, WatchError>>,
    ) -> Result<(), WatchError> {
        let mut news = first;
        let mut read_at = Instant::now();
        let mut pause = PAUSE.0;
        loop {
            if let Some(change) = news {
                match timeout(UNREAD_TIME_MAX, changes.send(Ok(change))).await {
                    Ok(Ok(())) => pause = PAUSE.0,
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(WatchError::Unread),
                }
            }
            match self.next {
                Next::End => return Ok(()),
                Next::ReadAgain => {}
                Next::Wait => {
                    self.wait(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
            news = match self.read().await {
                Err(WatchError::Store(StoreError::Unavailable { .. } | StoreError::Busy { .. }))
                    if read_at.elapsed() < READ_FAILURE_TIME_MAX =>
                {
                    None
                }
                change => {
                    read_at = Instant::now();
                    change?
                }
            };
        }
    }

    /// Until a saga of this process moves the order on; or until the next read is due, jittered so that the watchers of
    /// one order do not read in step.
    async fn wait(&mut self, pause: Duration) {
        let pause = pause.mul_f64(rand::rng().random_range(0.75..1.25));
        tokio::select! {
            () = self.progress.moved() => {}
            () = sleep(pause) => {}
        }
    }

    /// What is new since the last read, if anything is.
    async fn read(&mut self) -> Result<Option<Change>, WatchError> {
        self.next = Next::Wait;
        let context = Arc::clone(&self.context);
        let _turn = context.watchers.reads.acquire().await;
        // Before the read, so that what happens meanwhile wakes us for the next one.
        self.progress = context.in_flight.progress(self.id);
        let after = self.last_step;
        let found = context.reads.read_after(&self.scope, self.id, after, STEPS_MAX).await?;
        let (order, steps) = found.ok_or(WatchError::NotFound)?;
        self.next = if steps.len() >= STEPS_MAX {
            Next::ReadAgain
        } else if order.state.is_terminal() {
            Next::End
        } else {
            Next::Wait
        };
        if steps.is_empty() && self.sent.as_ref() == Some(&order) {
            return Ok(None);
        }
        if let Some(last) = steps.last() {
            self.last_step = last.id;
        }
        self.sent = Some(order.clone());
        Ok(Some(Change {
            order,
            steps,
            last_step: self.last_step,
        }))
    }
}
