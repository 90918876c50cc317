//! The charge of an order as the provider has it, whole: what was taken, given back and disputed. One call finds it, by
//! the group that it carries, however many payments the account has (<https://docs.stripe.com/api/charges/list>).

use jiff::Timestamp;
use serde::Deserialize;
use waybill_domain::money::Money;

use super::answer::{Answer, Cause, Receipt};
use super::provider_id;
use super::verdict::decline;
use super::wire::Outgoing;
use super::{CHARGES_PATH, ChargeRequest, PAYMENTS_PATH, PaymentClient};
use crate::json::ObjectOnly;
use crate::resilience::Deadline;

/// A group has the charge of one request, and what was declined of it.
const CHARGES_MAX: &str = "100";
/// How long before its own first send an order's charge may have been made: for the same request, whose order was lost.
/// For so long the provider keeps its own key, under which that charge is met.
const MADE_BEFORE_MAX_SECS: i64 = 24 * 3600;

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Charge>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

#[derive(Debug, Deserialize)]
struct Intent {
    status: String,
    #[serde(flatten)]
    _others: ObjectOnly,
}

/// An attempt on a card, with the fields that decide something.
#[derive(Debug, Deserialize)]
struct Charge {
    #[serde(default, deserialize_with = "provider_id::read_if_any")]
    payment_intent: Option<String>,
    status: String,
    /// In the provider's unit, as the one below.
    amount: i64,
    #[serde(default)]
    amount_refunded: i64,
    currency: String,
    #[serde(default)]
    disputed: bool,
    failure_code: Option<String>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

impl PaymentClient {
    /// Finds the charge of this group. `None`: it is not there.
    pub(super) async fn query_group(
        &self,
        request: &ChargeRequest<'_>,
        group: &str,
        since: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<Answer<Receipt>>, Cause> {
        let since = since.as_second() - MADE_BEFORE_MAX_SECS;
        let query = vec![
            ("limit", CHARGES_MAX.to_owned()),
            ("transfer_group", group.to_owned()),
            ("created[gte]", since.to_string()),
        ];
        let outgoing = Outgoing::list(CHARGES_PATH, query);
        let deadline = self.stack.bounded(deadline);
        let body = self.read(&outgoing, request.place, deadline).await?;
        match read_group(&body, request.amount)? {
            Some(Answer::Done(receipt)) if request.is_held => {
                self.query_held(request, receipt, deadline).await.map(Some)
            }
            answer => Ok(answer),
        }
    }

    /// A charge that was held stays `succeeded` when its hold is voided or expires; only the payment says that it is gone
    /// (<https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow>).
    async fn query_held(
        &self,
        request: &ChargeRequest<'_>,
        receipt: Receipt,
        deadline: Deadline,
    ) -> Result<Answer<Receipt>, Cause> {
        let outgoing = Outgoing::get(PAYMENTS_PATH, &receipt.provider_id)?;
        let body = self.read(&outgoing, request.place, deadline).await?;
        let intent: Intent = serde_json::from_slice(&body).map_err(|_| Cause::Unreadable)?;
        Ok(match intent.status.as_str() {
            "canceled" => Answer::Declined(decline("hold_canceled")),
            _ => Answer::Done(receipt),
        })
    }
}

/// The same, of the page that the provider answered with.
pub(super) fn read_group(body: &[u8], amount: Money) -> Result<Option<Answer<Receipt>>, Cause> {
    let page: Page = serde_json::from_slice(body).map_err(|_| Cause::Unreadable)?;
    Ok(judge_group(page.data, amount))
}

/// What the charges of one order mean. One that was made counts before one in progress, and that before one that was
/// refused.
fn judge_group(charges: Vec<Charge>, amount: Money) -> Option<Answer<Receipt>> {
    let answers = charges.into_iter().map(|charge| judge_charge(charge, amount));
    answers.min_by_key(|answer| match answer {
        Answer::Done(_) | Answer::Ambiguous(_) => 0,
        Answer::InProgress | Answer::NotExecuted(_) | Answer::Rejected(_) => 1,
        Answer::Declined(_) | Answer::Failed { .. } => 2,
    })
}

fn judge_charge(charge: Charge, amount: Money) -> Answer<Receipt> {
    match (charge.status.as_str(), charge.payment_intent) {
        ("failed", _) => Answer::Declined(decline(charge.failure_code.as_deref().unwrap_or("card_declined"))),
        ("pending", _) => Answer::InProgress,
        ("succeeded", Some(provider_id)) => {
            let currency = charge.currency.to_ascii_uppercase().parse().ok();
            if currency.and_then(|currency| Money::from_provider(currency, charge.amount)) != Some(amount) {
                Answer::Ambiguous(Cause::Mismatch)
            } else if charge.amount_refunded != 0 {
                Answer::Ambiguous(Cause::RefundedElsewhere)
            } else if charge.disputed {
                Answer::Ambiguous(Cause::Disputed)
            } else {
                Answer::Done(Receipt { provider_id, amount })
            }
        }
        _ => Answer::Ambiguous(Cause::Unfinished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(status: &str) -> Charge {
        Charge {
            payment_intent: Some("pi_1".to_owned()),
            status: status.to_owned(),
            amount: 1999,
            amount_refunded: 0,
            currency: "usd".to_owned(),
            disputed: false,
            failure_code: None,
            _others: ObjectOnly::default(),
        }
    }

    fn meaning(charges: Vec<Charge>) -> Option<Answer<Receipt>> {
        judge_group(charges, Money::new("USD".parse().unwrap(), 1999).unwrap())
    }

    #[test]
    fn a_charge_counts_as_made_only_if_all_of_it_is_still_there() {
        assert!(matches!(meaning(vec![charge("succeeded")]), Some(Answer::Done(_))));
        let change = |cause, change: fn(&mut Charge)| {
            let mut other = charge("succeeded");
            change(&mut other);
            assert_eq!(meaning(vec![other]), Some(Answer::Ambiguous(cause)));
        };
        change(Cause::RefundedElsewhere, |charge| charge.amount_refunded = 1);
        change(Cause::Disputed, |charge| charge.disputed = true);
        change(Cause::Mismatch, |charge| charge.amount = 2000);
        change(Cause::Unfinished, |charge| charge.payment_intent = None);
        assert_eq!(meaning(vec![charge("pending")]), Some(Answer::InProgress));
        assert_eq!(
            meaning(vec![charge("of tomorrow")]),
            Some(Answer::Ambiguous(Cause::Unfinished))
        );
        assert_eq!(meaning(vec![]), None);
    }

    #[test]
    fn what_was_made_counts_before_what_was_refused() {
        let group = vec![charge("failed"), charge("succeeded"), charge("failed")];
        assert!(matches!(meaning(group), Some(Answer::Done(_))));
        assert!(matches!(meaning(vec![charge("failed")]), Some(Answer::Declined(_))));
    }
}
