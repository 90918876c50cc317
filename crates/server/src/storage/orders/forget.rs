//! What is forgotten after its time: idempotency keys with their answers, and the payment provider's events. The order
//! itself, its money and its log stay.

use std::time::Duration;

use super::OrderStore;
use crate::storage::StoreError;

/// What has its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgettable {
    /// Idempotency keys with their answers, from when their order came to rest.
    Keys,
    /// Events of the payment provider, from when they came.
    PaymentEvents,
}

statements! {
    /// Of orders at rest only, by the partial index of just these. Rows that somebody else has locked are left for the
    /// next time: a cancellation, or another instance that forgets.
    FORGET_KEYS = "with old as (
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
    FORGET_EVENTS = "with old as (
                         select event_id
                           from payment_events
                          where received_at < now() - make_interval(secs => $1)
                          limit $2
                            for update skip locked)
                     delete from payment_events e using old where e.event_id = old.event_id";
}

impl OrderStore {
    /// Forgets up to `limit` of what is older than `kept`, by the database's clock; how many.
    pub async fn forget(&self, what: Forgettable, kept: Duration, limit: i64) -> Result<u64, StoreError> {
        let statement = match what {
            Forgettable::Keys => FORGET_KEYS,
            Forgettable::PaymentEvents => FORGET_EVENTS,
        };
        self.postgres.execute(statement, &[&kept.as_secs_f64(), &limit]).await
    }
}
