//! A driver is unassigned from an order: they declined, or were not seen for too long. The order searches for the next
//! driver; the charge stays as it is. In the step log this is the step `release`.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, Order, ReleaseReason};

use super::lease::lock;
use super::release::free_driver;
use super::row::driver;
use super::{Lease, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// The outcome of unassigning a driver.
#[derive(Debug, Clone)]
pub enum Unassigned {
    /// The order searches for another driver; its saga is the caller's to resume.
    Searching(Box<LeasedOrder>),
    /// This driver was unassigned from this order before; the order as it is now.
    Earlier(Box<Order>),
    /// No such order in this scope.
    NotFound,
    /// The driver does not serve it now.
    NotAssigned,
}

statements! {
    WAS_UNASSIGNED = "select 1 from past_assignments where order_id = $1 and driver_id = $2";
    UNASSIGNED_DRIVERS = "select driver_id from past_assignments where order_id = $1";
    /// An order has one row in `order_assignments`; earlier ones are archived where nothing is changed any more.
    ARCHIVE_ASSIGNMENT = "with gone as (
                              delete from order_assignments
                               where order_id = $1 and driver_id = $2 and released_at is null
                              returning *)
                          insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq,
                                                        release_reason)
                          select order_id, driver_id, assigned_at, assigned_seq, $3, $4 from gone";
    /// Reopens a served order, under a new fence. The window for the search begins now.
    SEARCH_AGAIN = "update order_sagas
                       set fence = fence + 1, lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                           status = $4, finished_at = null, reassignments = reassignments + 1, search_from = now(),
                           next_run_at = now() + make_interval(secs => $3), updated_at = now()
                     where order_id = $1
                    returning fence, reassignments";
}

impl OrderStore {
    /// Unassigns the driver of an order within `scope`, who does not serve it, and lets the order search for another.
    pub async fn unassign_driver(
        &self,
        scope: &Scope,
        order: OrderId,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
    ) -> Result<Unassigned, StoreError> {
        self.postgres
            .call(self.commit_unassignment(scope, order, driver, reason, detail))
            .await
    }

    /// The drivers who were unassigned from the order: they are not offered it again.
    pub async fn unassigned_drivers(&self, order: OrderId) -> Result<HashSet<DriverId>, StoreError> {
        let rows = self.postgres.query(UNASSIGNED_DRIVERS, &[&order.uuid()]).await?;
        rows.iter().map(|row| driver(row.try_get(0)?)).collect()
    }

    async fn commit_unassignment(
        &self,
        scope: &Scope,
        order: OrderId,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
    ) -> Result<Unassigned, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, order, scope).await? else {
            return Ok(Unassigned::NotFound);
        };
        let serves = |assignment: &Assignment| assignment.driver == *driver && assignment.release.is_none();
        match &leased.order.assignment {
            Some(assignment) if serves(assignment) => {
                let next = self.search_again(&tx, leased, driver, reason, detail).await?;
                tx.commit().await?;
                Ok(Unassigned::Searching(Box::new(next)))
            }
            _ => match WAS_UNASSIGNED
                .query_opt(&tx, &[&order.uuid(), &driver.as_str()])
                .await?
            {
                Some(_) => Ok(Unassigned::Earlier(Box::new(leased.order))),
                None => Ok(Unassigned::NotAssigned),
            },
        }
    }

    async fn search_again(
        &self,
        tx: &Transaction<'_>,
        leased: LeasedOrder,
        driver: &DriverId,
        reason: ReleaseReason,
        detail: &str,
    ) -> Result<LeasedOrder, StoreError> {
        let order = leased.order.id;
        let now = leased.confirmed.database;
        let state = leased.order.state.next(Event::DriverUnassigned)?;
        // Still in the round of the search that found this driver.
        let detail = format!("{} {}: {detail}", driver.name(), reason.as_str());
        self.log_step(tx, leased.lease, "release", "succeeded", &detail).await?;
        let seq = free_driver(tx, order, driver).await?;
        let rows = ARCHIVE_ASSIGNMENT
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
        Ok(LeasedOrder {
            order: Order {
                state,
                assignment: None,
                updated_at: now,
                ..leased.order
            },
            lease: Lease {
                order,
                fence: row.try_get(0)?,
            },
            reassignments: row.try_get(1)?,
            search_from: Some(now),
            ..leased
        })
    }
}
