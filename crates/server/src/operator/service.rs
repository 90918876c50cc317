//! The calls of operators: which orders are stuck, the details of one, and what may be done about an order that is not
//! settled by itself.
//!
//! An operator's assertion is accepted only as far as the provider does not contradict it. The provider is asked first,
//! with no transaction open, and its answer counts only for the order as it was before the question.

use std::time::Duration;

use thiserror::Error;
use tracing::info;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::operator::{Assertion, Operator, Reference, UNVERIFIED};
use waybill_domain::order::{ListedRefund, ListedState, Maker, Order, Payment, RefundState, State};
use waybill_domain::payment::{KEY_AGE_MAX, Operation};
use waybill_domain::text::Reason;

use super::verify::{self, Contradiction};
use crate::egress::payments::{Cause, PaymentAccounts, PaymentClient, PaymentIntent, Period};
use crate::orders::payment_record::{self, Compared};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{
    LeaseHolder, LeasedOrder, OrderDetails, OrderStore, RefundedAgain, Resolution, Resolved, Retried, StepOutcome,
    UnfinishedOrders,
};

/// When to try again what was refused because a request may be in flight: the time after which none is.
pub const IN_FLIGHT_RETRY: Duration = Duration::from_secs(30);

/// The code of a charge that was never made, by an operator's assertion.
const NOT_CHARGED: &str = "resolved_by_operator";

/// The states in which a refund can have failed.
const REFUNDED_AGAIN: &[State] = &[State::Refunding, State::Succeeded, State::Refunded];

/// The calls of operators.
#[derive(Clone)]
pub struct OperatorService {
    store: OrderStore,
    payments: PaymentAccounts,
    scope: Scope,
}

/// What the provider's record says of an assertion.
struct Asked {
    /// What the saga would write if the provider had answered so.
    outcome: StepOutcome,
    /// Whether the payment was refunded by hand.
    is_refunded: bool,
}

/// Why a call of an operator was refused. Nothing was changed.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// There is nothing to retry.
    #[error("the order is {status}: there is nothing to retry")]
    Settled {
        /// Its status.
        status: String,
    },
    /// The order does not wait for such an answer.
    #[error(
        "the order is {state}, and this outcome can only resolve one that is {}",
        names(expected)
    )]
    NotResolvable {
        /// Its state.
        state: State,
        /// The states that it may be in.
        expected: &'static [State],
    },
    /// Nothing can be refunded of what is only held.
    #[error("the amount is held, and the hold has not ended: retry the order, and its payment is known then")]
    Held,
    /// The provider has a refund that is not decided.
    #[error("a refund is pending at the provider: wait until it has succeeded or failed, or cancel it there")]
    RefundPending,
    /// A refund may still be sent, by a worker that slept, or what was sent may be late.
    #[error(
        "a refund that was sent has no answer, and may still be made: name the provider's refund if it was, or try again \
         {} h after it was last sent",
        KEY_AGE_MAX.as_secs() / 3_600
    )]
    RefundMayBeMade,
    /// No refund of the order failed.
    #[error("no refund of the order failed at the provider")]
    NothingFailed,
    /// A request to the provider may be in flight, or another worker claimed the order meanwhile.
    #[error("a request to the provider may be in flight: try again in half a minute")]
    InFlight,
    /// The charge may still be sent, by a worker that slept or by the next one.
    #[error(
        "the charge is still retried: it can be resolved as not charged {} h after it was first sent, when the retries \
         have ended",
        KEY_AGE_MAX.as_secs() / 3_600
    )]
    StillRetried,
    /// The provider's data, or the ledger, contradicts the assertion.
    #[error("{0}")]
    Contradicted(#[from] Contradiction),
    /// The provider cannot be asked.
    #[error("the payment provider cannot be asked: {0}")]
    Provider(#[from] Cause),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OperatorService {
    /// Calls on these orders, verified with this provider.
    pub fn new(store: OrderStore, payments: PaymentAccounts) -> OperatorService {
        OperatorService {
            store,
            payments,
            scope: Scope::Everything,
        }
    }

    /// The same calls on the orders within this scope: others are not there.
    #[must_use]
    pub fn within(&self, scope: Scope) -> OperatorService {
        OperatorService { scope, ..self.clone() }
    }

    /// Whose an order is does not change: once it is in the scope, it stays there.
    async fn check(&self, id: OrderId) -> Result<(), OperatorError> {
        if self.store.is_within(&self.scope, id).await? {
            Ok(())
        } else {
            Err(OperatorError::NotFound)
        }
    }

    /// Up to `limit` unfinished orders, the oldest first; `only_stuck`: only those that should be settled by now.
    pub async fn unfinished(&self, only_stuck: bool, limit: i64) -> Result<UnfinishedOrders, OperatorError> {
        Ok(self.store.list_unfinished(&self.scope, only_stuck, limit).await?)
    }

    /// All details of the order.
    pub async fn show(&self, id: OrderId) -> Result<OrderDetails, OperatorError> {
        self.check(id).await?;
        self.store.read_details(id).await?.ok_or(OperatorError::NotFound)
    }

    /// Makes a deferred order due now; the holder of its lease, if there is one, finishes first. The payment of a settled
    /// order is compared with the provider's record.
    pub async fn retry(
        &self,
        id: OrderId,
        by: &Operator,
        reason: Option<&Reason>,
    ) -> Result<Option<LeaseHolder>, OperatorError> {
        self.check(id).await?;
        match self.store.retry(id, by, reason).await? {
            Retried::Due(lease) => {
                info!(order_id = %id, "operator retried the order");
                Ok(lease)
            }
            Retried::NotFound => Err(OperatorError::NotFound),
            Retried::Settled(status) => Err(OperatorError::Settled { status }),
        }
    }

    /// Resolves what became of the order's money: the order as it then is. A sweeper goes on from there.
    pub async fn resolve(
        &self,
        id: OrderId,
        assertion: &Assertion,
        by: &Operator,
        reason: &Reason,
        deadline: Deadline,
    ) -> Result<Order, OperatorError> {
        self.check(id).await?;
        let seen = self.store.read_leased(id).await?.ok_or(OperatorError::NotFound)?;
        let not_resolvable = |state| OperatorError::NotResolvable {
            state,
            expected: assertion.expected_states(),
        };
        if !assertion.expected_states().contains(&seen.order.state) {
            return Err(not_resolvable(seen.order.state));
        }
        if seen.order.state == State::Succeeded && !self.has_failed_refund(id).await? {
            return Err(OperatorError::NothingFailed);
        }
        if seen
            .order
            .payment
            .as_ref()
            .is_some_and(|payment| !payment.is_captured())
        {
            return Err(OperatorError::Held);
        }
        let Asked { outcome, is_refunded } = self.ask_provider(assertion, &seen, deadline).await?;
        let resolution = Resolution {
            assertion,
            outcome: &outcome,
            is_refunded,
            by,
            reason,
        };
        match self.store.resolve(&seen, resolution).await? {
            Resolved::Done(order) => {
                info!(order_id = %id, status = %order.state, "operator resolved the order");
                Ok(*order)
            }
            Resolved::NotExpected(state) => Err(not_resolvable(state)),
            Resolved::InFlight => Err(OperatorError::InFlight),
            Resolved::StillRetried => Err(OperatorError::StillRetried),
            Resolved::RefundMayBeMade => Err(OperatorError::RefundMayBeMade),
            Resolved::AlreadyInLedger(order) => Err(Contradiction::AlreadyInLedger {
                id: match assertion {
                    Assertion::Charged(id) | Assertion::Refunded(id) | Assertion::RefundedElsewhere(id, _) => {
                        id.to_string()
                    }
                    Assertion::NotCharged => String::new(),
                },
                order,
            }
            .into()),
        }
    }

    /// Refunds once more what failed for good, under new keys: the order as it then is. A sweeper goes on from there.
    pub async fn refund_again(
        &self,
        id: OrderId,
        by: &Operator,
        reason: &Reason,
        deadline: Deadline,
    ) -> Result<Order, OperatorError> {
        self.check(id).await?;
        let seen = self.store.read_leased(id).await?.ok_or(OperatorError::NotFound)?;
        if !seen.order.payment.as_ref().is_some_and(Payment::is_captured) {
            return Err(OperatorError::NothingFailed);
        }
        // While another driver is looked for, nothing is refunded.
        if !REFUNDED_AGAIN.contains(&seen.order.state) {
            return Err(OperatorError::NotResolvable {
                state: seen.order.state,
                expected: REFUNDED_AGAIN,
            });
        }
        // A person may have refunded by hand meanwhile.
        let compared = self.compare(&seen, None, deadline).await?;
        if compared.found.settlement.is_pending {
            return Err(OperatorError::RefundPending);
        }
        match self.store.refund_again(&seen, compared.found, by, reason).await? {
            RefundedAgain::Open(order) => {
                info!(order_id = %id, "operator refunds again");
                Ok(*order)
            }
            RefundedAgain::NothingFailed => Err(OperatorError::NothingFailed),
            RefundedAgain::MayBeMade => Err(OperatorError::RefundMayBeMade),
            RefundedAgain::Changed => Err(OperatorError::InFlight),
        }
    }

    /// Compares the assertion with what the provider has, as far as the provider can know.
    async fn ask_provider(
        &self,
        assertion: &Assertion,
        seen: &LeasedOrder,
        deadline: Deadline,
    ) -> Result<Asked, OperatorError> {
        let payments = self.client(seen)?;
        let asked = |outcome| Asked {
            outcome,
            is_refunded: false,
        };
        match assertion {
            Assertion::Charged(id) => {
                let payment = payments.retrieve(id.as_str(), deadline).await;
                let payment = existing("payment", id, payment)?;
                self.check_own("payment", id, payment.order_id, Some(id.as_str()))
                    .await?;
                verify::charge(&seen.order, &payment)?;
                let refunds = payments.find_refunds(id.as_str(), deadline).await?;
                // The order's own charge may have been made, too: then this one is the second.
                let all = self.find_charges(seen, deadline).await?;
                let others: Vec<_> = all
                    .into_iter()
                    .filter(|payment| payment.provider_id != id.as_str())
                    .collect();
                verify::no_charge(&others)?;
                let provider_id = id.to_string();
                Ok(Asked {
                    is_refunded: verify::is_refunded(&refunds),
                    ..asked(StepOutcome::Charged { provider_id })
                })
            }
            Assertion::NotCharged => {
                verify::no_charge(&self.find_charges(seen, deadline).await?)?;
                let code = NOT_CHARGED.to_owned();
                Ok(asked(StepOutcome::Declined { code }))
            }
            Assertion::Refunded(id) => {
                let refund = payments.retrieve_refund(id.as_str(), deadline).await;
                let refund = existing("refund", id, refund)?;
                let payment = refund.payment_intent.as_deref();
                self.check_own("refund", id, refund.order_id, payment).await?;
                verify::refund(&seen.order, &refund)?;
                let compared = self.compare(seen, None, deadline).await?;
                Ok(asked(StepOutcome::Reconciled(Box::new(compared.found))))
            }
            Assertion::RefundedElsewhere(reference, amount) => {
                let known = self.compare(seen, None, deadline).await?.found.settlement;
                if known.is_pending {
                    return Err(OperatorError::RefundPending);
                }
                let refundable = seen.order.payment.as_ref().map_or(0, Payment::refundable_minor);
                let left = refundable - known.refunded_minor;
                let owed = match seen.order.state {
                    State::Refunding => left,
                    _ => known.failed_minor.min(left),
                };
                let elsewhere = ListedRefund {
                    // Marked, so that it is not expected at the provider.
                    provider_id: format!("{UNVERIFIED}{reference}"),
                    maker: Maker::Operator,
                    amount_minor: verify::amount_elsewhere(*amount, owed, left, &seen.order)?,
                    state: ListedState::Succeeded,
                };
                let compared = self.compare(seen, Some(elsewhere), deadline).await?;
                Ok(asked(StepOutcome::Reconciled(Box::new(compared.found))))
            }
        }
    }

    /// What is about an order of another business is not there, for who may not see that order.
    async fn check_own(
        &self,
        kind: &'static str,
        id: &Reference,
        order: Option<Uuid>,
        payment: Option<&str>,
    ) -> Result<(), OperatorError> {
        if self.store.is_foreign(&self.scope, order, payment).await? {
            return Err(missing(kind, id));
        }
        Ok(())
    }

    /// The client of the account that the order is paid into.
    fn client(&self, seen: &LeasedOrder) -> Result<&PaymentClient, Cause> {
        self.payments.client(&seen.payment_account)
    }

    async fn has_failed_refund(&self, id: OrderId) -> Result<bool, OperatorError> {
        let (refunds, _) = self.store.read_record(id).await?;
        Ok(refunds.iter().any(|refund| refund.state == RefundState::Failed))
    }

    async fn compare(
        &self,
        seen: &LeasedOrder,
        elsewhere: Option<ListedRefund>,
        deadline: Deadline,
    ) -> Result<Compared, OperatorError> {
        let compared = payment_record::compare(&self.store, self.client(seen)?, seen, elsewhere, deadline).await?;
        Ok(compared?)
    }

    /// By the group that the order's charge carries. The charge of an order of an earlier version carries none: it is looked for
    /// in the time in which it was sent.
    async fn find_charges(&self, seen: &LeasedOrder, deadline: Deadline) -> Result<Vec<PaymentIntent>, OperatorError> {
        let (order, group) = (&seen.order, seen.transfer_group.as_deref());
        let mut sent = Period {
            from: order.created_at,
            until: None,
        };
        if group.is_none() {
            let details = self
                .store
                .read_details(order.id)
                .await?
                .ok_or(OperatorError::NotFound)?;
            let mut attempts = details.provider_attempts.iter();
            if let Some(charge) = attempts.find(|attempt| attempt.operation == Operation::Charge.as_str()) {
                sent.until = charge.last_sent_at;
            }
        }
        let found = self.client(seen)?.find_charges(order.id.uuid(), group, sent, deadline);
        Ok(found.await?)
    }
}

/// That there is no such object is an answer; that the provider does not answer is none.
fn existing<T>(kind: &'static str, id: &Reference, answer: Result<T, Cause>) -> Result<T, OperatorError> {
    answer.map_err(|cause| match cause {
        Cause::Status(404) | Cause::Unsendable => missing(kind, id),
        cause => OperatorError::Provider(cause),
    })
}

fn missing(kind: &'static str, id: &Reference) -> OperatorError {
    let id = id.to_string();
    Contradiction::Missing { kind, id }.into()
}

/// The states, as a sentence has them.
fn names(states: &[State]) -> String {
    let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    names.join(" or ")
}
