//! Binds a driver. Redis proposed the candidates; this decides, under the lock of the driver's row and with a
//! unique index as the last line of defence.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::duty::Tags;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{Assignment, Event, Order, Payment, PaymentMode};
use waybill_domain::tenant::Tenant;

use super::advance::lock_and_check_fence;
use super::free_drivers::{KnownDrivers, PassedOver};
use super::row::{driver, in_scope, scope_values};
use super::{Confirmed, LeasedOrder, OrderStore};
use crate::storage::StoreError;

/// A driver near the pickup.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The driver.
    pub driver: DriverId,
    /// The distance from the pickup, in metres.
    pub distance_m: f64,
}

/// The outcome of an assignment.
#[derive(Debug, Clone)]
pub enum Assigned {
    /// A driver is bound; the order is settled, as it is here.
    Driver(Box<LeasedOrder>),
    /// None of the candidates is free any more and takes the order.
    NoneFree {
        /// Whether one of them does not take it: off duty, or without what it requires.
        refused: bool,
    },
    /// A cancellation was requested in the meantime; no driver was bound.
    CancelRequested,
}

statements! {
    /// Every driver that serves an order.
    BUSY = concat!(
        "select d.driver_id from unnest($1::text[]) n (driver_id) join drivers d using (driver_id)
          where ", of_found!("d.active_order_id is not null"));
    SERVING = "select driver_id, active_order_id from drivers
                where active_order_id is not null and tenant_of(driver_id) = $1";
    /// Which order this driver serves.
    ACTIVE_ORDER = concat!(
        "select s.order_id
           from order_sagas s
           join order_assignments a on a.order_id = s.order_id
           join drivers d on d.driver_id = a.driver_id and d.active_order_id = s.order_id
          where d.driver_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"));
    ENSURE_DRIVERS = "insert into drivers (driver_id) select unnest($1::text[]) on conflict (driver_id) do nothing";
    /// Locks the nearest free driver who takes the order. One that another order is just taking is passed over, not waited for.
    LOCK_FREE = "select driver_id
                   from drivers
                  where driver_id = any($1) and active_order_id is null
                    and off_duty_since is null and tags @> $2
                  order by array_position($1, driver_id)
                  limit 1
                    for update skip locked";
    BIND = "update drivers set active_order_id = $2, assignment_seq = assignment_seq + 1
             where driver_id = $1 and active_order_id is null
            returning assignment_seq";
    INSERT_ASSIGNMENT = "insert into order_assignments (order_id, driver_id, assigned_seq) values ($1, $2, $3)";
}

impl OrderStore {
    /// Those of the drivers that serve an order.
    pub async fn busy_among(&self, drivers: &[DriverId]) -> Result<HashSet<DriverId>, StoreError> {
        let names: Vec<&str> = drivers.iter().map(DriverId::as_str).collect();
        let rows = self.postgres.query(BUSY, &[&names]).await?;
        rows.iter().map(|row| driver(row.try_get(0)?)).collect()
    }

    /// Which drivers of the tenant serve which orders.
    pub async fn serving(&self, tenant: &Tenant) -> Result<HashMap<DriverId, OrderId>, StoreError> {
        let rows = self.postgres.query(SERVING, &[&tenant.as_str()]).await?;
        let serving = |row: &Row| Ok((driver(row.try_get(0)?)?, OrderId::new(row.try_get(1)?)));
        rows.iter().map(serving).collect()
    }

    /// The order that this driver serves, if it serves one within `scope`.
    pub async fn active_order(&self, scope: &Scope, of: &DriverId) -> Result<Option<OrderId>, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 5] = [&of.as_str(), &tenant, &user, &only, &driver];
        let row = self.postgres.query_opt(ACTIVE_ORDER, &parameters).await?;
        row.map(|row| Ok(OrderId::new(row.try_get::<_, Uuid>(0)?))).transpose()
    }

    /// Binds the nearest of the candidates that is still free, and settles the order.
    pub async fn assign(&self, order: &LeasedOrder, candidates: &[Candidate]) -> Result<Assigned, StoreError> {
        if let Some(assigned) = self.assign_in_group(order, candidates).await {
            return assigned;
        }
        self.postgres.call(self.bind(order, candidates)).await
    }

    async fn bind(&self, leased: &LeasedOrder, candidates: &[Candidate]) -> Result<Assigned, StoreError> {
        // Sorted: two transactions that insert the same new drivers in different orders would deadlock.
        let nearest: Vec<&str> = candidates.iter().map(|candidate| candidate.driver.as_str()).collect();
        let mut sorted = nearest.clone();
        sorted.sort_unstable();

        let begun_at = Timestamp::now();
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_and_check_fence(&tx, leased).await?;
        let now = locked.now;
        if locked.cancel_requested {
            return Ok(Assigned::CancelRequested);
        }
        ENSURE_DRIVERS.execute(&tx, &[&sorted]).await?;
        // Its own statement: what it reads must be newer than the locks above, or a driver that was taken while we
        // waited would look free.
        let required: Vec<&str> = leased.order.required_tags.iter().collect();
        let Some(row) = LOCK_FREE.query_opt(&tx, &[&nearest, &required]).await? else {
            let drivers = || candidates.iter().map(|candidate| &candidate.driver);
            let known = KnownDrivers::read_within(&tx, drivers()).await?;
            tx.commit().await?;
            let refused = drivers().any(|driver| known.refuses(driver, &leased.order.required_tags));
            return Ok(Assigned::NoneFree { refused });
        };
        let chosen = driver(row.try_get(0)?)?;

        let next = Order {
            state: leased.order.state.next(Event::DriverAssigned)?,
            updated_at: now,
            assignment: Some(Assignment {
                driver: chosen.clone(),
                assigned_at: now,
                release: None,
            }),
            ..leased.order.clone()
        };
        let detail = self::detail(&tx, leased, candidates, &chosen).await?;
        let mut assigned = LeasedOrder {
            order: next,
            confirmed: Confirmed::new(now, begun_at),
            reconcile_requested_at: locked.reconcile_requested_at,
            ..leased.clone()
        };
        self.intend_capture(&tx, &mut assigned).await?;
        let is_done = assigned.order.state.pending_step(assigned.work()).is_none();
        let ((), answer, ()) = pipelined!(
            record_assignment(&tx, leased, &chosen),
            self.set_status(&tx, leased, &assigned.order, is_done, None),
            self.log_step(&tx, leased.lease, "assign", "succeeded", &detail),
        )?;
        tx.commit().await?;
        Ok(Assigned::Driver(Box::new(LeasedOrder { answer, ..assigned })))
    }

    /// A hold that is captured when a driver is assigned: the first one.
    async fn intend_capture(&self, tx: &Transaction<'_>, order: &mut LeasedOrder) -> Result<(), StoreError> {
        let is_held = order.order.payment.as_ref().is_some_and(Payment::is_held);
        if order.order.payment_mode != PaymentMode::CaptureAtAssignment || !is_held {
            return Ok(());
        }
        order.unsent = true;
        let all = order.order.amount.minor_units();
        self.decide_capture(tx, order, all, 0).await
    }
}

async fn record_assignment(tx: &Transaction<'_>, leased: &LeasedOrder, driver: &DriverId) -> Result<(), StoreError> {
    let order = leased.lease.order.uuid();
    let row = BIND.query_one(tx, &[&driver.as_str(), &order]).await?;
    let seq: i64 = row.try_get(0)?;
    INSERT_ASSIGNMENT.execute(tx, &[&order, &driver.as_str(), &seq]).await?;
    Ok(())
}

/// Who was chosen; and who, nearer, was passed over and why.
async fn detail(
    tx: &Transaction<'_>,
    leased: &LeasedOrder,
    candidates: &[Candidate],
    chosen: &DriverId,
) -> Result<String, StoreError> {
    let known = KnownDrivers::read_within(tx, nearer(candidates, chosen)).await?;
    Ok(describe(candidates, chosen, &known, &leased.order.required_tags))
}

fn nearer<'a>(candidates: &'a [Candidate], chosen: &'a DriverId) -> impl Iterator<Item = &'a DriverId> {
    let drivers = candidates.iter().map(|candidate| &candidate.driver);
    drivers.take_while(move |driver| *driver != chosen)
}

/// The same, where the drivers are known.
pub(super) fn describe(candidates: &[Candidate], chosen: &DriverId, known: &KnownDrivers, required: &Tags) -> String {
    let of_chosen = candidates.iter().find(|candidate| candidate.driver == *chosen);
    let distance_m = of_chosen.map_or(0.0, |chosen| chosen.distance_m);
    let mut detail = format!("{}, {distance_m:.0} m away", chosen.name());
    for reason in PassedOver::ALL {
        let of_it = nearer(candidates, chosen).filter(|driver| known.passed_over(driver, required) == reason);
        let names: Vec<&str> = of_it.map(DriverId::name).collect();
        if !names.is_empty() {
            detail.extend(["; ", reason.as_str(), ": ", &names.join(", ")]);
        }
    }
    detail
}
