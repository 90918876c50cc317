//! T2, T4 and T5: one event of an order, with all that belongs to it, in one commit under the fence.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio::try_join;
use waybill_domain::money::Money;
use waybill_domain::order::{Event, FailureReason, Order, Payment, Refund, State};
use waybill_domain::payment::{Operation, ProviderKey};

use super::answer::answer;
use super::{Lease, OrderStore, StoredAnswer, Work, money};
use crate::crash_points::crash_point;
use crate::storage::StoreError;

/// What a step found out, with what is to be stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order is ready to be charged.
    ChargeIntended,
    /// The provider confirmed the charge.
    Charged {
        /// The provider's id of it.
        provider_id: String,
    },
    /// The provider declined.
    Declined {
        /// The provider's code.
        code: String,
    },
    /// It is not known whether the charge happened.
    ChargeUnknown {
        /// What went wrong.
        doubt: Doubt,
    },
    /// No driver within the window.
    NoDriver {
        /// For people.
        why: String,
    },
    /// A cancellation is honoured.
    Cancelled,
    /// It is not known whether the refund happened.
    RefundUnknown {
        /// What went wrong.
        doubt: Doubt,
    },
    /// The provider confirmed the refund.
    Refunded {
        /// The provider's id of it.
        provider_id: String,
    },
}

/// Why it is not known whether money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The class of what went wrong, for people.
    pub why: String,
    /// Whether the provider answered with a server error: one that it may repeat for ever.
    pub server_error: bool,
}

impl Outcome {
    /// The rulebook's event.
    pub fn event(&self) -> Event {
        match self {
            Outcome::ChargeIntended => Event::ChargeIntended,
            Outcome::Charged { .. } => Event::Charged,
            Outcome::Declined { .. } => Event::Declined,
            Outcome::ChargeUnknown { .. } => Event::ChargeUnknown,
            Outcome::NoDriver { .. } => Event::NoDriver,
            Outcome::Cancelled => Event::Cancelled,
            Outcome::RefundUnknown { .. } => Event::RefundUnknown,
            Outcome::Refunded { .. } => Event::Refunded,
        }
    }
}

statements! {
    /// The fence. No row: another worker has the order. The row stays locked until the commit.
    HOLD = "select now(), cancel_requested_at
              from order_sagas
             where order_id = $1 and fence = $2 and status = $3
               for update";
    /// Moves the order on. With the saga end the lease and the need for a person to look. The answer is that of the first
    /// time that the order came to rest; an order whose key is forgotten keeps none, for nobody can ask for it.
    SET_STATUS = "update order_sagas
                     set status = $4, failure_reason = $5, updated_at = now(),
                         finished_at = case when $6 then now() end,
                         lease_owner = case when $6 then null else lease_owner end,
                         lease_until = case when $6 then null else now() + make_interval(secs => $7) end,
                         response_code = case when idempotency_key is not null then coalesce(response_code, $8) end,
                         response_message = case when idempotency_key is not null then coalesce(response_message, $9) end,
                         response_details = case when idempotency_key is not null then coalesce(response_details, $10) end,
                         response_body = case when idempotency_key is not null then coalesce(response_body, $11) end,
                         needs_attention = case when not $6 then needs_attention end
                   where order_id = $1 and fence = $2 and status = $3
                  returning response_code, response_message, response_details, response_body";
    /// The round is that of the search under way: how many drivers the order has lost.
    INSERT_STEP = "insert into order_saga_steps (order_id, step, status, detail, fence, actor, round)
                   select $1, $2, $3, $4, $5, $6, reassignments from order_sagas where order_id = $1";
}

impl OrderStore {
    /// Commits what a step found out. `work` is the order after it; on `Fenced` nothing was written.
    pub async fn advance(&self, work: &mut Work, outcome: &Outcome) -> Result<(), StoreError> {
        let advanced = self.postgres.call(self.commit_outcome(work, outcome)).await?;
        *work = advanced;
        Ok(())
    }

    async fn commit_outcome(&self, work: &Work, outcome: &Outcome) -> Result<Work, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let (now, cancel_requested) = hold(&tx, work).await?;

        let order = after(&work.order, outcome, now)?;
        let (answer, ()) = try_join!(self.set_status(&tx, work, &order), self.record(&tx, work, outcome))?;
        tx.commit().await?;
        crash_point!("charge_committed", if matches!(outcome, Outcome::Charged { .. }));
        crash_point!("refund_intended", if matches!(outcome.event(), Event::NoDriver | Event::Cancelled));
        crash_point!("refund_committed", if matches!(outcome, Outcome::Refunded { .. }));
        Ok(Work {
            order,
            cancel_requested,
            answer,
            ..work.clone()
        })
    }

    /// Writes the order's new status, and with the end of the saga its answer: the one to give, which is what is stored.
    pub(super) async fn set_status(
        &self,
        tx: &Transaction<'_>,
        work: &Work,
        next: &Order,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let finished = next.state.is_terminal();
        let rendered = finished.then(|| (self.render)(next));
        let new = rendered.as_ref();
        let row = SET_STATUS
            .query_opt(
                tx,
                &[
                    &work.lease.order.uuid(),
                    &work.lease.fence,
                    &work.order.state.as_str(),
                    &next.state.as_str(),
                    &next.failure_reason.map(FailureReason::as_str),
                    &finished,
                    &self.settings.lease_secs,
                    &new.map(|answer| answer.code),
                    &new.map(|answer| answer.message.as_str()),
                    &new.map(|answer| answer.details.as_slice()),
                    &new.map(|answer| answer.body.as_slice()),
                ],
            )
            .await?
            .ok_or_else(|| fenced(work.lease))?;
        Ok(if finished { answer(&row)?.or(rendered) } else { None })
    }

    /// Writes what belongs to the outcome beside the status: the step, the attempt, the money.
    pub(super) async fn record(&self, tx: &Transaction<'_>, work: &Work, outcome: &Outcome) -> Result<(), StoreError> {
        let lease = work.lease;
        let (id, amount) = (work.order.id, work.order.amount);
        match outcome {
            Outcome::ChargeIntended => self.intend(tx, lease, Operation::Charge, amount).await,
            Outcome::Charged { provider_id } => try_join!(
                self.log_step(tx, lease, "charge", "succeeded", provider_id),
                money::settle(tx, id, Operation::Charge, provider_id),
                money::enter_charge(tx, id, amount, provider_id),
            )
            .map(drop),
            Outcome::Declined { code } => try_join!(
                self.log_step(tx, lease, "charge", "failed", code),
                money::decline(tx, id, code)
            )
            .map(drop),
            Outcome::ChargeUnknown { doubt } => self.doubt(tx, lease, Operation::Charge, doubt).await,
            Outcome::NoDriver { why } => try_join!(
                self.log_step(tx, lease, "assign", "failed", why),
                self.intend(tx, lease, Operation::Refund, amount),
            )
            .map(drop),
            Outcome::Cancelled => {
                self.log_step(tx, lease, "cancel", "succeeded", "").await?;
                // Nothing to give back where nothing was charged.
                match work.order.payment {
                    Some(_) => self.intend(tx, lease, Operation::Refund, amount).await,
                    None if work.order.state == State::Started => Ok(()),
                    None => Err(StoreError::unexpected("a charged order without its payment")),
                }
            }
            Outcome::RefundUnknown { doubt } => self.doubt(tx, lease, Operation::Refund, doubt).await,
            Outcome::Refunded { provider_id } => try_join!(
                self.log_step(tx, lease, "refund", "succeeded", provider_id),
                money::settle(tx, id, Operation::Refund, provider_id),
                money::enter_refund(tx, id, provider_id),
            )
            .map(drop),
        }
    }

    /// Records that money will be asked to move, before it is.
    pub(super) async fn intend(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        operation: Operation,
        amount: Money,
    ) -> Result<(), StoreError> {
        let key = ProviderKey::new(lease.order, operation);
        try_join!(
            money::intend(tx, lease.order, operation, amount),
            self.log_step(tx, lease, operation.as_str(), "started", key.as_str()),
        )
        .map(drop)
    }

    async fn doubt(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        operation: Operation,
        doubt: &Doubt,
    ) -> Result<(), StoreError> {
        try_join!(
            self.log_step(tx, lease, operation.as_str(), "unknown", &doubt.why),
            money::doubt(tx, lease.order, operation, doubt),
        )
        .map(drop)
    }

    /// Writes a line of the order's log, in the transaction of the change that it tells of. The transaction must hold the
    /// order's row by then: those who follow the log rely on it (`READ_AFTER`).
    pub(super) async fn log_step(
        &self,
        tx: &Transaction<'_>,
        lease: Lease,
        step: &str,
        status: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        INSERT_STEP
            .execute(
                tx,
                &[
                    &lease.order.uuid(),
                    &step,
                    &status,
                    &detail,
                    &lease.fence,
                    &self.settings.instance,
                ],
            )
            .await
            .map(drop)
    }
}

/// Locks the order if this worker still has it: the transaction's time, and whether a cancellation was asked for.
pub(super) async fn hold(tx: &Transaction<'_>, work: &Work) -> Result<(Timestamp, bool), StoreError> {
    let row = HOLD
        .query_opt(
            tx,
            &[&work.lease.order.uuid(), &work.lease.fence, &work.order.state.as_str()],
        )
        .await?
        .ok_or_else(|| fenced(work.lease))?;
    let cancel_requested_at: Option<Timestamp> = row.try_get(1)?;
    Ok((row.try_get(0)?, cancel_requested_at.is_some()))
}

pub(super) fn fenced(lease: Lease) -> StoreError {
    StoreError::Fenced {
        order: lease.order,
        fence: lease.fence,
    }
}

/// The order after `outcome`, as the transaction of time `now` writes it.
pub(super) fn after(order: &Order, outcome: &Outcome, now: Timestamp) -> Result<Order, StoreError> {
    let event = outcome.event();
    let mut next = Order {
        state: order.state.next(event)?,
        failure_reason: event.failure_reason().or(order.failure_reason),
        updated_at: now,
        ..order.clone()
    };
    match outcome {
        Outcome::Charged { provider_id } => {
            next.payment = Some(Payment {
                charged_at: now,
                provider_charge_id: provider_id.clone(),
                refund: None,
            });
        }
        Outcome::Refunded { .. } => {
            let payment = next
                .payment
                .as_mut()
                .ok_or_else(|| StoreError::unexpected("a refund of an order without a payment"))?;
            payment.refund = Some(Refund {
                amount: order.amount,
                refunded_at: now,
            });
        }
        _ => {}
    }
    Ok(next)
}
