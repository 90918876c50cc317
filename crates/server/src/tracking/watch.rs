//! Follows a link: looks at the order and at its driver every so often, and sends what changed.
//!
//! The link is looked up with each look at the order, so that one which ends cuts its followers off. A follower who does not
//! read is sent nothing more until it does, and then what is so at that time.

use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt as _;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;
use waybill_domain::fix::LatestFix;
use waybill_domain::order::Order;
use waybill_domain::position::Position;
use waybill_domain::tracking::Stage;

use super::{AFTERWARDS, LinkHash, Tracking, hash};
use crate::resilience::{Place, task_stream};
use crate::storage::StoreError;

/// How long a follower waits between two looks at the driver.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what was read of the order is believed: a link that was revoked ends so soon.
const ORDER_FRESH: Duration = Duration::from_secs(2);
/// How long nothing is sent where nothing changes. Proxies cut what is silent for a minute.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a follower may not read: its place is for others then.
const UNREAD_TIME_MAX: Duration = Duration::from_mins(1);
/// How long reads may fail before the follower gets the error. A link that was revoked meanwhile shows no more either.
const READ_FAILURE_TIME_MAX: Duration = Duration::from_secs(5);
/// How old what was read of the order may be, for its driver to be shown: who serves it may have changed.
const DRIVER_FRESH: Duration = Duration::from_secs(3);
/// How long a read may wait for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);
/// The longest secret that is looked up.
const SECRET_LENGTH_MAX: usize = 64;

/// What a follower sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// Where the order stands.
    pub stage: Stage,
    /// Where the service begins.
    pub pickup: Position,
    /// Where it ends, if that was given.
    pub drop_off: Option<Position>,
    /// Where the driver who serves it is, if that is known.
    pub driver: Option<LatestFix>,
}

/// What a link shows, until it ends: with the order, or with the reason.
pub type Follower = ReceiverStream<Result<Followed, WatchError>>;

/// Why a link is not, or no longer, followed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// It has ended, or there never was such a link: which of them is not said.
    #[error("this link has ended")]
    Ended,
    /// As many follow links as may, or the orders of this customer.
    #[error("too many follow this customer's orders, or links at all")]
    TooMany,
    /// The follower does not read what there is.
    #[error("what there is was not read for {} s", UNREAD_TIME_MAX.as_secs())]
    Unread,
    /// This process ends.
    #[error("the server is draining")]
    Draining,
    /// A store failed; for long, if the follower had begun.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who follows a link, and what it knows.
struct Watcher {
    tracking: Tracking,
    link: LinkHash,
    order: Order,
    read_at: Instant,
    _place: Place,
}

impl Tracking {
    /// Follows the order to which this secret leads, until it is over.
    pub async fn watch(&self, secret: &str) -> Result<Follower, WatchError> {
        if self.draining.is_cancelled() {
            return Err(WatchError::Draining);
        }
        if secret.len() > SECRET_LENGTH_MAX {
            return Err(WatchError::Ended);
        }
        let link = hash(secret);
        // First whether there is such a link: the places of those that are not there are no one's.
        let order = self.order_of(&link, &self.first_reads).await?;
        let place = self.places.take(&order.user.tenant(), Some(order.user.as_str()));
        let place = place.ok_or(WatchError::TooMany)?;
        self.metrics.orders.link_watch_begun();
        let mut watcher = Watcher {
            tracking: self.clone(),
            link,
            order,
            read_at: Instant::now(),
            _place: place,
        };
        let draining = self.draining.clone();
        Ok(task_stream(
            &self.tasks,
            draining,
            WatchError::Draining,
            |messages| async move { watcher.follow(&messages).await },
        ))
    }

    async fn order_of(&self, link: &LinkHash, reads: &Semaphore) -> Result<Order, WatchError> {
        let Ok(_turn) = timeout(TURN_TIME_MAX, reads.acquire()).await else {
            return Err(WatchError::Store(StoreError::Busy {
                store: "postgres",
                why: "too many follow links".to_owned(),
            }));
        };
        let order = self.orders.shared_order(link, AFTERWARDS).await?;
        order.ok_or(WatchError::Ended)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tracking.metrics.orders.link_watch_ended();
    }
}

impl Watcher {
    async fn follow(&mut self, messages: &mpsc::Sender<Result<Followed, WatchError>>) -> Result<(), WatchError> {
        let mut sent: Option<(Followed, Instant)> = None;
        loop {
            // There is room first, and then a look: who reads late gets what is so then.
            let Ok(room) = timeout(UNREAD_TIME_MAX, messages.reserve()).await else {
                return Err(WatchError::Unread);
            };
            let Ok(room) = room else { return Ok(()) };
            self.refresh().await?;
            let now = self.look().await;
            let is_news = match &sent {
                Some((known, at)) => *known != now || at.elapsed() >= SILENCE_MAX,
                None => true,
            };
            let is_over = now.stage.is_final();
            if is_news {
                sent = Some((now.clone(), Instant::now()));
                room.send(Ok(now));
            }
            if is_over {
                return Ok(());
            }
            let pause = PAUSE.mul_f64(rand::rng().random_range(0.8..1.2));
            sleep(pause).await;
        }
    }

    /// Reads the order again, if what is known of it is old.
    async fn refresh(&mut self) -> Result<(), WatchError> {
        if self.read_at.elapsed() < ORDER_FRESH {
            return Ok(());
        }
        match self.tracking.order_of(&self.link, &self.tracking.reads).await {
            Ok(order) => {
                self.order = order;
                self.read_at = Instant::now();
            }
            Err(WatchError::Store(error)) if self.read_at.elapsed() < READ_FAILURE_TIME_MAX => {
                debug!(%error, "a shared order cannot be read");
            }
            Err(end) => return Err(end),
        }
        Ok(())
    }

    /// What is so now. Where the driver's position cannot be read it is not known.
    async fn look(&self) -> Followed {
        let stage = Stage::of(&self.order);
        let driver = match (&self.order.assignment, stage) {
            (Some(assignment), Stage::DriverAssigned) if self.read_at.elapsed() <= DRIVER_FRESH => {
                let latest = self.tracking.live.latest(&assignment.driver, Timestamp::now()).await;
                latest.unwrap_or_else(|error| {
                    debug!(%error, "the driver of a shared order cannot be read");
                    None
                })
            }
            _ => None,
        };
        Followed {
            stage,
            pickup: self.order.pickup,
            drop_off: self.order.drop_off,
            driver,
        }
    }
}
