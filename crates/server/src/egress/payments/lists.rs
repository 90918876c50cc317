//! What the provider has: single objects, its lists, and the queries of the saga. Nothing here moves money.

use super::answer::{Answer, Cause, Movement, PaymentIntent, ProviderRefund, Receipt};
use super::verdict::{Expected, Object, Page, Verdict, decline, judge_state};
use super::wire::{Fault, Outgoing, Reply};
use super::{ChargeRequest, PAYMENTS_PATH, PaymentClient, Place, REFUNDS_PATH};
use crate::resilience::Deadline;
use jiff::Timestamp;
use uuid::Uuid;
use waybill_domain::payment::Operation;

/// The most that Stripe gives in a page.
const PAGE_LEN: usize = 100;
/// A list ends here even if the provider goes on: a million entries are more than an audit can hold.
const PAGES_MAX: usize = 10_000;
/// How far the provider's clock may be from ours when payments are queried by time.
const CLOCK_SKEW_MAX_SECS: i64 = 600;

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

    /// Every payment that carries this order, the newest first, whatever became of it. Reads the list since `since`.
    pub async fn find_charges(
        &self,
        order_id: Uuid,
        since: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<PaymentIntent>, Cause> {
        let objects = self.list(PAYMENTS_PATH, made_since(since), None, deadline).await?;
        let of_order = objects.into_iter().filter(|object| object.order_id() == Some(order_id));
        Ok(of_order.map(intent).collect())
    }

    /// Every payment that succeeded, the newest first.
    pub async fn list_charges(&self, deadline: Deadline) -> Result<Vec<Movement>, Cause> {
        Ok(movements(self.list(PAYMENTS_PATH, vec![], None, deadline).await?))
    }

    /// Every refund that succeeded, the newest first.
    pub async fn list_refunds(&self, deadline: Deadline) -> Result<Vec<Movement>, Cause> {
        Ok(movements(self.list(REFUNDS_PATH, vec![], None, deadline).await?))
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

    /// Pages through a list, or the part of it that the filter names.
    async fn list(
        &self,
        path: &str,
        filter: Vec<(&'static str, String)>,
        place: Option<&Place>,
        deadline: Deadline,
    ) -> Result<Vec<Object>, Cause> {
        let mut objects: Vec<Object> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("limit", PAGE_LEN.to_string())];
            query.extend(filter.iter().cloned());
            query.extend(objects.last().map(|last| ("starting_after", last.id.clone())));
            // Each page has the time of one call; the whole list has the time of its caller.
            let deadline = self.stack.bounded(deadline);
            let body = self.read(&Outgoing::list(path, query), place, deadline).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)?;
            // An empty page with more after it would be read again for ever.
            let is_last = !page.has_more || page.data.is_empty();
            objects.extend(page.data);
            if is_last {
                return Ok(objects);
            }
        }
        Err(Cause::Unreadable)
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

fn intent(object: Object) -> PaymentIntent {
    PaymentIntent {
        order_id: object.order_id(),
        amount_minor: object.amount_minor(),
        currency: object.currency(),
        provider_id: object.id,
        status: object.status.unwrap_or_default(),
    }
}

fn refund_object(object: Object) -> ProviderRefund {
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
fn judge_listed(object: Object, expected: &Expected) -> Answer<Receipt> {
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
    vec![("created[gte]", (since.as_second() - CLOCK_SKEW_MAX_SECS).to_string())]
}

fn movements(objects: Vec<Object>) -> Vec<Movement> {
    let succeeded = objects.into_iter().filter(|object| object.status() == "succeeded");
    let movement = |object: Object| Movement {
        order_id: object.order_id(),
        amount_minor: object.moved_minor(),
        currency: object.currency(),
        provider_id: object.id,
    };
    succeeded.map(movement).collect()
}
