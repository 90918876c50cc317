//! The account at the payment provider into which an order is paid.

use std::fmt;

use crate::tenant::{Tenant, TenantError};

/// An account: the deployment's, that of `[payments]`, or one that a tenant has for itself, that of
/// `[payments.accounts.<tenant>]`. The default is the deployment's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentAccount(Tenant);

impl PaymentAccount {
    /// The one that this tenant may have for itself. Of the default tenant it is the deployment's.
    pub fn own_of(tenant: &Tenant) -> PaymentAccount {
        PaymentAccount(tenant.clone())
    }

    /// The account of this name in a row.
    pub fn stored(name: Option<&str>) -> Result<PaymentAccount, TenantError> {
        name.map_or(Ok(PaymentAccount::default()), |name| name.parse().map(PaymentAccount))
    }

    /// The tenant that has it for itself, as it is stored with an order; `None`: it is the deployment's.
    pub fn name(&self) -> Option<&str> {
        (!self.0.is_default()).then(|| self.0.as_str())
    }

    /// An id of the provider such that two accounts never have the same.
    pub fn qualified(&self, id: &str) -> String {
        self.0.prefixed(id).into()
    }
}

/// The section of its settings, `payments` or `payments.accounts.acme`: its name in metrics and in `/readyz`, too.
impl fmt::Display for PaymentAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None => f.write_str("payments"),
            Some(tenant) => write!(f, "payments.accounts.{tenant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_stored_by_its_tenant_and_the_deployments_by_nothing() {
        for (tenant, stored, shown) in [("", None, "payments"), ("acme", Some("acme"), "payments.accounts.acme")] {
            let tenant = if tenant.is_empty() {
                Tenant::default()
            } else {
                tenant.parse().unwrap()
            };
            let account = PaymentAccount::own_of(&tenant);
            assert_eq!((account.name(), account.to_string().as_str()), (stored, shown));
            assert_eq!(PaymentAccount::stored(stored), Ok(account));
        }
        assert_eq!(PaymentAccount::stored(Some("Acme")), Err(TenantError));
    }
}
