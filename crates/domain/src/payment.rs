//! What we ask of a payment provider, and under which key.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

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
