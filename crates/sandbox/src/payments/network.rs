//! What happens at the provider without a request of ours: card networks and banks act, and idempotency keys expire. Tests
//! call it here, others under `/_sandbox`.

use jiff::Timestamp;

use super::Provider;
use super::api_error::ApiError;
use super::journal::Effect;
use super::ledger::{Executed, Ledger};
use super::{disputes, holds, refunds};

/// The provider refused, with this message: there is no such object, or it is not in a state for this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Provider {
    /// The hold of this payment (`pi_...`) expires: it is cancelled, and can be captured no more.
    pub async fn expire_hold(&self, payment_intent: &str) -> Result<(), Refused> {
        let executed = self.state.ledger().expire_hold(payment_intent)?;
        self.state.publish(executed).await;
        Ok(())
    }

    /// A refund (`re_...`) that is pending succeeds. [`FaultKind::RefundPending`](super::FaultKind::RefundPending) makes it
    /// pending.
    pub async fn settle_refund(&self, refund: &str) -> Result<(), Refused> {
        let executed = self.state.ledger().settle_refund(refund)?;
        self.state.publish(executed).await;
        Ok(())
    }

    /// A refund (`re_...`) fails, whether it is pending or has succeeded. `reason`: one of Stripe's, such as
    /// `lost_or_stolen_card`, `expired_or_canceled_card` or `unknown`.
    pub async fn fail_refund(&self, refund: &str, reason: &str) -> Result<(), Refused> {
        let executed = self.state.ledger().fail_refund(refund, reason)?;
        self.state.publish(executed).await;
        Ok(())
    }

    /// A bank disputes a payment (`pi_...`) and takes the amount back: in Stripe's unit, at most what was captured and not
    /// refunded, and all of that if it is `None`. `reason`: one of Stripe's, such as `fraudulent`. The dispute's id
    /// (`du_...`).
    pub async fn open_dispute(
        &self,
        payment_intent: &str,
        amount_minor: Option<i64>,
        reason: &str,
    ) -> Result<String, Refused> {
        let (id, executed) = self.state.ledger().open_dispute(payment_intent, amount_minor, reason)?;
        self.state.publish(executed).await;
        Ok(id)
    }

    /// A dispute (`du_...`) ends. If it is won, the bank returns the money.
    pub async fn close_dispute(&self, dispute: &str, won: bool) -> Result<(), Refused> {
        let executed = self.state.ledger().close_dispute(dispute, won)?;
        self.state.publish(executed).await;
        Ok(())
    }

    /// All idempotency keys expire, as if they were a day old: a request with one of them is a new request.
    pub fn expire_keys(&self) -> Result<(), Refused> {
        Ok(self.state.ledger().expire_keys()?)
    }
}

impl Ledger {
    pub(super) fn expire_hold(&mut self, payment_intent: &str) -> Result<Executed, ApiError> {
        let change = holds::expire(self.entries.intent(payment_intent, "intent")?)?;
        self.execute_unasked(change)
    }

    pub(super) fn settle_refund(&mut self, refund: &str) -> Result<Executed, ApiError> {
        let change = refunds::settle(self.entries.refund(refund)?)?;
        self.execute_unasked(change)
    }

    pub(super) fn fail_refund(&mut self, refund: &str, reason: &str) -> Result<Executed, ApiError> {
        let change = refunds::fail(self.entries.refund(refund)?, reason)?;
        self.execute_unasked(change)
    }

    /// The dispute's id too.
    pub(super) fn open_dispute(
        &mut self,
        payment_intent: &str,
        amount: Option<i64>,
        reason: &str,
    ) -> Result<(String, Executed), ApiError> {
        let intent = self.entries.intent(payment_intent, "payment_intent")?;
        let dispute = disputes::open(intent, amount, reason)?;
        let id = dispute.id.clone();
        let executed = self.execute_unasked(disputes::opened(dispute))?;
        Ok((id, executed))
    }

    pub(super) fn close_dispute(&mut self, dispute: &str, won: bool) -> Result<Executed, ApiError> {
        let change = disputes::close(self.entries.dispute(dispute)?, won)?;
        self.execute_unasked(change)
    }

    /// <https://docs.stripe.com/api/idempotent_requests>: removed once they are at least 24 hours old.
    pub(super) fn expire_keys(&mut self) -> Result<(), ApiError> {
        let at = Timestamp::now().as_second();
        self.enter(Effect::KeysExpired { at })
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.message().to_owned())
    }
}
