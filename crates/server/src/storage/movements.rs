//! Money that moved, on both sides: the ledger's movements as one query, and the provider's as columns, or in a temporary table beside it.

use tokio_postgres::GenericClient;
use tokio_postgres::types::ToSql;
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
}

/// Movements as columns, for `unnest`.
#[derive(Debug, Default)]
pub struct MovementColumns {
    kinds: Vec<&'static str>,
    orders: Vec<Option<Uuid>>,
    ids: Vec<String>,
    amounts: Vec<i64>,
    currencies: Vec<String>,
    accounts: Vec<Option<String>>,
}

impl MovementColumns {
    /// Adds these.
    pub fn extend(&mut self, movements: impl IntoIterator<Item = Movement>) {
        for movement in movements {
            self.kinds.push(movement.kind);
            self.orders.push(movement.order);
            self.accounts.push(movement.account.name().map(str::to_owned));
            self.ids.push(movement.provider_id);
            self.amounts.push(movement.amount);
            self.currencies.push(movement.currency);
        }
    }

    /// `kind`, `order_id`, `provider_id`, `amount`, `currency` and `account`.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.kinds,
            &self.orders,
            &self.ids,
            &self.amounts,
            &self.currencies,
            &self.accounts,
        ]
    }
}

/// Adds these movements to the table.
pub(super) async fn load_movements(session: &impl GenericClient, movements: &[Movement]) -> Result<(), StoreError> {
    let mut columns = MovementColumns::default();
    columns.extend(movements.iter().cloned());
    session.execute(LOAD_MOVEMENTS.sql, &columns.parameters()).await?;
    Ok(())
}
