//! Live positions, in Redis: where each driver is now, which are near a point, and the stream of fixes that the history
//! is written from. The keys are named in [`keys`](super::keys).

mod circles;
mod commands;
mod erase;
mod events;
mod fixes;
mod fleet;
mod replicated;
mod script;
mod search;

use std::sync::Arc;

use waybill_domain::fix::Freshness;

use self::circles::Densities;
pub use self::commands::Commands;
pub use self::events::{BEGINNING, Backlog, ReadOn, StreamEntry, StreamState, entry_order};
pub use self::fixes::Stored;
pub use self::fleet::DriversPage;
use self::replicated::Waiting;
pub use self::script::{Script, ScriptCall};
pub use self::search::{Near, SearchArea};

use super::keys::Keys;
use super::redis::Redis;

/// The largest latitude that a geo index holds, by Web Mercator (Redis, GEOADD). No roads lie beyond it.
const GEO_LATITUDE_MAX: f64 = 85.05;

/// How fixes are kept. See `[locations]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// Which fixes say where a driver is.
    pub freshness: Freshness,
    /// The length of a shard's stream at which fixes are refused.
    pub high_water: u64,
}

/// The live positions of this process's Redis.
#[derive(Clone)]
pub struct LiveStore {
    redis: Redis,
    keys: Keys,
    commands: Arc<Commands>,
    densities: Arc<Densities>,
    /// For fixes that wait for replicas.
    waiting: Arc<Waiting>,
}

impl LiveStore {
    /// A store on `redis` with these keys.
    pub fn new(redis: Redis, keys: Keys, settings: LiveSettings) -> LiveStore {
        LiveStore {
            waiting: Arc::new(Waiting::new(keys.shards().len())),
            redis,
            keys,
            commands: Commands::new(settings).into(),
            densities: Arc::default(),
        }
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}
