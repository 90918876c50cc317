//! Payment intents and refunds: what the provider keeps of them, and how Stripe shows them
//! (<https://docs.stripe.com/api/payment_intents/object>, <https://docs.stripe.com/api/refunds/object>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// The name under which a client puts its own order id into the metadata.
pub(super) const ORDER_ID: &str = "order_id";

/// What a test card does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CardOutcome {
    Paid,
    Declined,
    InsufficientFunds,
    /// No card was charged: the payment was not confirmed.
    Unconfirmed,
}

impl CardOutcome {
    /// By the name of the test payment method (<https://docs.stripe.com/testing>).
    pub(super) fn of(payment_method: &str) -> Option<CardOutcome> {
        match payment_method {
            "pm_card_visa" | "pm_card_mastercard" => Some(CardOutcome::Paid),
            "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => Some(CardOutcome::Declined),
            "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => {
                Some(CardOutcome::InsufficientFunds)
            }
            _ => None,
        }
    }

    /// By the name of the test token from which a payment method is made.
    pub(super) fn of_token(token: &str) -> Option<CardOutcome> {
        match token {
            "tok_visa" | "tok_mastercard" => Some(CardOutcome::Paid),
            "tok_chargeDeclined" => Some(CardOutcome::Declined),
            "tok_chargeDeclinedInsufficientFunds" => Some(CardOutcome::InsufficientFunds),
            _ => None,
        }
    }
}

/// One attempt to charge a card: succeeded, or declined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PaymentIntent {
    pub id: String,
    pub charge_id: String,
    pub amount: i64,
    pub amount_refunded: i64,
    pub currency: String,
    pub payment_method: String,
    #[serde(default)]
    pub customer: Option<String>,
    #[serde(default)]
    pub transfer_group: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub outcome: CardOutcome,
}

impl PaymentIntent {
    pub(super) fn is_paid(&self) -> bool {
        self.outcome == CardOutcome::Paid
    }

    pub(super) fn order_id(&self) -> Option<&String> {
        self.metadata.get(ORDER_ID)
    }

    pub(super) fn to_json(&self) -> Value {
        let paid = self.is_paid();
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
            "customer": self.customer,
            "description": self.description,
            "last_payment_error": self.decline_json(),
            "latest_charge": (self.outcome != CardOutcome::Unconfirmed).then_some(&self.charge_id),
            "livemode": false,
            "metadata": self.metadata,
            "next_action": null,
            // A declined method is removed from the intent, so that another can be tried.
            "payment_method": paid.then_some(&self.payment_method),
            "payment_method_types": ["card"],
            "status": if paid { "succeeded" } else { "requires_payment_method" },
            "transfer_group": self.transfer_group,
        })
    }

    /// Its attempt on the card (<https://docs.stripe.com/api/charges/object>); `None` if there was none.
    pub(super) fn charge_json(&self) -> Option<Value> {
        if self.outcome == CardOutcome::Unconfirmed {
            return None;
        }
        let paid = self.is_paid();
        let decline = self.decline_json();
        Some(json!({
            "id": self.charge_id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": if paid { self.amount } else { 0 },
            "amount_refunded": self.amount_refunded,
            "captured": paid,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "disputed": false,
            "failure_code": decline.get("decline_code").or_else(|| decline.get("code")),
            "livemode": false,
            "metadata": self.metadata,
            "paid": paid,
            "payment_intent": self.id,
            "payment_method": self.payment_method,
            "refunded": self.amount_refunded == self.amount,
            "status": if paid { "succeeded" } else { "failed" },
            "transfer_group": self.transfer_group,
        }))
    }

    /// Why the card was declined, as in Stripe's error but without the intent itself; null if it was not.
    pub(super) fn decline_json(&self) -> Value {
        let (decline_code, message) = match self.outcome {
            CardOutcome::Paid | CardOutcome::Unconfirmed => return Value::Null,
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

/// Stripe's form of ids: letters for the kind, then letters and digits.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::now_v7().simple())
}
