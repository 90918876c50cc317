//! An account with a past: money that moved before anyone asked this provider for anything. Large accounts are made of it,
//! and accounts whose payments are days apart.

use std::collections::BTreeMap;

use super::objects::{CardOutcome, ORDER_ID, PaymentIntent, Refund, RefundState, new_id};

/// A charge that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// `pi_...`
    pub id: String,
    /// `metadata[order_id]`.
    pub order_id: Option<String>,
    /// The group that it is listed by.
    pub transfer_group: Option<String>,
    /// In Stripe's unit of the currency.
    pub amount_minor: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

/// A refund of a charge that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRefund {
    /// `re_...`
    pub id: String,
    /// The payment that it gives back (`pi_...`).
    pub payment: String,
    /// `metadata[order_id]`.
    pub order_id: Option<String>,
    /// In Stripe's unit of the currency.
    pub amount_minor: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

impl From<PastCharge> for PaymentIntent {
    fn from(past: PastCharge) -> PaymentIntent {
        PaymentIntent {
            id: past.id,
            charge_id: new_id("ch"),
            amount: past.amount_minor,
            amount_refunded: 0,
            currency: past.currency,
            payment_method: "pm_card_visa".to_owned(),
            customer: None,
            transfer_group: past.transfer_group,
            description: None,
            metadata: metadata(past.order_id),
            created: past.created,
            outcome: CardOutcome::Paid,
            is_manual: false,
            capture: None,
            cancellation: None,
            disputed: false,
        }
    }
}

impl From<PastRefund> for Refund {
    fn from(past: PastRefund) -> Refund {
        Refund {
            id: past.id,
            intent_id: past.payment,
            charge_id: new_id("ch"),
            amount: past.amount_minor,
            currency: past.currency,
            reason: None,
            metadata: metadata(past.order_id),
            created: past.created,
            state: RefundState::Succeeded,
        }
    }
}

fn metadata(order_id: Option<String>) -> BTreeMap<String, String> {
    order_id.into_iter().map(|id| (ORDER_ID.to_owned(), id)).collect()
}
