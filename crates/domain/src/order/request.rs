//! What a customer asks for, and the hash that distinguishes the same request from another under the same key.

use sha2::{Digest as _, Sha256};

use super::payment_mode::PaymentMode;
use crate::duty::Tags;
use crate::id::{IdempotencyKey, PaymentMethod, ProviderCustomer, UserId};
use crate::money::Money;
use crate::position::Position;

/// A request for an order, every field checked.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRequest {
    /// The client's key for it.
    pub key: IdempotencyKey,
    /// Who asks.
    pub user: UserId,
    /// What to charge.
    pub amount: Money,
    /// From which means of payment.
    pub payment_method: PaymentMethod,
    /// The provider's customer whose means of payment it is, if it is attached to one.
    pub provider_customer: Option<ProviderCustomer>,
    /// When the customer pays.
    pub payment_mode: PaymentMode,
    /// Where the service begins.
    pub pickup: Position,
    /// Where it ends, if that is known.
    pub drop_off: Option<Position>,
    /// What its driver must be able to do.
    pub required_tags: Tags,
}

/// SHA-256 of a request's canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHash(pub [u8; 32]);

impl OrderRequest {
    /// The hash of all that the request asks for. The key is left out: it is what the hash is compared under.
    ///
    /// The canonical form is the fields in a fixed order, each preceded by its length, so that no two requests share
    /// one; coordinates are their bits. It is made of parsed values, so requests that differ in spelling alone have the
    /// same: the order of fields on the wire, whether a zero is written out, and its sign are gone by then, and
    /// currencies have one spelling. Values are not interpreted further: 180 and -180 degrees east are two places.
    pub fn hash(&self) -> RequestHash {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        // The version of this form: a change to it must not make an old request look like a new one unnoticed.
        field(b"waybill.order.v1");
        field(self.user.as_str().as_bytes());
        field(self.amount.currency().code().as_bytes());
        field(&self.amount.minor_units().to_be_bytes());
        field(self.payment_method.as_str().as_bytes());
        field(&bits(self.pickup));
        match self.drop_off {
            Some(drop_off) => field(&bits(drop_off)),
            None => field(b""),
        }
        // Last, and only where they are given: the hashes of requests without them stay as they were before they existed.
        if let Some(customer) = &self.provider_customer {
            field(customer.as_str().as_bytes());
        }
        if self.payment_mode.holds() {
            field(b"payment_mode");
            field(self.payment_mode.as_str().as_bytes());
        }
        if !self.required_tags.is_empty() {
            field(b"required_tags");
            self.required_tags.iter().for_each(|tag| field(tag.as_bytes()));
        }
        RequestHash(hash.finalize().into())
    }
}

fn bits(position: Position) -> [u8; 16] {
    let mut bits = [0; 16];
    let (lat, lon) = bits.split_at_mut(8);
    lat.copy_from_slice(&position.lat_deg().to_be_bytes());
    lon.copy_from_slice(&position.lon_deg().to_be_bytes());
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> OrderRequest {
        OrderRequest {
            key: "a-key-of-16-bytes".parse().unwrap(),
            user: "ada".parse().unwrap(),
            amount: Money::new("USD".parse().unwrap(), 1999).unwrap(),
            payment_method: "pm_card_visa".parse().unwrap(),
            provider_customer: None,
            payment_mode: PaymentMode::ChargeFirst,
            pickup: Position::new(37.7749, -122.4194).unwrap(),
            drop_off: None,
            required_tags: Tags::default(),
        }
    }

    #[test]
    fn the_key_does_not_count() {
        let other = OrderRequest {
            key: "another-key-of-22-bytes".parse().unwrap(),
            ..request()
        };
        assert_eq!(other.hash(), request().hash());
    }

    #[test]
    fn everything_else_does() {
        let place = Position::new(37.7750, -122.4194).unwrap();
        let others = [
            OrderRequest {
                user: "bob".parse().unwrap(),
                ..request()
            },
            OrderRequest {
                amount: Money::new("USD".parse().unwrap(), 2000).unwrap(),
                ..request()
            },
            OrderRequest {
                amount: Money::new("EUR".parse().unwrap(), 1999).unwrap(),
                ..request()
            },
            OrderRequest {
                payment_method: "pm_card_mastercard".parse().unwrap(),
                ..request()
            },
            OrderRequest {
                provider_customer: Some("cus_1".parse().unwrap()),
                ..request()
            },
            OrderRequest {
                pickup: place,
                ..request()
            },
            OrderRequest {
                drop_off: Some(place),
                ..request()
            },
            OrderRequest {
                required_tags: Tags::new(&["xl"]).unwrap(),
                ..request()
            },
        ];
        for other in &others {
            assert_ne!(other.hash(), request().hash(), "{other:?}");
        }
    }

    /// Two spellings on the wire, one number: a client that computes its coordinates may send either.
    #[test]
    fn zero_and_minus_zero_are_the_same_request() {
        let at = |lat, lon| OrderRequest {
            pickup: Position::new(lat, lon).unwrap(),
            drop_off: Some(Position::new(lon, lat).unwrap()),
            ..request()
        };
        assert_eq!(at(-0.0, -0.0).hash(), at(0.0, 0.0).hash());
        assert_eq!(at(37.7749, -0.0).hash(), at(37.7749, 0.0).hash());
    }

    #[test]
    fn a_drop_off_at_zero_is_not_the_lack_of_one() {
        let to_zero = OrderRequest {
            drop_off: Some(Position::new(0.0, 0.0).unwrap()),
            ..request()
        };
        assert_ne!(to_zero.hash(), request().hash());
    }

    #[test]
    fn the_form_is_stable_across_versions() {
        let hash = request().hash();
        // Stored hashes are compared for 30 days: a change here breaks replays of orders in flight.
        let expected = 0x9fdb_2b49_bb3c_e04d_14c3_f9db_db91_ff1f_u128.to_be_bytes();
        assert_eq!(hash.0[..16], expected);
    }
}
