//! A tenant: one of several businesses that share a deployment. Their ids are apart by a prefix, `acme/driver-7`, which no
//! caller can write: `/` is in no id.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name, in characters.
pub const TENANT_LENGTH_MAX: usize = 32;

/// What separates a tenant from an id of it.
const SEPARATOR: char = '/';

/// A business. The default one has no name, and its ids have no prefix: a deployment of one business has no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Box<str>);

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no name of a tenant: 1 to {TENANT_LENGTH_MAX} characters of a-z 0-9 -")]
pub struct TenantError;

/// An id that is stored, as its business knows it.
pub fn name_of(stored: &str) -> &str {
    Tenant::split(stored).1
}

impl Tenant {
    /// The name; empty for the default tenant.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one without a name.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// The tenant of an id as it is stored, and the id as the business knows it.
    pub(crate) fn split(stored: &str) -> (&str, &str) {
        stored.split_once(SEPARATOR).unwrap_or(("", stored))
    }

    /// An id as it is stored.
    pub(crate) fn prefixed(&self, name: &str) -> Box<str> {
        if self.is_default() {
            return name.into();
        }
        format!("{}{SEPARATOR}{name}", self.0).into()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = TenantError;

    /// Takes names only: the default tenant is not asked for by one.
    fn from_str(text: &str) -> Result<Tenant, TenantError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=TENANT_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Tenant(text.into()))
        } else {
            Err(TenantError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        assert_eq!("acme-2".parse::<Tenant>().unwrap().as_str(), "acme-2");
        assert!("a".repeat(32).parse::<Tenant>().is_ok());
        for bad in ["", "Acme", "a/b", "a b", "ä", "a:b", "a{b}", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Tenant>(), Err(TenantError), "{bad:?}");
        }
    }
}
