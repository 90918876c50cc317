//! The ledger: what was asked of the provider (`payment_attempts`) and what it confirmed (`payments`). Written in the
//! transactions of the other files, never alone.

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::payment::{KEY_AGE_MAX, Operation, ProviderKey};

use super::row::get;
use super::{Lease, OrderStore};
use crate::storage::StoreError;

statements! {
    /// `sends` is 1 from before the first send, and grows before each further one.
    INSERT_ATTEMPT = "insert into payment_attempts (order_id, operation, number, provider_key, amount, currency,
                                                    sends, first_sent_at, last_sent_at)
                      values ($1, $2, $3, $4, $5, $6, 1, now(), now())
                      on conflict (provider_key) do nothing";
    MARK_DEFINITE = "update payment_attempts set state = $4, provider_id = $5, last_error = $6
                      where order_id = $1 and operation = $2 and number = $3";
    MARK_UNKNOWN = "update payment_attempts
                       set state = 'unknown', last_error = $4, server_errors = server_errors + $5
                     where order_id = $1 and operation = $2 and number = $3";
    /// Before a request is sent once more, under the lease, which it renews. What was never executed counts from here.
    RECORD_SEND = concat!(
        "with s as (
                       update order_sagas set lease_until = now() + make_interval(secs => $3)
                        where order_id = $1 and fence = $2 and ", of_found!("finished_at is null"), "
                       returning order_id)
                   update payment_attempts a
                      set state = case a.state when 'not_executed' then 'intent' else a.state end,
                          first_sent_at = case a.state when 'not_executed' then now() else a.first_sent_at end,
                          sends = a.sends + 1, last_sent_at = now()
                     from s
                    where a.order_id = s.order_id and a.operation = $4 and a.number = $5");
    /// Only of a request whose sender knew that none before it was executed, or that none of them ever will be.
    MARK_NOT_EXECUTED = "update payment_attempts set state = 'not_executed'
                          where order_id = $1 and operation = $2 and number = $3 and state in ('intent', 'unknown')";
    /// What was sent a while ago and has no answer stays as it is: it may still arrive.
    MARK_NOT_SENT_AGAIN = "update payment_attempts set state = 'revoked'
                            where order_id = $1 and operation = 'refund' and number = $2
                              and (state = 'not_executed' or last_sent_at < now() - make_interval(secs => $3))";
    /// What is not held is captured.
    INSERT_PAYMENT = "insert into payments (order_id, amount, currency, provider_charge_id, captured_amount, captured_at)
                      values ($1, $2::bigint, $3, $4, case when not $5 then $2::bigint end, case when not $5 then now() end)";
}

/// A request to the provider that may have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it may first have been sent.
    pub first_sent_at: Timestamp,
    /// How long ago that was, by the database's clock.
    pub age: Duration,
    /// How long ago it may last have been sent, by the database's clock.
    pub last_sent_age: Duration,
    /// How often it may have been sent.
    pub sends: u32,
    /// Whether it is certain that no send was executed.
    pub unexecuted: bool,
    /// How often the provider answered with a server error.
    pub server_errors: u32,
}

/// Why it is not known whether money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOutcome {
    /// The class of what went wrong, for people.
    pub cause: String,
    /// Whether the provider answered with a server error: one that it may repeat for ever.
    pub server_error: bool,
}

impl OrderStore {
    /// Records that a request is sent once more, before it is, and renews the lease: nothing is sent for an order that
    /// another worker claimed meanwhile.
    pub async fn record_send(&self, lease: Lease, operation: Operation) -> Result<(), StoreError> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
            &lease.order.uuid(),
            &lease.fence,
            &self.settings.lease_secs,
            &operation.as_str(),
            &operation.number(),
        ];
        match self.postgres.execute(RECORD_SEND, &parameters).await? {
            1 => Ok(()),
            _ => Err(lease.lost()),
        }
    }
}

/// The attempt in the columns `first_sent_at`, `age`, `last_sent_age`, `sends`, `unexecuted` and `server_errors`; `None` where
/// they are null.
pub(super) fn attempt(row: &Row) -> Result<Option<Attempt>, StoreError> {
    let Some(first_sent_at) = get(row, "first_sent_at")? else {
        return Ok(None);
    };
    let age = |column| {
        let secs: f64 = get(row, column)?;
        Ok::<_, StoreError>(Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(Duration::MAX))
    };
    let count = |column| Ok::<_, StoreError>(u32::try_from(get::<i32>(row, column)?).unwrap_or(0));
    Ok(Some(Attempt {
        first_sent_at,
        age: age("age")?,
        last_sent_age: age("last_sent_age")?,
        sends: count("sends")?,
        unexecuted: get(row, "unexecuted")?,
        server_errors: count("server_errors")?,
    }))
}

/// Records that money will be asked to move, before it is, and the key under which it is asked. `false`: another order's
/// payment has this key, and nothing is recorded.
pub(super) async fn record_intent(
    tx: &Transaction<'_>,
    order: OrderId,
    key: &ProviderKey,
    operation: Operation,
    amount: Money,
) -> Result<bool, StoreError> {
    let (minor_units, currency) = (amount.minor_units(), amount.currency().code());
    let rows = INSERT_ATTEMPT
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &operation.number(),
                &key.as_str(),
                &minor_units,
                &currency,
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// The provider made the charge, under this id.
pub(super) async fn record_charged(tx: &Transaction<'_>, order: OrderId, provider_id: &str) -> Result<(), StoreError> {
    mark_definite(tx, order, Operation::Charge, "succeeded", Some(provider_id), None).await
}

/// The provider's answer to a charge is definite: declined, with this code.
pub(super) async fn record_decline(tx: &Transaction<'_>, order: OrderId, code: &str) -> Result<(), StoreError> {
    mark_definite(tx, order, Operation::Charge, "declined", None, Some(code)).await
}

/// It is certain that the charge was not executed and never will be.
pub(super) async fn record_revoked(tx: &Transaction<'_>, order: OrderId, why: &str) -> Result<(), StoreError> {
    mark_definite(tx, order, Operation::Charge, "revoked", None, Some(why)).await
}

/// What became of the request of a capture or a void: `succeeded` or `failed`.
pub(super) async fn record_capture_end(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    state: &str,
    why: Option<&str>,
) -> Result<(), StoreError> {
    mark_definite(tx, order, operation, state, None, why).await
}

/// What became of the request of a refund: `succeeded`, `failed`, or `revoked`, which is not sent any more.
pub(super) async fn record_refund_end(
    tx: &Transaction<'_>,
    order: OrderId,
    number: i32,
    state: &str,
    provider_id: Option<&str>,
    why: Option<&str>,
) -> Result<(), StoreError> {
    mark_definite(tx, order, Operation::Refund(number), state, provider_id, why).await
}

/// The refund is not sent any more, since the ledger has learned what makes it needless or impossible.
pub(super) async fn record_not_sent_again(tx: &Transaction<'_>, order: OrderId, number: i32) -> Result<(), StoreError> {
    MARK_NOT_SENT_AGAIN
        .execute(tx, &[&order.uuid(), &number, &KEY_AGE_MAX.as_secs_f64()])
        .await
        .map(drop)
}

/// No send of the request so far was executed, or none ever will be.
pub(super) async fn record_not_executed(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
) -> Result<(), StoreError> {
    MARK_NOT_EXECUTED
        .execute(tx, &[&order.uuid(), &operation.as_str(), &operation.number()])
        .await
        .map(drop)
}

async fn mark_definite(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    state: &str,
    provider_id: Option<&str>,
    last_error: Option<&str>,
) -> Result<(), StoreError> {
    MARK_DEFINITE
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &operation.number(),
                &state,
                &provider_id,
                &last_error,
            ],
        )
        .await
        .map(drop)
}

/// The outcome is not known; the same request will be sent again.
pub(super) async fn record_unknown(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    unknown: &UnknownOutcome,
) -> Result<(), StoreError> {
    MARK_UNKNOWN
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &operation.number(),
                &unknown.cause,
                &i32::from(unknown.server_error),
            ],
        )
        .await
        .map(drop)
}

/// Enters a confirmed charge, or a confirmed hold.
pub(super) async fn enter_charge(
    tx: &Transaction<'_>,
    order: OrderId,
    amount: Money,
    provider_id: &str,
    is_held: bool,
) -> Result<(), StoreError> {
    let (minor_units, currency) = (amount.minor_units(), amount.currency().code());
    INSERT_PAYMENT
        .execute(tx, &[&order.uuid(), &minor_units, &currency, &provider_id, &is_held])
        .await
        .map(drop)
}
