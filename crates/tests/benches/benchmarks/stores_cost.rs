//! What the stores of a run use: the processor time of Postgres's processes and of Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::benchmark::process_cost::ProcessCost;

use crate::world::World;

/// Up to a moment.
pub struct StoresCost {
    /// Of each of its processes that works for sessions or behind them.
    postgres: BTreeMap<i32, Duration>,
    redis: Duration,
}

/// Between two moments.
pub struct StoresSpent {
    pub postgres: Duration,
    pub redis: Duration,
}

impl StoresCost {
    /// Up to now, of the server's sessions on this database and of what works behind all of them.
    pub async fn of(world: &World, database: &str) -> StoresCost {
        let processes = "select pid from pg_stat_activity
                          where datname = $1 and application_name = 'waybill' or backend_type in ('walwriter', 'background writer', 'checkpointer')";
        let sql = world.session("postgres").await;
        let rows = sql.query(processes, &[&database]).await.unwrap();
        let pids = rows.iter().map(|row| row.get::<_, i32>(0));
        let postgres = pids.map(|pid| (pid, ProcessCost::of(pid).processor)).collect();
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info: String = info.query_async(&mut world.redis(0).await).await.unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
        StoresCost {
            postgres,
            redis: ProcessCost::of(pid.trim().parse().unwrap()).processor,
        }
    }

    /// What was used since then. A process that ended in between is left out: sessions of the server stay.
    pub fn since(&self, before: &StoresCost) -> StoresSpent {
        let spent = self.postgres.iter().map(|(pid, now)| {
            let then = before.postgres.get(pid).copied().unwrap_or_default();
            now.saturating_sub(then)
        });
        StoresSpent {
            postgres: spent.sum(),
            redis: self.redis.saturating_sub(before.redis),
        }
    }
}
