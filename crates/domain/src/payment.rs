//! Operations at the payment provider, their idempotency keys, and the recovery of an unknown outcome.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::id::OrderId;
use crate::order::OrderRequest;

/// A request to the provider that moves money or holds it. An order has one charge, one capture or void of its hold, and
/// refunds that are numbered from 1. Each happens at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Take the order's amount, or hold it.
    Charge,
    /// Take what was held, or a part of it.
    Capture,
    /// End the hold; nothing is taken.
    Void,
    /// Refund the refund of this number.
    Refund(i32),
}

impl Operation {
    /// The kind of it, by its name in the database, in logs and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Charge => "charge",
            Operation::Capture => "capture",
            Operation::Void => "void",
            Operation::Refund(_) => "refund",
        }
    }

    /// Its number within the order.
    pub fn number(self) -> i32 {
        match self {
            Operation::Charge | Operation::Capture | Operation::Void => 1,
            Operation::Refund(number) => number,
        }
    }
}

/// What an order's payment is known by at the provider: from it come the idempotency keys of its requests, and by it the
/// charge is found.
///
/// It comes from what the client sent, and neither from chance nor from the order's id: a database that fails over may
/// lose an order whose charge was sent. The client repeats its request, the order gets a new id, and its charge has to
/// meet the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentKey(String);

impl PaymentKey {
    /// Of this request: its user, its idempotency key and all that it asks for. `generation` is 0, and grows each time that the
    /// client uses the key again after it expired: that is another payment.
    pub fn of_request(request: &OrderRequest, generation: u32) -> PaymentKey {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(b"waybill.payment.v1");
        field(request.user.as_str().as_bytes());
        field(request.key.as_str().as_bytes());
        field(&request.hash().0);
        field(&generation.to_be_bytes());
        // 128 bits are enough, and fit into every field of the provider.
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash.split_at(16);
        let half = Uuid::from_slice(half).unwrap_or_default();
        PaymentKey(half.simple().to_string())
    }

    /// Of an order of an earlier version, whose keys come from its id.
    pub fn of_order(order: OrderId) -> PaymentKey {
        PaymentKey(order.to_string())
    }

    /// As it was stored.
    pub fn stored(text: &str) -> PaymentKey {
        PaymentKey(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The idempotency key that a request to the provider carries. A repeat after a crash must be the *same* request to the
/// provider, or the customer pays twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKey(String);

impl ProviderKey {
    /// The key of this operation of this payment.
    pub fn new(payment: &PaymentKey, operation: Operation) -> ProviderKey {
        let (payment, kind) = (payment.as_str(), operation.as_str());
        ProviderKey(match operation.number() {
            1 => format!("waybill-{payment}-{kind}"),
            number => format!("waybill-{payment}-{kind}-{number}"),
        })
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

/// How old a request may be when it is sent again: half of the 24 hours for which Stripe keeps a key at least. Sent again
/// after its key expired it is a new request: the customer pays twice, or is refunded twice.
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
    /// The provider's list is queried. The request is not retried: its key may have expired. The absence of a charge from the
    /// list proves nothing, since a list may lag and a request may be late.
    Query,
}

impl Recovery {
    /// Of a request that was first sent `age` ago and was answered with so many server errors.
    pub fn of(age: Duration, server_errors: u32) -> Recovery {
        if age > KEY_AGE_MAX {
            Recovery::Query
        } else if server_errors >= SERVER_ERRORS_MAX {
            Recovery::QueryThenRetry
        } else {
            Recovery::Retry
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duty::Tags;
    use crate::money::Money;
    use crate::order::PaymentMode;
    use crate::position::Position;

    #[test]
    fn an_old_request_is_queried_and_never_retried() {
        let just_old = KEY_AGE_MAX + Duration::from_nanos(1);
        for errors in [0, SERVER_ERRORS_MAX] {
            assert_eq!(Recovery::of(just_old, errors), Recovery::Query);
        }
        assert_eq!(Recovery::of(KEY_AGE_MAX, 0), Recovery::Retry);
    }

    #[test]
    fn a_key_that_answers_with_server_errors_three_times_is_queried_too() {
        assert_eq!(Recovery::of(Duration::ZERO, 2), Recovery::Retry);
        assert_eq!(Recovery::of(Duration::ZERO, 3), Recovery::QueryThenRetry);
    }

    fn request(key: &str, user: &str, amount: i64) -> OrderRequest {
        OrderRequest {
            key: key.parse().unwrap(),
            user: user.parse().unwrap(),
            amount: Money::new("USD".parse().unwrap(), amount).unwrap(),
            payment_method: "pm_card_visa".parse().unwrap(),
            provider_customer: None,
            payment_mode: PaymentMode::ChargeFirst,
            pickup: Position::new(37.7749, -122.4194).unwrap(),
            drop_off: None,
            required_tags: Tags::default(),
        }
    }

    #[test]
    fn the_key_depends_on_what_the_client_sent_and_on_the_operation() {
        let key = |request: &OrderRequest, operation| ProviderKey::new(&PaymentKey::of_request(request, 0), operation);
        let first = request("a-key-of-16-bytes", "anna", 1999);
        assert_eq!(key(&first, Operation::Charge), key(&first.clone(), Operation::Charge));
        let keys = [Operation::Charge, Operation::Refund(1), Operation::Refund(2)].map(|one| key(&first, one));
        assert!(
            keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2],
            "{keys:?}"
        );
        for other in [
            request("b-key-of-16-bytes", "anna", 1999),
            request("a-key-of-16-bytes", "bert", 1999),
            request("a-key-of-16-bytes", "anna", 2000),
        ] {
            assert_ne!(key(&first, Operation::Charge), key(&other, Operation::Charge));
        }
        assert_ne!(PaymentKey::of_request(&first, 0), PaymentKey::of_request(&first, 1));
    }

    #[test]
    fn keys_are_stable_across_versions() {
        let first = PaymentKey::of_request(&request("a-key-of-16-bytes", "anna", 1999), 0);
        // The provider compares keys with those that it has: a change here charges orders in flight twice.
        assert_eq!(first.as_str(), "8bf7ea56cec9fc4c6088b2655112cd21");
        let order = OrderId::new(Uuid::from_u128(1));
        let of_order = ProviderKey::new(&PaymentKey::of_order(order), Operation::Charge);
        assert_eq!(of_order.as_str(), format!("waybill-{order}-charge"));
        let refund = ProviderKey::new(&PaymentKey::of_order(order), Operation::Refund(1));
        assert_eq!(refund.as_str(), format!("waybill-{order}-refund"));
    }
}
