//! Cancellation: of an order whose saga runs it is requested, and a served order is reopened for its refund.

use deadpool_postgres::Transaction;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::money::{Currency, Money, MoneyError};
use waybill_domain::order::{Assignment, Event, FailureReason, Order, Payment, ReleaseReason, State};

use super::lease::lock;
use super::refunds;
use super::release::{release, released};
use super::{Lease, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// The outcome of a cancellation.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// The driver is free and the refund is decided; the saga is the caller's to resume.
    Refunding(Box<LeasedOrder>),
    /// The saga still runs; its worker will act on the request.
    Requested,
    /// The order is compensated already, or about to be.
    Compensated,
    /// No such order in this scope.
    NotFound,
    /// Completed, or failed for another reason.
    NotCancellable,
    /// A driver is assigned: the business cancels it, and decides what is kept as a fee, not its customer.
    DriverAssigned,
    /// No driver is assigned, so that a cancellation costs nothing.
    NoFee,
    /// The fee is more than what was paid or held, less what was refunded; in minor units.
    FeeTooLarge(i64),
    /// The fee is in another currency than the order's.
    WrongCurrency(Currency),
    /// The fee is to be captured, and the provider does not charge it.
    NotPayable(MoneyError),
}

statements! {
    REQUEST_CANCEL = "update order_sagas
                         set cancel_requested_at = now(), updated_at = now(),
                             next_run_at = case when lease_owner is null then now() else next_run_at end,
                             due_requested = lease_owner is not null
                       where order_id = $1 and cancel_requested_at is null";
    /// Reopens a served order, under a new fence.
    REOPEN_FOR_REFUND = "update order_sagas
                            set fence = fence + 1, lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                                status = $4, failure_reason = $5, finished_at = null,
                                cancel_requested_at = coalesce(cancel_requested_at, now()),
                                next_run_at = now() + make_interval(secs => $3), updated_at = now()
                          where order_id = $1
                         returning fence";
}

impl OrderStore {
    /// Cancels an order within `scope`, or requests it of the order's worker. Of an order with a driver, `fee` is kept.
    pub async fn cancel(&self, scope: &Scope, id: OrderId, fee: Option<Money>) -> Result<Cancelled, StoreError> {
        self.postgres.call(self.commit_cancellation(scope, id, fee)).await
    }

    async fn commit_cancellation(
        &self,
        scope: &Scope,
        id: OrderId,
        fee: Option<Money>,
    ) -> Result<Cancelled, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id, scope).await? else {
            return Ok(Cancelled::NotFound);
        };
        match leased.order.state {
            State::Started | State::Charging | State::Charged if fee.is_some() => Ok(Cancelled::NoFee),
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
                Some(assignment) if assignment.release.is_none() && scope.user().is_some() => {
                    Ok(Cancelled::DriverAssigned)
                }
                Some(assignment) if assignment.release.is_none() => {
                    let assignment = assignment.clone();
                    let currency = leased.order.amount.currency();
                    if fee.is_some_and(|fee| fee.currency() != currency) {
                        return Ok(Cancelled::WrongCurrency(currency));
                    }
                    let left = (refunds::read_left(&tx, id).await? - refunds::read_owed(&tx, id).await?).max(0);
                    if fee.is_some_and(|fee| fee.minor_units() > left) {
                        return Ok(Cancelled::FeeTooLarge(left));
                    }
                    let is_held = leased.order.payment.as_ref().is_some_and(Payment::is_held);
                    if let (true, Some(fee)) = (is_held, fee)
                        && let Err(error) = Money::payable(currency, fee.minor_units())
                    {
                        return Ok(Cancelled::NotPayable(error));
                    }
                    let fee_minor = fee.map_or(0, |fee| fee.minor_units());
                    let next = self.reopen_for_refund(&tx, &leased, &assignment, fee_minor).await?;
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
        fee_minor: i64,
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
        let mut next = LeasedOrder {
            order: released(order, ReleaseReason::Cancelled, now),
            lease: Lease {
                order: id,
                fence: row.try_get(0)?,
            },
            // One that was requested before may have been sent.
            unsent: leased.open_refund.is_none() && !leased.work().capture_open,
            cancel_requested: true,
            ..leased.clone()
        };
        self.log_step(tx, next.lease, "cancel", "succeeded", assignment.driver.name())
            .await?;
        self.compensate(tx, &mut next, fee_minor).await?;
        next.open_refund = refunds::read_open(tx, id).await?;
        Ok(next)
    }
}
