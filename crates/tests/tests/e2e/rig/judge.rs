//! The audit of a test's world, and the waits before it.

use waybill_proto::order::v1::Order;
use waybill_server::app::{Report, Sources, run_audit};

use super::{Rig, until};

impl Rig {
    /// The audit: books, provider and stream against each other.
    pub async fn audit(&self) -> Report {
        let sources = Sources {
            provider: true,
            stream: true,
            ..Sources::default()
        };
        run_audit(&self.config_past_proxies(), sources)
            .await
            .expect("the audit is made")
    }

    /// Waits until no order is in progress, then audits.
    pub async fn assert_clean(&self) {
        self.until_all_settled().await;
        let report = self.audit().await;
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.count > 0)
            .map(|finding| (finding.check.promise, finding.check.violation, &finding.violations))
            .collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    /// Waits until no order is in progress.
    pub async fn until_all_settled(&self) {
        let sql = self.sql().await;
        until("every order is settled", async || {
            let query = "select order_id::text || ' is ' || status || ', ' || coalesce(needs_attention, 'not flagged')
                           from order_sagas where finished_at is null";
            let rows = sql.query(query, &[]).await.expect("a query");
            let open: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            if open.is_empty() { Ok(()) } else { Err(open) }
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
