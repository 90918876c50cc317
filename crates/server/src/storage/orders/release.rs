//! What callers do to orders: completion and cancellation. Both lock the order first and its driver second, as the
//! assignment does, so that they cannot deadlock with it.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio::try_join;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, FailureReason, Order, Release, ReleaseReason, State};
use waybill_domain::payment::Operation;

use super::lease::lock;
use super::row::get;
use super::{Lease, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// The outcome of a completion.
#[derive(Debug, Clone, PartialEq)]
pub enum Completed {
    /// The driver is free; now, or since an earlier completion.
    Done(Box<Order>),
    /// No such order.
    NotFound,
    /// The order has no driver to release.
    NotCompletable,
    /// Another driver serves it.
    NotAssigned,
}

/// The outcome of a cancellation.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// The driver is free and the refund is decided; the saga is the caller's to resume.
    Refunding(Box<LeasedOrder>),
    /// The saga still runs; its worker will act on the request.
    Requested,
    /// The order is compensated already, or about to be.
    Compensated,
    /// No such order.
    NotFound,
    /// Completed, or failed for another reason.
    NotCancellable,
}

statements! {
    LOCK_DRIVER = "select assignment_seq from drivers where driver_id = $1 for update";
    FREE_DRIVER = "update drivers set active_order_id = null, assignment_seq = assignment_seq + 1
                    where driver_id = $1 and active_order_id = $2
                   returning assignment_seq";
    RELEASE = "update order_assignments set released_at = now(), released_seq = $2, release_reason = $3
                where order_id = $1 and released_at is null";
    TOUCH = "update order_sagas set updated_at = now() where order_id = $1";
    REQUEST_CANCEL = "update order_sagas set cancel_requested_at = now(), next_run_at = now(), updated_at = now()
                       where order_id = $1 and cancel_requested_at is null";
    /// Reopens a served order, under a new fence.
    REOPEN_FOR_REFUND = "update order_sagas
                            set fence = fence + 1, lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                                status = $4, failure_reason = $5, finished_at = null,
                                cancel_requested_at = coalesce(cancel_requested_at, now()),
                                next_run_at = now(), updated_at = now()
                          where order_id = $1
                         returning fence";
}

impl OrderStore {
    /// Releases the driver of an order: the service was rendered; by `driver`, if one is named.
    pub async fn complete(&self, id: OrderId, driver: Option<&DriverId>) -> Result<Completed, StoreError> {
        self.postgres.call(self.commit_completion(id, driver)).await
    }

    /// Cancels an order, or requests it of the order's worker.
    pub async fn cancel(&self, id: OrderId) -> Result<Cancelled, StoreError> {
        self.postgres.call(self.commit_cancellation(id)).await
    }

    async fn commit_completion(&self, id: OrderId, driver: Option<&DriverId>) -> Result<Completed, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id).await? else {
            return Ok(Completed::NotFound);
        };
        let Some(assignment) = &leased.order.assignment else {
            return Ok(Completed::NotCompletable);
        };
        if driver.is_some_and(|driver| *driver != assignment.driver) {
            return Ok(Completed::NotAssigned);
        }
        match &assignment.release {
            Some(release) if release.reason == ReleaseReason::Completed => Ok(Completed::Done(Box::new(leased.order))),
            Some(_) => Ok(Completed::NotCompletable),
            None => {
                let detail = assignment.driver.as_str();
                release(&tx, id, assignment, ReleaseReason::Completed).await?;
                TOUCH.execute(&tx, &[&id.uuid()]).await?;
                self.log_step(&tx, leased.lease, "complete", "succeeded", detail)
                    .await?;
                tx.commit().await?;
                let now = leased.confirmed.database;
                Ok(Completed::Done(Box::new(released(
                    leased.order,
                    ReleaseReason::Completed,
                    now,
                ))))
            }
        }
    }

    async fn commit_cancellation(&self, id: OrderId) -> Result<Cancelled, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id).await? else {
            return Ok(Cancelled::NotFound);
        };
        match leased.order.state {
            State::Started | State::Charging | State::Charged => {
                if REQUEST_CANCEL.execute(&tx, &[&id.uuid()]).await? == 1 {
                    self.log_step(&tx, leased.lease, "cancel", "requested", "").await?;
                }
                tx.commit().await?;
                Ok(Cancelled::Requested)
            }
            State::Refunding | State::Refunded => Ok(Cancelled::Compensated),
            State::Failed if leased.order.failure_reason == Some(FailureReason::Cancelled) => {
                Ok(Cancelled::Compensated)
            }
            State::Failed => Ok(Cancelled::NotCancellable),
            State::Succeeded => match &leased.order.assignment {
                Some(assignment) if assignment.release.is_none() => {
                    let assignment = assignment.clone();
                    let next = self.reopen_for_refund(&tx, &leased, &assignment).await?;
                    tx.commit().await?;
                    Ok(Cancelled::Refunding(Box::new(next)))
                }
                _ => Ok(Cancelled::NotCancellable),
            },
        }
    }

    /// Releases the driver of a succeeded order and decides its refund.
    async fn reopen_for_refund(
        &self,
        tx: &Transaction<'_>,
        leased: &LeasedOrder,
        assignment: &Assignment,
    ) -> Result<LeasedOrder, StoreError> {
        let id = leased.order.id;
        let now = leased.confirmed.database;
        let event = Event::Cancelled;
        let state = leased.order.state.next(event)?;
        let reason = event.failure_reason();

        release(tx, id, assignment, ReleaseReason::Cancelled).await?;
        let row = REOPEN_FOR_REFUND
            .query_one(
                tx,
                &[
                    &id.uuid(),
                    &self.settings.instance,
                    &self.settings.lease_secs,
                    &state.as_str(),
                    &reason.map(FailureReason::as_str),
                ],
            )
            .await?;
        let order = Order {
            state,
            failure_reason: reason,
            updated_at: now,
            ..leased.order.clone()
        };
        let next = LeasedOrder {
            order: released(order, ReleaseReason::Cancelled, now),
            lease: Lease {
                order: id,
                fence: row.try_get(0)?,
            },
            unsent: true,
            cancel_requested: true,
            ..leased.clone()
        };
        try_join!(
            self.log_step(tx, next.lease, "cancel", "succeeded", assignment.driver.as_str()),
            self.intend(tx, next.lease, Operation::Refund, next.order.amount),
        )?;
        Ok(next)
    }
}

/// Releases the driver of the (locked) order.
async fn release(
    tx: &Transaction<'_>,
    id: OrderId,
    assignment: &Assignment,
    reason: ReleaseReason,
) -> Result<(), StoreError> {
    let seq = free_driver(tx, id, &assignment.driver).await?;
    let rows = RELEASE.execute(tx, &[&id.uuid(), &seq, &reason.as_str()]).await?;
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::unexpected(format!("order {id} has no active assignment")))
    }
}

/// Unties the driver from the (locked) order; the release's place in the driver's sequence.
pub(super) async fn free_driver(tx: &Transaction<'_>, id: OrderId, driver: &DriverId) -> Result<i64, StoreError> {
    LOCK_DRIVER.query_one(tx, &[&driver.as_str()]).await?;
    let row = FREE_DRIVER
        .query_opt(tx, &[&driver.as_str(), &id.uuid()])
        .await?
        .ok_or_else(|| StoreError::unexpected(format!("driver {driver} does not serve order {id}")))?;
    get(&row, "assignment_seq")
}

fn released(mut order: Order, reason: ReleaseReason, now: Timestamp) -> Order {
    if let Some(assignment) = &mut order.assignment {
        assignment.release = Some(Release {
            released_at: now,
            reason,
        });
    }
    order.updated_at = now;
    order
}
