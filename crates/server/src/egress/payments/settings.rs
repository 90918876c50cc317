//! The settings of the payment client, and their defaults.

use crate::resilience::{BreakerPolicy, BudgetPolicy};
use secrecy::SecretString;
use std::num::NonZeroU32;
use std::time::Duration;
use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::retry;

/// Where the provider is and how it is treated.
#[derive(Debug, Clone)]
pub struct PaymentSettings {
    /// The name of the account in metrics, such as `payments`.
    pub name: String,
    /// Scheme, host and port, as `https://api.stripe.com`; paths are appended.
    pub base_url: String,
    /// The secret key, sent as a bearer token.
    pub secret: SecretString,
    /// What stands behind the account's name on the statement of the customer's card.
    pub statement_descriptor_suffix: Option<String>,
    /// How long making a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How long one attempt may take, from the connection to the last byte. If it is shorter than a call, a second attempt may
    /// follow; but what is confirmed later than that counts as a failure.
    pub attempt_timeout: Duration,
    /// How long a call may take with its retries and reads, if its deadline is not sooner. Shorter than the lease
    /// of an order (15 s) by what two statements may take, so that a lease does not run out during a call.
    pub total_timeout: Duration,
    /// Calls in flight; what is above is refused, not queued.
    pub in_flight_max: usize,
    /// Attempts a second. Stripe allows 100 in live mode and 25 in test mode.
    pub rate_per_second: NonZeroU32,
    /// When to stop calling.
    pub breaker: BreakerPolicy,
    /// Attempts within one call.
    pub retry: retry::Policy,
    /// How many retries all calls together may make.
    pub retry_budget: BudgetPolicy,
}

impl PaymentSettings {
    /// The defaults, for this provider.
    pub fn new(base_url: impl Into<String>, secret: SecretString) -> Self {
        PaymentSettings {
            name: PaymentAccount::default().to_string(),
            base_url: base_url.into(),
            secret,
            statement_descriptor_suffix: None,
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(10),
            in_flight_max: 32,
            rate_per_second: NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN),
            breaker: BreakerPolicy::default(),
            retry: retry::Policy::default(),
            retry_budget: BudgetPolicy::default(),
        }
    }
}

/// Settings with which no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not an absolute http or https URL, or one with credentials or a query in it.
    #[error("the base URL of the payment provider is not a plain http or https URL")]
    BaseUrl,
    /// Holds a character that a header cannot. The text does not show it.
    #[error("the secret of the payment provider cannot be sent in a header")]
    Secret,
    /// No TLS on this machine, as when it has no root certificates.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}
