//! Payment intents and refunds: what the provider keeps of them, and how Stripe shows them
//! (<https://docs.stripe.com/api/payment_intents/object>, <https://docs.stripe.com/api/refunds/object>).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::request::{CardOutcome, Charge, Refund as RefundRequest};

/// The name under which Waybill puts its own order id into the metadata.
const ORDER_ID: &str = "order_id";

/// One attempt to charge a card: done, or declined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    pub id: String,
    pub charge_id: String,
    pub amount: i64,
    pub amount_refunded: i64,
    pub currency: String,
    pub payment_method: String,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub outcome: CardOutcome,
}

impl Intent {
    pub(super) fn new(charge: &Charge, outcome: CardOutcome) -> Intent {
        Intent {
            id: new_id("pi"),
            charge_id: new_id("ch"),
            amount: charge.amount,
            amount_refunded: 0,
            currency: charge.currency.clone(),
            payment_method: charge.payment_method.clone(),
            description: charge.description.clone(),
            metadata: charge.metadata.clone(),
            created: Timestamp::now().as_second(),
            outcome,
        }
    }

    pub(super) fn order_id(&self) -> Option<&String> {
        self.metadata.get(ORDER_ID)
    }

    pub(super) fn to_json(&self) -> Value {
        let paid = self.outcome == CardOutcome::Paid;
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_received": if paid { self.amount } else { 0 },
            "capture_method": "automatic",
            "client_secret": format!("{}_secret_sandbox", self.id),
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": null,
            "description": self.description,
            "last_payment_error": self.decline_json(),
            "latest_charge": self.charge_id,
            "livemode": false,
            "metadata": self.metadata,
            "next_action": null,
            // A declined method is taken off the intent, so that another can be tried.
            "payment_method": paid.then_some(&self.payment_method),
            "payment_method_types": ["card"],
            "status": if paid { "succeeded" } else { "requires_payment_method" },
        })
    }

    /// Why the card was declined, as Stripe's error says it, without the intent itself; null if it was not.
    pub(super) fn decline_json(&self) -> Value {
        let (decline_code, message) = match self.outcome {
            CardOutcome::Paid => return Value::Null,
            CardOutcome::Declined => ("generic_decline", "Your card was declined."),
            CardOutcome::InsufficientFunds => ("insufficient_funds", "Your card has insufficient funds."),
        };
        json!({
            "type": "card_error",
            "code": "card_declined",
            "decline_code": decline_code,
            "message": message,
            "charge": self.charge_id,
            "doc_url": "https://docs.stripe.com/error-codes#card-declined",
            "payment_method": { "id": self.payment_method, "object": "payment_method", "type": "card" },
        })
    }
}

/// Money that went back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refund {
    pub id: String,
    pub intent_id: String,
    pub charge_id: String,
    pub amount: i64,
    pub currency: String,
    pub reason: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

impl Refund {
    pub(super) fn new(request: &RefundRequest, intent: &Intent, amount: i64) -> Refund {
        Refund {
            id: new_id("re"),
            intent_id: intent.id.clone(),
            charge_id: intent.charge_id.clone(),
            amount,
            currency: intent.currency.clone(),
            reason: request.reason.clone(),
            metadata: request.metadata.clone(),
            created: Timestamp::now().as_second(),
        }
    }

    pub(super) fn order_id(&self) -> Option<&String> {
        self.metadata.get(ORDER_ID)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": null,
            "charge": self.charge_id,
            "created": self.created,
            "currency": self.currency,
            "metadata": self.metadata,
            "payment_intent": self.intent_id,
            "reason": self.reason,
            "receipt_number": null,
            "status": "succeeded",
        })
    }
}

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// From the customer.
    Charge,
    /// Back to the customer.
    Refund,
}

/// Money that really moved: one line of the provider's ledger. Declines and failures have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Which way.
    pub kind: MovementKind,
    /// `metadata[order_id]` of the request; that of its charge for a refund without one. `None` if neither had one.
    pub order_id: Option<String>,
    /// `pi_...` of a charge, `re_...` of a refund.
    pub provider_id: String,
    /// In minor units of the currency, above zero.
    pub amount_minor: i64,
    /// ISO 4217, in lower case as Stripe has it.
    pub currency: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

/// Stripe's form of ids: two letters for the kind, then letters and digits.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::now_v7().simple())
}
