//! What becomes of a hold: it is decided how much of it is captured, or that it is voided, before the provider is asked, and
//! the provider's answer is final. Written in the transactions of the other files, never alone.

use std::time::Duration;

use deadpool_postgres::Transaction;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::order::{Order, Payment, State};
use waybill_domain::payment::Operation;

use super::lease::lock;
use super::refunds::{self, FINAL_AMOUNT, RefundOrigin};
use super::{LeasedOrder, OrderStore};
use crate::storage::StoreError;

statements! {
    DECIDE = concat!(
        "update payments set to_capture = $2, kept_amount = $3
          where order_id = $1 and ", of_found!("to_capture is null and captured_amount is null"));
    KEEP = "update payments set kept_amount = $2 where order_id = $1";
    /// A fee is at most what was captured.
    CAPTURED = concat!(
        "update payments
            set captured_amount = $2, captured_at = now(), kept_amount = least(kept_amount, $2)
          where order_id = $1 and ", of_found!("captured_amount is null"));
    /// Of orders that are served: the others capture or release theirs within minutes.
    EXPIRING = "select p.order_id
                  from payments p
                  join order_sagas s using (order_id)
                 where p.captured_amount is null and p.to_capture is null
                   and p.charged_at < now() - make_interval(secs => $1) and s.status = 'succeeded'
                 order by p.charged_at
                 limit 100";
}

/// The request that a decision about a hold leads to.
pub fn capture_operation(payment: &Payment) -> Operation {
    match payment.to_capture_minor {
        Some(0) => Operation::Void,
        _ => Operation::Capture,
    }
}

impl OrderStore {
    /// Served orders whose hold is older than this, and is neither captured nor released.
    pub async fn expiring_holds(&self, age: Duration) -> Result<Vec<OrderId>, StoreError> {
        let rows = self.postgres.query(EXPIRING, &[&age.as_secs_f64()]).await?;
        let ids = rows.iter().map(|row| Ok(OrderId::new(row.try_get::<_, Uuid>(0)?)));
        ids.collect()
    }

    /// Decides that all of a served order's hold is captured now; `None`: it has none any more.
    pub async fn capture_hold(&self, id: OrderId) -> Result<Option<Box<LeasedOrder>>, StoreError> {
        self.postgres.call(self.commit_capture(id)).await
    }

    async fn commit_capture(&self, id: OrderId) -> Result<Option<Box<LeasedOrder>>, StoreError> {
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, id, &Scope::Everything).await? else {
            return Ok(None);
        };
        let is_held = leased.order.payment.as_ref().is_some_and(Payment::is_held);
        if leased.order.state != State::Succeeded || !is_held {
            return Ok(None);
        }
        let mut next = self.reopen(&tx, leased).await?;
        next.unsent = next.open_refund.is_none();
        let all = next.order.amount.minor_units();
        self.decide_capture(&tx, &mut next, all, 0).await?;
        tx.commit().await?;
        Ok(Some(Box::new(next)))
    }

    /// Decides that so much of the order's hold is captured (0: it is voided), and so much of that is kept.
    pub(super) async fn decide_capture(
        &self,
        tx: &Transaction<'_>,
        leased: &mut LeasedOrder,
        to_capture_minor: i64,
        kept_minor: i64,
    ) -> Result<(), StoreError> {
        let id = leased.order.id;
        let rows = DECIDE
            .execute(tx, &[&id.uuid(), &to_capture_minor, &kept_minor])
            .await?;
        if rows != 1 {
            return Err(StoreError::unexpected(format!(
                "order {id} has no hold to decide about"
            )));
        }
        let payment = payment_of(&mut leased.order)?;
        (payment.to_capture_minor, payment.kept_minor) = (Some(to_capture_minor), kept_minor);
        let operation = capture_operation(payment);
        // The request that voids a hold is about all of it.
        let amount = match Money::new(leased.order.amount.currency(), to_capture_minor) {
            Ok(amount) => amount,
            Err(_) => leased.order.amount,
        };
        self.intend(tx, leased.lease, &leased.payment_key, operation, amount)
            .await
    }

    /// A person at the provider captured more of a served order's hold than it cost: the rest is refunded, as far as it was not
    /// refunded before.
    pub(super) async fn refund_excess(&self, tx: &Transaction<'_>, leased: &LeasedOrder) -> Result<(), StoreError> {
        let id = leased.order.id;
        let payment = leased.order.payment.as_ref();
        let Some(cost) = payment.and_then(|payment| payment.to_capture_minor) else {
            return Ok(());
        };
        // Once: what became of that refund is between the operator and the customer.
        if refunds::has_final_amount(tx, id).await? {
            return Ok(());
        }
        let excess = refunds::read_left(tx, id).await? - cost;
        let Ok(excess) = Money::new(leased.order.amount.currency(), excess) else {
            return Ok(());
        };
        let number = refunds::open(tx, id, excess, RefundOrigin::Request, None, FINAL_AMOUNT).await?;
        self.intend(tx, leased.lease, &leased.payment_key, Operation::Refund(number), excess)
            .await
    }

    /// Decides that all is given back but `kept_minor`: a hold is voided or captured to that amount, and of what was captured
    /// the rest is refunded.
    pub(super) async fn compensate(
        &self,
        tx: &Transaction<'_>,
        leased: &mut LeasedOrder,
        kept_minor: i64,
    ) -> Result<(), StoreError> {
        let payment = payment_of(&mut leased.order)?;
        if payment.is_held() {
            return self.decide_capture(tx, leased, kept_minor, kept_minor).await;
        }
        if kept_minor > 0 {
            payment.kept_minor = kept_minor;
            KEEP.execute(tx, &[&leased.order.id.uuid(), &kept_minor]).await?;
        }
        self.intend_compensation(tx, leased).await
    }
}

/// Enters what the provider captured; 0: it has voided the hold.
pub(super) async fn enter_capture(
    tx: &Transaction<'_>,
    leased: &LeasedOrder,
    captured_minor: i64,
) -> Result<(), StoreError> {
    let id = leased.order.id;
    match CAPTURED.execute(tx, &[&id.uuid(), &captured_minor]).await? {
        1 => Ok(()),
        _ => Err(StoreError::unexpected(format!("order {id} has no hold"))),
    }
}

pub(super) fn payment_of(order: &mut Order) -> Result<&mut Payment, StoreError> {
    let id = order.id;
    order
        .payment
        .as_mut()
        .ok_or_else(|| StoreError::unexpected(format!("order {id} has no payment")))
}
