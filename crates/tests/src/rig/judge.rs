//! The audit of a test's world, and the waits before it.

use waybill_proto::order::v1::Order;
use waybill_server::app::{Report, Sources, run_audit};

use super::Rig;
use crate::wire::get;
use crate::{sql, until};

impl Rig {
    /// Waits until no order is in progress, then audits with all but what clients know. Nothing is found.
    pub async fn assert_clean(&self) -> Report {
        self.until_all_settled().await;
        let sources = Sources {
            provider: true,
            stream: true,
            ..Sources::default()
        };
        self.assert_clean_by(sources).await
    }

    /// The audit with this evidence finds nothing.
    pub async fn assert_clean_by(&self, sources: Sources) -> Report {
        let report = run_audit(&self.config_past_proxies(), sources).await;
        let report = report.expect("the audit is made");
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.count > 0)
            .map(|finding| (finding.check.promise, finding.check.violation, &finding.violations))
            .collect();
        assert!(found.is_empty(), "{found:#?}");
        report
    }

    /// Waits until no order is in progress.
    pub async fn until_all_settled(&self) {
        let client = self.sql().await;
        until("every order is settled", async || {
            let query = "select order_id::text || ' is ' || status || ', ' || coalesce(needs_attention, 'not flagged')
                           from order_sagas where finished_at is null";
            let open: Vec<String> = sql::column(&client, query, &[]).await.expect("a query");
            if open.is_empty() { Ok(()) } else { Err(open) }
        })
        .await;
    }

    /// Waits until the first server reports that it is not ready.
    pub async fn until_unready(&self) {
        let url = format!("{}/readyz", self.http());
        until("the server is not ready", async || match get(&url).await {
            (503, _) => Ok(()),
            other => Err(other),
        })
        .await;
    }

    /// Waits until this order is settled; the order as it then is.
    pub async fn until_settled(&self, order_id: &str) -> Order {
        let sql = self.sql().await;
        until("the order is settled", async || {
            let query = "select finished_at is not null, status from order_sagas where order_id::text = $1";
            let row = sql.query_one(query, &[&order_id]).await.expect("the order is there");
            if row.get(0) {
                Ok(())
            } else {
                Err(row.get::<_, String>(1))
            }
        })
        .await;
        self.order(order_id).await
    }
}
