//! The outcome of one step, with all that belongs to it, in one commit under the fence.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use waybill_domain::money::Money;
use waybill_domain::order::{FailureReason, Order, Payment, Refund, RefundState, State};
use waybill_domain::payment::{Operation, PaymentKey, ProviderKey};

use super::answer::answer;
use super::captures::{self, payment_of};
use super::ledger::{self, UnknownOutcome};
use super::outcome::{StepOutcome, refunded_minor};
use super::{Confirmed, Lease, LeasedOrder, OrderStore, StoredAnswer};
use super::{reconciled, refunds};
use crate::crash_points::crash_point;
use crate::storage::StoreError;

statements! {
    /// No row: another worker has the order. The row stays locked until the commit.
    LOCK_AND_CHECK_FENCE = "select now(), cancel_requested_at, reconcile_requested_at
                              from order_sagas
                             where order_id = $1 and fence = $2 and status = $3
                               for update";
    /// Moves the order on. With the saga end the lease and the need for attention, unless the payment is disputed, a refund
    /// failed, or less was captured of a hold than was decided and is owed, and no operator has looked at that. The answer is
    /// that of the first time that the order was settled; an order whose key expired keeps none, for no one can ask for it.
    SET_STATUS = "update order_sagas
                     set status = $4, failure_reason = $5, updated_at = now(),
                         finished_at = case when $6 then now() end,
                         lease_owner = case when $6 then null else lease_owner end,
                         lease_until = case when $6 then null else now() + make_interval(secs => $7) end,
                         response_code = case when idempotency_key is not null then coalesce(response_code, $8) end,
                         response_message = case when idempotency_key is not null then coalesce(response_message, $9) end,
                         response_details = case when idempotency_key is not null then coalesce(response_details, $10) end,
                         response_body = case when idempotency_key is not null then coalesce(response_body, $11) end,
                         needs_attention = coalesce(
                             $12,
                             case when needs_attention is not null
                                       and (not $6
                                            or exists (select from disputes d where d.order_id = $1 and d.is_open)
                                            or exists (select from refunds r where r.order_id = $1 and r.state = 'failed'))
                                  then needs_attention end,
                             case when $13 then (
                                 select case p.captured_amount when 0
                                        then 'the hold was gone before it could be captured: the customer has not paid'
                                        else 'only ' || p.captured_amount || ' of ' || p.to_capture || ', in minor units, could be '
                                             || 'captured: someone else captured the hold' end
                                   from payments p
                                  where p.order_id = $1 and p.captured_amount < p.to_capture and p.shortfall_seen_at is null
                                    and ($4 = 'succeeded' or p.to_capture < p.amount)) end)
                   where order_id = $1 and fence = $2 and status = $3
                  returning response_code, response_message, response_details, response_body";
}

impl OrderStore {
    /// Commits the outcome of a step: the order after it. On `Fenced` nothing was written.
    pub async fn advance(&self, order: &LeasedOrder, outcome: &StepOutcome) -> Result<LeasedOrder, StoreError> {
        if let StepOutcome::Charged { provider_id } = outcome
            && let Some(entered) = self.enter_charge_in_group(order, provider_id).await
        {
            return entered;
        }
        self.postgres.call(self.commit_outcome(order, outcome)).await
    }

    async fn commit_outcome(&self, leased: &LeasedOrder, outcome: &StepOutcome) -> Result<LeasedOrder, StoreError> {
        let begun_at = Timestamp::now();
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_and_check_fence(&tx, leased).await?;

        let mut next = LeasedOrder {
            order: after(&leased.order, outcome, locked.now)?,
            confirmed: Confirmed::new(locked.now, begun_at),
            // One that was open before may have been sent.
            unsent: outcome.records_intent() && leased.open_refund.is_none() && !leased.work().capture_open,
            cancel_requested: locked.cancel_requested,
            reconcile_requested_at: outcome.next_comparison(locked.reconcile_requested_at, locked.now),
            open_refund: None,
            answer: None,
            ..leased.clone()
        };
        let state = next.order.state;
        if next.order.payment.is_none() || matches!(outcome, StepOutcome::Charged { .. }) {
            let is_done = next.pending_step().is_none();
            ((), next.answer) = pipelined!(
                self.record(&tx, leased, outcome, state),
                self.set_status(&tx, leased, &next.order, is_done, None)
            )?;
        } else {
            self.record(&tx, leased, outcome, state).await?;
            next.open_refund = refunds::read_open(&tx, next.order.id).await?;
            let (is_done, flag) = (next.pending_step().is_none(), outcome.flag());
            next.answer = self.set_status(&tx, leased, &next.order, is_done, flag).await?;
        }
        tx.commit().await?;
        crash_point!("refund_intended",
            if matches!(outcome, StepOutcome::NoDriver { .. } | StepOutcome::ChargedTooLate | StepOutcome::Cancelled));
        crash_point!("capture_committed", if matches!(outcome, StepOutcome::Captured { .. }));
        crash_point!("refund_committed", if matches!(outcome, StepOutcome::Refunded { .. }));
        Ok(next)
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
                    &leased.order.payment_mode.holds(),
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
            StepOutcome::Charged { provider_id } => pipelined!(
                self.log_step(tx, lease, "charge", "succeeded", provider_id),
                ledger::record_charged(tx, id, provider_id),
                ledger::enter_charge(tx, id, amount, provider_id, leased.order.payment_mode.holds()),
            )
            .map(drop),
            StepOutcome::Declined { code } => pipelined!(
                self.log_step(tx, lease, "charge", "failed", code),
                ledger::record_decline(tx, id, code)
            )
            .map(drop),
            StepOutcome::ChargeRevoked { reason } => {
                if *reason == FailureReason::Cancelled {
                    self.log_step(tx, lease, "cancel", "succeeded", "").await?;
                }
                let why = format!("revoked: {}", reason.as_str());
                pipelined!(
                    self.log_step(tx, lease, "charge", "failed", &why),
                    ledger::record_revoked(tx, id, &why),
                )
                .map(drop)
            }
            StepOutcome::ChargedTooLate => {
                let why = "the payment was confirmed too late";
                self.log_step(tx, lease, "assign", "failed", why).await?;
                self.compensate(tx, &mut leased.clone(), 0).await
            }
            StepOutcome::ChargeUnknown(unknown) => self.record_unknown(tx, lease, Operation::Charge, unknown).await,
            StepOutcome::NoDriver { why } => {
                self.log_step(tx, lease, "assign", "failed", why).await?;
                self.compensate(tx, &mut leased.clone(), 0).await
            }
            StepOutcome::Cancelled => {
                self.log_step(tx, lease, "cancel", "succeeded", "").await?;
                // Nothing to refund where nothing was charged.
                match leased.order.payment {
                    Some(_) => self.compensate(tx, &mut leased.clone(), 0).await,
                    None if leased.order.state == State::Started => Ok(()),
                    None => Err(StoreError::unexpected("a charged order without its payment")),
                }
            }
            StepOutcome::Captured {
                operation,
                captured_minor,
                ..
            } => {
                let detail = captured_minor.to_string();
                pipelined!(
                    self.log_step(tx, lease, operation.as_str(), "succeeded", &detail),
                    ledger::record_capture_end(tx, id, *operation, "succeeded", None),
                    captures::enter_capture(tx, leased, *captured_minor),
                )?;
                match next {
                    _ if outcome.asks_for_comparison() => reconciled::request_now(tx, id).await,
                    State::Refunding => self.intend_compensation(tx, leased).await,
                    _ => Ok(()),
                }
            }
            StepOutcome::CaptureUnknown(operation, unknown) => {
                self.record_unknown(tx, lease, *operation, unknown).await
            }
            StepOutcome::CaptureFailed { code } => pipelined!(
                self.log_step(tx, lease, "capture", "failed", code),
                ledger::record_capture_end(tx, id, Operation::Capture, "failed", Some(code)),
                captures::enter_capture(tx, leased, 0),
            )
            .map(drop),
            StepOutcome::RefundUnknown(unknown) => {
                let number = leased.open_refund.map_or(1, |refund| refund.number);
                self.record_unknown(tx, lease, Operation::Refund(number), unknown).await
            }
            StepOutcome::Refunded { refund, provider_id } => {
                pipelined!(
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
            } => pipelined!(
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
                pipelined!(
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
        let (is_new, ()) = pipelined!(
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
        pipelined!(
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
    /// When a comparison of the payment with the provider's record was last requested.
    pub(super) reconcile_requested_at: Option<Timestamp>,
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
        reconcile_requested_at: row.try_get(2)?,
    })
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
                to_capture_minor: None,
                captured_minor: (!order.payment_mode.holds()).then(|| order.amount.minor_units()),
                kept_minor: 0,
                refund: None,
            });
        }
        StepOutcome::NoDriver { .. } | StepOutcome::ChargedTooLate | StepOutcome::Cancelled => {
            if let Some(payment) = next.payment.as_mut().filter(|payment| payment.is_held()) {
                payment.to_capture_minor = Some(0);
            }
        }
        StepOutcome::Captured { captured_minor, .. } => set_captured(&mut next, *captured_minor)?,
        StepOutcome::CaptureFailed { .. } => {
            set_captured(&mut next, 0)?;
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

/// A fee is at most what was captured.
fn set_captured(order: &mut Order, captured_minor: i64) -> Result<(), StoreError> {
    let payment = payment_of(order)?;
    payment.captured_minor = Some(captured_minor);
    payment.kept_minor = payment.kept_minor.min(captured_minor);
    Ok(())
}

fn set_refunded(order: &mut Order, sum_minor: i64, now: Timestamp) -> Result<(), StoreError> {
    let amount = Money::new(order.amount.currency(), sum_minor).ok();
    let payment = payment_of(order)?;
    payment.refund = amount.map(|amount| Refund {
        amount,
        refunded_at: now,
    });
    Ok(())
}
