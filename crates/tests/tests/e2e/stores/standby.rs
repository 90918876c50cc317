//! A hot standby of Postgres, which takes reads alone: an audit is made on it as well.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, sql, stores, until};
use tokio_postgres::Client;
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
        let sources = Sources {
            provider: true,
            stream: true,
            answered_orders: Some(Vec::new()),
            acknowledged_fixes: Some(Vec::new()),
        };
        run_audit(&self.config(), sources).await
    }
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
    let is_so = async |query: &str| standby.query_one(query, &[]).await.unwrap().get::<_, bool>(0);
    until("the standby has the lock", async || is_so(&locks(true)).await).await;
    let config = world.config();
    let audited = run_audit(&config, Sources::default());
    let conflict = async {
        until("the audit waits for it", async || is_so(&locks(false)).await).await;
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
