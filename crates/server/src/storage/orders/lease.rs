//! Which worker holds an order, and until when. Leases are kept by the database's clock: instances need not agree on time.

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::error;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::payment::Operation;

use super::due::due_from;
use super::ledger::{self, Attempt, attempt};
use super::row::{first_open, get, in_scope, leased_order, leased_order_columns, order_tables, scope_values};
use super::{Confirmed, Lease, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// The holder of an order's lease.
#[derive(Debug, Clone)]
pub struct LeaseHolder {
    /// The instance.
    pub owner: String,
    /// Until when, by the database's clock.
    pub until: Timestamp,
}

statements! {
    LOCK_ORDER = "select 1 from order_sagas where order_id = $1 for update";
    LOCK_IN_SCOPE = concat!(
        "select 1
           from order_sagas s
           left join order_assignments a on a.order_id = s.order_id
          where s.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"), "
            for update of s");
    READ_LEASED = concat!(
        "select ", leased_order_columns!(), "
           from ", order_tables!(), " ", first_open!(), "
          where s.order_id = $1");
    /// The unfinished orders whose lease ran out and whose next try is due, each given to one sweeper only. What is leased is due again when
    /// its lease is over: who looks for what is due does not pass it meanwhile.
    CLAIM_DUE = concat!(
        "with due as (
             select order_id
               from order_sagas
              where ", due_from!("$5"), " and next_run_at <= now() and (lease_until is null or lease_until < now())
              order by next_run_at
              limit $3
                for update skip locked),
         s as (
             update order_sagas o
                set lease_owner = $1, lease_until = now() + make_interval(secs => $2),
                    next_run_at = now() + make_interval(secs => $2),
                    fence = fence + 1, attempts = attempts + 1, due_requested = false,
                    needs_attention = coalesce(needs_attention, case when attempts + 1 >= $4
                        then 'tried ' || (attempts + 1)::text || ' times, still ' || status end)
               from due
              where o.order_id = due.order_id
             returning o.*)
         select ", leased_order_columns!(), "
           from s
           left join payments p on p.order_id = s.order_id
           left join order_assignments a on a.order_id = s.order_id ", first_open!());
    /// An order that this version cannot read: others, and other versions, can.
    QUARANTINE = concat!(
        "update order_sagas
            set lease_owner = null, lease_until = null, next_run_at = now() + interval '1 minute',
                needs_attention = $3
          where order_id = $1 and fence = $2 and ", of_found!("finished_at is null"));
    /// By the partial indexes of what is due and of what is flagged: other orders cost nothing here.
    COUNT_UNFINISHED = concat!(
        "select (select count(*) from order_sagas where ", due_from!("$1"), "),
                (select count(*) from order_sagas where needs_attention is not null)");
    /// Renews the lease and reads what is known of a request to the provider, in one statement. The due time moves on before it is reached, and
    /// not with each renewal: that costs entries in all indexes.
    RENEW = concat!(
        "update order_sagas s
            set lease_until = now() + make_interval(secs => $3),
                next_run_at = case when next_run_at < now() + make_interval(secs => $3 / 2)
                                   then now() + make_interval(secs => $3) else next_run_at end
           from (select 1) one left join payment_attempts a on a.order_id = $1 and a.operation = $4 and a.number = $5
          where s.order_id = $1 and s.fence = $2 and ", of_found!("s.finished_at is null"), "
         returning now(), s.cancel_requested_at is not null as cancel_requested,
                   a.first_sent_at, extract(epoch from now() - a.first_sent_at)::float8 as age,
                   extract(epoch from now() - a.last_sent_at)::float8 as last_sent_age,
                   a.sends, coalesce(a.state = 'not_executed', false) as unexecuted, a.server_errors");
    /// From whichever worker has it, finished or not: that one's request is repeated under its key. The attempts so far were
    /// for what is done already, and are counted anew.
    REOPEN = "update order_sagas
                 set fence = fence + 1, lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                     next_run_at = now() + make_interval(secs => $3),
                     attempts = 0, finished_at = null, reopened_at = now(), updated_at = now(),
                     needs_attention = case when $4 then null else needs_attention end
               where order_id = $1
              returning fence";
    /// A retry that was requested meanwhile is not deferred by this worker's delay.
    DEFER = concat!(
        "update order_sagas
            set lease_owner = null, lease_until = null,
                next_run_at = case when due_requested then now() else now() + make_interval(secs => $3) end,
                needs_attention = coalesce($4, needs_attention), attempts = attempts - $5
          where order_id = $1 and fence = $2 and ", of_found!("finished_at is null"));
}

/// After so many tries of an order an operator should look. It is still tried.
const ATTENTION_AFTER: i32 = 10;

/// A renewed lease.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// When it was renewed.
    pub confirmed: Confirmed,
    /// Whether a cancellation was requested.
    pub cancel_requested: bool,
    /// What is known of the request that was asked about; `None` when it was never sent.
    pub attempt: Option<Attempt>,
}

/// Why an order is deferred.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deferral {
    /// The step that could not be done, and why: a line for the log. `None` where nothing is new.
    pub step: Option<(&'static str, String)>,
    /// Why an operator should look, if one should.
    pub needs_attention: Option<String>,
    /// Whether this try sent nothing: then it is not counted.
    pub sent_nothing: bool,
    /// The request of which it is certain now that no send so far was executed.
    pub unexecuted: Option<Operation>,
}

impl OrderStore {
    /// Claims up to `limit` orders whose lease ran out and whose next try is due.
    pub async fn claim_due(&self, limit: i64) -> Result<Vec<LeasedOrder>, StoreError> {
        if !self.is_any_due().await? {
            return Ok(Vec::new());
        }
        let asked_at = Timestamp::now();
        let (instance, lease_secs) = (&self.settings.instance, self.settings.lease_secs);
        let parameters: [&(dyn ToSql + Sync); 5] = [instance, &lease_secs, &limit, &ATTENTION_AFTER, &self.due.get()];
        let rows = self.postgres.query(CLAIM_DUE, &parameters).await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            match leased_order(row, asked_at) {
                Ok(order) => due.push(order),
                // One row must not take the others down with it: they are claimed already.
                Err(error) => self.quarantine(row, &error).await?,
            }
        }
        Ok(due)
    }

    /// Leases the (locked) order, for there is something to do for it.
    pub(super) async fn reopen(&self, tx: &Transaction<'_>, leased: LeasedOrder) -> Result<LeasedOrder, StoreError> {
        self.lease_again(tx, leased, false).await
    }

    /// The same, by an operator's decision: why the order was flagged is dealt with.
    pub(super) async fn reopen_for_operator(
        &self,
        tx: &Transaction<'_>,
        leased: LeasedOrder,
    ) -> Result<LeasedOrder, StoreError> {
        self.lease_again(tx, leased, true).await
    }

    async fn lease_again(
        &self,
        tx: &Transaction<'_>,
        leased: LeasedOrder,
        is_dealt_with: bool,
    ) -> Result<LeasedOrder, StoreError> {
        let order = leased.lease.order;
        let (instance, lease_secs) = (&self.settings.instance, self.settings.lease_secs);
        let row = REOPEN
            .query_one(tx, &[&order.uuid(), instance, &lease_secs, &is_dealt_with])
            .await?;
        let lease = Lease {
            order,
            fence: row.try_get(0)?,
        };
        Ok(LeasedOrder { lease, ..leased })
    }

    /// Sets an order aside that cannot be read.
    async fn quarantine(&self, row: &Row, why: &StoreError) -> Result<(), StoreError> {
        let (order, fence): (Uuid, i64) = (row.try_get("order_id")?, row.try_get("fence")?);
        error!(order_id = %order, error = %why, "order cannot be read and is quarantined");
        self.postgres
            .execute(QUARANTINE, &[&order, &fence, &why.to_string()])
            .await
            .map(drop)
    }

    /// How many orders are unfinished, and how many need attention: also settled ones whose payment is disputed.
    pub async fn count_unfinished(&self) -> Result<(i64, i64), StoreError> {
        let row = self.postgres.query_opt(COUNT_UNFINISHED, &[&self.due.get()]).await?;
        row.map_or(Ok((0, 0)), |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    /// The order as its worker has it; without the right to change it.
    pub async fn read_leased(&self, id: OrderId) -> Result<Option<LeasedOrder>, StoreError> {
        let asked_at = Timestamp::now();
        let row = self.postgres.query_opt(READ_LEASED, &[&id.uuid()]).await?;
        row.map(|row| leased_order(&row, asked_at)).transpose()
    }

    /// Keeps the lease for another term; also reads what is known of a request of `operation`. A step that waits renews
    /// before its lease runs out.
    pub async fn renew(&self, lease: Lease, operation: Option<Operation>) -> Result<Renewal, StoreError> {
        let asked_at = Timestamp::now();
        let (operation, number) = operation.map(|one| (one.as_str(), one.number())).unzip();
        let row = self
            .postgres
            .query_opt(
                RENEW,
                &[
                    &lease.order.uuid(),
                    &lease.fence,
                    &self.settings.lease_secs,
                    &operation,
                    &number,
                ],
            )
            .await?
            .ok_or_else(|| lease.lost())?;
        Ok(Renewal {
            confirmed: Confirmed::new(row.try_get(0)?, asked_at),
            cancel_requested: row.try_get("cancel_requested")?,
            attempt: attempt(&row)?,
        })
    }

    /// Returns the lease: any sweeper may claim the order after `delay`.
    pub async fn defer(&self, lease: Lease, delay: Duration, why: &Deferral) -> Result<(), StoreError> {
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                let rows = DEFER
                    .execute(
                        &tx,
                        &[
                            &lease.order.uuid(),
                            &lease.fence,
                            &delay.as_secs_f64(),
                            &why.needs_attention,
                            &i32::from(why.sent_nothing),
                        ],
                    )
                    .await?;
                if rows != 1 {
                    return Err(lease.lost());
                }
                if let Some((step, detail)) = &why.step {
                    self.log_new_step(&tx, lease, step, "postponed", detail).await?;
                }
                if let Some(operation) = why.unexecuted {
                    ledger::record_not_executed(&tx, lease.order, operation).await?;
                }
                Ok(tx.commit().await?)
            })
            .await
    }
}

/// Locks the order. `false`: no such order.
pub(super) async fn lock_row(tx: &Transaction<'_>, id: OrderId) -> Result<bool, StoreError> {
    Ok(LOCK_ORDER.query_opt(tx, &[&id.uuid()]).await?.is_some())
}

/// Locks the order, then reads it: what is read is newer than the lock. `None`: there is no such order in this scope.
pub(super) async fn lock(tx: &Transaction<'_>, id: OrderId, scope: &Scope) -> Result<Option<LeasedOrder>, StoreError> {
    let asked_at = Timestamp::now();
    let (tenant, user, order, driver) = scope_values(scope);
    let parameters: [&(dyn ToSql + Sync); 5] = [&id.uuid(), &tenant, &user, &order, &driver];
    if LOCK_IN_SCOPE.query_opt(tx, &parameters).await?.is_none() {
        return Ok(None);
    }
    let row = READ_LEASED.query_one(tx, &[&id.uuid()]).await?;
    let leased = leased_order(&row, asked_at)?;
    // While we waited for the lock, the order may have got another driver.
    Ok(Some(leased).filter(|leased| scope.covers(&leased.order)))
}

/// The holder of the order of this row, if it has one.
pub(super) fn holder(row: &Row) -> Result<Option<LeaseHolder>, StoreError> {
    let (owner, until) = (get(row, "lease_owner")?, get(row, "lease_until")?);
    Ok(Option::zip(owner, until).map(|(owner, until)| LeaseHolder { owner, until }))
}
