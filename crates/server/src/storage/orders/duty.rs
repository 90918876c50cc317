//! Whether drivers take orders, and what they can do.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Row;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::DriverId;
use waybill_domain::tenant::Tenant;

use super::OrderStore;
use super::row::{driver, tags};
use crate::storage::StoreError;

statements! {
    /// The time of a change that changes nothing stays: a call that is repeated is no news.
    SET_DUTY = "insert into drivers as d (driver_id, off_duty_since, tags, duty_changed_at)
                values ($1, case when $2 = false then now() end, coalesce($3::text[], '{}'), now())
                on conflict (driver_id) do update
                   set off_duty_since = case when $2 is null then d.off_duty_since
                                             when $2 then null
                                             else coalesce(d.off_duty_since, now()) end,
                       tags = coalesce($3::text[], d.tags),
                       duty_changed_at =
                           case when (d.off_duty_since is null) is distinct from coalesce($2, d.off_duty_since is null)
                                  or d.tags is distinct from coalesce($3::text[], d.tags)
                                then now() else d.duty_changed_at end
                returning off_duty_since is null as is_on, tags";
    DUTY_OF = "select driver_id, off_duty_since is null as is_on, tags from drivers where driver_id = any($1)";
    /// A change is there at the latest when its statement has ended, which the settings limit.
    CHANGED = "select driver_id, off_duty_since is null as is_on, tags from drivers
                      where duty_changed_at > now() - make_interval(secs => $1) and tenant_of(driver_id) = $2";
}

impl OrderStore {
    /// Says whether a driver takes orders, and what it can do; what is `None` stays as it was. What is so then.
    pub async fn set_duty(
        &self,
        driver: &DriverId,
        is_on: Option<bool>,
        tags: Option<&Tags>,
    ) -> Result<Duty, StoreError> {
        let tags = tags.map(|tags| tags.iter().collect::<Vec<_>>());
        let row = self
            .postgres
            .query_opt(SET_DUTY, &[&driver.as_str(), &is_on, &tags])
            .await?
            .ok_or_else(|| StoreError::unexpected("an upsert returned no row"))?;
        duty(&row)
    }

    /// The duty of those of these drivers of whom anything is known. The others are on duty, without tags.
    pub async fn duty_of(&self, drivers: &[DriverId]) -> Result<HashMap<DriverId, Duty>, StoreError> {
        let names: Vec<&str> = drivers.iter().map(DriverId::as_str).collect();
        duties(&self.postgres.query(DUTY_OF, &[&names]).await?)
    }

    /// The duty of the drivers of this tenant whose duty changed within this time.
    pub async fn duty_changed(&self, tenant: &Tenant, within: Duration) -> Result<HashMap<DriverId, Duty>, StoreError> {
        let within = within.as_secs_f64();
        duties(&self.postgres.query(CHANGED, &[&within, &tenant.as_str()]).await?)
    }
}

fn duties(rows: &[Row]) -> Result<HashMap<DriverId, Duty>, StoreError> {
    rows.iter()
        .map(|row| Ok((driver(row.try_get("driver_id")?)?, duty(row)?)))
        .collect()
}

/// The duty in the columns `is_on` and `tags`.
pub(super) fn duty(row: &Row) -> Result<Duty, StoreError> {
    Ok(Duty {
        is_on: row.try_get("is_on")?,
        tags: tags(&row.try_get::<_, Vec<&str>>("tags")?)?,
    })
}
