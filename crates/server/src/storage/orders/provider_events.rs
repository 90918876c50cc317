//! The events that the payment provider sent, each stored once. A new event makes its order due now.

use uuid::Uuid;
use waybill_domain::id::OrderId;

use super::OrderStore;
use crate::crash_points::crash_point;
use crate::storage::StoreError;

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
}

statements! {
    RECORD = "insert into payment_events (event_id, type, order_id) values ($1, $2, $3) on conflict do nothing";
    /// One that is due already keeps its place in the queue. The holder of its lease is not disturbed: if it waits for the
    /// provider, the order is due as soon as it is deferred.
    MAKE_DUE = "update order_sagas
                   set next_run_at = least(next_run_at, now()), due_requested = lease_owner is not null
                 where order_id = $1 and finished_at is null
                   and (next_run_at > now()
                        or lease_owner is not null and not due_requested and status in ('charging', 'refunding'))";
}

impl OrderStore {
    /// Stores an event; the first time, the order it is about is due at once. `id` and `kind` are text without NUL, `id`
    /// of 1 to 255 bytes.
    pub async fn record_event(&self, id: &str, kind: &str, order: Option<OrderId>) -> Result<Recorded, StoreError> {
        self.postgres.call(self.commit_event(id, kind, order)).await
    }

    async fn commit_event(&self, id: &str, kind: &str, order: Option<OrderId>) -> Result<Recorded, StoreError> {
        let order: Option<Uuid> = order.map(OrderId::uuid);
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        if RECORD.execute(&tx, &[&id, &kind, &order]).await? == 0 {
            return Ok(Recorded::Duplicate);
        }
        let made_due = match order {
            Some(order) => MAKE_DUE.execute(&tx, &[&order]).await? == 1,
            None => false,
        };
        tx.commit().await?;
        crash_point!("webhook_stored");
        Ok(Recorded::New { made_due })
    }
}
