//! Who works on an order, and until when. Leases are kept by the database's clock: instances need not agree on time.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tracing::error;
use uuid::Uuid;

use super::advance::fenced;
use super::row::{work, work_columns};
use super::{Lease, OrderStore, Work};
use crate::storage::StoreError;

statements! {
    /// The orders that nobody works on and whose time has come, each given to one sweeper only.
    CLAIM_DUE = concat!(
        "with due as (
             select order_id
               from order_sagas
              where finished_at is null and next_run_at <= now() and (lease_until is null or lease_until < now())
              order by next_run_at
              limit $3
                for update skip locked),
         s as (
             update order_sagas o
                set lease_owner = $1, lease_until = now() + make_interval(secs => $2),
                    fence = fence + 1, attempts = attempts + 1,
                    needs_attention = coalesce(needs_attention, case when attempts + 1 >= $4
                        then 'tried ' || (attempts + 1)::text || ' times, still ' || status end)
               from due
              where o.order_id = due.order_id
             returning o.*)
         select ", work_columns!(), "
           from s
           left join payments p on p.order_id = s.order_id
           left join order_assignments a on a.order_id = s.order_id");
    /// An order that this version cannot read: others, and other versions, can.
    PARK = "update order_sagas
               set lease_owner = null, lease_until = null, next_run_at = now() + interval '1 minute',
                   needs_attention = $3
             where order_id = $1 and fence = $2 and finished_at is null";
    /// By the partial index of what is due: finished orders cost nothing here.
    COUNT_WAITING = "select count(*), count(needs_attention) from order_sagas where finished_at is null";
    RENEW = "update order_sagas set lease_until = now() + make_interval(secs => $3)
              where order_id = $1 and fence = $2 and finished_at is null
             returning now(), cancel_requested_at is not null";
    POSTPONE = "update order_sagas
                   set lease_owner = null, lease_until = null, next_run_at = now() + make_interval(secs => $3),
                       needs_attention = coalesce($4, needs_attention)
                 where order_id = $1 and fence = $2 and finished_at is null";
}

/// After so many tries of an order a person should look. It is still tried.
const ATTENTION_AFTER: i32 = 10;

/// A lease that was kept.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// The database's clock.
    pub now: Timestamp,
    /// Whether somebody asked to cancel the order meanwhile.
    pub cancel_requested: bool,
}

/// Why an order is put off.
#[derive(Debug, Clone, Default)]
pub struct Postponement {
    /// The step that could not be done, and why: a line for the log. `None` where nothing is new.
    pub step: Option<(&'static str, String)>,
    /// Why a person should look, if one should.
    pub needs_attention: Option<String>,
}

impl OrderStore {
    /// Takes up to `limit` orders whose owner is gone or whose time has come.
    pub async fn claim_due(&self, limit: i64) -> Result<Vec<Work>, StoreError> {
        let rows = self
            .postgres
            .query(
                CLAIM_DUE,
                &[
                    &self.settings.instance,
                    &self.settings.lease_secs,
                    &limit,
                    &ATTENTION_AFTER,
                ],
            )
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            match work(row) {
                Ok(work) => due.push(work),
                // One row must not take the others down with it: they are claimed already.
                Err(error) => self.park(row, &error).await?,
            }
        }
        Ok(due)
    }

    /// Puts an order aside that cannot be read.
    async fn park(&self, row: &Row, why: &StoreError) -> Result<(), StoreError> {
        let (order, fence): (Uuid, i64) = (row.try_get("order_id")?, row.try_get("fence")?);
        error!(%order, error = %why, "an order cannot be read and is put aside");
        self.postgres
            .execute(PARK, &[&order, &fence, &why.to_string()])
            .await
            .map(drop)
    }

    /// How many orders are not at rest, and how many of them a person should look at.
    pub async fn count_waiting(&self) -> Result<(i64, i64), StoreError> {
        let row = self.postgres.query_opt(COUNT_WAITING, &[]).await?;
        row.map_or(Ok((0, 0)), |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    /// Keeps the lease for another term. A step that waits does this before its lease runs out.
    pub async fn renew(&self, lease: Lease) -> Result<Renewal, StoreError> {
        let row = self
            .postgres
            .query_opt(RENEW, &[&lease.order.uuid(), &lease.fence, &self.settings.lease_secs])
            .await?
            .ok_or_else(|| fenced(lease))?;
        Ok(Renewal {
            now: row.try_get(0)?,
            cancel_requested: row.try_get(1)?,
        })
    }

    /// Puts the order off: the lease is given back, any sweeper may take it up after `delay`.
    pub async fn postpone(&self, lease: Lease, delay: Duration, why: &Postponement) -> Result<(), StoreError> {
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                let rows = POSTPONE
                    .execute(
                        &tx,
                        &[
                            &lease.order.uuid(),
                            &lease.fence,
                            &delay.as_secs_f64(),
                            &why.needs_attention,
                        ],
                    )
                    .await?;
                if rows != 1 {
                    return Err(fenced(lease));
                }
                if let Some((step, detail)) = &why.step {
                    self.log_step(&tx, lease, step, "postponed", detail).await?;
                }
                Ok(tx.commit().await?)
            })
            .await
    }
}
