//! What was asked of the provider, and what it confirmed. Written in the transactions of [`advance`](super::advance)
//! and its neighbours, never alone.

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::payment::{Operation, ProviderKey};

use super::OrderStore;
use super::advance::Doubt;
use crate::storage::StoreError;

statements! {
    /// `sends` counts how often the request *may* have been sent: it is raised before, never after.
    INSERT_ATTEMPT = "insert into payment_attempts (order_id, operation, provider_key, amount, currency,
                                                    sends, first_sent_at, last_sent_at)
                      values ($1, $2, $3, $4, $5, 1, now(), now())";
    SETTLE_ATTEMPT = "update payment_attempts set state = $3, provider_id = $4, last_error = $5
                       where order_id = $1 and operation = $2";
    DOUBT_ATTEMPT = "update payment_attempts
                        set state = 'unknown', sends = sends + 1, last_sent_at = now(), last_error = $3,
                            server_errors = server_errors + $4
                      where order_id = $1 and operation = $2";
    ATTEMPT = "select first_sent_at, extract(epoch from now() - first_sent_at)::float8 as age, sends, server_errors
                 from payment_attempts where order_id = $1 and operation = $2 and first_sent_at is not null";
    INSERT_PAYMENT = "insert into payments (order_id, amount, currency, provider_charge_id) values ($1, $2, $3, $4)";
    SET_REFUND = "update payments
                     set refund_amount = amount, refunded_at = now(), provider_refund_id = $2
                   where order_id = $1 and refunded_at is null";
}

/// A request to the provider that may have been sent.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// When it may first have been sent.
    pub first_sent_at: Timestamp,
    /// How long ago that was, by the database's clock.
    pub age: Duration,
    /// How often it may have been sent.
    pub sends: u32,
    /// How often the provider answered with a server error.
    pub server_errors: u32,
}

impl OrderStore {
    /// What is known of a request; `None` when it was never sent.
    pub async fn attempt(&self, order: OrderId, operation: Operation) -> Result<Option<Attempt>, StoreError> {
        let row = self
            .postgres
            .query_opt(ATTEMPT, &[&order.uuid(), &operation.as_str()])
            .await?;
        let Some(row) = row else { return Ok(None) };
        let age: f64 = row.try_get("age")?;
        let count = |column| Ok::<_, StoreError>(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or(0));
        Ok(Some(Attempt {
            first_sent_at: row.try_get("first_sent_at")?,
            age: Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX),
            sends: count("sends")?,
            server_errors: count("server_errors")?,
        }))
    }
}

/// Records that money will be asked to move, before it is; the key under which it is asked.
pub(super) async fn intend(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    amount: Money,
) -> Result<(), StoreError> {
    let key = ProviderKey::new(order, operation);
    let (minor_units, currency) = (amount.minor_units(), amount.currency().code());
    INSERT_ATTEMPT
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &key.as_str(),
                &minor_units,
                &currency,
            ],
        )
        .await
        .map(drop)
}

/// The provider's answer is definite: done under this id.
pub(super) async fn settle(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    provider_id: &str,
) -> Result<(), StoreError> {
    let none: Option<&str> = None;
    SETTLE_ATTEMPT
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &"succeeded",
                &Some(provider_id),
                &none,
            ],
        )
        .await
        .map(drop)
}

/// The provider's answer is definite: declined, with this code.
pub(super) async fn decline(tx: &Transaction<'_>, order: OrderId, code: &str) -> Result<(), StoreError> {
    let none: Option<&str> = None;
    SETTLE_ATTEMPT
        .execute(
            tx,
            &[
                &order.uuid(),
                &Operation::Charge.as_str(),
                &"declined",
                &none,
                &Some(code),
            ],
        )
        .await
        .map(drop)
}

/// The answer is not known; the same request will be sent again.
pub(super) async fn doubt(
    tx: &Transaction<'_>,
    order: OrderId,
    operation: Operation,
    doubt: &Doubt,
) -> Result<(), StoreError> {
    DOUBT_ATTEMPT
        .execute(
            tx,
            &[
                &order.uuid(),
                &operation.as_str(),
                &doubt.why,
                &i32::from(doubt.server_error),
            ],
        )
        .await
        .map(drop)
}

/// Enters a confirmed charge into the books.
pub(super) async fn enter_charge(
    tx: &Transaction<'_>,
    order: OrderId,
    amount: Money,
    provider_id: &str,
) -> Result<(), StoreError> {
    let (minor_units, currency) = (amount.minor_units(), amount.currency().code());
    INSERT_PAYMENT
        .execute(tx, &[&order.uuid(), &minor_units, &currency, &provider_id])
        .await
        .map(drop)
}

/// Enters a confirmed refund, of all that was charged, into the books.
pub(super) async fn enter_refund(tx: &Transaction<'_>, order: OrderId, provider_id: &str) -> Result<(), StoreError> {
    match SET_REFUND.execute(tx, &[&order.uuid(), &provider_id]).await? {
        1 => Ok(()),
        _ => Err(StoreError::unexpected(format!(
            "order {order} has no payment that could be refunded"
        ))),
    }
}
