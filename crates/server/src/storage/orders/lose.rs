//! A driver is lost to an order: they declined, or fell silent. The order goes back to looking for one; the money stays
//! as it is. Locks as its neighbours do, the order first and its driver second.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, Order, ReleaseReason};

use super::assign::driver;
use super::release::{free_driver, lock};
use super::{Lease, OrderStore, Work};
use crate::storage::StoreError;

/// What came of the loss of a driver.
#[derive(Debug, Clone)]
pub enum Lost {
    /// The order looks for another; it is the caller's to drive.
    Searching(Box<Work>),
    /// This driver was lost to this order before; the order as it is now.
    Before(Box<Order>),
    /// No such order.
    NotFound,
    /// The driver does not serve it now.
    NotAssigned,
}

/// A driver who is bound to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// To which order.
    pub order: OrderId,
    /// Who.
    pub driver: DriverId,
}

statements! {
    WAS_LOST = "select 1 from past_assignments where order_id = $1 and driver_id = $2";
    LOST_DRIVERS = "select driver_id from past_assignments where order_id = $1";
    /// One row an order stays in `order_assignments`: what was before moves to where nothing is changed any more.
    PUT_BY = "with gone as (
                  delete from order_assignments
                   where order_id = $1 and driver_id = $2 and released_at is null
                  returning *)
              insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
              select order_id, driver_id, assigned_at, assigned_seq, $3, $4 from gone";
    /// Takes a served order up again, under a new fence. The window for the search begins now.
    SEARCH_AGAIN = "update order_sagas
                       set fence = fence + 1, lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                           status = $4, finished_at = null, reassignments = reassignments + 1, search_from = now(),
                           next_run_at = now(), updated_at = now()
                     where order_id = $1
                    returning fence, reassignments";
    BOUND_SINCE = "select order_id, driver_id from order_assignments
                    where released_at is null and assigned_at < now() - make_interval(secs => $1)";
    /// Who of these drivers is in the history after that time. A driver's newest row is the end of each day's index.
    HEARD_SINCE = "select d.driver_id
                     from unnest($1::text[]) d (driver_id)
                    where exists (select 1 from driver_locations l
                                   where l.driver_id = d.driver_id and l.recorded_at >= $2)";
}

impl OrderStore {
    /// Sets the driver of an order free, because they do not serve it, and has the order look for another.
    pub async fn lose_driver(
        &self,
        order: OrderId,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
    ) -> Result<Lost, StoreError> {
        self.postgres
            .call(self.commit_loss(order, driver, reason, detail))
            .await
    }

    /// Whom the order lost so far: they are not offered it again.
    pub async fn lost_drivers(&self, order: OrderId) -> Result<HashSet<DriverId>, StoreError> {
        let rows = self.postgres.query(LOST_DRIVERS, &[&order.uuid()]).await?;
        rows.iter().map(|row| driver(row.try_get(0)?)).collect()
    }

    /// The drivers who have been bound to their orders for longer than that.
    pub async fn bound_for(&self, longer_than: Duration) -> Result<Vec<Bound>, StoreError> {
        let rows = self.postgres.query(BOUND_SINCE, &[&longer_than.as_secs_f64()]).await?;
        let bound = |row: &tokio_postgres::Row| {
            Ok(Bound {
                order: OrderId::new(row.try_get::<_, Uuid>(0)?),
                driver: driver(row.try_get(1)?)?,
            })
        };
        rows.iter().map(bound).collect()
    }

    /// Those of the drivers who have a fix in the history that was recorded at `since` or later.
    pub async fn heard_since(&self, drivers: &[DriverId], since: Timestamp) -> Result<HashSet<DriverId>, StoreError> {
        let names: Vec<&str> = drivers.iter().map(DriverId::as_str).collect();
        let rows = self.postgres.query(HEARD_SINCE, &[&names, &since]).await?;
        rows.iter().map(|row| driver(row.try_get(0)?)).collect()
    }

    async fn commit_loss(
        &self,
        order: OrderId,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
    ) -> Result<Lost, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some((now, work)) = lock(&tx, order).await? else {
            return Ok(Lost::NotFound);
        };
        let serves = |assignment: &Assignment| assignment.driver == *driver && assignment.release.is_none();
        match &work.order.assignment {
            Some(assignment) if serves(assignment) => {
                let work = self.search_again(&tx, work, driver, reason, detail, now).await?;
                tx.commit().await?;
                Ok(Lost::Searching(Box::new(work)))
            }
            _ => match WAS_LOST.query_opt(&tx, &[&order.uuid(), &driver.as_str()]).await? {
                Some(_) => Ok(Lost::Before(Box::new(work.order))),
                None => Ok(Lost::NotAssigned),
            },
        }
    }

    async fn search_again(
        &self,
        tx: &Transaction<'_>,
        work: Work,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
        now: Timestamp,
    ) -> Result<Work, StoreError> {
        let order = work.order.id;
        let state = work.order.state.next(Event::DriverLost)?;
        // Still in the round of the search that found this driver.
        let detail = format!("{driver} {}: {detail}", reason.as_str());
        self.log_step(tx, work.lease, "release", "succeeded", &detail).await?;
        let seq = free_driver(tx, order, driver).await?;
        let rows = PUT_BY
            .execute(tx, &[&order.uuid(), &driver.as_str(), &seq, &reason.as_str()])
            .await?;
        if rows != 1 {
            return Err(StoreError::unexpected(format!(
                "order {order} has no active assignment"
            )));
        }
        let row = SEARCH_AGAIN
            .query_one(
                tx,
                &[
                    &order.uuid(),
                    &self.settings.instance,
                    &self.settings.lease_secs,
                    &state.as_str(),
                ],
            )
            .await?;
        Ok(Work {
            order: Order {
                state,
                assignment: None,
                updated_at: now,
                ..work.order
            },
            lease: Lease {
                order,
                fence: row.try_get(0)?,
            },
            reassignments: row.try_get(1)?,
            search_from: Some(now),
            ..work
        })
    }
}
