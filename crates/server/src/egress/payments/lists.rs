//! What the provider has: single objects, its lists, and the queries of the saga. Nothing here moves money.

use super::answer::{Answer, Cause, Movement, PaymentIntent, ProviderRefund, Receipt};
use super::verdict::{Expected, Object, Page, Verdict, decline, judge_state};
use super::wire::{Fault, Outgoing, Reply};
use super::{CHARGES_PATH, ChargeRequest, PAYMENTS_PATH, PaymentClient, Place, REFUNDS_PATH};
use crate::resilience::Deadline;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use uuid::Uuid;
use waybill_domain::payment::Operation;

/// The most that Stripe gives in a page.
const PAGE_LEN: usize = 100;
/// A list that is looked through for one order ends here, even if the provider goes on.
const PAGES_MAX: usize = 1_000;
/// How far the provider's clock may be from ours when payments are queried by time.
const CLOCK_SKEW_MAX_SECS: i64 = 600;
const DAY_SECS: i64 = 24 * 3_600;

/// A span of the provider's time, in whole seconds as the provider counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From this second on.
    pub from: Timestamp,
    /// Until before this second; `None`: without an end.
    pub until: Option<Timestamp>,
}

impl PaymentClient {
    /// Reads one payment.
    pub async fn retrieve(&self, payment_intent: &str, deadline: Deadline) -> Result<PaymentIntent, Cause> {
        Ok(intent(self.object(PAYMENTS_PATH, payment_intent, deadline).await?))
    }

    /// Reads one refund.
    pub async fn retrieve_refund(&self, refund: &str, deadline: Deadline) -> Result<ProviderRefund, Cause> {
        Ok(refund_object(self.object(REFUNDS_PATH, refund, deadline).await?))
    }

    /// Every refund of this payment, the newest first, whatever became of it.
    pub async fn find_refunds(&self, payment_intent: &str, deadline: Deadline) -> Result<Vec<ProviderRefund>, Cause> {
        let objects = self
            .list(REFUNDS_PATH, of_payment(payment_intent), None, deadline)
            .await?;
        Ok(objects.into_iter().map(refund_object).collect())
    }

    /// Every payment of this order, the newest first, whatever became of it. By the group that it carries: one call, however
    /// large the account is. Without one: what carries the order, of all that was made in `sent`.
    pub async fn find_charges(
        &self,
        order_id: Uuid,
        transfer_group: Option<&str>,
        sent: Period,
        deadline: Deadline,
    ) -> Result<Vec<PaymentIntent>, Cause> {
        if let Some(group) = transfer_group {
            let filter = vec![("transfer_group", group.to_owned())];
            let charges = self.list(CHARGES_PATH, filter, None, deadline).await?;
            return Ok(charges.into_iter().map(payment_of_charge).collect());
        }
        let objects = self
            .list(PAYMENTS_PATH, with_skew(sent).filter(), None, deadline)
            .await?;
        let of_order = objects.into_iter().filter(|object| object.order_id() == Some(order_id));
        Ok(of_order.map(intent).collect())
    }

    /// Every payment of this time that succeeded, the newest first. `None` if there are more than `max`. Each call of the
    /// provider has its own time limit, and all of them together have none.
    pub async fn list_charges(&self, period: Period, max: usize) -> Result<Option<Vec<Movement>>, Cause> {
        self.list_movements(PAYMENTS_PATH, period, max).await
    }

    /// The same for refunds.
    pub async fn list_refunds(&self, period: Period, max: usize) -> Result<Option<Vec<Movement>>, Cause> {
        self.list_movements(REFUNDS_PATH, period, max).await
    }

    /// About when the first payment of the account was made: at most a day before it. `None` if none was made before
    /// `until`. A refund is never older than its payment.
    pub async fn oldest_payment(&self, until: Timestamp) -> Result<Option<Timestamp>, Cause> {
        let (mut none_before, mut some_before) = (0, until.as_second());
        if !self.has_payment_before(some_before).await? {
            return Ok(None);
        }
        while some_before - none_before > DAY_SECS {
            let middle = none_before.midpoint(some_before);
            if self.has_payment_before(middle).await? {
                some_before = middle;
            } else {
                none_before = middle;
            }
        }
        Ok(Timestamp::from_second(none_before).ok())
    }

    async fn has_payment_before(&self, second: i64) -> Result<bool, Cause> {
        let query = vec![("limit", "1".to_owned()), ("created[lt]", second.to_string())];
        Ok(!self.page(PAYMENTS_PATH, query, None, patient()).await?.data.is_empty())
    }

    async fn list_movements(&self, path: &str, period: Period, max: usize) -> Result<Option<Vec<Movement>>, Cause> {
        let (filter, mut movements) = (period.filter(), Vec::new());
        let all = self.read_pages(path, &filter, None, patient(), |objects| {
            movements.extend(objects.into_iter().filter_map(movement));
            movements.len() <= max
        });
        Ok(all.await?.then_some(movements))
    }

    /// Queries the provider for the charge of this order, which was first sent at `since`, when its key gives no answer any
    /// more. `None`: it is not there, which proves nothing.
    pub async fn query_charge(
        &self,
        request: &ChargeRequest<'_>,
        since: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        if let Some(group) = request.transfer_group {
            return self.query_group(request, group, since, deadline).await;
        }
        let _permit = self.queries.try_acquire().map_err(|_| Cause::BulkheadFull)?;
        let (filter, expected) = (made_since(since), request.expected());
        let answer = self
            .find(
                PAYMENTS_PATH,
                filter,
                request.order_id,
                &expected,
                request.place,
                deadline,
            )
            .await?;
        // A payment that was refunded by hand is still `succeeded`.
        if let Some(Answer::Done(receipt)) = &answer {
            let filter = of_payment(&receipt.provider_id);
            let refunds = self.list(REFUNDS_PATH, filter, request.place, deadline).await?;
            let is_refund = |refund: &Object| !matches!(refund.status(), "failed" | "canceled");
            if refunds.iter().any(is_refund) {
                return Ok(Some(Answer::Ambiguous(Cause::RefundedElsewhere)));
            }
        }
        Ok(answer)
    }

    /// Finds what was made for this order. If there are several, one that is done counts before one in progress, and that
    /// before one that was refused.
    async fn find(
        &self,
        path: &str,
        filter: Vec<(&'static str, String)>,
        order_id: Uuid,
        expected: &Expected,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        let objects = self.list(path, filter, place, deadline).await?;
        let ours = objects.into_iter().filter(|object| object.order_id() == Some(order_id));
        let answers = ours.map(|object| judge_listed(object, expected));
        Ok(answers.min_by_key(|answer| match answer {
            Answer::Done(_) => 0,
            Answer::InProgress | Answer::NotExecuted(_) | Answer::Rejected(_) => 1,
            Answer::Ambiguous(_) => 2,
            Answer::Declined(_) | Answer::Failed { .. } => 3,
        }))
    }

    /// Reads the object with this id.
    async fn object(&self, path: &str, id: &str, deadline: Deadline) -> Result<Object, Cause> {
        let outgoing = Outgoing::get(path, id)?;
        let body = self.read(&outgoing, None, self.stack.bounded(deadline)).await?;
        serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)
    }

    /// The part of a list that the filter names.
    async fn list(
        &self,
        path: &str,
        filter: Vec<(&'static str, String)>,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Result<Vec<Object>, Cause> {
        let (mut objects, mut pages) = (Vec::new(), 0);
        let all = self.read_pages(path, &filter, place, deadline, |page| {
            pages += 1;
            objects.extend(page);
            pages < PAGES_MAX
        });
        if all.await? {
            Ok(objects)
        } else {
            Err(Cause::ListTooLong)
        }
    }

    /// Gives each page of a list to `take`, until it does not want another one: then `false`, unless it was the last.
    async fn read_pages(
        &self,
        path: &str,
        filter: &[(&'static str, String)],
        place: Option<&Place>,
        deadline: Deadline,
        mut take: impl FnMut(Vec<Object>) -> bool,
    ) -> Result<bool, Cause> {
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("limit", PAGE_LEN.to_string())];
            query.extend(filter.iter().cloned());
            query.extend(after.map(|last| ("starting_after", last)));
            let page = self.page(path, query, place, deadline).await?;
            after = page.data.last().map(|last| last.id.clone());
            // An empty page with more after it would be read again for ever.
            let is_last = !page.has_more || after.is_none();
            let wants_more = take(page.data);
            if is_last || !wants_more {
                return Ok(is_last);
            }
        }
    }

    /// A page has the time of one call; the whole list has the time of its caller.
    async fn page(
        &self,
        path: &str,
        query: Vec<(&'static str, String)>,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Result<Page, Cause> {
        let outgoing = Outgoing::list(path, query);
        let body = self.read(&outgoing, place, self.stack.bounded(deadline)).await?;
        serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)
    }

    /// Sends a request that moves no money. Returns the body of a success, or why there is none.
    pub(super) async fn read(
        &self,
        outgoing: &Outgoing,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Result<Vec<u8>, Cause> {
        match self.stack.call(outgoing, place, deadline).await.result {
            Ok(Reply {
                status: 200..=299,
                body,
                ..
            }) => Ok(body),
            Ok(Reply { status: 429, .. }) => Err(Cause::Throttled),
            Ok(Reply { status: 401 | 403, .. }) => Err(Cause::Unauthorized),
            Ok(Reply { status, .. }) => Err(Cause::Status(status)),
            Err(Fault::NotExecuted(cause) | Fault::Ambiguous(cause)) => Err(cause),
        }
    }
}

pub(super) fn intent(object: Object) -> PaymentIntent {
    PaymentIntent {
        order_id: object.order_id(),
        amount_minor: object.amount_minor(),
        moved_minor: object.moved_minor(),
        currency: object.currency(),
        provider_id: object.id,
        status: object.status.unwrap_or_default(),
    }
}

pub(super) fn refund_object(object: Object) -> ProviderRefund {
    ProviderRefund {
        order_id: object.order_id(),
        number: object.refund_number(),
        amount_minor: object.amount_minor(),
        currency: object.currency(),
        provider_id: object.id,
        status: object.status.unwrap_or_default(),
        payment_intent: object.payment_intent,
    }
}

/// What an object in a list means. A payment that wants another payment method was declined: it was confirmed as it was
/// made, and no one confirms it again.
pub(super) fn judge_listed(object: Object, expected: &Expected) -> Answer<Receipt> {
    if expected.operation == Operation::Charge && object.status() == "requires_payment_method" {
        return Answer::Declined(decline("card_declined"));
    }
    match judge_state(object, expected) {
        Verdict::Answer(answer) => answer,
        Verdict::Pending { .. } | Verdict::AlreadyRefunded => Answer::InProgress,
    }
}

/// The part of a list that is about this payment.
fn of_payment(payment_intent: &str) -> Vec<(&'static str, String)> {
    vec![("payment_intent", payment_intent.to_owned())]
}

/// The part of a list that was made at this time or later. The provider's clock need not be ours.
fn made_since(since: Timestamp) -> Vec<(&'static str, String)> {
    with_skew(Period {
        from: since,
        until: None,
    })
    .filter()
}

/// The span of the provider's clock in which this span of ours is.
fn with_skew(period: Period) -> Period {
    let skew = SignedDuration::from_secs(CLOCK_SKEW_MAX_SECS);
    Period {
        from: period.from - skew,
        until: period.until.map(|until| until + skew),
    }
}

/// A list has as much time as it takes, and each of its pages that of a call.
fn patient() -> Deadline {
    Deadline::after(Duration::MAX)
}

impl Period {
    /// As <https://docs.stripe.com/api/payment_intents/list> and <https://docs.stripe.com/api/refunds/list> have it: `gte` is
    /// inclusive, and `lt` is exclusive.
    fn filter(self) -> Vec<(&'static str, String)> {
        let from = ("created[gte]", self.from.as_second().to_string());
        let until = self.until.map(|until| ("created[lt]", until.as_second().to_string()));
        [from].into_iter().chain(until).collect()
    }
}

/// The payment whose charge this is. Its state is that of the charge.
pub(super) fn payment_of_charge(mut charge: Object) -> PaymentIntent {
    if let Some(payment) = charge.payment_intent.take() {
        charge.id = payment;
    }
    intent(charge)
}

/// The money that moved, if it did.
pub(super) fn movement(object: Object) -> Option<Movement> {
    (object.status() == "succeeded").then(|| Movement {
        order_id: object.order_id(),
        amount_minor: object.moved_minor(),
        currency: object.currency(),
        provider_id: object.id,
    })
}
