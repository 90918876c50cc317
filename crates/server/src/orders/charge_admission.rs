//! Whether a new order can be charged soon: what cannot is refused before it is begun, and not parked.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};
use waybill_domain::payment_account::PaymentAccount;

use crate::egress::payments::PaymentClient;
use crate::resilience::{ExpectedCall, WaitsTooLong};

/// Admits orders by how long their charges would wait for a place at the payment provider.
#[derive(Debug)]
pub(super) struct ChargeAdmission {
    wait_max: Duration,
    /// The accounts of which the log says that orders are refused.
    refusing: Mutex<BTreeSet<PaymentAccount>>,
}

impl ChargeAdmission {
    pub(super) fn new(wait_max: Duration) -> ChargeAdmission {
        ChargeAdmission {
            wait_max,
            refusing: Mutex::default(),
        }
    }

    /// Counts the charge of a new order at this account as waiting until it stands in the line; or how long it would wait for too
    /// long.
    pub(super) fn admit(&self, account: &PaymentAccount, payments: &PaymentClient) -> Result<ExpectedCall, Duration> {
        let mut refusing = self.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        match payments.expect_charge(self.wait_max) {
            Ok(expected) => {
                // Logged once for many calls: under a steady load every second one may be refused. What is shorter than half
                // of the limit is another load.
                if refusing.contains(account) && payments.expect_charge(self.wait_max / 2).is_ok() {
                    refusing.remove(account);
                    info!(
                        %account,
                        "new orders are admitted again: their charges wait for less than half of orders.charge_wait_max"
                    );
                }
                Ok(expected)
            }
            Err(WaitsTooLong(wait)) => {
                if refusing.insert(account.clone()) {
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    warn!(
                        %account,
                        wait_ms,
                        "new orders are refused: their charges would wait for longer than orders.charge_wait_max"
                    );
                }
                Err(wait.saturating_sub(self.wait_max))
            }
        }
    }
}
