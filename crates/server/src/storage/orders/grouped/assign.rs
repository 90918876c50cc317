//! Drivers for orders that were charged: each order gets the nearest of its candidates who takes it, and whom no order before it in the
//! group got. Redis proposed them, and a read without a lock sorts out who is busy. The statement that writes decides, under the locks of
//! the orders' rows and of the drivers'.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::Client;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, Order, PaymentMode, State};

use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::answer::StoredAnswer;
use crate::storage::orders::assign::{Assigned, Candidate, describe};
use crate::storage::orders::free_drivers::KnownDrivers;
use crate::storage::orders::{Confirmed, LeasedOrder, OrderStore};

/// An order, and who could serve it.
pub(in crate::storage::orders) struct Proposal {
    pub order: LeasedOrder,
    /// The nearest first.
    pub candidates: Vec<Candidate>,
    pub requested_by: Option<Arc<str>>,
}

/// An order with the driver whom it is to get, as it then is.
struct Chosen<'a> {
    proposal: &'a Proposal,
    driver: DriverId,
    detail: String,
    next: Order,
    answer: StoredAnswer,
}

statements! {
    /// Of the orders those whose fence holds, of which nothing else is asked, and which no one else has locked; then of their drivers those that
    /// are free and take the order, or of whom nothing is known. One that another transaction is just taking is passed over, not waited for, but
    /// for a driver whom another one is just entering: in the order of bytes, as everywhere.
    ///
    /// The answer is that of the first time that the order was settled; an order whose key expired keeps none.
    ASSIGN = "with r as materialized (
            select * from unnest($1::uuid[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::text[], $8::bytea[],
                                 $9::bytea[], $10::bool[])
                r (order_id, fence, driver_id, detail, requested_by, code, message, details, body, is_new)
         ), k as materialized (
            select s.order_id, s.required_tags
              from order_sagas s join r on s.order_id = r.order_id
             where s.fence = r.fence and s.status = $11 and s.cancel_requested_at is null
               and s.needs_attention is null and s.reconcile_requested_at is null
             order by s.order_id
               for update of s skip locked
         ), f as materialized (
            select d.driver_id, k.order_id
              from k join r on r.order_id = k.order_id join drivers d on d.driver_id = r.driver_id
             where not r.is_new and d.active_order_id is null and d.off_duty_since is null and d.tags @> k.required_tags
             order by d.driver_id
               for update of d skip locked
         ), u as (
            update drivers d
               set active_order_id = f.order_id, assignment_seq = d.assignment_seq + 1
              from f
             where d.driver_id = f.driver_id
            returning d.active_order_id as order_id, d.driver_id, d.assignment_seq
         ), n as (
            insert into drivers (driver_id, active_order_id, assignment_seq)
            select r.driver_id, r.order_id, 1 from k join r on r.order_id = k.order_id where r.is_new
             order by r.driver_id collate \"C\"
            on conflict (driver_id) do nothing
            returning active_order_id as order_id, driver_id, assignment_seq
         ), d as (
            select * from u union all select * from n
         ), a as (
            insert into order_assignments (order_id, driver_id, assigned_at, assigned_seq)
            select order_id, driver_id, $13, assignment_seq from d
         ), o as (
            update order_sagas s
               set status = $12, updated_at = $13, finished_at = $13, lease_owner = null, lease_until = null,
                   response_code = case when idempotency_key is not null then coalesce(s.response_code, r.code) end,
                   response_message = case when idempotency_key is not null then coalesce(s.response_message, r.message) end,
                   response_details = case when idempotency_key is not null then coalesce(s.response_details, r.details) end,
                   response_body = case when idempotency_key is not null then coalesce(s.response_body, r.body) end
              from r join d on d.order_id = r.order_id
             where s.order_id = r.order_id
            returning s.order_id, s.reassignments
         ), l as (
            insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by, round)
            select order_id, 'assign', 'succeeded', detail, fence, $14, requested_by, reassignments
              from r join o using (order_id)
             order by order_id)
         select order_id from d";
}

impl OrderStore {
    /// Assigns a driver with the orders that come at the same time. `None`: it goes by itself.
    pub(in crate::storage::orders) async fn assign_in_group(
        &self,
        order: &LeasedOrder,
        candidates: &[Candidate],
    ) -> Option<Result<Assigned, StoreError>> {
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
        let assign = |proposals| self.postgres.call_together(&begun, self.assign_all(proposals, &begun));
        self.groups.assign.join(proposal, assign).await
    }

    async fn assign_all(
        &self,
        proposals: Vec<Proposal>,
        begun: &AtomicBool,
    ) -> Result<Vec<Option<Assigned>>, StoreError> {
        let begun_at = Timestamp::now();
        let client = self.postgres.client().await?;
        begun.store(true, Ordering::Relaxed);
        let candidates = proposals.iter().flat_map(|proposal| &proposal.candidates);
        let known = KnownDrivers::read(&client, candidates.map(|candidate| &candidate.driver)).await?;
        let chosen = match known.at {
            Some(now) => self.choose(&proposals, &known, now)?,
            None => Vec::new(),
        };
        let assigned = self.write(&client, &chosen, &known).await?;
        crash_point!("assign_committed", if !assigned.is_empty());
        let assigned = chosen.into_iter().filter_map(|one| {
            let id = one.next.id;
            let after = LeasedOrder {
                confirmed: Confirmed::new(one.next.updated_at, begun_at),
                order: one.next,
                answer: Some(one.answer),
                ..one.proposal.order.clone()
            };
            assigned.contains(&id.uuid()).then_some((id, after))
        });
        let mut assigned: HashMap<OrderId, LeasedOrder> = assigned.collect();
        let in_turn = proposals.iter().map(|proposal| {
            let bound = assigned.remove(&proposal.order.order.id);
            bound.map_or_else(
                || none_free(proposal, &known),
                |order| Some(Assigned::Driver(Box::new(order))),
            )
        });
        Ok(in_turn.collect())
    }

    /// For each order the nearest candidate who takes it, and whom no order before it has.
    fn choose<'a>(
        &self,
        proposals: &'a [Proposal],
        known: &KnownDrivers,
        now: Timestamp,
    ) -> Result<Vec<Chosen<'a>>, StoreError> {
        let mut taken = HashSet::new();
        let mut chosen = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            let Proposal { order, candidates, .. } = proposal;
            let tags = &order.order.required_tags;
            let mut drivers = candidates.iter().map(|candidate| &candidate.driver);
            let free = drivers.find(|driver| !taken.contains(*driver) && known.would_take(driver, tags));
            let Some(driver) = free else { continue };
            taken.insert(driver);
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
                driver: driver.clone(),
                detail: describe(candidates, driver, known, tags),
                answer: (self.render)(&next),
                next,
            });
        }
        Ok(chosen)
    }

    /// Assigns those that can be; the orders that have their driver now.
    async fn write(
        &self,
        client: &Client,
        chosen: &[Chosen<'_>],
        known: &KnownDrivers,
    ) -> Result<HashSet<Uuid>, StoreError> {
        let Some(now) = known.at.filter(|_| !chosen.is_empty()) else {
            return Ok(HashSet::new());
        };
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
        let are_new: Vec<bool> = chosen.iter().map(|one| !known.has(&one.driver)).collect();
        let parameters: [&(dyn ToSql + Sync); 14] = [
            &ids,
            &fences,
            &drivers,
            &lines,
            &requested_by,
            &codes,
            &messages,
            &details,
            &bodies,
            &are_new,
            &State::Charged.as_str(),
            &State::Succeeded.as_str(),
            &now,
            &self.settings.instance,
        ];
        let rows = ASSIGN.run_alone(client, &parameters).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Of an order whose candidates were busy, or would not take it, when they were read. `None`: one of them was free.
fn none_free(proposal: &Proposal, known: &KnownDrivers) -> Option<Assigned> {
    let required = &proposal.order.order.required_tags;
    let drivers = || proposal.candidates.iter().map(|candidate| &candidate.driver);
    let is_none = !drivers().any(|driver| known.would_take(driver, required));
    is_none.then(|| Assigned::NoneFree {
        refused: drivers().any(|driver| known.refuses(driver, required)),
    })
}
