//! The expiry of idempotency keys with their answers, of the payment provider's events, and of links. The order itself, its ledger
//! entries and its log stay.

use std::time::Duration;

use super::OrderStore;
use crate::storage::StoreError;

/// Data with a retention time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expirable {
    /// Idempotency keys with their answers, counted from the time when their order was settled.
    IdempotencyKeys,
    /// Events of the payment provider, counted from the time when they were received.
    PaymentEvents,
    /// Links by which orders were followed, counted from the time when they ended at the latest.
    Links,
}

statements! {
    /// Of settled orders only, by the partial index of just these. Rows that another transaction has locked are left for
    /// the next run: a cancellation, or another instance that expires keys.
    EXPIRE_KEYS = "with old as (
                       select order_id
                         from order_sagas
                        where idempotency_key is not null and finished_at < now() - make_interval(secs => $1)
                        order by finished_at
                        limit $2
                          for update skip locked)
                   update order_sagas s
                      set idempotency_key = null,
                          response_code = null, response_message = null, response_details = null, response_body = null
                     from old
                    where s.order_id = old.order_id";
    EXPIRE_EVENTS = "with old as (
                         select event_id
                           from payment_events
                          where received_at < now() - make_interval(secs => $1)
                          limit $2
                            for update skip locked)
                     delete from payment_events e using old where e.event_id = old.event_id";
    EXPIRE_LINKS = "with old as (
                        select share_id
                          from order_shares
                         where expires_at < now() - make_interval(secs => $1)
                         order by expires_at
                         limit $2
                           for update skip locked)
                    delete from order_shares h using old where h.share_id = old.share_id";
}

impl OrderStore {
    /// Expires up to `limit` rows that are older than `kept`, by the database's clock; how many.
    pub async fn expire(&self, what: Expirable, kept: Duration, limit: i64) -> Result<u64, StoreError> {
        let statement = match what {
            Expirable::IdempotencyKeys => EXPIRE_KEYS,
            Expirable::PaymentEvents => EXPIRE_EVENTS,
            Expirable::Links => EXPIRE_LINKS,
        };
        self.postgres.execute(statement, &[&kept.as_secs_f64(), &limit]).await
    }
}
