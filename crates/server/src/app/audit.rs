//! `waybill audit`: gathers the evidence and has the storage make its checks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Stores, settings};
use crate::config::{Config, Span};
use crate::egress::payments::{Cause, Movement as ProviderMovement, PaymentClient};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::audit::{self, Evidence, Finding, Movement};
use crate::storage::history::HistoryStore;
use crate::storage::keys::Keys;
use crate::storage::live::LiveStore;

/// How long all pages of the provider's list may take.
const LIST_MAX: Duration = Duration::from_mins(10);
/// Stream entries read at once.
const PAGE: usize = 1_000;
/// How long Redis may take for a page: an audit is not in a hurry.
const PAGE_MAX: Duration = Duration::from_secs(10);

/// The evidence of an audit beside the database.
#[derive(Debug, Default)]
pub struct Sources {
    /// Ask the payment provider of the configuration.
    pub provider: bool,
    /// Read the stream of the configuration's Redis.
    pub stream: bool,
    /// Orders whose settled answer a client received: their ids, and the status in it.
    pub answered_orders: Option<Vec<(Uuid, String)>>,
    /// Fixes whose acknowledgement a client received.
    pub acknowledged_fixes: Option<Vec<(String, Timestamp)>>,
}

/// What an audit found.
#[derive(Debug)]
pub struct Report {
    /// Every check, made or not.
    pub findings: Vec<Finding>,
    /// Fixes in the history.
    pub stored_fixes: i64,
}

impl Report {
    /// How many checks were made.
    pub fn checks(&self) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.violations.is_some())
            .count()
    }

    /// How many violations they found.
    pub fn violations(&self) -> i64 {
        self.findings.iter().map(|finding| finding.count).sum()
    }
}

/// Why an audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider's settings cannot be used.
    #[error("[payments] {0}")]
    Settings(#[from] crate::egress::payments::SettingsError),
    /// The provider's list cannot be read.
    #[error("the payment provider's list cannot be read: {0}")]
    Provider(#[from] Cause),
}

/// Checks every guarantee that SQL can check.
pub async fn run_audit(config: &Config, sources: Sources) -> Result<Report, AuditError> {
    let mut patient = config.clone();
    patient.redis.command_timeout = Span(PAGE_MAX);
    let stores = Stores::new(&patient)?;
    let movements = if sources.provider {
        Some(movements(config).await?)
    } else {
        None
    };
    let passed_fixes = if sources.stream {
        Some(passed_fixes(config, &stores).await?)
    } else {
        None
    };
    let evidence = Evidence {
        movements,
        answered_orders: sources.answered_orders,
        acknowledged_fixes: sources.acknowledged_fixes,
        passed_fixes,
    };
    let findings = audit::audit(&stores.postgres, &evidence).await?;
    let stored_fixes = audit::count_fixes(&stores.postgres).await?;
    Ok(Report { findings, stored_fixes })
}

/// The provider's list of movements.
pub(super) async fn movements(config: &Config) -> Result<Vec<Movement>, AuditError> {
    let client = Arc::new(PaymentClient::new(&settings::payments(config))?);
    let deadline = Deadline::after(LIST_MAX);
    let charges = client.list_charges(deadline).await?;
    let refunds = client.list_refunds(deadline).await?;
    let entry = |kind: &'static str, movement: ProviderMovement| Movement {
        kind,
        order: movement.order_id,
        provider_id: movement.provider_id,
        amount: movement.amount_minor,
        currency: movement.currency,
    };
    let charges = charges.into_iter().map(|movement| entry("charge", movement));
    let refunds = refunds.into_iter().map(|movement| entry("refund", movement));
    Ok(charges.chain(refunds).collect())
}

/// The fixes that are still in the stream and that the history's cursor has passed.
async fn passed_fixes(config: &Config, stores: &Stores) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let live = LiveStore::new(
        stores.redis.clone(),
        Keys::new(config.redis.shards),
        settings::live(config),
    );
    let history = HistoryStore::new(stores.postgres.clone(), settings::instance_name());
    let mut passed = Vec::new();
    for shard in live.keys().shards() {
        let cursor = history.read_cursor(&shard.events).await?;
        let mut after: Option<String> = None;
        loop {
            let entries = live.read_events_until(shard, after.as_deref(), &cursor, PAGE).await?;
            let Some(last) = entries.last() else { break };
            after = Some(last.id.clone());
            // An entry that is not a fix was not acknowledged.
            let fixes = entries.into_iter().filter_map(|entry| entry.fix.ok());
            passed.extend(fixes.map(|fix| (fix.driver.to_string(), fix.recorded_at)));
        }
    }
    Ok(passed)
}
