//! `waybill audit`: gathers the evidence and has the storage make its checks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::payment_accounts::PaymentSettingsError;
use super::windows::{ListError, Window, Windows, oldest_payment, share};
use super::{Stores, payment_accounts, settings};
use crate::config::{Config, Span};
use crate::egress::payments::PaymentAccounts;
use crate::storage::StoreError;
use crate::storage::audit::{self, AuditFailure, Audited, Evidence, Finding, MovementColumns};
use crate::storage::history::HistoryStore;
use crate::storage::live::LiveStore;
use crate::storage::payment_accounts as payment_account_store;
use crate::storage::postgres::Postgres;

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
    /// A standby ended it, or is behind.
    #[error(transparent)]
    Audit(AuditFailure),
    /// The provider's settings cannot be used.
    #[error(transparent)]
    Settings(#[from] PaymentSettingsError),
    /// The provider's list cannot be read.
    #[error("the payment provider's list cannot be read: {0}")]
    Provider(#[from] ListError),
    /// Orders are paid into accounts that the settings lack.
    #[error("the settings lack {}: orders are paid into it, and without its key they cannot be compared", sections(.0))]
    NoAccount(Vec<String>),
}

impl From<AuditFailure> for AuditError {
    fn from(failure: AuditFailure) -> AuditError {
        match failure {
            AuditFailure::Store(error) => AuditError::Store(error),
            AuditFailure::Cancelled(_) | AuditFailure::Behind { .. } => AuditError::Audit(failure),
        }
    }
}

/// How far an audit is. Shared between the audit and who shows it.
#[derive(Debug, Clone, Default)]
pub struct AuditProgress(Arc<Mutex<ListProgress>>);

/// How much of the provider's list was read, and what comes before the checks.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListProgress {
    /// Charges and refunds.
    pub movements: usize,
    /// Which share of the time, 0 to 1.
    pub share: f64,
    /// Whether a standby does not yet have what was committed when all of it was read.
    pub waits_for_standby: bool,
}

impl AuditProgress {
    /// How much that is now.
    pub fn read(&self) -> ListProgress {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, from: Timestamp, window: &Window, until: Timestamp) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.movements += window.movements.len();
        progress.share = share(from, window.until, until);
    }

    fn set_waits_for_standby(&self, waits: bool) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.waits_for_standby = waits;
    }
}

/// Checks every guarantee that SQL can check.
pub async fn run_audit(config: &Config, sources: Sources) -> Result<Report, AuditError> {
    run_audit_with_progress(config, sources, &AuditProgress::default()).await
}

/// The same, and shows how far it is.
pub async fn run_audit_with_progress(
    config: &Config,
    sources: Sources,
    progress: &AuditProgress,
) -> Result<Report, AuditError> {
    let mut patient = config.clone();
    patient.redis.command_timeout = Span(PAGE_MAX);
    let stores = Stores::that_only_read(&patient)?;
    let movements = if sources.provider {
        Some(movements(config, &stores, progress).await?)
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
    let is_waiting = |waits| progress.set_waits_for_standby(waits);
    let Audited { findings, stored_fixes } = audit::audit(&stores.postgres, &evidence, is_waiting).await?;
    Ok(Report { findings, stored_fixes })
}

/// All accounts into which orders of this database were ever paid.
pub(super) async fn all_accounts(config: &Config, postgres: &Postgres) -> Result<PaymentAccounts, AuditError> {
    let accounts = payment_accounts::open(config)?;
    match payment_account_store::unknown(postgres, &accounts.own_names()).await? {
        unknown if unknown.is_empty() => Ok(accounts),
        unknown => Err(AuditError::NoAccount(unknown)),
    }
}

fn sections(names: &[String]) -> String {
    let sections: Vec<String> = names.iter().map(|name| format!("[payments.accounts.{name}]")).collect();
    sections.join(" and ")
}

/// The provider's movements, read a window after another.
async fn movements(config: &Config, stores: &Stores, progress: &AuditProgress) -> Result<MovementColumns, AuditError> {
    let mut movements = MovementColumns::default();
    let accounts = all_accounts(config, &stores.postgres).await?;
    let now = stores.postgres.now().await?;
    // All that may ever have been: what the provider made before the ledger's first order is evidence, too.
    let first = oldest_payment(&accounts, now + SignedDuration::from_hours(24)).await?;
    let mut windows = Windows::new(accounts, first.unwrap_or(now), None, now, None);
    let from = windows.position();
    while let Some(window) = windows.read_next().await? {
        progress.add(from, &window, windows.until());
        movements.extend(window.movements);
    }
    Ok(movements)
}

/// The fixes that are still in the stream and that the history's cursor has passed.
async fn passed_fixes(config: &Config, stores: &Stores) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let live = LiveStore::new(stores.redis.clone(), settings::keys(config), settings::live(config));
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
