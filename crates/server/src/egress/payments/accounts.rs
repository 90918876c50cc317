//! The accounts at the provider: the deployment's, and those that tenants have for themselves. Each has a client of its own, with
//! its own key, rate, line and breaker, so that what is wrong with one is wrong for no one else.

use std::collections::BTreeMap;
use std::sync::Arc;

use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::tenant::Tenant;

use super::{Cause, PaymentClient};

/// The accounts. Clones share them.
#[derive(Debug, Clone)]
pub struct PaymentAccounts {
    accounts: Arc<BTreeMap<PaymentAccount, AccountClient>>,
}

/// An account that this process can reach.
#[derive(Debug)]
pub struct AccountClient {
    /// Its client.
    pub client: PaymentClient,
    /// Whether new orders are paid into it. One that is given up serves the orders that it has.
    pub new_orders: bool,
}

impl PaymentAccounts {
    /// These.
    pub fn new(accounts: BTreeMap<PaymentAccount, AccountClient>) -> PaymentAccounts {
        PaymentAccounts {
            accounts: Arc::new(accounts),
        }
    }

    /// The account that new orders of this tenant are paid into: its own if it has one.
    pub fn of_new_order(&self, tenant: &Tenant) -> PaymentAccount {
        let own = PaymentAccount::own_of(tenant);
        match self.accounts.get(&own) {
            Some(account) if account.new_orders => own,
            _ => PaymentAccount::default(),
        }
    }

    /// The client of this account. `Err`: it is not in the configuration.
    pub fn client(&self, account: &PaymentAccount) -> Result<&PaymentClient, Cause> {
        let account = self.accounts.get(account).ok_or(Cause::NoAccount)?;
        Ok(&account.client)
    }

    /// The clients of all, the deployment's first.
    pub fn all(&self) -> impl Iterator<Item = (&PaymentAccount, &PaymentClient)> {
        self.accounts.iter().map(|(name, account)| (name, &account.client))
    }

    /// Those that tenants have for themselves, by their names.
    pub fn own_names(&self) -> Vec<&str> {
        self.accounts.keys().filter_map(PaymentAccount::name).collect()
    }

    /// All, with whether new orders are paid into them.
    pub fn for_new_orders(&self) -> impl Iterator<Item = (&PaymentAccount, bool)> {
        self.accounts.iter().map(|(name, account)| (name, account.new_orders))
    }
}
