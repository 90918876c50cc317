//! Completion: the service was rendered, and the driver is released.

use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Order, ReleaseReason};

use super::OrderStore;
use super::lease::lock;
use super::release::{release, released};
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

statements! {
    TOUCH = "update order_sagas set updated_at = now() where order_id = $1";
}

impl OrderStore {
    /// Releases the driver of an order: the service was rendered; by `driver`, if one is named.
    pub async fn complete(&self, id: OrderId, driver: Option<&DriverId>) -> Result<Completed, StoreError> {
        self.postgres.call(self.commit_completion(id, driver)).await
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
}
