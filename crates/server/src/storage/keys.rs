//! Every Redis key, and who reads and writes it:
//!
//! | key | type | content |
//! |---|---|---|
//! | `driver:<id>` | hash | the driver's latest fix: `driver_id`, `lat`, `long` (degrees), `timestamp` (Unix µs, by the device), and `arrived_at` (Unix µs, by the server); expires the time to live after that |
//! | `location_events` | stream | one entry a fix, with the same four fields, in order of arrival; read by the history writer, trimmed behind its cursor |
//! | `drivers:geo` | geo index | the latest position of every fresh driver, for the nearest-driver search |
//! | `drivers:seen` | sorted set | the time (Unix µs) at which that fix arrived: a member of a geo index cannot expire, so its freshness is read here, and stale-driver eviction removes it from all three |
//! | `drivers:recorded` | hash | the time (Unix µs) of that fix by the device's clock: an older one does not move the driver |
//! | `payments:rate` | string | the time (Unix µs) at which the bucket of calls to the payment provider is full again; written by each process that sends such calls, and neither appended to the file nor replicated |
//! | `waybill:written` | string | 1: written each second by each process, which sees by it whether Redis takes writes; expires after a minute. With `redis.cluster` there is one in the slot of each shard of each tenant |
//!
//! `location_events` and the three that begin with `drivers:` belong together and are written by one script, so on a cluster they must share a slot: with more
//! than one shard they take a `:{n}` suffix, n the driver's shard. The others stay as they are, each
//! with a script of its own. All begin with `redis.key_prefix`, which is empty unless others use this Redis too. Those of a tenant with a name have it there, too: `drivers:geo:{acme}`, and with shards `drivers:geo:{acme.3}`;
//! if it has an account of its own at the payment provider, `payments:rate:{acme}`.

use std::sync::Arc;

use waybill_domain::id::DriverId;
use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::tenant::Tenant;

/// What the keys of a shard end with. All that share it are in one slot of a cluster.
fn suffix(tenant: &Tenant, n: u16, shards: u16) -> String {
    match (tenant.is_default(), shards) {
        (true, 0 | 1) => String::new(),
        (true, _) => format!(":{{{n}}}"),
        (false, 0 | 1) => format!(":{{{tenant}}}"),
        (false, _) => format!(":{{{tenant}.{n}}}"),
    }
}

/// The keys of one shard.
#[derive(Debug, Clone)]
pub struct ShardKeys {
    /// The stream of fixes.
    pub events: String,
    /// The geo index.
    pub geo: String,
    /// The last-seen times.
    pub seen: String,
    /// The times of the latest fixes by the devices' clocks.
    pub recorded: String,
}

/// The names of all keys, for a prefix and a number of shards. Each tenant has as many of its own: its drivers are found by no one else's
/// search, and its stream fills up for itself alone.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Arc<str>,
    /// Those of the default tenant, and then of each other one.
    shards: Arc<[ShardKeys]>,
    tenants: Arc<[Tenant]>,
    of_each: u16,
}

impl Keys {
    /// The keys of `shards` shards for the default tenant and for each of `tenants`; 0 is taken for 1. What they begin with has no braces: it would
    /// say which slot of a cluster they are in.
    pub fn new(prefix: &str, shards: u16, tenants: &[Tenant]) -> Keys {
        let of_each = shards.max(1);
        let all = std::iter::once(Tenant::default()).chain(tenants.iter().cloned());
        let tenants: Arc<[Tenant]> = all.collect();
        let shards = tenants.iter().flat_map(|tenant| {
            (0..of_each).map(move |n| {
                let suffix = suffix(tenant, n, of_each);
                ShardKeys {
                    events: format!("{prefix}location_events{suffix}"),
                    geo: format!("{prefix}drivers:geo{suffix}"),
                    seen: format!("{prefix}drivers:seen{suffix}"),
                    recorded: format!("{prefix}drivers:recorded{suffix}"),
                }
            })
        });
        Keys {
            prefix: prefix.into(),
            shards: shards.collect(),
            of_each,
            tenants,
        }
    }

    /// The keys of every shard, of all tenants.
    pub fn shards(&self) -> &[ShardKeys] {
        &self.shards
    }

    /// The keys of the shards of this tenant; none of one that there is not.
    pub fn shards_of(&self, tenant: &Tenant) -> &[ShardKeys] {
        let first = self.first_of(tenant).unwrap_or(self.shards.len());
        self.shards
            .get(first..first + usize::from(self.of_each))
            .unwrap_or_default()
    }

    /// The number of the driver's shard; `None`: its tenant is none of ours.
    pub fn shard_of(&self, driver: &DriverId) -> Option<usize> {
        if self.shards.len() == 1 && !driver.as_str().contains('/') {
            return Some(0);
        }
        let first = self.first_of(&driver.tenant())?;
        let hash = usize::try_from(fnv1a(driver.name().as_bytes())).unwrap_or(0);
        Some(first + hash % usize::from(self.of_each))
    }

    fn first_of(&self, tenant: &Tenant) -> Option<usize> {
        let number = self.tenants.iter().position(|known| known == tenant)?;
        Some(number * usize::from(self.of_each))
    }

    /// The hash of the driver's latest fix.
    pub fn driver(&self, driver: &DriverId) -> String {
        // Not `format!`, which takes 500 instructions more: there is one of these for each fix.
        [&*self.prefix, "driver:", driver.as_str()].concat()
    }

    /// The bucket of calls to this account at the payment provider.
    pub fn payment_rate(&self, account: &PaymentAccount) -> String {
        let tag = account.name().map(|tenant| format!(":{{{tenant}}}"));
        format!("{}payments:rate{}", self.prefix, tag.unwrap_or_default())
    }

    /// The keys by which each process sees whether Redis takes writes; on a cluster one in the slot of each shard of each tenant.
    pub fn written(&self, is_cluster: bool) -> Vec<String> {
        if !is_cluster {
            return vec![format!("{}waybill:written", self.prefix)];
        }
        let suffixes = self
            .tenants
            .iter()
            .flat_map(|tenant| (0..self.of_each).map(|n| suffix(tenant, n, self.of_each)));
        suffixes
            .map(|suffix| format!("{}waybill:written{suffix}", self.prefix))
            .collect()
    }
}

/// FNV-1a, 32 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): small, and the same in every version of the program,
/// which the standard library's hasher is not.
pub(super) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_has_the_plain_names() {
        let keys = Keys::new("", 1, &[]);
        assert_eq!(keys.shards().len(), 1);
        assert_eq!(keys.shards()[0].events, "location_events");
        assert_eq!(keys.shards()[0].geo, "drivers:geo");
        assert_eq!(keys.shards()[0].seen, "drivers:seen");
        assert_eq!(keys.shard_of(&"cab-1".parse().unwrap()), Some(0));
    }

    #[test]
    fn shards_share_a_slot_by_their_tag_and_all_are_used() {
        let keys = Keys::new("", 4, &[]);
        assert_eq!(keys.shards()[3].events, "location_events:{3}");
        assert_eq!(keys.shards()[3].geo, "drivers:geo:{3}");
        let mut used = [false; 4];
        for n in 0..64 {
            used[keys.shard_of(&format!("cab-{n}").parse().unwrap()).unwrap()] = true;
        }
        assert_eq!(used, [true; 4]);
    }

    #[test]
    fn each_tenant_has_shards_of_its_own() {
        let (acme, beta) = ("acme".parse::<Tenant>().unwrap(), "beta".parse::<Tenant>().unwrap());
        let keys = Keys::new("", 1, &[acme.clone(), beta.clone()]);
        let cab: DriverId = "cab-1".parse().unwrap();
        assert_eq!(keys.shards().len(), 3);
        assert_eq!(keys.shard_of(&cab), Some(0));
        assert_eq!(keys.shard_of(&cab.clone().of(&beta)), Some(2));
        assert_eq!(keys.shards_of(&acme)[0].geo, "drivers:geo:{acme}");
        assert_eq!(keys.shards_of(&Tenant::default())[0].geo, "drivers:geo");
        // A tenant that is not configured is not taken for the default one.
        let gone: Tenant = "gone".parse().unwrap();
        assert_eq!(keys.shard_of(&cab.clone().of(&gone)), None);
        assert_eq!(Keys::new("", 1, &[]).shard_of(&cab.clone().of(&gone)), None);
        assert!(keys.shards_of(&gone).is_empty());

        let spread = Keys::new("", 4, std::slice::from_ref(&acme));
        assert_eq!(spread.shards_of(&acme)[3].events, "location_events:{acme.3}");
        let of_acme = spread.shard_of(&cab.of(&acme)).unwrap();
        assert!((4..8).contains(&of_acme), "{of_acme}");
    }

    /// Else a master that takes no writes would be seen only by the tenants whose keys are looked at.
    #[test]
    fn on_a_cluster_writes_are_looked_at_in_the_slot_of_each_shard() {
        let keys = Keys::new("rides:", 2, &["acme".parse().unwrap()]);
        let tag = |key: &str| key.split_once('{').map(|(_, tag)| tag.to_owned());
        let tags = |keys: &mut dyn Iterator<Item = &String>| keys.map(|key| tag(key)).collect::<Vec<_>>();
        let written = keys.written(true);
        assert_eq!(
            tags(&mut written.iter()),
            tags(&mut keys.shards().iter().map(|shard| &shard.events))
        );
        assert_eq!(written[3], "rides:waybill:written:{acme.1}");
        assert_eq!(keys.written(false), ["rides:waybill:written"]);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the reference test vectors: stable across versions, or drivers change their shard at an upgrade.
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
