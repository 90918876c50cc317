//! The end of an assignment, within the transaction that ends it: of a completion, a cancellation or an unassignment. Each
//! locks the order first and its driver second, as the assignment does, so that they cannot deadlock with it.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Order, Release, ReleaseReason};

use super::row::get;
use crate::storage::StoreError;

statements! {
    LOCK_DRIVER = "select assignment_seq from drivers where driver_id = $1 for update";
    FREE_DRIVER = "update drivers set active_order_id = null, assignment_seq = assignment_seq + 1
                    where driver_id = $1 and active_order_id = $2
                   returning assignment_seq";
    RELEASE = "update order_assignments set released_at = now(), released_seq = $2, release_reason = $3
                where order_id = $1 and released_at is null";
}

/// Releases the driver of the (locked) order.
pub(super) async fn release(
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

/// The order after that.
pub(super) fn released(mut order: Order, reason: ReleaseReason, now: Timestamp) -> Order {
    if let Some(assignment) = &mut order.assignment {
        assignment.release = Some(Release {
            released_at: now,
            reason,
        });
    }
    order.updated_at = now;
    order
}
