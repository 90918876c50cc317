//! `waybill reconcile`: reads the provider's list and has the storage compare it with the ledger.

use std::time::Duration;

use jiff::SignedDuration;

use super::Stores;
use super::audit::{AuditError, movements};
use crate::config::Config;
use crate::storage::reconcile::{Reconciliation, reconcile};

/// How long ago an order must have changed before a mismatch counts as a difference.
const SETTLED_AFTER: Duration = Duration::from_mins(1);

/// The result of the comparison.
#[derive(Debug)]
pub struct Reconciled {
    /// Charges in the provider's list.
    pub charges: usize,
    /// Refunds in the provider's list.
    pub refunds: usize,
    /// What differs.
    pub found: Reconciliation,
}

/// Compares the provider's list with the ledger.
pub async fn run_reconcile(config: &Config) -> Result<Reconciled, AuditError> {
    let stores = Stores::new(config)?;
    // By the database's clock, and before the list is read: what changes while it is read is in flight.
    let now = stores.postgres.now().await?;
    let settled_before = now - SignedDuration::try_from(SETTLED_AFTER).unwrap_or(SignedDuration::ZERO);
    let movements = movements(config).await?;
    let found = reconcile(&stores.postgres, &movements, settled_before).await?;
    let charges = movements.iter().filter(|movement| movement.kind == "charge").count();
    Ok(Reconciled {
        charges,
        refunds: movements.len() - charges,
        found,
    })
}
