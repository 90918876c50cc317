//! The one thing that operators set directly: that an order is due, or that the payment of a settled one is compared.

use waybill_domain::id::OrderId;
use waybill_domain::operator::Operator;
use waybill_domain::text::Reason;

use super::OrderStore;
use super::lease::{LeaseHolder, holder};
use super::reconciled;
use super::row::get;
use super::step_log::log_request;
use crate::storage::StoreError;

/// The outcome of a retry.
#[derive(Debug, Clone)]
pub enum Retried {
    /// The order is due; the holder of its lease, if there is one, finishes first.
    Due(Option<LeaseHolder>),
    /// No such order.
    NotFound,
    /// The order is settled, and has no payment to be compared: its status.
    Settled(String),
}

statements! {
    LOCK_UNFINISHED = "select status, finished_at is not null as settled, lease_owner, lease_until, lease_until > now() as leased
                         from order_sagas where order_id = $1 for update";
    /// Where a worker holds the order, it is due as soon as that worker defers it.
    SET_DUE = concat!(
        "update order_sagas set next_run_at = now(), due_requested = lease_owner is not null
          where order_id = $1 and ", of_found!("finished_at is null"));
    /// Why a settled order was flagged is dealt with, unless the comparison flags it again.
    CLEAR_FLAG = "update order_sagas set needs_attention = null where order_id = $1";
    /// It was flagged for that, unless for something else.
    SHORTFALL_SEEN = "update payments p set shortfall_seen_at = now()
                       where p.order_id = $1 and p.captured_amount < p.to_capture
                         and not exists (select from disputes d where d.order_id = $1 and d.is_open)
                         and not exists (select from refunds r where r.order_id = $1 and r.state = 'failed')";
}

impl OrderStore {
    /// Makes the order due now; a sweeper claims it as soon as its lease is over. The payment of a settled order is compared
    /// with the provider's record.
    pub async fn retry(&self, id: OrderId, by: &Operator, reason: Option<&Reason>) -> Result<Retried, StoreError> {
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                let Some(row) = LOCK_UNFINISHED.query_opt(&tx, &[&id.uuid()]).await? else {
                    return Ok(Retried::NotFound);
                };
                if !get::<bool>(&row, "settled")? {
                    SET_DUE.execute(&tx, &[&id.uuid()]).await?;
                } else if reconciled::request(&tx, id).await? {
                    CLEAR_FLAG.execute(&tx, &[&id.uuid()]).await?;
                    SHORTFALL_SEEN.execute(&tx, &[&id.uuid()]).await?;
                } else {
                    return Ok(Retried::Settled(get(&row, "status")?));
                }
                log_request(&tx, id, "retry", by, reason.map_or("", Reason::as_str)).await?;
                let leased: Option<bool> = get(&row, "leased")?;
                let lease = holder(&row)?.filter(|_| leased == Some(true));
                tx.commit().await?;
                Ok(Retried::Due(lease))
            })
            .await
    }
}
