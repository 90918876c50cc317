//! Who serves an order, for one who follows its driver: read now and then, since whoever is unassigned is shown no longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::debug;
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::Order;

use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// How long what was read of the order is believed.
const ORDER_FRESH: Duration = Duration::from_secs(2);
/// How old it may be, where it cannot be read, for the driver to be shown: who serves it may have changed.
const DRIVER_FRESH: Duration = Duration::from_secs(5);
/// How long reads may fail before the watcher gets the error.
const READ_FAILURE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a read may wait for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads of followed orders at a time: they leave connections to others.
const READS_MAX: usize = 2;

/// The turns of those who follow orders at this server. Who begins does not wait behind those who look again.
#[derive(Debug, Clone)]
pub(super) struct OrderReads {
    first: Arc<Semaphore>,
    again: Arc<Semaphore>,
}

/// An order whose driver is followed.
pub(super) struct FollowedOrder {
    orders: OrderStore,
    reads: OrderReads,
    /// Whose order it may be.
    scope: Scope,
    id: OrderId,
    serves: Serves,
    read_at: Instant,
}

/// Who serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Serves {
    /// No one yet, or no one of whom it is certain.
    NoOne,
    /// This driver.
    Driver(DriverId),
    /// No one any more.
    Over,
}

impl Default for OrderReads {
    fn default() -> OrderReads {
        OrderReads {
            first: Arc::new(Semaphore::new(READS_MAX)),
            again: Arc::new(Semaphore::new(READS_MAX)),
        }
    }
}

impl FollowedOrder {
    /// The order as it is now; `None`: there is none of this id in the scope.
    pub(super) async fn begin(
        orders: OrderStore,
        reads: OrderReads,
        scope: Scope,
        id: OrderId,
    ) -> Result<Option<FollowedOrder>, StoreError> {
        let mut followed = FollowedOrder {
            orders,
            reads,
            scope,
            id,
            serves: Serves::NoOne,
            read_at: Instant::now(),
        };
        Ok(followed.read(&followed.reads.first).await?.map(|serves| {
            followed.serves = serves;
            followed
        }))
    }

    /// Its id.
    pub(super) fn id(&self) -> OrderId {
        self.id
    }

    /// Who serves it, as far as is known.
    pub(super) fn serves(&self) -> &Serves {
        &self.serves
    }

    /// Reads it again, if what is known is old.
    pub(super) async fn refresh(&mut self) -> Result<(), StoreError> {
        if self.read_at.elapsed() < ORDER_FRESH {
            return Ok(());
        }
        match self.read(&self.reads.again).await {
            Ok(serves) => {
                // One that is out of the scope meanwhile has no driver to show.
                self.serves = serves.unwrap_or(Serves::Over);
                self.read_at = Instant::now();
            }
            Err(error) if self.read_at.elapsed() >= READ_FAILURE_TIME_MAX => return Err(error),
            Err(error) => {
                debug!(order_id = %self.id, %error, "a followed order cannot be read");
                if self.read_at.elapsed() > DRIVER_FRESH {
                    self.serves = Serves::NoOne;
                }
            }
        }
        Ok(())
    }

    async fn read(&self, reads: &Semaphore) -> Result<Option<Serves>, StoreError> {
        let Ok(_turn) = timeout(TURN_TIME_MAX, reads.acquire()).await else {
            return Err(StoreError::Busy {
                store: "postgres",
                why: "too many follow orders".to_owned(),
            });
        };
        let order = self.orders.read(&self.scope, self.id).await?;
        Ok(order.as_ref().map(serves))
    }
}

fn serves(order: &Order) -> Serves {
    match &order.assignment {
        Some(assignment) if assignment.release.is_none() => Serves::Driver(assignment.driver.clone()),
        _ if order.state.is_terminal() => Serves::Over,
        _ => Serves::NoOne,
    }
}
