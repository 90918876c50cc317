//! Which drivers serve an order, as of a moment ago: what a search for a driver leaves out before it troubles the
//! database with a proposal.
//!
//! All searches of the process share one look at the table. With hundreds of orders waiting in a full city, asking for
//! each of them anew took the database's whole time, which kept drivers from being set free, which kept orders waiting.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use waybill_domain::id::DriverId;

use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// How old a look may be. A driver who was taken meanwhile is proposed in vain; one who was set free is found at the
/// next look of the waiting order, which is not sooner.
const AGE_MAX: Duration = Duration::from_millis(100);

/// A shared look at who is busy.
#[derive(Default)]
pub(super) struct BusyDrivers {
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    begun_at: Instant,
    drivers: Arc<HashSet<DriverId>>,
}

impl BusyDrivers {
    /// Who is busy. One caller looks, those who come meanwhile wait for what it sees.
    pub(super) async fn now(&self, orders: &OrderStore) -> Result<Arc<HashSet<DriverId>>, StoreError> {
        let arrived_at = Instant::now();
        let mut seen = self.seen.lock().await;
        // A look that was begun since is as good as our own, however long it took: else a slow database would be asked
        // by all who wait, one after the other.
        if let Some(seen) = seen.as_ref()
            && (seen.begun_at >= arrived_at || seen.begun_at.elapsed() < AGE_MAX)
        {
            return Ok(Arc::clone(&seen.drivers));
        }
        let begun_at = Instant::now();
        let drivers = Arc::new(orders.busy_drivers().await?);
        *seen = Some(Seen {
            begun_at,
            drivers: Arc::clone(&drivers),
        });
        Ok(drivers)
    }
}
