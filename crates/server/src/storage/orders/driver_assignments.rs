//! What a driver serves, as its app follows it.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::Release;
use waybill_domain::position::Position;

use super::OrderStore;
use super::row::{driver, position, release};
use crate::storage::StoreError;

/// What a driver serves at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DriverAssignments {
    /// How many assignments and releases the driver has had.
    pub seq: i64,
    /// What it serves.
    pub current: Option<CurrentAssignment>,
    /// How the assignment ended that was asked about.
    pub ended: Option<Release>,
}

/// An order that a driver serves.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentAssignment {
    /// The order.
    pub order: OrderId,
    /// Where the service begins.
    pub pickup: Position,
    /// Where it ends, if that is known.
    pub drop_off: Option<Position>,
    /// Since when the driver serves it.
    pub assigned_at: Timestamp,
}

statements! {
    ASSIGNMENT_SEQS = "select driver_id, assignment_seq from drivers where driver_id = any($1)";
    /// One statement: what is assigned and what has ended are of one moment.
    ASSIGNMENTS = "select d.assignment_seq, a.order_id, a.assigned_at,
                          s.pickup_lat, s.pickup_long, s.drop_off_lat, s.drop_off_long,
                          coalesce(e.released_at, p.released_at) as released_at,
                          coalesce(e.release_reason, p.release_reason) as release_reason
                     from drivers d
                     left join order_assignments a
                            on a.order_id = d.active_order_id and a.driver_id = d.driver_id and a.released_at is null
                     left join order_sagas s on s.order_id = a.order_id
                     left join order_assignments e
                            on e.order_id = $2 and e.driver_id = d.driver_id and e.released_at is not null
                     left join past_assignments p on p.order_id = $2 and p.driver_id = d.driver_id
                    where d.driver_id = $1";
}

impl OrderStore {
    /// How many assignments and releases those of these drivers have had that ever had one.
    pub async fn assignment_seqs(&self, drivers: &[DriverId]) -> Result<HashMap<DriverId, i64>, StoreError> {
        let names: Vec<&str> = drivers.iter().map(DriverId::as_str).collect();
        let rows = self.postgres.query(ASSIGNMENT_SEQS, &[&names]).await?;
        rows.iter()
            .map(|row| Ok((driver(row.try_get(0)?)?, row.try_get(1)?)))
            .collect()
    }

    /// What the driver serves, and how its service of the order `before` ended, if it did.
    pub async fn assignments_of(
        &self,
        driver: &DriverId,
        before: Option<OrderId>,
    ) -> Result<DriverAssignments, StoreError> {
        let row = self
            .postgres
            .query_opt(ASSIGNMENTS, &[&driver.as_str(), &before.map(OrderId::uuid)])
            .await?;
        row.map_or_else(|| Ok(DriverAssignments::default()), |row| assignments(&row))
    }
}

fn assignments(row: &Row) -> Result<DriverAssignments, StoreError> {
    let current = row
        .try_get::<_, Option<Uuid>>("order_id")?
        .map(|order| current(row, order));
    Ok(DriverAssignments {
        seq: row.try_get("assignment_seq")?,
        current: current.transpose()?,
        ended: release(row.try_get("released_at")?, row.try_get("release_reason")?)?,
    })
}

fn current(row: &Row, order: Uuid) -> Result<CurrentAssignment, StoreError> {
    let drop_off = row
        .try_get::<_, Option<f64>>("drop_off_lat")?
        .zip(row.try_get("drop_off_long")?);
    Ok(CurrentAssignment {
        order: OrderId::new(order),
        pickup: position(row.try_get("pickup_lat")?, row.try_get("pickup_long")?)?,
        drop_off: drop_off.map(|(lat, long)| position(lat, long)).transpose()?,
        assigned_at: row.try_get("assigned_at")?,
    })
}
