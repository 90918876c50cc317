//! The payment provider: charges and refunds.
//!
//! Speaks the subset of Stripe's HTTP API that an order needs, to Stripe and to the sandbox's simulator alike. `lists`
//! reads what the provider has, `verdict` (pure) decides what an answer means, `guarded_call` retries, and protects the
//! provider from us and us from it, and `wire` is HTTP. A charge or refund never returns an error: it returns an
//! [`Answer`], whose seven kinds are the seven things that the saga can do next. The saga decides whether and when a key
//! is sent again after this call. Within the call it is sent at most as often as the retry policy allows, always the
//! same.

mod accounts;
mod answer;
mod charges;
mod disputes;
#[cfg(test)]
mod fuzz;
mod guarded_call;
mod holds;
mod lists;
mod provider_id;
mod rejections;
mod settings;
mod verdict;
mod wire;

pub use accounts::{AccountClient, PaymentAccounts};
pub use answer::{Answer, Cause, DeclineReason, Movement, PaymentIntent, ProviderDispute, ProviderRefund, Receipt};
pub use guarded_call::Place;
pub use holds::{CaptureRequest, Ended};
pub use lists::Period;
pub use settings::{PaymentSettings, SettingsError};

use crate::metrics::DependencyMetrics;
use crate::resilience::{Deadline, ExpectedCall, SharedBucket, Turn, WaitsTooLong};
use guarded_call::{Exchange, Stack};
use jiff::Timestamp;
use rejections::Rejections;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;
use verdict::{Expected, Verdict, judge, judge_revocation};
use waybill_domain::money::Money;
use waybill_domain::payment::Operation;
use wire::{Fault, Outgoing};

const PAYMENTS_PATH: &str = "/v1/payment_intents";
const REFUNDS_PATH: &str = "/v1/refunds";
const CHARGES_PATH: &str = "/v1/charges";
const DISPUTES_PATH: &str = "/v1/disputes";
/// So many sagas at a time query the provider's lists; the others query at their next try.
const QUERIES_MAX: usize = 2;

/// A charge. The key is derived from the order, so that every try of it is the same request.
#[derive(Debug, Clone, Copy)]
pub struct ChargeRequest<'a> {
    /// The idempotency key, at most 255 visible characters.
    pub key: &'a str,
    /// Goes into the metadata, where the audit finds it.
    pub order_id: Uuid,
    /// By what the charge is found, in one call. `None` for an order of an earlier version: it is looked for by its time.
    pub transfer_group: Option<&'a str>,
    /// How much. It is sent in the provider's unit of the currency.
    pub amount: Money,
    /// The provider's id of the customer's payment method (`pm_...`).
    pub payment_method: &'a str,
    /// The provider's id of the customer to whom that is attached (`cus_...`). Without one the provider accepts the payment
    /// method once.
    pub customer: Option<&'a str>,
    /// Whether the amount is held, and captured later.
    pub is_held: bool,
    /// Its place at the provider, for all requests about it. Without one each of them waits in the line within its deadline.
    pub place: Option<&'a Place>,
}

/// A refund of a payment.
#[derive(Debug, Clone, Copy)]
pub struct RefundRequest<'a> {
    /// The idempotency key, at most 255 visible characters.
    pub key: &'a str,
    /// The provider's id of the payment (`pi_...`).
    pub payment_intent: &'a str,
    /// Goes into the metadata, where the audit finds it.
    pub order_id: Uuid,
    /// Which of the order's refunds it is, from 1.
    pub number: i32,
    /// How much, in the payment's currency. It is sent in the provider's unit of it.
    pub amount: Money,
}

/// The answer to a request that moves money.
struct Posted {
    verdict: Verdict,
    /// Whether it is the answer to an earlier request with the key.
    is_replay: bool,
}

impl Posted {
    fn first(verdict: Verdict) -> Posted {
        Posted {
            verdict,
            is_replay: false,
        }
    }
}

impl ChargeRequest<'_> {
    fn expected(&self) -> Expected {
        Expected {
            operation: Operation::Charge,
            amount: self.amount,
            is_held: self.is_held,
        }
    }
}

impl RefundRequest<'_> {
    fn expected(&self) -> Expected {
        Expected {
            operation: Operation::Refund(self.number),
            amount: self.amount,
            is_held: false,
        }
    }
}

/// The client of one account at the provider. One a process: its guards are shared by all calls.
#[derive(Debug)]
pub struct PaymentClient {
    stack: Stack,
    /// Queries read many pages of the lists, which must not keep charges from being made.
    queries: Semaphore,
    rejections: Rejections,
    statement_descriptor_suffix: Option<String>,
}

impl PaymentClient {
    /// A client; no connection is made yet.
    pub fn new(settings: &PaymentSettings) -> Result<Self, SettingsError> {
        PaymentClient::with_metrics(settings, &DependencyMetrics::default())
    }

    /// The same, counted in these metrics.
    pub fn with_metrics(settings: &PaymentSettings, metrics: &DependencyMetrics) -> Result<Self, SettingsError> {
        Ok(PaymentClient {
            stack: Stack::new(settings, metrics.egress(&settings.name))?,
            queries: Semaphore::new(QUERIES_MAX),
            rejections: Rejections::default(),
            statement_descriptor_suffix: settings.statement_descriptor_suffix.clone(),
        })
    }

    /// The same, with its rate limit shared by all who take from this bucket.
    #[must_use]
    pub fn sharing_rate(mut self, bucket: Arc<dyn SharedBucket>) -> Self {
        self.stack.share_rate(bucket);
        self
    }

    /// Takes the money of an order, or holds it.
    pub async fn charge(&self, request: &ChargeRequest<'_>, deadline: Deadline) -> Answer<Receipt> {
        let expected = request.expected();
        let Some(units) = request.amount.provider_units() else {
            return Answer::NotExecuted(Cause::NotPayable);
        };
        let mut form = vec![
            ("amount", units.to_string()),
            ("currency", request.amount.currency().code().to_ascii_lowercase()),
            ("payment_method", request.payment_method.to_owned()),
            ("confirm", "true".to_owned()),
            ("automatic_payment_methods[enabled]", "true".to_owned()),
            // There is no browser to confirm in: a payment that needs one is declined now and not left open for ever.
            ("automatic_payment_methods[allow_redirects]", "never".to_owned()),
            ("error_on_requires_action", "true".to_owned()),
            ("metadata[order_id]", request.order_id.to_string()),
        ];
        if let Some(group) = request.transfer_group {
            form.push(("transfer_group", group.to_owned()));
        }
        if let Some(customer) = request.customer {
            form.push(("customer", customer.to_owned()));
            // The customer agreed to later payments when the payment method was attached, and is not asked now.
            form.push(("off_session", "true".to_owned()));
        }
        if request.is_held {
            form.push(("capture_method", "manual".to_owned()));
        }
        if let Some(suffix) = &self.statement_descriptor_suffix {
            form.push(("statement_descriptor_suffix", suffix.clone()));
        }
        let deadline = self.stack.bounded(deadline);
        let Posted { verdict, is_replay } = self
            .post(PAYMENTS_PATH, request.key, form, &expected, request.place, deadline)
            .await;
        let answer = match verdict {
            Verdict::Answer(Answer::Done(receipt)) if is_replay => self.read_whole(request, receipt, deadline).await,
            Verdict::Answer(answer) => answer,
            Verdict::Pending { id } => {
                self.read_pending(PAYMENTS_PATH, &id, &expected, request.place, deadline)
                    .await
            }
            Verdict::AlreadyRefunded => Answer::Ambiguous(Cause::Unreadable),
        };
        self.rejections.judge(request.order_id, answer)
    }

    /// Takes the idempotency key of the charge for a request that moves no money. `Done`: the charge was not executed and
    /// never will be, since the provider refuses it from now on as another request under a used key. `KeyReused`: the
    /// charge came first. Means nothing once the key may have expired at the provider.
    pub async fn revoke_charge(&self, request: &ChargeRequest<'_>, deadline: Deadline) -> Answer<()> {
        let amount = request.amount;
        let Some(units) = amount.provider_units() else {
            return Answer::NotExecuted(Cause::NotPayable);
        };
        let form = vec![
            ("amount", units.to_string()),
            ("currency", amount.currency().code().to_ascii_lowercase()),
            ("confirm", "false".to_owned()),
            ("metadata[order_id]", request.order_id.to_string()),
        ];
        let outgoing = match Outgoing::post(PAYMENTS_PATH, request.key, form) {
            Ok(outgoing) => outgoing,
            Err(cause) => return Answer::NotExecuted(cause),
        };
        let deadline = self.stack.bounded(deadline);
        match self.stack.call(&outgoing, request.place, deadline).await.result {
            Ok(reply) => match judge_revocation(reply.status, &reply.body, amount) {
                Answer::Ambiguous(Cause::KeyReused) => Answer::Ambiguous(Cause::KeyReused),
                // Whatever is replayed, a server error too, was the answer to an earlier revocation: the key is taken.
                _ if reply.is_replay => Answer::Done(()),
                answer => answer,
            },
            Err(Fault::NotExecuted(cause)) => Answer::NotExecuted(cause),
            Err(Fault::Ambiguous(cause)) => Answer::Ambiguous(cause),
        }
    }

    /// Refunds the money of an order, or a part of it. `RefundedElsewhere`: less is left than was asked for, and
    /// [`PaymentClient::find_refunds`] says why.
    pub async fn refund(&self, request: &RefundRequest<'_>, deadline: Deadline) -> Answer<Receipt> {
        let expected = request.expected();
        let Some(units) = request.amount.provider_units() else {
            return Answer::NotExecuted(Cause::NotPayable);
        };
        let mut form = vec![
            ("payment_intent", request.payment_intent.to_owned()),
            ("amount", units.to_string()),
            ("metadata[order_id]", request.order_id.to_string()),
        ];
        if request.number > 1 {
            form.push(("metadata[refund_number]", request.number.to_string()));
        }
        let deadline = self.stack.bounded(deadline);
        let Posted { verdict, is_replay } = self
            .post(REFUNDS_PATH, request.key, form, &expected, None, deadline)
            .await;
        match verdict {
            Verdict::Answer(Answer::Declined(reason)) => Answer::Declined(DeclineReason { is_replay, ..reason }),
            Verdict::Answer(answer) => answer,
            Verdict::Pending { id } => self.read_pending(REFUNDS_PATH, &id, &expected, None, deadline).await,
            // By this refund or by others: the provider's list says.
            Verdict::AlreadyRefunded => Answer::Ambiguous(Cause::RefundedElsewhere),
        }
    }

    /// Waits in the line for a place at the provider: the charge of the oldest order goes first, behind all that ends what was
    /// begun (refunds, reads). There is no deadline: the caller may leave the line.
    pub async fn charge_place(&self, accepted_at: Timestamp) -> Result<Place, Cause> {
        self.stack
            .place(Turn::Since(accepted_at), Deadline::after(Duration::MAX))
            .await
    }

    /// Whether the charge of a new order would wait in the line for at most `wait_max`. Then it is counted there until this is
    /// dropped: by then it stands in it.
    pub fn expect_charge(&self, wait_max: Duration) -> Result<ExpectedCall, WaitsTooLong> {
        self.stack.expect(wait_max)
    }

    /// How long the breaker will refuse calls; `None` if one would pass now. Asked before an order is accepted
    /// that could not be charged.
    pub fn retry_after(&self) -> Option<Duration> {
        self.stack.breaker.retry_after()
    }

    /// Why the provider rejects our requests, if it does: a sentence. No order is to be accepted then, since none can be
    /// charged.
    pub fn rejects_us(&self) -> Option<String> {
        self.rejections.why()
    }

    /// Sends a request that moves money, and judges the answer.
    async fn post(
        &self,
        path: &str,
        key: &str,
        form: Vec<(&'static str, String)>,
        expected: &Expected,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Posted {
        let outgoing = match Outgoing::post(path, key, form) {
            Ok(outgoing) => outgoing,
            Err(cause) => return Posted::first(Verdict::Answer(Answer::NotExecuted(cause))),
        };
        let Exchange { result, in_doubt } = self.stack.call(&outgoing, place, deadline).await;
        let Posted { verdict, is_replay } = match result {
            Ok(reply) => Posted {
                verdict: judge(reply.status, &reply.body, expected),
                is_replay: reply.is_replay,
            },
            Err(Fault::NotExecuted(cause)) => Posted::first(Verdict::Answer(Answer::NotExecuted(cause))),
            Err(Fault::Ambiguous(cause)) => Posted::first(Verdict::Answer(Answer::Ambiguous(cause))),
        };
        let verdict = match (verdict, in_doubt) {
            // The second attempt was not executed, but the first may have been.
            (Verdict::Answer(Answer::NotExecuted(_) | Answer::Rejected(_)), Some(cause)) => {
                Verdict::Answer(Answer::Ambiguous(cause))
            }
            (verdict, _) => verdict,
        };
        Posted { verdict, is_replay }
    }

    /// What is replayed under a key says what happened once, and not what happened since: the charge is read whole before it
    /// counts.
    async fn read_whole(&self, request: &ChargeRequest<'_>, receipt: Receipt, deadline: Deadline) -> Answer<Receipt> {
        let Some(group) = request.transfer_group else {
            return Answer::Done(receipt);
        };
        match self.query_group(request, group, Timestamp::now(), deadline).await {
            Ok(Some(found)) => found,
            // The answer was definite, and a list may lag.
            Ok(None) => Answer::Done(receipt),
            Err(cause) => Answer::Ambiguous(cause),
        }
    }

    /// What became of an object that was pending. Only its own state counts: without an answer it is still in progress.
    async fn read_pending(
        &self,
        path: &str,
        id: &str,
        expected: &Expected,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Answer<Receipt> {
        let Ok(outgoing) = Outgoing::get(path, id) else {
            return Answer::InProgress;
        };
        let Ok(body) = self.read(&outgoing, place, deadline).await else {
            return Answer::InProgress;
        };
        match judge(200, &body, expected) {
            Verdict::Answer(answer) => answer,
            Verdict::Pending { .. } | Verdict::AlreadyRefunded => Answer::InProgress,
        }
    }
}
