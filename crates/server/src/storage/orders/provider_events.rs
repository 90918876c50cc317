//! The events that the payment provider sent, each stored once. A new event makes its order due now.

use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::payment_account::PaymentAccount;

use super::lease::lock_row;
use super::{OrderStore, reconciled};
use crate::storage::StoreError;

/// An event of the provider. Its texts are without NUL, its id of 1 to 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderEvent {
    /// The account that it is of.
    pub account: PaymentAccount,
    /// The provider's id of it, apart from those of other accounts.
    pub id: String,
    /// The provider's type of it.
    pub kind: String,
    /// The order that it carries; `None`: none, or none that could be ours.
    pub order: Option<OrderId>,
    /// The provider's id of the payment that it is about.
    pub payment: Option<String>,
    /// Whether it says no more than that the order was charged.
    pub says_charged: bool,
    /// What it is about, where the ledger may have something to learn of it: a refund, a dispute.
    pub reconciles: Option<Object>,
}

/// An object of the provider in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The provider's id.
    pub id: String,
    /// The provider's name of its state.
    pub status: String,
}

/// The outcome of recording an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is stored.
    New {
        /// Whether an order was waiting for its next try, which is due now, or as soon as its worker defers it.
        made_due: bool,
    },
    /// It was stored before. Nothing was done.
    Duplicate,
    /// It says that an order was charged, and nothing waits for that. It is not stored.
    NothingNew,
}

/// Whether an event makes an order due sooner. One that is due already keeps its place in the queue. The holder of its lease is not
/// disturbed: if it waits for the provider, the order is due as soon as it is deferred.
macro_rules! due {
    ($order:literal) => {
        concat!(
            of_found!(concat!($order, ".finished_at is null")),
            " and (",
            $order,
            ".lease_owner is null and ",
            $order,
            ".next_run_at > now() or ",
            $order,
            ".lease_owner is not null and not ",
            $order,
            ".due_requested and ",
            $order,
            ".status in ('charging', 'refunding', 'succeeded'))"
        )
    };
}
pub(super) use due;

statements! {
    /// The order whose payment it names, else the one that it carries: a failover may have lost that one. None, if that is paid
    /// into another account.
    RECORD = "insert into payment_events (event_id, type, order_id)
              select $1, $2, case when s.order_id is null or s.payment_account is not distinct from $5 then named end
                from (select coalesce((select order_id from payments where provider_charge_id = $4), $3)) one (named)
                left join order_sagas s on s.order_id = named
              on conflict do nothing
              returning order_id";
    IS_KNOWN = "select 1 from refunds where order_id = $1 and provider_refund_id = $2 and state = $3";
    MAKE_DUE = concat!(
        "update order_sagas s
            set next_run_at = case when lease_owner is null then least(next_run_at, now()) else next_run_at end,
                due_requested = lease_owner is not null
          where s.order_id = $1 and ", due!("s"));
}

impl OrderStore {
    /// Stores an event; the first time, the order it is about is due at once.
    pub async fn record_event(&self, event: &ProviderEvent) -> Result<Recorded, StoreError> {
        if let Some(recorded) = self.record_in_group(event).await {
            return recorded;
        }
        self.postgres.call(self.commit_event(event)).await
    }

    async fn commit_event(&self, event: &ProviderEvent) -> Result<Recorded, StoreError> {
        let order: Option<Uuid> = event.order.map(OrderId::uuid);
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(row) = RECORD
            .query_opt(
                &tx,
                &[&event.id, &event.kind, &order, &event.payment, &event.account.name()],
            )
            .await?
        else {
            return Ok(Recorded::Duplicate);
        };
        let order: Option<Uuid> = row.try_get(0)?;
        let mut made_due = false;
        if let Some(order) = order {
            made_due = MAKE_DUE.execute(&tx, &[&order]).await? == 1;
            // A refund that was made, or failed, by whomever, and a dispute: the order's payment is compared with the provider's
            // record, also if the order was settled long ago.
            if let Some(Object { id, status }) = &event.reconciles
                && lock_row(&tx, OrderId::new(order)).await?
                && IS_KNOWN.query_opt(&tx, &[&order, id, status]).await?.is_none()
            {
                made_due |= reconciled::request(&tx, OrderId::new(order)).await?;
            }
        }
        tx.commit().await?;
        Ok(Recorded::New { made_due })
    }
}
