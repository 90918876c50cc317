//! Who of some drivers serves no order, and takes one that requires so much.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::DriverId;

use super::OrderStore;
use super::duty::duty;
use super::row::{driver, get};
use crate::storage::StoreError;

/// What is known of some drivers.
pub(super) struct KnownDrivers(HashMap<DriverId, Known>);

/// Of one who was a candidate before, or said what its duty is.
struct Known {
    is_busy: bool,
    duty: Duty,
}

statements! {
    READ_DRIVERS = "select driver_id, active_order_id is not null as is_busy, off_duty_since is null as is_on, tags
                      from drivers
                     where driver_id = any($1)";
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
    /// What a transaction sees of them.
    pub(super) async fn read_within<'a>(
        tx: &Transaction<'_>,
        drivers: impl IntoIterator<Item = &'a DriverId>,
    ) -> Result<KnownDrivers, StoreError> {
        KnownDrivers::parse(&READ_DRIVERS.query(tx, &[&names(drivers)]).await?)
    }

    /// Whether the driver serves no order, is on duty, and has these tags. One of whom nothing is known is free, on duty, and has none.
    pub(super) fn would_take(&self, driver: &DriverId, required: &Tags) -> bool {
        match self.0.get(driver) {
            Some(known) => !known.is_busy && known.duty.takes(required),
            None => Duty::default().takes(required),
        }
    }

    /// The duty of one of whom it is known.
    pub(super) fn duty(&self, driver: &DriverId) -> Option<&Duty> {
        self.0.get(driver).map(|known| &known.duty)
    }

    fn parse(rows: &[Row]) -> Result<KnownDrivers, StoreError> {
        let known = rows.iter().map(|row| {
            let known = Known {
                is_busy: get(row, "is_busy")?,
                duty: duty(row)?,
            };
            Ok((driver(get(row, "driver_id")?)?, known))
        });
        Ok(KnownDrivers(known.collect::<Result<_, StoreError>>()?))
    }
}

/// Each once.
fn names<'a>(drivers: impl IntoIterator<Item = &'a DriverId>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = drivers.into_iter().map(DriverId::as_str).collect();
    names.into_iter().collect()
}
