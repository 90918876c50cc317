//! Payment intents, refunds and disputes: what the provider keeps of them, and how Stripe shows them
//! (<https://docs.stripe.com/api/payment_intents/object>, <https://docs.stripe.com/api/refunds/object>,
//! <https://docs.stripe.com/api/disputes/object>).

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

/// One attempt to charge a card: succeeded, held, or declined.
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
    /// The card's money is held until it is captured.
    #[serde(default)]
    pub is_manual: bool,
    #[serde(default)]
    pub capture: Option<Capture>,
    #[serde(default)]
    pub cancellation: Option<Cancellation>,
    /// It was disputed, whatever came of it.
    #[serde(default)]
    pub disputed: bool,
}

/// The one capture of a hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Capture {
    /// The rest is released.
    pub amount: i64,
    /// Added to that of the payment. An empty value removes its name.
    pub metadata: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub at: i64,
}

/// The end of a payment that did not succeed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Cancellation {
    pub reason: Option<String>,
    /// Seconds since the Unix epoch.
    pub at: i64,
}

impl PaymentIntent {
    /// The card's bank agreed: the money was charged, or held.
    pub(super) fn is_authorised(&self) -> bool {
        self.outcome == CardOutcome::Paid
    }

    /// It can be captured now.
    pub(super) fn is_held(&self) -> bool {
        self.is_authorised() && self.is_manual && self.capture.is_none() && self.cancellation.is_none()
    }

    /// What was captured, at once or later.
    pub(super) fn amount_received(&self) -> i64 {
        match &self.capture {
            Some(capture) => capture.amount,
            None if self.is_authorised() && !self.is_manual => self.amount,
            None => 0,
        }
    }

    /// When it was captured: seconds since the Unix epoch.
    pub(super) fn received_at(&self) -> i64 {
        self.capture.as_ref().map_or(self.created, |capture| capture.at)
    }

    /// <https://docs.stripe.com/payments/paymentintents/lifecycle>
    pub(super) fn status(&self) -> &'static str {
        if self.cancellation.is_some() {
            "canceled"
        } else if self.is_held() {
            "requires_capture"
        } else if self.is_authorised() {
            "succeeded"
        } else {
            "requires_payment_method"
        }
    }

    pub(super) fn order_id(&self) -> Option<&String> {
        self.metadata.get(ORDER_ID)
    }

    pub(super) fn to_json(&self) -> Value {
        let cancellation = self.cancellation.as_ref();
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": if self.is_held() { self.amount } else { 0 },
            "amount_received": self.amount_received(),
            "canceled_at": cancellation.map(|cancellation| cancellation.at),
            "cancellation_reason": cancellation.and_then(|cancellation| cancellation.reason.as_ref()),
            "capture_method": if self.is_manual { "manual" } else { "automatic" },
            "client_secret": format!("{}_secret_sandbox", self.id),
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "last_payment_error": self.decline_json(),
            "latest_charge": (self.outcome != CardOutcome::Unconfirmed).then_some(&self.charge_id),
            "livemode": false,
            "metadata": self.metadata_now(),
            "next_action": null,
            // A declined method is removed from the intent, so that another can be tried.
            "payment_method": self.is_authorised().then_some(&self.payment_method),
            "payment_method_types": ["card"],
            "status": self.status(),
            "transfer_group": self.transfer_group,
        })
    }

    /// With that of the capture, which the charge does not get: it has a copy from the time when it was made
    /// (<https://docs.stripe.com/metadata>).
    fn metadata_now(&self) -> BTreeMap<&String, &String> {
        let added = self.capture.iter().flat_map(|capture| &capture.metadata);
        let mut metadata: BTreeMap<_, _> = self.metadata.iter().chain(added).collect();
        metadata.retain(|_, value| !value.is_empty());
        metadata
    }

    /// Its attempt on the card (<https://docs.stripe.com/api/charges/object>); `None` if there was none.
    pub(super) fn charge_json(&self) -> Option<Value> {
        if self.outcome == CardOutcome::Unconfirmed {
            return None;
        }
        let (paid, captured) = (self.is_authorised(), self.amount_received());
        let decline = self.decline_json();
        Some(json!({
            "id": self.charge_id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": captured,
            "amount_refunded": self.amount_refunded,
            "captured": captured > 0,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "disputed": self.disputed,
            "failure_code": decline.get("decline_code").or_else(|| decline.get("code")),
            "livemode": false,
            "metadata": self.metadata,
            "paid": paid,
            "payment_intent": self.id,
            "payment_method": self.payment_method,
            "refunded": captured > 0 && self.amount_refunded == captured,
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

/// How far a refund is (<https://docs.stripe.com/api/refunds/object#refund_object-status>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefundState {
    #[default]
    Succeeded,
    /// The bank has not taken it yet.
    Pending,
    /// The bank gave it back.
    Failed {
        reason: String,
        /// Seconds since the Unix epoch.
        at: i64,
    },
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
    #[serde(default)]
    pub state: RefundState,
}

impl Refund {
    pub(super) fn order_id(&self) -> Option<&String> {
        self.metadata.get(ORDER_ID)
    }

    /// As Stripe names its state.
    pub(super) fn status(&self) -> &'static str {
        match self.state {
            RefundState::Succeeded => "succeeded",
            RefundState::Pending => "pending",
            RefundState::Failed { .. } => "failed",
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
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
            "status": self.status(),
        });
        // Absent from a refund that did not fail.
        if let (RefundState::Failed { reason, .. }, Some(fields)) = (&self.state, json.as_object_mut()) {
            fields.insert("failure_reason".to_owned(), reason.as_str().into());
        }
        json
    }
}

/// Money that the customer's bank took back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dispute {
    pub id: String,
    pub intent_id: String,
    pub charge_id: String,
    pub amount: i64,
    pub currency: String,
    pub reason: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    /// `None` while it is open.
    pub closed: Option<Closing>,
}

/// The end of a dispute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closing {
    /// The money is ours again.
    pub won: bool,
    /// Seconds since the Unix epoch.
    pub at: i64,
}

impl Dispute {
    fn status(&self) -> &'static str {
        match &self.closed {
            None => "needs_response",
            Some(Closing { won: true, .. }) => "won",
            Some(Closing { won: false, .. }) => "lost",
        }
    }

    /// Not while the bank has the money.
    pub(super) fn allows_refund(&self) -> bool {
        self.closed.as_ref().is_some_and(|closing| closing.won)
    }

    /// Its metadata is its own, and empty: nothing in it names the order.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": [],
            "charge": self.charge_id,
            "created": self.created,
            "currency": self.currency,
            "is_charge_refundable": self.allows_refund(),
            "livemode": false,
            "metadata": {},
            "payment_intent": self.intent_id,
            "reason": self.reason,
            "status": self.status(),
        })
    }
}

/// Stripe's form of ids: letters for the kind, then letters and digits.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::now_v7().simple())
}
