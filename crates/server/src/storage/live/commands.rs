//! The commands to Redis about fixes: a pure function of the fixes and the clock, sent by [`LiveStore`](super::LiveStore).
//! Every fix goes through here; what that costs is held by `make count`.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use redis::Script;
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;

use super::script::ScriptCall;
use super::{GEO_LATITUDE_MAX, LiveSettings};
use crate::storage::keys::{Keys, ShardKeys};

/// The scripts, with how fixes are kept.
pub struct Commands {
    settings: LiveSettings,
    append: Script,
    latest: Script,
    evict: Script,
}

impl Commands {
    /// The scripts for these settings.
    pub fn new(settings: LiveSettings) -> Commands {
        Commands {
            settings,
            append: Script::new(include_str!("append.lua")),
            latest: Script::new(include_str!("latest.lua")),
            evict: Script::new(include_str!("evict_stale.lua")),
        }
    }

    /// Appends a batch of one shard's fixes to its stream, and moves its index by those that are fresh at `now`. Its
    /// answer: 1 when stored, 0 when the stream is full.
    pub fn append(&self, shard: &ShardKeys, fixes: &[Fix], now: Timestamp) -> ScriptCall<'_> {
        let since = self.fresh_since(now);
        let keys = [&shard.events, &shard.geo, &shard.seen];
        let mut append = ScriptCall::new(&self.append, keys.into_iter(), 1 + 5 * fixes.len());
        append.arg(self.settings.high_water);
        for fix in fixes {
            let indexed = fix.recorded_at >= since && fix.position.lat_deg().abs() <= GEO_LATITUDE_MAX;
            append
                .arg(fix.driver.as_str())
                .arg(fix.position.lat_deg())
                .arg(fix.position.lon_deg())
                .arg(fix.recorded_at.as_microsecond())
                .arg(u8::from(indexed));
        }
        append
    }

    /// Moves `driver:<id>` of each driver that has a fix in the batch that is fresh at `now`; `None` when there is none.
    pub fn latest(&self, fixes: &[Fix], now: Timestamp) -> Option<ScriptCall<'_>> {
        let since = self.fresh_since(now);
        let mut latest: HashMap<&DriverId, &Fix> = HashMap::with_capacity(fixes.len());
        for fix in fixes.iter().filter(|fix| fix.recorded_at >= since) {
            let known = latest.entry(&fix.driver).or_insert(fix);
            if known.recorded_at < fix.recorded_at {
                *known = fix;
            }
        }
        if latest.is_empty() {
            return None;
        }
        let ttl = self.ttl();
        let keys = latest.keys().map(|driver| Keys::driver(driver));
        let mut script = ScriptCall::new(&self.latest, keys, 5 * latest.len());
        for fix in latest.values() {
            let expires_at = fix.recorded_at.saturating_add(ttl).unwrap_or(Timestamp::MAX);
            script
                .arg(fix.driver.as_str())
                .arg(fix.position.lat_deg())
                .arg(fix.position.lon_deg())
                .arg(fix.recorded_at.as_microsecond())
                .arg(expires_at.as_millisecond());
        }
        Some(script)
    }

    /// Removes up to `limit` drivers of the shard that are not fresh at `now`. Its answer: how many.
    pub(super) fn evict_stale(&self, shard: &ShardKeys, now: Timestamp, limit: usize) -> ScriptCall<'_> {
        let keys = [&shard.geo, &shard.seen];
        let mut evict = ScriptCall::new(&self.evict, keys.into_iter(), 2);
        evict.arg(self.fresh_since(now).as_microsecond()).arg(limit);
        evict
    }

    /// Fixes of this time or later count as where a driver is.
    pub(super) fn fresh_since(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.ttl()).unwrap_or(Timestamp::MIN)
    }

    fn ttl(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.ttl).unwrap_or(SignedDuration::MAX)
    }
}
