//! Which tenants have an account of their own at the payment provider, as the servers say at their start. From then on the database
//! takes no new order of theirs that a server would have paid into another account.

use waybill_domain::payment_account::PaymentAccount;

use super::StoreError;
use super::postgres::Postgres;

statements! {
    REGISTER = "insert into payment_accounts (tenant, new_orders)
                select * from unnest($1::text[], $2::boolean[])
                    on conflict (tenant) do update set new_orders = excluded.new_orders
                 where payment_accounts.new_orders <> excluded.new_orders";
    REGISTERED = "select tenant from payment_accounts order by tenant";
    /// By the partial index of unfinished orders.
    WAITING = "select distinct payment_account from order_sagas
                where finished_at is null and payment_account is not null and payment_account <> all ($1)";
}

/// Says which accounts tenants have, and whether their new orders are paid into them.
pub async fn register(
    postgres: &Postgres,
    accounts: impl IntoIterator<Item = (&PaymentAccount, bool)>,
) -> Result<(), StoreError> {
    let own = accounts
        .into_iter()
        .filter_map(|(account, new)| Some((account.name()?, new)));
    let (tenants, new_orders): (Vec<&str>, Vec<bool>) = own.unzip();
    if !tenants.is_empty() {
        postgres.execute(REGISTER, &[&tenants, &new_orders]).await?;
    }
    Ok(())
}

/// The accounts that tenants have or had, but for these: their orders' money is where no one here can look.
pub async fn unknown(postgres: &Postgres, known: &[&str]) -> Result<Vec<String>, StoreError> {
    let rows = postgres.query(REGISTERED, &[]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(names
        .into_iter()
        .filter(|name| !known.contains(&name.as_str()))
        .collect())
}

/// The accounts of unfinished orders, but for these.
pub async fn waiting(postgres: &Postgres, known: &[&str]) -> Result<Vec<String>, StoreError> {
    let rows = postgres.query(WAITING, &[&known]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
