//! The accounts at the payment provider, from `[payments]` and `[payments.accounts.<tenant>]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use secrecy::{ExposeSecret as _, SecretString};
use waybill_domain::payment_account::PaymentAccount;

use crate::config::{Account, Config, Payments};
use crate::egress::payments::{AccountClient, PaymentAccounts, PaymentClient, PaymentSettings, SettingsError};
use crate::metrics::DependencyMetrics;

/// Settings of an account with which no client can be made.
#[derive(Debug, thiserror::Error)]
#[error("[{account}] {source}")]
pub struct PaymentSettingsError {
    account: PaymentAccount,
    source: SettingsError,
}

/// The clients of all accounts. `finish`: what each gets beside its settings.
pub fn build(
    config: &Config,
    metrics: &DependencyMetrics,
    finish: impl Fn(&PaymentAccount, &PaymentSettings, PaymentClient) -> PaymentClient,
) -> Result<PaymentAccounts, PaymentSettingsError> {
    let own = config.payments.accounts.iter().filter_map(|(name, account)| {
        // Each is of a tenant: that was checked.
        let tenant = name.parse().ok()?;
        let settings = own_account(config, account);
        Some((PaymentAccount::own_of(&tenant), settings, account.new_orders))
    });
    let shared = (PaymentAccount::default(), payments(config), true);
    // Where each business has its own, there may be none that all share.
    let has_shared = config.payments.accounts.is_empty() || !shared.1.secret.expose_secret().is_empty();
    let all = has_shared.then_some(shared).into_iter().chain(own);
    let accounts = all.map(|(account, mut settings, new_orders)| {
        settings.name = account.to_string();
        let client = match PaymentClient::with_metrics(&settings, metrics) {
            Ok(client) => finish(&account, &settings, client),
            Err(source) => return Err(PaymentSettingsError { account, source }),
        };
        Ok((account, AccountClient { client, new_orders }))
    });
    Ok(PaymentAccounts::new(accounts.collect::<Result<_, _>>()?))
}

/// The clients of all accounts, for a command: it counts nothing.
pub fn open(config: &Config) -> Result<PaymentAccounts, PaymentSettingsError> {
    build(config, &DependencyMetrics::default(), |_, _, client| client)
}

/// The signing secrets of webhooks, by account; of those that have some.
pub fn webhook_secrets(payments: &Payments) -> BTreeMap<PaymentAccount, Vec<SecretString>> {
    let own = payments.accounts.iter().filter_map(|(name, account)| {
        let tenant = name.parse().ok()?;
        Some((PaymentAccount::own_of(&tenant), account.webhook_secrets.clone()))
    });
    std::iter::once((PaymentAccount::default(), payments.webhook_secrets.clone()))
        .chain(own)
        .filter(|(_, secrets)| !secrets.is_empty())
        .collect()
}

fn own_account(config: &Config, account: &Account) -> PaymentSettings {
    let shared = payments(config);
    let per_second = account.rate_per_second.and_then(NonZeroU32::new);
    PaymentSettings {
        base_url: account.url.clone().unwrap_or(shared.base_url),
        secret: account.secret_key.clone(),
        statement_descriptor_suffix: match &account.statement_descriptor_suffix {
            Some(suffix) => Some(suffix.clone()).filter(|suffix| !suffix.is_empty()),
            None => shared.statement_descriptor_suffix,
        },
        rate_per_second: per_second.unwrap_or(shared.rate_per_second),
        ..shared
    }
}

fn payments(config: &Config) -> PaymentSettings {
    let settings = &config.payments;
    let secret: SecretString = settings.secret_key.clone();
    PaymentSettings {
        statement_descriptor_suffix: Some(settings.statement_descriptor_suffix.clone())
            .filter(|suffix| !suffix.is_empty()),
        connect_timeout: settings.connect_timeout.0,
        attempt_timeout: settings.attempt_timeout.0,
        total_timeout: settings.total_timeout.0,
        in_flight_max: settings.in_flight_max,
        rate_per_second: NonZeroU32::new(settings.rate_per_second).unwrap_or(NonZeroU32::MIN),
        ..PaymentSettings::new(settings.url.clone(), secret)
    }
}
