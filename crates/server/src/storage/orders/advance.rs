//! The outcome of one step, with all that belongs to it, in one commit under the fence.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio::try_join;
use waybill_domain::money::Money;
use waybill_domain::order::{Event, FailureReason, Order, Payment, Refund, RefundState, State};
use waybill_domain::payment::{Operation, PaymentKey, ProviderKey};

use super::answer::answer;
use super::ledger::{self, UnknownOutcome};
use super::reconciled::Reconciliation;
use super::refunds::{self, OpenRefund};
use super::{Confirmed, Lease, LeasedOrder, OrderStore, StoredAnswer};
use crate::crash_points::crash_point;
use crate::storage::StoreError;

/// The outcome of a step, with what is to be stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The order is ready to be charged.
    ChargeIntended,
    /// The provider confirmed the charge.
    Charged {
        /// The provider's id of it.
        provider_id: String,
    },
    /// The provider declined.
    Declined {
        /// The provider's code.
        code: String,
    },
    /// It is certain that the charge was not executed and never will be.
    ChargeRevoked {
        /// Why it is not wanted any more.
        reason: FailureReason,
    },
    /// The charge was confirmed when it was too late to serve the order.
    ChargedTooLate,
    /// It is not known whether the charge happened.
    ChargeUnknown(UnknownOutcome),
    /// No driver within the window.
    NoDriver {
        /// For people.
        why: String,
    },
    /// A requested cancellation takes effect.
    Cancelled,
    /// It is not known whether the refund happened.
    RefundUnknown(UnknownOutcome),
    /// The provider confirmed a refund.
    Refunded {
        /// The refund.
        refund: OpenRefund,
        /// The provider's id of it.
        provider_id: String,
    },
    /// A refund failed for good.
    RefundFailed {
        /// The refund.
        refund: OpenRefund,
        /// The provider's id of it, if it made one.
        provider_id: Option<String>,
        /// The provider's code.
        code: String,
    },
    /// The refund that compensates the order is not sent any more, and was not made: what is owed gets another key.
    RefundReplaced {
        /// The refund.
        refund: OpenRefund,
        /// For people.
        why: String,
    },
    /// The payment was compared with the provider's record.
    Reconciled(Box<Reconciliation>),
}

impl StepOutcome {
    /// The rulebook's event, for this order.
    pub fn event(&self, order: &Order) -> Event {
        match self {
            StepOutcome::ChargeIntended => Event::ChargeIntended,
            StepOutcome::Charged { .. } => Event::Charged,
            StepOutcome::Declined { .. } => Event::Declined,
            StepOutcome::ChargeRevoked { reason } => Event::ChargeRevoked(*reason),
            StepOutcome::ChargedTooLate => Event::ChargedTooLate,
            StepOutcome::ChargeUnknown(_) => Event::ChargeUnknown,
            StepOutcome::NoDriver { .. } => Event::NoDriver,
            StepOutcome::Cancelled => Event::Cancelled,
            StepOutcome::RefundUnknown(_) => Event::RefundUnknown,
            StepOutcome::Refunded { refund, .. } => {
                let refunded = refunded_minor(order) + refund.amount.minor_units();
                if refunded >= order.amount.minor_units() {
                    Event::Refunded
                } else {
                    Event::RefundedInPart
                }
            }
            StepOutcome::RefundFailed { .. } => Event::RefundFailed,
            StepOutcome::RefundReplaced { .. } => Event::RefundUnknown,
            StepOutcome::Reconciled(found) => found.event(order.state, order.amount.minor_units()),
        }
    }

    /// Why an operator should look at the order after it.
    fn flag(&self) -> Option<String> {
        match self {
            StepOutcome::RefundFailed { code, .. } => Some(format!("{} ({code})", super::REFUND_FAILED)),
            StepOutcome::Reconciled(found) => found.flag(),
            _ => None,
        }
    }

    /// Whether it records the intent to move money, of which nothing is sent yet.
    fn records_intent(&self) -> bool {
        matches!(
            self,
            StepOutcome::ChargeIntended
                | StepOutcome::ChargedTooLate
                | StepOutcome::NoDriver { .. }
                | StepOutcome::Cancelled
        )
    }
}

statements! {
    /// No row: another worker has the order. The row stays locked until the commit.
    LOCK_AND_CHECK_FENCE = "select now(), cancel_requested_at, reconcile_requested
                              from order_sagas
                             where order_id = $1 and fence = $2 and status = $3
                               for update";
    /// Moves the order on. With the saga end the lease and the need for attention, unless the payment is disputed or a refund
    /// failed. The answer is that of the first time that the order was settled; an order whose key expired keeps none, for no
    /// one can ask for it.
    SET_STATUS = "update order_sagas
                     set status = $4, failure_reason = $5, updated_at = now(),
                         finished_at = case when $6 then now() end,
                         lease_owner = case when $6 then null else lease_owner end,
                         lease_until = case when $6 then null else now() + make_interval(secs => $7) end,
                         response_code = case when idempotency_key is not null then coalesce(response_code, $8) end,
                         response_message = case when idempotency_key is not null then coalesce(response_message, $9) end,
                         response_details = case when idempotency_key is not null then coalesce(response_details, $10) end,
                         response_body = case when idempotency_key is not null then coalesce(response_body, $11) end,
                         needs_attention = case
                             when needs_attention is null or not $6 then coalesce($12, needs_attention)
                             when exists (select from disputes d where d.order_id = $1 and d.is_open)
                               or exists (select from refunds r where r.order_id = $1 and r.state = 'failed')
                             then coalesce($12, needs_attention) end
                   where order_id = $1 and fence = $2 and status = $3
                  returning response_code, response_message, response_details, response_body";
}

impl OrderStore {
    /// Commits the outcome of a step: the order after it. On `Fenced` nothing was written.
    pub async fn advance(&self, order: &LeasedOrder, outcome: &StepOutcome) -> Result<LeasedOrder, StoreError> {
        self.postgres.call(self.commit_outcome(order, outcome)).await
    }

    async fn commit_outcome(&self, leased: &LeasedOrder, outcome: &StepOutcome) -> Result<LeasedOrder, StoreError> {
        let begun_at = Timestamp::now();
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_and_check_fence(&tx, leased).await?;

        let order = after(&leased.order, outcome, locked.now)?;
        let is_done = order.state.is_terminal() && !locked.reconcile_requested;
        let (answer, open_refund) = if order.payment.is_none() || matches!(outcome, StepOutcome::Charged { .. }) {
            let ((), answer) = try_join!(
                self.record(&tx, leased, outcome, order.state),
                self.set_status(&tx, leased, &order, is_done, None)
            )?;
            (answer, None)
        } else {
            self.record(&tx, leased, outcome, order.state).await?;
            let open_refund = refunds::read_open(&tx, order.id).await?;
            let is_reconciled = matches!(outcome, StepOutcome::Reconciled(_));
            let is_done =
                order.state.is_terminal() && open_refund.is_none() && (is_reconciled || !locked.reconcile_requested);
            let answer = self.set_status(&tx, leased, &order, is_done, outcome.flag()).await?;
            (answer, open_refund)
        };
        tx.commit().await?;
        crash_point!("charge_committed", if matches!(outcome, StepOutcome::Charged { .. }));
        crash_point!("refund_intended",
            if matches!(outcome, StepOutcome::NoDriver { .. } | StepOutcome::ChargedTooLate | StepOutcome::Cancelled));
        crash_point!("refund_committed", if matches!(outcome, StepOutcome::Refunded { .. }));
        Ok(LeasedOrder {
            order,
            confirmed: Confirmed::new(locked.now, begun_at),
            // One that was open before may have been sent.
            unsent: outcome.records_intent() && leased.open_refund.is_none(),
            cancel_requested: locked.cancel_requested,
            reconcile_requested: locked.reconcile_requested && !matches!(outcome, StepOutcome::Reconciled(_)),
            open_refund,
            answer,
            ..leased.clone()
        })
    }

    /// Writes the order's new status, and with the end of the saga its answer: the one to give, which is what is stored.
    /// `is_done`: it is settled, and nothing else is to be done for it. `flag`: why an operator should look.
    pub(super) async fn set_status(
        &self,
        tx: &Transaction<'_>,
        leased: &LeasedOrder,
        next: &Order,
        is_done: bool,
        flag: Option<String>,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let is_settled = next.state.is_terminal();
        let rendered = is_settled.then(|| (self.render)(next));
        let new = rendered.as_ref();
        let row = SET_STATUS
            .query_opt(
                tx,
                &[
                    &leased.lease.order.uuid(),
                    &leased.lease.fence,
                    &leased.order.state.as_str(),
                    &next.state.as_str(),
                    &next.failure_reason.map(FailureReason::as_str),
                    &is_done,
                    &self.settings.lease_secs,
                    &new.map(|answer| answer.code),
                    &new.map(|answer| answer.message.as_str()),
                    &new.map(|answer| answer.details.as_slice()),
                    &new.map(|answer| answer.body.as_slice()),
                    &flag,
                ],
            )
            .await?
            .ok_or_else(|| leased.lease.lost())?;
        Ok(if is_settled { answer(&row)?.or(rendered) } else { None })
    }

    /// Writes what belongs to the outcome beside the status, which is `next`: the step, the attempt, the money.
    pub(super) async fn record(
        &self,
        tx: &Transaction<'_>,
        leased: &LeasedOrder,
        outcome: &StepOutcome,
        next: State,
    ) -> Result<(), StoreError> {
        let lease = leased.lease;
        let (id, amount) = (leased.order.id, leased.order.amount);
        match outcome {
            StepOutcome::ChargeIntended => {
                self.intend(tx, lease, &leased.payment_key, Operation::Charge, amount)
                    .await
            }
            StepOutcome::Charged { provider_id } => try_join!(
                self.log_step(tx, lease, "charge", "succeeded", provider_id),
                ledger::record_charged(tx, id, provider_id),
                ledger::enter_charge(tx, id, amount, provider_id),
            )
            .map(drop),
            StepOutcome::Declined { code } => try_join!(
                self.log_step(tx, lease, "charge", "failed", code),
                ledger::record_decline(tx, id, code)
            )
            .map(drop),
            StepOutcome::ChargeRevoked { reason } => {
                if *reason == FailureReason::Cancelled {
                    self.log_step(tx, lease, "cancel", "succeeded", "").await?;
                }
                let why = format!("revoked: {}", reason.as_str());
                try_join!(
                    self.log_step(tx, lease, "charge", "failed", &why),
                    ledger::record_revoked(tx, id, &why),
                )
                .map(drop)
            }
            StepOutcome::ChargedTooLate => {
                let why = "the payment was confirmed too late";
                self.log_step(tx, lease, "assign", "failed", why).await?;
                self.intend_compensation(tx, leased).await
            }
            StepOutcome::ChargeUnknown(unknown) => self.record_unknown(tx, lease, Operation::Charge, unknown).await,
            StepOutcome::NoDriver { why } => {
                self.log_step(tx, lease, "assign", "failed", why).await?;
                self.intend_compensation(tx, leased).await
            }
            StepOutcome::Cancelled => {
                self.log_step(tx, lease, "cancel", "succeeded", "").await?;
                // Nothing to refund where nothing was charged.
                match leased.order.payment {
                    Some(_) => self.intend_compensation(tx, leased).await,
                    None if leased.order.state == State::Started => Ok(()),
                    None => Err(StoreError::unexpected("a charged order without its payment")),
                }
            }
            StepOutcome::RefundUnknown(unknown) => {
                let number = leased.open_refund.map_or(1, |refund| refund.number);
                self.record_unknown(tx, lease, Operation::Refund(number), unknown).await
            }
            StepOutcome::Refunded { refund, provider_id } => {
                try_join!(
                    self.log_step(tx, lease, "refund", "succeeded", provider_id),
                    ledger::record_refund_end(tx, id, refund.number, "succeeded", Some(provider_id), None),
                    refunds::close(tx, id, refund.number, RefundState::Succeeded, Some(provider_id), None),
                )?;
                refunds::sum_up(tx, id).await?;
                // What failed before was paid in another way.
                if next == State::Refunded {
                    refunds::replace_failed(tx, id).await?;
                }
                Ok(())
            }
            StepOutcome::RefundFailed {
                refund,
                provider_id,
                code,
            } => try_join!(
                self.log_step(tx, lease, "refund", "failed", code),
                ledger::record_refund_end(tx, id, refund.number, "failed", provider_id.as_deref(), Some(code)),
                refunds::close(
                    tx,
                    id,
                    refund.number,
                    RefundState::Failed,
                    provider_id.as_deref(),
                    Some(code)
                ),
            )
            .map(drop),
            StepOutcome::RefundReplaced { refund, why } => {
                try_join!(
                    self.log_step(tx, lease, "refund", "failed", why),
                    ledger::record_refund_end(tx, id, refund.number, "revoked", None, Some(why)),
                    refunds::close(tx, id, refund.number, RefundState::Replaced, None, None),
                )?;
                self.intend_compensation(tx, leased).await
            }
            StepOutcome::Reconciled(found) => self.record_reconciliation(tx, leased, found, next).await,
        }
    }

    /// Records that money will be asked to move, before it is.
    pub(super) async fn intend(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        payment: &PaymentKey,
        operation: Operation,
        amount: Money,
    ) -> Result<(), StoreError> {
        if self.try_intend(tx, lease, payment, operation, amount).await? {
            Ok(())
        } else {
            Err(StoreError::unexpected("the payment's key is another order's"))
        }
    }

    /// The same; `false` if another order's payment has this key. Then the transaction must not be committed.
    pub(super) async fn try_intend(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        payment: &PaymentKey,
        operation: Operation,
        amount: Money,
    ) -> Result<bool, StoreError> {
        let key = ProviderKey::new(payment, operation);
        let (is_new, ()) = try_join!(
            ledger::record_intent(tx, lease.order, &key, operation, amount),
            self.log_step(tx, lease, operation.as_str(), "started", key.as_str()),
        )?;
        Ok(is_new)
    }

    async fn record_unknown(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        operation: Operation,
        unknown: &UnknownOutcome,
    ) -> Result<(), StoreError> {
        try_join!(
            self.log_step(tx, lease, operation.as_str(), "unknown", &unknown.cause),
            ledger::record_unknown(tx, lease.order, operation, unknown),
        )
        .map(drop)
    }
}

/// What a locked order says that may have changed since its worker read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked {
    /// The transaction's time.
    pub(super) now: Timestamp,
    /// Whether a cancellation was requested.
    pub(super) cancel_requested: bool,
    /// Whether the payment is to be compared with the provider's record.
    pub(super) reconcile_requested: bool,
}

/// Locks the order if this worker still has it.
pub(super) async fn lock_and_check_fence(tx: &Transaction<'_>, leased: &LeasedOrder) -> Result<Locked, StoreError> {
    let row = LOCK_AND_CHECK_FENCE
        .query_opt(
            tx,
            &[
                &leased.lease.order.uuid(),
                &leased.lease.fence,
                &leased.order.state.as_str(),
            ],
        )
        .await?
        .ok_or_else(|| leased.lease.lost())?;
    let cancel_requested_at: Option<Timestamp> = row.try_get(1)?;
    Ok(Locked {
        now: row.try_get(0)?,
        cancel_requested: cancel_requested_at.is_some(),
        reconcile_requested: row.try_get(2)?,
    })
}

/// What was refunded so far, in minor units.
fn refunded_minor(order: &Order) -> i64 {
    let refund = order.payment.as_ref().and_then(|payment| payment.refund.as_ref());
    refund.map_or(0, |refund| refund.amount.minor_units())
}

/// The order after `outcome`, as the transaction of time `now` writes it.
pub(super) fn after(order: &Order, outcome: &StepOutcome, now: Timestamp) -> Result<Order, StoreError> {
    let event = outcome.event(order);
    let mut next = Order {
        state: order.state.next(event)?,
        failure_reason: event.failure_reason().or(order.failure_reason),
        updated_at: now,
        ..order.clone()
    };
    match outcome {
        StepOutcome::Charged { provider_id } => {
            next.payment = Some(Payment {
                charged_at: now,
                provider_charge_id: provider_id.clone(),
                refund: None,
            });
        }
        StepOutcome::Refunded { refund, .. } => {
            let sum = refunded_minor(order) + refund.amount.minor_units();
            set_refunded(&mut next, sum, now)?;
        }
        StepOutcome::Reconciled(found) if found.settlement.refunded_minor != refunded_minor(order) => {
            set_refunded(&mut next, found.settlement.refunded_minor, now)?;
        }
        _ => {}
    }
    Ok(next)
}

fn set_refunded(order: &mut Order, sum_minor: i64, now: Timestamp) -> Result<(), StoreError> {
    let amount = Money::new(order.amount.currency(), sum_minor).ok();
    let payment = order
        .payment
        .as_mut()
        .ok_or_else(|| StoreError::unexpected("a refund of an order without a payment"))?;
    payment.refund = amount.map(|amount| Refund {
        amount,
        refunded_at: now,
    });
    Ok(())
}
