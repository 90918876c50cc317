//! What the payment provider can answer, in the saga's terms.

use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waybill_domain::money::Money;

/// The end of one try to move money. The seven are distinct because each is followed by something else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an ignored answer of the provider is money that is in no ledger"]
pub enum Answer<T> {
    /// It is done, once, and with the amount and the currency that were asked for.
    Done(T),
    /// It was refused for good: this key will never move money. An answer, not an error.
    Declined(DeclineReason),
    /// It was made and failed for good: the money is back on our own account. This key will never move money.
    Failed {
        /// The provider's id of what failed.
        provider_id: String,
        /// Why.
        reason: DeclineReason,
    },
    /// The provider refused the request for a reason that is not this payment's: a setting of ours, or of the account.
    /// Nothing was done. An operator should look; the same key will be accepted once that is corrected.
    Rejected(DeclineReason),
    /// It was not done: nothing left the process, or the provider refused to begin. Try later, same key.
    NotExecuted(Cause),
    /// The provider is working on it. Try again in a second, same key.
    InProgress,
    /// It may have been done. Never "failed": send the same key again until the answer is definite.
    Ambiguous(Cause),
}

/// A movement of money that the provider confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's id of the payment (`pi_...`) or of the refund (`re_...`).
    pub provider_id: String,
    /// As we asked, and as the provider wrote it in its own unit.
    pub amount: Money,
}

/// Why the provider refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclineReason {
    /// The provider's code, `[a-z0-9_]`, at most 64 characters: for the step log and for metrics. Not for the
    /// customer: whoever holds the card must not learn `stolen_card`.
    pub code: String,
    /// Our own sentence for the customer, never the provider's text.
    pub message: &'static str,
    /// Whether the provider repeats what it answered to an earlier request with the key: it will say so for as long as it
    /// keeps the key, whatever changed since (<https://docs.stripe.com/api/idempotent_requests>).
    pub is_replay: bool,
}

/// Why there is no definite answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The order was paid into an account that is not in the configuration any more.
    #[error("the payment account of the order is not in the configuration (payments.accounts)")]
    NoAccount,
    /// The deadline passed before anything was sent.
    #[error("the deadline passed before the call was sent")]
    DeadlinePassed,
    /// The breaker is open.
    #[error("the circuit breaker of the payment provider is open")]
    BreakerOpen {
        /// How long it will refuse.
        retry_after: Duration,
    },
    /// As many calls are in flight as are allowed.
    #[error("too many calls to the payment provider are in flight")]
    BulkheadFull,
    /// Our own rate limit would hold it past its deadline.
    #[error("the rate limit towards the payment provider is used up")]
    RateLimited,
    /// An id or a key that cannot be put into a request.
    #[error("the request cannot be written as HTTP")]
    Unsendable,
    /// An amount that the provider does not have: only orders of versions without that check can have one.
    #[error("the payment provider does not take this amount of this currency")]
    NotPayable,
    /// No connection: refused, no such host, TLS failed, or not in time.
    #[error("no connection to the payment provider")]
    NoConnection,
    /// The provider's own rate limit, 429.
    #[error("the payment provider limits our rate")]
    Throttled,
    /// Our secret is not accepted, 401 or 403.
    #[error("the payment provider does not accept our credentials (payments.secret_key)")]
    Unauthorized,
    /// Sent, and no answer in time.
    #[error("the payment provider did not answer in time")]
    TimedOut,
    /// The connection broke after the request may have been sent.
    #[error("the connection to the payment provider broke")]
    ConnectionLost,
    /// A status that decides nothing: 5xx, a redirect, an error without a Stripe body.
    #[error("the payment provider answered with status {0}")]
    Status(u16),
    /// A success that cannot be read, or is too large.
    #[error("the payment provider's answer cannot be read")]
    Unreadable,
    /// A list with so many pages that it is not read to its end.
    #[error("the payment provider's list is too long to look through")]
    ListTooLong,
    /// A success about another amount or currency.
    #[error("the payment provider's answer is about another amount or currency")]
    Mismatch,
    /// The key was used for another request: a bug of ours, and what the first did is unknown.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A payment that waits for someone: neither made nor refused.
    #[error("the payment is neither made nor refused")]
    Unfinished,
    /// The customer disputes the charge at their bank.
    #[error("the payment is disputed")]
    Disputed,
    /// The payment is refunded already, and not by the refund of this order.
    #[error("the payment was refunded, but not by this refund")]
    RefundedElsewhere,
}

impl Cause {
    /// A short name for the step log and for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::NoAccount => "no_account",
            Cause::DeadlinePassed => "deadline_passed",
            Cause::BreakerOpen { .. } => "breaker_open",
            Cause::BulkheadFull => "bulkhead_full",
            Cause::RateLimited => "rate_limited",
            Cause::Unsendable => "unsendable",
            Cause::NotPayable => "not_payable",
            Cause::NoConnection => "no_connection",
            Cause::Throttled => "throttled",
            Cause::Unauthorized => "unauthorized",
            Cause::TimedOut => "timed_out",
            Cause::ConnectionLost => "connection_lost",
            Cause::Status(_) => "status",
            Cause::Unreadable => "unreadable",
            Cause::ListTooLong => "list_too_long",
            Cause::Mismatch => "mismatch",
            Cause::KeyReused => "key_reused",
            Cause::Unfinished => "unfinished",
            Cause::Disputed => "disputed",
            Cause::RefundedElsewhere => "refunded_elsewhere",
        }
    }
}

/// A payment as the provider has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentIntent {
    /// `pi_...`
    pub provider_id: String,
    /// The provider's name of its state, as `succeeded` or `canceled`.
    pub status: String,
    /// In minor units of ISO 4217, converted from the provider's unit, as the one below.
    pub amount_minor: i64,
    /// How much was taken of it: of a hold that was captured in part, less.
    pub moved_minor: i64,
    /// ISO 4217 code, upper case.
    pub currency: String,
    /// From the metadata; `None` for a payment that is not one of ours.
    pub order_id: Option<Uuid>,
}

/// A refund as the provider has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRefund {
    /// `re_...`
    pub provider_id: String,
    /// The provider's name of its state, as `succeeded` or `pending`.
    pub status: String,
    /// In minor units of ISO 4217, converted from the provider's unit.
    pub amount_minor: i64,
    /// ISO 4217 code, upper case.
    pub currency: String,
    /// From the metadata; `None` for a refund that was made by hand.
    pub order_id: Option<Uuid>,
    /// Which of the order's refunds it is, from the metadata; `None` for a refund that was made by hand.
    pub number: Option<i32>,
    /// The payment that it refunds (`pi_...`), where the provider shows it.
    pub payment_intent: Option<String>,
}

/// A dispute as the provider has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderDispute {
    /// `du_...`
    pub provider_id: String,
    /// The provider's name of its state, as `needs_response` or `lost`.
    pub status: String,
    /// The provider's name of the reason, as `fraudulent`.
    pub reason: String,
    /// In minor units of ISO 4217, converted from the provider's unit.
    pub amount_minor: i64,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// Money that moved, in the provider's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// From the metadata; `None` for a movement that Waybill did not make, as a refund by hand.
    pub order_id: Option<Uuid>,
    /// `pi_...` or `re_...`
    pub provider_id: String,
    /// In minor units of ISO 4217, converted from the provider's unit.
    pub amount_minor: i64,
    /// ISO 4217 code, upper case.
    pub currency: String,
}
