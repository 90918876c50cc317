//! What the driver liveness monitor reads: who serves an order, and who was seen.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use waybill_domain::id::{DriverId, OrderId};

use super::OrderStore;
use super::row::driver;
use crate::storage::StoreError;

/// A driver who serves an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingDriver {
    /// The order.
    pub order: OrderId,
    /// The driver.
    pub driver: DriverId,
}

statements! {
    SERVING_SINCE = "select order_id, driver_id from order_assignments
                      where released_at is null and assigned_at < now() - make_interval(secs => $1)";
    /// Those of the drivers with a fix in the history since that time. A driver's newest row is the end of each day's index.
    SEEN_SINCE = "select d.driver_id
                    from unnest($1::text[]) d (driver_id)
                   where exists (select 1 from driver_locations l
                                  where l.driver_id = d.driver_id and l.recorded_at >= $2)";
}

impl OrderStore {
    /// The drivers who have served their orders for longer than that.
    pub async fn serving_for(&self, longer_than: Duration) -> Result<Vec<ServingDriver>, StoreError> {
        let rows = self
            .postgres
            .query(SERVING_SINCE, &[&longer_than.as_secs_f64()])
            .await?;
        let serving = |row: &tokio_postgres::Row| {
            Ok(ServingDriver {
                order: OrderId::new(row.try_get::<_, Uuid>(0)?),
                driver: driver(row.try_get(1)?)?,
            })
        };
        rows.iter().map(serving).collect()
    }

    /// Those of the drivers who have a fix in the history that was recorded at `since` or later.
    pub async fn seen_since(&self, drivers: &[DriverId], since: Timestamp) -> Result<HashSet<DriverId>, StoreError> {
        let names: Vec<&str> = drivers.iter().map(DriverId::as_str).collect();
        let rows = self.postgres.query(SEEN_SINCE, &[&names, &since]).await?;
        rows.iter().map(|row| driver(row.try_get(0)?)).collect()
    }
}
