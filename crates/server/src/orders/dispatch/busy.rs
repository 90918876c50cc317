//! Which drivers serve an order, as of a moment ago: a search leaves them out before it proposes anyone to the database.
//!
//! All searches of the process share one read of the table. With hundreds of orders waiting in a full city, a read for
//! each search took the database's whole time. That kept drivers from being released, which kept orders waiting.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use waybill_domain::id::DriverId;

use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// How old a read may be. A driver who was assigned meanwhile is proposed for nothing; one who was released is found in the
/// next round of the search, which is not sooner.
const AGE_MAX: Duration = Duration::from_millis(100);

/// A shared read of the busy drivers.
#[derive(Default)]
pub(super) struct BusyDrivers {
    last: Mutex<Option<Read>>,
}

struct Read {
    begun_at: Instant,
    drivers: Arc<HashSet<DriverId>>,
}

impl BusyDrivers {
    /// The busy drivers. One caller reads; those who come meanwhile wait for its result.
    pub(super) async fn now(&self, orders: &OrderStore) -> Result<Arc<HashSet<DriverId>>, StoreError> {
        let arrived_at = Instant::now();
        let mut last = self.last.lock().await;
        // A read that was begun since is as good as our own, however long it took: else a slow database would be asked
        // by all who wait, one after the other.
        if let Some(read) = last.as_ref()
            && (read.begun_at >= arrived_at || read.begun_at.elapsed() < AGE_MAX)
        {
            return Ok(Arc::clone(&read.drivers));
        }
        let begun_at = Instant::now();
        let drivers = Arc::new(orders.busy_drivers().await?);
        *last = Some(Read {
            begun_at,
            drivers: Arc::clone(&drivers),
        });
        Ok(drivers)
    }
}
