//! The log of an order: append-only lines in `order_saga_steps`, each written in the transaction of the change that it
//! documents.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::operator::Operator;

use super::row::{get, in_scope, scope_values};
use super::{Lease, OrderStore};
use crate::storage::{Statement, StoreError};

/// A line of an order's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Its place in the log: greater than that of every earlier line of the order.
    pub id: i64,
    /// What was done.
    pub step: String,
    /// How it went.
    pub status: String,
    /// More, for people.
    pub detail: String,
    /// The fence under which it was written.
    pub fence: i64,
    /// Who wrote it: the instance, or `operator NAME`.
    pub actor: String,
    /// Who asked for it, by role and name; `None`: the saga did it by itself, or callers are not known.
    pub requested_by: Option<String>,
    /// In which search for a driver: how many were unassigned before.
    pub round: i32,
    /// When, by the database's clock.
    pub created_at: Timestamp,
}

/// The columns of a line, of `order_saga_steps t`, for [`line`] to read. The names of some are those of the order, too.
macro_rules! log_columns {
    () => {
        "t.id as line_id, t.step, t.status as line_status, t.detail, t.fence as line_fence, t.actor, t.requested_by, t.round, \
         t.created_at as line_created_at"
    };
}
pub(super) use log_columns;

statements! {
    /// The round is that of the search under way: how many drivers were unassigned from the order.
    INSERT_STEP = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
                   select $1, $2, $3, $4, $5, $6, $7, reassignments from order_sagas where order_id = $1";
    /// The same, unless the order's last line says so already.
    INSERT_NEW_STEP = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
                       select $1, $2, $3, $4, $5, $6, $7, o.reassignments
                         from order_sagas o
                         left join lateral (select step, status, detail from order_saga_steps
                                             where order_id = $1 order by id desc limit 1) last on true
                        where o.order_id = $1
                          and (last.step, last.status, last.detail) is distinct from ($2, $3, $4)";
    /// With the fence and the round of the order as it stands in this transaction.
    INSERT_REQUEST = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
                      select order_id, $2, 'requested', $3, fence, 'operator ' || $4, 'operator ' || $4, reassignments
                        from order_sagas where order_id = $1";
    READ_LOG = concat!("select ", log_columns!(), " from order_saga_steps t where t.order_id = $1 order by t.id");
    LAST_STEP = concat!(
        "select coalesce(max(t.id), 0)
           from order_saga_steps t
           join order_sagas s on s.order_id = t.order_id
           left join order_assignments a on a.order_id = t.order_id
          where t.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"));
}

impl OrderStore {
    /// The id of the order's last step so far; 0 when there is no such order in this scope.
    pub async fn last_step(&self, scope: &Scope, id: OrderId) -> Result<i64, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 5] = [&id.uuid(), &tenant, &user, &only, &driver];
        let row = self.postgres.query_opt(LAST_STEP, &parameters).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Writes a line of the order's log. The transaction must hold the order's row by then: those who follow the log
    /// rely on it (`READ_AFTER` in `read.rs`).
    pub(super) async fn log_step(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        step: &str,
        status: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.insert_step(INSERT_STEP, tx, lease, step, status, detail).await
    }

    /// Writes a line unless the order's last line is the same: what is tried again and again is logged once.
    pub(super) async fn log_new_step(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        step: &str,
        status: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.insert_step(INSERT_NEW_STEP, tx, lease, step, status, detail).await
    }

    async fn insert_step(
        &self,
        statement: Statement,
        tx: &Transaction<'_>,
        lease: Lease,
        step: &str,
        status: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        statement
            .execute(
                tx,
                &[
                    &lease.order.uuid(),
                    &step,
                    &status,
                    &detail,
                    &lease.fence,
                    &self.settings.instance,
                    &self.requested_by.as_deref(),
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

/// The order's log, the oldest line first, as it is in this transaction.
pub(super) async fn read_log(tx: &Transaction<'_>, id: OrderId) -> Result<Vec<LogLine>, StoreError> {
    let rows = READ_LOG.query(tx, &[&id.uuid()]).await?;
    rows.iter().map(line).collect()
}

/// The line in the columns [`log_columns`].
pub(super) fn line(row: &Row) -> Result<LogLine, StoreError> {
    Ok(LogLine {
        id: get(row, "line_id")?,
        step: get(row, "step")?,
        status: get(row, "line_status")?,
        detail: get(row, "detail")?,
        fence: get(row, "line_fence")?,
        actor: get(row, "actor")?,
        requested_by: get(row, "requested_by")?,
        round: get(row, "round")?,
        created_at: get(row, "line_created_at")?,
    })
}
