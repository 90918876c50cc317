//! Compares an operator's assertion with what the provider has. Pure: the provider's objects are arguments.

use thiserror::Error;
use uuid::Uuid;
use waybill_domain::money::{Money, MoneyError};
use waybill_domain::order::{Order, State};

use crate::egress::payments::{PaymentIntent, ProviderRefund};

/// What contradicts an operator's assertion. Ids, amounts and our own words: never the provider's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// The provider has no object of this id.
    #[error("the provider has no {kind} {id}")]
    Missing {
        /// `payment` or `refund`.
        kind: &'static str,
        /// The id in question.
        id: String,
    },
    /// It exists and did not move any money.
    #[error("{id} has not succeeded at the provider: it is {status}")]
    NotSucceeded {
        /// The provider's id.
        id: String,
        /// Of the provider's states of an object.
        status: String,
    },
    /// Another amount.
    #[error(
        "{id} is about {theirs_minor} {theirs_currency} in minor units, and the order about {ours_minor} {ours_currency}"
    )]
    AnotherAmount {
        /// The provider's id.
        id: String,
        /// The provider's amount, in minor units.
        theirs_minor: i64,
        /// The provider's currency.
        theirs_currency: String,
        /// The order's amount, in minor units.
        ours_minor: i64,
        /// The order's currency.
        ours_currency: &'static str,
    },
    /// It carries the id of another order.
    #[error("{id} was made for order {order}")]
    AnotherOrder {
        /// The provider's id.
        id: String,
        /// The other order.
        order: Uuid,
    },
    /// It carries no order id.
    #[error("{id} carries no order id: put the order's id into its metadata, as order_id")]
    NoOrder {
        /// The provider's id.
        id: String,
    },
    /// A refund of another payment than the order's.
    #[error("{id} refunds payment {payment}, which is not the order's")]
    AnotherPayment {
        /// The provider's id of the refund.
        id: String,
        /// The payment that it is of.
        payment: String,
    },
    /// More than what is left of the payment, or nothing.
    #[error("{amount_minor} {currency} in minor units cannot be refunded: {left_minor} are left of the payment")]
    MoreThanLeft {
        /// The amount, in minor units.
        amount_minor: i64,
        /// What is left, in minor units.
        left_minor: i64,
        /// The order's currency.
        currency: &'static str,
    },
    /// What is left beside it, the provider could not refund.
    #[error("{amount_minor} {currency} in minor units leave {rest_minor} to the provider, which {error}")]
    RestNotRefundable {
        /// The amount, in minor units.
        amount_minor: i64,
        /// What is left beside it, in minor units.
        rest_minor: i64,
        /// The order's currency.
        currency: &'static str,
        /// Why not.
        error: MoneyError,
    },
    /// There is a charge where there should be none.
    #[error("the provider has payment {id} for this order: it is {status}")]
    ChargeFound {
        /// The provider's id.
        id: String,
        /// Of the provider's states of an object.
        status: String,
    },
    /// The ledger has this movement already.
    #[error("{id} is in the ledger already, for order {order}")]
    AlreadyInLedger {
        /// The provider's id.
        id: String,
        /// The order that has it.
        order: Uuid,
    },
}

/// That this payment is the order's charge, and succeeded; or its hold, and stands.
pub(super) fn charge(order: &Order, payment: &PaymentIntent) -> Result<(), Contradiction> {
    let is_held = order.payment_mode.holds() && payment.status == "requires_capture";
    if !is_held {
        succeeded(&payment.provider_id, &payment.status)?;
    }
    of_this_order(order, &payment.provider_id, payment.order_id)?;
    of_this_amount(
        order.amount,
        &payment.provider_id,
        payment.amount_minor,
        &payment.currency,
    )?;
    // One that was made by hand, beside the order's own charge, would be the second.
    match payment.order_id {
        Some(_) => Ok(()),
        None => Err(Contradiction::NoOrder {
            id: payment.provider_id.clone(),
        }),
    }
}

/// Whether the payment was refunded, at least in part. A refund that failed moved nothing and will not; every other one did,
/// or still may.
pub(super) fn is_refunded(refunds: &[ProviderRefund]) -> bool {
    let is_alive = |refund: &ProviderRefund| !matches!(refund.status.as_str(), "failed" | "canceled");
    refunds.iter().any(is_alive)
}

/// How much was refunded past the provider: what was said, else what is `owed`; at most what is `left` of the payment.
pub(super) fn amount_elsewhere(said: Option<i64>, owed: i64, left: i64, order: &Order) -> Result<i64, Contradiction> {
    let (amount_minor, currency) = (said.unwrap_or(owed), order.amount.currency());
    if !(1..=left).contains(&amount_minor) {
        return Err(Contradiction::MoreThanLeft {
            amount_minor,
            left_minor: left,
            currency: currency.code(),
        });
    }
    let rest_minor = left - amount_minor;
    if order.state == State::Refunding
        && rest_minor > 0
        && let Err(error) = Money::refundable(currency, rest_minor)
    {
        return Err(Contradiction::RestNotRefundable {
            amount_minor,
            rest_minor,
            currency: currency.code(),
            error,
        });
    }
    Ok(amount_minor)
}

/// That no charge was made. A declined (`failed`, as a charge) or cancelled payment moved nothing and will not; every other one
/// did, or still may.
pub(super) fn no_charge(payments: &[PaymentIntent]) -> Result<(), Contradiction> {
    let is_alive = |payment: &&PaymentIntent| {
        !matches!(
            payment.status.as_str(),
            "requires_payment_method" | "failed" | "canceled"
        )
    };
    match payments.iter().find(is_alive) {
        None => Ok(()),
        Some(payment) => Err(Contradiction::ChargeFound {
            id: payment.provider_id.clone(),
            status: known_status(&payment.status),
        }),
    }
}

/// That this refund is of the order's charge, and succeeded: of all of it or of a part, sums decide. A refund made by hand
/// carries no order id; then its payment decides, where the provider shows it.
pub(super) fn refund(order: &Order, refund: &ProviderRefund) -> Result<(), Contradiction> {
    succeeded(&refund.provider_id, &refund.status)?;
    of_this_order(order, &refund.provider_id, refund.order_id)?;
    let charge = order
        .payment
        .as_ref()
        .map(|payment| payment.provider_charge_id.as_str());
    match &refund.payment_intent {
        Some(payment) if Some(payment.as_str()) != charge => {
            return Err(Contradiction::AnotherPayment {
                id: refund.provider_id.clone(),
                payment: payment.clone(),
            });
        }
        None if refund.order_id.is_none() => {
            return Err(Contradiction::NoOrder {
                id: refund.provider_id.clone(),
            });
        }
        _ => {}
    }
    Ok(())
}

fn succeeded(id: &str, status: &str) -> Result<(), Contradiction> {
    match status {
        "succeeded" => Ok(()),
        other => Err(Contradiction::NotSucceeded {
            id: id.to_owned(),
            status: known_status(other),
        }),
    }
}

/// The provider's name of a state, as far as it looks like one: it goes to a terminal.
fn known_status(status: &str) -> String {
    let is_word = !status.is_empty()
        && status.len() <= 40
        && status.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_word {
        status.to_owned()
    } else {
        "in an unknown state".to_owned()
    }
}

fn of_this_order(order: &Order, id: &str, named: Option<Uuid>) -> Result<(), Contradiction> {
    match named {
        Some(other) if other != order.id.uuid() => Err(Contradiction::AnotherOrder {
            id: id.to_owned(),
            order: other,
        }),
        _ => Ok(()),
    }
}

fn of_this_amount(amount: Money, id: &str, minor_units: i64, currency: &str) -> Result<(), Contradiction> {
    let ours = (amount.minor_units(), amount.currency().code());
    if ours == (minor_units, currency) {
        return Ok(());
    }
    Err(Contradiction::AnotherAmount {
        id: id.to_owned(),
        theirs_minor: minor_units,
        theirs_currency: currency.to_owned(),
        ours_minor: ours.0,
        ours_currency: ours.1,
    })
}
