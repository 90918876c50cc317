//! Charges that the provider confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::order::State;
use waybill_domain::payment::Operation;

use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::advance::after;
use crate::storage::orders::row::get;
use crate::storage::orders::{Confirmed, LeasedOrder, OrderStore, StepOutcome};

/// An order whose charge the provider confirmed.
pub(in crate::storage::orders) struct ConfirmedCharge {
    pub order: LeasedOrder,
    pub provider_id: String,
    pub requested_by: Option<Arc<str>>,
}

statements! {
    /// Those whose fence holds and which no one else has locked.
    ENTER_CHARGES = "with r as materialized (
            select * from unnest($1::uuid[], $2::int8[], $3::text[], $4::int8[], $5::text[], $6::bool[], $7::text[])
                r (order_id, fence, provider_id, amount, currency, is_held, requested_by)
         ), k as materialized (
            select s.order_id
              from order_sagas s join r on s.order_id = r.order_id
             where s.fence = r.fence and s.status = $10
             order by s.order_id
               for update of s skip locked
         ), o as (
            update order_sagas s
               set status = $8, updated_at = now(), lease_until = now() + make_interval(secs => $9)
              from k
             where s.order_id = k.order_id
            returning s.order_id, s.cancel_requested_at, s.reconcile_requested_at, s.reassignments
         ), p as (
            insert into payments (order_id, amount, currency, provider_charge_id, captured_amount, captured_at)
            select order_id, amount, currency, provider_id, case when not is_held then amount end, case when not is_held then now() end
              from r join o using (order_id)
         ), a as (
            update payment_attempts t
               set state = 'succeeded', provider_id = r.provider_id, last_error = null
              from r join o using (order_id)
             where t.order_id = r.order_id and t.operation = $11 and t.number = $12
         ), s as (
            insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
            select order_id, $11, 'succeeded', provider_id, fence, $13, requested_by, reassignments
              from r join o using (order_id)
             order by order_id)
         select order_id, now() as now, cancel_requested_at, reconcile_requested_at from o";
}

impl OrderStore {
    /// Commits a confirmed charge with those that come at the same time: the order after it. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn enter_charge_in_group(
        &self,
        order: &LeasedOrder,
        provider_id: &str,
    ) -> Option<Result<LeasedOrder, StoreError>> {
        if order.order.state != State::Charging {
            return None;
        }
        let charge = ConfirmedCharge {
            order: order.clone(),
            provider_id: provider_id.to_owned(),
            requested_by: self.requested_by.clone(),
        };
        let begun = AtomicBool::new(false);
        let enter = |charges| self.postgres.call_together(&begun, self.enter_charges(charges, &begun));
        self.groups.charge.join(charge, enter).await
    }

    async fn enter_charges(
        &self,
        charges: Vec<ConfirmedCharge>,
        begun: &AtomicBool,
    ) -> Result<Vec<Option<LeasedOrder>>, StoreError> {
        let begun_at = Timestamp::now();
        let column = |of: fn(&ConfirmedCharge) -> i64| charges.iter().map(of).collect::<Vec<i64>>();
        let ids: Vec<Uuid> = charges.iter().map(|charge| charge.order.order.id.uuid()).collect();
        let provider_ids: Vec<&str> = charges.iter().map(|charge| charge.provider_id.as_str()).collect();
        let orders = || charges.iter().map(|charge| &charge.order.order);
        let currencies: Vec<&str> = orders().map(|order| order.amount.currency().code()).collect();
        let held: Vec<bool> = orders().map(|order| order.payment_mode.holds()).collect();
        let requested_by: Vec<Option<&str>> = charges.iter().map(|charge| charge.requested_by.as_deref()).collect();
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &ids,
            &column(|charge| charge.order.lease.fence),
            &provider_ids,
            &column(|charge| charge.order.order.amount.minor_units()),
            &currencies,
            &held,
            &requested_by,
            &State::Charged.as_str(),
            &self.settings.lease_secs,
            &State::Charging.as_str(),
            &Operation::Charge.as_str(),
            &Operation::Charge.number(),
            &self.settings.instance,
        ];
        let client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let rows = ENTER_CHARGES.run_alone(&client, &parameters).await?;
        crash_point!("charge_committed");
        let entered: HashMap<Uuid, &Row> = rows
            .iter()
            .map(|row| Ok((row.try_get("order_id")?, row)))
            .collect::<Result<_, StoreError>>()?;
        charges
            .iter()
            .map(|charge| match entered.get(&charge.order.order.id.uuid()) {
                Some(row) => next(charge, row, begun_at).map(Some),
                None => Ok(None),
            })
            .collect()
    }
}

/// The order after its charge, of which this is the row.
fn next(charge: &ConfirmedCharge, row: &Row, begun_at: Timestamp) -> Result<LeasedOrder, StoreError> {
    let outcome = StepOutcome::Charged {
        provider_id: charge.provider_id.clone(),
    };
    let now: Timestamp = get(row, "now")?;
    let leased = &charge.order;
    Ok(LeasedOrder {
        order: after(&leased.order, &outcome, now)?,
        confirmed: Confirmed::new(now, begun_at),
        unsent: false,
        cancel_requested: get::<Option<Timestamp>>(row, "cancel_requested_at")?.is_some(),
        reconcile_requested_at: get(row, "reconcile_requested_at")?,
        open_refund: None,
        answer: None,
        ..leased.clone()
    })
}
