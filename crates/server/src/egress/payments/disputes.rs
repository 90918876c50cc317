//! The disputes of a payment: the customer's bank takes the money back, until it is decided whose it is
//! (<https://docs.stripe.com/api/disputes/list>).

use jiff::Timestamp;
use serde::Deserialize;
use waybill_domain::money::Money;

use super::answer::{Cause, ProviderDispute};
use super::provider_id;
use super::wire::Outgoing;
use super::{DISPUTES_PATH, PaymentClient};
use crate::json::ObjectOnly;
use crate::resilience::Deadline;

/// A payment has one dispute, seldom two.
const DISPUTES_MAX: &str = "100";
/// The longest word of the provider that is kept.
const WORD_LENGTH_MAX: usize = 64;

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Dispute>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

#[derive(Debug, Deserialize)]
struct Dispute {
    #[serde(deserialize_with = "provider_id::read")]
    id: String,
    status: String,
    reason: String,
    /// In the provider's unit.
    amount: i64,
    currency: String,
    /// Seconds since the Unix epoch.
    created: i64,
    #[serde(flatten)]
    _others: ObjectOnly,
}

impl PaymentClient {
    /// Every dispute of this payment, however it stands.
    pub async fn find_disputes(&self, payment_intent: &str, deadline: Deadline) -> Result<Vec<ProviderDispute>, Cause> {
        let query = vec![
            ("limit", DISPUTES_MAX.to_owned()),
            ("payment_intent", payment_intent.to_owned()),
        ];
        let outgoing = Outgoing::list(DISPUTES_PATH, query);
        let body = self.read(&outgoing, None, self.stack.bounded(deadline)).await?;
        read_disputes(&body)
    }
}

pub(super) fn read_disputes(body: &[u8]) -> Result<Vec<ProviderDispute>, Cause> {
    let page: Page = serde_json::from_slice(body).map_err(|_| Cause::Unreadable)?;
    page.data.into_iter().map(dispute).collect()
}

fn dispute(dispute: Dispute) -> Result<ProviderDispute, Cause> {
    let currency = dispute
        .currency
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| Cause::Mismatch)?;
    let amount = Money::from_provider(currency, dispute.amount).ok_or(Cause::Mismatch)?;
    Ok(ProviderDispute {
        provider_id: dispute.id,
        status: word(&dispute.status),
        reason: word(&dispute.reason),
        amount_minor: amount.minor_units(),
        opened_at: Timestamp::from_second(dispute.created).map_err(|_| Cause::Unreadable)?,
    })
}

/// The provider's word as far as it is one: it goes to the step log and to terminals.
fn word(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.len() <= WORD_LENGTH_MAX && text.chars().all(is_word) {
        text.to_owned()
    } else {
        "unrecognized".to_owned()
    }
}
