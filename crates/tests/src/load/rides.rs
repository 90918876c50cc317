//! Drivers who end their rides: a customer who is gone does not report that it is over.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use super::calls::bounded;
use super::history::History;
use super::tokens::Tokens;
use crate::chance::{Chance, pass};
use crate::{sql, wire};

const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// Ends rides that are a while old, through any of the gates, until `home`.
pub async fn end_rides(
    database: String,
    gates: Vec<Channel>,
    tokens: Arc<Tokens>,
    history: Arc<History>,
    home: CancellationToken,
    mut chance: Chance,
) {
    while !home.is_cancelled() {
        for (order, driver) in old_rides(&database).await.unwrap_or_default() {
            let mut request = wire::complete(&order.to_string());
            request.driver_id.clone_from(&driver);
            let request = tokens.driver(&driver, request);
            let channel = chance.pick(&gates).clone();
            let answer = bounded(Duration::from_secs(2), async {
                OrderServiceClient::new(channel).complete_order(request).await.map(drop)
            })
            .await;
            history.record("end_ride", &order.to_string(), &answer);
        }
        home.run_until_cancelled(pass(chance.millis(300, 900))).await;
    }
}

/// Some of them; none while the database is down.
async fn old_rides(database: &str) -> Option<Vec<(Uuid, String)>> {
    let query = "select order_id, driver_id from order_assignments
                  where released_at is null and assigned_at < now() - interval '6 seconds'
                  order by random() limit 8";
    let found = async {
        let sql = sql::connect(database).await.ok()?;
        let rows = sql.query(query, &[]).await.ok()?;
        Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    tokio::time::timeout(FOUND_WITHIN, found).await.ok()?
}
