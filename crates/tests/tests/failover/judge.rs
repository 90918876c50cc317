//! The end of a store's rounds: all is well again, and what there is is compared with what was promised.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use testkit::chance::pass;
use testkit::load::{ledger_view, promises};
use testkit::process::config;
use testkit::rig::history::is_written;
use testkit::sql::connect;
use testkit::until_within;
use tokio::time::Instant;
use tokio_postgres::Client;
use waybill_server::app::{Sources, run_audit};

use crate::world::World;

/// The promise of M2, and a search.
const SETTLED_WITHIN: Duration = Duration::from_secs(60 + 5);
const WRITTEN_WITHIN: Duration = Duration::from_mins(1);
/// Then orders that wait for their next try are tried at once: the run does not sit out a back-off of a minute.
const HURRY_AFTER: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(100);
/// The check of acknowledged fixes.
const LOST_FIX: &str = "an acknowledged fix is not stored";

/// What was found that may be.
pub struct Judged {
    /// Fixes that were acknowledged.
    pub acknowledged: usize,
    /// Of those, missing.
    pub missing: u64,
}

/// Waits until all is settled, and judges; what is broken is among the findings, under this name. `keeps_fixes`: whether no acknowledged
/// fix may be missing.
pub async fn judge(name: &str, keeps_fixes: bool, world: &mut World) -> Judged {
    world.close();
    let sql = connect(&world.flags["postgres.url"]).await.expect("Postgres answers");
    until_settled(world, &sql).await;
    world.end().await;
    until_written(world, &sql).await;
    let acknowledged = world.history.acknowledged_fixes();
    let mut judged = Judged {
        acknowledged: acknowledged.len(),
        missing: 0,
    };
    let sources = Sources {
        provider: true,
        stream: true,
        answered_orders: Some(world.history.answered()),
        acknowledged_fixes: Some(acknowledged),
    };
    let report = run_audit(&config(&world.flags), sources)
        .await
        .expect("the audit is made");
    assert_eq!(report.checks(), report.findings.len(), "every check is made");
    for finding in report.findings.iter().filter(|finding| finding.count > 0) {
        if finding.check.violation == LOST_FIX {
            judged.missing = finding.count.unsigned_abs();
            if !keeps_fixes {
                continue;
            }
        }
        for violation in finding.violations.iter().flatten() {
            let what = format!("{name}: {}: {violation}", finding.check.violation);
            world.findings.add(finding.check.promise, &what);
        }
    }
    promises::check_ledger(&world.provider.ledger(), &world.findings);
    let checked = promises::check_ledger_view(&sql, &world.findings).await;
    checked.expect("Postgres answers");
    for slot in &world.slots {
        for line in slot.log().lines().filter(|line| promises::is_defect(line)) {
            world.findings.add("X2", line);
        }
    }
    judged
}

async fn until_settled(world: &World, sql: &Client) {
    let began = Instant::now();
    loop {
        let open = ledger_view::unsettled(sql).await.expect("Postgres answers");
        if open.is_empty() {
            return;
        }
        if began.elapsed() > SETTLED_WITHIN {
            for order in open {
                world.findings.add("M2", &format!("order {order} is not settled"));
            }
            return;
        }
        if began.elapsed() > HURRY_AFTER {
            ledger_view::hurry(sql).await.expect("Postgres answers");
        }
        pass(POLL).await;
    }
}

/// Waits until the history holds what the streams do: fixes that are on their way are not lost.
async fn until_written(world: &World, sql: &Client) {
    let url = &world.flags["redis.url"];
    let done = if world.flags.contains_key("redis.cluster") {
        let cluster = ClusterClient::new(url.split(',')).expect("URLs");
        let mut redis = cluster.get_async_connection().await.expect("the cluster answers");
        let streams: Vec<String> = (0..8).map(|shard| format!("location_events:{{{shard}}}")).collect();
        all_written(&mut redis, sql, &streams).await
    } else {
        let client = redis::Client::open(url.as_str()).expect("a URL");
        let mut redis = client.get_multiplexed_async_connection().await.expect("Redis answers");
        all_written(&mut redis, sql, &["location_events".to_owned()]).await
    };
    if let Err(state) = done {
        world
            .findings
            .add("L1", &format!("the history is behind the stream: {state}"));
    }
}

async fn all_written(redis: &mut impl ConnectionLike, sql: &Client, streams: &[String]) -> Result<(), String> {
    until_within(WRITTEN_WITHIN, async || {
        for stream in streams {
            is_written(redis, sql, stream).await?;
        }
        Ok::<(), (String, Option<String>)>(())
    })
    .await
}
