//! `waybill reconcile`: each movement of the provider's list beside its entry in the ledger.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::StoreError;
use super::audit::{Movement, begin_with_movements};
use super::postgres::Postgres;

/// How many differences are shown; all are counted.
pub const SHOWN_MAX: i64 = 1_000;

/// One movement of an order that differs between the provider's list and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The order.
    pub order: Uuid,
    /// The order's status, by its name in the database; `None` if there is no such order.
    pub order_status: Option<String>,
    /// `charge` or `refund`.
    pub kind: String,
    /// What differs.
    pub difference: String,
    /// Whether the order changed so recently that the two sides may only have been read at different moments. Not counted.
    pub in_flight: bool,
    /// The ledger's entry.
    pub ours: Option<Entry>,
    /// The provider's entries: more than one where it has the movement more than once.
    pub theirs: Vec<Entry>,
}

/// A movement on one of the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The provider's id.
    pub provider_id: String,
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217 code, upper case.
    pub currency: String,
}

/// The result of the comparison.
#[derive(Debug, Clone, Default)]
pub struct Reconciliation {
    /// Those in flight and the others, by order; at most [`SHOWN_MAX`].
    pub shown: Vec<Difference>,
    /// How many differ.
    pub differences: i64,
    /// How many more differ, of orders that changed recently.
    pub in_flight: i64,
    /// Movements at the provider that carry no order and are not in the ledger.
    pub without_order: i64,
}

statements! {
    COUNT_WITHOUT_ORDER = "select count(*) from provider_movements where order_id is null";
    /// What was refunded past the provider (`unverified:`) is not expected there.
    COMPARE = "with ours as (
                   select order_id, 'charge' as kind, provider_charge_id as provider_id, captured_amount as amount, currency
                     from payments where captured_amount > 0
                    union all
                   select order_id, 'refund', provider_refund_id, amount, currency from refunds
                    where state = 'succeeded' and origin not in ('unverified', 'dispute')),
               theirs as (
                   select order_id, kind, array_agg(provider_id order by provider_id) as ids,
                          array_agg(amount order by provider_id) as amounts,
                          array_agg(currency order by provider_id) as currencies
                     from provider_movements
                    where order_id is not null
                    group by order_id, kind),
               compared as (
                   select order_id, kind, o.provider_id, o.amount, o.currency, t.ids, t.amounts, t.currencies,
                          case when cardinality(t.ids) > 1
                               then 'at the provider ' || cardinality(t.ids)::text || ' times'
                               when o.order_id is null then 'not in the ledger'
                               when t.order_id is null then 'not at the provider'
                               when o.currency <> t.currencies[1] then 'another currency'
                               when o.amount <> t.amounts[1] then 'another amount'
                               when o.provider_id <> t.ids[1] then 'another id' end as difference
                     from ours o full join theirs t using (order_id, kind))
               select c.*, s.status, coalesce(s.updated_at >= $1, false) as in_flight,
                      count(*) over () as total,
                      count(*) filter (where s.updated_at >= $1) over () as total_in_flight
                 from compared c
                 left join order_sagas s using (order_id)
                where c.difference is not null
                order by order_id, kind
                limit $2";
}

/// Compares. `settled_before`: an order that changed since then may be in flight.
pub async fn reconcile(
    postgres: &Postgres,
    movements: &[Movement],
    settled_before: Timestamp,
) -> Result<Reconciliation, StoreError> {
    let mut client = postgres.client().await?;
    let tx = begin_with_movements(&mut client, movements).await?;
    let without_order = tx.query_one(COUNT_WITHOUT_ORDER.sql, &[]).await?.try_get(0)?;
    let rows = tx.query(COMPARE.sql, &[&settled_before, &SHOWN_MAX]).await?;
    let (total, in_flight): (i64, i64) = match rows.first() {
        Some(row) => (row.try_get("total")?, row.try_get("total_in_flight")?),
        None => (0, 0),
    };
    Ok(Reconciliation {
        shown: rows.iter().map(difference).collect::<Result<_, _>>()?,
        differences: total - in_flight,
        in_flight,
        without_order,
    })
}

fn difference(row: &Row) -> Result<Difference, StoreError> {
    let ids: Option<Vec<String>> = row.try_get("ids")?;
    let amounts: Option<Vec<i64>> = row.try_get("amounts")?;
    let currencies: Option<Vec<String>> = row.try_get("currencies")?;
    let theirs = ids.into_iter().flatten().zip(amounts.into_iter().flatten());
    let theirs = theirs.zip(currencies.into_iter().flatten());
    let ours: Option<String> = row.try_get("provider_id")?;
    Ok(Difference {
        order: row.try_get("order_id")?,
        order_status: row.try_get("status")?,
        kind: row.try_get("kind")?,
        difference: row.try_get("difference")?,
        in_flight: row.try_get("in_flight")?,
        ours: match ours {
            Some(provider_id) => Some(Entry {
                provider_id,
                amount_minor: row.try_get("amount")?,
                currency: row.try_get("currency")?,
            }),
            None => None,
        },
        theirs: theirs
            .map(|((provider_id, amount_minor), currency)| Entry {
                provider_id,
                amount_minor,
                currency,
            })
            .collect(),
    })
}
