//! A person's word in place of the provider's answer. It is written as the saga would have written that answer, under a
//! new fence, so that a worker which still waits for it changes nothing more.

use std::time::Duration;

use deadpool_postgres::Transaction;
use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::operator::{Claim, Operator, UNVERIFIED};
use waybill_domain::order::{Order, State};
use waybill_domain::payment::KEY_AGE_MAX;
use waybill_domain::text::Reason;

use super::advance::after;
use super::desk::log_request;
use super::release::lock;
use super::row::{get, order_tables, work, work_columns};
use super::{Lease, OrderStore, Outcome, Work};
use crate::storage::StoreError;

/// How long after the last send, as far as it is known, a request may still be on its way to the provider or within it.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(30);
/// The code of a charge that a person says was never made.
const NOT_CHARGED: &str = "resolved_by_operator";

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Resolution<'a> {
    /// What became of the money.
    pub claim: &'a Claim,
    /// Who says so.
    pub by: &'a Operator,
    /// Why that is known.
    pub reason: &'a Reason,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// It is written: the order as it is now.
    Done(Box<Order>),
    /// The order does not wait for this; where it stands.
    NotAwaited(State),
    /// A worker took the order up meanwhile, or may be asking the provider at this moment.
    InFlight,
    /// The charge is young enough to be sent again, and then may be made after all.
    StillSent,
    /// The books have this movement already, for this order.
    Booked(Uuid),
}

statements! {
    READ_FOR_DESK = concat!(
        "select ", work_columns!(), "
           from ", order_tables!(), "
          where s.order_id = $1");
    /// Whether a request of this operation may be under way. The order is locked, so no worker takes it up meanwhile.
    IS_IN_FLIGHT = "select coalesce(s.lease_until > now(), false)
                        or coalesce(a.last_sent_at > now() - make_interval(secs => $3), false)
                      from order_sagas s
                      left join payment_attempts a on a.order_id = s.order_id and a.operation = $2
                     where s.order_id = $1";
    /// Whether a worker would still send the charge, and one that slept since it read its age may.
    IS_STILL_SENT = "select first_sent_at > now() - make_interval(secs => $2)
                       from payment_attempts where order_id = $1 and operation = 'charge'";
    FIND_BOOKED = "select order_id from payments where provider_charge_id = $1 or provider_refund_id = $1";
    /// What the tries so far were for is decided: the next ones are counted anew, or the order would be flagged again
    /// at once.
    TAKE_UP_BY_HAND = "update order_sagas
                          set fence = fence + 1, attempts = 0, needs_attention = null,
                              lease_owner = $2, lease_until = now() + make_interval(secs => $3)
                        where order_id = $1 and fence = $4
                       returning fence";
    /// A sweeper that is just looking must not take it yet: its snapshot has the order without what is written here.
    GIVE_BACK = "update order_sagas
                    set lease_owner = null, lease_until = null, next_run_at = clock_timestamp() + interval '1 second'
                  where order_id = $1 and fence = $2";
}

impl OrderStore {
    /// The order as a worker would have it; without the right to change it.
    pub async fn look_at(&self, id: OrderId) -> Result<Option<Work>, StoreError> {
        let row = self.postgres.query_opt(READ_FOR_DESK, &[&id.uuid()]).await?;
        row.as_ref().map(work).transpose()
    }

    /// Writes what a person says became of the order's money, if the order still is as it was `seen`: what the
    /// provider was asked meanwhile holds for that order alone.
    pub async fn resolve(&self, seen: Lease, resolution: Resolution<'_>) -> Result<Resolved, StoreError> {
        self.postgres.call(self.commit_resolution(seen, resolution)).await
    }

    async fn commit_resolution(&self, seen: Lease, resolution: Resolution<'_>) -> Result<Resolved, StoreError> {
        let Resolution { claim, by, reason } = resolution;
        let id = seen.order;
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some((now, work)) = lock(&tx, id).await? else {
            return Err(StoreError::unexpected(format!("order {id} is gone")));
        };
        if work.order.state != claim.awaited_in() {
            return Ok(Resolved::NotAwaited(work.order.state));
        }
        if work.lease != seen || (claim.needs_quiet() && is_in_flight(&tx, id, claim).await?) {
            return Ok(Resolved::InFlight);
        }
        if *claim == Claim::NotCharged && is_still_sent(&tx, id).await? {
            return Ok(Resolved::StillSent);
        }
        let outcome = outcome(claim);
        if let Some(order) = find_booked(&tx, &outcome).await? {
            return Ok(Resolved::Booked(order));
        }

        let work = self.take_up_by_hand(&tx, work).await?;
        let next = after(&work.order, &outcome, now)?;
        log_request(&tx, id, "resolve", by, &format!("{claim}: {reason}")).await?;
        self.set_status(&tx, &work, &next).await?;
        self.record(&tx, &work, &outcome).await?;
        GIVE_BACK.execute(&tx, &[&id.uuid(), &work.lease.fence]).await?;
        tx.commit().await?;
        Ok(Resolved::Done(Box::new(next)))
    }

    /// Takes the (locked) order from whoever has it.
    async fn take_up_by_hand(&self, tx: &Transaction<'_>, work: Work) -> Result<Work, StoreError> {
        let order = work.lease.order;
        let row = TAKE_UP_BY_HAND
            .query_one(
                tx,
                &[
                    &order.uuid(),
                    &self.settings.instance,
                    &self.settings.lease_secs,
                    &work.lease.fence,
                ],
            )
            .await?;
        let lease = Lease {
            order,
            fence: get(&row, "fence")?,
        };
        Ok(Work { lease, ..work })
    }
}

/// The provider's answer that the claim stands for.
fn outcome(claim: &Claim) -> Outcome {
    match claim {
        Claim::Charged(id) => Outcome::Charged {
            provider_id: id.to_string(),
        },
        Claim::NotCharged => Outcome::Declined {
            code: NOT_CHARGED.to_owned(),
        },
        Claim::Refunded(id) => Outcome::Refunded {
            provider_id: id.to_string(),
        },
        // Nobody shall look for it at the provider.
        Claim::RefundedElsewhere(reference) => Outcome::Refunded {
            provider_id: format!("{UNVERIFIED}{reference}"),
        },
    }
}

async fn is_in_flight(tx: &Transaction<'_>, id: OrderId, claim: &Claim) -> Result<bool, StoreError> {
    let row = IS_IN_FLIGHT
        .query_one(
            tx,
            &[&id.uuid(), &claim.operation().as_str(), &IN_FLIGHT_MAX.as_secs_f64()],
        )
        .await?;
    Ok(row.try_get(0)?)
}

async fn is_still_sent(tx: &Transaction<'_>, id: OrderId) -> Result<bool, StoreError> {
    let row = IS_STILL_SENT
        .query_opt(tx, &[&id.uuid(), &KEY_AGE_MAX.as_secs_f64()])
        .await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

/// The order whose payment or refund this movement is already.
async fn find_booked(tx: &Transaction<'_>, outcome: &Outcome) -> Result<Option<Uuid>, StoreError> {
    let (Outcome::Charged { provider_id } | Outcome::Refunded { provider_id }) = outcome else {
        return Ok(None);
    };
    let row = FIND_BOOKED.query_opt(tx, &[provider_id]).await?;
    row.as_ref().map(|row| get(row, "order_id")).transpose()
}
