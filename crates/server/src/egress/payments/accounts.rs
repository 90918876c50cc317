//! The accounts at the provider: the deployment's, and those that tenants have for themselves. Each has a client of its own, with
//! its own key, rate, line and breaker, so that what is wrong with one is wrong for no one else.

use std::collections::BTreeMap;
use std::sync::Arc;

use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::tenant::Tenant;

use super::{Cause, PaymentClient};

/// The clients, by their accounts. Clones share them.
#[derive(Debug, Clone)]
pub struct PaymentAccounts {
    clients: Arc<BTreeMap<PaymentAccount, PaymentClient>>,
}

impl PaymentAccounts {
    /// These, of which one should be the deployment's.
    pub fn new(clients: BTreeMap<PaymentAccount, PaymentClient>) -> PaymentAccounts {
        PaymentAccounts {
            clients: Arc::new(clients),
        }
    }

    /// The account that new orders of this tenant are paid into: its own if it has one.
    pub fn of_new_order(&self, tenant: &Tenant) -> PaymentAccount {
        let own = PaymentAccount::own_of(tenant);
        if self.clients.contains_key(&own) {
            own
        } else {
            PaymentAccount::default()
        }
    }

    /// The client of this account. `Err`: it is not in the configuration any more.
    pub fn client(&self, account: &PaymentAccount) -> Result<&PaymentClient, Cause> {
        self.clients.get(account).ok_or(Cause::NoAccount)
    }

    /// All of them, the deployment's first.
    pub fn all(&self) -> impl Iterator<Item = (&PaymentAccount, &PaymentClient)> {
        self.clients.iter()
    }
}
