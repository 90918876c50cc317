//! Operations at the payment provider, their idempotency keys, and the recovery of an unknown outcome.

use std::fmt;
use std::time::Duration;

use crate::id::OrderId;

/// A movement of money at the provider. Each happens at most once for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Take the order's amount.
    Charge,
    /// Refund all of it.
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
/// after its key expired it is a new request, and the customer pays twice.
pub const KEY_AGE_MAX: Duration = Duration::from_hours(12);
/// After so many server errors to one key its answer is not expected to change: Stripe saves a 500 too, and replays it.
pub const SERVER_ERRORS_MAX: u32 = 3;

/// How the outcome of a request is recovered when it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// The request is retried under the same key.
    Retry,
    /// The provider's list is queried; where the operation is not there, it is retried under the same key.
    QueryThenRetry,
    /// The provider's list is queried. The request is not retried: its key may have expired. Its absence from the list
    /// proves nothing, since a list may lag and a request may be late.
    Query,
}

impl Recovery {
    /// Of an operation that was first sent `age` ago and was answered with so many server errors.
    pub fn of(operation: Operation, age: Duration, server_errors: u32) -> Recovery {
        match operation {
            // What is refunded in full cannot be refunded again: a refund has no age at which it is dangerous.
            Operation::Charge if age > KEY_AGE_MAX => Recovery::Query,
            _ if server_errors >= SERVER_ERRORS_MAX => Recovery::QueryThenRetry,
            _ => Recovery::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_old_charge_is_queried_and_never_retried() {
        let just_old = KEY_AGE_MAX + Duration::from_nanos(1);
        for errors in [0, SERVER_ERRORS_MAX] {
            assert_eq!(Recovery::of(Operation::Charge, just_old, errors), Recovery::Query);
        }
        assert_eq!(Recovery::of(Operation::Charge, KEY_AGE_MAX, 0), Recovery::Retry);
        assert_eq!(Recovery::of(Operation::Refund, just_old, 0), Recovery::Retry);
    }

    #[test]
    fn a_key_that_answers_with_server_errors_three_times_is_queried_too() {
        for operation in [Operation::Charge, Operation::Refund] {
            assert_eq!(Recovery::of(operation, Duration::ZERO, 2), Recovery::Retry);
            assert_eq!(Recovery::of(operation, Duration::ZERO, 3), Recovery::QueryThenRetry);
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
