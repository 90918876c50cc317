//! What failed is refunded again, by an operator's decision: each failed refund is replaced by one with a new number, and so
//! with a new key at the provider.

use waybill_domain::access::Scope;
use waybill_domain::money::Money;
use waybill_domain::operator::Operator;
use waybill_domain::order::Order;
use waybill_domain::payment::Operation;
use waybill_domain::text::Reason;

use super::advance::after;
use super::lease::lock;
use super::refunds::{self, RefundOrigin};
use super::step_log::log_request;
use super::{LeasedOrder, OrderStore, Reconciliation, StepOutcome};
use crate::storage::StoreError;

/// The outcome of the operator's decision.
#[derive(Debug, Clone)]
pub enum RefundedAgain {
    /// New refunds are open: the order as it is now.
    Open(Box<Order>),
    /// No refund failed, or what failed was paid in another way.
    NothingFailed,
    /// What failed has no answer of the provider yet, and may be made after all.
    MayBeMade,
    /// The order changed since the provider was asked.
    Changed,
}

statements! {
    /// The comparison settles the order where nothing was left to refund again.
    RETURN_LEASE = "update order_sagas
                       set lease_owner = null, lease_until = null, next_run_at = now(),
                           reconcile_requested_at = clock_timestamp()
                     where order_id = $1";
}

impl OrderStore {
    /// Opens a refund for each that failed, if the order still is as it was `seen`: what the provider answered meanwhile
    /// (`found`) holds for that order alone, and is written first.
    pub async fn refund_again(
        &self,
        seen: &LeasedOrder,
        found: Reconciliation,
        by: &Operator,
        reason: &Reason,
    ) -> Result<RefundedAgain, StoreError> {
        self.postgres
            .call(self.commit_refund_again(seen, found, by, reason))
            .await
    }

    async fn commit_refund_again(
        &self,
        seen: &LeasedOrder,
        found: Reconciliation,
        by: &Operator,
        reason: &Reason,
    ) -> Result<RefundedAgain, StoreError> {
        let id = seen.lease.order;
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id, &Scope::Everything).await? else {
            return Err(StoreError::unexpected(format!("order {id} is gone")));
        };
        if !leased.is_as(seen) {
            return Ok(RefundedAgain::Changed);
        }
        let leased = self.reopen_for_operator(&tx, leased).await?;
        let outcome = StepOutcome::Reconciled(Box::new(found));
        let next = after(&leased.order, &outcome, leased.confirmed.database)?;
        self.record(&tx, &leased, &outcome, next.state).await?;
        let failed = refunds::read_failed(&tx, id).await?;
        if failed.is_empty() {
            return Ok(RefundedAgain::NothingFailed);
        }
        if refunds::may_be_made(&tx, id, false).await? {
            return Ok(RefundedAgain::MayBeMade);
        }
        log_request(&tx, id, "refund", by, reason.as_str()).await?;
        self.set_status(&tx, &leased, &next, false, None).await?;
        refunds::replace_failed(&tx, id).await?;
        let currency = leased.order.amount.currency();
        for (_, amount_minor) in failed {
            // A part may have been refunded by hand since.
            let left =
                refunds::read_left(&tx, id).await? - next.payment.as_ref().map_or(0, |payment| payment.kept_minor);
            let Ok(amount) = Money::new(currency, amount_minor.min(left)) else {
                continue;
            };
            let number = refunds::open(&tx, id, amount, RefundOrigin::Again, None, reason.as_str()).await?;
            let operation = Operation::Refund(number);
            self.intend(&tx, leased.lease, &leased.payment_key, operation, amount)
                .await?;
        }
        RETURN_LEASE.execute(&tx, &[&id.uuid()]).await?;
        tx.commit().await?;
        Ok(RefundedAgain::Open(Box::new(next)))
    }
}
