//! Who of some drivers serves no order, and takes one that requires so much.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::{Client, Transaction};
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

/// Why a candidate did not get an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassedOver {
    Busy,
    OffDuty,
    LacksTags,
    /// Free when it was read.
    Taken,
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
        KnownDrivers::parse(&READ_DRIVERS.run_alone(client, &[&names(drivers)]).await?)
    }

    /// The same within a transaction.
    pub(super) async fn read_within<'a>(
        tx: &Transaction<'_>,
        drivers: impl IntoIterator<Item = &'a DriverId>,
    ) -> Result<KnownDrivers, StoreError> {
        KnownDrivers::parse(&READ_DRIVERS.query(tx, &[&names(drivers)]).await?)
    }

    /// Whether the driver serves no order, is on duty, and has these tags. One of whom nothing is known is free, on duty, and has none.
    pub(super) fn would_take(&self, driver: &DriverId, required: &Tags) -> bool {
        match self.drivers.get(driver) {
            Some(known) => !known.is_busy && known.duty.takes(required),
            None => Duty::default().takes(required),
        }
    }

    /// Whether anything is known of the driver.
    pub(super) fn has(&self, driver: &DriverId) -> bool {
        self.drivers.contains_key(driver)
    }

    /// Whether the driver is off duty, or lacks one of these tags.
    pub(super) fn refuses(&self, driver: &DriverId, required: &Tags) -> bool {
        !self.drivers.get(driver).is_none_or(|known| known.duty.takes(required))
    }

    /// Why this driver did not get an order that requires so much.
    pub(super) fn passed_over(&self, driver: &DriverId, required: &Tags) -> PassedOver {
        match self.drivers.get(driver) {
            Some(known) if known.is_busy => PassedOver::Busy,
            Some(known) if !known.duty.is_on => PassedOver::OffDuty,
            Some(known) if !known.duty.takes(required) => PassedOver::LacksTags,
            _ => PassedOver::Taken,
        }
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

impl PassedOver {
    /// Every reason, in the order of the step log.
    pub(super) const ALL: [PassedOver; 4] = [
        PassedOver::Busy,
        PassedOver::Taken,
        PassedOver::OffDuty,
        PassedOver::LacksTags,
    ];

    /// For people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            PassedOver::Busy => "busy",
            PassedOver::Taken => "taken in the meantime",
            PassedOver::OffDuty => "off duty",
            PassedOver::LacksTags => "without what it requires",
        }
    }
}

/// Each once.
fn names<'a>(drivers: impl IntoIterator<Item = &'a DriverId>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = drivers.into_iter().map(DriverId::as_str).collect();
    names.into_iter().collect()
}
