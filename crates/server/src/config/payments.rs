//! The accounts at the payment provider, and what must hold of them.

use std::collections::BTreeSet;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Config, ConfigError, Payments};

/// The account that a tenant has for itself at the payment provider. What it does not say is as in `[payments]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Where it is, if it is elsewhere.
    pub url: Option<String>,
    /// Its secret key.
    pub secret_key: SecretString,
    /// The signing secrets of its webhooks.
    #[serde(default)]
    pub webhook_secrets: Vec<SecretString>,
    /// What stands behind its name on the statement of the customer's card.
    pub statement_descriptor_suffix: Option<String>,
    /// The largest number of attempts a second.
    pub rate_per_second: Option<u32>,
    /// Whether new orders of the tenant are paid into it.
    #[serde(default = "yes")]
    pub new_orders: bool,
}

fn yes() -> bool {
    true
}

impl Config {
    pub(super) fn check_payments(&self) -> Result<(), ConfigError> {
        let payments = &self.payments;
        check_webhook_secrets(&"payments", &payments.webhook_secrets)?;
        check_descriptor(&"payments", &payments.statement_descriptor_suffix)?;
        // One account under two names has everything twice: its rate, and each movement.
        let mut known = BTreeSet::from([(payments.url.as_str(), payments.secret_key.expose_secret())]);
        for (tenant, account) in &payments.accounts {
            let section = format!("payments.accounts.{tenant}");
            if !self.tenants.names.iter().any(|name| name.as_str() == tenant) {
                return Err(ConfigError::Value {
                    key: section.into(),
                    why: "must be named after one of tenants.names".to_owned(),
                });
            }
            if account.secret_key.expose_secret().is_empty() {
                return Err(bad(&section, "secret_key", "must not be empty"));
            }
            let url = account.url.as_deref().unwrap_or(&payments.url);
            if !known.insert((url, account.secret_key.expose_secret())) {
                return Err(bad(
                    &section,
                    "secret_key",
                    "must be another than that of each other account",
                ));
            }
            if account.rate_per_second == Some(0) {
                return Err(bad(&section, "rate_per_second", "must be at least 1"));
            }
            check_webhook_secrets(&section, &account.webhook_secrets)?;
            let suffix = account.statement_descriptor_suffix.as_deref();
            check_descriptor(&section, suffix.unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Payments {
    /// Whether any account has secrets of webhooks: without one a forgery could not be recognised.
    pub fn receives_webhooks(&self) -> bool {
        let mut accounts = self.accounts.values();
        !self.webhook_secrets.is_empty() || accounts.any(|account| !account.webhook_secrets.is_empty())
    }
}

fn bad(section: &dyn fmt::Display, key: &str, why: &str) -> ConfigError {
    ConfigError::Value {
        key: format!("{section}.{key}").into(),
        why: why.to_owned(),
    }
}

fn check_webhook_secrets(section: &dyn fmt::Display, secrets: &[SecretString]) -> Result<(), ConfigError> {
    if secrets.len() > 2 || secrets.iter().any(|secret| secret.expose_secret().is_empty()) {
        return Err(bad(
            section,
            "webhook_secrets",
            "must be at most two, none of them empty",
        ));
    }
    Ok(())
}

fn check_descriptor(section: &dyn fmt::Display, suffix: &str) -> Result<(), ConfigError> {
    if is_descriptor(suffix) {
        return Ok(());
    }
    let why = "must be empty, or have a letter, at most 22 characters, and none of < > \\ ' \" *";
    Err(bad(section, "statement_descriptor_suffix", why))
}

/// Whether the provider takes this as a part of a statement's line (<https://docs.stripe.com/get-started/account/statement-descriptors>).
fn is_descriptor(suffix: &str) -> bool {
    let is_plain = |letter: char| (' '..='~').contains(&letter) && !"<>\\'\"*".contains(letter);
    suffix.is_empty()
        || suffix.len() <= 22
            && suffix.chars().all(is_plain)
            && suffix.contains(|letter: char| letter.is_ascii_alphabetic())
}
