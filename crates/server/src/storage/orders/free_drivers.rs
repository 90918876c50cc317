//! Who of some drivers serves no order, and takes one that requires so much.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Client;
use jiff::Timestamp;
use tokio_postgres::Row;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::DriverId;

use super::OrderStore;
use super::duty::duty;
use super::row::{driver, get};
use crate::storage::StoreError;

/// What is known of some drivers.
pub(super) struct KnownDrivers {
    drivers: HashMap<DriverId, Known>,
    /// When, by the database's clock; `None`, if no one was asked about.
    pub at: Option<Timestamp>,
}

/// Of one who was a candidate before, or said what its duty is.
struct Known {
    is_busy: bool,
    duty: Duty,
}

statements! {
    READ_DRIVERS = "select now() as now, driver_id, d.driver_id is not null as is_known,
                           active_order_id is not null as is_busy, off_duty_since is null as is_on, tags
                      from unnest($1::text[]) n (driver_id)
                      left join drivers d using (driver_id)";
}

impl OrderStore {
    /// The first `limit` of these drivers that serve no order, are on duty and have these tags, in the order given. A hint, read without a
    /// lock: whoever assigns one decides.
    pub async fn free_among(
        &self,
        drivers: &[DriverId],
        required: &Tags,
        limit: usize,
    ) -> Result<Vec<DriverId>, StoreError> {
        let known = KnownDrivers::parse(&self.postgres.query(READ_DRIVERS, &[&names(drivers)]).await?)?;
        let free = drivers.iter().filter(|driver| known.would_take(driver, required));
        Ok(free.take(limit).cloned().collect())
    }
}

impl KnownDrivers {
    /// What is known of them now, read on this connection.
    pub(super) async fn read<'a>(
        client: &Client,
        drivers: impl IntoIterator<Item = &'a DriverId>,
    ) -> Result<KnownDrivers, StoreError> {
        KnownDrivers::parse(&READ_DRIVERS.commit(client, &[&names(drivers)]).await?)
    }

    /// Whether the driver serves no order, is on duty, and has these tags. One of whom nothing is known is free, on duty, and has none.
    pub(super) fn would_take(&self, driver: &DriverId, required: &Tags) -> bool {
        match self.drivers.get(driver) {
            Some(known) => !known.is_busy && known.duty.takes(required),
            None => Duty::default().takes(required),
        }
    }

    /// The duty of one of whom it is known.
    pub(super) fn duty(&self, driver: &DriverId) -> Option<&Duty> {
        self.drivers.get(driver).map(|known| &known.duty)
    }

    fn parse(rows: &[Row]) -> Result<KnownDrivers, StoreError> {
        let mut drivers = HashMap::with_capacity(rows.len());
        for row in rows {
            if get(row, "is_known")? {
                let known = Known {
                    is_busy: get(row, "is_busy")?,
                    duty: duty(row)?,
                };
                drivers.insert(driver(get(row, "driver_id")?)?, known);
            }
        }
        let at = rows.first().map(|row| get(row, "now")).transpose()?;
        Ok(KnownDrivers { drivers, at })
    }
}

/// Each once.
fn names<'a>(drivers: impl IntoIterator<Item = &'a DriverId>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = drivers.into_iter().map(DriverId::as_str).collect();
    names.into_iter().collect()
}
