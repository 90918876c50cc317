//! Drivers for orders that were charged: each order gets the nearest of its candidates who takes it, and whom no order before it in the
//! group got. Redis proposed them, and a read without a lock sorts out who is busy; the lock of the driver's row decides.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio::try_join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::duty::Duty;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, Order, PaymentMode, State};

use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::answer::StoredAnswer;
use crate::storage::orders::assign::{Candidate, describe, why_not};
use crate::storage::orders::duty::duty;
use crate::storage::orders::free_drivers::KnownDrivers;
use crate::storage::orders::row::{driver, get};
use crate::storage::orders::{Confirmed, LeasedOrder, OrderStore};

/// An order, and who could serve it.
pub(in crate::storage::orders) struct Proposal {
    pub order: LeasedOrder,
    /// The nearest first.
    pub candidates: Vec<Candidate>,
    pub requested_by: Option<Arc<str>>,
}

/// An order with the driver whom it gets, as it then is.
struct Chosen<'a> {
    proposal: &'a Proposal,
    driver: DriverId,
    detail: String,
    next: Order,
    answer: StoredAnswer,
}

statements! {
    /// Those whose fence holds, of which nothing else is asked, and which no one else has locked.
    LOCK_ORDERS = "select s.order_id, now() as now
                     from order_sagas s
                     join unnest($1::uuid[], $2::int8[]) r (order_id, fence) on s.order_id = r.order_id
                    where s.fence = r.fence and s.status = $3 and s.cancel_requested_at is null
                      and s.needs_attention is null and s.reconcile_requested_at is null
                    order by s.order_id
                      for update of s skip locked";
    ENSURE_DRIVERS = "insert into drivers (driver_id) select unnest($1::text[]) on conflict (driver_id) do nothing";
    /// Those that are free. One that another transaction is just taking is passed over, not waited for.
    LOCK_DRIVERS = "select driver_id, off_duty_since is null as is_on, tags
                      from drivers
                     where driver_id = any($1) and active_order_id is null
                     order by driver_id
                       for update skip locked";
    /// The answer is that of the first time that the order was settled; an order whose key expired keeps none.
    ASSIGN = "with r as materialized (
            select * from unnest($1::uuid[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::text[], $8::bytea[],
                                 $9::bytea[])
                r (order_id, fence, driver_id, detail, requested_by, code, message, details, body)
         ), d as (
            update drivers d
               set active_order_id = r.order_id, assignment_seq = d.assignment_seq + 1
              from r
             where d.driver_id = r.driver_id
            returning d.active_order_id as order_id, d.driver_id, d.assignment_seq
         ), a as (
            insert into order_assignments (order_id, driver_id, assigned_seq) select order_id, driver_id, assignment_seq from d
         ), o as (
            update order_sagas s
               set status = $10, updated_at = now(), finished_at = now(), lease_owner = null, lease_until = null,
                   response_code = case when idempotency_key is not null then coalesce(s.response_code, r.code) end,
                   response_message = case when idempotency_key is not null then coalesce(s.response_message, r.message) end,
                   response_details = case when idempotency_key is not null then coalesce(s.response_details, r.details) end,
                   response_body = case when idempotency_key is not null then coalesce(s.response_body, r.body) end
              from r
             where s.order_id = r.order_id
            returning s.order_id, s.reassignments
         ), l as (
            insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
            select order_id, 'assign', 'succeeded', detail, fence, $11, requested_by, reassignments
              from r join o using (order_id)
             order by order_id)
         select count(*) from d";
}

impl OrderStore {
    /// Assigns a driver with the orders that come at the same time: the order after that. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn assign_in_group(
        &self,
        order: &LeasedOrder,
        candidates: &[Candidate],
    ) -> Option<Result<LeasedOrder, StoreError>> {
        // Its first search, after which nothing else is left to be done.
        let is_plain = order.order.state == State::Charged
            && order.order.payment_mode == PaymentMode::ChargeFirst
            && order.reassignments == 0
            && order.open_refund.is_none();
        if !is_plain {
            return None;
        }
        let proposal = Proposal {
            order: order.clone(),
            candidates: candidates.to_vec(),
            requested_by: self.requested_by.clone(),
        };
        let begun = AtomicBool::new(false);
        let assign = |proposals| self.postgres.call_together(&begun, self.bind_all(proposals, &begun));
        self.groups.assign.join(proposal, assign).await
    }

    async fn bind_all(
        &self,
        proposals: Vec<Proposal>,
        begun: &AtomicBool,
    ) -> Result<Vec<Option<LeasedOrder>>, StoreError> {
        let begun_at = Timestamp::now();
        let mut client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let tx = client.transaction().await?;
        let candidates = proposals.iter().flat_map(|proposal| &proposal.candidates);
        let ((locked, now), known) = try_join!(
            lock_orders(&tx, &proposals),
            KnownDrivers::read_within(&tx, candidates.map(|candidate| &candidate.driver)),
        )?;
        let proposed = proposed(&proposals, &locked, &known);
        let free = lock_drivers(&tx, &proposed, &known).await?;
        let mut chosen = Vec::with_capacity(proposed.len());
        for (proposal, driver) in proposed {
            let Proposal { order, candidates, .. } = proposal;
            if !free
                .get(&driver)
                .is_some_and(|duty| duty.takes(&order.order.required_tags))
            {
                continue;
            }
            let next = Order {
                state: order.order.state.next(Event::DriverAssigned)?,
                updated_at: now,
                assignment: Some(Assignment {
                    driver: driver.clone(),
                    assigned_at: now,
                    release: None,
                }),
                ..order.order.clone()
            };
            chosen.push(Chosen {
                proposal,
                detail: describe(candidates, &driver, |driver| {
                    why_not(known.duty(driver), &order.order.required_tags)
                }),
                answer: (self.render)(&next),
                next,
                driver,
            });
        }
        self.write(&tx, &chosen).await?;
        crash_point!("assign_uncommitted", if !chosen.is_empty());
        tx.commit().await?;
        crash_point!("assign_committed", if !chosen.is_empty());
        let confirmed = Confirmed::new(now, begun_at);
        let assigned = chosen.into_iter().map(|one| {
            let assigned = LeasedOrder {
                order: one.next,
                confirmed,
                answer: Some(one.answer),
                ..one.proposal.order.clone()
            };
            (assigned.order.id, assigned)
        });
        let mut assigned: HashMap<OrderId, LeasedOrder> = assigned.collect();
        let in_turn = proposals
            .iter()
            .map(|proposal| assigned.remove(&proposal.order.order.id));
        Ok(in_turn.collect())
    }

    async fn write(&self, tx: &Transaction<'_>, chosen: &[Chosen<'_>]) -> Result<(), StoreError> {
        if chosen.is_empty() {
            return Ok(());
        }
        let orders = || chosen.iter().map(|one| one.proposal);
        let ids: Vec<Uuid> = orders().map(|one| one.order.order.id.uuid()).collect();
        let fences: Vec<i64> = orders().map(|one| one.order.lease.fence).collect();
        let requested_by: Vec<Option<&str>> = orders().map(|one| one.requested_by.as_deref()).collect();
        let drivers: Vec<&str> = chosen.iter().map(|one| one.driver.as_str()).collect();
        let lines: Vec<&str> = chosen.iter().map(|one| one.detail.as_str()).collect();
        let codes: Vec<i16> = chosen.iter().map(|one| one.answer.code).collect();
        let messages: Vec<&str> = chosen.iter().map(|one| one.answer.message.as_str()).collect();
        let details: Vec<&[u8]> = chosen.iter().map(|one| one.answer.details.as_slice()).collect();
        let bodies: Vec<&[u8]> = chosen.iter().map(|one| one.answer.body.as_slice()).collect();
        let parameters: [&(dyn ToSql + Sync); 11] = [
            &ids,
            &fences,
            &drivers,
            &lines,
            &requested_by,
            &codes,
            &messages,
            &details,
            &bodies,
            &State::Succeeded.as_str(),
            &self.settings.instance,
        ];
        let bound: i64 = ASSIGN.query_one(tx, &parameters).await?.try_get(0)?;
        if usize::try_from(bound) == Ok(chosen.len()) {
            Ok(())
        } else {
            Err(StoreError::unexpected("a locked driver was not bound"))
        }
    }
}

/// The orders that are locked now, and the time of the transaction.
async fn lock_orders(tx: &Transaction<'_>, proposals: &[Proposal]) -> Result<(HashSet<Uuid>, Timestamp), StoreError> {
    let ids: Vec<Uuid> = proposals.iter().map(|one| one.order.order.id.uuid()).collect();
    let fences: Vec<i64> = proposals.iter().map(|one| one.order.lease.fence).collect();
    let rows = LOCK_ORDERS
        .query(tx, &[&ids, &fences, &State::Charged.as_str()])
        .await?;
    let now = rows.first().map_or(Ok(Timestamp::UNIX_EPOCH), |row| get(row, "now"))?;
    let locked = rows.iter().map(|row| Ok(row.try_get("order_id")?));
    Ok((locked.collect::<Result<_, StoreError>>()?, now))
}

/// For each locked order the nearest candidate who takes it, and whom no order before it has.
fn proposed<'a>(
    proposals: &'a [Proposal],
    locked: &HashSet<Uuid>,
    known: &KnownDrivers,
) -> Vec<(&'a Proposal, DriverId)> {
    let mut taken = HashSet::new();
    let mut proposed = Vec::with_capacity(proposals.len());
    for proposal in proposals {
        let order = &proposal.order.order;
        if !locked.contains(&order.id.uuid()) {
            continue;
        }
        let mut candidates = proposal.candidates.iter().map(|candidate| &candidate.driver);
        if let Some(driver) =
            candidates.find(|driver| !taken.contains(*driver) && known.would_take(driver, &order.required_tags))
        {
            taken.insert(driver);
            proposed.push((proposal, driver.clone()));
        }
    }
    proposed
}

/// Those of them that are free, and what they take. They stay locked.
async fn lock_drivers(
    tx: &Transaction<'_>,
    proposed: &[(&Proposal, DriverId)],
    known: &KnownDrivers,
) -> Result<HashMap<DriverId, Duty>, StoreError> {
    // Sorted: two transactions that insert the same new drivers in different orders would deadlock.
    let mut names: Vec<&str> = proposed.iter().map(|(_, driver)| driver.as_str()).collect();
    names.sort_unstable();
    let mut new: Vec<&str> = proposed
        .iter()
        .filter(|(_, driver)| known.duty(driver).is_none())
        .map(|(_, driver)| driver.as_str())
        .collect();
    if !new.is_empty() {
        new.sort_unstable();
        ENSURE_DRIVERS.execute(tx, &[&new]).await?;
    }
    // Its own statement: what it reads must be newer than the locks above.
    let rows = LOCK_DRIVERS.query(tx, &[&names]).await?;
    rows.iter()
        .map(|row| Ok((driver(get(row, "driver_id")?)?, duty(row)?)))
        .collect()
}
