//! What card networks and banks do without a request of ours. Tests call it here, others under `/_sandbox`.

use super::Provider;
use super::api_error::ApiError;

/// The provider refused, with this message: there is no such object, or it is not in a state for this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Provider {
    /// The hold of this payment expires: it is cancelled, and can be captured no more.
    pub async fn expire_hold(&self, payment_intent: &str) -> Result<(), Refused> {
        let expired = self.state.ledger().expire_hold(payment_intent)?;
        self.state.publish(expired).await;
        Ok(())
    }

    /// A refund that is pending succeeds.
    pub async fn settle_refund(&self, refund: &str) -> Result<(), Refused> {
        let settled = self.state.ledger().settle_refund(refund)?;
        self.state.publish(settled).await;
        Ok(())
    }

    /// A refund fails, whether it is pending or has succeeded. `reason`: one of Stripe's, such as `lost_or_stolen_card`,
    /// `expired_or_canceled_card` or `unknown`.
    pub async fn fail_refund(&self, refund: &str, reason: &str) -> Result<(), Refused> {
        let failed = self.state.ledger().fail_refund(refund, reason)?;
        self.state.publish(failed).await;
        Ok(())
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.message().to_owned())
    }
}
