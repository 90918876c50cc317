//! What a person at the operator's desk says: who they are, why, and what they say became of the money. Each is parsed
//! once, at the border.

use std::fmt;

use thiserror::Error;

use crate::order::State;
use crate::payment::Operation;
use crate::text::{TextError, text};

/// The longest name of an operator, in characters.
pub const OPERATOR_LENGTH_MAX: usize = 64;
/// The longest id or reference of a movement of money, in characters.
pub const REFERENCE_LENGTH_MAX: usize = 200;

/// What stands before a reference that nobody has checked, wherever it is stored.
pub const UNVERIFIED: &str = "unverified:";

text!(
    /// Who intervenes, by a name that others know: 1 to 64 characters on one line.
    Operator,
    OPERATOR_LENGTH_MAX
);
text!(
    /// The provider's id of a movement of money (`pi_...`, `re_...`), or another reference to it.
    Reference,
    REFERENCE_LENGTH_MAX
);

/// What an operator says became of an order's money, where the provider's answer to the order's own key does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The provider took it, by this payment.
    Charged(Reference),
    /// The provider took nothing, and will not.
    NotCharged,
    /// The provider gave it back, by this refund.
    Refunded(Reference),
    /// It was given back by another way, which the provider cannot confirm: a bank transfer, cash.
    RefundedElsewhere(Reference),
}

/// The name of an outcome, as operators say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The money was taken.
    Charged,
    /// It was not.
    NotCharged,
    /// It was given back.
    Refunded,
}

/// Why a claim was refused: all of it is about the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// The id or reference itself.
    #[error("{0}")]
    Reference(#[from] TextError),
    /// There is no movement that it could name.
    #[error("must not be given where nothing was charged")]
    ReferenceOfNothing,
    /// Only a refund can be made past the provider.
    #[error("only a refund can be taken without the provider's word")]
    NotUnverifiable,
}

impl Claim {
    /// The claim of these words. `reference` is the provider's id; empty where there is none.
    pub fn new(settled: Settled, reference: &str, unverified: bool) -> Result<Claim, ClaimError> {
        match (settled, unverified) {
            (Settled::Charged | Settled::NotCharged, true) => Err(ClaimError::NotUnverifiable),
            (Settled::NotCharged, false) if reference.is_empty() => Ok(Claim::NotCharged),
            (Settled::NotCharged, false) => Err(ClaimError::ReferenceOfNothing),
            (Settled::Charged, false) => Ok(Claim::Charged(reference.parse()?)),
            (Settled::Refunded, false) => Ok(Claim::Refunded(reference.parse()?)),
            (Settled::Refunded, true) => Ok(Claim::RefundedElsewhere(reference.parse()?)),
        }
    }

    /// Which movement it is about.
    pub fn operation(&self) -> Operation {
        match self {
            Claim::Charged(_) | Claim::NotCharged => Operation::Charge,
            Claim::Refunded(_) | Claim::RefundedElsewhere(_) => Operation::Refund,
        }
    }

    /// Where an order must stand for it: there, and nowhere else, an answer of the provider is awaited.
    pub fn awaited_in(&self) -> State {
        match self.operation() {
            Operation::Charge => State::Charging,
            Operation::Refund => State::Refunding,
        }
    }

    /// Whether it would be wrong if a request to the provider were still on its way: it says that nothing was moved, or
    /// that what was moved is not at the provider.
    pub fn needs_quiet(&self) -> bool {
        matches!(self, Claim::NotCharged | Claim::RefundedElsewhere(_))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Charged(id) => write!(f, "charged by {id}"),
            Claim::NotCharged => f.write_str("not charged"),
            Claim::Refunded(id) => write!(f, "refunded by {id}"),
            Claim::RefundedElsewhere(reference) => write!(f, "refunded past the provider, unverified, by {reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_the_movement_if_there_was_one() {
        assert!(matches!(
            Claim::new(Settled::Charged, "pi_1", false),
            Ok(Claim::Charged(_))
        ));
        assert_eq!(Claim::new(Settled::NotCharged, "", false), Ok(Claim::NotCharged));
        assert_eq!(
            Claim::new(Settled::NotCharged, "pi_1", false),
            Err(ClaimError::ReferenceOfNothing)
        );
        for settled in [Settled::Charged, Settled::Refunded] {
            assert_eq!(
                Claim::new(settled, " ", false),
                Err(ClaimError::Reference(TextError::Blank))
            );
        }
    }

    #[test]
    fn only_a_refund_is_taken_without_the_providers_word() {
        assert!(matches!(
            Claim::new(Settled::Refunded, "transfer 17", true),
            Ok(Claim::RefundedElsewhere(_))
        ));
        for settled in [Settled::Charged, Settled::NotCharged] {
            assert_eq!(Claim::new(settled, "", true), Err(ClaimError::NotUnverifiable));
        }
    }
}
