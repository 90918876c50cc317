//! The operator's desk, free of gRPC and of any terminal: what is stuck, what is known of it, and what a person may do
//! about an order that does not come to rest by itself.
//!
//! A person is believed only as far as the provider does not say otherwise: the provider is asked first, with no
//! transaction open, and what it said is worth something only for the order as it was before it was asked.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::info;
use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::operator::{Claim, Operator, Reference};
use waybill_domain::order::{Order, State};
use waybill_domain::payment::KEY_AGE_MAX;
use waybill_domain::text::Reason;

use crate::egress::payments::{PaymentClient, PaymentIntent, Refund, Why};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{
    LeaseHolder, OrderFile, OrderStore, Resolution, Resolved, Retried, UnfinishedOrders, Work,
};

/// When to try again what was refused because a request may be on its way: the time after which none is.
pub const IN_FLIGHT_RETRY: Duration = Duration::from_secs(30);

/// The operator's desk.
#[derive(Clone)]
pub struct Desk {
    store: OrderStore,
    payments: Arc<PaymentClient>,
}

/// Why the desk did not do what it was asked. Nothing was changed.
#[derive(Debug, Error)]
pub enum DeskError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// There is nothing to try again.
    #[error("the order is {status}: there is nothing to try again")]
    AtRest {
        /// Where it stands.
        status: String,
    },
    /// No answer of this kind is awaited.
    #[error("the order is {state}, and only one that is {awaited} can be resolved so")]
    NotResolvable {
        /// Where it stands.
        state: State,
        /// Where it would have to stand.
        awaited: State,
    },
    /// A request to the provider may be on its way, or another worker took the order up meanwhile.
    #[error("a worker may be asking the provider at this moment: try again in half a minute")]
    InFlight,
    /// The charge may still be sent, by a worker that slept or by the next one.
    #[error(
        "the charge is still sent again and again: that nothing was charged can be said {} h after it was first sent, \
         when it no longer is",
        KEY_AGE_MAX.as_secs() / 3_600
    )]
    StillSent,
    /// The provider, or our own books, say otherwise.
    #[error("{0}")]
    Contradicted(#[from] Contradiction),
    /// The provider cannot be asked.
    #[error("the payment provider cannot be asked: {0}")]
    Provider(#[from] Why),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found that a person's word does not agree with. Ids, amounts and our own words: never the provider's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// No object of this id.
    #[error("the provider has no {kind} {id}")]
    Missing {
        /// `payment` or `refund`.
        kind: &'static str,
        /// As it was given.
        id: String,
    },
    /// It is there and did not move anything.
    #[error("{id} has not succeeded at the provider: it is {status}")]
    NotSucceeded {
        /// The provider's id.
        id: String,
        /// Of the provider's states of an object.
        status: String,
    },
    /// Another sum.
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
    /// Nothing ties it to the order.
    #[error("{id} does not say which order it is for: put the order's id into its metadata, as order_id")]
    NoOrder {
        /// The provider's id.
        id: String,
    },
    /// A refund of another payment than the order's.
    #[error("{id} gives back payment {payment}, which is not the order's")]
    AnotherPayment {
        /// The provider's id of the refund.
        id: String,
        /// The payment that it is of.
        payment: String,
    },
    /// The money is on its way back, or back already: it does not pay for a service.
    #[error("{id} was given back: the provider has refund {refund} of it")]
    GivenBack {
        /// The provider's id of the payment.
        id: String,
        /// The provider's id of the refund.
        refund: String,
    },
    /// There is a charge where there should be none.
    #[error("the provider has payment {id} for this order: it is {status}")]
    ChargeFound {
        /// The provider's id.
        id: String,
        /// Of the provider's states of an object.
        status: String,
    },
    /// Our own books have this movement already.
    #[error("{id} is in the books already, for order {order}")]
    Booked {
        /// The provider's id.
        id: String,
        /// The order that has it.
        order: Uuid,
    },
}

impl Desk {
    /// A desk over these orders, which asks this provider.
    pub fn new(store: OrderStore, payments: Arc<PaymentClient>) -> Desk {
        Desk { store, payments }
    }

    /// Up to `limit` orders that are not at rest, the oldest first; `only_stuck`: only those that should be.
    pub async fn unfinished(&self, only_stuck: bool, limit: i64) -> Result<UnfinishedOrders, DeskError> {
        Ok(self.store.list_unfinished(only_stuck, limit).await?)
    }

    /// All that is known of the order.
    pub async fn show(&self, id: OrderId) -> Result<OrderFile, DeskError> {
        self.store.read_file(id).await?.ok_or(DeskError::NotFound)
    }

    /// Has an order that was put off be taken up now; who has it at this moment and goes before, if anybody.
    pub async fn retry(
        &self,
        id: OrderId,
        by: &Operator,
        reason: Option<&Reason>,
    ) -> Result<Option<LeaseHolder>, DeskError> {
        match self.store.retry(id, by, reason).await? {
            Retried::Due(lease) => {
                info!(order = %id, "an operator has the order tried again");
                Ok(lease)
            }
            Retried::NotFound => Err(DeskError::NotFound),
            Retried::AtRest(status) => Err(DeskError::AtRest { status }),
        }
    }

    /// Settles what became of the order's money: the order as it then is. A sweeper goes on from there.
    pub async fn resolve(
        &self,
        id: OrderId,
        resolution: Resolution<'_>,
        deadline: Deadline,
    ) -> Result<Order, DeskError> {
        let claim = resolution.claim;
        let seen = self.store.look_at(id).await?.ok_or(DeskError::NotFound)?;
        let not_resolvable = |state| DeskError::NotResolvable {
            state,
            awaited: claim.awaited_in(),
        };
        if seen.order.state != claim.awaited_in() {
            return Err(not_resolvable(seen.order.state));
        }
        self.ask_provider(claim, &seen, deadline).await?;
        match self.store.resolve(seen.lease, resolution).await? {
            Resolved::Done(order) => {
                info!(order = %id, status = %order.state, "an operator has resolved the order");
                Ok(*order)
            }
            Resolved::NotAwaited(state) => Err(not_resolvable(state)),
            Resolved::InFlight => Err(DeskError::InFlight),
            Resolved::StillSent => Err(DeskError::StillSent),
            Resolved::Booked(order) => Err(Contradiction::Booked {
                id: match claim {
                    Claim::Charged(id) | Claim::Refunded(id) | Claim::RefundedElsewhere(id) => id.to_string(),
                    Claim::NotCharged => String::new(),
                },
                order,
            }
            .into()),
        }
    }

    /// What the provider says about the claim, as far as it can say anything.
    async fn ask_provider(&self, claim: &Claim, seen: &Work, deadline: Deadline) -> Result<(), DeskError> {
        match claim {
            Claim::Charged(id) => {
                let payment = self.payments.retrieve(id.as_str(), deadline).await;
                confirm_charge(&seen.order, &found("payment", id, payment)?)?;
                confirm_kept(id.as_str(), &self.payments.find_refunds(id.as_str(), deadline).await?)?;
                // The order's own charge may have been made, too: then this one is the second.
                let all = self.find_charges(&seen.order, deadline).await?;
                let others: Vec<_> = all
                    .into_iter()
                    .filter(|payment| payment.provider_id != id.as_str())
                    .collect();
                confirm_no_charge(&others)?;
            }
            Claim::NotCharged => {
                confirm_no_charge(&self.find_charges(&seen.order, deadline).await?)?;
            }
            Claim::Refunded(id) => {
                let refund = self.payments.retrieve_refund(id.as_str(), deadline).await;
                confirm_refund(&seen.order, &found("refund", id, refund)?)?;
            }
            // It cannot know of that, but of a refund of its own that was made beside it.
            Claim::RefundedElsewhere(_) => {
                if let Some(payment) = &seen.order.payment {
                    let id = payment.provider_charge_id.as_str();
                    confirm_kept(id, &self.payments.find_refunds(id, deadline).await?)?;
                }
            }
        }
        Ok(())
    }

    async fn find_charges(&self, order: &Order, deadline: Deadline) -> Result<Vec<PaymentIntent>, Why> {
        self.payments
            .find_charges(order.id.uuid(), order.created_at, deadline)
            .await
    }
}

/// That there is no such object is an answer; that the provider does not answer is none.
fn found<T>(kind: &'static str, id: &Reference, answer: Result<T, Why>) -> Result<T, DeskError> {
    answer.map_err(|why| match why {
        Why::Status(404) | Why::Unsendable => Contradiction::Missing {
            kind,
            id: id.to_string(),
        }
        .into(),
        why => DeskError::Provider(why),
    })
}

fn confirm_charge(order: &Order, payment: &PaymentIntent) -> Result<(), Contradiction> {
    succeeded(&payment.provider_id, &payment.status)?;
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

/// A refund that failed moved nothing and will not. Every other one did, or still may.
fn confirm_kept(id: &str, refunds: &[Refund]) -> Result<(), Contradiction> {
    let is_alive = |refund: &&Refund| !matches!(refund.status.as_str(), "failed" | "canceled");
    match refunds.iter().find(is_alive) {
        None => Ok(()),
        Some(refund) => Err(Contradiction::GivenBack {
            id: id.to_owned(),
            refund: refund.provider_id.clone(),
        }),
    }
}

/// A declined or cancelled payment moved nothing and will not. Every other one did, or still may.
fn confirm_no_charge(payments: &[PaymentIntent]) -> Result<(), Contradiction> {
    let is_alive =
        |payment: &&PaymentIntent| !matches!(payment.status.as_str(), "requires_payment_method" | "canceled");
    match payments.iter().find(is_alive) {
        None => Ok(()),
        Some(payment) => Err(Contradiction::ChargeFound {
            id: payment.provider_id.clone(),
            status: known_status(&payment.status),
        }),
    }
}

/// A refund that a person made carries no order; then the payment that it is of decides, where the provider shows it.
fn confirm_refund(order: &Order, refund: &Refund) -> Result<(), Contradiction> {
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
    of_this_amount(order.amount, &refund.provider_id, refund.amount_minor, &refund.currency)
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

/// The provider's word for a state as far as it looks like one: it goes to a terminal.
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
