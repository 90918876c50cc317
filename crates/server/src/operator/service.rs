//! The calls of operators: which orders are stuck, the details of one, and what may be done about an order that is not
//! settled by itself.
//!
//! An operator's assertion is accepted only as far as the provider does not contradict it. The provider is asked first,
//! with no transaction open, and its answer counts only for the order as it was before the question.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::info;
use waybill_domain::id::OrderId;
use waybill_domain::operator::{Assertion, Operator, Reference};
use waybill_domain::order::{Order, State};
use waybill_domain::payment::{KEY_AGE_MAX, Operation};
use waybill_domain::text::Reason;

use super::verify::{self, Contradiction};
use crate::egress::payments::{Cause, PaymentClient, PaymentIntent, Period};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{
    LeaseHolder, LeasedOrder, OrderDetails, OrderStore, Resolution, Resolved, Retried, UnfinishedOrders,
};

/// When to try again what was refused because a request may be in flight: the time after which none is.
pub const IN_FLIGHT_RETRY: Duration = Duration::from_secs(30);

/// The calls of operators.
#[derive(Clone)]
pub struct OperatorService {
    store: OrderStore,
    payments: Arc<PaymentClient>,
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
    #[error("the order is {state}, and this outcome can only resolve one that is {expected}")]
    NotResolvable {
        /// Its state.
        state: State,
        /// The state that it would have to be in.
        expected: State,
    },
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
    pub fn new(store: OrderStore, payments: Arc<PaymentClient>) -> OperatorService {
        OperatorService { store, payments }
    }

    /// Up to `limit` unfinished orders, the oldest first; `only_stuck`: only those that should be settled by now.
    pub async fn unfinished(&self, only_stuck: bool, limit: i64) -> Result<UnfinishedOrders, OperatorError> {
        Ok(self.store.list_unfinished(only_stuck, limit).await?)
    }

    /// All details of the order.
    pub async fn show(&self, id: OrderId) -> Result<OrderDetails, OperatorError> {
        self.store.read_details(id).await?.ok_or(OperatorError::NotFound)
    }

    /// Makes a deferred order due now; the holder of its lease, if there is one, finishes first.
    pub async fn retry(
        &self,
        id: OrderId,
        by: &Operator,
        reason: Option<&Reason>,
    ) -> Result<Option<LeaseHolder>, OperatorError> {
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
        resolution: Resolution<'_>,
        deadline: Deadline,
    ) -> Result<Order, OperatorError> {
        let assertion = resolution.assertion;
        let seen = self.store.read_leased(id).await?.ok_or(OperatorError::NotFound)?;
        let not_resolvable = |state| OperatorError::NotResolvable {
            state,
            expected: assertion.expected_state(),
        };
        if seen.order.state != assertion.expected_state() {
            return Err(not_resolvable(seen.order.state));
        }
        self.ask_provider(assertion, &seen, deadline).await?;
        match self.store.resolve(seen.lease, resolution).await? {
            Resolved::Done(order) => {
                info!(order_id = %id, status = %order.state, "operator resolved the order");
                Ok(*order)
            }
            Resolved::NotExpected(state) => Err(not_resolvable(state)),
            Resolved::InFlight => Err(OperatorError::InFlight),
            Resolved::StillRetried => Err(OperatorError::StillRetried),
            Resolved::AlreadyInLedger(order) => Err(Contradiction::AlreadyInLedger {
                id: match assertion {
                    Assertion::Charged(id) | Assertion::Refunded(id) | Assertion::RefundedElsewhere(id) => {
                        id.to_string()
                    }
                    Assertion::NotCharged => String::new(),
                },
                order,
            }
            .into()),
        }
    }

    /// Compares the assertion with what the provider has, as far as the provider can know.
    async fn ask_provider(
        &self,
        assertion: &Assertion,
        seen: &LeasedOrder,
        deadline: Deadline,
    ) -> Result<(), OperatorError> {
        match assertion {
            Assertion::Charged(id) => {
                let payment = self.payments.retrieve(id.as_str(), deadline).await;
                verify::charge(&seen.order, &existing("payment", id, payment)?)?;
                verify::not_refunded(id.as_str(), &self.payments.find_refunds(id.as_str(), deadline).await?)?;
                // The order's own charge may have been made, too: then this one is the second.
                let all = self.find_charges(seen, deadline).await?;
                let others: Vec<_> = all
                    .into_iter()
                    .filter(|payment| payment.provider_id != id.as_str())
                    .collect();
                verify::no_charge(&others)?;
            }
            Assertion::NotCharged => {
                verify::no_charge(&self.find_charges(seen, deadline).await?)?;
            }
            Assertion::Refunded(id) => {
                let refund = self.payments.retrieve_refund(id.as_str(), deadline).await;
                verify::refund(&seen.order, &existing("refund", id, refund)?)?;
            }
            // It cannot know of that, but of a refund of its own that was made beside it.
            Assertion::RefundedElsewhere(_) => {
                if let Some(payment) = &seen.order.payment {
                    let id = payment.provider_charge_id.as_str();
                    verify::not_refunded(id, &self.payments.find_refunds(id, deadline).await?)?;
                }
            }
        }
        Ok(())
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
        let found = self.payments.find_charges(order.id.uuid(), group, sent, deadline);
        Ok(found.await?)
    }
}

/// That there is no such object is an answer; that the provider does not answer is none.
fn existing<T>(kind: &'static str, id: &Reference, answer: Result<T, Cause>) -> Result<T, OperatorError> {
    answer.map_err(|cause| match cause {
        Cause::Status(404) | Cause::Unsendable => Contradiction::Missing {
            kind,
            id: id.to_string(),
        }
        .into(),
        cause => OperatorError::Provider(cause),
    })
}
