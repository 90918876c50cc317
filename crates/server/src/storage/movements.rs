//! Money that moved, on both sides: the ledger's movements as one query, and the provider's in a temporary table beside it.

use tokio_postgres::GenericClient;
use uuid::Uuid;
use waybill_domain::payment_account::PaymentAccount;

use super::StoreError;

/// Every movement of the ledger: `order_id`, `kind`, `provider_id`, `amount`, `currency`, and `at`, when the ledger got it.
/// An order has one charge, of what was captured, and may have refunds. What was refunded past the provider, or taken back by
/// the customer's bank, is not among them: it is not expected there. The types of both parts are the same to the letter: else Postgres does not look a movement up by an
/// index.
macro_rules! ledger_movements {
    () => {
        "select order_id, 'charge'::text as kind, provider_charge_id as provider_id, captured_amount as amount, currency,
                charged_at as at
           from payments
          where captured_amount > 0
          union all
         select order_id, 'refund'::text, provider_refund_id, amount, currency, settled_at
           from refunds
          where state = 'succeeded' and origin not in ('unverified', 'dispute')"
    };
}

/// Money that the provider moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// `charge` or `refund`.
    pub kind: &'static str,
    /// For which order, as the provider has it; `None` for one that carries no order. The ledger may still have it, by
    /// its id: an operator resolves orders with such movements.
    pub order: Option<Uuid>,
    /// At which account it is there.
    pub account: PaymentAccount,
    /// The provider's id of it.
    pub provider_id: String,
    /// How much, in minor units.
    pub amount: i64,
    /// ISO 4217 code, upper case.
    pub currency: String,
}

statements! {
    LOAD_MOVEMENTS = "insert into provider_movements
                      select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[])";
    /// A movement that carries no order, or one that a failover lost, is an order's if the ledger has its id.
    FIND_ORDERS = concat!(
        "update provider_movements m
            set order_id = o.order_id
           from (", ledger_movements!(), ") o
          where o.kind = m.kind and o.provider_id = m.provider_id
            and (m.order_id is null
                 or not exists (select from order_sagas s where s.order_id = m.order_id))");
}

/// Adds these movements to the table.
pub(super) async fn load_movements(session: &impl GenericClient, movements: &[Movement]) -> Result<(), StoreError> {
    let kinds: Vec<&str> = movements.iter().map(|movement| movement.kind).collect();
    let orders: Vec<Option<Uuid>> = movements.iter().map(|movement| movement.order).collect();
    let ids: Vec<&str> = movements.iter().map(|movement| movement.provider_id.as_str()).collect();
    let amounts: Vec<i64> = movements.iter().map(|movement| movement.amount).collect();
    let currencies: Vec<&str> = movements.iter().map(|movement| movement.currency.as_str()).collect();
    let accounts: Vec<Option<&str>> = movements.iter().map(|movement| movement.account.name()).collect();
    session
        .execute(
            LOAD_MOVEMENTS.sql,
            &[&kinds, &orders, &ids, &amounts, &currencies, &accounts],
        )
        .await?;
    Ok(())
}

/// Finds the orders of the movements in the table that carry none, or one that is not known.
pub(super) async fn find_orders(session: &impl GenericClient) -> Result<(), StoreError> {
    session.execute(FIND_ORDERS.sql, &[]).await?;
    Ok(())
}
