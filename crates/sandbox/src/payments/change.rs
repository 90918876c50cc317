//! What one request, or one call of the sandbox, does: what is written down, what is sent, and what is answered; and how
//! faults change that.

use serde_json::Value;

use super::journal::Effect;
use super::objects::PaymentIntent;
use super::reply::Reply;

/// How a request is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execution {
    Normal,
    /// The card is declined, whatever card it is.
    Decline,
    /// The refund does not succeed at once.
    Pending,
    /// The effect happens, but the saved answer is a 500.
    SaveError,
}

/// Decided, and not written yet.
#[derive(Debug)]
pub(super) struct Change {
    pub effect: Effect,
    /// Names of <https://docs.stripe.com/api/events/types>, each with the object that it is about.
    pub events: Vec<(&'static str, Value)>,
    pub reply: Reply,
}

impl Change {
    /// A payment as it is from now on, which is also the answer. The events are about the payment.
    pub(super) fn payment(intent: PaymentIntent, events: &[&'static str]) -> Change {
        let json = intent.to_json();
        Change {
            reply: Reply::ok(&json),
            events: events.iter().map(|kind| (*kind, json.clone())).collect(),
            effect: Effect::Intent(intent),
        }
    }

    /// An event about the payment's charge, before the others.
    pub(super) fn with_charge_event(mut self, kind: &'static str, charge: Value) -> Change {
        self.events.insert(0, (kind, charge));
        self
    }
}
