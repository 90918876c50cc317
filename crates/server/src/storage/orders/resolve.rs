//! An operator's assertion in place of the provider's answer. It is written as the saga would have written that answer,
//! under a new fence, so that a worker which still waits for the answer changes nothing more.

use std::time::Duration;

use deadpool_postgres::Transaction;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::operator::{Assertion, Operator, UNVERIFIED};
use waybill_domain::order::{Order, State};
use waybill_domain::payment::KEY_AGE_MAX;
use waybill_domain::text::Reason;

use super::advance::after;
use super::lease::lock;
use super::reconciled::REFUND_FAILED;
use super::refunds;
use super::row::get;
use super::step_log::log_request;
use super::{LeasedOrder, OrderStore, StepOutcome};
use crate::storage::StoreError;

/// How long after its last send a request may still be on its way to the provider, or in progress there.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(30);

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Resolution<'a> {
    /// What became of the money.
    pub assertion: &'a Assertion,
    /// What the saga would write if the provider had answered so.
    pub outcome: &'a StepOutcome,
    /// Whether the payment was refunded by hand, at least in part: then the order is not served any more.
    pub is_refunded: bool,
    /// The operator.
    pub by: &'a Operator,
    /// How the operator knows.
    pub reason: &'a Reason,
}

/// The outcome of a resolution.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// It is written: the order as it is now.
    Done(Box<Order>),
    /// The order does not wait for such an answer; its state.
    NotExpected(State),
    /// A worker claimed the order meanwhile, or a request to the provider may be in flight.
    InFlight,
    /// The charge is young enough to be retried, and then may be made after all.
    StillRetried,
    /// A refund that was sent has no answer, and may be made after all.
    RefundMayBeMade,
    /// The ledger has this movement already, for this order.
    AlreadyInLedger(Uuid),
}

statements! {
    /// Whether a worker may send something, or the charge may be in flight. The order is locked, so no worker claims it
    /// meanwhile.
    IS_IN_FLIGHT = "select coalesce(s.lease_until > now(), false)
                        or s.status = 'charging' and coalesce(a.last_sent_at > now() - make_interval(secs => $2), false)
                      from order_sagas s
                      left join payment_attempts a on a.order_id = s.order_id and a.operation = 'charge'
                     where s.order_id = $1";
    /// Whether a worker would still send the charge; one that slept since it read the charge's age may, too.
    IS_STILL_RETRIED = "select first_sent_at > now() - make_interval(secs => $2)
                       from payment_attempts where order_id = $1 and operation = 'charge'";
    FIND_IN_LEDGER = "select order_id, false as by_hand from payments where provider_charge_id = $1
                      union all
                      select order_id, origin = 'provider' from refunds where provider_refund_id = $1
                      limit 1";
    REQUEST_CANCEL = "update order_sagas
                         set cancel_requested_at = coalesce(cancel_requested_at, now()),
                             reconcile_requested_at = clock_timestamp()
                       where order_id = $1";
    /// A sweeper that is just reading must not claim it yet: its snapshot has the order without what is written here.
    RETURN_LEASE = "update order_sagas
                    set lease_owner = null, lease_until = null, next_run_at = clock_timestamp() + interval '1 second'
                  where order_id = $1 and fence = $2";
}

impl OrderStore {
    /// Writes what became of the order's money, if the order still is as it was `seen`: what the provider answered
    /// meanwhile holds for that order alone.
    pub async fn resolve(&self, seen: &LeasedOrder, resolution: Resolution<'_>) -> Result<Resolved, StoreError> {
        self.postgres.call(self.commit_resolution(seen, resolution)).await
    }

    async fn commit_resolution(&self, seen: &LeasedOrder, resolution: Resolution<'_>) -> Result<Resolved, StoreError> {
        let Resolution {
            assertion,
            outcome,
            is_refunded,
            by,
            reason,
        } = resolution;
        let id = seen.lease.order;
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id, &Scope::Everything).await? else {
            return Err(StoreError::unexpected(format!("order {id} is gone")));
        };
        if !assertion.expected_states().contains(&leased.order.state) {
            return Ok(Resolved::NotExpected(leased.order.state));
        }
        if !leased.is_as(seen) || (assertion.needs_no_request_in_flight() && is_in_flight(&tx, id).await?) {
            return Ok(Resolved::InFlight);
        }
        if matches!(assertion, Assertion::RefundedElsewhere(..)) && refunds::may_be_made(&tx, id, true).await? {
            return Ok(Resolved::RefundMayBeMade);
        }
        if *assertion == Assertion::NotCharged && is_still_retried(&tx, id).await? {
            return Ok(Resolved::StillRetried);
        }
        if let Some(order) = find_in_ledger(&tx, assertion, &leased).await? {
            return Ok(Resolved::AlreadyInLedger(order));
        }

        let leased = self.reopen_for_operator(&tx, leased).await?;
        let now = leased.confirmed.database;
        let next = after(&leased.order, outcome, now)?;
        log_request(&tx, id, "resolve", by, &format!("{assertion}: {reason}")).await?;
        self.record(&tx, &leased, outcome, next.state).await?;
        if is_refunded {
            REQUEST_CANCEL.execute(&tx, &[&id.uuid()]).await?;
        }
        // What failed of a served order was paid again by hand, the operator says.
        if let (State::Succeeded, Assertion::Refunded(refund)) = (next.state, assertion) {
            refunds::name_for_failed(&tx, id, refund.as_str()).await?;
        }
        let next = LeasedOrder {
            order: next,
            open_refund: refunds::read_open(&tx, id).await?,
            reconcile_requested_at: outcome.next_comparison(leased.reconcile_requested_at, now),
            ..leased.clone()
        };
        let is_done = next.pending_step().is_none();
        let has_failed = !refunds::read_failed(&tx, id).await?.is_empty();
        let flag = match outcome {
            StepOutcome::Reconciled(found) => found.dispute_flag(),
            _ => None,
        };
        let flag = flag.or_else(|| has_failed.then(|| REFUND_FAILED.to_owned()));
        self.set_status(&tx, &leased, &next.order, is_done, flag).await?;
        RETURN_LEASE.execute(&tx, &[&id.uuid(), &leased.lease.fence]).await?;
        tx.commit().await?;
        Ok(Resolved::Done(Box::new(next.order)))
    }
}

async fn is_in_flight(tx: &Transaction<'_>, id: OrderId) -> Result<bool, StoreError> {
    let row = IS_IN_FLIGHT
        .query_one(tx, &[&id.uuid(), &IN_FLIGHT_MAX.as_secs_f64()])
        .await?;
    Ok(row.try_get(0)?)
}

async fn is_still_retried(tx: &Transaction<'_>, id: OrderId) -> Result<bool, StoreError> {
    let row = IS_STILL_RETRIED
        .query_opt(tx, &[&id.uuid(), &KEY_AGE_MAX.as_secs_f64()])
        .await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

/// The order whose payment or refund this movement is already. A refund by hand of a served order that was taken over may
/// have been made for one that failed.
async fn find_in_ledger(
    tx: &Transaction<'_>,
    assertion: &Assertion,
    leased: &LeasedOrder,
) -> Result<Option<Uuid>, StoreError> {
    let provider_id = match assertion {
        Assertion::NotCharged => return Ok(None),
        Assertion::Charged(id) | Assertion::Refunded(id) => id.to_string(),
        Assertion::RefundedElsewhere(reference, _) => format!("{UNVERIFIED}{reference}"),
    };
    let Some(row) = FIND_IN_LEDGER.query_opt(tx, &[&provider_id]).await? else {
        return Ok(None);
    };
    let (order, by_hand): (Uuid, bool) = (get(&row, "order_id")?, get(&row, "by_hand")?);
    let is_own = order == leased.order.id.uuid() && leased.order.state == State::Succeeded;
    Ok((!(is_own && by_hand)).then_some(order))
}
