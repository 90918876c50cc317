//! The payment provider: charge, refund, and read its lists.
//!
//! Speaks the subset of Stripe's HTTP API that an order needs, to Stripe and to the sandbox's simulator alike. What an
//! answer means is decided in `verdict` (pure); how the provider is kept from hurting us, and we from hurting it, in
//! `stack`; HTTP is in `wire`. A call never returns an error: it returns an [`Answer`], whose five kinds are the five
//! things that the saga can do next. Whether and when a key is sent again after this call is the saga's decision;
//! within the call it is sent at most as often as the retry policy says, always the same.

mod answer;
mod counters;
mod settings;
mod stack;
mod verdict;
mod wire;

pub use answer::{Answer, Cause, DeclineReason, Movement, PaymentIntent, ProviderRefund, Receipt};
pub use counters::Snapshot;
pub use settings::{PaymentSettings, SettingsError};

use crate::resilience::{BreakerState, Deadline};
use counters::Counters;
use jiff::Timestamp;
use stack::{Exchange, Stack};
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;
use verdict::{Expected, Object, Page, Verdict, judge, judge_state};
use waybill_domain::payment::Operation;
use wire::{Fault, Outgoing, Reply};

const PAYMENTS_PATH: &str = "/v1/payment_intents";
const REFUNDS_PATH: &str = "/v1/refunds";
/// The most that Stripe gives in a page.
const PAGE_LEN: usize = 100;
/// A list ends here even if the provider goes on: a million entries are more than an audit can hold.
const PAGES_MAX: usize = 10_000;
/// So many sagas at a time query the provider's lists; the others do without until their next try.
const QUERIES_MAX: usize = 2;
/// How far the provider's clock may be from ours when payments are queried by time.
const CLOCK_SKEW_MAX_SECS: i64 = 600;

/// A charge. The key is derived from the order, so that every try of it is the same request.
#[derive(Debug, Clone, Copy)]
pub struct ChargeRequest<'a> {
    /// The idempotency key, at most 255 visible characters.
    pub key: &'a str,
    /// Goes into the metadata, where the audit finds it.
    pub order_id: Uuid,
    /// In minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217 code, in either case.
    pub currency: &'a str,
    /// The provider's id of the customer's payment method (`pm_...`).
    pub payment_method: &'a str,
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
    /// In minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217 code of the payment, in either case; compared, not sent.
    pub currency: &'a str,
}

/// The client of the provider. One a process: its guards are shared by all calls.
#[derive(Debug)]
pub struct PaymentClient {
    stack: Stack,
    counters: Counters,
    /// Queries of the lists: pages and pages, which must not keep charges from being made.
    queries: Semaphore,
}

impl PaymentClient {
    /// A client; no connection is made yet.
    pub fn new(settings: &PaymentSettings) -> Result<Self, SettingsError> {
        Ok(PaymentClient {
            stack: Stack::new(settings)?,
            counters: Counters::default(),
            queries: Semaphore::new(QUERIES_MAX),
        })
    }

    /// Takes the money of an order.
    pub async fn charge(&self, request: &ChargeRequest<'_>, deadline: Deadline) -> Answer<Receipt> {
        let expected = Expected {
            operation: Operation::Charge,
            amount_minor: request.amount_minor,
            currency: request.currency,
        };
        let form = vec![
            ("amount", request.amount_minor.to_string()),
            ("currency", request.currency.to_ascii_lowercase()),
            ("payment_method", request.payment_method.to_owned()),
            ("confirm", "true".to_owned()),
            ("automatic_payment_methods[enabled]", "true".to_owned()),
            // There is no browser to confirm in: a payment that needs one is declined now and not left open for ever.
            ("automatic_payment_methods[allow_redirects]", "never".to_owned()),
            ("error_on_requires_action", "true".to_owned()),
            ("metadata[order_id]", request.order_id.to_string()),
        ];
        let deadline = self.stack.bounded(deadline);
        let answer = match self.post(PAYMENTS_PATH, request.key, form, &expected, deadline).await {
            Verdict::Answer(answer) => answer,
            Verdict::Pending { id } => self.read_pending(PAYMENTS_PATH, &id, &expected, deadline).await,
            Verdict::AlreadyRefunded => Answer::Ambiguous(Cause::Unreadable),
        };
        self.counters.count(&answer);
        answer
    }

    /// Refunds the money of an order.
    pub async fn refund(&self, request: &RefundRequest<'_>, deadline: Deadline) -> Answer<Receipt> {
        let expected = Expected {
            operation: Operation::Refund,
            amount_minor: request.amount_minor,
            currency: request.currency,
        };
        let form = vec![
            ("payment_intent", request.payment_intent.to_owned()),
            ("amount", request.amount_minor.to_string()),
            ("metadata[order_id]", request.order_id.to_string()),
        ];
        let deadline = self.stack.bounded(deadline);
        let answer = match self.post(REFUNDS_PATH, request.key, form, &expected, deadline).await {
            Verdict::Answer(answer) => answer,
            Verdict::Pending { id } => self.read_pending(REFUNDS_PATH, &id, &expected, deadline).await,
            // A refund that was made by hand is not ours: that the customer has the money is likely, and not for us to
            // decide.
            Verdict::AlreadyRefunded => match self.query_refund(request, deadline).await {
                Ok(Some(answer @ (Answer::Done(_) | Answer::InProgress))) => answer,
                Ok(_) => Answer::Ambiguous(Cause::RefundedElsewhere),
                Err(cause) => Answer::Ambiguous(cause),
            },
        };
        self.counters.count(&answer);
        answer
    }

    /// Reads one payment.
    pub async fn retrieve(&self, payment_intent: &str, deadline: Deadline) -> Result<PaymentIntent, Cause> {
        let outgoing = Outgoing::get(PAYMENTS_PATH, payment_intent)?;
        let body = self.read(&outgoing, self.stack.bounded(deadline)).await?;
        let object: Object = serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)?;
        Ok(intent(object))
    }

    /// Reads one refund.
    pub async fn retrieve_refund(&self, refund: &str, deadline: Deadline) -> Result<ProviderRefund, Cause> {
        let outgoing = Outgoing::get(REFUNDS_PATH, refund)?;
        let body = self.read(&outgoing, self.stack.bounded(deadline)).await?;
        let object: Object = serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)?;
        Ok(refund_object(object))
    }

    /// Every refund of this payment, the newest first, whatever became of it.
    pub async fn find_refunds(&self, payment_intent: &str, deadline: Deadline) -> Result<Vec<ProviderRefund>, Cause> {
        let objects = self.list(REFUNDS_PATH, of_payment(payment_intent), deadline).await?;
        Ok(objects.into_iter().map(refund_object).collect())
    }

    /// Every payment that carries this order, the newest first, whatever became of it. Reads the list since `since`.
    pub async fn find_charges(
        &self,
        order_id: Uuid,
        since: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<PaymentIntent>, Cause> {
        let objects = self.list(PAYMENTS_PATH, made_since(since), deadline).await?;
        let of_order = objects.into_iter().filter(|object| object.order_id() == Some(order_id));
        Ok(of_order.map(intent).collect())
    }

    /// Every payment that succeeded, the newest first.
    pub async fn list_charges(&self, deadline: Deadline) -> Result<Vec<Movement>, Cause> {
        Ok(movements(self.list(PAYMENTS_PATH, vec![], deadline).await?))
    }

    /// Every refund that succeeded, the newest first.
    pub async fn list_refunds(&self, deadline: Deadline) -> Result<Vec<Movement>, Cause> {
        Ok(movements(self.list(REFUNDS_PATH, vec![], deadline).await?))
    }

    /// Queries the provider's payments since `since` for the charge of this order, for when its key gives no answer any
    /// more. `None`: it is not there, which proves nothing.
    pub async fn query_charge(
        &self,
        request: &ChargeRequest<'_>,
        since: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        let expected = Expected {
            operation: Operation::Charge,
            amount_minor: request.amount_minor,
            currency: request.currency,
        };
        let Ok(_permit) = self.queries.try_acquire() else {
            return Err(Cause::BulkheadFull);
        };
        let filter = made_since(since);
        let found = self
            .find(PAYMENTS_PATH, filter, request.order_id, &expected, deadline)
            .await?;
        // Its own state is `succeeded` also after it was refunded by hand.
        if let Some(Answer::Done(receipt)) = &found {
            let refunds = self
                .list(REFUNDS_PATH, of_payment(&receipt.provider_id), deadline)
                .await?;
            if refunds
                .iter()
                .any(|refund| !matches!(refund.status(), "failed" | "canceled"))
            {
                return Ok(Some(Answer::Ambiguous(Cause::RefundedElsewhere)));
            }
        }
        Ok(found)
    }

    /// Queries the refunds of the payment for the refund of this order. `None`: it is not there, which proves nothing.
    pub async fn query_refund(
        &self,
        request: &RefundRequest<'_>,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        let expected = Expected {
            operation: Operation::Refund,
            amount_minor: request.amount_minor,
            currency: request.currency,
        };
        let Ok(_permit) = self.queries.try_acquire() else {
            return Err(Cause::BulkheadFull);
        };
        let filter = of_payment(request.payment_intent);
        self.find(REFUNDS_PATH, filter, request.order_id, &expected, deadline)
            .await
    }

    /// How long the breaker will refuse calls; `None` if one would pass now. Asked before an order is accepted
    /// that could not be charged.
    pub fn retry_after(&self) -> Option<Duration> {
        self.stack.breaker.retry_after()
    }

    /// Whether the breaker lets calls pass.
    pub fn breaker_state(&self) -> BreakerState {
        self.stack.breaker.state()
    }

    /// What happened so far.
    pub fn snapshot(&self) -> Snapshot {
        self.counters.snapshot(&self.stack)
    }

    async fn post(
        &self,
        path: &str,
        key: &str,
        form: Vec<(&'static str, String)>,
        expected: &Expected<'_>,
        deadline: Deadline,
    ) -> Verdict {
        self.counters.begin();
        let outgoing = match Outgoing::post(path, key, form) {
            Ok(outgoing) => outgoing,
            Err(cause) => return Verdict::Answer(Answer::NotExecuted(cause)),
        };
        let Exchange { result, in_doubt } = self.stack.call(&outgoing, deadline).await;
        let verdict = match result {
            Ok(Reply { status, body }) => judge(status, &body, expected),
            Err(Fault::NotExecuted(cause)) => Verdict::Answer(Answer::NotExecuted(cause)),
            Err(Fault::Ambiguous(cause)) => Verdict::Answer(Answer::Ambiguous(cause)),
        };
        match (verdict, in_doubt) {
            // That the second attempt was not executed says nothing about the first.
            (Verdict::Answer(Answer::NotExecuted(_)), Some(cause)) => Verdict::Answer(Answer::Ambiguous(cause)),
            (verdict, _) => verdict,
        }
    }

    /// What became of an object that was pending. Only its own state counts; no answer changes nothing.
    async fn read_pending(&self, path: &str, id: &str, expected: &Expected<'_>, deadline: Deadline) -> Answer<Receipt> {
        let Ok(outgoing) = Outgoing::get(path, id) else {
            return Answer::InProgress;
        };
        let Ok(body) = self.read(&outgoing, deadline).await else {
            return Answer::InProgress;
        };
        match judge(200, &body, expected) {
            Verdict::Answer(answer) => answer,
            Verdict::Pending { .. } | Verdict::AlreadyRefunded => Answer::InProgress,
        }
    }

    /// Finds what was made for this order. If there are several, one that is done counts before one in progress, and that
    /// before one that was refused.
    async fn find(
        &self,
        path: &str,
        filter: Vec<(&'static str, String)>,
        order_id: Uuid,
        expected: &Expected<'_>,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        let objects = self.list(path, filter, deadline).await?;
        let ours = objects.into_iter().filter(|object| object.order_id() == Some(order_id));
        let answers = ours.map(judge_listed(expected));
        Ok(answers.min_by_key(|answer| match answer {
            Answer::Done(_) => 0,
            Answer::InProgress | Answer::NotExecuted(_) => 1,
            Answer::Ambiguous(_) => 2,
            Answer::Declined(_) => 3,
        }))
    }

    /// Pages through a list, or the part of it that the filter names.
    async fn list(
        &self,
        path: &str,
        filter: Vec<(&'static str, String)>,
        deadline: Deadline,
    ) -> Result<Vec<Object>, Cause> {
        let mut objects: Vec<Object> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("limit", PAGE_LEN.to_string())];
            query.extend(filter.iter().cloned());
            query.extend(objects.last().map(|last| ("starting_after", last.id.clone())));
            // A page at a time has the time of a call; the whole list has that of its caller.
            let body = self
                .read(&Outgoing::list(path, query), self.stack.bounded(deadline))
                .await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)?;
            // An empty page with more behind it would be asked for again for ever.
            let is_last = !page.has_more || page.data.is_empty();
            objects.extend(page.data);
            if is_last {
                return Ok(objects);
            }
        }
        Err(Cause::Unreadable)
    }

    /// A request that moves nothing: the body of its success, or why there is none.
    async fn read(&self, outgoing: &Outgoing, deadline: Deadline) -> Result<Vec<u8>, Cause> {
        self.counters.begin_read();
        match self.stack.call(outgoing, deadline).await.result {
            Ok(Reply {
                status: 200..=299,
                body,
            }) => Ok(body),
            Ok(Reply { status: 429, .. }) => Err(Cause::Throttled),
            Ok(Reply { status: 401 | 403, .. }) => Err(Cause::Unauthorized),
            Ok(Reply { status, .. }) => Err(Cause::Status(status)),
            Err(Fault::NotExecuted(cause) | Fault::Ambiguous(cause)) => Err(cause),
        }
    }
}

fn intent(object: Object) -> PaymentIntent {
    PaymentIntent {
        order_id: object.order_id(),
        provider_id: object.id,
        status: object.status.unwrap_or_default(),
        amount_minor: object.amount,
        currency: object.currency.to_ascii_uppercase(),
    }
}

fn refund_object(object: Object) -> ProviderRefund {
    ProviderRefund {
        order_id: object.order_id(),
        provider_id: object.id,
        status: object.status.unwrap_or_default(),
        amount_minor: object.amount,
        currency: object.currency.to_ascii_uppercase(),
        payment_intent: object.payment_intent,
    }
}

/// What an object in a list means. A payment that wants another payment method was declined: it was confirmed as it was
/// made, and no one confirms it again.
fn judge_listed<'a>(expected: &'a Expected<'a>) -> impl Fn(Object) -> Answer<Receipt> + 'a {
    |object| {
        if expected.operation == Operation::Charge && object.status() == "requires_payment_method" {
            return Answer::Declined(verdict::decline("card_declined"));
        }
        match judge_state(object, expected) {
            Verdict::Answer(answer) => answer,
            Verdict::Pending { .. } | Verdict::AlreadyRefunded => Answer::InProgress,
        }
    }
}

/// The part of a list that is about this payment.
fn of_payment(payment_intent: &str) -> Vec<(&'static str, String)> {
    vec![("payment_intent", payment_intent.to_owned())]
}

/// The part of a list that was made at this time or later. The provider's clock need not be ours.
fn made_since(since: Timestamp) -> Vec<(&'static str, String)> {
    vec![("created[gte]", (since.as_second() - CLOCK_SKEW_MAX_SECS).to_string())]
}

fn movements(objects: Vec<Object>) -> Vec<Movement> {
    let succeeded = objects.into_iter().filter(|object| object.status() == "succeeded");
    let movement = |object: Object| Movement {
        order_id: object.order_id(),
        provider_id: object.id,
        amount_minor: object.amount,
        currency: object.currency.to_ascii_uppercase(),
    };
    succeeded.map(movement).collect()
}
