//! Whether a new order can be charged soon: what cannot is refused before it is begun, and not parked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::egress::payments::PaymentClient;
use crate::resilience::{ExpectedCall, WaitsTooLong};

/// Admits orders by how long their charges would wait for a place at the payment provider.
#[derive(Debug)]
pub(super) struct ChargeAdmission {
    wait_max: Duration,
    /// Whether the log says that orders are refused.
    is_refusing: AtomicBool,
}

impl ChargeAdmission {
    pub(super) fn new(wait_max: Duration) -> ChargeAdmission {
        ChargeAdmission {
            wait_max,
            is_refusing: AtomicBool::new(false),
        }
    }

    /// Counts the charge of a new order as waiting until it stands in the line; or how long it would wait for too long.
    pub(super) fn admit(&self, payments: &PaymentClient) -> Result<ExpectedCall, Duration> {
        match payments.expect_charge(self.wait_max) {
            Ok(expected) => {
                // Logged once for many calls: under a steady load every second one may be refused. What is shorter than half
                // of the limit is another load.
                if self.is_refusing.load(Ordering::Relaxed)
                    && payments.expect_charge(self.wait_max / 2).is_ok()
                    && self.is_refusing.swap(false, Ordering::Relaxed)
                {
                    info!(
                        "new orders are admitted again: their charges wait for less than half of orders.charge_wait_max"
                    );
                }
                Ok(expected)
            }
            Err(WaitsTooLong(wait)) => {
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    warn!(
                        wait_ms,
                        "new orders are refused: their charges would wait for longer than orders.charge_wait_max"
                    );
                }
                Err(wait.saturating_sub(self.wait_max))
            }
        }
    }
}
