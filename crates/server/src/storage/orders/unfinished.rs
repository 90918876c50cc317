//! The unfinished orders, as operators see them. Rows are read as they are, without the rulebook: an order that this version
//! cannot parse is one that an operator has to see.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::tenant::Tenant;

use super::OrderStore;
use super::due::due_from;
use super::lease::{LeaseHolder, holder};
use super::row::get;
use crate::storage::StoreError;

/// An unfinished order.
#[derive(Debug, Clone)]
pub struct UnfinishedOrder {
    /// The order.
    pub order: Uuid,
    /// Its state, by its name in the database.
    pub status: String,
    /// When it was accepted, its cancellation was requested, or its driver was unassigned: the latest of these.
    pub since: Timestamp,
    /// How often a worker claimed it.
    pub attempts: i32,
    /// How often the request to the provider that it waits for may have been sent.
    pub sends: i32,
    /// Why a person should look.
    pub needs_attention: Option<String>,
    /// Which instance holds it, and until when.
    pub lease: Option<LeaseHolder>,
    /// When a sweeper may claim it, once its lease is over.
    pub next_run_at: Timestamp,
}

/// A list of unfinished orders.
#[derive(Debug, Clone)]
pub struct UnfinishedOrders {
    /// The oldest first.
    pub orders: Vec<UnfinishedOrder>,
    /// How many there are beyond these.
    pub more: i64,
    /// The database's clock.
    pub now: Timestamp,
}

statements! {
    /// By the partial indexes of what is due and of what is flagged: other orders cost nothing here.
    LIST_UNFINISHED = concat!("select s.order_id, s.status,
                              greatest(s.created_at, s.cancel_requested_at, s.search_from, s.reopened_at) as since,
                              s.attempts, coalesce(a.sends, 0) as sends, s.needs_attention,
                              s.lease_owner, s.lease_until, s.next_run_at, now() as now, count(*) over () as total
                         from order_sagas s
                         left join lateral (
                              select sum(sends)::integer as sends from payment_attempts
                               where order_id = s.order_id
                                 and operation = any (case s.status when 'charging' then array['charge']
                                                    else array['refund', 'capture', 'void'] end)) a on true
                        where (", due_from!("$4"), " or s.needs_attention is not null)
                          and (not $1 or s.needs_attention is not null
                               or greatest(s.created_at, s.cancel_requested_at, s.search_from, s.reopened_at)
                                  < now() - interval '1 minute')
                          and ($3::text is null or tenant_of(s.user_id) = $3)
                        order by since, s.order_id
                        limit $2");
    READ_CLOCK = "select now()";
}

impl OrderStore {
    /// Up to `limit` unfinished orders, the oldest first; or only those that are older than a minute or flagged.
    /// Of the scope only the business counts.
    pub async fn list_unfinished(
        &self,
        scope: &Scope,
        only_stuck: bool,
        limit: i64,
    ) -> Result<UnfinishedOrders, StoreError> {
        let tenant = scope.tenant().map(Tenant::as_str);
        let due = self.due.get();
        let parameters: [&(dyn ToSql + Sync); 4] = [&only_stuck, &limit, &tenant, &due];
        let rows = self.postgres.query(LIST_UNFINISHED, &parameters).await?;
        let Some(first) = rows.first() else {
            return Ok(UnfinishedOrders {
                orders: Vec::new(),
                more: 0,
                now: self.clock().await?,
            });
        };
        let total: i64 = get(first, "total")?;
        Ok(UnfinishedOrders {
            more: total - i64::try_from(rows.len()).unwrap_or(total),
            now: get(first, "now")?,
            orders: rows.iter().map(unfinished).collect::<Result<_, _>>()?,
        })
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let row = self.postgres.query_opt(READ_CLOCK, &[]).await?;
        let row = row.ok_or_else(|| StoreError::unexpected("the database has no clock"))?;
        Ok(row.try_get(0)?)
    }
}

fn unfinished(row: &Row) -> Result<UnfinishedOrder, StoreError> {
    Ok(UnfinishedOrder {
        order: get(row, "order_id")?,
        status: get(row, "status")?,
        since: get(row, "since")?,
        attempts: get(row, "attempts")?,
        sends: get(row, "sends")?,
        needs_attention: get(row, "needs_attention")?,
        lease: holder(row)?,
        next_run_at: get(row, "next_run_at")?,
    })
}
