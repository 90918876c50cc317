//! What an operator asserts about an order: who they are, why, and what became of the money. Each is parsed once, at the
//! border.

use std::fmt;

use thiserror::Error;

use crate::order::State;
use crate::text::{TextError, text};

/// The longest name of an operator, in characters.
pub const OPERATOR_LENGTH_MAX: usize = 64;
/// The longest id or reference of a movement of money, in characters.
pub const REFERENCE_LENGTH_MAX: usize = 200;

/// The prefix of a reference that was not verified, wherever it is stored.
pub const UNVERIFIED: &str = "unverified:";

text!(
    /// The operator, by a name that others know: 1 to 64 characters on one line.
    Operator,
    OPERATOR_LENGTH_MAX
);
text!(
    /// The provider's id of a movement of money (`pi_...`, `re_...`), or another reference to it.
    Reference,
    REFERENCE_LENGTH_MAX
);

impl Operator {
    /// A name as it is stored: one that was taken once stays a name, whatever the rules for new ones are by now.
    pub fn stored(name: &str) -> Operator {
        Operator(name.into())
    }
}

/// What an operator asserts became of an order's money, where the provider's answer to the order's own key gives no
/// outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assertion {
    /// The provider took the money, by this payment.
    Charged(Reference),
    /// The provider took nothing, and will not.
    NotCharged,
    /// The provider refunded it, by this refund.
    Refunded(Reference),
    /// It was refunded in another way, which the provider cannot confirm: a bank transfer, cash. How much, in minor units;
    /// `None` for all that is left.
    RefundedElsewhere(Reference, Option<i64>),
}

/// The outcome that an operator asserts, without its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertedOutcome {
    /// The money was taken.
    Charged,
    /// It was not.
    NotCharged,
    /// It was refunded.
    Refunded,
}

/// Why an assertion was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AssertionError {
    /// The id or reference itself.
    #[error("{0}")]
    Reference(#[from] TextError),
    /// There is no movement that it could name.
    #[error("must not be given where nothing was charged")]
    ReferenceWithoutMovement,
    /// The provider knows how much it moved.
    #[error("is only allowed for a refund past the provider")]
    AmountIsTheProviders,
    /// Zero or less.
    #[error("must be greater than 0")]
    NoAmount,
    /// Only a refund can be made past the provider.
    #[error("is only allowed for a refund: a charge is always verified with the provider")]
    MustBeVerified,
}

impl Assertion {
    /// An assertion of `outcome`. `reference` is the provider's id; empty where there is none. `amount_minor`: what was
    /// refunded past the provider, if not all that is left.
    pub fn new(
        outcome: AssertedOutcome,
        reference: &str,
        unverified: bool,
        amount_minor: Option<i64>,
    ) -> Result<Assertion, AssertionError> {
        use AssertedOutcome::{Charged, NotCharged, Refunded};
        match amount_minor {
            Some(_) if !unverified => return Err(AssertionError::AmountIsTheProviders),
            Some(..=0) => return Err(AssertionError::NoAmount),
            _ => {}
        }
        match (outcome, unverified) {
            (Charged | NotCharged, true) => Err(AssertionError::MustBeVerified),
            (NotCharged, false) if reference.is_empty() => Ok(Assertion::NotCharged),
            (NotCharged, false) => Err(AssertionError::ReferenceWithoutMovement),
            (Charged, false) => Ok(Assertion::Charged(reference.parse()?)),
            (Refunded, false) => Ok(Assertion::Refunded(reference.parse()?)),
            (Refunded, true) => Ok(Assertion::RefundedElsewhere(reference.parse()?, amount_minor)),
        }
    }

    /// The states that an order may be in: only there an answer of the provider is expected, or a refund can be missing.
    pub fn expected_states(&self) -> &'static [State] {
        match self {
            Assertion::Charged(_) | Assertion::NotCharged => &[State::Charging],
            Assertion::Refunded(_) | Assertion::RefundedElsewhere(..) => &[State::Refunding, State::Succeeded],
        }
    }

    /// Whether a request in flight to the provider could make it wrong: it asserts that no money moved, or that what
    /// moved is not at the provider.
    pub fn needs_no_request_in_flight(&self) -> bool {
        matches!(self, Assertion::NotCharged | Assertion::RefundedElsewhere(..))
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Assertion::Charged(id) => write!(f, "charged by {id}"),
            Assertion::NotCharged => f.write_str("not charged"),
            Assertion::Refunded(id) => write!(f, "refunded by {id}"),
            Assertion::RefundedElsewhere(reference, None) => {
                write!(f, "refunded past the provider, unverified, by {reference}")
            }
            Assertion::RefundedElsewhere(reference, Some(minor)) => {
                write!(
                    f,
                    "{minor} in minor units refunded past the provider, unverified, by {reference}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_name_stays_what_it_is_and_is_none_that_is_entered() {
        for name in ["an\u{ad}na", "an\u{200e}na", "pay \u{202e}desrever", "\u{200b}"] {
            assert_eq!(Operator::stored(name).as_str(), name);
            name.parse::<Operator>().expect_err(name);
        }
        assert_eq!("anna".parse(), Ok(Operator::stored("anna")));
    }

    #[test]
    fn an_assertion_names_the_movement_if_there_was_one() {
        assert!(matches!(
            Assertion::new(AssertedOutcome::Charged, "pi_1", false, None),
            Ok(Assertion::Charged(_))
        ));
        assert_eq!(
            Assertion::new(AssertedOutcome::NotCharged, "", false, None),
            Ok(Assertion::NotCharged)
        );
        assert_eq!(
            Assertion::new(AssertedOutcome::NotCharged, "pi_1", false, None),
            Err(AssertionError::ReferenceWithoutMovement)
        );
        for outcome in [AssertedOutcome::Charged, AssertedOutcome::Refunded] {
            assert_eq!(
                Assertion::new(outcome, " ", false, None),
                Err(AssertionError::Reference(TextError::Blank))
            );
        }
    }

    #[test]
    fn only_a_refund_is_accepted_unverified() {
        assert!(matches!(
            Assertion::new(AssertedOutcome::Refunded, "transfer 17", true, Some(500)),
            Ok(Assertion::RefundedElsewhere(_, Some(500)))
        ));
        let refunded = |amount, unverified| Assertion::new(AssertedOutcome::Refunded, "re_1", unverified, amount);
        assert_eq!(refunded(Some(0), true), Err(AssertionError::NoAmount));
        assert_eq!(refunded(Some(5), false), Err(AssertionError::AmountIsTheProviders));
        for outcome in [AssertedOutcome::Charged, AssertedOutcome::NotCharged] {
            assert_eq!(
                Assertion::new(outcome, "", true, None),
                Err(AssertionError::MustBeVerified)
            );
        }
    }
}
