//! Services that were rendered at the order's price: the driver is free, and no money moves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::money::Money;
use waybill_domain::order::{Order, Payment, ReleaseReason, State};

use crate::storage::StoreError;
use crate::storage::orders::release::released;
use crate::storage::orders::row::{first_open, get, leased_order, leased_order_columns, order_tables, scope_values};
use crate::storage::orders::{LeasedOrder, OrderStore};

/// A completion that a caller asks for.
pub(in crate::storage::orders) struct Rendered {
    pub order: OrderId,
    pub scope: Scope,
    /// By whom, if it is said.
    pub driver: Option<DriverId>,
    /// What it cost, if it is said.
    pub amount: Option<Money>,
    pub requested_by: Option<Arc<str>>,
}

statements! {
    /// Those within the scope of who asks, which no one else has locked.
    LOCK_ORDERS = "select s.order_id, now() as now
                     from order_sagas s
                     join unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[]) r (order_id, tenant, user_id, one_order, driver_id)
                       on s.order_id = r.order_id
                     left join order_assignments a on a.order_id = s.order_id
                    where (r.tenant is null or tenant_of(s.user_id) = r.tenant)
                      and (r.user_id is null or s.user_id = r.user_id)
                      and (r.one_order is null or s.order_id = r.one_order)
                      and (r.driver_id is null or a.driver_id = r.driver_id)
                    order by s.order_id
                      for update of s skip locked";
    READ = concat!(
        "select ", leased_order_columns!(), ", coalesce((select true from refunds f where f.order_id = s.order_id limit 1), false) as has_refunds
           from ", order_tables!(), " ", first_open!(), "
          where s.order_id = any($1)");
    COMPLETE = "with r as materialized (
            select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) r (order_id, driver_id, detail, requested_by)
         ), d as (
            update drivers d
               set active_order_id = null, assignment_seq = d.assignment_seq + 1
              from r
             where d.driver_id = r.driver_id and d.active_order_id = r.order_id
            returning r.order_id, d.driver_id, d.assignment_seq
         ), a as (
            update order_assignments a
               set released_at = now(), released_seq = d.assignment_seq, release_reason = $5
              from d
             where a.order_id = d.order_id and a.driver_id = d.driver_id and a.released_at is null
            returning a.order_id
         ), o as (
            update order_sagas s set updated_at = now() from a where s.order_id = a.order_id
            returning s.order_id, s.fence, s.reassignments
         ), l as (
            insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
            select order_id, 'complete', 'succeeded', detail, fence, $6, requested_by, reassignments
              from r join o using (order_id)
             order by order_id)
         select count(*) from o";
}

impl OrderStore {
    /// Completes an order with those that come at the same time: as it then is. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn complete_in_group(
        &self,
        rendered: Rendered,
    ) -> Option<Result<Order, StoreError>> {
        let begun = AtomicBool::new(false);
        let complete = |all| self.postgres.call_together(&begun, self.complete_all(all, &begun));
        self.groups.complete.join(rendered, complete).await
    }

    async fn complete_all(&self, all: Vec<Rendered>, begun: &AtomicBool) -> Result<Vec<Option<Order>>, StoreError> {
        let mut client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let tx = client.transaction().await?;
        // Sent together and in this order: what is read is newer than the locks.
        LOCK_ORDERS.prepare(&tx).await?;
        let ((locked, now), mut orders) = pipelined!(lock(&tx, &all), read_plain(&tx, &all))?;
        orders.retain(|order, _| locked.contains(order));
        let mut completed: Vec<Option<Order>> = Vec::with_capacity(all.len());
        let (mut ids, mut drivers, mut details, mut requested_by) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for one in &all {
            // Of two who ask for one order, the second goes by itself.
            let order = orders.remove(&one.order.uuid()).filter(|order| is_plain(order, one));
            let driver = order.as_ref().and_then(|leased| leased.order.assignment.as_ref());
            if let Some(assignment) = driver {
                ids.push(one.order.uuid());
                drivers.push(assignment.driver.as_str().to_owned());
                details.push(assignment.driver.name().to_owned());
                requested_by.push(one.requested_by.as_deref());
            }
            completed.push(order.map(|leased| released(leased.order, ReleaseReason::Completed, now)));
        }
        if !ids.is_empty() {
            let reason = ReleaseReason::Completed.as_str();
            let parameters: [&(dyn ToSql + Sync); 6] = [
                &ids,
                &drivers,
                &details,
                &requested_by,
                &reason,
                &self.settings.instance,
            ];
            let done: i64 = COMPLETE.query_one(&tx, &parameters).await?.try_get(0)?;
            if usize::try_from(done) != Ok(ids.len()) {
                return Err(StoreError::unexpected(
                    "a driver does not serve the order that it is assigned to",
                ));
            }
        }
        tx.commit().await?;
        Ok(completed)
    }
}

/// The orders that are locked now, and the time of the transaction.
async fn lock(tx: &Transaction<'_>, all: &[Rendered]) -> Result<(HashSet<Uuid>, Timestamp), StoreError> {
    let ids: Vec<Uuid> = all.iter().map(|one| one.order.uuid()).collect();
    let scopes = || all.iter().map(|one| scope_values(&one.scope));
    let tenants: Vec<Option<&str>> = scopes().map(|(tenant, ..)| tenant).collect();
    let users: Vec<Option<&str>> = scopes().map(|(_, user, ..)| user).collect();
    let only: Vec<Option<Uuid>> = scopes().map(|(_, _, only, _)| only).collect();
    let drivers: Vec<Option<&str>> = scopes().map(|(.., driver)| driver).collect();
    let rows = LOCK_ORDERS
        .query(tx, &[&ids, &tenants, &users, &only, &drivers])
        .await?;
    let now = rows.first().map_or(Ok(Timestamp::UNIX_EPOCH), |row| get(row, "now"))?;
    let ids = rows.iter().map(|row| Ok(row.try_get("order_id")?));
    Ok((ids.collect::<Result<_, StoreError>>()?, now))
}

/// The orders of which nothing was refunded, by their id.
async fn read_plain(tx: &Transaction<'_>, all: &[Rendered]) -> Result<HashMap<Uuid, LeasedOrder>, StoreError> {
    let ids: Vec<Uuid> = all.iter().map(|one| one.order.uuid()).collect();
    let asked_at = Timestamp::now();
    let rows = READ.query(tx, &[&ids]).await?;
    let mut orders = HashMap::with_capacity(rows.len());
    for row in &rows {
        if get::<bool>(row, "has_refunds")? {
            continue;
        }
        // One that this version cannot read says so where it goes by itself.
        if let Ok(order) = leased_order(row, asked_at) {
            orders.insert(order.order.id.uuid(), order);
        }
    }
    Ok(orders)
}

/// Whether it is served, its price was paid, and nothing else is to be done or said about it.
fn is_plain(leased: &LeasedOrder, rendered: &Rendered) -> bool {
    let order = &leased.order;
    let is_paid = order.payment.as_ref().is_some_and(|payment| {
        payment.captured_minor == Some(order.amount.minor_units())
            && payment.kept_minor == 0
            && Payment::is_captured(payment)
    });
    let is_price = rendered.amount.is_none_or(|amount| amount == order.amount);
    let is_driver = |driver: &DriverId| rendered.driver.as_ref().is_none_or(|named| named == driver);
    let serves = order
        .assignment
        .as_ref()
        .is_some_and(|assignment| assignment.release.is_none() && is_driver(&assignment.driver));
    // While the lock was waited for, the order may have got another driver.
    let is_covered = rendered.scope.covers(order);
    order.state == State::Succeeded && leased.pending_step().is_none() && is_paid && is_price && serves && is_covered
}
