//! Fixes in.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;

use super::{GEO_LATITUDE_MAX, LiveStore};
use crate::storage::StoreError;
use crate::storage::keys::Keys;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Stored {
    /// All of it is in the stream, and with that safe.
    Yes,
    /// The stream is full; nothing was stored.
    Full,
}

impl LiveStore {
    /// Stores a batch of one shard's fixes: all of it or nothing. `now` decides which of them are fresh.
    pub async fn store(&self, shard: usize, fixes: &[Fix], now: Timestamp) -> Result<Stored, StoreError> {
        let Some(keys) = self.keys.shards().get(shard) else {
            return Err(StoreError::unexpected(format!("there is no shard {shard}")));
        };
        let mut append = self.scripts.append.key(&keys.events);
        append.key(&keys.geo).key(&keys.seen).arg(self.settings.high_water);
        for fix in fixes {
            let indexed = self.is_fresh(fix, now) && fix.position.lat_deg().abs() <= GEO_LATITUDE_MAX;
            append
                .arg(fix.driver.as_str())
                .arg(fix.position.lat_deg())
                .arg(fix.position.lon_deg())
                .arg(fix.recorded_at.as_microsecond())
                .arg(u8::from(indexed));
        }
        let mut connection = self.redis.connection();
        let stored: u8 = self
            .redis
            .call(async { append.invoke_async(&mut connection).await })
            .await?;
        if stored == 0 {
            return Ok(Stored::Full);
        }
        self.set_latest(fixes, now).await?;
        Ok(Stored::Yes)
    }

    /// Moves `driver:<id>` of each driver that has a fresh fix in the batch.
    async fn set_latest(&self, fixes: &[Fix], now: Timestamp) -> Result<(), StoreError> {
        let mut latest: HashMap<&DriverId, &Fix> = HashMap::new();
        for fix in fixes.iter().filter(|fix| self.is_fresh(fix, now)) {
            let known = latest.entry(&fix.driver).or_insert(fix);
            if known.recorded_at < fix.recorded_at {
                *known = fix;
            }
        }
        let mut latest = latest.into_values();
        let Some(first) = latest.next() else { return Ok(()) };

        let ttl = SignedDuration::try_from(self.settings.ttl).unwrap_or(SignedDuration::MAX);
        let mut script = self.scripts.latest.key(Keys::driver(&first.driver));
        let add = |script: &mut redis::ScriptInvocation<'_>, fix: &Fix| {
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
        let mut connection = self.redis.connection();
        self.redis
            .call(async { script.invoke_async::<()>(&mut connection).await })
            .await
    }

    /// Removes up to `limit` drivers of every shard that were last seen before the time to live. How many were.
    pub async fn reap(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let cutoff = self.fresh_since(now);
        let mut reaped = 0;
        for keys in self.keys.shards() {
            let mut script = self.scripts.reap.key(&keys.geo);
            script.key(&keys.seen).arg(cutoff.as_microsecond()).arg(limit);
            let mut connection = self.redis.connection();
            reaped += self
                .redis
                .call(async { script.invoke_async::<u64>(&mut connection).await })
                .await?;
        }
        Ok(reaped)
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
