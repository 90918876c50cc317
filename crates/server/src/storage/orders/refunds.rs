//! The refunds of a payment: each is opened before it is sent and closed by the provider's answer. The payment has their
//! sum. Written in the transactions of the other files, never alone.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::order::{LedgerRefund, OpenRefund, RefundState};
use waybill_domain::payment::KEY_AGE_MAX;

use super::OrderStore;
use super::row::{first_open, get, money, open_refund, refund_state};
use crate::storage::StoreError;

/// Why a part of the price is refunded after the completion: a refund's reason.
pub(super) const FINAL_AMOUNT: &str = "the final amount is less";
/// The code of a requested refund for which too little is left.
pub(super) const NOTHING_LEFT: &str = "more than what is left of the payment";

/// Who decided a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundOrigin {
    /// The saga: all that is left of the payment of an order that is not served.
    Compensation,
    /// A caller of `RefundOrder`.
    Request,
    /// An operator, in place of one that failed.
    Again,
    /// A person at the provider.
    Provider,
    /// The customer's bank: a dispute that was lost.
    Dispute,
    /// An operator, past the provider.
    Unverified,
}

statements! {
    /// What is left, if anything is.
    INSERT_COMPENSATION = "insert into refunds (order_id, number, amount, currency, origin)
                           select p.order_id, coalesce(max(r.number), 0) + 1,
                                  p.captured_amount - p.kept_amount
                                      - coalesce(sum(r.amount) filter (where r.state in ('open', 'succeeded')), 0),
                                  p.currency, 'compensation'
                             from payments p
                             left join refunds r on r.order_id = p.order_id
                            where p.order_id = $1
                            group by p.order_id
                           having p.captured_amount - p.kept_amount
                                      > coalesce(sum(r.amount) filter (where r.state in ('open', 'succeeded')), 0)
                           returning number, amount";
    INSERT_OPEN = "insert into refunds (order_id, number, amount, currency, origin, idempotency_key, reason)
                   select $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6 from refunds where order_id = $1
                   returning number";
    /// One that was made by others. It may be known by now.
    INSERT_MADE = "insert into refunds (order_id, number, amount, currency, origin, state, provider_refund_id, settled_at)
                   select $1, coalesce(max(number), 0) + 1, $2, $3, $4, 'succeeded', $5, now()
                     from refunds where order_id = $1
                   on conflict (provider_refund_id) do nothing";
    CLOSE = "update refunds
                set state = $3, provider_refund_id = coalesce($4, provider_refund_id), failure = $5, settled_at = now()
              where order_id = $1 and number = $2";
    REPLACE_FAILED = "update refunds set state = 'replaced' where order_id = $1 and state = 'failed'";
    SUM_UP = concat!(
        "update payments
            set (refund_amount, refunded_at) =
                (select sum(amount)::bigint, max(settled_at) from refunds
                  where order_id = $1 and ", of_found!("state = 'succeeded'"), ")
          where order_id = $1");
    READ_OPEN = concat!(
        "select s.currency, o.* from order_sagas s ", first_open!(), " where s.order_id = $1");
    /// What was paid or is held, less what is or will be refunded, and less what the customer's bank took back: where that is
    /// no refund, for the order was served.
    READ_LEFT = "select coalesce(p.captured_amount, p.to_capture, p.amount)
                        - (select coalesce(sum(r.amount), 0) from refunds r
                            where r.order_id = p.order_id and r.state in ('open', 'succeeded'))::bigint
                        - (select coalesce(sum(d.amount), 0) from disputes d
                            where d.order_id = p.order_id and d.status = 'lost'
                              and not exists (select from refunds r where r.provider_refund_id = d.provider_dispute_id)
                          )::bigint
                   from payments p
                  where p.order_id = $1";
    /// During an inquiry (`warning_...`) the bank has not taken the money, and a refund is an answer to it.
    IS_DISPUTED = "select 1 from disputes where order_id = $1 and is_open and not starts_with(status, 'warning') limit 1";
    READ_FAILED = "select number, amount from refunds where order_id = $1 and state = 'failed' order by number";
    NAME = concat!(
        "update refunds set is_named = true
          where order_id = $1 and provider_refund_id = $2 and origin = 'provider' and ", of_found!("state = 'succeeded'"));
    READ_NAMED = "select (coalesce(sum(amount) filter (where origin = 'provider' and state = 'succeeded'), 0)
                            - coalesce(sum(amount) filter (where state = 'replaced'), 0))::bigint
                    from refunds where order_id = $1 and is_named";
    REPLACE_NAMED = "update refunds set state = 'replaced', is_named = true where order_id = $1 and number = any($2)";
    /// What was impossible is not made again by itself.
    READ_OWED = "select greatest(0,
                            coalesce(sum(amount) filter (where state = 'failed' and failure is distinct from $2), 0)
                            - coalesce(sum(amount) filter (
                                where origin = 'provider' and state = 'succeeded' and not is_named
                                  and settled_at >= (select min(f.settled_at) from refunds f
                                                      where f.order_id = $1 and f.state = 'failed')), 0))::bigint
                   from refunds where order_id = $1";
    HAS_FINAL_AMOUNT = "select 1 from refunds where order_id = $1 and reason = $2 and idempotency_key is null limit 1";
    /// One that was sent and has no answer. What was sent longer ago has arrived, or never will.
    MAY_BE_MADE = "select 1 from payment_attempts a
                     join refunds r using (order_id, number)
                    where order_id = $1 and a.operation = 'refund' and a.state in ('intent', 'unknown')
                      and a.last_sent_at > now() - make_interval(secs => $2)
                      and (r.state <> 'open' or $3)
                    limit 1";
    READ_DISPUTES = "select provider_dispute_id, status from disputes where order_id = $1";
    READ_REFUNDS = "select number, amount, state, origin, provider_refund_id from refunds where order_id = $1 order by number";
}

impl RefundOrigin {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            RefundOrigin::Compensation => "compensation",
            RefundOrigin::Request => "request",
            RefundOrigin::Again => "again",
            RefundOrigin::Provider => "provider",
            RefundOrigin::Dispute => "dispute",
            RefundOrigin::Unverified => "unverified",
        }
    }
}

impl OrderStore {
    /// What the ledger has of the order's payment: its refunds by their numbers, and the ids of its disputes, each with the
    /// status that it had last.
    pub async fn read_record(&self, order: OrderId) -> Result<(Vec<LedgerRefund>, Vec<(String, String)>), StoreError> {
        let id = order.uuid();
        let refunds = self.postgres.query(READ_REFUNDS, &[&id]).await?;
        let disputes = self.postgres.query(READ_DISPUTES, &[&id]).await?;
        let disputes = disputes.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        Ok((
            refunds.iter().map(ledger_refund).collect::<Result<_, _>>()?,
            disputes.collect::<Result<_, StoreError>>()?,
        ))
    }
}

/// The first open refund of the order, as it is in this transaction.
pub(super) async fn read_open(tx: &Transaction<'_>, order: OrderId) -> Result<Option<OpenRefund>, StoreError> {
    open_refund(&READ_OPEN.query_one(tx, &[&order.uuid()]).await?)
}

/// What is left of the payment, in minor units: what was paid or is held, less what is or will be refunded, or was taken back
/// by the customer's bank.
pub(super) async fn read_left(tx: &Transaction<'_>, order: OrderId) -> Result<i64, StoreError> {
    let row = READ_LEFT.query_opt(tx, &[&order.uuid()]).await?;
    let left: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(left.map_or(0, |left| left.max(0)))
}

/// The refunds that failed and are still owed: their numbers and amounts in minor units.
pub(super) async fn read_failed(tx: &Transaction<'_>, order: OrderId) -> Result<Vec<(i32, i64)>, StoreError> {
    let rows = READ_FAILED.query(tx, &[&order.uuid()]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// An operator names a refund by hand as made for what failed. Closes as much of that as all those cover that were named so,
/// the first ones first.
pub(super) async fn name_for_failed(tx: &Transaction<'_>, order: OrderId, provider_id: &str) -> Result<(), StoreError> {
    let id = order.uuid();
    NAME.execute(tx, &[&id, &provider_id]).await?;
    let mut covered: i64 = READ_NAMED.query_one(tx, &[&id]).await?.try_get(0)?;
    let mut closed = Vec::new();
    for (number, amount_minor) in read_failed(tx, order).await? {
        if amount_minor <= covered {
            covered -= amount_minor;
            closed.push(number);
        }
    }
    REPLACE_NAMED.execute(tx, &[&id, &closed]).await.map(drop)
}

/// How much of what failed will still be refunded, in minor units: what was refunded by hand since may have been that.
pub(super) async fn read_owed(tx: &Transaction<'_>, order: OrderId) -> Result<i64, StoreError> {
    Ok(READ_OWED
        .query_one(tx, &[&order.uuid(), &NOTHING_LEFT])
        .await?
        .try_get(0)?)
}

/// Whether what was captured beyond the final amount was decided to be refunded, whatever became of that.
pub(super) async fn has_final_amount(tx: &Transaction<'_>, order: OrderId) -> Result<bool, StoreError> {
    let found = HAS_FINAL_AMOUNT.query_opt(tx, &[&order.uuid(), &FINAL_AMOUNT]).await?;
    Ok(found.is_some())
}

/// Whether a dispute of the payment is open, for which the provider refuses to refund it.
pub(super) async fn is_disputed(tx: &Transaction<'_>, order: OrderId) -> Result<bool, StoreError> {
    Ok(IS_DISPUTED.query_opt(tx, &[&order.uuid()]).await?.is_some())
}

/// Whether a refund that was sent has no answer, and may be made after all: one that is not open any more, or `also_open`.
pub(super) async fn may_be_made(tx: &Transaction<'_>, order: OrderId, also_open: bool) -> Result<bool, StoreError> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&order.uuid(), &KEY_AGE_MAX.as_secs_f64(), &also_open];
    Ok(MAY_BE_MADE.query_opt(tx, &parameters).await?.is_some())
}

/// Opens a refund of all that is left of the payment; `None`: nothing is.
pub(super) async fn open_compensation(
    tx: &Transaction<'_>,
    order: OrderId,
    currency: &str,
) -> Result<Option<(i32, Money)>, StoreError> {
    let row = INSERT_COMPENSATION.query_opt(tx, &[&order.uuid()]).await?;
    row.map(|row| Ok((row.try_get(0)?, money(currency, row.try_get(1)?)?)))
        .transpose()
}

/// Opens a refund of this amount: its number.
pub(super) async fn open(
    tx: &Transaction<'_>,
    order: OrderId,
    amount: Money,
    origin: RefundOrigin,
    key: Option<&str>,
    reason: &str,
) -> Result<i32, StoreError> {
    let (minor, currency) = (amount.minor_units(), amount.currency().code());
    let row = INSERT_OPEN
        .query_one(tx, &[&order.uuid(), &minor, &currency, &origin.as_str(), &key, &reason])
        .await?;
    Ok(row.try_get(0)?)
}

/// Enters a refund that others made.
pub(super) async fn enter_made(
    tx: &Transaction<'_>,
    order: OrderId,
    amount_minor: i64,
    currency: &str,
    origin: RefundOrigin,
    provider_id: &str,
) -> Result<(), StoreError> {
    INSERT_MADE
        .execute(
            tx,
            &[&order.uuid(), &amount_minor, &currency, &origin.as_str(), &provider_id],
        )
        .await
        .map(drop)
}

/// Closes a refund: this became of it.
pub(super) async fn close(
    tx: &Transaction<'_>,
    order: OrderId,
    number: i32,
    state: RefundState,
    provider_id: Option<&str>,
    failure: Option<&str>,
) -> Result<(), StoreError> {
    let rows = CLOSE
        .execute(tx, &[&order.uuid(), &number, &state.as_str(), &provider_id, &failure])
        .await?;
    match rows {
        1 => Ok(()),
        _ => Err(StoreError::unexpected(format!("order {order} has no refund {number}"))),
    }
}

/// What failed was paid in another way.
pub(super) async fn replace_failed(tx: &Transaction<'_>, order: OrderId) -> Result<(), StoreError> {
    REPLACE_FAILED.execute(tx, &[&order.uuid()]).await.map(drop)
}

/// Writes the sum of the refunds into the payment.
pub(super) async fn sum_up(tx: &Transaction<'_>, order: OrderId) -> Result<(), StoreError> {
    SUM_UP.execute(tx, &[&order.uuid()]).await.map(drop)
}

fn ledger_refund(row: &Row) -> Result<LedgerRefund, StoreError> {
    let (state, origin): (&str, &str) = (get(row, "state")?, get(row, "origin")?);
    Ok(LedgerRefund {
        number: get(row, "number")?,
        amount_minor: get(row, "amount")?,
        state: refund_state(state)?,
        is_requested: origin != RefundOrigin::Compensation.as_str(),
        provider_id: get(row, "provider_refund_id")?,
    })
}
