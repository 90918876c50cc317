//! A hot standby of Postgres, which takes reads alone: an audit is made on it as well.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, sql, stores, until};
use tokio_postgres::Client;
use uuid::Uuid;
use waybill_proto::order::v1::OrderStatus;
use waybill_sandbox::{Postgres, ServerSettings};
use waybill_server::app::{AuditError, Report, Sources, run_audit};
use waybill_server::config::Config;
use waybill_server::storage::audit::CHECKS;

/// A rig with a standby of its Postgres.
struct World {
    rig: Rig,
    standby: Postgres,
    _folder: tempfile::TempDir,
}

impl World {
    /// One order is served, and a fix is in the history.
    async fn start() -> World {
        let mut rig = Rig::builder().private_stores().start().await;
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        rig.place(a_ride()).await;
        rig.until_written().await;
        rig.assert_clean().await;
        let folder = stores::folder("waybill-standby-");
        let settings = ServerSettings {
            data_dir: folder.path().to_owned(),
            durable: false,
        };
        let standby = rig.stores().postgres().start_standby(settings).await;
        World {
            rig,
            standby: standby.expect("the standby starts"),
            _folder: folder,
        }
    }

    /// The settings of who asks the standby.
    fn config(&self) -> Config {
        let mut config = self.rig.config_past_proxies();
        config.postgres.url = self.standby.url("waybill").into();
        config
    }

    async fn on_standby(&self) -> Client {
        sql::connect(&self.standby.url("waybill")).await.unwrap()
    }

    async fn audit(&self) -> Result<Report, AuditError> {
        self.audit_with(Vec::new()).await
    }

    /// The audit of who has the answers to these orders.
    async fn audit_with(&self, answered_orders: Vec<(Uuid, String)>) -> Result<Report, AuditError> {
        let sources = Sources {
            provider: true,
            stream: true,
            answered_orders: Some(answered_orders),
            acknowledged_fixes: Some(Vec::new()),
        };
        run_audit(&self.config(), sources).await
    }

    /// From now on the standby receives what the primary commits, and shows none of it.
    async fn pause_replay(&self, standby: &Client) {
        standby.batch_execute("select pg_wal_replay_pause()").await.unwrap();
        until("the standby replays nothing", async || {
            is_so(standby, "select pg_get_wal_replay_pause_state() = 'paused'").await
        })
        .await;
    }

    /// One more order is served, which is paid then.
    async fn serve_another(&self) -> Uuid {
        self.rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
        let order = self.rig.place(a_ride()).await;
        assert_eq!(order.status(), OrderStatus::Succeeded);
        order.order_id.parse().unwrap()
    }
}

async fn is_so(client: &Client, query: &str) -> bool {
    sql::one(client, query, &[]).await.unwrap()
}

#[tokio::test]
async fn an_audit_is_made_on_a_standby_as_on_its_primary() {
    let world = World::start().await;
    let report = world.audit().await.expect("the audit is made");
    assert_eq!(report.checks(), CHECKS.len(), "every check has its evidence");
    assert_eq!((report.violations(), report.stored_fixes), (0, 1));

    let delete = "set session_replication_role = replica; delete from order_assignments";
    world.rig.execute(delete).await;
    let found = until("the standby has what became of the primary", async || {
        let report = world.audit().await.expect("the audit is made");
        let found = report.findings.iter().find(|finding| finding.count > 0);
        found.map(|finding| finding.check.violation)
    })
    .await;
    assert_eq!(found, "paid, neither served nor refunded");
}

#[tokio::test]
async fn an_audit_that_its_standby_cancels_says_what_to_set() {
    let world = World::start().await;
    let standby = world.on_standby().await;
    // ALTER SYSTEM cannot be sent with others.
    standby
        .batch_execute("alter system set max_standby_streaming_delay = '100ms'")
        .await
        .unwrap();
    standby.batch_execute("select pg_reload_conf()").await.unwrap();
    // The audit comes to the history last, and has read the orders then.
    let (first, second) = (world.rig.sql().await, world.rig.sql().await);
    first
        .batch_execute("begin; lock table driver_locations in access exclusive mode")
        .await
        .unwrap();
    let locks = |granted: bool| {
        format!(
            "select count(*) > 0 from pg_locks where relation = 'driver_locations'::regclass and granted = {granted}
                and (mode = 'AccessExclusiveLock') = {granted}"
        )
    };
    until("the standby has the lock", async || is_so(&standby, &locks(true)).await).await;
    let config = world.config();
    let audited = run_audit(&config, Sources::default());
    let conflict = async {
        until("the audit waits for it", async || is_so(&standby, &locks(false)).await).await;
        second
            .batch_execute("begin; lock table order_sagas in access exclusive mode")
            .await
            .unwrap();
    };
    let (audited, ()) = tokio::join!(audited, conflict);
    let error = audited.expect_err("it is cancelled");
    assert!(matches!(error, AuditError::Audit(_)), "{error:?}");
    let said = error.to_string();
    for word in ["standby", "max_standby_streaming_delay", "hot_standby_feedback"] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn an_audit_of_a_standby_that_lags_waits_until_it_has_what_was_committed() {
    let world = World::start().await;
    let standby = world.on_standby().await;
    world.pause_replay(&standby).await;
    let order = world.serve_another().await;
    let audited = world.audit_with(vec![(order, "succeeded".to_owned())]);
    let resume = async {
        // What a session ran last is there until it runs something else: nothing else comes while it waits.
        let waits = "select count(*) > 0 from pg_stat_activity
                      where query like '%pg_last_xact_replay_timestamp()%' and pid <> pg_backend_pid()";
        until("the audit looks at what was replayed", async || {
            is_so(&standby, waits).await
        })
        .await;
        let is_there = format!("select count(*) > 0 from order_sagas where order_id = '{order}'");
        assert!(!is_so(&standby, &is_there).await, "the standby lags");
        standby.batch_execute("select pg_wal_replay_resume()").await.unwrap();
    };
    let (audited, ()) = tokio::join!(audited, resume);
    let report = audited.expect("the audit is made");
    let found: Vec<_> = report.findings.iter().filter(|finding| finding.count > 0).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(report.checks(), CHECKS.len(), "every check has its evidence");
}

#[tokio::test]
async fn an_audit_of_a_standby_that_stays_behind_finds_nothing_and_says_how_far_that_is() {
    let world = World::start().await;
    let standby = world.on_standby().await;
    world.pause_replay(&standby).await;
    world.serve_another().await;
    let error = world.audit().await.expect_err("the standby never has the order");
    assert!(matches!(error, AuditError::Audit(_)), "{error:?}");
    let said = error.to_string();
    for word in ["the standby is behind its primary", "within 10 s", "bytes"] {
        assert!(said.contains(word), "{said}");
    }
}
