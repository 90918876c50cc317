//! The commands to Redis about fixes: a pure function of the fixes and the clock, sent by [`LiveStore`](super::LiveStore).
//! Every fix goes through here; what that costs is held by `make count`.

use std::collections::HashMap;

use jiff::Timestamp;
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;

use super::script::{Script, ScriptCall};
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

    /// The newest fix of each driver among those of the batch, which arrives `now`, that say where it is; each with its place in the batch.
    pub fn newest<'a>(&self, fixes: &'a [Fix], now: Timestamp) -> Vec<(usize, &'a Fix)> {
        let mut newest: HashMap<&DriverId, (usize, &Fix)> = HashMap::with_capacity(fixes.len());
        let freshness = self.settings.freshness;
        let live = |(_, fix): &(usize, &Fix)| freshness.is_live(fix.recorded_at, now);
        for (place, fix) in fixes.iter().enumerate().filter(live) {
            let known = newest.entry(&fix.driver).or_insert((place, fix));
            if known.1.recorded_at < fix.recorded_at {
                *known = (place, fix);
            }
        }
        newest.into_values().collect()
    }

    /// Appends a batch of one shard's fixes, which arrives `now`, to its stream, and moves its index by the newest of them. Its
    /// answer: how long the stream is then, 0 when it is full.
    pub fn append(&self, shard: &ShardKeys, fixes: &[Fix], newest: &[(usize, &Fix)], now: Timestamp) -> ScriptCall<'_> {
        self.append_below(self.settings.high_water, shard, fixes, newest, now)
    }

    /// Moves the index alone: to this call any stream is full.
    pub(super) fn move_index(
        &self,
        shard: &ShardKeys,
        fixes: &[Fix],
        newest: &[(usize, &Fix)],
        now: Timestamp,
    ) -> ScriptCall<'_> {
        self.append_below(0, shard, fixes, newest, now)
    }

    fn append_below(
        &self,
        high_water: u64,
        shard: &ShardKeys,
        fixes: &[Fix],
        newest: &[(usize, &Fix)],
        now: Timestamp,
    ) -> ScriptCall<'_> {
        let keys = [&shard.events, &shard.geo, &shard.seen, &shard.recorded];
        let mut append = ScriptCall::new(&self.append, keys.into_iter(), 3 + 4 * fixes.len() + newest.len());
        append.arg(high_water).arg(now.as_microsecond()).arg(fixes.len());
        for fix in fixes {
            write(&mut append, fix);
        }
        for (place, fix) in newest {
            if fix.position.lat_deg().abs() <= GEO_LATITUDE_MAX {
                append.arg(*place);
            }
        }
        append
    }

    /// Moves `driver:<id>` of each driver by the newest fixes of a batch, which arrives `now`; `None` when there is none.
    pub fn latest(&self, keys: &Keys, newest: &[(usize, &Fix)], now: Timestamp) -> Option<ScriptCall<'_>> {
        if newest.is_empty() {
            return None;
        }
        let keys = newest.iter().map(|(_, fix)| keys.driver(&fix.driver));
        let mut script = ScriptCall::new(&self.latest, keys, 2 + 4 * newest.len());
        script
            .arg(now.as_microsecond())
            .arg(self.settings.freshness.until(now).as_millisecond());
        for (_, fix) in newest {
            write(&mut script, fix);
        }
        Some(script)
    }

    /// Removes up to `limit` drivers of the shard that are not fresh at `now`. Its answer: how many.
    pub(super) fn evict_stale(&self, shard: &ShardKeys, now: Timestamp, limit: usize) -> ScriptCall<'_> {
        let keys = [&shard.geo, &shard.seen, &shard.recorded];
        let mut evict = ScriptCall::new(&self.evict, keys.into_iter(), 2);
        evict.arg(self.fresh_since(now).as_microsecond()).arg(limit);
        evict
    }

    /// What arrived at this time or later says where a driver is.
    pub(super) fn fresh_since(&self, now: Timestamp) -> Timestamp {
        self.settings.freshness.since(now)
    }
}

fn write(script: &mut ScriptCall<'_>, fix: &Fix) {
    script
        .arg(fix.driver.as_str())
        .arg(fix.position.lat_deg())
        .arg(fix.position.lon_deg())
        .arg(fix.recorded_at.as_microsecond());
}
