//! How many connections one address may have open, so that one caller does not take those of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::proxies::ClientAddress;

/// The open connections of a listener, by address.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: IpAddr,
    places: Arc<Places>,
}

impl Places {
    /// Each address may have `max` at a time.
    pub fn new(max: usize) -> Arc<Places> {
        Arc::new(Places {
            max,
            taken: Mutex::default(),
        })
    }

    /// A place for one more connection of this address; `None`: it has as many as it may.
    pub fn take(self: &Arc<Places>, client: ClientAddress) -> Option<Place> {
        let of = client.counted_as();
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(of).or_default();
        if *taken >= self.max {
            return None;
        }
        *taken += 1;
        Some(Place {
            of,
            places: Arc::clone(self),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.of) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_an_address_without_one_takes_no_memory() {
        let client = |text: &str| ClientAddress(text.parse().unwrap());
        let places = Places::new(2);
        let first = places.take(client("192.0.2.60"));
        let second = places.take(client("192.0.2.60"));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(client("192.0.2.60")).is_none());
        let other = places.take(client("192.0.2.61"));
        assert!(other.is_some());
        drop(first);
        let third = places.take(client("192.0.2.60"));
        assert!(third.is_some());
        drop((second, third, other));
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_their_places() {
        let places = Places::new(1);
        let first = places.take(ClientAddress("2001:db8::1".parse().unwrap()));
        assert!(first.is_some());
        assert!(places.take(ClientAddress("2001:db8::2".parse().unwrap())).is_none());
        assert!(places.take(ClientAddress("2001:db8:0:1::2".parse().unwrap())).is_some());
    }
}
