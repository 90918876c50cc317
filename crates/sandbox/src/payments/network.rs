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
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.message().to_owned())
    }
}
