//! Events of the payment provider that say no more than how an order's payment went.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::id::OrderId;

use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::provider_events::due;
use crate::storage::orders::{OrderStore, ProviderEvent, Recorded};

statements! {
    /// As one by itself is recorded, in `provider_events.rs`; but what says that an order was charged, and is known, changes nothing and
    /// has no row. While the order is refunded it makes it due, as any other.
    RECORD_ALL = concat!(
        "with r as materialized (
            select * from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bool[])
                r (event_id, type, order_id, payment, account, says_charged)
         ), n as materialized (
            select r.event_id, r.type, about.order_id,
                   coalesce(r.says_charged and p.captured_at is not null and s.status <> 'refunding'
                            and about.order_id is not null, false) as is_known
              from r
              left join payments p on p.provider_charge_id = r.payment
             cross join lateral (select coalesce(p.order_id, r.order_id)) one (named)
              left join order_sagas s on s.order_id = named
             cross join lateral (
                select case when s.order_id is null or s.payment_account is not distinct from r.account then named end) about (order_id)
         ), e as (
            insert into payment_events (event_id, type, order_id)
            select event_id, type, order_id from n where not is_known order by event_id
            on conflict do nothing
            returning event_id, order_id
         ), k as materialized (
            select s.order_id
              from order_sagas s
             where s.order_id in (select order_id from e) and ", due!("s"), "
             order by s.order_id
               for update
         ), o as (
            update order_sagas s
               set next_run_at = case when s.lease_owner is null then least(s.next_run_at, now()) else s.next_run_at end,
                   due_requested = s.lease_owner is not null
              from k
             where s.order_id = k.order_id
            returning s.order_id)
         select event_id, exists (select from o where o.order_id = e.order_id) as made_due, false as is_known from e
         union all
         select event_id, false, true from n where is_known");
}

impl OrderStore {
    /// Stores an event with those that come at the same time. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn record_in_group(
        &self,
        event: &ProviderEvent,
    ) -> Option<Result<Recorded, StoreError>> {
        if event.reconciles.is_some() {
            return None;
        }
        let begun = AtomicBool::new(false);
        let record = |events| self.postgres.call_together(&begun, self.record_all(events, &begun));
        self.groups.event.join(event.clone(), record).await
    }

    async fn record_all(
        &self,
        events: Vec<ProviderEvent>,
        begun: &AtomicBool,
    ) -> Result<Vec<Option<Recorded>>, StoreError> {
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        let orders: Vec<Option<Uuid>> = events.iter().map(|event| event.order.map(OrderId::uuid)).collect();
        let payments: Vec<Option<&str>> = events.iter().map(|event| event.payment.as_deref()).collect();
        let accounts: Vec<Option<&str>> = events.iter().map(|event| event.account.name()).collect();
        let charged: Vec<bool> = events.iter().map(|event| event.says_charged).collect();
        let parameters: [&(dyn ToSql + Sync); 6] = [&ids, &kinds, &orders, &payments, &accounts, &charged];
        let client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let rows = RECORD_ALL.run_alone(&client, &parameters).await?;
        let (mut known, mut new) = (HashSet::new(), HashMap::new());
        for row in &rows {
            let id: &str = row.try_get("event_id")?;
            if row.try_get("is_known")? {
                known.insert(id);
            } else {
                new.insert(id, row.try_get("made_due")?);
            }
        }
        crash_point!("webhook_stored", if !new.is_empty());
        // Of two that are the same, one is new.
        let recorded = ids.iter().map(|id| match new.remove(id) {
            Some(made_due) => Some(Recorded::New { made_due }),
            None if known.contains(id) => Some(Recorded::NothingNew),
            None => Some(Recorded::Duplicate),
        });
        Ok(recorded.collect())
    }
}
