//! The log of an order: append-only lines in `order_saga_steps`, each written in the transaction of the change that it
//! documents.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use waybill_domain::id::OrderId;
use waybill_domain::operator::Operator;

use super::row::get;
use super::{Lease, OrderStore};
use crate::storage::StoreError;

/// A line of an order's log.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Its place in the log: greater than that of every earlier step of the order.
    pub id: i64,
    /// What was done.
    pub step: String,
    /// How it went.
    pub status: String,
    /// More, for people.
    pub detail: String,
    /// When, by the database's clock.
    pub created_at: Timestamp,
}

statements! {
    /// The round is that of the search under way: how many drivers were unassigned from the order.
    INSERT_STEP = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, round)
                   select $1, $2, $3, $4, $5, $6, reassignments from order_sagas where order_id = $1";
    /// With the fence and the round of the order as it stands in this transaction.
    INSERT_REQUEST = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, round)
                      select order_id, $2, 'requested', $3, fence, 'operator ' || $4, reassignments
                        from order_sagas where order_id = $1";
    READ_STEPS = "select id, step, status, detail, created_at from order_saga_steps where order_id = $1 order by id";
    LAST_STEP = "select coalesce(max(id), 0) from order_saga_steps where order_id = $1";
}

impl OrderStore {
    /// The order's log, the oldest line first.
    pub async fn read_steps(&self, id: OrderId) -> Result<Vec<StepRecord>, StoreError> {
        let rows = self.postgres.query(READ_STEPS, &[&id.uuid()]).await?;
        rows.iter().map(|row| step(row, get(row, "id")?)).collect()
    }

    /// The id of the order's last step so far; 0 when there is no such order.
    pub async fn last_step(&self, id: OrderId) -> Result<i64, StoreError> {
        let row = self.postgres.query_opt(LAST_STEP, &[&id.uuid()]).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Writes a line of the order's log. The transaction must hold the order's row by then: those who follow the log
    /// rely on it (`READ_AFTER`).
    pub(super) async fn log_step(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        step: &str,
        status: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        INSERT_STEP
            .execute(
                tx,
                &[
                    &lease.order.uuid(),
                    &step,
                    &status,
                    &detail,
                    &lease.fence,
                    &self.settings.instance,
                ],
            )
            .await
            .map(drop)
    }
}

/// Logs what an operator asked for, in the transaction of what was done about it.
pub(super) async fn log_request(
    tx: &Transaction<'_>,
    id: OrderId,
    step: &str,
    by: &Operator,
    detail: &str,
) -> Result<(), StoreError> {
    INSERT_REQUEST
        .execute(tx, &[&id.uuid(), &step, &detail, &by.as_str()])
        .await
        .map(drop)
}

/// The step `id` in a row with the columns `step`, `status`, `detail` and `created_at`.
fn step(row: &Row, id: i64) -> Result<StepRecord, StoreError> {
    Ok(StepRecord {
        id,
        step: get(row, "step")?,
        status: get(row, "status")?,
        detail: get(row, "detail")?,
        created_at: get(row, "created_at")?,
    })
}
