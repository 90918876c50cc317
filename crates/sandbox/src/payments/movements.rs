//! Movements of money: the lines of the provider's ledger as tests and demonstrations read them.

use serde::{Deserialize, Serialize};

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// From the customer, when it was captured.
    Charge,
    /// Back to the customer, when the refund was made, even if it is pending.
    Refund,
    /// Back to us: a refund that failed.
    FailedRefund,
    /// Back to the customer, by the bank: a dispute was opened.
    DisputeWithdrawal,
    /// Back to us: a dispute was won.
    DisputeReinstatement,
}

/// Money that really moved: one line of the provider's ledger. Declines, holds and failures have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Which way.
    pub kind: MovementKind,
    /// `metadata[order_id]` of the request; that of its charge for a refund without one and for a dispute. `None`
    /// if neither had one.
    pub order_id: Option<String>,
    /// `pi_...` of a charge, `re_...` of a refund, failed or not, `du_...` of a dispute.
    pub provider_id: String,
    /// In Stripe's unit of the currency, above zero: that of ISO 4217 for most.
    pub amount_minor: i64,
    /// ISO 4217, in lower case as Stripe has it.
    pub currency: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
}
