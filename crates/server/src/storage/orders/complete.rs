//! Completion: the service was rendered, and the driver is released. What it cost is captured of a hold; of what was paid
//! already, the rest is refunded.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::money::{Currency, Money, MoneyError};
use waybill_domain::order::{Order, ReleaseReason};
use waybill_domain::payment::Operation;

use super::grouped::complete::Rendered;
use super::lease::lock;
use super::refunds::{self, FINAL_AMOUNT, RefundOrigin};
use super::release::{release, released};
use super::{LeasedOrder, OrderStore};
use crate::crash_points::crash_point;
use crate::storage::StoreError;

/// The outcome of a completion.
#[derive(Debug, Clone)]
pub enum Completed {
    /// The driver is free; now, or since an earlier completion.
    Done(Box<Order>),
    /// The same; and money is to be captured or refunded. The saga is the caller's to resume.
    Unpaid(Box<LeasedOrder>),
    /// No such order in this scope.
    NotFound,
    /// The order has no driver to release.
    NotCompletable,
    /// Another driver serves it.
    NotAssigned,
    /// The final amount is more than what was paid or held; in minor units.
    TooMuch(i64),
    /// The final amount is in another currency than the order's.
    WrongCurrency(Currency),
    /// The final amount is to be captured, and the provider does not charge it.
    NotPayable(MoneyError),
    /// The capture is in progress: how much is to be refunded cannot be decided before it is confirmed.
    Capturing,
}

statements! {
    TOUCH = "update order_sagas set updated_at = now() where order_id = $1";
}

impl OrderStore {
    /// Releases the driver of an order within `scope`: the service was rendered; by `driver`, if one is named. `amount` is what it cost, at
    /// most the order's amount; `None`: all of it.
    pub async fn complete(
        &self,
        scope: &Scope,
        id: OrderId,
        driver: Option<&DriverId>,
        amount: Option<Money>,
    ) -> Result<Completed, StoreError> {
        let rendered = Rendered {
            order: id,
            scope: scope.clone(),
            driver: driver.cloned(),
            amount,
            requested_by: self.requested_by.clone(),
        };
        if let Some(completed) = self.complete_in_group(rendered).await {
            return Ok(Completed::Done(Box::new(completed?)));
        }
        self.postgres
            .call(self.commit_completion(scope, id, driver, amount))
            .await
    }

    async fn commit_completion(
        &self,
        scope: &Scope,
        id: OrderId,
        driver: Option<&DriverId>,
        amount: Option<Money>,
    ) -> Result<Completed, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id, scope).await? else {
            return Ok(Completed::NotFound);
        };
        let Some(assignment) = leased.order.assignment.clone() else {
            return Ok(Completed::NotCompletable);
        };
        if driver.is_some_and(|driver| *driver != assignment.driver) {
            return Ok(Completed::NotAssigned);
        }
        match &assignment.release {
            Some(release) if release.reason == ReleaseReason::Completed => {
                return Ok(Completed::Done(Box::new(leased.order)));
            }
            Some(_) => return Ok(Completed::NotCompletable),
            None => {}
        }
        let currency = leased.order.amount.currency();
        if amount.is_some_and(|amount| amount.currency() != currency) {
            return Ok(Completed::WrongCurrency(currency));
        }
        // What failed to be refunded is still owed, and is no part of what is due now.
        let left = refunds::read_left(&tx, id).await? - refunds::read_owed(&tx, id).await?;
        // Who captured the hold may have refunded of it, too.
        let is_capturing =
            leased.work().capture_open || (leased.order.payment_mode.holds() && leased.work().reconcile_requested);
        let due = match due(&leased.order, amount, left) {
            Ok(Due::Refund(_)) if is_capturing => return Ok(Completed::Capturing),
            Ok(Due::Capture(cost)) if let Err(error) = Money::payable(currency, cost) => {
                return Ok(Completed::NotPayable(error));
            }
            Ok(due) => due,
            Err(most) => return Ok(Completed::TooMuch(most)),
        };
        let now = leased.confirmed.database;
        release(&tx, id, &assignment, ReleaseReason::Completed).await?;
        let completed = match due {
            Due::Nothing => {
                TOUCH.execute(&tx, &[&id.uuid()]).await?;
                self.log_step(&tx, leased.lease, "complete", "succeeded", assignment.driver.name())
                    .await?;
                let order = released(leased.order, ReleaseReason::Completed, now);
                Completed::Done(Box::new(order))
            }
            due => {
                let leased = LeasedOrder {
                    order: released(leased.order.clone(), ReleaseReason::Completed, now),
                    ..leased
                };
                Completed::Unpaid(Box::new(self.settle(&tx, leased, due, now).await?))
            }
        };
        tx.commit().await?;
        crash_point!("capture_intended", if matches!(completed, Completed::Unpaid(_)));
        Ok(completed)
    }

    /// Reopens the order for what is to be captured or refunded.
    async fn settle(
        &self,
        tx: &Transaction<'_>,
        leased: LeasedOrder,
        due: Due,
        now: Timestamp,
    ) -> Result<LeasedOrder, StoreError> {
        let id = leased.order.id;
        let mut next = self.reopen(tx, leased).await?;
        next.unsent = !next.work().capture_open && next.open_refund.is_none();
        next.order.updated_at = now;
        let driver = next
            .order
            .assignment
            .as_ref()
            .map(|assignment| assignment.driver.name().to_owned());
        let driver = driver.unwrap_or_default();
        self.log_step(tx, next.lease, "complete", "succeeded", &driver).await?;
        match due {
            Due::Nothing => {}
            Due::Capture(minor_units) => self.decide_capture(tx, &mut next, minor_units, 0).await?,
            Due::Refund(amount) => {
                let number = refunds::open(tx, id, amount, RefundOrigin::Request, None, FINAL_AMOUNT).await?;
                self.intend(tx, next.lease, &next.payment_key, Operation::Refund(number), amount)
                    .await?;
                next.open_refund = refunds::read_open(tx, id).await?;
            }
        }
        Ok(next)
    }
}

/// What a completion leaves to be done.
enum Due {
    Nothing,
    /// So much of the hold is captured, in minor units.
    Capture(i64),
    /// So much of what was paid is refunded.
    Refund(Money),
}

/// What is due for a service that cost `amount`, where so much is `left` of the payment; `Err`: it cannot have cost more than
/// this, in minor units.
fn due(order: &Order, amount: Option<Money>, left: i64) -> Result<Due, i64> {
    let Some(payment) = &order.payment else {
        return Ok(Due::Nothing);
    };
    let price = order.amount.minor_units();
    let paid = payment.captured_minor.or(payment.to_capture_minor).unwrap_or(price);
    // The hold was gone: whatever the service cost, there is nothing to capture or to refund.
    if paid == 0 {
        return Ok(Due::Nothing);
    }
    let cost = amount.map_or(paid, |amount| amount.minor_units());
    if cost > paid {
        return Err(paid);
    }
    if payment.is_held() {
        return Ok(Due::Capture(cost));
    }
    // What was refunded meanwhile may be more than that.
    Ok(Money::new(order.amount.currency(), left - cost).map_or(Due::Nothing, Due::Refund))
}
