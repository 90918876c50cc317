//! Drivers who were proposed for an order and do not take it: off duty, or without the tags that it requires.
//!
//! Where they are is in the index, and their duty in the database, which decides. Most orders never meet one, so nothing is read of
//! them until an assignment finds none that takes the order; those it passed over are not proposed again for a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::DriverId;

/// How long a duty is believed: a driver who comes on duty is proposed again after that.
const AGE_MAX: Duration = Duration::from_secs(1);

/// What was found of their duty.
#[derive(Default)]
pub(super) struct KnownDuty {
    found: Mutex<HashMap<DriverId, (Duty, Instant)>>,
}

impl KnownDuty {
    /// These were found just now.
    pub(super) fn learn(&self, found: HashMap<DriverId, Duty>) {
        let now = Instant::now();
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, at)| now.duration_since(*at) < AGE_MAX);
        known.extend(found.into_iter().map(|(driver, duty)| (driver, (duty, now))));
    }

    /// Whether this driver may take an order that requires these, as far as is known.
    pub(super) fn may_take(&self, driver: &DriverId, required: &Tags) -> bool {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.get(driver).filter(|(_, at)| at.elapsed() < AGE_MAX);
        fresh.is_none_or(|(duty, _)| duty.takes(required))
    }
}
