//! `waybill reconcile`: the provider's movements of a window of time beside those of the ledger.
//!
//! A movement is known by the provider's id. What the ledger has under that id, at whatever time, is compared with it. What
//! the ledger lacks, and what the ledger has of that time and the window lacks, may differ. The second may also be at the
//! provider under another time: who compares asks the provider for it by its id.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use waybill_domain::payment_account::PaymentAccount;

use super::StoreError;
use super::audit::begin_session;
use super::movements::{Movement, load_movements};
use super::postgres::Postgres;

/// How many candidates of a window are returned; all are counted.
const CANDIDATES_MAX: i64 = 1_000;

/// One movement of an order that may differ between the provider's list and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The order.
    pub order: Uuid,
    /// The order's status, by its name in the database; `None` if there is no such order.
    pub order_status: Option<String>,
    /// The account that it is paid into.
    pub account: PaymentAccount,
    /// `charge` or `refund`.
    pub kind: String,
    /// Whether the order changed so recently that the two sides may only have been read at different moments.
    pub in_flight: bool,
    /// The ledger's entry.
    pub ours: Option<Entry>,
    /// Whether the ledger's entry is there and not among the window's movements. The provider may have it at another time.
    pub ours_is_elsewhere: bool,
    /// Whether the provider's entry names another order of this database than the ledger's.
    pub is_of_another: bool,
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

/// The result of one window.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What may differ, by order; at most a thousand.
    pub candidates: Vec<Candidate>,
    /// How many more there are.
    pub more: i64,
    /// How many more there are of orders that changed recently.
    pub more_in_flight: i64,
    /// Movements at the provider that carry no order and are not in the ledger.
    pub without_order: i64,
}

/// The table of a window's movements. It lives as long as its session.
pub const CREATE_WINDOW_TABLE: &str = "
    create temporary table provider_movements (kind text, order_id uuid, provider_id text, amount bigint, currency text, account text)";

statements! {
    COUNT_WITHOUT_ORDER = concat!(
        "select count(*)
           from provider_movements m
          where m.order_id is null
            and not exists (select from (", ledger_movements!(), ") o
                             where o.kind = m.kind and o.provider_id = m.provider_id)");
    /// `matched`: the limit of 1 makes it a search by an index for each movement of the window. Else Postgres joins the window with
    /// the whole ledger, for each window again.
    ///
    /// `extra`: what is at the provider, and not in the ledger under its id. An order is charged once, so its charges belong
    /// together; each refund stands for itself.
    COMPARE = concat!(
        "with ours as not materialized (", ledger_movements!(), "),
         matched as (
             select m.kind, m.order_id as named, m.provider_id, m.amount, m.currency,
                    o.order_id, o.amount as our_amount, o.currency as our_currency
               from provider_movements m
               left join lateral (select * from ours where kind = m.kind and provider_id = m.provider_id limit 1) o
                 on true),
         extra as (
             select named as order_id, kind, case kind when 'refund' then provider_id end as refund,
                    array_agg(provider_id order by provider_id) as ids,
                    array_agg(amount order by provider_id) as amounts,
                    array_agg(currency order by provider_id) as currencies
               from matched
              where order_id is null and named is not null
              group by 1, 2, 3),
         compared as (
             select order_id, kind, provider_id, our_amount as amount, our_currency as currency,
                    array[provider_id] as ids, array[amount] as amounts, array[currency] as currencies,
                    false as elsewhere, is_of_another
               from matched, lateral (
                    select named <> order_id and exists (select from order_sagas s where s.order_id = named)
                    ) another (is_of_another)
              where order_id is not null and (amount <> our_amount or currency <> our_currency or is_of_another)
             union all
             select e.order_id, e.kind, o.provider_id, o.amount, o.currency,
                    case when m.provider_id is null then e.ids else e.ids || m.provider_id end,
                    case when m.provider_id is null then e.amounts else e.amounts || m.amount end,
                    case when m.provider_id is null then e.currencies else e.currencies || m.currency end,
                    o.provider_id is not null and m.provider_id is null, false
               from extra e
               left join ours o on e.kind = 'charge' and o.kind = 'charge' and o.order_id = e.order_id
               left join provider_movements m on m.kind = 'charge' and m.provider_id = o.provider_id
             union all
             select o.order_id, o.kind, o.provider_id, o.amount, o.currency,
                    array[]::text[], array[]::bigint[], array[]::text[], true, false
               from ours o
              where o.at >= $2 and o.at < $3
                and not exists (select from provider_movements m
                                 where m.kind = o.kind and m.provider_id = o.provider_id)
                and not exists (select from extra e
                                 where e.kind = 'charge' and o.kind = 'charge' and e.order_id = o.order_id))
         select c.*, s.status, s.payment_account, coalesce(s.updated_at >= $1, false) as in_flight,
                count(*) over () as total,
                count(*) filter (where s.updated_at >= $1) over () as total_in_flight
           from compared c
           left join order_sagas s using (order_id)
          order by order_id, kind, ids
          limit $4");
    FIRST_CHARGE = "select min(charged_at) from payments";
}

/// A session that compares one window after another. No transaction is open in between.
pub struct ReconcileSession {
    session: ClientWrapper,
}

/// A window of the ledger's time.
#[derive(Debug, Clone, Copy)]
pub struct LedgerWindow {
    /// From this time on.
    pub from: Timestamp,
    /// Until before this time.
    pub until: Timestamp,
    /// An order that changed since then may be in flight.
    pub settled_before: Timestamp,
}

impl ReconcileSession {
    /// Begins one.
    pub async fn begin(postgres: &Postgres) -> Result<ReconcileSession, StoreError> {
        let session = begin_session(postgres).await?;
        session.batch_execute(CREATE_WINDOW_TABLE).await?;
        Ok(ReconcileSession { session })
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.session.query_one("select now()", &[]).await?.try_get(0)?)
    }

    /// When the ledger got its first movement.
    pub async fn first_charge(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.session.query_one(FIRST_CHARGE.sql, &[]).await?.try_get(0)?)
    }

    /// Compares the provider's movements of a window with the ledger.
    pub async fn compare(&self, movements: &[Movement], window: LedgerWindow) -> Result<Compared, StoreError> {
        let session = &*self.session;
        session.batch_execute("truncate provider_movements").await?;
        load_movements(session, movements).await?;
        session.batch_execute("analyze provider_movements").await?;
        let without_order = session.query_one(COUNT_WITHOUT_ORDER.sql, &[]).await?.try_get(0)?;
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&window.settled_before, &window.from, &window.until, &CANDIDATES_MAX];
        let rows = session.query(COMPARE.sql, &parameters).await?;
        let (total, in_flight): (i64, i64) = match rows.first() {
            Some(row) => (row.try_get("total")?, row.try_get("total_in_flight")?),
            None => (0, 0),
        };
        let candidates: Vec<Candidate> = rows.iter().map(candidate).collect::<Result<_, _>>()?;
        let returned = |only_in_flight: bool| {
            let returned = candidates.iter().filter(|one| one.in_flight || !only_in_flight);
            i64::try_from(returned.count()).unwrap_or(i64::MAX)
        };
        let more_in_flight = in_flight - returned(true);
        Ok(Compared {
            more: total - returned(false) - more_in_flight,
            more_in_flight,
            without_order,
            candidates,
        })
    }
}

fn candidate(row: &Row) -> Result<Candidate, StoreError> {
    let ids: Vec<String> = row.try_get("ids")?;
    let amounts: Vec<i64> = row.try_get("amounts")?;
    let currencies: Vec<String> = row.try_get("currencies")?;
    let theirs = ids.into_iter().zip(amounts).zip(currencies);
    let ours: Option<String> = row.try_get("provider_id")?;
    Ok(Candidate {
        order: row.try_get("order_id")?,
        order_status: row.try_get("status")?,
        account: PaymentAccount::stored(row.try_get("payment_account")?).map_err(|error| {
            StoreError::unexpected(format!("a stored order cannot be read: payment_account {error}"))
        })?,
        kind: row.try_get("kind")?,
        in_flight: row.try_get("in_flight")?,
        ours: match ours {
            Some(provider_id) => Some(Entry {
                provider_id,
                amount_minor: row.try_get("amount")?,
                currency: row.try_get("currency")?,
            }),
            None => None,
        },
        ours_is_elsewhere: row.try_get("elsewhere")?,
        is_of_another: row.try_get::<_, Option<bool>>("is_of_another")?.unwrap_or(false),
        theirs: theirs
            .map(|((provider_id, amount_minor), currency)| Entry {
                provider_id,
                amount_minor,
                currency,
            })
            .collect(),
    })
}
