//! What is said to Redis about fixes: a pure function of the fixes and the clock, sent by [`LiveStore`](super::LiveStore).
//! Every fix goes through here; what that costs is held by `make count`.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use redis::{Script, ScriptInvocation};
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;

use super::{GEO_LATITUDE_MAX, Settings};
use crate::storage::keys::{Keys, ShardKeys};

/// The scripts, with how fixes are kept.
pub struct Commands {
    settings: Settings,
    append: Script,
    latest: Script,
    reap: Script,
}

impl Commands {
    /// The scripts for these settings.
    pub fn new(settings: Settings) -> Commands {
        Commands {
            settings,
            append: Script::new(include_str!("append.lua")),
            latest: Script::new(include_str!("latest.lua")),
            reap: Script::new(include_str!("reap.lua")),
        }
    }

    /// Appends a batch of one shard's fixes to its stream, and moves its index by those that are fresh at `now`. Its
    /// answer: 1 when stored, 0 when the stream is full.
    pub fn append(&self, shard: &ShardKeys, fixes: &[Fix], now: Timestamp) -> ScriptInvocation<'_> {
        let mut append = self.append.key(&shard.events);
        append.key(&shard.geo).key(&shard.seen).arg(self.settings.high_water);
        for fix in fixes {
            let indexed = self.is_fresh(fix, now) && fix.position.lat_deg().abs() <= GEO_LATITUDE_MAX;
            append
                .arg(fix.driver.as_str())
                .arg(fix.position.lat_deg())
                .arg(fix.position.lon_deg())
                .arg(fix.recorded_at.as_microsecond())
                .arg(u8::from(indexed));
        }
        append
    }

    /// Moves `driver:<id>` of each driver that has a fix in the batch that is fresh at `now`; `None` when nobody has.
    pub fn latest(&self, fixes: &[Fix], now: Timestamp) -> Option<ScriptInvocation<'_>> {
        let mut latest: HashMap<&DriverId, &Fix> = HashMap::new();
        for fix in fixes.iter().filter(|fix| self.is_fresh(fix, now)) {
            let known = latest.entry(&fix.driver).or_insert(fix);
            if known.recorded_at < fix.recorded_at {
                *known = fix;
            }
        }
        let mut latest = latest.into_values();
        let first = latest.next()?;

        let ttl = SignedDuration::try_from(self.settings.ttl).unwrap_or(SignedDuration::MAX);
        let mut script = self.latest.key(Keys::driver(&first.driver));
        let add = |script: &mut ScriptInvocation<'_>, fix: &Fix| {
            let expires_at = fix.recorded_at.saturating_add(ttl).unwrap_or(Timestamp::MAX);
            script
                .arg(fix.driver.as_str())
                .arg(fix.position.lat_deg())
                .arg(fix.position.lon_deg())
                .arg(fix.recorded_at.as_microsecond())
                .arg(expires_at.as_millisecond());
        };
        add(&mut script, first);
        for fix in latest {
            script.key(Keys::driver(&fix.driver));
            add(&mut script, fix);
        }
        Some(script)
    }

    /// Removes up to `limit` drivers of the shard that are not fresh at `now`. Its answer: how many.
    pub(super) fn reap(&self, shard: &ShardKeys, now: Timestamp, limit: usize) -> ScriptInvocation<'_> {
        let mut reap = self.reap.key(&shard.geo);
        reap.key(&shard.seen)
            .arg(self.fresh_since(now).as_microsecond())
            .arg(limit);
        reap
    }

    /// Fixes of this time or later count as where a driver is.
    pub(super) fn fresh_since(&self, now: Timestamp) -> Timestamp {
        let ttl = SignedDuration::try_from(self.settings.ttl).unwrap_or(SignedDuration::MAX);
        now.saturating_sub(ttl).unwrap_or(Timestamp::MIN)
    }

    fn is_fresh(&self, fix: &Fix, now: Timestamp) -> bool {
        fix.recorded_at >= self.fresh_since(now)
    }
}
