//! What we ask of a payment provider, under which key, and what may be done while its outcome is not known.

use std::fmt;
use std::time::Duration;

use crate::id::OrderId;

/// A movement of money that is asked of the provider. Each happens at most once an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Take the order's amount.
    Charge,
    /// Give all of it back.
    Refund,
}

impl Operation {
    /// Its name in the database, in logs and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Charge => "charge",
            Operation::Refund => "refund",
        }
    }
}

/// The idempotency key that a request to the provider carries.
///
/// It comes from the order and the operation, not from chance: a repeat after a crash must be the *same* request to
/// the provider, or the customer pays twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKey(String);

impl ProviderKey {
    /// The key of this operation of this order.
    pub fn new(order: OrderId, operation: Operation) -> ProviderKey {
        ProviderKey(format!("waybill-{order}-{}", operation.as_str()))
    }

    /// The text that is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How old a charge may be when it is sent again: half of the 24 hours for which Stripe keeps a key at least. Sent again
/// after its key is forgotten it is a new request, and the customer pays twice.
pub const KEY_AGE_MAX: Duration = Duration::from_hours(12);
/// After so many server errors to one key its answer is not believed to change: Stripe saves a 500 too, and replays it.
pub const SERVER_ERRORS_MAX: u32 = 3;

/// How a request whose outcome is not known goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resend {
    /// It is sent again, under the same key.
    Send,
    /// The provider's list is looked at; where it is not there, it is sent again under the same key.
    LookThenSend,
    /// The provider's list is looked at. It is not sent: its key may be forgotten. Not to be found there proves nothing,
    /// since a list may lag and a request may be late.
    Look,
}

impl Resend {
    /// Of an operation that was first sent `age` ago and was answered with so many server errors.
    pub fn of(operation: Operation, age: Duration, server_errors: u32) -> Resend {
        match operation {
            // What is refunded in full cannot be refunded again: a refund has no age at which it is dangerous.
            Operation::Charge if age > KEY_AGE_MAX => Resend::Look,
            _ if server_errors >= SERVER_ERRORS_MAX => Resend::LookThenSend,
            _ => Resend::Send,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_old_charge_is_looked_for_and_never_sent_again() {
        let just_old = KEY_AGE_MAX + Duration::from_nanos(1);
        for errors in [0, SERVER_ERRORS_MAX] {
            assert_eq!(Resend::of(Operation::Charge, just_old, errors), Resend::Look);
        }
        assert_eq!(Resend::of(Operation::Charge, KEY_AGE_MAX, 0), Resend::Send);
        assert_eq!(Resend::of(Operation::Refund, just_old, 0), Resend::Send);
    }

    #[test]
    fn a_key_that_answers_with_server_errors_three_times_is_looked_for_too() {
        for operation in [Operation::Charge, Operation::Refund] {
            assert_eq!(Resend::of(operation, Duration::ZERO, 2), Resend::Send);
            assert_eq!(Resend::of(operation, Duration::ZERO, 3), Resend::LookThenSend);
        }
    }

    #[test]
    fn the_key_depends_on_order_and_operation_alone() {
        let (one, two) = (OrderId::new(Uuid::from_u128(1)), OrderId::new(Uuid::from_u128(2)));
        assert_eq!(
            ProviderKey::new(one, Operation::Charge),
            ProviderKey::new(one, Operation::Charge)
        );
        assert_ne!(
            ProviderKey::new(one, Operation::Charge),
            ProviderKey::new(one, Operation::Refund)
        );
        assert_ne!(
            ProviderKey::new(one, Operation::Charge),
            ProviderKey::new(two, Operation::Charge)
        );
    }
}
