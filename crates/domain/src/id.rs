//! Names of things: orders, users, drivers, keys. Each is parsed once and never empty.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

use crate::tenant::{Tenant, TenantError};

/// The longest user or driver id, in characters.
pub const ID_LENGTH_MAX: usize = 64;
/// The shortest idempotency key, in bytes: shorter ones are guessed or collide.
pub const KEY_LENGTH_MIN: usize = 16;
/// The longest idempotency key, in bytes: the payment provider's own limit, and Stripe's.
pub const KEY_LENGTH_MAX: usize = 255;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("is required")]
    Empty,
    /// Fewer bytes than the minimum.
    #[error("has {length} bytes; at least {min} are needed")]
    TooShort {
        /// Bytes given.
        length: usize,
        /// Bytes needed.
        min: usize,
    },
    /// More bytes than the maximum.
    #[error("has {length} bytes; at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("has a character that is not allowed; allowed are {allowed}")]
    Character {
        /// The allowed set, for people.
        allowed: &'static str,
    },
    /// Not a UUID.
    #[error("is not a UUID")]
    NotAUuid,
    /// A stored id has no name of a tenant before its `/`.
    #[error("is of no tenant")]
    Tenant,
}

/// An order: a `UUIDv7`, so that ids sort by the time at which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(Uuid);

impl OrderId {
    /// Wraps an id that Waybill made.
    pub const fn new(id: Uuid) -> OrderId {
        OrderId(id)
    }

    /// The UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for OrderId {
    type Err = IdError;

    /// Takes the hyphenated form only, as the service prints it.
    fn from_str(text: &str) -> Result<OrderId, IdError> {
        match text.len() {
            0 => Err(IdError::Empty),
            36 => Uuid::try_parse(text).map(OrderId).map_err(|_| IdError::NotAUuid),
            _ => Err(IdError::NotAUuid),
        }
    }
}

/// Declares a text newtype with one fallible constructor.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(text).map(|()| $name(text.into()))
            }
        }
    };
}

/// Adds what an id has that belongs to a tenant.
macro_rules! of_tenant {
    ($name:ident) => {
        impl $name {
            /// An id as a caller wrote it, which is of no tenant before that, of this one.
            #[must_use]
            pub fn of(self, tenant: &Tenant) -> $name {
                if tenant.is_default() {
                    return self;
                }
                $name(tenant.prefixed(self.name()))
            }

            /// The id as it is stored: with its tenant.
            pub fn stored(text: &str) -> Result<$name, IdError> {
                let (tenant, name) = Tenant::split(text);
                let id: $name = name.parse()?;
                if tenant.is_empty() && name.len() == text.len() {
                    return Ok(id);
                }
                let tenant: Tenant = tenant.parse().map_err(|TenantError| IdError::Tenant)?;
                Ok(id.of(&tenant))
            }

            /// The id as its business knows it.
            pub fn name(&self) -> &str {
                Tenant::split(&self.0).1
            }

            /// Whose it is.
            pub fn tenant(&self) -> Tenant {
                Tenant::split(&self.0).0.parse().unwrap_or_default()
            }
        }
    };
}

of_tenant!(UserId);
of_tenant!(DriverId);

text_id!(
    /// A customer: 1 to 64 characters of `A-Z a-z 0-9 . _ : -`.
    UserId,
    name
);
text_id!(
    /// A driver: 1 to 64 characters of `A-Z a-z 0-9 . _ : -`. It becomes part of a Redis key, hence the plain set.
    DriverId,
    name
);
text_id!(
    /// A client's key for one order: 16 to 255 printable ASCII characters.
    IdempotencyKey,
    |text| {
        length(text, KEY_LENGTH_MIN, KEY_LENGTH_MAX)?;
        characters(text, |byte| (b' '..=b'~').contains(&byte), "printable ASCII")
    }
);
text_id!(
    /// The payment provider's name of a means of payment: 1 to 64 characters of `A-Z a-z 0-9 _`.
    PaymentMethod,
    provider_name
);
text_id!(
    /// The payment provider's name of a customer: 1 to 64 characters of `A-Z a-z 0-9 _`.
    ProviderCustomer,
    provider_name
);

fn provider_name(text: &str) -> Result<(), IdError> {
    length(text, 1, ID_LENGTH_MAX)?;
    characters(
        text,
        |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        "A-Z a-z 0-9 _",
    )
}

fn name(text: &str) -> Result<(), IdError> {
    length(text, 1, ID_LENGTH_MAX)?;
    characters(
        text,
        |byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte),
        "A-Z a-z 0-9 . _ : -",
    )
}

fn length(text: &str, min: usize, max: usize) -> Result<(), IdError> {
    match text.len() {
        0 => Err(IdError::Empty),
        length if length < min => Err(IdError::TooShort { length, min }),
        length if length > max => Err(IdError::TooLong { length, max }),
        _ => Ok(()),
    }
}

fn characters(text: &str, allowed: fn(u8) -> bool, names: &'static str) -> Result<(), IdError> {
    // By bytes: a character outside ASCII has bytes from 128 up, which no set here allows.
    if text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(IdError::Character { allowed: names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_plain_characters_up_to_64() {
        assert!("cab-7".parse::<DriverId>().is_ok());
        assert!("a".repeat(64).parse::<UserId>().is_ok());
        assert_eq!("".parse::<UserId>(), Err(IdError::Empty));
        assert_eq!(
            "a".repeat(65).parse::<UserId>(),
            Err(IdError::TooLong { length: 65, max: 64 })
        );
        for bad in ["a b", "nul\0", "line\n", "\u{202e}evil", "über", "a/b", "a{b}"] {
            assert!(
                matches!(bad.parse::<DriverId>(), Err(IdError::Character { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn keys_are_16_to_255_printable_bytes() {
        assert_eq!(
            "k".repeat(15).parse::<IdempotencyKey>(),
            Err(IdError::TooShort { length: 15, min: 16 })
        );
        assert!("k".repeat(16).parse::<IdempotencyKey>().is_ok());
        assert!("k".repeat(255).parse::<IdempotencyKey>().is_ok());
        assert_eq!(
            "k".repeat(256).parse::<IdempotencyKey>(),
            Err(IdError::TooLong { length: 256, max: 255 })
        );
        assert!(matches!(
            "a-key-with-a-tab\t".parse::<IdempotencyKey>(),
            Err(IdError::Character { .. })
        ));
        assert_eq!("".parse::<IdempotencyKey>(), Err(IdError::Empty));
    }

    #[test]
    fn order_ids_are_hyphenated_uuids() {
        let id = OrderId::new(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
        assert_eq!("".parse::<OrderId>(), Err(IdError::Empty));
        assert_eq!("not-a-uuid".parse::<OrderId>(), Err(IdError::NotAUuid));
        assert_eq!(
            id.uuid().simple().to_string().parse::<OrderId>(),
            Err(IdError::NotAUuid)
        );
    }

    #[test]
    fn an_id_of_a_tenant_is_apart_from_that_of_another_and_no_caller_can_write_it() {
        let (acme, none) = ("acme".parse::<Tenant>().unwrap(), Tenant::default());
        let id: DriverId = "cab-1".parse().unwrap();
        assert_eq!(id.clone().of(&none), id);
        let of_acme = id.clone().of(&acme);
        assert_ne!(of_acme, id);
        assert_eq!(
            (of_acme.as_str(), of_acme.name(), of_acme.tenant()),
            ("acme/cab-1", "cab-1", acme)
        );
        assert_eq!((id.as_str(), id.name(), id.tenant()), ("cab-1", "cab-1", none));
        assert_eq!(DriverId::stored("acme/cab-1").unwrap(), of_acme);
        assert_eq!(DriverId::stored("cab-1").unwrap(), id);
        for bad in ["acme/cab-1", "/cab-1", "acme/"] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
        for bad in ["acme/", "/cab-1", "Acme/cab-1", "acme/cab/1", "acme//cab-1", ""] {
            assert!(UserId::stored(bad).is_err(), "{bad}");
        }
    }
}
