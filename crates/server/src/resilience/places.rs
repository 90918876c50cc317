//! Places that callers take for a while: so many in all, a share of them for a tenant, and so many for one caller, so that no one
//! takes them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use waybill_domain::tenant::Tenant;

/// How many there are, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    /// In all.
    pub all_max: usize,
    /// Which share of them a tenant with a name takes at most: above 0, up to 1. The tenant without a name may take all.
    pub tenant_share: f64,
    /// Of one caller.
    pub caller_max: usize,
}

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct Places {
    limits: PlaceLimits,
    tenant_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by: HashMap<Holder, usize>,
}

/// Who has places that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Tenant(Tenant),
    /// By its id as it is stored, with its tenant.
    Caller(Box<str>),
}

/// A place that is taken. Dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    holders: [Option<Holder>; 2],
}

impl Places {
    /// So many.
    pub fn new(limits: PlaceLimits) -> Places {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share of a count of places"
        )]
        let tenant_max = (limits.all_max as f64 * limits.tenant_share) as usize;
        Places {
            limits,
            tenant_max: tenant_max.max(1),
            taken: Arc::default(),
        }
    }

    /// A place for a caller of this tenant, or for anyone of it; `None`: all are taken, or all of its own.
    pub fn take(&self, tenant: &Tenant, caller: Option<&str>) -> Option<Place> {
        let tenant = (!tenant.is_default()).then(|| Holder::Tenant(tenant.clone()));
        let caller = caller.map(|id| Holder::Caller(id.into()));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |holder: &Option<Holder>, max: usize| {
            let of_it = holder.as_ref().and_then(|holder| taken.by.get(holder));
            of_it.is_none_or(|count| *count < max)
        };
        let is_free = taken.in_all < self.limits.all_max
            && has_room(&tenant, self.tenant_max)
            && has_room(&caller, self.limits.caller_max);
        if !is_free {
            return None;
        }
        let holders = [tenant, caller];
        taken.in_all += 1;
        for holder in holders.iter().flatten() {
            *taken.by.entry(holder.clone()).or_default() += 1;
        }
        Some(Place {
            taken: Arc::clone(&self.taken),
            holders,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all = taken.in_all.saturating_sub(1);
        // The keys were put there by `take`, and go with their last places.
        for holder in self.holders.iter().flatten() {
            if let Some(count) = taken.by.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    taken.by.remove(holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all_max: usize, tenant_share: f64, caller_max: usize) -> Places {
        Places::new(PlaceLimits {
            all_max,
            tenant_share,
            caller_max,
        })
    }

    #[test]
    fn no_caller_takes_them_all_and_what_is_left_is_free_again() {
        let (places, ours) = (places(3, 1.0, 2), Tenant::default());
        let take = |caller| places.take(&ours, Some(caller));
        let (first, _second) = (take("anna").unwrap(), take("anna").unwrap());
        assert!(take("anna").is_none(), "she has two");
        let ben = take("ben").unwrap();
        assert!(take("zoe").is_none(), "there are three");
        drop(first);
        assert!(take("anna").is_some());
        drop(ben);
        assert_eq!(places.taken.lock().unwrap().by.len(), 1, "who has none is not kept");
    }

    #[test]
    fn no_tenant_with_a_name_takes_more_than_its_share() {
        let places = places(5, 0.5, usize::MAX);
        let (ours, acme, beta) = (Tenant::default(), "acme".parse().unwrap(), "beta".parse().unwrap());
        let take = |tenant: &Tenant| places.take(tenant, None);
        let acmes = [take(&acme).unwrap(), take(&acme).unwrap()];
        assert!(take(&acme).is_none(), "half of five");
        let _beta = take(&beta).unwrap();
        let ours = [take(&ours).unwrap(), take(&ours).unwrap()];
        assert!(take(&beta).is_none(), "there are five");
        drop(acmes);
        drop(ours);
        assert!(take(&acme).is_some());
        assert_eq!(places.taken.lock().unwrap().in_all, 1);
    }

    #[test]
    fn a_share_is_at_least_one_place() {
        let places = places(1, 0.1, 1);
        assert!(places.take(&"acme".parse().unwrap(), Some("acme/anna")).is_some());
    }
}
