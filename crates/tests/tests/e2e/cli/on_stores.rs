//! A command on the stores of a rig, run to its end.

use std::time::Duration;

use testkit::Rig;
use testkit::process::{Ended, waybill};
use tokio::time::timeout;

/// Longer than any command takes that is to end by itself.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `waybill ARGS`.
pub async fn on_stores(rig: &Rig, args: &[&str]) -> Ended {
    on_stores_with(rig, args, &[]).await
}

/// The same, with these variables over the rig's.
pub async fn on_stores_with(rig: &Rig, args: &[&str], settings: &[(&str, &str)]) -> Ended {
    let flags = rig.flags();
    let variables = [
        ("DATABASE_URL", flags["postgres.url"].as_str()),
        ("REDIS_URL", flags["redis.url"].as_str()),
        ("PAYMENTS_URL", flags["payments.url"].as_str()),
        ("PAYMENTS_SECRET_KEY", flags["payments.secret_key"].as_str()),
        // As in every test: many share two cores.
        ("WAYBILL_POSTGRES__ACQUIRE_TIMEOUT", "2s"),
        ("WAYBILL_AUTH__ANONYMOUS", "true"),
        ("WAYBILL_REDIS__CONNECT_TIMEOUT", "1s"),
        ("WAYBILL_REDIS__COMMAND_TIMEOUT", "2s"),
    ];
    let variables = [&variables, settings].concat();
    let ended = timeout(DEADLINE, waybill(args, &variables)).await;
    ended.expect("the command ends, and does not serve")
}
