//! What a comparison with the provider's record tells the ledger: refunds that were made, failed, or are not to be made any
//! more, and disputes. Written in the transactions of the other files, never alone.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use waybill_domain::id::OrderId;
use waybill_domain::order::{Event, ListedRefund, Maker, RefundState, Settlement, State};
use waybill_domain::payment::Operation;

use super::ledger;
use super::refunds::{self, NOTHING_LEFT, RefundOrigin};
use super::{Lease, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// A dispute of a payment, as the provider has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// The provider's id.
    pub provider_id: String,
    /// How much of the payment is disputed, in minor units.
    pub amount_minor: i64,
    /// The provider's word for why.
    pub reason: String,
    /// The provider's word for how it stands.
    pub status: String,
    /// How it stands.
    pub standing: Standing,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// How a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not decided.
    Open,
    /// Decided for us, or closed without a loss.
    Kept,
    /// The customer has the money back.
    ChargedBack,
}

/// What a payment and the provider's record of it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// The refunds.
    pub settlement: Settlement,
    /// Every dispute that the provider has of the payment.
    pub disputes: Vec<Dispute>,
    /// When it was requested, if it was: the last time before the provider's record was read.
    pub requested_at: Option<Timestamp>,
    /// The refund that the provider refused before it, and of which no send was or will be executed.
    pub unexecuted: Option<Operation>,
}

statements! {
    /// A row only where the ledger learns something.
    UPSERT_DISPUTE = "insert into disputes (provider_dispute_id, order_id, amount, currency, reason, status, is_open, opened_at)
                      select $2, p.order_id, $3, p.currency, $4, $5, $6, $7 from payments p where p.order_id = $1
                      on conflict (provider_dispute_id) do update
                         set amount = excluded.amount, status = excluded.status, is_open = excluded.is_open,
                             changed_at = now()
                       where (disputes.amount, disputes.status) is distinct from (excluded.amount, excluded.status)
                      returning 1";
    /// A settled order is worked on again for it. While the amount is held, it waits for the end of the hold.
    REQUEST = "update order_sagas s
                  set reconcile_requested_at = clock_timestamp(),
                      reopened_at = case when s.finished_at is null or p.captured_amount is null then s.reopened_at else now() end,
                      next_run_at = case when s.finished_at is null or p.captured_amount is null then s.next_run_at else now() end,
                      attempts = case when s.finished_at is null or p.captured_amount is null then s.attempts else 0 end,
                      finished_at = case when p.captured_amount is null then s.finished_at end
                 from payments p
                where s.order_id = $1 and p.order_id = s.order_id";
    /// Of an order that is worked on.
    REQUEST_NOW = "update order_sagas set reconcile_requested_at = coalesce(reconcile_requested_at, now())
                    where order_id = $1";
    /// One that was requested after the provider's record was read is still to be made.
    RECONCILE_DONE = "update order_sagas set reconcile_requested_at = null
                       where order_id = $1 and reconcile_requested_at = $2";
}

/// Requests that the payment of a (locked) order is compared with the provider's record. `false`: it has none.
pub(super) async fn request(tx: &Transaction<'_>, order: OrderId) -> Result<bool, StoreError> {
    Ok(REQUEST.execute(tx, &[&order.uuid()]).await? == 1)
}

/// The same, of the order that this transaction moves on, and at its time.
pub(super) async fn request_now(tx: &Transaction<'_>, order: OrderId) -> Result<(), StoreError> {
    REQUEST_NOW.execute(tx, &[&order.uuid()]).await.map(drop)
}

impl Reconciliation {
    /// What it means for an order of this state, of which so much was charged.
    pub fn event(&self, state: State, charged_minor: i64) -> Event {
        let Settlement {
            succeeded,
            found,
            failed,
            ..
        } = &self.settlement;
        match state {
            State::Refunding if self.settlement.refunded_minor >= charged_minor => Event::Refunded,
            State::Refunding if !failed.is_empty() => Event::RefundFailed,
            State::Refunding if !(succeeded.is_empty() && found.is_empty()) => Event::RefundedInPart,
            State::Refunded if self.settlement.refunded_minor < charged_minor => Event::RefundFailed,
            _ => Event::Reconciled,
        }
    }

    /// Whether a dispute is not decided.
    pub fn is_disputed(&self) -> bool {
        self.disputes.iter().any(|dispute| dispute.standing == Standing::Open)
    }

    /// Why an operator should look, if one should.
    pub fn flag(&self) -> Option<String> {
        let failed = || (self.settlement.failed_minor > 0).then(|| REFUND_FAILED.to_owned());
        self.dispute_flag().or_else(failed)
    }

    /// The same, for a dispute alone.
    pub fn dispute_flag(&self) -> Option<String> {
        let open = self
            .disputes
            .iter()
            .find(|dispute| dispute.standing == Standing::Open)?;
        let Dispute {
            provider_id, reason, ..
        } = open;
        Some(format!(
            "the customer's bank disputes the payment ({reason}): answer dispute {provider_id} at the provider"
        ))
    }
}

/// Why an order waits whose refund failed.
pub const REFUND_FAILED: &str =
    "a refund failed for good at the provider: refund again under a new key, or resolve what was paid in another way";

impl OrderStore {
    /// Writes what was learned, and opens a refund of what is still owed.
    pub(super) async fn record_reconciliation(
        &self,
        tx: &Transaction<'_>,
        leased: &LeasedOrder,
        found: &Reconciliation,
        next: State,
    ) -> Result<(), StoreError> {
        let lease = leased.lease;
        let id = leased.order.id;
        RECONCILE_DONE.execute(tx, &[&id.uuid(), &found.requested_at]).await?;
        if let Some(operation) = found.unexecuted {
            ledger::record_not_executed(tx, id, operation).await?;
        }
        self.record_settlement(tx, lease, &found.settlement, leased).await?;
        for dispute in &found.disputes {
            self.record_dispute(tx, lease, dispute).await?;
        }
        let is_by_operator = |made: &ListedRefund| made.maker == Maker::Operator;
        if found.settlement.failed_minor == 0 || found.settlement.found.iter().any(is_by_operator) {
            refunds::replace_failed(tx, id).await?;
        }
        refunds::sum_up(tx, id).await?;
        match next {
            _ if found.settlement.failed_minor > 0 => Ok(()),
            State::Refunding => self.intend_compensation(tx, leased).await,
            State::Succeeded => self.refund_excess(tx, leased).await,
            _ => Ok(()),
        }
    }

    async fn record_settlement(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        settlement: &Settlement,
        leased: &LeasedOrder,
    ) -> Result<(), StoreError> {
        let id = leased.order.id;
        let currency = leased.order.amount.currency().code();
        // What is not made any more first: the sum of all never exceeds the charge.
        for number in &settlement.replaced {
            refunds::close(tx, id, *number, RefundState::Replaced, None, None).await?;
            ledger::record_not_sent_again(tx, id, *number).await?;
        }
        for number in &settlement.impossible {
            refunds::close(tx, id, *number, RefundState::Failed, None, Some(NOTHING_LEFT)).await?;
            ledger::record_not_sent_again(tx, id, *number).await?;
            self.log_step(tx, lease, "refund", "failed", NOTHING_LEFT).await?;
        }
        for number in &settlement.failed {
            refunds::close(
                tx,
                id,
                *number,
                RefundState::Failed,
                None,
                Some("failed at the provider"),
            )
            .await?;
            ledger::record_refund_end(tx, id, *number, "failed", None, None).await?;
            let detail = format!("refund {number} failed at the provider");
            self.log_step(tx, lease, "refund", "failed", &detail).await?;
        }
        for (number, provider_id) in &settlement.succeeded {
            refunds::close(tx, id, *number, RefundState::Succeeded, Some(provider_id), None).await?;
            ledger::record_refund_end(tx, id, *number, "succeeded", Some(provider_id), None).await?;
            self.log_step(tx, lease, "refund", "succeeded", provider_id).await?;
        }
        for made in &settlement.found {
            let (origin, by) = match made.maker {
                Maker::Bank => (RefundOrigin::Dispute, "the customer's bank"),
                Maker::Operator => (RefundOrigin::Unverified, "an operator, past the provider"),
                Maker::Person | Maker::Order(_) => (RefundOrigin::Provider, "a person at the provider"),
            };
            refunds::enter_made(tx, id, made.amount_minor, currency, origin, &made.provider_id).await?;
            let detail = format!("{}, by {by}", made.provider_id);
            self.log_step(tx, lease, "refund", "succeeded", &detail).await?;
        }
        Ok(())
    }

    async fn record_dispute(&self, tx: &Transaction<'_>, lease: Lease, dispute: &Dispute) -> Result<(), StoreError> {
        let Dispute {
            provider_id,
            amount_minor,
            reason,
            status,
            standing,
            opened_at,
        } = dispute;
        let is_open = *standing == Standing::Open;
        let is_news = UPSERT_DISPUTE
            .query_opt(
                tx,
                &[
                    &lease.order.uuid(),
                    provider_id,
                    amount_minor,
                    reason,
                    status,
                    &is_open,
                    opened_at,
                ],
            )
            .await?
            .is_some();
        if is_news {
            let result = match standing {
                Standing::Open => "started",
                Standing::Kept => "succeeded",
                Standing::ChargedBack => "failed",
            };
            let detail = format!("{provider_id}: {reason}, {status}");
            self.log_step(tx, lease, "dispute", result, &detail).await?;
        }
        Ok(())
    }

    /// Opens a refund of all that is left, with the request that will be sent.
    pub(super) async fn intend_compensation(
        &self,
        tx: &Transaction<'_>,
        leased: &LeasedOrder,
    ) -> Result<(), StoreError> {
        let id = leased.order.id;
        let currency = leased.order.amount.currency().code();
        if let Some((number, amount)) = refunds::open_compensation(tx, id, currency).await? {
            let operation = Operation::Refund(number);
            self.intend(tx, leased.lease, &leased.payment_key, operation, amount)
                .await?;
        }
        Ok(())
    }
}
