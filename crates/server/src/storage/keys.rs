//! Every Redis key, and who reads and writes it:
//!
//! | key | type | content |
//! |---|---|---|
//! | `driver:<id>` | hash | the driver's latest fix: `driver_id`, `lat`, `long` (degrees), `timestamp` (Unix µs); expires when the fix is older than the time to live |
//! | `location_events` | stream | one entry a fix, with the same four fields, in order of arrival; read by the history writer, trimmed behind its cursor |
//! | `drivers:geo` | geo index | the latest position of every fresh driver, for the nearest-driver search |
//! | `drivers:seen` | sorted set | the time (Unix µs) of that fix: a member of a geo index cannot expire, so its freshness is read here, and stale-driver eviction removes it from both |
//! | `payments:rate` | string | the time (Unix µs) at which the bucket of calls to the payment provider is full again; written by each process that sends such calls, and neither appended to the file nor replicated |
//!
//! The three before the last belong together and are written by one script, so on a cluster they must share a slot: with more
//! than one shard they take a `:{n}` suffix, n the driver's shard. `driver:<id>` and `payments:rate` stay as they are, each
//! with a script of its own.

use waybill_domain::id::DriverId;

/// The keys of one shard.
#[derive(Debug, Clone)]
pub struct ShardKeys {
    /// The stream of fixes.
    pub events: String,
    /// The geo index.
    pub geo: String,
    /// The last-seen times.
    pub seen: String,
}

/// The names of all keys, for a number of shards.
#[derive(Debug, Clone)]
pub struct Keys {
    shards: Vec<ShardKeys>,
}

impl Keys {
    /// The bucket of calls to the payment provider.
    pub const PAYMENT_RATE: &'static str = "payments:rate";

    /// The keys of `shards` shards; 0 is taken for 1.
    pub fn new(shards: u16) -> Keys {
        let suffix = |n: u16| if shards > 1 { format!(":{{{n}}}") } else { String::new() };
        let shards = (0..shards.max(1))
            .map(|n| ShardKeys {
                events: format!("location_events{}", suffix(n)),
                geo: format!("drivers:geo{}", suffix(n)),
                seen: format!("drivers:seen{}", suffix(n)),
            })
            .collect();
        Keys { shards }
    }

    /// The keys of every shard.
    pub fn shards(&self) -> &[ShardKeys] {
        &self.shards
    }

    /// The number of the driver's shard.
    pub fn shard_of(&self, driver: &DriverId) -> usize {
        match self.shards.len() {
            1 => 0,
            shards => usize::try_from(fnv1a(driver.as_str().as_bytes())).unwrap_or(0) % shards,
        }
    }

    /// The hash of the driver's latest fix.
    pub fn driver(driver: &DriverId) -> String {
        // Not `format!`, which takes 500 instructions more: there is one of these for each fix.
        ["driver:", driver.as_str()].concat()
    }
}

/// FNV-1a, 32 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): small, and the same in every version of the program,
/// which the standard library's hasher is not.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_has_the_plain_names() {
        let keys = Keys::new(1);
        assert_eq!(keys.shards().len(), 1);
        assert_eq!(keys.shards()[0].events, "location_events");
        assert_eq!(keys.shards()[0].geo, "drivers:geo");
        assert_eq!(keys.shards()[0].seen, "drivers:seen");
        assert_eq!(keys.shard_of(&"cab-1".parse().unwrap()), 0);
    }

    #[test]
    fn shards_share_a_slot_by_their_tag_and_all_are_used() {
        let keys = Keys::new(4);
        assert_eq!(keys.shards()[3].events, "location_events:{3}");
        assert_eq!(keys.shards()[3].geo, "drivers:geo:{3}");
        let mut used = [false; 4];
        for n in 0..64 {
            used[keys.shard_of(&format!("cab-{n}").parse().unwrap())] = true;
        }
        assert_eq!(used, [true; 4]);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the reference test vectors: stable across versions, or drivers change their shard at an upgrade.
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
